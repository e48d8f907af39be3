"""Background jobs as the ledger keeps them: what runs, who does it, how far it is, how it ended.

Knows no work of any kind; payloads hold ids and numbers, never a memory's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, delete, func, insert, or_, select, update
from ulid import ULID

from memos_mcp.cube import instant
from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.schema import jobs

UNFINISHED = ("queued", "running")
FINISHED = ("done", "failed", "cancelled")
LEASE = timedelta(seconds=30)
"""For how long a job is its holder's after each sign of life; after that another may take it up."""
KEPT_DAYS, KEPT = 7, 1_000
"""For how long, and how many, finished jobs are told of."""
CRASHED = "the process ended while it was done"
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 3_600.0
# Made once: to build a statement costs more than to run it.
_LOST = (jobs.c.state == "running") & or_(jobs.c.leased_until.is_(None), jobs.c.leased_until <= bindparam("at"))
_WAITS = (jobs.c.state == "queued") & or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("at"))
_READY = (
    select(jobs)
    .where(jobs.c.state.in_(UNFINISHED), dialect.among(jobs.c.kind, "kinds"), _LOST | _WAITS)
    .order_by(jobs.c.priority.desc(), jobs.c.id)
    .limit(1)
)
_ADDED = insert(jobs)
_OF_ID = jobs.c.id == bindparam("job")
_BY_ID = select(jobs).where(_OF_ID)
_TAKEN = update(jobs).where(_OF_ID).values(
    state="running", holder=bindparam("by"), leased_until=bindparam("until"), updated=bindparam("now")
)
_READY_AT = case((jobs.c.state == "running", jobs.c.leased_until), else_=func.coalesce(jobs.c.not_before, ""))


@dataclass(frozen=True)
class Job:
    """A job's row; `state` is queued, running, done, failed or cancelled.

    `attempts` counts how often it was begun and failed, since it last came further; `not_before`: when it is tried
    again. `holder` does it until `leased_until`. `cancelled`: it was asked to end. `principal`: for whom it is done,
    None for the store itself.
    """

    id: str
    kind: str
    state: str
    payload: dict[str, Any]
    done: int
    total: int
    error: str | None
    created: str
    updated: str
    attempts: int = 0
    not_before: str | None = None
    holder: str | None = None
    leased_until: str | None = None
    priority: float = 0.5
    cancelled: bool = False
    principal: str | None = None


class Steps(Protocol):
    """What a job's work calls between its steps; either call may raise, to end the work there."""

    def step(self, done: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Note how far the job is, outside of any transaction; it goes on from `payload` after a crash. Calls in
        progress go first, and heavy work rests."""
        ...

    def note(self, connection: Connection, done: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """The same note as part of the work's own transaction: both are on disk, or neither is."""
        ...


def retry_s(attempts: int) -> float:
    """Seconds to wait after so many failed attempts."""
    return min(FIRST_RETRY_S * 4.0 ** min(attempts - 1, 10), LAST_RETRY_S)


class Jobs:
    """The ledger's jobs. Safe to share between threads."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now
        self._listeners: list[Callable[[], None]] = []
        self._watchers: list[Callable[[str], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when a job may be ready; it must return at once."""
        self._listeners.append(wake)

    def watch(self, told: Callable[[str], None]) -> None:
        """Have `told` called with the id of each job whose row has changed; it must return at once."""
        self._watchers.append(told)

    def notice(self) -> None:
        """Tell the listeners that a job was queued; told after the transaction that queued it."""
        for wake in self._listeners:
            wake()

    def create(
        self,
        connection: Connection,
        kind: str,
        payload: dict[str, Any],
        total: int,
        *,
        priority: float = 0.5,
        not_before: str | None = None,
        principal: str | None = None,
        holder: str | None = None,
    ) -> str:
        """Queue a job in the caller's transaction, which `notice` follows; returns its id.

        Higher `priority` (0..1) goes first; nothing is begun before `not_before`. With a `holder` it is begun already,
        by whoever that is.
        """
        job, at = str(ULID()), instant(self._now())
        row = {"id": job, "kind": kind, "state": "queued", "payload": json.dumps(payload), "done": 0, "total": total}
        row |= {"priority": priority, "not_before": not_before, "principal": principal}
        if holder is not None:
            row |= {"state": "running", "holder": holder, "leased_until": self._lease_end()}
        connection.execute(_ADDED, {**row, "created": at, "updated": at})
        return job

    def next_up(self, kinds: Sequence[str]) -> Job | None:
        """The job of these kinds that `lease` would take up."""
        with self._ledger.read() as connection:
            row = self._ready(connection, kinds)
        return _job(row) if row else None

    def lease(self, kinds: Sequence[str], holder: str) -> Job | None:
        """Take up the next job of these kinds that is ready, or whose holder gave no sign of life any more.

        `holder` is a name that is used for one job at one time, so that a former holder is known from the present one.
        """
        if self.next_up(kinds) is None:  # nearly always: no writer is kept waiting for that
            return None
        with self._ledger.write() as connection:
            row = self._ready(connection, kinds)
            if row is None:
                return None
            values = {"job": row.id, "by": holder, "until": self._lease_end(), "now": instant(self._now())}
            connection.execute(_TAKEN, values)
            taken = _job(connection.execute(_BY_ID, {"job": row.id}).one())
        self._tell(taken.id)
        return taken

    def take(self, job: str, holder: str) -> Job | None:
        """Take up this very job, if it waits, whatever it waits for."""
        values: dict[str, Any] = {"state": "running", "holder": holder, "leased_until": self._lease_end()}
        waits = (jobs.c.id == job) & (jobs.c.state == "queued")
        with self._ledger.write() as connection:
            taken = connection.execute(update(jobs).where(waits).values(values)).rowcount == 1
        return self.find(job) if taken else None

    def _ready(self, connection: Connection, kinds: Sequence[str]) -> Row[Any] | None:
        return connection.execute(_READY, {"kinds": dialect.listed(kinds), "at": instant(self._now())}).first()

    def next_ready(self, kinds: Sequence[str]) -> str | None:
        """When the next waiting job of these kinds is ready, or its lease ends; "" for at once, None for no job."""
        query = select(func.min(func.coalesce(_READY_AT, ""))).where(
            jobs.c.state.in_(UNFINISHED), jobs.c.kind.in_(kinds)
        )
        with self._ledger.read() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else str(found)

    def keep(
        self,
        job: str,
        holder: str,
        done: int | None = None,
        payload: dict[str, Any] | None = None,
        *,
        further: bool = False,
    ) -> bool:
        """A sign of life, with how far the work is, and what it is to go on from after a crash; False once it is to
        end: it was cancelled, or another took it up. `further`: it came further than ever, and failures count anew."""
        with self._ledger.write() as connection:
            kept = self.keep_within(connection, job, holder, done, payload, further=further)
        if kept:
            self._tell(job)
        return kept

    def keep_within(
        self,
        connection: Connection,
        job: str,
        holder: str,
        done: int | None = None,
        payload: dict[str, Any] | None = None,
        *,
        further: bool = False,
    ) -> bool:
        """The same within the transaction of the work itself, so that work and note are on disk together."""
        values: dict[str, Any] = {"leased_until": self._lease_end(), "updated": instant(self._now())}
        values |= {} if done is None else {"done": done}
        values |= {} if payload is None else {"payload": json.dumps(payload)}
        values |= {"attempts": 0} if further else {}
        mine = _held(job, holder) & ~jobs.c.cancelled
        return connection.execute(update(jobs).where(mine).values(values)).rowcount == 1

    def give_back(
        self, job: str, holder: str, *, state: str, error: str | None = None, not_before: str | None = None,
        failed: bool = False, done: int | None = None, payload: dict[str, Any] | None = None,
    ) -> bool:
        """End the work of its holder: done, failed, cancelled, or queued to be gone on with, from `not_before` on.

        Nothing is queued that was asked to end: it is cancelled. False if the job is another's by now, and stays so.
        """
        values: dict[str, Any] = {"state": state, "holder": None, "leased_until": None, "error": error}
        values |= {"not_before": not_before, "updated": instant(self._now())}
        values |= {} if done is None else {"done": done}
        values |= {} if payload is None else {"payload": json.dumps(payload)}
        if state == "done":
            values["done"] = jobs.c.total
        if state == "queued":
            values["state"] = case((jobs.c.cancelled, "cancelled"), else_="queued")
        if failed:
            values["attempts"] = jobs.c.attempts + 1
        with self._ledger.write() as connection:
            mine = connection.execute(update(jobs).where(_held(job, holder)).values(values)).rowcount == 1
        if mine:
            self._tell(job)
        return mine

    def fail(self, job: str, holder: str, said: str, most: int) -> None:
        """End a failed attempt of its holder: it is tried again, later each time, `most` times in all."""
        found = self.find(job)
        attempts = 1 + (found.attempts if found is not None else 0)
        again = attempts < most
        not_before = instant(self._now() + timedelta(seconds=retry_s(attempts))) if again else None
        state = "queued" if again else "failed"
        self.give_back(job, holder, state=state, error=said, not_before=not_before, failed=True)

    def release(self, kinds: Sequence[str]) -> int:
        """Let go of what a former process held when it ended without notice: nobody else owns the data directory now.

        That was a failed attempt of each. Returns how many jobs.
        """
        held = (jobs.c.state == "running") & jobs.c.kind.in_(kinds)
        values: dict[str, Any] = {"holder": None, "leased_until": None, "not_before": None, "error": CRASHED}
        values |= {"state": case((jobs.c.cancelled, "cancelled"), else_="queued"), "attempts": jobs.c.attempts + 1}
        with self._ledger.read() as connection:
            if connection.execute(select(jobs.c.id).where(held).limit(1)).first() is None:
                return 0
        with self._ledger.write() as connection:
            return int(connection.execute(update(jobs).where(held).values(values)).rowcount)

    def cancel(self, job: str) -> bool:
        """Ask a job to end: one that waits ends at once, one that runs after its step. False if it has ended."""
        open_ = (jobs.c.id == job) & jobs.c.state.in_(UNFINISHED)
        state = case((jobs.c.state == "queued", "cancelled"), else_=jobs.c.state)
        values: dict[str, Any] = {"cancelled": True, "updated": instant(self._now()), "state": state}
        with self._ledger.write() as connection:
            found = connection.execute(update(jobs).where(open_).values(values)).rowcount == 1
        if found:
            self._tell(job)
        return found

    def hasten(self, job: str, not_before: str) -> None:
        """Let a job that waits be done from this time on, if that is sooner."""
        later = (jobs.c.id == job) & (jobs.c.state == "queued") & (jobs.c.not_before > not_before)
        with self._ledger.write() as connection:
            connection.execute(update(jobs).where(later).values(not_before=not_before))
        self.notice()

    def find(self, job: str) -> Job | None:
        """The job with this id."""
        with self._ledger.read() as connection:
            row = connection.execute(_BY_ID, {"job": job}).first()
        return _job(row) if row else None

    def unfinished(self, kind: str | None = None) -> list[Job]:
        """Jobs (of a kind) that are queued or running, oldest first."""
        query = select(jobs).where(jobs.c.state.in_(UNFINISHED)).order_by(jobs.c.id)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with self._ledger.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def latest(self, principal: str, finished: bool, limit: int) -> list[Job]:
        """Jobs that have ended, or have not, of a principal and of the store itself, newest first."""
        states = FINISHED if finished else UNFINISHED
        theirs = jobs.c.principal.is_(None) | (jobs.c.principal == principal)
        query = select(jobs).where(jobs.c.state.in_(states), theirs).order_by(jobs.c.id.desc()).limit(limit)
        with self._ledger.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def forget_finished(self) -> int:
        """Delete finished jobs that are older than `KEPT_DAYS`, or more than the `KEPT` newest; returns how many."""
        ended = jobs.c.state.in_(FINISHED)
        old = ended & (jobs.c.updated < instant(self._now() - timedelta(days=KEPT_DAYS)))
        with self._ledger.read() as connection:
            newest = select(jobs.c.id).where(ended).order_by(jobs.c.id.desc()).offset(KEPT - 1).limit(1)
            first = connection.execute(newest).scalar()
            over = old if first is None else old | (ended & (jobs.c.id < first))
            if connection.execute(select(jobs.c.id).where(over).limit(1)).first() is None:
                return 0
        with self._ledger.write() as connection:
            return int(connection.execute(delete(jobs).where(over)).rowcount)

    def _lease_end(self) -> str:
        return instant(self._now() + LEASE)

    def _tell(self, job: str) -> None:
        for told in self._watchers:
            told(job)


def _held(job: str, holder: str) -> ColumnElement[bool]:
    return (jobs.c.id == job) & (jobs.c.holder == holder) & (jobs.c.state == "running")


def _job(row: Row[Any]) -> Job:
    return Job(**{**row._mapping, "payload": json.loads(row.payload)})
