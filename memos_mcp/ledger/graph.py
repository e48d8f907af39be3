"""Keeps what memories name and state: entities, mentions and relations.

Knows neither how names are found nor who may see them. All of it is derived and may be cleared at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from memos_mcp.ledger import dialect, notes
from memos_mcp.ledger.schema import cubes, entities, mentions, relations

NOTE = "graph"
"""Key of the ledger's note that holds the last change whose memory has been read."""
VAGUE = ("thing", "topic")
"""Kinds that give way to any other."""
_T = TypeVar("_T")
_PART = 500
_MOST_PROBES = 8
_KNOWN = select(entities.c.id, entities.c.key, entities.c.kind).where(
    entities.c.space == bindparam("space"), entities.c.key.in_(bindparam("keys", expanding=True))
)
# Made once: to build a statement costs more than to run it.
_CURRENT = select(cubes.c.seq, cubes.c.version).where(dialect.among(cubes.c.seq, "seqs"))
_MENTION, _RELATION = insert(mentions), insert(relations)
_MENTIONED = select(mentions.c.entity).where(dialect.among(mentions.c.cube, "seqs"))
_LET_GO = [delete(table).where(dialect.among(table.c.cube, "seqs")) for table in (relations, mentions)]
_UNNAMED = delete(entities).where(
    dialect.among(entities.c.id, "ids"), ~exists().where(mentions.c.entity == entities.c.id)
)
_SAYS_MORE = update(entities).where(entities.c.id == bindparam("of")).values(kind=bindparam("better"))


@dataclass(frozen=True)
class Entry:
    """What one memory names, as (key, name, kind), and states, as (subject's key, relation, object's key, from, to)."""

    cube: int
    space: int
    names: tuple[tuple[str, str, str], ...]
    stated: tuple[tuple[str, str, str, str | None, str | None], ...]


def current(connection: Connection, seqs: Sequence[int]) -> dict[int, int]:
    """The current version of each of the memories that are still there."""
    rows = connection.execute(_CURRENT, {"seqs": dialect.listed(seqs)}).all() if seqs else ()
    return {row.seq: row.version for row in rows}


def put(connection: Connection, entries: Sequence[Entry]) -> None:
    """Keep what the memories name and state, in place of what was kept of them before."""
    before = _let_go(connection, [entry.cube for entry in entries])
    for space in dict.fromkeys(entry.space for entry in entries):
        own = [entry for entry in entries if entry.space == space]
        ids = _entity_ids(connection, space, [name for entry in own for name in entry.names])
        named = [{"entity": entity, "cube": entry.cube} for entry in own
                 for entity in dict.fromkeys(ids[key] for key, _, _ in entry.names)]  # fmt: skip
        stated = [
            {"cube": entry.cube, "subject": ids[subject], "relation": relation, "object": ids[target],
             "valid_from": since, "valid_to": until}
            for entry in own for subject, relation, target, since, until in entry.stated
        ]  # fmt: skip
        for statement, rows in ((_MENTION, named), (_RELATION, stated)):
            if rows:
                connection.execute(statement, rows)
    _drop_unnamed(connection, before)


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget what these memories name and state, and every name that no other memory mentions."""
    _drop_unnamed(connection, _let_go(connection, seqs))


def clear(connection: Connection) -> None:
    """Forget the whole graph, so that it is made anew."""
    for table in (relations, mentions, entities):
        connection.execute(delete(table))
    notes.put(connection, NOTE, None)


def only_here(connection: Connection, seqs: Sequence[int]) -> list[bytes]:
    """Bytes of some names that no other memory mentions, as the file holds them: what erasing these must remove."""
    found: list[bytes] = []
    for part in _parts(seqs):
        elsewhere = exists().where(mentions.c.entity == entities.c.id, mentions.c.cube.not_in(part))
        query = (
            select(entities.c.key, entities.c.name, entities.c.kind)
            .where(entities.c.id.in_(select(mentions.c.entity).where(mentions.c.cube.in_(part))), ~elsewhere)
            .limit(_MOST_PROBES - len(found))
        )
        found += [f"{row.key}{row.name}{row.kind}".encode() for row in connection.execute(query)]
    return found


def _let_go(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """Remove what is kept of the memories; returns the entities that they mentioned."""
    if not seqs:
        return set()
    named = {"seqs": dialect.listed(seqs)}
    touched = set(connection.execute(_MENTIONED, named).scalars())
    for statement in _LET_GO:
        connection.execute(statement, named)
    return touched


def _drop_unnamed(connection: Connection, touched: Collection[int]) -> None:
    if touched:
        connection.execute(_UNNAMED, {"ids": dialect.listed(touched)})


def _entity_ids(connection: Connection, space: int, names: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """The number of each key in the space, given one if it is new; a vague kind gives way to one that says more."""
    wanted: dict[str, tuple[str, str]] = {}
    for key, name, kind in names:
        held = wanted.get(key)
        if held is None or (held[1] in VAGUE and kind not in VAGUE):
            wanted[key] = (name if held is None else held[0], kind)
    ids: dict[str, int] = {}
    for part in _parts(list(wanted)):
        for row in connection.execute(_KNOWN, {"space": space, "keys": part}).all():
            ids[row.key] = row.id
            if row.kind in VAGUE and wanted[row.key][1] not in VAGUE:
                connection.execute(_SAYS_MORE, {"of": row.id, "better": wanted[row.key][1]})
    for key, (name, kind) in wanted.items():
        if key not in ids:
            fresh = {"space": space, "key": key, "name": name, "kind": kind}
            ids[key] = dialect.insert_row(connection, entities, fresh)
    return ids


def _parts(values: Sequence[_T]) -> list[Sequence[_T]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
