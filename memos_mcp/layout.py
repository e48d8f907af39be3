"""The layout of a data directory and the lock that makes one process its owner.

Standard library only; knows nothing of what the files mean.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_mcp.errors import StorageFailed, StoreOwned
from memos_mcp.version import VERSION, newer

PROOF_BYTES = 1 << 16
"""Bytes written to find out whether there is room to work at all."""


@dataclass(frozen=True)
class Layout:
    """Paths inside a data directory."""

    home: Path

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.db"

    @property
    def backups(self) -> Path:
        return self.home / "backups"

    @property
    def index(self) -> Path:
        return self.home / "index"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def lock(self) -> Path:
        return self.home / "owner.lock"

    @property
    def program(self) -> Path:
        """Names the program that last migrated the ledger."""
        return self.home / "program.json"

    def create(self) -> None:
        """Make the data directory, readable by its user alone.

        Raises:
            StorageFailed: the folder cannot be made or is not a folder.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"The data directory {self.home} cannot be made ({error.strerror}): "
                "set MEMOS_HOME to a folder that you may write to."
            ) from error

    def prove_writable(self) -> None:
        """Write and flush a little, and take it away again.

        Raises:
            StorageFailed: the folder cannot be written, or the disk is full.
        """
        proof = self.home / f".proof-{os.getpid()}"
        try:
            with open(proof, "wb") as file:
                file.write(bytes(PROOF_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageFailed(
                f"The data directory {self.home} cannot be written ({error.strerror}): check its permissions and "
                "the space on its disk, or set MEMOS_HOME to another folder."
            ) from error
        finally:
            proof.unlink(missing_ok=True)

    def record_program(self) -> None:
        """Note this interpreter and version as the last that brought the ledger up to date; a newer one stays noted.

        An older memos-mcp then starts this one instead of a kernel that could not read the ledger.
        """
        known = self.recorded_program()
        if known == {"python": sys.executable, "version": VERSION}:
            return
        if known and newer(str(known.get("version")), VERSION) and os.access(str(known.get("python")), os.X_OK):
            return
        fresh = self.program.with_suffix(".new")
        fresh.write_text(json.dumps({"python": sys.executable, "version": VERSION}), encoding="utf-8")
        fresh.replace(self.program)

    def recorded_program(self) -> dict[str, Any]:
        """What `record_program` noted: {python, version}; {} when that cannot be read."""
        try:
            found = json.loads(self.program.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Owner:
    """Who holds a data directory: its pid, what kind of process it says it is, and since when (seconds, Unix time)."""

    pid: int | None = None
    kind: str | None = None
    since: float | None = None


class DirectoryLock:
    """An operating-system lock held for as long as its process owns the data directory.

    The lock ends with the process, however it ends. What the file says of the owner is for messages only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, wait_s: float = 0.0, kind: str = "command") -> None:
        """Take the lock, trying for `wait_s` seconds; `kind` is what other processes are told of this one.

        Raises:
            StoreOwned: another process holds it; carries what that one said of itself.
            StorageFailed: the lock file cannot be opened.
        """
        end = time.monotonic() + wait_s
        while (fd := self._open_and_try()) is None:
            if time.monotonic() >= end:
                owner = self.owner()
                raise StoreOwned(str(self._path.parent), owner.pid, owner.kind)
            time.sleep(0.02)
        self._fd = fd
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, json.dumps({"pid": os.getpid(), "kind": kind, "since": time.time()}).encode())
        except OSError as error:
            self.release()
            raise _unwritable(self._path, error) from error

    def owner(self) -> Owner:
        """What the last holder said of itself."""
        try:
            found = json.loads(self._path.read_bytes()[:1000] or b"{}")
        except (OSError, ValueError):
            return Owner()
        if not isinstance(found, dict):
            return Owner(found if isinstance(found, int) else None)
        pid, kind, since = found.get("pid"), found.get("kind"), found.get("since")
        return Owner(
            pid if isinstance(pid, int) else None,
            kind if isinstance(kind, str) else None,
            since if isinstance(since, int | float) else None,
        )

    def is_held(self) -> bool:
        """Whether some process holds the lock now; for a moment this takes it, when none does."""
        try:
            fd = os.open(self._path, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)

    def intact(self) -> bool:
        """Whether the file on disk is still the one that is locked here: another could be locked by somebody else."""
        return self._fd is not None and _same_file(self._fd, self._path)

    def release(self) -> None:
        """Give the lock up; may be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open_and_try(self) -> int | None:
        """The locked file, if it could be locked and is still the one at its path."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        if _try_lock(fd) and _same_file(fd, self._path):
            return fd
        os.close(fd)
        return None


def _unwritable(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"The data directory {path.parent} cannot be written ({error.strerror}): check its permissions and the "
        "space on its disk, or set MEMOS_HOME to another folder."
    )


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 20
    """Windows locks bytes against reading too, so the lock lies beyond what the file says."""

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(fd, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
