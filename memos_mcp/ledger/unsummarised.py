"""Keeps which conversations have turns that no summary covers as they are now.

Knows no texts: a conversation is a digest within its space and one of its turns, with the time of what came last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from memos_mcp.ledger.life_schema import unsummarised

_PART = 500
_DONE = delete(unsummarised).where(
    unsummarised.c.space == bindparam("of_space"), unsummarised.c.conversation == bindparam("of_conversation")
)


@dataclass(frozen=True)
class Waiting:
    """A conversation: `turn` is the number of one of its memories; `at` when it last changed, "" for at once."""

    space: int
    conversation: str
    turn: int
    at: str


def mark(connection: Connection, rows: Sequence[Waiting]) -> None:
    """Note that these wait; of one conversation the last counts."""
    latest = {(row.space, row.conversation): row for row in rows}
    if latest:
        connection.execute(_DONE, [{"of_space": space, "of_conversation": key} for space, key in latest])
        connection.execute(insert(unsummarised), [vars(row) for row in latest.values()])


def due(connection: Connection, before: str) -> Waiting | None:
    """The conversation that has rested longest, if it has since `before`."""
    query = select(unsummarised).where(unsummarised.c.at <= before).order_by(unsummarised.c.at, unsummarised.c.turn)
    row = connection.execute(query.limit(1)).first()
    return Waiting(**row._mapping) if row else None


def first(connection: Connection) -> str | None:
    """Since when the conversation rests that has rested longest; None if none waits."""
    found = connection.execute(select(func.min(unsummarised.c.at))).scalar()
    return None if found is None else str(found)


def settle(connection: Connection, row: Waiting) -> None:
    """Note that a conversation is done, unless it changed since it was read."""
    same = (unsummarised.c.space == row.space) & (unsummarised.c.conversation == row.conversation)
    connection.execute(delete(unsummarised).where(same, unsummarised.c.at == row.at))


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget the conversations that are known by one of these memories."""
    for start in range(0, len(seqs), _PART):
        part = list(seqs[start : start + _PART])
        connection.execute(delete(unsummarised).where(unsummarised.c.turn.in_(part)))
