"""The verb undo: every verb can be taken back, and taking back can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from person import Person

from memos_mcp.errors import Conflict, NotFound


def visible(person: Person, cube: str) -> dict[str, Any]:
    """What a caller can see of a memory, but for the count of its versions and operations."""
    kept = person.api.read.cube(person.caller, cube)
    del kept["version"], kept["descriptive"]["updated"], kept["lineage"]["op"]
    del kept["behavioural"]["heat"], kept["behavioural"]["uses"], kept["behavioural"]["last_used"]
    return kept


VERBS: dict[str, Callable[[Person, str], str | None]] = {
    "update content": lambda p, cube: p.update(cube, content="Other words")["op"],
    "update fields": lambda p, cube: p.update(cube, tags=["x"], importance=1.0, expires="2030-01-01", pin=True)["op"],
    "link": lambda p, cube: p.update(cube, links=[{"to": cube, "relation": "about"}])["op"],
    "freeze": lambda p, cube: p.update(cube, freeze=True)["op"],
    "change and freeze": lambda p, cube: p.update(cube, content="Other words", freeze=True)["op"],
    "confirm": lambda p, cube: p.update(cube, feedback="useful")["op"],
    "blame": lambda p, cube: p.update(cube, feedback="wrong")["op"],
    "archive": lambda p, cube: p.forget(cube)["op"],
    "supersede": lambda p, cube: p.add("Newer words", supersedes=[cube])["op"],
    "fuse": lambda p, cube: p.fuse(cube, p.keep("The office has a garden"))["op"],
    "split": lambda p, cube: p.split(cube, "The office", "is in Berlin")["op"],
    "move": lambda p, cube: p.relocate("den", cube)["op"],
    "version by ref": lambda p, cube: p.add("Other words", ref="r1")["op"],
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
def test_every_verb_can_be_undone_and_the_undo_too(ada: Person, verb: Callable[[Person, str], str | None]) -> None:
    cube = ada.keep("The office is in Berlin", ref="r1", tags=["a"])
    before = visible(ada, cube)
    op = verb(ada, cube)
    after = visible(ada, cube)
    assert after != before
    undo = ada.undo(op)["op"]
    assert visible(ada, cube) == before
    redo = ada.undo(undo)["op"]
    assert visible(ada, cube) == after
    ada.undo(redo)
    assert visible(ada, cube) == before


def test_undoing_an_add_takes_the_memory_out_and_undoing_that_brings_it_back(ada: Person) -> None:
    added = ada.add("The office is in Berlin")
    cube = added["cubes"][0]["id"]
    undo = ada.undo(added["op"])
    assert undo["undone"] == [cube]
    assert ada.ids("office") == []
    assert ada.state(cube) == "expired"
    ada.undo(undo["op"])
    assert ada.ids("office") == [cube]


def test_undoing_a_use_takes_the_activation_back(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    ada.search("office")
    ada.api.parts.usage.flush()
    use = ada.history(cube)["operations"][-1]
    assert (use["verb"], use["undoable"]) == ("use", True)
    ada.undo(use["op"])
    with ada.api.parts.ledger.read() as connection:
        assert ada.api.parts.vault.by_ids(connection, [cube])[cube].state == "generated"


def test_thawing_is_undone_with_what_was_frozen_remembered(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    ada.update(cube, feedback="useful")
    ada.update(cube, freeze=True)
    thaw = ada.update(cube, freeze=False)
    ada.undo(thaw["op"])
    assert ada.state(cube) == "frozen"
    assert ada.update(cube, freeze=False)["state"] == "activated"


def test_a_conversation_is_undone_as_a_whole(ada: Person) -> None:
    added = ada.add(messages=[{"role": "user", "content": f"Line {i}"} for i in range(7)])
    assert len(ada.undo(added["op"])["undone"]) == 7
    assert ada.ids("line") == []


def test_use_does_not_stand_in_the_way(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    archived = ada.forget(cube)
    ada.undo(archived["op"])
    ada.search("office")
    ada.api.parts.usage.flush()
    assert ada.state(cube) == "activated"
    added = ada.history(cube)["operations"][0]["op"]
    ada.undo(added)
    assert ada.ids("office") == []


def test_an_operation_is_undone_once(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    op = ada.update(cube, tags=["a"])["op"]
    undo = ada.undo(op)["op"]
    with pytest.raises(Conflict, match=undo):
        ada.undo(op)
    redo = ada.undo(undo)["op"]
    last = ada.undo(redo)["op"]
    with pytest.raises(Conflict, match=undo):
        ada.undo(op)
    told = {entry["op"]: entry for entry in ada.history(cube)["operations"]}
    assert [told[o]["undoable"] for o in (op, undo, redo, last) if o is not None] == [False, True, False, True]


def test_other_fields_changed_since_stay(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    op = ada.update(cube, content="The office is in Bonn")["op"]
    ada.update(cube, tags=["a"])
    ada.undo(op)
    kept = ada.api.read.cube(ada.caller, cube)
    assert (kept["payload"]["value"], kept["descriptive"]["tags"]) == ("The office is in Berlin", ["a"])
    assert ada.ids("Berlin") == [cube]


def test_the_same_field_changed_since_is_a_conflict_that_names_the_operation(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    first = ada.update(cube, content="The office is in Bonn")["op"]
    second = ada.update(cube, content="The office is in Munich")["op"]
    ada.update(cube, tags=["unrelated"])
    assert second is not None
    with pytest.raises(Conflict, match=second):
        ada.undo(first)
    assert ada.text(cube) == "The office is in Munich"


def test_what_a_later_operation_has_put_back_already_is_not_undone_again(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin", tags=["a"])
    first = ada.update(cube, tags=["b"])["op"]
    second = ada.update(cube, tags=["a"])["op"]
    assert second is not None
    with pytest.raises(Conflict, match=second):
        ada.undo(first)
    assert [op["op"] for op in ada.history(cube)["operations"]][1:] == [first, second]


@pytest.mark.parametrize("later", ["archive", "freeze", "update content", "supersede"])
def test_an_add_with_something_later_is_a_conflict_that_names_the_operation(ada: Person, later: str) -> None:
    added = ada.add("The office is in Berlin", ref="r1")
    cube = added["cubes"][0]["id"]
    op = VERBS[later](ada, cube)
    assert op is not None
    with pytest.raises(Conflict, match=op):
        ada.undo(added["op"])
    ada.undo(op)
    ada.undo(added["op"])
    assert ada.state(cube) == "expired"


def test_a_state_changed_since_is_a_conflict_that_names_the_operation(ada: Person) -> None:
    cube = ada.keep("The office is in Berlin")
    archived = ada.forget(cube)["op"]
    frozen = ada.update(cube, freeze=True)["op"]
    assert frozen is not None
    with pytest.raises(Conflict, match=frozen):
        ada.undo(archived)
    assert ada.state(cube) == "frozen"


def test_undo_is_all_or_nothing(ada: Person) -> None:
    cubes = [ada.keep(f"Fact number {i}") for i in range(3)]
    archived = ada.forget(*cubes)["op"]
    ada.update(cubes[2], freeze=True)
    with pytest.raises(Conflict):
        ada.undo(archived)
    assert [ada.state(cube) for cube in cubes] == ["archived", "archived", "frozen"]


def test_an_operation_on_a_purged_memory_cannot_be_undone(ada: Person) -> None:
    added = ada.add("The office is in Berlin")
    cube = added["cubes"][0]["id"]
    purged = ada.forget(cube, mode="purge")["op"]
    for op in (added["op"], purged):
        with pytest.raises(Conflict, match="purged"):
            ada.undo(op)
    assert [op["undoable"] for op in ada.history(cube)["operations"]] == [False, False]


def test_an_unknown_operation_is_named(ada: Person) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        ada.undo("nowhere")


def test_the_meaning_of_a_restored_text_is_searched_again(ada: Person) -> None:
    cube = ada.keep("Lighthouses guide ships")
    op = ada.update(cube, content="Bread needs flour and salt")["op"]
    ada.undo(op)
    found = ada.search("guiding ships by lighthouses")["hits"][0]
    assert found["id"] == cube
    assert found["why"]["cosine"] is not None
    assert found["why"]["cosine"] > 0.5
