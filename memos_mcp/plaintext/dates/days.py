"""Arithmetic over ranges of calendar days: months, weeks, seasons, the nearest such day; saturating, never raising.

Knows nothing of texts or languages. Weeks run from Monday to Sunday; seasons are those of the northern hemisphere,
by whole months; what would leave the years 1 to 9999 stops at their ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

YEARLESS = 2000
"""The year of a day whose year is unknown when there is nothing to be near to; a leap year."""
SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}
"""The month in which each begins; it lasts three."""
_LAST = date.max.toordinal()
_FUTURE_WEIGHT = 2
"""A day ahead must be less than half as far as the one behind to be the nearest: people mostly tell what was."""


@dataclass(frozen=True, slots=True)
class Days:
    """An inclusive range of days, and how sure it is.

    `slack`: days by which either end may be off (0: exactly this range). `year_known`: false for "May 2", whose year
    is a guess.
    """

    first: date
    last: date
    year_known: bool = True
    slack: int = 0


Yearly = Callable[[int], Days | None]
"""What comes back every year: its days in a year, or nothing in a year that has no such day."""


def one(day: date, slack: int = 0) -> Days:
    """A single day."""
    return Days(day, day, slack=slack)


def day_of(year: int, month: int, day: int) -> Days | None:
    """That day; nothing when the calendar has none such."""
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= _length(year, month)):
        return None
    return one(date(year, month, day))


def month_of(year: int, month: int) -> Days | None:
    """That whole month."""
    if not (1 <= year <= 9999 and 1 <= month <= 12):
        return None
    return Days(date(year, month, 1), date(year, month, _length(year, month)))


def year_of(year: int) -> Days | None:
    """That whole year."""
    return Days(date(year, 1, 1), date(year, 12, 31)) if 1 <= year <= 9999 else None


def years_of(first: int, last: int) -> Days | None:
    """From the first day of one year to the last of another."""
    start, end = year_of(first), year_of(last)
    return Days(start.first, end.last) if start and end and start.first <= end.last else None


def season_of(year: int, name: str) -> Days | None:
    """The season that begins in that year; winter ends in the next."""
    start = month_of(year, SEASONS[name])
    end = month_of(year + 1, 2) if name == "winter" else month_of(year, SEASONS[name] + 2)
    return Days(start.first, end.last) if start and end else None


def moved(day: date, count: int) -> date:
    """So many days later (earlier when negative), at most to the ends of the calendar."""
    return date.fromordinal(min(max(day.toordinal() + count, 1), _LAST))


def months_moved(day: date, count: int) -> date:
    """The same day so many months later, or the last of a shorter month."""
    months = min(max(day.year * 12 + day.month - 1 + count, 12), 9999 * 12 + 11)
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day.day, _length(year, month + 1)))


def week_around(day: date) -> Days:
    """Monday to Sunday around that day."""
    monday = moved(day, -day.weekday())
    return Days(monday, moved(monday, 6))


def weekend_around(day: date) -> Days:
    """Saturday and Sunday of that day's week."""
    return Days(moved(day, 5 - day.weekday()), moved(day, 6 - day.weekday()))


def weekday_before(day: date, weekday: int) -> date:
    """The nearest such weekday (Monday is 0) strictly before that day."""
    return moved(day, -((day.weekday() - weekday - 1) % 7 + 1))


def weekday_from(day: date, weekday: int) -> date:
    """The nearest such weekday on or after that day."""
    return moved(day, (weekday - day.weekday()) % 7)


def unit_moved(unit: str, count: int, day: date, vague: int = 0) -> Days:
    """So many units from that day: exact for days, ever wider for longer units, whose counts are seldom meant exactly.

    `unit`: hour, day, weekend, week, month, year or decade. `vague`: by how many units more the count may be off.
    """
    if unit == "hour":
        return one(day)
    if unit == "day":
        return one(moved(day, count), slack=vague)
    if unit == "weekend":
        return replace(weekend_around(moved(day, count * 7)), slack=7 * vague)
    if unit == "week":
        return one(moved(day, count * 7), slack=3 + 7 * vague)
    if unit == "month":
        there = months_moved(day, count)
        return replace(_surely(month_of(there.year, there.month), there), slack=10 + 30 * vague)
    years = count * (10 if unit == "decade" else 1)
    slack = (90 if unit == "year" else 730) + (365 if unit == "year" else 3650) * vague
    there = months_moved(day, years * 12)
    return replace(_surely(year_of(there.year), there), slack=slack)


def stretch(unit: str, count: int, day: date, vague: int = 0) -> Days:
    """From that day as far as so many units reach, ahead or (negative) back."""
    reach = unit_moved(unit, count, day, vague)
    far = {"month": months_moved(day, count), "year": months_moved(day, count * 12)}.get(unit)
    if far is None:
        far = reach.first if count < 0 else reach.last
    return Days(min(far, day), max(far, day), slack=reach.slack if vague else 0)


def nearest(yearly: Yearly, anchor: date | None) -> Days | None:
    """What comes back every year, where it is nearest to the anchor; a day ahead counts twice as far as one behind.

    Without an anchor: in the year 2000.
    """
    if anchor is None:
        found = yearly(YEARLESS)
    else:
        close = [days for gap in (0, -1, 1) if (days := yearly(anchor.year + gap))]
        if len(close) < 3:  # the 29th of February, or the ends of the calendar
            close += [days for gap in range(-8, 9) if (days := yearly(anchor.year + gap))]
        found = min(close, key=lambda days: _distance(days, anchor), default=None)
    return replace(found, year_known=False) if found else None


def named(which: str, yearly: Yearly, anchor: date) -> Days | None:
    """`last`: it ended before the anchor. `next`: it begins after. `past`: it began. `this`: of the anchor's year.

    A season that began in the former year and still lasts is this one.
    """
    around = [days for year in range(anchor.year - 8, anchor.year + 9) if (days := yearly(year))]
    if which == "last":
        return max((days for days in around if days.last < anchor), key=_first, default=None)
    if which == "past":
        return max((days for days in around if days.first <= anchor), key=_first, default=None)
    if which == "next":
        return min((days for days in around if days.first > anchor), key=_first, default=None)
    lasting = [days for days in around if days.first <= anchor <= days.last]
    return lasting[0] if lasting else yearly(anchor.year)


def part(days: Days, which: str) -> Days:
    """The `early`, `mid` or `late` third of a range, or its `first` or `second` half; shorter than a week: itself.

    The parts of a year are whole months.
    """
    count = (days.last - days.first).days + 1
    if count < 7:
        return days
    pieces, place = {"early": (3, 0), "mid": (3, 1), "late": (3, 2), "first": (2, 0), "second": (2, 1)}[which]
    slack = max(days.slack, 0 if pieces == 2 else count // 10)
    if year_of(days.first.year) == Days(days.first, days.last):
        start, end = (month_of(days.first.year, 12 // pieces * n + d) for n, d in ((place, 1), (place + 1, 0)))
        first, last = _surely(start, days.first).first, _surely(end, days.last).last
    else:
        first = moved(days.first, count * place // pieces)
        last = moved(days.first, count * (place + 1) // pieces - 1)
    return replace(days, first=first, last=last, slack=slack)


def about(days: Days) -> Days:
    """The same range, meant roughly: off by half its length, by three days at least."""
    return replace(days, slack=max(days.slack, 3, ((days.last - days.first).days + 1) // 2))


def _length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _surely(days: Days | None, day: date) -> Days:
    return days or one(day)


def _first(days: Days) -> date:
    return days.first


def _distance(days: Days, anchor: date) -> int:
    if days.first > anchor:
        return (days.first - anchor).days * _FUTURE_WEIGHT
    return max((anchor - days.last).days, 0)
