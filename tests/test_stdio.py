"""The wire of a real process: whatever a host writes is answered or has a defined error, and the session goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from stdio_client import ERAS, Server, serving

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
DEEP = b'{"jsonrpc":"2.0","id":13,"method":"ping","params":{"x":'


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), request.param) as opened:
        yield opened


def line_of(server: Server, request_id: str, method: str = "prompts/list", **params: Any) -> bytes:
    """A request as bytes, without its line end."""
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": server.with_meta(params)}
    return json.dumps(message).encode()


def refusal(server: Server, line: bytes) -> dict[str, Any]:
    """The error that answers a line; the session must go on after it."""
    server.send_raw(line + b"\n")
    message = server.receive()
    assert message is not None
    assert set(message) == {"jsonrpc", "id", "error"}
    assert server.is_alive()
    return {"id": message["id"], **message["error"]}


@pytest.mark.parametrize(
    ("line", "code", "known_id"),
    [
        (b"{not json", PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping"', PARSE_ERROR, 5),
        (b'{"jsonrpc":"2.0","id":"a-1","method":"ping","params":{"x":"\x00"}}', PARSE_ERROR, "a-1"),
        (b'{"method":"ping","params":{"id":"not this","x":"\x01"},"jsonrpc":"2.0","id":6}', PARSE_ERROR, 6),
        (b'{"method":"tools/call","params":{"arguments":{"id":"not this"', PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"\xff\xfe"}}', PARSE_ERROR, 7),
        (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}', PARSE_ERROR, None),
        (b'[{"jsonrpc":"2.0","id":8,"method":"ping"}]', INVALID_REQUEST, None),
        (b"[]", INVALID_REQUEST, None),
        (b"5", INVALID_REQUEST, None),
        (b'"text"', INVALID_REQUEST, None),
        (b"null", INVALID_REQUEST, None),
        (b"{}", INVALID_REQUEST, None),
        (b'{"jsonrpc":"1.0","id":9,"method":"ping"}', INVALID_REQUEST, 9),
        (b'{"jsonrpc":"2.0","id":10}', INVALID_REQUEST, 10),
        (b'{"jsonrpc":"2.0","id":11,"method":7}', INVALID_REQUEST, 11),
        (b'{"jsonrpc":"2.0","id":12,"method":"ping","params":[1]}', INVALID_REQUEST, 12),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', INVALID_REQUEST, None),
        (DEEP + b"[" * 500 + b"]" * 500 + b"}}", INVALID_REQUEST, 13),
        (DEEP + b"[" * 100_000, INVALID_REQUEST, 13),
        (b"[" * 100_000, INVALID_REQUEST, None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_line_that_is_no_message_gets_a_defined_error(
    server: Server, line: bytes, code: int, known_id: str | int | None
) -> None:
    error = refusal(server, line)
    assert (error["code"], error["id"]) == (code, known_id)
    assert ": " in error["message"], "the sentence names no next step"


def test_every_byte_of_a_request_may_come_by_itself(server: Server) -> None:
    for byte in line_of(server, "slow") + b"\n":
        server.send_raw(bytes([byte]))
    assert server.answer("slow")["result"]["prompts"]


def test_empty_lines_and_carriage_returns_are_no_messages(server: Server) -> None:
    server.send_raw(b"\n\r\n   \n\t\r\n" + line_of(server, "crlf") + b"\r\n")
    message = server.receive()
    assert message is not None
    assert message["id"] == "crlf"


def test_a_byte_order_mark_before_a_request_does_no_harm(server: Server) -> None:
    server.send_raw(b"\xef\xbb\xbf" + line_of(server, "bom") + b"\n")
    assert "result" in server.answer("bom")


def test_a_line_over_four_mebibytes_is_refused_by_its_id_wherever_that_stands(server: Server) -> None:
    padding = b"x" * (5 << 20)
    head = b'{"jsonrpc":"2.0","id":"big","method":"ping","params":{"x":"' + padding + b'"}}'
    tail = b'{"method":"ping","params":{"id":"no","x":"' + padding + b'"},"jsonrpc":"2.0","id":"end"}'
    for line, known in ((head, "big"), (tail, "end")):
        error = refusal(server, line)
        assert (error["code"], error["id"]) == (INVALID_REQUEST, known)
        assert "4 MiB" in error["message"]
        assert "split" in error["message"]


def test_the_same_id_twice_is_answered_twice(server: Server) -> None:
    for _ in range(2):
        server.send("prompts/list", request_id="twice")
    answers = [server.receive(), server.receive()]
    assert [answer is not None and answer["id"] for answer in answers] == ["twice", "twice"]


@pytest.mark.parametrize("request_id", ["", "日本", "\u202eabc", -1, 0, 2**53, 10**30], ids=repr)
def test_an_id_comes_back_as_it_was_sent(server: Server, request_id: str | int) -> None:
    server.send("prompts/list", request_id=request_id)
    assert "result" in server.answer(request_id)


def test_methods_and_parameters_that_do_not_exist_are_named_errors(server: Server) -> None:
    unknown = server.answer(server.send("memory/guess"))["error"]
    assert unknown["code"] == METHOD_NOT_FOUND
    no_tool = server.answer(server.send("tools/call", {"name": "memory_guess", "arguments": {}}))["error"]
    assert no_tool["code"] == INVALID_PARAMS
    assert "memory_search" in no_tool["message"]
    for params in ({}, {"name": 5}, {"name": "memory_search", "arguments": [1]}):
        error = server.answer(server.send("tools/call", params))["error"]
        assert error["code"] == INVALID_PARAMS
        assert error["message"].startswith("tools/call was not carried out: ")
    assert server.is_alive()


def test_answers_to_nothing_and_unknown_notifications_are_left_alone(server: Server) -> None:
    server.send_raw(b'{"jsonrpc":"2.0","id":4711,"result":{}}\n')
    server.send_raw(b'{"jsonrpc":"2.0","id":4712,"error":{"code":1,"message":""}}\n')
    server.notify("notifications/nobody-knows", {"x": 1})
    server.notify("notifications/cancelled", {"requestId": "never sent"})
    assert server.is_alive()


def test_half_surrogates_and_nuls_are_kept_as_replacement_characters(server: Server) -> None:
    arguments = {"content": "half \ud800 pair \udfff, nul \0 end", "metadata": {"k\ud800": "v\0"}}
    line = line_of(server, "half", "tools/call", name="memory_add", arguments=arguments)
    assert rb"\ud800" in line
    assert rb"\u0000" in line
    server.send_raw(line + b"\n")
    kept = server.answer("half")["result"]["structuredContent"]["cubes"][0]["id"]
    cube = server.resource(f"memcube://{kept}")
    assert cube["payload"]["value"] == "half \ufffd pair \ufffd, nul \ufffd end"
    assert cube["descriptive"]["metadata"] == {"k\ufffd": "v\ufffd"}


def test_a_host_that_stops_reading_for_a_while_loses_nothing(server: Server) -> None:
    kept = server.keep("A long report. " * 4_000)
    asked = [
        server.send("tools/call", {"name": "memory_search", "arguments": {"ids": [kept], "max_chars": 100_000}})
        for _ in range(60)
    ]
    texts = [server.answer(request_id)["result"]["structuredContent"]["hits"][0]["text"] for request_id in asked]
    assert set(texts) == {"A long report. " * 4_000}
