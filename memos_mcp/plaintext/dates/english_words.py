"""The words and the pieces of patterns that English says days with.

Knows nothing of calendars: `english` puts the pieces together and says what they mean.
"""

from __future__ import annotations

import re

from memos_mcp.plaintext.dates.rules import DIGITS, Match

HOLIDAYS = {
    "new year's day": (1, 1), "new years day": (1, 1), "valentine's day": (2, 14), "valentines day": (2, 14),
    "valentine's": (2, 14), "st patrick's day": (3, 17), "st. patrick's day": (3, 17), "april fools' day": (4, 1),
    "april fool's day": (4, 1), "april fools": (4, 1), "earth day": (4, 22), "juneteenth": (6, 19),
    "independence day": (7, 4), "fourth of july": (7, 4), "halloween": (10, 31), "veterans day": (11, 11),
    "christmas eve": (12, 24), "christmas day": (12, 25), "christmas": (12, 25), "xmas": (12, 25),
    "boxing day": (12, 26), "new year's eve": (12, 31), "new years eve": (12, 31),
}  # fmt: skip
MONTH_NAMES = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
MONTH = {name: i for i, name in enumerate(MONTH_NAMES, 1)} | {name[:3]: i for i, name in enumerate(MONTH_NAMES, 1)}
MONTH["sept"] = 9
WEEKDAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKDAY = {name: i for i, name in enumerate(WEEKDAY_NAMES)} | {name[:3]: i for i, name in enumerate(WEEKDAY_NAMES)}
WEEKDAY |= {"tues": 1, "thur": 3, "thurs": 3}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
            "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")  # fmt: skip
NUMBERS = {word: i for i, word in enumerate(_NUMBERS)} | {"thirty": 30, "forty": 40, "fifty": 50, "a": 1, "an": 1}
VAGUE = {"couple": (2, 1), "few": (3, 2), "several": (5, 3)}
UNITS = {"minute": "hour", "min": "hour", "hr": "hour", "night": "day", "yr": "year", "fortnight": "week"}
CAPITAL = {"may", "march", "mar", "sat", "sun", "mon"}
"""Words that are dates only with a capital, or where nothing else makes sense."""

S = r"\s{1,3}"
MONTH_NAME = r"(?P<month>" + "|".join(sorted(MONTH, key=len, reverse=True)) + r")\b"
MON = MONTH_NAME + r"\.?"
DOW = r"(?:" + "|".join(sorted(WEEKDAY, key=len, reverse=True)) + r")\b"
YEAR = r"(?:1[5-9]|20|21)\d\d(?![\d%]|[.,]\d|-\d\d?\d?\b)"
COUNTED = (
    r"(?!\s{1,2}(?:steps?|words?|people|dollars?|euros?|pounds?|miles?|kilometers?|km|met(?:er|re)s?|feet|points?|users?|"
    r"followers?|calories|copies|pages?|items?|units?|students?|members?|subscribers?|times|percent|grams?|kg|lines?|"
    r"tests?|files?|minutes?|hours?|days?|weeks?|months?|years?)\b)"
)
ORDINAL = r"(?:st|nd|rd|th)"
PART = r"(?:" + S + r"(?:morning|afternoon|evening|night)\b)?"
SEASON = r"(?:spring|summer|autumn|fall|winter)\b"
HOLIDAY = r"(?P<holiday>" + "|".join(
    re.escape(name).replace("'", "['’]") for name in sorted(HOLIDAYS, key=len, reverse=True)
) + r")(?!\w)"  # fmt: skip
DECORATION = (
    r"(?!" + S + r"(?:trees?|lights?|cards?|movies?|films?|ornaments?|decorations?|music|songs?|costumes?|candy|"
    r"presents?|gifts?|cookies?|carols?|spirit|themed?|stockings?)\b)"
)
NUMBER = (
    r"(?P<n>\d{1,9}|(?:a" + S + r")?couple(?:" + S + r"of)?|(?:a" + S + r")?few|several|half" + S + r"an?|"
    + "|".join(sorted(NUMBERS, key=len, reverse=True)) + r")(?P<half>" + S + r"and" + S + r"a" + S + r"half)?"
)  # fmt: skip
UNIT = r"(?P<unit>minute|min|hour|hr|day|night|weekend|week|fortnight|month|year|yr|decade)s?\b"
AMOUNT = (
    rf"{NUMBER}(?:{S}(?:or{S}(?:so|two|three)|full|whole|short|long|more))?[\s-]{{1,3}}{UNIT}"
    rf"(?P<more>{S}and{S}a{S}half\b)?"
)
SIDE = r"(?P<side>before|after|prior" + S + r"to|following|preceding%s)" + S + r"(?:the" + S + r")?"
BEFORE_MONTH = re.compile(
    r"(?:\b(?:in|since|during|until|till|last|next|this|early|mid|late|after|before|of|by|through)|\()"
    r"[\s-]{1,3}(?:the\s)?\Z", re.A | re.I)  # fmt: skip
SURE_MONTH = re.compile(r"\b(?:in|since|during|until|early|mid|late|of)[\s-]{1,3}\Z", re.A | re.I)
BEFORE_YEAR = re.compile(
    r"(?:\b(?:in|since|during|until|till|early|mid|late|year|circa|throughout|(?P<recent>from|after|before|of|by|around|"
    r"for))[\s-]{1,3}(?:the\s)?|\()\Z", re.A | re.I)  # fmt: skip
"""Stands before a year; before any number too are the `recent` ones, which are taken for years from 1900 on only."""
LENGTH = re.compile(r"(?:n['’]t|\b(?:not|never|first|once|twice|times?|only|best|all))\b[^.!?]{0,40}\Z", re.A | re.I)
REPEATED = re.compile(r"\b(?:every|each|per|today is|today's|it's)\s{1,3}(?:other\s{1,3})?\Z", re.A | re.I)
COMING = re.compile(r"\b(?:by|until|till|coming|see you(?: on)?)\s{1,3}\Z", re.A | re.I)
PART_OF_THE = re.compile(r"\b(?:end|beginning|start|middle|rest|later part) of the\s{1,3}\Z", re.A | re.I)
BETWEEN = re.compile(r"\bbetween\s{1,3}\Z", re.A | re.I)
ON = re.compile(r"\b(?:on|by|until|since|from|before|after|till)\s{1,3}(?:the\s{1,3})?\Z", re.A | re.I)
THE = re.compile(r"\bthe\s{1,3}\Z", re.A | re.I)
BEFORE_DECADE = re.compile(r"\b(?:the|early|mid|late)[\s-]{1,3}['’]?\Z", re.A | re.I)
YEAR_OR_SHORT = rf"(?P<year>{YEAR}|['’]\d\d(?!\d))"
MONTH_WORDS = " ".join(MONTH)
NUMBER_WORDS = " ".join(NUMBERS) + " couple few several half " + DIGITS
WHICH_WORDS = r"(?P<which>this" + S + r"(?:past|last|coming|upcoming)|last|this|next|past|previous|coming|upcoming)"
WHAT = (
    rf"(?P<what>morning|afternoon|evening|night|weekend|week|month|year|decade|{DOW}|{SEASON}|"
    + MONTH_NAME + "|" + HOLIDAY + r")\b"
)  # fmt: skip
THESE = r"(?P<which>(?:these" + S + r")?(?:last|past|next|coming|these|previous))"
WEEKDAY_WORDS = " ".join(WEEKDAY)


def is_amount(phrase: str) -> bool:
    """Whether a phrase begins with a number, so that "about" before it blurs it ("about a year ago")."""
    word = phrase.split()[0].split("-")[0].lower()
    return word[0].isdigit() or word in NUMBERS or word in VAGUE


def preceded(match: Match, by: re.Pattern[str]) -> bool:
    """Whether what the pattern tells stands right before the match."""
    start = match.start()
    return by.search(match.string, max(0, start - 24), start) is not None


def is_name(word: str, match: Match) -> bool:
    return word.lower() not in CAPITAL or word[0].isupper()
