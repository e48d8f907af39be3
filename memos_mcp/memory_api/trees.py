"""Reads and rearranges trees of memories: what is above a node, what is under it, and where it stands.

Knows nothing of how a document becomes a tree. A node's parent is its first parent in lineage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.documents.position import DOCUMENT, FOLDER, KEY, Position, own_text, path, placed, position_of, title_of
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.requests import MoveRequest
from memos_mcp.results import MoveResult, TreeNode, TreeResult
from memos_mcp.states import LIVE, State

DEEPEST = 200
"""Levels that are followed."""
MOST_READ = 2_000
"""Nodes of a subtree that one answer holds."""
MOST_NODES = 50_000


def paths(parts: Parts, caller: Caller, cubes: Sequence[Cube]) -> dict[str, str]:
    """How the way down to each node is written, by id; memories that stand in no tree are left out.

    Of a memory that was shared by itself the way is its own titles alone: what is above it is not the caller's.
    """
    placed_ones = [cube for cube in cubes if position_of(cube.snapshot) is not None]
    if not placed_ones:
        return {}
    with parts.ledger.read() as connection:
        spaces = {number: governance.space_of(connection, number) for number in {cube.space for cube in placed_ones}}
        open_ = {n for n, space in spaces.items() if governance.may(connection, caller.principal, "read", space)}
        above = _above(parts, connection, [cube for cube in placed_ones if cube.space in open_])
    return {cube.id: _path([*above.get(cube.id, ()), cube]) for cube in placed_ones}


def ancestors(parts: Parts, connection: Connection, caller: Caller, cube: Cube) -> list[Cube]:
    """The nodes above a memory, outermost first, as far as the caller may read them."""
    if not governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space)):
        return []
    return _above(parts, connection, [cube])[cube.id]


def below(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> list[Cube]:
    """Every node under these that is not over, level by level.

    Raises:
        InvalidInput: they are over `MOST_NODES`.
    """
    found: dict[str, Cube] = {}
    frontier = [cube.id for cube in cubes if position_of(cube.snapshot) is not None]
    seen = set(frontier)
    while frontier:
        level = [c for c in parts.vault.made_from(connection, frontier) if c.id not in seen and _parent(c) is not None]
        found |= {cube.id: cube for cube in level}
        frontier = [cube.id for cube in level]
        seen.update(frontier)
        if len(found) > MOST_NODES:
            raise InvalidInput(f"Over {MOST_NODES:,} memories are under this one: name one of those under it.")
    return list(found.values())


def neighbours(parts: Parts, connection: Connection, cube: Cube, reach: int) -> tuple[list[Cube], list[Cube]]:
    """Up to `reach` live nodes of the same document before and behind this one, in the order of the source."""
    at = position_of(cube.snapshot)
    if at is None or at.start is None or at.node == DOCUMENT:
        return [], []
    rows = []
    for other in parts.vault.holding(connection, cube.space, f"{KEY}.of", at.of):
        place = position_of(other.snapshot)
        if place is not None and place.start is not None and place.node != DOCUMENT and other.state in LIVE:
            rows.append((place.start, other))
    rows.sort(key=lambda row: row[0])
    before = [other for start, other in rows if start < at.start and other.id != cube.id]
    behind = [other for start, other in rows if start > at.start and other.id != cube.id]
    return before[-reach:], behind[:reach]


def read(parts: Parts, caller: Caller, cube_id: str) -> TreeResult:
    """A memory with all that stands under it and is live, in order; of very many the first `MOST_READ`.

    Raises:
        NotFound: no such memory, or not the caller's to see. InvalidInput: more than can be read at all.
    """
    with parts.ledger.read() as connection:
        top = cubes_for(parts, connection, caller, [cube_id], "read")[0]
        above = ancestors(parts, connection, caller, top)
        space = governance.space_of(connection, top.space)
        whole = governance.may(connection, caller.principal, "read", space)
        under = [cube for cube in below(parts, connection, [top]) if cube.state in LIVE] if whole else []
    children: dict[str, list[Cube]] = {}
    for cube in under:
        children.setdefault(cube.snapshot.parents[0], []).append(cube)
    tree, made = _node(top), 1
    waiting = [(tree, top)]
    while waiting and made < MOST_READ:  # depth first, in the order of the source
        node, cube = waiting.pop()
        inner = sorted(children.get(cube.id, ()), key=_order)[: MOST_READ - made]
        node["children"] = [_node(child) for child in inner]
        made += len(inner)
        waiting += list(zip(node["children"], inner, strict=True))[::-1]
    return {"path": _path([*above, top]), "tree": tree, "nodes": made, "left_out": 1 + len(under) - made}


def move(parts: Parts, caller: Caller, request: MoveRequest) -> MoveResult:
    """Give a node of a tree another parent (none: it becomes a tree of its own) or another place among its siblings.

    All that is under it comes along. What it is in its source stays noted, and keeping the source again leaves it here.

    Raises:
        InvalidInput: it stands in no tree. NotFound, AccessDenied: not the caller's to change.
        Conflict: it would stand under itself or in another space, or it is frozen or over.
    """
    with parts.ledger.write() as connection:
        cube = cubes_for(parts, connection, caller, [request.id], "write")[0]
        under = cubes_for(parts, connection, caller, [request.under] if request.under is not None else [], "write")
        parent = under[0] if under else None
        above = _above(parts, connection, [parent])[parent.id] + [parent] if parent is not None else []
        _require_movable(cube, parent, above)
        siblings = _siblings(parts, connection, cube, parent)
        wanted = _orders(cube, siblings, request.place)
        op = begun(parts, caller, "move")
        written: list[Cube] = []
        changes: list[Change] = []
        for one, order in wanted:
            at = _at(one)
            if one.id == cube.id:
                snapshot = placed(one.snapshot, replace(at, order=order, moved=True), parent.id if parent else None)
                same = at.order == order and one.snapshot.parents == snapshot.parents
            else:
                snapshot = placed(one.snapshot, replace(at, order=order), _parent(one))
                same = at.order == order
            if not same:
                fresh, change = parts.vault.rewrite(connection, op, one, snapshot, None, 0)
                written.append(fresh)
                changes.append(change)
        result: MoveResult = {
            "moved": [cube.id] if changes else [],
            "path": _path([*above, cube]),
            "op": op.id if changes else None,
        }
        if changes:
            operations.record(connection, op, changes, result)
    if changes:
        parts.changed(caller, written, listing=True)
    return result


def _require_movable(cube: Cube, parent: Cube | None, above: Sequence[Cube]) -> None:
    for one in (cube, parent):
        if one is not None and position_of(one.snapshot) is None:
            raise InvalidInput(
                f"Memory {one.id} stands in no tree: what is moved, and what it is moved under, is a folder, a "
                "document or a part of one.",
                field="id",
            )
    if cube.state in (State.FROZEN, State.EXPIRED):
        raise Conflict(f"Memory {cube.id} is {cube.state} and is not moved: thaw it, or undo what ended it, first.")
    if parent is None:
        return
    if parent.space != cube.space:
        raise Conflict(f"Memory {parent.id} is in another space, {parent.space_name!r}: a tree is in one space.")
    if parent.state not in LIVE:
        raise Conflict(f"Memory {parent.id} is {parent.state}: nothing is moved under it.")
    if any(one.id == cube.id for one in above):
        raise Conflict(f"Memory {parent.id} stands under {cube.id}: a node cannot be moved under itself.")


def _siblings(parts: Parts, connection: Connection, cube: Cube, parent: Cube | None) -> list[Cube]:
    if parent is None:
        return []
    found = parts.vault.made_from(connection, [parent.id])
    standing = [one for one in found if _parent(one) == parent.id and one.id != cube.id and one.state in LIVE]
    return sorted(standing, key=_order)


def _orders(cube: Cube, siblings: Sequence[Cube], place: int | None) -> list[tuple[Cube, int | None]]:
    """The node, and the siblings, with their orders. A frozen sibling keeps its own."""
    if place is None:
        if all(_at(one).order is None for one in siblings):
            return [(cube, None)]  # among folders and files titles decide
        return [(cube, max(_at(one).order or 0 for one in siblings) + 1)]
    row = [*siblings[:place], cube, *siblings[place:]]
    return [(one, order) for order, one in enumerate(row) if one.state is not State.FROZEN]


def _above(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> dict[str, list[Cube]]:
    """What stands above each, outermost first, read a level at a time for all of them."""
    known: dict[str, Cube] = {}
    frontier = {parent for cube in cubes if (parent := _parent(cube)) is not None}
    for _ in range(DEEPEST):
        if not frontier:
            break
        found = parts.vault.by_ids(connection, sorted(frontier))
        known |= found
        frontier = {parent for cube in found.values() if (parent := _parent(cube)) is not None} - known.keys()
    chains = {}
    for cube in cubes:
        chain: list[Cube] = []
        parent = _parent(cube)
        while parent is not None and parent in known and known[parent] not in chain and len(chain) < DEEPEST:
            chain.append(known[parent])
            parent = _parent(known[parent])
        chains[cube.id] = chain[::-1]
    return chains


def _parent(cube: Cube) -> str | None:
    """The id of the node above; None for a memory that stands in no tree, whatever it was made from."""
    parents = cube.snapshot.parents
    return parents[0] if parents and position_of(cube.snapshot) is not None else None


def _at(cube: Cube) -> Position:
    at = position_of(cube.snapshot)
    if at is None:
        raise InvalidInput(f"Memory {cube.id} stands in no tree.", field="id")
    return at


def _order(cube: Cube) -> tuple[bool, int, str, int]:
    at = _at(cube)
    return at.order is None, at.order or 0, at.title if at.node in (FOLDER, DOCUMENT) else "", cube.seq


def _path(cubes: Sequence[Cube]) -> str:
    return path([at for cube in cubes if (at := position_of(cube.snapshot)) is not None])


def _node(cube: Cube) -> TreeNode:
    at = position_of(cube.snapshot)
    return {
        "id": cube.id,
        "uri": cube.uri,
        "node": at.node if at is not None else "memory",
        "title": at.title if at is not None else title_of(cube.snapshot.content[:200]),
        "state": cube.state,
        "order": at.order if at is not None else None,
        "page": at.pages[0] if at is not None and at.pages is not None else None,
        "text": own_text(cube.snapshot),
        "children": [],
    }
