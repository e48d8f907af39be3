"""The verb share: lets another principal do something to single memories, or ends that."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, clean_label
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import ACTIONS, Caller
from memos_mcp.ledger import kept_states, operations, standings
from memos_mcp.ledger.operations import Change
from memos_mcp.ledger.standings import Standing
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.requests import ShareRequest
from memos_mcp.results import ShareResult


def share(parts: Parts, caller: Caller, request: ShareRequest) -> ShareResult:
    """Let the principal do `can`, and nothing else, to each memory by itself; an empty `can` revokes.

    Whoever may write, forget or share may read too. `op` is None when it was so already.

    Raises:
        NotFound, AccessDenied: not the caller's to share. Conflict: a secret memory. InvalidInput: it is their own.
    """
    principal = clean_label(request.principal, "principal")
    if principal == caller.principal:
        raise InvalidInput("principal is you: name whom the memories are to be shared with.", field="principal")
    wanted = {*request.can, *(["read"] if request.can else [])}
    can = [action for action in ACTIONS if action in wanted]
    with parts.ledger.write() as connection:
        cubes = cubes_for(parts, connection, caller, request.ids, "share")
        secret = [cube.id for cube in cubes if cube.snapshot.sensitivity == "secret"]
        if can and secret:
            raise Conflict(
                f"Nothing was shared: memory {', '.join(secret[:5])} is secret "
                "(memory_update sensitivity=private or normal opens it)."
            )
        entries = _entries(connection, cubes, principal, can)
        result: ShareResult = {"shared": [cube.id for cube in cubes], "principal": principal, "can": [*can], "op": None}
        if not entries:
            return result
        op = begun(parts, caller, "share" if can else "revoke", f"with {principal}: {', '.join(can) or 'nothing'}")
        result["op"] = op.id
        standings.set_standing(connection, op.id, entries)
        touched, ended = {one.row for one in entries}, [one.row for one in entries if not one.stands]
        kept_states.drop_containing(connection, ended)
        made = [Change(cube.id, None, None, None, None) for cube in cubes if cube.seq in touched]
        operations.record(connection, op, made, result)
    parts.unread(ended)
    parts.events.publish([cube.id for cube in cubes], [], listing=False)
    return result


def _entries(connection: Connection, cubes: Sequence[Cube], principal: str, can: Sequence[str]) -> list[Standing]:
    """The grants that have to be made or deleted; who owns a memory's space has every right without one."""
    found = []
    for cube in cubes:
        owner = governance.space_of(connection, cube.space).owner
        for action in ACTIONS if owner != principal else ():
            entry = Standing(0, "grant", cube.seq, action in can, principal, action)
            if standings.stands(connection, entry) is not entry.stands:
                found.append(entry)
    return found
