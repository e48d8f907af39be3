"""The verbs over background jobs: read one, list those of a caller, ask one to end.

Knows no kind of work but the few that must be told, or must not be ended.
"""

from __future__ import annotations

from memos_mcp.errors import Conflict, NotFound
from memos_mcp.governance import Caller
from memos_mcp.jobs import Job
from memos_mcp.memory_api.forget import REBUILD
from memos_mcp.memory_api.parts import Parts
from memos_mcp.results import JobResult

LISTED, ENDED = 100, 20
"""Jobs of a list: how many that are at work or wait, and how many of those that ended last."""


def job(parts: Parts, caller: Caller, job_id: str) -> JobResult:
    """A job: kind, state, progress, error. Its payload is not told: others' memories may be numbered in it.

    Raises:
        NotFound: there is no such job, or it is another principal's.
    """
    return _told(_own(parts, caller, job_id))


def jobs(parts: Parts, caller: Caller) -> list[JobResult]:
    """The caller's jobs and those of the store itself: at work, waiting, and ended last, in this order."""
    unfinished = parts.jobs.latest(caller.principal, False, LISTED)
    found = sorted(unfinished, key=lambda one: (one.state != "running", -one.priority, one.id))
    return [_told(one) for one in found + parts.jobs.latest(caller.principal, True, ENDED)]


def cancel(parts: Parts, caller: Caller, job_id: str) -> JobResult:
    """Ask a job to end: one that waits ends at once, one that runs after its step. What it has done stays done.

    Raises:
        NotFound: there is no such job, or it is another principal's. Conflict: it has ended, or it must not be ended.
    """
    found = _own(parts, caller, job_id)
    if found.kind == REBUILD:
        raise Conflict(f"Job {job_id} takes what was purged out of the files: that is not left half done.")
    if not parts.jobs.cancel(job_id):
        raise Conflict(f"Job {job_id} has ended already: it is {_own(parts, caller, job_id).state}.")
    if parts.activation is not None:
        parts.activation.cancelled(found)
    if parts.training is not None:
        parts.training.cancelled(found.id)
    return _told(_own(parts, caller, job_id))


def _own(parts: Parts, caller: Caller, job_id: str) -> Job:
    found = parts.jobs.find(job_id)
    if found is None or found.principal not in (None, caller.principal):
        raise NotFound("job", [job_id[:200]], "its id is in the result of the call that began it; finished jobs are "
                       "forgotten after a week.")  # fmt: skip
    return found


def _told(one: Job) -> JobResult:
    return {
        "id": one.id,
        "uri": f"memos://jobs/{one.id}",
        "kind": one.kind,
        "state": one.state,
        "done": one.done,
        "total": one.total,
        "error": one.error,
        "attempts": one.attempts,
        "priority": one.priority,
        "not_before": one.not_before,
        "cancelled": one.cancelled,
        "created": one.created,
        "updated": one.updated,
    }
