"""Keeps what uses have left of memories: the log of uses, the figures made of it, and how each memory did in a task.

Knows neither what an event counts for nor how figures fade: it reads and writes rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from memos_mcp.cube import Figures
from memos_mcp.ledger import dialect, notes
from memos_mcp.ledger.life_schema import figures, relevance, usage_bases
from memos_mcp.ledger.schema import cubes, usage

NOTE = "figures"
"""Key of the ledger's note that holds the last row of the log that the figures know."""
_FIELDS = tuple(column.name for column in figures.c if column.name != "cube")
_PART = 500
_STANDING = (
    select(cubes.c.seq, cubes.c.created, cubes.c.importance, *(figures.c[name] for name in _FIELDS))
    .join(figures, figures.c.cube == cubes.c.seq, isouter=True)
    .where(dialect.among(cubes.c.seq, "seqs"))
)
# Made once: to build a statement costs more than to run it.
_OF = {
    table: select(table).where(dialect.among(table.c.cube, "seqs"))
    for table in (figures, usage_bases)
}  # fmt: skip
_CHANGED = {
    table: update(table)
    .where(table.c.cube == bindparam("of"))
    .values({name: bindparam(f"new_{name}") for name in _FIELDS})
    for table in (figures, usage_bases)
}
_LOG = insert(usage)
_FRESH = {table: insert(table) for table in (figures, usage_bases)}
_AFTER = (
    select(usage.c.seq, usage.c.cube, usage.c.event, usage.c.at)
    .where(usage.c.seq > bindparam("after"))
    .order_by(usage.c.seq)
    .limit(bindparam("most"))
)
_WRITTEN = select(cubes.c.seq, cubes.c.created).where(dialect.among(cubes.c.seq, "seqs"))


@dataclass(frozen=True)
class Row:
    """A row of the log: number, memory, event and when."""

    seq: int
    cube: int
    event: str
    at: str


@dataclass(frozen=True)
class Standing:
    """A memory's figures with what else its heat depends on of what stands in columns."""

    figures: Figures
    importance: float


def standing(connection: Connection, seqs: Sequence[int]) -> dict[int, Standing]:
    """What use has left of each of these memories; unknown ones are left out. One never used begins when written."""
    found: dict[int, Standing] = {}
    for row in connection.execute(_STANDING, {"seqs": dialect.listed(seqs)}).all():
        held = Figures(row.created, row.created) if row.at is None else _figures(row)
        found[row.seq] = Standing(held, row.importance)
    return found


def written(connection: Connection, seqs: Sequence[int]) -> dict[int, str]:
    """When each of these memories was written."""
    return {row.seq: row.created for row in connection.execute(_WRITTEN, {"seqs": dialect.listed(seqs)}).all()}


def log(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append to the log: cube, at, event, principal."""
    connection.execute(_LOG, list(rows))


def unread(connection: Connection, limit: int) -> list[Row]:
    """The next rows of the log that the figures do not know, in order."""
    return _rows(connection, noted(connection) or 0, limit)


def oldest(connection: Connection, limit: int) -> list[Row]:
    """The first rows of the log."""
    return _rows(connection, 0, limit)


def length(connection: Connection) -> int:
    """At most how many rows the log has, found without counting them."""
    first, last = connection.execute(select(func.min(usage.c.seq), func.max(usage.c.seq))).one()
    return 0 if last is None else int(last) - int(first) + 1


def noted(connection: Connection) -> int | None:
    """The last row of the log that the figures know; None before they know any."""
    found = notes.get(connection, NOTE)
    return None if found is None else int(found)


def count_in(connection: Connection, known: Mapping[int, Figures], upto: int) -> None:
    """Keep these figures, which know the log up to this row."""
    _put(connection, figures, known)
    notes.put(connection, NOTE, str(upto))


def bases(connection: Connection, seqs: Sequence[int]) -> dict[int, Figures]:
    """What the uses have left whose rows are gone, of those of these memories that have any such."""
    found = connection.execute(_OF[usage_bases], {"seqs": dialect.listed(seqs)})
    return {row.cube: _figures(row) for row in found}


def shorten(connection: Connection, based: Mapping[int, Figures], upto: int) -> None:
    """Remove the log's rows up to this one, which the figures know and these bases hold now."""
    _put(connection, usage_bases, based)
    connection.execute(delete(usage).where(usage.c.seq <= upto))


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget what use has left of these memories; the log's rows are erased beside this."""
    for start in range(0, len(seqs), _PART):
        part = seqs[start : start + _PART]
        for table in (figures, usage_bases, relevance):
            connection.execute(delete(table).where(table.c.cube.in_(part)))


def _rows(connection: Connection, after: int, limit: int) -> list[Row]:
    return [Row(*row) for row in connection.execute(_AFTER, {"after": after, "most": limit})]


def _put(connection: Connection, table: Table, known: Mapping[int, Figures]) -> None:
    rows = connection.execute(_OF[table], {"seqs": dialect.listed(known)})
    there = {row.cube for row in rows}
    changed = [{"of": cube, **{f"new_{k}": v for k, v in vars(one).items()}} for cube, one in known.items()]
    fresh = [{"cube": cube, **vars(one)} for cube, one in known.items() if cube not in there]
    if there:
        connection.execute(_CHANGED[table], [row for row in changed if row["of"] in there])
    if fresh:
        connection.execute(_FRESH[table], fresh)


def _figures(row: Any) -> Figures:
    return Figures(**{name: getattr(row, name) for name in _FIELDS})
