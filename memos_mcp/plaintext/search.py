"""Ranks memories for a question: words and meaning, fused by score.

Knows nothing of verbs, access or display. It is the seam of search: what it returns carries every figure that led to
the score, and nothing outside reads the indexes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from memos_mcp.ledger import vectors
from memos_mcp.ledger.schema import cubes
from memos_mcp.plaintext import dense, lexical
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Vector

DENSE_HITS = 48
WORD_HITS = 80
MOSTLY = 0.9
"""Share of all memories from which on words are looked up without naming spaces: the end drops the few of others."""
SCORED_WHOLE = 300
"""Eligible memories up to which every one is scored by its words, whatever the question's words are."""


@dataclass(frozen=True)
class Found:
    """A memory and why it was found.

    `score` 0..1, higher is better; `bm25` >= 0; `cosine` -1..1, None without vectors; `words` that it shares.
    """

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

    def find(
        self, connection: Connection, text: str, query: Vector | None, scope: Scope, count: int, trust: float = 1.0
    ) -> list[Found]:
        """The best `count` memories in scope, best first; without a query vector by words alone.

        `trust`, 0..1, is how far the embedder understands the question's language.
        """
        eligible = scope.eligible(connection, dense.EXACT_UPTO) if scope.narrows else None
        ranked = self._ranked(connection, text, query, scope, count, trust, eligible, strict=False)
        found = _standing(connection, ranked, scope, count)
        if len(found) < count and len(ranked) > len(found) and eligible is None:
            # what ranks first is over or hidden: look again among what stands
            ranked = self._ranked(connection, text, query, scope, count, trust, eligible, strict=True)
            found = _standing(connection, ranked, scope, count)
        return found

    def _ranked(
        self,
        connection: Connection,
        text: str,
        query: Vector | None,
        scope: Scope,
        count: int,
        trust: float,
        eligible: list[int] | None,
        *,
        strict: bool,
    ) -> list[Found]:
        """Candidates by words and by meaning, scored and in order; only with `strict` is each known to be in scope."""
        here, everywhere = self._sizes.of(connection, scope.space_ids)
        spaces = () if here >= MOSTLY * everywhere else scope.word_spaces(connection)
        question = lexical.ask(connection, text, spaces, max(here + len(scope.shared), 1))
        by_words = _by_words(connection, question, scope, max(WORD_HITS, count), eligible, strict)
        near: dict[int, float] = {}
        if query is not None:
            near = self._dense.nearest(connection, query, scope, max(DENSE_HITS, count), eligible, strict=strict)
        union = list(dict.fromkeys([*by_words, *near]))
        scores, shared = lexical.score(connection, question, union)
        cosines = self._cosines(connection, query, near, union)
        fused = _fuse(scores, cosines, lexical.coverage(question, _best(scores, shared)), trust)
        found = [
            Found(seq, fused.get(seq, 0.0), scores.get(seq, 0.0), cosines.get(seq), tuple(shared.get(seq, ())[:8]))
            for seq in union
        ]
        found.sort(key=lambda hit: (-hit.score, -hit.seq))
        return found

    def ground(self, connection: Connection, scope: Scope) -> dense.Ground:
        """Where `similar` has to look, so that it can begin in the index."""
        return self._dense.ground(connection, scope)

    def similar(
        self,
        connection: Connection,
        query: Vector,
        scope: Scope,
        floor: float,
        count: int,
        ground: dense.Ground,
    ) -> list[tuple[int, float]]:
        """Memories in scope whose meaning is at least `floor` (cosine) near, nearest first.

        `ground` is where to look, read a moment before.
        """
        near = self._dense.nearest(connection, query, scope, count, None, strict=False, ground=ground)
        close = [seq for seq, cosine in near.items() if cosine >= floor]
        kept = scope.keep(connection, close) if close else set()
        return [(seq, near[seq]) for seq in close if seq in kept]

    def _cosines(
        self, connection: Connection, query: Vector | None, near: dict[int, float], union: list[int]
    ) -> dict[int, float]:
        if query is None:
            return {}
        number, dimensions = self._dense.embedder()
        rest = [seq for seq in union if seq not in near]
        return near | dense.top(vectors.of_cubes(connection, number, rest, dimensions), query, len(rest))


def _by_words(
    connection: Connection,
    question: lexical.Question,
    scope: Scope,
    count: int,
    eligible: list[int] | None,
    strict: bool,
) -> list[int]:
    if eligible is not None:
        if len(eligible) <= SCORED_WHOLE:
            return eligible
        return question.candidates(count, np.array(eligible, dtype=np.int64))
    if not (strict or scope.narrows):
        return question.candidates(count)
    kept: list[int] = []
    for width in (2 * count, 10 * count):
        wide = question.candidates(width)
        matching = scope.keep(connection, wide)
        kept = [seq for seq in wide if seq in matching]
        if len(kept) >= count // 3 or len(wide) < width:
            break
    return kept[:count]


def _standing(connection: Connection, ranked: list[Found], scope: Scope, count: int) -> list[Found]:
    """The first `count` of the ranking that are in scope."""
    found: list[Found] = []
    step = max(2 * count, 20)
    for start in range(0, len(ranked), step):
        block = ranked[start : start + step]
        kept = scope.keep(connection, [hit.seq for hit in block])
        found += [hit for hit in block if hit.seq in kept]
        if len(found) >= count:
            break
    return found[:count]


def _best(scores: dict[int, float], shared: dict[int, list[str]]) -> Sequence[Sequence[str]]:
    return [shared[seq] for seq in sorted(scores, key=lambda seq: -scores[seq])[:3]]


def _fuse(scores: dict[int, float], cosines: dict[int, float], known: float, trust: float) -> dict[int, float]:
    """Words and meaning, each as a share of the best candidate's, weighed by how much the words can know."""
    word_weight = min(1.5, 2.5 * known)
    dense_weight = (2.0 - known) * trust if cosines else 0.0
    total = (word_weight + dense_weight) or 1.0
    highest = max(scores.values(), default=0.0) or 1.0
    nearest = max(cosines.values(), default=1.0)
    nearest = nearest if nearest > 0 else 1.0
    return {
        seq: (
            word_weight * scores.get(seq, 0.0) / highest
            + dense_weight * max(cosines.get(seq, 0.0), 0.0) / nearest
        )
        / total
        for seq in scores.keys() | cosines.keys()
    }


class _Sizes:
    """How many memories each space holds, counted once and then kept up by counting the newer ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._upto = 0
        self._held: Counter[int] = Counter()

    def of(self, connection: Connection, space_ids: Sequence[int]) -> tuple[int, int]:
        """Memories in these spaces, and in all."""
        space = cubes.c.space + 0  # no indexed column: the few newer rows are read, not an index over all
        newer = cubes.c.seq > bindparam("upto")
        query = select(space, func.count(), func.max(cubes.c.seq)).where(newer).group_by(space)
        with self._lock:
            for number, more, last in connection.execute(query, {"upto": self._upto}).all():
                self._held[number] += more
                self._upto = max(self._upto, last)
            return sum(self._held[number] for number in space_ids), self._held.total()
