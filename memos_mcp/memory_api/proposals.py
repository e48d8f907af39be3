"""Carries out what the scheduler proposed, or declines it: on a caller's approval, by the kind of the proposal.

Knows nothing of how proposals come about. A newcomer adds a kind with an entry in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.errors import AccessDenied, Conflict, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, proposals
from memos_mcp.ledger.operations import Operation
from memos_mcp.ledger.proposals import Proposal
from memos_mcp.memory_api import fuse
from memos_mcp.memory_api.parts import Parts, begun

MERGE = "merge"
SHOWN_CHARS = 200
ADVICE = "memos://proposals lists those that are open."


@dataclass(frozen=True)
class Carried:
    """What a proposal's operation wrote, and what is to follow the commit beside telling of it."""

    cubes: Sequence[Cube]
    follow: Callable[[], None] = lambda: None


Carry = Callable[[Parts, Connection, Operation, Sequence[Cube], bool], Carried]
"""Does what is proposed with these memories and records the operation; the last argument: nobody was asked."""


def merge(parts: Parts, connection: Connection, op: Operation, cubes: Sequence[Cube], automatic: bool) -> Carried:
    """Fuse near-duplicates with their own sentences.

    Raises:
        Conflict: one of them cannot be merged any more.
    """
    fuse.require_fusible(parts, connection, cubes)
    draft = fuse.drafted(cubes, fuse.text_of(cubes))
    done = fuse.carry_out(parts, connection, op, cubes, draft, None, "absorb" if automatic else "merge")
    operations.record(connection, op, done.changes, fuse.result_of(done, op))
    return Carried(done.all, fuse.states_follow(parts, connection, done.sources, [done.cube]))


KINDS: dict[str, Carry] = {MERGE: merge}
"""How each kind of proposal is carried out."""


def approve(parts: Parts, caller: Caller, proposal_id: str) -> dict[str, Any]:
    """Carry an open proposal out in the caller's name; {proposal, kind, cubes, op}.

    A request is not repeated: what was approved once is settled.

    Raises:
        NotFound: no such proposal, or about memories that are not the caller's to read. AccessDenied: not to write.
        Conflict: it is settled, or its memories have changed since: then it is declined.
    """
    with parts.ledger.write() as connection:
        proposal = _open(connection, caller, proposal_id)
        cubes = standing(parts, connection, proposal)
        carried = None
        if cubes is None or proposal.kind not in KINDS:
            proposals.settle(connection, proposal.id, "declined", parts.stamp())
        else:
            verb = _VERBS.get(proposal.kind, proposal.kind)
            op = begun(parts, replace(caller, request=None), verb, f"approved: {proposal.reason}")
            carried = KINDS[proposal.kind](parts, connection, op, cubes, False)
            proposals.settle(connection, proposal.id, "done", parts.stamp(), op.id)
    if carried is None or cubes is None:
        raise Conflict(f"Proposal {proposal.id} is declined: its memories have changed since it was made. {ADVICE}")
    parts.changed(caller, carried.cubes, listing=True)
    carried.follow()
    return {"proposal": proposal.id, "kind": proposal.kind, "cubes": [cube.id for cube in carried.cubes], "op": op.id}


_VERBS = {MERGE: "fuse"}


def decline(parts: Parts, caller: Caller, proposal_id: str) -> dict[str, Any]:
    """Settle an open proposal without carrying it out: it is not made again. Raises as `approve` does."""
    with parts.ledger.write() as connection:
        proposal = _open(connection, caller, proposal_id)
        proposals.settle(connection, proposal.id, "declined", parts.stamp())
        cubes = list(parts.vault.by_seqs(connection, [seq for seq, _ in proposal.cubes]).values())
    tell(parts, cubes)
    return {"proposal": proposal.id, "kind": proposal.kind, "declined": True}


def waiting(parts: Parts, caller: Caller) -> list[dict[str, Any]]:
    """The open proposals about memories that the caller may change, best first; those overtaken are left out."""
    with parts.ledger.read() as connection:
        spaces = [
            space
            for space in governance.list_spaces(connection, caller)
            if governance.may(connection, caller.principal, "write", space)
        ]
        names = {space.id: space.name for space in spaces}
        found = [
            (proposal, cubes)
            for proposal in proposals.waiting(connection, list(names))
            if (cubes := standing(parts, connection, proposal)) is not None
        ]
    return [_told(proposal, names[proposal.space], cubes) for proposal, cubes in found]


def standing(parts: Parts, connection: Connection, proposal: Proposal) -> list[Cube] | None:
    """The proposal's memories in their order; None if one has changed since, or is not live any more."""
    found = parts.vault.by_seqs(connection, [seq for seq, _ in proposal.cubes])
    now = parts.stamp()
    same = all(
        seq in found and found[seq].version == version and found[seq].is_alive(now) for seq, version in proposal.cubes
    )
    return [found[seq] for seq, _ in proposal.cubes] if same else None


def tell(parts: Parts, cubes: Sequence[Cube]) -> None:
    """Tell whoever watches the proposals that there are others now."""
    parts.events.publish([cube.id for cube in cubes], [(cube.space, cube.space_name) for cube in cubes], listing=False)


def _open(connection: Connection, caller: Caller, proposal_id: str) -> Proposal:
    proposal = proposals.find(connection, proposal_id)
    space = governance.space_of(connection, proposal.space) if proposal is not None else None
    if proposal is None or space is None or not governance.may(connection, caller.principal, "read", space):
        raise NotFound("proposal", [proposal_id], ADVICE)
    if not governance.may(connection, caller.principal, "write", space):
        raise AccessDenied(caller.principal, "write", f"space {space.name!r}")
    if proposal.state != "open":
        by = f" by operation {proposal.op}" if proposal.op else ""
        raise Conflict(f"Proposal {proposal.id} is {proposal.state} already{by}: {ADVICE}")
    return proposal


def _told(proposal: Proposal, space: str, cubes: Sequence[Cube]) -> dict[str, Any]:
    return {
        "id": proposal.id,
        "kind": proposal.kind,
        "space": space,
        "score": proposal.score,
        "reason": proposal.reason,
        "created": proposal.created,
        "memories": [
            {"id": cube.id, "uri": cube.uri, "version": cube.version, "text": cube.snapshot.content[:SHOWN_CHARS]}
            for cube in cubes
        ],
    }
