"""Reads and writes channels and what is published to them.

Knows neither verbs nor who may call them: the caller has asked governance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, or_, select, update

from memos_mcp.ledger import dialect
from memos_mcp.ledger.channel_tables import channels, copied, publications, published, standings, subscriptions
from memos_mcp.ledger.schema import cubes, grants, spaces

_PART = 500


@dataclass(frozen=True)
class Channel:
    """A channel and the space that it belongs to, by number and name."""

    id: int
    space: int
    space_name: str
    name: str

    @property
    def address(self) -> str:
        """How it is called: SPACE/NAME."""
        return f"{self.space_name}/{self.name}"


@dataclass(frozen=True)
class Query:
    """What a published query asks of a memory: all words of the text, all of the tags, one of the kinds."""

    text: str = ""
    tags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def as_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(vars(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Query:
        """The inverse of `as_json`."""
        plain = json.loads(text)
        return Query(plain["text"], tuple(plain["tags"]), tuple(plain["kinds"]))


@dataclass(frozen=True)
class Publication:
    """A publication's row."""

    id: int
    channel: int
    principal: str
    source: int | None
    query: Query | None
    withdrawal: str
    stands: bool


@dataclass(frozen=True)
class Published:
    """A memory of a publication, by number, and who published it when."""

    id: int
    publication: int
    cube: int
    principal: str
    created: str


@dataclass(frozen=True)
class Placed:
    """Where a memory stands: the row, its publication and channel, by whom, and the space that a query looks in."""

    id: int
    cube: int
    hidden: bool
    publication: int
    channel: int
    principal: str
    source: int | None


def _readable() -> ColumnElement[bool]:
    """Whether the parameter `principal` may read the space in the row."""
    granted = select(grants.c.id).where(
        grants.c.space == spaces.c.id, grants.c.principal == bindparam("principal"), grants.c.can == "read"
    )
    return or_(spaces.c.owner == bindparam("principal"), granted.correlate(spaces).exists())

STANDING = published.c.stands & ~published.c.hidden & publications.c.stands

PUBLISHED = published.join(publications, publications.c.id == published.c.publication)

_IN_CHANNELS = PUBLISHED.join(channels, channels.c.id == publications.c.channel)

_OPENS = (
    select(published.c.id)
    .select_from(_IN_CHANNELS.join(spaces, spaces.c.id == channels.c.space))
    .where(published.c.cube == bindparam("cube"), STANDING, _readable())
    .limit(1)
)

_REFERENCES = (
    select(published.c.cube)
    .select_from(
        subscriptions.join(channels, channels.c.id == subscriptions.c.channel)
        .join(spaces, spaces.c.id == channels.c.space)
        .join(publications, publications.c.channel == channels.c.id)
        .join(published, publications.c.id == published.c.publication)
        .join(cubes, cubes.c.seq == published.c.cube)
    )
    .where(
        dialect.among(subscriptions.c.space, "spaces"), subscriptions.c.stands, ~subscriptions.c.copies, STANDING,
        _readable(), ~dialect.among(cubes.c.space, "spaces"),
    )
)  # fmt: skip

_GRANTED = (
    select(grants.c.cube)
    .join(cubes, cubes.c.seq == grants.c.cube)
    .where(grants.c.principal == bindparam("principal"), grants.c.can == "read", grants.c.cube.is_not(None))
    .where(~dialect.among(cubes.c.space, "spaces"))
)

_REFERRED_TO = dialect.in_one_row(_REFERENCES)

_REACHED = dialect.in_one_row(select(_GRANTED.union(_REFERENCES).subquery().c[0]))


def opens(connection: Connection, principal: str, cube: int) -> bool:
    """Whether the memory is published to a channel that the principal may read."""
    return connection.execute(_OPENS, {"principal": principal, "cube": cube}).first() is not None


def reached(connection: Connection, principal: str, space_ids: Iterable[int], *, granted: bool) -> list[int]:
    """Numbers of the memories of others that a search in these spaces looks at too: published to channels that the
    spaces subscribed to as references and that the principal may read; with `granted` also those granted singly."""
    values = {"principal": principal, "spaces": dialect.listed(space_ids)}
    return sorted(set(dialect.numbers(connection, _REACHED if granted else _REFERRED_TO, values)))


def find(connection: Connection, space: int, name: str) -> Channel | None:
    """The channel of this name in the space."""
    found = _channels(connection, (channels.c.space == space) & (channels.c.name == name))
    return found[0] if found else None


def by_ids(connection: Connection, ids: Iterable[int]) -> list[Channel]:
    """Channels by number, in order."""
    return _channels(connection, dialect.among(channels.c.id, "ids"), ids=dialect.listed(ids))


def readable(connection: Connection, principal: str, limit: int = 1_000) -> list[Channel]:
    """The channels of spaces that the principal may read, in the order in which they were made."""
    return _channels(connection, _readable(), principal=principal)[:limit]


def _channels(connection: Connection, where: ColumnElement[bool], **values: Any) -> list[Channel]:
    query = (
        select(channels.c.id, channels.c.space, spaces.c.name.label("space_name"), channels.c.name)
        .select_from(channels.join(spaces, spaces.c.id == channels.c.space))
        .where(where)
    )
    return [Channel(*row) for row in connection.execute(query.order_by(channels.c.id), values)]


def make(connection: Connection, space: int, space_name: str, name: str, at: str) -> Channel:
    """A new channel of the space."""
    row = {"space": space, "name": name, "created": at}
    return Channel(dialect.insert_row(connection, channels, row), space, space_name, name)


def publish(
    connection: Connection, channel: int, principal: str, source: int | None, query: Query | None, withdrawal: str,
    at: str,
) -> int:
    """Note a publication; returns its number. `add` puts memories into it."""
    row = {"channel": channel, "principal": principal, "source": source, "withdrawal": withdrawal, "stands": True}
    row |= {"query": query.as_json() if query is not None else None, "created": at}
    return dialect.insert_row(connection, publications, row)


def add(connection: Connection, publication: int, seqs: Sequence[int], at: str) -> None:
    """Have memories stand in a publication; those that stood there before stand again."""
    known = select(published.c.cube).where(
        published.c.publication == publication, dialect.among(published.c.cube, "seqs")
    )
    again = set(connection.execute(known, {"seqs": dialect.listed(seqs)}).scalars())
    change_among(connection, publication, sorted(again), stands=True)
    rows = [
        {"publication": publication, "cube": seq, "hidden": False, "stands": True, "created": at}
        for seq in seqs
        if seq not in again
    ]
    if rows:
        connection.execute(insert(published), rows)


def change_among(connection: Connection, publication: int, seqs: Sequence[int], *, stands: bool) -> None:
    """Let these memories of a publication stand, or fall."""
    for part in _parts(seqs):
        which = (published.c.publication == publication) & published.c.cube.in_(part)
        connection.execute(update(published).where(which).values(stands=stands))


def hide(connection: Connection, seqs: Sequence[int], hidden: bool) -> None:
    """Note that memories became private or secret, or are so no more."""
    for part in _parts(seqs):
        connection.execute(update(published).where(published.c.cube.in_(part)).values(hidden=hidden))


def standing_in(connection: Connection, channel: int, seqs: Sequence[int]) -> set[int]:
    """Those of the memories that stand published in the channel."""
    query = select(published.c.cube).select_from(PUBLISHED).where(
        publications.c.channel == channel, dialect.among(published.c.cube, "seqs"), STANDING
    )  # fmt: skip
    return set(connection.execute(query, {"seqs": dialect.listed(seqs)}).scalars())


def page(connection: Connection, channel: int, after: int, limit: int) -> list[Published]:
    """What stands in a channel, in the order of publication: the first `limit` rows above number `after`."""
    return _rows_of(connection, (publications.c.channel == channel) & STANDING & (published.c.id > after), limit)


def rows_of(connection: Connection, channel: int, seqs: Sequence[int] | None, principal: str | None) -> list[Published]:
    """What stands of these memories in a channel (None: of all), by this publisher (None: by anybody)."""
    where = (publications.c.channel == channel) & publications.c.stands & published.c.stands
    if seqs is not None:
        where &= published.c.cube.in_(seqs)
    if principal is not None:
        where &= publications.c.principal == principal
    return _rows_of(connection, where, -1)


def _rows_of(connection: Connection, where: ColumnElement[bool], limit: int) -> list[Published]:
    query = select(
        published.c.id, published.c.publication, published.c.cube, publications.c.principal, published.c.created
    ).select_from(PUBLISHED)
    return [Published(*row) for row in connection.execute(query.where(where).order_by(published.c.id).limit(limit))]


def count(connection: Connection, channel: int) -> int:
    """How many memories stand in a channel."""
    query = select(func.count(published.c.cube.distinct())).select_from(PUBLISHED)
    return int(connection.execute(query.where(publications.c.channel == channel, STANDING)).scalar_one())


def seqs_of(connection: Connection, publication: int, among: Sequence[int] | None = None) -> list[int]:
    """Numbers of the memories that stand in a publication (of these alone, when given)."""
    query = select(published.c.cube).where(published.c.publication == publication, published.c.stands)
    if among is not None:
        query = query.where(published.c.cube.in_(among))
    return list(connection.execute(query).scalars())


def publication(connection: Connection, number: int) -> Publication | None:
    """The publication with this number."""
    found = _publications(connection, publications.c.id == number)
    return found[0] if found else None


def publications_of(connection: Connection, channel: int, principal: str) -> list[Publication]:
    """What somebody's publications in a channel stand."""
    mine = (publications.c.channel == channel) & (publications.c.principal == principal) & publications.c.stands
    return _publications(connection, mine)


def queries_of(connection: Connection, space_ids: Iterable[int]) -> list[Publication]:
    """The published queries that stand over these spaces."""
    where = dialect.among(publications.c.source, "ids") & publications.c.stands & publications.c.query.is_not(None)
    return _publications(connection, where, ids=dialect.listed(space_ids))


def _publications(connection: Connection, where: ColumnElement[bool], **values: Any) -> list[Publication]:
    rows = connection.execute(select(publications).where(where).order_by(publications.c.id), values)
    return [
        Publication(
            row.id, row.channel, row.principal, row.source,
            Query.from_json(row.query) if row.query is not None else None, row.withdrawal, bool(row.stands),
        )
        for row in rows
    ]  # fmt: skip


def anything_stands(connection: Connection) -> bool:
    """Whether anything is published."""
    return connection.execute(select(publications.c.id).where(publications.c.stands).limit(1)).first() is not None


def channels_of(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """Numbers of the channels in which one of these memories stands."""
    query = select(publications.c.channel).distinct().select_from(PUBLISHED)
    query = query.where(dialect.among(published.c.cube, "seqs"), published.c.stands, publications.c.stands)
    return set(connection.execute(query, {"seqs": dialect.listed(seqs)}).scalars())


def placed(connection: Connection, seqs: Sequence[int]) -> list[Placed]:
    """Every place in which these memories stand, also while they are hidden, in the order of publication."""
    columns = (published.c.id, published.c.cube, published.c.hidden, publications.c.id, publications.c.channel)
    query = select(*columns, publications.c.principal, publications.c.source).select_from(PUBLISHED)
    query = query.where(dialect.among(published.c.cube, "seqs"), published.c.stands, publications.c.stands)
    return [Placed(*row) for row in connection.execute(query.order_by(published.c.id), {"seqs": dialect.listed(seqs)})]


def publication_of(connection: Connection, row: int) -> Published | None:
    """The published memory with this row's number."""
    found = _rows_of(connection, published.c.id == row, 1)
    return found[0] if found else None


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete what is kept of memories that are purged; that their channels lost one is noted."""
    touched = set[int]()
    for part in _parts(seqs):
        touched |= channels_of(connection, part)
        connection.execute(delete(published).where(published.c.cube.in_(part)))
        connection.execute(delete(copied).where(copied.c.source.in_(part)))
        connection.execute(update(copied).where(copied.c.copy.in_(part)).values(copy=None))
        of_grant = (standings.c.what == "grant") & standings.c.row.in_(part)
        connection.execute(delete(standings).where(of_grant))
    if touched:
        rows = [{"what": "channel", "row": one, "stands": True} for one in sorted(touched)]
        connection.execute(insert(standings), rows)


def _parts(values: Sequence[int]) -> list[Sequence[int]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
