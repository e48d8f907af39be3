"""Which memories a search may return: spaces, states, times, tags and metadata, as one condition of the ledger.

Knows nothing of scoring; the caller has already asked governance for the spaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from memos_mcp.errors import InvalidInput
from memos_mcp.ledger.schema import attributes, cubes, tags
from memos_mcp.states import LIVE, State

COLUMNS = {
    "source": cubes.c.source,
    "importance": cubes.c.importance,
    "state": cubes.c.state,
    "kind": cubes.c.kind,
    "session": cubes.c.session,
    "ref": cubes.c.ref,
    "language": cubes.c.language,
}
CONSTANTS = {"form": "plaintext", "modality": "text"}
_RANGE = ("gt", "gte", "lt", "lte", "ne", "in")
_PART = 900


@dataclass(frozen=True)
class Scope:
    """A search's filter. `now` is when the search happens: what has expired by then is not found."""

    space_ids: tuple[int, ...]
    now: str
    shared: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    session: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    written_by: str | None = None

    @property
    def narrows(self) -> bool:
        """Whether the caller asked for less than all live memories of the spaces."""
        return bool(
            self.kinds or self.tags or self.after or self.before or self.session or self.where or self.written_by
        )

    def first(self, connection: Connection, limit: int) -> list[int]:
        """Numbers of at most `limit` matching memories, in no order."""
        return list(connection.execute(select(cubes.c.seq).where(self.condition()).limit(limit)).scalars())

    def keep(self, connection: Connection, seqs: Sequence[int]) -> set[int]:
        """Those of the given memories that match."""
        condition, kept = self.condition(), set[int]()
        for start in range(0, len(seqs), _PART):
            query = select(cubes.c.seq).where(cubes.c.seq.in_(seqs[start : start + _PART]), condition)
            kept.update(connection.execute(query).scalars())
        return kept

    def condition(self) -> ColumnElement[bool]:
        """The filter as a condition on the cubes table.

        Raises:
            InvalidInput: `where` names an operator that does not exist.
        """
        place: ColumnElement[bool] = cubes.c.space.in_(self.space_ids)
        if self.shared:
            place = or_(place, cubes.c.seq.in_(self.shared))
        parts = [place, self._alive()]
        if self.kinds:
            parts.append(cubes.c.kind.in_(self.kinds))
        if self.after:
            parts.append(cubes.c.becomes_true >= self.after)
        if self.before:
            parts.append(cubes.c.becomes_true < self.before)
        if self.session:
            parts.append(cubes.c.session == self.session)
        if self.written_by:
            parts.append(cubes.c.created <= self.written_by)
        for tag in self.tags:
            tagged = select(tags.c.cube).where(tags.c.space.in_(self.space_ids), tags.c.tag == tag)
            parts.append(cubes.c.seq.in_(tagged))
        for key, wanted in self.where.items():
            parts.append(_where(self.space_ids, key, wanted))
        return and_(*parts)

    def _alive(self) -> ColumnElement[bool]:
        states = list(LIVE) + ([State.ARCHIVED] if "archived" in self.include else [])
        if "state" in self.where:
            states = list(State)
        alive = and_(cubes.c.state.in_(states), or_(cubes.c.expires.is_(None), cubes.c.expires > self.now))
        return alive if "superseded" in self.include else and_(alive, cubes.c.superseded_by.is_(None))


def _where(space_ids: Sequence[int], key: str, wanted: Any) -> ColumnElement[bool]:
    tests = wanted if isinstance(wanted, dict) else {"eq": wanted}
    return and_(*(_one_test(space_ids, key, operator, value) for operator, value in tests.items()))


def _one_test(space_ids: Sequence[int], key: str, operator: str, value: Any) -> ColumnElement[bool]:
    if operator not in ("eq", *_RANGE):
        raise InvalidInput(
            f"where[{key!r}] has the operator {operator!r}: use a plain value, or one of {', '.join(_RANGE)}.",
            field="where",
        )
    if key in CONSTANTS:
        same = CONSTANTS[key] in (value if isinstance(value, list) else [value])
        return cubes.c.seq.is_not(None) if same != (operator == "ne") else cubes.c.seq.is_(None)
    if key in COLUMNS:
        return _compare(COLUMNS[key], operator, value)
    values = value if isinstance(value, list) else [value]
    number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    column = attributes.c.number if number else attributes.c.text
    if not number:
        value = [_as_text(v) for v in values] if isinstance(value, list) else _as_text(value)
    here = (attributes.c.space.in_(space_ids), attributes.c.key == key)
    if operator == "ne":
        same_value = exists().where(attributes.c.cube == cubes.c.seq, *here, column == value)
        return ~same_value
    return cubes.c.seq.in_(select(attributes.c.cube).where(*here, _compare(column, operator, value)))


def _compare(column: ColumnElement[Any], operator: str, value: Any) -> ColumnElement[bool]:
    if operator == "in" or isinstance(value, list):
        return column.in_(value if isinstance(value, list) else [value])
    tests = {
        "eq": lambda: column == value,
        "ne": lambda: column != value,
        "gt": lambda: column > value,
        "gte": lambda: column >= value,
        "lt": lambda: column < value,
        "lte": lambda: column <= value,
    }
    return tests[operator]()


def _as_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)[:500]


def holds(values: Sequence[Any], operator_and_value: Any) -> bool:
    """Whether any of a memory's values under one key passes the test that `where` names for it.

    The same tests as `Scope.condition`, for a former version that has no row to ask.
    """
    tests = operator_and_value if isinstance(operator_and_value, dict) else {"eq": operator_and_value}
    return all(_passes(values, operator, wanted) for operator, wanted in tests.items())


def _passes(values: Sequence[Any], operator: str, wanted: Any) -> bool:
    if operator == "ne":
        return not _passes(values, "eq", wanted)
    if operator in ("eq", "in"):
        options = wanted if isinstance(wanted, list) else [wanted]
        return any(value in options for value in values)
    compare = {"gt": gt, "gte": ge, "lt": lt, "lte": le}[operator]
    return any(type(value) is type(wanted) and compare(value, wanted) for value in values)
