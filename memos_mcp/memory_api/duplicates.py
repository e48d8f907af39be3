"""Finds memories that say nearly the same as one that is known, and clusters of them.

Knows nothing of what becomes of them. Only kinds of which the same text is the same memory are compared: the same
words on another day are another event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Cube
from memos_mcp.documents.position import position_of
from memos_mcp.ledger import vectors
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators.likeness import likeness
from memos_mcp.plaintext.scope import Scope
from memos_mcp.states import State

NEAR = 0.85
"""Cosine from which two memories are compared by their words."""
MOST = 12
"""Memories of one cluster."""

Like = tuple[Cube, float]
"""A memory, and how much alike it is, 0..1."""
Near = Callable[[Parts, Connection, Cube], Sequence[Like]]
"""The memories of its own space that say nearly the same as this one, most alike first."""


@dataclass(frozen=True)
class Cluster:
    """Memories that each say nearly the same as every other one, oldest first; `score` is that of the least alike."""

    cubes: tuple[Cube, ...]
    score: float

    @property
    def seqs(self) -> frozenset[int]:
        return frozenset(cube.seq for cube in self.cubes)


def comparable(cube: Cube, now: str) -> bool:
    """Whether a memory may be found to be a near-duplicate: it stands, is a text of its own, and nobody protects it."""
    said = cube.snapshot
    plain = said.kind in SAME_TEXT_IS_SAME_MEMORY and not said.recipe and position_of(said) is None
    open_ = said.sensitivity != "secret" and cube.state is not State.FROZEN
    return plain and open_ and cube.is_alive(now)


def near(parts: Parts, connection: Connection, cube: Cube) -> list[Like]:
    """By the vectors that the ledger keeps, then by words; none while the memory has no vector."""
    number = parts.embedder_number()
    vector = vectors.of_version(connection, number, cube.seq, cube.version) if number else None
    if vector is None:
        return []
    scope = Scope((cube.space,), parts.stamp(), kinds=(cube.snapshot.kind,))
    ground = parts.search.ground(connection, scope)
    found = parts.search.similar(connection, vector, scope, NEAR, MOST + 1, ground)
    cubes = parts.vault.by_seqs(connection, [seq for seq, _ in found if seq != cube.seq])
    alike = [
        (cubes[seq], likeness(cube.snapshot.content, cubes[seq].snapshot.content, cosine))
        for seq, cosine in found
        if seq in cubes and _agrees(cube, cubes[seq])
    ]
    return sorted(((one, score) for one, score in alike if score > 0), key=lambda pair: (-pair[1], pair[0].seq))


def clusters(
    parts: Parts, connection: Connection, cubes: Sequence[Cube], find: Near = near
) -> list[Cluster]:
    """The clusters around these memories, each once and none within another."""
    now = parts.stamp()
    found: dict[frozenset[int], Cluster] = {}
    for cube in cubes:
        if not comparable(cube, now):
            continue
        members, score = [cube], 1.0
        for other, alike in find(parts, connection, cube):
            if len(members) >= MOST or not comparable(other, now):
                continue
            texts = [one.snapshot.content for one in members]
            among = min([alike, *(likeness(text, other.snapshot.content, alike) for text in texts[1:])])
            if among > 0:
                members.append(other)
                score = min(score, among)
        if len(members) > 1:
            cluster = Cluster(tuple(sorted(members, key=lambda one: (one.becomes_true, one.seq))), score)
            found[cluster.seqs] = cluster
    return [one for seqs, one in found.items() if not any(seqs < other for other in found)]


def _agrees(one: Cube, other: Cube) -> bool:
    """Whether two memories could be one, whatever they say: the same life, speaker and secrecy."""
    a, b = one.snapshot, other.snapshot
    return (a.expires, a.name, a.sensitivity) == (b.expires, b.name, b.sensitivity)
