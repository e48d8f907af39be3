"""Starts a kernel for a data directory, detached from every other process.

Standard library only. It is a program of its own, `python -m memos_mcp.starter FOLDER [--loopback]`, which says in a
line of JSON how that went, {"started"}, {"owned": [pid, kind]} or {"refused": SENTENCE}, and ends.
"""

from __future__ import annotations

import _thread
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from memos_mcp import asked
from memos_mcp.errors import StorageFailed, StoreOwned
from memos_mcp.launch import EXIT_OWNED, EXIT_REFUSED
from memos_mcp.layout import Layout
from memos_mcp.version import VERSION, newer

ENDING_S = 2.0
"""Seconds that a kernel which may not start takes to end, after it has said why."""


def start(home: str, loopback: bool = False) -> None:
    """Start a kernel that listens when this returns.

    Raises:
        StoreOwned: another process owns the directory. StorageFailed: it may not start; the sentence is its own.
    """
    said, status = "", 0
    for python in _interpreters(home):
        said, status = _run(python, home, loopback)
        if not said:
            return
        if status == EXIT_OWNED:
            found = _owner(said)
            raise StoreOwned(home, found.get("pid"), found.get("kind"))
        if status == EXIT_REFUSED:
            break
    raise StorageFailed(said.removeprefix("memos-mcp: ") if status == EXIT_REFUSED else _not_started(said, status))


def _interpreters(home: str) -> list[str]:
    """Which Python to start: the one that last migrated the store, where that has a newer version, and this one."""
    recorded = Layout(Path(home)).recorded_program()
    python, version = recorded.get("python"), recorded.get("version")
    if isinstance(python, str) and newer(str(version), VERSION) and os.access(python, os.X_OK):
        return [python, sys.executable]
    return [sys.executable]


def _run(python: str, home: str, loopback: bool) -> tuple[str, int]:
    """Start one; returns what it said against starting, and its exit status then."""
    command = [python, "-P", "-m", "memos_mcp", "serve", "--bridged", "--home", home]
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        apart = {"creationflags": flags}
    fresh = not os.path.exists(os.path.join(home, "ledger.db"))
    try:
        child = subprocess.Popen(
            [*command, "--loopback"] if loopback else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=asked.for_kernel(fresh),
            **apart,
        )
    except OSError as error:
        return f"{python}: {error.strerror}", -1
    assert child.stderr is not None
    with child.stderr as pipe:
        said = pipe.read().decode("utf-8", "replace").strip()  # ends when the kernel listens, or ends itself
    try:
        if said:
            return said, child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        pass  # it said something and runs all the same
    _thread.start_new_thread(child.wait, ())  # so that it is no zombie when it ends before this process
    return "", 0


def _owner(said: str) -> dict[str, Any]:
    try:
        found = json.loads(said.splitlines()[-1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _not_started(said: str, status: int) -> str:
    last = said.splitlines()[-1][:500]
    return f"The kernel could not start (exit status {status}: {last}): run `memos-mcp doctor`."


def main(arguments: list[str]) -> None:
    """Start one, and say how it went."""
    said: dict[str, Any] = {"started": True}
    try:
        start(arguments[0], asked.LOOPBACK in arguments)
    except StoreOwned as owned:
        said = {"owned": [owned.pid, owned.kind]}
    except StorageFailed as error:
        said = {"refused": str(error)}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
