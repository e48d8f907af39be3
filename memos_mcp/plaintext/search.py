"""Ranks memories for a question: words and meaning, fused by score.

Knows nothing of verbs, access or display. It is the seam of search: what it returns carries every figure that led to
the score, and nothing outside reads the indexes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from memos_mcp.ledger import vectors
from memos_mcp.ledger.schema import cubes
from memos_mcp.plaintext import dense, lexical
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Vector

DENSE_HITS = 60
WORD_CANDIDATES = 200
WORD_CANDIDATES_NARROWED = 2_000


@dataclass(frozen=True)
class Found:
    """A memory and why it was found: `score` 0..1, higher is better; `bm25` >= 0; `cosine` -1..1 or None; words shared."""

    seq: int
    score: float
    bm25: float
    cosine: float | None
    words: tuple[str, ...]


class Search:
    """Fused search over the plaintext of memories. Safe to share between threads."""

    def __init__(self, searcher: dense.Searcher) -> None:
        self._dense = searcher
        self._sizes = _Sizes()

    def find(self, connection: Connection, text: str, query: Vector | None, scope: Scope, count: int) -> list[Found]:
        """The best `count` memories in scope, best first; without a query vector by words alone."""
        total = self._sizes.of(connection, scope.space_ids) + len(scope.shared)
        question = lexical.ask(connection, text, scope.space_ids, max(total, 1))
        width = WORD_CANDIDATES_NARROWED if scope.narrows else WORD_CANDIDATES
        kept = scope.keep(connection, question.candidates(max(width, count)))
        by_words = [seq for seq in question.candidates(max(width, count)) if seq in kept][: max(WORD_CANDIDATES, count)]
        near = {} if query is None else self._dense.nearest(connection, query, scope, max(DENSE_HITS, count))
        union = list(dict.fromkeys([*by_words, *near]))
        scores, shared = lexical.score(connection, question, union)
        cosines = self._cosines(connection, query, near, union)
        fused = _fuse(scores, cosines, lexical.coverage(question, _best(scores, shared)))
        found = [
            Found(seq, fused[seq], scores.get(seq, 0.0), cosines.get(seq), tuple(shared.get(seq, ())[:8]))
            for seq in union
        ]
        found.sort(key=lambda hit: (-hit.score, -hit.seq))
        return found[:count]

    def similar(
        self, connection: Connection, query: Vector, scope: Scope, floor: float, count: int
    ) -> list[tuple[int, float]]:
        """Memories in scope whose meaning is at least `floor` (cosine) near, nearest first."""
        near = self._dense.nearest(connection, query, scope, count)
        return [(seq, cosine) for seq, cosine in near.items() if cosine >= floor]

    def _cosines(
        self, connection: Connection, query: Vector | None, near: dict[int, float], union: list[int]
    ) -> dict[int, float]:
        if query is None:
            return {}
        number, dimensions = self._dense.embedder()
        rest = [seq for seq in union if seq not in near]
        return near | dense.top(vectors.of_cubes(connection, number, rest, dimensions), query, len(rest))


def _best(scores: dict[int, float], shared: dict[int, list[str]]) -> Sequence[Sequence[str]]:
    return [shared[seq] for seq in sorted(scores, key=lambda seq: -scores[seq])[:3]]


def _fuse(scores: dict[int, float], cosines: dict[int, float], known: float) -> dict[int, float]:
    """Words and meaning, each scaled to 0..1 over the candidates and weighed by how much the words can know."""
    word_weight = min(1.5, 2.5 * known)
    dense_weight = (2.0 - known) if cosines else 0.0
    total = (word_weight + dense_weight) or 1.0
    highest = max(scores.values(), default=0.0) or 1.0
    low = min(cosines.values(), default=0.0)
    span = (max(cosines.values(), default=1.0) - low) or 1.0
    return {
        seq: (
            word_weight * scores.get(seq, 0.0) / highest
            + (dense_weight * (cosines[seq] - low) / span if seq in cosines else 0.0)
        )
        / total
        for seq in scores.keys() | cosines.keys()
    }


class _Sizes:
    """How many memories each space holds, counted once and then kept up by counting the newer ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[int, int]] = {}

    def of(self, connection: Connection, space_ids: Sequence[int]) -> int:
        with self._lock:
            seen = {space: self._seen.get(space, (0, 0)) for space in space_ids}
        newest = min((last for last, _ in seen.values()), default=0)
        query = select(cubes.c.space, func.max(cubes.c.seq)).where(cubes.c.space.in_(space_ids), cubes.c.seq > newest)
        fresh = connection.execute(query.group_by(cubes.c.space)).all()
        for space, last in fresh:
            before, held = seen[space]
            if last > before:
                more = select(func.count()).where(cubes.c.space == space, cubes.c.seq > before)
                seen[space] = (last, held + int(connection.execute(more).scalar_one()))
        with self._lock:
            self._seen |= seen
        return sum(held for _, held in seen.values())
