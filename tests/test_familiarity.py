"""How far a tokenizer knows a text: the English vocabulary of the built-in model, and tokenizers that are easy to see
through. Needs no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from memos_mcp.backends.familiarity import LEAST, PROBE, Familiarity, Piece
from memos_mcp.backends.minilm import BUNDLED_FOLDER


def letters(text: str) -> list[Piece]:
    """Every character a known token."""
    return [(char, place, place + 1) for place, char in enumerate(text)]


def utf8(text: str) -> list[Piece]:
    """Every byte a known token, which stands for the whole character."""
    return [("byte", place, place + 1) for place, char in enumerate(text) for _ in char.encode("utf-8", "replace")]


def words(text: str) -> list[Piece]:
    """The text as one known token, after the mark of a space that some write."""
    return [("▁", 0, 1), ("▁word", 0, len(text))] if text else []


def nothing(text: str) -> list[Piece]:
    return [("", 0, len(text))] if text else []


CUTS: dict[str, Callable[[str], Sequence[Piece]]] = {
    "letters": letters, "bytes": utf8, "words": words, "nothing": nothing,
}  # fmt: skip


@pytest.mark.parametrize(
    ("cut", "text", "expected"),
    [
        ("letters", "汉字", 1.0),
        ("letters", "word", LEAST),
        ("letters", "I a x", 1.0),
        ("letters", "汉字 word", 2 / 6),
        ("bytes", "汉字", LEAST),
        ("bytes", "word", LEAST),
        ("words", "слово", 1.0),
        ("words", "汉", 1.0),
        ("nothing", "word", LEAST),
        *((cut, text, 1.0) for cut in CUTS for text in ("", "42 ?!", "🍵")),
    ],
)
def test_known_are_letters_in_one_token_that_can_carry_meaning(cut: str, text: str, expected: float) -> None:
    assert Familiarity(CUTS[cut]).of(text) == pytest.approx(expected)


@given(st.text(max_size=1_500), st.sampled_from(sorted(CUTS)))
def test_it_is_a_share_for_any_text(text: str, cut: str) -> None:
    assert LEAST <= Familiarity(CUTS[cut]).of(text) <= 1.0


def test_an_english_vocabulary_knows_some_common_characters_and_is_not_taken_in_by_them() -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED_FOLDER / "tokenizer.json"))
    unknown = tokenizer.token_to_id("[UNK]")

    def cut(text: str) -> list[Piece]:
        made = tokenizer.encode(text, add_special_tokens=False)
        rows = zip(made.ids, made.tokens, made.offsets, strict=True)
        return [("" if number == unknown else token, *span) for number, token, span in rows]

    held = tokenizer.get_vocab().keys() & set(PROBE)
    assert 0.2 < len(held) / len(PROBE) < 0.5
    english = Familiarity(cut)
    assert english.of("".join(held)) == LEAST
    assert english.of("a plain English sentence") == 1.0
    assert len(set(PROBE)) == len(PROBE)
