"""Does the ledger's jobs, one after the other, behind the calls.

Knows no work: a kind says how its jobs are done, in steps that may be repeated after a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from memos_mcp.cube import instant
from memos_mcp.errors import MemosError, StorageFailed
from memos_mcp.jobs import Job, Jobs

log = logging.getLogger(__name__)

SHARE = 0.5
"""Of one core's time, how much heavy work may take: after a step it rests as long as the rest of the share."""
MOST_REST_S = 2.0
QUIET_S = 2.0
"""Seconds without a call after which a moment is quiet enough to begin heavy work."""
MOST_WAIT_S = 60.0
"""Seconds after which heavy work begins all the same."""
NOTE_S = 1.0
"""Seconds between two notes of a job's progress; what a step must keep it says itself."""
LOOK_S = 30.0
"""Seconds after which it is looked for work even if nobody told of any."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 3_600.0
MOST_ATTEMPTS = 6


class JobEnded(Exception):
    """The job is to end after this step: it was cancelled, another took it up, or the program ends."""


@dataclass(frozen=True)
class Work:
    """How jobs of a kind are done: `do(job, turn)`, which calls `turn.step` between its steps.

    It may raise MemosError, and is then tried again, later each time, `attempts` times in all. `heavy` work waits for
    quiet moments and keeps to its share of the machine.
    """

    do: Callable[[Job, Turn], None]
    heavy: bool = False
    attempts: int = MOST_ATTEMPTS


class Turn:
    """A job while it is done. `step` is called between its steps."""

    def __init__(self, jobs: Jobs, job: Job, holder: str, runner: Runner, share: float | None) -> None:
        self._jobs, self._job, self._holder, self._runner, self._share = jobs, job, holder, runner, share
        self._begun = self._noted = time.monotonic()

    def step(self, done: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Note how far the job is; with a `payload`, on disk when this returns, what it goes on from after a crash.

        Then calls in progress go first, and heavy work rests.

        Raises:
            JobEnded: the job is to end here.
        """
        worked = time.monotonic() - self._begun
        if payload is not None or time.monotonic() - self._noted >= NOTE_S:
            self._noted = time.monotonic()
            if not self._jobs.keep(self._job.id, self._holder, done, payload):
                raise JobEnded
        rest_s = 0.0 if self._share is None else min(worked * (1 - self._share) / self._share, MOST_REST_S)
        self._runner.breathe(rest_s)
        self._begun = time.monotonic()


class Runner:
    """A thread of its own. `quiet_s()` says for how long no call has been in progress, `step_aside()` lets calls go
    first. Safe to share between threads; `stop` may be called twice."""

    def __init__(
        self,
        jobs: Jobs,
        now: Callable[[], datetime],
        works: Mapping[str, Work],
        quiet_s: Callable[[], float] = lambda: QUIET_S,
        step_aside: Callable[[], None] = lambda: None,
    ) -> None:
        self._jobs, self._now, self._works = jobs, now, dict(works)
        self._quiet_s, self._step_aside = quiet_s, step_aside
        self._holder = str(ULID())
        self._wake = threading.Condition()
        self._stopping = self._told = False
        self._thread: threading.Thread | None = None
        self.busy = False
        """Whether a job is done now, or is ready to be."""

    def start(self) -> None:
        """Go on with what a former process left, and listen for more."""
        self._jobs.release(list(self._works))
        self._jobs.listen(self.notice)
        self.notice()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step in progress; the job is gone on with at the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notice(self) -> None:
        """A job may be ready; told after the transaction that queued it."""
        with self._wake:
            self._told = self.busy = True
            self._wake.notify_all()

    def breathe(self, rest_s: float) -> None:
        """Let calls go first, and rest.

        Raises:
            JobEnded: the program ends.
        """
        self._step_aside()
        with self._wake:
            if self._wake.wait_for(lambda: self._stopping, rest_s):
                raise JobEnded

    def run_ready(self) -> int:
        """Do every job that is ready, in the calling thread; returns how many were taken up."""
        taken = 0
        with ThreadPoolExecutor(1, thread_name_prefix="job") as pool:
            while not self._stopping and (job := self._jobs.lease(list(self._works), self._holder)) is not None:
                taken += 1
                work = self._works[job.kind]
                if work.heavy:
                    self._wait_for_quiet()
                turn = Turn(self._jobs, job, self._holder, self, SHARE if work.heavy else None)
                self._settle(job, work, pool.submit(work.do, job, turn))
        return taken

    def _settle(self, job: Job, work: Work, doing: Future[None]) -> None:
        """Note how a job ended. A fault of the program is noted as a failure too: it ends no thread."""
        error = doing.exception()
        if error is None:
            self._jobs.give_back(job.id, self._holder, state="done")
        elif isinstance(error, JobEnded):
            found = self._jobs.find(job.id)
            cancelled = found is not None and found.cancelled
            self._jobs.give_back(job.id, self._holder, state="cancelled" if cancelled else "queued")
        else:
            self._failed(job, work, error)

    def _failed(self, job: Job, work: Work, error: BaseException) -> None:
        known = isinstance(error, MemosError)
        log.warning("job %s (%s) failed: %s", job.id, job.kind, error, exc_info=None if known else error)
        said = str(error) if known else "a fault of the program: see the log"
        again = known and job.attempts + 1 < work.attempts
        wait_s = min(FIRST_RETRY_S * 4**job.attempts, LAST_RETRY_S)
        not_before = instant(self._now() + timedelta(seconds=wait_s)) if again else None
        self._jobs.give_back(
            job.id, self._holder, state="queued" if again else "failed", error=said, not_before=not_before, failed=True
        )

    def _wait_for_quiet(self) -> None:
        end = time.monotonic() + MOST_WAIT_S
        while (left := QUIET_S - self._quiet_s()) > 0 and time.monotonic() < end:
            with self._wake:
                if self._wake.wait_for(lambda: self._stopping, left):
                    return

    def _run(self) -> None:
        while self._wait():
            try:
                self.run_ready()
            except StorageFailed as error:
                log.warning("jobs are looked for again in %d seconds: %s", LOOK_S, error)

    def _wait(self) -> bool:
        """Wait until a job may be ready; False at the end."""
        with self._wake:
            told, self._told = self._told, False
        wait_s = 0.0 if told else self._until_ready()
        with self._wake:
            self.busy = told
            self._wake.wait_for(lambda: self._told or self._stopping, wait_s)
            self._told, self.busy = False, True
            return not self._stopping

    def _until_ready(self) -> float:
        """Seconds until a job that waits is ready, at most `LOOK_S`."""
        try:
            ready = self._jobs.next_ready(list(self._works))
        except StorageFailed:
            return LOOK_S
        if ready is None:
            return LOOK_S
        rest = datetime.fromisoformat(ready) - self._now() if ready else timedelta(0)
        return min(max(rest.total_seconds(), 0.05), LOOK_S)
