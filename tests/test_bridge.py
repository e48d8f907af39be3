"""What a bridge keeps of a conversation, and what it tells another kernel of it; no process takes part."""

from __future__ import annotations

import json
from typing import Any

import pytest

from memos_mcp.bridge.conversation import MOST_REQUESTS, Conversation
from memos_mcp.framing import KEPT_OF_OVERLONG, Lines, Overlong, marked

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def line(method: str, request_id: Any = None, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if request_id is None else {**message, "id": request_id}).encode()


def result(request_id: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": {}}).encode()


def ask(talk: Conversation, said: bytes, connected: bool = True) -> int:
    """The number under which a request goes to the kernel."""
    mark, _, rest = talk.from_host(said, connected).partition(b" ")
    assert rest == said + b"\n", "a line is passed on as it is"
    return int(mark)


def greeted() -> Conversation:
    """A conversation whose handshake is over."""
    talk = Conversation()
    talk.answered(ask(talk, line("initialize", 0, **HELLO)), result(0))
    talk.from_host(line("notifications/initialized"), True)
    return talk


def replayed(talk: Conversation) -> list[tuple[bytes, dict[str, Any]]]:
    """(mark, message) of what another kernel is told, handshake first."""
    resumed = talk.resume()
    told = [resumed[1]] if resumed else []
    if resumed:
        assert not talk.answered(resumed[0], result(0)), "the host has had its answer"
    told += list(talk.replay())
    parts = [data.rstrip(b"\n").partition(b" ") for data in told]
    return [(mark, json.loads(rest)) for mark, _, rest in parts]


def test_numbers_never_repeat_though_ids_do() -> None:
    talk = Conversation()
    first = ask(talk, line("ping", 1))
    assert talk.answered(first, result(1))
    assert ask(talk, line("ping", 1)) > first


def test_what_was_unanswered_is_sent_again_and_marked_as_such() -> None:
    talk = greeted()
    sent = ask(talk, line("tools/call", "a", name="memory_add"))
    talk.kernel_died()
    waiting = ask(talk, line("tools/call", "b", name="memory_add"), connected=False)
    marks = {message["id"]: mark for mark, message in replayed(talk) if message["method"] == "tools/call"}
    assert marks == {"a": b"%d!" % sent, "b": b"%d" % waiting}


def test_another_kernel_hears_the_handshake_the_log_level_and_what_is_watched() -> None:
    talk = greeted()
    talk.answered(ask(talk, line("logging/setLevel", 1, level="error")), result(1))
    for number, uri in enumerate(("memcube://a", "memcube://b", "memcube://c"), 2):
        talk.answered(ask(talk, line("resources/subscribe", number, uri=uri)), result(number))
    talk.answered(ask(talk, line("resources/unsubscribe", 9, uri="memcube://b")), result(9))
    refused = ask(talk, line("resources/subscribe", 10, uri="memcube://none"))
    talk.answered(refused, json.dumps({"jsonrpc": "2.0", "id": 10, "error": {"code": 1, "message": "no"}}).encode())
    talk.kernel_died()
    told = [(message["method"], message["params"].get("uri")) for _, message in replayed(talk)]
    assert told == [
        ("initialize", None),
        ("notifications/initialized", None),
        ("logging/setLevel", None),
        ("resources/subscribe", "memcube://a"),
        ("resources/subscribe", "memcube://c"),
    ]
    missed = [json.loads(data)["params"]["uri"] for data in talk.missed()]
    assert missed == ["memcube://a", "memcube://c"]


def test_answers_to_what_the_bridge_asked_are_not_the_hosts() -> None:
    talk = greeted()
    talk.answered(ask(talk, line("resources/subscribe", 1, uri="memcube://a")), result(1))
    talk.kernel_died()
    for mark, message in replayed(talk):
        if message["method"] == "resources/subscribe":
            assert not talk.answered(int(mark), result(1))
    assert not talk.owed


def test_an_open_listen_is_opened_again_and_told_that_it_may_have_missed_something() -> None:
    talk = Conversation()
    number = ask(talk, line("subscriptions/listen", "s", notifications={"resourceSubscriptions": ["memcube://a"]}))
    assert talk.attached
    assert not talk.owed, "nobody waits for its answer"
    talk.requests[number].sent = 0.0
    assert talk.kernel_died() == talk.kernel_died() == []
    assert [mark for mark, _ in replayed(talk)] == [b"%d!" % number]
    told = json.loads(next(talk.missed()))["params"]
    assert told == {"uri": "memcube://a", "_meta": {"io.modelcontextprotocol/subscriptionId": "s"}}


def test_a_request_with_which_two_kernels_died_is_answered_with_an_error() -> None:
    talk = greeted()
    ask(talk, line("tools/call", "deadly"))
    assert talk.kernel_died() == []
    replayed(talk)
    late = ask(talk, line("tools/call", "innocent"))
    errors = [json.loads(data) for data in talk.kernel_died()]
    assert [error["id"] for error in errors] == ["deadly"]
    assert "memory_history" in errors[0]["error"]["message"]
    assert [mark for mark, message in replayed(talk) if message["method"] == "tools/call"] == [b"%d!" % late]


def test_a_kernel_that_ends_in_order_is_not_held_against_a_request() -> None:
    talk = greeted()
    ask(talk, line("tools/call", "patient"))
    for _ in range(5):
        talk.kernel_left()
        assert [m["id"] for _, m in replayed(talk) if m["method"] == "tools/call"] == ["patient"]


@pytest.mark.parametrize("connected", [True, False])
def test_a_cancelled_request_is_not_sent_again(connected: bool) -> None:
    talk = greeted()
    ask(talk, line("tools/call", 7), connected)
    assert talk.owed
    talk.from_host(line("notifications/cancelled", requestId=7), connected)
    assert not talk.owed
    talk.kernel_died()
    assert [m["method"] for _, m in replayed(talk)] == ["initialize", "notifications/initialized"]


def test_an_answer_that_comes_after_the_host_was_told_of_a_failure_is_dropped() -> None:
    talk = greeted()
    number = ask(talk, line("tools/call", 3))
    late = talk.overdue(float("inf"))
    assert late == [number]
    assert json.loads(talk.fail(late, "It does not answer.")[0])["id"] == 3
    assert not talk.answered(number, result(3))


def test_the_end_of_a_request_without_an_answer_is_nothing_to_the_host() -> None:
    talk = greeted()
    assert not talk.answered(ask(talk, line("tools/call", 3)), b"")
    assert not talk.requests


@pytest.mark.parametrize("said", [b"{not json", b"\xff\xfe", b"[" * 5_000, b"[]", b"7", b'"x"', b'{"id": 1}'])
def test_lines_that_are_no_message_go_to_the_kernel_which_answers_them(said: bytes) -> None:
    assert Conversation().from_host(said, True) == b"- " + said + b"\n"


def test_a_line_that_nobody_could_take_is_kept_for_the_next_kernel() -> None:
    talk = Conversation()
    talk.from_host(b"{not json", False)
    talk.from_host(Overlong(b"he\0ad", b"tail"), False)
    assert talk.owed
    assert list(talk.replay()) == [b"- {not json\n", b"> he ad\0tail\n"]
    assert not talk.owed


def test_a_host_that_asks_without_end_is_not_read_without_end() -> None:
    talk = Conversation()
    for n in range(MOST_REQUESTS):
        assert not talk.full
        ask(talk, line("ping", n))
    assert talk.full
    talk.answered(1, result(0))
    assert not talk.full
    ask(talk, line("tools/call", "big", x="y" * (16 << 20)))
    assert talk.full


def test_lines_are_cut_wherever_the_bytes_come_apart_and_overlong_ones_keep_their_ends() -> None:
    text = b"one\n\n  \ntwo\n" + b"A" * 100 + b"x" * 9_000 + b"Z" * 100 + b"\nthree\nrest"
    for size in (1, 7, 4096, len(text)):
        lines = Lines(most=8_000)
        found = [one for at in range(0, len(text), size) for one in lines.take(text[at : at + size])]
        assert found[:2] + found[3:] == [b"one", b"two", b"three"]
        assert isinstance(found[2], Overlong)
        assert found[2].head.startswith(b"A" * 100)
        assert found[2].tail.endswith(b"Z" * 100)
        assert len(found[2].head) <= 8_000 + size
        assert len(found[2].tail) <= KEPT_OF_OVERLONG
        assert lines.rest == b"rest"
    assert marked(b"5!", b"{}") == b"5! {}\n"
