"""The labelled pairs: what the rules find in them is right, and the rules hold beyond the pairs they were made on."""

from __future__ import annotations

from collections import Counter

import pytest
from benchmarks.conflicts import HALVES, LANGUAGES, PRECISION, Verdict, pairs, scores, verdicts

from memos_mcp.cube import Snapshot
from memos_mcp.policies.conflicts import conflict
from memos_mcp.policies.duplicates import duplicate

RECALL = {"conflicts": 0.7, "sure conflicts": 0.8, "duplicates": 0.6}
"""What is found at least of what is there; each a step below what was measured."""


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], list[Verdict]]:
    """What the rules say of every pair, by language and half."""
    return {(lang, half): list(verdicts(pairs(lang, half))) for lang in LANGUAGES for half in HALVES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_a_hundred_pairs_each_once(language: str) -> None:
    both = [pair for half in HALVES for pair in pairs(language, half)]
    assert len({(pair.older, pair.newer) for pair in both}) == len(both) == 100
    labels = Counter(pair.label for pair in both)
    assert labels == {"replaced": 28, "conflict": 8, "duplicate": 28, "neither": 36}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_found_is_right_and_most_is_found(
    found: dict[tuple[str, str], list[Verdict]], language: str, half: str
) -> None:
    for name, score in scores(found[language, half]).items():
        assert score.precision >= PRECISION, name
        assert score.recall >= RECALL[name], name


def test_nothing_is_both_a_conflict_and_a_duplicate(found: dict[tuple[str, str], list[Verdict]]) -> None:
    assert not [one.pair for many in found.values() for one in many if one.conflict and one.duplicate]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_statement_is_its_own_duplicate_and_the_order_of_two_does_not_matter(language: str, half: str) -> None:
    for pair in pairs(language, half):
        a, b = Snapshot(pair.older), Snapshot(pair.newer)
        assert not conflict(a, a)
        assert duplicate(a, a)
        assert bool(duplicate(a, b)) == bool(duplicate(b, a))


def test_without_a_cosine_less_is_found_and_nothing_wrong() -> None:
    for language in LANGUAGES:
        for pair in pairs(language, "development"):
            if duplicate(Snapshot(pair.older), Snapshot(pair.newer)):
                assert pair.label == "duplicate"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("I like coffee.", "I like coffee ice cream."),
        ("I eat meat.", "I eat meat only on Sundays."),
        ("Ann is taller than Beth.", "Beth is taller than Ann."),
        ("The red cable goes into port A.", "The blue cable goes into port A."),
        ("My email address is ada@old.example.", "My email address is ada@new.example."),
        ("I use Python for work.", "I use Python for games."),
        ("Is the office closed?", "The office is closed."),
        ("我喜欢咖啡。", "我喜欢咖啡冰淇淋。"),
        ("我喜欢咖啡", "我戒咖啡了"),
        ("小刘借给小赵200块。", "小赵借给小刘200块。"),
    ],
)
def test_what_only_looks_alike_is_no_duplicate_however_near_it_is(a: str, b: str) -> None:
    assert not duplicate(Snapshot(a), Snapshot(b), 0.94)


def test_what_was_said_on_another_day_is_another_memory() -> None:
    a = Snapshot("Good morning", kind="dialogue", valid_from="2026-01-01T00:00:00.000Z")
    b = Snapshot("Good morning", kind="dialogue", valid_from="2026-01-02T00:00:00.000Z")
    assert not duplicate(a, b, 1.0)
    assert not duplicate(Snapshot("I live in Oslo", name="Ada"), Snapshot("I live in Oslo", name="Bob"), 1.0)
