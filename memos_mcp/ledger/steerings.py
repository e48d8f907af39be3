"""Rows of steering vectors: of which memories and for which model each was made, and the file that it lies in.

Knows no model and no file: a vector here is numbers about it, and the name of a file that others write and unlink.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, insert, select

from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import cubes, steering_sources, steerings

Side = Literal["towards", "away"]
SIDES: tuple[Side, Side] = ("towards", "away")
_PART = 500
# Made once: to build a statement costs more than to run it.
_MADE_FROM = select(steering_sources.c.steering).where(dialect.among(steering_sources.c.cube, "seqs")).distinct()
_DROP_SOURCES = delete(steering_sources).where(dialect.among(steering_sources.c.steering, "seqs"))
_DROP = delete(steerings).where(dialect.among(steerings.c.cube, "seqs"))


@dataclass(frozen=True)
class Source:
    """A memory, by number and version, on one side of the contrast."""

    cube: int
    version: int
    side: Side


@dataclass(frozen=True)
class SteeringRow:
    """A steering vector in a file: of `cube`, for the model `identity` (`model` in words), for layers first to last.

    `shares`, a number for each of these layers: which share of the variance of what the layer puts out lies between
    the sides, 0..1. `norms`: how long the difference is, beside what the layer puts out. `sha256` is the vector's.
    """

    cube: int
    identity: str
    model: str
    first: int
    last: int
    width: int
    shares: tuple[float, ...]
    norms: tuple[float, ...]
    sha256: str
    bytes: int
    file: str
    created: str
    sources: tuple[Source, ...]


def keep(connection: Connection, row: SteeringRow) -> None:
    """Write a vector down in place of the one of its cube."""
    _delete(connection, [row.cube])
    values = {name: value for name, value in vars(row).items() if name != "sources"}
    values |= {"shares": json.dumps(row.shares), "norms": json.dumps(row.norms)}
    connection.execute(insert(steerings), values)
    rows = [{"steering": row.cube, **vars(source)} for source in row.sources]
    connection.execute(insert(steering_sources), rows)


def listed(connection: Connection, seqs: Sequence[int] | None = None) -> list[SteeringRow]:
    """Every vector, or those of these cubes, in the order of the cubes."""
    wanted, of = select(steerings).order_by(steerings.c.cube), select(steering_sources)
    if seqs is not None:
        wanted = wanted.where(steerings.c.cube.in_(list(seqs)[:_PART]))
        of = of.where(steering_sources.c.steering.in_(list(seqs)[:_PART]))
    sources: dict[int, list[Source]] = {}
    for row in connection.execute(of.order_by(steering_sources.c.cube)):
        sources.setdefault(row.steering, []).append(Source(row.cube, row.version, row.side))
    return [
        SteeringRow(
            row.cube, row.identity, row.model, row.first, row.last, row.width, tuple(json.loads(row.shares)),
            tuple(json.loads(row.norms)), row.sha256, row.bytes, row.file, row.created, tuple(sources[row.cube]),
        )
        for row in connection.execute(wanted)
    ]  # fmt: skip


def made_from(connection: Connection, seqs: Sequence[int]) -> list[str]:
    """Ids of the cubes whose vectors were made of one of these memories, in any version."""
    found: dict[str, None] = {}
    for start in range(0, len(seqs), _PART):
        query = (
            select(cubes.c.id)
            .join(steering_sources, steering_sources.c.steering == cubes.c.seq)
            .where(steering_sources.c.cube.in_(seqs[start : start + _PART]))
            .order_by(cubes.c.seq)
        )
        found |= dict.fromkeys(connection.execute(query).scalars())
    return list(found)


def drop_made_from(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete the vectors that were made of one of these memories."""
    made = connection.execute(_MADE_FROM, {"seqs": dialect.listed(seqs)}).scalars().all() if seqs else ()
    _delete(connection, made)


def drop(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete the vectors of these cubes, and those that were made of one of them."""
    drop_made_from(connection, seqs)
    _delete(connection, seqs)


def _delete(connection: Connection, seqs: Sequence[int]) -> None:
    if seqs:
        connection.execute(_DROP_SOURCES, {"seqs": dialect.listed(seqs)})
        connection.execute(_DROP, {"seqs": dialect.listed(seqs)})
