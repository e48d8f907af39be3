"""The words of a space's live memories held in memory, so that all of them are scored for a question at once.

Knows nothing of meaning or of access. A view never changes: newer memories and changed ones give a newer view, which
shares what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext.indexed import Indexed, read_back

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

TAIL = 256
"""Memories written since the large part was made, from which on they join it."""


@dataclass(frozen=True)
class Row:
    """A memory as the ledger gives it: number, session, ISO 8601 time at which it became true, indexed text."""

    seq: int
    session: str | None
    becomes_true: str
    text: str


@dataclass(frozen=True)
class Facts:
    """What is known of each memory, shape (n,) each.

    `session` and `speaker` are codes, -1 without; `day` an ordinal; `length` in tokens; `days` the ranges of days that
    are mentioned, by place.
    """

    seq: Ints
    session: Ints
    speaker: Ints
    day: Ints
    asks: Flags
    timed: Flags
    length: Floats
    days: Mapping[int, tuple[tuple[int, int], ...]]

    def __len__(self) -> int:
        return len(self.seq)


@dataclass(frozen=True)
class Postings:
    """Which memory holds which word how often: of word `w`, the places and counts between `starts[w]` and the next."""

    words: Mapping[str, int]
    starts: Ints
    places: Ints
    counts: Floats

    def of(self, word: str) -> tuple[Ints, Floats]:
        """Places and counts of a word, places ascending."""
        code = self.words.get(word)
        if code is None:
            return self.places[:0], self.counts[:0]
        part = slice(int(self.starts[code]), int(self.starts[code + 1]))
        return self.places[part], self.counts[part]


@dataclass
class Codes:
    """Small numbers for names, given as they come."""

    names: dict[str, int] = field(default_factory=dict)

    def of(self, name: str | None) -> int:
        """The name's number, -1 without one."""
        return -1 if not name else self.names.setdefault(name, len(self.names))


@dataclass(frozen=True)
class View:
    """The live memories of a space: a large part, a small one of the newest, and which of both still stand.

    `before` and `after` are the places of the neighbours in the session, -1 without one; `upto` is the last number
    that was looked at.
    """

    upto: int
    large: Postings
    small: Postings
    in_large: int
    facts: Facts
    standing: Flags
    before: Ints
    after: Ints
    rows: tuple[Row, ...]
    sessions: Codes
    speakers: Codes
    nbytes: int

    def holding(self, word: str) -> tuple[Ints, Floats]:
        """Places and counts of the standing memories that hold a word."""
        places, counts = self.large.of(word)
        more, their = self.small.of(word)
        if len(more):
            places, counts = np.concatenate([places, more + self.in_large]), np.concatenate([counts, their])
        kept = self.standing[places]
        return (places, counts) if kept.all() else (places[kept], counts[kept])


def viewed(rows: Sequence[Row], upto: int) -> View:
    """A view of these memories, given in the order of their numbers."""
    sessions, speakers = Codes(), Codes()
    facts, words = _read(rows, sessions, speakers)
    large = _postings(words)
    nothing = _postings([])
    standing = np.ones(len(rows), dtype=bool)
    before, after = neighbours(facts, standing)
    size = large.places.nbytes + large.counts.nbytes + sum(len(word) + 100 for word in large.words) + 120 * len(rows)
    return View(upto, large, nothing, len(rows), facts, standing, before, after, (), sessions, speakers, size)


def renewed(view: View, gone: Iterable[int], rows: Sequence[Row], upto: int) -> View:
    """The view without the memories numbered `gone`, and with `rows`, which replace those of the same numbers."""
    replaced = {*gone, *(row.seq for row in rows)}
    kept = tuple(row for row in view.rows if row.seq not in replaced)
    small = (*kept, *rows)
    added, words = _read(small, view.sessions, view.speakers)
    large = _first(view.facts, view.in_large)
    facts = _joined(large, added)
    standing = np.concatenate([view.standing[: view.in_large], np.ones(len(small), dtype=bool)])
    out = np.isin(large.seq, np.fromiter(replaced, dtype=np.int64, count=len(replaced)))
    standing[: view.in_large] &= ~out
    before, after = neighbours(facts, standing)
    return replace(
        view, upto=upto, small=_postings(words), facts=facts, standing=standing, before=before, after=after, rows=small
    )


def is_due(view: View) -> bool:
    """Whether so much was added or went that the view should be made anew."""
    return len(view.rows) > TAIL or int((~view.standing).sum()) > TAIL


def _read(rows: Sequence[Row], sessions: Codes, speakers: Codes) -> tuple[Facts, list[list[str]]]:
    read = [read_back(row.text) for row in rows]
    return facts_of(rows, read, sessions, speakers), [one.words for one in read]


def facts_of(rows: Sequence[Row], read: Sequence[Indexed], sessions: Codes, speakers: Codes) -> Facts:
    """What is known of memories, given with their texts as read back."""
    return Facts(
        np.array([row.seq for row in rows], dtype=np.int64),
        np.array([sessions.of(row.session) for row in rows], dtype=np.int64),
        np.array([speakers.of(one.speaker) for one in read], dtype=np.int64),
        np.array([date.fromisoformat(row.becomes_true[:10]).toordinal() for row in rows], dtype=np.int64),
        np.array([one.asks for one in read], dtype=bool),
        np.array([one.timed for one in read], dtype=bool),
        np.array([len(one.words) for one in read], dtype=np.float32),
        {i: one.days for i, one in enumerate(read) if one.days},
    )


def _postings(texts: Sequence[Sequence[str]]) -> Postings:
    words: dict[str, int] = {}
    codes = np.array([words.setdefault(word, len(words)) for text in texts for word in text], dtype=np.int64)
    places = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    keys, counts = np.unique(codes * max(len(texts), 1) + places, return_counts=True)
    owners, where = np.divmod(keys, max(len(texts), 1))
    starts = np.searchsorted(owners, np.arange(len(words) + 1))
    return Postings(words, starts, where, counts.astype(np.float32))


def neighbours(facts: Facts, standing: Flags, reach: int | None = None) -> tuple[Ints, Ints]:
    """The places of each memory's neighbours in its session, in the order of their numbers, -1 without one.

    With `reach`, only those whose numbers are no further apart.
    """
    places = np.flatnonzero(standing & (facts.session >= 0))
    order = places[np.lexsort((facts.seq[places], facts.session[places]))]
    together = facts.session[order[1:]] == facts.session[order[:-1]]
    if reach is not None:
        together &= np.diff(facts.seq[order]) <= reach
    before, after = np.full(len(facts), -1), np.full(len(facts), -1)
    before[order[1:][together]] = order[:-1][together]
    after[order[:-1][together]] = order[1:][together]
    return before, after


def _first(facts: Facts, count: int) -> Facts:
    return Facts(
        facts.seq[:count], facts.session[:count], facts.speaker[:count], facts.day[:count], facts.asks[:count],
        facts.timed[:count], facts.length[:count], {i: days for i, days in facts.days.items() if i < count},
    )  # fmt: skip


def _joined(a: Facts, b: Facts) -> Facts:
    return Facts(
        np.concatenate([a.seq, b.seq]), np.concatenate([a.session, b.session]), np.concatenate([a.speaker, b.speaker]),
        np.concatenate([a.day, b.day]), np.concatenate([a.asks, b.asks]), np.concatenate([a.timed, b.timed]),
        np.concatenate([a.length, b.length]), {**a.days, **{i + len(a): days for i, days in b.days.items()}},
    )  # fmt: skip
