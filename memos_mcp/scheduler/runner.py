"""Does the ledger's jobs behind the calls: light ones on one thread, heavy ones on another, in quiet moments.

Knows no work: a kind says how its jobs are done, in steps that may be repeated after a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from ulid import ULID

from memos_mcp.errors import MemosError, StorageFailed
from memos_mcp.jobs import CRASHED, Job, Jobs

log = logging.getLogger(__name__)

SHARE = 0.5
"""Of one core's time, how much heavy work may take: after a step it rests as long as the rest of the share."""
MOST_REST_S = 5.0
QUIET_S = 2.0
"""Seconds without a call after which a moment is quiet enough to begin heavy work."""
MOST_WAIT_S = 60.0
"""Seconds after which heavy work begins all the same."""
URGENT = 1.0
"""Priority of a job that waits for no quiet moment."""
NOTE_S = 1.0
"""Seconds between two notes of a job's progress; what a step must keep it says itself."""
LOOK_S = 30.0
"""Seconds after which it is looked for work even if nobody told of any."""
TIDY_S = 3_600.0
"""Seconds after which it is looked for finished jobs to be forgotten."""
MOST_ATTEMPTS = 6


class JobEnded(Exception):
    """The job is to end after this step: it was cancelled, another took it up, or the program ends."""


class JobWaits(Exception):
    """The job goes on later, from what its last step kept: one of a higher priority is ready."""


@dataclass(frozen=True)
class Work:
    """How jobs of a kind are done: `do(job, turn)`, which calls `turn.step` between its steps.

    It begins where `job.payload` says, which is what the last step kept, and does nothing twice that must not be: what
    it writes, it writes in one transaction with `turn.note`. It may raise MemosError, and is then tried again, later
    each time, `attempts` times in all, counted anew once it has come further. `heavy` work waits for quiet moments and
    keeps to its share of the machine; light work is done in moments, or has long waits but takes little.
    """

    do: Callable[[Job, Turn], None]
    heavy: bool = False
    attempts: int = MOST_ATTEMPTS
    final: tuple[type[MemosError], ...] = ()
    """Errors after which it is not tried again."""


def rest_s(worked_s: float, share: float) -> float:
    """Seconds to rest after work of so much processor time, to take no more than `share` of a core, at most
    `MOST_REST_S`."""
    return min(worked_s * (1 - share) / share, MOST_REST_S)


class Turn:
    """A job while it is done, on one thread. `step` and `note` are called between its steps, `step` outside of any
    transaction."""

    def __init__(self, jobs: Jobs, job: Job, holder: str, lane: Lane, share: float | None) -> None:
        self._jobs, self._job, self._holder, self._lane, self._share = jobs, job, holder, lane, share
        self._noted = time.monotonic()
        self._spent_s = time.thread_time()

    def begin(self) -> None:
        """The work begins, on the calling thread: its processor time counts from here."""
        self._spent_s = time.thread_time()

    def step(self, done: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Note how far the job is; with a `payload`, on disk when this returns, what it goes on from after a crash.

        Then calls in progress go first, and heavy work rests, or makes room for a job of a higher priority.

        Raises:
            JobEnded, JobWaits: the job is to end here. They go through the work.
        """
        if payload is not None or time.monotonic() - self._noted >= NOTE_S:
            self._noted = time.monotonic()
            further = self._further(done, payload)
            if not self._jobs.keep(self._job.id, self._holder, done, payload, further=further):
                raise JobEnded
            if payload is not None and self._lane.has_better(self._job):
                raise JobWaits
        worked_s = time.thread_time() - self._spent_s
        self._lane.breathe(0.0 if self._share is None else rest_s(worked_s, self._share))
        self._spent_s = time.thread_time()

    def note(self, connection: Connection, done: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """The same note as part of the work's own transaction: both are on disk, or neither is. `step` follows it.

        Raises:
            JobEnded: the job was cancelled, or is another's by now; nothing of the transaction is kept.
        """
        further = self._further(done, payload)
        kept = self._jobs.keep_within(connection, self._job.id, self._holder, done, payload, further=further)
        if not kept:
            raise JobEnded
        self._noted = time.monotonic()

    def _further(self, done: int | None, payload: dict[str, Any] | None) -> bool:
        return payload is not None and done is not None and done > self._job.done


class Lane:
    """The jobs of some kinds, one after the other on a thread of its own. `stop` may be called twice."""

    def __init__(
        self,
        name: str,
        jobs: Jobs,
        now: Callable[[], datetime],
        works: Mapping[str, Work],
        share: float | None,
        quiet_s: Callable[[], float],
        step_aside: Callable[[], None],
    ) -> None:
        self._name, self._jobs, self._now, self._works = name, jobs, now, dict(works)
        self._share, self._quiet_s, self._step_aside = share, quiet_s, step_aside
        self._wake = threading.Condition()
        self._stopping = self._told = False
        self._tidied: float | None = None
        self._looked_for_better = 0.0
        self._thread: threading.Thread | None = None
        self.busy = False

    @property
    def _kinds(self) -> Sequence[str]:
        return list(self._works)

    def start(self) -> None:
        self._told = self.busy = bool(self._works)
        if self._works:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notice(self) -> None:
        with self._wake:
            if self._works:
                self._told = self.busy = True
                self._wake.notify_all()

    def has_better(self, job: Job) -> bool:
        """Whether a job of a higher priority is ready; asked of the ledger at most once in `NOTE_S`."""
        if time.monotonic() - self._looked_for_better < NOTE_S:
            return False
        self._looked_for_better = time.monotonic()
        found = self._jobs.next_up(self._kinds)
        return found is not None and found.priority > job.priority

    def breathe(self, rest: float) -> None:
        """Let calls go first, and rest.

        Raises:
            JobEnded: the program ends.
        """
        self._step_aside()
        with self._wake:
            if self._wake.wait_for(lambda: self._stopping, rest):
                raise JobEnded

    def run_ready(self, *, at_once: bool = False) -> int:
        """Do every job that is ready; returns how many were taken up. `at_once`: wait for nothing and never rest."""
        taken = 0
        share = None if at_once else self._share
        with ThreadPoolExecutor(1, thread_name_prefix=self._name) as pool:
            while self._may_begin(at_once):
                holder = str(ULID())
                job = self._jobs.lease(self._kinds, holder)
                if job is None:
                    continue
                taken += 1
                work = self._works[job.kind]
                if job.cancelled:
                    self._jobs.give_back(job.id, holder, state="cancelled")
                elif job.attempts >= work.attempts:
                    said = f"given up after {job.attempts} attempts: {job.error or CRASHED}"
                    self._jobs.give_back(job.id, holder, state="failed", error=said)
                else:
                    turn = Turn(self._jobs, job, holder, self, share)
                    self._settle(job, holder, work, pool.submit(_do, work, job, turn))
        return taken

    def _may_begin(self, at_once: bool) -> bool:
        """Whether a job is ready, once the moment is one for it; False too when the program ends.

        Heavy work waits for a quiet moment, a bounded time, unless what comes meanwhile is urgent.
        """
        end = time.monotonic() + MOST_WAIT_S
        while not self._stopping:
            self._told &= at_once  # what was told is for the lane's own thread to hear
            first = self._jobs.next_up(self._kinds)
            if first is None or at_once or self._share is None or first.priority >= URGENT:
                return first is not None
            left_s = min(QUIET_S - self._quiet_s(), end - time.monotonic())
            if left_s <= 0:
                return True
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._told, left_s)
        return False

    def _settle(self, job: Job, holder: str, work: Work, doing: Future[None]) -> None:
        """Note how a job ended. A fault of the program is noted as a failure too: it ends no thread."""
        error = doing.exception()
        if error is None:
            self._jobs.give_back(job.id, holder, state="done")
        elif isinstance(error, JobEnded | JobWaits):
            self._jobs.give_back(job.id, holder, state="queued")
        else:
            self._failed(job, holder, work, error)

    def _failed(self, job: Job, holder: str, work: Work, error: BaseException) -> None:
        known = isinstance(error, MemosError)
        log.warning("job %s (%s) failed: %s", job.id, job.kind, error, exc_info=None if known else error)
        said = str(error) if known else "a fault of the program: see the log"
        self._jobs.fail(job.id, holder, said, work.attempts if known and not isinstance(error, work.final) else 1)

    def _run(self) -> None:
        failing = False
        while self._wait(failing):
            try:
                self.run_ready()
                self._tidy()
                failing = False
            except StorageFailed as error:
                failing = True
                log.warning("jobs are looked for again in %d seconds: %s", LOOK_S, error)

    def _tidy(self) -> None:
        if self._tidied is None or time.monotonic() - self._tidied > TIDY_S:
            self._tidied = time.monotonic()
            self._jobs.forget_finished()

    def _wait(self, failing: bool) -> bool:
        """Wait until a job may be ready, after a failure of the store in any case a while; False at the end."""
        with self._wake:
            told, self._told = self._told and not failing, False
        wait_s = 0.0 if told else LOOK_S if failing else self._until_ready()
        with self._wake:
            self.busy = told
            self._wake.wait_for(lambda: self._stopping or (self._told and not failing), wait_s)
            self._told, self.busy = False, True
            return not self._stopping

    def _until_ready(self) -> float:
        """Seconds until a job that waits is ready, at most `LOOK_S`."""
        try:
            ready = self._jobs.next_ready(self._kinds)
        except StorageFailed:
            return LOOK_S
        if ready is None:
            return LOOK_S
        rest = datetime.fromisoformat(ready) - self._now() if ready else timedelta(0)
        return min(max(rest.total_seconds(), 0.0), LOOK_S)


def _do(work: Work, job: Job, turn: Turn) -> None:
    turn.begin()
    work.do(job, turn)


class Runner:
    """Two lanes, so that what is light is not stuck behind what is heavy. Safe to share between threads.

    `quiet_s()` says for how long no call has been in progress, `step_aside()` lets calls go first; `share`: of one
    core's time, how much heavy work may take. `stop` may be called twice.
    """

    def __init__(
        self,
        jobs: Jobs,
        now: Callable[[], datetime],
        works: Mapping[str, Work],
        quiet_s: Callable[[], float] = lambda: QUIET_S,
        step_aside: Callable[[], None] = lambda: None,
        share: float = SHARE,
    ) -> None:
        self._jobs, self._works = jobs, dict(works)
        light = {kind: work for kind, work in works.items() if not work.heavy}
        heavy = {kind: work for kind, work in works.items() if work.heavy}
        self._lanes = (
            Lane("jobs", jobs, now, light, None, quiet_s, step_aside),
            Lane("heavy jobs", jobs, now, heavy, share, quiet_s, step_aside),
        )

    def start(self) -> None:
        """Go on with what a former process left, and listen for more."""
        self._jobs.release(list(self._works))
        self._jobs.listen(self.notice)
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """End after the step in progress; the jobs are gone on with at the next start."""
        for lane in self._lanes:
            lane.stop()

    @property
    def busy(self) -> bool:
        """Whether a job is done now, or is ready to be."""
        return any(lane.busy for lane in self._lanes)

    def notice(self) -> None:
        """A job may be ready; told after the transaction that queued it."""
        for lane in self._lanes:
            lane.notice()

    def run_ready(self) -> int:
        """Do every job that is ready now, in turn, without waiting for quiet moments; returns how many were taken up.

        For programs and tests that have nothing else to do; jobs that the runner's own threads do are not counted.
        """
        return sum(lane.run_ready(at_once=True) for lane in self._lanes)
