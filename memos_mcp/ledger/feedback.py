"""Keeps what was said of memories, each time that it was, and finds the proposals that followed from it.

Knows neither what follows from feedback nor what it does to a rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from memos_mcp.ledger.life_schema import feedback
from memos_mcp.ledger.schema import proposals, proposed_cubes

_PART = 500



def note(connection: Connection, cube: int, event: str, at: str, principal: str) -> None:
    """Keep that somebody said this of a memory."""
    connection.execute(insert(feedback), {"cube": cube, "at": at, "said": event, "principal": principal})


def said_since(connection: Connection, cube: int, event: str, principal: str, since: str) -> bool:
    """Whether this principal said this of the memory since then."""
    mine = (feedback.c.cube == cube) & (feedback.c.said == event) & (feedback.c.at >= since)
    query = select(feedback.c.seq).where(mine, feedback.c.principal == principal)
    return connection.execute(query.limit(1)).first() is not None


def counts(connection: Connection, cube: int, since: str) -> Counter[str]:
    """How often what was said of the memory since then."""
    query = select(feedback.c.said, func.count()).where(feedback.c.cube == cube, feedback.c.at >= since)
    return Counter({said: int(count) for said, count in connection.execute(query.group_by(feedback.c.said))})


def take_back(connection: Connection, cube: int, event: str) -> None:
    """Forget the last time that this was said of the memory."""
    last = select(func.max(feedback.c.seq)).where(feedback.c.cube == cube, feedback.c.said == event)
    connection.execute(delete(feedback).where(feedback.c.seq == last.scalar_subquery()))


def open_proposals(connection: Connection, cube: int, kinds: Sequence[str]) -> dict[str, str]:
    """Ids of open proposals about the memory in any version, by kind."""
    query = (
        select(proposals.c.id, proposals.c.kind)
        .join(proposed_cubes, proposed_cubes.c.proposal == proposals.c.id)
        .where(proposed_cubes.c.cube == cube, proposals.c.state == "open", proposals.c.kind.in_(kinds))
    )
    return {row.kind: row.id for row in connection.execute(query)}


def withdraw(connection: Connection, proposal: str) -> None:
    """Forget a proposal, so that it may be made again."""
    connection.execute(delete(proposed_cubes).where(proposed_cubes.c.proposal == proposal))
    connection.execute(delete(proposals).where(proposals.c.id == proposal))


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget what was said of these memories."""
    for start in range(0, len(seqs), _PART):
        connection.execute(delete(feedback).where(feedback.c.cube.in_(seqs[start : start + _PART])))
