"""The states that there are, each in up to three tiers: in the model's context, in its memory, and in a file.

Knows not why a state is wanted or who may have it. What is in a file has a row in the ledger; what is only in the
context is gone when its room is needed. Every change of a memory takes the states that hold it along.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from memos_mcp.activation import reading, retention
from memos_mcp.activation.composition import COMPOSITIONS, approximate
from memos_mcp.activation.engine import ContextFull, Engine, ModelFacts, Resident, SequenceGone, StateRejected
from memos_mcp.activation.entries import Entry, How, Step, entry_of
from memos_mcp.activation.prefixes import PrefixTree
from memos_mcp.activation.retention import Eviction, Held
from memos_mcp.activation.state_file import (
    SUFFIX,
    StateHeader,
    open_state,
    remove_unfinished,
    write_state,
)
from memos_mcp.cube import instant
from memos_mcp.errors import EngineLost, EngineUnavailable, StorageFailed
from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.ledger import figures, kept_states
from memos_mcp.ledger.kept_states import StateRow
from memos_mcp.ledger.ledger import Ledger

log = logging.getLogger(__name__)

_T = TypeVar("_T")
FORMAT = "application/x-llama-kv"
"""Of a state, with the type of its numbers behind it."""
_GONE = (SequenceGone, EngineLost, EngineUnavailable)
"""Raised where a sequence is dropped that is not there any more: just as well."""


@dataclass(frozen=True)
class Budgets:
    """Bytes of states in the engine's memory, and in files."""

    ram: int
    disk: int


class NotKept(StorageFailed):
    """A state was not written, because there is no room for it, or its memories changed meanwhile."""


class Catalogue:
    """Every state of a store. Safe to share between threads: `lock` is held while a state goes from tier to tier."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        folder: Path,
        budgets: Budgets,
        now: Callable[[], datetime],
        constants: HeatConstants = STANDARD,
    ) -> None:
        self.constants = constants
        self.ledger, self.engine, self.folder, self.budgets, self.now = ledger, engine, folder, budgets, now
        self.lock = threading.RLock()
        self.tree: PrefixTree[Step, str] = PrefixTree()
        self.entries: dict[str, Entry] = {}
        self._by_cube: dict[int, set[str]] = {}
        self._identity: str | None = None
        self.lost: set[str] = set()
        """Conversations that went with a memory since the start."""
        self.mended = 0
        """Rows without a file, and files without a row, that a crash had left and the start has removed."""

    def open(self) -> None:
        """Know what is in files, and remove what a crash left of others."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.mended = remove_unfinished(self.folder)
        with self.ledger.read() as connection:
            rows = kept_states.listed(connection)
            ids = kept_states.ids_of(connection, sorted({seq for row in rows for seq in row.cubes}))
        there = {path.name for path in self.folder.glob(f"*{SUFFIX}")}
        lost = [row.id for row in rows if row.file not in there]
        if lost:
            with self.ledger.write() as connection:
                kept_states.drop(connection, lost)
        for name in there - {row.file for row in rows}:
            (self.folder / name).unlink(missing_ok=True)
            self.mended += 1
        self.mended += len(lost)
        for row in rows:
            if row.id not in lost:
                self.know(entry_of(row, ids, self.folder))

    def ready(self) -> ModelFacts:
        """The model's facts; loads it. States of another model, or of other settings, go when they are met first."""
        try:
            facts = self.engine.facts()
        except EngineLost:  # before this call, and nobody had noticed: a new process starts
            facts = self.engine.facts()
        with self.lock:
            if self._identity != facts.identity:
                self._identity = facts.identity
                opening = self.opening(facts)
                valid = {one.identity(facts.identity, opening) for one in COMPOSITIONS.values()}
                for entry in [e for e in self.entries.values() if e.owner is None]:
                    if entry.identity not in valid:
                        self.drop(entry, "it was made by another model, or under other settings")
        return facts

    def opening(self, facts: ModelFacts) -> tuple[int, ...]:
        """What stands before the first memory."""
        first = (facts.bos,) if facts.adds_bos and facts.bos is not None else ()
        form = reading.form_for(facts.chat_template)
        return form.head_tokens(lambda text, special: self.engine.tokenize(text, special=special), first)

    # What is known.

    def know(self, entry: Entry) -> None:
        """Know a state, in place of the one with its key."""
        with self.lock:
            former = self.entries.get(entry.key)
            if former is not None and former is not entry:
                self.drop(former, None)
            self.entries[entry.key] = entry
            for seq in entry.needs:
                self._by_cube.setdefault(seq, set()).add(entry.key)
            if entry.is_prefix:
                self.tree.add(entry.way, entry.key)

    def _unknow(self, entry: Entry) -> None:
        self.entries.pop(entry.key, None)
        for seq in entry.needs:
            held = self._by_cube.get(seq, set())
            held.discard(entry.key)
            if not held:
                self._by_cube.pop(seq, None)
        if entry.is_prefix:
            self.tree.remove(entry.way, entry.key)

    def drop(self, entry: Entry, why: str | None) -> None:
        """Remove a state from every tier, with its row and file."""
        with self.lock:
            self._unknow(entry)
            self.vacate(entry)
            if entry.number:
                with self.ledger.write() as connection:
                    kept_states.drop(connection, [entry.number])
            self._unlink(entry)
        if why is not None:
            log.info("state %s was dropped: %s", entry.key, why)

    def changed(self, seqs: Iterable[int]) -> None:
        """These memories were changed, in a transaction that took the rows along: remove what else there is of the
        states that hold them in a version that is not the present one, before this returns."""
        with self.lock:
            keys = {key for seq in seqs for key in self._by_cube.get(seq, ())}
            if not keys:
                return
            entries = [self.entries[key] for key in keys]
            for entry in entries:
                if not self.is_current(entry):
                    self._unknow(entry)
                    self.vacate(entry)
                    self._unlink(entry)
                    if entry.owner is not None:
                        self.lost.add(entry.key)
                    log.info("state %s was dropped: a memory in it has changed", entry.key)

    def is_current(self, entry: Entry) -> bool:
        """Whether every memory in it, and all that it was read under, stands in the version that it holds."""
        with self.ledger.read() as connection:
            return kept_states.stand(connection, entry.steps + entry.under)

    def drop_under(self, seq: int) -> None:
        """Remove every state that was read under this cube: what it is on the model is another thing now.

        Conversations stay: they are read again from their tokens, should it be.
        """
        with self.lock:
            for entry in [self.entries[key] for key in self._by_cube.get(seq, ())]:
                if seq not in entry.cubes and entry.owner is None:
                    self.drop(entry, "what it was read under was made anew")

    def vacate(self, entry: Entry) -> None:
        """Take a state out of the context and of the engine's memory."""
        if entry.resident is not None:
            with contextlib.suppress(*_GONE):
                self.engine.drop(entry.resident)
        if entry.kept is not None:
            with contextlib.suppress(*_GONE):
                self.engine.release(entry.kept)
        entry.resident = entry.kept = None

    def _unlink(self, entry: Entry) -> None:
        if entry.path is not None:
            try:
                entry.path.unlink(missing_ok=True)
            except OSError as error:
                log.error("state %s is still on disk (%s): the next start removes it", entry.path, error.strerror)
        entry.path, entry.number, entry.size = None, 0, 0

    # From tier to tier.

    def sequence(self, entry: Entry, length: int | None) -> tuple[Resident, How]:
        """A sequence of the state's first `length` tokens, and where they were found; the state is in the context then.

        Raises:
            StateRefused, StateRejected: its file is not what it should be. SequenceGone: it was in the context alone,
            and is not there any more. In each case the caller drops it.
        """
        with self.lock:
            entry.busy = True
            try:
                return self._sequence(entry, length)
            finally:
                entry.busy = False

    def _sequence(self, entry: Entry, length: int | None) -> tuple[Resident, How]:
        resident, how = entry.resident, "resident"
        if resident is not None:
            try:
                return self.with_room(lambda: self.engine.attach(resident, length)), "resident"
            except SequenceGone:
                entry.resident = None
        base, how = self._restored(entry)
        entry.resident = base
        return self.with_room(lambda: self.engine.attach(base, length)), how

    def copy(self, entry: Entry) -> tuple[Resident, How]:
        """A sequence of the state that shares its cells with none, and where it was; raises as `sequence` does.

        The state does not stand in the context for it; one from a file stays in memory, as far as there is room.
        """
        with self.lock:
            entry.busy = True
            try:
                made, how = self._restored(entry)
            finally:
                entry.busy = False
            if how == "disk":
                self.to_memory(entry, made)
            return made, how

    def _restored(self, entry: Entry) -> tuple[Resident, How]:
        kept, tokens = entry.kept, entry.tokens
        if kept is not None and tokens is not None:
            try:
                made = self.with_room(lambda: self.engine.restore(kept, tokens, entry.mounts, entry.positions))
            except (SequenceGone, StateRejected):
                entry.kept = None
            else:
                return made, "ram"
        if entry.path is None:
            raise SequenceGone
        identity = entry.mounted or (entry.identity if approximate(entry.identity) else self.engine.facts().identity)
        state = open_state(entry.path, identity, tokens=entry.tokens, parts=entry.parts)
        entry.tokens, entry.positions = state.header.tokens, state.header.positions
        blob, header = state.blob, state.header
        made = self.with_room(lambda: self.engine.restore(blob, header.tokens, entry.mounts, header.positions))
        return made, "disk"

    def with_room(self, call: Callable[[], _T]) -> _T:
        """What the call gives, once there is room in the context; the least warm states leave it as needed.

        Raises:
            ContextFull: there is none even so.
        """
        while True:
            try:
                return call()
            except ContextFull:
                if not self._make_room():
                    raise

    def _make_room(self) -> bool:
        with self.lock:
            there = [entry for entry in self.entries.values() if entry.resident is not None]
            heats = self.heats(there)
            held = [Held(e.key, 1, heats[e.key], e.promoted, e.busy, self._idle(e)) for e in there]
            gone = retention.evictions(held, len(held) - 1, "the model's context")
            for eviction in gone:
                self._leave_context(self.entries[eviction.key], eviction)
            return bool(gone)

    def _leave_context(self, entry: Entry, eviction: Eviction) -> None:
        resident = entry.resident
        if entry.number and entry.kept is None and resident is not None:
            with contextlib.suppress(*_GONE):
                self.to_memory(entry, resident)
        entry.resident = None
        if resident is not None:
            with contextlib.suppress(*_GONE):
                self.engine.drop(resident)
        if not entry.number:
            self._unknow(entry)
        log.debug("state %s left the context: %s", entry.key, eviction.reason)

    def to_memory(self, entry: Entry, resident: Resident) -> None:
        """Copy a state into the engine's memory, if it is warmer than what would have to go for it."""
        there = [one for one in self.entries.values() if one.kept is not None]
        size = entry.size or len(entry.tokens or ()) * self.engine.facts().bytes_per_token
        if sum(one.kept.size for one in there if one.kept is not None) + size <= self.budgets.ram:
            entry.kept = self.engine.keep(resident)
            return
        heats = self.heats([*there, entry])
        held = [
            Held(e.key, e.kept.size, heats[e.key], e.promoted, idle_days=self._idle(e)) for e in there if e.kept
        ]
        held.append(Held(entry.key, size, heats[entry.key], entry.promoted, idle_days=self._idle(entry)))
        gone = retention.evictions(held, self.budgets.ram, "the memory for states")
        if entry.key in {eviction.key for eviction in gone}:
            return
        for eviction in gone:
            other = self.entries[eviction.key]
            if other.kept is not None:
                self.engine.release(other.kept)
            other.kept = None
            if not other.number and other.resident is None:
                self._unknow(other)
            log.debug("state %s left the memory: %s", other.key, eviction.reason)
        entry.kept = self.engine.keep(resident)

    def save(self, entry: Entry) -> None:
        """Write a state that is in the context or in memory into a file, with its row; the least warm files go as
        needed.

        Raises:
            NotKept: there is no room, or a memory in it has changed. StorageFailed: the disk would not have it.
        """
        with self.lock:
            there = entry.resident is not None or entry.kept is not None
            if self.entries.get(entry.key) is not entry or not there or entry.tokens is None:
                raise NotKept("The state is not in the model's context any more.")
            tokens = entry.tokens
            self._make_room_on_disk(entry, len(tokens) * self.engine.facts().bytes_per_token)
            path, former = self.folder / f"{entry.key}-{secrets.token_hex(4)}{SUFFIX}", entry.path
            header = self._header(entry)
            try:
                with self._standing(entry) as resident:
                    size = write_state(path, header, lambda file, at: self.engine.write(resident, file, at))
            except OSError as error:
                raise StorageFailed(
                    f"The state {path} cannot be written ({error.strerror}): check the folder and its disk."
                ) from error
            entry.created = entry.created or header.created
            entry.last_used = entry.last_used or header.created
            row = StateRow(
                entry.key, header.model or header.identity, entry.promoted, len(tokens), entry.tokens_read, size,
                path.name, entry.created, entry.last_used, entry.uses, entry.rows(), entry.owner,
                format=f"{FORMAT}+{header.kv_type}", layers=header.layers, head=entry.head,
                mounted=entry.mounted or None,
            )  # fmt: skip
            try:
                with self.ledger.write() as connection:
                    if not kept_states.stand(connection, entry.steps + entry.under):
                        raise NotKept("A memory in the state was changed in this moment: ask again.")
                    number = kept_states.keep(connection, row)
            except StorageFailed:
                path.unlink(missing_ok=True)
                raise
            entry.number, entry.path, entry.size = number, path, size
            if former is not None:
                former.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _standing(self, entry: Entry) -> Iterator[Resident]:
        """The state as a sequence in the context; one that stands there only for this is dropped at the end."""
        if entry.resident is not None:
            yield entry.resident
            return
        made, _ = self._restored(entry)
        try:
            yield made
        finally:
            with contextlib.suppress(*_GONE):
                self.engine.drop(made)

    def replace(self, entry: Entry) -> None:
        """Know and save a conversation in place of what it was before; after an error it is as it was.

        Raises:
            NotKept, StorageFailed: as `save` does.
        """
        with self.lock:
            former = self.entries.get(entry.key)
            if former is not None:
                self._unknow(former)
            self.know(entry)
            try:
                self.save(entry)
            except StorageFailed:
                self._unknow(entry)
                if former is not None:
                    self.know(former)
                raise
            self.lost.discard(entry.key)
            if former is not None:
                self.vacate(former)
                self._unlink(former)

    def _header(self, entry: Entry) -> StateHeader:
        facts = self.engine.facts()
        return StateHeader(
            entry.mounted or entry.identity, facts.kv_type, facts.layers, facts.bytes_per_token, entry.tokens or (),
            entry.positions, entry.head, facts.identity if entry.mounted else None, entry.parts,
            approximate(entry.identity), instant(self.now()),
        )  # fmt: skip

    def _make_room_on_disk(self, entry: Entry, size: int) -> None:
        """Make room for a file of about this size; a promoted state and a conversation come before all others."""
        there = [one for one in self.entries.values() if one.number and one is not entry]
        if sum(one.size for one in there) + size <= self.budgets.disk:
            return
        heats = self.heats([*there, entry])
        held = [Held(e.key, e.size, heats[e.key], e.promoted, e.busy, self._idle(e)) for e in there]
        held.append(Held(entry.key, size, heats[entry.key], entry.promoted, entry.promoted, self._idle(entry)))
        gone = retention.evictions(held, self.budgets.disk, "the disk for states")
        left = sum(one.size for one in held) - sum(one.size for one in held if one.key in {e.key for e in gone})
        if left > self.budgets.disk or entry.key in {eviction.key for eviction in gone}:
            raise NotKept(
                f"A state of {size:,} bytes has no room within the {self.budgets.disk:,} bytes for states: "
                "set states_disk_mb higher, or promote fewer memories."
            )
        for eviction in gone:
            self._give_up(self.entries[eviction.key], eviction)

    def _give_up(self, entry: Entry, eviction: Eviction) -> None:
        """Drop a state for want of room, and with it the wish that its memories are held: else the next start would
        make it again, and drop another."""
        if entry.promoted and entry.owner is None:
            with self.ledger.write() as connection:
                if entry.is_prefix:
                    kept_states.give_up(connection, entry.cubes)
                else:
                    kept_states.demote(connection, sorted(entry.cubes))
        self.drop(entry, eviction.reason)

    # Figures.

    def heats(self, entries: Sequence[Entry]) -> dict[str, float]:
        """How warm each state is, by key; a memory's priority makes it count for more, or for less."""
        seqs = sorted({seq for entry in entries for seq in entry.cubes})
        with self.ledger.read() as connection:
            held, priorities = figures.standing(connection, seqs), kept_states.priorities(connection, seqs)
        now, constants = self.now(), self.constants
        warm = {
            seq: retention.warmth_of(one.figures, one.importance, priorities[seq], now, constants)
            for seq, one in held.items()
        }
        return {
            entry.key: retention.heat_of(
                [warm.get(seq, 0.0) for seq in entry.cubes], entry.uses, self._days_since(entry.last_used), constants
            )
            for entry in entries
        }

    def _idle(self, entry: Entry) -> float:
        """Days since the state was used; one that was not used yet stands behind all others."""
        days = self._days_since(entry.last_used)
        return float("inf") if days is None else days

    def _days_since(self, moment: str | None) -> float | None:
        if moment is None:
            return None
        return (self.now() - datetime.fromisoformat(moment)).total_seconds() / 86_400

    def note_use(self, entry: Entry) -> None:
        """Count a use of a state."""
        entry.uses, entry.last_used = entry.uses + 1, instant(self.now())

    def write_uses(self) -> None:
        """Carry the uses of the states in files into their rows."""
        with self.lock, self.ledger.write() as connection:
            for entry in self.entries.values():
                if entry.number and entry.last_used is not None:
                    kept_states.used(connection, entry.number, entry.uses, entry.last_used)

    def figures(self) -> dict[str, int]:
        """How many states there are, and the bytes that they take in each tier."""
        with self.lock:
            entries = list(self.entries.values())
        return {
            "states": len(entries),
            "conversations": sum(entry.owner is not None for entry in entries),
            "resident": sum(entry.resident is not None for entry in entries),
            "ram_bytes": sum(entry.kept.size for entry in entries if entry.kept is not None),
            "disk_bytes": sum(entry.size for entry in entries),
        }
