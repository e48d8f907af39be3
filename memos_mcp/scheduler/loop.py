"""Lives the memories' life behind the calls: keeps the reviews up with the ledger, makes plans and carries them out.

Knows no rule. A tick reads a bounded number of rows and writes in one transaction; between two it lets calls go first
and rests, so that it takes its share of one core at most. It keeps no kernel from ending: what is left is done later.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from memos_mcp.errors import MemosError
from memos_mcp.ledger import reviews
from memos_mcp.lifecycle import carrying, following, plan
from memos_mcp.lifecycle.carrying import Carried
from memos_mcp.lifecycle.life import Life
from memos_mcp.lifecycle.plan import Plan
from memos_mcp.memory_api import proposals
from memos_mcp.memory_api.parts import Parts
from memos_mcp.scheduler import merging

log = logging.getLogger(__name__)

SHARE = 0.2
"""Of one core's time, how much the loop takes."""
FIRST_S = 5.0
"""Seconds after its start before the first tick: a start has more urgent work."""
LOOK_S = 30.0
"""Seconds after which it is looked for changes and uses; what has a time of its own is looked at then."""
RETRY_S = 60.0
SETTLED = 128
"""Memories of one plan where the caller waits for all of them, and no rest comes between."""


@dataclass(frozen=True)
class Ticked:
    """What a tick did: rows `read`, memories `looked` at, steps `done`; 0 of all when there was nothing."""

    read: int = 0
    looked: int = 0
    done: int = 0

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.read or self.looked)


class Loop:
    """A thread of its own. Safe to share between threads; `stop` may be called twice. `settle` works in the
    calling thread."""

    def __init__(self, parts: Parts, life: Life) -> None:
        self._parts, self._life = parts, life
        self._wake = threading.Condition()
        self._working = threading.Lock()
        self._stopping = self._told = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, a moment after the store has opened."""
        self._thread = threading.Thread(target=self._run, name="life", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the tick in progress."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notice(self) -> None:
        """Something is to be looked at now, and not at the next look."""
        with self._wake:
            self._told = True
            self._wake.notify_all()

    def settle(self) -> list[Ticked]:
        """Tick until there is nothing left to do now; returns what each tick did."""
        ticks = []
        while not (ticked := self.tick(SETTLED)).idle and not self._stopping:
            ticks.append(ticked)
        return ticks

    def tick(self, most: int = plan.BATCH) -> Ticked:
        """Do the next bounded piece of work: read what is new, else what is due, `most` at a time, else what crowds a
        space.

        Raises:
            StorageFailed: nothing of it was written.
        """
        with self._working:
            read = following.follow(self._life)
            if read:
                return Ticked(read=read)
            now = self._life.now()
            with self._life.ledger.read() as connection:
                made = plan.due(self._life, connection, now, most)
                made = made if made.looked else plan.crowded(self._life, connection, now)
            return self._carry_out(made) if made.looked else Ticked()

    def _carry_out(self, made: Plan) -> Ticked:
        with self._life.ledger.write() as connection:
            carried = carrying.carry(self._life, connection, made)
        tell(self._parts, carried)
        done = len(carried.done)
        for step in made.steps:
            if step.proposal is not None and proposals.carry_out_surely(self._parts, step.proposal):
                done += 1
        return Ticked(looked=made.looked, done=done)

    def _run(self) -> None:
        wait_s = FIRST_S
        while self._rest(wait_s, wakes=True):
            try:
                wait_s = self._work()
            except MemosError as error:
                wait_s = RETRY_S
                log.warning("the life of memories goes on in %d seconds: %s", RETRY_S, error)

    def _work(self) -> float:
        """Tick while there is something to do, with rests; returns the seconds until there may be more."""
        while not self._stopping:
            self._parts.step_aside()
            began = time.monotonic()
            if self.tick().idle:
                break
            worked = time.monotonic() - began
            self._rest(worked * (1 - SHARE) / SHARE)
        merging.queue(self._parts, self._parts.quiet_s())
        with self._life.ledger.read() as connection:
            following_at = reviews.next_at(connection)
        if following_at is None:
            return LOOK_S
        left = (datetime.fromisoformat(following_at) - self._life.now()).total_seconds()
        return min(max(left, 1.0), LOOK_S)

    def _rest(self, seconds: float, *, wakes: bool = False) -> bool:
        """Wait, or until somebody tells of work where that `wakes`; False at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or (wakes and self._told), seconds)
            if wakes:
                self._told = False
            return not self._stopping


def tell(parts: Parts, carried: Carried) -> None:
    """What follows a plan's transaction: states, index, views and listeners hear of it, and jobs begin."""
    for caller, cubes in carried.moved:
        parts.changed(caller, cubes, listing=True)
    for follow in carried.follow:
        follow()
