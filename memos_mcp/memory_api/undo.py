"""The verb undo: takes one operation back, as an operation of its own that can be undone too."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from memos_mcp.cube import Cube
from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, vectors
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import feedback, policy, promote, published, relocate, standing
from memos_mcp.memory_api.parts import Parts, begun, cubes_for, operation_for
from memos_mcp.requests import UndoRequest
from memos_mcp.results import UndoResult
from memos_mcp.states import USED, State


def undo(parts: Parts, caller: Caller, request: UndoRequest) -> UndoResult:
    """Take back everything that one operation did, or nothing.

    Raises:
        NotFound: no such operation. Conflict: it was undone already, or purged, or a later one stands in the way.
        AccessDenied: a memory that it touched is not the caller's to write.
    """
    with parts.ledger.write() as connection:
        target, made = operation_for(parts, connection, caller, request.op)
        stood = standing.concerns(connection, target) and not _changed_memories(made)
        _require_undoable(target, outlives=stood)
        if stood:
            result, follow = standing.take_back(parts, connection, caller, target)
        elif promote.changes_form(made):
            result, follow = promote.take_back(parts, connection, caller, target, made)
        elif policy.gave(connection, target, made):
            result, follow = policy.take_back(parts, connection, caller, target)
        else:
            result, follow = _taken_back(parts, connection, caller, target, made)
        _mark_undone(connection, target, result["op"])
    follow()
    return result


def _taken_back(
    parts: Parts, connection: Connection, caller: Caller, target: Operation, made: list[Change]
) -> tuple[UndoResult, Callable[[], None]]:
    """The result, and what is to follow the commit."""
    cubes = {c.id: c for c in cubes_for(parts, connection, caller, [change.cube for change in made], "write")}
    op = begun(parts, caller, "undo", f"undo of {target.verb}", target.id)
    taken = [_take_back(parts, connection, op, target, cubes[change.cube], change) for change in made]
    for cube, change in taken:
        if change.to_version is not None:
            again = target.undoes is not None
            feedback.undone(parts, connection, caller, cubes[cube.id], cube, again=again, at=op.at)
    undone = [(cube, change) for cube, change in taken if change.to_version or change.to_state or change.to_space]
    if not undone:
        cube = cubes[made[0].cube]
        raise _in_the_way(parts, connection, target, cube, _fields(parts, connection, cube, made[0]))
    published.taken_back(parts, connection, op, target)
    result: UndoResult = {"undone": [cube.id for cube, _ in undone], "op": op.id}
    operations.record(connection, op, [change for _, change in undone], result)
    after = [cube for cube, _ in undone]
    before = [cubes[cube.id] for cube in after if cube.space != cubes[cube.id].space]
    return result, lambda: relocate.tell(parts, caller, before, after)


def _changed_memories(made: list[Change]) -> bool:
    return any(change.to_version or change.to_state or change.to_space for change in made)


def _require_undoable(target: Operation, *, outlives: bool) -> None:
    """`outlives`: what is purged of it does not keep the rest from being taken back."""
    if target.purged and not outlives:
        raise Conflict(f"Operation {target.id} touched a memory that is purged: nothing of it can be brought back.")
    if target.undone_by is not None:
        raise Conflict(f"Operation {target.id} was undone by {target.undone_by}: undo that one to bring it back.")


def _mark_undone(connection: Connection, target: Operation, by: str) -> None:
    """Mark the target undone, and down the chain of what it undid: that stands again, what that undid is undone."""
    operations.mark_undone(connection, target, by)
    stands = True
    while target.undoes is not None:
        former = operations.find(connection, target.undoes)
        if former is None:
            return
        operations.mark_undone(connection, former, None if stands else target.id)
        target, stands = former, not stands


def _take_back(
    parts: Parts, connection: Connection, op: Operation, target: Operation, cube: Cube, change: Change
) -> tuple[Cube, Change]:
    if change.to_space is not None:
        return relocate.take_back(parts, connection, op, cube, change)
    if change.from_version is None and change.from_state is None:
        return _take_back_creation(parts, connection, op, target, cube, change)
    before = cube
    if change.from_state is not None and change.to_state is not None:
        # that it was used since does not stand in the way
        same = cube.state == change.to_state or (cube.state in USED and change.to_state in USED)
        if not same:
            raise _in_the_way(parts, connection, target, cube, set())
        if cube.state is not change.from_state:
            cube, _ = parts.vault.move(connection, op, cube, change.from_state, "undo")
    if change.from_version is not None and change.to_version is not None:
        cube = _restore(parts, connection, op, target, cube, change.from_version, change.to_version)
    versions = (before.version, cube.version) if cube.version != before.version else (None, None)
    states = (before.state, cube.state) if cube.state is not before.state else (None, None)
    return cube, Change(cube.id, *versions, *states)


def _take_back_creation(
    parts: Parts, connection: Connection, op: Operation, target: Operation, cube: Cube, change: Change
) -> tuple[Cube, Change]:
    made = parts.vault.version(connection, cube, change.to_version or 1)
    changed = cube.snapshot.changed(made) if made is not None else set()
    if made is None or changed or cube.state not in USED:
        raise _in_the_way(parts, connection, target, cube, changed)
    return parts.vault.move(connection, op, cube, State.EXPIRED, "undo")


def _restore(
    parts: Parts, connection: Connection, op: Operation, target: Operation, cube: Cube, old: int, new: int
) -> Cube:
    """Give the fields that the operation changed their former values; what others changed since stays."""
    was = parts.vault.version(connection, cube, old)
    became = parts.vault.version(connection, cube, new)
    if was is None or became is None:
        raise Conflict(f"Memory {cube.id} no longer has version {old}: it cannot be restored.")
    names = was.changed(became)
    if any(getattr(cube.snapshot, n) not in (getattr(became, n), getattr(was, n)) for n in names):
        raise _in_the_way(parts, connection, target, cube, names)
    snapshot = cube.snapshot.merged(names, was)
    if snapshot == cube.snapshot:
        return cube
    number = parts.embedder_number()
    vector = vectors.of_version(connection, number, cube.seq, old) if number else None
    return parts.vault.rewrite(connection, op, cube, snapshot, vector, number)[0]


def _in_the_way(
    parts: Parts, connection: Connection, target: Operation, cube: Cube, names: set[str]
) -> Conflict:
    """The conflict that names the newest standing operation since `target` that changed these fields, or the state."""
    later = operations.of_cube(connection, cube.id, after=target.seq)
    gone = {op.id for op, _ in later if op.undone_by is not None}
    blocking = cube.op
    for op, change in later:
        stands = op.id not in gone and op.undoes not in gone and op.verb != "use"
        if stands and (names & _fields(parts, connection, cube, change) or (change.to_state and not names)):
            blocking = op.id
    why = f"its {', '.join(sorted(names))} changed since" if names else f"it is {cube.state} since"
    return Conflict(f"Memory {cube.id} cannot be taken back, for {why}: undo operation {blocking} first.")


def _fields(parts: Parts, connection: Connection, cube: Cube, change: Change) -> set[str]:
    """Names of the fields that a change of the memory's version touched."""
    if change.from_version is None or change.to_version is None:
        return set()
    was = parts.vault.version(connection, cube, change.from_version)
    became = parts.vault.version(connection, cube, change.to_version)
    return was.changed(became) if was is not None and became is not None else set()
