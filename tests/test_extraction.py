"""What the rules draw out of a person's words, and what they leave: precision comes before recall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.operators.extraction import MOST_CHARS, Extracted, alike, extract


def drawn(text: str, speaker: str | None = "Nora", role: str | None = "user") -> list[tuple[str, str]]:
    """Kind and text of what is drawn out of a turn."""
    return [(found.kind, found.text) for found in extract(text, speaker, role, "2026-02-03T10:00:00.000Z")]


@pytest.mark.parametrize(
    ("said", "kind", "kept"),
    [
        ("I love rowing on the lake.", "preference", "Nora loves rowing on the lake."),
        ("Well, I really like rye bread, it keeps for days", "preference", "Nora likes rye bread."),
        ("I enjoy knitting, baking, and long walks with my aunt!", "preference",
         "Nora enjoys knitting, baking, and long walks with their aunt."),
        ("I prefer trains over planes because of the views", "preference", "Nora prefers trains over planes."),
        ("Honestly, I can't stand fennel.", "preference", "Nora cannot stand fennel."),
        ("I don't really like musicals, but thanks", "preference", "Nora does not like musicals."),
        ("I'm a huge fan of Nordic noir - so dark!", "preference", "Nora is a fan of Nordic noir."),
        ("My favourite herb is dill.", "preference", "Nora's favourite herb is dill."),
        ("Dune is my favorite novel.", "preference", "Nora's favorite novel is Dune."),
        ("I love rowing, do you?", "preference", "Nora loves rowing."),
        ("That's why I love volunteering!", "preference", "Nora loves volunteering."),
        ("I'm allergic to walnuts and latex.", "fact", "Nora is allergic to walnuts and latex."),
        ("I have a severe peanut allergy", "fact", "Nora has a peanut allergy."),
        ("I don't eat pork.", "fact", "Nora does not eat pork."),
        ("I'm vegan, so no cheese for me.", "fact", "Nora is vegan."),
        ("I have two kids named Tim and Bea.", "fact", "Nora has two kids named Tim and Bea."),
        ("My cat's name is Pixel.", "fact", "Nora's cat is called Pixel."),
        ("I speak Dutch and a little Polish.", "fact", "Nora speaks Dutch and a little Polish."),
        ("I play the cello.", "fact", "Nora plays the cello."),
        ("Hi, my name is Nora Lindt!", "profile", "Nora's name is Nora Lindt."),
        ("I live in Porto now.", "profile", "Nora lives in Porto."),
        ("I work at Blue Harbour and it is fun", "profile", "Nora works at Blue Harbour."),
        ("I work as a nurse in the children's ward.", "profile", "Nora works as a nurse in the children's ward."),
        ("I'm a civil engineer at Ramboll.", "profile", "Nora is a civil engineer at Ramboll."),
        ("My birthday is on 7 May.", "profile", "Nora's birthday is 7 May."),
        ("I'm 41 years old.", "profile", "Nora is 41 years old."),
        ("I'm happily married to Sam.", "profile", "Nora is happily married to Sam."),
        ("I grew up in Split.", "profile", "Nora grew up in Split."),
        ("I moved from Oslo to Lyon last spring.", "event", "Nora moved from Oslo to Lyon."),
        ("I have a dentist appointment on Friday at 3pm.", "event",
         "Nora said on 2026-02-03: “I have a dentist appointment on Friday at 3pm.”"),
        ("我很喜欢游泳，你觉得难吗？", "preference", "Nora喜欢游泳。"),
        ("我不喜欢下雨天。", "preference", "Nora不喜欢下雨天。"),
        ("其实我最讨厌排队", "preference", "Nora讨厌排队。"),
        ("我最喜欢的颜色是绿色。", "preference", "Nora最喜欢的颜色是绿色。"),
        ("我的爱好是爬山、摄影和做饭", "preference", "Nora的爱好是爬山、摄影和做饭。"),
        ("你好，我叫王小明。", "profile", "Nora的名字是王小明。"),
        ("我是一名软件工程师。", "profile", "Nora是软件工程师。"),
        ("我现在住在杭州西湖区", "profile", "Nora住在杭州西湖区。"),
        ("我在一家银行工作。", "profile", "Nora在一家银行工作。"),
        ("我的生日是5月2号！", "profile", "Nora的生日是5月2号。"),
        ("我对花生过敏。", "fact", "Nora对花生过敏。"),
        ("我有两个孩子。", "fact", "Nora有两个孩子。"),
        ("我会说英语和日语。", "fact", "Nora会说英语和日语。"),
        ("我搬到了成都。", "event", "Nora搬到了成都。"),
        ("我下周三要去上海出差。", "event", "Nora在2026年2月3日说：“我下周三要去上海出差”"),
    ],
)  # fmt: skip
def test_what_a_person_states_of_themselves_is_drawn_out(said: str, kind: str, kept: str) -> None:
    assert drawn(said) == [(kind, kept)]


@pytest.mark.parametrize(
    "said",
    [
        "Do I love rowing?",
        "I love rowing?",
        "If I liked dill, I would grow it.",
        "I love rowing if the lake is calm.",
        "I would love a dog.",
        "I wish I lived in Porto.",
        "I never liked fennel.",
        "I don't think I like jazz.",
        "It's not that I love rain.",
        "I'm not a nurse.",
        "I'm no longer vegan.",
        "I used to love chess.",
        "I loved that.",
        "I love it!",
        "I love that you came.",
        "I like your hat.",
        "I love how it looks.",
        "I like the idea.",
        "I love you.",
        "She said \"I love chess\" and left.",
        "My brother says, I love chess.",
        "He told me I live in Porto.",
        "Translate: I love apples.",
        "Please rewrite this: my name is Bob Ray",
        "Write a letter that begins with I live in Rome.",
        "> I love quoted mail",
        "```\nI love code\n```",
        "I work hard in the moment.",
        "I'm a bit tired.",
        "I have a meeting.",
        "I live in the moment.",
        "Call me later.",
        "My favorite part was the end.",
        "One of these is my favorite!",
        "Maybe I like tea.",
        "我喜欢吃火锅吗？",
        "我喜欢你。",
        "我喜欢这个。",
        "如果我喜欢猫，我就养一只。",
        "他说我喜欢狗。",
        "小明说：“我喜欢你的猫。”",
        "以前我喜欢足球。",
        "我不是不喜欢咖啡。",
        "我叫了外卖。",
        "我是说我不是老师。",
        "我不是老师。",
        "我最近在考虑找新工作。",
        "今天是我朋友的生日。",
        "请把这句话翻译成英文：我喜欢苹果",
        "我可能喜欢茶",
        "",
        "🙂",
        "\u202eI evol ti",
        "…?!。？",
    ],
)
def test_what_is_not_plainly_stated_is_left(said: str) -> None:
    assert drawn(said) == []


@pytest.mark.parametrize("role", ["assistant", "Assistant", "system", "tool", "AI"])
def test_only_a_persons_turns_are_read(role: str) -> None:
    assert drawn("I love rowing.", role=role) == []
    assert drawn("我喜欢游泳。", speaker=role, role="user") == []


def test_a_turn_without_a_name_is_the_users() -> None:
    assert drawn("I love rowing. 我喜欢游泳。", None) == [
        ("preference", "The user loves rowing."), ("preference", "用户喜欢游泳。")
    ]  # fmt: skip


def test_of_a_written_out_conversation_only_the_speakers_part_is_read() -> None:
    text = "Nora: I love rowing. AI: I love helping. Nora: I live in Porto."
    assert [kept for _, kept in drawn(text)] == ["Nora loves rowing.", "Nora lives in Porto."]
    assert [kept for _, kept in drawn("王芳：我喜欢游泳。 AI：我喜欢帮助人。", "王芳")] == ["王芳喜欢游泳。"]


def test_several_statements_of_a_sentence_are_each_drawn_out_once() -> None:
    found = drawn("My favourite herb is dill and my favourite soup is borscht. My favourite herb is dill.")
    assert [kept for _, kept in found] == ["Nora's favourite herb is dill.", "Nora's favourite soup is borscht."]


def test_a_very_long_turn_is_taken_for_something_pasted() -> None:
    assert drawn("I love rowing. " * (MOST_CHARS // 10)) == []


def test_each_statement_names_its_rule_and_a_confidence() -> None:
    (found,) = extract("I'm allergic to walnuts.", None, None, None)
    assert found == Extracted("fact", "The user is allergic to walnuts.", "en.allergic", 0.95)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Nora likes rye bread.", "Nora likes rye breads", True),
        ("Nora likes rye bread.", "Nora hates jazz.", False),
        ("用户喜欢游泳。", "用户很喜欢游泳。", True),
        ("用户喜欢游泳。", "用户住在杭州。", False),
        ("", "", False),
    ],
)
def test_statements_in_nearly_the_same_words_are_alike(a: str, b: str, same: bool) -> None:
    assert alike(a, b) == same


@pytest.mark.parametrize(
    "text",
    [
        "I have a " + "very " * 700,
        "I " + "really " * 500 + "love",
        "I live in " + "A" * 3_900,
        "I live in " + "Ab, " * 900,
        "I love " + ", a" * 1_300,
        "my favorite " + "x " * 1_900 + "is",
        "I'm a " + "x-" * 1_900,
        "and " * 990,
        "我" + "真的" * 1_900 + "喜欢",
        "嗯" * 3_900 + "我喜欢",
        "我叫" + "王" * 3_900,
        "“" * 3_900,
        "call me " * 490,
    ],
)
def test_text_made_to_be_slow_is_read_to_its_end(text: str) -> None:
    assert len(drawn(text)) <= 2


WORDS = ["I", "love", "my", "name", "is", "我", "喜欢", "是", ",", ".", "?", '"', "。", "：", "AI:", "if", "not"]


@given(st.text(max_size=300) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_text_is_read_and_every_statement_stands_by_itself(text: str) -> None:
    for found in extract(text, "Nora", None, None):
        assert found.text.startswith("Nora")
        assert 0 < found.confidence <= 1
        assert "\n" not in found.text
