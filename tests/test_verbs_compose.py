"""Compositions: they refer to memories in an order, follow what these become, and give nobody more than their parts."""

from __future__ import annotations

import pytest
from person import Person

from memos_mcp.errors import Conflict, NotFound


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
    ada.api.read.grant(ada.caller, "team", "bob", ["read"])
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
