"""What a space holds that is like new texts, of which parts may be found in two threads.

Knows nothing of what becomes of the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from memos_mcp import governance
from memos_mcp.beside import Once
from memos_mcp.cube import Cube
from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.ledger import vectors
from memos_mcp.ledger.schema import COLD, MAIN
from memos_mcp.memory_api.parts import Parts
from memos_mcp.plaintext.dense import Ground
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.signatures import Signed
from memos_mcp.ports import Vector
from memos_mcp.results import Similar

SIMILAR_FROM = 0.80
SIMILAR_MOST = 5
SIMILAR_CHARS = 400

Vectors = list[Vector] | None
"""Of the texts in their order; None while the embedder is not there."""
Near = list[tuple[Cube, float]] | None
"""Memories with their cosines, nearest first; None when that could not be told."""
Place = tuple[Scope, Ground | Signed] | None
"""Where to look; None when the caller may not, when it cannot be read, or while the embedder is not there."""


def place_of(parts: Parts, caller: Caller, name: str) -> Place:
    """Where the space of this name keeps what `near` compares with, as it is now."""
    if not parts.embedder_number():
        return None
    try:
        with parts.ledger.read() as connection:
            space = governance.find_space(connection, name)
            if space is not None and not governance.may(connection, caller.principal, "read", space):
                return None
            scope = Scope((space.id,) if space is not None else (), parts.stamp())
            return scope, parts.search.like(connection, scope)
    except MemosError:
        return None


def near(parts: Parts, place: Once[Place], made: Once[Vectors]) -> Near:
    """The memories at `place` that are like the texts whose vectors are `made`."""
    vectors, found = made(), place()
    if vectors is None or found is None:
        return None
    scope, where = found
    nearest: dict[int, float] = {}
    try:
        with parts.ledger.read() as connection:
            for vector in vectors:
                most = SIMILAR_MOST + 2 * len(vectors)
                for seq, cosine in parts.search.similar(connection, vector, scope, SIMILAR_FROM, most, where):
                    nearest[seq] = max(cosine, nearest.get(seq, -1.0))
            cubes = parts.vault.by_seqs(connection, list(nearest)) if nearest else {}
    except MemosError:
        return None  # the memory is kept all the same; null says that it was compared with nothing
    standing = [cube for cube in cubes.values() if cube.is_alive(scope.now)]
    return sorted(((cube, nearest[cube.seq]) for cube in standing), key=lambda pair: -pair[1])


def measured(parts: Parts, cubes: Sequence[Cube], made: Vectors) -> list[tuple[Cube, float | None]]:
    """Memories with the cosine to that of the `made` vectors which is nearest; None of what has no vector yet."""
    if not cubes or not made:
        return [(cube, None) for cube in cubes]
    asked, near = np.stack(made), dict[int, float]()
    with parts.ledger.read() as connection:
        for tier in (MAIN, COLD):
            seqs, number = [cube.seq for cube in cubes], parts.embedder_number()
            held = vectors.of_cubes(connection, number, seqs, asked.shape[1], tier)
            near |= zip(held.cubes.tolist(), (held.matrix @ asked.T).max(axis=1).tolist(), strict=True)
    return [(cube, near.get(cube.seq)) for cube in cubes]


def told(
    near: Sequence[tuple[Cube, float | None]], known: set[str], conflicts: Mapping[str, str]
) -> list[Similar]:
    """The comparison as a result says it, without the memories that are `known` to the caller already.

    What contradicts the additions comes first; `conflicts` are reasons by id.
    """
    like: list[Similar] = []
    for cube, cosine in sorted(near, key=lambda pair: pair[0].id not in conflicts):
        if cube.id in known:
            continue
        said: Similar = {"id": cube.id, "text": cube.snapshot.content[:SIMILAR_CHARS]}
        if cosine is not None:
            said["similarity"] = round(min(cosine, 1.0), 4)
        if cube.id in conflicts:
            said["conflict"] = conflicts[cube.id]
        like.append(said)
    return like[:SIMILAR_MOST]
