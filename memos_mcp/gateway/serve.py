"""Serves one host over stdio: the process that `memos-mcp` without arguments is.

Knows the order in which things start and end, and leaves what they do to the other modules.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler

from memos_mcp import settings as settings_of
from memos_mcp.errors import MemosError
from memos_mcp.rendezvous import Layout
from memos_mcp.settings import Settings

LOG_BYTES, LOG_FILES = 1_000_000, 3
SWITCH_S = 0.0005
"""Seconds after which a busy thread lets another one run: a search has some fifty moments at which it would wait
Python's usual 5 ms behind a bulk addition."""
CLOSE_S = 10.0
CLOSE_ON_SIGNAL_S = 1.0
"""Seconds for flushing and closing the store, after the host has left and after a signal."""


def main(arguments: Sequence[str]) -> int:
    """Serve until the host closes its end or the process is told to end, and end the process.

    Returns the exit status only if serving could not begin.
    """
    parser = argparse.ArgumentParser(prog="memos-mcp stdio", description="Serve MCP over standard input and output.")
    parser.add_argument("--in-process", action="store_true", help="no second process: kernel and session in one")
    for name in ("home", "space", "principal", "tools"):
        parser.add_argument(f"--{name}")
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if isinstance(v, str)}
    try:
        settings = settings_of.load(given)
    except MemosError as error:
        print(f"memos-mcp: {error}", file=sys.stderr)
        return 1
    from memos_mcp.gateway.wire import take_stdio

    wire = take_stdio()
    _log_to_file(settings)
    sys.setswitchinterval(SWITCH_S)
    import anyio

    anyio.run(_serve, settings, wire)
    logging.shutdown()
    os._exit(0)  # threads of native libraries still run, and waiting for them could take long or abort


async def _serve(settings: Settings, wire_fds: tuple[int, int]) -> None:
    import anyio
    from anyio.from_thread import BlockingPortal

    from memos_mcp.gateway.server import Gateway
    from memos_mcp.gateway.store_access import StoreAccess
    from memos_mcp.gateway.subscriptions import Subscriptions, from_threads
    from memos_mcp.gateway.wire import Wire

    close_s = CLOSE_S
    async with BlockingPortal() as portal:
        subscriptions, wire = Subscriptions(), Wire(*wire_fds)
        changes = from_threads(portal, subscriptions)
        store = StoreAccess(settings, lambda kernel: kernel.api.parts.events.listen(changes))
        gateway = Gateway(store, subscriptions)

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
                async with wire.streams() as (incoming, outgoing):
                    await gateway.server.run(incoming, outgoing, gateway.options())
                store.end_opening()
                group.cancel_scope.cancel()
        finally:
            await store.close(close_s)
            await portal.stop(cancel_remaining=True)


def _log_to_file(settings: Settings) -> None:
    """Our own log goes to a rotating file; those of libraries, which may quote what they were given, nowhere."""
    logging.getLogger().addHandler(logging.NullHandler())
    ours = logging.getLogger("memos_mcp")
    ours.propagate = False
    ours.setLevel(logging.INFO)
    folder = Layout(settings.home).logs
    handler: logging.Handler
    try:
        Layout(settings.home).create()
        folder.mkdir(mode=0o700, exist_ok=True)
        handler = RotatingFileHandler(
            folder / "memos-mcp.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
    except (OSError, MemosError):
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    ours.addHandler(handler)
