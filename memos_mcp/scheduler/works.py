"""The kinds of jobs that the runner does, and how.

Knows no threads: a newcomer adds a kind with an entry here.
"""

from __future__ import annotations

from functools import partial

from memos_mcp.memory_api import forget, parametric, tiers
from memos_mcp.memory_api.parts import Parts
from memos_mcp.scheduler import merging, schooling, tainting, training
from memos_mcp.scheduler.runner import Work
from memos_mcp.scheduler.summaries import Summaries
from memos_mcp.scheduler.upkeep import Upkeep


def works(parts: Parts, upkeep: Upkeep, summaries: Summaries) -> dict[str, Work]:
    """How each kind of job is done, by kind."""
    return {
        tiers.LONG_TERM: Work(lambda job, turn: tiers.to_long_term(parts, int(job.payload["segment"]), turn.step)),
        **upkeep.works(),
        **summaries.works(),
        forget.REBUILD: Work(partial(forget.rebuild, parts), heavy=True, attempts=forget.CLEANING_ATTEMPTS),
        merging.KIND: merging.work(parts),
        parametric.TRAIN: training.work(parts),
        tainting.KIND: tainting.work(parts),
        schooling.KIND: schooling.work(parts),
    }
