"""Pure decisions: what is the same memory, how a budget is shared, how warm a memory is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.cube import KINDS, SAME_TEXT_IS_SAME_MEMORY, Cube, Snapshot
from memos_mcp.policies.admission import admit, firsts, renewed, said_the_same
from memos_mcp.policies.sharing import shares
from memos_mcp.states import State


def cube(snapshot: Snapshot, state: State = State.GENERATED) -> Cube:
    return Cube(1, "c1", 1, "personal", 1, state, "ada", "t", "t", None, "en", "op", 0, None, snapshot)


@given(st.sampled_from(KINDS), st.text(min_size=1), st.sampled_from([None, "r1"]))
def test_the_same_ref_with_the_same_content_is_unchanged(kind: str, text: str, session: str | None) -> None:
    draft = Snapshot(text, kind=kind, ref="r1", session=session)
    decided = admit(draft, cube(draft), [])
    assert (decided.verdict, decided.cube and decided.cube.id) == ("unchanged", "c1")
    other = admit(Snapshot(text + "!", kind=kind, ref="r1"), cube(draft), [])
    assert (other.verdict, other.cube and other.cube.id) == ("new version", "c1")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_is_the_same_memory_for_some_kinds_only(kind: str) -> None:
    draft = Snapshot("tea", kind=kind)
    expected = "unchanged" if kind in SAME_TEXT_IS_SAME_MEMORY else "new"
    assert admit(draft, None, [cube(draft)]).verdict == expected
    assert admit(draft, None, [cube(Snapshot("tea", kind="template"))]).verdict == "new", "of another kind"


OCCASION: dict[str, Any] = {"session": "s", "valid_from": "2026-01-01T00:00:00.000Z", "role": "user", "name": "Ada"}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - SAME_TEXT_IS_SAME_MEMORY))
@pytest.mark.parametrize(
    "differs", [{}, {"session": "t"}, {"valid_from": "2027"}, {"role": "x"}, {"ref": "r"}], ids=str
)
def test_the_same_words_are_another_event_unless_the_occasion_is_the_same(kind: str, differs: dict[str, Any]) -> None:
    held = cube(Snapshot("Good morning", kind=kind, **OCCASION))
    draft = Snapshot("Good morning", kind=kind, **{**OCCASION, **differs})
    assert admit(draft, None, [held]).verdict == ("new" if differs else "unchanged")


def test_what_was_superseded_is_not_what_is_known() -> None:
    draft = Snapshot("tea")
    assert admit(draft, None, [cube(Snapshot("tea", superseded_by="c2"))]).verdict == "new"


def test_what_was_archived_comes_back_when_it_is_said_again_and_not_when_its_ref_is_imported_again() -> None:
    draft = Snapshot("tea")
    assert admit(draft, None, [cube(draft, State.ARCHIVED)]).verdict == "revived"
    named = Snapshot("tea", ref="r1")
    assert admit(named, cube(named, State.ARCHIVED), []).verdict == "unchanged"


def test_a_known_memory_that_supersedes_more_gets_a_version_that_says_so() -> None:
    held = cube(Snapshot("tea", supersedes=("a",)))
    assert admit(Snapshot("tea", supersedes=("a",)), None, [held]).verdict == "unchanged"
    assert admit(Snapshot("tea", supersedes=("b",)), None, [held]).verdict == "new version"
    assert renewed(held.snapshot, Snapshot("tea", supersedes=("b",))).supersedes == ("a", "b")


@given(st.lists(st.builds(Snapshot, st.sampled_from("ab"), kind=st.sampled_from(["fact", "event"])), max_size=8))
def test_within_a_call_every_draft_stands_for_the_first_like_it(drafts: list[Snapshot]) -> None:
    places = firsts(drafts)
    assert all(places[place] == place <= i for i, place in enumerate(places))
    assert all(drafts[place] == drafts[i] for i, place in enumerate(places))
    facts = [draft.content for draft in drafts if draft.kind == "fact"]
    kept = [drafts[i] for i in set(places)]
    assert sum(draft.kind == "fact" for draft in kept) == len(set(facts))
    assert sum(draft.kind == "event" for draft in kept) == len(drafts) - len(facts)


def test_saying_it_anew_keeps_what_is_not_said() -> None:
    held = Snapshot("tea", tags=("a",), importance=0.9, session="s", pinned=True, ref="r", metadata={"n": 1})
    fresh = renewed(held, Snapshot("coffee", ref="r", tags=("b",)))
    assert (fresh.content, fresh.tags) == ("coffee", ("b",))
    assert (fresh.importance, fresh.session, fresh.pinned, fresh.metadata) == (0.9, "s", True, {"n": 1})


def test_what_a_caller_attaches_is_part_of_what_is_said() -> None:
    held = Snapshot("tea", ref="r", metadata={"n": 1}, tags=("a",), valid_from="2026")
    assert said_the_same(Snapshot("tea", ref="r"), held)
    assert not said_the_same(Snapshot("tea", ref="r", metadata={"n": 2}), held)
    assert not said_the_same(Snapshot("tea", ref="r", tags=("b",)), held)
    assert not said_the_same(Snapshot("tea", ref="r", valid_from="2027"), held)


@given(st.lists(st.integers(0, 5_000), max_size=50), st.integers(0, 20_000))
def test_a_budget_is_shared_fairly(lengths: list[int], budget: int) -> None:
    given_out = shares(lengths, budget)
    assert sum(given_out) <= budget
    assert all(0 <= share <= length for share, length in zip(given_out, lengths, strict=True))
    cut = [share for share, length in zip(given_out, lengths, strict=True) if share < length]
    whole = [length for share, length in zip(given_out, lengths, strict=True) if share == length]
    if not cut:
        return
    assert max(cut) - min(cut) <= 1, "those that are cut are cut alike"
    assert all(length <= max(cut) + 1 for length in whole), "short ones stay whole, of what is over one more each"
    assert budget - sum(given_out) < len(lengths), "nothing is left unused"
