"""Keeps the tiers up with the ledger, behind the calls: which turn goes on with which topic, and how tools ended.

Knows no verb. The ledger's own record of changes says what is still to be placed, so that an addition costs nothing
more, and placing something twice changes nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice, takewhile
from typing import Any

from sqlalchemy import Connection

from memos_mcp.cube import Cube
from memos_mcp.follower import Follower
from memos_mcp.jobs import UNFINISHED
from memos_mcp.ledger import graph, progress, tiers, vectors
from memos_mcp.ledger.progress import Upto
from memos_mcp.ledger.schema import COLD, MAIN
from memos_mcp.ledger.tiers import Placed, Segment
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.tiers import LONG_TERM, warmth_of
from memos_mcp.plaintext import analysis
from memos_mcp.policies import tiers as policy
from memos_mcp.policies.tiers import Topic, Turn
from memos_mcp.states import State
from memos_mcp.store import Changed

RULES = 1
"""Grows with the rules by which turns are placed, so that what others placed is placed anew."""
BATCH, WRITTEN = 64, 8
"""Changes that are read in one step, and turns and traces among them that are written in one transaction, for which
others' writes wait."""
USED, WARMED = 256, 8
"""Memories that were used, and segments, that are looked at in one step."""
QUIET_S, MOST_QUIET_S = 1.0, 10.0
"""Seconds without a change that the thread waits for, and after which it begins all the same."""
VECTOR_S, MOST_VECTOR_S = 1.0, 60.0
"""Seconds between two looks for a turn's vector, and after which the turn is placed by its words alone."""
OF_SESSION, OF_SPACE = 32, 8
"""Last turns of a session, and last segments of a space, whose topics a turn may go on with."""
HELD = 128
"""Topics that are held in memory."""
MOST_CHARS = 4_000
"""Characters of a turn whose words count."""
MOST_GIVEN = 12
"""Arguments of a tool that are told by name."""
_OVER = (State.EXPIRED, State.MERGED)
_TIERED = ("dialogue", "tool_trace")
"""Kinds of memories that are placed or counted."""


class Segmenter:
    """Background work on the tiers. Safe to share between threads; `stop` may be called twice."""

    def __init__(self, parts: Parts, most_wait_s: float = MOST_VECTOR_S) -> None:
        self._parts, self._most_wait_s = parts, most_wait_s
        self._working, self._using = threading.Lock(), threading.Lock()
        self._follower = Follower("segmenter", self._work, quiet_s=QUIET_S, most_wait_s=MOST_QUIET_S)
        self._end_listening: Callable[[], None] = lambda: None
        self._used: set[int] = set()
        self._touched: set[int] = set()
        self.topics: OrderedDict[int, Topic] = OrderedDict()
        """Topics by segment, those met last at the end; nothing of a purged memory is among them for long."""
        self._embedder: tuple[int, int] | None = None
        """Number and dimensions of the embedder whose vectors the topics hold."""
        self._blocked: tuple[tuple[int, str], float] | None = None

    @property
    def busy(self) -> bool:
        """Whether changes are being read, or about to be; what waits for a vector is not."""
        return self._follower.busy

    def start(self) -> None:
        """Read what the last process left, and go on in a thread of its own."""
        self._end_listening = self._parts.events.listen(self._notice)
        self._parts.usage.listen(self._notice_use)
        self._follower.start()

    def stop(self) -> None:
        """End after the step in progress."""
        self._end_listening()
        self._end_listening = lambda: None
        self._follower.stop()

    def catch_up(self) -> None:
        """Place every change there is, in the calling thread, and look at what was used.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        with self._working:
            while not self._follower.stopping and self._step():
                self._parts.step_aside()
            while not self._follower.stopping and self._warm():
                self._parts.step_aside()

    def rebuild(self) -> None:
        """Forget the tiers and place every memory anew. Raises as `catch_up` does."""
        with self._working, self._parts.ledger.write() as connection:
            tiers.clear(connection)
            self.topics.clear()
        self.catch_up()

    def _notice(self, changed: Changed) -> None:
        if changed.cubes:
            self._follower.notice()

    def _notice_use(self, seqs: Sequence[int]) -> None:
        with self._using:
            self._used.update(seqs)
        self._follower.notice()

    def _work(self) -> float | None:
        self.catch_up()
        return None if self._blocked is None else VECTOR_S

    # Changes.

    def _step(self) -> int:
        """Place the next changes; returns how many there were."""
        parts = self._parts
        if (known := parts.embedder.known()) != self._embedder:  # it was loaded, or changed for another
            self.topics.clear()
            self._embedder = known
        with parts.ledger.read() as connection:
            upto = progress.upto(connection, tiers.NOTE, RULES)
            met = progress.changed_after(connection, upto, BATCH)
            cubes = parts.vault.by_ids(connection, list(dict.fromkeys(cube for _, cube in met)))
            met = self._ready(connection, _some(met, cubes), cubes)
            if any(cube not in cubes for _, cube in met):  # purged: nothing of them is held any longer
                self.topics.clear()
            held = [cubes[cube] for cube in dict.fromkeys(cube for _, cube in met) if cube in cubes]
            turns = self._turns(connection, held)
            for cube in held:  # what takes long is done before others' writes have to wait
                if cube.seq in turns:
                    parts.step_aside()
                    self._candidates(connection, cube)
        if not met:
            return 0
        with parts.ledger.write() as connection:
            there = graph.current(connection, [cube.seq for cube in held])
            self._write(connection, [cube for cube in held if cube.seq in there], turns)
            progress.note(connection, tiers.NOTE, Upto(RULES, *met[-1]))
        return len(met)

    def _ready(
        self, connection: Connection, met: list[tuple[int, str]], cubes: dict[str, Cube]
    ) -> list[tuple[int, str]]:
        """The changes up to the first turn whose vector is still to be made; all, if that takes too long."""
        turns = [cube.seq for cube in cubes.values() if cube.snapshot.kind == "dialogue"]
        waiting = vectors.waiting(connection, turns)
        first = next((at for at, (_, cube) in enumerate(met) if cube in cubes and cubes[cube].seq in waiting), None)
        if first is None:
            self._blocked = None
            return met
        since = self._blocked[1] if self._blocked is not None and self._blocked[0] == met[first] else time.monotonic()
        self._blocked = (met[first], since)
        return met if time.monotonic() - since > self._most_wait_s else met[:first]

    def _turns(self, connection: Connection, cubes: Sequence[Cube]) -> dict[int, Turn]:
        """The turns among them that stand in no segment yet, with their words and meaning."""
        turns = [cube for cube in cubes if cube.snapshot.kind == "dialogue" and cube.state not in _OVER]
        held = tiers.placed(connection, [cube.seq for cube in turns])
        return self._read(connection, [cube for cube in turns if cube.seq not in held])

    def _read(self, connection: Connection, cubes: Sequence[Cube], worded_from: int = 0) -> dict[int, Turn]:
        """The memories as turns, in order; from a place on with their words."""
        known = self._embedder
        found: dict[int, Any] = {}
        if known is not None:
            for tier in (MAIN, COLD):
                stored = vectors.of_cubes(connection, known[0], [cube.seq for cube in cubes], known[1], tier)
                found |= dict(zip(stored.cubes.tolist(), stored.matrix, strict=True))
        return {
            cube.seq: Turn(
                cube.seq, cube.snapshot.session, keywords(cube) if place >= worded_from else frozenset(),
                found.get(cube.seq),
            )
            for place, cube in enumerate(cubes)
        }  # fmt: skip

    def _write(self, connection: Connection, cubes: Sequence[Cube], turns: Mapping[int, Turn]) -> None:
        over = [cube.seq for cube in cubes if cube.state in _OVER]
        for left in tiers.placed(connection, over).values():
            self.topics.pop(left.segment, None)
        tiers.erase(connection, over)
        for cube in cubes:
            if cube.state in _OVER:
                continue
            if cube.snapshot.kind == "tool_trace":
                _count(connection, cube)
            elif cube.seq in turns:
                self._touched.add(self._place(connection, cube, turns[cube.seq]))

    def _place(self, connection: Connection, cube: Cube, turn: Turn) -> int:
        """Put a turn into its segment; returns the segment."""
        topics, before = self._candidates(connection, cube)
        joins = policy.place(turn, topics, before)
        segment = joins.topic
        if segment is None:
            segment = tiers.open_segment(connection, cube.space, cube.created)
            self._hold(Topic(segment))
        self.topics[segment].add(turn)
        standing = [] if joins.continues is None else tiers.placed(connection, [joins.continues])
        continues = joins.continues if standing else None  # a topic held in memory may know a turn that was purged
        tiers.join(connection, Placed(cube.seq, segment, continues, joins.score), cube.created)
        return segment

    def _candidates(self, connection: Connection, cube: Cube) -> tuple[list[Topic], int | None]:
        """The topics that a turn may go on with, those of its own session last; and the turn before in the session."""
        session = cube.snapshot.session
        before: list[Placed] = []
        if session is not None:
            before = tiers.last_of_session(connection, cube.space, session, cube.seq, OF_SESSION)
        keys = [*tiers.latest(connection, cube.space, OF_SPACE), *(one.segment for one in before[::-1])]
        # of one that stands more than once the last place counts: the session's own
        ordered = list(dict.fromkeys(keys[::-1]))[::-1]
        return [self._topic(connection, key) for key in ordered], before[0].cube if before else None

    def _topic(self, connection: Connection, segment: int) -> Topic:
        held = self.topics.get(segment)
        if held is not None:
            self.topics.move_to_end(segment)
            return held
        made = Topic(segment)
        cubes = self._parts.vault.by_seqs(connection, tiers.turns_of(connection, segment, policy.MOST_TURNS))
        # older ones count for nothing but their number and their share in what turns have in common
        for turn in self._read(connection, list(cubes.values()), len(cubes) - policy.LATEST).values():
            made.add(turn)
        self._hold(made)
        return made

    def _hold(self, topic: Topic) -> None:
        self.topics[topic.key] = topic
        while len(self.topics) > HELD:
            self.topics.popitem(last=False)

    # Heat.

    def _warm(self) -> int:
        """Look at the heat of segments whose turns were used or became more; returns at how many."""
        with self._using:
            used = list(islice(self._used, USED))
            self._used.difference_update(used)
        parts, now = self._parts, self._parts.now()
        with parts.ledger.read() as connection:
            self._touched.update(one.segment for one in tiers.placed(connection, used).values())
            some = list(islice(self._touched, WARMED))
            self._touched.difference_update(some)
            held = [one for one in tiers.find(connection, some).values() if policy.may_go_long(one.turns, one.moved_at)]
            hot = [one for one in held if self._goes_long(connection, one, now)]
        hot = [one for one in hot if not self._is_moving(one)]
        for segment in hot:
            with parts.ledger.write() as connection:
                job = parts.jobs.create(connection, LONG_TERM, {"segment": segment.id}, segment.turns)
                tiers.moving(connection, segment.id, job)
        if hot:
            parts.jobs.notice()
        return len(some) + len(used)

    def _is_moving(self, segment: Segment) -> bool:
        """Whether a job moves it already; one that failed or was cancelled does not."""
        job = self._parts.jobs.find(segment.job) if segment.job is not None else None
        return job is not None and job.state in UNFINISHED

    def _goes_long(self, connection: Connection, segment: Segment, now: datetime) -> bool:
        warm = warmth_of(self._parts, connection, segment, now)
        return policy.goes_long(warm, segment.turns, segment.moved_at) is not None


def _some(met: list[tuple[int, str]], cubes: Mapping[str, Cube]) -> list[tuple[int, str]]:
    """The changes up to the last that is of the first few memories to be written."""
    written = dict.fromkeys(cube for _, cube in met if cube in cubes and cubes[cube].snapshot.kind in _TIERED)
    over = next(islice(written, WRITTEN, None), None)
    return met if over is None else list(takewhile(lambda one: one[1] != over, met))


def keywords(turn: Cube) -> frozenset[str]:
    """The words of a turn that say what it is about; who speaks is in all of a person's turns, and says nothing."""
    said = turn.snapshot
    words = {word for word in analysis.tokens(said.content[:MOST_CHARS]) if not analysis.is_common(word)}
    return frozenset(words.difference(analysis.tokens(said.name or "")))


def _count(connection: Connection, cube: Cube) -> None:
    """Count a tool's trace; what does not name its tool tells nothing of one."""
    told = cube.snapshot.metadata
    tool, arguments, ms = told.get("tool"), told.get("arguments"), told.get("duration_ms")
    if not isinstance(tool, str):
        tiers.uncount(connection, [cube.seq])
        return
    given = sorted(str(name)[:60] for name in arguments)[:MOST_GIVEN] if isinstance(arguments, dict) else []
    took = float(ms) if isinstance(ms, int | float) and not isinstance(ms, bool) else None
    outcome = told.get("outcome")
    ended = outcome if isinstance(outcome, str) else "unknown"
    shown = json.dumps(given, ensure_ascii=False)
    tiers.count_call(connection, cube.seq, cube.space, tool[:200], shown, ended[:60], took)
