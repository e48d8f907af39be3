"""Records what was done, by whom and to which memories, so that it can be told and undone.

Knows no verbs: it keeps references to versions and states, never a memory's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, distinct, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import changes, operations
from memos_mcp.states import State

# Made once: to build a statement costs more than to run it.
_CHANGES = insert(changes)
_ARCHIVED = (
    select(changes.c.cube, operations.c.client)
    .join(operations, operations.c.seq == changes.c.op)
    .where(dialect.among(changes.c.cube, "ids"), changes.c.to_state == State.ARCHIVED)
    .order_by(changes.c.op)
)


class RequestRepeated(Exception):
    """The request of this operation has been carried out already."""


@dataclass(frozen=True)
class Operation:
    """One call's worth of change; `seq` is 0 until it is recorded, `request` the key of the request it carries out."""

    seq: int
    id: str
    verb: str
    principal: str
    client: str | None
    at: str
    reason: str | None
    undoes: str | None
    undone_by: str | None
    purged: bool
    request: str | None = None


@dataclass(frozen=True)
class Change:
    """What an operation did to one memory; None where it had no version or state on that side.

    `from_space` and `to_space`, numbers, are of an operation that gave it another space.
    """

    cube: str
    from_version: int | None
    to_version: int | None
    from_state: State | None
    to_state: State | None
    from_space: int | None = None
    to_space: int | None = None


def begin(
    verb: str,
    principal: str,
    client: str | None,
    at: str,
    reason: str | None = None,
    undoes: str | None = None,
    request: str | None = None,
) -> Operation:
    """A new operation, to be recorded in the transaction that carries it out."""
    return Operation(0, str(ULID()), verb, principal, client, at, reason, undoes, None, False, request)


def record(
    connection: Connection, op: Operation, made: list[Change], answer: Mapping[str, Any] | None = None
) -> None:
    """Keep an operation and its changes, with the answer that its request gets, which holds no memory's text.

    Raises:
        RequestRepeated: another operation has carried the request out; the transaction must be rolled back.
    """
    row: dict[str, Any] = {"id": op.id, "verb": op.verb, "principal": op.principal, "client": op.client, "at": op.at}
    row |= {"reason": op.reason, "undoes": op.undoes, "purged": False, "request": op.request}
    row["answer"] = json.dumps(answer) if op.request is not None and answer is not None else None
    try:
        seq = dialect.insert_row(connection, operations, row)
    except IntegrityError:
        raise RequestRepeated from None
    if made:
        connection.execute(_CHANGES, [{"op": seq, **vars(change)} for change in made])


def answer_to(connection: Connection, principal: str, request: str) -> tuple[bool, dict[str, Any] | None]:
    """Whether the principal's request was carried out, and its answer while that is kept."""
    query = select(operations.c.answer).where(operations.c.request == request, operations.c.principal == principal)
    row = connection.execute(query).first()
    return row is not None, json.loads(row.answer) if row is not None and row.answer is not None else None


def forget_answers(connection: Connection, before: str) -> None:
    """Drop answers older than this: no request is sent again so late."""
    old = (operations.c.answer.is_not(None)) & (operations.c.at < before)
    connection.execute(update(operations).where(old).values(answer=None))


def find(connection: Connection, op_id: str) -> Operation | None:
    """The operation with this id."""
    row = connection.execute(select(operations).where(operations.c.id == op_id)).first()
    return _operation(row) if row else None


def changes_of(connection: Connection, op: Operation) -> list[Change]:
    """What the operation did, a change a memory."""
    rows = connection.execute(select(changes).where(changes.c.op == op.seq).order_by(changes.c.cube))
    return [_change(row) for row in rows]


def latest(connection: Connection, principal: str, count: int, before: int | None = None) -> list[Operation]:
    """The principal's newest operations, newest first."""
    query = select(operations).where(operations.c.principal == principal).order_by(operations.c.seq.desc())
    if before is not None:
        query = query.where(operations.c.seq < before)
    return [_operation(row) for row in connection.execute(query.limit(count))]


def of_cube(connection: Connection, cube: str, after: int = 0) -> list[tuple[Operation, Change]]:
    """Every operation numbered above `after` that touched the memory, oldest first, with what it did to it."""
    sides = [c for c in changes.c if c.name != "op"]
    query = (
        select(operations, *sides)
        .join(changes, changes.c.op == operations.c.seq)
        .where(changes.c.cube == cube, operations.c.seq > after)
        .order_by(operations.c.seq)
    )
    return [(_operation(row), _change(row)) for row in connection.execute(query)]


def archived_by(connection: Connection, ids: Sequence[str], client: str) -> set[str]:
    """Those of the memories whose last way into the archive was an operation of this client."""
    last = {row.cube: row.client for row in connection.execute(_ARCHIVED, {"ids": dialect.listed(ids)})}
    return {cube for cube, by in last.items() if by == client}


def states_at(connection: Connection, ids: Sequence[str], at: str) -> dict[str, State]:
    """The states at a time of those of the memories that have moved since."""
    query = (
        select(changes.c.cube, changes.c.from_state)
        .join(operations, operations.c.seq == changes.c.op)
        .where(dialect.among(changes.c.cube, "ids"), operations.c.at > at, changes.c.from_state.is_not(None))
        .order_by(changes.c.op.desc())
    )
    return {row.cube: State(row.from_state) for row in connection.execute(query, {"ids": dialect.listed(ids)})}


def spaces_at(connection: Connection, at: str) -> dict[str, int]:
    """The spaces in which those memories were at a time that were moved to another since, by id."""
    since = select(operations.c.seq).where(operations.c.at > at)
    moved = changes.c.from_space.is_not(None) & changes.c.op.in_(since)
    query = select(changes.c.cube, changes.c.from_space).where(moved).order_by(changes.c.op.desc())
    return {row.cube: int(row.from_space) for row in connection.execute(query)}


def frozen_from_at(connection: Connection, ids: Sequence[str], at: str) -> dict[str, State]:
    """Of memories that were frozen at a time, the states from which they were."""
    query = (
        select(changes.c.cube, changes.c.from_state)
        .join(operations, operations.c.seq == changes.c.op)
        .where(dialect.among(changes.c.cube, "ids"), operations.c.at <= at, changes.c.to_state == State.FROZEN)
        .order_by(changes.c.op)
    )
    return {row.cube: State(row.from_state) for row in connection.execute(query, {"ids": dialect.listed(ids)})}


def purged_since(connection: Connection, at: str) -> int:
    """How many memories of the store were purged after a time that were written by then."""
    purges = connection.execute(select(operations.c.seq).where(operations.c.at > at, operations.c.verb == "purge"))
    given = {"purges": dialect.listed(purges.scalars())}
    gone = select(changes.c.cube).where(dialect.among(changes.c.op, "purges"))
    first, began = changes.alias(), operations.alias()
    written = select(func.count(distinct(first.c.cube))).join(began, began.c.seq == first.c.op)
    return int(connection.execute(written.where(first.c.cube.in_(gone), began.c.at <= at), given).scalar_one())


def newest(connection: Connection) -> int:
    """The number of the last operation; 0 when there is none."""
    return int(connection.execute(select(func.max(operations.c.seq))).scalar() or 0)


def changed_after(connection: Connection, op: int, cube: str, limit: int) -> list[tuple[int, str]]:
    """The next changes behind that of memory `cube` by operation number `op`, as such pairs, in order.

    That a memory was used is none.
    """
    later = (changes.c.op > op) | ((changes.c.op == op) & (changes.c.cube > cube))
    query = select(changes.c.op, changes.c.cube).join(operations, operations.c.seq == changes.c.op)
    query = query.where(changes.c.op >= op, later, operations.c.verb != "use")
    rows = connection.execute(query.order_by(changes.c.op, changes.c.cube).limit(limit)).all()
    return [(int(row.op), str(row.cube)) for row in rows]


def mark_undone(connection: Connection, op: Operation, by: str | None) -> None:
    """Note that another operation took this one back; None when that one was itself taken back."""
    connection.execute(update(operations).where(operations.c.id == op.id).values(undone_by=by))


def mark_purged(connection: Connection, cubes: list[str]) -> None:
    """Bar the undoing of every operation that touched one of these memories."""
    for start in range(0, len(cubes), 500):
        touched = select(changes.c.op).where(changes.c.cube.in_(cubes[start : start + 500]))
        connection.execute(update(operations).where(operations.c.seq.in_(touched)).values(purged=True))


def count(connection: Connection) -> int:
    """How many operations the ledger holds."""
    return int(connection.execute(select(func.count()).select_from(operations)).scalar_one())


def _operation(row: Row[tuple[object, ...]]) -> Operation:
    return Operation(
        row.seq, row.id, row.verb, row.principal, row.client, row.at, row.reason, row.undoes, row.undone_by, row.purged
    )


def _change(row: Row[tuple[object, ...]]) -> Change:
    return Change(
        row.cube,
        row.from_version,
        row.to_version,
        State(row.from_state) if row.from_state else None,
        State(row.to_state) if row.to_state else None,
        row.from_space,
        row.to_space,
    )
