"""Background jobs as the ledger keeps them: what runs, who does it, how far it is, how it ended.

Knows no work of any kind; payloads hold ids and numbers, never a memory's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from ulid import ULID

from memos_mcp.cube import instant
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.schema import jobs

UNFINISHED = ("queued", "running")
LEASE = timedelta(seconds=30)
"""For how long a job is its holder's after each sign of life; after that another may take it up."""


@dataclass(frozen=True)
class Job:
    """A job's row; `state` is queued, running, done, failed or cancelled.

    `attempts` counts how often it was begun and failed; `not_before`: when it is tried again. `holder` does it until
    `leased_until`. `cancelled`: it was asked to end. `principal`: for whom it is done, None for the store itself.
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


class Jobs:
    """The ledger's jobs. Safe to share between threads."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when a job may be ready; it must return at once."""
        self._listeners.append(wake)

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
    ) -> str:
        """Queue a job in the caller's transaction, which `notice` follows; returns its id.

        Higher `priority` (0..1) goes first; nothing is begun before `not_before`.
        """
        job, at = str(ULID()), instant(self._now())
        row = {"id": job, "kind": kind, "state": "queued", "payload": json.dumps(payload), "done": 0, "total": total}
        row |= {"priority": priority, "not_before": not_before, "principal": principal}
        connection.execute(insert(jobs), {**row, "created": at, "updated": at})
        return job

    def lease(self, kinds: Sequence[str], holder: str) -> Job | None:
        """Take up the next job of these kinds that is ready, or whose holder gave no sign of life any more."""
        at = instant(self._now())
        free = (jobs.c.state == "queued") | ((jobs.c.state == "running") & (jobs.c.leased_until <= at))
        ready = jobs.c.not_before.is_(None) | (jobs.c.not_before <= at)
        query = select(jobs).where(jobs.c.state.in_(UNFINISHED), jobs.c.kind.in_(kinds), free, ready)
        with self._ledger.read() as connection:  # nearly always nothing: no writer is kept waiting for that
            if connection.execute(query.limit(1)).first() is None:
                return None
        with self._ledger.write() as connection:
            row = connection.execute(query.order_by(jobs.c.priority.desc(), jobs.c.id).limit(1)).first()
            if row is None:
                return None
            values = {"state": "running", "holder": holder, "leased_until": self._lease_end(), "updated": at}
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(values))
            return _job(connection.execute(select(jobs).where(jobs.c.id == row.id)).one())

    def next_ready(self, kinds: Sequence[str]) -> str | None:
        """When the next waiting job of these kinds is ready, or its lease ends; None while there is none."""
        query = select(jobs.c.state, jobs.c.not_before, jobs.c.leased_until).where(
            jobs.c.state.in_(UNFINISHED), jobs.c.kind.in_(kinds)
        )
        with self._ledger.read() as connection:
            rows = connection.execute(query).all()
        times = [(row.leased_until if row.state == "running" else row.not_before) or "" for row in rows]
        return min(times, default=None)

    def keep(self, job: str, holder: str, done: int | None = None, payload: dict[str, Any] | None = None) -> bool:
        """A sign of life, with how far the work is, and what it is to go on from after a crash; False once it is to
        end: it was cancelled, or another took it up."""
        values: dict[str, Any] = {"leased_until": self._lease_end(), "updated": instant(self._now())}
        values |= {} if done is None else {"done": done}
        values |= {} if payload is None else {"payload": json.dumps(payload)}
        mine = (jobs.c.id == job) & (jobs.c.holder == holder) & (jobs.c.state == "running") & ~jobs.c.cancelled
        with self._ledger.write() as connection:
            return connection.execute(update(jobs).where(mine).values(values)).rowcount == 1

    def give_back(
        self, job: str, holder: str, *, state: str, error: str | None = None, not_before: str | None = None,
        failed: bool = False,
    ) -> None:
        """End the work of its holder: done, failed, cancelled, or queued to be gone on with, from `not_before` on."""
        values: dict[str, Any] = {"state": state, "holder": None, "leased_until": None, "error": error}
        values |= {"not_before": not_before, "updated": instant(self._now())}
        if state == "done":
            values["done"] = jobs.c.total
        if failed:
            values["attempts"] = jobs.c.attempts + 1
        mine = (jobs.c.id == job) & (jobs.c.holder == holder)
        with self._ledger.write() as connection:
            connection.execute(update(jobs).where(mine).values(values))

    def release(self, kinds: Sequence[str]) -> int:
        """Let go of what a former process held: nobody else owns the data directory now. Returns how many jobs."""
        held = (jobs.c.state == "running") & jobs.c.kind.in_(kinds)
        with self._ledger.write() as connection:
            values = {"state": "queued", "holder": None, "leased_until": None}
            return int(connection.execute(update(jobs).where(held).values(values)).rowcount)

    def cancel(self, job: str) -> bool:
        """Ask a job to end: one that waits ends at once, one that runs after its step. False if it has ended."""
        open_ = (jobs.c.id == job) & jobs.c.state.in_(UNFINISHED)
        at = instant(self._now())
        with self._ledger.write() as connection:
            found = connection.execute(update(jobs).where(open_).values(cancelled=True, updated=at)).rowcount == 1
            waiting = open_ & (jobs.c.state == "queued")
            connection.execute(update(jobs).where(waiting).values(state="cancelled"))
        self.notice()
        return found

    def hasten(self, job: str, not_before: str) -> None:
        """Let a job that waits be done from this time on, if that is sooner."""
        later = (jobs.c.id == job) & (jobs.c.state == "queued") & (jobs.c.not_before > not_before)
        with self._ledger.write() as connection:
            connection.execute(update(jobs).where(later).values(not_before=not_before))
        self.notice()

    def advance(self, job: str, *, done: int | None = None, state: str | None = None, error: str | None = None) -> None:
        """Note progress or the end of a job."""
        values: dict[str, Any] = {"updated": instant(self._now()), "error": error}
        if done is not None:
            values["done"] = done
        if state is not None:
            values["state"] = state
        with self._ledger.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(values))

    def find(self, job: str) -> Job | None:
        """The job with this id."""
        with self._ledger.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job)).first()
        return _job(row) if row else None

    def unfinished(self, kind: str | None = None) -> list[Job]:
        """Jobs (of a kind) that are queued or running, oldest first: after a start, what a crash left."""
        query = select(jobs).where(jobs.c.state.in_(UNFINISHED)).order_by(jobs.c.id)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with self._ledger.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def _lease_end(self) -> str:
        return instant(self._now() + LEASE)


def _job(row: Row[Any]) -> Job:
    return Job(**{**row._mapping, "payload": json.loads(row.payload)})
