"""Which of a bounded set goes when room is short, with a reason for each.

Knows no ledger, no clock and nothing of what is held: memories of a working set and states of a model alike. Recency is
taken by rank, so that idle times may be in any unit that is the same for all: turns, seconds or days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One of the set: `idle` since its latest use, `heat` and `relevance` to the current task 0..1, `size` of what is
    short. One `kept` goes only when all others have gone; one `in_use` stays, whatever it is worth."""

    key: str
    idle: float
    heat: float
    relevance: float = 0.0
    priority: float = 0.5
    size: int = 1
    kept: bool = False
    in_use: bool = False


@dataclass(frozen=True)
class Weights:
    """What recency, relevance to the current task and heat, the curve by which use fades, count for together."""

    recency: float = 0.25
    relevance: float = 0.1
    heat: float = 0.65


STANDARD = Weights()


@dataclass(frozen=True)
class Going:
    """A member that goes, and why."""

    key: str
    reason: str


def worth(members: Sequence[Member], weights: Weights = STANDARD) -> dict[str, float]:
    """What it is worth to keep each member, higher is more; by key. Equally idle members are equally recent."""
    ranks = {idle: rank for rank, idle in enumerate(sorted({one.idle for one in members}, reverse=True), 1)}
    total = sum(vars(weights).values()) or 1.0
    return {
        one.key: (
            weights.recency * ranks[one.idle] / len(ranks)
            + weights.relevance * one.relevance
            + weights.heat * one.heat
        )
        / total
        for one in members
    }


def going(members: Iterable[Member], budget: int, what: str, weights: Weights = STANDARD) -> list[Going]:
    """What has to go so that the rest is within the budget, in the order in which it goes.

    A caller's `priority` is obeyed: nothing goes before what has a lower one, but for what is `kept`. Of one priority
    the least worth goes first, of equal worth the largest. What is in use stays, even over the budget.
    """
    held = list(members)
    over = sum(one.size for one in held) - budget
    if over <= 0:
        return []
    values = worth(held, weights)
    gone: list[Going] = []
    for one in sorted(held, key=lambda one: (one.kept, one.priority, values[one.key], one.heat, -one.size, one.key)):
        if over <= 0:
            break
        if not one.in_use:
            over -= one.size
            gone.append(Going(one.key, _reason(one, values, budget, what)))
    return gone


def _reason(one: Member, values: Mapping[str, float], budget: int, what: str) -> str:
    kept = "kept by request, and even so" if one.kept else f"of priority {one.priority:g}"
    told = f"task {one.relevance:.2f}, heat {one.heat:.2f}, idle {one.idle:.4g}"
    return f"{what} is over its budget of {budget:,}: {kept} the least worth ({values[one.key]:.2f}: {told})"
