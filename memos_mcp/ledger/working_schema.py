"""The tables of working memory: what followed what in use, what that taught, and what was put there.

Knows no statement; the tables belong to the ledger's one set of tables.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from memos_mcp.ledger.schema import metadata

transitions = Table(
    "transitions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("principal", String, nullable=False),
    Column("source", ForeignKey("cubes.seq"), nullable=False),
    Column("target", ForeignKey("cubes.seq"), nullable=False),
    Column("turns", Integer, nullable=False),
    Column("weight", Float, nullable=False),
    Column("at", String, nullable=False),
    Index("transitions_from", "principal", "source", "target", "turns", unique=True),
    Index("transitions_by_source", "source"),
    Index("transitions_by_target", "target"),
    sqlite_autoincrement=True,
)
"""How often a principal needed one memory after another, or with it. Derived from use."""

habits = Table(
    "habits",
    metadata,
    Column("principal", String, primary_key=True),
    Column("learnt", Text, nullable=False),
    Column("at", String, nullable=False),
)
"""What use has taught of what a principal needs next: two lists of numbers as JSON. Derived from use."""

working_cubes = Table(
    "working_cubes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("principal", String, nullable=False),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("in_op", String, nullable=False),
    Column("out_op", String),
    Column("with_state", Boolean, nullable=False),
    Index("working_cubes_of", "principal", "out_op"),
    Index("working_cubes_by_cube", "cube"),
    Index("working_cubes_by_in", "in_op"),
    Index("working_cubes_by_out", "out_op"),
    sqlite_autoincrement=True,
)
"""Memories put into a principal's working memory by one operation, and taken out by another: NULL while they stand
there. `with_state`: the other took its state out of activation too."""

TABLES = (transitions, habits, working_cubes)
"""All of them, in an order in which they can be made."""
