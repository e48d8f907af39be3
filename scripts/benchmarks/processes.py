"""The processes behind a data directory: finds its kernel, ends it, and says what processes hold.

Knows Linux's /proc; elsewhere memory is what psutil gives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from memos_mcp import rendezvous
from memos_mcp.errors import MemosError
from memos_mcp.layout import Layout
from memos_mcp.lock import DirectoryLock

END_LIMIT_S = 20.0


def kernel_of(home: Path) -> int | None:
    """The process that owns the data directory now."""
    lock = DirectoryLock(Layout(home).lock)
    return lock.owner().pid if lock.is_held() else None


def end_kernel(home: Path) -> None:
    """End the kernel of the data directory, if it has one, and wait until it is gone; one that lingers is killed."""
    pid = kernel_of(home)
    if pid is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        try:
            _ask_to_stop(home)
            process.wait(END_LIMIT_S)
        except (MemosError, rendezvous.NoKernel, rendezvous.KernelGone, rendezvous.KernelSilent, OSError,
                psutil.TimeoutExpired):  # fmt: skip
            process.kill()
            process.wait(END_LIMIT_S)


def _ask_to_stop(home: Path) -> None:
    connection = rendezvous.connect(str(home))
    rendezvous.greet(connection, str(home), {"role": "command"}, END_LIMIT_S)
    with connection.detached() as sock:
        sock.sendall(json.dumps({"call": "stop"}).encode() + b"\n")
        sock.settimeout(END_LIMIT_S)
        with contextlib.suppress(socket.timeout):
            sock.recv(1 << 16)


def memory_of(pid: int) -> dict[str, int]:
    """Bytes of a process: `rss`, and where the system tells them `pss` (its share) and `uss` (its own alone)."""
    with contextlib.suppress(OSError):
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        kib = {name: int(rest.split()[0]) for name, _, rest in (row.partition(":") for row in rows)}
        own = kib["Private_Clean"] + kib["Private_Dirty"]
        return {"rss": 1024 * kib["Rss"], "pss": 1024 * kib["Pss"], "uss": 1024 * own}
    return {"rss": psutil.Process(pid).memory_info().rss}


def descriptors_of(pid: int) -> Counter[str]:
    """What the open descriptors of a process lead to, files by their names; empty where the system does not tell."""
    found: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[os.path.basename(os.readlink(link)).partition(":")[0]] += 1
    return found


def left_of(home: Path, started: Iterable[int]) -> list[str]:
    """Which of the processes that were started still run, and which others work on this data directory."""
    known, found = set(started), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            of_home = str(home) in process.cmdline() or process.environ().get("MEMOS_HOME") == str(home)
            if (process.pid in known and process.ppid() == psutil.Process().pid) or of_home:
                found.append(f"{process.pid} {process.status()} {' '.join(process.cmdline())[:100]}")
    return found


def wait_quiet(pid: int, limit_s: float = 20.0) -> None:
    """Wait until a process does next to nothing."""
    process, end = psutil.Process(pid), time.monotonic() + limit_s
    while process.cpu_percent(0.5) > 3 and time.monotonic() < end:
        pass
