"""The lock that makes one process the owner of a data directory.

Standard library only, as little of it as will do: bridges look at it too.
"""

from __future__ import annotations

import json
import os
import sys
import time

from memos_mcp.errors import StorageFailed, StoreOwned

LOCK = "owner.lock"


class Owner:
    """Who holds a data directory: its pid, what kind of process it says it is, and since when (seconds, Unix time).

    `loading`: it listens already, and does not answer yet.
    """

    __slots__ = ("kind", "loading", "pid", "since")

    def __init__(
        self, pid: int | None = None, kind: str | None = None, since: float | None = None, loading: bool = False
    ) -> None:
        self.pid, self.kind, self.since, self.loading = pid, kind, since, loading

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self._told == other._told

    def __hash__(self) -> int:
        return hash(self._told)

    @property
    def _told(self) -> tuple[int | None, str | None, float | None]:
        return self.pid, self.kind, self.since


class DirectoryLock:
    """An operating-system lock held for as long as its process owns the data directory.

    The lock ends with the process, however it ends. What the file says of the owner is for messages only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._fd: int | None = None
        self._said = b""

    def acquire(self, wait_s: float = 0.0, kind: str = "command", *, loading: bool = False) -> None:
        """Take the lock, trying for `wait_s` seconds; `kind` and `loading` are what others are told of this process.

        Raises:
            StoreOwned: another process holds it; carries what that one said of itself.
            StorageFailed: the lock file cannot be opened.
        """
        end = time.monotonic() + wait_s
        while (fd := self._open_and_try()) is None:
            if time.monotonic() >= end:
                owner = self.owner()
                raise StoreOwned(os.path.dirname(self._path), owner.pid, owner.kind)
            time.sleep(0.02)
        self._fd = fd
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            said = {"pid": os.getpid(), "kind": kind, "since": time.time(), "loading": loading}
            self._said = json.dumps(said).encode()
            os.write(fd, self._said)
        except OSError as error:
            self.release()
            raise _unwritable(self._path, error) from error

    def loaded(self) -> None:
        """Tell others that this process answers from now on. In place, and as long as before: no reader sees half."""
        if self._fd is not None:
            text = json.dumps({**json.loads(self._said), "loading": 0}).encode()
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, text.ljust(len(self._said)))

    def owner(self) -> Owner:
        """What the last holder said of itself."""
        try:
            with open(self._path, "rb") as file:
                found = json.loads(file.read(1000) or b"{}")
        except (OSError, ValueError):
            return Owner()
        if not isinstance(found, dict):
            return Owner(found if isinstance(found, int) else None)
        pid, kind, since = found.get("pid"), found.get("kind"), found.get("since")
        return Owner(
            pid if isinstance(pid, int) else None,
            kind if isinstance(kind, str) else None,
            since if isinstance(since, int | float) else None,
            bool(found.get("loading")),
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


def _unwritable(path: str, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"The data directory {os.path.dirname(path)} cannot be written ({error.strerror}): check its permissions and "
        "the space on its disk, or set MEMOS_HOME to another folder."
    )


def _same_file(fd: int, path: str) -> bool:
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
