"""What a caller sees and changes of working memory: the set of the session, and what was put there to stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from memos_mcp.cube import TEXTLESS, Cube
from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, transitions
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.results import PromoteResult
from memos_mcp.working.memory import MOST_PROMOTED

TO_WORKING, FROM_WORKING = "to working", "out of working"
"""Reasons of the operations that put memories into working memory, or take them out of it and of nothing else."""
SHOWN = 200


def put_in(parts: Parts, caller: Caller, ids: Sequence[str]) -> PromoteResult:
    """Put memories into the caller's working memory, where they stay until they are taken out.

    Raises:
        NotFound: not the caller's. Conflict: a memory that is over, secret or no text, or there are too many.
    """
    with parts.ledger.write() as connection:
        cubes = cubes_for(parts, connection, caller, ids, "read")
        _require_text(cubes, parts.stamp())
        held = transitions.promoted(connection, caller.principal)
        fresh = [cube for cube in cubes if cube.seq not in held]
        if not fresh:
            return {"moved": [], "op": None}
        if len(held) + len(fresh) > MOST_PROMOTED:
            raise Conflict(
                f"Working memory holds {len(held)} memories that were put there, and at most {MOST_PROMOTED} can be: "
                "take some out first (memory_promote to=plaintext); the resource memos://working names them."
            )
        op = begun(parts, caller, "promote", TO_WORKING)
        transitions.put_in(connection, caller.principal, [cube.seq for cube in fresh], op.id)
        result: PromoteResult = {"moved": [cube.id for cube in fresh], "op": op.id}
        operations.record(connection, op, [Change(cube.id, None, None, None, None) for cube in fresh], result)
    parts.working.refill(caller)
    return result


def take_out(connection: Connection, caller: Caller, seqs: Sequence[int], op: Operation, held: set[int]) -> None:
    """Take memories out, in an operation that took those `held` out of activation too."""
    transitions.take_out(connection, caller.principal, seqs, op.id, held)


def inside(connection: Connection, caller: Caller) -> set[int]:
    """Numbers of the memories that the caller put into working memory."""
    return set(transitions.promoted(connection, caller.principal))


def listed(parts: Parts, caller: Caller) -> dict[str, Any]:
    """The working set of the caller's session, the likeliest first, with the reason for each memory."""
    return {
        "size": parts.working.size,
        "memories": [
            {
                "id": cube.id,
                "uri": cube.uri,
                "kind": cube.snapshot.kind,
                "version": cube.version,
                "why": held.why,
                "chance": held.chance,
                "text": cube.snapshot.content[:SHOWN],
            }
            for cube, held in parts.working.of(caller)
        ],
    }


def _require_text(cubes: Sequence[Cube], now: str) -> None:
    for cube in cubes:
        if cube.snapshot.kind in TEXTLESS:
            raise Conflict(f"Memory {cube.id} is a steering vector and no text: name the memories that it is made of.")
        if not cube.is_alive(now):
            raise Conflict(f"Memory {cube.id} is over: name others.")
        if cube.snapshot.sensitivity == "secret":
            raise Conflict(f"Memory {cube.id} is secret, and secrets are held ready nowhere: name others.")
