"""Follows what became of the memories that adapters were trained on: a tainted adapter is trained anew, or retired.

Knows nothing of how something becomes tainted: the vault marks it in the transaction that changes a memory, and from
then on nobody mounts it.
"""

from __future__ import annotations

from memos_mcp.jobs import Job
from memos_mcp.memory_api import retraining
from memos_mcp.memory_api.parts import Parts
from memos_mcp.parametric.trainings import Trainings
from memos_mcp.scheduler.runner import Turn, Work

KIND = "follow-adapters"


def work(parts: Parts) -> Work:
    """How the job is done: an adapter a step."""

    def do(_job: Job, turn: Turn) -> None:
        with parts.ledger.read() as connection:
            left = retraining.to_follow(parts, connection)
        for done, seq in enumerate(left, 1):
            retraining.follow(parts, seq)
            turn.step(done)

    return Work(do)


def start(parts: Parts, training: Trainings) -> None:
    """Follow what was tainted and not followed by a former process, and listen for more."""
    training.follow = lambda: _queue(parts)
    _queue(parts)


def _queue(parts: Parts) -> None:
    """Queue the job if an adapter is tainted, and neither retired nor about to be replaced."""
    with parts.ledger.read() as connection:
        left = retraining.to_follow(parts, connection)
    if not left or any(job.state == "queued" for job in parts.jobs.unfinished(KIND)):
        return
    with parts.ledger.write() as connection:
        parts.jobs.create(connection, KIND, {}, len(left))
    parts.jobs.notice()
