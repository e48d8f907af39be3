"""The layout of a data directory and the lock that makes one process its owner.

Standard library only; knows nothing of what the files mean.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from memos_mcp.errors import StorageFailed, StoreOwned


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


class DirectoryLock:
    """An operating-system lock held for as long as its process owns the data directory.

    The lock ends with the process, however it ends. The owner's pid stands in the file for messages only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take the lock, trying for `wait_s` seconds.

        Raises:
            StoreOwned: another process holds it; carries that process's pid when it is known.
            StorageFailed: the lock file cannot be opened.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise StorageFailed(
                f"The data directory {self._path.parent} cannot be written ({error.strerror}): "
                "check its permissions, or set MEMOS_HOME to another folder."
            ) from error
        end = time.monotonic() + wait_s
        while not _try_lock(fd):
            if time.monotonic() >= end:
                pid = _owner(fd)
                os.close(fd)
                raise StoreOwned(str(self._path.parent), pid)
            time.sleep(0.05)
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, str(os.getpid()).encode())
        self._fd = fd

    def release(self) -> None:
        """Give the lock up; may be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _owner(fd: int) -> int | None:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        return int(os.read(fd, 20) or 0) or None
    except (OSError, ValueError):
        return None


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 20
    """Windows locks bytes against reading too, so the lock lies beyond the pid."""

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
