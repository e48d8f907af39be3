"""Carries out what the scheduler proposed, or declines it: on a caller's approval, by the kind of the proposal.

Knows nothing of how proposals come about. A newcomer adds a kind with an entry in `KINDS`, or in `APART` where a verb
carries it out in its own transactions.
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
from memos_mcp.lifecycle.life import CLIENT, under_hold
from memos_mcp.memory_api import fuse, parametric, split, tiers
from memos_mcp.memory_api.parts import Parts, begun, life_of
from memos_mcp.requests import SplitRequest
from memos_mcp.states import State

MERGE, TRAIN, DEMOTE = "merge", "train", "demote"
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


def archive(parts: Parts, connection: Connection, op: Operation, cubes: Sequence[Cube], automatic: bool) -> Carried:
    """Archive the memories, as forgetting does."""
    event = "cool" if automatic else "forget"
    made = parts.vault.move_all(connection, op, cubes, State.ARCHIVED, event)
    operations.record(connection, op, [change for _, change in made])
    return Carried([cube for cube, _ in made])


def supersede(parts: Parts, connection: Connection, op: Operation, cubes: Sequence[Cube], automatic: bool) -> Carried:
    """Let the last memory take the place of the others."""
    by, made = cubes[-1], list[Cube]()
    changes = []
    for old in cubes[:-1]:
        said = replace(old.snapshot, superseded_by=by.id, valid_to=by.becomes_true)
        cube, change = parts.vault.rewrite(connection, op, old, said, None, 0)
        made.append(cube)
        changes.append(change)
    operations.record(connection, op, changes)
    return Carried(made)


def _split(parts: Parts, caller: Caller, proposal: Proposal, cubes: Sequence[Cube]) -> str | None:
    op = split.split(parts, caller, SplitRequest(id=cubes[0].id))["op"]
    with parts.ledger.write() as connection:
        proposals.settle(connection, proposal.id, "done", parts.stamp(), op)
    return op


def _to_long_term(parts: Parts, caller: Caller, proposal: Proposal, cubes: Sequence[Cube]) -> str | None:
    return next(iter(tiers.approve(parts, caller, proposal.id)), None)


def _train(parts: Parts, caller: Caller, proposal: Proposal, cubes: Sequence[Cube]) -> str | None:
    """Approving is consent: the memories are trained into an adapter of their space."""
    here = replace(caller, space=cubes[0].space_name)
    op = parametric.to_parametric(parts, here, [cube.id for cube in cubes])["op"]
    with parts.ledger.write() as connection:
        proposals.settle(connection, proposal.id, "done", parts.stamp(), op)
    return op


def _demote(parts: Parts, caller: Caller, proposal: Proposal, cubes: Sequence[Cube]) -> str | None:
    """The adapter is put away, and its memories are plaintext alone."""
    op = parametric.back(parts, caller, [cube.id for cube in cubes])["op"]
    with parts.ledger.write() as connection:
        proposals.settle(connection, proposal.id, "done", parts.stamp(), op)
    return op


KINDS: dict[str, Carry] = {MERGE: merge, "archive": archive, "supersede": supersede}
"""How each kind of proposal is carried out."""
APART: dict[str, Callable[[Parts, Caller, Proposal, Sequence[Cube]], str | None]] = {
    "split": _split, tiers.LONG_TERM: _to_long_term, TRAIN: _train, DEMOTE: _demote,
}  # fmt: skip
"""The kinds that a verb carries out and settles by itself; each gives the operation, None where there was nothing."""


def approve(parts: Parts, caller: Caller, proposal_id: str, *, automatic: bool = False) -> dict[str, Any]:
    """Carry an open proposal out in the caller's name; {proposal, kind, cubes, op}. `automatic`: nobody was asked.

    A request is not repeated: what was approved once is settled.

    Raises:
        NotFound: no such proposal, or about memories that are not the caller's to read. AccessDenied: not to write.
        Conflict: it is settled, nobody can carry it out, a memory is frozen or under a legal hold, or its memories have
            changed since: then it is declined.
    """
    with parts.ledger.read() as connection:
        proposal = _open(connection, caller, proposal_id)
        cubes = standing(parts, connection, proposal)
    if cubes is not None and proposal.kind in APART:
        op_id = APART[proposal.kind](parts, replace(caller, request=None), proposal, cubes)
        return {"proposal": proposal.id, "kind": proposal.kind, "cubes": [cube.id for cube in cubes], "op": op_id}
    with parts.ledger.write() as connection:
        proposal = _open(connection, caller, proposal_id)
        cubes = standing(parts, connection, proposal)
        carried = None
        if cubes is None:
            proposals.settle(connection, proposal.id, "declined", parts.stamp())
        else:
            _require_free(parts, connection, proposal, cubes)
            verb = _VERBS.get(proposal.kind, proposal.kind)
            reason = proposal.reason if automatic else f"approved: {proposal.reason}"
            op = begun(parts, replace(caller, request=None), verb, reason)
            carried = KINDS[proposal.kind](parts, connection, op, cubes, automatic)
            proposals.settle(connection, proposal.id, "done", parts.stamp(), op.id)
    if carried is None or cubes is None:
        raise Conflict(f"Proposal {proposal.id} is declined: its memories have changed since it was made. {ADVICE}")
    parts.changed(caller, carried.cubes, listing=True)
    carried.follow()
    return {"proposal": proposal.id, "kind": proposal.kind, "cubes": [cube.id for cube in carried.cubes], "op": op.id}


def carry_out_surely(parts: Parts, proposal_id: str) -> bool:
    """Carry a proposal out that is as sure as the store wants, in the name of the space's owner; False if it waits."""
    with parts.ledger.read() as connection:
        found = proposals.find(connection, proposal_id)
        sure = found is not None and parts.merge_from is not None and found.score >= parts.merge_from
        if found is None or not sure or found.state != "open" or found.kind not in KINDS:
            return False
        space = governance.space_of(connection, found.space)
    try:
        approve(parts, Caller(space.owner, space.name, CLIENT), proposal_id, automatic=True)
    except Conflict:  # a memory is protected, or was changed in this moment
        return False
    return True


def _require_free(parts: Parts, connection: Connection, proposal: Proposal, cubes: Sequence[Cube]) -> None:
    if proposal.kind not in KINDS:
        raise Conflict(
            f"Nobody carries out proposals of kind {proposal.kind!r} by itself: do it by hand, or decline it "
            f"(memos-mcp plan --decline {proposal.id})."
        )
    frozen = [cube.id for cube in cubes if cube.state is State.FROZEN]
    held = [cube.id for cube in under_hold(life_of(parts), connection, cubes)]
    if frozen or held:
        why = "frozen: thaw it first" if frozen else "under a legal hold, which nothing changes"
        raise Conflict(f"Memory {(frozen or held)[0]} is {why}.")


_VERBS = {MERGE: "fuse", "archive": "forget", "supersede": "update"}


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
