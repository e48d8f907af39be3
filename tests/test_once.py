"""A request that is sent again is carried out once: by its key, whatever became of the first answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from person import Clock, Person

from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.requests import AddRequest, ForgetRequest, HistoryRequest, UndoRequest, UpdateRequest

Carry = Callable[[MemoryAPI, Caller], Any]


def keyed(caller: Caller, key: str, again: bool = False) -> Caller:
    return replace(caller, request=key, again=again)


def operations(api: MemoryAPI, caller: Caller) -> list[str]:
    return [entry["verb"] for entry in api.history(caller, HistoryRequest())["operations"]]


def test_an_addition_sent_again_gets_the_first_answer_and_adds_nothing(api: MemoryAPI, caller: Caller) -> None:
    request = AddRequest(messages=[{"role": "user", "content": "I moved"}, {"role": "user", "content": "to Lyon"}])
    first = api.add(keyed(caller, "b:1"), request)
    again = api.add(keyed(caller, "b:1", again=True), request)
    assert again == {**first, "similar": None}, "what it is like was not compared again"
    assert api.read.figures()["cubes"] == 2
    assert operations(api, caller) == ["add"]


def test_events_told_twice_by_two_requests_are_two(api: MemoryAPI, caller: Caller) -> None:
    request = AddRequest(content="It rained", kind="event")
    api.add(keyed(caller, "b:1"), request)
    api.add(keyed(caller, "b:2"), request)
    assert api.read.figures()["cubes"] == 2


@pytest.mark.parametrize(
    "carry",
    [
        lambda api, caller, cube: api.update(caller, UpdateRequest(id=cube, content="Changed")),
        lambda api, caller, cube: api.forget(caller, ForgetRequest(ids=[cube])),
        lambda api, caller, cube: api.forget(caller, ForgetRequest(ids=[cube], mode="purge")),
    ],
    ids=["update", "archive", "purge"],
)
def test_every_change_is_made_once(api: MemoryAPI, ada: Person, carry: Any) -> None:
    cube = ada.keep("The boat is red")
    first = carry(api, keyed(ada.caller, "b:9"), cube)
    before = operations(api, ada.caller)
    assert carry(api, keyed(ada.caller, "b:9", again=True), cube) == first
    assert operations(api, ada.caller) == before


def test_an_undo_is_made_once(api: MemoryAPI, ada: Person) -> None:
    cube = ada.keep("The boat is red")
    op = ada.update(cube, content="The boat is blue")["op"]
    request = UndoRequest(op=op)
    first = api.undo(keyed(ada.caller, "b:3"), request)
    assert api.undo(keyed(ada.caller, "b:3", again=True), request) == first
    assert ada.text(cube) == "The boat is red"


def test_a_request_of_which_nothing_is_known_is_carried_out_though_it_is_sent_again(
    api: MemoryAPI, caller: Caller
) -> None:
    assert api.add(keyed(caller, "b:1", again=True), AddRequest(content="Never heard before"))["cubes"]


def test_two_connections_that_carry_the_same_request_at_once_write_it_once(api: MemoryAPI, caller: Caller) -> None:
    """What is left of a former connection may still be at work when the request comes again."""
    together, answers = threading.Barrier(6), list[Any]()

    def carry() -> None:
        together.wait(10)
        answers.append(api.add(keyed(caller, "b:1", again=True), AddRequest(content="At once", kind="event")))

    threads = [threading.Thread(target=carry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 6
    assert {answer["op"] for answer in answers} == {answers[0]["op"]}
    assert api.read.figures()["cubes"] == 1


def test_an_answer_is_kept_by_principal(api: MemoryAPI, caller: Caller) -> None:
    """A key that somebody else used first gives nothing of theirs away."""
    api.add(keyed(caller, "b:1"), AddRequest(content="The code is 4711"))
    other = keyed(Caller("bob", "bobs"), "b:1", again=True)
    with pytest.raises(Conflict, match="carried out already"):
        api.add(other, AddRequest(content="Mine"))


def test_answers_hold_no_text(kernel: Kernel, api: MemoryAPI, caller: Caller) -> None:
    api.add(keyed(caller, "b:0"), AddRequest(content="The canary sings vaxlorqump"))
    api.add(keyed(caller, "b:1"), AddRequest(content="The canary sings vaxlorqump loudly"))
    with kernel.ledger.read() as connection:
        kept = connection.exec_driver_sql("SELECT group_concat(answer) FROM operations").scalar()
    assert kept
    assert "vaxlorqump" not in kept


def test_old_answers_are_dropped_at_a_start_and_their_keys_are_not(
    open_kernel: Callable[..., Kernel], clock: Clock
) -> None:
    kernel, caller = open_kernel(), Caller("ada")
    kernel.api.add(keyed(caller, "b:1"), AddRequest(content="Long ago"))
    kernel.close()
    clock.advance(days=2)
    kernel = open_kernel()
    with pytest.raises(Conflict, match="memory_history"):
        kernel.api.add(keyed(caller, "b:1", again=True), AddRequest(content="Long ago"))
    assert kernel.api.read.figures()["cubes"] == 1


def test_a_request_that_failed_may_be_sent_again(api: MemoryAPI, ada: Person) -> None:
    cube = ada.keep("Frozen")
    ada.update(cube, freeze=True)
    with pytest.raises(Conflict):
        api.forget(keyed(ada.caller, "b:5"), ForgetRequest(ids=[cube]))
    ada.update(cube, freeze=False)
    assert api.forget(keyed(ada.caller, "b:5", again=True), ForgetRequest(ids=[cube]))["affected"] == [cube]
