"""Reads the graph from one memory or name to the next: links, mentions, and relations that memories state.

Knows who may see what only as the spaces and memories it is given; it never returns an edge that rests on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, or_, select

from memos_mcp.ledger.schema import cubes, entities, links, mentions, relations
from memos_mcp.states import LIVE

MENTIONS = "mentions"
"""The relation of a memory to what it names."""
SUPERSEDES = "supersedes"
_NEVER = "9999"


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

    def standing(self, table: FromClause, *, superseded: bool = False) -> ColumnElement[bool]:
        """The condition on a memory's row, also on that of a superseded one if asked for."""
        place: ColumnElement[bool] = table.c.space.in_(self.space_ids)
        if self.shared:
            place = or_(place, table.c.seq.in_(self.shared))
        moment = self.as_of or self.now
        parts = [place, table.c.state.in_(LIVE), func.coalesce(table.c.expires, _NEVER) > moment]
        if self.as_of is not None:
            later = or_(table.c.superseded_by.is_(None), _end(table) > self.as_of)
            parts += [table.c.becomes_true <= self.as_of, later]
        elif not superseded:
            parts.append(table.c.superseded_by.is_(None))
        return and_(*parts)

    def true_then(self) -> ColumnElement[bool]:
        """The condition on a relation's own times."""
        moment = self.as_of or self.now
        ends = func.coalesce(relations.c.valid_to, _NEVER) > moment
        begins = func.coalesce(relations.c.valid_from, "") <= moment
        return and_(ends, begins) if self.as_of is not None else ends

    @cached_property
    def _named_in(self) -> ColumnElement[bool]:
        place: ColumnElement[bool] = entities.c.space.in_(self.space_ids)
        if not self.shared:
            return place
        return or_(place, entities.c.space.in_(select(cubes.c.space).where(cubes.c.seq.in_(self.shared))))

    def names(self, connection: Connection, condition: ColumnElement[bool], limit: int) -> list[Name]:
        """Names that a memory in view mentions and that meet the condition, each key once."""
        query = (
            select(entities.c.key, entities.c.name, entities.c.kind)
            .join(mentions, mentions.c.entity == entities.c.id)
            .join(cubes, cubes.c.seq == mentions.c.cube)
            .where(self._named_in, condition, self.standing(cubes))
            .distinct()
            .order_by(func.length(entities.c.key), entities.c.key)
            .limit(limit)
        )
        return list({row.key: Name(*row) for row in connection.execute(query).all()}.values())

    def out_of(self, connection: Connection, node: Node, relation: str | None, limit: int) -> list[Edge]:
        """Edges that begin at the node, newest first, at most `limit` of each kind of edge."""
        if isinstance(node, Name):
            return self._stated(connection, node, relation, limit, outwards=True)
        return self._links_out(connection, node, relation, limit) + self._mentions_of(connection, node, relation, limit)

    def into(self, connection: Connection, node: Node, relation: str | None, limit: int) -> list[Edge]:
        """Edges that end at the node, newest first, at most `limit` of each kind of edge."""
        if isinstance(node, Memory):
            return self._links_in(connection, node, relation, limit)
        stated = self._stated(connection, node, relation, limit, outwards=False)
        return stated + self._mentioned_in(connection, node, relation, limit)

    def _links_out(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        at = cubes.alias()
        superseded = relation == SUPERSEDES
        query = (
            select(links.c.relation, cubes.c.seq, cubes.c.id, at.c.becomes_true, _end(at).label("until"))
            .join(cubes, cubes.c.id == links.c.target)
            .join(at, at.c.seq == links.c.cube)
            .where(links.c.cube == node.seq, _called(relation), self.standing(cubes, superseded=superseded))
        )
        return [
            Edge(node, row.relation, Memory(row.seq, row.id), node, row.becomes_true, row.until)
            for row in _newest(connection, query, limit)
        ]

    def _links_in(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        query = (
            select(links.c.relation, cubes.c.seq, cubes.c.id, cubes.c.becomes_true, _end(cubes).label("until"))
            .join(cubes, cubes.c.seq == links.c.cube)
            .where(links.c.target == node.id, _called(relation), self.standing(cubes))
        )
        found = []
        for row in _newest(connection, query, limit):
            source = Memory(row.seq, row.id)
            found.append(Edge(source, row.relation, node, source, row.becomes_true, row.until))
        return found

    def _mentions_of(self, connection: Connection, node: Memory, relation: str | None, limit: int) -> list[Edge]:
        if relation not in (None, MENTIONS):
            return []
        query = (
            select(entities.c.key, entities.c.name, entities.c.kind, cubes.c.becomes_true, _end(cubes).label("until"))
            .join(mentions, mentions.c.entity == entities.c.id)
            .join(cubes, cubes.c.seq == mentions.c.cube)
            .where(mentions.c.cube == node.seq)
            .order_by(entities.c.id)
            .limit(limit)
        )
        return [
            Edge(node, MENTIONS, Name(row.key, row.name, row.kind), node, row.becomes_true, row.until)
            for row in connection.execute(query).all()
        ]

    def _mentioned_in(self, connection: Connection, node: Name, relation: str | None, limit: int) -> list[Edge]:
        if relation not in (None, MENTIONS):
            return []
        query = (
            select(cubes.c.seq, cubes.c.id, cubes.c.becomes_true, _end(cubes).label("until"))
            .join(mentions, mentions.c.cube == cubes.c.seq)
            .join(entities, entities.c.id == mentions.c.entity)
            .where(self._named_in, entities.c.key == node.key, self.standing(cubes))
        )
        found = []
        for row in _newest(connection, query, limit):
            source = Memory(row.seq, row.id)
            found.append(Edge(source, MENTIONS, node, source, row.becomes_true, row.until))
        return found

    def _stated(
        self, connection: Connection, node: Name, relation: str | None, limit: int, *, outwards: bool
    ) -> list[Edge]:
        other = entities.alias()
        ends = (relations.c.subject, relations.c.object)
        here, there = ends if outwards else ends[::-1]
        wanted = relations.c.relation == relation if relation is not None else relations.c.relation.is_not(None)
        query = (
            select(
                relations.c.relation, other.c.key, other.c.name, other.c.kind, cubes.c.seq, cubes.c.id,
                func.coalesce(relations.c.valid_from, cubes.c.becomes_true).label("since"),
                func.coalesce(relations.c.valid_to, _end(cubes)).label("until"),
            )
            .join(entities, entities.c.id == here)
            .join(other, other.c.id == there)
            .join(cubes, cubes.c.seq == relations.c.cube)
            .where(self._named_in, entities.c.key == node.key, wanted, self.standing(cubes), self.true_then())
        )  # fmt: skip
        found = []
        for row in _newest(connection, query, limit):
            far, memory = Name(row.key, row.name, row.kind), Memory(row.seq, row.id)
            source, target = (node, far) if outwards else (far, node)
            found.append(Edge(source, row.relation, target, memory, row.since, row.until))
        return found


def _end(table: FromClause) -> ColumnElement[Any]:
    """When a superseded memory stopped being true: when what supersedes it became so; null for others."""
    newer = cubes.alias()
    return select(newer.c.becomes_true).where(newer.c.id == table.c.superseded_by).scalar_subquery()


def _called(relation: str | None) -> ColumnElement[bool]:
    """The condition on a link's relation, which callers write as they like."""
    if relation is None:
        return links.c.relation.is_not(None)
    plain = func.lower(func.replace(func.replace(links.c.relation, "_", " "), "-", " "))
    return or_(links.c.relation == relation, plain == relation)


def _newest(connection: Connection, query: Select[Any], limit: int) -> Sequence[Any]:
    return connection.execute(query.order_by(cubes.c.seq.desc()).limit(limit)).all()
