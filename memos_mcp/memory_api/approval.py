"""What the background would do: shows it with the reasons, and has proposals approved or declined.

Knows no operator, and no kind of proposal.
"""

from __future__ import annotations

import time
from typing import Any, TypedDict

from memos_mcp import governance
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.ledger import proposals as kept_proposals
from memos_mcp.lifecycle import following, plan
from memos_mcp.lifecycle.life import Life
from memos_mcp.lifecycle.plan import Step
from memos_mcp.memory_api import proposals
from memos_mcp.memory_api.parts import Parts, life_of

SHOWN = 50
"""Steps of a space, and proposals, that are shown."""
FOLLOW_S = 2.0
"""Seconds for which what was not read yet is read before a plan is shown."""
MOST_TEXT = 200


class PlannedStep(TypedDict):
    """A verdict about a memory: what will be done, why, and when."""

    id: str
    space: str
    action: str
    reason: str
    at: str
    text: str


class ShownProposal(TypedDict):
    """A proposal that waits for approval."""

    id: str
    kind: str
    space: str
    score: float
    reason: str
    created: str
    ids: list[str]


class PlanResult(TypedDict):
    """What will be done next in the caller's spaces, and what waits for approval.

    `life` is off where nothing is done by itself; `complete` is False while changes are still being read.
    """

    life: str
    complete: bool
    steps: list[PlannedStep]
    proposals: list[ShownProposal]


class SettledResult(TypedDict):
    """What became of a proposal; `op` is the operation that carried it out, which can be undone."""

    proposal: str
    state: str
    op: str | None


def show(parts: Parts, caller: Caller, space: str | None = None) -> PlanResult:
    """What the background would do next in a space, or in all that the caller may read, soonest first.

    Raises:
        NotFound: no such space, or not the caller's to see.
    """
    life = life_of(parts)
    complete = _follow(life)
    now = parts.now()
    with parts.ledger.read() as connection:
        spaces = governance.readable_spaces(connection, caller, [space] if space is not None else None)
        numbers = {one.id: one.name for one in spaces}
        steps: dict[str, Step] = {}
        for number in numbers:
            found = plan.upcoming(life, connection, number, now, SHOWN) + plan.crowded(
                life, connection, now, number
            ).steps
            for step in found:
                steps.setdefault(step.id, step)
        ordered = sorted(steps.values(), key=lambda step: (step.at, step.cube))[:SHOWN]
        cubes = parts.vault.by_ids(connection, [step.id for step in ordered])
        waiting = kept_proposals.waiting(connection, list(numbers), SHOWN)
        named = parts.vault.by_seqs(connection, [seq for one in waiting for seq, _ in one.cubes])
    return {
        "life": "on" if life.enabled else "off",
        "complete": complete,
        "steps": [
            {"id": step.id, "space": numbers[step.space], "action": str(step.action), "reason": step.reason,
             "at": step.at, "text": cubes[step.id].snapshot.content[:MOST_TEXT]}
            for step in ordered if step.id in cubes
        ],
        "proposals": [
            {"id": one.id, "kind": one.kind, "space": numbers[one.space], "score": one.score, "reason": one.reason,
             "created": one.created, "ids": [named[seq].id for seq, _ in one.cubes if seq in named]}
            for one in waiting
        ],
    }  # fmt: skip


def settle_proposal(parts: Parts, caller: Caller, arguments: dict[str, Any]) -> SettledResult:
    """Approve or decline, as the arguments `approve` or `decline` name a proposal.

    Raises:
        InvalidInput: neither or both are given.
    """
    chosen = {key: str(arguments[key]).strip() for key in ("approve", "decline") if arguments.get(key)}
    if len(chosen) != 1:
        raise InvalidInput("Name one proposal, to approve or to decline: `memos-mcp plan` lists those that wait.")
    key, name = chosen.popitem()
    if key == "approve":
        done = proposals.approve(parts, caller, name)
        return {"proposal": name, "state": "done", "op": done["op"]}
    proposals.decline(parts, caller, name)
    return {"proposal": name, "state": "declined", "op": None}


def _follow(life: Life) -> bool:
    """Read what was not read yet, a bounded time; False if more is left."""
    end = time.monotonic() + FOLLOW_S
    if not life.ledger.read_only:
        while following.follow(life):
            if time.monotonic() > end:
                break
    with life.ledger.read() as connection:
        return following.up_with(life, connection)
