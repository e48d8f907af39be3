"""Many at once: nothing is lost, nothing is stored twice, nobody is told a lie."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import FakeEmbedder
from person import Person, eventually
from sqlalchemy import event

from memos_mcp.errors import Conflict
from memos_mcp.kernel import Kernel

THREADS = 8


def at_once(work: Callable[[int], object]) -> list[object]:
    """Run work(0) … work(7) in threads that begin together; an exception of any is raised."""
    gate = threading.Barrier(THREADS)

    def begin(i: int) -> object:
        gate.wait(10.0)
        return work(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@pytest.mark.slow
def test_adding_and_searching_at_once_loses_nothing(ada: Person) -> None:
    def work(i: int) -> list[str]:
        kept = []
        for j in range(12):
            cube = ada.keep(f"Thread {i} wrote beacon {j}")
            assert cube in ada.ids(f"thread {i} wrote beacon {j}", top_k=50), "one's own writes are read"
            kept.append(cube)
        return kept

    kept = [cube for cubes in at_once(work) for cube in cubes]  # type: ignore[attr-defined]
    assert len(set(kept)) == THREADS * 12
    assert len(ada.search(ids=kept[:50])["hits"]) == 50
    ada.api.parts.usage.flush()
    assert ada.api.read.stats(ada.caller)["cubes"] == THREADS * 12


def test_bulk_adds_at_once_are_all_embedded(ada: Person, embedder: FakeEmbedder) -> None:
    def work(i: int) -> list[str]:
        said = [{"role": "user", "content": f"Thread {i} wrote line {j}"} for j in range(60)]
        return [cube["id"] for cube in ada.add(messages=said)["cubes"]]

    kept = [cube for cubes in at_once(work) for cube in cubes]  # type: ignore[attr-defined]
    assert len(set(kept)) == THREADS * 60
    assert ada.api.parts.indexer.wait_embedded((1,), 60.0)
    assert sorted(embedder.seen) == sorted(set(embedder.seen)), "each text was embedded once"
    assert "degraded" not in ada.search("thread 3 wrote line 59")


def test_the_same_fact_added_by_all_at_once_is_stored_once(ada: Person) -> None:
    added = at_once(lambda _: ada.add("The gate code is 4711"))
    new = [one["cubes"][0]["id"] for one in added if one["cubes"]]  # type: ignore[index]
    known = [one["unchanged"] for one in added if not one["cubes"]]  # type: ignore[index]
    assert len(new) == 1
    assert known == [new] * (THREADS - 1)


def test_the_same_ref_added_by_all_at_once_is_one_memory(ada: Person) -> None:
    at_once(lambda i: ada.add(f"Meeting moved {i} times", ref="cal-7"))
    with ada.api.parts.ledger.read() as connection:
        assert ada.api.parts.vault.count(connection) == 1


def test_updates_at_once_make_versions_or_conflicts_and_lose_none(ada: Person) -> None:
    cube = ada.keep("Count", kind="block")

    def work(i: int) -> int:
        done = 0
        for j in range(5):
            try:
                ada.update(cube, append=f"{i}/{j}")
                done += 1
            except Conflict:
                continue
        return done

    done = sum(int(str(n)) for n in at_once(work))
    lines = ada.text(cube).split("\n")
    assert len(lines) == done + 1
    assert len(set(lines)) == len(lines)
    assert [v["version"] for v in ada.history(cube)["versions"]] == list(range(1, done + 2))


def test_an_operation_is_undone_by_one_of_many(ada: Person) -> None:
    op = ada.forget(ada.keep("The gate code is 4711"))["op"]

    def work(_: int) -> bool:
        try:
            ada.undo(op)
        except Conflict:
            return False
        return True

    assert at_once(work).count(True) == 1


@pytest.mark.slow
def test_purging_while_others_search_disturbs_nobody(ada: Person) -> None:
    cubes = [ada.keep(f"Beacon {i} of the coast") for i in range(48)]

    def work(i: int) -> None:
        for j in range(6):
            ada.search("beacon coast", top_k=50)
            ada.forget(cubes[i * 6 + j], mode="purge")

    at_once(work)
    assert ada.ids("beacon coast", top_k=50) == []


def test_a_search_right_after_a_bulk_add_finds_it(open_kernel: Callable[..., Kernel]) -> None:
    """The search waits a moment for the vectors, or covers the gap by words; it never misses what is there."""
    slow = threading.Event()

    def wait(_: Sequence[str]) -> None:
        assert slow.wait(20.0)

    embedder = FakeEmbedder(before=wait)
    ada = Person(open_kernel(embedder=lambda _: embedder).api, "ada")
    added = ada.add(messages=[{"role": "user", "content": f"Beacon {i} of the coast"} for i in range(40)])
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ada.search, "beacon 33 of the coast", top_k=1)
        assert not asked.done()
        slow.set()
        found = asked.result(20.0)
    assert [hit["id"] for hit in found["hits"]] == [added["cubes"][33]["id"]]
    assert "degraded" not in found
    assert eventually(lambda: ada.api.read.stats(ada.caller)["waiting_for_vectors"] == 0)


def test_what_is_kept_of_statements_does_not_grow_with_the_numbers_of_memories_served(
    kernel: Kernel, ada: Person
) -> None:
    """The library keeps every statement that it has compiled: one for each number of memories is a leak."""
    for n in range(30):
        ada.keep(f"Fact {n} about the boat")
    said: set[str] = set()

    @event.listens_for(kernel.ledger.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.add(re.sub(r"\(\?(, \?)*\)", "(?)", statement))

    def served(count: int) -> None:
        ada.search("boat", top_k=count)
        kernel.api.parts.usage.flush()
        assert eventually(lambda: not kernel.busy), "what runs behind the calls has statements of its own"

    served(2)
    served(3)
    before, numbers = set(said), range(4, 30)
    for count in numbers:
        served(count)
    assert len(said - before) < len(numbers) / 2, "what is done now and then may be done here for the first time"
