"""The background's verb: keeps what turns of a conversation state beside them, with lineage to them.

Knows neither when it is done nor what drew the statements out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators.extraction import alike, speaks
from memos_mcp.operators.statements import Extracted
from memos_mcp.states import LIVE, State

VERB = "extract"
KEY = "extracted"
"""Tag and metadata key of a memory that was drawn out of a turn; under it: by, rule or model, and confidence."""
CLIENT = "memos-mcp extraction"
MOST_PARENTS = 50
"""Turns that one statement is traced to; said again after that, it stays as it is."""
_STANDING = tuple(state for state in LIVE if state is not State.FROZEN)


@dataclass(frozen=True)
class Found:
    """What was found in one turn, as it was when it was read; `model` is None for rules."""

    turn: Cube
    statements: Sequence[Extracted]
    model: str | None = None


def eligible(turn: Cube, now: str) -> bool:
    """Whether statements may be drawn out of a memory: a person's own turn that stands and is no secret."""
    said = turn.snapshot
    open_turn = said.kind == "dialogue" and said.sensitivity != "secret"
    return open_turn and turn.is_alive(now) and speaks(said.role, said.name)


def keep(
    parts: Parts,
    found: Sequence[Found],
    note: str | None = None,
    upto: int = 0,
    *,
    reason: str | None = None,
    follow: Callable[[Connection, Sequence[str]], None] = lambda _connection, _ops: None,
) -> int:
    """Write what was found in one transaction, with the note in the ledger that turns up to `upto` are read.

    `reason` is that of the operations, else what drew the statements out; `follow` is called at the end of the
    transaction with their ids.

    A turn that changed or went in between gives nothing. Of one request's turns it is one operation, in the name of who
    made the request. What is known already is not written again: a statement drawn out before is traced to the further
    turn, a memory of the caller's own is left as it is. Returns how many memories were written.

    Raises:
        StorageFailed: nothing was written, and the note stands where it stood.
    """
    told: list[tuple[Caller, list[Cube]]] = []
    with parts.ledger.write() as connection:
        if note is not None:
            parts.ledger.put(connection, note, str(upto))
        ops: list[str] = []
        present = parts.vault.by_ids(connection, [one.turn.id for one in found])
        groups: dict[tuple[str, str, str | None], list[Found]] = {}
        for one in found:
            turn = present.get(one.turn.id)
            if turn is not None and turn.version == one.turn.version and eligible(turn, parts.stamp()):
                writer = _writer(connection, turn)
                if writer is not None:
                    groups.setdefault((*writer, one.model), []).append(replace(one, turn=turn))
        for (_, principal, model), of_request in groups.items():
            space = of_request[0].turn.space_name
            caller = Caller(principal, space, CLIENT)
            op = operations.begin(VERB, principal, CLIENT, parts.stamp(), reason or _drawn_by(model))
            written = _keep_of_request(parts, connection, op, of_request)
            if written:
                told.append((caller, written))
                ops.append(op.id)
        follow(connection, ops)
    for caller, written in told:
        parts.changed(caller, written, listing=True)
    return sum(len(written) for _, written in told)


def take_back(parts: Parts, turns: Sequence[str]) -> None:
    """End what was drawn out of these turns alone, where they were undone: what was never said was never stated."""
    with parts.ledger.read() as connection:
        undone = [cube.id for cube in parts.vault.by_ids(connection, turns).values() if cube.state is State.EXPIRED]
        if not undone or not parts.vault.derived_from(connection, undone):
            return
    ended: dict[Caller, list[Cube]] = {}
    with parts.ledger.write() as connection:
        for cube in parts.vault.derived_from(connection, undone):
            parents = parts.vault.by_ids(connection, cube.snapshot.parents).values()
            stands = any(parent.state is not State.EXPIRED for parent in parents)
            if KEY not in cube.snapshot.metadata or cube.state not in _STANDING or stands or not parents:
                continue
            writer = _writer(connection, cube)
            caller = Caller(writer[1] if writer else cube.owner, cube.space_name, CLIENT)
            op = operations.begin(VERB, caller.principal, CLIENT, parts.stamp(), "its turn was undone")
            moved, change = parts.vault.move(connection, op, cube, State.EXPIRED, "undo")
            operations.record(connection, op, [change])
            ended.setdefault(caller, []).append(moved)
    for caller, cubes in ended.items():
        parts.changed(caller, cubes, listing=True)


def _writer(connection: Connection, cube: Cube) -> tuple[str, str] | None:
    """The operation that wrote the memory and whose it was, while that one may still write to the space."""
    made = operations.of_cube(connection, cube.id)
    if not made:
        return None
    principal = made[0][0].principal
    space = governance.space_of(connection, cube.space)
    return (made[0][0].id, principal) if governance.may(connection, principal, "write", space) else None


def _drawn_by(model: str | None) -> str:
    return "rules" if model is None else f"model {model}"


def _keep_of_request(parts: Parts, connection: Connection, op: Operation, found: Sequence[Found]) -> list[Cube]:
    written: dict[str, Cube] = {}
    changes: dict[str, Change] = {}
    for one in found:
        for statement in one.statements:
            done = _keep_one(parts, connection, op, one, statement, set(changes))
            if done is not None:
                written[done[0].id] = done[0]
                changes.setdefault(done[0].id, done[1])
    if changes:
        operations.record(connection, op, list(changes.values()))
    return list(written.values())


def _keep_one(
    parts: Parts, connection: Connection, op: Operation, one: Found, statement: Extracted, touched: set[str]
) -> tuple[Cube, Change] | None:
    turn = one.turn
    known = parts.vault.by_content(connection, turn.space, statement.text, parts.stamp())
    if not known:
        if one.model is not None and _said_alike(parts, connection, turn, statement):
            return None
        space = governance.space_of(connection, turn.space)
        cubes, changes = parts.vault.insert(connection, op, space, [_draft(one, statement)], None, 0)
        return cubes[0], changes[0]
    drawn = [cube for cube in known if KEY in cube.snapshot.metadata and cube.state in _STANDING]
    if not drawn or drawn[0].id in touched:
        return None
    held = drawn[0].snapshot
    if turn.id in held.parents or len(held.parents) >= MOST_PARENTS or held.superseded_by is not None:
        return None
    lives = None if held.expires is None or turn.snapshot.expires is None else max(held.expires, turn.snapshot.expires)
    snapshot = replace(held, parents=(*held.parents, turn.id), expires=lives)
    return parts.vault.rewrite(connection, op, drawn[0], snapshot, None, 0)


def _said_alike(parts: Parts, connection: Connection, turn: Cube, statement: Extracted) -> bool:
    """Whether the turn's other statements, which the rules drew out, say this already."""
    return any(
        alike(cube.snapshot.content, statement.text) for cube in parts.vault.derived_from(connection, [turn.id])
    )


def _draft(one: Found, statement: Extracted) -> Snapshot:
    said = one.turn.snapshot
    how: dict[str, Any] = {"by": "rules", "rule": statement.rule} if one.model is None else {
        "by": "model", "model": one.model
    }  # fmt: skip
    return Snapshot(
        content=statement.text,
        kind=statement.kind,
        valid_from=one.turn.becomes_true,
        session=said.session,
        source=said.source,
        tags=tuple(dict.fromkeys((*said.tags, KEY))),
        metadata={KEY: {**how, "confidence": statement.confidence}},
        importance=said.importance,
        expires=said.expires,
        sensitivity=said.sensitivity,
        parents=(one.turn.id,),
    )
