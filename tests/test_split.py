"""Splitting a text into a tree of parts: nothing is lost, nothing is torn that belongs together, little moves."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memos_mcp.documents.formats import form_of
from memos_mcp.documents.markup import Heading
from memos_mcp.documents.matching import matched
from memos_mcp.documents.outline import is_outline
from memos_mcp.documents.position import Position
from memos_mcp.documents.split import MOST, OVERLAP, WHOLE, Format, Piece, split

FORMS: list[Format] = ["markdown", "text", "outline"]
LINES = st.sampled_from(
    [
        "# Title", "## Part 二", "###", "Setext", "===", "- item", "  - deeper", "\t* tabs", "10. ten", "> quoted",
        "```", "~~~py", "    code", "| a | b |", "|---|---|", "<div>", "", " ", "\u3000", "第一章 开始", "Chapter 1",
        "Dr. Who met us at 3.5 p.m. today. It rained! Why?", "今天开会。明天休息！为什么？", "سلام دنیا؟ خوب است.",
        "👩‍👩‍👧‍👦" * 30, "e\u0301" * 50, "x" * 2500, "word " * 700, "\x0b\x0c\x85", "a\u2028b", "\x00", "\ufeff",
    ]
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""])
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.tuples(LINES, ENDS), max_size=60).map(lambda rows: "".join(line + end for line, end in rows)),
)


def joined(text: str, pieces: list[Piece]) -> str:
    """The parts as memories hold them, without what each repeats, one after the other."""
    held = [text[piece.start - piece.overlap : piece.end] for piece in pieces]
    return "".join(one[piece.overlap :] for one, piece in zip(held, pieces, strict=True))


def sentences(count: int, seed: int = 1) -> str:
    """A text of paragraphs without headings."""
    chance = random.Random(seed)
    words = ["river", "stone", "lamp", "orchard", "signal", "harbour", "ledger", "copper", "meadow", "pencil"]
    made = []
    for number in range(count):
        said = [f"Sentence {number}-{i} {' '.join(chance.choices(words, k=9))}." for i in range(chance.randint(1, 6))]
        made.append(" ".join(said))
    return "\n\n".join(made) + "\n"


@given(TEXTS, st.sampled_from(FORMS))
@example("\r\n" * 900 + "x" * 900, "text")
@example("a" * 799 + "\r\n" + "b" * 3000, "text")
@example("\n\n# A", "markdown")
@settings(max_examples=300, deadline=None)
def test_the_parts_without_what_they_repeat_join_to_the_text(text: str, form: Format) -> None:
    pieces = split(text, form)
    assert joined(text, pieces) == (text if text.strip() else "")
    assert pieces == split(text, form)
    for place, piece in enumerate(pieces):
        assert text[piece.start : piece.end].strip()
        assert 0 <= piece.overlap <= OVERLAP
        assert piece.parent is None or piece.parent < place
    families: dict[int | None, list[int]] = {}
    for piece in pieces:
        families.setdefault(piece.parent, []).append(piece.order)
    assert all(orders == list(range(len(orders))) for orders in families.values())


@given(st.lists(st.integers(0, 400), max_size=6), TEXTS)
@settings(max_examples=100, deadline=None)
def test_headings_of_a_text_that_marks_none_change_nothing_of_what_is_kept(offsets: list[int], text: str) -> None:
    headings = [Heading(at, 1 + at % 3, f"Heading {at}") for at in sorted(set(offsets))]
    assert joined(text, split(text, "text", headings)) == (text if text.strip() else "")


def test_headings_make_the_tree_and_each_begins_a_part() -> None:
    text = "Before.\n\n# Guide\n\nHello.\n\n## Install\n\nRun it.\n\n### Linux\n\napt.\n\n## Use\n\nGo.\n"
    pieces = split(text, "markdown")
    assert [(piece.node, piece.title, piece.parent, piece.order) for piece in pieces] == [
        ("part", "", None, 0),
        ("section", "Guide", None, 1),
        ("section", "Install", 1, 0),
        ("section", "Linux", 2, 0),
        ("section", "Use", 1, 1),
    ]
    assert pieces[3].headings == ("Guide", "Install", "Linux")
    assert text[pieces[3].start : pieces[3].end] == "### Linux\n\napt.\n\n"


def test_what_looks_like_a_heading_inside_code_is_code() -> None:
    text = "# One\n\n```sh\n# not a heading\n```\n\nSetext\n------\n"
    assert [piece.title for piece in split(text, "markdown")] == ["One", "Setext"]


def test_chapters_of_a_plain_text_are_found_in_english_and_chinese() -> None:
    text = "Chapter 1 The boat\n\nIt was red.\n\n第二章 港口\n\n船很红。\n\nChapter houses are old buildings.\n"
    assert [piece.title for piece in split(text, "text")] == ["Chapter 1 The boat", "第二章 港口"]


def test_long_sections_are_cut_at_the_ends_of_paragraphs_with_a_sentence_repeated() -> None:
    text = sentences(60)
    pieces = split(text, "text")
    assert len(pieces) > 5
    assert all(piece.end - piece.start <= MOST for piece in pieces)
    assert all(text[: piece.start].endswith("\n\n") for piece in pieces[1:])
    for piece in pieces[1:]:
        repeated = text[piece.start - piece.overlap : piece.start]
        assert repeated.startswith("Sentence ")
        assert repeated.rstrip().endswith(".")


def test_chinese_is_cut_at_the_ends_of_sentences() -> None:
    text = "".join(f"第{i}天我们讨论了项目的进展和下一步的计划。" for i in range(300))
    pieces = split(text, "text")
    assert len(pieces) > 4
    assert all(text[piece.start - 1] == "。" for piece in pieces[1:])
    assert all(text[piece.start - piece.overlap] == "第" for piece in pieces[1:])


def test_code_and_tables_stay_whole_where_that_is_possible() -> None:
    code = "```py\n" + "print('one line of code')\n" * 80 + "```\n"
    assert MOST < len(code) < WHOLE
    text = f"# Code\n\n{sentences(3)}\n{code}\n{sentences(12, 2)}"
    at = text.index(code)
    holding = [piece for piece in split(text, "markdown") if piece.start < at + len(code) and piece.end > at]
    assert len(holding) == 1
    endless = "```\n" + "x = 1\n" * 3000 + "```\n"
    parts = split(endless, "markdown")
    assert all(endless[piece.start - 1] == "\n" for piece in parts[1:])


def test_no_character_is_torn() -> None:
    family = "👩‍👩‍👧‍👦"
    for text in (family * 500, "e\u0301" * 3000, "👍🏽" * 2000, "\r\n".join(["x" * 799, "y" * 4000])):
        for piece in split(text, "text")[1:]:
            assert text[piece.start] not in "\u200d\u0301\U0001f3fd"
            assert text[piece.start - 1 : piece.start + 1] not in ("\r\n",)
            assert text[piece.start - 1] != "\u200d"


@pytest.mark.parametrize("where", [0.0, 0.5, 0.9])
def test_a_change_of_a_long_text_without_headings_changes_the_parts_near_it(where: float) -> None:
    text = sentences(400)
    at = text.index("\n\n", int(len(text) * where)) + 2
    changed = text[:at] + "Something quite new stands here now.\n\n" + text[at:]
    before = {text[piece.start - piece.overlap : piece.end] for piece in split(text, "text")}
    after = [changed[piece.start - piece.overlap : piece.end] for piece in split(changed, "text")]
    assert len(after) > 50
    assert sum(one not in before for one in after) <= 5


def test_an_outline_is_a_tree_of_its_items_however_deep() -> None:
    text = "# House\n\n- Kitchen\n  - Paint\n    more about it\n  - Tiles\n- Bath\n"
    assert form_of(text) == "outline"
    pieces = split(text, "outline")
    assert [(piece.node, piece.title, piece.parent) for piece in pieces] == [
        ("section", "House", None),
        ("item", "Kitchen", 0),
        ("item", "Paint", 1),
        ("item", "Tiles", 1),
        ("item", "Bath", 0),
    ]
    assert text[pieces[2].start : pieces[2].end] == "  - Paint\n    more about it\n"
    deep = "".join(f"{' ' * depth}- level {depth}\n" for depth in range(300))
    assert len(split(deep, "outline")[-1].headings) == 300


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- b\n- c\n", "Words.\n\n- a\n  - b\n- c\n", "- a\n  - b\n\nand words\n", "```\n- a\n  - b\n- c\n```\n"],
)
def test_lists_with_other_text_or_without_levels_are_no_outlines(text: str) -> None:
    assert not is_outline(text)


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_each_held_node_continues_once_and_the_same_texts_find_each_other(old: list[str], new: list[str]) -> None:
    at = Position("of", "part")
    found = matched([(text, at) for text in old], [(text, at) for text in new])
    used = [place for place in found if place is not None]
    assert len(set(used)) == len(used) == min(len(old), len(new))
    same = sum(place is not None and old[place] == text for place, text in zip(found, new, strict=True))
    assert same == sum(min(old.count(text), new.count(text)) for text in set(new))
