"""The kinds of jobs that the runner does, and how.

Knows no threads: a newcomer adds a kind with an entry here.
"""

from __future__ import annotations

from memos_mcp.memory_api.parts import Parts
from memos_mcp.scheduler import merging
from memos_mcp.scheduler.runner import Work


def works(parts: Parts) -> dict[str, Work]:
    """How each kind of job is done, by kind."""
    return {merging.KIND: merging.work(parts)}
