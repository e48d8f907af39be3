"""Finds memories that do not stand (archived, superseded, over) for a question that asks for such, by looking at each.

Knows nothing of those that stand, which alone the main index holds, and nothing of ranking. What it costs grows with
the number of these memories, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from memos_mcp.ledger import dialect
from memos_mcp.plaintext import lexical
from memos_mcp.plaintext.indexed import scope_token
from memos_mcp.plaintext.lexical import Holders
from memos_mcp.plaintext.pool import idf_of
from memos_mcp.plaintext.question import Question
from memos_mcp.plaintext.scope import Scope


@dataclass(frozen=True)
class Cold:
    """The memories of a scope that do not stand: `seqs`, ascending, and which of them hold a question's words."""

    seqs: NDArray[np.int64]
    holders: Holders

    def likely(self, connection: Connection, question: Question, scope: Scope, by_words: int, by_day: int) -> list[int]:
        """So many of the best by words, best first, and of the newest on the days that the question names."""
        best = self.holders.candidates(by_words)
        if question.days:
            dated = lexical.on_days(connection, question, scope.space_ids, -1, cold=True)
            best += _among(self.seqs, dated)[:by_day]
        return list(dict.fromkeys(best))


def look_up(connection: Connection, question: Question, scope: Scope, main: Holders) -> tuple[Holders, Cold]:
    """Look the question's words up in the memories of the scope that do not stand.

    `main` is what was found among those that do; it is given back with what the words tell among both.
    """
    seqs = np.array(scope.cold(connection), dtype=np.int64)
    spaces = scope.word_spaces(connection)
    scopes = [scope_token(space) for space in spaces] if len(spaces) <= lexical.MAX_SCOPES else []
    found: list[tuple[int, ...]] = []
    for word in question.words:
        holding = dialect.full_text_rows(connection, [word], scopes, -1, cold=True) if len(seqs) else []
        found.append(tuple(_among(seqs, holding)))
    held = np.array([len(holding) for holding in found], dtype=np.float32)
    total = main.total + len(seqs)
    idf = idf_of(question, main.held + held, max(total, 1))
    return replace(main, idf=idf), Cold(seqs, Holders(tuple(found), idf, (True,) * len(found), total, held))


def _among(seqs: NDArray[np.int64], found: Sequence[int]) -> list[int]:
    """Those of `found` that are among `seqs`, in their order."""
    numbers = np.array(found, dtype=np.int64)
    kept: list[int] = numbers[np.isin(numbers, seqs)].tolist()
    return kept
