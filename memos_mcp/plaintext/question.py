"""What is asked for: a question's words with their weights, the days it names, and whether it asks for a time.

Knows nothing of memories.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext import dates
from memos_mcp.plaintext.analysis import is_common, tokens

MOST_WORDS = 48
"""Words of a question that are looked up, each once."""
MOST_SLACK = 10
"""Days that a date in a question may be off."""
COMMON_WEIGHT = 0.25
"""Weight of the words that questions are made of, beside those that they are about."""


@dataclass(frozen=True)
class Day:
    """A range of days (ordinals, both inclusive) that a question names; in any year, unless the year is known."""

    first: int
    last: int
    year_known: bool


@dataclass(frozen=True)
class Question:
    """`words`, m of them, with `weights`, shape (m,), 0..1; `when`: it asks for a time."""

    words: tuple[str, ...]
    weights: NDArray[np.float32]
    days: tuple[Day, ...]
    when: bool

    @property
    def size(self) -> float:
        """How long it is, about 0 for a word and 1 for a page."""
        return math.log1p(len(self.words)) / 4.0


def asked(text: str, today: str) -> Question:
    """The question in `text`, asked on the day of the ISO 8601 time `today`."""
    words = tuple(dict.fromkeys(tokens(text)))[:MOST_WORDS]
    spans = [span for span in dates.mentions(text, date.fromisoformat(today[:10])) if span.slack <= MOST_SLACK]
    return Question(
        words,
        np.array([COMMON_WEIGHT if is_common(word) else 1.0 for word in words], dtype=np.float32),
        tuple(Day(span.first.toordinal(), span.last.toordinal(), span.year_known) for span in spans[:4]),
        dates.is_temporal_question(text),
    )
