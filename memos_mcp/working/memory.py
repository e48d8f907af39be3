"""Working memory: for each session a small set of memories that it is likely to need next, filled behind the calls.

Knows no verb. What is needed is learnt from what is served; the sets live in memory and are rebuilt from use after a
start. Who may read what is asked anew at every look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from memos_mcp import governance
from memos_mcp.cube import Cube, content_hash, instant
from memos_mcp.errors import MemosError
from memos_mcp.foreground import Foreground, let_go_first
from memos_mcp.governance import Caller
from memos_mcp.ledger import contexts, transitions
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.embedding import EmbedderSlot
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Search
from memos_mcp.policies import preload
from memos_mcp.policies.preload import Habits
from memos_mcp.ports import Vector
from memos_mcp.vault import Vault
from memos_mcp.working.candidates import ANSWER, Candidates, Gathered, Meaning
from memos_mcp.working.sessions import LEARNT_FROM, Guess, Heard, Held, Key, Session

log = logging.getLogger(__name__)

MOST_SESSIONS = 1_000
MOST_PROMOTED = 16
"""Memories that a principal may have put into working memory at a time: the rest is for what is likely."""
MOST_PRINCIPALS = 256
"""Principals whose habits are held in memory."""
QUIET_S = 0.05
"""Seconds without a call after which sets are filled."""
MOST_WAIT_S = 2.0
"""Seconds after which they are filled all the same."""
MOST_EVENTS = 10_000
"""Calls that wait to be looked at; beyond, the oldest are not learnt from."""
USES_READ = 256
"""Latest uses out of which a session is rebuilt."""
PROMOTED, PINNED = "promoted", "pinned"


@dataclass(frozen=True)
class _Call:
    """What a call did: memories `served` best first, or `added` in order; what it asked or said, if anything."""

    key: Key
    caller: Caller
    served: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    asked: Heard | None = None
    heard: Heard | None = None


class WorkingMemory:
    """The working sets of a store's sessions. Safe to share between threads; calls only leave a note.

    `calls` count those in progress, for which the filling steps aside. `size`: memories of a set.
    """

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        search: Search,
        slot: EmbedderSlot,
        calls: Sequence[Foreground],
        now: Callable[[], datetime],
        size: int = preload.SIZE,
    ) -> None:
        self._ledger, self._vault, self._slot, self._progress, self._now = ledger, vault, slot, calls, now
        self._candidates = Candidates(vault, search, self._step_aside)
        self.size, self.most_sessions, self.begin_with = size, MOST_SESSIONS, Habits()
        self.bring: Callable[[list[tuple[int, int]]], None] = lambda _: None
        """Told which memories, by number and version, are likely: what else is kept of them is brought near."""
        self._sessions: OrderedDict[Key, Session] = OrderedDict()
        self._holders: dict[int, set[Key]] = {}
        self._current: OrderedDict[tuple[str, str, str], str | None] = OrderedDict()
        self._habits: OrderedDict[str, Habits] = OrderedDict()
        self._calls: list[_Call] = []
        self._changed = threading.Condition()
        self._working = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to fill in a thread of its own, again after a `stop`."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="working", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the set in the making; may be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    # For the calls: each returns at once.

    def served(
        self, caller: Caller, seqs: Sequence[int], question: str | None = None, vector: Vector | None = None
    ) -> None:
        """These memories were given to the caller, best first, for a question or by name."""
        key, caller = self._key(caller, None)
        asked = Heard(question, vector) if question else None
        self._note(_Call(key, caller, served=tuple(seqs[:ANSWER]), asked=asked))

    def added(self, caller: Caller, session: str | None, seqs: Sequence[int], said: str | None = None) -> None:
        """The caller added these in this order; `said` is the text of the last one if it is a turn of a conversation
        that goes on."""
        key, caller = self._key(caller, session)
        heard = Heard(said, kept_as=tuple(seqs[-1:])) if said and said.strip() else None
        self._note(_Call(key, caller, added=tuple(seqs), heard=heard))

    def refill(self, caller: Caller) -> None:
        """What the caller put into working memory has changed."""
        key, caller = self._key(caller, None)
        self._note(_Call(key, caller))

    def heard(self, caller: Caller, session: str | None, text: str) -> None:
        """The caller's conversation goes on with this message, which is kept nowhere."""
        key, caller = self._key(caller, session)
        self._note(_Call(key, caller, heard=Heard(text)))

    def changed(self, seqs: Sequence[int]) -> None:
        """These memories were changed or are gone: none of them is in a set when this returns. Those that may be are
        found again when the sets are filled next."""
        with self._changed:
            for key in {key for seq in seqs for key in self._holders.get(seq, ())}:
                self._hold(key, *self._sessions[key].without(set(seqs)))

    def forget(self) -> None:
        """Let every session go, and what it asked: another embedder places it otherwise. They begin anew from use."""
        with self._changed:
            self._sessions.clear()
            self._holders.clear()
            self._calls.clear()

    def vector_of(self, caller: Caller, text: str) -> Vector | None:
        """The vector of a message that the session has just heard or asked, in these very words; None if it is not
        known."""
        with self._changed:
            session = self._sessions.get(self._key(caller, None)[0])
            said = [session.heard, session.asked] if session is not None else []
        wanted = content_hash(text)
        return next((one.vector for one in said if one is not None and content_hash(one.text) == wanted), None)

    def of(self, caller: Caller) -> list[tuple[Cube, Held]]:
        """The caller's working set, as far as it stands and the caller may read it at this moment."""
        with self._changed:
            session = self._sessions.get(self._key(caller, None)[0])
            held = session.held if session is not None else ()
        with self._ledger.read() as connection:
            scope = self._scope(connection, caller)
            promoted = [Held(seq, PROMOTED, None) for seq in transitions.promoted(connection, caller.principal)]
            put = {one.seq for one in promoted}
            held = (*promoted, *(one for one in held if one.seq not in put and one.why != PROMOTED))[: self.size]
            kept = scope.keep(connection, [one.seq for one in held])
            cubes = self._vault.by_seqs(connection, sorted(kept))
        return [(cubes[one.seq], one) for one in held if one.seq in cubes]

    def figures(self) -> dict[str, int]:
        """How many sessions have a set, how many memories the sets hold, and their vectors' bytes."""
        with self._changed:
            sets = [session for session in self._sessions.values() if session.held]
            return {
                "sessions": len(sets),
                "memories": sum(len(session.held) for session in sets),
                "bytes": sum(session.vectors.nbytes + session.guess.table.nbytes for session in sets),
            }

    @property
    def busy(self) -> bool:
        """Whether a set is being filled, or about to be."""
        with self._changed:
            return bool(self._calls) or self._working.locked()

    def catch_up(self) -> None:
        """Look at every call there was, and fill the sets, in the calling thread.

        Raises:
            StorageFailed: the ledger cannot be read or written.
        """
        with self._working:
            with self._changed:
                calls, self._calls = self._calls, []
            if calls:
                self._look_at(calls)

    # Behind the calls.

    def _note(self, call: _Call) -> None:
        if self._ledger.read_only:
            return
        with self._changed:
            self._calls.append(call)
            del self._calls[:-MOST_EVENTS]
            self._changed.notify_all()

    def _key(self, caller: Caller, session: str | None) -> tuple[Key, Caller]:
        """The session that a call belongs to: the one it names, else the one that its connection named last."""
        place = (caller.principal, caller.writer or "", caller.space)
        with self._changed:
            if session is None:
                session = self._current.get(place)
            else:
                self._current[place] = session
                self._current.move_to_end(place)
                while len(self._current) > self.most_sessions:
                    self._current.popitem(last=False)
        return Key(*place, session), replace(caller, request=None, again=False)

    def _is_current(self, key: Key) -> bool:
        """Whether the session's set may be looked at: its connection has named no other since, which would fill it."""
        with self._changed:
            return self._current.get((key.principal, key.writer, key.space)) == key.session

    def _run(self) -> None:
        while self._wait_for_calls():
            try:
                self.catch_up()
            except (MemosError, SQLAlchemyError) as error:
                log.warning("the working sets are filled at the next call: %s", error)

    def _wait_for_calls(self) -> bool:
        """Wait until there was a call and nobody asks, within bounds; False when the work is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._stopping)
            end = time.monotonic() + MOST_WAIT_S
            while not self._stopping and time.monotonic() < end and self._quiet_s < QUIET_S:
                self._changed.wait_for(lambda: self._stopping, QUIET_S)
            return not self._stopping

    def _step_aside(self) -> None:
        let_go_first(self._progress)

    @property
    def _quiet_s(self) -> float:
        return min(calls.quiet_s for calls in self._progress)

    def _look_at(self, calls: Sequence[_Call]) -> None:
        pairs: dict[str, dict[transitions.Pair, float]] = {}
        learnt: set[str] = set()
        touched: dict[Key, Session] = {}
        for call in calls:
            session = touched[call.key] = self._session(call)
            principal = call.caller.principal
            session.touch(call.added)
            if call.heard is not None:
                session.heard = self._with_vector(call.heard)
            if call.served or call.asked is not None:
                if self._learn(session, call.served):
                    learnt.add(principal)
                if call.asked is not None:
                    session.asked, session.heard = call.asked, None
            if call.served:
                known = pairs.setdefault(principal, {})
                for pair, weight in _pairs(session.served, call.served).items():
                    known[pair] = known.get(pair, 0.0) + weight
                session.answer(call.served)
        self._write(pairs, learnt)
        for key, session in touched.items():
            self._step_aside()
            if self._stopping:
                return
            if self._is_current(key):
                self._fill(key, session)

    def _session(self, call: _Call) -> Session:
        with self._changed:
            session = self._sessions.get(call.key)
            if session is not None:
                session.caller = call.caller
                self._sessions.move_to_end(call.key)
                return session
            place = call.key.principal, call.key.space
            latest = (key for key in reversed(self._sessions) if (key.principal, key.space) == place)
            former = self._sessions.get(next(latest, call.key))
        session = former.begun_after(call.caller) if former is not None else self._rebuilt(call.caller)
        with self._changed:
            self._sessions[call.key] = session
            if former is not None:
                self._hold(call.key, former.held, former.vectors)
            while len(self._sessions) > self.most_sessions:
                longest_away = next(iter(self._sessions))
                self._hold(longest_away, (), session.vectors[:0])
                del self._sessions[longest_away]
        return session

    def _hold(self, key: Key, held: tuple[Held, ...], vectors: NDArray[np.float16]) -> None:
        """Make this the session's set; the lock is held."""
        session = self._sessions[key]
        for one in session.held:
            holders = self._holders.get(one.seq, set())
            holders.discard(key)
            if not holders:
                self._holders.pop(one.seq, None)
        session.held, session.vectors = held, vectors
        for one in held:
            self._holders.setdefault(one.seq, set()).add(key)

    def _rebuilt(self, caller: Caller) -> Session:
        """A session that begins where the principal's use ended."""
        session = Session(caller)
        with self._ledger.read() as connection:
            for answer in transitions.last_served(connection, caller.principal, USES_READ):
                session.answer(answer)
        return session

    def _habits_of(self, principal: str) -> Habits:
        if principal not in self._habits:
            with self._ledger.read() as connection:
                found = transitions.learnt(connection, principal)
            fits = found is not None and all(len(part) == len(preload.NAMES) for part in found)
            self._habits[principal] = Habits(*map(tuple, found)) if found is not None and fits else self.begin_with
            while len(self._habits) > MOST_PRINCIPALS:
                self._habits.popitem(last=False)
        self._habits.move_to_end(principal)
        return self._habits[principal]

    def _learn(self, session: Session, served: Sequence[int]) -> bool:
        """Learn from an answer what would have predicted it."""
        places = {seq: place for place, seq in enumerate(session.guess.seqs)}
        used = [places[seq] for seq in served if seq in places]
        if not used:
            return False
        principal = session.caller.principal
        self._habits[principal] = preload.learnt(self._habits_of(principal), session.guess.table, used)
        return True

    def _write(self, pairs: dict[str, dict[transitions.Pair, float]], learnt: set[str]) -> None:
        if not pairs and not learnt:
            return
        at = instant(self._now())
        with self._ledger.write() as connection:
            for principal, weights in pairs.items():
                there = self._vault.by_seqs(connection, sorted({seq for pair in weights for seq in pair[:2]}))
                standing = {pair: weight for pair, weight in weights.items() if {pair[0], pair[1]} <= there.keys()}
                transitions.note(connection, principal, standing, at)
            for principal in learnt:
                habits = self._habits[principal]
                transitions.learn(connection, principal, habits.weights, habits.moved, at)

    def _with_vector(self, heard: Heard) -> Heard:
        try:
            return replace(heard, vector=self._slot.get(0.0).embed_query(heard.text))
        except MemosError:
            return heard

    def _scope(self, connection: Connection, caller: Caller) -> Scope:
        spaces = governance.readable_spaces(connection, caller, None)
        shared = tuple(governance.reached_cubes(connection, caller, spaces))
        return Scope(tuple(space.id for space in spaces), instant(self._now()), shared)

    def _meaning(self, session: Session) -> Meaning | None:
        known = self._slot.known()
        if known is None:
            return None
        said = session.heard or session.asked
        return Meaning(*known, trust=self._slot.get(0.0).trust(said.text) if said is not None else 0.0)

    def _fill(self, key: Key, session: Session) -> None:
        habits = self._habits_of(key.principal)
        with self._ledger.read() as connection:
            scope = self._scope(connection, session.caller)
            promoted = transitions.promoted(connection, key.principal)
            pinned = contexts.pinned(connection, scope.space_ids, self.size)
            meaning = self._meaning(session)
            found = self._candidates.of(connection, session, scope, meaning, [*promoted, *pinned])
        held, guess, places = _chosen(found, habits, promoted, self.size)
        with self._changed:
            if self._sessions.get(key) is session:
                session.guess = guess
                self._hold(key, held, found.vectors[places].astype(np.float16))
        with self._ledger.read() as connection:  # what was changed while the set was in the making is not in it
            versions = {cube.seq: cube.version for cube in found.cubes}
            now = self._vault.by_seqs(connection, [one.seq for one in held])
        stale = [one.seq for one in held if one.seq not in now or now[one.seq].version != versions[one.seq]]
        if stale:
            self.changed(stale)
        self.bring([(one.seq, versions[one.seq]) for one in held if one.seq not in stale])


def _chosen(
    found: Gathered, habits: Habits, promoted: Sequence[int], size: int
) -> tuple[tuple[Held, ...], Guess, list[int]]:
    """The set, what the next answer is learnt from, and the places of the set's memories among those found."""
    if not found.cubes:
        return (), Guess(), []
    table = preload.features(found.known)
    favour = np.array([cube.snapshot.priority for cube in found.cubes]) - 0.5
    chances, order = preload.scores(table, habits, favour), preload.order(table, habits, favour).tolist()
    seqs = [cube.seq for cube in found.cubes]
    put = {seq: rank for rank, seq in enumerate(promoted)}
    first = sorted((i for i in order if seqs[i] in put), key=lambda i: put[seqs[i]])
    pinned = [i for i in order if found.cubes[i].snapshot.pinned and seqs[i] not in put]
    stays = [*first, *pinned[: max(size // 2 - len(first), 0)]]
    places = [*stays, *(i for i in order if i not in stays)][:size]

    def why(place: int) -> str:
        if seqs[place] in put:
            return PROMOTED
        return PINNED if place in stays else preload.reason(table, habits, place)

    held = tuple(Held(seqs[i], why(i), round(float(chances[i]), 4)) for i in places)
    likely = order[:LEARNT_FROM]
    return held, Guess(tuple(seqs[i] for i in likely), table[likely]), places


def _pairs(former: Sequence[Sequence[int]], served: Sequence[int]) -> dict[transitions.Pair, float]:
    """How strongly this answer says that its memories belong together, and that they follow the former answer's."""
    found: dict[transitions.Pair, float] = {}
    for rank, target in enumerate(served):
        for source in served:
            if source != target:
                found[source, target, transitions.TOGETHER] = 1.0
        for source in former[-1] if former else ():
            if source != target:
                found[source, target, transitions.NEXT] = 1.0 / (1 + rank)
    return found
