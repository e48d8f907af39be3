"""The tables of a memory's life: figures of use, relevance, topics, outcomes of tools, feedback, reviews, policies,
packs of the archive, conversations to summarise, claims.

Knows no queries. Times, JSON and ids are written as in `schema`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)  # fmt: skip

from memos_mcp.ledger.schema import metadata


def _of_use(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("cube", ForeignKey("cubes.seq"), primary_key=True),
        Column("at", String, nullable=False),
        Column("last", String, nullable=False),
        Column("visits", Float, nullable=False),
        Column("dwell", Float, nullable=False),
        Column("served", Integer, nullable=False),
        Column("used", Integer, nullable=False),
    )


figures = _of_use("figures")
"""What all uses have left of a memory (`cube.Figures`); one that was never used has no row."""
usage_bases = _of_use("usage_bases")
"""The same of those uses alone whose rows have left `usage`: with the rows that are there it gives `figures`."""

relevance = Table(
    "relevance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("principal", String, nullable=False),
    Column("task", String, nullable=False),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("served", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("at", String, nullable=False),
    UniqueConstraint("principal", "task", "cube"),
    Index("relevance_by_cube", "cube", "principal", "at"),
    Index("relevance_by_time", "at"),
    sqlite_autoincrement=True,
)
"""How a memory did in a task: `task` is a keyed digest of a session or of words, `score` that of the latest search."""

segments = Table(
    "segments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("begun", String, nullable=False),
    Column("last", String, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("moved_at", Integer),
    Column("moved", String),
    Column("job", String),
    Index("segments_by_space", "space", "last"),
    sqlite_autoincrement=True,
)
"""Topics of conversations, by their turns. Derived. `moved_at`: how many turns had been there when its statements went
to the long term, `moved` when that was; `job`: what moves them there now."""

segment_turns = Table(
    "segment_turns",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("segment", ForeignKey("segments.id"), nullable=False),
    Column("continues", Integer),
    Column("score", Float, nullable=False),
    Index("segment_turns_by_segment", "segment", "cube"),
)
"""Which turn belongs to which segment, which turn it goes on from, and how close it was to the others."""

tool_outcomes = Table(
    "tool_outcomes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("tool", String, nullable=False),
    Column("given", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("timed", Integer, nullable=False),
    Column("ms", Float, nullable=False),
    UniqueConstraint("space", "tool", "given", "outcome"),
)
"""How often which tool ended how, `given` which arguments by name; `ms` is the time of the `timed` ones together."""

tool_calls = Table(
    "tool_calls",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("outcome", ForeignKey("tool_outcomes.id"), nullable=False),
    Column("ms", Float),
    Index("tool_calls_by_outcome", "outcome", "cube"),
)
"""Which trace is counted where."""

feedback = Table(
    "feedback",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("said", String, nullable=False),
    Column("at", String, nullable=False),
    Column("principal", String, nullable=False),
    Index("feedback_by_cube", "cube", "at"),
    sqlite_autoincrement=True,
)
"""What was said of memories, useful, wrong or stale, each time that it was: a memory itself holds the last word."""

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

packs = Table(
    "packs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("packs_by_space", "space"),
    sqlite_autoincrement=True,
)
"""Snapshots of archived memories of one space, compressed together; while one is here it is empty in its own row."""

packed = Table(
    "packed",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("pack", ForeignKey("packs.id"), nullable=False),
    Column("place", Integer, nullable=False),
    Index("packed_by_pack", "pack"),
)
"""Which version's snapshot is in which pack, and at which place."""

unsummarised = Table(
    "unsummarised",
    metadata,
    Column("space", Integer, primary_key=True),
    Column("conversation", String, primary_key=True),
    Column("turn", ForeignKey("cubes.seq"), nullable=False),
    Column("at", String, nullable=False),
    Index("unsummarised_by_time", "at", "turn"),
    Index("unsummarised_by_turn", "turn"),
)
"""Conversations with turns that no summary covers as they are: a digest, one of the turns, and when it last changed."""

claims = Table(
    "claims",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Index("claims_by_cube", "cube"),
)
"""About what a memory makes a claim, as a digest of space, subject and attribute. Derived, as the graph is."""

TABLES = (
    figures, usage_bases, relevance, segments, segment_turns, tool_outcomes, tool_calls, feedback, reviews, space_sizes,
    space_policies, packs, packed, unsummarised, claims,
)  # fmt: skip
"""All of them, in an order in which they can be made."""
