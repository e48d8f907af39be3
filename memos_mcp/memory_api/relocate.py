"""The verb move: gives memories another space, or copies them there with lineage to the originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance, weaver
from memos_mcp.cube import TEXTLESS, Cube, Link, Snapshot
from memos_mcp.documents.position import KEY, position_of
from memos_mcp.errors import AccessDenied, Conflict
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import claims, contexts, graph, operations, proposals, tiers, vectors
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import published, trees
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.requests import RelocateRequest
from memos_mcp.results import RelocateResult
from memos_mcp.states import State

COPIED_FROM = "copied_from"
"""The relation of a copy to its original: a purge of the original follows it."""


def relocate(parts: Parts, caller: Caller, request: RelocateRequest) -> RelocateResult:
    """Move memories into another space, or copy them there; the space is made if there is none of that name.

    What is moved keeps its id, versions, use and the grants on itself alone; a document comes with all its parts. A
    move asks for the right to forget where it was, a copy for that to read; into a space of another owner both ask for
    the right to share. An undo brings everything back.

    Raises:
        NotFound, AccessDenied: not the caller's. Conflict: one is frozen, over, a part of a document that stays, or
            carries a ref that the space has given already.
    """
    ids = list(dict.fromkeys(request.ids))
    with parts.ledger.write() as connection:
        cubes = cubes_for(parts, connection, caller, ids, "read" if request.copy_ else "forget")
        space = governance.open_space(connection, caller, request.space, parts.stamp())
        for cube in cubes:
            if governance.space_of(connection, cube.space).owner != space.owner:
                governance.require(connection, caller, "share", cube)
        if request.copy_:
            done = _copy(parts, connection, caller, cubes, space)
        else:
            done = _move(parts, connection, caller, cubes, space)
        result, before, after = done
    tell(parts, caller, before, after)
    return result


Done = tuple[RelocateResult, Sequence[Cube], Sequence[Cube]]
"""The result, and the memories as they were and as they are, where their space is another one."""


def _move(parts: Parts, connection: Connection, caller: Caller, cubes: Sequence[Cube], space: Space) -> Done:
    moving = [cube for cube in cubes if cube.space != space.id]
    named = {cube.id for cube in moving}
    moving += [one for one in trees.below(parts, connection, moving) if one.id not in named]
    for cube in moving:
        governance.require(connection, caller, "forget", cube)
        _require_movable(parts, connection, cube, space, {one.id for one in moving})
    if not moving:
        return {"moved": [], "unchanged": [cube.id for cube in cubes], "space": space.name, "op": None}, [], []
    op = begun(parts, caller, "move", "to another space")
    moved, changes = carry_out(parts, connection, op, moving, space)
    result: RelocateResult = {
        "moved": [cube.id for cube in moved],
        "unchanged": [cube.id for cube in cubes if cube.id not in named],
        "space": space.name,
        "op": op.id,
    }
    operations.record(connection, op, changes, result)
    return result, moving, moved


def carry_out(
    parts: Parts, connection: Connection, op: Operation, cubes: Sequence[Cube], space: Space
) -> tuple[list[Cube], list[Change]]:
    """Give memories another space with everything kept of them, in the caller's transaction; `tell` follows it.

    Proposals about them are dropped, and prompts that showed them: these were of the former space.
    """
    seqs = [cube.seq for cube in cubes]
    moved = parts.vault.relocate(connection, cubes, space)
    graph.put(connection, [weaver.entry_of(cube) for cube in moved])
    claims.put(connection, {cube.seq: weaver.keys_of(cube) for cube in moved})
    published.moved(connection, op, moved)
    tiers.relocate(connection, seqs, space.id)
    contexts.erase(connection, seqs)
    proposals.erase(connection, seqs)
    changes = [
        Change(now.id, None, None, None, None, was.space, now.space) for was, now in zip(cubes, moved, strict=True)
    ]
    return moved, changes


def take_back(parts: Parts, connection: Connection, op: Operation, cube: Cube, change: Change) -> tuple[Cube, Change]:
    """Bring a memory back into the space that it came from.

    Raises:
        Conflict: it was moved on since, or it is frozen. AccessDenied: that space is not the caller's to write to.
    """
    if cube.space != change.to_space or change.from_space is None:
        raise Conflict(f"Memory {cube.id} was moved on, to the space {cube.space_name!r}: undo that first.")
    if cube.state is State.FROZEN:
        raise Conflict(f"Memory {cube.id} is frozen: thaw it first (memory_update freeze=false).")
    space = governance.space_of(connection, change.from_space)
    if not governance.may(connection, op.principal, "write", space):
        raise AccessDenied(op.principal, "write", f"the space that memory {cube.id} came from")
    moved, changes = carry_out(parts, connection, op, [cube], space)
    return moved[0], changes[0]


def tell(parts: Parts, caller: Caller, before: Sequence[Cube], after: Sequence[Cube]) -> None:
    """Tell caches and listeners of both spaces, after the transaction."""
    for cube in before:
        parts.cache.touch(cube.space, [cube.seq])
        parts.views.touch(cube.space, [cube.seq])
    for space in {cube.space for cube in before}:
        parts.indexer.notice(space, embedded=True)
    parts.events.publish([cube.id for cube in before], [(cube.space, cube.space_name) for cube in before], listing=True)
    if after:
        parts.changed(caller, after, listing=True)


def _require_movable(parts: Parts, connection: Connection, cube: Cube, space: Space, moving: set[str]) -> None:
    said = cube.snapshot
    if said.kind in TEXTLESS:
        raise Conflict(f"Memory {cube.id} is a steering vector: make it anew in that space (memory_steer).")
    if cube.state in (State.FROZEN, State.EXPIRED):
        raise Conflict(f"Memory {cube.id} is {cube.state} and is not moved: thaw it, or undo what ended it, first.")
    if position_of(said) is not None and said.parents and said.parents[0] not in moving:
        raise Conflict(f"Memory {cube.id} is a part of {said.parents[0]}: move the whole document, or copy this part.")
    held = parts.vault.by_ref(connection, space.id, said.ref) if said.ref is not None else None
    if held is not None:
        raise Conflict(f"Memory {cube.id} has the ref {said.ref!r}, which {held.id} has in {space.name!r} already.")


def _copy(parts: Parts, connection: Connection, caller: Caller, cubes: Sequence[Cube], space: Space) -> Done:
    known: list[str] = []
    fresh: list[Cube] = []
    for cube in cubes:
        if cube.snapshot.kind in TEXTLESS or cube.state is State.EXPIRED:
            why = "no text" if cube.snapshot.kind in TEXTLESS else "expired"
            raise Conflict(f"Memory {cube.id} is {why} and is not copied: leave it out.")
        there = _same(parts, connection, cube, space)
        if there is None:
            fresh.append(cube)
        else:
            known.append(there.id)
    if not fresh:
        return {"moved": [], "unchanged": known, "space": space.name, "op": None}, [], []
    op = begun(parts, caller, "copy", "to another space")
    drafts = [_with_free_ref(parts, connection, copied(cube), space) for cube in fresh]
    made, changes = parts.vault.insert(connection, op, space, drafts, None, 0)
    _copy_vectors(parts, connection, fresh, made)
    result: RelocateResult = {"moved": [cube.id for cube in made], "unchanged": known, "space": space.name, "op": op.id}
    operations.record(connection, op, changes, result)
    return result, [], made


def _with_free_ref(parts: Parts, connection: Connection, draft: Snapshot, space: Space) -> Snapshot:
    """The draft, without its ref if a memory of the space has it."""
    taken = draft.ref is not None and parts.vault.by_ref(connection, space.id, draft.ref) is not None
    return replace(draft, ref=None) if taken else draft


def _copy_vectors(parts: Parts, connection: Connection, originals: Sequence[Cube], copies: Sequence[Cube]) -> None:
    """Give copies their originals' vectors; one whose original has none waits for its own."""
    number = parts.embedder_number()
    if not number:
        return
    kept = [vectors.of_now(connection, number, cube.seq) for cube in originals]
    rows = [(one.seq, 1, one.space, vector) for one, vector in zip(copies, kept, strict=True) if vector is not None]
    vectors.put(connection, number, rows)
    vectors.dequeue(connection, [seq for seq, *_ in rows])


def _same(parts: Parts, connection: Connection, cube: Cube, space: Space) -> Cube | None:
    """The live memory of the space that says the same as this one, in the same kind."""
    if cube.space == space.id:
        return cube
    same = parts.vault.by_content(connection, space.id, cube.snapshot.content, parts.stamp())
    return next(
        (one for one in same if one.snapshot.kind == cube.snapshot.kind and one.is_alive(parts.stamp())), None
    )


def copied(cube: Cube) -> Snapshot:
    """A memory as a copy of it begins: its text and what was said of it, with lineage to it; no place in a document."""
    said = cube.snapshot
    return replace(
        said,
        valid_from=cube.becomes_true,
        metadata={key: value for key, value in said.metadata.items() if key != KEY},
        pinned=False,
        feedback=None,
        links=(*said.links, Link(cube.id, COPIED_FROM)),
        parents=(),
        supersedes=(),
        superseded_by=None,
        valid_to=None,
    )
