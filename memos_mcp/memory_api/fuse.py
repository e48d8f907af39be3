"""The verb fuse: makes one memory of several, which stay readable by id and leave search to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import MAX_CONTENT, TEXTLESS, Cube, Snapshot, clean_text
from memos_mcp.documents.position import position_of
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.ledger import kept_states, operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import published
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.operators.fusing import Said, fused
from memos_mcp.policies import conflicts
from memos_mcp.policies.admission import Admission
from memos_mcp.ports import Vector
from memos_mcp.requests import FuseRequest
from memos_mcp.results import FuseResult
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text

MOST_TAGS = 50
MOST_READ = 2 * MAX_CONTENT
"""Characters of memories whose sentences are compared."""
SENSITIVITIES = ("normal", "private", "secret")
"""From the least to the most."""
PART_OF = "split"
"""Key of a part's metadata: `of` is the memory that was split, `place` the part's own among the others."""
_HAPPENED = frozenset({"dialogue", "tool_trace", "event"})
"""Kinds that tell what happened: together they are an event."""
_OVER = (State.MERGED, State.EXPIRED)


@dataclass(frozen=True)
class Fused:
    """What a fusion wrote: the new memory, its sources as they are now, and the changes to record."""

    cube: Cube
    sources: Sequence[Cube]
    changes: list[Change]

    @property
    def all(self) -> list[Cube]:
        return [self.cube, *self.sources]


@dataclass(frozen=True)
class Place:
    """Where a part stood in the memory that was split."""

    of: str
    place: int


def place_in_whole(cube: Cube) -> Place | None:
    """Of what memory this one is a part, and which; None for one that is none."""
    said = cube.snapshot.metadata.get(PART_OF)
    if not isinstance(said, dict) or cube.snapshot.parents != (said.get("of"),):
        return None
    return Place(said["of"], said["place"]) if isinstance(said.get("place"), int) else None


def fuse(parts: Parts, caller: Caller, request: FuseRequest) -> FuseResult:
    """Fuse memories of one space into a new one: with the host's text, or with their sentences in the order of time.

    The sources become merged: no search finds them, and they are read by id. An undo brings them back as they were.

    Raises:
        InvalidInput: fewer than two memories, or a text that cannot be kept. NotFound, AccessDenied: not the caller's.
        Conflict: one is frozen, over, fused already, no text of its own, or in another space, or changed in between.
    """
    ids = list(dict.fromkeys(request.ids))
    if len(ids) < 2:
        raise InvalidInput("ids names one memory: name at least two different ones.", field="ids")
    with parts.ledger.read() as connection:
        sources = cubes_for(parts, connection, caller, ids, "write")
        require_fusible(parts, connection, sources)
    content = clean_text(request.content) if request.content is not None else text_of(sources)
    draft = drafted(sources, content)
    made = parts.vector_of([embeddable_text(draft)])
    with parts.ledger.write() as connection:
        present = cubes_for(parts, connection, caller, ids, "write")
        require_fusible(parts, connection, present)
        _require_unchanged(sources, present)
        op = begun(parts, caller, "fuse", "the host's text" if request.content is not None else "their sentences")
        done = carry_out(parts, connection, op, present, draft, made[0] if made else None, "merge")
        result = result_of(done, op)
        operations.record(connection, op, done.changes, result)
        follow = states_follow(parts, connection, done.sources, [done.cube])
    parts.changed(caller, done.all, listing=True)
    follow()
    return result


def _require_unchanged(before: Sequence[Cube], present: Sequence[Cube]) -> None:
    for then, now in zip(before, present, strict=True):
        if then.version != now.version:
            raise Conflict(f"Memory {now.id} was changed in this moment by {now.op}: read it and fuse again.")


def result_of(done: Fused, op: Operation) -> FuseResult:
    """What a fusion's operation did, as a result says it."""
    cube = done.cube
    merged = [source.id for source in done.sources]
    return {
        "id": cube.id, "uri": cube.uri, "version": cube.version, "state": cube.state, "merged": merged, "op": op.id
    }  # fmt: skip


def carry_out(
    parts: Parts,
    connection: Connection,
    op: Operation,
    sources: Sequence[Cube],
    draft: Snapshot,
    vector: Vector | None,
    event: str,
) -> Fused:
    """Write the fused memory and move its sources to merged by `event`, in the caller's transaction.

    Without a vector it is queued for embedding. `parts.changed` and what `states_follow` gives come after the commit.

    Raises:
        IllegalMove: the state table does not let one of the sources go; nothing was written.
    """
    moved = parts.vault.move_all(connection, op, sources, State.MERGED, event)
    space = governance.space_of(connection, sources[0].space)
    number = parts.embedder_number() if vector is not None else 0
    made, changes = parts.vault.insert(
        connection, op, space, [draft], [vector] if vector is not None and number else None, number
    )
    published.replaced(parts, connection, op, sources, made)
    return Fused(made[0], [cube for cube, _ in moved], [*changes, *(change for _, change in moved)])


def states_follow(
    parts: Parts, connection: Connection, sources: Sequence[Cube], made: Sequence[Cube]
) -> Callable[[], None]:
    """Let what was made of the sources take their place among what the local model has read beforehand.

    Returns what is to follow the commit. The states that held a source are gone with its move.
    """
    activation = parts.activation
    secret = any(cube.snapshot.sensitivity == "secret" for cube in made)
    held = kept_states.all_promoted(connection) if activation is not None and not secret else set()
    if activation is None or not held.intersection(cube.seq for cube in sources):
        return lambda: None
    job = activation.promote(connection, made)
    return lambda: activation.build(job)


def require_fusible(parts: Parts, connection: Connection, sources: Sequence[Cube]) -> None:
    """Raise unless these memories can be fused with each other.

    Raises:
        Conflict: one of them cannot; the sentence says what to do.
    """
    spaces = list(dict.fromkeys(cube.space_name for cube in sources))
    if len(spaces) > 1:
        raise Conflict(
            f"The memories are in the spaces {', '.join(map(repr, spaces))}: fuse those of one space, or move them "
            "there first, for who may read the one may not read the other."
        )
    require_fit(parts, connection, sources)


def require_fit(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> None:
    """Raise unless each of these memories may be merged into another one.

    Raises:
        Conflict: one of them may not; the sentence says what to do.
    """
    named = {cube.id for cube in cubes}
    for cube in cubes:
        why = _unfit(parts, connection, cube, named)
        if why is not None:
            raise Conflict(f"Memory {cube.id} {why}")


def _unfit(parts: Parts, connection: Connection, cube: Cube, named: set[str]) -> str | None:
    said = cube.snapshot
    if said.kind in TEXTLESS:
        return "is a steering vector and no text: name the memories that it is made of."
    if said.recipe:
        return "is a composition, whose text is that of its parts: name those."
    if position_of(said) is not None:
        return "is a part of a document, which is kept as its source has it: add its text as a memory of its own first."
    if cube.state is State.FROZEN:
        return "is frozen: thaw it first (memory_update freeze=false)."
    if cube.state is State.MERGED:
        by = [one.id for one in parts.vault.made_from(connection, [cube.id]) if one.state not in _OVER]
        return f"is merged already, into {', '.join(by[:3])}: name that." if by else "is merged already: undo that."
    if cube.state is State.EXPIRED or (said.expires is not None and said.expires <= parts.stamp()):
        return "is expired: leave it out, or give it a later end first (memory_update expires)."
    if said.superseded_by is not None and said.superseded_by not in named:
        return f"was superseded by {said.superseded_by}: name that one instead."
    return None


def text_of(sources: Sequence[Cube]) -> str:
    """The memories' sentences as one text: see `operators.fusing`; what contradicts what, `policies.conflicts` says.

    Raises:
        InvalidInput: it is longer than one memory may be.
    """
    size = sum(len(cube.snapshot.content) for cube in sources)
    if size > MOST_READ:
        raise InvalidInput(
            f"The memories have {size:,} characters and {MOST_READ:,} can be fused: give the text in content.",
            field="ids",
        )
    names = {cube.snapshot.name or cube.snapshot.role for cube in sources}
    ordered = sorted(sources, key=_order)
    said = [
        Said(spoken(cube) if len(names) > 1 else cube.snapshot.content, cube.becomes_true, _origin(cube))
        for cube in ordered
    ]
    return clean_text(fused(said, conflicts.contradicting()), "The fused text")


def _order(cube: Cube) -> tuple[str, str, int, int]:
    """In time; parts of one memory as they stood in it."""
    at = place_in_whole(cube)
    return cube.becomes_true, _origin(cube) if at is not None else "", at.place if at is not None else 0, cube.seq


def spoken(cube: Cube) -> str:
    """The text with who said it."""
    said = cube.snapshot
    who = said.name or (said.role if said.kind == "dialogue" else None)
    return f"{who}: {said.content}" if who else said.content


def _origin(cube: Cube) -> str:
    """What a memory's text was taken out of, if it is a part of one; else the memory itself."""
    at = place_in_whole(cube)
    return at.of if at is not None else cube.id


def drafted(sources: Sequence[Cube], content: str) -> Snapshot:
    """The fused memory before it is written: what its sources agree on, and of what orders them the highest.

    It is true from when the first of them became true, lives as long as the longest of them, is as secret as the most
    secret and as important as the most important.
    """
    said = [cube.snapshot for cube in sources]
    return Snapshot(
        content=content,
        kind=_kind({one.kind for one in said}),
        valid_from=min(cube.becomes_true for cube in sources),
        name=_common([one.name for one in said]),
        session=_common([one.session for one in said]),
        source=_common([one.source for one in said]),
        tags=_tags(said),
        metadata=_agreed([one.metadata for one in said]),
        importance=max(one.importance for one in said),
        priority=max(one.priority for one in said),
        expires=_last([one.expires for one in said]),
        pinned=any(one.pinned for one in said),
        sensitivity=max((one.sensitivity for one in said), key=SENSITIVITIES.index),
        **_references(sources),
    )


def _references(sources: Sequence[Cube]) -> dict[str, Any]:
    """What the memories refer to, without each other; and the memories themselves, as lineage."""
    named = {cube.id for cube in sources}
    links = (link for cube in sources for link in cube.snapshot.links if link.to not in named)
    older = (old for cube in sources for old in cube.snapshot.supersedes if old not in named)
    return {
        "links": tuple(dict.fromkeys(links)),
        "parents": tuple(cube.id for cube in sources),
        "supersedes": tuple(dict.fromkeys(older)),
    }


def _last(ends: Sequence[str | None]) -> str | None:
    """The latest end; None if one has none."""
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


def _kind(kinds: set[str]) -> str:
    """One kind stays; what happened, told by several speakers or tools, is an event; anything else a fact."""
    if len(kinds) == 1 and not kinds <= {"dialogue", "tool_trace"}:
        return next(iter(kinds))
    return "event" if kinds <= _HAPPENED else "fact"


def _common(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None


def _tags(said: Sequence[Snapshot]) -> tuple[str, ...]:
    """Every tag, each once; of very many those that most of the memories have."""
    counts = Counter(tag for one in said for tag in one.tags)
    kept = {tag for tag, _ in counts.most_common(MOST_TAGS)}
    return tuple(dict.fromkeys(tag for one in said for tag in one.tags if tag in kept))


def _agreed(metadata: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the memories' metadata say alike, but for where a part stood."""
    first, *others = metadata
    return {
        key: value
        for key, value in first.items()
        if key != PART_OF and all(key in other and other[key] == value for other in others)
    }


def instead(parts: Parts, connection: Connection, admission: Admission) -> Admission:
    """What becomes of a draft whose memory is merged: that one is known, and no search would find it.

    The same again is what the live memory says that stands for it. Anything else, and what nothing stands for any
    more, is a new memory.
    """
    standing = None
    if admission.verdict == "unchanged" and admission.cube is not None:
        standing = standing_for(parts, connection, admission.cube)
    if standing is None:
        return Admission("new", "what was known is merged, and no live memory stands for it")
    return Admission("unchanged", f"{admission.reason}, in a memory that it was merged into", standing)


def standing_for(parts: Parts, connection: Connection, cube: Cube) -> Cube | None:
    """The live memory that a merged one was fused or split into, the newest; None if there is none."""
    seen, frontier = {cube.id}, [cube.id]
    while frontier:
        made = [one for one in parts.vault.made_from(connection, frontier) if one.id not in seen]
        live = [one for one in made if one.is_alive(parts.stamp()) and one.snapshot.kind not in TEXTLESS]
        if live:
            return live[-1]
        seen.update(one.id for one in made)
        frontier = [one.id for one in made if one.state is State.MERGED]
    return None
