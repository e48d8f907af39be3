"""Carries a plan out in one transaction, as an operation a space that can be taken back.

Knows no rule: what a plan says is done where the memory is as the plan knew it, and left where it is not. Carried out
twice, a plan is carried out once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, instant
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, reviews
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.lifecycle.life import CLIENT, TARGET, Life, under_hold
from memos_mcp.lifecycle.plan import LATER, Plan, Step
from memos_mcp.policies.lifecycle import Action
from memos_mcp.states import State

VERB = "life"
MOVES: dict[Action, tuple[State, str]] = {
    Action.ACTIVATE: (State.ACTIVATED, "use"),
    Action.ARCHIVE: (State.ARCHIVED, "cool"),
    Action.EXPIRE: (State.EXPIRED, "expire"),
}
"""Verdicts that are moves in the table of states: where to, and by which event."""
FORMS: dict[Action, str] = {Action.PROMOTE: "to activation", Action.DEMOTE: "to plaintext"}
"""Verdicts that change a form and no version, with the reasons by which an undo knows the way back."""


@dataclass
class Carried:
    """What was done: `moved` by who is told of it, `skipped` because it has changed; `follow` after the commit."""

    done: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    moved: list[tuple[Caller, list[Cube]]] = field(default_factory=list)
    follow: list[Callable[[], None]] = field(default_factory=list)


def carry(life: Life, connection: Connection, plan: Plan) -> Carried:
    """Do what the plan says, in the caller's transaction. What follows a proposal is left to who carries proposals out.

    Raises:
        IllegalMove: the plan was not made by the rules; nothing was written.
    """
    found, now = Carried(), life.now()
    cubes = life.vault.by_seqs(connection, [step.cube for step in plan.steps])
    fit = _fit(life, connection, found, plan, cubes)
    for space in dict.fromkeys(step.space for step in fit):
        here = [step for step in fit if step.space == space]
        _move(life, connection, found, [step for step in here if step.action in MOVES], cubes)
        for action in FORMS:
            _give_form(life, connection, found, [step for step in here if step.action is action], cubes)
    later = dict(plan.later)
    later |= {step.cube: None for step in plan.steps}  # the operation is read, and what it changed judged anew
    later |= {step.cube: instant(now + LATER) for step in found.skipped}
    _note(connection, later, {step.cube: _held(step, now_text=instant(now)) for step in found.done})
    return found


def _fit(life: Life, connection: Connection, found: Carried, plan: Plan, cubes: dict[int, Cube]) -> list[Step]:
    """The steps whose memories are as the plan knew them and that may be done; the others are noted as skipped."""
    held = {cube.seq for cube in under_hold(life, connection, list(cubes.values()))}
    same = {cube.seq: (cube.version, cube.state) for cube in cubes.values() if cube.seq not in held}
    mine = [step for step in plan.steps if step.action in MOVES or step.action in FORMS]
    fit = [step for step in mine if same.get(step.cube) == (step.version, step.state)]
    found.skipped += [step for step in mine if step not in fit]
    return fit


def _move(life: Life, connection: Connection, found: Carried, steps: Sequence[Step], cubes: dict[int, Cube]) -> None:
    if not steps:
        return
    caller, op = _begun(life, connection, cubes[steps[0].cube], VERB, _reason(steps))
    made: list[tuple[Cube, Change]] = []
    for action, (target, event) in MOVES.items():
        moving = [cubes[step.cube] for step in steps if step.action is action]
        if moving:
            made += life.vault.move_all(connection, op, moving, target, event)
    operations.record(connection, op, [change for _, change in made])
    found.done += steps
    found.ops.append(op.id)
    found.moved.append((caller, [cube for cube, _ in made]))


def _give_form(
    life: Life, connection: Connection, found: Carried, steps: Sequence[Step], cubes: dict[int, Cube]
) -> None:
    activation = life.activation
    if not steps or activation is None:
        found.skipped += steps
        return
    action, seqs = steps[0].action, [step.cube for step in steps]
    promoted = reviews.promoted(connection, seqs)
    steps = [step for step in steps if (step.cube in promoted) == (action is Action.DEMOTE)]
    if not steps:
        return
    _, op = _begun(life, connection, cubes[steps[0].cube], "promote", FORMS[action])
    for step in steps:
        if action is Action.PROMOTE:
            job = activation.promote(connection, [cubes[step.cube]])
            found.follow.append(partial(activation.build, job))
        else:
            activation.demote(connection, [step.cube])
    if action is Action.DEMOTE:
        found.follow.append(partial(activation.drop_states, [step.cube for step in steps]))
    operations.record(connection, op, [Change(step.id, None, None, None, None) for step in steps])
    found.done += steps
    found.ops.append(op.id)


def _begun(life: Life, connection: Connection, cube: Cube, verb: str, reason: str) -> tuple[Caller, Operation]:
    """Who acts for the space, its owner, and a new operation of theirs."""
    space = governance.space_of(connection, cube.space)
    caller = Caller(space.owner, space.name, CLIENT)
    governance.require(connection, caller, "write", space)
    return caller, operations.begin(verb, caller.principal, CLIENT, instant(life.now()), reason)


def _reason(steps: Sequence[Step]) -> str:
    """What an operation did and why: how many of each verdict, with the reason of the first."""
    counts = Counter(step.action for step in steps)
    firsts = {step.action: step.reason for step in reversed(steps)}
    return "; ".join(f"{action} {count}: {firsts[action]}" for action, count in counts.items())


def _held(step: Step, now_text: str) -> str | None:
    """What a review keeps of the form that the scheduler gave or took, and when."""
    if step.action not in FORMS:
        return None
    return f"{TARGET if step.action is Action.PROMOTE else ''}@{now_text}"


def _note(connection: Connection, later: dict[int, str | None], held: dict[int, str | None]) -> None:
    rows = reviews.of(connection, list(later))
    reviews.put(
        connection,
        [
            reviews.Review(row.cube, row.space, later[seq], row.size, row.since, held.get(seq) or row.held)
            for seq, row in rows.items()
        ],
    )
