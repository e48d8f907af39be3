"""Opens the ledger and hands out its transactions; the only truth of a data directory.

Knows nothing of what is written in a transaction, nor of who may write.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError

from memos_mcp.errors import MemosError, StorageFailed
from memos_mcp.ledger import dialect, migrations, notes

MOST_PROBES = 64
"""Byte strings that are looked for in the ledger's file; for more it is rewritten without looking."""


class Ledger:
    """Transactions over one ledger file. Safe to share between threads: many readers, one writer at a time."""

    def __init__(self, engine: Engine, path: Path, *, read_only: bool) -> None:
        self.engine = engine
        self.path = path
        self.read_only = read_only
        self._writer = threading.Lock()

    @staticmethod
    def open(path: Path, backups: Path, now: datetime, *, read_only: bool = False) -> Ledger:
        """Open the ledger, made or migrated as needed.

        Raises:
            StoreTooNew: a newer memos-mcp wrote it.
            StorageFailed: the file is damaged, or cannot be written.
        """
        engine = dialect.open_engine(path, read_only=read_only)
        try:
            if not read_only:
                migrations.migrate(engine, backups, now)
                path.chmod(0o600)
        except (DatabaseError, OSError) as error:
            engine.dispose()
            raise _storage_failure(error, path) from error
        except MemosError:
            engine.dispose()
            raise
        return Ledger(engine, path, read_only=read_only)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view for as long as the block lasts."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except (OperationalError, DatabaseError) as error:
            raise _storage_failure(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of the block is on disk when it ends, or none of it after an error.

        Raises:
            StorageFailed: the disk is full, the directory read-only, or the file damaged; nothing was written.
        """
        if self.read_only:
            raise StorageFailed(
                f"The data directory {self.path.parent} is read-only: memories can be read, not changed. "
                "Give write permission and start again."
            )
        try:
            with self._writer, dialect.writing(self.engine) as connection:
                yield connection
        except (OperationalError, DatabaseError) as error:
            raise _storage_failure(error, self.path) from error

    def get(self, connection: Connection, key: str) -> str | None:
        """A value of the ledger's own notes (embedder, secrets for tokens, clean shutdown)."""
        return notes.get(connection, key)

    def put(self, connection: Connection, key: str, value: str | None) -> None:
        """Set one of the ledger's own notes; None removes it."""
        notes.put(connection, key, value)

    def scrub(self, probes: Sequence[bytes] | None) -> bool:
        """Make sure that what was deleted is in no file of the ledger: log, free pages, backups.

        `probes` are byte strings of the forgotten memories; the file is rewritten if one is still found, and when
        they are very many or not known (None). The backups made before migrations hold what is forgotten and are
        deleted. False when a long reader or the disk was in the way: to be repeated.
        """
        backups = self.path.parent / "backups"
        shutil.rmtree(backups, ignore_errors=True)
        with self._writer:
            clean = dialect.truncate_log(self.engine)
            if clean and (probes is None or len(probes) > MOST_PROBES or _contains(self.path, probes)):
                clean = dialect.vacuum(self.engine) and dialect.truncate_log(self.engine)
        return clean and not backups.exists()

    def close(self) -> None:
        """Carry the log into the main file and close every connection; may be called twice."""
        if not self.read_only:
            dialect.truncate_log(self.engine)  # where it fails the log stays, and the next start reads it
        self.engine.dispose()


def _contains(path: Path, probes: Sequence[bytes], block: int = 1 << 24) -> bool:
    """Whether the file holds one of these byte strings, none of which may be longer than a page."""
    tail = b""
    with path.open("rb") as file:
        while data := file.read(block):
            window = tail + data
            if any(probe in window for probe in probes):
                return True
            tail = data[-4096:]
    return False


_REASONS = (
    ("full", "the disk is full: free some space"),
    ("readonly", "it is read-only: give write permission"),
    ("unable to open", "it cannot be opened: check that the folder exists and its permissions"),
    ("locked", "another program holds it locked: end that program"),
    ("malformed", "the file is damaged: restore a backup (memos-mcp doctor says more)"),
    ("not a database", "the file is damaged: restore a backup (memos-mcp doctor says more)"),
    ("disk i/o", "the disk reports an error: check space and the disk"),
)


def _storage_failure(error: Exception, path: Path) -> StorageFailed:
    said = str(getattr(error, "orig", error))
    for mark, reason in _REASONS:
        if mark in said.lower():
            return StorageFailed(f"The ledger {path} was not changed, because {reason}.")
    return StorageFailed(f"The ledger {path} was not changed ({said}): run `memos-mcp doctor`.")
