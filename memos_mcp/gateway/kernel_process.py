"""Accepts connections for one owned data directory, watches over what it stands on, and ends in order.

Knows nothing of what is said on a connection.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import anyio
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from memos_mcp import listening, rendezvous
from memos_mcp.cube import instant
from memos_mcp.errors import MemosError
from memos_mcp.gateway.channel import Socket
from memos_mcp.gateway.connection import Connected, Peers, converse
from memos_mcp.gateway.idle import Idleness
from memos_mcp.gateway.serve import Ground
from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.gateway.subscriptions import Audience

log = logging.getLogger(__name__)

WATCH_S = 1.0
MOST_THREADS = 256
"""Calls at a time of all hosts together; what one host may have is bounded far below."""
SETTLE_S = 10.0
SETTLE_ON_SIGNAL_S = 1.0
"""Seconds for answers in the making, when the kernel ends in order and after a signal."""
CLOSE_S = 10.0
CLOSE_ON_SIGNAL_S = 2.0
"""Seconds for flushing and closing the store."""


class KernelProcess:
    """The one kernel of a data directory."""

    def __init__(self, ground: Ground, clock: Callable[[], float] = time.monotonic) -> None:
        self._ground, self._listener, self._clock = ground, ground.listener, clock
        self._accepting: anyio.CancelScope | None = None
        self._ending = anyio.Event()
        self._why, self._in_haste = "", False
        limit_s = float(ground.settings.idle_exit) if ground.kind == "kernel" else None
        self._idleness = Idleness(limit_s, clock())

    async def run(self) -> None:
        """Serve until something ends it."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = MOST_THREADS
        async with BlockingPortal() as portal:
            audience = Audience()
            changes = audience.from_threads(portal)
            ground = self._ground
            store = StoreAccess(
                ground.settings, lambda kernel: kernel.api.parts.events.listen(changes, jobs=True), lock=ground.lock
            )
            self._store = store
            peers = Peers(ground, store, audience, instant(datetime.now(UTC)), self.end)
            self._peers = peers
            log.info("kernel started at %s", self._listener.address)
            try:
                async with anyio.create_task_group() as group:
                    if sys.platform != "win32":
                        group.start_soon(self._end_on_signal)
                    group.start_soon(store.open_behind, peers.first_answer)
                    group.start_soon(self._watch)
                    group.start_soon(self._accept, group)
                    ground.lock.loaded()
                    await self._ending.wait()
                    log.info("kernel ends: %s", self._why)
                    self._stop_listening()
                    await self._dismiss_all(peers)
                    store.end_opening()
                    group.cancel_scope.cancel()
            finally:
                await store.close(CLOSE_ON_SIGNAL_S if self._in_haste else CLOSE_S)
                await portal.stop(cancel_remaining=True)

    def end(self, why: str, *, in_haste: bool = False) -> None:
        """Begin to end; `why` is what bridges are told. May be called twice."""
        if not self._ending.is_set():
            self._why, self._in_haste = why, in_haste
            self._ending.set()

    async def _accept(self, group: TaskGroup) -> None:
        while not self._ending.is_set():
            with anyio.CancelScope() as self._accepting:
                await self._accept_from(self._listener.sock, group)

    async def _accept_from(self, listening: socket.socket, group: TaskGroup) -> None:
        listening.setblocking(False)
        while True:
            try:
                sock, _ = listening.accept()
            except BlockingIOError:
                await anyio.wait_readable(listening)
                continue
            except OSError as error:  # no descriptor is left: those that connect wait
                log.error("a connection could not be taken: %s", error.strerror)
                await anyio.sleep(WATCH_S)
                continue
            group.start_soon(converse, Socket(sock), self._peers)

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(WATCH_S)
            self.look()

    def look(self) -> None:
        """End, or listen anew, if what the kernel stands on has changed or nobody needs it."""
        ground = self._ground
        if not self._home_is_there():
            self.end("its data directory was removed or replaced", in_haste=True)
        elif not ground.lock.intact():
            self.end("its lock file was removed, and another kernel could start", in_haste=True)
        elif not self._listener.intact():
            self._listen_again()
        kernel = self._store.opened
        busy = kernel.busy if kernel is not None else False
        if self._idleness.is_over(self._clock(), connections=len(self._peers.connected), busy=busy):
            self.end("idle")

    def _home_is_there(self) -> bool:
        try:
            return rendezvous.identity(str(self._ground.settings.home)) == self._ground.identity
        except OSError:
            return False

    def _listen_again(self) -> None:
        log.warning("what leads to %s is gone: listening anew", self._listener.address)
        if self._listener.mend():
            return
        try:
            fresh = listening.listen(str(self._ground.settings.home), loopback=self._ground.loopback)
        except MemosError as error:
            log.error("%s", error)
            return
        self._stop_listening()
        self._listener = fresh

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        self._listener.close()

    async def _dismiss_all(self, peers: Peers) -> None:
        settle_s = SETTLE_ON_SIGNAL_S if self._in_haste else SETTLE_S
        async with anyio.create_task_group() as group:
            for connected in list(peers.connected):
                group.start_soon(_dismiss, connected, self._why, settle_s)

    async def _end_on_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self.end(f"signal {signal.Signals(number).name}", in_haste=True)


async def _dismiss(connected: Connected, why: str, settle_s: float) -> None:
    with anyio.move_on_after(settle_s + 1.0):
        await connected.dismiss(why, settle_s)
    connected.scope.cancel()


def memory_bytes() -> int | None:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
