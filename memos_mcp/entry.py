"""The console script: chooses between bridge, kernel and the command line, and does nothing else."""

from __future__ import annotations

import sys


def main() -> None:
    """Bridge a host to the kernel without arguments (or with `stdio`); otherwise run a command for people."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] == "stdio" and "--help" not in arguments):
        if "--in-process" in arguments:
            from memos_mcp.gateway.in_process import main as in_process

            sys.exit(in_process(arguments[1:]))
        from memos_mcp.bridge.main import main as bridge

        bridge(arguments[1:])
    elif arguments[0] == "serve" and "--bridged" in arguments:
        from memos_mcp.gateway.serve import bridged

        sys.exit(bridged(arguments))
    else:
        from memos_mcp.cli.app import main as command_line

        command_line()
