"""Decides what is to become of a memory, with the reason, and when that could change if nothing happens to it.

Knows no ledger and no clock: what is known of the memory, thresholds and the time are given. Nothing automatic happens
to what is frozen, pinned or under a legal hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import isqrt

from memos_mcp.cube import Figures
from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.policies import forms
from memos_mcp.policies.forms import Room, Standing
from memos_mcp.policies.heat import heat
from memos_mcp.policies.policy import SILENT, Policy
from memos_mcp.policies.use import seen
from memos_mcp.states import State

DAY = timedelta(days=1)
ARCHIVE_DAYS = 180
"""Days without use after which a memory of middling importance and priority is archived."""
ARCHIVE_HEAT = 0.2
"""A memory is archived below this heat only; what was used for weeks stays above it for months."""
_MOST_S = 36_500 * 86_400
"""Seconds after which what is still warm counts as warm for ever."""
ENDABLE = (State.GENERATED, State.ACTIVATED, State.MERGED, State.ARCHIVED)
"""States in which a memory can come to its end."""


class Action(StrEnum):
    """What can become of a memory."""

    ACTIVATE = "activate"
    PROMOTE = "promote"
    DEMOTE = "demote"
    ARCHIVE = "archive"
    EXPIRE = "expire"
    DEDUPLICATE = "deduplicate"
    MERGE = "merge"
    CONFLICT = "flag conflict"
    KEEP = "keep"


@dataclass(frozen=True)
class Likeness:
    """What was proposed about the memory and others: `kind` is deduplicate, merge or conflict."""

    proposal: str
    kind: str
    score: float
    reason: str


@dataclass(frozen=True)
class Facts:
    """What is known of a memory.

    `stands`: it is live and not superseded; `changed`: when its text or metadata were last; `brought_back`: when it
    last changed its state or form by somebody's will; `lasting`: why it is not archived for its age; `form`: None where
    no other form can be its.
    """

    state: State
    stands: bool
    created: datetime
    changed: datetime
    figures: Figures
    uses: int = 0
    last_used: datetime | None = None
    feedback: str | None = None
    pinned: bool = False
    importance: float = 0.5
    priority: float = 0.5
    expires: datetime | None = None
    policy: Policy = SILENT
    brought_back: datetime | None = None
    lasting: str | None = None
    likeness: Likeness | None = None
    form: Standing | None = None


@dataclass(frozen=True)
class Context:
    """What all memories are judged by; `room`: of the target of forms, None where there is no such target; `sure`:
    score from which what was proposed is carried out without being asked for, None for never."""

    archive_days: int = ARCHIVE_DAYS
    archive_heat: float = ARCHIVE_HEAT
    constants: HeatConstants = STANDARD
    sure: float | None = None
    room: Room | None = None


@dataclass(frozen=True)
class Verdict:
    """What to do, why, and when it could be otherwise if nothing happens; None for never."""

    action: Action
    reason: str
    again: datetime | None = None


def decide(facts: Facts, context: Context, now: datetime) -> Verdict:
    """What is to become of a memory by `now`. `again` is later than `now`, and what has an action is settled by it."""
    found = at_any_age(facts, context, now)
    if found is not None:
        return found
    cold, patience = cools(facts, context)
    if cold is not None and cold <= now:
        return Verdict(Action.ARCHIVE, patience)
    nexts = [at for at in (ends(facts)[0], cold, _form(facts, context, now).again) if at is not None]
    return Verdict(Action.KEEP, patience, min(nexts, default=None))


def at_any_age(facts: Facts, context: Context, now: datetime) -> Verdict | None:
    """What `decide` says where it does not matter when the memory cools; None where it does."""
    protected = protection(facts)
    if protected is not None:
        return Verdict(Action.KEEP, protected)
    end, why = ends(facts)
    if end is not None and end <= now:
        return Verdict(Action.EXPIRE, why)
    if not facts.stands:
        return Verdict(Action.KEEP, f"it is {facts.state} and waits for its end" if end else "its life is over", end)
    likeness = _alike(facts.likeness, context.sure)
    if likeness is not None:
        return likeness
    if _is_activated(facts):
        return Verdict(Action.ACTIVATE, "it was used", None)
    form = _form(facts, context, now)
    return form if form.action is not Action.KEEP else None


def ends(facts: Facts) -> tuple[datetime | None, str]:
    """When the memory's life is over, and why; None for never, also where somebody brought it back after that."""
    found: list[tuple[datetime, str]] = []
    if facts.expires is not None:
        found.append((facts.expires, "the end that was set for it has come"))
    days = facts.policy.expire_days
    if facts.policy.lifetime == "expire" and days is not None:
        found.append((facts.created + days * DAY, f"its policy ends it {days:,} days after it was written"))
    back = facts.brought_back
    standing = [one for one in found if back is None or one[0] > back]
    return min(standing, default=(None, ""))


def cools(facts: Facts, context: Context) -> tuple[datetime | None, str]:
    """When the memory is to be archived if it is not used any more, and why; None for never.

    Its days count from its last use, change or return, the more the more important it is and the higher its priority.
    It must also have become as cold as the policy wants.
    """
    policy = facts.policy
    if policy.lifetime in ("keep", "expire"):
        return None, f"its policy is {policy.lifetime!r}"
    if facts.lasting is not None:
        return None, facts.lasting
    days = context.archive_days if policy.archive_days is None else policy.archive_days
    if days == 0:
        return None, "archiving by age is off"
    patience = days * (0.5 + facts.importance) * (0.5 + facts.priority)
    known = (facts.created, facts.changed, facts.brought_back, facts.last_used)
    since = max(at for at in known if at is not None)
    limit = context.archive_heat if policy.archive_heat is None else policy.archive_heat
    cold = since + patience * DAY
    if facts.last_used is not None:
        last = datetime.fromisoformat(facts.figures.last)
        waited = max((cold - last) // timedelta(seconds=1), -1)
        if waited < 0 or _excess(facts, context.constants, limit, last, waited) > 0:
            seconds = _seconds_until(facts, context.constants, limit, last, waited)
            if seconds is None:
                return None, f"it never becomes colder than {limit:g}"
            cold = last + timedelta(seconds=seconds)
    return cold, f"archived when it is not used for {patience:,.0f} days and colder than {limit:g}"


def warmth(facts: Facts, context: Context, now: datetime) -> float:
    """How warm the memory is by `now`, 0..1; it never rises by waiting."""
    used = seen(facts.figures, now, context.constants)
    return heat(used, facts.importance, facts.pinned, facts.feedback, context.constants)


def _excess(facts: Facts, constants: HeatConstants, limit: float, last: datetime, seconds: int) -> float:
    """How much warmer than `limit` the memory is so many seconds after its last use."""
    used = seen(facts.figures, last + timedelta(seconds=seconds), constants)
    return heat(used, facts.importance, facts.pinned, facts.feedback, constants) - limit


def _seconds_until(facts: Facts, constants: HeatConstants, limit: float, last: datetime, warm: int) -> int | None:
    """Seconds after its last use from which on a memory is not warmer than `limit`, of which `warm` are too few; None
    for never.

    Between two times it is looked where a straight line would fall to the limit, and in their geometric middle, by
    turns.
    """
    early, late = warm, max(_MOST_S, warm + 1)
    over, under = _excess(facts, constants, limit, last, early), _excess(facts, constants, limit, last, late)
    if under > 0:
        return None
    by_line = False
    while late - early > 1 and over > 0:
        at = early + int((late - early) * over / (over - under)) if by_line else isqrt(max(early, 1) * late)
        at = min(max(at, early + 1), late - 1)
        excess = _excess(facts, constants, limit, last, at)
        early, over, late, under = (at, excess, late, under) if excess > 0 else (early, over, at, excess)
        by_line = not by_line
    return late if over > 0 else early + 1


def protection(facts: Facts) -> str | None:
    """Why nothing automatic happens to the memory; None if it may."""
    if facts.state is State.FROZEN:
        return "it is frozen"
    if facts.policy.hold:
        return "it is under a legal hold"
    if facts.state not in ENDABLE:
        return f"it is {facts.state}"
    return "it is pinned" if facts.pinned else None


_ALIKE = {"deduplicate": Action.DEDUPLICATE, "merge": Action.MERGE, "conflict": Action.CONFLICT}


def _alike(likeness: Likeness | None, sure: float | None) -> Verdict | None:
    """What is sure enough to be done by itself; the rest waits for somebody's approval."""
    if likeness is None or sure is None or likeness.score < sure or likeness.kind not in _ALIKE:
        return None
    return Verdict(_ALIKE[likeness.kind], f"{likeness.reason} ({likeness.score:.2f})")


def _is_activated(facts: Facts) -> bool:
    """Whether it was used and is not noted as used; not where somebody took that back since."""
    used = facts.state is State.GENERATED and facts.last_used is not None
    return used and (facts.brought_back is None or facts.last_used > facts.brought_back)  # type: ignore[operator]


def _form(facts: Facts, context: Context, now: datetime) -> Verdict:
    if facts.form is None or context.room is None:
        return Verdict(Action.KEEP, "")
    judged = forms.judge(facts.form, context.room, facts.uses, facts.created, facts.last_used, now)
    taken_back = facts.brought_back is not None and (facts.last_used is None or facts.last_used <= facts.brought_back)
    if judged.action == "promote" and taken_back:
        return Verdict(Action.KEEP, "somebody took its form back, and it was not used since")
    return Verdict(Action(judged.action), judged.reason, judged.again)
