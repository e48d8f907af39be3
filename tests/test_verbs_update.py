"""The verbs update and history: next versions, freezing, feedback, and who did what."""

from __future__ import annotations

from typing import Any

import pytest
from person import Clock, Person

from memos_mcp.errors import Conflict, InvalidInput, NotFound
from memos_mcp.states import IllegalMove


def test_new_content_is_the_next_version_and_the_old_one_is_kept(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The office is in Berlin")
    clock.advance(minutes=1)
    updated = ada.update(cube, content="The office is in Munich")
    assert (updated["version"], updated["state"]) == (2, "generated")
    assert ada.text(cube) == "The office is in Munich"
    assert [v["text"] for v in ada.history(cube)["versions"]] == ["The office is in Berlin", "The office is in Munich"]
    assert ada.api.read.cube(ada.caller, cube, 1)["payload"]["value"] == "The office is in Berlin"
    assert ada.ids("Munich") == [cube]
    assert "berlin" not in ada.search("Berlin")["hits"][0]["why"]["words"]


def test_every_field_that_is_given_changes_and_no_other(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin", tags=["a"], importance=0.2)
    other = ada.keep("The office has a garden")
    ada.update(
        cube, tags=["b", "c"], priority=0.9, expires="2027-01-01", pin=True, sensitivity="private",
        links=[{"to": other, "relation": "about"}],
    )  # fmt: skip
    kept = ada.api.read.cube(ada.caller, cube)
    assert kept["payload"]["value"] == "The office is in Berlin"
    assert kept["descriptive"]["tags"] == ["b", "c"]
    assert kept["behavioural"]["importance"] == 0.2
    governance = kept["governance"]
    assert (governance["priority"], governance["pinned"], governance["sensitivity"]) == (0.9, True, "private")
    assert governance["expires"] == "2027-01-01T00:00:00.000Z"
    assert kept["lineage"]["links"] == [{"to": other, "relation": "about"}]
    ada.update(cube, expires="never")
    assert ada.api.read.cube(ada.caller, cube)["governance"]["expires"] is None


def test_an_update_that_changes_nothing_is_no_operation(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin", tags=["a"])
    same = ada.update(cube, content="The office is in Berlin", tags=["a"], freeze=False)
    assert (same["version"], same["op"]) == (1, None)


@pytest.mark.parametrize(
    "given",
    [{}, {"content": " "}, {"content": "a", "append": "b"}, {"append": "b"}, {"expires": "soon"}, {"tags": [" "]}],
    ids=str,
)
def test_an_update_that_cannot_be_is_refused(ada: Person, given: dict[str, Any]) -> None:
    cube = ada.keep("The office is in Berlin")
    with pytest.raises(InvalidInput):
        ada.update(cube, **given)
    assert ada.text(cube) == "The office is in Berlin"


def test_append_adds_to_a_block(ada: Person) -> None:
    cube = ada.keep("Persona: helpful", kind="block")
    ada.update(cube, append="Speaks German")
    assert ada.text(cube) == "Persona: helpful\nSpeaks German"


def test_an_unknown_id_is_named(ada: Person) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        ada.update("nowhere", content="a")


def test_a_frozen_memory_refuses_change_until_it_is_thawed(ada: Person) -> None:
    cube, other = ada.keep("The office is in Berlin", ref="office"), ada.keep("The office is in Munich")
    assert ada.update(cube, freeze=True)["state"] == "frozen"
    with pytest.raises(Conflict, match="thaw"):
        ada.update(cube, content="The office is in Bonn")
    with pytest.raises(Conflict, match="thaw"):
        ada.forget(cube)
    with pytest.raises(Conflict, match="thaw"):
        ada.forget(cube, mode="purge")
    with pytest.raises(Conflict, match="thaw"):
        ada.add("The office is in Bonn", supersedes=[cube])
    with pytest.raises(Conflict, match="thaw"):
        ada.add("The office is in Bonn", ref="office")
    assert ada.ids("office Berlin")[0] == cube, "frozen is still found"
    assert ada.update(cube, freeze=False, content="The office is in Bonn")["state"] == "generated"
    assert ada.text(cube) == "The office is in Bonn"
    assert ada.state(other) == "generated"


def test_one_call_may_change_and_freeze(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    updated = ada.update(cube, content="The office is in Bonn", freeze=True)
    assert (updated["version"], updated["state"]) == (2, "frozen")


def test_thawing_gives_the_state_that_was_frozen(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    ada.forget(cube)
    ada.update(cube, freeze=True)
    assert ada.update(cube, freeze=False)["state"] == "archived"


def test_useful_feedback_confirms_a_memory(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    assert ada.update(cube, feedback="useful")["state"] == "activated"
    assert ada.api.read.cube(ada.caller, cube)["behavioural"]["feedback"] == "useful"


def test_an_expired_memory_refuses_change(ada: Person) -> None:
    added = ada.add("The office is in Berlin")
    cube = added["cubes"][0]["id"]
    ada.undo(added["op"])
    with pytest.raises(Conflict, match="expired"):
        ada.update(cube, content="The office is in Bonn")
    with pytest.raises(IllegalMove):
        ada.update(cube, freeze=True)


def test_history_tells_who_did_what_when_and_through_which_client(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The office is in Berlin")
    clock.advance(hours=2)
    ada.update(cube, tags=["a"])
    ada.forget(cube)
    told = ada.history(cube)["operations"]
    assert [op["verb"] for op in told] == ["add", "update", "forget"]
    assert {(op["principal"], op["client"]) for op in told} == {("ada", "tests")}
    assert [op["at"] for op in told] == sorted(op["at"] for op in told)
    assert told[2]["changes"] == [
        {"cube": cube, "from_version": None, "to_version": None, "from_state": "generated", "to_state": "archived"}
    ]


def test_history_of_nothing_in_particular_is_the_latest_first(ada: Person) -> None:
    ops = [ada.add(f"Fact number {i}")["op"] for i in range(25)]
    assert [op["op"] for op in ada.history()["operations"]] == ops[:4:-1]


def test_history_takes_an_id_or_an_operation_and_not_both(ada: Person) -> None:
    added = ada.add("The office is in Berlin")
    told = ada.history(op=added["op"])["operations"]
    assert [op["op"] for op in told] == [added["op"]]
    with pytest.raises(InvalidInput, match="not both"):
        ada.history(added["cubes"][0]["id"], added["op"])
    with pytest.raises(NotFound, match="nowhere"):
        ada.history("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        ada.history(op="nowhere")
