"""The tables of channels: what is published to them, who subscribed to them, which copies were made from them.

Knows no queries. They hold ids, numbers and a publisher's query, never a memory's text. What is withdrawn or ended
stays as a row that does not stand, so that an undo can let it stand again; `standings` is the record of that, as
`changes` is of memories.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from memos_mcp.ledger.schema import metadata

channels = Table(
    "channels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("created", String, nullable=False),
    UniqueConstraint("space", "name"),
    sqlite_autoincrement=True,
)

publications = Table(
    "publications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel", ForeignKey("channels.id"), nullable=False),
    Column("principal", String, nullable=False),
    Column("source", ForeignKey("spaces.id")),
    Column("query", Text),
    Column("withdrawal", String, nullable=False),
    Column("stands", Boolean, nullable=False),
    Column("created", String, nullable=False),
    Index("publications_by_channel", "channel"),
    Index("publications_by_source", "source"),
    sqlite_autoincrement=True,
)
"""What somebody published at once: memories named, or with `query` those of the space `source` that match it.

`withdrawal`: what becomes of copies afterwards, archive or mark."""

published = Table(
    "published",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("publication", ForeignKey("publications.id"), nullable=False),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("stands", Boolean, nullable=False),
    Column("created", String, nullable=False),
    UniqueConstraint("publication", "cube"),
    Index("published_by_cube", "cube"),
    sqlite_autoincrement=True,
)
"""The memories of a publication; `hidden`: such a one became private or secret since."""

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("channel", ForeignKey("channels.id"), nullable=False),
    Column("principal", String, nullable=False),
    Column("copies", Boolean, nullable=False),
    Column("follows", Boolean, nullable=False),
    Column("stands", Boolean, nullable=False),
    Column("created", String, nullable=False),
    Index("subscriptions_by_space", "space", "stands"),
    Index("subscriptions_by_channel", "channel"),
    sqlite_autoincrement=True,
)
"""What a space shows of a channel: references, or copies; `follows`: copies take new versions by themselves."""

copied = Table(
    "copied",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("copy", ForeignKey("cubes.seq"), unique=True),
    Column("source", ForeignKey("cubes.seq"), nullable=False),
    Column("subscription", ForeignKey("subscriptions.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("made", Integer, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Index("copied_by_source", "source"),
    Index("copied_by_subscription", "subscription", "source"),
)
"""Copies that a subscription made: of which version of the source, and which version of the copy (`made`) that is.

`copy` is NULL once that is purged: it is not made again."""

standings = Table(
    "standings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("op", String),
    Column("what", String, nullable=False),
    Column("row", Integer, nullable=False),
    Column("stands", Boolean, nullable=False),
    Column("principal", String),
    Column("can", String),
    Index("standings_by_op", "op"),
    sqlite_autoincrement=True,
)
"""What an operation let stand or fall: a publication, a published memory, a subscription, a grant on the memory
numbered `row`, or one on the space of that number. Without an operation: a channel (`row`) lost a memory to a purge."""

TABLES = (channels, publications, published, subscriptions, copied, standings)
