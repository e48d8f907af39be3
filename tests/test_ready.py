"""A host's first question finds what every question needs in memory, and nobody is said to have asked before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from mcp import Client
from person import Person, eventually, settings_for

from memos_mcp.gateway.server import Gateway
from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.gateway.subscriptions import Subscriptions
from memos_mcp.kernel import Kernel


@pytest.fixture
def told(open_kernel: Callable[..., Kernel]) -> Callable[[], Kernel]:
    """Opens a store again in which ada has kept something."""
    kernel = open_kernel()
    Person(kernel.api, "ada").keep("The tea is green")
    kernel.close()
    return open_kernel


def test_a_space_is_read_into_memory_before_it_is_asked_and_nothing_counts_as_used(
    told: Callable[[], Kernel],
) -> None:
    kernel = told()
    ada, parts = Person(kernel.api, "ada"), kernel.api.parts
    assert parts.views.held == []
    kernel.api.get_ready(ada.caller)
    assert eventually(lambda: parts.views.held == [(1,)])
    parts.usage.flush()
    parts.working.catch_up()
    with parts.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM usage").scalar() == 0
    assert parts.working.figures()["sessions"] == 0
    assert ada.ids("green tea")


def test_getting_ready_for_a_space_that_is_not_there_harms_nobody(told: Callable[[], Kernel]) -> None:
    kernel = told()
    kernel.api.get_ready(Person(kernel.api, "eve", "elsewhere").caller)
    assert Person(kernel.api, "ada").ids("green tea")


def test_the_store_gets_ready_once_a_host_has_listed_the_tools(told: Callable[[], Kernel], home: Path) -> None:
    told().close()

    async def main() -> list[list[tuple[int, ...]]]:
        store = StoreAccess(settings_for(home, principal="ada"))
        gateway, seen = Gateway(store, Subscriptions()), []
        async with anyio.create_task_group() as group:
            group.start_soon(gateway.get_ready)
            async with Client(gateway.server, mode="legacy") as host:
                views = (await store.kernel()).api.parts.views
                seen.append(views.held)
                await host.list_tools()
                await run_sync(eventually, lambda: views.held)
                seen.append(views.held)
        await store.close(10.0)
        return seen

    assert anyio.run(main) == [[], [(1,)]]
