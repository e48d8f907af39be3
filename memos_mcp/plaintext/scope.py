"""Which memories a search may return: spaces, states, times, tags and metadata, as one condition of the ledger.

Knows nothing of scoring; the caller has already asked governance for the spaces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, String, Table, and_, bindparam, false, func, or_, select, true

from memos_mcp.errors import InvalidInput
from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import NOT_STANDING, attributes, cubes, tags
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
_RANGE: dict[str, Callable[[Any, Any], Any]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_NEVER = "9999"
LABELLED = 10_000
"""Rows of tags and metadata up to which those of a filter are listed, where nobody needs to know which are over."""
_SPACE = cubes.c.space + 0
"""No indexed column: of a condition on it and on memories named, the few memories lead, not the many of the space."""


@dataclass(frozen=True)
class _Row:
    """A row of `tags` or `attributes` that a memory must have, or (`absent`) must not have."""

    table: Table
    condition: ColumnElement[bool]
    absent: bool = False

    def test(self) -> ColumnElement[bool]:
        """The same as a condition on the memory's own row."""
        rows = select(self.table.c.cube).where(self.table.c.cube == cubes.c.seq, self.condition)
        found = rows.correlate(cubes).exists()
        return ~found if self.absent else found

    def test_of(self, cube: ColumnElement[Any]) -> ColumnElement[bool]:
        """The same as a condition on a memory's number."""
        rows = select(self.table.c.cube).where(self.condition).correlate(None)
        return cube.not_in(rows) if self.absent else cube.in_(rows)


@dataclass(frozen=True, eq=False)
class Eligible:
    """Memories that a filter leaves: `seqs` (n,), ascending, each once; `sure` if none of them is over."""

    seqs: NDArray[np.int64]
    sure: bool

    def among(self, seqs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these numbers are eligible, shape as `seqs`."""
        return np.isin(seqs, self.seqs)


@dataclass(frozen=True)
class Scope:
    """A search's filter. `now` is when the search happens: what has expired by then is not found.

    `include` names what is found beside live memories: superseded, archived, or everything that the ledger holds.
    """

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

    @property
    def reaches_cold(self) -> bool:
        """Whether memories that do not stand may match."""
        return bool(self.include) or "state" in self.where

    @property
    def reaches_main(self) -> bool:
        """Whether memories that stand may match."""
        return "state" not in self.where or any(holds([state], self.where["state"]) for state in LIVE)

    def eligible(self, connection: Connection, limit: int, *, sure: bool) -> Eligible | None:
        """The matching memories, or None when they are more than `limit`.

        Not `sure`, some of them may be over, and where tags and metadata alone are asked for there may be `LABELLED`.
        """
        if not sure and self._labels_alone:
            return self._labelled(connection)
        found = self.first(connection, limit + 1)
        return Eligible(np.unique(np.array(found, dtype=np.int64)), sure=True) if len(found) <= limit else None

    @property
    def _labels_alone(self) -> bool:
        own = self.kinds or self.after or self.before or self.session or self.written_by or self.shared or self.include
        of_row = any(key in COLUMNS or key in CONSTANTS for key in self.where)
        return not own and not of_row and any(not row.absent for row in self._rows)

    def _labelled(self, connection: Connection) -> Eligible | None:
        """What rows of tags and metadata say alone: a tenth of the work of looking at each memory's own row too."""
        leading = next(row for row in self._rows if not row.absent)
        cube = leading.table.c.cube
        rest = [row.test_of(cube) for row in self._rows if row is not leading]
        query = select(cube).where(leading.condition, *rest).limit(LABELLED + 1)
        found = dialect.numbers_array(connection, dialect.in_one_row(query))
        return Eligible(np.unique(found), sure=False) if len(found) <= LABELLED else None

    def first(self, connection: Connection, limit: int) -> list[int]:
        """Numbers of at most `limit` matching memories, in no order.

        A tag or attribute that is asked for leads, so that a rare one is found without a look at the whole space.
        """
        rows = self._rows
        leading = next((row for row in rows if not row.absent), None)
        rest = [row.test() for row in rows if row is not leading]
        query = select(cubes.c.seq).where(self._own(cubes.c.space), *rest)
        if leading is not None:  # distinct, for a memory may have many such rows, and the limit counts memories
            query = query.join(leading.table, leading.table.c.cube == cubes.c.seq).where(leading.condition).distinct()
        return dialect.numbers(connection, dialect.in_one_row(query.limit(limit)))

    def cold(self, connection: Connection) -> list[int]:
        """Numbers of the matching memories that do not stand."""
        if not self.reaches_cold:
            return []
        # named, for of a large space nothing but these few should be looked at
        query = select(cubes.c.seq).with_hint(cubes, "INDEXED BY cubes_cold", "sqlite")
        tests = (self._own(_SPACE), *(row.test() for row in self._rows))
        return dialect.numbers(connection, dialect.in_one_row(query.where(NOT_STANDING, *tests)))

    def keep(self, connection: Connection, seqs: Sequence[int]) -> set[int]:
        """Those of the given memories that match."""
        query, values = _LIVE_AMONG, {"spaces": dialect.listed(self.space_ids), "now": self.now}
        if self.narrows or self.shared or self.include:
            query, values = self._among, {}
        return set(dialect.numbers(connection, query, {**values, "seqs": dialect.listed(seqs)}))

    @cached_property
    def _among(self) -> Select[Any]:
        condition = and_(self._own(_SPACE), *(row.test() for row in self._rows))
        return dialect.in_one_row(select(cubes.c.seq).where(_NAMED, condition))

    def check(self) -> None:
        """Refuse a filter that makes no sense, before anything is read.

        Raises:
            InvalidInput: see `_tests`.
        """
        for key, wanted in self.where.items():
            _tests(key, wanted)

    def _own(self, space: ColumnElement[Any]) -> ColumnElement[bool]:
        """The part of the filter that a memory's own row answers; `space` is how its space is read."""
        place: ColumnElement[bool] = space.in_(self.space_ids)
        if self.shared:
            place = or_(place, dialect.among_these(cubes.c.seq, self.shared))
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
        for key, wanted in self.where.items():
            if key in CONSTANTS:
                parts.append(true() if holds([CONSTANTS[key]], wanted) else false())
            elif key in COLUMNS:
                parts += [_column_test(COLUMNS[key], *test) for test in _tests(key, wanted)]
        return and_(*parts)

    @cached_property
    def _rows(self) -> list[_Row]:
        """The part of the filter that rows of `tags` and `attributes` answer."""
        rows = [_Row(tags, and_(self._here(tags), tags.c.tag == tag)) for tag in self.tags]
        for key, wanted in self.where.items():
            if key not in CONSTANTS and key not in COLUMNS:
                here = and_(self._here(attributes), attributes.c.key == key)
                rows += [_attribute_row(here, *test) for test in _tests(key, wanted)]
        return rows

    def word_spaces(self, connection: Connection) -> tuple[int, ...]:
        """The spaces whose words are looked up: those searched, and those of memories shared one by one."""
        if not self.shared:
            return self.space_ids
        query = select(cubes.c.space).where(dialect.among_these(cubes.c.seq, self.shared)).distinct()
        return tuple(sorted({*self.space_ids, *connection.execute(query).scalars()}))

    def _here(self, table: Table) -> ColumnElement[bool]:
        """Rows of `tags` or `attributes` that belong to the memories looked at."""
        place = table.c.space.in_(self.space_ids)
        return or_(place, dialect.among_these(table.c.cube, self.shared)) if self.shared else place

    def _alive(self) -> ColumnElement[bool]:
        if "everything" in self.include:
            return true()
        states = list(LIVE) + ([State.ARCHIVED] if "archived" in self.include else [])
        if "state" in self.where:
            states = list(State)
        alive = _standing(states, self.now)
        return alive if "superseded" in self.include else and_(alive, cubes.c.superseded_by.is_(None))


def _standing(states: Sequence[State], now: Any) -> ColumnElement[bool]:
    """In one of the states, and not over by `now`, a time or a parameter for it."""
    # not `in_`, whose list SQLAlchemy writes into the statement each time that it is run
    state = or_(*(cubes.c.state == one for one in states))
    return and_(state, func.coalesce(cubes.c.expires, _NEVER) > now)


_NAMED = dialect.among(cubes.c.seq, "seqs")
_LIVE_AMONG = dialect.in_one_row(
    select(cubes.c.seq).where(
        _NAMED,
        dialect.among(_SPACE, "spaces"),
        _standing(LIVE, bindparam("now")),
        cubes.c.superseded_by.is_(None),
    )
)
"""What most searches ask of the memories they found, made once: to build a statement costs more than to run it."""


def _tests(key: str, wanted: Any) -> list[tuple[str, list[float | str]]]:
    """The tests that `where` names for a key, as (operator, values): equal to any of them is `in`, to none is `ne`.

    Raises:
        InvalidInput: an unknown operator, or a value that is neither text, number, truth nor a list of these.
    """
    tests = []
    for operator, value in (wanted if isinstance(wanted, dict) else {"in": wanted}).items():
        if operator not in ("in", "ne", *_RANGE):
            known = ", ".join(["in", "ne", *_RANGE])
            raise InvalidInput(
                f"where[{key!r}] has the operator {operator!r}: use a plain value, or one of {known}.", field="where"
            )
        values = value if isinstance(value, list) else [value]
        if any(not isinstance(v, str | int | float) for v in values):
            raise InvalidInput(f"where[{key!r}] must be text, a number, true, false or a list of these.", field="where")
        if operator in _RANGE and (isinstance(value, list | bool)):
            raise InvalidInput(f"where[{key!r}] compares with {operator}: give one number or text.", field="where")
        tests.append((operator, [_plain(v) for v in values]))
    return tests


def _plain(value: str | float) -> float | str:
    """A value as the attributes table keeps it: numbers as floats, truths as words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value[:500]
    return float(value) if abs(value) < 1e308 else math.copysign(math.inf, value)


def _column_test(column: ColumnElement[Any], operator: str, values: list[float | str]) -> ColumnElement[bool]:
    fitting = [v for v in values if isinstance(v, str) == isinstance(column.type, String)]
    if operator == "ne":
        return or_(column.is_(None), column.not_in(fitting))
    if operator == "in" or not fitting:
        return column.in_(fitting)
    found: ColumnElement[bool] = _RANGE[operator](column, fitting[0])
    return found


def _attribute_row(here: ColumnElement[bool], operator: str, values: list[float | str]) -> _Row:
    test = "in" if operator == "ne" else operator
    texts: list[float | str] = [v for v in values if isinstance(v, str)]
    numbers: list[float | str] = [v for v in values if not isinstance(v, str)]
    pairs = [(column, part) for column, part in ((attributes.c.text, texts), (attributes.c.number, numbers)) if part]
    held = or_(false(), *(_column_test(column, test, part) for column, part in pairs))
    return _Row(attributes, and_(here, held), absent=operator == "ne")


def holds(values: Sequence[Any], wanted: Any) -> bool:
    """Whether any of a memory's values under one key passes the tests that `where` names for it.

    The same tests as a scope makes, for a former version that has no row to ask.
    """
    plain = [_plain(value) for value in values if value is not None]
    return all(_passes(plain, operator, options) for operator, options in _tests("", wanted))


def _passes(values: Sequence[float | str], operator: str, options: list[float | str]) -> bool:
    if operator in ("in", "ne"):
        return any(value in options for value in values) == (operator == "in")
    bound = options[0]
    return any(isinstance(value, str) == isinstance(bound, str) and _RANGE[operator](value, bound) for value in values)
