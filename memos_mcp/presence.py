"""Looks at who holds a data directory and whether it answers. Starts nothing and changes nothing.

Standard library only; knows nothing of what is asked of a kernel afterwards.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memos_mcp import launch, rendezvous
from memos_mcp.errors import KernelUnreachable, StoreOwned
from memos_mcp.layout import Layout
from memos_mcp.link import Link
from memos_mcp.lock import DirectoryLock, Owner
from memos_mcp.rendezvous import KernelGone, KernelSilent, NoKernel

State = Literal["absent", "answers", "in use", "silent", "deaf", "barred"]
ONLOOKER = {"role": "command", "version": "0"}
"""The greeting of somebody who only looks: a kernel gives way to a newer version, and this is newer than none."""
KERNELS = ("kernel", "serve")
"""What owners that listen say of themselves."""
LISTENS_S = 2.0
"""Seconds in which whoever has just taken the lock listens, and a kernel whose socket was removed listens anew."""
AGAIN_S = 0.05


@dataclass(frozen=True)
class Presence:
    """Who is there. `owner`: what the holder of the lock says of itself; None when nobody holds it.

    - absent: no kernel, and nobody holds the lock
    - answers: a kernel that was greeted; `link` leads to it, `address` says where it is, `greeting` who it is
    - in use: a process that is no kernel and never listens
    - silent: a kernel that takes connections and does not answer
    - deaf: a kernel that holds the lock and takes no connection: it ends, or is stuck
    - barred: this process may not look, by the system's permissions

    `said` is the sentence for all but the first two.
    """

    state: State
    owner: Owner | None = None
    said: str = ""
    link: Link | None = None
    address: str = ""
    greeting: dict[str, object] | None = None

    @property
    def pid(self) -> int | None:
        """The process that is there."""
        if self.owner is not None and self.owner.pid is not None:
            return self.owner.pid
        found = (self.greeting or {}).get("pid")
        return found if isinstance(found, int) else None


def look(home: Path) -> Presence:
    """Who is there now. The caller closes the link. Takes up to `SILENT_S` seconds where somebody does not answer."""
    lock = DirectoryLock(Layout(home).lock)
    end = time.monotonic() + LISTENS_S
    while True:
        owner, folder = holder(home), str(home)
        try:
            connection = rendezvous.connect(folder)
            greeting, received = rendezvous.greet(connection, folder, ONLOOKER, launch.SILENT_S)
            link = Link(folder, connection, received)
            return Presence("answers", owner, link=link, address=connection.address, greeting=greeting)
        except KernelSilent:
            if owner is not None:
                return Presence("silent", owner, str(launch.silent(folder)))
            return Presence("absent")  # a stranger got the port of a kernel that was killed
        except KernelUnreachable as error:
            return Presence("barred", owner, str(error))
        except (NoKernel, KernelGone):
            pass
        if owner is None:
            if os.path.lexists(lock_path := Layout(home).lock) and not os.access(lock_path, os.R_OK | os.W_OK):
                return Presence("barred", None, f"This process may not use {lock_path}: give yourself permission.")
            return Presence("absent")
        if owner.kind not in KERNELS:
            return Presence("in use", owner, str(StoreOwned(folder, owner.pid, owner.kind)))
        if time.monotonic() > end:
            return Presence("deaf", owner, _deaf(folder, lock.owner()))
        time.sleep(AGAIN_S)


def holder(home: Path) -> Owner | None:
    """What the holder of the lock says of itself; None when nobody holds it."""
    lock = DirectoryLock(Layout(home).lock)
    return lock.owner() if lock.is_held() else None


def _deaf(home: str, owner: Owner) -> str:
    who = f"process {owner.pid}" if owner.pid else "a process"
    return (
        f"The kernel of {home} ({who}) takes no connection: it is ending or stuck. Wait half a minute, "
        "or end it with `memos-mcp stop --force`; nothing that was acknowledged is lost."
    )
