"""How Chinese says days: the rules for 昨天, 上周五, 去年5月, 三天前, 5月2号 and holidays with a fixed date.

Knows nothing of the text around a match but its nearest characters. Lunar days (春节, 中秋, 正月) are not read. Numbers
are written in digits, full-width digits or characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from memos_mcp.plaintext.dates import days
from memos_mcp.plaintext.dates.days import Days
from memos_mcp.plaintext.dates.rules import DIGITS, Absolute, Match, Relative, Rule, table

HOLIDAYS = {
    "元旦": (1, 1, 1), "情人节": (2, 14, 14), "妇女节": (3, 8, 8), "愚人节": (4, 1, 1), "五一": (5, 1, 5),
    "劳动节": (5, 1, 1), "青年节": (5, 4, 4), "六一": (6, 1, 1), "儿童节": (6, 1, 1), "建党节": (7, 1, 1),
    "建军节": (8, 1, 1), "教师节": (9, 10, 10), "国庆": (10, 1, 7), "国庆节": (10, 1, 1), "十一": (10, 1, 7),
    "万圣节": (10, 31, 31), "双十一": (11, 11, 11), "双11": (11, 11, 11), "平安夜": (12, 24, 24),
    "圣诞": (12, 25, 25), "圣诞节": (12, 25, 25), "跨年夜": (12, 31, 31),
}  # fmt: skip
"""Month, first day and last day; the short names of a holiday stand for the whole days off."""
_DIGIT = {character: i for i, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_WEEKDAY = {character: i for i, character in enumerate("一二三四五六日")} | {"天": 6}
_SEASON = {"春": "spring", "夏": "summer", "秋": "autumn", "冬": "winter"}
_PART = {"初": "early", "头": "early", "上旬": "early", "中": "mid", "中旬": "mid", "底": "late", "末": "late",
         "尾": "late", "下旬": "late", "上半年": "first", "下半年": "second"}  # fmt: skip
_UNITS = {"天": "day", "日": "day", "晚": "day", "周": "week", "星期": "week", "礼拜": "week", "周末": "weekend",
          "月": "month", "年": "year", "小时": "hour", "钟头": "hour", "分钟": "hour"}  # fmt: skip

_N = r"(?:\d{1,9}|[〇零一二三四五六七八九十两百]{1,5})"
_NN = r"(?:\d{1,2}(?!\d)|[一二三四五六七八九十]{1,3})"
_WEEK = r"(?:周|星期|礼拜)"
_UNIT = r"(?P<unit>周末|天|日|晚|周|星期|礼拜|月|年|小时|钟头|分钟)"
_NOT_TOGETHER = r"(?![起直些样共般定]|下(?!午))"
_NOT_COUNTED = r"(?![次个位名只条件本种场遍杯顿])"
_OF_MONTH = (
    rf"(?:\s?(?P<day>{_NN})\s?(?:[号日]|(?=\s?[-–~—至到]\s?{_NN}\s?[号日]))(?:\s?[-–~—至到]\s?(?P<until>{_NN})\s?[号日])?|"
    r"(?P<part>上旬|中旬|下旬|初|底|末|中(?!国|心|文|医|学|间|的)|头|尾))?"
)
_HOURS = r"(?:早上|早晨|上午|中午|下午|傍晚|晚上|夜里|凌晨|深夜|晚|早)?"


def number(written: str) -> int:
    """What a number means: "12", "１２", 十二, 二十三, 一百二, 二〇二三."""
    if written[0].isdigit() and written.isdecimal():
        return int(written)
    if not set(written) & set("十百"):
        return int("".join(str(_DIGIT[character]) for character in written))
    total, last = 0, 0
    for character in written:
        scale = {"十": 10, "百": 100}.get(character)
        if scale:
            total, last = total + (last or 1) * scale, 0
        else:
            last = _DIGIT[character]
    return total + last


def _full_year(written: str) -> int:
    year = number(written)
    return year if len(written) > 2 else year + (2000 if year < 70 else 1900)


def _ends(read: Days | None, which: str | None) -> Days | None:
    return days.part(read, _PART[which]) if read and which else read


def _in_month(year: int, month: int, match: Match) -> Days | None:
    """A month, or the day or third of it that the match names."""
    if match["day"]:
        first = days.day_of(year, month, number(match["day"]))
        last = days.day_of(year, month, number(match["until"])) if match["until"] else first
        return Days(first.first, last.last) if first and last and first.first <= last.last else None
    return _ends(days.month_of(year, month), match["part"])


def _shifted(shift: int) -> Callable[[Match, date], Days]:
    return lambda match, anchor: days.one(days.moved(anchor, shift))


def _sign(word: str) -> int:
    return {"上上": -2, "上": -1, "下": 1, "下下": 2}.get(word, 0)


def _week(match: Match, anchor: date) -> Days:
    week = days.week_around(days.moved(anchor, 7 * _sign(match["which"])))
    day = match["weekday"]
    if not day:
        return week
    if day == "末":
        return days.weekend_around(week.first)
    return days.one(days.moved(week.first, _WEEKDAY[day] if day in _WEEKDAY else int(day) - 1))


def _weekday(match: Match, anchor: date) -> Days:
    return days.one(days.weekday_before(anchor, _WEEKDAY[match[1]]))


def _month(match: Match, anchor: date) -> Days | None:
    there = days.months_moved(anchor.replace(day=1), _sign(match["which"]))
    return _in_month(there.year, there.month, match)


_YEARS = {"大前年": -3, "前年": -2, "去年": -1, "上一年": -1, "今年": 0, "本年": 0, "明年": 1, "后年": 2}


def _year(match: Match, anchor: date) -> Days | None:
    return _of_year(anchor.year + _YEARS[match["which"]], match)


def _this_month(match: Match, anchor: date) -> Days | None:
    return _ends(days.month_of(anchor.year, anchor.month), match["part"])


def _this_year(match: Match, anchor: date) -> Days | None:
    return _ends(days.year_of(anchor.year), match["third"])


def _of_year(year: int, match: Match) -> Days | None:
    if match["month"]:
        return _in_month(year, number(match["month"]), match)
    if match["season"]:
        return days.season_of(year, _SEASON[match["season"]])
    if match["holiday"]:
        return _holiday_in(match["holiday"], year)
    return _ends(days.year_of(year), match["third"])


def _holiday_in(name: str, year: int) -> Days | None:
    month, first, last = HOLIDAYS[name]
    start, end = days.day_of(year, month, first), days.day_of(year, month, last)
    return Days(start.first, end.last) if start and end else None


def _dated(match: Match, anchor: date | None) -> Days | None:
    return _of_year(_full_year(match["year"]), match)


def _undated(match: Match, anchor: date | None) -> Days | None:
    return days.nearest(lambda year: _in_month(year, number(match["month"]), match), anchor)


def _holiday(match: Match, anchor: date | None) -> Days | None:
    return days.nearest(lambda year: _holiday_in(match["holiday"], year), anchor)


def _day_alone(match: Match, anchor: date) -> Days | None:
    """5号 alone: of this month when that is past, else of the one before."""
    for back in range(3):
        there = days.months_moved(anchor, -back)
        found = days.day_of(there.year, there.month, number(match["day"]))
        if found and found.first <= anchor:
            return found
    return None


def _decade(match: Match, anchor: date | None) -> Days | None:
    start = number(match[1])
    return days.years_of(1900 + start, 1909 + start) if start % 10 == 0 and start >= 30 else None


def _amount(written: str, unit: str, half: bool, sign: int, day: date, vague: int = 0) -> Days:
    if written == "半":
        whole = {"年": ("month", 6), "月": ("day", 15), "天": ("day", 0)}.get(unit, ("hour", 0))
        return days.unit_moved(whole[0], sign * whole[1], day, 1)
    if half and unit in ("年", "月"):
        smaller = ("month", 12) if unit == "年" else ("day", 30)
        return days.unit_moved(smaller[0], sign * (number(written) * smaller[1] + smaller[1] // 2), day, 1)
    if written in ("几", "好几", "数", "些"):
        return days.unit_moved(_UNITS[unit], sign * 3, day, 2 if unit in ("天", "日") else 1)
    return days.unit_moved(_UNITS[unit], sign * number(written), day, vague)


def _ago(match: Match, anchor: date) -> Days | None:
    written, unit = match["n"], match["unit"]
    if unit == "年" and written.isdecimal() and 1800 <= int(written) < 2200:
        return None
    if match["same"] and unit in ("年", "月") and _is_number(written):
        count = number(written) * (12 if unit == "年" else 1)
        return days.one(days.months_moved(anchor, -count if match["side"] == "前" else count))
    vague = max(1, number(written) // 10) if match["more"] and _is_number(written) else 0
    return _amount(written, unit, bool(match["half"]), -1 if match["side"] == "前" else 1, anchor, vague)


def _is_number(written: str) -> bool:
    return written[0].isdigit() or all(character in _DIGIT or character in "十百" for character in written)


def _past_few(match: Match, anchor: date) -> Days:
    """前几天, 这几天, 最近三个月: the days up to the anchor."""
    written, unit = match["n"], _UNITS[match["unit"]]
    count, vague = (number(written), 0) if _is_number(written) else (3, 1)
    if unit == "day" and match["way"] == "前":
        return Days(days.moved(anchor, -max(count, 2) - 3), days.moved(anchor, -2), slack=3)
    sign = 1 if match["way"] in ("未来", "接下来", "下") else -1
    if unit == "day" and vague:
        return Days(min(days.moved(anchor, 4 * sign), anchor), max(days.moved(anchor, 4 * sign), anchor), slack=3)
    return days.stretch(unit, sign * count, anchor, vague)


def _recently(match: Match, anchor: date) -> Days:
    return Days(days.moved(anchor, -30), anchor, slack=30)


def counted_from(match: Match, base: Days) -> Days | None:
    """The days that are so far before or after these."""
    after = match["side"] == "后"
    read = _amount(match["n"], match["unit"], False, 1 if after else -1, base.last if after else base.first)
    return Days(read.first, read.last, base.year_known, read.slack)


_HOLIDAY = (
    r"(?P<holiday>元旦|情人节|妇女节|愚人节|劳动节|青年节|儿童节|建党节|建军节|教师节|国庆节|万圣节|双十一|双11|平安夜|圣诞节|跨年夜|"
    r"圣诞(?!树|老人|礼物|歌|帽|卡|装|节)|国庆(?=长假|假期|期间|黄金周|那|的时候|前|后|去|放假)|五一(?=假期|期间|长假|小长假|放假|劳动节|那|前|后)|"
    r"六一(?=儿童节|那|前|后)|十一(?=假期|长假|黄金周|小长假|期间|放假))"
)
_REST = (
    rf"(?:的?(?:\s?(?P<month>{_NN})\s?月份?{_OF_MONTH}|年?(?P<third>初|底|末|中旬?|尾|[上下]半年)|(?P<season>[春夏秋冬])[天季]|"
    rf"{_HOLIDAY}))?"
)
_TO_YEAR = r"(?![级款版代轻龄纪])"
_NUMBERS = "〇 零 一 二 三 四 五 六 七 八 九 十 两 " + DIGITS


def _compiled(source: str) -> re.Pattern[str]:
    return re.compile(source)


RULES: list[tuple[str, Rule]] = [
    ("今", Relative(_compiled(rf"今(?:天|日|儿|晚|早|晨|夜){_HOURS}"), _shifted(0))),
    ("昨", Relative(_compiled(rf"昨(?:天|日|儿|晚|夜|早|晨){_HOURS}"), _shifted(-1))),
    ("大", Relative(_compiled(rf"大前[天日]{_HOURS}"), _shifted(-3))),
    ("大", Relative(_compiled(rf"大后[天日]{_HOURS}"), _shifted(3))),
    ("前", Relative(_compiled(rf"(?<![之以提目])前(?:天(?![气空才])|日|晚){_HOURS}"), _shifted(-2))),
    ("明", Relative(_compiled(rf"(?<![聪透文光鲜])明(?:天(?![气空才])|日|晚|早|儿){_HOURS}"), _shifted(1))),
    ("后", Relative(_compiled(rf"(?<![之以今然最随背])后天(?![气空才]){_HOURS}"), _shifted(2))),
    ("上 这 本 下", Relative(_compiled(
        rf"(?<![晚早网路马身线])(?P<which>上上|下下|上|这|本|下)一?个?{_WEEK}"
        rf"(?P<weekday>末|(?:一{_NOT_TOGETHER}|[二三四五六]){_NOT_COUNTED}|日(?![本常子程语元])|天(?![气空津])|[1-6](?!\d){_NOT_COUNTED})?"
        r"(?!岁|边|围)"), _week)),
    ("上 这 本 下", Relative(_compiled(
        rf"(?<![晚早网路马身线])(?P<which>上上|下下|上|这|本|下)一?个?月(?!球|亮|饼)份?{_OF_MONTH}"), _month)),
    ("月", Relative(_compiled(r"(?<![每个])月(?P<part>初|底|末|中旬|上旬|下旬)"), _this_month)),
    ("年", Relative(_compiled(r"(?<![每些多])年(?P<third>初|底|末)"), _this_year)),
    ("大 前 去 上 今 本 明 后", Relative(_compiled(
        rf"(?<![之以目年])(?P<which>大前年|前年|去年|上一年|今年|本年|明年|后年){_TO_YEAR}{_REST}"), _year)),
    (_NUMBERS, Absolute(_compiled(
        rf"(?<![\d.])(?P<year>\d{{4}}|[一二][〇零一二三四五六七八九]{{3}})\s?年(?![前级款版]|以前|之前|以后|之后|来){_REST}"),
        _dated)),
    (_NUMBERS, Absolute(_compiled(
        rf"(?<![\d.])(?P<year>\d{{2}}|[〇零一二九][〇零一二三四五六七八九])年"
        rf"(?=(?:\d|[一二三四五六七八九十]){{1,2}}月){_REST}"), _dated)),
    (_NUMBERS, Absolute(_compiled(
        rf"(?<![\d.])(?P<month>{_NN})\s?月(?![球亮饼薪租供]|\s?[河光]|一[次度])份?{_OF_MONTH}"), _undated)),
    (_NUMBERS, Relative(_compiled(rf"(?<=[在于到从自])(?P<day>{_NN})[号日](?![线楼门店机车房桌选元码院])"),
                        _day_alone)),
    (_NUMBERS, Relative(_compiled(rf"(?<!\d)(?P<day>{_NN})[号日](?=那天|早上|上午|中午|下午|晚上|当天)"), _day_alone)),
    (_NUMBERS + " 半 几 好 数", Relative(_compiled(
        rf"(?<![第\d.])(?P<n>{_N}|半|好几|几|数)(?P<more>多|来)?个?(?P<half>半)?个?{_UNIT}多?(?:之|以)?"
        rf"(?P<side>前(?![台面往进景途端天])|后(?![来面续台]))(?P<same>的今天)?"), _ago)),
    ("前 这 最 过 近 未 接", Relative(_compiled(
        r"(?P<way>前(?=[几两些好])|这(?!一[天日晚年])|最近|过去|(?<!附)近|未来|接下来)的?这?"
        rf"(?P<n>{_N}|几|些|好几)个?{_UNIT}(?![次遍])"), _past_few)),
    ("最", Relative(_compiled(r"最近(?!的?(?:地铁|车站|医院|超市|餐|路|距离|邻))"), _recently)),
    ("近", Relative(_compiled(r"近(?:日|来|期)"), _recently)),
    ("前 这", Relative(_compiled(r"(?:前阵子|前段时间|前些[天日]子?|前一阵|前一段时间|这阵子|这段时间)"), _recently)),
    ("周 星 礼", Relative(_compiled(
        rf"(?<![一二三四五六七八九十两几每半个数整\d到至是])(?<!今天)(?:周|星期|礼拜)(一{_NOT_TOGETHER}|[二三四五六日天])"
        rf"(?!\s?[至到\-~—、]|[本常子程语元遍气空津]){_NOT_COUNTED}{_HOURS}"), _weekday)),
    (_NUMBERS, Absolute(_compiled(r"([3-9]0|[三四五六七八九]十)年代"), _decade)),
    ("元 情 妇 愚 劳 青 儿 建 教 国 万 双 平 圣 跨 五 六 十", Absolute(
        _compiled(_HOLIDAY + r"(?:劳动节|儿童节)?"), _holiday)),
]  # fmt: skip

QUALIFIER = _compiled(r"(?P<way>大约|大概|差不多)(?:是|在)?\Z")
"""Stands right before a phrase and blurs its days."""
FOLLOWING = _compiled(rf"[的之]?(?:那天的?)?(?P<side>前|后)(?P<n>{_N})个?(?P<unit>天|日|周末|周|星期|礼拜|月|年)")
"""Counts from the days before it: 5月2号前三天."""
TABLE = table(RULES)
