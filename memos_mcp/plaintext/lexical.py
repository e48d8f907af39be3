"""Finds and scores memories by the words they share with a question: BM25 over candidates of the rarest words.

Knows nothing of meaning or of access. Scores are BM25 (Robertson and Zaragoza 2009) with parameters for short texts:
higher is better, 0 when no word is shared. Of a word that very many memories hold only the newest are candidates,
so that the cost of a question does not grow with the store.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from memos_mcp.ledger import dialect
from memos_mcp.plaintext.analysis import scope_token, tokens

K1, B = 0.6, 0.2
PROBE = 600
"""Memories read of each word of a question; a word that fewer hold is rare, and its list is whole."""
QUERY_WORDS = 32
"""Words of a question that are looked up."""
MAX_SCOPES = 12
"""Spaces named in a full-text query; of more, the caller's filter picks afterwards."""


@dataclass(frozen=True)
class Question:
    """A question's words with their weights: `idf` by word, and the cubes (seqs) that hold each, newest first.

    `holders` of a common word are its newest only; `rare` are the words whose lists are whole.
    """

    words: tuple[str, ...]
    idf: dict[str, float]
    holders: dict[str, list[int]]
    rare: frozenset[str]

    def candidates(self, count: int, eligible: NDArray[np.int64] | None = None) -> list[int]:
        """The cubes that share the most weight of words, best first; of `eligible` only, when given.

        Common words take part, rarest first, only until there are `count` candidates: of those they would bring
        they know the newest alone.
        """
        found = np.empty(0, dtype=np.int64)
        weights = np.empty(0, dtype=np.float64)
        for word in sorted(self.holders, key=lambda word: (word not in self.rare, -self.idf[word])):
            if word not in self.rare and len(found) >= count:
                break
            seqs = np.array(self.holders[word], dtype=np.int64)
            if eligible is not None:
                seqs = seqs[np.isin(seqs, eligible)]
            found = np.concatenate([found, seqs])
            weights = np.concatenate([weights, np.full(len(seqs), self.idf[word])])
        if not len(found):
            return []
        seqs, places = np.unique(found, return_inverse=True)
        mass = np.bincount(places, weights=weights)
        best = np.lexsort((-seqs, -mass))[:count]
        ranked: list[int] = seqs[best].tolist()
        return ranked


def ask(connection: Connection, text: str, space_ids: Sequence[int], total: int) -> Question:
    """Look the question's words up among `total` memories of the spaces; of all when none is named."""
    words = tuple(dict.fromkeys(tokens(text)))[: QUERY_WORDS * 2]
    scopes = [scope_token(space) for space in space_ids] if len(space_ids) <= MAX_SCOPES else []
    idf: dict[str, float] = {}
    holders: dict[str, list[int]] = {}
    rare = set[str]()
    for word in words[:QUERY_WORDS]:
        seqs = dialect.full_text_rows(connection, [word], scopes, PROBE)
        if not seqs:
            continue
        seen = len(seqs)
        if seen < PROBE:
            rare.add(word)
        else:  # the newest postings reach back to seqs[-1]; the rest is taken to be as dense
            seen = max(seen, round(seen * total / max(seqs[0] - seqs[-1] + 1, 1)))
        seen = min(seen, total)
        idf[word] = math.log(1 + (total - seen + 0.5) / (seen + 0.5))
        holders[word] = seqs
    return Question(words, idf, holders, frozenset(rare))


def score(
    connection: Connection, question: Question, seqs: Collection[int]
) -> tuple[dict[int, float], dict[int, list[str]]]:
    """BM25 of the given cubes, and the question's words that each holds, heaviest first."""
    wanted = {word: weight for word, weight in question.idf.items() if weight > 0}
    bodies = {seq: body.split() for seq, body in dialect.full_text_tokens(connection, seqs).items()}
    mean = sum(map(len, bodies.values())) / max(len(bodies), 1) or 1.0
    scores, shared = {}, {}
    for seq, body in bodies.items():
        counts: dict[str, int] = {}
        for word in body:
            if word in wanted:
                counts[word] = counts.get(word, 0) + 1
        norm = K1 * (1 - B + B * len(body) / mean)
        scores[seq] = sum(wanted[word] * n * (K1 + 1) / (n + norm) for word, n in counts.items())
        shared[seq] = sorted(counts, key=lambda word: -wanted[word])
    return scores, shared


def coverage(question: Question, shared: Sequence[Sequence[str]]) -> float:
    """The share (0..1) of the question's weight that these hits hold at best: how much the words can know."""
    rare = max(question.idf.values(), default=0.0)
    mass = sum(question.idf.get(word, rare) for word in question.words)
    if not mass:
        return 0.0
    return max((sum(question.idf[word] for word in words) / mass for words in shared), default=0.0)


def holding_all(connection: Connection, text: str, space_ids: Sequence[int], limit: int) -> list[int]:
    """Cubes of the spaces that hold every word of `text`, newest first; none for a text without words."""
    words = list(dict.fromkeys(tokens(text)))
    if not words:
        return []
    return dialect.full_text_rows(connection, words, [scope_token(space) for space in space_ids], limit)
