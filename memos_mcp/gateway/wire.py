"""The stdio wire: lines of JSON-RPC in and out, with file descriptor 1 kept from everything else.

Knows nothing of tools. Unlike the SDK's transport it answers malformed lines, leaves on a signal at once, and waits
for the answers that are owed when the host closes its end.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from memos_mcp.gateway.lines import Lines, Overlong, Refused, parsed

Incoming = SessionMessage | Exception
READ_BYTES = 1 << 16
WRITE_BYTES = 4096
"""A pipe that is ready takes this many bytes without blocking (PIPE_BUF)."""
LAST_ANSWERS_S = 10.0
"""Seconds that answers may still take after the host has closed its end."""
STANDING = frozenset({"subscriptions/listen"})
"""Requests that are answered only when they end: nobody waits for them once the host has closed its end."""


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
    """One host's connection over two file descriptors.

    `answered` is set with the first answer, `ended` when the host has closed its end and no answer is owed any more.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._owed = Counter[str]()
        self._writing = anyio.Lock()
        self._settled = anyio.Event()
        self._group: TaskGroup | None = None
        self.answered = anyio.Event()
        self.ended = anyio.Event()

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

    async def _pump_in(self, to_session: MemoryObjectSendStream[Incoming]) -> None:
        async with to_session:
            lines = Lines()
            while chunk := await self._read():
                for line in lines.take(chunk):
                    await self._take(line, to_session)
            if refused := lines.unfinished():
                await self._refuse(refused)
            with anyio.move_on_after(LAST_ANSWERS_S):
                while self._owed:
                    self._settled = anyio.Event()
                    await self._settled.wait()
            self.ended.set()

    async def _take(self, line: bytes | Overlong, to_session: MemoryObjectSendStream[Incoming]) -> None:
        try:
            message = parsed(line)
        except Refused as refused:
            await self._refuse(refused)
            return
        metadata = None
        if isinstance(message, types.JSONRPCRequest) and message.method not in STANDING:
            self._owed[json.dumps(message.id)] += 1
            metadata = ServerMessageMetadata(on_request_unanswered=partial(self._settle, message.id))
        await to_session.send(SessionMessage(message, metadata))

    async def _pump_out(self, from_session: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with from_session:
            async for item in from_session:
                await self._write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                if isinstance(item.message, types.JSONRPCResponse | types.JSONRPCError):
                    self.answered.set()
                    await self._settle(item.message.id)

    async def _settle(self, request_id: str | int | None) -> None:
        """A request has its answer, or is cancelled and gets none."""
        key = json.dumps(request_id)
        self._owed[key] -= 1
        if self._owed[key] <= 0:
            del self._owed[key]
        self._settled.set()

    async def _refuse(self, refused: Refused) -> None:
        error = {"code": refused.code, "message": refused.message}
        await self._write(json.dumps({"jsonrpc": "2.0", "id": refused.request_id, "error": error}).encode() + b"\n")

    async def _read(self) -> bytes:
        while True:
            try:
                if _pollable(self._read_fd):
                    await anyio.wait_readable(self._read_fd)
                    return os.read(self._read_fd, READ_BYTES)
                return await anyio.to_thread.run_sync(os.read, self._read_fd, READ_BYTES, abandon_on_cancel=True)
            except BlockingIOError:  # the host made its end non-blocking, and somebody else read first
                continue
            except OSError:
                return b""

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            try:
                if not _pollable(self._write_fd):
                    await anyio.to_thread.run_sync(_write_all, self._write_fd, data)
                    return
                view = memoryview(data)
                while view:
                    await anyio.wait_writable(self._write_fd)
                    view = view[_write_some(self._write_fd, view[:WRITE_BYTES]) :]
            except OSError:  # the host is gone: nobody is left to answer
                if self._group is not None:
                    self._group.cancel_scope.cancel()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_some(fd: int, data: memoryview) -> int:
    try:
        return os.write(fd, data)
    except BlockingIOError:  # the host made its end non-blocking, and it is full
        return 0


def _pollable(fd: int) -> bool:
    if sys.platform == "win32":
        return False
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
