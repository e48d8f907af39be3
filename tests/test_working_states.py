"""Working memory and the local model: what is likely is brought near before it is asked about, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_engine import FakeEngine
from person import LONG, Clock, Person, eventually, states_of

from memos_mcp.kernel import Kernel


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


def near(kernel: Kernel) -> list[bool]:
    """Of each state that is kept, whether it stands in the context."""
    return [entry.resident is not None for entry in states_of(kernel).catalogue.entries.values()]


def cold_start(open_kernel: Callable[..., Kernel], clock: Clock) -> Kernel:
    """The store after so long that nothing of it is warm, with the model loaded."""
    clock.advance(days=900)
    kernel = open_kernel(engine=lambda _: FakeEngine(cells=100_000))
    assert eventually(lambda: not states_of(kernel).busy)
    states_of(kernel).catalogue.ready()
    return kernel


def test_a_state_of_what_is_likely_is_in_the_context_before_it_is_asked_about(
    kernel: Kernel, open_kernel: Callable[..., Kernel], clock: Clock
) -> None:
    ada = Person(kernel.api, "ada")
    cube = ada.keep(f"The gate of the harbour is green {LONG}")
    for _ in range(3):
        ada.ask("What colour is the gate?", ids=[cube])
    assert eventually(lambda: not states_of(kernel).busy)
    kernel.close()
    again = cold_start(open_kernel, clock)
    assert near(again) == [False]
    ada = Person(again.api, "ada")
    ada.search("gate of the harbour")
    again.api.parts.working.catch_up()
    assert eventually(lambda: near(again) == [True])


def test_a_state_and_a_place_in_working_memory_are_taken_out_together_and_come_back_together(
    kernel: Kernel, ada: Person
) -> None:
    both, only = ada.keep(f"The gate is green {LONG}"), ada.keep("The well is deep")
    ada.activate(both)
    ada.promote(both, only, to="working")
    done = ada.promote(both, only, to="plaintext")
    assert sorted(done["moved"]) == sorted([both, only])
    assert not states_of(kernel).catalogue.entries
    ada.undo(done["op"])
    assert eventually(lambda: not states_of(kernel).busy)
    held = [row["id"] for row in ada.api.working(ada.caller)["memories"] if row["why"] == "promoted"]
    assert sorted(held) == sorted([both, only])
    with kernel.ledger.read() as connection:
        seqs = {cube.seq for cube in kernel.api.parts.vault.by_ids(connection, [both]).values()}
    assert [entry.cubes for entry in states_of(kernel).catalogue.entries.values()] == [seqs]
