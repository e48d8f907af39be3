"""What the scheduler proposes to do with memories and does not do without approval.

Knows no operator: a proposal is a kind, memories in their versions, a score and a reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update
from ulid import ULID

from memos_mcp.cube import Cube
from memos_mcp.ledger.schema import proposals, proposed_cubes

_PART = 500


@dataclass(frozen=True)
class Proposal:
    """A proposal: `cubes` are numbers and versions in order; `score` 0..1; `state` is open, declined or done."""

    id: str
    kind: str
    space: int
    score: float
    reason: str
    state: str
    created: str
    op: str | None
    cubes: tuple[tuple[int, int], ...]


def propose(
    connection: Connection, kind: str, cubes: Sequence[Cube], score: float, reason: str, at: str
) -> str | None:
    """Note a proposal about memories of one space; its id, or None if the same was proposed before, however settled.

    `reason` is a sentence for a person and holds no memory's text.
    """
    key = _key(kind, cubes)
    if connection.execute(select(proposals.c.id).where(proposals.c.key == key)).first() is not None:
        return None
    row = {"id": str(ULID()), "kind": kind, "key": key, "space": cubes[0].space, "score": score, "reason": reason}
    connection.execute(insert(proposals), {**row, "state": "open", "created": at})
    rows = [
        {"proposal": row["id"], "place": place, "cube": cube.seq, "version": cube.version}
        for place, cube in enumerate(cubes)
    ]
    connection.execute(insert(proposed_cubes), rows)
    return str(row["id"])


def find(connection: Connection, proposal: str) -> Proposal | None:
    """The proposal with this id."""
    found = _load(connection, [proposal])
    return found[0] if found else None


def waiting(connection: Connection, spaces: Sequence[int], limit: int = 100) -> list[Proposal]:
    """Open proposals of these spaces, best first."""
    query = select(proposals.c.id).where(proposals.c.state == "open", proposals.c.space.in_(spaces))
    ids = connection.execute(query.order_by(proposals.c.score.desc(), proposals.c.id).limit(limit)).scalars()
    return _load(connection, list(ids))


def about(connection: Connection, seqs: Sequence[int]) -> list[Proposal]:
    """Every proposal that names one of these few memories, however settled, oldest first."""
    query = select(proposed_cubes.c.proposal).where(proposed_cubes.c.cube.in_(seqs)).distinct()
    return _load(connection, sorted(connection.execute(query).scalars()))


def settle(connection: Connection, proposal: str, state: str, at: str, op: str | None = None) -> None:
    """Note that a proposal was declined, or done by an operation."""
    values = {"state": state, "settled": at, "op": op}
    connection.execute(update(proposals).where(proposals.c.id == proposal).values(values))


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete every proposal that names one of these memories."""
    for start in range(0, len(seqs), _PART):
        part = list(seqs[start : start + _PART])
        about = select(proposed_cubes.c.proposal).where(proposed_cubes.c.cube.in_(part))
        gone = list(connection.execute(about.distinct()).scalars())
        connection.execute(delete(proposed_cubes).where(proposed_cubes.c.proposal.in_(gone)))
        connection.execute(delete(proposals).where(proposals.c.id.in_(gone)))


def _key(kind: str, cubes: Sequence[Cube]) -> str:
    named = ",".join(sorted(f"{cube.seq}@{cube.version}" for cube in cubes))
    return hashlib.blake2b(f"{kind} {named}".encode(), digest_size=16).hexdigest()


def _load(connection: Connection, ids: Sequence[str]) -> list[Proposal]:
    rows = {row.id: row for row in connection.execute(select(proposals).where(proposals.c.id.in_(ids)))}
    query = select(proposed_cubes).where(proposed_cubes.c.proposal.in_(ids)).order_by(proposed_cubes.c.place)
    named: dict[str, list[tuple[int, int]]] = {}
    for row in connection.execute(query):
        named.setdefault(row.proposal, []).append((row.cube, row.version))
    return [
        Proposal(
            row.id, row.kind, row.space, row.score, row.reason, row.state, row.created, row.op,
            tuple(named.get(row.id, ())),
        )
        for row in (rows[one] for one in ids if one in rows)
    ]  # fmt: skip
