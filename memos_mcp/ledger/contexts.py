"""Keeps which memories, in which versions, stand in which order in a prompt that goes on from turn to turn.

Knows no texts and decides nothing: lines are rows, as `schema.context_lines` names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import PINNED, context_lines, contexts, cubes
from memos_mcp.states import LIVE

MOST = 200
"""Prompts kept of one principal, the latest used."""


@dataclass(frozen=True)
class Kept:
    """A prompt as it was left: whose it is, when it was used, and its lines in order; `id` 0: not kept yet."""

    principal: str
    spaces: str
    host: str
    task: str
    budget: int
    used: str = ""
    turn: int = 0
    debt: float = 0.0
    next_number: int = 1
    id: int = 0
    lines: Sequence[Mapping[str, Any]] = field(default=())


def find(connection: Connection, wanted: Kept) -> Kept | None:
    """The prompt of this principal, these spaces and this host; of another host, with the same task and budget, a copy
    that is not kept yet. None: there is neither."""
    same = (contexts.c.principal == wanted.principal) & (contexts.c.spaces == wanted.spaces)
    latest = select(contexts).where(same).order_by(contexts.c.used.desc(), contexts.c.id.desc()).limit(1)
    row = connection.execute(latest.where(contexts.c.host == wanted.host)).first()
    own = row is not None
    if row is None:
        alike = (contexts.c.task == wanted.task) & (contexts.c.budget == wanted.budget)
        row = connection.execute(latest.where(alike)).first()
    if row is None:
        return None
    lines = select(context_lines).where(context_lines.c.context == row.id).order_by(context_lines.c.place)
    found = [
        {name: value for name, value in one._mapping.items() if name not in ("context", "place")}
        for one in connection.execute(lines)
    ]
    kept = {**row._mapping, "id": row.id if own else 0, "host": wanted.host}
    return Kept(**kept, lines=found)


def keep(connection: Connection, kept: Kept) -> None:
    """Write the prompt down in place of what was kept of it; of one principal only the latest `MOST` stay."""
    row = {name: value for name, value in vars(kept).items() if name not in ("id", "lines")}
    if kept.id:
        connection.execute(update(contexts).where(contexts.c.id == kept.id).values(row))
        connection.execute(delete(context_lines).where(context_lines.c.context == kept.id))
        number = kept.id
    else:
        number = dialect.insert_row(connection, contexts, row)
        mine = select(contexts.c.id).where(contexts.c.principal == kept.principal)
        _drop(connection, contexts.c.id.in_(mine.order_by(contexts.c.used.desc()).offset(MOST)))
    if kept.lines:
        rows = [{**line, "context": number, "place": place} for place, line in enumerate(kept.lines)]
        connection.execute(insert(context_lines), rows)


def forget_unused(connection: Connection, before: str) -> None:
    """Drop the prompts that nobody has used since then."""
    _drop(connection, contexts.c.used < before)


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Take memories out of every prompt."""
    for start in range(0, len(seqs), 500):
        connection.execute(delete(context_lines).where(context_lines.c.seq.in_(seqs[start : start + 500])))


def pinned(connection: Connection, spaces: Sequence[int], limit: int) -> list[int]:
    """Numbers of at most `limit` live memories of the spaces that may be pinned; their snapshots say which are."""
    live = cubes.c.space.in_(spaces) & cubes.c.state.in_(LIVE) & cubes.c.superseded_by.is_(None)
    query = select(cubes.c.seq).where(PINNED, live).order_by(cubes.c.seq).limit(limit)
    return list(connection.execute(query).scalars())


def _drop(connection: Connection, which: Any) -> None:
    doomed = select(contexts.c.id).where(which)
    connection.execute(delete(context_lines).where(context_lines.c.context.in_(doomed)))
    connection.execute(delete(contexts).where(contexts.c.id.in_(doomed)))
