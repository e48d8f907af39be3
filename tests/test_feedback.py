"""Feedback: what it does to a rank, what it leaves among the uses, what is proposed, and how an undo takes it back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from person import Clock, Person
from sqlalchemy import select

from memos_mcp.errors import Conflict
from memos_mcp.gateway import texts
from memos_mcp.ledger import proposals
from memos_mcp.ledger.life_schema import feedback
from memos_mcp.policies.feedback import FACTORS, KINDS, Judged, factor, suggestions

LONG = "\n\n".join(f"Part {i}: " + "the pump is primed before the valve is opened " * 12 for i in range(4))


def events(person: Person) -> Counter[str]:
    """What was said of every memory."""
    with person.api.parts.ledger.read() as connection:
        return Counter(connection.execute(select(feedback.c.said)).scalars())


def waiting(person: Person) -> list[tuple[str, str]]:
    """Kind and reason of every open proposal."""
    with person.api.parts.ledger.read() as connection:
        return [(one.kind, one.reason) for one in proposals.waiting(connection, [1])]


def test_a_wrong_memory_steps_back_and_says_why_and_a_useful_one_steps_forward(ada: Person) -> None:
    wrong = ada.keep("The garden gate is opened with the green key")
    right = ada.keep("The garden gate has a green handle")
    before = {hit["id"]: hit for hit in ada.search("Which key opens the garden gate?")["hits"]}
    assert all("feedback" not in hit["why"] for hit in before.values())
    assert before[wrong]["score"] > before[right]["score"]
    ada.update(wrong, feedback="wrong")
    ada.update(right, feedback="useful")
    after = {hit["id"]: hit for hit in ada.search("Which key opens the garden gate?")["hits"]}
    assert after[wrong]["why"]["feedback"] == FACTORS["wrong"]
    assert after[wrong]["score"] == pytest.approx(before[wrong]["score"] * FACTORS["wrong"], abs=1e-3)
    assert after[right]["score"] >= before[right]["score"]
    scores = [hit["score"] for hit in ada.search("Which key opens the garden gate?")["hits"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("feedback", ["wrong", "stale"])
def test_its_exact_text_still_finds_a_memory_first(ada: Person, feedback: str) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    ada.keep("The garden gate has a green handle and a green key hangs beside it")
    ada.update(cube, feedback=feedback)
    assert ada.ids("The garden gate is opened with the green key")[0] == cube


def test_feedback_is_an_event_among_the_uses_each_time_it_is_given(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    assert ada.update(cube, feedback="useful")["op"] is not None
    assert ada.update(cube, feedback="useful")["op"] is None
    assert events(ada) == {"useful": 1}, "the same word in the same minute is a repetition"
    clock.advance(minutes=5)
    assert ada.update(cube, feedback="useful")["op"] is None
    assert events(ada) == {"useful": 2}


def test_an_undo_takes_the_event_and_what_was_proposed_and_another_brings_them_back(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    ada.update(cube, feedback="wrong")
    clock.advance(days=1)
    ada.update(cube, feedback="useful")
    clock.advance(days=1)
    op = ada.update(cube, feedback="wrong")["op"]
    assert [kind for kind, _ in waiting(ada)] == ["rewrite"]
    undone = ada.undo(op)
    assert events(ada) == {"wrong": 1, "useful": 1}
    assert waiting(ada) == []
    assert ada.api.read.cube(ada.caller, cube)["behavioural"]["feedback"] == "useful"
    ada.undo(undone["op"])
    assert events(ada) == {"wrong": 2, "useful": 1}
    assert ada.api.read.cube(ada.caller, cube)["behavioural"]["feedback"] == "wrong"


def test_wrong_twice_proposes_to_archive_what_never_helped_and_once_proposes_nothing(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    assert "proposed" not in ada.update(cube, feedback="wrong")
    clock.advance(days=1)
    said = ada.update(cube, feedback="wrong")
    reason = "marked wrong twice, never useful"
    assert [one.rpartition(" (")[0] for one in said["proposed"]] == [f"archive {cube}: {reason}"]
    assert waiting(ada) == [("archive", "marked wrong twice, never useful")]
    assert f"Proposed: archive {cube}: marked wrong twice" in texts.updated(said)
    clock.advance(days=1)
    assert "proposed" not in ada.update(cube, feedback="wrong"), "it waits already"
    assert ada.state(cube) in ("generated", "activated"), "nothing is done without approval"


def test_a_rewritten_memory_begins_anew(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    ada.update(cube, feedback="wrong")
    clock.advance(days=1)
    ada.update(cube, content="The garden gate is opened with the red key")
    clock.advance(days=1)
    assert "proposed" not in ada.update(cube, feedback="wrong")


def test_stale_with_a_newer_one_proposes_to_supersede_or_to_merge_them(ada: Person, clock: Clock) -> None:
    old = ada.keep("The garden gate in the back yard is opened with the green key from the kitchen")
    clock.advance(days=1)
    new = ada.keep("The garden gate in the back yard is opened with the green key from the cellar")
    said = ada.update(old, feedback="stale")
    assert [one.partition(":")[0] for one in said["proposed"]] == [f"supersede {old}, {new}"]
    assert "proposed" not in ada.update(new, feedback="stale"), "nothing is newer than the newest"
    first = ada.keep("Standup is at 9:30 every weekday.")
    clock.advance(days=1)
    again = ada.keep("Every weekday the standup is at 9:30.")
    merged = ada.update(first, feedback="stale")["proposed"]
    assert [one.partition(":")[0] for one in merged] == [f"merge {first}, {again}"]


def test_a_long_memory_that_is_often_useful_is_proposed_to_be_split(ada: Person, clock: Clock) -> None:
    cube = ada.keep(LONG)
    for _ in range(2):
        assert "proposed" not in ada.update(cube, feedback="useful")
        clock.advance(days=1)
    assert [one.partition(":")[0] for one in ada.update(cube, feedback="useful")["proposed"]] == [f"split {cube}"]


def test_a_frozen_memory_takes_no_feedback(ada: Person) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    ada.update(cube, freeze=True)
    with pytest.raises(Conflict, match="thaw it first"):
        ada.update(cube, feedback="wrong")
    assert events(ada) == {}


def test_a_purge_leaves_no_event_and_no_proposal(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The garden gate is opened with the green key")
    ada.update(cube, feedback="wrong")
    clock.advance(days=1)
    ada.update(cube, feedback="wrong")
    ada.forget(cube, mode="purge")
    assert events(ada) == {}
    assert waiting(ada) == []


COUNTS = st.integers(0, 9)


@given(COUNTS, COUNTS, COUNTS, st.integers(0, 9_000), st.integers(1, 9), st.booleans(), st.booleans())
def test_proposals_are_of_known_kinds_once_each_and_grow_with_what_is_said(
    useful: int, wrong: int, stale: int, chars: int, parts: int, newer: bool, same: bool
) -> None:
    made = suggestions(Judged({"useful": useful, "wrong": wrong, "stale": stale}, chars, parts, newer, newer and same))
    assert all(one.kind in KINDS and 0 < one.score <= 1 and one.reason for one in made)
    assert [one.score for one in made] == sorted((one.score for one in made), reverse=True)
    if wrong < 2 and not stale and useful < 3:
        assert made == []
    said = {"useful": useful, "wrong": wrong + 1, "stale": stale}
    more = suggestions(Judged(said, chars, parts, newer, newer and same))
    worst = max((one.score for one in made if one.reason.startswith("marked wrong")), default=0.0)
    assert worst <= max((one.score for one in more if one.reason.startswith("marked wrong")), default=0.0)


@given(st.none() | st.sampled_from(["useful", "wrong", "stale"]) | st.text(max_size=5))
def test_the_factor_is_bounded_and_one_without_feedback(said: str | None) -> None:
    assert 0.5 <= factor(said) <= 1.15
    assert factor(None) == 1.0
