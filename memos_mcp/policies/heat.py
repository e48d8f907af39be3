"""How warm a memory is: one pure function.

Knows no ledger and no clock. After MemoryOS (Kang et al., EMNLP 2025), where heat is the sum of visits, interactions
and exp(-age / scale). Here visits and dwell fade with a half-life, so that old use loses its weight; each of the terms
is squashed, so that heat is 0..1; and a memory's importance, its pin and what a caller said of it count too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.policies.use import Use


def heat(
    use: Use,
    importance: float = 0.5,
    pinned: bool = False,
    feedback: str | None = None,
    constants: HeatConstants = STANDARD,
) -> float:
    """How warm a memory is, 0..1, higher is warmer.

    No further use lowers it and no waiting raises it; `feedback` is useful, wrong, stale or None.
    """
    warm = (
        constants.visits * _squashed(use.visits, constants.half_at)
        + constants.dwell * _squashed(use.dwell, constants.half_at)
        + constants.recency * math.exp2(-max(use.idle_days, 0.0) / constants.half_life_days)
        + constants.importance * min(max(importance, 0.0), 1.0)
    )
    warm *= {"wrong": constants.wrong, "stale": constants.stale}.get(feedback or "", 1.0)
    if pinned:
        warm = constants.pinned + (1.0 - constants.pinned) * warm
    return min(max(warm, 0.0), 1.0)


def together(uses: Iterable[Use]) -> Use:
    """The use of several memories as if they were one: visits and dwell of all, as lately used as the latest."""
    held = list(uses)
    idle = min((use.idle_days for use in held), default=float("inf"))
    return Use(sum(use.visits for use in held), sum(use.dwell for use in held), idle)


def _squashed(count: float, half_at: float) -> float:
    """0 for nothing, half at `half_at`, towards 1 without end."""
    return count / (count + half_at) if count > 0 else 0.0
