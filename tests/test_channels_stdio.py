"""Channels over real MCP: two principals, each with a host of their own, and the terminal beside them."""

from __future__ import annotations

import pytest
from kernels import Hosts
from stdio_client import ERAS, MODERN, Server
from terminals import Terminal

pytestmark = pytest.mark.slow


def watch(host: Server, uri: str) -> None:
    """Have a host told of changes of a resource, in its era's way."""
    if host.era == MODERN:
        host.send("subscriptions/listen", {"notifications": {"resourceSubscriptions": [uri]}})
        host.notification("notifications/subscriptions/acknowledged")
    else:
        host.request("resources/subscribe", {"uri": uri})


def told(host: Server, uri: str) -> None:
    """Wait until the host is told that this resource changed."""
    while host.notification("notifications/resources/updated")["uri"] != uri:
        pass


@pytest.mark.parametrize("era", ERAS)
def test_published_notified_read_renewed_and_withdrawn(hosts: Hosts, era: str) -> None:
    ada = hosts.bridge(era=era, MEMOS_TOOLS="all")
    bob = hosts.bridge(era=era, MEMOS_TOOLS="all", MEMOS_PRINCIPAL="bob", MEMOS_SPACE="den")
    terminal = Terminal(hosts.home)
    terminal.json("space", "create", "team 团队")
    terminal.json("space", "grant", "team 团队", "bob", "--can", "read")
    cube = ada.keep("The ferry leaves at noon")
    first = ada.done("memory_publish", channel="team 团队/news", ids=[cube])
    assert first["published"] == [cube]
    uri = first["uri"]
    subscribed = bob.done("memory_subscribe", channel="team 团队/news")
    assert (subscribed["space"], subscribed["memories"]) == ("den", 1)
    assert uri in [row["uri"] for row in bob.request("resources/list")["resources"]]
    watch(bob, uri)
    later = ada.keep("The ferry returns at dusk")
    ada.done("memory_publish", channel="team 团队/news", ids=[later])
    told(bob, uri)
    assert [row["id"] for row in bob.resource(uri)["memories"]] == [cube, later]
    hits = bob.done("memory_search", query="When does the ferry leave?")["hits"]
    assert {hit["id"]: hit["space"] for hit in hits} == {cube: "personal", later: "personal"}
    ada.done("memory_update", id=cube, content="The ferry leaves at one")
    told(bob, uri)
    assert bob.resource(f"memcube://{cube}")["payload"]["value"] == "The ferry leaves at one"
    gone = terminal.json("withdraw", "team 团队/news", cube)
    told(bob, uri)
    assert [hit["id"] for hit in bob.done("memory_search", query="ferry")["hits"]] == [later]
    assert "No memory" in bob.refused("memory_search", ids=[cube])
    ada.done("memory_undo", op=gone["op"])
    told(bob, uri)
    assert len(bob.done("memory_search", query="ferry")["hits"]) == 2
    assert "No channel" in bob.refused("memory_subscribe", channel="team 团队/nothing")
    assert "may not write" in bob.refused("memory_publish", channel="team 团队/news", ids=[bob.keep("Mine")])
    shared = ada.done("memory_share", ids=[ada.keep("The captain is Mo")], principal="bob", can=["read"])
    assert bob.done("memory_search", query="Who is the captain?", top_k=1)["hits"][0]["id"] == shared["shared"][0]
    assert terminal.json("channels")["channels"][0]["memories"] == 2
    assert terminal.json("channels", "team 团队/news")["count"] == 2
    query = terminal.json("publish", "team 团队/news", "--query", "ferry", "--withdrawal", "mark")
    assert query["count"] == 0
    fresh = ada.keep("The night ferry is cancelled")
    told(bob, uri)
    while fresh not in [row["id"] for row in bob.resource(uri)["memories"]]:
        told(bob, uri)


def test_the_terminal_says_what_it_did_and_how_to_take_it_back(hosts: Hosts) -> None:
    hosts.bridge()
    ada, bob = Terminal(hosts.home), Terminal(hosts.home, "bob", MEMOS_SPACE="den")
    cube = ada.keep("The ferry leaves at noon")
    ada.run("space", "grant", "personal", "bob", "--can", "read")
    said = ada.run("publish", "news", f"memcube://{cube}").output
    assert "Published 1 memory to personal/news." in said
    assert "memos-mcp undo" in said
    assert "stood there already" in ada.run("publish", "news", cube).output
    assert "Space den is subscribed to personal/news (1 memory)." in bob.run("subscribe", "personal/news").output
    assert "references" in bob.run("channels").output
    assert "The ferry leaves at noon" in bob.run("channels", "personal/news").output
    assert "not subscribed any more" in bob.run("subscribe", "personal/news", "--end").output
    assert "Withdrew 1 memory from personal/news." in ada.run("withdraw", "news").output
    assert "Nothing is published there." in bob.run("channels", "personal/news").output
    assert "bob may read with 1 memory." in ada.run("share", cube, "--with", "bob").output
    assert "do nothing" in ada.run("share", cube, "--with", "bob", "--revoke").output
    both = ["share", cube, "--with", "bob", "--revoke", "--can", "read"]
    for wrong in (both, ["subscribe", "x", "--end", "--copies"]):
        assert "leave out" in ada.run(*wrong, code=1).output
    assert "No channel 'personal/nope'" in bob.run("subscribe", "personal/nope", code=1).output
