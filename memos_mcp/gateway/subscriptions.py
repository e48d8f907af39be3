"""Passes changes on to the subscribers of a connection, in both eras of the protocol.

Knows nothing of memories: it is told which URIs changed. Clients of the handshake era get notifications on their
session, clients since 2026-07-28 on their listen stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
from anyio.from_thread import BlockingPortal
from mcp.server import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)

from memos_mcp.gateway.resources import ADAPTERS, PROPOSALS, STATS, channel_uri, job_uri, space_uri
from memos_mcp.store import Changed

HANDSHAKE_ERA_ENDS = "2026-07-28"
MOST_WATCHED = 1_000
LISTING_AFTER_S = 0.02
"""Seconds after which a session that watches nothing hears that the list changed: the answer of the call goes first,
and changes in a row are told as one."""


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
    """What one connection watches, and what it has still to be told: each URI once, however often it changed."""

    def __init__(self) -> None:
        self.bus = _Bus()
        self._watched: set[str] = set()
        self._session: ServerSession | None = None
        self._untold: dict[str, None] = {}
        self._listing = self._prompts = False
        self._news = anyio.Event()

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

    @property
    def interested(self) -> bool:
        """Whether there is anybody to tell."""
        return self.bus.heard or self._session is not None

    @property
    def _watched_or_heard(self) -> bool:
        return self.bus.heard or bool(self._watched)

    def foretold(self, changed: Changed) -> bool:
        """Whether there is nothing to say of this change that is not about to be said. May be asked from any thread."""
        if self._watched_or_heard or (changed.templates and self.interested and not self._prompts):
            return False
        return self._listing or self._session is None or not changed.listing

    def notice(self, changed: Changed) -> None:
        """Have a change of memories reported to whoever watches them, their spaces, or the figures."""
        if self._watched_or_heard:
            uris = dict.fromkeys(_uris(changed))
            self._untold |= uris if self.bus.heard else {uri: None for uri in uris if uri in self._watched}
        self._listing |= changed.listing and self.interested
        self._prompts |= changed.templates and self.interested
        if self._untold or self._listing or self._prompts:
            self._news.set()

    async def tell(self) -> None:
        """Report, until cancelled. A client that does not read holds up nobody but itself."""
        while True:
            await self._news.wait()
            if not self._watched_or_heard:
                await anyio.sleep(LISTING_AFTER_S)
            self._news = anyio.Event()
            untold, self._untold = self._untold, {}
            listing, self._listing = self._listing, False
            prompts, self._prompts = self._prompts, False
            for uri in untold:
                await self._publish(uri)
            if listing:
                await self._publish_list(ResourcesListChanged(), lambda session: session.send_resource_list_changed())
            if prompts:
                await self._publish_list(PromptsListChanged(), lambda session: session.send_prompt_list_changed())

    async def _publish(self, uri: str) -> None:
        if self.bus.heard:
            await self.bus.publish(ResourceUpdated(uri=uri))
        if self._session is not None and uri in self._watched:
            await self._send(lambda session: session.send_resource_updated(uri))

    async def _publish_list(self, event: ServerEvent, send: Callable[[ServerSession], Awaitable[None]]) -> None:
        if self.bus.heard:
            await self.bus.publish(event)
        if self._session is not None:
            await self._send(send)

    async def _send(self, send: Callable[[ServerSession], Awaitable[None]]) -> None:
        if self._session is None:
            return
        try:
            await send(self._session)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._session = None


class Audience:
    """The subscriptions of every connection of one process."""

    def __init__(self) -> None:
        self._all: set[Subscriptions] = set()

    @contextmanager
    def joined(self, subscriptions: Subscriptions) -> Iterator[None]:
        """Report changes to these for the length of the block."""
        self._all.add(subscriptions)
        try:
            yield
        finally:
            self._all.discard(subscriptions)

    def from_threads(self, portal: BlockingPortal) -> Callable[[Changed], None]:
        """A listener for the core's events, which come from worker threads."""

        def notice(changed: Changed) -> None:
            for subscriptions in self._all:
                subscriptions.notice(changed)

        def listener(changed: Changed) -> None:
            if not all(subscriptions.foretold(changed) for subscriptions in list(self._all)):
                with suppress(RuntimeError):  # the loop has ended: nobody listens any more
                    portal.start_task_soon(notice, changed)

        return listener


def _uris(changed: Changed) -> list[str]:
    if changed.job is not None:
        return [job_uri(changed.job)]
    uris = [STATS, ADAPTERS, PROPOSALS]
    for _, name in changed.spaces:
        uris += [space_uri(name), f"memcube://space/{name}"]  # a client may watch a name as it is written
    uris += [channel_uri(space, name) for space, name in changed.channels]
    for cube in changed.cubes:
        uris += [f"memcube://{cube}", f"memcube://{cube}/history"]
    return uris
