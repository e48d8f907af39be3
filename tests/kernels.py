"""Bridges of one data directory and the kernel behind them: real processes, which end with the test that began them.

Knows nothing of what a kernel does with a memory. A data directory here has a path short enough for a socket, in a
folder that other users may enter.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from person import eventually
from stdio_client import BRIDGE, LEGACY, LIMIT_S, Server, environment

from memos_mcp import rendezvous
from memos_mcp.layout import Layout
from memos_mcp.lock import DirectoryLock
from memos_mcp.rendezvous import ADDRESS, SOCKET

NOBODY = 65_534
UNPRIVILEGED = (
    sys.executable,
    "-c",
    "import ctypes, os, sys; libc = ctypes.CDLL(None); [libc.prctl(24, right, 0, 0, 0) for right in (1, 2, 3)]; "
    "os.execv(sys.argv[1], sys.argv[1:])",
)
"""Runs a command without the rights of Linux's root to overlook permissions: they are dropped from the bounding set."""
IDLE_S = 120
"""Seconds after which a kernel ends by itself that a broken test has left."""
UNFORESEEN, FAULTS_CHARS = "unforeseen ", 8_000
"""What a log says of a fault of our own, and how much is shown of it."""
DATA = {"owner.lock", "config.toml", "ledger.db", "program.json", "logs", "index", "backups"}
"""What may lie in a data directory without a kernel."""


class Hosts:
    """The hosts of one data directory; bridges, kernels and all that was started end with the block."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self._settings = {"MEMOS_IDLE_EXIT": str(IDLE_S), **settings}
        self.servers: list[Server] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def bridge(
        self, *options: str, era: str = LEGACY, argv: Sequence[str] = BRIDGE, greeted: bool = True, **settings: str
    ) -> Server:
        """A host's server process, greeted unless that is for the test to do."""
        command = [*argv, "stdio", *options] if options else argv
        server = Server(self.home, era, command, **{**self._settings, **settings})
        self.servers.append(server)
        if greeted:
            server.greet()
        return server

    def started(self, *command: str, **given: Any) -> subprocess.Popen[bytes]:
        """Another process on this data directory."""
        process = subprocess.Popen(command, env=environment(self.home, **self._settings), bufsize=0, **given)
        self._processes.append(process)
        return process

    def serve(self, *options: str) -> subprocess.Popen[bytes]:
        """`memos-mcp serve` in the foreground, once it says that it listens."""
        process = self.started(
            *BRIDGE, "serve", *options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        assert b"serves" in said, process.stderr.read()
        return process

    def owner(self) -> dict[str, Any]:
        """What the data directory's owner says of itself; {} when there is none."""
        if not DirectoryLock(Layout(self.home).lock).is_held():
            return {}
        return dict(json.loads((self.home / "owner.lock").read_bytes()))

    def kernel(self) -> int:
        """The process id of the one kernel, which owns the data directory."""
        (only,) = self.kernels()
        assert self.owner()["pid"] == only
        return only

    def kernels(self) -> list[int]:
        """Process ids of all kernels that were started for this data directory and run, whatever they own."""
        return [one.pid for one in psutil.process_iter() if _is_kernel_of(one, str(self.home))]

    def kill_kernel(self) -> int:
        """End the kernel, which runs, without warning; returns its process id."""
        number = self.kernel()
        assert self.kill_owner() == number
        assert ended(number)
        return number

    def kill_owner(self) -> int | None:
        """End the process that called itself the owner last, without warning and if it runs; returns its process id."""
        number = self.owner_pid()
        if number is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(number)
                if _is_kernel_of(process, str(self.home)):
                    process.kill()
        return number

    def owner_pid(self) -> int | None:
        """The process id that was written down by whoever took the lock last."""
        return DirectoryLock(Layout(self.home).lock).owner().pid

    def files(self) -> set[str]:
        """Names in the data directory."""
        return set(os.listdir(self.home))

    def release(self) -> None:
        for server in self.servers:
            server.release()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for number in self.kernels():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(number).kill()
            assert ended(number)
        with contextlib.suppress(OSError, ValueError, KeyError):  # it would stay for good
            os.unlink(json.loads((self.home / ADDRESS).read_bytes())["unix"])
        self._tell_of_faults()

    def _tell_of_faults(self) -> None:
        """Print what went wrong by itself, for the report of a test that fails; the folder goes with the test."""
        for path in sorted(Layout(self.home).logs.glob("*.log*")):
            said = path.read_text(encoding="utf-8", errors="replace")
            if UNFORESEEN in said:
                print(f"{path.name}: {said[said.index(UNFORESEEN) :][:FAULTS_CHARS]}")


def alive(number: int) -> bool:
    """Whether the process runs; one that has ended and that nobody asked about does not."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(number: int, limit_s: float = 30.0) -> bool:
    """Whether the process ends before the limit."""
    return eventually(lambda: not alive(number), limit_s)


def greeted_by_hand(home: Path, **hello: Any) -> dict[str, Any]:
    """The kernel's answer to a first line with these fields over the usual ones; the connection is closed."""
    connection = rendezvous.connect(str(home))
    with contextlib.closing(connection.sock):
        return rendezvous.greet(connection, str(home), {"role": "command", **hello}, LIMIT_S)[0]


def opened_and_greeted_by_hand(home: Path) -> socket.socket:
    """A connection to the kernel as the command line has one."""
    connection = rendezvous.connect(str(home))
    rendezvous.greet(connection, str(home), {"role": "command"}, LIMIT_S)
    return connection.detached()


def opened_by_hand(home: Path) -> socket.socket:
    """A connection to the kernel on which nothing was said."""
    sock = rendezvous.connect(str(home)).detached()
    sock.settimeout(LIMIT_S)
    return sock


def unprivileged() -> tuple[str, ...]:
    """The command of a bridge for which permissions count: root's is without the right to overlook them."""
    if os.geteuid() != 0:
        return BRIDGE
    with tempfile.TemporaryDirectory(dir="/tmp") as closed:
        os.chmod(closed, 0)
        probe = (*UNPRIVILEGED, sys.executable, "-c", "import os, sys; os.listdir(sys.argv[1])", closed)
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if "PermissionError" not in done.stderr:
        pytest.skip("this root's rights cannot be taken away")
    return *UNPRIVILEGED, *BRIDGE


def with_folder_at(source: Path, target: str) -> tuple[str, ...]:
    """The command of a bridge to which the folder `target` is `source`; skips the test where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("only root can show a process another folder")
    shown = ("unshare", "--mount", "sh", "-c", f"mount --bind '{source}' {target} && exec \"$@\"", "sh")
    try:
        subprocess.run((*shown, "true"), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no process can be shown another folder: {error}")
    return *shown, *BRIDGE


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A new folder with a short path."""
    made = Path(tempfile.mkdtemp(prefix="memos-", dir="/tmp")).resolve()
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "2m") -> Iterator[Path]:
    """A disk of its own at this new folder; skips the test where none can be had."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be made small: {error}")
    if done.returncode != 0:
        pytest.skip(f"no disk can be made small: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left; returns the file that holds it."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


def leads_to_a_kernel(home: Path) -> bool:
    """Whether a file is left in the data directory by which a kernel would be found."""
    return any(os.path.lexists(home / name) for name in (SOCKET, ADDRESS))


def _is_kernel_of(process: psutil.Process, home: str) -> bool:
    try:
        command = process.cmdline()
        return "serve" in command and home in command and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
