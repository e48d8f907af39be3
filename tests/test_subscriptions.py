"""Watching memories and spaces: what changes is told to who asked, in the way of each era, and to nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.from_thread
import pytest
from mcp import Client, MCPDeprecationWarning, StdioServerParameters
from mcp.server import ServerRequestContext
from stdio_client import COMMAND, LEGACY, LIMIT_S, MODERN, Server, environment, serving

from memos_mcp.gateway.subscriptions import MOST_WATCHED, Subscriptions
from memos_mcp.governance import Caller, open_space
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.store import Changed

pytestmark = pytest.mark.slow

UPDATED, LIST_CHANGED = "notifications/resources/updated", "notifications/resources/list_changed"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which bob has a space that ada may not read."""
    made = tmp_path_factory.mktemp("home")
    ledger = Ledger.open(made / "ledger.db", made / "backups", datetime.now(UTC))
    with ledger.write() as connection:
        open_space(connection, Caller("bob"), "private", "2026-01-01T00:00:00.000Z")
    ledger.close()
    return made


@pytest.fixture(scope="module", params=[LEGACY, MODERN])
def server(request: pytest.FixtureRequest, home: Path) -> Iterator[Server]:
    with serving(home, request.param) as opened:
        yield opened


def watch(server: Server, *uris: str, listing: bool = False) -> Any:
    """Ask to be told of changes, as this era does; returns what `unwatch` takes."""
    if server.era == LEGACY:
        for uri in uris:
            server.request("resources/subscribe", {"uri": uri})
        return uris
    request_id = server.send(
        "subscriptions/listen",
        {"notifications": {"resourceSubscriptions": list(uris), "resourcesListChanged": listing}},
    )
    assert server.notification(ACKNOWLEDGED)["_meta"][SUBSCRIPTION] == request_id
    return request_id


def unwatch(server: Server, watched: Any) -> None:
    if server.era == LEGACY:
        for uri in watched:
            server.request("resources/unsubscribe", {"uri": uri})
    else:
        server.notify("notifications/cancelled", {"requestId": watched})


def told(server: Server, method: str) -> list[dict[str, Any]]:
    """The notifications that came by the time of an answer to a question asked now."""
    server.is_alive()
    found = [message["params"] for message in server.notifications if message["method"] == method]
    server.notifications.clear()
    return found


def test_changes_of_the_list_are_a_capability(server: Server) -> None:
    assert server.hello["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}


@pytest.mark.parametrize("form", ["memcube://{}", "memcube://{}/history"])
def test_a_change_of_a_watched_memory_is_told_and_of_another_is_not(server: Server, form: str) -> None:
    watched, other = server.keep(f"Watched as {form} {server.era}."), server.keep(f"Not watched as {form}.")
    uri = form.format(watched)
    watching = watch(server, uri)
    server.done("memory_update", id=other, pin=True)
    server.done("memory_update", id=watched, pin=True)
    assert server.notification(UPDATED)["uri"] == uri
    assert told(server, UPDATED) == []
    unwatch(server, watching)
    server.done("memory_update", id=watched, pin=False)
    assert told(server, UPDATED) == []


@pytest.mark.parametrize(
    "uri", ["memcube://space/%E5%B7%A5%E4%BD%9C", "memcube://space/工作", "memos://stats", "memos://adapters"]
)
def test_a_watched_space_or_the_figures_change_with_every_memory_added(server: Server, uri: str) -> None:
    server.keep("一切的开始", space="工作")
    watching = watch(server, uri)
    server.keep(f"又一条笔记 {uri} {server.era}", space="工作")
    assert server.notification(UPDATED)["uri"] == uri
    unwatch(server, watching)
    assert told(server, UPDATED) == []


def test_ones_own_space_may_be_watched_before_it_is_made(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as server:
        watch(server, "memcube://space/personal")
        server.keep("The first memory of all.")
        assert server.notification(UPDATED)["uri"] == "memcube://space/personal"


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_the_list_changes_when_a_memory_is_added_and_not_when_one_is_changed(tmp_path: Path, era: str) -> None:
    with serving(tmp_path / "home", era) as server:
        watch(server, listing=True)
        cube = server.keep("Added to the list.")
        server.notification(LIST_CHANGED)
        server.done("memory_update", id=cube, pin=True)
        assert told(server, LIST_CHANGED) == []


def test_a_session_hears_of_additions_in_a_row_once() -> None:
    added = Changed(("01A",), True, ((1, "personal"),))
    pinned = Changed(("01A",), False, ((1, "personal"),))

    async def add_thrice(session: _Session) -> None:
        subscriptions = Subscriptions()
        assert subscriptions.foretold(added), "nobody hears of it"
        context = SimpleNamespace(protocol_version=LEGACY, session=session)
        subscriptions.remember(cast("ServerRequestContext[object]", context))
        assert subscriptions.foretold(pinned)
        assert not subscriptions.foretold(added)
        async with anyio.create_task_group() as group:
            group.start_soon(subscriptions.tell)
            for _ in range(3):
                subscriptions.notice(added)
            assert subscriptions.foretold(added), "what is about to be said says it"
            await session.told.wait()
            assert not subscriptions.foretold(added)
            group.cancel_scope.cancel()

    session = _Session()
    anyio.run(add_thrice, session)
    assert session.times == 1


class _Session:
    """A handshake-era client's session that counts how often it is told of the list."""

    def __init__(self) -> None:
        self.times, self.told = 0, anyio.Event()

    async def send_resource_list_changed(self) -> None:
        self.times += 1
        self.told.set()


@pytest.mark.parametrize(
    "uri", ["memcube://01JUNKNOWN", "memcube://space/private", "memcube://space/nowhere", "file:///etc/passwd", ""]
)
def test_what_one_may_not_read_one_may_not_watch(server: Server, uri: str) -> None:
    if server.era == LEGACY:
        answer = server.answer(server.send("resources/subscribe", {"uri": uri}))
    else:
        wanted = {"notifications": {"resourceSubscriptions": ["memos://stats", uri]}}
        answer = server.answer(server.send("subscriptions/listen", wanted))
    assert answer["error"]["code"] == (-32002 if server.era == LEGACY else -32602)
    assert ": " in answer["error"]["message"]
    assert told(server, ACKNOWLEDGED) == []


def test_a_connection_watches_a_bounded_number_of_resources() -> None:
    subscriptions = Subscriptions()
    assert all(subscriptions.watch(f"memcube://{n}") for n in range(MOST_WATCHED))
    assert not subscriptions.watch("memcube://one-more")
    assert subscriptions.watch("memcube://7"), "what is watched already may be watched again"
    subscriptions.unwatch("memcube://7")
    assert subscriptions.watch("memcube://one-more")


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_the_sdks_own_client_is_told_of_changes(tmp_path: Path, mode: Any) -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=list(COMMAND[1:]), env=environment(tmp_path / "home")
    )

    async def watch_and_change() -> str:
        heard = anyio.Event()
        uris = []

        async def on_message(message: Any) -> None:
            if type(message).__name__ == "ResourceUpdatedNotification":
                uris.append(str(message.params.uri))
                heard.set()

        async with Client(parameters, mode=mode, message_handler=on_message) as client:
            added = await client.call_tool("memory_add", {"content": "Fritz has a boat."})
            cube = added.structured_content["cubes"][0]
            with anyio.fail_after(LIMIT_S):
                if mode == "legacy":
                    with pytest.warns(MCPDeprecationWarning):
                        await client.subscribe_resource(cube["uri"])
                    await client.call_tool("memory_update", {"id": cube["id"], "pin": True})
                    await heard.wait()
                    return uris[0].removesuffix(cube["id"])
                async with client.listen(resource_subscriptions=[cube["uri"]]) as changes:
                    await client.call_tool("memory_update", {"id": cube["id"], "pin": True})
                    async for change in changes:
                        return str(change.uri).removesuffix(cube["id"])
        return "nothing was heard"

    with anyio.from_thread.start_blocking_portal() as portal:
        assert portal.call(watch_and_change) == "memcube://"
