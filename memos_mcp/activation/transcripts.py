"""Conversations with a model that another server runs, as text: what was sent before, to be sent again unchanged.

Knows no server, nor who may read a memory. A transcript lies where a local model's states do, in a file of its user
alone with a row in the ledger, so that a memory that changes takes it along in the same transaction.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_mcp.activation.catalogue import NotKept
from memos_mcp.activation.in_turn import InTurn
from memos_mcp.activation.state_file import (
    SUFFIX,
    Part,
    StateHeader,
    StateRefused,
    open_state,
    remove_unfinished,
    write_state,
)
from memos_mcp.cube import instant
from memos_mcp.errors import StorageFailed
from memos_mcp.ledger import kept_states
from memos_mcp.ledger.kept_states import Owner, PartRow, StateRow
from memos_mcp.ledger.ledger import Ledger

log = logging.getLogger(__name__)

IDENTITY = "text of a conversation, 1"
"""In place of a model's: any server can be told the same text."""
MOST = 200
"""Conversations kept of one principal, the latest used."""


@dataclass(frozen=True)
class Shown:
    """A memory that stands in a conversation, in this version."""

    seq: int
    cube: str
    version: int


@dataclass(frozen=True)
class Exchange:
    """A turn: memories `given` with it, as text in front of the `question`, and the `answer`."""

    given: str
    question: str
    answer: str


@dataclass(frozen=True)
class Transcript:
    """A conversation up to now: `prefix` is the system message that it began with."""

    key: str
    owner: Owner
    prefix: str
    shown: tuple[Shown, ...]
    turns: tuple[Exchange, ...] = ()


@dataclass
class Watch:
    """Memories that were changed since somebody began to look."""

    changed: set[int] = field(default_factory=set)


class Transcripts:
    """The transcripts of a store without a local model. Safe to share between threads."""

    def __init__(self, ledger: Ledger, folder: Path, now: Callable[[], datetime]) -> None:
        self._ledger, self._folder, self._now = ledger, folder, now
        self._rows: dict[str, StateRow] = {}
        """All that lies in files, a local model's states of former days included: they too go with their memories."""
        self._watches: list[Watch] = []
        self._lock = threading.RLock()
        self.turns = InTurn()
        self.lost: set[str] = set()
        """Conversations that went with a memory since the start."""

    def open(self) -> None:
        """Know what is in files, and remove what a crash left of others."""
        with self._ledger.read() as connection:
            rows = kept_states.listed(connection)
        there = {path.name for path in self._folder.glob(f"*{SUFFIX}")}
        if there or rows:
            remove_unfinished(self._folder)
        lost = [row.id for row in rows if row.file not in there]
        if lost:
            with self._ledger.write() as connection:
                kept_states.drop(connection, lost)
        for name in there - {row.file for row in rows}:
            (self._folder / name).unlink(missing_ok=True)
        self._rows = {row.key: row for row in rows if row.id not in lost}

    @property
    def count(self) -> int:
        """How many conversations there are."""
        return sum(row.identity == IDENTITY for row in list(self._rows.values()))

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Notes every memory that is changed while the block lasts."""
        watch = Watch()
        with self._lock:
            self._watches.append(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches.remove(watch)

    def changed(self, seqs: Sequence[int]) -> None:
        """These memories were changed, in a transaction that took the rows along: their files are gone when this
        returns, and who answers from them notices."""
        gone = set(seqs)
        with self._lock:
            for watch in self._watches:
                watch.changed |= gone
            held = [key for key, row in self._rows.items() if not gone.isdisjoint(row.cubes)]
            if not held:
                return
            with self._ledger.read() as connection:
                left = set(kept_states.containing(connection, seqs))
            for key in held:
                if key not in left:
                    self._unlink(self._rows.pop(key))
                    self.lost.add(key)
                    log.info("conversation or state %s was dropped: a memory in it has changed", key)

    def drop(self, key: str, why: str) -> None:
        """Forget a conversation."""
        with self._lock:
            row = self._rows.pop(key, None)
            if row is not None:
                with self._ledger.write() as connection:
                    kept_states.drop(connection, [row.id])
                self._unlink(row)
                log.info("conversation %s was dropped: %s", key, why)

    def find(self, key: str) -> Transcript | None:
        """The conversation of this key; None if there is none.

        Raises:
            StateRefused: its file is damaged, or a local model's. The caller drops it.
        """
        with self._lock:
            row = self._rows.get(key)
            if row is None or row.owner is None:
                return None
            path = self._folder / row.file
            state = open_state(path, IDENTITY)
            try:
                with open(path, "rb") as file:
                    file.seek(state.blob.offset)
                    found: dict[str, Any] = json.loads(file.read(state.blob.size))
                turns = tuple(Exchange(**turn) for turn in found["turns"])
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise StateRefused(path, "damaged", f"its text makes no sense: {error}") from error
            held = [(part.cube, part.version) for part in row.parts if part.cube and part.version]
            names = [part.cube for part in state.header.parts]
        shown = tuple(Shown(seq, cube, version) for (seq, version), cube in zip(held, names, strict=True))
        return Transcript(key, row.owner, str(found["prefix"]), shown, turns)

    def keep(self, said: Transcript) -> None:
        """Write a conversation down in place of what it was before; after an error it is as it was.

        Raises:
            NotKept: a memory in it has changed. StorageFailed: the disk would not have it.
        """
        at = instant(self._now())
        text = json.dumps({"prefix": said.prefix, "turns": [asdict(turn) for turn in said.turns]}).encode()
        parts = tuple(Part(one.cube, one.version, 0) for one in said.shown)
        header = StateHeader(IDENTITY, "text", 0, 0, (), parts=parts, created=at)

        def put(file: Path, offset: int) -> int:
            with open(file, "r+b") as out:
                out.seek(offset)
                return out.write(text)

        path = self._folder / f"{said.key}-{secrets.token_hex(4)}{SUFFIX}"
        size = write_state(path, header, put)
        rows = tuple(PartRow(0, one.seq, one.version) for one in said.shown)
        with self._lock:
            former = self._rows.get(said.key)
            row = StateRow(
                said.key, IDENTITY, True, 0, 0, size, path.name, former.created if former else at, at,
                former.uses + 1 if former else 1, rows, said.owner,
            )  # fmt: skip
            try:
                with self._ledger.write() as connection:
                    if not kept_states.stand(connection, [(one.seq, one.version) for one in said.shown]):
                        raise NotKept("A memory in the conversation was changed in this moment: ask again.")
                    number = kept_states.keep(connection, row)
            except StorageFailed:
                path.unlink(missing_ok=True)
                raise
            self._rows[said.key] = replace(row, id=number)
            self.lost.discard(said.key)
            if former is not None:
                self._unlink(former)
        self._forget_oldest(said.owner.principal)

    def said(self, conversation: str, principal: str) -> Transcript | None:
        """The principal's conversation of this id; None if there is none such. Raises `StateRefused` as `find` does."""
        with self._lock:
            rows = [row for row in self._rows.values() if row.owner is not None and row.identity == IDENTITY]
        named = (row.key for row in rows if row.owner and (row.owner.conversation, row.owner.principal) == (
            conversation, principal
        ))  # fmt: skip
        key = next(named, None)
        return None if key is None else self.find(key)

    def _forget_oldest(self, principal: str) -> None:
        with self._lock:
            rows = [row for row in self._rows.values() if row.owner is not None and row.owner.principal == principal]
        mine = sorted((row for row in rows if row.identity == IDENTITY), key=lambda row: (row.last_used, row.id))
        for row in mine[:-MOST]:
            self.drop(row.key, f"its principal has {MOST} that were used later")

    def _unlink(self, row: StateRow) -> None:
        path = self._folder / row.file
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s is still on disk (%s): the next start removes it", path, error.strerror)
