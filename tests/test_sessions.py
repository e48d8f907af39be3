"""A host's session outlives its kernels: what it watches, what it was asked, what it asked, in both protocol eras."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
from kernels import Hosts, ended, opened_and_greeted_by_hand
from person import eventually
from stdio_client import BRIDGE, CLIENT, ERAS, LEGACY, MODERN, Server

from memos_mcp.gateway.project import space_of
from memos_mcp.rendezvous import KernelGone, NoKernel

pytestmark = pytest.mark.slow

UPDATED = "notifications/resources/updated"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
MANY = [{"role": "user", "content": f"Turn {n} of a long story about boat number {n % 97}"} for n in range(1_000)]


def watch(server: Server, uri: str) -> None:
    if server.era == LEGACY:
        server.request("resources/subscribe", {"uri": uri})
    else:
        server.send("subscriptions/listen", {"notifications": {"resourceSubscriptions": [uri]}})
        server.notification(ACKNOWLEDGED)


def connected(hosts: Hosts, count: int) -> bool:
    """Whether the kernel has this many hosts."""
    try:
        with opened_and_greeted_by_hand(hosts.home) as sock, sock.makefile("rwb") as lines:
            lines.write(b'{"call": "status"}\n')
            lines.flush()
            return len(json.loads(lines.readline())["result"]["connections"]) == count
    except (OSError, ValueError, KeyError, NoKernel, KernelGone):
        return False


@pytest.mark.parametrize("era", ERAS)
def test_what_a_host_watches_is_watched_by_the_next_kernel_and_told_of_what_may_have_been_missed(
    hosts: Hosts, era: str
) -> None:
    server, other = hosts.bridge(era=era), hosts.bridge()
    cube = server.keep("The boat is red.")
    watch(server, f"memcube://{cube}")
    hosts.kill_kernel()
    server.is_alive()
    assert server.notification(UPDATED)["uri"] == f"memcube://{cube}", "something may have changed meanwhile"
    server.notifications.clear()
    other.done("memory_update", id=cube, content="The boat is blue.")
    assert server.notification(UPDATED)["uri"] == f"memcube://{cube}"


def test_a_host_that_only_watches_has_a_kernel_again_without_asking_for_anything(hosts: Hosts) -> None:
    server = hosts.bridge()
    cube = server.keep("The boat is red.")
    watch(server, f"memcube://{cube}")
    assert not eventually(lambda: False, 2.5), "a kernel that lived shorter is not started for watching alone"
    hosts.kill_kernel()
    assert server.notification(UPDATED)["uri"] == f"memcube://{cube}"
    assert hosts.kernel()


def test_a_host_that_wants_nothing_has_no_kernel_started_for_it(hosts: Hosts) -> None:
    server = hosts.bridge()
    server.keep("The boat is red.")
    hosts.kill_kernel()
    assert not eventually(lambda: bool(hosts.kernels()), 1.5)
    assert server.done("memory_search", query="boat")["hits"]


@pytest.mark.parametrize("era", ERAS)
def test_requests_in_flight_at_a_death_are_answered_and_changes_made_once(hosts: Hosts, era: str) -> None:
    server = hosts.bridge(era=era)
    server.tools()
    asked = [
        server.send("tools/call", {"name": "memory_add", "arguments": {"content": f"Event {n}", "kind": "event"}})
        for n in range(40)
    ]
    server.answer(asked[0])
    hosts.kill_kernel()
    answers = [server.answer(one)["result"]["structuredContent"] for one in asked[1:]]
    assert len({answer["cubes"][0]["id"] for answer in answers}) == 39
    assert server.resource("memos://stats")["cubes"] == 40


def test_a_request_with_which_two_kernels_died_is_answered_and_not_sent_again(hosts: Hosts) -> None:
    server = hosts.bridge()
    server.tools()
    asked = [
        server.send("tools/call", {"name": "memory_add", "arguments": {"messages": MANY, "session": f"s{n}"}})
        for n in range(8)
    ]
    hosts.kill_kernel()
    assert eventually(lambda: connected(hosts, 1))
    hosts.kill_kernel()
    failed = [answer["error"] for answer in map(server.answer, asked) if "error" in answer]
    assert failed
    assert all("died twice" in error["message"] and "memory_history" in error["message"] for error in failed)
    assert server.is_alive()
    assert server.resource("memos://stats")["cubes"] % 1_000 == 0, "a call was carried out in part"


def test_answers_to_a_dead_kernels_question_are_dropped_and_its_ids_never_come_again(hosts: Hosts) -> None:
    project = hosts.home.parent / "shop"
    (project / ".git").mkdir(parents=True)
    change = f"import os, sys; os.chdir({str(hosts.home.parent)!r})"
    launcher = f"{change}; os.execv(sys.executable, [sys.executable, *{BRIDGE[1:]!r}])"
    server = hosts.bridge(argv=(sys.executable, "-c", launcher), greeted=False, MEMOS_SPACE="auto")
    hello = {"protocolVersion": LEGACY, "capabilities": {"roots": {}}, "clientInfo": CLIENT}
    server.request("initialize", hello)
    server.notify("notifications/initialized")
    asked = server.send("tools/call", {"name": "memory_add", "arguments": {"content": "Said in the shop."}})
    first = question(server)
    hosts.kill_kernel()
    second = question(server)
    assert first["id"] != second["id"]
    answer_roots(server, first["id"], hosts.home.parent / "elsewhere")
    answer_roots(server, second["id"], project)
    added = server.answer(asked)["result"]["structuredContent"]
    assert server.resource(added["cubes"][0]["uri"])["governance"]["space"] == space_of(project)


def question(server: Server) -> dict[str, Any]:
    """The kernel's next question for the host's roots."""
    while True:
        message = server.receive()
        assert message is not None
        if message.get("method") == "roots/list":
            return message


def answer_roots(server: Server, request_id: Any, folder: Path) -> None:
    answer = {"jsonrpc": "2.0", "id": request_id, "result": {"roots": [{"uri": folder.as_uri()}]}}
    server.send_raw(json.dumps(answer).encode() + b"\n")


def test_every_host_has_its_own_settings_whoever_started_the_kernel(hosts: Hosts) -> None:
    first = hosts.bridge(MEMOS_SPACE="work", MEMOS_PRINCIPAL="ada")
    second = hosts.bridge(MEMOS_SPACE="play", MEMOS_PRINCIPAL="ada")
    one, other = first.keep("Kept by the first."), second.keep("Kept by the second.")
    assert first.resource(f"memcube://{one}")["governance"]["space"] == "work"
    assert second.resource(f"memcube://{other}")["governance"]["space"] == "play"
    third = hosts.bridge()
    assert "'personal'" in third.hello["instructions"], "the first host's space is not the kernel's"


def test_a_wish_for_another_embedder_is_told_to_its_host_alone(hosts: Hosts) -> None:
    plain = hosts.bridge()
    plain.keep("The store is made.")
    wishing = hosts.bridge(MEMOS_EMBEDDER="openai:other@http://127.0.0.1:9/v1")
    assert "memos-mcp embedder openai:other" in wishing.hello["instructions"]
    assert "asked for" not in plain.hello["instructions"]
    plain.end()
    hosts.kill_kernel()
    assert wishing.done("memory_search", query="store")["hits"], "whoever starts the kernel does not change the store"
    assert "embedder" not in tomllib.loads((hosts.home / "config.toml").read_text())


def test_a_kernel_that_is_told_to_end_by_the_system_writes_all_down_and_its_hosts_go_on(hosts: Hosts) -> None:
    server = hosts.bridge()
    cube = server.keep("The boat is red.")
    assert server.done("memory_search", query="boat")["hits"]
    number = hosts.kernel()
    psutil.Process(number).terminate()
    assert ended(number)
    assert not (hosts.home / "ledger.db-wal").exists(), "the log is carried into the ledger"
    assert server.resource(f"memcube://{cube}")["behavioural"]["uses"] == 1


def test_a_setting_that_is_none_is_refused_with_a_sentence_and_the_others_go_on(hosts: Hosts) -> None:
    good = hosts.bridge()
    bad = hosts.bridge(greeted=False, MEMOS_TOOLS="everything")
    answer = bad.answer(bad.send("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}))
    assert "'core' or 'all'" in answer["error"]["message"]
    assert good.is_alive()


def test_both_eras_share_one_kernel(hosts: Hosts) -> None:
    old, new = hosts.bridge(), hosts.bridge(era=MODERN)
    cube = old.keep("Said in the older era.")
    assert new.done("memory_search", query="older era")["hits"][0]["id"] == cube
    assert hosts.kernel()
