"""Pure decisions about states, each with its reason: which are worth keeping, and which go when room is short.

Knows no ledger, file or model: sizes are bytes, tokens or sequences alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from memos_mcp.cube import Figures
from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.policies.heat import heat
from memos_mcp.policies.replacement import Member, going
from memos_mcp.policies.use import Use, seen

WORTH_TOKENS = 16
"""Fewer are read about as fast as a state is found."""
WARM = 0.42
"""Heat of a memory that was used in the last days, or often in the last weeks; none is so warm for being new alone."""


@dataclass(frozen=True)
class Held:
    """A state that takes `size` of what is short; `heat` 0..1. One `in_use` stays, whatever its heat. `idle_days` since
    it was used; equals are as recent as each other."""

    key: str
    size: int
    heat: float
    promoted: bool = False
    in_use: bool = False
    idle_days: float = 0.0


@dataclass(frozen=True)
class Eviction:
    """A state that goes, and why."""

    key: str
    reason: str


def warmth_of(
    figures: Figures, importance: float, priority: float, now: datetime, constants: HeatConstants = STANDARD
) -> float:
    """How warm a memory is for the states that hold it, 0..1: its heat, by its priority of more weight or of less."""
    return min(heat(seen(figures, now, constants), importance, constants=constants) * (0.5 + priority), 1.0)


def heat_of(
    cubes: Sequence[float], uses: int, days_since_use: float | None, constants: HeatConstants = STANDARD
) -> float:
    """How warm a state is, 0..1: half the mean heat of its memories, half its own use, as if all of that was the
    latest."""
    mean = sum(cubes) / len(cubes) if cubes else 0.0
    idle = float("inf") if days_since_use is None else max(days_since_use, 0.0)
    left = uses * 0.5 ** (idle / constants.use_half_life_days)
    return 0.5 * mean + 0.5 * heat(Use(left, 0.0, idle), 0.0, constants=constants)


def worth_keeping(tokens_read: int, heats: Sequence[float], pinned: bool, asked_before: bool) -> str | None:
    """Why what was read for an answer is to be kept beyond it; None if it is not."""
    if tokens_read < WORTH_TOKENS:
        return None
    if pinned:
        return "one of its memories is pinned"
    if asked_before:
        return "the same memories were asked before"
    if heats and min(heats) >= WARM:
        return f"all of its memories are warm (heat {min(heats):.2f} or more)"
    return None


def evictions(held: Iterable[Held], budget: int, what: str) -> list[Eviction]:
    """What has to go so that the rest is within the budget, in the order in which it goes, promoted ones last.

    Of the others those go first that are worth least by heat and recency together (`policies.replacement`), of equals
    the largest. What is in use stays, even over the budget.
    """
    members = [
        Member(one.key, one.idle_days, one.heat, size=one.size, kept=one.promoted, in_use=one.in_use) for one in held
    ]
    return [Eviction(gone.key, gone.reason) for gone in going(members, budget, what)]
