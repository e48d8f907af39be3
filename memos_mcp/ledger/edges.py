"""Reads the graph from one memory or name to the next: links, mentions, and relations that memories state.

Knows who may see what only as the spaces and memories it is given; it never returns an edge that rests on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
)

from memos_mcp.ledger.schema import cubes, entities, links, mentions, relations
from memos_mcp.states import LIVE

MENTIONS = "mentions"
"""The relation of a memory to what it names."""
SUPERSEDES = "supersedes"
_NEVER = "9999"
_SPACES: BindParameter[Any] = bindparam("spaces", expanding=True)
_SHARED: BindParameter[Any] = bindparam("shared", expanding=True)
_NODE: BindParameter[Any] = bindparam("node")
_NODES: BindParameter[Any] = bindparam("nodes", expanding=True)
_MOMENT: BindParameter[Any] = bindparam("moment")
_RELATION: BindParameter[Any] = bindparam("relation")
_LIMIT: BindParameter[int] = bindparam("limit", type_=Integer)


@dataclass(frozen=True)
class Memory:
    """A memory as an end of an edge."""

    seq: int
    id: str


@dataclass(frozen=True)
class Name:
    """Somebody or something that memories name, whichever of the spaces they are in; told apart by `key` alone."""

    key: str
    name: str = field(compare=False)
    kind: str = field(compare=False)


Node = Memory | Name


@dataclass(frozen=True)
class Edge:
    """A relation from one end to another. `memory` states it; it is true from `since` on, and until `until` if ever."""

    source: Node
    relation: str
    target: Node
    memory: Memory
    since: str
    until: str | None


@dataclass(frozen=True)
class View:
    """What a caller may see, at a time.

    Memories of the spaces, and those `shared` one by one (numbers). Without `as_of` what stands `now`: no superseded,
    archived or expired memory, no relation that has ended. With it what was true then, superseded since or not.
    """

    space_ids: tuple[int, ...]
    now: str
    shared: tuple[int, ...] = ()
    as_of: str | None = None

    def names(self, connection: Connection, condition: ColumnElement[bool], limit: int) -> list[Name]:
        """Names that a memory in view mentions and that meet the condition, each key once, short ones first."""
        seen = (
            select(mentions.c.cube)
            .join(cubes, cubes.c.seq == mentions.c.cube)
            .where(mentions.c.entity == entities.c.id, _standing(cubes, self.as_of is not None))
            .exists()
        )
        query = select(entities.c.key, entities.c.name, entities.c.kind).where(_named_here(), condition, seen)
        query = query.order_by(func.length(entities.c.key), entities.c.key, entities.c.id).limit(_LIMIT)
        found: dict[str, Name] = {}
        for row in connection.execute(query, {**self._values, "limit": limit}).all():
            found.setdefault(row.key, Name(row.key, row.name, row.kind))
        return list(found.values())

    def out_of(self, connection: Connection, node: Node, relation: str | None, limit: int) -> list[Edge]:
        """Edges that begin at the node, newest first, at most `limit` of each kind of edge."""
        if isinstance(node, Name):
            return self._stated(connection, node, relation, limit, "out")
        return self._links_out(connection, node, relation, limit) + self._mentions_of(connection, node, relation, limit)

    def into(self, connection: Connection, node: Node, relation: str | None, limit: int) -> list[Edge]:
        """Edges that end at the node, newest first, at most `limit` of each kind of edge."""
        if isinstance(node, Memory):
            return self._links_in(connection, node, relation, limit)
        stated = self._stated(connection, node, relation, limit, "in")
        return stated + self._mentioned_in(connection, node, relation, limit)

    def _links_out(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        query = _links_out(self.as_of is not None, relation is not None, relation == SUPERSEDES)
        rows = self._rows(connection, query, limit, relation, node=node.seq)
        return [Edge(node, row.relation, Memory(row.seq, row.id), node, row.since, row.until) for row in rows]

    def _links_in(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        query = _links_in(self.as_of is not None, relation is not None)
        rows = self._rows(connection, query, limit, relation, node=node.id)
        sources = [Memory(row.seq, row.id) for row in rows]
        return [
            Edge(source, row.relation, node, source, row.since, row.until)
            for source, row in zip(sources, rows, strict=True)
        ]

    def _mentions_of(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        if relation not in (None, MENTIONS):
            return []
        rows = self._rows(connection, _mentions_of(), limit, None, node=node.seq)
        return [
            Edge(node, MENTIONS, Name(row.key, row.name, row.kind), node, row.since, row.until) for row in rows
        ]

    def _mentioned_in(self, connection: Connection, node: Name, relation: str | None, limit: int) -> list[Edge]:
        if relation not in (None, MENTIONS):
            return []
        query = _mentioned_in(self.as_of is not None)
        rows = self._rows(connection, query, limit, None, nodes=self._numbers(connection, node))
        sources = [Memory(row.seq, row.id) for row in rows]
        return [
            Edge(source, MENTIONS, node, source, row.since, row.until)
            for source, row in zip(sources, rows, strict=True)
        ]

    def _stated(
        self, connection: Connection, node: Name, relation: str | None, limit: int, way: Literal["out", "in"]
    ) -> list[Edge]:
        query = _stated(self.as_of is not None, relation is not None, way)
        found = []
        for row in self._rows(connection, query, limit, relation, nodes=self._numbers(connection, node)):
            far, memory = Name(row.key, row.name, row.kind), Memory(row.seq, row.id)
            source, target = (node, far) if way == "out" else (far, node)
            found.append(Edge(source, row.relation, target, memory, row.since, row.until))
        return found

    def _numbers(self, connection: Connection, node: Name) -> list[int]:
        """The numbers of the name in the spaces in view."""
        return list(connection.execute(_numbers(), {**self._values, "node": node.key}).scalars())

    def _rows(
        self, connection: Connection, query: Select[Any], limit: int, relation: str | None, **node: Any
    ) -> Sequence[Any]:
        asked = {"relation": relation} if relation is not None else {}
        return connection.execute(query, {**self._values, **asked, **node, "limit": limit}).all()

    @property
    def _values(self) -> dict[str, Any]:
        return {"spaces": self.space_ids, "shared": self.shared, "moment": self.as_of or self.now}


# Statements are made once: to build one costs more than to run it. `then`: for a time that was asked for. Sums with 0
# and orders by them are no indexed columns, so that the few rows of a node lead, and not the many of a space.


def _standing(table: FromClause, then: bool, *, superseded: bool = False) -> ColumnElement[bool]:
    """The condition on a memory's row, also on that of a superseded one if asked for."""
    place = or_((table.c.space + 0).in_(_SPACES), table.c.seq.in_(_SHARED))
    parts = [place, table.c.state.in_(LIVE), func.coalesce(table.c.expires, _NEVER) > _MOMENT]
    if then:
        parts += [table.c.becomes_true <= _MOMENT, or_(table.c.superseded_by.is_(None), _end(table) > _MOMENT)]
    elif not superseded:
        parts.append(table.c.superseded_by.is_(None))
    return and_(*parts)


def _named_here() -> ColumnElement[bool]:
    shared = select(cubes.c.space).where(cubes.c.seq.in_(_SHARED))
    return or_(entities.c.space.in_(_SPACES), entities.c.space.in_(shared))


def _end(table: FromClause) -> ColumnElement[Any]:
    """When a superseded memory stopped being true: when what supersedes it became so; null for others."""
    newer = cubes.alias()
    return select(newer.c.becomes_true).where(newer.c.id == table.c.superseded_by).scalar_subquery()


def _called(related: bool) -> ColumnElement[bool]:
    """The condition on a link's relation, which callers write as they like."""
    if not related:
        return links.c.relation.is_not(None)
    plain = func.lower(func.replace(func.replace(links.c.relation, "_", " "), "-", " "))
    return or_(links.c.relation == _RELATION, plain == _RELATION)


@cache
def _numbers() -> Select[Any]:
    return select(entities.c.id).where(_named_here(), entities.c.key == _NODE)


@cache
def _links_out(then: bool, related: bool, superseded: bool) -> Select[Any]:
    at = cubes.alias()
    return (
        select(links.c.relation, cubes.c.seq, cubes.c.id, at.c.becomes_true.label("since"), _end(at).label("until"))
        .join(cubes, cubes.c.id == links.c.target)
        .join(at, at.c.seq == links.c.cube)
        .where(links.c.cube == _NODE, _called(related), _standing(cubes, then, superseded=superseded))
        .order_by((cubes.c.seq + 0).desc())
        .limit(_LIMIT)
    )


@cache
def _links_in(then: bool, related: bool) -> Select[Any]:
    since, until = cubes.c.becomes_true.label("since"), _end(cubes).label("until")
    return (
        select(links.c.relation, cubes.c.seq, cubes.c.id, since, until)
        .join(cubes, cubes.c.seq == links.c.cube)
        .where(links.c.target == _NODE, _called(related), _standing(cubes, then))
        .order_by((cubes.c.seq + 0).desc())
        .limit(_LIMIT)
    )


@cache
def _mentions_of() -> Select[Any]:
    since, until = cubes.c.becomes_true.label("since"), _end(cubes).label("until")
    return (
        select(entities.c.key, entities.c.name, entities.c.kind, since, until)
        .join(mentions, mentions.c.entity == entities.c.id)
        .join(cubes, cubes.c.seq == mentions.c.cube)
        .where(mentions.c.cube == _NODE)
        .order_by(mentions.c.entity + 0)
        .limit(_LIMIT)
    )


@cache
def _mentioned_in(then: bool) -> Select[Any]:
    """In the order of the key of `mentions`, so that of a name in very many memories few are read."""
    return (
        select(cubes.c.seq, cubes.c.id, cubes.c.becomes_true.label("since"), _end(cubes).label("until"))
        .join(mentions, mentions.c.cube == cubes.c.seq)
        .where(mentions.c.entity.in_(_NODES), _standing(cubes, then))
        .order_by(mentions.c.cube.desc())
        .limit(_LIMIT)
    )


@cache
def _stated(then: bool, related: bool, way: Literal["out", "in"]) -> Select[Any]:
    other = entities.alias()
    here, there = relations.c.subject, relations.c.object
    if way == "in":
        here, there = there, here
    conditions = [here.in_(_NODES), _standing(cubes, then), func.coalesce(relations.c.valid_to, _NEVER) > _MOMENT]
    if then:
        conditions.append(func.coalesce(relations.c.valid_from, "") <= _MOMENT)
    if related:
        conditions.append(relations.c.relation == _RELATION)
    return (
        select(
            relations.c.relation, other.c.key, other.c.name, other.c.kind, cubes.c.seq, cubes.c.id,
            func.coalesce(relations.c.valid_from, cubes.c.becomes_true).label("since"),
            func.coalesce(relations.c.valid_to, _end(cubes)).label("until"),
        )
        .join(other, other.c.id == there)
        .join(cubes, cubes.c.seq == relations.c.cube)
        .where(*conditions)
        .order_by((relations.c.cube + 0).desc(), relations.c.id)
        .limit(_LIMIT)
    )  # fmt: skip
