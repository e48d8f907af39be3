"""Tiers: which topic a turn goes on with, what is warm enough for the long term, how tools did; and what is undone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from hypothesis import given
from hypothesis import strategies as st
from person import Clock, Person, eventually

from memos_mcp.cube import Cube, Snapshot
from memos_mcp.errors import Conflict, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import proposals
from memos_mcp.memory_api import tiers
from memos_mcp.memory_api.parts import Parts
from memos_mcp.plaintext.embedding import pin
from memos_mcp.policies import tiers as policy
from memos_mcp.policies.tiers import JOIN, MOST_TURNS, Topic, Turn, goes_long, place, segment_heat, tier_of
from memos_mcp.policies.use import Use
from memos_mcp.requests import Message
from memos_mcp.scheduler.segmenter import Segmenter, keywords
from memos_mcp.states import State

WORDS = st.frozensets(st.sampled_from(["kayak", "river", "oar", "wine", "cheese", "bug", "茶", "山"]), max_size=5)
VECTORS = st.none() | st.integers(0, 7).map(lambda at: np.eye(8, dtype=np.float32)[at])


def turn(cube: int, words: str, session: str | None = "s", at: int | None = None) -> Turn:
    vector = None if at is None else np.eye(8, dtype=np.float32)[at]
    return Turn(cube, session, frozenset(words.split()), vector)


def topic(key: int, *turns: Turn) -> Topic:
    made = Topic(key)
    for one in turns:
        made.add(one)
    return made


# The rules.


@given(st.lists(st.tuples(WORDS, VECTORS), max_size=12))
def test_every_turn_goes_to_one_topic_and_only_to_one_that_is_there(said: list[tuple[frozenset[str], Any]]) -> None:
    topics: list[Topic] = []
    for number, (words, vector) in enumerate(said, 1):
        one = Turn(number, "s", words, vector)
        joins = place(one, topics, number - 1 or None)
        assert joins.topic is None or joins.topic in {t.key for t in topics}
        assert joins.continues is None or joins.continues < number
        assert (joins.topic is None) == (joins.continues is None)
        if joins.topic is None:
            topics.append(Topic(number))
        next(t for t in topics if t.key == (joins.topic or number)).add(one)
    assert sorted(cube for t in topics for cube, _ in t.turns) == list(range(1, len(said) + 1))


def test_a_turn_goes_on_with_its_topic_and_from_the_turn_that_spoke_of_it() -> None:
    boats = topic(1, turn(1, "kayak river", at=0), turn(2, "oar river", at=0))
    wine = topic(2, turn(3, "wine cheese", at=1))
    joins = place(turn(4, "kayak oar", at=0), [boats, wine], before=3)
    assert (joins.topic, joins.continues) == (1, 2)
    assert joins.score >= JOIN
    assert place(turn(5, "code bug", at=5), [boats, wine], before=3).topic is None


def test_what_says_little_follows_the_turn_before() -> None:
    wine = topic(2, turn(3, "wine cheese", at=1))
    joins = place(turn(4, "yes", at=5), [wine], before=3)
    assert (joins.topic, joins.continues) == (2, 3)


def test_a_full_topic_takes_no_more() -> None:
    full = topic(1, *(turn(at, "kayak river", at=0) for at in range(MOST_TURNS)))
    assert place(turn(MOST_TURNS, "kayak river", at=0), [full], MOST_TURNS - 1).topic is None


@pytest.mark.parametrize(
    ("kind", "after", "idle", "long", "tier"),
    [
        ("fact", 0, 0.0, False, "long-term"),
        ("tool_trace", 0, 0.0, False, "tool"),
        ("dialogue", 6, 0.5, False, "short-term"),
        ("dialogue", 7, 0.5, False, "mid-term"),
        ("dialogue", 0, 1.0, False, "mid-term"),
        ("dialogue", 0, 9.0, True, "long-term"),
        ("dialogue", 0, 0.0, True, "short-term"),
    ],
)
def test_the_tier_of_a_memory(kind: str, after: int, idle: float, long: bool, tier: str) -> None:
    assert tier_of(kind, after, idle, long) == tier
    assert tier in policy.MEANINGS


@given(st.lists(st.builds(Use, st.floats(0, 99), st.floats(0, 99), st.floats(0, 99)), max_size=5), st.floats(0, 99))
def test_a_further_turn_makes_a_segment_no_colder(uses: list[Use], age: float) -> None:
    ages = [9.0] * len(uses)
    assert segment_heat(uses, ages) <= segment_heat([*uses, Use(0, 0, age)], [*ages, age]) <= 1.0


def test_a_segment_goes_to_the_long_term_when_warm_and_again_only_when_it_has_grown() -> None:
    assert goes_long(policy.LONG_TERM - 0.01, 9, None) is None
    assert "warm" in str(goes_long(policy.LONG_TERM, 9, None))
    assert goes_long(1.0, 9 + policy.GROWN - 1, 9) is None
    assert [policy.may_go_long(9, None), policy.may_go_long(9 + policy.GROWN - 1, 9)] == [True, False]
    assert "grown by 8" in str(goes_long(1.0, 9 + policy.GROWN, 9))


@pytest.mark.parametrize(
    ("said", "by", "words"),
    [
        ("What did you do with the kayaks?", None, {"kayak"}),
        ("Ivo: the kayak is Ivo's", "Ivo", {"kayak"}),
        ("李娜喝茶", "李娜", {"娜喝", "喝茶"}),
        ("\U0001f600", None, set()),
    ],
)
def test_keywords_are_stems_without_what_every_turn_has(said: str, by: str | None, words: set[str]) -> None:
    cube = Cube(
        1, "c", 1, "s", 1, State.GENERATED, "ada", "2026", "2026", None, "en", "op", 0, None,
        Snapshot(content=said, kind="dialogue", name=by),
    )  # fmt: skip
    assert keywords(cube) == words


# The ledger.

BOATS = [
    ("user", "My kayak leaks at the stern and the river is high."),
    ("assistant", "A kayak that leaks at the stern can be patched before the river falls."),
    ("user", "I patched the kayak stern with resin for the river trip."),
    ("user", "The river trip with the kayak begins at the old mill by the river."),
]
WINE = [
    ("user", "Which cheese goes with a red wine from the cellar?"),
    ("user", "The cellar has red wine and goat cheese for the evening."),
]


def say(person: Person, turns: list[tuple[str, str]], session: str = "s", **given: Any) -> list[str]:
    messages = [Message(role=role, content=content) for role, content in turns]
    return [cube["id"] for cube in person.add(messages=messages, session=session, **given)["cubes"]]


def placed(kernel: Kernel) -> None:
    kernel.api.parts.usage.flush()
    assert eventually(lambda: not kernel.api.read.figures()["waiting_for_vectors"])
    kernel.segmenter.catch_up()


def tier(kernel: Kernel, person: Person, cube: str) -> dict[str, Any]:
    return dict(kernel.api.read.cube(person.caller, cube)["behavioural"]["tier"])


def test_turns_of_a_topic_share_a_segment_and_link_to_the_turn_they_continue(ada: Person, kernel: Kernel) -> None:
    boats, wine = say(ada, BOATS), say(ada, WINE)
    placed(kernel)
    found = {cube: tier(kernel, ada, cube) for cube in boats + wine}
    assert {one["name"] for one in found.values()} == {"short-term"}
    of_boats = {found[cube]["segment"]["id"] for cube in boats}
    of_wine = {found[cube]["segment"]["id"] for cube in wine}
    assert len(of_boats) == len(of_wine) == 1
    assert of_boats != of_wine
    assert [found[cube]["segment"]["continues"] for cube in boats] == [None, *boats[:-1]]
    assert found[boats[0]]["segment"]["turns"] == boats


def test_a_topic_is_gone_on_with_in_another_session_of_the_space_but_of_no_other_space(
    ada: Person, kernel: Kernel
) -> None:
    boats = say(ada, BOATS)
    later = say(ada, [("user", "Is the kayak ready for the river, is the stern patched?")], "later")
    elsewhere = say(ada, [("user", "Is the kayak ready for the river, is the stern patched?")], "x", space="work")
    placed(kernel)
    assert tier(kernel, ada, later[0])["segment"]["turns"] == [*boats, *later]
    assert tier(kernel, ada, elsewhere[0])["segment"]["turns"] == elsewhere


def test_the_buffer_holds_the_last_turns_of_a_session_that_goes_on(ada: Person, kernel: Kernel, clock: Clock) -> None:
    cubes = say(ada, BOATS + WINE + BOATS)
    placed(kernel)
    names = [tier(kernel, ada, cube)["name"] for cube in cubes]
    assert names == ["mid-term"] * (len(cubes) - policy.BUFFER_TURNS) + ["short-term"] * policy.BUFFER_TURNS
    clock.advance(days=2)
    assert tier(kernel, ada, cubes[-1])["name"] == "mid-term"
    assert tier(kernel, ada, ada.keep("Ivo likes tea"))["name"] == "long-term"


@given(cut=st.integers(1, 9))
def test_the_same_turns_give_the_same_segments_in_whatever_steps(cut: int) -> None:
    turns = [turn(at, "kayak river" if at % 2 else "wine cheese", at=at % 2) for at in range(1, 11)]

    def segments(first: int) -> list[int | None]:
        topics: list[Topic] = []
        found = []
        for place_, one in enumerate(turns, 1):
            if place_ == first:  # what is read back from the ledger is the same topic
                topics = [topic(t.key, *(turns[cube - 1] for cube, _ in t.turns)) for t in topics]
            joins = place(one, topics, one.cube - 1 or None)
            if joins.topic is None:
                topics.append(Topic(one.cube))
            next(t for t in topics if t.key == (joins.topic or one.cube)).add(one)
            found.append(joins.topic)
        return found

    assert segments(cut) == segments(99)


def test_placing_again_changes_nothing_and_a_rebuild_gives_the_same(ada: Person, kernel: Kernel) -> None:
    cubes = say(ada, BOATS + WINE)
    placed(kernel)
    before = [tier(kernel, ada, cube) for cube in cubes]
    placed(kernel)
    assert [tier(kernel, ada, cube) for cube in cubes] == before
    kernel.segmenter.rebuild()
    after = [tier(kernel, ada, cube)["segment"]["turns"] for cube in cubes]
    assert after == [one["segment"]["turns"] for one in before]


def test_a_former_place_is_gone_on_from_after_a_restart(
    open_kernel: Callable[..., Kernel], ada: Person, kernel: Kernel
) -> None:
    boats = say(ada, BOATS[:2])
    placed(kernel)
    kernel.close()
    again = open_kernel()
    person = Person(again.api, "ada")
    more = say(person, BOATS[2:])
    placed(again)
    assert tier(again, person, boats[0])["segment"]["turns"] == [*boats, *more]


def test_what_was_undone_or_purged_leaves_its_segment_and_an_empty_one_goes(ada: Person, kernel: Kernel) -> None:
    boats = say(ada, BOATS)
    made = ada.add(messages=[Message(role="user", content=text) for _, text in WINE], session="s")
    placed(kernel)
    ada.undo(made["op"])
    placed(kernel)
    ada.forget(boats[1], mode="purge")
    placed(kernel)
    found = tier(kernel, ada, boats[2])["segment"]
    assert found["turns"] == [boats[0], *boats[2:]]
    assert found["continues"] is None
    figures = kernel.api.read.figures()
    assert (figures["segments"], figures["segment_turns"]) == (1, 3)
    ada.forget(*found["turns"], mode="purge")
    assert kernel.api.read.figures()["segments"] == 0


def test_turns_wait_for_their_vectors_and_are_placed_by_words_where_none_come(ada: Person, kernel: Kernel) -> None:
    parts = kernel.api.parts
    boats = say(ada, BOATS)
    placed(kernel)
    kernel.segmenter.stop()
    with parts.ledger.write() as connection:
        parts_of = parts.vault.by_ids(connection, boats)
        connection.exec_driver_sql("DELETE FROM segment_turns")
        connection.exec_driver_sql("DELETE FROM segments")
        connection.exec_driver_sql("DELETE FROM meta WHERE key = 'tiers'")
        connection.exec_driver_sql("DELETE FROM vectors")
        for cube in parts_of.values():
            row = (cube.seq, cube.space)
            connection.exec_driver_sql("INSERT OR IGNORE INTO vector_queue(cube, space) VALUES (?, ?)", row)
    Segmenter(parts).catch_up()
    assert kernel.api.read.figures()["segment_turns"] == 0
    Segmenter(parts, most_wait_s=-1.0).catch_up()
    assert kernel.api.read.figures()["segment_turns"] == 4


# The long term.

SELF = [
    ("user", "I live in Lisbon by the river and my kayak is red."),
    ("user", "My kayak is on the river in Lisbon, I live there by the river."),
    ("user", "I am allergic to peanuts, so no peanuts in the kayak on the river."),
]


def hot(kernel: Kernel, ada: Person) -> list[str]:
    cubes = say(ada, SELF)
    placed(kernel)
    for _ in range(3):
        ada.search(ids=cubes)
    placed(kernel)
    assert eventually(lambda: not kernel.runner.busy)
    return cubes


def of_kernel(kernel: Kernel, extraction: str) -> Parts:
    return replace(kernel.api.parts, extraction=extraction)


def facts(kernel: Kernel, cubes: list[str]) -> list[Any]:
    parts = kernel.api.parts
    with parts.ledger.read() as connection:
        return [cube for cube in parts.vault.derived_from(connection, cubes) if cube.state == "generated"]


def test_a_hot_topic_is_proposed_for_the_long_term_where_the_store_draws_no_statements(
    ada: Person, kernel: Kernel
) -> None:
    cubes = hot(kernel, ada)
    parts = kernel.api.parts
    assert tier(kernel, ada, cubes[0])["segment"]["heat"] >= policy.LONG_TERM
    with parts.ledger.read() as connection:
        (proposal,) = proposals.waiting(connection, [1])
    assert proposal.kind == tiers.LONG_TERM
    assert "warm" in proposal.reason
    assert facts(kernel, cubes) == []
    ops = tiers.approve(parts, ada.caller, proposal.id)
    drawn = facts(kernel, cubes)
    assert any("Lisbon" in cube.snapshot.content for cube in drawn)
    with pytest.raises(Conflict, match="done already"):
        tiers.approve(parts, ada.caller, proposal.id)
    for op in ops:
        ada.undo(op)
    assert facts(kernel, cubes) == []


def test_only_who_may_write_to_the_space_approves(ada: Person, bob: Person, kernel: Kernel) -> None:
    hot(kernel, ada)
    with kernel.ledger.read() as connection:
        (proposal,) = proposals.waiting(connection, [1])
    for person, name in ((bob, proposal.id), (ada, "nothing")):
        with pytest.raises(NotFound):
            tiers.approve(kernel.api.parts, person.caller, name)


def test_a_hot_topic_goes_to_the_long_term_once_where_the_store_draws_statements(ada: Person, kernel: Kernel) -> None:
    parts = of_kernel(kernel, "rules")
    cubes = say(ada, SELF)
    placed(kernel)
    segment = tier(kernel, ada, cubes[0])["segment"]["id"]
    tiers.to_long_term(parts, segment)
    assert facts(kernel, cubes) == [], "it is not warm yet"
    for _ in range(3):
        ada.search(ids=cubes)
    kernel.api.parts.usage.flush()
    tiers.to_long_term(parts, segment)
    drawn = facts(kernel, cubes)
    assert drawn
    assert tier(kernel, ada, cubes[0])["segment"]["long_term_since"]
    made = ada.history(drawn[0].id)["operations"][0]
    assert "warm" in str(made["reason"])
    tiers.to_long_term(parts, segment)
    assert facts(kernel, cubes) == drawn
    ada.undo(made["op"])
    tiers.to_long_term(parts, segment)
    assert len(facts(kernel, cubes)) < len(drawn), "what was undone does not come back"


# Tools.


def call(person: Person, tool: str, outcome: str, **given: Any) -> str:
    arguments = {"pattern": given.pop("pattern", "x"), "path": "."}
    trace = {"tool": tool, "arguments": arguments, "outcome": outcome, **given}
    return person.keep(json.dumps(trace), kind="tool_trace")


def test_outcomes_of_tools_are_counted_and_counted_out_again(ada: Person, bob: Person, kernel: Kernel) -> None:
    cubes = [call(ada, "grep", "ok", duration_ms=10 * at, pattern=str(at)) for at in (1, 2)]
    failed = call(ada, "grep", "error", pattern="[", error="bad pattern")
    call(ada, "ls", "ok")
    placed(kernel)
    tools = kernel.api.read.stats(ada.caller)["tools"]
    row = {"tool": "grep", "given": ["path", "pattern"]}
    assert {**row, "outcome": "ok", "calls": 2, "mean_ms": 15.0} in tools
    assert {**row, "outcome": "error", "calls": 1, "mean_ms": None} in tools
    assert Counter(one["tool"] for one in tools) == {"grep": 2, "ls": 1}
    assert kernel.api.read.stats(bob.caller)["tools"] == []
    assert tier(kernel, ada, failed)["name"] == "tool"
    ada.forget(failed, mode="purge")
    ada.forget(cubes[0], mode="purge")
    tools = kernel.api.read.stats(ada.caller)["tools"]
    assert {**row, "outcome": "ok", "calls": 1, "mean_ms": 20.0} in tools
    assert all(one["outcome"] == "ok" for one in tools)


@pytest.mark.parametrize("content", ["it went well", '{"tool": "x", "result": "\U0001f600", "outcome": "很好"}'])
def test_a_trace_in_any_words_is_counted_only_if_it_names_its_tool(ada: Person, kernel: Kernel, content: str) -> None:
    ada.keep(content, kind="tool_trace")
    placed(kernel)
    tools = kernel.api.read.stats(ada.caller)["tools"]
    assert [one["outcome"] for one in tools] == (["很好"] if content.startswith("{") else [])


def test_a_changed_embedder_is_met_with_topics_read_anew(ada: Person, kernel: Kernel) -> None:
    boats = say(ada, BOATS[:2])
    placed(kernel)
    slot = kernel.api.parts.embedder
    other = FakeEmbedder(dimensions=32, identity="other")
    with kernel.ledger.write() as connection:
        number = pin(kernel.ledger, connection, other)
    slot.swap(other, number)
    more = say(ada, BOATS[2:])
    placed(kernel)
    assert kernel.api.read.figures()["segment_turns"] == len(boats + more)


def test_a_segment_is_full_for_a_process_that_read_it_back_too(
    open_kernel: Callable[..., Kernel], ada: Person, kernel: Kernel
) -> None:
    said = [("user", f"The kayak is on the river at mile {mile}, the kayak leaks.") for mile in range(MOST_TURNS)]
    say(ada, said)
    placed(kernel)
    assert kernel.api.read.figures()["segments"] == 1
    kernel.close()
    again = open_kernel()
    say(Person(again.api, "ada"), said[:3])
    placed(again)
    assert again.api.read.figures()["segments"] == 2


def test_nothing_of_a_purged_turn_is_held(ada: Person, kernel: Kernel) -> None:
    boats = say(ada, BOATS)
    placed(kernel)
    ada.forget(boats[0], mode="purge")
    placed(kernel)
    with kernel.ledger.read() as connection:
        left = {cube.seq for cube in kernel.api.parts.vault.by_ids(connection, boats).values()}
    more = say(ada, [("user", "The kayak is on the river, and its stern leaks.")])
    placed(kernel)
    held = {number for one in kernel.segmenter.topics.values() for number, _ in one.turns}
    assert len(held) == len(left) + 1
    assert tier(kernel, ada, more[0])["segment"]["turns"] == [*boats[1:], *more]


def test_a_job_that_was_cancelled_is_made_again_when_the_topic_is_used_again(ada: Person, kernel: Kernel) -> None:
    kernel.runner.stop()
    parts = kernel.api.parts
    cubes = say(ada, SELF)
    placed(kernel)
    for _ in range(3):
        ada.search(ids=cubes)
    placed(kernel)
    (first,) = parts.jobs.unfinished(tiers.LONG_TERM)
    ada.search(ids=cubes)
    placed(kernel)
    assert [job.id for job in parts.jobs.unfinished(tiers.LONG_TERM)] == [first.id]
    parts.jobs.cancel(first.id)
    ada.search(ids=cubes)
    placed(kernel)
    (second,) = parts.jobs.unfinished(tiers.LONG_TERM)
    assert second.id != first.id


def test_a_moved_turn_leaves_its_topic_and_a_moved_trace_counts_in_its_new_space(
    ada: Person, bob: Person, kernel: Kernel
) -> None:
    boats, trace = say(ada, BOATS), call(ada, "grep", "ok")
    placed(kernel)
    ada.api.read.create_space(ada.caller, "team")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    moved = ada.relocate("team", boats[-1], trace)
    assert tier(kernel, bob, boats[-1]).get("segment", {}).get("turns", []) in ([], [boats[-1]])
    assert tier(kernel, ada, boats[0])["segment"]["turns"] == boats[:-1]
    assert [one["tool"] for one in kernel.api.read.stats(bob.caller)["tools"]] == ["grep"]
    more = say(ada, [("user", "Is the kayak ready for the river, is the stern patched?")], space="team")
    placed(kernel)
    assert tier(kernel, bob, more[0])["segment"]["turns"] == [boats[-1], *more]
    ada.undo(moved["op"])
    assert kernel.api.read.stats(bob.caller)["tools"] == []
    assert [one["tool"] for one in kernel.api.read.stats(ada.caller)["tools"]] == ["grep"]
