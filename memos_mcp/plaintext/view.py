"""The words of a space's live memories held in memory, so that all of them are scored for a question at once.

Knows nothing of meaning or of access. A view never changes: newer memories and changed ones give a newer view, which
shares what did not change. A memory has a place, and one that was changed gets a new one at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from memos_mcp.plaintext import postings
from memos_mcp.plaintext.facts import Codes, Facts, Flags, Ints, Row, Spans, facts_of, joined, link
from memos_mcp.plaintext.indexed import read_back
from memos_mcp.plaintext.postings import Part

WASTE = 256
"""Places of memories that are over up to which a view is never made anew."""
WORD_BYTES = 150
MEMORY_BYTES = 60


class _Growing:
    """A column that grows at its end; what was handed out stays as it is."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._held: NDArray[Any] = np.empty(0, dtype)

    def put(self, count: int, values: NDArray[Any]) -> NDArray[Any]:
        """The first `count` values and these, shape (count + n,); may be repeated after a failure."""
        end = count + len(values)
        if end > len(self._held):
            larger = np.empty(max(64, end + end // 2), self._held.dtype)
            larger[:count] = self._held[:count]
            self._held = larger
        self._held[count:end] = values
        return self._held[:end]


@dataclass
class _Shared:
    """What all views of a space share: names with their codes, columns and mentioned days by place."""

    words: Codes = field(default_factory=Codes)
    sessions: Codes = field(default_factory=Codes)
    speakers: Codes = field(default_factory=Codes)
    seq: _Growing = field(default_factory=lambda: _Growing(np.int64))
    session: _Growing = field(default_factory=lambda: _Growing(np.int32))
    speaker: _Growing = field(default_factory=lambda: _Growing(np.int32))
    day: _Growing = field(default_factory=lambda: _Growing(np.int32))
    asks: _Growing = field(default_factory=lambda: _Growing(np.bool_))
    timed: _Growing = field(default_factory=lambda: _Growing(np.bool_))
    length: _Growing = field(default_factory=lambda: _Growing(np.float32))
    reached: _Growing = field(default_factory=lambda: _Growing(np.int64))
    days: dict[int, Spans] = field(default_factory=dict)

    def put(self, count: int, more: Facts) -> Facts:
        """The first `count` memories and these."""
        self.days.update({i + count: spans for i, spans in more.days.items()})
        return Facts(
            self.seq.put(count, more.seq), self.session.put(count, more.session),
            self.speaker.put(count, more.speaker), self.day.put(count, more.day), self.asks.put(count, more.asks),
            self.timed.put(count, more.timed), self.length.put(count, more.length), self.days,
        )  # fmt: skip


@dataclass(frozen=True)
class View:
    """The live memories of a space, and places of some that are over.

    `standing` tells which are live; `before` and `after` are the places of the neighbours in the session, -1 without
    one; `upto` is the last number that was looked at; `reached` the highest number up to each place, and `moved` where
    those are whose numbers came after higher ones.
    """

    upto: int
    facts: Facts
    parts: tuple[Part, ...]
    standing: Flags
    before: Ints
    after: Ints
    reached: Ints
    moved: Mapping[int, int]
    shared: _Shared

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names by code."""
        return tuple(self.shared.speakers.names)

    @property
    def nbytes(self) -> int:
        """About as many bytes of memory as it takes."""
        held = sum(part.nbytes for part in self.parts)
        return held + WORD_BYTES * len(self.shared.words.names) + MEMORY_BYTES * len(self.facts)

    def knows(self, word: str) -> bool:
        """Whether any memory ever held the word."""
        return word in self.shared.words.names

    def holding(self, word: str) -> tuple[Ints, NDArray[np.uint8]]:
        """Places of the standing memories that hold a word, ascending, and how often each does."""
        places, counts = postings.holding(self.parts, self.shared.words.names.get(word, -1))
        kept = self.standing[places]
        return (places, counts) if kept.all() else (places[kept], counts[kept])

    def places_of(self, seqs: Ints) -> Ints:
        """Places of memories by number, -1 of one that is not there or over."""
        if not len(self.facts):
            return np.full(len(seqs), -1)
        at = np.searchsorted(self.reached, seqs)
        at[at == len(self.facts)] = -1
        at[self.facts.seq[at] != seqs] = -1
        if self.moved:
            for i, seq in enumerate(seqs.tolist()):
                at[i] = self.moved.get(seq, at[i])
        at[~self.standing[at]] = -1
        return at

    @property
    def is_due(self) -> bool:
        """Whether so much of it is over that it should be made anew."""
        over = len(self.standing) - int(np.count_nonzero(self.standing))
        return over > max(WASTE, len(self.standing) // 2)


class Making:
    """A view that is read page by page and made at the end, so that a page costs what its memories cost."""

    def __init__(self) -> None:
        self._shared = _Shared()
        self._pages = [_read(self._shared, ())]

    def add(self, rows: Sequence[Row]) -> None:
        """Read these memories, whose numbers follow those of the page before."""
        self._pages.append(_read(self._shared, rows))

    def made(self, upto: int) -> View:
        """The view of what was read; `upto` is the last number that was looked at. A tenth of a second for 100,000."""
        none, nothing = np.empty(0, dtype=np.int32), facts_of([], [], self._shared.sessions, self._shared.speakers)
        flags, reached = np.empty(0, dtype=bool), np.empty(0, dtype=np.int64)
        empty = View(upto, nothing, (), flags, none, none, reached, {}, self._shared)
        facts, codes = zip(*self._pages, strict=True)
        return _with(empty, (), joined(facts), np.concatenate(codes), upto)


def viewed(rows: Sequence[Row], upto: int) -> View:
    """A view of these memories, given in the order of their numbers."""
    making = Making()
    making.add(rows)
    return making.made(upto)


def renewed(view: View, gone: Iterable[int], rows: Sequence[Row], upto: int) -> View:
    """The view without the memories numbered `gone`, and with `rows`, which replace those of the same numbers.

    Of one space only the newest view may be renewed: the columns of all grow in one place.
    """
    added, codes = _read(view.shared, rows)
    return _with(view, gone, added, codes, upto)


def _read(shared: _Shared, rows: Sequence[Row]) -> tuple[Facts, NDArray[np.int64]]:
    """What is known of memories, and the codes of their words, one memory after the other."""
    read = [read_back(row.text) for row in rows]
    facts = facts_of(rows, read, shared.sessions, shared.speakers)
    return facts, np.fromiter(shared.words.of_each(chain.from_iterable(one.words for one in read)), dtype=np.int64)


def _with(view: View, gone: Iterable[int], added: Facts, codes: NDArray[np.int64], upto: int) -> View:
    shared, count, more = view.shared, len(view.facts), len(added)
    replaced = np.array(sorted({*gone, *added.seq.tolist()}), dtype=np.int64)
    over = view.places_of(replaced)
    over = over[over >= 0]
    facts = shared.put(count, added)
    standing = np.concatenate([view.standing, np.ones(more, dtype=bool)])
    standing[over] = False
    highest = np.maximum.accumulate(np.append(view.reached[-1:] if count else 0, added.seq))
    back = {int(added.seq[i]): count + i for i in np.flatnonzero(added.seq <= highest[:-1]).tolist()}
    before, after = (np.concatenate([way, np.full(more, -1, dtype=np.int32)]) for way in (view.before, view.after))
    _link_again(facts, standing, before, after, {*facts.session[over].tolist(), *added.session.tolist()} - {-1})
    parts = view.parts
    if more or not parts:
        parts = postings.appended(parts, postings.part_of(codes, added.length.astype(np.int64), count))
    reached, moved = shared.reached.put(count, highest[1:]), {**view.moved, **back} if back else view.moved
    return View(upto, facts, parts, standing, before, after, reached, moved, shared)


def _link_again(facts: Facts, standing: Flags, before: Ints, after: Ints, sessions: Collection[int]) -> None:
    if not sessions:
        return
    places = np.flatnonzero(np.isin(facts.session, np.array(list(sessions), dtype=np.int32)))
    before[places] = after[places] = -1
    link(facts, places[standing[places]], before, after)
