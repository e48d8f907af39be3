"""Decides which memories are worth another form than text, and when they are not any more.

Knows neither models nor files: a target is a row of a table, room and cost are tokens. A memory enters where it is
expected to be used often and leaves where it is seldom, with a gap between and a rest after each move, so that nothing
goes in and out by turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

AHEAD_DAYS = 7.0
"""The days for which use is expected, and the half-life of that expectation."""


@dataclass(frozen=True)
class Target:
    """A form. Uses expected within `AHEAD_DAYS`: from `enter` on it is worth being given, below `leave` not being
    kept; `rest` between two moves; `least` tokens that make it worth while."""

    name: str
    enter: float
    leave: float
    rest: timedelta
    least: int


TARGETS: dict[str, Target] = {
    target.name: target for target in (Target("activation", 3.0, 1.0, timedelta(days=1), 16),)
}
"""The forms that the scheduler gives by itself. Another one joins with a row here and with who carries it out."""


@dataclass(frozen=True)
class Room:
    """What there is of a target in tokens: `free`, below 0 when more is held than may be; `most` for one memory."""

    free: int
    most: int


@dataclass(frozen=True)
class Standing:
    """A memory beside a target. `tokens`: what it costs to read; `held`: by the scheduler, by a caller, or not at all;
    `moved`: when that was last changed."""

    target: str
    tokens: int
    held: Literal["no", "scheduler", "caller"] = "no"
    moved: datetime | None = None


@dataclass(frozen=True)
class FormVerdict:
    """What to do, why, and when that could change if the memory is not used meanwhile."""

    action: Literal["promote", "demote", "keep"]
    reason: str
    again: datetime | None = None


def tokens_of(text: str) -> int:
    """About how many tokens a text has: four letters of Latin script each, and one for each other sign."""
    latin = sum(char.isascii() for char in text)
    return (latin + 3) // 4 + len(text) - latin


def expected_uses(uses: int, known: timedelta, idle: timedelta) -> float:
    """How often it will be used within `AHEAD_DAYS`: as since it is known, halved by each `AHEAD_DAYS` of rest.

    Falls by waiting and rises by use.
    """
    days = max(known / timedelta(days=1), 1.0)
    return AHEAD_DAYS * uses / days * float(0.5 ** (max(idle / timedelta(days=1), 0.0) / AHEAD_DAYS))


def judge(
    standing: Standing, room: Room, uses: int, created: datetime, last_used: datetime | None, now: datetime
) -> FormVerdict:
    """Whether the memory is to be given the form, or to lose it. What a caller asked for stays."""
    target = TARGETS[standing.target]
    rests = standing.moved is not None and now < standing.moved + target.rest
    if standing.held == "caller":
        return FormVerdict("keep", f"a caller promoted it to {target.name}")
    if standing.held == "no":
        return _entering(standing, target, room, _expected(uses, created, last_used, now), rests)
    if rests and standing.moved is not None:
        return FormVerdict("keep", f"it was moved to {target.name} a moment ago", standing.moved + target.rest)
    hope = _expected(uses, created, last_used, now)
    if room.free < 0:
        return FormVerdict("demote", f"{target.name} holds {-room.free:,} tokens more than its budget")
    if hope < target.leave:
        return FormVerdict("demote", f"{hope:.2f} uses expected within {AHEAD_DAYS:g} days, below {target.leave:g}")
    until = _falls_below(target, uses, created, last_used, now)
    return FormVerdict("keep", f"{hope:.2f} uses expected within {AHEAD_DAYS:g} days", until)


def _entering(standing: Standing, target: Target, room: Room, hope: float, rests: bool) -> FormVerdict:
    """By waiting alone nothing enters, so that no time to look again is named."""
    if hope < target.enter or rests:
        return FormVerdict("keep", f"{hope:.2f} uses expected within {AHEAD_DAYS:g} days")
    if not target.least <= standing.tokens <= room.most:
        return FormVerdict("keep", f"its {standing.tokens:,} tokens are not from {target.least:,} to {room.most:,}")
    if standing.tokens > room.free:
        return FormVerdict("keep", f"its {standing.tokens:,} tokens are more than the {max(room.free, 0):,} free")
    saved = int(hope * standing.tokens)
    return FormVerdict(
        "promote",
        f"{hope:.2f} uses expected within {AHEAD_DAYS:g} days save some {saved:,} tokens of reading for "
        f"{standing.tokens:,} read once, of {room.free:,} free",
    )


def _expected(uses: int, created: datetime, last_used: datetime | None, at: datetime) -> float:
    return 0.0 if last_used is None else expected_uses(uses, at - created, at - last_used)


def _falls_below(
    target: Target, uses: int, created: datetime, last_used: datetime | None, now: datetime
) -> datetime:
    """When the expectation falls below `leave`, to the second: it only falls by waiting."""
    early, late = 0, 1
    while _expected(uses, created, last_used, now + timedelta(seconds=late)) >= target.leave:
        early, late = late, late * 2
    while late - early > 1:
        middle = (early + late) // 2
        above = _expected(uses, created, last_used, now + timedelta(seconds=middle)) >= target.leave
        early, late = (middle, late) if above else (early, middle)
    return now + timedelta(seconds=late)
