"""Steering vectors: made of two sets of memories, mounted by who may, and gone with what they are made of."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from person import LONG, Clock, Person, eventually, states_of
from sqlalchemy import text

from memos_mcp.activation.contrast import contrast
from memos_mcp.errors import AccessDenied, Conflict, EngineUnavailable, InvalidInput, MemosError, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.requests import DocumentRequest


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


class Steered:
    """Two facts a side, a vector of them, and another memory to ask about."""

    def __init__(self, ada: Person, **given: Any) -> None:
        self.towards = [ada.keep(f"The gate {n} is red", tags=["red"]) for n in range(2)]
        self.away = [ada.keep(f"The gate {n} is blue", tags=["blue"]) for n in range(2)]
        self.asked = ada.keep(f"The well is deep {LONG}")
        self.made = ada.steer("red, not blue", self.towards, self.away, **given)
        self.id = self.made["id"]
        self.ada = ada

    def answer(self, weight: float | None, **given: Any) -> str:
        """What is answered under the vector; without a weight, under nothing."""
        adapters = [] if weight is None else [{"id": self.id, "weight": weight}]
        return self.ada.ask("How deep?", **{"ids": [self.asked], "adapters": adapters} | given)["answer"]


@pytest.fixture
def steered(ada: Person) -> Steered:
    return Steered(ada)


def files(home: Path) -> list[Path]:
    return sorted((home / "states").glob("*.steering"))


def payload(person: Person, cube: str) -> dict[str, Any]:
    found: dict[str, Any] = person.api.read.cube(person.caller, cube)["payload"]
    return found


def rows(kernel: Kernel) -> int:
    with kernel.ledger.read() as connection:
        tables = ("steerings", "steering_sources")
        counts = [connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in tables]
    return sum(int(count or 0) for count in counts)


def nothing_left(kernel: Kernel, home: Path) -> bool:
    under = [entry for entry in states_of(kernel).catalogue.entries.values() if entry.mounted]
    return not files(home) and not rows(kernel) and not under


# --- the direction

SIDE = st.lists(st.lists(st.floats(-5, 5), min_size=6, max_size=6), min_size=1, max_size=6)


def side(rows: list[list[float]]) -> list[Any]:
    return [np.array(row, np.float32).reshape(2, 3) for row in rows]


@given(SIDE, SIDE)
def test_the_direction_back_is_the_opposite_and_weight_1_adds_it_once(
    there: list[list[float]], here: list[list[float]]
) -> None:
    forth, back = contrast(side(there), side(here)), contrast(side(here), side(there))
    assert np.allclose(forth.rows, -back.rows)
    assert all(0.0 <= share <= 1.0 for share in forth.shares)
    assert forth.shares == pytest.approx(back.shares, abs=1e-3)
    difference = np.mean(side(there), axis=0) - np.mean(side(here), axis=0)
    assert np.allclose(forth.rows.sum(axis=0), difference.mean(axis=0), atol=1e-4)


def test_sides_that_differ_in_nothing_else_share_all_of_the_variance() -> None:
    one, other = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert contrast([one, one], [other]).shares == (1.0, 1.0)
    assert contrast([one], [one]).is_nothing


# --- how it is made, and what it is


def test_a_vector_is_a_cube_of_form_activation_with_lineage_to_all_that_it_is_made_of(
    ada: Person, steered: Steered, home: Path
) -> None:
    assert steered.made["layers"] == [1, 2]
    assert len(steered.made["shares"]) == len(steered.made["norms"]) == 2
    cube = ada.api.read.cube(ada.caller, steered.id)
    payload = cube["payload"]
    (file,) = files(home)
    assert (payload["form"], payload["format"]) == ("activation", "application/x-steering+f32")
    assert payload["blob"]["size"] == file.stat().st_size
    assert len(payload["blob"]["sha256"]) == 64
    assert payload["made"]["layers"] == [1, 2]
    assert payload["made"]["width"] == 8
    sides = {(source["id"], source["side"]) for source in payload["made"]["sources"]}
    assert sides == {(c, "towards") for c in steered.towards} | {(c, "away") for c in steered.away}
    assert cube["lineage"]["parents"] == steered.towards + steered.away
    assert {link["relation"] for link in cube["lineage"]["links"]} == {"towards", "away"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"gate" not in file.read_bytes()
    assert b"red" not in file.read_bytes()


def test_the_same_again_is_what_is_there_and_another_of_the_name_is_refused(ada: Person, steered: Steered) -> None:
    again = ada.steer("red, not blue", ["tag:red"], [f"memcube://{c}" for c in steered.away])
    assert (again["id"], again["op"]) == (steered.id, None)
    with pytest.raises(Conflict, match="another name"):
        ada.steer("red, not blue", steered.away, steered.towards)


def test_layers_can_be_chosen_and_what_the_model_does_not_have_is_refused(ada: Person, steered: Steered) -> None:
    assert ada.steer("last", steered.towards, steered.away, layers=[2, 2])["layers"] == [2, 2]
    for layers in ([0, 1], [1, 3], [2, 1]):
        with pytest.raises(InvalidInput, match=r"layer 0, which cannot, and 1 to 2"):
            ada.steer("wrong", steered.towards, steered.away, layers=layers)


def test_what_cannot_be_made_is_refused_in_a_sentence_and_leaves_nothing(
    ada: Person, bob: Person, kernel: Kernel, home: Path
) -> None:
    one, other = ada.keep("The gate is red"), ada.keep("The gate is blue")
    ada.update(secret := ada.keep("The key is under the stone"), sensitivity="secret")
    archived = ada.keep("The gate was green")
    ada.forget(archived)
    for towards, away, why in (
        ([one], [one], "both sides"),
        ([one], ["tag:none"], "away names 0 memories"),
        ([one], [secret], "secret"),
        ([one], [archived], "is over"),
        ([one], ["01JUNKJUNKJUNKJUNKJUNKJUNK"], "No memory"),
    ):
        with pytest.raises(MemosError, match=why):
            ada.steer("x", towards, away)
    with pytest.raises(NotFound):
        bob.steer("x", [one], [bob.at("bobs").keep("Mine")])
    assert nothing_left(kernel, home)
    assert ada.api.read.adapters(ada.caller) == []
    assert "steer" not in {operation["verb"] for operation in ada.history()["operations"]}
    assert ada.steer("x", [one], [other])["op"]


def test_sides_that_the_model_cannot_tell_apart_are_said_and_nothing_is_kept(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    class Deaf(FakeEngine):
        def hidden(self, texts: Any, turn: Any = None) -> Any:
            return tuple(np.ones((3, 8), np.float32) for _ in texts)

    kernel = open_kernel(engine=lambda _: Deaf(cells=10_000))
    ada = Person(kernel.api, "ada")
    ada.caller = replace(ada.caller, request="connection:1")
    one, other = (Person(kernel.api, "ada").keep(f"The gate is {colour}") for colour in ("red", "blue"))
    with pytest.raises(Conflict, match=r"does not tell .* apart.*Nothing was kept"):
        ada.steer("x", [one], [other])
    assert nothing_left(kernel, home)
    assert ada.api.read.adapters(ada.caller) == []


def test_without_a_model_a_sentence_says_what_to_install(open_kernel: Callable[..., Kernel]) -> None:
    ada = Person(open_kernel().api, "ada")
    one, other = ada.keep("The gate is red"), ada.keep("The gate is blue")
    with pytest.raises(EngineUnavailable, match=r"memos-mcp\[activation\]"):
        ada.steer("x", [one], [other])
    with pytest.raises(EngineUnavailable, match=r"memos-mcp\[activation\]"):
        ada.ask("What?", ids=[one], adapters=[{"id": one, "weight": 1}])


def test_a_vector_is_in_no_search_no_prompt_and_no_reading(ada: Person, steered: Steered) -> None:
    everything = ada.ids("red, not blue", top_k=50, include=["archived", "superseded"])
    assert steered.id not in everything
    assert set(everything) == {*steered.towards, *steered.away, steered.asked}
    assert steered.id not in ada.ids("red, not blue", as_of="2027-01-01", top_k=50)
    ada.update(steered.id, pin=True)
    assert steered.id not in [cube["id"] for cube in ada.context("red, not blue")["cubes"]]
    assert ada.search(ids=[steered.id])["hits"][0]["form"] == "activation"
    fact = ada.keep("red, not blue")
    assert fact != steered.id
    with pytest.raises(InvalidInput, match="in adapters"):
        ada.ask("What?", ids=[steered.id])
    with pytest.raises(Conflict, match="steering vector"):
        ada.promote(steered.id)
    with pytest.raises(Conflict, match="steering vector itself"):
        ada.steer("of itself", [steered.id], steered.away)
    with pytest.raises(InvalidInput, match="no steering vector"):
        ada.ask("What?", adapters=[{"id": fact, "weight": 1}])


def test_doctor_and_reindex_take_it_for_what_it_is(ada: Person, kernel: Kernel, steered: Steered, home: Path) -> None:
    from memos_mcp.maintenance import derivatives

    derivatives.reindex(kernel)
    assert eventually(lambda: not kernel.api.parts.indexer.busy)
    checks = {check.name: check for check in of_running(kernel)}
    assert {check.name for check in checks.values() if check.status != "ok"} == set()
    assert checks["steering vectors"].said.startswith("1 in files")
    (file,) = files(home)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    checks = {check.name: check for check in of_running(kernel)}
    assert checks["steering vectors"].status == "warn"
    assert steered.id in checks["steering vectors"].said


# --- mounting


def test_each_weight_is_a_model_of_its_own_and_none_is_the_plain_one(ada: Person, steered: Steered) -> None:
    plain = steered.answer(None)
    answers = {weight: steered.answer(weight) for weight in (-4.0, -1.0, 1.0, 4.0)}
    assert len({plain, *answers.values()}) == 5
    assert steered.answer(0.0) == plain
    assert steered.answer(1.0) == answers[1.0]
    told = ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": -1}])
    assert told["mounted"] == [{"id": steered.id, "version": 1, "weight": -1.0, "first": 1, "last": 2}]
    assert "mounted" not in ada.ask("How deep?", ids=[steered.asked])


def test_states_are_shared_by_those_who_ask_under_the_same_mount_alone(ada: Person, steered: Steered) -> None:
    def how(weight: float | None) -> str:
        adapters = [] if weight is None else [{"id": steered.id, "weight": weight}]
        return ada.ask("How deep?", ids=[steered.asked], adapters=adapters)["used"][0]["how"]

    assert [how(weight) for weight in (None, 1, 1, 2, 0, 1)] == [
        "read", "read", "resident", "read", "resident", "resident",
    ]  # fmt: skip


def test_several_are_mounted_together(ada: Person, steered: Steered) -> None:
    other = ada.steer("one layer", steered.away, steered.towards, layers=[2, 2])["id"]
    both = [{"id": steered.id, "weight": 1}, {"id": other, "weight": 2}]
    told = ada.ask("How deep?", ids=[steered.asked], adapters=both)
    assert [(one["id"], one["weight"]) for one in told["mounted"]] == [(steered.id, 1.0), (other, 2.0)]
    assert told["answer"] not in (steered.answer(None), steered.answer(1.0))
    with pytest.raises(InvalidInput, match="each named once"):
        ada.ask("How deep?", adapters=[*both, both[0]])


def test_a_vector_that_is_over_replaced_or_secret_is_not_mounted(ada: Person, steered: Steered, clock: Clock) -> None:
    for change in ({"sensitivity": "secret"}, {"expires": clock.advance(days=1)}):
        op = ada.update(steered.id, **change)["op"]
        clock.advance(days=2)
        with pytest.raises(Conflict, match="The steering vector"):
            steered.answer(1.0)
        ada.undo(op)
        assert steered.answer(1.0)
    op = ada.add("Something else", supersedes=[steered.id])["op"]
    with pytest.raises(Conflict, match="was replaced"):
        steered.answer(1.0)
    ada.undo(op)
    assert steered.answer(1.0)


@pytest.mark.parametrize("weight", [8.1, -9.0, 1e30])
def test_a_weight_out_of_bounds_is_refused_with_the_bounds(ada: Person, steered: Steered, weight: float) -> None:
    with pytest.raises(InvalidInput, match="from -8 to 8"):
        ada.ask("How deep?", adapters=[{"id": steered.id, "weight": weight}])


def test_a_vector_is_mounted_only_for_who_may_read_it_and_all_that_it_is_made_of(
    ada: Person, bob: Person, steered: Steered, kernel: Kernel
) -> None:
    adapters = [{"id": steered.id, "weight": 1}]
    with pytest.raises(NotFound):
        bob.ask("How deep?", adapters=adapters)
    private = ada.at("private").keep("The safe is red")
    mixed = ada.steer("mixed", [private], steered.away)["id"]
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    assert bob.ask("How deep?", ids=[steered.asked], adapters=adapters)["mounted"]
    with pytest.raises(NotFound):
        bob.ask("How deep?", adapters=[{"id": mixed, "weight": 1}])
    assert [one["id"] for one in bob.api.read.adapters(bob.caller)] == [steered.id]
    with pytest.raises(AccessDenied):
        bob.steer("mine", steered.towards, steered.away)
    bobs = bob.at("bobs").steer("mine", steered.towards, steered.away)["id"]
    assert bob.ask("How deep?", ids=[], adapters=[{"id": bobs, "weight": 1}])["mounted"]
    with kernel.ledger.write() as connection:
        connection.execute(text("DELETE FROM grants"))
    with pytest.raises(NotFound):
        bob.ask("How deep?", adapters=[{"id": bobs, "weight": 1}])


def test_a_conversation_keeps_to_what_it_was_steered_by_and_is_read_again_under_another(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, steered: Steered
) -> None:
    def turn(person: Person, weight: float, session: str) -> Any:
        adapters = [{"id": steered.id, "weight": weight}]
        return person.ask("And?", ids=[steered.asked], adapters=adapters, session=session)

    first = turn(ada, 1, "talk")
    turn(ada, 1, "control")
    uninterrupted = turn(ada, 1, "control")
    kernel.close()
    again = Person(open_kernel(engine=lambda _: FakeEngine(cells=100_000)).api, "ada")
    second = turn(again, 1, "talk")
    assert (second["conversation"], second["answer"]) == (first["conversation"], uninterrupted["answer"])
    assert "degraded" not in second
    other = turn(again, 2, "talk")
    assert other["conversation"] == first["conversation"]
    assert "read again" in other["degraded"]


def test_a_state_that_was_read_under_a_vector_is_found_again_after_a_restart(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, steered: Steered
) -> None:
    before = steered.answer(1.0)
    assert steered.answer(1.0) == before
    assert eventually(lambda: not states_of(kernel).busy)
    (state,) = ada.api.read.cube(ada.caller, steered.asked)["states"]
    assert state["steered"] is True
    kernel.close()
    engine = FakeEngine(cells=100_000)
    steered.ada = Person(open_kernel(engine=lambda _: engine).api, "ada")
    told = steered.ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": 1.0}])
    assert (told["answer"], told["used"][0]["how"]) == (before, "disk")
    assert "again" not in told["mounted"][0]


def test_a_state_says_its_format_its_layers_and_where_it_holds_a_memory(ada: Person, kernel: Kernel) -> None:
    one, other = ada.keep(f"The gate is red {LONG}"), ada.keep(f"The well is deep {LONG}")
    ada.activate(one, other)
    (state,) = ada.api.read.cube(ada.caller, one)["states"]
    assert (state["format"], state["layers"], state["steered"]) == ("application/x-llama-kv+f16", 3, False)
    begin, end = state["positions"]
    head = states_of(kernel).catalogue.opening(states_of(kernel).catalogue.ready())
    assert begin == len(head)
    assert end - begin == len(f"The gate is red {LONG}\n")
    assert ada.api.read.cube(ada.caller, other)["states"][0]["positions"] == [end, state["tokens"]]
    (entry,) = states_of(kernel).catalogue.entries.values()
    assert entry.path is not None
    from memos_mcp.activation.state_file import read_header

    assert read_header(entry.path).head == len(head)


# --- going with what it is made of


def forgotten_by(steered: Steered, way: str) -> str | None:
    """Change a source in a way; the operation that did."""
    ada, source = steered.ada, steered.towards[0]
    if way == "changed":
        return ada.update(source, content="The gate 0 is crimson")["op"]
    if way == "secret":
        return ada.update(source, sensitivity="secret")["op"]
    if way == "superseded":
        return ada.add("The gate 0 is green", supersedes=[source])["op"]
    dry = ada.forget(source, mode=way, dry_run=True)
    assert steered.id in dry["derived"]["cubes"]
    assert steered.id in dry["would_affect"]
    return ada.forget(source, mode=way)["op"]


@pytest.mark.parametrize("way", ["changed", "secret", "superseded", "archive", "purge"])
def test_a_vector_goes_with_a_memory_that_it_is_made_of_in_the_same_operation(
    steered: Steered, kernel: Kernel, engine: FakeEngine, home: Path, way: str
) -> None:
    ada = steered.ada
    before = steered.answer(1.0)
    steered.answer(1.0)
    steered.answer(1.0, session="talk")
    assert eventually(lambda: not states_of(kernel).busy)
    op = forgotten_by(steered, way)
    assert nothing_left(kernel, home)
    assert len(engine.forgotten) == 1
    if way == "purge":
        with pytest.raises(NotFound):
            steered.answer(1.0)
        with pytest.raises(Conflict):
            ada.undo(op)
        return
    if way == "changed":
        told = ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": 1}])
        assert "has changed" in told["mounted"][0]["again"]
        assert told["answer"] != before
    else:
        assert payload(ada, steered.id)["blob"] is None
        with pytest.raises(Conflict, match=r"archived|secret|replaced"):
            steered.answer(1.0)
    ada.undo(op)
    assert steered.answer(1.0) == before if way != "changed" else steered.answer(1.0)


def test_undoing_a_change_makes_the_vector_of_the_former_text_again(steered: Steered) -> None:
    blob = payload(steered.ada, steered.id)["blob"]
    op = forgotten_by(steered, "changed")
    steered.answer(1.0)
    assert payload(steered.ada, steered.id)["blob"]["sha256"] != blob["sha256"]
    steered.ada.undo(op)
    steered.answer(1.0)
    assert payload(steered.ada, steered.id)["blob"]["sha256"] == blob["sha256"]


def test_a_filter_forgets_vectors_too_and_a_purged_one_leaves_no_byte(
    steered: Steered, kernel: Kernel, home: Path
) -> None:
    (file,) = files(home)
    vector = file.read_bytes()[-64:]
    digest = payload(steered.ada, steered.id)["blob"]["sha256"].encode()
    steered.answer(1.0)
    dry = steered.ada.forget(tags=["red"], mode="purge", dry_run=True)
    assert steered.id in dry["derived"]["cubes"]
    steered.ada.forget(tags=["red"], mode="purge", confirm=dry["confirm"])
    assert nothing_left(kernel, home)
    kernel.close()
    for path in home.rglob("*"):
        assert not path.is_file() or not {vector, digest} & {p for p in (vector, digest) if p in path.read_bytes()}


def test_a_vector_of_somebody_else_is_no_obstacle_to_forgetting(ada: Person, bob: Person, steered: Steered) -> None:
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    theirs = bob.at("bobs").steer("theirs", steered.towards, steered.away)["id"]
    dry = ada.forget(steered.towards[0], dry_run=True)
    assert theirs in dry["derived"]["states"]
    op = ada.forget(steered.towards[0])["op"]
    with pytest.raises(Conflict, match="is over"):
        bob.ask("How?", ids=[], adapters=[{"id": theirs, "weight": 1}])
    ada.undo(op)
    assert bob.ask("How?", ids=[], adapters=[{"id": theirs, "weight": 1}])["mounted"][0]["again"]
    assert theirs in ada.forget(steered.towards[0], mode="purge")["affected"]
    with pytest.raises(NotFound):
        bob.ask("How?", ids=[], adapters=[{"id": theirs, "weight": 1}])


def test_making_one_is_undone_and_done_again(steered: Steered, kernel: Kernel, home: Path) -> None:
    before = steered.answer(1.0)
    op = steered.ada.undo(steered.made["op"])["op"]
    assert nothing_left(kernel, home)
    with pytest.raises(Conflict, match="expired"):
        steered.answer(1.0)
    steered.ada.undo(op)
    assert steered.answer(1.0) == before


def test_forgetting_the_vector_itself_leaves_its_memories(steered: Steered, kernel: Kernel, home: Path) -> None:
    steered.answer(1.0)
    op = steered.ada.forget(steered.id)["op"]
    assert nothing_left(kernel, home)
    assert all(steered.ada.state(cube) != "archived" for cube in steered.towards)
    with pytest.raises(Conflict, match="archived"):
        steered.answer(1.0)
    steered.ada.undo(op)
    assert steered.answer(1.0)
    steered.ada.forget(steered.id, mode="purge")
    assert nothing_left(kernel, home)


# --- what it is not to be used for


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "swapped"])
def test_a_damaged_file_is_never_used_and_made_anew(
    open_kernel: Callable[..., Kernel], steered: Steered, kernel: Kernel, home: Path, damage: str
) -> None:
    before = steered.answer(1.0)
    other = steered.ada.steer("other", steered.away, steered.towards)["id"]
    kernel.close()
    own, others = (next(path for path in files(home) if path.name.startswith(cube)) for cube in (steered.id, other))
    content = bytearray(own.read_bytes())
    if damage == "gone":
        own.unlink()
    elif damage == "swapped":
        own.write_bytes(others.read_bytes())
    else:
        content[-5] ^= 1
        own.write_bytes(content[:-9] if damage == "cut" else content)
    steered.ada = Person(open_kernel(engine=lambda _: FakeEngine(cells=100_000)).api, "ada")
    told = steered.ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": 1.0}])
    assert told["answer"] == before
    assert told["mounted"][0]["again"]
    again = steered.ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": 1.0}])
    assert "again" not in again["mounted"][0]


def test_a_vector_of_another_model_is_never_used_and_made_anew(
    open_kernel: Callable[..., Kernel], steered: Steered, kernel: Kernel
) -> None:
    steered.answer(1.0)
    identity = payload(steered.ada, steered.id)["made"]["identity"]
    kernel.close()
    steered.ada = Person(open_kernel(engine=lambda _: FakeEngine("another", cells=100_000)).api, "ada")
    told = steered.ada.ask("How deep?", ids=[steered.asked], adapters=[{"id": steered.id, "weight": 1.0}])
    assert "another model" in told["mounted"][0]["again"]
    assert payload(steered.ada, steered.id)["made"]["identity"] != identity


def test_a_vector_for_layers_that_the_next_model_lacks_is_refused(
    open_kernel: Callable[..., Kernel], ada: Person, kernel: Kernel
) -> None:
    steered = Steered(ada, layers=[2, 2])
    kernel.close()

    class Flat(FakeEngine):
        def facts(self) -> Any:
            return replace(super().facts(), layers=2)

    steered.ada = Person(open_kernel(engine=lambda _: Flat("flat", cells=100_000)).api, "ada")
    with pytest.raises(InvalidInput, match="Layers 2 to 2 cannot be steered"):
        steered.answer(1.0)


def test_a_vector_that_was_begun_is_made_after_a_restart(
    open_kernel: Callable[..., Kernel], kernel: Kernel, engine: FakeEngine, ada: Person, home: Path
) -> None:
    def die(verb: str) -> None:
        if verb == "hidden":
            states_of(kernel)._stopping.set()
            from memos_mcp.activation.engine import JobCancelled

            raise JobCancelled

    engine.before = die
    one, other = ada.keep("The gate is red"), ada.keep("The gate is blue")
    from memos_mcp.requests import SteerRequest

    made = ada.api.steer(ada.caller, SteerRequest(name="x", towards=[one], away=[other]))
    assert made["job"]
    assert not files(home)
    kernel.close()
    ada = Person(open_kernel(engine=lambda _: FakeEngine(cells=10_000)).api, "ada")
    assert eventually(lambda: ada.api.read.job(made["job"])["state"] == "done")
    assert len(files(home)) == 1


def test_the_engine_may_die_while_a_vector_is_made_or_mounted(ada: Person, engine: FakeEngine) -> None:
    steered = Steered(ada)
    before = steered.answer(1.0)
    engine.lose()
    assert steered.answer(1.0) == before
    engine.lose()
    assert ada.steer("again", steered.away, steered.towards)["id"]


def test_a_vector_of_a_document_is_no_part_of_its_tree(ada: Person, steered: Steered) -> None:
    request = DocumentRequest(of="d", title="Guide", content="# One\n\nThe gate.\n\n# Two\n\nThe well.")
    document = ada.api.keep_document(ada.caller, request)["id"]
    assert document is not None
    made = ada.steer("guide", [document], steered.away)["id"]
    assert made not in str(ada.api.tree(ada.caller, document))
    assert made in ada.forget(document, dry_run=True)["derived"]["cubes"]
