"""Keeps the archive small: queues the job once there is something to do, and does it in steps.

Knows no thread of its own: changes tell it that there may be work, the runner does it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from memos_mcp.cube import instant
from memos_mcp.jobs import Job
from memos_mcp.ledger.packed import PACK
from memos_mcp.memory_api import archive
from memos_mcp.memory_api.parts import Parts
from memos_mcp.scheduler.queued import Queued
from memos_mcp.scheduler.runner import Turn, Work
from memos_mcp.store import Changed

COMPRESS = "compress"
"""Kind of the job that compresses the archive; its payload is empty, for the ledger notes how far it is."""
SELDOM = timedelta(days=1)
"""Between two such jobs."""


class Upkeep:
    """What is done to the archive. `after_days`: how long a memory lies there before it is compressed; 0: for good."""

    def __init__(self, parts: Parts, after_days: int) -> None:
        self._parts, self._after = parts, timedelta(days=after_days)
        self._queued = Queued(parts, COMPRESS)
        self._end_listening: Callable[[], None] | None = None

    def works(self) -> dict[str, Work]:
        """How its jobs are done."""
        return {COMPRESS: Work(self._compress, heavy=True)}

    def start(self) -> None:
        """Listen for what is archived."""
        if self._after:
            self._end_listening = self._parts.events.listen(self._notice)

    def stop(self) -> None:
        """Listen no more; may be called twice."""
        if self._end_listening is not None:
            self._end_listening()

    def _notice(self, changed: Changed) -> None:
        if changed.archived:
            self._queued.ask(instant(self._parts.now() + self._after))

    def _compress(self, _job: Job, turn: Turn) -> None:
        if not self._after:
            return
        self._queued.begun()
        parts, done = self._parts, 0
        while True:
            step = archive.look(parts, instant(parts.now() - self._after))
            for start in range(0, len(step.ids), PACK):
                done += archive.compress(parts, step.ids[start : start + PACK])
                turn.step(done)
            archive.note(parts, step.upto)
            turn.step(done)
            if step.last:
                break
        self._ask_again(step.upto, turn)

    def _ask_again(self, upto: int | None, turn: Turn) -> None:
        """Have the job done once more when what was archived since has lain there long enough."""
        while upto is not None:
            archived, upto = archive.next_archived(self._parts, upto)
            if archived is not None:
                due = max(datetime.fromisoformat(archived) + self._after, self._parts.now() + SELDOM)
                self._queued.ask(instant(due))
                return
            turn.step()
