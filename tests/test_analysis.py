"""Tokens of many scripts: one analyser for index and question, and nothing that full text could choke on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from memos_mcp.cube import Snapshot
from memos_mcp.ledger import dialect
from memos_mcp.plaintext import lexical
from memos_mcp.plaintext.analysis import MAX_TOKEN, tokens
from memos_mcp.plaintext.indexed import indexed_text, read_back, scope_token

CREATED = "2026-03-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("The runners were running", "run"),
        ("Deployments are deployed", "deploying"),
        ("Bob's bike", "bob"),
        ("don't panic", "don't"),
        ("Ｆｕｌｌ－ｗｉｄｔｈ １２３", "full width 123"),
        ("CAFÉ Müller", "cafe muller"),
        ("naïve résumé", "naive resume"),
        ("straße", "strasse"),
        ("getUserName", "user"),
        ("getUserName", "getusername"),
        ("HTTPServer", "server http"),
        ("snake_case_name", "case"),
        ("snake_case_name", "snake_case_name"),
        ("kebab-case", "kebab"),
        ("config.toml", "toml"),
        ("v1.2.3", "v1.2.3"),
        ("用户喜欢喝绿茶", "绿茶"),
        ("用户喜欢喝绿茶", "喜欢"),
        ("我在北京大学学习", "北京"),
        ("我在北京大学学习", "大学"),
        ("用Python写的deploy脚本", "python 脚本"),
        ("明天3点开会", "开会"),
        ("東京都に住んでいます", "東京"),
        ("コーヒーが好き", "コーヒー"),
        ("안녕하세요 세계", "안녕"),
        ("Привет мир", "привет"),
        ("ΑΘΗΝΑ", "αθηνα"),
        ("茶", "茶"),
        ("rocket 🚀 launch", "rocket launch"),
    ],
)
def test_what_is_asked_for_is_among_the_tokens(text: str, asked: str) -> None:
    assert set(tokens(asked)) <= set(tokens(text)), (tokens(asked), tokens(text))
    assert tokens(asked)


def test_chinese_is_indexed_by_every_two_characters() -> None:
    assert {"北京", "京大", "大学"} <= set(tokens("北京大学"))


def test_text_without_words_has_no_tokens() -> None:
    assert tokens("🚀 … ?! \t\n — 「」") == []


def test_the_indexed_text_holds_scope_speaker_day_words_and_tags() -> None:
    held = indexed_text(7, Snapshot("Green tea", name="Ada", tags=("morning ritual",)), CREATED).split(" ")
    assert held[0] == scope_token(7)
    assert {"ada", "2026", "3月", "green", "tea", "ritual"} <= set(held)
    dated = indexed_text(7, Snapshot("Green tea", valid_from="2025-12-24T00:00:00.000Z"), CREATED).split(" ")
    assert {"2025", "decemb", "24", "12月", "24日"} <= set(dated)


def test_what_is_indexed_of_a_memory_reads_back() -> None:
    said = Snapshot("Shall we meet on 5 May 2026?", name="Ada Byron", tags=("plan",))
    back = read_back(indexed_text(7, said, CREATED))
    assert (back.speaker, back.asks, back.timed) == ("ada_byron", True, True)
    assert [date.fromordinal(first) for first, _ in back.days] == [date(2026, 5, 5)]
    assert {"meet", "ada", "byron", "plan", "2026"} <= set(back.words)
    assert read_back("§7 green tea").words == ["green", "tea"]  # as a former version wrote it


@given(st.text(), st.none() | st.text(min_size=1))
def test_whatever_is_said_reads_back_as_its_tokens(content: str, name: str | None) -> None:
    back = read_back(indexed_text(7, Snapshot(content, name=name), CREATED))
    assert back.words[-len(tokens(content)) :] == tokens(content) or not tokens(content)


@given(st.text())
@example('a"b')
@example("\u0345a ΐ ŉ ﷺ ½ ①")
@example("İstanbul DŽ ﬁ")
def test_tokens_are_words_without_white_space_or_quotes(text: str) -> None:
    for token in tokens(text):
        assert token
        assert token.split() == [token]
        assert '"' not in token
        assert "§" not in token
        assert len(token) <= MAX_TOKEN * 4
        assert "\0" not in token


@given(st.text(min_size=1))
def test_analysing_is_steady_under_case_and_width(text: str) -> None:
    assert tokens(text) == tokens(text)
    ascii_only = "".join(c for c in text if c.isascii() and c.isalpha())
    assert tokens(ascii_only.upper()) == tokens(ascii_only.lower())


@pytest.fixture(scope="module")
def full_text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    engine = dialect.open_engine(Path(tmp_path_factory.mktemp("words")) / "words.db")
    with dialect.writing(engine) as connection:
        dialect.create_full_text(connection)
        yield connection
    engine.dispose()


def found_by_its_own(connection: Connection, text: str) -> list[str]:
    """Tokens of a text that do not find it."""
    dialect.put_full_text(connection, [(1, indexed_text(5, Snapshot(text), CREATED))], replace=True)
    scopes = [scope_token(5)]
    return [t for t in dict.fromkeys(tokens(text)) if dialect.full_text_rows(connection, [t], scopes, 9) != [1]]


LETTERS = st.characters(codec="utf-8", categories=["L", "N", "M"])
SCRIPTS = st.text(LETTERS | st.sampled_from("-_.'’ \"*()^§:+"), min_size=1, max_size=30)


@settings(max_examples=400, deadline=None)
@given(SCRIPTS)
@example("𰀀𰀁 \u3040\u3097 ァ・ヿ ᄀᄁ")
def test_every_text_is_found_by_each_of_its_own_tokens(full_text: Connection, text: str) -> None:
    assert found_by_its_own(full_text, text) == []
    if tokens(text):
        assert lexical.holding_all(full_text, text, [5], 9) == [1]
        assert lexical.holding_all(full_text, text, [6], 9) == []


@pytest.mark.slow
def test_every_letter_and_digit_of_unicode_finds_its_text(full_text: Connection) -> None:
    letters = [chr(point) for point in range(sys.maxunicode) if chr(point).isalnum()]
    lost = []
    for start in range(0, len(letters), 500):
        text = " ".join(letters[start : start + 500])
        lost += found_by_its_own(full_text, text)
    assert lost == []
