"""One connection to the kernel: the greeting, and then a host's session or a person's commands.

Knows nothing of listening or of ending the process.
"""

from __future__ import annotations

import hmac
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio

from memos_mcp import asked, rendezvous
from memos_mcp import settings as settings_of
from memos_mcp.asked import Asked
from memos_mcp.cube import instant
from memos_mcp.errors import MemosError
from memos_mcp.gateway import control
from memos_mcp.gateway.channel import Socket
from memos_mcp.gateway.serve import Ground
from memos_mcp.gateway.server import Gateway
from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.gateway.subscriptions import Audience, Subscriptions
from memos_mcp.gateway.wire import STUCK_S, Bridged, Wire
from memos_mcp.settings import Settings
from memos_mcp.version import VERSION, newer

log = logging.getLogger(__name__)

GREETING_S = 10.0
"""Seconds in which whoever connects has to say who it is."""


class Ender(Protocol):
    """Begins to end the process."""

    def __call__(self, why: str, *, in_haste: bool = False) -> None: ...


@dataclass(eq=False)
class Connected:
    """A peer that is connected now, as `status` shows it."""

    role: str
    pid: int | None
    since: str
    space: str
    host: Callable[[], str | None] = lambda: None
    wire: Wire | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def dismiss(self, why: str, settle_s: float) -> None:
        """Tell a bridge that the kernel ends, and give it the answers that are in the making."""
        if self.wire is not None:
            await self.wire.say_goodbye(why)
            await self.wire.settle(settle_s)

    def as_json(self) -> dict[str, Any]:
        return {"host": self.host(), "space": self.space, "since": self.since, "pid": self.pid, "role": self.role}


class Peers:
    """Everybody connected to this kernel, and what they share."""

    def __init__(self, ground: Ground, store: StoreAccess, audience: Audience, started: str, end: Ender) -> None:
        self.ground, self.store, self.audience, self.started, self.end = ground, store, audience, started, end
        self.connected: set[Connected] = set()
        self.first_answer = anyio.Event()

    @contextmanager
    def joined(self, connected: Connected) -> Iterator[None]:
        self.connected.add(connected)
        try:
            with connected.scope:
                yield
        finally:
            self.connected.discard(connected)


async def converse(channel: Socket, peers: Peers) -> None:
    """Serve one connection until it ends; nothing that happens on it reaches any other."""
    try:
        await _converse(channel, peers)
    except Exception as error:
        frames = "".join(traceback.format_tb(error.__traceback__))  # never the message: it could quote a memory
        log.error("a connection ended by %s\n%s", type(error).__name__, frames)
    finally:
        channel.close()


async def _converse(channel: Socket, peers: Peers) -> None:
    try:
        with anyio.fail_after(GREETING_S):
            hello, received = await _greeting(channel)
    except (TimeoutError, ValueError, OSError):
        return
    answer, settings = _judged(hello, peers)
    try:
        await channel.send(json.dumps(answer).encode() + b"\n", GREETING_S)
    except OSError:
        return
    if hello.get("drain") and not answer.get("refused"):
        peers.end("another kernel takes over")
    elif settings is not None:
        wishes = asked.from_json(_mapping(hello.get("asked")))
        since, pid = instant(datetime.now(UTC)), hello.get("pid")
        if hello.get("role") == "command":
            connected = Connected("command", pid, since, settings.space, lambda: "memos-mcp")
            with peers.joined(connected):
                await control.serve(channel, received, wishes, peers)
        else:
            await _serve_host(channel, received, hello, wishes, settings, peers)


async def _serve_host(
    channel: Socket, received: bytes, hello: dict[str, Any], wishes: Asked, settings: Settings, peers: Peers
) -> None:
    generation = hello.get("generation")
    bridged = Bridged(str(hello.get("bridge")), generation if isinstance(generation, int) else 0)
    wire, subscriptions = Wire(channel, bridged, received, STUCK_S), Subscriptions()
    gateway = Gateway(peers.store, subscriptions, settings, wishes.cwd, wire.flowing)
    connected = Connected(
        "host",
        hello.get("pid"),
        instant(datetime.now(UTC)),
        gateway.project.space or settings.space,
        lambda: gateway.client,
        wire,
    )

    async def note_first_answer() -> None:
        await wire.answered.wait()
        peers.first_answer.set()

    with peers.joined(connected), peers.audience.joined(subscriptions):
        async with anyio.create_task_group() as group:
            if not peers.first_answer.is_set():
                group.start_soon(note_first_answer)
            group.start_soon(subscriptions.tell)
            group.start_soon(gateway.get_ready)
            async with wire.streams() as (incoming, outgoing):
                await gateway.server.run(incoming, outgoing, gateway.options())
            group.cancel_scope.cancel()


async def _greeting(channel: Socket) -> tuple[dict[str, Any], bytes]:
    """The first line, and what came behind it.

    Raises:
        ValueError: it is not one.
    """
    got = b""
    while b"\n" not in got:
        chunk = await channel.receive()
        got += chunk
        if not chunk or len(got) > rendezvous.LONGEST_GREETING:
            raise ValueError
    line, _, rest = got.partition(b"\n")
    hello = json.loads(line)
    if not isinstance(hello, dict) or not isinstance(hello.get("memos"), int):
        raise ValueError
    return hello, rest


def _judged(hello: dict[str, Any], peers: Peers) -> tuple[dict[str, Any], Settings | None]:
    """The first line back, and the connection's settings if it may go on."""
    ground, token = peers.ground, peers.ground.listener.token
    answer: dict[str, Any] = {
        "memos": rendezvous.PROTOCOL,
        "version": VERSION,
        "pid": control.pid(),
        "started": peers.started,
        "kind": ground.kind,
    }
    if not hmac.compare_digest(str(hello.get("token")).encode(), token[: len(token) // 2].encode()):
        return {**answer, "elsewhere": True}, None
    answer["proof"] = token[len(token) // 2 :]
    if hello.get("home") != ground.identity:
        return {**answer, "elsewhere": True}, None
    drains = hello.get("drain") or newer(str(hello.get("version")), VERSION)
    if drains and ground.kind == "kernel":
        peers.end("a newer memos-mcp takes over")
        return {**answer, "draining": True}, None
    if hello.get("role") == "command":  # a kernel can be stopped whatever config.toml says: each call resolves its own
        return answer, ground.settings
    try:
        return answer, settings_of.of_connection(asked.from_json(_mapping(hello.get("asked"))), ground.settings.home)
    except MemosError as error:
        return {**answer, "refused": str(error)}, None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
