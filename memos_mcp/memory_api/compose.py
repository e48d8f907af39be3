"""The verb compose: a memory that puts others in an order, whose text is what these say at the moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import TEXTLESS, Cube, Link, Snapshot, clean_label
from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.memory_api.fuse import spoken
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Found
from memos_mcp.requests import ComposeRequest
from memos_mcp.results import ComposeResult, memories
from memos_mcp.states import State
from memos_mcp.vault import embeddable_text

RECIPE = "compose"
"""Key of a composition's recipe: the ids of its parts, in order."""
CONTAINS = "contains"
"""The relation of a composition to its parts; it is no lineage, for it holds no text of theirs."""
KIND = "document"


def compose(parts: Parts, caller: Caller, request: ComposeRequest) -> ComposeResult:
    """Make a memory that refers to others in this order, of whatever spaces the caller may read, and changes none.

    It keeps its title alone. Reading it gives what its parts say now to whoever may read each of them. The same again
    is left as it is (`op` None).

    Raises:
        InvalidInput: a title that cannot be one. NotFound, AccessDenied: not the caller's to read, or a space that is
            not the caller's to write. Conflict: a part is over, is no text, or is itself a composition.
    """
    ids = tuple(dict.fromkeys(request.ids))
    title = clean_label(request.title or f"Composition of {memories(len(ids))}", "title")
    draft = Snapshot(title, KIND, links=tuple(Link(part, CONTAINS) for part in ids), recipe={RECIPE: list(ids)})
    made = parts.vector_of([embeddable_text(draft)])
    number = parts.embedder_number() if made is not None else 0
    with parts.ledger.write() as connection:
        for part in cubes_for(parts, connection, caller, ids, "read"):
            _require_part(part)
        space = governance.open_space(connection, caller, caller.space, parts.stamp())
        known = [
            cube
            for cube in parts.vault.linked_by(connection, ids[:1], CONTAINS)
            if cube.space == space.id and cube.is_alive(parts.stamp())
            and (composed_of(cube.snapshot), cube.snapshot.content) == (ids, title)
        ]  # fmt: skip
        if known:
            return _result(known[0], ids, None)
        op = begun(parts, caller, "compose")
        written, changes = parts.vault.insert(connection, op, space, [draft], made if number else None, number)
        result = _result(written[0], ids, op.id)
        operations.record(connection, op, changes, result)
    parts.changed(caller, written, listing=True, embedded=bool(number))
    return result


def composed_of(snapshot: Snapshot) -> tuple[str, ...]:
    """Ids of a composition's parts, in order; none for any other memory."""
    named = snapshot.recipe.get(RECIPE)
    return tuple(named) if isinstance(named, list) else ()


def shown(parts: Parts, connection: Connection, caller: Caller, cube: Cube) -> Cube:
    """The memory as the caller reads it: a composition with its parts' present texts, any other as it is.

    A part that was purged or ended, or that the caller may not read, leaves a line that says that something is missing.
    """
    ids = composed_of(cube.snapshot)
    if not ids:
        return cube
    found = parts.vault.by_ids(connection, ids)
    texts = [cube.snapshot.content]
    for place, part in enumerate(ids, 1):
        there = found.get(part)
        if there is not None and shows(connection, caller, there):
            texts.append(spoken(there))
        else:
            texts.append(f"[Part {place} of {len(ids)} is missing: it is gone, or not yours to read.]")
    return replace(cube, snapshot=replace(cube.snapshot, content="\n\n".join(texts)))


def in_parts(parts: Parts, connection: Connection, caller: Caller, cubes: Sequence[Cube]) -> list[Cube]:
    """The memories in order, each once; in place of a composition those of its parts that it shows to the caller.

    For what reads memories beforehand, or shows them for longer: a part is known by its own version, and whoever may
    not read it any more does not get it from here.
    """
    named = [one for cube in cubes for one in composed_of(cube.snapshot)]
    there = parts.vault.by_ids(connection, named) if named else {}
    readable = {one: cube for one, cube in there.items() if shows(connection, caller, cube)}
    found: dict[str, Cube] = {}
    for cube in cubes:
        ids = composed_of(cube.snapshot)
        for one in [readable[part] for part in ids if part in readable] if ids else [cube]:
            found.setdefault(one.id, one)
    return list(found.values())


def shows(connection: Connection, caller: Caller, part: Cube) -> bool:
    """Whether a composition shows the caller what this part says."""
    space = governance.space_of(connection, part.space)
    return part.state is not State.EXPIRED and governance.may(connection, caller.principal, "read", space, part.seq)


def with_compositions(
    parts: Parts, connection: Connection, scope: Scope, pairs: Sequence[tuple[Cube, Found]], count: int
) -> list[tuple[Cube, Found]]:
    """The hits, each composition in scope that refers to one of the first `count` of them right behind it."""
    there = {cube.id for cube, _ in pairs}
    holding = parts.vault.linked_by(connection, [cube.id for cube, _ in pairs[:count]], CONTAINS)
    fresh = {cube.seq: cube for cube in holding if composed_of(cube.snapshot) and cube.id not in there}
    if not fresh:
        return list(pairs)
    kept = scope.keep(connection, list(fresh))
    found: list[tuple[Cube, Found]] = []
    for cube, hit in pairs:
        found.append((cube, hit))
        behind = [seq for seq, one in fresh.items() if seq in kept and cube.id in composed_of(one.snapshot)]
        found += [(fresh.pop(seq), replace(hit, seq=seq)) for seq in behind]
    return found


def _require_part(cube: Cube) -> None:
    if cube.snapshot.kind in TEXTLESS:
        raise Conflict(f"Memory {cube.id} is a steering vector and no text: leave it out.")
    if cube.snapshot.recipe:
        raise Conflict(f"Memory {cube.id} is itself a composition: name its parts.")
    if cube.state is State.EXPIRED:
        raise Conflict(f"Memory {cube.id} is expired: leave it out.")


def _result(cube: Cube, ids: Sequence[str], op: str | None) -> ComposeResult:
    return {
        "id": cube.id, "uri": cube.uri, "version": cube.version, "state": cube.state, "title": cube.snapshot.content,
        "parts": list(ids), "op": op,
    }  # fmt: skip
