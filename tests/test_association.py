"""What belongs to the best hits of a question: found through rare words, never through what everybody says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.plaintext.analysis import tokens
from memos_mcp.plaintext.association import associated

BODIES = {
    1: tokens("Maria volunteers at the homeless shelter"),
    2: tokens("The shelter gave Laura a bed"),
    3: tokens("John bought a kayak"),
    4: tokens("The kayak is blue"),
    5: tokens("Rain again"),
    6: tokens("A quiet evening"),
    7: tokens("Soup for dinner"),
    8: tokens("The train was late"),
}


def test_a_memory_that_shares_a_rare_word_with_the_best_hit_comes_before_those_that_share_none() -> None:
    near = associated(BODIES, {1: 1.0, 3: 0.1}, tokens("Whom did Maria meet while volunteering?"))
    assert near[2] > near[4] > near[5] == 0.0
    assert max(near.values()) == 1.0


def test_the_questions_own_rare_words_begin_the_walk_too() -> None:
    near = associated(BODIES, {5: 1.0}, tokens("kayak"))
    assert near[3] == near[4] == 1.0
    assert near[2] == 0.0


def test_fillers_numbers_and_words_of_a_letter_or_two_lead_nowhere() -> None:
    said = {1: tokens("Hey thanks, see you at 10 on 5 May xy"), 2: tokens("Thanks, see you at 10 xy"), **{
        seq: ["other", f"word{seq}"] for seq in range(3, 9)}}  # fmt: skip
    assert set(associated(said, {1: 1.0}, ["thank", "10", "xy"]).values()) == {0.0}


def test_chinese_words_lead_as_well() -> None:
    said = {1: tokens("小王在羽毛球小组"), 2: tokens("羽毛球比赛改到周六"), 3: tokens("晚饭吃面"), 4: tokens("下雨了"),
            5: tokens("地铁很挤"), 6: tokens("买了新鞋"), 7: tokens("看电影")}  # fmt: skip
    near = associated(said, {1: 1.0}, tokens("小王"))
    assert near[2] > near[3] == 0.0


def test_nothing_to_walk_gives_nothing() -> None:
    assert associated({}, {}, ["kayak"]) == {}
    assert associated(BODIES, {}, ["kayak"]) == dict.fromkeys(BODIES, 0.0)
    assert associated({1: ["alone"]}, {1: 1.0}, []) == {1: 0.0}


@given(
    st.dictionaries(st.integers(1, 60), st.lists(st.sampled_from(["kayak", "shelter", "violin", "the", "奶茶", "7"]))),
    st.dictionaries(st.integers(1, 70), st.floats(-1, 5, allow_nan=False)),
    st.lists(st.sampled_from(["kayak", "unknown", "奶茶"])),
)
def test_every_memory_gets_a_share_between_nothing_and_one(
    bodies: dict[int, list[str]], scores: dict[int, float], words: list[str]
) -> None:
    near = associated(bodies, scores, words)
    assert set(near) == set(bodies)
    assert all(0.0 <= value <= 1.0 for value in near.values())
    assert not any(near.values()) or max(near.values()) == 1.0
    assert near == associated(bodies, scores, words)
