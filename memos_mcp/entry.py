"""The console script: chooses between serving a host and the command line, and does nothing else."""

from __future__ import annotations

import sys


def main() -> None:
    """Serve MCP over stdio without arguments (or with `stdio`); otherwise run a command for people."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] == "stdio":
        from memos_mcp.gateway.serve import main as serve

        sys.exit(serve(arguments[1:]))
    from memos_mcp.cli.app import main as command_line

    command_line()
