"""The verb split: makes several memories of one, which stays readable by id and leaves search to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, Link, Snapshot, clean_text
from memos_mcp.documents.parting import parted
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.memory_api import published
from memos_mcp.memory_api.add import EMBED_AT_ONCE
from memos_mcp.memory_api.fuse import PART_OF, place_in_whole, require_fit, states_follow
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.requests import SplitRequest
from memos_mcp.results import CubeRef, SplitResult
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text, new_id

MOST_PARTS = 200
FOLLOWS = "follows"
"""The relation of a part to the one before it."""


def split(parts: Parts, caller: Caller, request: SplitRequest) -> SplitResult:
    """Make a memory of each part: of those given, else of what its headings, turns or empty lines set apart.

    The parts stand in order: each follows the one before it, and its metadata say of what it is a part, and which. The
    memory becomes merged, for its text stands in them. An undo brings it back.

    Raises:
        InvalidInput: no parts to be seen, or one that cannot be kept. NotFound, AccessDenied: not the caller's.
        Conflict: it is frozen, over, or no text of its own, or was changed in between.
    """
    with parts.ledger.read() as connection:
        cube = cubes_for(parts, connection, caller, [request.id], "write")[0]
        require_fit(parts, connection, [cube])
    texts = _texts(cube, request.parts)
    ids = [new_id() for _ in texts]
    drafts = [_draft(cube, text, ids, place) for place, text in enumerate(texts)]
    made = None
    if len(drafts) <= EMBED_AT_ONCE:
        made = parts.vector_of([embeddable_text(draft) for draft in drafts])
    number = parts.embedder_number() if made is not None else 0
    with parts.ledger.write() as connection:
        fresh = cubes_for(parts, connection, caller, [request.id], "write")[0]
        require_fit(parts, connection, [fresh])
        if fresh.version != cube.version:
            raise Conflict(f"Memory {cube.id} was changed in this moment by {fresh.op}: read it and split it again.")
        op = begun(parts, caller, "split", "given parts" if request.parts is not None else "its own parts")
        source, gone = parts.vault.move(connection, op, fresh, State.MERGED, "merge")
        space = governance.space_of(connection, cube.space)
        written, changes = parts.vault.insert(
            connection, op, space, drafts, made if number else None, number, ids=ids
        )
        published.replaced(parts, connection, op, [cube], written)
        result: SplitResult = {"id": cube.id, "parts": [_ref(one) for one in written], "op": op.id}
        operations.record(connection, op, [*changes, gone], result)
        follow = states_follow(parts, connection, [source], written)
    parts.changed(caller, [*written, source], listing=True)
    follow()
    return result


def neighbours(parts: Parts, connection: Connection, cube: Cube, reach: int) -> tuple[list[Cube], list[Cube]]:
    """Up to `reach` live parts of the same memory before and behind this one, in order; none for what is no part."""
    at = place_in_whole(cube)
    if at is None:
        return [], []
    siblings = [
        (found.place, other)
        for other in parts.vault.made_from(connection, [at.of])
        if other.is_alive(parts.stamp()) and (found := place_in_whole(other)) is not None and found.of == at.of
    ]
    siblings.sort(key=lambda pair: pair[0])
    before = [other for place, other in siblings if place < at.place]
    behind = [other for place, other in siblings if place > at.place]
    return before[-reach:], behind[:reach]


def _texts(cube: Cube, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        return [clean_text(text, f"parts[{place}]").strip() for place, text in enumerate(given)]
    found = [text.strip() for text in parted(cube.snapshot.content)]
    if len(found) < 2:
        raise InvalidInput(
            f"Memory {cube.id} has no headings, turns or paragraphs to be split by: give the texts in parts.",
            field="parts",
        )
    if len(found) > MOST_PARTS:
        raise InvalidInput(
            f"Memory {cube.id} falls into {len(found):,} parts and a split makes at most {MOST_PARTS}: give larger "
            "ones in parts.",
            field="parts",
        )
    return found


def _draft(cube: Cube, text: str, ids: Sequence[str], place: int) -> Snapshot:
    whole = cube.snapshot
    before = (Link(ids[place - 1], FOLLOWS),) if place else ()
    return replace(
        whole,
        content=text,
        valid_from=cube.becomes_true,
        ref=None,
        feedback=None,
        metadata={**whole.metadata, PART_OF: {"of": cube.id, "place": place}},
        links=whole.links + before,
        parents=(cube.id,),
        supersedes=(),
        superseded_by=None,
        valid_to=None,
    )


def _ref(cube: Cube) -> CubeRef:
    return {"id": cube.id, "uri": cube.uri, "version": cube.version, "state": cube.state}
