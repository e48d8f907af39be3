"""Somebody at a terminal: the commands of memos-mcp, in this process or in one of their own.

Knows nothing of what the commands say. The first one that needs a kernel starts it; `end_kernel` ends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from person import eventually
from typer.testing import CliRunner, Result

from memos_mcp.cli.app import app
from memos_mcp.presence import holder

QUIET = {name: None for name in os.environ if name.startswith("MEMOS_")}


class Terminal:
    """Somebody at a terminal, whose data directory is `home`."""

    def __init__(self, home: Path, principal: str = "ada", **env: str) -> None:
        self.home, self.principal = home, principal
        self.env: dict[str, str | None] = {**QUIET, "MEMOS_HOME": str(home), "MEMOS_PRINCIPAL": principal, **env}

    def run(self, *arguments: str, typed: str | bytes | None = None, code: int = 0) -> Result:
        """Run a command that must end with `code`."""
        done = CliRunner(env=self.env).invoke(app, list(arguments), input=typed)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    def json(self, *arguments: str, typed: str | bytes | None = None, code: int = 0) -> Any:
        """Run a command with --json; what is on standard output must be one JSON document."""
        return json.loads(self.run(*arguments, "--json", typed=typed, code=code).stdout)

    def keep(self, text: str, *options: str) -> str:
        """Add one memory and return its id."""
        return str(self.json("add", text, *options)["cubes"][0]["id"])

    def process(self, *arguments: str, **given: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command in a process of its own."""
        command = [sys.executable, "-m", "memos_mcp", *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, check=False, timeout=60, **given)

    def begun(self, *arguments: str, **given: Any) -> subprocess.Popen[bytes]:
        """The process of a command that the test goes on beside."""
        command = [sys.executable, "-m", "memos_mcp", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment(), **{**pipes, **given})

    def environment(self) -> dict[str, str]:
        """What a process at this terminal is started with."""
        return {name: value for name, value in {**os.environ, **self.env}.items() if value is not None}


def end_kernel(home: Path) -> None:
    """Kill the kernel that a test has started for its data directory, if one runs."""
    owner = holder(home)
    if owner is not None and owner.kind == "kernel":
        assert owner.pid is not None
        with suppress(psutil.NoSuchProcess):
            psutil.Process(owner.pid).kill()
        assert eventually(lambda: holder(home) != owner)
