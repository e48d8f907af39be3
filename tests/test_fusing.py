"""What a deterministic fusion writes: golden texts in English and Chinese, and what holds for any memories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.operators.fusing import Said, words
from memos_mcp.operators.fusing import fused as fused_by
from memos_mcp.operators.sentences import sentences
from memos_mcp.policies.conflicts import contradicting

GOLDEN = {
    "facts in the order of time, each once": (
        [
            ("2026-03-05", "Bruno works at Acme. He plays chess with Dr. Smith."),
            ("2026-01-02", "Bruno has two cats."),
            ("2026-04-01", "The Bruno works at Acme! Really, Bruno has two cats. He has 3 dogs."),
        ],
        "Bruno has two cats.\nBruno works at Acme. He plays chess with Dr. Smith.\nHe has 3 dogs.",
    ),
    "a contradiction is marked and names both": (
        [("2026-01-02", "Bruno lives in Lisbon."), ("2026-03-05", "Bruno moved to Porto. He likes it.")],
        "Bruno lives in Lisbon.\nBruno moved to Porto. He likes it.\n"
        '[Contradiction: "Bruno lives in Lisbon." (2026-01-02) and "Bruno moved to Porto." (2026-03-05)]',
    ),
    "what is true again stands where it was said last": (
        [("2026-01-01", "I like tea."), ("2026-02-01", "I don't like tea."), ("2026-03-01", "I like tea.")],
        "I don't like tea.\nI like tea.\n"
        '[Contradiction: "I don\'t like tea." (2026-02-01) and "I like tea." (2026-03-01)]',
    ),
    "lines and headings stay": (
        [("1", "# Trip\n- Pack the red bag\n- Call Ann\n"), ("2", "# Trip\n- Pack the red bag\n- Water the plants\n")],
        "# Trip\n- Pack the red bag\n- Call Ann\n\n# Trip\n- Water the plants",
    ),
    "code is one sentence": (
        [("1", "Run this:\n```sh\nmake all. Then test!\nmake it so.\n```\nDone and well."), ("2", "Done and well.")],
        "Run this:\n```sh\nmake all. Then test!\nmake it so.\n```\nDone and well.",
    ),
    "Chinese facts": (
        [
            ("2026-02-01", "小王对花生过敏。他住在上海。"),
            ("2026-01-01", "小王养了一只猫。"),
            ("2026-03-01", "其实小王对花生过敏！他喜欢爬山。"),
        ],
        "小王养了一只猫。\n小王对花生过敏。他住在上海。\n他喜欢爬山。",
    ),
    "a Chinese contradiction": (
        [("2026-01-02", "我喜欢咖啡。"), ("2026-03-05", "我戒咖啡了。")],
        "我喜欢咖啡。\n我戒咖啡了。\n【矛盾：“我喜欢咖啡。”（2026-01-02）与“我戒咖啡了。”（2026-03-05）】",
    ),
    "both languages": (
        [("2026-01-01", "我住在里斯本。I work at Acme."), ("2026-02-01", "我搬到波尔图了。I work at Acme.")],
        "我住在里斯本。I work at Acme.\n我搬到波尔图了。\n"
        "【矛盾：“我住在里斯本。”（2026-01-01）与“我搬到波尔图了。”（2026-02-01）】",
    ),
}  # fmt: skip


def fused(said: list[Said]) -> str:
    return fused_by(said, contradicting())


@pytest.mark.parametrize("case", GOLDEN)
def test_the_fused_text_is_the_golden_one(case: str) -> None:
    given_texts, golden = GOLDEN[case]
    assert fused([Said(text, time, str(n)) for n, (time, text) in enumerate(given_texts)]) == golden


@pytest.mark.parametrize(
    ("text", "parted"),
    [
        ("Dr. Lee met J. K. Rowling at 3.15 p.m. in St. Ives. It rained.",
         ["Dr. Lee met J. K. Rowling at 3.15 p.m. in St. Ives. ", "It rained."]),
        ("“Come in!” she said. He did… eventually.", ["“Come in!” she said. ", "He did… eventually."]),
        ("他说：“好。”然后走了！真的？是的", ["他说：“好。”", "然后走了！", "真的？", "是的"]),
        ("one line\n\nanother", ["one line\n\n", "another"]),
        ("  \n x", ["  \n x"]),
        ("   ", ["   "]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_sees_them_end(text: str, parted: list[str]) -> None:
    assert sentences(text) == parted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Bruno doesn't eat fish.", "Bruno does not eat the fish", True),
        ("Ｂｒｕｎｏ likes tea!", "Bruno really likes tea.", True),
        ("Bruno has 2 cats.", "Bruno has 3 cats.", False),
        ("Ann loves Bob.", "Bob loves Ann.", False),
        ("Bruno likes tea.", "Bruno does not like tea.", False),
        ("Does Bruno like tea?", "Does Bruno like tea.", False),
        ("我不喜欢咖啡。", "我喜欢咖啡。", False),
        ("我也喜欢咖啡啊！", "我喜欢咖啡。", True),
        ("小王三岁。", "小王四岁。", False),
    ],
)
def test_only_what_says_the_same_has_the_same_words(one: str, other: str, same: bool) -> None:
    assert (words(one) == words(other)) is same


@pytest.mark.parametrize(
    ("earlier", "later", "contradicts"),
    [
        ("Bruno lives in Lisbon.", "Bruno moved to Porto.", True),
        ("Bruno lives in Lisbon.", "Bruno now lives in Lisbon.", False),
        ("Bruno lives in Lisbon.", "Anna lives in Porto.", False),
        ("Bruno works at Acme", "Bruno works at Globex since 2025", True),
        ("My favourite colour is blue.", "My favorite colour is red.", True),
        ("My favourite colour is blue.", "My favourite food is rice.", False),
        ("I drink coffee.", "I no longer drink coffee.", True),
        ("The gate is locked at night.", "The gate is not locked at night.", True),
        ("Nobody knows the code.", "Ann knows the code.", False),
        ("I like coffee.", "I like tea.", False),
        ("Where does Bruno live in Lisbon?", "Bruno moved to Porto.", False),
        ("我喜欢咖啡", "我戒咖啡了", True),
        ("我住在北京。", "我搬到上海了。", True),
        ("我喜欢咖啡", "他不喜欢咖啡", False),
        ("🙂", "", False),
    ],
)
def test_a_contradiction_is_one_subject_and_attribute_with_two_values(
    earlier: str, later: str, contradicts: bool
) -> None:
    assert contradicting()(earlier, later) is contradicts


TEXT = st.text(alphabet="ab cA.!?。！\n。我是#`-", max_size=60)
WORDS = st.lists(
    st.sampled_from(["Ann sings.", "Bob sings.", "小王唱歌。", "- Ann sings\n", "# Title\n", "Does Ann sing? "]),
    min_size=1, max_size=6,
).map("".join)  # fmt: skip


@given(st.one_of(TEXT, st.text(max_size=60)))
def test_sentences_join_to_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


@given(st.lists(st.tuples(WORDS, st.sampled_from("1234")), min_size=1, max_size=6))
def test_nothing_that_was_said_is_lost_and_nothing_is_new(said: list[tuple[str, str]]) -> None:
    text = fused([Said(one, time, str(place)) for place, (one, time) in enumerate(said)])
    stated = {words(sentence) for one, _ in said for sentence in sentences(one)}
    assert {words(sentence) for sentence in sentences(text)} | {()} == stated | {()}


@given(WORDS, WORDS)
def test_fusing_with_a_repetition_changes_nothing(one: str, other: str) -> None:
    once = fused([Said(one, "1", "a"), Said(other, "2", "b")])
    assert fused([Said(one, "1", "a"), Said(other, "2", "b"), Said(other, "3", "c")]).count("Ann sings") <= max(
        once.count("Ann sings"), other.count("Ann sings")
    )


@given(TEXT.filter(str.strip))
def test_parts_of_one_text_are_never_repetitions_of_each_other(text: str) -> None:
    parts = sentences(text)
    joined = fused([Said(part, "1", "one") for part in parts])
    assert "".join(joined.split()) == "".join(text.split())
