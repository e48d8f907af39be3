"""Which memory holds which word how often, in parts that are joined as they grow.

Knows nothing of memories or words: both are numbers, places and codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int32]
Counts = NDArray[np.uint8]

JOINED = 600_000
"""Postings up to which parts are joined; to join more would make a question wait."""
TWICE = 2
"""How much larger than the next a part is left alone."""


@dataclass(frozen=True)
class Part:
    """Postings of neighbouring places. `codes` (w,), ascending, of the words that occur; of the i-th, the places,
    ascending, and their counts lie between `starts[i]` and `starts[i + 1]`."""

    codes: NDArray[np.int32]
    starts: NDArray[np.int64]
    places: Places
    counts: Counts

    def of(self, code: int) -> tuple[Places, Counts]:
        """Where the word occurs, places ascending, and how often."""
        i = int(self.codes.searchsorted(code))
        if i == len(self.codes) or self.codes[i] != code:
            return self.places[:0], self.counts[:0]
        part = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return self.places[part], self.counts[part]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.codes.nbytes + self.starts.nbytes + self.places.nbytes + self.counts.nbytes


def part_of(codes: NDArray[np.int64], lengths: NDArray[np.integer[Any]], first: int) -> Part:
    """The postings of texts, given as the codes of their words one text after the other, and as how many each has.

    The first text is at place `first`.
    """
    many = max(len(lengths), 1)
    places = np.repeat(np.arange(len(lengths)), lengths)
    keys, counts = np.unique(codes * many + places, return_counts=True)
    owners, where = np.divmod(keys, many)
    return _parted(owners, (where + first).astype(np.int32), np.minimum(counts, 255).astype(np.uint8))


def appended(parts: tuple[Part, ...], more: Part) -> tuple[Part, ...]:
    """The parts and one that follows them, joined so that they stay few."""
    last, rest = more, list(parts)
    while rest and len(rest[-1].places) <= min(TWICE * len(last.places), JOINED - len(last.places)):
        last = _joined(rest.pop(), last)
    return (*rest, last)


def holding(parts: Sequence[Part], code: int) -> tuple[Places, Counts]:
    """Where in all parts, of which there is one at least, the word occurs, places ascending, and how often."""
    found = [part.of(code) for part in parts]
    held = [pair for pair in found if len(pair[0])] or found[:1]
    if len(held) == 1:
        return held[0]
    return np.concatenate([places for places, _ in held]), np.concatenate([counts for _, counts in held])


def _joined(a: Part, b: Part) -> Part:
    owners = np.concatenate([np.repeat(part.codes, np.diff(part.starts)) for part in (a, b)])
    order = np.argsort(owners, kind="stable")  # of one word, the places of `a` come before those of `b`
    places, counts = np.concatenate([a.places, b.places]), np.concatenate([a.counts, b.counts])
    return _parted(owners[order], places[order], counts[order])


def _parted(owners: NDArray[np.integer[Any]], places: Places, counts: Counts) -> Part:
    """A part of postings in the order of their words' codes."""
    begins = np.flatnonzero(np.diff(owners, prepend=-1))
    return Part(owners[begins].astype(np.int32), np.append(begins, len(owners)), places, counts)
