"""The verb add: writes memories, recognises what is known, and tells what is like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from memos_mcp import governance, reader
from memos_mcp.beside import Once
from memos_mcp.claims.claim import Reading
from memos_mcp.cube import BLOCK, Cube, Snapshot
from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import claims, operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import blocks, contradicted, documents, fuse, similar
from memos_mcp.memory_api.contradicted import Contradicted
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.policies.admission import Admission, admit, firsts, renewed
from memos_mcp.ports import Vector
from memos_mcp.requests import AddRequest
from memos_mcp.results import AddResult, Similar
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text

EMBED_AT_ONCE = 4
"""Memories of one call that are embedded before the answer; more are acknowledged first and embedded behind it."""
QUICK_CHARS = 600
"""Characters up to which a call's memories are short: their vectors take a quick embedder some milliseconds."""
LIVE_TURNS = 2
"""Messages of one call up to which they are turns that are kept as they are said."""
PAUSE_S = 0.025
"""Seconds that each memory of a long list waits for questions in progress."""


@dataclass(frozen=True)
class _Asked:
    """A call: `drafts` are its memories, each once; `first` tells for each text said which one of them it is."""

    caller: Caller
    request: AddRequest
    space: str
    first: Sequence[int]
    drafts: Sequence[Snapshot]


@dataclass
class _Written:
    """What a call's transaction did, collected as it goes; `op` is None when there was nothing to do.

    `fresh`: new memories, whose vectors are still to be kept, by the places of their drafts. `other`: places of drafts
    that are not what vectors were made of.
    """

    op: Operation | None = None
    cubes: list[Cube] = field(default_factory=list)
    touched: list[Cube] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    fresh: dict[int, Cube] = field(default_factory=dict)
    other: set[int] = field(default_factory=set)
    told: Contradicted | None = None

    def paged(self, pages: Sequence[Cube], changes: Sequence[Change]) -> None:
        """What went out of a block was written beside it."""
        self.touched += pages
        self.changes += changes


def add(parts: Parts, caller: Caller, request: AddRequest) -> AddResult:
    """Keep a text or the turns of a conversation; what is returned is on disk.

    Raises:
        InvalidInput: a value that cannot be kept. NotFound, AccessDenied: a space or id that is not the caller's.
        StorageFailed: nothing was written.
    """
    if documents.concerns(parts, caller, request):
        return documents.add(parts, caller, request)
    said = reader.drafts(request)
    for draft in said:
        blocks.check(draft)
    first = firsts(said)
    drafts = [draft for i, draft in enumerate(said) if first[i] == i]
    asked = _Asked(caller, request, request.space or caller.space, first, drafts)
    done, like = (_kept_alone(parts, asked), None) if len(drafts) > EMBED_AT_ONCE else _kept_and_compared(parts, asked)
    _told(parts, caller, request, done, said[-1])
    return _result(done, like)


def _told(parts: Parts, caller: Caller, request: AddRequest, done: _Written, last: Snapshot) -> None:
    """Tell working memory what was added; a turn or two of which the user's is the last are a conversation at work."""
    live = request.messages is not None and len(request.messages) <= LIVE_TURNS and last.role == "user"
    parts.working.added(caller, request.session, [cube.seq for cube in done.cubes], last.content if live else None)


def _result(done: _Written, like: list[Similar] | None) -> AddResult:
    return {
        "cubes": [{"id": c.id, "uri": c.uri, "version": c.version, "state": c.state} for c in done.cubes],
        "unchanged": list(dict.fromkeys(done.unchanged)),
        "similar": like,
        "op": done.op.id if done.op else None,
    }


def _kept_alone(parts: Parts, asked: _Asked) -> _Written:
    """Write many memories, whose vectors are made behind the call."""
    return _kept(parts, asked, Once(lambda: None))


def _kept_and_compared(parts: Parts, asked: _Asked) -> tuple[_Written, list[Similar] | None]:
    """Embed and compare, and write in another thread.

    Only one thread at a time can run Python, but model, index and disk work without it. So this thread goes from the
    model straight into the index; the other looks up where to search in the model's time, and writes in it too where
    that is a few milliseconds: else other writers would wait for the model.
    """
    texts = [embeddable_text(blocks.fitted(draft).snapshot) for draft in asked.drafts]
    place = Once(lambda: similar.place_of(parts, asked.caller, asked.space))
    made = Once(lambda: parts.vector_of(texts))
    keeping = parts.beside.submit(_found_and_kept, parts, asked, place, made)
    try:
        near = similar.near(parts, place, made)
    finally:
        wait([keeping])  # nothing is written after the call has ended
    done = keeping.result()
    return done, _compared(parts, asked, done, near, made())


def _compared(
    parts: Parts, asked: _Asked, done: _Written, near: similar.Near, made: similar.Vectors
) -> list[Similar] | None:
    """What the comparison tells the caller: what is like the additions, and first of all what contradicts them.

    That is known of claims without a vector; None when there is nothing to tell and no embedder to compare with.
    """
    told = done.told.told if done.told is not None else {}
    if near is None:
        if not told:
            return None
        near = []
    known = ({cube.id for cube in done.cubes + done.touched} | set(done.unchanged)) - told.keys()
    conflicts = contradicted.denied([cube for cube, _ in near if cube.id not in known], asked.drafts) | told
    listed = {cube.id for cube, _ in near}
    further = [cube for cube in done.told.cubes.values() if cube.id not in listed] if done.told is not None else []
    return similar.told(near + similar.measured(parts, further, made), known, conflicts)


def _found_and_kept(
    parts: Parts, asked: _Asked, place: Once[similar.Place], made: Once[similar.Vectors]
) -> _Written:
    place()
    readings = contradicted.readings_of(asked.drafts)  # in the model's time
    if not (parts.embedder.is_quick and sum(len(draft.content) for draft in asked.drafts) <= QUICK_CHARS):
        made()
    return _kept(parts, asked, made, readings)


def _kept(
    parts: Parts, asked: _Asked, made: Once[similar.Vectors], readings: Sequence[Reading] | None = None
) -> _Written:
    """Write what is asked for in one transaction, and tell of it; where no vectors are `made`, they are queued.

    With what a few drafts claim (`readings`), they are compared with claims of the same; many are read behind the call.
    """
    caller, drafts, done = asked.caller, asked.drafts, _Written()
    with parts.ledger.write() as connection:
        now = parts.stamp()
        space = governance.open_space(connection, caller, asked.space, now)
        replaced = cubes_for(parts, connection, caller, asked.request.supersedes, "write")
        cubes_for(parts, connection, caller, [link.to for link in asked.request.links], "read")
        drafts, admitted = _admit(parts, connection, space, asked, now)
        if any(admission.verdict != "unchanged" for admission in admitted):
            done.op = begun(parts, caller, "add")
            done.other = {i for i, draft in enumerate(drafts) if draft is not asked.drafts[i]}
            if readings is not None:
                fresh = [i for i, admission in enumerate(admitted) if admission.cube is None]
                done.told = contradicted.look(parts, connection, caller, space, drafts, readings, fresh, now)
                drafts = done.told.drafts
            _write(parts, connection, done.op, space, drafts, admitted, made, done)
            _supersede(parts, connection, done.op, replaced, done)
        done.unchanged = _unchanged(asked.first, admitted, done)
        if done.op is not None:
            operations.record(connection, done.op, done.changes, _result(done, None))
            _embed(parts, connection, done.fresh, made())
    if done.op is not None:
        written = done.cubes + done.touched
        only_new = made() is not None and not done.touched and all(cube.version == 1 for cube in written)
        parts.changed(caller, written, listing=True, embedded=only_new)
    return done


def _unchanged(first: Sequence[int], admitted: Sequence[Admission], done: _Written) -> list[str]:
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
    parts: Parts, connection: Connection, space: Space, asked: _Asked, now: str
) -> tuple[list[Snapshot], list[Admission]]:
    """The drafts as what is held makes them, and what becomes of each."""
    drafts, admitted = list(asked.drafts), []
    for place, draft in enumerate(drafts):
        _pause(parts, len(drafts))
        same_ref = parts.vault.by_ref(connection, space.id, draft.ref) if draft.ref else None
        draft = drafts[place] = blocks.as_held(draft, same_ref, asked.request.kind is not None)
        blocks.check(draft)
        if draft.kind == BLOCK and same_ref is not None:
            admitted.append(_admit_block(parts, connection, draft, same_ref, now))
            continue
        same_text = [] if same_ref else parts.vault.by_content(connection, space.id, draft.content, now)
        admission = admit(draft, same_ref, same_text)
        merged = admission.cube is not None and admission.cube.state is State.MERGED
        admitted.append(fuse.instead(parts, connection, admission) if merged else admission)
    return drafts, admitted


def _admit_block(parts: Parts, connection: Connection, draft: Snapshot, held: Cube, now: str) -> Admission:
    """What becomes of a block that is written anew: it is the same only if what goes out of it is known too."""
    fit = blocks.fitted(renewed(held.snapshot, draft))
    admission = admit(replace(draft, content=fit.snapshot.content), held, [])
    if admission.verdict == "unchanged" and blocks.unknown(parts, connection, held, fit.pages, now):
        return replace(admission, verdict="new version", reason="the same ref, with more than the block holds")
    return admission


def _write(
    parts: Parts,
    connection: Connection,
    op: Operation,
    space: Space,
    drafts: Sequence[Snapshot],
    admitted: Sequence[Admission],
    made: Once[similar.Vectors],
    done: _Written,
) -> None:
    fresh = [i for i, admission in enumerate(admitted) if admission.cube is None]
    fits = {i: blocks.fitted(drafts[i]) for i in fresh}
    written, changes = parts.vault.write(
        connection, op, space, [fits[i].snapshot for i in fresh], lambda: _pause(parts, len(fresh))
    )
    done.changes += changes
    by_place = dict(zip(fresh, written, strict=True))
    done.fresh |= by_place
    if done.told is not None:
        _keep_claims(parts, connection, op, space, by_place, done, done.told)
    for i in fresh:
        done.paged(*blocks.page_out(parts, connection, op, by_place[i], fits[i].pages))
    by_place |= _write_again(parts, connection, op, drafts, admitted, made, done)
    done.cubes += [by_place[i] for i in sorted(by_place)]
    done.ids += [a.cube.id if a.cube is not None else by_place[i].id for i, a in enumerate(admitted)]


def _embed(parts: Parts, connection: Connection, fresh: Mapping[int, Cube], made: Sequence[Vector] | None) -> None:
    """Keep the vectors of the new memories, given by the places of their drafts."""
    vectors = [made[i] for i in fresh] if made is not None else None
    parts.vault.embed(connection, list(fresh.values()), vectors, parts.embedder_number() if made is not None else 0)


def _write_again(
    parts: Parts,
    connection: Connection,
    op: Operation,
    drafts: Sequence[Snapshot],
    admitted: Sequence[Admission],
    made: Once[similar.Vectors],
    done: _Written,
) -> dict[int, Cube]:
    """Write what known memories became, each once; returns them by the places of their drafts."""
    by_place: dict[int, Cube] = {}
    again = set[str]()
    for i, admission in enumerate(admitted):
        if admission.cube is not None and admission.verdict != "unchanged" and admission.cube.id not in again:
            again.add(admission.cube.id)
            vectors = made()
            vector = vectors[i] if vectors is not None and i not in done.other else None
            number = parts.embedder_number() if vector is not None else 0
            by_place[i], change, pages = _again(
                parts, connection, op, admission, admission.cube, drafts[i], vector, number
            )
            done.changes.append(change)
            done.paged(*blocks.page_out(parts, connection, op, by_place[i], pages))
    return by_place


def _keep_claims(
    parts: Parts,
    connection: Connection,
    op: Operation,
    space: Space,
    written: Mapping[int, Cube],
    done: _Written,
    found: Contradicted,
) -> None:
    """Keep about what the new memories make claims, and let them take the place of what they surely contradict."""
    keys = {cube.seq: contradicted.keys_of(space.id, found.readings[place]) for place, cube in written.items()}
    claims.add(connection, keys)
    for place, olds in found.replaced.items():
        for old in olds:
            _replace(parts, connection, op, old, written[place], done)


def _again(
    parts: Parts,
    connection: Connection,
    op: Operation,
    admission: Admission,
    cube: Cube,
    draft: Snapshot,
    vector: Vector | None,
    number: int,
) -> tuple[Cube, Change, Sequence[str]]:
    """Write what a known memory became: its next version, its return from the archive, or both; with what goes out of
    it, if it is a block."""
    if cube.state is State.FROZEN:
        raise Conflict(f"Memory {cube.id} is this one and is frozen: thaw it first (memory_update freeze=false).")
    fit = blocks.fitted(renewed(cube.snapshot, draft))
    before, snapshot = cube, fit.snapshot
    if vector is not None and embeddable_text(snapshot) != embeddable_text(blocks.fitted(draft).snapshot):
        vector = None
    if admission.verdict == "revived":
        cube, _ = parts.vault.move(connection, op, cube, State.ACTIVATED, "confirm")
        snapshot = replace(cube.snapshot, supersedes=snapshot.supersedes)
    if snapshot == cube.snapshot:
        return cube, Change(cube.id, None, None, before.state, cube.state), fit.pages
    cube, _ = parts.vault.rewrite(connection, op, cube, snapshot, vector, number)
    states = (before.state, cube.state) if cube.state is not before.state else (None, None)
    return cube, Change(cube.id, before.version, cube.version, *states), fit.pages


def _supersede(parts: Parts, connection: Connection, op: Operation, replaced: Sequence[Cube], done: _Written) -> None:
    if not replaced or not done.cubes:
        return
    by, written = done.cubes[-1], {cube.id for cube in done.cubes}
    for old in replaced:
        if old.id in written:
            raise Conflict(f"Memory {old.id} cannot supersede itself: leave it out of supersedes.")
        if old.state is State.FROZEN:
            raise Conflict(f"Memory {old.id} is frozen and cannot be superseded: thaw it first.")
        _replace(parts, connection, op, old, by, done)


def _replace(parts: Parts, connection: Connection, op: Operation, old: Cube, by: Cube, done: _Written) -> None:
    snapshot = replace(old.snapshot, superseded_by=by.id, valid_to=by.becomes_true)
    cube, change = parts.vault.rewrite(connection, op, old, snapshot, None, 0)
    done.touched.append(cube)
    done.changes.append(change)
