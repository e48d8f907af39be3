"""What uses of a memory leave behind: the fold of the log of uses into a few figures that fade with time.

Knows no ledger and no clock. Folding a log whole, or part by part in any cut, gives the very same figures: each event
is one step from figures to figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from memos_mcp.cube import Figures
from memos_mcp.heat_constants import STANDARD, HeatConstants

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Effect:
    """What an event counts for: `visits` in which a memory was given, `dwell` in which it was made use of."""

    meaning: str
    visits: float
    dwell: float


EVENTS: dict[str, Effect] = {
    "served": Effect("a search gave it", 1.0, 0.0),
    "read": Effect("it was read by its id", 1.0, 1.0),
    "cited": Effect("an answer was made from it", 1.0, 1.0),
    "stayed": Effect("it stayed in a prompt or a conversation for another turn", 0.0, 1.0),
    "confirmed": Effect("a caller called it useful", 0.0, 2.0),
    "promoted": Effect("it was given another form to be used in", 0.0, 1.0),
}
"""Every event of the log of uses. All but `served` say that what was given was of use."""
NO_EFFECT = Effect("an event of another version of the program", 0.0, 0.0)


@dataclass(frozen=True)
class Happened:
    """A row of the log: what happened to one memory, and when (as the ledger writes times)."""

    event: str
    at: str


@dataclass(frozen=True)
class Use:
    """How a memory is used as of a moment: what is left of visits and dwell, and days since the latest use."""

    visits: float = 0.0
    dwell: float = 0.0
    idle_days: float = float("inf")


def begun(written: str) -> Figures:
    """The figures of a memory that was never used: the moment of writing counts as the first."""
    return Figures(written, written)


def fold(figures: Figures, events: Iterable[Happened], constants: HeatConstants = STANDARD) -> Figures:
    """The figures after these events, in the order of the log; the times need not be in order."""
    for one in events:
        figures = _after(figures, one, constants)
    return figures


def seen(figures: Figures, now: datetime, constants: HeatConstants = STANDARD) -> Use:
    """The use as of `now`; a clock that was set back finds what was last counted."""
    moment = now.timestamp()
    left = 0.5 ** (max(moment - _second(figures.at), 0.0) / _DAY_S / constants.use_half_life_days)
    idle = max(moment - _second(figures.last), 0.0) / _DAY_S
    return Use(figures.visits * left, figures.dwell * left, idle)


def _after(figures: Figures, one: Happened, constants: HeatConstants) -> Figures:
    effect = EVENTS.get(one.event, NO_EFFECT)
    days = (_second(one.at) - _second(figures.at)) / _DAY_S
    faded = 0.5 ** (abs(days) / constants.use_half_life_days)
    old, new = (faded, 1.0) if days >= 0 else (1.0, faded)
    served = one.event == "served"
    return replace(
        figures,
        at=max(figures.at, one.at),
        last=max(figures.last, one.at),
        visits=figures.visits * old + effect.visits * new,
        dwell=figures.dwell * old + effect.dwell * new,
        served=figures.served + served,
        used=figures.used + (not served),
    )


@lru_cache(maxsize=16_384)  # most memories of a batch share a moment, and reading it costs more than the rest
def _second(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
