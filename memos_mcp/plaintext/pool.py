"""Gathers the memories that may answer a question, with what is known of each: from views, or from the ledger.

Knows nothing of how they are scored in the end. Memories beside the possible answers, in their sessions, are there too,
for what is said around a memory tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext.facts import Facts, Flags, Floats, Ints, joined, taken, weighted
from memos_mcp.plaintext.question import Question
from memos_mcp.plaintext.scope import Eligible
from memos_mcp.plaintext.view import View, viewed

K1, B = 0.6, 0.2
"""Parameters of BM25 for short texts."""
WHOLE = 1_500
"""Memories up to which every one is in the pool."""
BY_WORDS = 100
"""Memories taken for their words from more than that."""
AROUND = 32
"""Memories of the best whose neighbours are taken too."""
BY_DAY = 60
COMMON = 2_000
"""Memories that hold a word from which on it is worth to look whether it can still matter."""


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
    return weighted(counts * (K1 + 1) / (counts + norm[:, None]), idf)


def idf_of(question: Question, held: Ints | Floats, total: int) -> Floats:
    """What each word of the question tells: its rarity among `total` memories, by its weight."""
    seen = np.minimum(np.asarray(held, dtype=np.float32), total)
    rarity: Floats = np.log1p((total - seen + 0.5) / (seen + 0.5)).astype(np.float32)
    return rarity * question.weights


Held = tuple[Ints, NDArray[np.uint8]]
"""Places that hold a word, ascending, and how often each does."""


@dataclass(frozen=True)
class LookedUp:
    """A question's words looked up in views: who holds each, `idf` (m,), and the best by words and by day.

    `best` are places, best first; None when all memories are in the pool.
    """

    corpus: _Corpus
    held: Sequence[Held]
    idf: Floats
    best: Ints | None

    @property
    def whole(self) -> bool:
        """Whether every memory is in the pool."""
        return self.best is None

    def widest(self, question: Question, count: int) -> list[int]:
        """Numbers of the `count` best by words and by day, best first."""
        best = _best(self.corpus, self.held, self.idf, question, None, count)
        seqs: list[int] = self.corpus.seq[best].tolist()
        return seqs

    def pool(self, near: Sequence[int]) -> Pool:
        """The memories that may answer, `near` ones in meaning among them."""
        if self.best is None:
            chosen = np.flatnonzero(self.corpus.standing)
        else:
            # those near in meaning among the first, for their neighbours to be looked at too
            by_meaning = self.corpus.places_of(np.array(near, dtype=np.int64))
            half = AROUND // 2
            chosen = self.corpus.around(
                _once(np.concatenate([self.best[:half], by_meaning[:half], self.best, by_meaning]))
            )
        counts = np.zeros((len(chosen), len(self.held)), dtype=np.float32)
        for i, (places, found) in enumerate(self.held):
            rows, kept = _rows(chosen, places)
            counts[rows, i] = found[kept]
        where = np.full(len(self.corpus.seq) + 1, -1)
        where[chosen] = np.arange(len(chosen))
        before, after = (where[way] for way in self.corpus.beside(chosen))
        facts, speakers = self.corpus.taken(chosen)
        return Pool(facts, counts, self.idf, before, after, speakers, self.corpus.mean_length)


def _rows(chosen: Ints, places: Ints) -> tuple[Ints, Ints]:
    """Where in `chosen` and where in `places` the places of both are; both are ascending."""
    few, many = (places, chosen) if len(places) < len(chosen) else (chosen, places)
    at = np.minimum(np.searchsorted(many, few), max(len(many) - 1, 0))
    there = np.flatnonzero(many[at] == few) if len(many) else at[:0]
    return (at[there], there) if few is places else (there, at[there])


def look_up(views: Sequence[View], question: Question, eligible: Eligible | None) -> LookedUp:
    """The question's words in the memories of views; `eligible`, when given, are the only ones that are wanted."""
    corpus = _Corpus(views or [viewed((), 0)])
    held = [corpus.holding(word) for word in question.words]
    counted = np.array([len(places) for places, _ in held], dtype=np.float32)
    idf = idf_of(question, counted, max(int(np.count_nonzero(corpus.standing)), 1))
    best = _best(corpus, held, idf, question, eligible, BY_WORDS) if len(corpus.seq) > WHOLE else None
    return LookedUp(corpus, held, idf, best)


def _best(
    corpus: _Corpus,
    held: Sequence[Held],
    idf: Floats,
    question: Question,
    eligible: Eligible | None,
    count: int,
) -> Ints:
    """Places of those that may answer by their words or their day, best by words first."""
    wanted = None
    if eligible is not None:
        wanted = np.zeros(len(corpus.seq), dtype=bool)
        wanted[corpus.places_of(eligible.seqs)] = True
    scores = _scores(corpus, held, idf, wanted, count)
    best = _first(scores, np.flatnonzero(scores > 0), count)
    if wanted is None:
        wanted = corpus.standing
    for day in question.days:
        places = np.flatnonzero((corpus.day >= day.first) & (corpus.day <= day.last) & wanted)
        best = np.concatenate([best, _first(scores, places, BY_DAY)])
    return _once(best)


def _scores(corpus: _Corpus, held: Sequence[Held], idf: Floats, wanted: Flags | None, count: int) -> Floats:
    """BM25 of the wanted memories (None: of all), shape (n,), of at least the best `count`; 0 of others.

    Rare words come first. As soon as the words that are left cannot bring a memory without any of the former among the
    best (Turtle and Flood 1995), they are looked at in those memories alone that have one.
    """
    scores = np.zeros(len(corpus.seq), dtype=np.float32)
    norm = K1 * (1 - B + B * corpus.length / max(corpus.mean_length, 1.0))
    order = sorted(range(len(held)), key=lambda i: len(held[i][0]))
    left = float((K1 + 1) * idf.sum())
    decided = False
    for i in order:
        places, times = held[i]
        if not decided and len(places) > COMMON:
            reached = scores > 0
            found = scores[reached]
            if len(found) >= count and np.partition(found, len(found) - count)[len(found) - count] > left:
                wanted, decided = reached, True
        if wanted is not None:
            kept = wanted[places]
            places, times = places[kept], times[kept]
        often = times.astype(np.float32)
        scores[places] += idf[i] * often * (K1 + 1) / (often + norm[places])
        left -= float((K1 + 1) * idf[i])
    return scores


def _first(scores: Floats, places: Ints, count: int) -> Ints:
    """The `count` of these places with the highest scores, best first."""
    if len(places) > count:
        places = places[np.argpartition(-scores[places], count - 1)[:count]]
    first: Ints = places[np.argsort(-scores[places], kind="stable")]
    return first


def _once(places: Ints) -> Ints:
    """Places in their order, each once."""
    _, first = np.unique(places, return_index=True)
    once: Ints = places[np.sort(first)]
    return once


@dataclass(frozen=True)
class _Corpus:
    """Views one after the other, places counted through."""

    views: Sequence[View]

    @cached_property
    def offsets(self) -> list[int]:
        return np.cumsum([0, *(len(view.facts) for view in self.views)]).tolist()  # type: ignore[no-any-return]

    @cached_property
    def standing(self) -> Flags:
        return _all([view.standing for view in self.views])

    @cached_property
    def seq(self) -> Ints:
        return _all([view.facts.seq for view in self.views])

    @cached_property
    def day(self) -> Ints:
        return _all([view.facts.day for view in self.views])

    @cached_property
    def length(self) -> Floats:
        return _all([view.facts.length for view in self.views])

    @cached_property
    def mean_length(self) -> float:
        return float(self.length.mean()) if len(self.length) else 1.0

    def holding(self, word: str) -> Held:
        if len(self.views) == 1:
            return self.views[0].holding(word)
        pairs = zip(self.views, self.offsets, strict=False)
        found = [(*view.holding(word), first) for view, first in pairs if view.knows(word)]
        if not found:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8)
        return _all([places + first for places, _, first in found]), _all([times for _, times, _ in found])

    def places_of(self, seqs: Ints) -> Ints:
        """Places of the standing memories of these numbers, those of others left out."""
        found = [view.places_of(seqs) for view in self.views]
        return _all([at[at >= 0] + first for at, first in zip(found, self.offsets, strict=False)])

    def beside(self, places: Ints) -> tuple[Ints, Ints]:
        """The places before and after each in its session, -1 without one."""
        if len(self.views) == 1:
            return self.views[0].before[places], self.views[0].after[places]
        ways = [(np.full(len(places), -1), np.full(len(places), -1))]
        for view, first, mine in self._by_view(places):
            for way, held in zip(ways[0], (view.before, view.after), strict=True):
                beside = held[places[mine] - first]
                way[mine] = np.where(beside >= 0, beside + first, -1)
        return ways[0]

    def around(self, best: Ints) -> Ints:
        """These places, and those beside the first of them; ascending."""
        near = [best]
        for way in (0, 1):
            step = best[:AROUND]
            for _ in range(2):
                step = self.beside(step)[way]
                step = step[step >= 0]
                near.append(step)
        return np.unique(np.concatenate(near))

    def taken(self, places: Ints) -> tuple[Facts, tuple[str, ...]]:
        """What is known of these memories, ascending, with the names of speakers by code."""
        if len(self.views) == 1:
            return taken(self.views[0].facts, places), self.views[0].speakers
        names: dict[str, int] = {}
        parts = []
        for number, (view, first, mine) in enumerate(self._by_view(places)):
            facts = taken(view.facts, places[mine] - first)
            codes = np.array([names.setdefault(name, len(names)) for name in view.speakers] + [-1])
            session = facts.session.astype(np.int64)
            session = np.where(session >= 0, session * len(self.views) + number, -1)
            parts.append(replace(facts, speaker=codes[facts.speaker], session=session))
        return joined(parts), tuple(names)

    def _by_view(self, places: Ints) -> list[tuple[View, int, Flags]]:
        """Each view with its first place and which of the places are its own."""
        ends = zip(self.views, self.offsets[:-1], self.offsets[1:], strict=True)
        return [(view, first, (places >= first) & (places < end)) for view, first, end in ends]


def _all(parts: Sequence[NDArray]) -> NDArray:  # type: ignore[type-arg]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
