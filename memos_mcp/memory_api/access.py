"""The verbs grant and revoke: let another principal do something to a whole space, or end that.

Knows nothing of rights on single memories: those are `share`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import clean_label
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import ACTIONS, Action, Caller, Space
from memos_mcp.ledger import operations, standings
from memos_mcp.ledger.standings import ACCESS, Standing
from memos_mcp.memory_api import standing
from memos_mcp.memory_api.parts import Parts, begun


class AccessResult(TypedDict):
    """What `principal` may do to the whole space now; `op` is None when that is what it was before."""

    space: str
    principal: str
    can: list[str]
    op: str | None


def grant(parts: Parts, caller: Caller, name: str, principal: str, can: Sequence[str]) -> AccessResult:
    """Let `principal` do these to the space too; `op` is None when they might already.

    Raises:
        NotFound, AccessDenied: the space is not the caller's to share. InvalidInput: it is the principal's own, no
            action, or one that does not exist.
    """
    return _set(parts, caller, name, principal, _actions(can), stands=True)


def revoke(
    parts: Parts, caller: Caller, name: str, principal: str, can: Sequence[str] | None = None
) -> AccessResult:
    """Let `principal` do these to the space no more; None: nothing at all. `op` is None when they might not anyway.

    With reading, what their conversations with the local model hold of the space is dropped, and their copies from its
    channels go as if what they are of was withdrawn. Memories shared with them one by one stay shared.

    Raises:
        NotFound, AccessDenied: the space is not the caller's to share. InvalidInput: it is the principal's own, no
            action, or one that does not exist.
    """
    return _set(parts, caller, name, principal, ACTIONS if can is None else _actions(can), stands=False)


def listed(parts: Parts, caller: Caller) -> list[dict[str, Any]]:
    """Name and owner of the spaces that the caller may read; of those that are theirs to share, `granted` too: what
    others may do, by principal."""
    with parts.ledger.read() as connection:
        found = []
        for space in governance.list_spaces(connection, caller):
            row: dict[str, Any] = {"name": space.name, "owner": space.owner}
            if governance.may(connection, caller.principal, "share", space):
                row["granted"] = governance.granted(connection, space)
            found.append(row)
    return found


def _set(
    parts: Parts, caller: Caller, name: str, principal: str, actions: Sequence[Action], *, stands: bool
) -> AccessResult:
    principal = clean_label(principal, "principal")
    with parts.ledger.write() as connection:
        space = governance.readable_spaces(connection, caller, [name])[0]
        governance.require(connection, caller, "share", space)
        if principal == space.owner:
            raise InvalidInput(f"Space {space.name!r} is {principal}'s own: name somebody else.", field="principal")
        wanted = [Standing(0, ACCESS, space.id, stands, principal, action) for action in actions]
        entries = [one for one in wanted if standings.stands(connection, one) is not stands]
        if not entries:
            return _result(connection, space, principal, None)
        verb, said = ("grant", "may") if stands else ("revoke", "may no longer")
        reason = f"{principal} {said} {', '.join(str(one.can) for one in entries)} in {space.name}"
        op = begun(parts, caller, verb, reason)
        standings.set_standing(connection, op.id, entries)
        result = _result(connection, space, principal, op.id)
        operations.record(connection, op, [], result)
        follow = standing.follow(parts, connection, entries, [])
    follow()
    return result


def _result(connection: Connection, space: Space, principal: str, op: str | None) -> AccessResult:
    can = governance.granted(connection, space).get(principal, [])
    return {"space": space.name, "principal": principal, "can": [*can], "op": op}


def _actions(can: Sequence[str]) -> list[Action]:
    """The actions of these names, in order, each once; also of names with commas between them."""
    names = {name.strip() for given in can for name in given.split(",")} - {""}
    unknown = sorted(names - set(ACTIONS))
    if unknown:
        raise InvalidInput(f"There is no action {unknown[0]!r}: use {', '.join(ACTIONS)}.", field="can")
    if not names:
        raise InvalidInput(f"Name what is meant: {', '.join(ACTIONS)}.", field="can")
    return [action for action in ACTIONS if action in names]
