"""Keeps under which keys standing memories make their claims, so that what contradicts them is found without reading.

Knows neither rules nor texts: a key is a digest that tells nothing. All of it is derived and may be cleared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from memos_mcp.ledger import dialect
from memos_mcp.ledger.life_schema import claims
from memos_mcp.ledger.schema import STANDING, cubes

# Made once: to build a statement costs more than to run it.
_ADDED = insert(claims)
_ERASED = delete(claims).where(dialect.among(claims.c.cube, "seqs"))
_HOLDERS = (
    select(claims.c.cube)
    .join(cubes, cubes.c.seq == claims.c.cube)
    .where(dialect.among(claims.c.key, "keys"), STANDING)
    .order_by(claims.c.cube.desc())
    .limit(bindparam("most"))
)


def add(connection: Connection, made: Mapping[int, Sequence[int]]) -> None:
    """Keep the keys of memories that have none yet, by their numbers."""
    rows = [{"key": key, "cube": cube} for cube, keys in made.items() for key in dict.fromkeys(keys)]
    if rows:
        connection.execute(_ADDED, rows)


def put(connection: Connection, made: Mapping[int, Sequence[int]]) -> None:
    """Keep the keys of memories in place of what was kept of them before."""
    erase(connection, list(made))
    add(connection, made)


def holders(connection: Connection, keys: Sequence[int], most: int) -> list[int]:
    """Numbers of the newest standing memories that make a claim under one of these keys."""
    found = connection.execute(_HOLDERS, {"keys": dialect.listed(keys), "most": most}).scalars()
    return list(dict.fromkeys(found))


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget the keys of these memories."""
    if seqs:
        connection.execute(_ERASED, {"seqs": dialect.listed(seqs)})
