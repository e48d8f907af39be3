"""Reaches the kernel of a data directory, and has one started where there is none.

Standard library only, and imported only where no kernel answers at once. Knows nothing of what a kernel does.
"""

from __future__ import annotations

import json
import os
import sys
import time

from memos_mcp import asked, rendezvous
from memos_mcp.errors import KernelUnreachable, StorageFailed, StoreOwned
from memos_mcp.lock import LOCK, DirectoryLock
from memos_mcp.rendezvous import Connection, KernelGone, KernelSilent, NoKernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_REFUSED, EXIT_OWNED = 1, 75
"""How a kernel that may not start ends: with a sentence on its error output, or because another owns the directory."""
PATIENCE_S = 40.0
"""Seconds in which some kernel has to answer, whoever starts it."""
AGAIN_S = 0.5
"""Seconds between two attempts to start one while another process holds the directory and does not listen."""
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
    owner = _lock(home).owner()
    left_s = STARTING_S - (time.time() - owner.since) if owner.since and owner.loading else 0.0
    return min(max(SILENT_S, left_s), STARTING_S)  # the clock may have been set back


def _is_owned(home: str) -> bool:
    """Whether any process owns the data directory: if none does, a stranger has got a dead kernel's port."""
    return _lock(home).is_held()


def silent(home: str) -> KernelUnreachable:
    """What is said of a kernel that holds the data directory and does not answer."""
    owner = _lock(home).owner()
    who = f"The kernel (process {owner.pid})" if owner.pid else "The kernel"
    return KernelUnreachable(
        f"{who} of {home} does not answer: wait, or end it with `memos-mcp stop --force`; "
        "the next call then starts another, and nothing that was acknowledged is lost."
    )


def _start_or_wait(home: str, loopback: bool) -> None:
    """Start a kernel; nothing, if another process is just doing so or about to give the directory up."""
    try:
        _start(home, loopback)
    except StoreOwned as owned:
        if owned.kind in STANDING:
            raise


def _start(home: str, loopback: bool) -> None:
    """Have a kernel started by a process of its own: what that takes would stay in this one's memory for good.

    Raises:
        StoreOwned: another process owns the directory. StorageFailed: it may not start; the sentence is its own.
    """
    if not hasattr(os, "posix_spawn"):
        from memos_mcp import starter

        starter.start(home, loopback)
        return
    said, status = _output_of([sys.executable, "-P", "-m", "memos_mcp.starter", home, *(["--loopback"] * loopback)])
    try:
        found = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        found = {}
    if not isinstance(found, dict) or not found:
        raise StorageFailed(f"The kernel could not be started (exit status {status}): run `memos-mcp doctor`.")
    if "owned" in found:
        raise StoreOwned(home, *found["owned"])
    if "refused" in found:
        raise StorageFailed(str(found["refused"]))


def _output_of(command: list[str]) -> tuple[str, int]:
    """What a program says until it ends, and its exit status."""
    reading, writing = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_DUP2, writing, 2),
    ]
    try:
        child = os.posix_spawn(command[0], command, asked.environment(), file_actions=actions)
    except OSError as error:
        os.close(reading)
        return json.dumps({"refused": f"{command[0]} cannot be run ({error.strerror})."}), -1
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return said.decode("utf-8", "replace"), os.waitstatus_to_exitcode(status)


def _lock(home: str) -> DirectoryLock:
    return DirectoryLock(os.path.join(home, LOCK))
