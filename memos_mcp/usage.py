"""Records what was made of memories, in batches behind the calls: the log of uses, figures of each memory, relevance.

Knows nothing of searching: it is told what happened, after the answer. What is used is moved to activated.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from memos_mcp.cube import Cube, Figures
from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.ledger import dialect, figures, operations, relevance
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.schema import cubes
from memos_mcp.policies import use
from memos_mcp.policies.heat import heat
from memos_mcp.states import State
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

FLUSH_S = 1.0
AT_ONCE = 200
"""Events that are written in one transaction: some ten milliseconds, for which others that write wait."""
MOST_EVENTS = 200_000
"""Rows of the log that are kept; older ones are folded into a base of each memory."""
FOLDED = 2_000
"""Rows that are read, or folded away, in one transaction."""
BOUND_EVERY = 64
"""Batches after which it is looked whether there is too much of anything."""
_STATES = select(cubes.c.seq, cubes.c.state).where(dialect.among(cubes.c.seq, "seqs"))
_USED = (
    update(cubes)
    .where(cubes.c.seq == bindparam("cube"))
    .values(uses=cubes.c.uses + bindparam("more"), last_used=bindparam("at"))
)
"""One statement for any number of memories: SQLAlchemy keeps what it compiles, and each number would be another."""


@dataclass(frozen=True)
class Noted:
    """What happened to a memory: an event of `use.EVENTS`; `task` in words or as `digest:…`, `score` of a search."""

    cube: int
    event: str
    at: str
    caller: Caller
    task: str | None = None
    score: float = 1.0


class Usage:
    """A queue of events with a thread that writes them down. Safe to share between threads.

    `step_aside` waits for calls in progress.
    """

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        constants: HeatConstants = STANDARD,
        most_events: int = MOST_EVENTS,
        step_aside: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._vault, self._most_events, self._step_aside = ledger, vault, most_events, step_aside
        self.constants = constants
        self._noted: list[Noted] = []
        self._wake, self._writing = threading.Condition(), threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._batches = 0
        self._listeners: list[Callable[[list[int]], None]] = []

    def start(self) -> None:
        """Begin to write in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def listen(self, listener: Callable[[list[int]], None]) -> None:
        """Have `listener` told the numbers of memories whose figures changed, after each batch; it returns at once."""
        self._listeners.append(listener)

    def served(
        self,
        seqs: Sequence[int],
        at: str,
        caller: Caller,
        event: str = "served",
        *,
        task: str | None = None,
        scores: Sequence[float] = (),
    ) -> None:
        """Note that this happened to memories in the caller's hands; returns at once. A read-only store notes nothing.

        `task`: a session's name or a task's words, see `task_of`; `scores` of a search, in the order of `seqs`.
        """
        if self._ledger.read_only:
            return
        given = list(scores) or [1.0] * len(seqs)
        caller = replace(caller, request=None, again=False)
        fresh = [Noted(seq, event, at, caller, task, score) for seq, score in zip(seqs, given, strict=True)]
        with self._wake:
            self._noted += fresh

    def figures_of(self, connection: Connection, seqs: Sequence[int]) -> dict[int, Figures]:
        """What use has left of each of these memories, by number; unknown ones are left out.

        What was noted within the last second may be missing.
        """
        return {seq: one.figures for seq, one in figures.standing(connection, seqs).items()}

    def heats(self, connection: Connection, of: Iterable[Cube], now: datetime) -> dict[int, float]:
        """How warm each of these memories is, 0..1, by number."""
        known = list(of)
        held = self.figures_of(connection, [cube.seq for cube in known])
        return {
            cube.seq: heat(
                use.seen(held.get(cube.seq) or use.begun(cube.created), now, self.constants),
                cube.snapshot.importance, cube.snapshot.pinned, cube.snapshot.feedback, self.constants,
            )
            for cube in known
        }  # fmt: skip

    def relevance_of(
        self, connection: Connection, caller: Caller, task: str, seqs: Sequence[int]
    ) -> dict[int, relevance.Relevance]:
        """How these memories did in the caller's task (as `served` takes it); those never given in it are left out."""
        key = relevance.key_of(connection)
        if key is None:
            return {}
        return relevance.of_task(connection, caller.principal, _digest(key, task), seqs)

    def stop(self) -> None:
        """Write what is left and end; may be called twice."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Write what was noted so far."""
        with self._writing:
            with self._wake:
                batch, self._noted = self._noted, []
            if not batch:
                return
            changed: dict[int, None] = {}
            for start in range(0, len(batch), AT_ONCE):
                part = batch[start : start + AT_ONCE]
                self._step_aside()
                try:
                    changed |= dict.fromkeys(self._write(part))
                except MemosError as error:
                    log.warning("%d uses were not recorded: %s", len(part), error)
            self._batches += 1
            if self._batches % BOUND_EVERY == 0:
                try:
                    self._bound()
                except MemosError as error:
                    log.warning("the log of uses is shortened later: %s", error)
        for listener in self._listeners:
            listener(list(changed))

    def shorten(self) -> int:
        """Fold the oldest rows of the log into bases while it is too long; returns how many went."""
        gone = 0
        while not self._stopping and (rows := self._shorten_once()):
            gone += rows
        return gone

    def _run(self) -> None:
        self._catch_up()
        while True:
            with self._wake:
                stopping = self._wake.wait_for(lambda: self._stopping, FLUSH_S)
            if stopping:
                return
            self.flush()

    def _catch_up(self) -> None:
        """Count in what a former version of the program logged without figures."""
        try:
            while not self._stopping:
                with self._ledger.read() as connection:
                    if not figures.unread(connection, 1):
                        return
                with self._ledger.write() as connection:
                    self._count_in(connection)
        except MemosError as error:
            log.warning("figures of former uses are not counted in yet: %s", error)

    def _write(self, batch: list[Noted]) -> list[int]:
        with self._ledger.write() as connection:
            found = connection.execute(_STATES, {"seqs": dialect.listed(dict.fromkeys(one.cube for one in batch))})
            states = {row.seq: State(row.state) for row in found}
            batch = [one for one in batch if one.cube in states]
            if not batch:
                return []
            figures.log(
                connection,
                [{"cube": o.cube, "at": o.at, "event": o.event, "principal": o.caller.principal} for o in batch],
            )
            visits = [one for one in batch if use.EVENTS[one.event].visits]
            if visits:
                last = {one.cube: one.at for one in visits}
                counts = Counter(one.cube for one in visits)
                connection.execute(_USED, [{"cube": c, "more": counts[c], "at": at} for c, at in last.items()])
            while self._count_in(connection) == FOLDED:
                pass
            self._relate(connection, batch)
            self._activate(connection, batch, states)
        return list(states)

    def _count_in(self, connection: Connection) -> int:
        """Count in the next rows of the log; returns how many."""
        rows = figures.unread(connection, FOLDED)
        if rows:
            held = self.figures_of(connection, sorted({row.cube for row in rows}))
            figures.count_in(connection, self._folded(held, rows), rows[-1].seq)
        return len(rows)

    def _folded(self, held: dict[int, Figures], rows: Sequence[figures.Row]) -> dict[int, Figures]:
        for row in rows:
            if row.cube in held:
                held[row.cube] = use.fold(held[row.cube], [use.Happened(row.event, row.at)], self.constants)
        return held

    def _relate(self, connection: Connection, batch: Sequence[Noted]) -> None:
        """Keep how the memories did in their tasks, in the order of the events; what was served is written together."""
        key = relevance.made_key(connection)
        tasks = {one.task: _digest(key, one.task) for one in batch if one.task is not None}
        served: dict[tuple[str, str], list[tuple[int, float, str]]] = {}

        def write() -> None:
            for (principal, task), given in served.items():
                relevance.served(connection, principal, task, given)
            served.clear()

        for one in batch:
            principal, task = one.caller.principal, None if one.task is None else tasks[one.task]
            if one.event != "served":
                write()
                relevance.used(connection, principal, task, [one.cube], one.at)
            elif task is not None:
                served.setdefault((principal, task), []).append((one.cube, one.score, one.at))
        write()

    def _activate(self, connection: Connection, batch: Sequence[Noted], states: dict[int, State]) -> None:
        by_caller: dict[Caller, list[int]] = {}
        for one in batch:
            by_caller.setdefault(one.caller, []).append(one.cube)
        for caller, served in by_caller.items():
            if fresh := [seq for seq in dict.fromkeys(served) if states[seq] is State.GENERATED]:
                op = operations.begin("use", caller.principal, caller.client, batch[-1].at, "first use")
                found = list(self._vault.by_seqs(connection, fresh).values())
                made = self._vault.move_all(connection, op, found, State.ACTIVATED, "use")
                operations.record(connection, op, [change for _, change in made])
                states |= dict.fromkeys(fresh, State.ACTIVATED)

    def _bound(self) -> None:
        self.shorten()
        with self._ledger.write() as connection:
            relevance.bound(connection)

    def _shorten_once(self) -> int:
        with self._ledger.read() as connection:
            if figures.length(connection) <= self._most_events:
                return 0
        with self._ledger.write() as connection:
            known = figures.noted(connection) or 0
            rows = [row for row in figures.oldest(connection, FOLDED) if row.seq <= known]
            if not rows:
                return 0
            seqs = sorted({row.cube for row in rows})
            written = {seq: use.begun(at) for seq, at in figures.written(connection, seqs).items()}
            based = self._folded(written | figures.bases(connection, seqs), rows)
            figures.shorten(connection, based, rows[-1].seq)
            return len(rows)


def task_of(caller: Caller, session: str | None) -> str:
    """The task to which a search belongs: the session, else whatever is done over the caller's connection."""
    return f"session {session}" if session else f"connection {caller.writer or ''}"


def _digest(key: str, task: str) -> str:
    """The task's digest; what is a digest already is kept."""
    return task.removeprefix(DIGEST) if task.startswith(DIGEST) else relevance.digest(key, task)


DIGEST = "digest:"
"""What a task begins with that is given as the digest that `memory_context` made of it."""
