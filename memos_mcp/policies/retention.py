"""Decides which memories of a space stay, which leave its way and which go, by age, heat, count and size.

Knows no ledger: it is given memories with their figures, and rules. Each memory gets a reason, also the kept ones;
kept, archived and ended ones together are all that were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Held:
    """A memory that stands. `idle_days` since it was used or changed, `age_days` since it was written; `size` in bytes.

    One that is `protected` (frozen, pinned, held, kept by its policy) stays whatever the rules say, and counts.
    """

    id: str
    idle_days: float
    age_days: float
    heat: float
    size: int
    priority: float = 0.5
    importance: float = 0.5
    protected: bool = False


@dataclass(frozen=True)
class Rules:
    """What may stay; None for no limit, which is the default of each. `idle_days` and `heat` work together: archived is
    what is older in use than the one and colder than the other, where both are given. `end_days` ends for good."""

    idle_days: float | None = None
    heat: float | None = None
    memories: int | None = None
    size: int | None = None
    end_days: float | None = None


@dataclass(frozen=True)
class Beyond:
    """Memories of the space that are not among those given, and stay: how many, and their bytes."""

    memories: int = 0
    size: int = 0


@dataclass(frozen=True)
class Reasoned:
    """A memory's id with the reason of what becomes of it."""

    id: str
    reason: str


@dataclass(frozen=True)
class Retention:
    """The plan: each memory is in one of the three."""

    kept: list[Reasoned] = field(default_factory=list)
    archived: list[Reasoned] = field(default_factory=list)
    ended: list[Reasoned] = field(default_factory=list)


def retain(held: Sequence[Held], rules: Rules, beyond: Beyond = Beyond()) -> Retention:
    """Sort memories into kept, archived and ended. Without a rule all are kept.

    By count and size those go first that have the lowest priority, of these the coldest, the longest unused, and the
    least important.
    """
    plan = Retention()
    staying = []
    for one in held:
        ended, archived = _over(one, rules)
        if one.protected:
            plan.kept.append(Reasoned(one.id, "protected"))
            beyond = Beyond(beyond.memories + 1, beyond.size + one.size)
        elif ended is not None:
            plan.ended.append(Reasoned(one.id, ended))
        elif archived is not None:
            plan.archived.append(Reasoned(one.id, archived))
        else:
            staying.append(one)
    memories, size = beyond.memories + len(staying), beyond.size + sum(one.size for one in staying)
    for one in sorted(staying, key=_worth):
        reason = _crowded(memories, size, rules)
        if reason is None:
            plan.kept.append(Reasoned(one.id, _within(one, rules)))
            continue
        plan.archived.append(Reasoned(one.id, f"{reason}: priority {one.priority:g}, heat {one.heat:.2f}"))
        memories, size = memories - 1, size - one.size
    return plan


def _worth(one: Held) -> tuple[float, float, float, float, str]:
    return one.priority, one.heat, -one.idle_days, one.importance, one.id


def _over(one: Held, rules: Rules) -> tuple[str | None, str | None]:
    """Why it is to be ended, and why to be archived, by its own figures."""
    ended = archived = None
    if rules.end_days is not None and one.age_days >= rules.end_days:
        ended = f"written {one.age_days:,.0f} days ago, and {rules.end_days:,.0f} are kept"
    idle = rules.idle_days is not None and one.idle_days >= rules.idle_days
    cold = rules.heat is not None and one.heat < rules.heat
    if idle and (cold or rules.heat is None):
        archived = f"not used for {one.idle_days:,.0f} days"
    elif cold and rules.idle_days is None:
        archived = f"colder ({one.heat:.2f}) than {rules.heat:g}"
    return ended, archived


def _crowded(memories: int, size: int, rules: Rules) -> str | None:
    if rules.memories is not None and memories > rules.memories:
        return f"{memories:,} memories stand and {rules.memories:,} may"
    if rules.size is not None and size > rules.size:
        return f"{size:,} bytes stand and {rules.size:,} may"
    return None


def _within(one: Held, rules: Rules) -> str:
    if rules == Rules():
        return "no rule"
    return f"heat {one.heat:.2f}, not used for {one.idle_days:,.0f} days"
