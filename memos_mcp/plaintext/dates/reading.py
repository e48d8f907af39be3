"""Finds the phrases of a text that mean days, in English and Chinese, and says which days.

Knows nothing of storage or of search; relative phrases are seen from the day that the caller gives. Out of scope: days
of lunar calendars (Spring Festival, Easter), hours, and repeated days ("every Friday"). Time grows in proportion to the
text's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from memos_mcp.plaintext.dates import chinese, days, english, questions
from memos_mcp.plaintext.dates.days import Days
from memos_mcp.plaintext.dates.rules import DIGITS, Absolute, Leading, Match, Rule

MAX_MENTIONS = 256
"""Mentions read of one text; what follows is passed over."""
MAX_CHARACTERS = 100_000
"""Characters read of one text: what is longer is a book, whose days say little of it, and reading it takes seconds."""

_RULES: dict[str, tuple[Rule, ...]] = {
    word: english.TABLE.get(word, ()) + chinese.TABLE.get(word, ())
    for word in english.TABLE | chinese.TABLE
}
_CHARACTERS = "".join(word for word in chinese.TABLE if word != DIGITS)
_STARTS = re.compile(rf"[A-Za-z0-9]+|[\uff10-\uff19]+|[〇零一二三四五六七八九十两]+|[{_CHARACTERS}]")
_NOMINAL = date(2000, 6, 15)


@dataclass(frozen=True, slots=True)
class Span:
    """A phrase of a text, `text[start:end]`, and the inclusive range of days that it means.

    `year_known`: false for "May 2" and "5月2号"; `first` and `last` are then the nearest such days to the anchor, and
    only their month and day are certain. `slack`: days by which either end may be off; 0 when the phrase is exact.
    """

    first: date
    last: date
    start: int
    end: int
    year_known: bool = True
    slack: int = 0

    @property
    def exact(self) -> bool:
        """Whether the phrase means these days and no others."""
        return self.slack == 0


def mentions(text: str, anchor: date | None) -> list[Span]:
    """The days that the text speaks of, in its order, none overlapping, at most `MAX_MENTIONS`; never raises.

    `anchor`: the day on which it was said. Without one, phrases such as "yesterday" mean no days, and a day without a
    year gets the year 2000. "Recently", "lately" and 最近 are mentions too, with a slack of a month.
    """
    found = []
    for span in _spans(text, anchor):
        found.append(span)
        if len(found) == MAX_MENTIONS:
            break
    return found


def time_phrase(text: str) -> bool:
    """Whether the text holds any expression of time, also one of no certain day ("at noon", "for two weeks")."""
    return questions.names_time(text[:MAX_CHARACTERS]) or next(_spans(text, _NOMINAL), None) is not None


def _spans(text: str, anchor: date | None) -> Iterator[Span]:
    text, reached = text[:MAX_CHARACTERS], 0
    word = _STARTS.search(text)
    while word:
        start, end = word.span()
        rules = _rules_of(word[0])
        found = _at(text, start, rules, anchor) if rules else None
        if found:
            span = _qualified(text, reached, start, *found)
            reached = end = span.end
            yield span
        word = _STARTS.search(text, end)


def _rules_of(word: str) -> tuple[Rule, ...]:
    """The rules that begin with this run: of digits, of letters, or of Chinese numerals by their first."""
    if word[0].isdigit():
        return _RULES.get(DIGITS, ())
    return _RULES.get(word.lower() if word.isascii() else word[0], ())


def _at(text: str, start: int, rules: tuple[Rule, ...], anchor: date | None) -> tuple[Days, int] | None:
    """The days of the first rule that reads something here, and where its phrase ends."""
    for rule in rules:
        match = rule.pattern.match(text, start)
        if match is None:
            continue
        found = _read(rule, match, anchor)
        if found:
            return found
    return None


def _read(rule: Rule, match: Match, anchor: date | None) -> tuple[Days, int] | None:
    read: Days | None = None
    end = match.end()
    if isinstance(rule, Absolute):
        read = rule.read(match, anchor)
    elif isinstance(rule, Leading):
        base = _absolute_at(match.string, end, anchor)
        if base:
            read, end = rule.read(match, base[0]), base[1]
            read = read and Days(read.first, read.last, base[0].year_known, read.slack)
    else:
        leant = _leant_on(match, rule.leans, anchor) if rule.leans is not None else None
        if leant:
            anchor, end = leant
        read = rule.read(match, anchor) if anchor else None
    return (_followed(match.string, read, end)) if read else None


def _absolute_at(text: str, start: int, anchor: date | None) -> tuple[Days, int] | None:
    word = _STARTS.match(text, start)
    if word is None:
        return None
    for rule in _rules_of(word[0]):
        match = rule.pattern.match(text, start) if isinstance(rule, Absolute) else None
        read = rule.read(match, anchor) if match and isinstance(rule, Absolute) else None
        if match and read:
            return read, match.end()
    return None


def _leant_on(match: Match, reach: int, anchor: date | None) -> tuple[date, int] | None:
    """The day from which a phrase is seen when a date follows it ("last week before 5 May 2023"), and the phrase's end.

    After "before" the date belongs to the phrase; after "on" it is a mention of its own too.
    """
    text, end = match.string, match.end()
    for joint in english.LEANING.finditer(text, end, end + reach + 16):
        base = _absolute_at(text, joint.end(), anchor) if joint.start() - end <= reach else None
        if base and base[0].year_known and (reach or base[0].first == base[0].last):
            inside = joint.start() == end and joint[1].lower() in ("before", "prior to")
            return base[0].last, base[1] if inside else end
    return None


def _followed(text: str, read: Days, end: int) -> tuple[Days, int]:
    """With what follows in Chinese and counts from these days: 5月2号的前一天."""
    match = chinese.FOLLOWING.match(text, end)
    counted = chinese.counted_from(match, read) if match else None
    return (counted, match.end()) if match and counted else (read, end)


def _qualified(text: str, reached: int, start: int, read: Days, end: int) -> Span:
    """With the word before it that blurs or narrows it: "around May 2", "early 2023", "the end of last month", 大约."""
    before = max(reached, start - 24)
    match = english.QUALIFIER.search(text, before, start) or chinese.QUALIFIER.search(text, before, start)
    if match and (match["way"].lower() != "about" or english.is_amount(text[start:end])):
        way = english.NARROWING.get(match["way"].lower().split()[-1], "about")
        read = days.about(read) if way == "about" else days.part(read, way)
        start = match.start()
    return Span(read.first, read.last, start, end, read.year_known, read.slack)
