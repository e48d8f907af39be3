"""What several threads need is found once, and a store that is lived with in one thread does everything in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from person import Person

from memos_mcp.beside import AtOnce, Once
from memos_mcp.kernel import Kernel


def test_what_many_threads_ask_for_is_found_once_and_all_of_them_get_it() -> None:
    finding = threading.Barrier(9)
    found: list[object] = []

    def find() -> object:
        found.append(object())
        return found[-1]

    once = Once(find)

    def ask(_: int) -> object:
        finding.wait()
        return once()

    with ThreadPoolExecutor(9) as threads:
        assert set(threads.map(ask, range(9))) == set(found)
    assert len(found) == 1


def test_nothing_is_found_once_too() -> None:
    asked: list[int] = []
    once: Once[None] = Once(lambda: asked.append(1))
    once()
    once()
    assert asked == [1]


def test_what_failed_is_tried_again_by_the_next_to_ask() -> None:
    outcomes = iter([ValueError("not yet"), 7])

    def find() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    once = Once(find)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() == once() == 7


def test_work_given_at_once_is_done_in_the_thread_that_gives_it() -> None:
    done = AtOnce().submit(threading.get_ident)
    assert done.done()
    assert done.result() == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        AtOnce().submit(lambda: 1 // 0)


def test_a_store_without_background_adds_and_finds_in_one_thread(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel(background=False)
    ada, before = Person(kernel.api, "ada"), set(threading.enumerate())
    first = ada.keep("Olga mends clocks in a shop by the harbour")
    told = ada.add("Olga mends clocks in a shop by the harbour!")
    assert [one["id"] for one in told["similar"] or []] == [first]
    assert ada.ids("Who mends clocks?") == [told["cubes"][0]["id"]], "the newest of those that say the same"
    assert set(threading.enumerate()) <= before
