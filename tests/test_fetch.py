"""What the scheduler archived comes back when a question needs it; what somebody archived does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeEmbedder, FakeIndex
from person import Clock, Person, eventually, settings_for

from memos_mcp.kernel import Kernel

TEXT = "Mara chose quincelet as the colour of the Havenlo project"
QUESTION = "Which colour of Havenlo did Mara choose, quincelet?"


@pytest.fixture
def kernel(home: Path, clock: Clock, embedder: FakeEmbedder) -> Iterator[Kernel]:
    settings = settings_for(home, life="off", archive_days="30")
    opened = Kernel.open(settings, embedder=lambda _: embedder, now=clock, index=FakeIndex(), lock_wait_s=0.0)
    opened.api.parts.embedder.get(10.0)
    yield opened
    opened.close()


@pytest.fixture
def ada(kernel: Kernel) -> Person:
    return Person(kernel.api, "ada")


def cool(kernel: Kernel, clock: Clock, days: int = 200) -> None:
    """Let so many days pass in which nobody asks."""
    clock.advance(days=days)
    assert kernel.loop is not None
    kernel.loop.settle()


def state_of(ada: Person, cube: str) -> str:
    return str(ada.api.read.cube(ada.caller, cube)["governance"]["state"])


def test_a_cold_memory_that_a_question_needs_is_found_with_its_reason_and_is_current_again(
    ada: Person, kernel: Kernel, clock: Clock
) -> None:
    cold = ada.keep(TEXT)
    cool(kernel, clock)
    warm = ada.keep("The colour of the gate is green")
    assert state_of(ada, cold) == "archived"
    hits = ada.search(QUESTION)["hits"]
    assert (hits[0]["id"], hits[0]["state"]) == (cold, "archived")
    assert 0.6 <= hits[0]["why"]["archive"] <= 1.0
    assert hits[0]["score"] >= max(hit["score"] for hit in hits)
    eventually(lambda: state_of(ada, cold) == "activated")
    again = ada.search(QUESTION)["hits"]
    assert again[0]["id"] == cold
    assert "archive" not in again[0]["why"]
    ada.undo(ada.history(cold)["operations"][-1]["op"])
    assert (state_of(ada, cold), state_of(ada, warm)) == ("archived", "generated")


def test_what_somebody_archived_stays_where_it_is(ada: Person, kernel: Kernel, clock: Clock) -> None:
    put_away = ada.keep(TEXT)
    ada.forget(put_away)
    cool(kernel, clock)
    assert put_away not in [hit["id"] for hit in ada.search(QUESTION)["hits"]]
    assert state_of(ada, put_away) == "archived"


@pytest.mark.parametrize(
    "given", [{"kinds": ["event"]}, {"tags": ["other"]}, {"after": "2030-01-01"}, {"where": {"state": "activated"}}]
)
def test_a_filter_holds_for_the_archive_too(
    ada: Person, kernel: Kernel, clock: Clock, given: dict[str, object]
) -> None:
    cold = ada.keep(TEXT)
    cool(kernel, clock)
    assert cold not in [hit["id"] for hit in ada.search(QUESTION, **given)["hits"]]


def test_a_question_that_is_answered_by_what_stands_leaves_the_archive_alone(
    ada: Person, kernel: Kernel, clock: Clock
) -> None:
    cold = ada.keep(TEXT)
    cool(kernel, clock)
    newer = ada.keep(f"{TEXT}, and Oris agreed")
    assert [hit["id"] for hit in ada.search(QUESTION)["hits"]] == [newer]
    assert state_of(ada, cold) == "archived"


def test_another_principal_fetches_nothing_from_a_space_that_is_not_theirs(
    ada: Person, kernel: Kernel, clock: Clock, bob: Person
) -> None:
    cold = ada.keep(TEXT)
    cool(kernel, clock)
    assert bob.search(QUESTION)["hits"] == []
    assert state_of(ada, cold) == "archived"


@pytest.mark.parametrize("question", ["quincelet", "Which?", "What is the colour of the sky after storms in Lisbon?"])
def test_few_shared_words_fetch_nothing(
    ada: Person, kernel: Kernel, clock: Clock, question: str
) -> None:
    cold = ada.keep(TEXT)
    cool(kernel, clock)
    assert cold not in [hit["id"] for hit in ada.search(question)["hits"]]


