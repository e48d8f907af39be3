"""Passes changes on to the subscribers of a connection, in both eras of the protocol.

Knows nothing of memories: it is told which URIs changed. Clients of the handshake era get notifications on their
session, clients since 2026-07-28 on their listen stream.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio
from anyio.from_thread import BlockingPortal
from mcp.server import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated, ServerEvent

from memos_mcp.gateway.resources import STATS, space_uri
from memos_mcp.store import Changed

HANDSHAKE_ERA_ENDS = "2026-07-28"
MOST_WATCHED = 1_000


class _Bus(InMemorySubscriptionBus):
    """A bus that knows whether anybody hears it: a long addition changes hundreds of URIs that nobody watches."""

    def __init__(self) -> None:
        super().__init__()
        self._hearing: set[object] = set()

    @property
    def heard(self) -> bool:
        return bool(self._hearing)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        hearer = object()
        end = super().subscribe(listener)
        self._hearing.add(hearer)

        def unsubscribe() -> None:
            self._hearing.discard(hearer)
            end()

        return unsubscribe


class Subscriptions:
    """What one connection watches."""

    def __init__(self) -> None:
        self.bus = _Bus()
        self._watched: set[str] = set()
        self._session: ServerSession | None = None

    def remember(self, context: ServerRequestContext[object]) -> None:
        """Keep the way back to a handshake-era client; newer ones listen instead."""
        if context.protocol_version < HANDSHAKE_ERA_ENDS:
            self._session = context.session

    def watch(self, uri: str) -> bool:
        """Begin to report a URI to a handshake-era client; False when it watches too many."""
        if len(self._watched) >= MOST_WATCHED and uri not in self._watched:
            return False
        self._watched.add(uri)
        return True

    def unwatch(self, uri: str) -> None:
        """End what `watch` began."""
        self._watched.discard(uri)

    async def publish(self, changed: Changed) -> None:
        """Report a change of memories to whoever watches them, their spaces, or the figures."""
        if self.bus.heard or self._watched:
            await self._publish_uris(changed)
        if changed.listing:
            if self.bus.heard:
                await self.bus.publish(ResourcesListChanged())
            if self._session is not None:
                await self._tell(lambda session: session.send_resource_list_changed())

    async def _publish_uris(self, changed: Changed) -> None:
        uris = [STATS]
        for _, name in changed.spaces:
            uris += [space_uri(name), f"memcube://space/{name}"]  # a client may watch a name as it is written
        for cube in changed.cubes:
            uris += [f"memcube://{cube}", f"memcube://{cube}/history"]
        for uri in dict.fromkeys(uris):
            await self.bus.publish(ResourceUpdated(uri=uri))
            if self._session is not None and uri in self._watched:
                await self._tell(lambda session, uri=uri: session.send_resource_updated(uri))  # type: ignore[misc]

    async def _tell(self, send: Callable[[ServerSession], object]) -> None:
        if self._session is None:
            return
        try:
            await send(self._session)  # type: ignore[misc]
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._session = None


def from_threads(portal: BlockingPortal, subscriptions: Subscriptions) -> Callable[[Changed], None]:
    """A listener for the core's events, which come from worker threads."""

    def listener(changed: Changed) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody listens any more
            portal.start_task_soon(subscriptions.publish, changed)

    return listener
