"""Records what operations let stand or fall: publications, published memories, subscriptions and grants.

Knows no verbs. It is to these rows what the record of changes is to memories.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from memos_mcp.ledger.channel_tables import channels, publications, published, standings, subscriptions
from memos_mcp.ledger.channels import PUBLISHED
from memos_mcp.ledger.schema import cubes, grants, operations, spaces

ACCESS = "access"
"""The entry of a grant on a whole space, whose number is the row; one on a single memory is a `grant`."""

_GRANTS = {"grant": grants.c.cube, ACCESS: grants.c.space}
_ROWS = {"publication": publications, "published": published, "subscription": subscriptions}


@dataclass(frozen=True)
class Standing:
    """What an operation let stand or fall; `principal` and `can` are of a grant alone."""

    id: int
    what: str
    row: int
    stands: bool
    principal: str | None = None
    can: str | None = None


def set_standing(connection: Connection, op: str, entries: Sequence[Standing]) -> None:
    """Let rows stand or fall, and record it as the operation's; a grant is made or deleted."""
    for one in entries:
        if one.what in _GRANTS:
            _set_grant(connection, one)
        else:
            table = _ROWS[one.what]
            connection.execute(update(table).where(table.c.id == one.row).values(stands=one.stands))
    rows = [{"op": op, **{k: v for k, v in vars(one).items() if k != "id"}} for one in entries]
    if rows:
        connection.execute(insert(standings), rows)


def stands(connection: Connection, one: Standing) -> bool | None:
    """Whether the entry's row stands now; None when it is gone."""
    if one.what in _GRANTS:
        of = cubes.c.seq if one.what == "grant" else spaces.c.id
        if connection.execute(select(of).where(of == one.row)).first() is None:
            return None
        return connection.execute(select(grants.c.id).where(_grant(one))).first() is not None
    table = _ROWS[one.what]
    found = connection.execute(select(table.c.stands).where(table.c.id == one.row)).first()
    return None if found is None else bool(found.stands)


def entries_of(connection: Connection, op: str) -> list[Standing]:
    """What an operation let stand or fall, in order."""
    return _entries(connection, standings.c.op == op, -1)


def entries_after(connection: Connection, number: int, limit: int) -> list[Standing]:
    """The next entries above a number, in order."""
    return _entries(connection, standings.c.id > number, limit)


def concerned_since(connection: Connection, space: int, at: str) -> list[int]:
    """Numbers of the space's memories that were published by name, withdrawn, shared or shared no more after a time."""
    done = select(operations.c.id).where(operations.c.at > at)
    one = select(published.c.cube).join(standings, standings.c.row == published.c.id)
    one = one.where(standings.c.what == "published", standings.c.op.in_(done))
    named = select(standings.c.row).join(publications, publications.c.id == standings.c.row)
    named = named.where(standings.c.what == "publication", standings.c.op.in_(done), publications.c.query.is_(None))
    whole = select(published.c.cube).where(published.c.publication.in_(named))
    other = select(standings.c.row).where(standings.c.what == "grant", standings.c.op.in_(done))
    here = cubes.c.space + 0 == space  # as a sum, it is no reason to read the space's index from end to end
    query = select(cubes.c.seq).where(cubes.c.seq.in_(one) | cubes.c.seq.in_(whole) | cubes.c.seq.in_(other), here)
    return list(connection.execute(query.order_by(cubes.c.seq)).scalars())


def last_entry(connection: Connection) -> int:
    """The number of the newest entry; 0 when there is none."""
    return int(connection.execute(select(func.max(standings.c.id))).scalar() or 0)


def channels_of(connection: Connection, entries: Iterable[Standing]) -> set[int]:
    """Numbers of the channels that the entries are about: of a grant on a space all that the space has."""
    return {number for one in entries for number in _channels_of(connection, one)}


def _channels_of(connection: Connection, entry: Standing) -> Sequence[int]:
    if entry.what == "channel":
        return [entry.row]
    if entry.what == "grant":
        return []
    query = {
        "publication": select(publications.c.channel).where(publications.c.id == entry.row),
        "published": select(publications.c.channel).select_from(PUBLISHED).where(published.c.id == entry.row),
        "subscription": select(subscriptions.c.channel).where(subscriptions.c.id == entry.row),
        ACCESS: select(channels.c.id).where(channels.c.space == entry.row),
    }[entry.what]
    return connection.execute(query).scalars().all()


def _entries(connection: Connection, where: ColumnElement[bool], limit: int) -> list[Standing]:
    columns = [c for c in standings.c if c.name != "op"]
    rows = connection.execute(select(*columns).where(where).order_by(standings.c.id).limit(limit))
    return [Standing(*row) for row in rows]


def _grant(one: Standing) -> ColumnElement[bool]:
    return (_GRANTS[one.what] == one.row) & (grants.c.principal == one.principal) & (grants.c.can == one.can)


def _set_grant(connection: Connection, one: Standing) -> None:
    connection.execute(delete(grants).where(_grant(one)))
    if one.stands:
        place = _GRANTS[one.what].name
        connection.execute(insert(grants), {place: one.row, "principal": one.principal, "can": one.can})
