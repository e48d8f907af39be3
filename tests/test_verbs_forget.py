"""The verb forget: archiving, purging, and the token that binds a filter to what its dry run showed."""

from __future__ import annotations

from typing import Any

import pytest
from person import Clock, Person, as_id

from memos_mcp.errors import ConfirmationNeeded, Conflict, InvalidInput, NotFound


def confirmed(person: Person, **given: Any) -> list[str]:
    """Dry run, then the same filter with its token; returns what was forgotten."""
    token = person.forget(dry_run=True, **given)["confirm"]
    return person.forget(confirm=token, **given)["affected"]


def test_archiving_hides_a_memory_that_stays_readable(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    done = ada.forget(cube)
    assert (done["would_affect"], done["affected"]) == ([cube], [cube])
    assert ada.ids("gate code") == []
    assert ada.text(cube) == "The gate code is 4711"


def test_archiving_twice_is_no_second_operation(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    ada.forget(cube)
    again = ada.forget(cube)
    assert (again["affected"], again["op"]) == ([], None)


def test_a_purged_memory_is_nowhere(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711", tags=["codes"], metadata={"n": 1})
    ada.update(cube, content="The gate code is 4712")
    done = ada.forget(cube, mode="purge")
    assert done["affected"] == [cube]
    assert ada.ids("gate code") == []
    with pytest.raises(NotFound):
        ada.text(cube)
    told = ada.history(cube)
    assert told["versions"] == []
    assert [op["verb"] for op in told["operations"]] == ["add", "update", "purge"]


def test_a_dry_run_names_what_would_go_and_changes_nothing(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    for mode in ("archive", "purge"):
        planned = ada.forget(cube, mode=mode, dry_run=True)
        assert (planned["would_affect"], planned["affected"], planned["op"]) == ([cube], [], None)
    assert ada.ids("gate code") == [cube]


def test_purge_follows_lineage_and_the_dry_run_lists_it(ada: Person) -> None:
    source = ada.keep("The gate code is 4711")
    first = ada.keep("Code of the gate: 4711", links=[{"to": source, "relation": "derived_from"}])
    second = ada.keep("4711 opens the gate", links=[{"to": first, "relation": "copied_from"}], space="work")
    bystander = ada.keep("Gates need codes", links=[{"to": source, "relation": "about"}])
    planned = ada.forget(source, mode="purge", dry_run=True)
    assert planned["derived"]["cubes"] == [first, second]
    done = ada.forget(source, mode="purge")
    assert set(done["affected"]) == {source, first, second}
    assert ada.api.read.cube(ada.caller, bystander)["lineage"]["links"] == []


def test_purging_what_superseded_a_memory_makes_that_stand_again(ada: Person) -> None:
    old = ada.keep("Ada works at Initech")
    new = ada.keep("Ada works at Hooli", supersedes=[old])
    ada.forget(new, mode="purge")
    assert ada.ids("where does Ada work") == [old]
    assert ada.api.read.cube(ada.caller, old)["descriptive"]["valid_to"] is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"query": "lamp"}, {"green", "blue"}),
        ({"query": "green lamps"}, {"green"}),
        ({"tags": ["x"]}, {"blue", "door"}),
        ({"tags": ["x"], "query": "door"}, {"door"}),
        ({"before": "2025-06-01"}, {"door"}),
        ({"space": "personal"}, {"green", "blue", "door"}),
    ],
    ids=as_id,
)
@pytest.mark.parametrize("mode", ["archive", "purge"])
def test_a_filter_forgets_what_it_matches(ada: Person, mode: str, given: dict[str, Any], expected: set[str]) -> None:
    cubes = {
        "green": ada.keep("The green lamp"),
        "blue": ada.keep("The blue lamp", tags=["x"]),
        "door": ada.keep("The door", tags=["x"], time="2025-01-01"),
    }
    ada.keep("The lamp of another space", tags=["x"], space="work", time="2025-01-01")
    names = {cube: name for name, cube in cubes.items()}
    assert {names[cube] for cube in confirmed(ada, mode=mode, **given)} == expected


def test_a_purge_by_filter_reaches_every_state(ada: Person, clock: Clock) -> None:
    cubes = [ada.keep(f"Secret plan number {i}") for i in range(5)]
    ada.forget(cubes[0])
    ada.add("A new plan", supersedes=[cubes[1]])
    ada.update(cubes[2], expires="2026-03-01T13:00:00Z")
    ada.undo(ada.history(cubes[3])["operations"][0]["op"])
    clock.advance(days=1)
    assert set(confirmed(ada, mode="purge", query="secret plan")) == set(cubes)


def test_a_filter_without_its_token_is_refused(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    with pytest.raises(ConfirmationNeeded, match="dry_run"):
        ada.forget(query="gate")
    assert ada.state(cube) == "generated"


@pytest.mark.parametrize(
    "differs",
    [{"query": "code"}, {"tags": ["codes"]}, {"mode": "purge"}, {"before": "2030-01-01"}, {"space": "personal"}],
    ids=str,
)
def test_the_token_holds_for_its_own_filter_and_mode_alone(ada: Person, differs: dict[str, Any]) -> None:
    cube = ada.keep("The gate code is 4711", tags=["codes"])
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    with pytest.raises(ConfirmationNeeded, match="not of this filter"):
        ada.forget(confirm=token, **{"query": "gate", **differs})
    assert ada.forget(confirm=token, query="gate")["affected"] == [cube]


def test_the_token_holds_for_its_caller_alone(ada: Person, bob: Person) -> None:
    ada.keep("The gate code is 4711")
    ada.api.grant(ada.caller, "personal", "bob", ["read", "forget"])
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    with pytest.raises(ConfirmationNeeded, match="not of this filter"):
        bob.forget(confirm=token, query="gate")


def test_the_token_holds_for_the_exact_set_of_memories(ada: Person) -> None:
    ada.keep("The gate code is 4711")
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    ada.keep("The gate was painted")
    with pytest.raises(ConfirmationNeeded, match="have changed"):
        ada.forget(confirm=token, query="gate")


def test_the_token_holds_for_the_exact_versions(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    ada.update(cube, content="The gate code is 4712")
    with pytest.raises(ConfirmationNeeded, match="have changed"):
        ada.forget(confirm=token, query="gate")


def test_the_token_lasts_ten_minutes(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The gate code is 4711")
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    clock.advance(minutes=10, seconds=1)
    with pytest.raises(ConfirmationNeeded, match="10 minutes"):
        ada.forget(confirm=token, query="gate")
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    clock.advance(minutes=9, seconds=59)
    assert ada.forget(confirm=token, query="gate")["affected"] == [cube]


def test_a_tampered_token_is_refused(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The gate code is 4711")
    token = ada.forget(query="gate", dry_run=True)["confirm"]
    later = token.replace("2026-03-01T12:10", "2026-03-01T18:10")
    assert later != token
    for forged in (later, token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), "x", "."):
        with pytest.raises(ConfirmationNeeded):
            ada.forget(confirm=forged, query="gate")
    assert ada.state(cube) == "generated"


@pytest.mark.parametrize("given", [{}, {"ids": ["a"], "query": "b"}, {"ids": ["a"], "tags": ["b"]}], ids=str)
def test_either_ids_or_a_filter(ada: Person, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="either"):
        ada.forget(*given.pop("ids", []), **given)


def test_a_query_without_words_matches_nothing(ada: Person) -> None:
    ada.keep("The gate code is 4711")
    assert ada.forget(query="?!", dry_run=True)["would_affect"] == []
    assert confirmed(ada, query="?!") == []


def test_unknown_ids_are_all_named_and_nothing_is_forgotten(ada: Person) -> None:
    cube = ada.keep("The gate code is 4711")
    with pytest.raises(NotFound) as caught:
        ada.forget("first", cube, "second", mode="purge")
    assert caught.value.ids == ("first", "second")
    assert ada.state(cube) == "generated"


def test_a_frozen_memory_in_a_filter_is_named(ada: Person) -> None:
    ada.keep("The gate code is 4711")
    frozen = ada.keep("The gate is green")
    ada.update(frozen, freeze=True)
    with pytest.raises(Conflict, match=frozen):
        confirmed(ada, query="gate", mode="purge")
    assert len(ada.ids("gate")) == 2


def test_a_filter_in_chinese_forgets_by_its_words(ada: Person) -> None:
    cube = ada.keep("用户喜欢喝绿茶")
    ada.keep("用户喜欢喝咖啡")
    assert confirmed(ada, query="绿茶") == [cube]


def test_a_filter_of_very_many_words_is_carried_out(ada: Person) -> None:
    words = " ".join(f"w{i}" for i in range(400))
    cube = ada.keep(words)
    assert confirmed(ada, query=words[:2_000].rsplit(" ", 1)[0]) == [cube]
