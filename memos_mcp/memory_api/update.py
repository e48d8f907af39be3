"""The verb update: makes the next version of a memory, freezes or thaws it, takes feedback."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance, reader
from memos_mcp.cube import Cube, Snapshot, clean_text, parse_instant
from memos_mcp.errors import AccessDenied, Conflict, InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import blocks, feedback
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.ports import Vector
from memos_mcp.requests import UpdateRequest
from memos_mcp.results import UpdateResult
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text


def update(parts: Parts, caller: Caller, request: UpdateRequest) -> UpdateResult:
    """Change what is given and keep the former version; `op` is None when everything was so already.

    Raises:
        InvalidInput: nothing to change, or a value that cannot be kept. NotFound, AccessDenied: not the caller's, or a
            block would page out into a space that is not.
        Conflict: the memory is frozen or over, or was changed in between.
    """
    if not request.model_fields_set - {"id"}:
        raise InvalidInput("Name what to change: content, tags, importance, expires, links, pin, freeze or feedback.")
    with parts.ledger.read() as connection:
        cube = cubes_for(parts, connection, caller, [request.id], "write")[0]
    fit = blocks.fitted(_changed(cube.snapshot, request))
    snapshot, vector = fit.snapshot, _vector_of(parts, cube, fit.snapshot)
    newer = feedback.newer_than(parts, cube) if request.feedback == "stale" else []
    with parts.ledger.write() as connection:
        fresh = cubes_for(parts, connection, caller, [request.id], "write")[0]
        if fresh.version != cube.version:
            fit = _appended_again(fresh, request)
            snapshot, vector = fit.snapshot, None
        cubes_for(parts, connection, caller, [link.to for link in reader.removals(request.links)[0]], "read")
        wanted = _wanted_state(fresh, request)
        rewrites = snapshot != fresh.snapshot
        _require_room(connection, caller, fresh, fit)
        op, changes = begun(parts, caller, "update"), list[Change]()
        if rewrites or wanted is not None:
            fresh, change = _apply(parts, connection, op, fresh, snapshot if rewrites else None, wanted, vector)
            changes.append(change)
        pages, written = blocks.page_out(parts, connection, op, fresh, fit.pages)
        result = _result(fresh, op.id if changes or written else None)
        _heard(parts, connection, caller, fresh, request, newer, result)
        if not changes and not written:
            return result
        if pages:
            result["paged"] = [page.id for page in pages]
        operations.record(connection, op, changes + written, result)
    parts.changed(caller, [fresh, *pages], listing=bool(pages))
    if request.feedback == "useful":
        parts.usage.served([fresh.seq], parts.stamp(), caller, "confirmed")
    return result


def _vector_of(parts: Parts, cube: Cube, snapshot: Snapshot) -> Vector | None:
    """The vector of a text that is another than the memory's; None where it is the same, or cannot be made now."""
    if embeddable_text(snapshot) == embeddable_text(cube.snapshot):
        return None
    made = parts.vector_of([embeddable_text(snapshot)])
    return made[0] if made else None


def _appended_again(fresh: Cube, request: UpdateRequest) -> blocks.Fitted:
    """What an append makes of a block that others changed meanwhile: what they appended stays.

    Raises:
        Conflict: it is no append.
    """
    if request.append is None:
        raise Conflict(f"Memory {fresh.id} was changed in this moment by {fresh.op}: read it and update again.")
    return blocks.fitted(_changed(fresh.snapshot, request))


def _require_room(connection: Connection, caller: Caller, block: Cube, fit: blocks.Fitted) -> None:
    if not fit.pages:
        return
    space = governance.space_of(connection, block.space)
    if not governance.may(connection, caller.principal, "write", space):
        raise AccessDenied(caller.principal, "write", f"the space into which block {block.id} overflows")


def _heard(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    cube: Cube,
    request: UpdateRequest,
    newer: feedback.Newer,
    result: UpdateResult,
) -> None:
    """Keep what the host says of the memory as an event, and tell what is proposed for it; said again, it counts."""
    if request.feedback is None:
        return
    proposed = feedback.given(parts, connection, caller, cube, request.feedback, newer, parts.stamp())
    if proposed:
        result["proposed"] = proposed


def _result(cube: Cube, op: str | None) -> UpdateResult:
    return {"id": cube.id, "uri": cube.uri, "version": cube.version, "state": cube.state, "op": op}


def _changed(old: Snapshot, request: UpdateRequest) -> Snapshot:
    given: dict[str, Any] = {}
    if request.content is not None and request.append is not None:
        raise InvalidInput("Give content to replace the text, or append to add to it, not both.", field="append")
    if request.content is not None:
        given["content"] = clean_text(request.content)
    if request.append is not None:
        given["content"] = blocks.appended(old, request.append)
    if request.tags is not None:
        given["tags"] = reader.tags(request.tags)
    if request.expires is not None:
        given["expires"] = None if request.expires == "never" else parse_instant(request.expires, "expires")
    if request.links:
        added, stays = reader.removals(request.links)
        kept = tuple(filter(stays, old.links))
        given["links"] = reader.each_once(kept + reader.links(added))
    if request.pin is not None:
        given["pinned"] = request.pin
    for name in ("importance", "priority", "sensitivity", "feedback"):
        value = getattr(request, name)
        if value is not None:
            given[name] = value
    return replace(old, **given)


def _wanted_state(cube: Cube, request: UpdateRequest) -> tuple[State, str] | None:
    if request.freeze is True and cube.state is not State.FROZEN:
        return State.FROZEN, "freeze"
    if request.freeze is False and cube.state is State.FROZEN:
        return cube.frozen_from or State.GENERATED, "thaw"
    if request.feedback == "useful" and cube.state is State.GENERATED:
        return State.ACTIVATED, "confirm"
    return None


def _apply(
    parts: Parts,
    connection: Connection,
    op: Operation,
    cube: Cube,
    snapshot: Snapshot | None,
    wanted: tuple[State, str] | None,
    vector: Any,
) -> tuple[Cube, Change]:
    """Thaw before the rewrite and freeze after it, so that one call may do both."""
    before = cube
    thaws = wanted is not None and wanted[1] == "thaw"
    if snapshot is not None and cube.state is State.FROZEN and not thaws:
        raise Conflict(f"Memory {cube.id} is frozen: thaw it first (memory_update freeze=false).")
    if snapshot is not None and cube.state is State.EXPIRED:
        raise Conflict(f"Memory {cube.id} is expired: undo the operation that ended it first (memory_history).")
    if wanted is not None:
        cube, _ = parts.vault.move(connection, op, cube, *wanted)
    if snapshot is not None:
        number = parts.embedder_number() if vector is not None else 0
        cube, _ = parts.vault.rewrite(connection, op, cube, snapshot, vector, number)
    versions = (before.version, cube.version) if snapshot is not None else (None, None)
    states = (before.state, cube.state) if wanted is not None else (None, None)
    return cube, Change(cube.id, *versions, *states)
