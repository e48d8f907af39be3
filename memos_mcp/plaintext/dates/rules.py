"""The three kinds of rules by which a phrase in a text becomes days, and their table by first word.

Knows no language and walks no text: `dates` does. A rule's pattern is matched where one of its first words stands; it
never repeats anything without bound, so that a text costs time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from memos_mcp.plaintext.dates.days import Days

DIGITS = "#"
"""Stands for any run that begins with a digit."""

Match = re.Match[str]


@dataclass(frozen=True)
class Absolute:
    """Says which days by itself, save perhaps the year, which the anchor then suggests."""

    pattern: re.Pattern[str]
    read: Callable[[Match, date | None], Days | None]


@dataclass(frozen=True)
class Relative:
    """Says which days as seen from the anchor, or from a date that follows ("last week before 5 May 2023").

    `leans`: characters that may stand between the two; none when the phrase never leans.
    """

    pattern: re.Pattern[str]
    read: Callable[[Match, date], Days | None]
    leans: int | None = None


@dataclass(frozen=True)
class Leading:
    """Comes before an absolute phrase and says which days as seen from its days ("two weeks before …")."""

    pattern: re.Pattern[str]
    read: Callable[[Match, Days], Days | None]


Rule = Absolute | Relative | Leading
Table = dict[str, tuple[Rule, ...]]


def table(rules: Iterable[tuple[str, Rule]]) -> Table:
    """The rules by each of their first words (parted by spaces, lower case), in the given order."""
    found: dict[str, list[Rule]] = {}
    for words, rule in rules:
        for word in words.split():
            found.setdefault(word, []).append(rule)
    return {word: tuple(those) for word, those in found.items()}


def pattern(source: str) -> re.Pattern[str]:
    """A pattern of a language written in ASCII, upper and lower case alike."""
    return re.compile(source, re.ASCII | re.IGNORECASE)
