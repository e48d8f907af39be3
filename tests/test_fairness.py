"""One host's slow, huge or unread requests do not hold up another host, and cost the kernel a bounded memory."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import mcp_types as types
import psutil
import pytest
from kernels import Hosts
from mcp.shared.message import SessionMessage
from stdio_client import CLIENT, LEGACY, Server

from memos_mcp.framing import MAX_LINE
from memos_mcp.gateway.channel import Socket
from memos_mcp.gateway.wire import Bridged, Wire
from memos_mcp.layout import Layout
from memos_mcp.lock import DirectoryLock

MANY = [{"role": "user", "content": f"Turn {n} of a long story about boat number {n % 97}"} for n in range(1_000)]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Server]]:
    """Three greeted hosts on one store."""
    with Hosts(tmp_path / "home") as opened:
        yield [opened.bridge() for _ in range(3)]


@pytest.mark.slow
def test_a_host_that_asks_much_does_not_hold_up_another(hosts: list[Server]) -> None:
    busy, other, _ = hosts
    other.keep("The boat is red.")
    asked = [
        busy.send("tools/call", {"name": "memory_add", "arguments": {"messages": MANY, "session": f"s{n}"}})
        for n in range(6)
    ]
    for _ in range(10):
        assert other.done("memory_search", query="red boat")["hits"]
        other.keep("Another boat.", kind="event")
    assert busy.answers == {}, "none of its answers has been read so far"
    assert all(len(busy.answer(one)["result"]["structuredContent"]["cubes"]) == 1_000 for one in asked)


@pytest.mark.slow
def test_a_line_of_the_largest_size_is_taken_and_a_larger_one_is_refused_alone(hosts: list[Server]) -> None:
    huge, other, _ = hosts
    frame = len(json.dumps({"jsonrpc": "2.0", "id": "x", "method": "ping", "params": {"fill": ""}}))
    for size, fits in ((MAX_LINE - frame, True), (MAX_LINE - frame + 1, False)):
        message = {"jsonrpc": "2.0", "id": "x", "method": "ping", "params": {"fill": "y" * size}}
        huge.send_raw(json.dumps(message).encode() + b"\n")
        answer = huge.answer("x")
        assert ("result" in answer) == fits
        if not fits:
            assert "4 MiB" in answer["error"]["message"]
    assert other.is_alive()
    assert huge.is_alive()


@pytest.mark.slow
def test_a_host_that_reads_nothing_is_not_read_either_and_costs_little(hosts: list[Server], tmp_path: Path) -> None:
    deaf, other, _ = hosts
    for n in range(20):
        other.keep(f"Fact {n} about the boat: " + "it floats. " * 300, kind="event")
    owner = DirectoryLock(Layout(tmp_path / "home").lock).owner()
    kernel = psutil.Process(owner.pid)
    other.done("memory_search", query="boat", top_k=50)
    before = kernel.memory_info().rss
    question = {"name": "memory_search", "arguments": {"query": "boat", "top_k": 50}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": question}).encode() + b"\n"
    asked, blocked = 0, False
    stdin = deaf.process.stdin
    assert stdin is not None
    os.set_blocking(stdin.fileno(), False)
    while asked < 20_000 and not blocked:
        blocked = not select.select([], [stdin], [], 3.0)[1]
        if not blocked:
            os.write(stdin.fileno(), line)
            asked += 1
    os.set_blocking(stdin.fileno(), True)
    assert blocked, "the host's questions were taken without end"
    assert other.done("memory_search", query="boat")["hits"]
    assert kernel.memory_info().rss - before < 150 << 20
    bridge = psutil.Process(deaf.process.pid)
    assert bridge.memory_info().rss < 80 << 20
    for n in range(asked):
        answer = deaf.receive()
        assert answer is not None, f"{n} of {asked}"


def test_a_bridge_that_reads_nothing_is_given_up_in_the_end() -> None:
    near, far = socket.socketpair()
    taken = 0

    async def fill() -> None:
        nonlocal taken
        wire = Wire(Socket(near), Bridged("b", 0), stuck_s=0.2)
        answer = types.JSONRPCResponse(jsonrpc="2.0", id=1, result={"fill": "x" * 100_000})
        with anyio.fail_after(30):
            async with wire.streams() as (incoming, outgoing), incoming, outgoing:
                while True:
                    await outgoing.send(SessionMessage(answer))
                    taken += 1

    with near, far:
        anyio.run(fill)
    assert taken < 100


@pytest.mark.slow
def test_each_connection_has_its_own_session(hosts: list[Server]) -> None:
    """Ids, notifications and client names of one host are nothing to another."""
    one, other, third = hosts
    for server in hosts:
        server.send("ping", request_id="same")
    for server in hosts:
        assert server.answer("same")["result"] == {}
    cube = one.keep("Watched by one.")
    one.request("resources/subscribe", {"uri": f"memcube://{cube}"})
    third.done("memory_update", id=cube, pin=True)
    assert one.notification("notifications/resources/updated")["uri"] == f"memcube://{cube}"
    assert other.is_alive()
    assert not [n for n in other.notifications if n["method"] == "notifications/resources/updated"]
    assert CLIENT["name"] in one.done("memory_history", id=cube)["operations"][0]["client"]
    assert one.era == LEGACY
