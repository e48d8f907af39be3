"""What a text names and states, by rules: English, Chinese and other scripts; never a failure, whatever it is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.cube import Snapshot
from memos_mcp.entities import MOST_NAMES, MOST_STATED, Found, found_in
from memos_mcp.entities.naming import KINDS, key_of, relation_key


def read(text: str, name: str | None = None, **more: Any) -> Found:
    return found_in(Snapshot(content=text, name=name, **more))


def names(text: str, speaker: str | None = None) -> dict[str, str]:
    return {named.name: named.kind for named in read(text, speaker).names}


def stated(text: str, speaker: str | None = None) -> set[tuple[str, str, str]]:
    return {(one.subject, one.relation, one.object) for one in read(text, speaker).stated}


def test_names_are_runs_of_capitals_with_the_kind_that_their_words_tell() -> None:
    found = names("Yesterday Dr. Smith met Anna Berg at Stanford University, near Hyde Park, with my colleague Rob.")
    assert found == {
        "Dr. Smith": "person", "Anna Berg": "thing", "Stanford University": "organisation", "Hyde Park": "place",
        "Rob": "person",
    }  # fmt: skip


def test_a_word_that_begins_a_sentence_is_a_name_only_with_evidence() -> None:
    assert names("Dancing is fun. Researching flights. Thanks! Sure. Wow, great.") == {}
    assert names("Maya is allergic to peanuts.") == {"Maya": "thing"}
    assert names("Peanuts. Then I saw Peanuts again.") == {"Peanuts": "thing"}
    assert names("Maya's bike broke.") == {"Maya": "thing"}
    assert names("Hey Jon! See you on Monday in March.") == {"Jon": "thing"}


def test_common_words_are_parts_of_names_where_their_capital_is_no_accident() -> None:
    assert names("She works at Hope House in New York with Good Omens Ltd.").keys() == {
        "Hope House", "New York", "Good Omens Ltd",
    }  # fmt: skip
    assert names("We saw Bob on Monday. Good luck. Next Monday Bob leaves.") == {"Bob": "thing"}


def test_titles_in_quotation_marks_are_works() -> None:
    assert names('I read "The Lord of the Rings" and "so what" again.') == {"The Lord of the Rings": "work"}
    assert names("最近在看《三体》和《活着》") == {"三体": "work", "活着": "work"}


def test_capitals_say_nothing_where_everything_is_capital() -> None:
    assert names("THIS IS ALL SHOUTED AND NOTHING IN HERE IS A NAME") == {}


def test_other_scripts_with_capitals_are_read_and_those_without_give_no_wrong_names() -> None:
    assert "Ångström" in names("Vi traffade Ångström i Malmö.")
    assert "Анна" in names("Вчера приехала Анна.")
    assert names("مرحبا، كيف حالك اليوم؟") == {}
    assert names("🎉🎉 שלום לכולם") == {}


def test_chinese_names_come_from_the_word_list_and_from_how_people_introduce_themselves() -> None:
    found = names("我叫宫晓燕，小王在北京大学读书，周末去了杭州。")
    assert found == {"宫晓燕": "person", "小王": "person", "北京大学": "organisation", "杭州": "place"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ada Byron works at Acme Corp.", ("Ada Byron", "works at", "Acme Corp")),
        ("Last year Bob moved to the Netherlands.", ("Bob", "moved to", "Netherlands")),
        ("Bob is the CEO of Acme.", ("Bob", "CEO of", "Acme")),
        ("Ada is Byron's daughter.", ("Ada", "daughter of", "Byron")),
        ("Ada's sister Allegra called.", ("Allegra", "sister of", "Ada")),
        ("Ada is married to William.", ("Ada", "married to", "William")),
        ("小王住在上海。", ("小王", "住在", "上海")),
        ("小王在北京大学读书。", ("小王", "在…读书", "北京大学")),
        ("张志强是李雪的同事。", ("张志强", "是…的同事", "李雪")),
    ],
)
def test_what_is_said_of_two_names_side_by_side_is_a_relation(text: str, said: tuple[str, str, str]) -> None:
    assert said in stated(text)


def test_what_somebody_says_of_themselves_is_said_of_the_speaker() -> None:
    assert stated("I work at Door Dash, and my sister Anna called.", "Gina") == {
        ("Gina", "works at", "Door Dash"), ("Anna", "sister of", "Gina"),
    }  # fmt: skip
    assert stated("我现在住在杭州。", "宫晓燕") == {("宫晓燕", "住在", "杭州")}
    assert stated("I work at Door Dash.") == set()
    assert names("Fine.", "assistant") == {}


def test_nothing_is_stated_across_a_sentence_or_of_a_name_and_itself() -> None:
    assert stated("I saw Ada. Works at Acme were stopped.") == set()
    assert stated("We know that Ada likes Ada.") == set()


def test_tags_are_topics_and_a_name_said_twice_is_one() -> None:
    found = read("We met Ada, ada's friend, and ADA Ltd.", tags=("health", "Ada")).names
    assert [one.name for one in found] == ["Ada", "ADA Ltd", "health"]
    assert [one.kind for one in found] == ["thing", "organisation", "topic"]


def test_keys_bring_ways_of_writing_together() -> None:
    assert {key_of(text) for text in ("The Hague", "hague", " “Hague” ", "Hague's", "Ｈａｇｕｅ")} == {"hague"}
    assert {relation_key(text) for text in ("works_at", "worksAt", "Works at", "works-at")} == {"works at"}
    assert key_of("…") == ""


def test_a_very_long_text_is_read_within_bounds() -> None:
    found = read(" and ".join(f"Name{i} Surname{i} likes Name{i + 1} Surname{i + 1}" for i in range(5_000)))
    assert len(found.names) == MOST_NAMES
    assert len(found.stated) <= MOST_STATED


@given(st.text(), st.one_of(st.none(), st.text(max_size=40)))
def test_any_text_is_read_to_the_same_clean_names_each_time(text: str, speaker: str | None) -> None:
    found = read(text, speaker)
    assert found == read(text, speaker)
    keys = [key_of(named.name) for named in found.names]
    assert len(set(keys)) == len(keys)
    assert all(keys)
    assert all(named.kind in KINDS for named in found.names)


@given(st.lists(st.sampled_from(
    ["Ada", "Bob's", "the", "Acme", "is", "of", "CEO", "in", ".", "Dr", "my sister", "lives", "《", "》", "住在",
     "小王", "上海", "\n", '"', "I", "work at", ",", "St", "Gallen"]), max_size=25))  # fmt: skip
def test_any_order_of_telling_words_is_read(words: list[str]) -> None:
    for text in (" ".join(words), "".join(words)):
        found = read(text, "Gina")
        assert all(key_of(one.subject) != key_of(one.object) for one in found.stated)
