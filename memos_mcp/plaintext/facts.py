"""What is known of memories beside their words, a column each, in memory.

Knows nothing of where it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext.indexed import Indexed

Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Spans = tuple[tuple[int, int], ...]
"""Ranges of days, as ordinals."""


class Row(NamedTuple):
    """A memory as the ledger gives it: number, session, ISO 8601 time at which it became true, indexed text."""

    seq: int
    session: str | None
    becomes_true: str
    text: str


class _Numbered(dict[str, int]):
    """Numbers a name when it is first looked up."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number


@dataclass
class Codes:
    """Small numbers for names, given as they come."""

    names: _Numbered = field(default_factory=_Numbered)

    def of(self, name: str | None) -> int:
        """The name's number, -1 without one."""
        return -1 if not name else self.names[name]

    def of_each(self, names: Iterable[str]) -> Iterator[int]:
        """The numbers of names, none of which is empty; a store has millions to number, so no Python runs for each."""
        return map(self.names.__getitem__, names)


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
    days: Mapping[int, Spans]

    def __len__(self) -> int:
        return len(self.seq)


def facts_of(rows: Sequence[Row], read: Sequence[Indexed], sessions: Codes, speakers: Codes) -> Facts:
    """What is known of memories, given with their texts as read back."""
    return Facts(
        np.array([row.seq for row in rows], dtype=np.int64),
        np.array([sessions.of(row.session) for row in rows], dtype=np.int32),
        np.array([speakers.of(one.speaker) for one in read], dtype=np.int32),
        np.array([date.fromisoformat(row.becomes_true[:10]).toordinal() for row in rows], dtype=np.int32),
        np.array([one.asks for one in read], dtype=bool),
        np.array([one.timed for one in read], dtype=bool),
        np.array([len(one.words) for one in read], dtype=np.float32),
        {i: one.days for i, one in enumerate(read) if one.days},
    )


def taken(facts: Facts, places: Ints) -> Facts:
    """What is known of the memories at these places, in their order."""
    days = facts.days
    mentioned: Mapping[int, Spans] = (
        {i: days[place] for i, place in enumerate(places.tolist()) if place in days} if days else {}
    )
    return Facts(
        facts.seq[places], facts.session[places], facts.speaker[places], facts.day[places], facts.asks[places],
        facts.timed[places], facts.length[places], mentioned,
    )  # fmt: skip


def weighted(rows: Floats, weights: Floats) -> Floats:
    """The sum of each row by the weights, shape (n,), from (n, m) and (m,)."""
    # on one processor BLAS has called a product of finite numbers invalid, thrice and never on demand; what was found
    # was the same
    with np.errstate(invalid="ignore"):
        sums: Floats = rows @ weights
    return sums


def joined(parts: Sequence[Facts]) -> Facts:
    """One after the other; their codes must be of the same names."""
    days: dict[int, Spans] = {}
    first = 0
    for part in parts:
        days.update({i + first: spans for i, spans in part.days.items()})
        first += len(part)
    return Facts(
        np.concatenate([part.seq for part in parts]), np.concatenate([part.session for part in parts]),
        np.concatenate([part.speaker for part in parts]), np.concatenate([part.day for part in parts]),
        np.concatenate([part.asks for part in parts]), np.concatenate([part.timed for part in parts]),
        np.concatenate([part.length for part in parts]), days,
    )  # fmt: skip


def link(facts: Facts, places: Ints, before: Ints, after: Ints, reach: int | None = None) -> None:
    """Set which memories at `places` are neighbours in their session, in the order of their numbers.

    Those without a neighbour on a side keep what is there. With `reach`, only memories whose numbers are no further
    apart are neighbours.
    """
    order = places[np.lexsort((facts.seq[places], facts.session[places]))]
    together = facts.session[order[1:]] == facts.session[order[:-1]]
    if reach is not None:
        together &= np.diff(facts.seq[order]) <= reach
    before[order[1:][together]] = order[:-1][together]
    after[order[:-1][together]] = order[1:][together]
