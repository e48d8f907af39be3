"""The kinds of jobs that the runner does, and how.

Knows no threads: a newcomer adds a kind with an entry here.
"""

from __future__ import annotations

from functools import partial

from memos_mcp.memory_api import forget
from memos_mcp.memory_api.parts import Parts
from memos_mcp.scheduler.runner import Work


def works(parts: Parts) -> dict[str, Work]:
    """How each kind of job is done, by kind."""
    return {
        forget.REBUILD: Work(partial(forget.rebuild, parts), heavy=True, attempts=forget.CLEANING_ATTEMPTS),
    }
