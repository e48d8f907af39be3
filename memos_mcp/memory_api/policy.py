"""The policies of memories and spaces: shows them, and gives or takes them as operations that can be undone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import operations, reviews
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.reviews import SpacePolicy
from memos_mcp.lifecycle import following
from memos_mcp.lifecycle.life import under_hold
from memos_mcp.memory_api.parts import Parts, begun, cubes_for, life_of
from memos_mcp.policies import policy
from memos_mcp.results import UndoResult
from memos_mcp.states import State

VERB = "policy"
_ID = re.compile(r"(?:memcube://)?([0-9A-HJKMNP-TV-Z]{26})", re.IGNORECASE)
MOST = 400
"""Characters of a policy."""


class PolicyResult(TypedDict):
    """A policy: `policy` is the memory's or the space's own, `holds` what holds with those above; `op` undoes it."""

    of: str
    policy: str | None
    holds: str
    op: str | None


def of(parts: Parts, caller: Caller, name: str, value: str | None = None) -> PolicyResult:
    """Show the policy of a memory (by id) or of a space (by name), or give it another; `none` takes it away.

    Raises:
        InvalidInput: no such policy; the sentence lists those that there are. NotFound, AccessDenied: not the caller's.
        Conflict: the memory is frozen or over.
    """
    found = _ID.fullmatch(name.strip())
    if found is not None:
        return _of_memory(parts, caller, found[1].upper(), value)
    return _of_space(parts, caller, name, value)


def require_free(parts: Parts, connection: Connection, cubes: list[Cube]) -> None:
    """Raise where a legal hold protects one of the memories.

    Raises:
        Conflict: it names them, and how the hold is ended.
    """
    held = under_hold(life_of(parts), connection, cubes)
    if held:
        named = ", ".join(cube.id for cube in held[:5])
        raise Conflict(
            f"Under a legal hold nothing is forgotten: {named}. Whoever may end the hold does it with `memos-mcp "
            "policy ID-or-SPACE VALUE`, or `memos-mcp config policy VALUE` where it is the store's."
        )


def _parsed(value: str, place: policy.Place) -> str | None:
    if len(value) > MOST:
        raise InvalidInput(f"A policy has at most {MOST} characters: {policy.GOOD[place]}.", field="policy")
    return None if value.strip().casefold() == policy.NONE else policy.written(policy.parse(value, place))


def _of_memory(parts: Parts, caller: Caller, cube_id: str, value: str | None) -> PolicyResult:
    if value is None:
        with parts.ledger.read() as connection:
            cube = cubes_for(parts, connection, caller, [cube_id], "read")[0]
            return _shown(parts, connection, cube, None)
    wanted = _parsed(value, "memory")
    with parts.ledger.write() as connection:
        cube = cubes_for(parts, connection, caller, [cube_id], "write")[0]
        if cube.snapshot.policy == wanted:
            return _shown(parts, connection, cube, None)
        if cube.state in (State.FROZEN, State.EXPIRED):
            how = "thaw it first (memory_update freeze=false)" if cube.state is State.FROZEN else "undo what ended it"
            raise Conflict(f"Memory {cube.id} is {cube.state}: {how}.")
        op = begun(parts, caller, VERB, f"{cube.snapshot.policy or policy.NONE} to {wanted or policy.NONE}")
        cube, change = parts.vault.rewrite(connection, op, cube, replace(cube.snapshot, policy=wanted), None, 0)
        result = _shown(parts, connection, cube, op.id)
        operations.record(connection, op, [change], result)
    parts.changed(caller, [cube], listing=False)
    return result


def _shown(parts: Parts, connection: Connection, cube: Cube, op: str | None) -> PolicyResult:
    own, space = policy.of(cube.snapshot.policy), _given(connection, cube.space)
    holds = policy.resolve(own, policy.of(space), life_of(parts).policy)
    return {"of": cube.id, "policy": cube.snapshot.policy, "holds": str(holds), "op": op}


def _of_space(parts: Parts, caller: Caller, name: str, value: str | None) -> PolicyResult:
    if value is None:
        with parts.ledger.read() as connection:
            space = governance.readable_spaces(connection, caller, [name])[0]
            return _shown_space(parts, space, _given(connection, space.id), None)
    wanted = _parsed(value, "space")
    with parts.ledger.write() as connection:
        space = governance.readable_spaces(connection, caller, [name])[0]
        governance.require(connection, caller, "write", space)
        governance.require(connection, caller, "forget", space)
        former = _given(connection, space.id)
        if former == wanted:
            return _shown_space(parts, space, former, None)
        op = begun(parts, caller, VERB, f"space {space.name}: {former or policy.NONE} to {wanted or policy.NONE}")
        result = _shown_space(parts, space, wanted, op.id)
        _give(parts, connection, SpacePolicy(space.id, wanted, former, op.id))
        operations.record(connection, op, [], result)
    return result


def _shown_space(parts: Parts, space: Space, own: str | None, op: str | None) -> PolicyResult:
    holds = policy.resolve(policy.SILENT, policy.of(own), life_of(parts).policy)
    return {"of": space.name, "policy": own, "holds": str(holds), "op": op}


def _given(connection: Connection, space: int) -> str | None:
    found = reviews.policy_of(connection, space)
    return None if found is None else found.policy


def _give(parts: Parts, connection: Connection, given: SpacePolicy) -> None:
    reviews.give_policy(connection, given)
    following.judge_anew(life_of(parts), connection)


def gave(connection: Connection, target: Operation, made: list[Change]) -> bool:
    """Whether the operation gave a space a policy, and did nothing else."""
    return not made and reviews.policy_by(connection, target.id) is not None


def take_back(
    parts: Parts, connection: Connection, caller: Caller, target: Operation
) -> tuple[UndoResult, Callable[[], None]]:
    """Give the space the policy back that it had before the operation; returns the result, and what follows the commit.

    Raises:
        Conflict: it was given another since. AccessDenied: the caller may not write to the space any more.
    """
    given = reviews.policy_by(connection, target.id)
    assert given is not None
    space = governance.space_of(connection, given.space)
    governance.require(connection, caller, "write", space)
    latest = reviews.policy_of(connection, space.id)
    if latest is not None and latest.policy != given.policy:
        raise Conflict(f"Space {space.name!r} has another policy since: undo operation {latest.op} first.")
    op = begun(parts, caller, "undo", f"undo of {target.verb}", target.id)
    _give(parts, connection, SpacePolicy(space.id, given.former, given.policy, op.id))
    result: UndoResult = {"undone": [], "op": op.id}
    operations.record(connection, op, [], result)
    return result, lambda: None
