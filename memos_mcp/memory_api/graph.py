"""The verb graph: walks from a memory or a name along typed relations, and tells what stands around it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, clean_label, parse_instant
from memos_mcp.entities.naming import clean_name, key_of, relation_key
from memos_mcp.errors import NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger.edges import Edge, Memory, Name, Node, View
from memos_mcp.ledger.schema import entities
from memos_mcp.memory_api.parts import Parts
from memos_mcp.requests import GraphRequest
from memos_mcp.results import GraphEdge, GraphNode, GraphResult

MOST_NODES = 60
MOST_EDGES = 150
FAN = 25
"""Edges of one kind that are followed from one node, the newest."""
TEXT = 200
"""Characters of a memory that are shown."""
WAIT_S = 5.0
"""Seconds that a walk waits for the newest memories to be read."""
_SUGGESTED = 8


@dataclass
class _Walk:
    """What a walk has met, in order: the distance of each node from its beginning, and edges between them."""

    distance: dict[Node, int] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)
    crowded: list[Node] = field(default_factory=list)
    full: bool = False


def graph(parts: Parts, caller: Caller, request: GraphRequest) -> GraphResult:
    """What stands within `depth` relations of a memory or a name: nodes, nearest first, and edges between them.

    Raises:
        NotFound: there is no such memory or name for this caller; names like it are told.
        InvalidInput: a relation or time that cannot be one.
    """
    relation = relation_key(clean_label(request.relation, "relation")) if request.relation is not None else None
    as_of = parse_instant(request.as_of, "as_of") if request.as_of else None
    behind = not parts.ledger.read_only and not parts.weaver.catch_up(WAIT_S)
    with parts.foreground, parts.ledger.read() as connection:
        start, view = _start(parts, connection, caller, request.from_, as_of)
        walk = _walked(connection, view, start, request, relation)
        met = parts.vault.by_seqs(connection, [node.seq for node in walk.distance if isinstance(node, Memory)])
    parts.usage.served(list(met), parts.stamp(), caller)
    return _result(walk, met, behind)


def _start(
    parts: Parts, connection: Connection, caller: Caller, text: str, as_of: str | None
) -> tuple[Node, View]:
    """Where the walk begins, and what of the graph the caller may see from there."""
    looked_in = governance.readable_spaces(connection, caller, None)
    spaces = {space.id for space in looked_in}
    shared = tuple(governance.reached_cubes(connection, caller, looked_in))
    cube_id = text.strip().removeprefix("memcube://")
    cube = parts.vault.by_ids(connection, [cube_id]).get(cube_id)
    if cube is not None:
        governance.require(connection, caller, "read", cube)
        if governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space)):
            spaces.add(cube.space)
        return Memory(cube.seq, cube.id), View(tuple(sorted(spaces)), parts.stamp(), shared, as_of)
    view = View(tuple(sorted(spaces)), parts.stamp(), shared, as_of)
    return _named(connection, view, text), view


def _named(connection: Connection, view: View, text: str) -> Name:
    """The entity of this name; a part of a name will do where it is the part of one alone."""
    key = key_of(text)
    found = view.names(connection, entities.c.key == key, 1) if key else []
    if found:
        return found[0]
    begins = entities.c.key.startswith(f"{key} ", autoescape=True)
    ends = entities.c.key.endswith(f" {key}", autoescape=True)
    parted = view.names(connection, begins | ends, _SUGGESTED) if key else []
    if len(parted) == 1:
        return parted[0]
    like = parted
    if key and not parted:
        like = view.names(connection, entities.c.key.contains(key, autoescape=True), _SUGGESTED)
    known = ", ".join(repr(one.name) for one in like)
    advice = f"known are {known}" if like else "memory_search finds memories by their words"
    raise NotFound("memory or name", [clean_name(text)], f"{advice}; give an id, or a name that memories mention.")


def _walked(connection: Connection, view: View, start: Node, request: GraphRequest, relation: str | None) -> _Walk:
    walk = _Walk({start: 0})
    frontier: list[Node] = [start]
    for distance in range(1, request.depth + 1):
        reached = list[Node]()
        for node in frontier:
            for edge in _edges(connection, view, node, request, relation, walk):
                far = edge.target if edge.source == node else edge.source
                if not _kept(walk, edge, far, distance):
                    continue
                if walk.distance[far] == distance and far not in reached:
                    reached.append(far)
        frontier = reached
    return walk


def _edges(
    connection: Connection, view: View, node: Node, request: GraphRequest, relation: str | None, walk: _Walk
) -> list[Edge]:
    """The node's edges in the directions asked for, and a note where there are more than are followed."""
    found = list[Edge]()
    for direction, read in (("out", view.out_of), ("in", view.into)):
        if request.direction in (direction, "both"):
            more = read(connection, node, relation, FAN + 1)
            kinds = [edge for edge in more if isinstance(edge.source, Name) and isinstance(edge.target, Name)]
            rest = [edge for edge in more if edge not in kinds]
            mentions = [edge for edge in rest if isinstance(edge.target, Name)]
            links = [edge for edge in rest if isinstance(edge.target, Memory)]
            if max(len(kinds), len(mentions), len(links)) > FAN:
                walk.crowded.append(node)
            found += links[:FAN] + kinds[:FAN] + mentions[:FAN]
    return found


def _kept(walk: _Walk, edge: Edge, far: Node, distance: int) -> bool:
    """Whether there was room for the edge and what it leads to."""
    if edge in walk.edges:
        return True
    if len(walk.edges) >= MOST_EDGES or (far not in walk.distance and len(walk.distance) >= MOST_NODES):
        walk.full = True
        return False
    walk.edges[edge] = None
    walk.distance.setdefault(far, distance)
    return True


def _result(walk: _Walk, met: dict[int, Cube], behind: bool) -> GraphResult:
    shown = {node: _id(node) for node in walk.distance if isinstance(node, Name) or node.seq in met}
    nodes = [_node(node, walk.distance[node], met) for node in shown]
    edges = [_edge(edge, shown) for edge in walk.edges if edge.source in shown and edge.target in shown]
    result: GraphResult = {"nodes": nodes, "edges": edges}
    if behind:
        result["degraded"] = "Memories added a moment ago are not in the graph yet: ask again in a moment."
    said = list[str]()
    if walk.full:
        said.append(f"Cut at {MOST_NODES} nodes and {MOST_EDGES} edges: give a relation or a smaller depth.")
    if walk.crowded:
        crowd = ", ".join(_id(node) for node in dict.fromkeys(walk.crowded))
        said.append(f"Only the {FAN} newest edges of a kind are followed, and there are more at: {crowd[:500]}.")
    if not edges:
        said.append("Nothing stands in such a relation to it: leave relation out, or ask for both directions.")
    if said:
        result["next"] = " ".join(said)
    return result


def _node(node: Node, distance: int, met: dict[int, Cube]) -> GraphNode:
    if isinstance(node, Name):
        return {"id": node.name, "type": "name", "kind": node.kind, "text": node.name, "space": None, "depth": distance}
    cube = met[node.seq]
    text = cube.snapshot.content
    return {
        "id": cube.id,
        "type": "memory",
        "kind": cube.snapshot.kind,
        "text": text if len(text) <= TEXT else text[: TEXT - 1] + "…",
        "space": cube.space_name,
        "depth": distance,
    }


def _edge(edge: Edge, shown: dict[Node, str]) -> GraphEdge:
    """The edge, its ends as the list of nodes names them, for two spaces may write a name differently."""
    return {
        "from": shown[edge.source],
        "relation": edge.relation,
        "to": shown[edge.target],
        "memory": edge.memory.id,
        "valid_from": edge.since,
        "valid_to": edge.until,
    }


def _id(node: Node) -> str:
    return node.name if isinstance(node, Name) else node.id
