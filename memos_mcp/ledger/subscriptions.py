"""Reads and writes subscriptions to channels, and the copies that they made.

Knows neither verbs nor who may call them: the caller has asked governance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from memos_mcp.ledger import dialect
from memos_mcp.ledger.channel_tables import copied, publications, published, subscriptions
from memos_mcp.ledger.channels import PUBLISHED, STANDING
from memos_mcp.ledger.schema import cubes, spaces

_PART = 500

_COPIED = [c for c in copied.c if c.name != "id"]


@dataclass(frozen=True)
class Subscription:
    """A subscription's row."""

    id: int
    space: int
    channel: int
    principal: str
    copies: bool
    follows: bool
    stands: bool


@dataclass(frozen=True)
class Copied:
    """A copy's row: the numbers of copy and source, and their versions when it was made."""

    copy: int
    source: int
    subscription: int
    version: int
    made: int
    withdrawn: bool


def subscribe(
    connection: Connection, space: int, channel: int, principal: str, *, copies: bool, follows: bool, at: str
) -> int:
    """Note a subscription; returns its number."""
    row = {"space": space, "channel": channel, "principal": principal, "copies": copies, "follows": follows}
    return dialect.insert_row(connection, subscriptions, {**row, "stands": True, "created": at})


def subscribed(connection: Connection, channel: int, space: int | None = None) -> list[Subscription]:
    """The subscriptions that stand of a channel, of a space alone if given."""
    where = (subscriptions.c.channel == channel) & subscriptions.c.stands
    return _subscriptions(connection, where if space is None else where & (subscriptions.c.space == space))


def ever_copying(connection: Connection, channel: int) -> list[Subscription]:
    """Subscriptions of a channel by copies, also those that ended."""
    return _subscriptions(connection, (subscriptions.c.channel == channel) & subscriptions.c.copies)


def subscription(connection: Connection, number: int) -> Subscription | None:
    """The subscription with this number."""
    found = _subscriptions(connection, subscriptions.c.id == number)
    return found[0] if found else None


def of_spaces(connection: Connection, space_ids: Iterable[int]) -> list[Subscription]:
    """The subscriptions of these spaces that stand."""
    where = dialect.among(subscriptions.c.space, "ids") & subscriptions.c.stands
    return _subscriptions(connection, where, ids=dialect.listed(space_ids))


def _subscriptions(connection: Connection, where: ColumnElement[bool], **values: Any) -> list[Subscription]:
    columns = [c for c in subscriptions.c if c.name != "created"]
    rows = connection.execute(select(*columns).where(where).order_by(subscriptions.c.id), values)
    return [Subscription(*row) for row in rows]

_TOLD = (
    select(spaces.c.id, spaces.c.name)
    .select_from(subscriptions.join(spaces, spaces.c.id == subscriptions.c.space))
    .where(dialect.among(subscriptions.c.channel, "channels"), subscriptions.c.stands)
    .distinct()
)


def subscribing_spaces(connection: Connection, channel_ids: Iterable[int]) -> list[tuple[int, str]]:
    """Number and name of the spaces that subscribed to one of these channels."""
    rows = connection.execute(_TOLD, {"channels": dialect.listed(channel_ids)})
    return [(int(row.id), str(row.name)) for row in rows]


def uncopied(connection: Connection, one: Subscription, limit: int) -> list[tuple[int, int, str]]:
    """Memories that stand in the subscription's channel and have no copy from it yet, oldest publication first: the
    memory's number, its publication's, and who published it."""
    made = select(copied.c.id).where(copied.c.subscription == one.id, copied.c.source == published.c.cube)
    query = (
        select(published.c.cube, func.min(publications.c.id), func.min(publications.c.principal))
        .select_from(PUBLISHED)
        .where(publications.c.channel == one.channel, STANDING, ~made.correlate(published).exists())
        .group_by(published.c.cube)
        .order_by(func.min(published.c.id))
        .limit(limit)
    )
    return [(int(seq), int(number), str(who)) for seq, number, who in connection.execute(query)]


def note_copies(connection: Connection, rows: Sequence[Copied]) -> None:
    """Note copies, or what became of them."""
    for start in range(0, len(rows), _PART):
        part = [row.copy for row in rows[start : start + _PART]]
        connection.execute(delete(copied).where(copied.c.copy.in_(part)))
    if rows:
        connection.execute(insert(copied), [vars(row) for row in rows])


def to_change(
    connection: Connection, one: Subscription, limit: int, *, readable: bool = True
) -> list[tuple[Copied, str | None]]:
    """Copies of the subscription whose source was withdrawn, with what is to become of them, and (None) withdrawn ones
    whose source stands again; as if all was withdrawn where the channel is not `readable` to who subscribed."""
    stands = select(published.c.id).select_from(PUBLISHED).where(
        publications.c.channel == one.channel, published.c.cube == copied.c.source, STANDING
    ).correlate(copied)  # fmt: skip
    wish = (
        select(publications.c.withdrawal)
        .select_from(PUBLISHED)
        .where(publications.c.channel == one.channel, published.c.cube == copied.c.source)
        .order_by(published.c.id.desc())
        .limit(1)
        .correlate(copied)
        .scalar_subquery()
    )
    mine = (copied.c.subscription == one.id) & copied.c.copy.is_not(None)
    reaches = one.stands and readable
    fallen = mine & ~copied.c.withdrawn & ~stands.exists() if reaches else mine & ~copied.c.withdrawn
    rows = connection.execute(select(*_COPIED, wish).where(fallen).limit(limit)).all()
    found: list[tuple[Copied, str | None]] = [(Copied(*row[:6]), row[6] if one.stands else "archive") for row in rows]
    if reaches:
        back = select(*_COPIED).where(mine & copied.c.withdrawn & stands.exists()).limit(limit)
        found += [(Copied(*row), None) for row in connection.execute(back)]
    return found


def behind(connection: Connection, one: Subscription, limit: int, sources: Sequence[int] | None = None) -> list[Copied]:
    """Copies of the subscription whose source has a newer version and stands published (of these sources)."""
    stands = select(published.c.id).select_from(PUBLISHED).where(
        publications.c.channel == one.channel, published.c.cube == copied.c.source, STANDING
    )  # fmt: skip
    query = (
        select(*_COPIED)
        .join(cubes, cubes.c.seq == copied.c.source)
        .where(copied.c.subscription == one.id, copied.c.copy.is_not(None), ~copied.c.withdrawn)
        .where(cubes.c.version > copied.c.version, stands.correlate(copied).exists())
    )
    if sources is not None:
        query = query.where(copied.c.source.in_(sources))
    return [Copied(*row) for row in connection.execute(query.order_by(copied.c.copy).limit(limit))]


def are_copies(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """Those of the memories that came through a channel as copies."""
    query = select(copied.c.copy).where(dialect.among(copied.c.copy, "seqs"))
    return set(connection.execute(query, {"seqs": dialect.listed(seqs)}).scalars())
