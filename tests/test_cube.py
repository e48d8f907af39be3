"""Snapshots survive their JSON, and hostile text and times are cleaned or refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.cube import (
    MAX_CONTENT,
    Link,
    Snapshot,
    clean_label,
    clean_text,
    content_hash,
    instant,
    language_of,
    parse_instant,
)
from memos_mcp.errors import InvalidInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
MAYBE = st.none() | TEXT
TUPLE = st.lists(TEXT, max_size=3).map(tuple)
UNIT = st.floats(0, 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SNAPSHOTS = st.builds(
    Snapshot, TEXT, kind=st.sampled_from(["fact", "event"]), valid_from=MAYBE, valid_to=MAYBE, role=MAYBE, name=MAYBE,
    session=MAYBE, source=MAYBE, ref=MAYBE, tags=TUPLE, metadata=st.dictionaries(TEXT, JSON, max_size=3),
    importance=UNIT, priority=UNIT, expires=MAYBE, pinned=st.booleans(), sensitivity=TEXT, feedback=MAYBE,
    links=st.lists(st.builds(Link, TEXT, TEXT), max_size=3).map(tuple), parents=TUPLE, supersedes=TUPLE,
    superseded_by=MAYBE,
)  # fmt: skip


@given(SNAPSHOTS)
def test_a_snapshot_survives_its_json(snapshot: Snapshot) -> None:
    assert Snapshot.from_json(snapshot.as_json()) == snapshot


@given(SNAPSHOTS)
def test_fields_of_other_versions_are_left_out_or_take_their_defaults(snapshot: Snapshot) -> None:
    plain = json.loads(snapshot.as_json())
    assert Snapshot.from_json(json.dumps({**plain, "later": 1})) == snapshot
    del plain["priority"], plain["links"]
    former = Snapshot.from_json(json.dumps(plain))
    assert (former.priority, former.links, former.content) == (0.5, (), snapshot.content)


@given(SNAPSHOTS, SNAPSHOTS)
def test_merging_what_changed_gives_the_other(one: Snapshot, other: Snapshot) -> None:
    assert one.merged(one.changed(other), other) == other
    assert one.changed(one) == set()


@given(st.text(min_size=1))
def test_cleaned_text_can_be_kept_and_cleaning_twice_is_once(text: str) -> None:
    try:
        cleaned = clean_text(text)
    except InvalidInput:
        assert not text.strip()
        return
    assert len(cleaned) == len(text)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert "\0" not in cleaned
    assert clean_text(cleaned) == cleaned


def test_halves_of_characters_and_nuls_are_replaced_and_not_dropped() -> None:
    assert clean_text("a\ud800b\0c\udfff") == "a\ufffdb\ufffdc\ufffd"
    assert clean_text("emoji \U0001f600 stay") == "emoji \U0001f600 stay"


def test_text_that_is_too_long_or_empty_is_refused_by_name() -> None:
    assert len(clean_text("x" * MAX_CONTENT)) == MAX_CONTENT
    with pytest.raises(InvalidInput, match=r"notes has 1,000,001 characters.*split"):
        clean_text("x" * (MAX_CONTENT + 1), "notes")
    for empty in ("", " \t\n", "\u3000\u2003"):
        with pytest.raises(InvalidInput, match="notes is empty"):
            clean_text(empty, "notes")


@given(st.text())
def test_a_label_is_one_clean_line_or_refused(text: str) -> None:
    try:
        label = clean_label(text, "tag")
    except InvalidInput as error:
        refused = error.field
        assert (refused, text.strip().isprintable() and 1 <= len(text.strip()) <= 200) == ("tag", False)
        return
    assert label == text.strip()
    assert 1 <= len(label) <= 200
    assert label.isprintable() or all(ord(c) >= 32 for c in label)
    assert label.encode("utf-8")


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\0", "\x7f", "x\x85y", "a\ud800", "x" * 201])
def test_labels_that_cannot_be_kept_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="space"):
        clean_label(text, "space")


@given(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from(
    [UTC, timezone(timedelta(hours=8)), timezone(timedelta(hours=-11, minutes=-30))])))  # fmt: skip
def test_an_instant_survives_being_written(moment: datetime) -> None:
    written = parse_instant(moment.isoformat(), "time")
    assert parse_instant(written, "time") == written == instant(moment)
    assert abs(datetime.fromisoformat(written) - moment) < timedelta(milliseconds=1)


@given(st.lists(st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)), min_size=2))
def test_the_order_of_the_text_is_the_order_of_time(moments: list[datetime]) -> None:
    ordered = [instant(moment) for moment in sorted(moments)]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("2026-11-20", "2026-11-20T00:00:00.000Z"),
        ("2026-11-20T14:30", "2026-11-20T14:30:00.000Z"),
        ("2026-11-20T14:30:00+01:00", "2026-11-20T13:30:00.000Z"),
        (" 2026-11-20T14:30:00.5Z ", "2026-11-20T14:30:00.500Z"),
        ("20261120", "2026-11-20T00:00:00.000Z"),
    ],
)
def test_dates_are_read_as_iso_8601(given_text: str, expected: str) -> None:
    assert parse_instant(given_text, "time") == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "0999-12-31", "0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00", "\0", "9" * 99]
)
def test_what_is_no_date_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(InvalidInput, match="after") as caught:
        parse_instant(text, "after")
    assert len(str(caught.value)) < 250


@given(st.text())
def test_the_hash_of_a_text_heeds_no_spaces_around_words(text: str) -> None:
    assert content_hash(f"  {text}\n") == content_hash(text)
    assert content_hash(text + "x") != content_hash(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [("Good morning", "en"), ("用户喜欢绿茶", "zh"), ("お茶が好きです", "ja"), ("안녕하세요", "ko"), ("Привет", "ru"),
     ("مرحبا", "ar"), ("שלום", "he"), ("123 😀", "und"), ("", "und"), ("我用 Python 写代码的时候喜欢喝茶听音乐", "zh")],
)  # fmt: skip
def test_the_language_is_told_by_its_script(text: str, language: str) -> None:
    assert language_of(text) == language
