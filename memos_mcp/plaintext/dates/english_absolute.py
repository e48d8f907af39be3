"""What English says of the calendar itself: days, months, years, decades, seasons and holidays with a fixed date.

Knows nothing of the text around a match but its nearest words. Read month first, unless that is impossible: 5/2/2023
is the second of May; day first with dots: 2.5.2023.
"""

from __future__ import annotations

from datetime import date

from memos_mcp.plaintext.dates import days
from memos_mcp.plaintext.dates.days import Days
from memos_mcp.plaintext.dates.english_words import (
    BEFORE_DECADE,
    BEFORE_MONTH,
    BEFORE_YEAR,
    BETWEEN,
    COUNTED,
    DECORATION,
    HOLIDAY,
    HOLIDAYS,
    MON,
    MONTH,
    MONTH_NAME,
    MONTH_WORDS,
    ON,
    ORDINAL,
    SEASON,
    SURE_MONTH,
    YEAR,
    YEAR_OR_SHORT,
    S,
    is_name,
    preceded,
)
from memos_mcp.plaintext.dates.rules import DIGITS, Absolute, Leading, Match, Rule, pattern


def _year(written: str) -> int:
    """The year written: 2023 as it is; '98 and 98 in the century that makes 1970 to 2069 of them."""
    digits = written.lstrip("'’")
    value = int(digits)
    return value if len(digits) > 2 else value + (2000 if value < 70 else 1900)


def _day_of_month(month: int, day: str, until: str | None, year: str | None, anchor: date | None) -> Days | None:
    def in_year(number: int) -> Days | None:
        first = days.day_of(number, month, int(day))
        last = days.day_of(number, month, int(until)) if until else first
        return Days(first.first, last.last) if first and last and first.first <= last.last else None

    return in_year(_year(year)) if year else days.nearest(in_year, anchor)


def _month_day(match: Match, anchor: date | None) -> Days | None:
    name, sure = match["month"], match["th"] or match["year"] or preceded(match, ON)
    if not is_name(name, match) and not sure:
        return None
    return _day_of_month(MONTH[name.lower()], match["day"], match["until"], match["year"], anchor)


def _month_year(match: Match, anchor: date | None) -> Days | None:
    return days.month_of(_year(match["year"]), MONTH[match["month"].lower()])


def _month(match: Match, anchor: date | None) -> Days | None:
    """A month alone needs a word before it, unless its name is nothing else."""
    name = match["month"].lower()
    if name in ("may", "march") and not match["month"][0].isupper():
        wanted = preceded(match, SURE_MONTH)
    elif name in ("may", "march", "april", "june", "august") or (len(name) < 5 and name != "july"):
        wanted = preceded(match, BEFORE_MONTH) and is_name(match["month"], match)
    else:
        wanted = True
    return days.nearest(lambda year: days.month_of(year, MONTH[name]), anchor) if wanted else None


def _iso(match: Match, anchor: date | None) -> Days | None:
    return days.day_of(int(match[1]), int(match[3]), int(match[4]))


def _iso_month(match: Match, anchor: date | None) -> Days | None:
    return days.month_of(int(match[1]), int(match[2]))


def _slashed(match: Match, anchor: date | None) -> Days | None:
    month, day, year = int(match[1]), int(match[3]), _year(match[4])
    if match[2] == ".":
        month, day = day, month
    return days.day_of(year, month, day) or days.day_of(year, day, month)


def _short_slashed(match: Match, anchor: date | None) -> Days | None:
    if not preceded(match, ON):
        return None
    return _day_of_month(int(match[1]), match[2], None, None, anchor)


def _from_to(match: Match, base: Days) -> Days | None:
    """One range of "from May 2 to May 5, 2023", "between 2 May and 3 June", the year taken from its end."""
    name = match["month"] or match["later"]
    year = _year(match["year"]) if match["year"] else base.first.year
    start = days.day_of(year, MONTH[name.lower()], int(match["day"] or match["earlier"]))
    return Days(start.first, base.last) if start and start.first <= base.last else None


def _year_alone(match: Match, anchor: date | None) -> Days | None:
    before = BEFORE_YEAR.search(match.string, max(0, match.start() - 24), match.start())
    year = _year(match[1])
    return days.year_of(year) if before and (year >= 1900 or not before["recent"]) else None


def _years(match: Match, anchor: date | None) -> Days | None:
    if match["joint"].strip().lower() == "and" and not preceded(match, BETWEEN):
        return None
    return days.years_of(int(match["from"]), int(match["to"]))


def _decade(match: Match, anchor: date | None) -> Days | None:
    """Years of ten: "the 90s" are the 1990s, "the 1900s" a century; "my 20s" and "the 20s" are not years."""
    if not preceded(match, BEFORE_DECADE):
        return None
    start = int(match[1]) + (1900 if len(match[1]) == 2 else 0)
    return days.years_of(start, start + (99 if start % 100 == 0 and start < 2000 else 9))


def _quarter(match: Match, anchor: date | None) -> Days | None:
    first, last = days.month_of(int(match[2]), int(match[1]) * 3 - 2), days.month_of(int(match[2]), int(match[1]) * 3)
    return Days(first.first, last.last) if first and last else None


def _season_year(match: Match, anchor: date | None) -> Days | None:
    name = match[1].lower()
    return days.season_of(_year(match["year"]), "autumn" if name == "fall" else name)


def _holiday(match: Match, anchor: date | None) -> Days | None:
    month, day = HOLIDAYS[match["holiday"].lower().replace("’", "'")]
    return _day_of_month(month, str(day), None, match["year"], anchor)


RULES: list[tuple[str, Rule]] = [
    (MONTH_WORDS, Absolute(pattern(
        rf"{MON}\s{{0,3}}(?:the{S})?(?P<day>\d{{1,2}})(?P<th>{ORDINAL}\b)?"
        rf"(?:\s?[-–]\s?(?P<until>\d{{1,2}}){ORDINAL}?\b)?(?![\d%:°]|[.,/-]\d|\s?[ap]\.?m\b|[a-z])"
        rf"(?:,?\s{{1,3}}(?:of{S}|in{S})?(?P<year>{YEAR}){COUNTED})?{COUNTED}"), _month_day)),
    (MONTH_WORDS, Absolute(pattern(rf"{MON},?{S}(?:of{S}|in{S})?{YEAR_OR_SHORT}{COUNTED}"), _month_year)),
    (MONTH_WORDS, Absolute(pattern(rf"{MONTH_NAME}(?!\.?['’]?s?\s?\d|[\w-])"), _month)),
    (DIGITS, Absolute(pattern(r"(?<![\w.$€£¥#@/-])(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d|[-/.]\d)"), _iso)),
    (DIGITS, Absolute(pattern(r"(?<![\w.$€£¥#@/-])((?:19|20)\d\d)[-/](0[1-9]|1[0-2])(?![\w]|[-/.:]\d)"), _iso_month)),
    (DIGITS, Absolute(pattern(r"(?<![\w.$€£¥#@/-])(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|(?<=/)\d{2})(?!\w|[-/.]\d)"),
                      _slashed)),
    (DIGITS, Absolute(pattern(r"(?<![\w.$€£¥#@/-])(\d{1,2})/(\d{1,2})(?!\w|[-/.]\d|%)"), _short_slashed)),
    (DIGITS, Absolute(pattern(
        rf"(?<![\w.$€£¥#@/:-])(?P<day>\d{{1,2}})(?P<th>{ORDINAL})?(?:\s?[-–]\s?(?P<until>\d{{1,2}}){ORDINAL}?)?"
        rf"\s{{0,3}}(?:day{S})?(?:of{S})?{MON}(?:,?\s{{1,3}}(?:of{S})?(?P<year>{YEAR}){COUNTED})?"), _month_day)),
    (DIGITS, Absolute(pattern(r"(?<![\w.$€£¥#@/-])(?P<from>(?:19|20)\d\d)(?P<joint>\s?[-–]\s?|"
                              rf"\s(?:to|until|through|and)\s)(?P<to>(?:19|20)\d\d)(?!\w|[-/.]\d){COUNTED}"), _years)),
    (DIGITS, Absolute(pattern(r"((?:1[5-9]|20)\d0|[3-9]0)['’]?s\b"), _decade)),
    (DIGITS, Absolute(pattern(rf"(?<![\w.$€£¥#@/-])({YEAR})(?![\w/:$€£¥]){COUNTED}"), _year_alone)),
    ("between from", Leading(pattern(
        rf"(?:between|from){S}(?:the{S})?(?:{MON}\s{{0,3}}(?P<day>\d{{1,2}}){ORDINAL}?|"
        rf"(?P<earlier>\d{{1,2}}){ORDINAL}?{S}(?:of{S})?{MON.replace('<month>', '<later>')})"
        rf"(?:,?{S}(?P<year>{YEAR}))?{S}(?P<to>and|to|till|until|through){S}(?:the{S})?"), _from_to)),
    ("q1 q2 q3 q4", Absolute(pattern(rf"q([1-4]),?{S}(?:of{S})?((?:19|20)\d\d)(?!\d)"), _quarter)),
    ("spring summer autumn fall winter", Absolute(pattern(
        rf"({SEASON}),?{S}(?:of{S}|in{S})?{YEAR_OR_SHORT}{COUNTED}"), _season_year)),
    (" ".join({name.replace("’", "'").split("'")[0].split()[0].rstrip(".") for name in HOLIDAYS}), Absolute(
        pattern(rf"{HOLIDAY}{DECORATION}(?:,?{S}(?:of{S}|in{S})?{YEAR_OR_SHORT})?"), _holiday)),
]  # fmt: skip
