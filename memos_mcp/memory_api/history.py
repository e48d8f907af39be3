"""The verb history: what happened to a memory, what an operation did, or what was done last."""

from __future__ import annotations

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.errors import InvalidInput, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api.parts import Parts, operation_for
from memos_mcp.requests import HistoryRequest
from memos_mcp.results import ChangeEntry, HistoryResult, OperationEntry, VersionEntry
from memos_mcp.vault import Version

LATEST = 20
VERSION_CHARS = 2_000


def history(parts: Parts, caller: Caller, request: HistoryRequest) -> HistoryResult:
    """Versions and operations of a memory, one operation, or the caller's latest operations (newest first).

    Raises:
        InvalidInput: both id and op. NotFound: it is not there, or not the caller's to see.
    """
    if request.id is not None and request.op is not None:
        raise InvalidInput("Give id or op, not both.", field="op")
    if request.id is not None:
        return _of_memory(parts, caller, request.id)
    with parts.ledger.read() as connection:
        if request.op is not None:
            op, made = operation_for(parts, connection, caller, request.op)
            entries = [_entry(op, made)]
            _tell_whole(parts, connection, caller, made, entries[0]["changes"])
        else:
            latest = operations.latest(connection, caller.principal, LATEST)
            entries = [_entry(op, operations.changes_of(connection, op)) for op in latest]
    return {"versions": [], "operations": entries}


def _of_memory(parts: Parts, caller: Caller, cube_id: str) -> HistoryResult:
    with parts.ledger.read() as connection:
        done = operations.of_cube(connection, cube_id)
        found = parts.vault.by_ids(connection, [cube_id]).get(cube_id)
        versions: list[Version] = []
        if found is not None:
            governance.require(connection, caller, "read", found)
            versions = parts.vault.versions_of(connection, found)
            space = governance.space_of(connection, found.space)
            if not governance.may_ever(connection, caller.principal, "read", space, found.seq):
                versions, done = versions[-1:], []
        elif not any(op.principal == caller.principal for op, _ in done):
            raise NotFound("memory", [cube_id], "check the id, or find it with memory_search.")
    return {
        "versions": [_version(version) for version in versions],
        "operations": [_entry(op, [change]) for op, change in done],
    }


def _tell_whole(
    parts: Parts, connection: Connection, caller: Caller, made: list[Change], told: list[ChangeEntry]
) -> None:
    """Add to the changes of an operation what was before and after it; nothing of what the caller may not read."""
    cubes = parts.vault.by_ids(connection, [change.cube for change in made])
    for change, entry in zip(made, told, strict=True):
        cube = cubes.get(change.cube)
        if cube is None or not _readable(connection, caller, cube):
            continue
        numbers = (change.from_version, change.to_version)
        before, after = (parts.vault.version(connection, cube, n) if n is not None else None for n in numbers)
        entry["fields"] = sorted(before.changed(after)) if before is not None and after is not None else []
        entry["before"] = before.content[:VERSION_CHARS] if before is not None else None
        entry["after"] = after.content[:VERSION_CHARS] if after is not None else None


def _readable(connection: Connection, caller: Caller, cube: Cube) -> bool:
    space = governance.space_of(connection, cube.space)
    return governance.may(connection, caller.principal, "read", space, cube.seq)


def _version(version: Version) -> VersionEntry:
    return {
        "version": version.number,
        "op": version.op,
        "since": version.since,
        "until": version.until,
        "text": version.snapshot.content[:VERSION_CHARS],
    }


def _entry(op: Operation, changes: list[Change]) -> OperationEntry:
    return {
        "op": op.id,
        "verb": op.verb,
        "principal": op.principal,
        "client": op.client,
        "at": op.at,
        "reason": op.reason,
        "undoes": op.undoes,
        "undone_by": op.undone_by,
        "undoable": not op.purged and op.undone_by is None,
        "changes": [_change(change) for change in changes],
    }


def _change(change: Change) -> ChangeEntry:
    return {
        "cube": change.cube,
        "from_version": change.from_version,
        "to_version": change.to_version,
        "from_state": change.from_state,
        "to_state": change.to_state,
    }
