"""Background jobs as the ledger keeps them: what runs, how far it is, how it ended.

Knows no work of any kind; payloads hold ids and numbers, never a memory's text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from ulid import ULID

from memos_mcp.cube import instant
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.schema import jobs


@dataclass(frozen=True)
class Job:
    """A job's row; `state` is queued, running, done or failed."""

    id: str
    kind: str
    state: str
    payload: dict[str, Any]
    done: int
    total: int
    error: str | None
    created: str
    updated: str


class Jobs:
    """The ledger's jobs. Safe to share between threads."""

    def __init__(self, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now

    def create(self, connection: Connection, kind: str, payload: dict[str, Any], total: int) -> str:
        """Queue a job in the caller's transaction; returns its id."""
        job, at = str(ULID()), instant(self._now())
        row = {"id": job, "kind": kind, "state": "queued", "payload": json.dumps(payload), "done": 0, "total": total}
        connection.execute(insert(jobs), {**row, "created": at, "updated": at})
        return job

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
        query = select(jobs).where(jobs.c.state.in_(["queued", "running"])).order_by(jobs.c.id)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with self._ledger.read() as connection:
            return [_job(row) for row in connection.execute(query)]


def _job(row: Row[Any]) -> Job:
    return Job(
        row.id, row.kind, row.state, json.loads(row.payload), row.done, row.total, row.error, row.created, row.updated
    )
