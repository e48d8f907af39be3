"""What speaks for each memory of a pool as the answer to a question, as numbers.

Knows nothing of how they are weighed. Every number is 0..1 or near it, larger for more, and depends on the question,
the memory and the pool alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from memos_mcp.plaintext.facts import Floats, Ints, weighted
from memos_mcp.plaintext.pool import Pool
from memos_mcp.plaintext.question import Day, Question

NEAR_DAYS = 7
MINUTE = 1e-9
MOST_YEARS = 50
"""Years before the newest memory in which a day without a year is looked for."""

NAMES = (
    "words", "meaning", "both", "meaning_around", "covered", "covered_around", "session_words", "session_best",
    "beside", "further", "speaks", "other_speaks", "timed", "on_day", "near_day", "asks", "answers", "length", "age",
    "rarest", "words_known", "meaning_unknown",
)  # fmt: skip
"""The columns of the evidence, in their order."""


@dataclass(frozen=True)
class Evidence:
    """`columns` (n, len(NAMES)); `bm25` (n,); `known`, 0..1: how much of the question the best words know."""

    columns: Floats
    bm25: Floats
    known: float
    size: float
    named: bool

    def of(self, name: str) -> Floats:
        """One column, shape (n,)."""
        column: Floats = self.columns[:, NAMES.index(name)]
        return column


def weigh(pool: Pool, question: Question, cosines: Floats | None, trust: float) -> Evidence:
    """Look at every memory of the pool. `cosines` (n,), or None without meaning; `trust`, 0..1, is its weight."""
    count = len(pool.facts)
    bm25 = pool.bm25()
    held = (pool.counts > 0).astype(np.float32)
    mass = max(float(pool.idf.sum()), MINUTE)
    covered = weighted(held, pool.idf) / mass
    known = float(covered[np.argsort(-bm25, kind="stable")[:3]].max()) if count else 0.0
    words = _share(bm25)
    meaning = _share(np.maximum(cosines, 0.0)) if cosines is not None else np.zeros(count, dtype=np.float32)
    word_weight, meaning_weight = min(1.5, 2.5 * known), (2.0 - known) * trust if cosines is not None else 0.0
    both = (word_weight * words + meaning_weight * meaning) / max(word_weight + meaning_weight, MINUTE)
    before, after = _At(pool.before), _At(pool.after)
    around = np.maximum(held, 0.7 * np.maximum(before.of(held), after.of(held)))
    beside = before.of(both) + after.of(both)
    further = before.of(before.of(both)) + after.of(after.of(both))
    rarest = (held * pool.idf).max(axis=1, initial=0.0) / max(float(pool.idf.max(initial=0.0)), MINUTE)
    session_words, session_best = _sessions(pool, both)
    speaks, other = _speakers(pool, question)
    on_day, near_day = _days(pool, question.days)
    neighbours = 1.0 + (pool.before >= 0) + (pool.after >= 0)
    columns = np.stack(
        [
            words,
            trust * meaning,
            both,
            trust * _share((meaning + before.of(meaning) + after.of(meaning)) / neighbours),
            covered,
            weighted(around, pool.idf) / mass,
            session_words,
            session_best,
            beside,
            further,
            speaks,
            other,
            pool.facts.timed * float(question.when),
            on_day,
            near_day,
            pool.facts.asks,
            before.of(pool.facts.asks * both),
            np.log1p(pool.facts.length) / 5.0,
            _age(pool),
            rarest,
            words * known,
            trust * meaning * (1.0 - known),
        ],
        axis=1,
    ).astype(np.float32)
    return Evidence(columns, bm25, known, question.size, bool(speaks.any()))


class _At:
    """Reads the values of neighbours; 0 where there is none."""

    def __init__(self, places: Ints) -> None:
        self._places = places

    def of(self, values: Floats) -> Floats:
        taken: Floats = values[self._places]
        taken[self._places < 0] = 0.0
        return taken


def _share(values: Floats) -> Floats:
    """Values as shares of the largest."""
    shares: Floats = values / max(float(values.max(initial=0.0)), MINUTE)
    return shares


def _sessions(pool: Pool, both: Floats) -> tuple[Floats, Floats]:
    """Of each memory's session: its words as one text, and its best memory; of one without a session, itself."""
    session = pool.facts.session
    own = np.where(session >= 0, session, -2 - np.arange(len(session)))
    _, place = np.unique(own, return_inverse=True)
    many = int(place.max(initial=-1)) + 1
    best = np.zeros(many, dtype=np.float32)
    np.maximum.at(best, place, both)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(many))
    if not many:
        return both, both
    counts = np.add.reduceat(pool.counts[order], starts, axis=0)
    length = np.add.reduceat(pool.facts.length[order], starts)
    holding = (counts > 0).sum(axis=0)
    rarity = np.log1p((many - holding + 0.5) / (holding + 0.5)) * (pool.idf > 0)
    norm = 1.2 * (0.25 + 0.75 * length / max(float(length.mean()), 1.0))
    scores = weighted(counts * 2.2 / (counts + norm[:, None]), rarity.astype(np.float32))
    return _share(scores.astype(np.float32))[place], best[place]


def _speakers(pool: Pool, question: Question) -> tuple[Floats, Floats]:
    """Whether a person speaks whom the question names, and whether another one does."""
    nobody = np.zeros(len(pool.facts), dtype=np.float32)
    asked = set(question.words)
    present = set(pool.facts.speaker.tolist())
    named = [code for code, name in enumerate(pool.speakers) if code in present and asked.issuperset(name.split("_"))]
    if not named or len(present) < 2:
        return nobody, nobody
    speaks = np.isin(pool.facts.speaker, named).astype(np.float32)
    return speaks, 1.0 - speaks


def _days(pool: Pool, days: tuple[Day, ...]) -> tuple[Floats, Floats]:
    """Whether a memory is of a day that the question names or mentions it, and whether it is within a week of it."""
    on = np.zeros(len(pool.facts), dtype=np.float32)
    near = np.zeros(len(pool.facts), dtype=np.float32)
    if not days or not len(pool.facts):
        return on, near
    latest = date.fromordinal(int(pool.facts.day.max())).year
    years = range(max(date.fromordinal(int(pool.facts.day.min())).year, latest - MOST_YEARS), latest + 1)
    for day in days:
        spans = _in_years(day, years)
        apart = _apart(pool.facts.day, pool.facts.day, spans)
        on = np.maximum(on, apart == 0)
        near = np.maximum(near, apart <= NEAR_DAYS)
        for place, mentioned in pool.facts.days.items():
            told = np.array(mentioned, dtype=np.int64)
            if not _apart(told[:, 0], told[:, 1], spans).all():
                on[place] = 1.0
    return on, near


def _in_years(day: Day, years: range) -> list[tuple[int, int]]:
    """The range of days, or the same days of each of the years when its own is not known."""
    if day.year_known:
        return [(day.first, day.last)]
    first, length = date.fromordinal(day.first), day.last - day.first
    found = []
    for year in years:
        begin = first.replace(year=year, day=28 if (first.month, first.day) == (2, 29) else first.day).toordinal()
        found.append((begin, begin + length))
    return found


def _apart(first: Ints, last: Ints, spans: Sequence[tuple[int, int]]) -> Ints:
    """Days between ranges of days, shape (n,), and the nearest of the spans; 0 where they overlap."""
    apart = np.full(len(first), np.iinfo(np.int64).max)
    for begin, end in spans:
        apart = np.minimum(apart, np.maximum(np.maximum(begin - last, first - end), 0))
    return apart


def _age(pool: Pool) -> Floats:
    """How many memories are newer, on a logarithmic scale from 0 to 1."""
    count = len(pool.facts)
    newer = np.empty(count, dtype=np.float64)
    newer[np.argsort(-pool.facts.seq, kind="stable")] = np.arange(count)
    age: Floats = (np.log1p(newer) / max(np.log1p(count), MINUTE)).astype(np.float32)
    return age
