"""The verb add: writes memories, recognises what is known, and tells what is like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from memos_mcp import governance, policies, reader
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.errors import Conflict, MemosError
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Vector
from memos_mcp.requests import AddRequest
from memos_mcp.results import AddResult, Similar
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text

EMBED_AT_ONCE = 4
"""Memories of one call that are embedded before the answer; more are acknowledged first and embedded behind it."""
PAUSE_S = 0.025
"""Seconds that each memory of a long list waits for questions in progress."""
SIMILAR_FROM = 0.80
SIMILAR_MOST = 5
SIMILAR_CHARS = 400


@dataclass
class _Written:
    """What a call's transaction did, collected as it goes."""

    cubes: list[Cube] = field(default_factory=list)
    touched: list[Cube] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def add(parts: Parts, caller: Caller, request: AddRequest) -> AddResult:
    """Keep a text or the turns of a conversation; what is returned is on disk.

    Raises:
        InvalidInput: a value that cannot be kept. NotFound, AccessDenied: a space or id that is not the caller's.
        StorageFailed: nothing was written.
    """
    said = reader.drafts(request)
    first = policies.firsts(said)
    drafts = [draft for i, draft in enumerate(said) if first[i] == i]
    name = request.space or caller.space
    made = parts.vector_of([embeddable_text(draft) for draft in drafts]) if len(drafts) <= EMBED_AT_ONCE else None
    near = parts.beside.submit(_near, parts, caller, name, made) if made is not None else None
    done = _Written()
    op: Operation | None = None
    with parts.ledger.write() as connection:
        now = parts.stamp()
        space = governance.open_space(connection, caller, name, now)
        replaced = cubes_for(parts, connection, caller, request.supersedes, "write")
        cubes_for(parts, connection, caller, [link.to for link in request.links], "read")
        admitted = _admit(parts, connection, space, drafts, now)
        if any(admission.verdict != "unchanged" for admission in admitted):
            op = begun(parts, caller, "add")
            _write(parts, connection, op, space, drafts, admitted, made, done)
            _supersede(parts, connection, op, replaced, done)
        done.unchanged = _unchanged(first, admitted, done)
        if op is not None:
            operations.record(connection, op, done.changes, _result(done, op, None))
    if op is not None:
        written = done.cubes + done.touched
        only_new = made is not None and all(cube.version == 1 for cube in written)
        parts.changed(caller, written, listing=True, embedded=only_new)
    return _result(done, op, _similar(near.result(), done) if near is not None else None)


def _result(done: _Written, op: Operation | None, similar: list[Similar] | None) -> AddResult:
    return {
        "cubes": [{"id": c.id, "uri": c.uri, "version": c.version, "state": c.state} for c in done.cubes],
        "unchanged": list(dict.fromkeys(done.unchanged)),
        "similar": similar,
        "op": op.id if op else None,
    }


def _unchanged(first: Sequence[int], admitted: Sequence[policies.Admission], done: _Written) -> list[str]:
    """Ids of what was known already, or said twice in this call; `first` is where each draft was said first."""
    ids = done.ids or [admission.cube.id for admission in admitted if admission.cube is not None]
    of_place = dict(zip(sorted(set(first)), ids, strict=True))
    written = {cube.id for cube in done.cubes}
    return [of_place[j] for i, j in enumerate(first) if i != j or of_place[j] not in written]


def _pause(parts: Parts, many: int) -> None:
    """A conversation can wait a moment; a question should not."""
    if many > EMBED_AT_ONCE:
        parts.asking.step_aside(PAUSE_S)


def _admit(
    parts: Parts, connection: Connection, space: Space, drafts: Sequence[Snapshot], now: str
) -> list[policies.Admission]:
    admitted = []
    for draft in drafts:
        _pause(parts, len(drafts))
        same_ref = parts.vault.by_ref(connection, space.id, draft.ref) if draft.ref else None
        same_text = [] if same_ref else parts.vault.by_content(connection, space.id, draft.content, now)
        admitted.append(policies.admit(draft, same_ref, same_text))
    return admitted


def _write(
    parts: Parts,
    connection: Connection,
    op: Operation,
    space: Space,
    drafts: Sequence[Snapshot],
    admitted: Sequence[policies.Admission],
    made: Sequence[Vector] | None,
    done: _Written,
) -> None:
    number = parts.embedder_number() if made is not None else 0
    fresh = [i for i, admission in enumerate(admitted) if admission.cube is None]
    vectors_of = [made[i] for i in fresh] if made is not None else None
    written, changes = parts.vault.insert(
        connection, op, space, [drafts[i] for i in fresh], vectors_of, number, lambda: _pause(parts, len(fresh))
    )
    done.changes += changes
    by_place = dict(zip(fresh, written, strict=True))
    again = set[str]()
    for i, admission in enumerate(admitted):
        if admission.cube is not None and admission.verdict != "unchanged" and admission.cube.id not in again:
            again.add(admission.cube.id)
            vector = made[i] if made is not None else None
            by_place[i], change = _again(parts, connection, op, admission, admission.cube, drafts[i], vector, number)
            done.changes.append(change)
    done.cubes += [by_place[i] for i in sorted(by_place)]
    done.ids += [a.cube.id if a.cube is not None else by_place[i].id for i, a in enumerate(admitted)]


def _again(
    parts: Parts,
    connection: Connection,
    op: Operation,
    admission: policies.Admission,
    cube: Cube,
    draft: Snapshot,
    vector: Vector | None,
    number: int,
) -> tuple[Cube, Change]:
    """Write what a known memory became: its next version, its return from the archive, or both."""
    if cube.state is State.FROZEN:
        raise Conflict(f"Memory {cube.id} is this one and is frozen: thaw it first (memory_update freeze=false).")
    before, snapshot = cube, policies.renewed(cube.snapshot, draft)
    if admission.verdict == "revived":
        cube, _ = parts.vault.move(connection, op, cube, State.ACTIVATED, "confirm")
        snapshot = replace(cube.snapshot, supersedes=snapshot.supersedes)
    if snapshot == cube.snapshot:
        return cube, Change(cube.id, None, None, before.state, cube.state)
    cube, _ = parts.vault.rewrite(connection, op, cube, snapshot, vector, number)
    states = (before.state, cube.state) if cube.state is not before.state else (None, None)
    return cube, Change(cube.id, before.version, cube.version, *states)


def _supersede(parts: Parts, connection: Connection, op: Operation, replaced: Sequence[Cube], done: _Written) -> None:
    if not replaced or not done.cubes:
        return
    by, written = done.cubes[-1], {cube.id for cube in done.cubes}
    for old in replaced:
        if old.id in written:
            raise Conflict(f"Memory {old.id} cannot supersede itself: leave it out of supersedes.")
        if old.state is State.FROZEN:
            raise Conflict(f"Memory {old.id} is frozen and cannot be superseded: thaw it first.")
        snapshot = replace(old.snapshot, superseded_by=by.id, valid_to=by.becomes_true)
        cube, change = parts.vault.rewrite(connection, op, old, snapshot, None, 0)
        done.touched.append(cube)
        done.changes.append(change)


def _near(parts: Parts, caller: Caller, name: str, made: Sequence[Vector]) -> list[tuple[Cube, float]] | None:
    """The space's memories that are like these vectors, with cosines, nearest first; None when that could not be told.

    Runs beside the write: index and disk wait for one another less than one after the other.
    """
    nearest: dict[int, float] = {}
    try:
        with parts.ledger.read() as connection:
            space = governance.find_space(connection, name)
            if space is None:
                return []
            if not governance.may(connection, caller.principal, "read", space):
                return None
            scope = Scope((space.id,), parts.stamp())
            for vector in made:
                found = parts.search.similar(connection, vector, scope, SIMILAR_FROM, SIMILAR_MOST + 2 * len(made))
                for seq, cosine in found:
                    nearest[seq] = max(cosine, nearest.get(seq, -1.0))
            cubes = parts.vault.by_seqs(connection, list(nearest)) if nearest else {}
    except MemosError:
        return None  # the memory is kept all the same; null says that it was compared with nothing
    return sorted(((cube, nearest[seq]) for seq, cube in cubes.items()), key=lambda pair: -pair[1])


def _similar(near: Sequence[tuple[Cube, float]] | None, done: _Written) -> list[Similar] | None:
    if near is None:
        return None
    known = {cube.id for cube in done.cubes + done.touched} | set(done.unchanged)
    like: list[Similar] = [
        {"id": cube.id, "text": cube.snapshot.content[:SIMILAR_CHARS], "similarity": round(min(cosine, 1.0), 4)}
        for cube, cosine in near
        if cube.id not in known
    ]
    return like[:SIMILAR_MOST]
