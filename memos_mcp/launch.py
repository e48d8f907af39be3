"""Starts a kernel for a data directory, detached from the process that asks for it.

Standard library only, and imported only where no kernel runs. Knows nothing of what a kernel does.
"""

from __future__ import annotations

import _thread
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from memos_mcp import asked, rendezvous
from memos_mcp.errors import KernelUnreachable, StorageFailed, StoreOwned
from memos_mcp.layout import DirectoryLock, Layout
from memos_mcp.rendezvous import Connection, KernelGone, KernelSilent, NoKernel
from memos_mcp.version import VERSION, newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_REFUSED, EXIT_OWNED = 1, 75
"""How a kernel that may not start ends: with a sentence on its error output, or because another owns the directory."""
PATIENCE_S = 40.0
"""Seconds in which some kernel has to answer, whoever starts it."""
AGAIN_S = 0.5
"""Seconds between two attempts to start one while another process holds the directory and does not listen."""
ENDING_S = 2.0
"""Seconds that a kernel which may not start takes to end, after it has said why."""
STARTING_S = 30.0
"""Seconds from its start in which a kernel may still be loading its libraries."""
SILENT_S = 5.0
"""Seconds without an answer after which a kernel that is not just starting is taken for stuck."""
STANDING = ("in-process", "command")
"""Owners that never listen: waiting for them would be for nothing."""


def reach(home: str, hello: dict[str, Any], *, loopback: bool = False) -> tuple[Connection, dict[str, Any], bytes]:
    """A greeted connection to the kernel of the data directory, started if there is none.

    Returns the connection, the kernel's greeting and what came behind it.

    Raises:
        MemosError: there is none and none can be started; the sentence says why and what to do.
    """
    end = time.monotonic() + PATIENCE_S
    pause, tried = 0.01, 0.0
    while True:
        try:
            connection = rendezvous.connect(home)
            greeting, rest = rendezvous.greet(connection, home, hello, _patience(home))
            return connection, greeting, rest
        except (NoKernel, KernelSilent) as missed:
            if isinstance(missed, KernelSilent) and _is_owned(home):
                raise silent(home) from None
            if time.monotonic() - tried >= AGAIN_S:
                tried = time.monotonic()
                _start_or_wait(home, loopback)
                pause = 0.01
        except KernelGone:
            pass
        if time.monotonic() > end:
            raise silent(home)
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def _patience(home: str) -> float:
    """Seconds to wait for the greeting of a kernel that listens."""
    since = DirectoryLock(Layout(Path(home)).lock).owner().since
    return max(SILENT_S, STARTING_S - (time.time() - since)) if since else SILENT_S


def _is_owned(home: str) -> bool:
    """Whether any process owns the data directory: if none does, a stranger has got a dead kernel's port."""
    return DirectoryLock(Layout(Path(home)).lock).is_held()


def silent(home: str) -> KernelUnreachable:
    """What is said of a kernel that holds the data directory and does not answer."""
    owner = DirectoryLock(Layout(Path(home)).lock).owner()
    who = f"The kernel (process {owner.pid})" if owner.pid else "The kernel"
    return KernelUnreachable(
        f"{who} of {home} does not answer: wait, or end it with `memos-mcp stop --force`; "
        "the next call then starts another, and nothing that was acknowledged is lost."
    )


def _start_or_wait(home: str, loopback: bool) -> None:
    """Start a kernel; nothing, if another process is just doing so or about to give the directory up."""
    try:
        start(home, loopback)
    except StoreOwned as owned:
        if owned.kind in STANDING:
            raise


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

