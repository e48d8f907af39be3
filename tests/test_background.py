"""What works behind the calls begins in its order and ends in the opposite one, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from person import Person

from memos_mcp.background import Background
from memos_mcp.errors import StorageFailed
from memos_mcp.kernel import Kernel


class Noting:
    """A worker that writes down when it begins and ends, and may fail to."""

    def __init__(self, name: str, told: list[str], *, fails: str = "") -> None:
        self._name, self._told, self._fails = name, told, fails
        self.busy = False

    def start(self) -> None:
        self._note("starts")

    def stop(self) -> None:
        self._note("stops")

    def _note(self, what: str) -> None:
        self._told.append(f"{self._name} {what}")
        if what == self._fails:
            raise StorageFailed(f"{self._name} fails")


def test_workers_end_in_the_opposite_order_and_once() -> None:
    told: list[str] = []
    background = Background([Noting(name, told) for name in "abc"], [])
    background.start()
    background.stop()
    background.stop()
    assert told == ["a starts", "b starts", "c starts", "c stops", "b stops", "a stops"]


def test_one_that_fails_to_end_keeps_none_of_the_others_from_it() -> None:
    told: list[str] = []
    workers = [Noting("a", told), Noting("b", told, fails="stops"), Noting("c", told, fails="stops")]
    background = Background(workers, [])
    background.start()
    with pytest.raises(StorageFailed, match="fails"):
        background.stop()
    assert told[3:] == ["c stops", "b stops", "a stops"]
    background.stop()
    assert len(told) == 6


def test_one_that_fails_to_begin_ends_with_those_before_it() -> None:
    told: list[str] = []
    background = Background([Noting("a", told), Noting("b", told, fails="starts"), Noting("c", told)], [])
    with pytest.raises(StorageFailed, match="b fails"):
        background.start()
    background.stop()
    assert told == ["a starts", "b starts", "b stops", "a stops"]


def test_it_is_busy_while_one_is_for_which_the_process_is_kept() -> None:
    kept, other = Noting("kept", []), Noting("other", [])
    background = Background([kept, other], [kept])
    other.busy = True
    assert not background.busy
    kept.busy = True
    assert background.busy


def test_a_store_whose_background_fails_to_end_gives_its_data_directory_up_all_the_same(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    kernel = open_kernel()
    tea = Person(kernel.api, "ada").keep("Ada drinks tea")
    kernel.api.parts.views.close()
    kernel.ledger.close()  # what is written at the end fails from here on, or opens it again
    kernel.close()
    kernel.close()
    again = open_kernel()
    assert Person(again.api, "ada").text(tea) == "Ada drinks tea"
