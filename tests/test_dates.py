"""Days in texts: what is read, what is left alone, and what holds for any text."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memos_mcp.plaintext.dates import MAX_CHARACTERS, MAX_MENTIONS, Span, is_temporal_question, mentions, time_phrase
from memos_mcp.plaintext.dates.english_words import HOLIDAYS, MONTH_NAMES, WEEKDAY_NAMES

MONDAY = date(2023, 5, 8)


def days(text: str, anchor: date | None = MONDAY) -> str:
    """The days of the only mention: "2023-05-02", or "2023-05-01..2023-05-31"."""
    found = mentions(text, anchor)
    assert len(found) == 1, found
    first, last = found[0].first.isoformat(), found[0].last.isoformat()
    return first if first == last else f"{first}..{last}"


def only(text: str) -> Span:
    """The only mention of a text."""
    found = mentions(text, MONDAY)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I saw it today", "2023-05-08"),
        ("we met yesterday evening", "2023-05-07"),
        ("dinner tonight?", "2023-05-08"),
        ("the party last night", "2023-05-07"),
        ("see you tomorrow", "2023-05-09"),
        ("the day before yesterday it broke", "2023-05-06"),
        ("back the day after tomorrow", "2023-05-10"),
        ("this morning it rained", "2023-05-08"),
        ("sold it last week", "2023-05-01..2023-05-07"),
        ("this week is full", "2023-05-08..2023-05-14"),
        ("next week then", "2023-05-15..2023-05-21"),
        ("the week before last", "2023-04-24..2023-04-30"),
        ("last weekend was wet", "2023-05-06..2023-05-07"),
        ("anything over the weekend?", "2023-05-06..2023-05-07"),
        ("plans for the weekend?", "2023-05-13..2023-05-14"),
        ("last month", "2023-04-01..2023-04-30"),
        ("next year", "2024-01-01..2024-12-31"),
        ("last Friday we won", "2023-05-05"),
        ("next Fri works", "2023-05-19"),
        ("this Friday works", "2023-05-12"),
        ("on Friday we won", "2023-05-05"),
        ("send it by Friday", "2023-05-12"),
        ("moved here last May", "2022-05-01..2022-05-31"),
        ("last summer in Turin", "2022-06-01..2022-08-31"),
        ("three days ago", "2023-05-05"),
        ("3 years ago", "2020-01-01..2020-12-31"),
        ("three years ago today", "2020-05-08"),
        ("two weekends ago", "2023-04-29..2023-04-30"),
        ("ready in two days", "2023-05-10"),
        ("later this month", "2023-05-08..2023-05-31"),
        ("by the end of the month", "2023-05-21..2023-05-31"),
        ("on the 5th, after work", "2023-05-05"),
        ("on the 15th, after work", "2023-04-15"),
        ("the past two months", "2023-03-08..2023-05-08"),
    ],
)
def test_english_phrases_are_seen_from_the_anchor(text: str, expected: str) -> None:
    assert days(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("May 2, 2021", "2021-05-02"),
        ("2 May 2021", "2021-05-02"),
        ("May 2nd, 2021", "2021-05-02"),
        ("the 2nd of May, 2021", "2021-05-02"),
        ("Sunday, May 2, 2021", "2021-05-02"),
        ("May 2-5, 2021", "2021-05-02..2021-05-05"),
        ("from May 2 to 5 June 2021", "2021-05-02..2021-06-05"),
        ("2021-05-02", "2021-05-02"),
        ("2021-05-02T10:30:00Z", "2021-05-02"),
        ("2021/5/2", "2021-05-02"),
        ("2021-05", "2021-05-01..2021-05-31"),
        ("5/2/2021", "2021-05-02"),
        ("5/2/21", "2021-05-02"),
        ("13/2/2021", "2021-02-13"),
        ("2.5.2021", "2021-05-02"),
        ("May 2021", "2021-05-01..2021-05-31"),
        ("in 2021", "2021-01-01..2021-12-31"),
        ("since 2016", "2016-01-01..2016-12-31"),
        ("between 2016 and 2018", "2016-01-01..2018-12-31"),
        ("in the 90s", "1990-01-01..1999-12-31"),
        ("in the 1980s", "1980-01-01..1989-12-31"),
        ("early June 2021", "2021-06-01..2021-06-10"),
        ("mid-July 2021", "2021-07-11..2021-07-20"),
        ("the end of March 2021", "2021-03-21..2021-03-31"),
        ("summer of 2021", "2021-06-01..2021-08-31"),
        ("winter 2021", "2021-12-01..2022-02-28"),
        ("the second week of May 2021", "2021-05-08..2021-05-14"),
        ("first half of September 2022", "2022-09-01..2022-09-15"),
        ("Q2 2021", "2021-04-01..2021-06-30"),
        ("Christmas 2021", "2021-12-25"),
        ("New Year's Eve 2021", "2021-12-31"),
        ("the week before 9 June 2023", "2023-06-02..2023-06-08"),
        ("the weekend before 9 June 2023", "2023-06-03..2023-06-04"),
        ("the Sunday before 9 June 2023", "2023-06-04"),
        ("two weeks before August 11, 2023", "2023-07-28"),
        ("two days after 3 May 2021", "2021-05-05"),
        ("last weekend before April 10, 2023", "2023-04-08..2023-04-09"),
    ],
)
def test_english_dates_need_no_anchor(text: str, expected: str) -> None:
    assert days(text) == expected
    assert days(text, None) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天很忙", "2023-05-08"),
        ("昨天下雨了", "2023-05-07"),
        ("昨晚看了电影", "2023-05-07"),
        ("前天", "2023-05-06"),
        ("大前天", "2023-05-05"),
        ("明天见", "2023-05-09"),
        ("后天出发", "2023-05-10"),
        ("上周去爬山", "2023-05-01..2023-05-07"),
        ("上周五开会", "2023-05-05"),
        ("下个星期天", "2023-05-21"),
        ("上周末去钓鱼", "2023-05-06..2023-05-07"),
        ("上个月", "2023-04-01..2023-04-30"),
        ("上个月5号", "2023-04-05"),
        ("本月底交稿", "2023-05-21..2023-05-31"),
        ("去年搬家", "2022-01-01..2022-12-31"),
        ("去年五月", "2022-05-01..2022-05-31"),
        ("去年夏天", "2022-06-01..2022-08-31"),
        ("前年", "2021-01-01..2021-12-31"),
        ("今年上半年", "2023-01-01..2023-06-30"),
        ("月底交稿", "2023-05-21..2023-05-31"),
        ("这个星期六下午", "2023-05-13"),
        ("上周一下午", "2023-05-01"),
        ("5年前的今天", "2018-05-08"),
        ("2021年5月2日至5日", "2021-05-02..2021-05-05"),
        ("2021年5月2-5日", "2021-05-02..2021-05-05"),
        ("三天前", "2023-05-05"),
        ("十二天前", "2023-04-26"),
        ("五年前", "2018-01-01..2018-12-31"),
        ("两个月后", "2023-07-01..2023-07-31"),
        ("2021年5月2日", "2021-05-02"),
        ("2021 年 5 月 2 日", "2021-05-02"),
        ("二〇二一年五月", "2021-05-01..2021-05-31"),
        ("２０２１年５月２日", "2021-05-02"),
        ("2021年", "2021-01-01..2021-12-31"),
        ("2021年4月底", "2021-04-21..2021-04-30"),
        ("星期三去游泳", "2023-05-03"),
        ("周三去游泳", "2023-05-03"),
        ("2021年国庆节", "2021-10-01"),
        ("九十年代", "1990-01-01..1999-12-31"),
        ("2021年5月2日的前一天", "2021-05-01"),
    ],
)
def test_chinese_phrases_are_read(text: str, expected: str) -> None:
    assert days(text) == expected


@pytest.mark.parametrize(
    ("text", "month", "day"),
    [("on May 2", 5, 2), ("2 May", 5, 2), ("5月2号", 5, 2), ("五月二号", 5, 2), ("十二月二十五日", 12, 25),
     ("Halloween", 10, 31), ("元旦", 1, 1), ("情人节", 2, 14)],
)  # fmt: skip
def test_a_day_without_a_year_is_the_nearest_and_says_so(text: str, month: int, day: int) -> None:
    found = only(text)
    assert (found.first.month, found.first.day, found.year_known) == (month, day, False)
    assert abs((found.first - MONDAY).days) < 366
    assert mentions(text, None)[0].first == date(2000, month, day)


def test_of_days_without_a_year_the_past_is_preferred() -> None:
    assert only("December 25").first == date(2022, 12, 25)
    assert only("June 2").first == date(2023, 6, 2)
    assert only("October 1").first == date(2022, 10, 1)


def test_a_leap_day_is_taken_to_the_nearest_leap_year() -> None:
    assert only("February 29").first == date(2024, 2, 29)
    assert mentions("Feb 29, 2023", MONDAY) == []


@pytest.mark.parametrize(
    "text",
    ["2023 steps", "in 2000 words", "version 5.2.1", "v2023.05.1", "$2023", "call 555-2023-1234", "24/7", "1/2 cup",
     "10:30",
     "it may rain", "May I come?", "you may 2 times", "they march on", "I sat in the sun", "second try",
     "in the fall he",
     "Cyberpunk 2077", "in my 20s", "a Christmas tree", "every Friday", "on Fridays", "in the 4th quarter", "game 7",
     "from 1500 to 2000 calories", "haven't talked in a few days", "第二", "1号线", "13月",
     "2月30号", "一周三次", "一月一次",
     "周一到周五",
     "每周三", "聪明天才", "之前天气", "圣诞树", "张国庆", "十一个人", "12个月", "晚上月亮", "第三天前", "2年级",
     "Feb 30", "Feb 30, 2021", "32 May", "2023-13-01", "2023-02-30", "13/13/2023", "May 0", "0/0/0000", "0000-01-01",
     ""],
)  # fmt: skip
def test_what_only_looks_like_a_date_is_none(text: str) -> None:
    assert mentions(text, MONDAY) == []


@pytest.mark.parametrize(
    ("text", "phrase"), [("下周天气", "下周"), ("上周日本队赢了", "上周"), ("上周一起吃饭", "上周")]
)
def test_a_chinese_week_is_not_taken_for_a_weekday_by_the_next_word(text: str, phrase: str) -> None:
    found = only(text)
    assert text[found.start : found.end] == phrase
    assert (found.last - found.first).days == 6


@pytest.mark.parametrize(
    "text", ["a few days ago", "around May 2", "two weeks ago", "about a year ago", "recently", "the other day",
             "几天前", "最近",
             "大约三年前", "early June"],
)  # fmt: skip
def test_vague_phrases_have_slack(text: str) -> None:
    found = only(text)
    assert not found.exact
    assert found.slack > 0


@pytest.mark.parametrize("text", ["yesterday", "last week", "May 2, 2021", "3 days ago", "昨天", "2021年5月"])
def test_exact_phrases_have_none(text: str) -> None:
    assert only(text).exact


def test_recently_beside_a_date_is_seen_from_that_date() -> None:
    recently, day = mentions("What did she recently read on October 6, 2022?", MONDAY)
    assert (recently.last, day.first) == (date(2022, 10, 6), date(2022, 10, 6))


def test_a_phrase_on_a_date_is_seen_from_it_and_the_date_stays_a_mention() -> None:
    friday, day = mentions("finished last Friday on 23 January, 2022", MONDAY)
    assert (friday.first, day.first) == (date(2022, 1, 21), date(2022, 1, 23))


def test_without_an_anchor_relative_phrases_mean_no_days() -> None:
    assert mentions("yesterday, last week, 3 days ago, 昨天, 上周五, recently", None) == []


def test_offsets_are_those_of_the_text_as_it_is() -> None:
    text = "😀 العربية\x00 met on May 2, 2021, 然后昨天又见"
    assert [text[span.start : span.end] for span in mentions(text, MONDAY)] == ["May 2, 2021", "昨天"]


def test_huge_numbers_stop_at_the_ends_of_the_calendar() -> None:
    assert only("999999999 days ago").first == date.min
    assert only("999999999 days from now").last == date.max
    assert only("999999999年前").first.year == 1


@pytest.mark.parametrize("anchor", [date.min, date.max, date(2024, 2, 29), date(1, 1, 2), date(9999, 12, 1)])
def test_every_phrase_holds_at_the_ends_of_the_calendar(anchor: date) -> None:
    _check(_EVERYTHING, anchor)


@pytest.mark.parametrize(
    "piece",
    ["a few ", "may ", "9", "2023-", "一", "二〇", "last ", "in the ", "the week before ", " ", "between May 2 and ",
     "when ",
     "n't", "最近这", "1号", "recently ", "A" * 50, "前", "5月", "May 2, ", "two and a half ", "haven't ", "\n", "’"],
)  # fmt: skip
def test_a_megabyte_of_anything_is_read_up_to_the_bounds(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    found = mentions(text, MONDAY)
    assert len(found) <= MAX_MENTIONS
    assert all(span.end <= MAX_CHARACTERS for span in found)
    assert time_phrase(text) in (True, False)
    assert is_temporal_question(text) in (True, False)


_WORDS = (
    *MONTH_NAMES, *WEEKDAY_NAMES, *HOLIDAYS, "May", "Sat", "last", "this", "next", "past", "the", "a", "few",
    "couple of", "two",
    "half", "and a half", "days", "week", "weekend", "months", "years", "decades", "ago", "before", "after", "of",
    "in", "on",
    "since", "from", "between", "and", "to", "until", "early", "mid-", "the end of", "around", "about", "recently",
    "yesterday",
    "today", "other day", "summer", "winter", "first", "second", "quarter", "Q1", "90s", "1st", "29", "30", "31", "0",
    "12",
    "1999", "2023", "9999", "0001", "99999999", "/", "-", ".", ",", ":", "'s", "’", "2023-05-02", "5/2/2023", "今天",
    "昨晚",
    "大前天", "上", "下下", "本", "这", "个", "周", "星期", "日", "天", "末", "月", "年", "号", "底", "初", "中旬",
    "去年", "前年",
    "一", "二", "十", "百", "两", "半", "几", "好几", "多", "前", "后", "之", "的", "最近", "接下来", "未来", "春天",
    "国庆", "五一",
    "元旦", "二〇二三", "年代", "大约", "１２", "５", "٣", "²", "Ⅴ", "ſ", "K", "\x00", "😀",
)  # fmt: skip
_EVERYTHING = " ".join(_WORDS) + "".join(_WORDS) + " ".join(f"last {word} 2 years before {word} 2," for word in _WORDS)
_TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(_WORDS), max_size=14).map(" ".join),
    st.lists(st.sampled_from(_WORDS), max_size=14).map("".join),
)


def _check(text: str, anchor: date | None) -> None:
    found = mentions(text, anchor)
    reached = 0
    for span in found:
        assert reached <= span.start < span.end <= len(text)
        assert span.first <= span.last
        assert span.slack >= 0
        reached = span.end
    assert found == mentions(text, anchor)


@given(_TEXTS, st.none() | st.dates())
@example("weekend before 0001-01-01", date.min)
@example("last winter 9999年底后一年", date.max)
def test_for_any_text_the_mentions_lie_in_it_in_order_and_are_ranges(text: str, anchor: date | None) -> None:
    _check(text, anchor)


@given(_TEXTS)
def test_a_text_with_a_mention_holds_a_time_phrase(text: str) -> None:
    if mentions(text, date(2000, 6, 15)):
        assert time_phrase(text)
    assert is_temporal_question(text) in (True, False)


@given(st.dates(min_value=date(1, 1, 2)), st.sampled_from(["yesterday", "we left yesterday.", "昨天", "我昨天走了"]))
def test_yesterday_is_the_day_before_the_anchor(anchor: date, text: str) -> None:
    assert mentions(text, anchor)[0].first == anchor - timedelta(days=1)


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2099, 12, 31)))
def test_every_way_of_writing_a_day_is_read_back(day: date) -> None:
    month = MONTH_NAMES[day.month - 1].capitalize()
    for text in (
        day.isoformat(), f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}",
        f"{month[:3]} {day.day} {day.year}",
        f"{day.month}/{day.day}/{day.year}", f"{day.year}年{day.month}月{day.day}日",
        f"on {day.year}/{day.month}/{day.day}.",
    ):  # fmt: skip
        assert days(text, None) == day.isoformat()


@given(st.dates(min_value=date(1000, 1, 1), max_value=date(9000, 1, 1)), st.integers(0, 400))
def test_so_many_days_ago_is_that_many_days_before(anchor: date, count: int) -> None:
    for text in (f"{count} days ago", f"{count}天前"):
        assert mentions(text, anchor)[0].first == anchor - timedelta(days=count)


@pytest.mark.parametrize(
    "text",
    ["When did Ana move?", "when is the concert", "What year did they marry?", "On which date did it start?",
     "What's the date of the exam?", "How long ago did he call?", "Do you remember when we met?", "When?",
     "Since when?",
     "When Ana is planning to move?", "我什么时候搬的家？", "哪天考试？", "会议是几号？", "他何时出生？",
     "哪一年结婚的？",
     "多久以前的事？", "那天的具体日期是？"],
)  # fmt: skip
def test_questions_for_a_time_are_known(text: str) -> None:
    assert is_temporal_question(text)


@pytest.mark.parametrize(
    "text",
    ["Who came on May 2?", "How did he feel when she left?", "What did I eat yesterday?",
     "When I was in Rome, what did I eat?",
     "How long is the bridge?", "What do you do when it rains?", "我在5月2号买了什么？", "几号线最快？", "小时候的事",
     "无论什么时候都行"],
)  # fmt: skip
def test_other_questions_are_not(text: str) -> None:
    assert not is_temporal_question(text)


@pytest.mark.parametrize(
    "text", ["at 5 pm", "in the morning", "for three weeks", "every day", "when I was a child", "May 2", "每天早上",
             "3点", "小时候"]
)
def test_time_phrases_need_no_day(text: str) -> None:
    assert time_phrase(text)


@pytest.mark.parametrize("text", ["", "I like tea", "the march was loud", "我喜欢喝茶", "第二个"])
def test_other_texts_hold_none(text: str) -> None:
    assert not time_phrase(text)
