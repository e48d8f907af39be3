"""One peer's wire: lines of JSON-RPC in and out of a channel, as the message streams that a session runs on.

Knows nothing of tools. Unlike the SDK's transport it answers malformed lines, leaves on a signal at once, waits for
the answers that are owed when the host closes its end, and speaks with a bridge as `framing` has it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from memos_mcp import framing
from memos_mcp.framing import MAX_LINE, Lines, Overlong, marked
from memos_mcp.gateway.channel import Channel
from memos_mcp.gateway.lines import Refused, parsed, unfinished

log = logging.getLogger(__name__)

Incoming = SessionMessage | Exception
LAST_ANSWERS_S = 10.0
"""Seconds that answers may still take after the host has closed its end."""
STUCK_S = 60.0
"""Seconds without reading anything after which a bridge's connection is given up."""
MARK_BYTES = 32
STANDING = frozenset({"subscriptions/listen"})
"""Requests that are answered only when they end: nobody waits for them once the host has closed its end."""


@dataclass(frozen=True)
class Bridged:
    """Which bridge is at the other end, and how many kernels it had before this one."""

    bridge: str
    generation: int


@dataclass(frozen=True)
class RequestKey:
    """What a request is known by from one kernel to the next; `again`: it may have been carried out already."""

    text: str
    again: bool


def take_stdio() -> tuple[int, int]:
    """Private copies of the wire's two ends; from now on descriptor 0 is empty and descriptor 1 is the error output.

    What a library, a child or a stray print writes to standard output then cannot break the protocol.
    """
    for fd in (0, 1, 2):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    wire = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    return wire


class Wire:
    """One peer's connection.

    `answered` is set with the first answer, `ended` when the host has closed its end and no answer is owed any more.
    `owed` counts requests that wait for an answer. A peer that reads nothing for `stuck_s` seconds is given up.
    """

    def __init__(
        self, channel: Channel, bridged: Bridged | None = None, received: bytes = b"", stuck_s: float | None = None
    ) -> None:
        self._channel, self._bridged, self._received, self._stuck_s = channel, bridged, received, stuck_s
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._asked: dict[str, types.RequestId] = {}
        self._writing, self._written = anyio.Lock(), anyio.Event()
        self._written.set()
        self._settled = anyio.Event()
        self._group: TaskGroup | None = None
        self.answered = anyio.Event()
        self.ended = anyio.Event()

    @property
    def owed(self) -> int:
        return sum(one.owed for some in self._waiting.values() for one in some)

    @asynccontextmanager
    async def streams(
        self,
    ) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]]:
        """The message streams that the SDK's session runs on; they end when the host closes its end."""
        to_session, read_stream = anyio.create_memory_object_stream[Incoming](0)
        write_stream, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as self._group:
            self._group.start_soon(self._pump_in, to_session)
            self._group.start_soon(self._pump_out, from_session)
            try:
                yield read_stream, write_stream
            finally:
                self._group.cancel_scope.cancel()

    async def flowing(self) -> None:
        """Wait until the peer has taken what is being written to it: before that, no more answers should be made."""
        await self._written.wait()

    async def settle(self, within_s: float) -> None:
        """Wait until no answer is owed."""
        with anyio.move_on_after(within_s):
            while self.owed:
                await self._settled.wait()

    async def say_goodbye(self, why: str) -> None:
        """Tell a bridge that the kernel is about to close the connection."""
        await self._write(marked(framing.GOODBYE, why.encode()))

    async def _pump_in(self, to_session: MemoryObjectSendStream[Incoming]) -> None:
        async with to_session:
            lines = Lines(MAX_LINE + (MARK_BYTES if self._bridged else 0))
            chunk = self._received or await self._receive()
            while chunk:
                for line in lines.take(chunk):
                    await self._take(line, to_session)
                chunk = await self._receive()
            rest = lines.rest
            if self._bridged:
                rest = rest.partition(b" ")[2]
            if refused := unfinished(rest):
                await self._refuse(refused, None)
            await self.settle(LAST_ANSWERS_S)
            self.ended.set()

    async def _take(self, line: bytes | Overlong, to_session: MemoryObjectSendStream[Incoming]) -> None:
        number, again = None, False
        if self._bridged is not None and isinstance(line, bytes):
            mark, _, line = line.partition(b" ")
            if mark == framing.PING:
                await self._write(marked(framing.PONG, b""))
                return
            if mark == framing.OVERLONG:
                line = Overlong(*line.split(b"\0", 1)) if b"\0" in line else Overlong(line, line)
            elif mark != framing.OTHER:
                number, again = mark.removesuffix(framing.AGAIN), mark.endswith(framing.AGAIN)
        try:
            message = parsed(line)
        except Refused as refused:
            await self._refuse(refused, number)
            return
        if isinstance(message, types.JSONRPCRequest):
            await to_session.send(SessionMessage(message, self._expect(message, number, again)))
        elif not isinstance(message, types.JSONRPCNotification) and self._bridged is not None:
            if (mine := self._asked.pop(str(message.id), None)) is not None:  # of a former kernel's request it is not
                await to_session.send(SessionMessage(message.model_copy(update={"id": mine})))
        else:
            await to_session.send(SessionMessage(message))

    def _expect(self, message: types.JSONRPCRequest, number: bytes | None, again: bool) -> ServerMessageMetadata:
        waiting = _Waiting(number, owed=message.method not in STANDING)
        self._waiting.setdefault(json.dumps(message.id), deque()).append(waiting)
        key = None
        if self._bridged is not None and number is not None:
            key = RequestKey(f"{self._bridged.bridge}:{number.decode('ascii', 'replace')}", again)
        return ServerMessageMetadata(request_context=key, on_request_unanswered=partial(self._unanswered, message.id))

    async def _pump_out(self, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with from_session:
            async for item in from_session:
                message = self._renumbered(item.message)
                line = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
                if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
                    waiting = self._forget(message.id)
                    await self._write(self._framed(waiting.number if waiting else None, line))
                    self.answered.set()
                    self._note_settled()
                else:
                    await self._write(self._framed(None, line))

    def _renumbered(self, message: types.JSONRPCMessage) -> types.JSONRPCMessage:
        """A request to a bridge's host gets an id that no former kernel's request had; its cancellation too."""
        if self._bridged is None:
            return message
        if isinstance(message, types.JSONRPCRequest):
            self._asked[name := self._name_for(message.id)] = message.id
            return message.model_copy(update={"id": name})
        if isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            params: dict[str, Any] = dict(message.params or {})
            if "requestId" in params:
                name = self._name_for(params["requestId"])
                self._asked.pop(name, None)
                return message.model_copy(update={"params": {**params, "requestId": name}})
        return message

    def _name_for(self, request_id: types.RequestId) -> str:
        generation = self._bridged.generation if self._bridged else 0
        return f"memos-{generation}-{request_id}"

    async def _unanswered(self, request_id: types.RequestId) -> None:
        """A request is cancelled and gets no answer."""
        waiting = self._forget(request_id)
        if waiting is not None and waiting.number is not None:
            await self._write(marked(waiting.number, b""))
        self._note_settled()

    def _note_settled(self) -> None:
        """Wake everybody who waits for answers to be given; the next one is waited for anew."""
        self._settled.set()
        self._settled = anyio.Event()

    def _forget(self, request_id: types.RequestId | None) -> _Waiting | None:
        key = json.dumps(request_id)
        some = self._waiting.get(key)
        if not some:
            return None
        found = some.popleft()
        if not some:
            del self._waiting[key]
        return found

    async def _refuse(self, refused: Refused, number: bytes | None) -> None:
        error = {"code": refused.code, "message": refused.message}
        line = json.dumps({"jsonrpc": "2.0", "id": refused.request_id, "error": error}).encode()
        await self._write(self._framed(number, line))

    def _framed(self, number: bytes | None, line: bytes) -> bytes:
        if self._bridged is None:
            return line + b"\n"
        return marked(number if number is not None else framing.OTHER, line)

    async def _receive(self) -> bytes:
        try:
            return await self._channel.receive()
        except OSError:
            return b""

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            self._written = anyio.Event()
            try:
                await self._channel.send(data, self._stuck_s)
            except TimeoutError:
                log.warning("a host read nothing for %s s: its connection is given up", self._stuck_s)
                self._give_up()
            except OSError:  # the host is gone: nobody is left to answer
                self._give_up()
            finally:
                self._written.set()

    def _give_up(self) -> None:
        if self._group is not None:
            self._group.cancel_scope.cancel()


@dataclass(frozen=True)
class _Waiting:
    """A request without an answer yet: its bridge's number for it, and whether somebody waits for the answer."""

    number: bytes | None
    owed: bool


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
