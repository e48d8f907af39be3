"""Queues jobs of a kind, of which one that waits is enough.

Knows no work; the ledger is asked only while nobody knows of one.
"""

from __future__ import annotations

from memos_mcp.errors import StorageFailed
from memos_mcp.memory_api.parts import Parts

PRIORITY = 0.2
"""Of such jobs: what a caller asked for goes first."""


class Queued:
    """Queues jobs of one kind, one at a time. Safe to share between threads."""

    def __init__(self, parts: Parts, kind: str) -> None:
        self._parts, self._kind = parts, kind
        self._there = False

    def ask(self, not_before: str, *, sooner: bool = False) -> None:
        """Have the job done, not before that time; one that waits already is enough, unless it is to be `sooner`."""
        if self._there and not sooner:
            return
        jobs = self._parts.jobs
        try:
            waiting = [job for job in jobs.unfinished(self._kind) if job.state == "queued"]
            if not waiting:
                with self._parts.ledger.write() as connection:
                    jobs.create(connection, self._kind, {}, 0, priority=PRIORITY, not_before=not_before)
                jobs.notice()
            elif sooner:
                jobs.hasten(waiting[0].id, not_before)
        except StorageFailed:
            return  # the next change asks again
        self._there = True

    def begun(self) -> None:
        """The job is done now: what comes up from here on asks for the next one."""
        self._there = False
