"""The tables of the life of memories: reviews, what stands in each space, and the policies of spaces.

Knows no queries; they stand in `reviews`.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table

from memos_mcp.ledger.schema import metadata

reviews = Table(
    "reviews",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("space", Integer, nullable=False),
    Column("at", String),
    Column("size", Integer),
    Column("since", String),
    Column("held", String),
    Index("reviews_by_time", "at"),
    Index("reviews_by_space", "space", "at"),
)
"""When a memory is to be looked at again, NULL for never. Derived from the memories and what was done to them.

`size`: bytes of its text, NULL where it does not stand; `since`: when it last changed its state or form by somebody's
will; `held`: the form that the scheduler gave it."""

space_sizes = Table(
    "space_sizes",
    metadata,
    Column("space", ForeignKey("spaces.id"), primary_key=True),
    Column("memories", Integer, nullable=False),
    Column("size", Integer, nullable=False),
)
"""How many memories of a space stand, and bytes of their texts: sums of `reviews`, so that nothing is counted."""

space_policies = Table(
    "space_policies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("policy", String),
    Column("former", String),
    Column("op", String, nullable=False, unique=True),
    Index("space_policies_by_space", "space", "id"),
)
"""What policy a space was given, by which operation, and which it had: the last row holds."""
