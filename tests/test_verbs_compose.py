"""Compositions: they refer to memories in an order, follow what these become, and give nobody more than their parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_engine import FakeEngine
from person import LONG, Person, states_of

from memos_mcp.errors import Conflict, NotFound
from memos_mcp.kernel import Kernel


def test_a_composition_reads_as_its_parts_do_now_and_changes_none(ada: Person) -> None:
    first, second = ada.keep("The pump is red."), ada.at("den").keep("The door is green.")
    before = [ada.api.read.cube(ada.caller, cube)["version"] for cube in (first, second)]
    made = ada.compose(second, first, title="House 房子")
    assert (made["title"], made["parts"], made["state"]) == ("House 房子", [second, first], "generated")
    assert ada.text(made["id"]) == "House 房子\n\nThe door is green.\n\nThe pump is red."
    ada.update(second, content="The door is blue.")
    assert ada.text(made["id"]) == "House 房子\n\nThe door is blue.\n\nThe pump is red."
    assert ada.api.read.cube(ada.caller, made["id"])["payload"]["value"].endswith("The pump is red.")
    assert [ada.api.read.cube(ada.caller, cube)["version"] for cube in (first, second)] == [before[0], before[1] + 1]
    assert ada.api.read.cube(ada.caller, made["id"])["version"] == 1


def test_it_is_found_by_its_title_and_through_its_parts(ada: Person) -> None:
    part, other = ada.keep("Otto repairs accordions."), ada.keep("Rain fell on Tuesday.")
    made = ada.compose(other, part, title="Autumn almanac")
    assert ada.ids("almanac for autumn", top_k=1) == [made["id"]]
    assert ada.ids("Who repairs accordions?", top_k=2) == [part, made["id"]]
    assert ada.ids("Who repairs accordions?", top_k=1) == [part]
    hit = ada.search("Who repairs accordions?", top_k=2)["hits"][1]
    assert hit["text"] == "Autumn almanac\n\nRain fell on Tuesday.\n\nOtto repairs accordions."
    ada.forget(made["id"])
    assert made["id"] not in ada.ids("Who repairs accordions?", top_k=5)
    assert part in ada.ids("Who repairs accordions?")


def test_a_purged_part_leaves_a_gap_and_the_composition_stays(ada: Person) -> None:
    part, other = ada.keep("The code is 31-41-59."), ada.keep("The door is green.")
    made = ada.compose(part, other)
    plan = ada.forget(part, mode="purge", dry_run=True)
    assert plan["derived"]["cubes"] == []
    ada.forget(part, mode="purge")
    assert ada.text(made["id"]) == (
        "Composition of 2 memories\n\n[Part 1 of 2 is missing: it is gone, or not yours to read.]\n\nThe door is green."
    )
    assert ada.text(other) == "The door is green."


def test_each_reader_reads_the_parts_that_are_theirs(ada: Person, bob: Person) -> None:
    own, shared = ada.keep("The code is 31-41-59."), ada.keep("The door is green.", space="team")
    made = ada.at("team").compose(own, shared, title="Doors")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    assert "31-41-59" not in bob.text(made["id"])
    assert bob.text(made["id"]).endswith("The door is green.")
    assert "Part 1 of 2 is missing" in bob.search("Doors", space="team")["hits"][0]["text"]
    assert "31-41-59" in ada.text(made["id"])
    with pytest.raises(NotFound):
        bob.compose(own, shared)


def test_the_same_composition_again_is_left_as_it_is(ada: Person) -> None:
    one, two = ada.keep("Ann sings."), ada.keep("Ann dances.")
    made = ada.compose(one, two, title="Ann")
    assert ada.compose(one, two, title="Ann") == {**made, "op": None}
    assert ada.compose(two, one, title="Ann")["id"] != made["id"]
    ada.undo(made["op"])
    assert ada.compose(one, two, title="Ann")["op"] is not None
    with pytest.raises(Conflict, match="itself a composition"):
        ada.compose(ada.compose(one, two, title="Ann")["id"], two)
    with pytest.raises(Conflict, match="composition"):
        ada.fuse(ada.compose(one, two, title="Ann")["id"], two)


def test_its_parts_may_be_archived_merged_or_changed(ada: Person) -> None:
    one, two = ada.keep("Ann sings."), ada.keep("Ann dances.")
    made = ada.compose(one, two, title="Ann")
    ada.fuse(one, two)
    assert ada.text(made["id"]) == "Ann\n\nAnn sings.\n\nAnn dances."


def test_a_prompt_shows_what_its_parts_say_to_who_may_read_them(ada: Person, bob: Person) -> None:
    own = ada.keep("The cellar's code is 31-41-59.")
    part = ada.keep("The plum jam stands on the third shelf.", space="team")
    secret = ada.keep("The will is behind the clock.")
    ada.update(secret, sensitivity="secret")
    made = ada.at("team").compose(own, part, secret, title="Autumn almanac")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    told = bob.context("autumn almanac", space="team")
    block = told["prefix"] + told["suffix"]
    assert "plum jam" in block
    assert "31-41-59" not in block
    assert [row["id"] for row in told["cubes"]] == [part]
    mine = ada.at("team").context("autumn almanac", space="team")
    block = mine["prefix"] + mine["suffix"]
    assert "31-41-59" in block, "a part of another space that is the caller's own"
    assert "behind the clock" not in block
    assert made["id"] not in [row["id"] for row in mine["cubes"]]


def test_the_next_turns_of_a_prompt_follow_the_parts(ada: Person, bob: Person) -> None:
    part, other = ada.at("den").keep("The plum jam stands on the third shelf."), ada.keep("Rain fell on Tuesday.")
    ada.compose(part, other, title="Autumn almanac")
    for n in range(12):
        ada.keep(f"Lamp {chr(97 + n)} hangs in a long hall of its own.")
    first = ada.context("autumn almanac", space="personal")
    again = ada.context("autumn almanac", space="personal")
    assert part in [row["id"] for row in again["cubes"]]
    assert (again["prefix"] + again["suffix"]).startswith(first["prefix"])
    ada.update(part, content="The plum jam stands on the fourth shelf.")
    later = ada.context("autumn almanac", space="personal")
    assert "fourth shelf" in later["prefix"] + later["suffix"]
    ada.forget(part, mode="purge")
    gone = ada.context("autumn almanac", space="personal")
    assert "shelf" not in gone["prefix"] + gone["suffix"]


def test_a_pinned_composition_stands_in_every_prompt_by_its_parts(ada: Person) -> None:
    part, other = ada.keep("The plum jam stands on the third shelf."), ada.keep("Rain fell on Tuesday.")
    made = ada.compose(part, other, title="Autumn almanac")
    ada.update(made["id"], pin=True)
    assert [row["id"] for row in ada.context("Who was Ptolemy?")["cubes"]][:2] == [part, other]


def test_the_local_model_reads_the_parts(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> None:
    kernel = open_kernel(engine=lambda _: engine)
    ada, bob = Person(kernel.api, "ada"), Person(kernel.api, "bob")
    part, other = ada.keep(f"The plum jam is on the shelf {LONG}", space="team"), ada.keep(f"Rain fell {LONG}")
    made = ada.at("team").compose(part, other, title="Autumn almanac")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    ada.activate(made["id"])
    assert {cube["id"] for cube in ada.ask("What of it?", ids=[made["id"]])["used"]} == {part, other}
    assert [cube["id"] for cube in bob.ask("What of it?", ids=[made["id"]])["used"]] == [part]
    assert [cube["id"] for cube in bob.ask("autumn almanac", space="team")["used"]] == [part]
    held = states_of(kernel).catalogue.entries.values()
    assert any(entry.promoted for entry in held)
    assert ada.promote(made["id"], to="plaintext")["moved"]
    assert not any(entry.promoted for entry in held)
    ada.forget(part, mode="purge")
    ada.forget(other, mode="purge")
    with pytest.raises(Conflict, match="No part"):
        ada.promote(made["id"])
