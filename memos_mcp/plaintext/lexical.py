"""Finds the memories of a large space that share words with a question, through full text, rarest words first.

Knows nothing of meaning or of access. Of a word that very many memories hold only the newest are candidates, so that
the cost of a question does not grow with the store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from memos_mcp.ledger import dialect
from memos_mcp.plaintext.analysis import tokens
from memos_mcp.plaintext.facts import Codes, Floats, Row, facts_of, link
from memos_mcp.plaintext.indexed import Indexed, read_back, scope_token
from memos_mcp.plaintext.pool import Pool, idf_of
from memos_mcp.plaintext.question import Question

PROBE = 600
"""Memories read of each word of a question; a word that fewer hold is rare, and its list is whole."""
MAX_SCOPES = 12
"""Spaces named in a full-text query; of more, the caller's filter picks afterwards."""
REACH = 2
"""Neighbours looked at on each side."""


@dataclass(frozen=True)
class Holders:
    """Which memories hold a question's words, newest first.

    `seqs` by word, in the question's order; of a common word its newest only. Of `rare` words they are all; `idf` (m,);
    `held` (m,): about how many of the `total` memories hold each.
    """

    seqs: tuple[tuple[int, ...], ...]
    idf: Floats
    rare: tuple[bool, ...]
    total: int
    held: Floats

    def candidates(self, count: int, eligible: NDArray[np.int64] | None = None) -> list[int]:
        """The memories that share the most weight of words, best first; of `eligible` only, when given.

        Common words take part, rarest first, only until there are `count` candidates: of those they would bring
        they know the newest alone.
        """
        found = np.empty(0, dtype=np.int64)
        weights = np.empty(0, dtype=np.float64)
        for i in sorted(range(len(self.seqs)), key=lambda i: (not self.rare[i], -self.idf[i])):
            if not self.rare[i] and len(found) >= count:
                break
            seqs = np.array(self.seqs[i], dtype=np.int64)
            if eligible is not None:
                seqs = seqs[np.isin(seqs, eligible)]
            found = np.concatenate([found, seqs])
            weights = np.concatenate([weights, np.full(len(seqs), self.idf[i])])
        if not len(found):
            return []
        seqs, places = np.unique(found, return_inverse=True)
        mass = np.bincount(places, weights=weights)
        best = np.lexsort((-seqs, -mass))[:count]
        ranked: list[int] = seqs[best].tolist()
        return ranked


def look_up(
    connection: Connection, question: Question, space_ids: Sequence[int], total: int, written: int
) -> Holders:
    """Look the question's words up among the `total` memories of the spaces that stand; of all when none is named.

    `written` have ever been there, those that do not stand included.
    """
    scopes = [scope_token(space) for space in space_ids] if len(space_ids) <= MAX_SCOPES else []
    found, counted, rare = [], [], []
    for word in question.words:
        seqs = dialect.full_text_rows(connection, [word], scopes, PROBE)
        seen = len(seqs)
        rare.append(seen < PROBE)
        if seen >= PROBE:  # the newest postings reach back to seqs[-1]; the rest is taken to be as dense
            seen = max(seen, round(seen * written / max(seqs[0] - seqs[-1] + 1, 1)))
        found.append(tuple(seqs))
        counted.append(min(seen, total))
    held = np.array(counted, dtype=np.float32)
    return Holders(tuple(found), idf_of(question, held, total), tuple(rare), total, held)


def nobody(question: Question) -> Holders:
    """What `look_up` gives where no memory is looked at."""
    none = np.zeros(len(question.words), dtype=np.float32)
    return Holders(((),) * len(none), none, (True,) * len(none), 0, none)


def on_days(
    connection: Connection, question: Question, space_ids: Sequence[int], limit: int, *, cold: bool = False
) -> list[int]:
    """Memories of the spaces that became true on a day that the question names, newest first.

    Of those that stand, or (`cold`) of those that do not; a limit of -1 is none.
    """
    found: list[int] = []
    for day in question.days:
        last = date.fromordinal(min(day.last + 1, date.max.toordinal())).isoformat()
        first = date.fromordinal(day.first).isoformat()
        found += dialect.seqs_between(connection, space_ids, first, last, limit, cold=cold)
    return found


@dataclass
class Read:
    """Memories read from the ledger for a question, by number, with those beside them; with `cold` also those that do
    not stand."""

    space_ids: Collection[int]
    cold: bool
    wanted: set[int] = field(default_factory=set)
    rows: dict[int, tuple[dialect.Indexed, Indexed]] = field(default_factory=dict)

    def add(self, connection: Connection, seqs: Sequence[int], around: int) -> None:
        """Read these memories, and those next to the first `around` of them."""
        self.wanted.update(seqs)
        beside = {seq + step for seq in seqs[:around] for step in range(-REACH, REACH + 1)}
        missing = ({*seqs} | beside) - self.rows.keys()
        for row in dialect.indexed_rows_of(connection, sorted(missing), cold=self.cold) if missing else ():
            self.rows[row[1]] = row, read_back(row[4])

    def pool(self, question: Question, holders: Holders) -> Pool:
        """The memories that were asked for, with the neighbours that stand in the same session of `space_ids`."""
        sessions = {
            (row[0], row[2])
            for seq in self.wanted & self.rows.keys()
            for row in (self.rows[seq][0],)
            if row[2] is not None and row[0] in self.space_ids
        }
        kept = [pair for seq, pair in sorted(self.rows.items())
                if seq in self.wanted or (pair[0][0], pair[0][2]) in sessions]  # fmt: skip
        read, speakers = [one for _, one in kept], Codes()
        rows = [Row(row[1], row[2] and f"{row[0]} {row[2]}", row[3], row[4]) for row, _ in kept]
        facts = facts_of(rows, read, Codes(), speakers)
        mean_length = float(facts.length.mean()) if len(facts) else 1.0
        # only where numbers follow one another closely are the rows whole
        before, after = np.full(len(facts), -1), np.full(len(facts), -1)
        link(facts, np.flatnonzero(facts.session >= 0), before, after, REACH)
        counts = _counts(question, read)
        return Pool(facts, counts, holders.idf, before, after, tuple(speakers.names), mean_length)


def _counts(question: Question, read: Sequence[Indexed]) -> Floats:
    columns = {word: i for i, word in enumerate(question.words)}
    counts = np.zeros((len(read), len(columns)), dtype=np.float32)
    for row, one in zip(counts, read, strict=True):
        for word in columns.keys() & one.words:
            row[columns[word]] = one.words.count(word)
    return counts


def holding_all(connection: Connection, text: str, space_ids: Sequence[int], limit: int) -> list[int]:
    """Cubes of the spaces that hold every word of `text`; none for a text without words.

    Of those that stand the newest `limit`, and all that do not.
    """
    words = list(dict.fromkeys(tokens(text)))
    if not words:
        return []
    scopes = [scope_token(space) for space in space_ids]
    standing = dialect.full_text_rows(connection, words, scopes, limit)
    return standing + dialect.full_text_rows(connection, words, scopes, -1, cold=True)
