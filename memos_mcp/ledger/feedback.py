"""Keeps what was said of memories as events among their uses, and finds the proposals that followed from it.

Knows neither what follows from feedback nor what it does to a rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from memos_mcp.ledger.schema import proposals, proposed_cubes, usage

EVENTS = ("useful", "wrong", "stale")
"""Names of events in `usage`, beside those of what was served."""


def note(connection: Connection, cube: int, event: str, at: str, principal: str) -> None:
    """Keep that somebody said this of a memory."""
    connection.execute(insert(usage), {"cube": cube, "at": at, "event": event, "principal": principal})


def said_since(connection: Connection, cube: int, event: str, principal: str, since: str) -> bool:
    """Whether this principal said this of the memory since then."""
    mine = (usage.c.cube == cube) & (usage.c.event == event) & (usage.c.principal == principal) & (usage.c.at >= since)
    return connection.execute(select(usage.c.seq).where(mine).limit(1)).first() is not None


def counts(connection: Connection, cube: int, since: str) -> Counter[str]:
    """How often what was said of the memory since then."""
    query = select(usage.c.event, func.count()).where(
        usage.c.cube == cube, usage.c.event.in_(EVENTS), usage.c.at >= since
    )
    return Counter({event: int(count) for event, count in connection.execute(query.group_by(usage.c.event))})


def take_back(connection: Connection, cube: int, event: str) -> None:
    """Forget the last time that this was said of the memory."""
    last = select(func.max(usage.c.seq)).where(usage.c.cube == cube, usage.c.event == event).scalar_subquery()
    connection.execute(delete(usage).where(usage.c.seq == last))


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
