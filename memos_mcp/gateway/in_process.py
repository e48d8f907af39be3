"""Serves one host over stdio with the kernel in the same process: `memos-mcp stdio --in-process`.

Knows the order in which things start and end, and leaves what they do to the other modules.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from memos_mcp import asked
from memos_mcp import settings as settings_of
from memos_mcp.errors import MemosError
from memos_mcp.gateway.process import log_to_file, share_one_heap, take_short_turns
from memos_mcp.settings import Settings

CLOSE_S = 10.0
CLOSE_ON_SIGNAL_S = 1.0
"""Seconds for flushing and closing the store, after the host has left and after a signal."""


def main(arguments: list[str]) -> int:
    """Serve until the host closes its end or the process is told to end, and end the process.

    Returns the exit status only if serving could not begin.
    """
    try:
        settings = settings_of.load(asked.options(arguments))
    except MemosError as error:
        print(f"memos-mcp: {error}", file=sys.stderr)
        return 1
    from memos_mcp.gateway.wire import take_stdio

    wire = take_stdio()
    log_to_file(settings.home)
    share_one_heap()
    take_short_turns()
    import anyio

    anyio.run(_serve, settings, wire)
    logging.shutdown()
    os._exit(0)  # threads of native libraries still run, and waiting for them could take long or abort


async def _serve(settings: Settings, wire_fds: tuple[int, int]) -> None:
    import anyio
    from anyio.from_thread import BlockingPortal

    from memos_mcp.gateway.channel import Pipes
    from memos_mcp.gateway.server import Gateway
    from memos_mcp.gateway.store_access import StoreAccess
    from memos_mcp.gateway.subscriptions import Audience, Subscriptions
    from memos_mcp.gateway.wire import Wire

    close_s = CLOSE_S
    async with BlockingPortal() as portal:
        audience, subscriptions, wire = Audience(), Subscriptions(), Wire(Pipes(*wire_fds))
        changes = audience.from_threads(portal)
        store = StoreAccess(
            settings, lambda kernel: kernel.api.parts.events.listen(changes, jobs=True), owner="in-process"
        )
        gateway = Gateway(store, subscriptions, cwd=asked.here().cwd)

        async def end_on_signal(scope: anyio.CancelScope) -> None:
            nonlocal close_s
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    close_s = CLOSE_ON_SIGNAL_S
                    store.end_opening()
                    scope.cancel()
                    return

        async def end_with_the_host() -> None:
            await wire.ended.wait()
            store.end_opening()

        try:
            async with anyio.create_task_group() as group:
                if sys.platform != "win32":
                    group.start_soon(end_on_signal, group.cancel_scope)
                group.start_soon(store.open_behind, wire.answered)
                group.start_soon(end_with_the_host)
                group.start_soon(subscriptions.tell)
                group.start_soon(gateway.get_ready)
                with audience.joined(subscriptions):
                    async with wire.streams() as (incoming, outgoing):
                        await gateway.server.run(incoming, outgoing, gateway.options())
                store.end_opening()
                group.cancel_scope.cancel()
        finally:
            await store.close(close_s)
            await portal.stop(cancel_remaining=True)
