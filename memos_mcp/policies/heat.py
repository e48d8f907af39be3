"""How warm a memory is: one pure function.

Knows no ledger and no clock.
"""

from __future__ import annotations


def heat(uses: int, days_since_use: float | None, half_life_days: float = 7.0) -> float:
    """How warm a memory is, 0..1: visits, and recency with a half-life.

    After MemoryOS (2025), heat = visits + interactions + exp(-age / scale), squashed to 0..1; never used is 0.
    """
    if not uses or days_since_use is None:
        return 0.0
    recency = float(0.5 ** (max(days_since_use, 0.0) / half_life_days))
    return round((uses / (uses + 3.0)) * 0.5 + recency * 0.5, 4)
