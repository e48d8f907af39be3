"""Finds memories that say nearly the same as one that is known, and clusters of them.

Knows nothing of what becomes of them, and no rule: `policies.duplicates` says which two say the same. Only kinds of
which the same text is the same memory are compared: the same words on another day are another event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Cube
from memos_mcp.documents.position import position_of
from memos_mcp.ledger import vectors
from memos_mcp.lifecycle.life import spared
from memos_mcp.memory_api.parts import Parts, life_of
from memos_mcp.plaintext.scope import Scope
from memos_mcp.policies.duplicates import FAR, Duplicate, compared, duplicate
from memos_mcp.states import State

MOST = 12
"""Memories of one cluster."""
MOST_UNEQUAL = 0.99
"""The likeness of two memories of which one says more, at most."""

Like = tuple[Cube, float]
"""A memory, and how much alike it is, 0..1."""


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


def likeness(found: Duplicate, cosine: float | None = None) -> float:
    """0..1: 1 where two memories say the same; where one contains the other how near they are in meaning, as far as
    that is known; else 0."""
    if found.verdict == "same":
        return 1.0
    return min(MOST_UNEQUAL if cosine is None else max(cosine, 0.0), MOST_UNEQUAL) if found else 0.0


def near(parts: Parts, connection: Connection, cube: Cube) -> list[Like]:
    """The memories of its own space and kind that say nearly the same as this one, most alike first: looked for by the
    vectors that the ledger keeps; none while the memory has no vector."""
    number = parts.embedder_number()
    vector = vectors.of_now(connection, number, cube.seq) if number else None
    if vector is None:
        return []
    scope = Scope((cube.space,), parts.stamp(), kinds=(cube.snapshot.kind,))
    where = parts.search.like(connection, scope)
    found = parts.search.similar(connection, vector, scope, FAR, MOST + 1, where)
    verdict = compared(cube.snapshot)
    cubes = parts.vault.by_seqs(connection, [seq for seq, _ in found if seq != cube.seq])
    alike = [
        (cubes[seq], likeness(verdict(cubes[seq].snapshot, cosine), cosine))
        for seq, cosine in found
        if seq in cubes and _agrees(cube, cubes[seq])
    ]
    return sorted(((one, score) for one, score in alike if score > 0), key=lambda pair: (-pair[1], pair[0].seq))


def clusters(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> list[Cluster]:
    """The clusters of mergeable memories around these, each once and none within another."""
    now = parts.stamp()
    found: dict[frozenset[int], Cluster] = {}
    for cube in mergeable(parts, connection, cubes, now):
        members, score = [cube], 1.0
        like = near(parts, connection, cube)
        open_ = {one.seq for one in mergeable(parts, connection, [one for one, _ in like], now)}
        for other, alike in like:
            if len(members) >= MOST or other.seq not in open_:
                continue
            among = min([alike, *(likeness(duplicate(one.snapshot, other.snapshot)) for one in members[1:])])
            if among > 0:
                members.append(other)
                score = min(score, among)
        if len(members) > 1:
            cluster = Cluster(tuple(sorted(members, key=lambda one: (one.becomes_true, one.seq))), score)
            found[cluster.seqs] = cluster
    return [one for seqs, one in found.items() if not any(seqs < other for other in found)]


def mergeable(parts: Parts, connection: Connection, cubes: Sequence[Cube], now: str) -> list[Cube]:
    """Those of the memories whose merger may be proposed: comparable ones that no legal hold protects and no policy
    keeps."""
    plain = [cube for cube in cubes if comparable(cube, now)]
    closed = {cube.seq for cube in spared(life_of(parts), connection, plain)} if plain else set()
    return [cube for cube in plain if cube.seq not in closed]


def _agrees(one: Cube, other: Cube) -> bool:
    """Whether two memories could be one, whatever they say: the same life, speaker and secrecy."""
    a, b = one.snapshot, other.snapshot
    return (a.expires, a.name, a.sensitivity) == (b.expires, b.name, b.sensitivity)
