"""Gathers the memories that may answer a question, with what is known of each: from views, or from the ledger.

Knows nothing of how they are scored in the end. Memories beside the possible answers, in their sessions, are there too,
for what is said around a memory tells of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext.question import Question
from memos_mcp.plaintext.view import Facts, Flags, Floats, Ints, View

K1, B = 0.6, 0.2
"""Parameters of BM25 for short texts."""
WHOLE = 1_500
"""Memories up to which every one is in the pool."""
BY_WORDS = 100
"""Memories taken for their words from more than that."""
AROUND = 32
"""Memories of the best whose neighbours are taken too."""
BY_DAY = 60


@dataclass(frozen=True)
class Pool:
    """n memories and a question of m words.

    `counts` (n, m): how often each word is held; `idf` (m,), weighted by what the question's words are worth;
    `before`, `after`: places of the neighbours in the session, -1 without; `speakers`: names by code;
    `mean_length`: of all memories looked at.
    """

    facts: Facts
    counts: Floats
    idf: Floats
    before: Ints
    after: Ints
    speakers: tuple[str, ...]
    mean_length: float

    def bm25(self) -> Floats:
        """BM25 of each memory (Robertson and Zaragoza 2009), >= 0."""
        return bm25(self.counts, self.idf, self.facts.length, self.mean_length)


def bm25(counts: Floats, idf: Floats, length: Floats, mean_length: float) -> Floats:
    """BM25 by words held, shape (n,): `counts` (n, m), `idf` (m,), `length` (n,)."""
    norm = K1 * (1 - B + B * length / max(mean_length, 1.0))
    scores: Floats = (counts * (K1 + 1) / (counts + norm[:, None])) @ idf
    return scores


def idf_of(question: Question, held: Ints | Floats, total: int) -> Floats:
    """What each word of the question tells: its rarity among `total` memories, by its weight."""
    seen = np.minimum(np.asarray(held, dtype=np.float32), total)
    rarity: Floats = np.log1p((total - seen + 0.5) / (seen + 0.5)).astype(np.float32)
    return rarity * question.weights


@dataclass(frozen=True)
class LookedUp:
    """A question's words looked up in views: who holds each, `idf` (m,), and the best by words and by day.

    `best` are places, best first; None when all memories are in the pool.
    """

    corpus: _Corpus
    held: Sequence[tuple[Ints, Floats]]
    idf: Floats
    mean_length: float
    best: Ints | None

    @property
    def whole(self) -> bool:
        """Whether every memory is in the pool."""
        return self.best is None

    def pool(self, near: Sequence[int]) -> Pool:
        """The memories that may answer, `near` ones in meaning among them."""
        facts, total = self.corpus.facts, len(self.corpus.facts)
        if self.best is None:
            chosen = np.flatnonzero(self.corpus.standing)
        else:
            # those near in meaning among the first, for their neighbours to be looked at too
            named = np.isin(facts.seq, np.array(near, dtype=np.int64))
            by_meaning = np.flatnonzero(named & self.corpus.standing)
            half = AROUND // 2
            chosen = self.corpus.around(
                _once(np.concatenate([self.best[:half], by_meaning[:half], self.best, by_meaning]))
            )
        where = np.full(total + 1, -1)
        where[chosen] = np.arange(len(chosen))
        counts = np.zeros((len(chosen), len(self.held)), dtype=np.float32)
        for i, (places, found) in enumerate(self.held):
            rows = where[places]
            kept = rows >= 0
            counts[rows[kept], i] = found[kept]
        return Pool(
            _taken(facts, chosen), counts, self.idf, where[self.corpus.before[chosen]],
            where[self.corpus.after[chosen]], self.corpus.speakers, self.mean_length,
        )  # fmt: skip


def look_up(views: Sequence[View], question: Question, eligible: Sequence[int] | None) -> LookedUp:
    """The question's words in the memories of views; `eligible`, when given, are the only ones that are wanted."""
    corpus = _Corpus.of(views)
    facts = corpus.facts
    held = [corpus.holding(word) for word in question.words]
    counted = np.array([len(places) for places, _ in held], dtype=np.float32)
    idf = idf_of(question, counted, max(int(corpus.standing.sum()), 1))
    mean_length = float(facts.length.mean()) if len(facts) else 1.0
    best = _best(corpus, held, idf, mean_length, question, eligible) if len(facts) > WHOLE else None
    return LookedUp(corpus, held, idf, mean_length, best)


def _best(
    corpus: _Corpus,
    held: Sequence[tuple[Ints, Floats]],
    idf: Floats,
    mean_length: float,
    question: Question,
    eligible: Sequence[int] | None,
) -> Ints:
    """Places of those that may answer by their words or their day, best by words first."""
    facts = corpus.facts
    scores = np.zeros(len(facts), dtype=np.float32)
    norm = K1 * (1 - B + B * facts.length / max(mean_length, 1.0))
    for (places, found), worth in zip(held, idf, strict=True):
        scores[places] += worth * found * (K1 + 1) / (found + norm[places])
    wanted = corpus.standing
    if eligible is not None:
        wanted = wanted & np.isin(facts.seq, np.array(eligible, dtype=np.int64))
    scores[~wanted] = -1.0
    best = np.argpartition(-scores, min(BY_WORDS, len(scores) - 1))[:BY_WORDS]
    best = best[np.argsort(-scores[best], kind="stable")]
    for day in question.days:
        places = np.flatnonzero((facts.day >= day.first) & (facts.day <= day.last) & wanted)
        best = np.concatenate([best, places[np.argsort(-scores[places], kind="stable")][:BY_DAY]])
    return _once(best[wanted[best]])


def _once(places: Ints) -> Ints:
    """Places in their order, each once."""
    _, first = np.unique(places, return_index=True)
    once: Ints = places[np.sort(first)]
    return once


@dataclass(frozen=True)
class _Corpus:
    """Views one after the other, places counted through."""

    views: Sequence[View]
    offsets: Sequence[int]
    facts: Facts
    before: Ints
    after: Ints
    speakers: tuple[str, ...]
    standing: Flags

    @staticmethod
    def of(views: Sequence[View]) -> _Corpus:
        offsets = np.cumsum([0, *(len(view.facts) for view in views)])
        standing = _all([view.standing for view in views])
        if len(views) == 1:
            view = views[0]
            return _Corpus(views, [0], view.facts, view.before, view.after, tuple(view.speakers.names), standing)
        names: dict[str, int] = {}
        sessions, speakers, before, after, days = [], [], [], [], {}
        for number, (view, offset) in enumerate(zip(views, offsets[:-1].tolist(), strict=True)):
            codes = np.array([names.setdefault(name, len(names)) for name in view.speakers.names] + [-1])
            speakers.append(codes[view.facts.speaker])
            session = view.facts.session
            sessions.append(np.where(session >= 0, session * len(views) + number, -1))
            before.append(np.where(view.before >= 0, view.before + offset, -1))
            after.append(np.where(view.after >= 0, view.after + offset, -1))
            days.update({i + offset: spans for i, spans in view.facts.days.items()})
        facts = Facts(
            _all([view.facts.seq for view in views]), _all(sessions), _all(speakers),
            _all([view.facts.day for view in views]), _all([view.facts.asks for view in views]),
            _all([view.facts.timed for view in views]), _all([view.facts.length for view in views]), days,
        )  # fmt: skip
        return _Corpus(views, offsets[:-1].tolist(), facts, _all(before), _all(after), tuple(names), standing)

    def holding(self, word: str) -> tuple[Ints, Floats]:
        if len(self.views) == 1:
            return self.views[0].holding(word)
        places, counts = [], []
        for view, offset in zip(self.views, self.offsets, strict=True):
            found, times = view.holding(word)
            if len(found):
                places.append(found + offset)
                counts.append(times)
        return _all(places), _all(counts).astype(np.float32)

    def around(self, best: Ints) -> Ints:
        """These places, and those beside the first of them."""
        first = best[:AROUND]
        beside = [self.before[first], self.after[first]]
        further = [np.where(b >= 0, way[b], -1) for b, way in zip(beside, (self.before, self.after), strict=True)]
        places = np.unique(np.concatenate([best, *beside, *further]))
        return places[places >= 0]


def _all(parts: Sequence[NDArray[np.generic]]) -> NDArray:  # type: ignore[type-arg]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _taken(facts: Facts, places: Ints) -> Facts:
    days = facts.days
    if len(places) == len(facts.seq):
        return facts
    mentioned: Mapping[int, tuple[tuple[int, int], ...]] = (
        {i: days[place] for i, place in enumerate(places.tolist()) if place in days} if days else {}
    )
    return Facts(
        facts.seq[places], facts.session[places], facts.speaker[places], facts.day[places], facts.asks[places],
        facts.timed[places], facts.length[places], mentioned,
    )  # fmt: skip
