"""Plans what is to become of memories: those whose time has come, those that crowd a space, and those that come next.

Knows nothing of carrying out: a plan holds ids, versions, verdicts and reasons, so that what has changed since it was
made is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection

from memos_mcp.cube import Cube, instant
from memos_mcp.ledger import reviews
from memos_mcp.ledger.reviews import Review
from memos_mcp.lifecycle.life import Judge, Life, not_before
from memos_mcp.policies import lifecycle
from memos_mcp.policies.lifecycle import Action, Facts
from memos_mcp.policies.retention import Beyond, Held, Rules, retain
from memos_mcp.states import State

BATCH = 16
"""Memories that are judged for one plan."""
CROWDING = 64
"""Memories of a crowded space that are compared with each other at a time."""
LATER = timedelta(minutes=1)
"""After which what could not be settled is looked at again."""


@dataclass(frozen=True)
class Step:
    """A verdict about a memory in a version and a state; `at`: when it is due. `proposal`: the one that it follows."""

    cube: int
    id: str
    version: int
    state: State
    space: int
    action: Action
    reason: str
    at: str
    proposal: str | None = None


@dataclass(frozen=True)
class Plan:
    """`steps` in the order of carrying out; `later`: when memories that stay as they are are looked at again."""

    steps: list[Step] = field(default_factory=list)
    later: dict[int, str | None] = field(default_factory=dict)

    @property
    def looked(self) -> int:
        """How many memories were judged."""
        return len(self.steps) + len(self.later)


def due(life: Life, connection: Connection, now: datetime, limit: int = BATCH) -> Plan:
    """What is to be done by `now`. Low priority is archived first, and high is promoted first."""
    return planned(life, connection, reviews.due(connection, instant(now), limit), now)


def planned(life: Life, connection: Connection, rows: Sequence[Review], now: datetime) -> Plan:
    """What is to become of these memories by `now`."""
    plan, judge, known, facts = _known(life, connection, rows)
    for cube in sorted(known.values(), key=lambda cube: _place(cube, facts[cube.seq])):
        verdict = judge.decide(facts[cube.seq], now)
        if verdict.action is Action.KEEP:
            plan.later[cube.seq] = None if verdict.again is None else not_before(verdict.again)
            continue
        likeness = facts[cube.seq].likeness
        proposal = likeness.proposal if likeness is not None and verdict.action in _OF_PROPOSALS else None
        plan.steps.append(_step(cube, verdict.action, verdict.reason, instant(now), proposal))
    return plan


def upcoming(life: Life, connection: Connection, space: int, now: datetime, limit: int) -> list[Step]:
    """What will be done in a space next if nothing happens, each when its time comes, the first first."""
    rows = reviews.of_space(connection, space, limit)
    plan, judge, known, facts = _known(life, connection, rows)
    for row in rows:
        cube = known.get(row.cube)
        if cube is None or row.at is None:
            continue
        at = max(datetime.fromisoformat(row.at), now)
        verdict = judge.decide(facts[cube.seq], at)
        if verdict.action is not Action.KEEP:
            plan.steps.append(_step(cube, verdict.action, verdict.reason, instant(at)))
    return plan.steps


def crowded(life: Life, connection: Connection, now: datetime, space: int | None = None) -> Plan:
    """What leaves a space because it holds more memories, or more bytes, than its policy lets it; of one or of all."""
    judge = Judge(life, connection)
    plan = Plan()
    for one in [space] if space is not None else judge.limited():
        plan.steps.extend(_crowding(life, connection, judge, one, now))
        if len(plan.steps) >= BATCH and space is None:
            break
    return plan


def _crowding(life: Life, connection: Connection, judge: Judge, space: int, now: datetime) -> list[Step]:
    wanted = judge.of_space(space)
    rules = Rules(
        memories=wanted.most_memories, size=None if wanted.most_mb is None else wanted.most_mb * 1_000_000
    )
    memories, size = reviews.size_of(connection, space)
    over = memories > (rules.memories or memories) or size > (rules.size or size)
    if not over:
        return []
    rows = reviews.of_space(connection, space, CROWDING)
    rows += reviews.undated(connection, space, CROWDING) if len(rows) < CROWDING else []
    rows = [row for row in rows if row.size is not None]
    known = life.vault.by_seqs(connection, [row.cube for row in rows])
    facts = judge.facts(list(known.values()), {row.cube: row for row in rows})
    held = [_held(known[row.cube], facts[row.cube], row, life, now) for row in rows if row.cube in known]
    beyond = Beyond(memories - len(held), size - sum(one.size for one in held))
    by_id = {cube.id: cube for cube in known.values()}
    leaving = retain(held, rules, beyond).archived[:BATCH]
    return [_step(by_id[one.id], Action.ARCHIVE, one.reason, instant(now)) for one in leaving]


def _held(cube: Cube, facts: Facts, row: Review, life: Life, now: datetime) -> Held:
    day = timedelta(days=1)
    since = max(at for at in (facts.changed, facts.brought_back, facts.last_used) if at is not None)
    lasting = lifecycle.protection(facts) or facts.lasting or facts.policy.lifetime == "keep"
    return Held(
        cube.id, (now - since) / day, (now - facts.created) / day, lifecycle.warmth(facts, life.context, now),
        row.size or 0, facts.priority, facts.importance, bool(lasting) or not facts.stands,
    )  # fmt: skip


_OF_PROPOSALS = (Action.DEDUPLICATE, Action.MERGE, Action.CONFLICT)


def _known(
    life: Life, connection: Connection, rows: Sequence[Review]
) -> tuple[Plan, Judge, dict[int, Cube], dict[int, Facts]]:
    """An empty plan, who judges, and what is known of the memories that are still there."""
    judge = Judge(life, connection)
    known = life.vault.by_seqs(connection, [row.cube for row in rows])
    return Plan(), judge, known, judge.facts(list(known.values()), {row.cube: row for row in rows})


def _place(cube: Cube, facts: Facts) -> tuple[bool, float, int]:
    """High priority is promoted before low, and low archived before high: what could be promoted comes first."""
    may_rise = facts.form is not None and facts.form.held == "no"
    return not may_rise, -facts.priority if may_rise else facts.priority, cube.seq


def _step(cube: Cube, action: Action, reason: str, at: str, proposal: str | None = None) -> Step:
    return Step(cube.seq, cube.id, cube.version, cube.state, cube.space, action, reason, at, proposal)
