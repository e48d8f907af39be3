"""What English says as seen from another day: "yesterday", "last Friday", "two weeks before 11 August", "recently".

Knows nothing of the text around a match but its nearest words. "Last week" and its like are calendar weeks from Monday
to Sunday; a weekday alone is the nearest past one, "next Friday" that of the next week.
"""

from __future__ import annotations

from datetime import date

from memos_mcp.plaintext.dates import days
from memos_mcp.plaintext.dates.days import Days
from memos_mcp.plaintext.dates.english_words import (
    AMOUNT,
    COMING,
    DOW,
    HOLIDAYS,
    LENGTH,
    MONTH,
    NUMBER_WORDS,
    NUMBERS,
    ON,
    ORDINAL,
    PART,
    PART_OF_THE,
    REPEATED,
    SEASON,
    SIDE,
    THE,
    THESE,
    UNITS,
    VAGUE,
    WEEKDAY,
    WEEKDAY_NAMES,
    WEEKDAY_WORDS,
    WHAT,
    WHICH_WORDS,
    S,
    is_name,
    preceded,
)
from memos_mcp.plaintext.dates.rules import DIGITS, Leading, Match, Relative, Rule, pattern

_WHICH = {"last": "last", "previous": "last", "past": "past", "this": "this", "next": "next", "coming": "coming",
          "upcoming": "coming"}  # fmt: skip
_WEEKS = ("week", "weekend")


def _count(match: Match) -> tuple[int, int]:
    """How many, and by how many more or less it may be."""
    words = match["n"].lower().split()
    for word in words:
        if word in VAGUE:
            return VAGUE[word]
    return (int(words[0]) if words[0].isdigit() else NUMBERS.get(words[0], 1)), 0


def _moved(match: Match, sign: int, day: date) -> Days:
    count, vague = _count(match)
    unit = match["unit"].lower()
    if unit == "fortnight":
        count *= 2
    unit = UNITS.get(unit, unit)
    vague = min(vague, 1) if unit in ("month", "year", "decade", "week") and count < 5 else vague
    if match["n"].lower().startswith("half"):
        smaller, many = {"year": ("month", 6), "month": ("week", 2)}.get(unit, (unit, 0))
        return days.unit_moved(smaller, sign * many, day, 1 if unit == "year" else 0)
    if (match["half"] or match["more"]) and unit in ("year", "month", "week"):
        smaller, many = {"year": ("month", 12), "month": ("week", 4), "week": ("day", 7)}[unit]
        return days.unit_moved(smaller, sign * (count * many + many // 2), day, 2)
    return days.unit_moved(unit, sign * count, day, vague)


def _ago(match: Match, anchor: date) -> Days:
    if match["same"] and match["unit"].lower() == "year":
        return days.one(days.months_moved(anchor, -12 * _count(match)[0]))
    return _moved(match, -1, anchor)


def _ahead(match: Match, anchor: date) -> Days:
    return _moved(match, 1, anchor)


def _in_amount(match: Match, anchor: date) -> Days | None:
    """What is to come; not "in five years", nor "haven't talked in a few days", which are lengths."""
    unit, start = match["unit"].lower(), match.start()
    length = unit in ("year", "yr", "decade") or (match["n"].lower() in ("a", "an") and unit not in ("week", "month"))
    if length or UNITS.get(unit, unit) == "hour" or LENGTH.search(match.string, max(0, start - 48), start):
        return None
    return _moved(match, 1, anchor)


def _from_base(match: Match, base: Days) -> Days:
    after = match["side"].lower() in ("after", "following")
    return _moved(match, 1 if after else -1, base.last if after else base.first)


def _of_the(match: Match, anchor: date) -> Days | None:
    """This one, in "the end of the month"."""
    return _calendar_unit("this", match[0].lower(), anchor) if preceded(match, PART_OF_THE) else None


def _named_from_base(match: Match, base: Days) -> Days | None:
    """The seven days before a date ("the week before 9 June"), or the nearest weekend, Sunday, month or year."""
    what, side = match["what"].lower(), match["side"].lower()
    after = side in ("after", "following")
    edge = base.last if after else base.first
    sign = 1 if after else -1
    if side == "of":
        return {"week": days.week_around, "weekend": days.weekend_around}[what](edge) if what in _WEEKS else base
    if what in WEEKDAY:
        return days.one(days.weekday_from(days.moved(edge, 1), WEEKDAY[what]) if after else
                        days.weekday_before(edge, WEEKDAY[what]))  # fmt: skip
    if what == "week":
        near, far = days.moved(edge, sign), days.moved(edge, 7 * sign)
        return Days(min(near, far), max(near, far), slack=4)
    if what == "weekend":
        saturday = days.weekday_from(days.moved(edge, 1), 5) if after else days.weekday_before(edge, 5)
        return days.weekend_around(saturday)
    if what == "month":
        there = days.months_moved(edge, sign)
        return days.month_of(there.year, there.month)
    if what == "year":
        return days.year_of(edge.year + sign)
    return days.one(days.moved(edge, sign))


def _day_word(match: Match, anchor: date) -> Days:
    word = match[0].lower()
    shift = -1 if word.startswith("yester") else 1 if word.startswith(("tomo", "tmrw")) else 0
    return days.one(days.moved(anchor, shift))


def _day_beyond(match: Match, anchor: date) -> Days:
    return days.one(days.moved(anchor, -2 if "before" in match[0].lower() else 2))


def _before_last(match: Match, anchor: date) -> Days | None:
    once = _calendar_unit("last", match["what"].lower(), anchor)
    return _calendar_unit("last", match["what"].lower(), once.first) if once else None


def _calendar_unit(which: str, unit: str, anchor: date) -> Days | None:
    sign = {"last": -1, "next": 1}.get(which, 0)
    if unit == "week":
        return days.week_around(days.moved(anchor, 7 * sign))
    if unit == "weekend":
        return days.weekend_around(days.moved(anchor, 7 * sign))
    if unit == "month":
        there = days.months_moved(anchor, sign)
        return days.month_of(there.year, there.month)
    if unit == "year":
        return days.year_of(anchor.year + sign)
    return days.one(days.moved(anchor, sign))


def _which(match: Match, anchor: date) -> Days | None:
    """What "last", "this", "next" and their like mean with a unit, a weekday, a month, a season or a holiday."""
    words = match["which"].lower().split()
    which, what = _WHICH[words[-1]], match["what"].lower()
    if what in ("morning", "afternoon", "evening", "night"):
        return days.one(days.moved(anchor, -1 if which in ("last", "past") else 0)) if which != "next" else None
    if not is_name(match["what"], match) and not (what in ("march", "mar") and which == "last"):
        return None
    if what in ("week", "weekend", "month", "year", "decade", "day"):
        return _which_unit(which, what, anchor)
    if what in WEEKDAY:
        return days.one(_which_weekday(which, WEEKDAY[what], anchor))
    which = "next" if which == "coming" else which
    if what in MONTH:
        return days.named(which, lambda year: days.month_of(year, MONTH[what]), anchor)
    if what in ("spring", "summer", "autumn", "fall", "winter"):
        season = "autumn" if what == "fall" else what
        return days.named(which, lambda year: days.season_of(year, season), anchor)
    return days.named(which, lambda year: days.day_of(year, *HOLIDAYS[what.replace("’", "'")]), anchor)


def _which_unit(which: str, unit: str, anchor: date) -> Days | None:
    if unit == "day":
        return None
    if unit == "decade":
        return days.years_of(anchor.year - 10, anchor.year) if which in ("last", "past") else None
    if which == "past":
        if unit == "weekend":
            return days.weekend_around(days.weekday_before(days.moved(anchor, 0 if anchor.weekday() == 6 else 1), 5))
        return days.stretch(unit, -1, anchor) if unit != "week" else Days(days.moved(anchor, -7), anchor)
    return _calendar_unit("next" if which == "coming" and unit != "weekend" else which, unit, anchor)


def _which_weekday(which: str, weekday: int, anchor: date) -> date:
    if which in ("last", "past"):
        return days.weekday_before(anchor, weekday)
    if which == "next":
        return days.moved(days.week_around(anchor).first, 7 + weekday)
    return days.weekday_from(anchor, weekday)


def _last_few(match: Match, anchor: date) -> Days | None:
    count, vague = _count(match)
    unit = UNITS.get(match["unit"].lower(), match["unit"].lower())
    if unit == "hour":
        return None
    sign = 1 if match["which"].lower().split()[-1] in ("next", "coming") else -1
    unit = "week" if unit == "weekend" else unit
    count, unit = (count * 10, "year") if unit == "decade" else (count, unit)
    return days.stretch(unit, sign * count, anchor, vague)


def _recently(match: Match, anchor: date) -> Days:
    return Days(days.moved(anchor, -30), anchor, slack=30)


def _other_day(match: Match, anchor: date) -> Days | None:
    if not preceded(match, THE):
        return None
    long = match["what"].lower() in ("week", "weekend")
    return Days(days.moved(anchor, -21 if long else -8), days.moved(anchor, -2), slack=7)


def _so_far(match: Match, anchor: date) -> Days | None:
    whole = _calendar_unit("this", match["what"].lower(), anchor) if match["what"].lower() != "today" else None
    if whole is None:
        return days.one(anchor)
    return Days(whole.first, anchor) if match["way"].lower() == "earlier" else Days(anchor, whole.last)


def _over(match: Match, anchor: date) -> Days | None:
    """The past one for "over the weekend" and "over the summer"; the coming one for "for the weekend"."""
    what = match["what"].lower()
    if match["way"].lower() == "for":
        return days.weekend_around(anchor) if what == "weekend" else None
    if what == "weekend":
        return _which_unit("past", "weekend", anchor)
    return days.named("past", lambda year: days.season_of(year, "autumn" if what == "fall" else what), anchor)


def _weekday(match: Match, anchor: date) -> Days | None:
    """A weekday alone is the nearest past one; after "by" and "until" the coming one."""
    name = match[1]
    short = name.lower() not in WEEKDAY_NAMES
    if preceded(match, REPEATED) or (short and not (preceded(match, ON) and name[0].isupper())):
        return None
    weekday = WEEKDAY[name.lower()]
    coming = preceded(match, COMING)
    return days.one(days.weekday_from(anchor, weekday) if coming else days.weekday_before(anchor, weekday))


def _weekday_of_date(match: Match, base: Days) -> Days | None:
    return base if base.first == base.last else None


def _piece(match: Match, base: Days) -> Days | None:
    """A part by number: "the second week of May", "first half of 2022", "last Friday of June"."""
    place = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1, "final": -1}[match["nth"].lower()]
    what = match["what"].lower()
    length = (base.last - base.first).days + 1
    if length < 7:
        return None
    if what in ("half", "quarter"):
        if what == "quarter" or place not in (0, 1, -1):
            return None
        return days.part(base, "first" if place == 0 else "second")
    if what in ("week", "few days", "days"):
        first = days.moved(base.last, -6) if place < 0 else days.moved(base.first, 7 * place)
        return Days(first, min(days.moved(first, 6), base.last), base.year_known, 3) if first <= base.last else None
    weekday = 5 if what == "weekend" else WEEKDAY[what]
    if place < 0:
        first = days.weekday_before(days.moved(base.last, 1), weekday)
    else:
        first = days.moved(days.weekday_from(base.first, weekday), 7 * place)
    if first > base.last:
        return None
    return Days(first, days.moved(first, 1 if what == "weekend" else 0), base.year_known)


def _nth_of_month(match: Match, anchor: date) -> Days | None:
    """A day by number alone ("on the 15th"): of this month when that is past, else of the one before."""
    if not preceded(match, ON) or not preceded(match, THE):
        return None
    for back in range(3):
        there = days.months_moved(anchor, -back)
        found = days.day_of(there.year, there.month, int(match["day"]))
        if found and found.first <= anchor:
            return found
    return None


RULES: list[tuple[str, Rule]] = [
    ("today tonight yesterday tomorrow tmrw", Relative(pattern(r"(?:today|tonight|yesterday|tomorrow|tmrw)\b" + PART),
                                                       _day_word)),
    ("day", Relative(pattern(rf"day{S}(?:before{S}yesterday|after{S}tomorrow)\b"), _day_beyond)),
    ("week weekend month year", Relative(pattern(rf"(?P<what>week|weekend|month|year){S}before{S}last\b"),
                                         _before_last)),
    ("first second third fourth last final", Leading(
        pattern(rf"(?P<nth>first|second|third|fourth|last|final){S}(?P<what>half|weekend|week|few{S}days|{DOW})"
                rf"{S}(?:of|in){S}(?:the{S})?"), _piece)),
    ("last past next these previous coming", Relative(pattern(rf"{THESE}{S}{AMOUNT}"), _last_few)),
    ("last this next past previous coming upcoming", Relative(pattern(
        rf"{WHICH_WORDS}{S}{WHAT}(?!\s\d|[-’']?\w*-old){PART}"), _which, leans=0)),
    ("day night evening morning week weekend month year " + WEEKDAY_WORDS, Leading(
        pattern(rf"(?P<what>day|night|evening|morning|weekend|week|month|year|{DOW}){S}" + SIDE % "|of"),
        _named_from_base)),
    ("week month year", Relative(pattern(r"(?:week|month|year)\b"), _of_the)),
    (NUMBER_WORDS, Leading(pattern(AMOUNT + S + SIDE % ""), _from_base)),
    (NUMBER_WORDS, Relative(pattern(rf"{AMOUNT}{S}(?:ago\b(?P<same>{S}today\b)?|"
                                    rf"back\b(?!{S}(?:to|in|on|and)\b)|prior\b(?!{S}to))"),
                            _ago)),
    (NUMBER_WORDS, Relative(pattern(rf"{AMOUNT}{S}from{S}(?:now|today)\b"), _ahead)),
    ("in within", Relative(pattern(rf"(?:in|within){S}(?:(?:about|just|another|only){S})?{AMOUNT}"
                                   rf"(?:['’]?{S}time)?(?!{S}(?:of|ago)\b)"), _in_amount)),
    ("recently lately nowadays", Relative(pattern(r"(?:recently|lately|nowadays)\b"), _recently, leans=60)),
    ("these", Relative(pattern(rf"these{S}(?:past{S}|last{S})?days\b"), _recently)),
    ("other", Relative(pattern(rf"other{S}(?P<what>day|night|weekend|week|evening|morning)\b"), _other_day)),
    ("earlier later", Relative(pattern(rf"(?P<way>earlier|later){S}(?:this{S})?(?P<what>week|month|year|today)\b"),
                               _so_far)),
    ("over during for", Relative(pattern(rf"(?P<way>over|during|for){S}the{S}(?P<what>weekend|{SEASON})"
                                         rf"(?!{S}(?:of|before|after)\b|\s\d)"), _over)),
    (WEEKDAY_WORDS, Leading(pattern(rf"{DOW}\.?,?{S}(?:the{S})?"), _weekday_of_date)),
    (WEEKDAY_WORDS, Relative(pattern(rf"({DOW}){PART}"), _weekday)),
    (DIGITS, Relative(pattern(
        rf"(?P<day>\d{{1,2}}){ORDINAL}(?=\s?[,.;!?)]|\s?\Z|{S}(?:after|before|at|in|and|with|when|because|we|i|he|she|"
        r"they|it|so|but|from|was)\b)"), _nth_of_month)),
]  # fmt: skip
