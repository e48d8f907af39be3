"""What the background would do: shows it with the reasons, and has proposals approved or declined.

Knows no operator: who carries a kind of proposal out joins the table `CARRIERS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.errors import Conflict, InvalidInput, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import proposals
from memos_mcp.ledger.proposals import Proposal
from memos_mcp.lifecycle import following, plan
from memos_mcp.lifecycle.life import CLIENT, Life, under_hold
from memos_mcp.lifecycle.plan import Step
from memos_mcp.memory_api.parts import Parts
from memos_mcp.policies.lifecycle import SURE
from memos_mcp.states import LIVE, State

SHOWN = 50
"""Steps of a space, and proposals, that are shown."""
FOLLOW_S = 2.0
"""Seconds for which what was not read yet is read before a plan is shown."""
MOST_TEXT = 200


@dataclass(frozen=True)
class CarriedOut:
    """What carrying a proposal out did: its operation, and the memories that it changed or made."""

    op: str
    cubes: Sequence[Cube]


Carry = Callable[[Parts, Connection, Caller, Proposal, list[Cube]], CarriedOut]
"""Does what a proposal says with its memories, in the caller's transaction, and records the operation."""
CARRIERS: dict[str, Carry] = {}
"""Who carries out which kind of proposal. A kind without an entry waits for a person, who can decline it."""


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
        waiting = proposals.waiting(connection, list(numbers), SHOWN)
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


def approve(parts: Parts, caller: Caller, proposal: str) -> SettledResult:
    """Carry a proposal out, in one transaction with the note that it is done.

    Raises:
        NotFound: no such proposal for this caller. AccessDenied: readable, no more. Conflict: it was settled, its
            memories have changed since, or nobody can carry it out.
    """
    with parts.ledger.write() as connection:
        found = _open(parts, connection, caller, proposal)
        cubes = _unchanged(parts, connection, found)
        carry = CARRIERS.get(found.kind)
        if carry is None:
            raise Conflict(
                f"This version cannot carry out proposals of kind {found.kind!r}: do it by hand, or decline it "
                f"(memos-mcp plan --decline {found.id})."
            )
        done = carry(parts, connection, caller, found, cubes)
        proposals.settle(connection, found.id, "done", parts.stamp(), done.op)
    parts.changed(caller, done.cubes, listing=True)
    return {"proposal": found.id, "state": "done", "op": done.op}


def decline(parts: Parts, caller: Caller, proposal: str) -> SettledResult:
    """Note that a proposal is not to be carried out; the same is not proposed again. Raises as `approve` does."""
    with parts.ledger.write() as connection:
        found = _open(parts, connection, caller, proposal)
        proposals.settle(connection, found.id, "declined", parts.stamp())
    return {"proposal": found.id, "state": "declined", "op": None}


def carry_out_surely(parts: Parts, proposal: str) -> bool:
    """Carry a proposal out that is sure enough, in the name of the space's owner; False if it waits for approval."""
    with parts.ledger.read() as connection:
        found = proposals.find(connection, proposal)
        if found is None or found.state != "open" or found.score < SURE or found.kind not in CARRIERS:
            return False
        space = governance.space_of(connection, found.space)
    try:
        approve(parts, Caller(space.owner, space.name, CLIENT), proposal)
    except Conflict:  # a memory is protected, or was changed in this moment
        return False
    return True


def life_of(parts: Parts) -> Life:
    """The store's life of memories; of one that nobody configured, by the thresholds that hold where nothing is set."""
    return parts.life or Life(parts.ledger, parts.vault, parts.now, parts.activation, enabled=False)


def settle_proposal(parts: Parts, caller: Caller, arguments: dict[str, Any]) -> SettledResult:
    """Approve or decline, as the arguments `approve` or `decline` name a proposal.

    Raises:
        InvalidInput: neither or both are given.
    """
    chosen = {key: str(arguments[key]).strip() for key in ("approve", "decline") if arguments.get(key)}
    if len(chosen) != 1:
        raise InvalidInput("Name one proposal, to approve or to decline: `memos-mcp plan` lists those that wait.")
    key, name = chosen.popitem()
    return approve(parts, caller, name) if key == "approve" else decline(parts, caller, name)


def _follow(life: Life) -> bool:
    """Read what was not read yet, a bounded time; False if more is left."""
    end = time.monotonic() + FOLLOW_S
    if not life.ledger.read_only:
        while following.follow(life):
            if time.monotonic() > end:
                break
    with life.ledger.read() as connection:
        return following.up_with(life, connection)


def _open(parts: Parts, connection: Connection, caller: Caller, proposal: str) -> Proposal:
    found = proposals.find(connection, proposal)
    unknown = NotFound("proposal", [proposal[:60]], "`memos-mcp plan` lists those that wait.")
    if found is None:
        raise unknown
    space = governance.space_of(connection, found.space)
    if not governance.may(connection, caller.principal, "read", space):
        raise unknown
    governance.require(connection, caller, "write", space)
    if found.state != "open":
        done = f", by operation {found.op}" if found.op else ""
        raise Conflict(f"Proposal {found.id} is {found.state} already{done}.")
    return found


def _unchanged(parts: Parts, connection: Connection, proposal: Proposal) -> list[Cube]:
    """The proposal's memories in its order, if each is live and as it was when it was proposed."""
    known = parts.vault.by_seqs(connection, [seq for seq, _ in proposal.cubes])
    cubes = [known[seq] for seq, version in proposal.cubes if seq in known and known[seq].version == version]
    if len(cubes) != len(proposal.cubes) or any(cube.state not in LIVE for cube in cubes):
        raise Conflict(
            f"The memories of proposal {proposal.id} have changed since: decline it "
            f"(memos-mcp plan --decline {proposal.id}); what still holds is proposed anew."
        )
    frozen = [cube.id for cube in cubes if cube.state is State.FROZEN]
    held = [cube.id for cube in under_hold(life_of(parts), connection, cubes)]
    if frozen or held:
        why = "frozen: thaw it first" if frozen else "under a legal hold, which nothing changes"
        raise Conflict(f"Memory {(frozen or held)[0]} is {why}.")
    return cubes
