"""The time machine: the memories of a space as they stood at a time, and bringing a space back to it.

Knows no index: what was so is read from versions, operations and changes. What was purged is nowhere to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from memos_mcp import governance
from memos_mcp.cube import Cube, Snapshot, parse_instant
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import operations, standings, vectors
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.schema import changes, cubes
from memos_mcp.ledger.schema import operations as operations_table
from memos_mcp.memory_api.parts import Parts, begun
from memos_mcp.ports import Vector
from memos_mcp.requests import PastRequest, RestoreRequest
from memos_mcp.results import PastMemory, PastResult, RestoredMemory, RestoreResult
from memos_mcp.states import MOVES, USED, State

PAGE = 50
CHARS = 2_000
"""Characters of a memory's text on a page."""
MOST = 20_000
"""Memories that one restoration looks at."""
VERB = "restore"
_AWAY = "it was moved to another space since: undo what moved it (memory_history), and restore again"
_HERE = "it was moved here since: undo what moved it (memory_history)"
_SHARED = "what it was published in, or with whom it was shared, changed since and stays as it is"
_GOES = (State.GENERATED, State.ACTIVATED, State.MERGED)
"""States of what was written since that is archived by a restoration; in others it is out of the way, or frozen."""


def past(parts: Parts, caller: Caller, request: PastRequest) -> PastResult:
    """A page of a space's memories as they stood at a time, in the order of writing, whatever state they were in.

    Raises:
        NotFound: no such space, or not the caller's to see. InvalidInput: no such time.
    """
    at = parse_instant(request.at, "at")
    with parts.ledger.read() as connection:
        space = governance.readable_spaces(connection, caller, [request.space or caller.space])[0]
        found, following = _page(parts, connection, caller, space, request.after, at)
        were = as_they_were(parts, connection, found, at)
        result: PastResult = {
            "space": space.name,
            "as_of": at,
            "memories": [_told(were[cube.id], cube) for cube in found if cube.id in were],
            "purged": operations.purged_since(connection, at),
        }
    if following is not None:
        result["next"] = following
    return result


def _page(
    parts: Parts, connection: Connection, caller: Caller, space: Space, after: int, at: str
) -> tuple[list[Cube], int | None]:
    """A page of the memories that were in the space at a time, and the number to go on from; None at the end.

    One that was moved away since is among them if the caller may read what it was where it is now.
    """
    found = parts.vault.page(connection, space.id, after, PAGE + 1, created_by=at)
    upto = found[PAGE - 1].seq if len(found) > PAGE else None
    was_in = operations.spaces_at(connection, at)
    there = [cube for cube in found if was_in.get(cube.id, space.id) == space.id]
    there += [cube for cube in _gone(parts, connection, caller, space, was_in) if cube.seq > after]
    there = sorted((cube for cube in there if upto is None or cube.seq <= upto), key=lambda cube: cube.seq)
    return there[:PAGE], there[PAGE - 1].seq if len(there) > PAGE else upto


def _gone(
    parts: Parts, connection: Connection, caller: Caller, space: Space, was_in: Mapping[str, int]
) -> list[Cube]:
    """The memories that were in the space then and are in another now, of those that the caller may read there."""
    ids = [cube for cube, number in was_in.items() if number == space.id]
    away = [cube for cube in parts.vault.by_ids(connection, ids).values() if cube.space != space.id]
    homes = {number: governance.space_of(connection, number) for number in {cube.space for cube in away}}
    return [
        cube for cube in away
        if governance.may_ever(connection, caller.principal, "read", homes[cube.space], cube.seq)
    ]  # fmt: skip


def as_they_were(parts: Parts, connection: Connection, found: Sequence[Cube], at: str) -> dict[str, Cube]:
    """The memories with the version and the state that each had at a time; those not written yet are left out."""
    there = [cube for cube in found if cube.created <= at]
    former = parts.vault.versions_at(connection, [cube.seq for cube in there if cube.updated > at], at)
    states = operations.states_at(connection, [cube.id for cube in there], at)
    were: dict[str, Cube] = {}
    for cube in there:
        was = replace(cube, state=states.get(cube.id, cube.state))
        if cube.updated > at:
            version = former.get(cube.seq)
            if version is None:
                continue
            was = replace(
                was, version=version.number, op=version.op, updated=version.since, snapshot=version.snapshot
            )
        were[cube.id] = was
    return were


def vector_at(connection: Connection, number: int, was: Cube) -> Vector | None:
    """The vector of the version, or of the nearest earlier one: a change of tags alone makes no new vector."""
    for version in range(was.version, 0, -1):
        kept = vectors.of_version(connection, number, was.seq, version)
        if kept is not None:
            return kept
    return None


def _told(was: Cube, now: Cube) -> PastMemory:
    return {
        "id": was.id,
        "uri": was.uri if was.version == now.version else f"{was.uri}/v/{was.version}",
        "kind": was.snapshot.kind,
        "state": was.state,
        "version": was.version,
        "valid_from": was.becomes_true,
        "text": was.snapshot.content[:CHARS],
        "changed": _differ(was, now),
    }


def _differ(was: Cube, now: Cube) -> bool:
    """Whether a memory is otherwise today; that it was used since is no such change."""
    moved = was.state is not now.state and not (was.state in USED and now.state in USED)
    return moved or was.snapshot != now.snapshot


@dataclass(frozen=True)
class _Step:
    """What is done to a memory: `snapshot` becomes its next version, then it moves to `target`; None for neither.

    `was` is the memory at that time, None for one that was written since.
    """

    cube: Cube
    was: Cube | None
    snapshot: Snapshot | None
    target: State | None

    @property
    def why(self) -> str:
        if self.was is None:
            return "it was written since"
        fields = sorted(self.was.snapshot.changed(self.cube.snapshot))
        parts = [f"its {', '.join(fields)} changed since"] if fields else []
        parts += [f"it was {self.target}"] if self.target is not None else []
        return " and ".join(parts)


@dataclass(frozen=True)
class _Plan:
    """What a restoration does, and which memories it leaves as they are, with the reason."""

    steps: list[_Step]
    left: list[tuple[Cube, str]]


def restore(parts: Parts, caller: Caller, request: RestoreRequest) -> RestoreResult:
    """Bring the memories of a space back to how they stood at a time, as one operation; a `dry_run` says what that is.

    Former contents come back as new versions, memories move back, and what was written since is archived. That a memory
    was used since is not taken back. What is frozen, or not the caller's to change, is left as it is and named.

    Raises:
        NotFound: no such space, or not the caller's to see. InvalidInput: no such time, or too many memories.
    """
    at = parse_instant(request.at, "at")
    opened = parts.ledger.read() if request.dry_run else parts.ledger.write()
    with opened as connection:
        space = governance.readable_spaces(connection, caller, [request.space or caller.space])[0]
        plan = _plan(parts, connection, caller, space, at)
        result = _result(space, at, plan, operations.purged_since(connection, at))
        if request.dry_run or not plan.steps:
            return result
        op = begun(parts, caller, VERB, f"as of {at}")
        result["op"] = op.id
        done = _carried_out(parts, connection, op, plan.steps, at)
        operations.record(connection, op, [change for _, change in done], result)
    parts.changed(caller, [cube for cube, _ in done], listing=True)
    return result


def _plan(parts: Parts, connection: Connection, caller: Caller, space: Space, at: str) -> _Plan:
    touched = _touched_since(connection, space, at)
    if len(touched) > MOST:
        raise InvalidInput(
            f"Over {MOST:,} memories of the space have changed since {at}: choose a later time, or undo operations.",
            field="at",
        )
    was_in = operations.spaces_at(connection, at)
    left = [(cube, _AWAY) for cube in _gone(parts, connection, caller, space, was_in) if cube.created <= at]
    found = parts.vault.by_seqs(connection, touched).values()
    left += [(cube, _HERE) for cube in found if was_in.get(cube.id, space.id) != space.id]
    present = [cube for cube in found if was_in.get(cube.id, space.id) == space.id]
    were = as_they_were(parts, connection, present, at)
    steps: list[_Step] = []
    for cube in present:
        step = _step(cube, were.get(cube.id))
        if step is None:
            continue
        why = _in_the_way(connection, caller, space, step)
        if why is None:
            steps.append(step)
        else:
            left.append((cube, why))
    concerned = standings.concerned_since(connection, space.id, at)
    left += [(cube, _SHARED) for cube in parts.vault.by_seqs(connection, concerned).values()]
    return _Plan(steps, left)


def _touched_since(connection: Connection, space: Space, at: str) -> list[int]:
    """Numbers of the space's memories that operations since the time touched, but for their being used.

    Goes by the operations since, not by the memories of the space.
    """
    done = select(operations_table.c.seq).where(operations_table.c.at > at, operations_table.c.verb != "use")
    since = select(changes.c.cube).where(changes.c.op.in_(done))
    here = cubes.c.space + 0 == space.id  # as a sum, it is no reason to read the space's index from end to end
    query = select(cubes.c.seq).where(cubes.c.id.in_(since), here).order_by(cubes.c.seq)
    return list(connection.execute(query.limit(MOST + 1)).scalars())


def _step(cube: Cube, was: Cube | None) -> _Step | None:
    """What brings a memory back; None for nothing."""
    if was is None:
        gone = cube.state in _GOES or cube.state is State.FROZEN
        return _Step(cube, None, None, State.ARCHIVED) if gone else None
    if not _differ(was, cube):
        return None
    moves = was.state is not cube.state and not (was.state in USED and cube.state in USED)
    snapshot = was.snapshot if was.snapshot != cube.snapshot else None
    return _Step(cube, was, snapshot, was.state if moves else None)


def _in_the_way(connection: Connection, caller: Caller, space: Space, step: _Step) -> str | None:
    """Why a memory is left as it is; None if nothing is in the way."""
    cube = step.cube
    if cube.state is State.FROZEN:
        return "it is frozen: thaw it first (memory_update freeze=false)"
    action: governance.Action = "forget" if step.was is None else "write"
    if not governance.may(connection, caller.principal, action, space, cube.seq):
        return f"you may not {action} it"
    if step.target is not None and VERB not in MOVES.get((cube.state, step.target), frozenset()):
        return f"it was {step.target} and is {cube.state}: undo what moved it (memory_history)"
    return None


def _carried_out(
    parts: Parts, connection: Connection, op: Operation, steps: Sequence[_Step], at: str
) -> list[tuple[Cube, Change]]:
    """Do the steps; returns the memories as they are then, with what was done to each."""
    number = parts.embedder_number()
    fresh: dict[str, Cube] = {}
    moving: dict[State, list[Cube]] = {}
    for step in steps:
        cube = step.cube
        if step.snapshot is not None and step.was is not None:
            vector = vector_at(connection, number, step.was) if number else None
            cube, _ = parts.vault.rewrite(connection, op, cube, step.snapshot, vector, number)
        fresh[cube.id] = cube
        if step.target is not None:
            moving.setdefault(step.target, []).append(cube)
    thawed_to = operations.frozen_from_at(connection, [c.id for c in moving.get(State.FROZEN, ())], at)
    for cube in moving.get(State.FROZEN, ()):  # what is frozen again returns, when it thaws, to where it would have
        before = thawed_to.get(cube.id, cube.state)
        if VERB in MOVES.get((cube.state, before), frozenset()):
            fresh[cube.id], _ = parts.vault.move(connection, op, cube, before, VERB)
    for target, group in moving.items():
        for cube, _ in parts.vault.move_all(connection, op, [fresh[one.id] for one in group], target, VERB):
            fresh[cube.id] = cube
    return [(fresh[step.cube.id], _change(step.cube, fresh[step.cube.id])) for step in steps]


def _change(before: Cube, after: Cube) -> Change:
    versions = (before.version, after.version) if after.version != before.version else (None, None)
    states = (before.state, after.state) if after.state is not before.state else (None, None)
    return Change(before.id, *versions, *states)


def _result(space: Space, at: str, plan: _Plan, purged: int) -> RestoreResult:
    return {
        "space": space.name,
        "as_of": at,
        "restored": [_planned(step) for step in plan.steps],
        "left": [{"id": cube.id, "why": why} for cube, why in plan.left],
        "purged": purged,
        "op": None,
    }


def _planned(step: _Step) -> RestoredMemory:
    found: RestoredMemory = {"id": step.cube.id, "why": step.why}
    if step.target is not None:
        found["from_state"], found["to_state"] = step.cube.state, step.target
    if step.snapshot is not None and step.was is not None:
        found["from_version"], found["as_in_version"] = step.cube.version, step.was.version
    return found
