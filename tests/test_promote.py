"""The verb promote: what moves where, as a job with progress, undone like any other operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from person import LONG, Person, eventually, states_of

from memos_mcp.activation.memory import ACTIVATE
from memos_mcp.errors import Conflict, EngineLost, NotFound, TrainerUnavailable
from memos_mcp.kernel import Kernel
from memos_mcp.memory_api import promote
from memos_mcp.results import AskResult


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


def hows(told: AskResult) -> list[str]:
    return [cube["how"] for cube in told["used"]]


def files(home: Path) -> list[Path]:
    return sorted((home / "states").glob("*.state"))


def test_promoting_reads_the_memories_at_once_and_the_job_tells_how_it_went(
    ada: Person, home: Path, kernel: Kernel
) -> None:
    cubes = [ada.keep(f"The gate {n} is green {LONG}") for n in range(3)]
    done = ada.promote(*cubes[::-1])
    assert sorted(done["moved"]) == sorted(cubes)
    job = ada.api.read.job(done["job"])
    assert (job["kind"], job["state"], job["done"], job["total"]) == (ACTIVATE, "done", 100, 100)
    assert len(files(home)) == 1
    assert hows(ada.ask("Which?", ids=cubes)) == ["resident"] * 3
    assert hows(ada.ask("Which?", ids=cubes[:2])) == ["resident"] * 2
    assert hows(ada.ask("Which?", ids=cubes[1:])) == ["read"] * 2, "no prefix of a known state"
    assert eventually(lambda: not states_of(kernel).busy)


def test_what_is_promoted_already_stays_as_it_is(ada: Person) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    assert ada.promote(cube)["moved"] == [cube]
    assert ada.promote(cube) == {"moved": [], "op": None}


def test_back_to_plaintext_no_state_of_it_is_left(ada: Person, home: Path, kernel: Kernel) -> None:
    one, other = ada.keep(f"The gate is green {LONG}"), ada.keep(f"The well is deep {LONG}")
    ada.activate(one, other)
    ada.activate(other)
    assert len(files(home)) == 2
    assert ada.promote(one, to="plaintext")["moved"] == [one]
    assert len(files(home)) == 1
    assert hows(ada.ask("Which?", ids=[one])) == ["read"]
    assert hows(ada.ask("Which?", ids=[other])) == ["resident"]
    assert ada.promote(ada.keep("Never promoted"), to="plaintext") == {"moved": [], "op": None}


def test_a_promotion_is_undone_and_the_undo_too(ada: Person, home: Path, kernel: Kernel) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    done = ada.promote(cube)
    (told,) = ada.history(op=done["op"])["operations"]
    assert (told["verb"], told["reason"], told["undoable"]) == ("promote", promote.TO_ACTIVATION, True)
    undone = ada.undo(done["op"])
    assert undone["undone"] == [cube]
    assert files(home) == []
    with pytest.raises(Conflict, match="was undone by"):
        ada.undo(done["op"])
    ada.undo(undone["op"])
    assert eventually(lambda: not states_of(kernel).busy)
    assert len(files(home)) == 1
    ada.undo(ada.promote(cube, to="plaintext")["op"])
    assert eventually(lambda: not states_of(kernel).busy)
    assert hows(ada.ask("Which?", ids=[cube])) == ["resident"]
    assert ada.state(cube) in ("generated", "activated")


def test_archiving_is_what_forgetting_does(ada: Person) -> None:
    cube = ada.keep("The gate is green")
    done = ada.promote(cube, to="archive")
    assert done["moved"] == [cube]
    assert ada.state(cube) == "archived"
    ada.undo(done["op"])
    assert ada.state(cube) == "generated"


def test_without_a_base_model_nothing_is_trained_and_a_sentence_says_what_to_set(ada: Person) -> None:
    with pytest.raises(TrainerUnavailable, match=r"config base_model|pip install"):
        ada.promote(ada.keep("The gate is green"), to="parametric")


def test_what_is_over_or_not_the_callers_is_not_promoted(ada: Person, bob: Person) -> None:
    cube = ada.keep("The gate is green")
    with pytest.raises(NotFound):
        bob.promote(cube)
    ada.forget(cube)
    with pytest.raises(Conflict, match="is over"):
        ada.promote(cube)


def test_a_job_that_a_crash_ended_is_done_after_the_next_start(
    open_kernel: Callable[..., Kernel], kernel: Kernel, engine: FakeEngine, home: Path
) -> None:
    ada = Person(kernel.api, "ada")
    cube = ada.keep(f"The gate is green {LONG}")
    states_of(kernel).stop()
    with kernel.ledger.write() as connection:
        cubes = list(kernel.api.parts.vault.by_ids(connection, [cube]).values())
        job = states_of(kernel).promote(connection, cubes)
    kernel.close()
    again = open_kernel(engine=lambda _: FakeEngine())
    assert eventually(lambda: again.api.read.job(job)["state"] == "done")
    assert len(files(home)) == 1


@pytest.mark.slow
def test_a_kernel_that_builds_is_busy_and_the_call_does_not_wait_for_ever(
    kernel: Kernel, engine: FakeEngine, ada: Person
) -> None:

    cube, go = ada.keep(f"The gate is green {LONG}"), threading.Event()
    def held_up(verb: str) -> None:
        if verb == "save":
            go.wait(20.0)

    engine.before = held_up
    done = ada.promote(cube)
    assert done["moved"] == []
    assert kernel.busy
    assert ada.api.read.job(done["job"])["state"] == "running"
    go.set()
    assert eventually(lambda: ada.api.read.job(done["job"])["state"] == "done")
    assert eventually(lambda: not states_of(kernel).busy)


def test_a_model_that_dies_again_and_again_fails_the_job_with_its_sentence(
    kernel: Kernel, engine: FakeEngine, ada: Person
) -> None:
    cube = ada.keep(f"The gate is green {LONG}")

    def meanwhile(verb: str) -> None:
        if verb == "read":
            raise EngineLost("signal 6")

    engine.before = meanwhile
    with pytest.raises(Conflict, match="signal 6"):
        ada.promote(cube)
    engine.before = lambda _: None
    assert ada.ids("gate") == [cube]
    assert hows(ada.ask("Which?", ids=[cube])) == ["read"]
