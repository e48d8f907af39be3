"""The stdio wire: lines of JSON-RPC in and out, with file descriptor 1 kept from everything else.

Knows nothing of tools. Unlike the SDK's transport it answers malformed lines, leaves on a signal at once, and waits
for the answers that are owed when the host closes its end.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

MAX_LINE = 16 << 20
"""Bytes of one line."""
READ_BYTES = 1 << 16
WRITE_BYTES = 4096
"""A pipe that is ready takes this many bytes without blocking (PIPE_BUF)."""
LAST_ANSWERS_S = 10.0
"""Seconds that answers may still take after the host has closed its end."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ID = re.compile(rb'"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.){0,200}")')


def take_stdio() -> tuple[int, int]:
    """Private copies of the wire's two ends; from now on descriptor 0 is empty and descriptor 1 is the error output.

    What a library, a child or a stray print writes to standard output then cannot break the protocol.
    """
    wire = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2 if _is_open(2) else null, 1)
    os.close(null)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    return wire


class Wire:
    """One host's connection over two file descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._owed: set[str] = set()
        self._writing = anyio.Lock()
        self._settled = anyio.Event()
        self.answered = anyio.Event()

    @asynccontextmanager
    async def streams(
        self,
    ) -> AsyncIterator[tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]]:
        """The message streams that the SDK's session runs on; they end when the host closes its end."""
        to_session, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write_stream, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as group:
            group.start_soon(self._pump_in, to_session)
            group.start_soon(self._pump_out, from_session, group)
            try:
                yield read_stream, write_stream
            finally:
                group.cancel_scope.cancel()

    async def _pump_in(self, to_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        async with to_session:
            buffer, overlong = bytearray(), b""
            while chunk := await self._read():
                buffer += chunk
                while (end := buffer.find(b"\n")) >= 0:
                    line = bytes(buffer[:end])
                    del buffer[: end + 1]
                    if overlong:
                        await self._refuse(types.INVALID_REQUEST, _too_long(), _id_in(overlong))
                        overlong = b""
                    elif line.strip():
                        await self._take(line, to_session)
                if len(buffer) > MAX_LINE:
                    overlong = overlong or bytes(buffer[:4096])
                    buffer.clear()
            if buffer.strip() or overlong:
                await self._refuse(types.PARSE_ERROR, "The input ended within a line.", _id_in(overlong or bytes(buffer)))
            with anyio.move_on_after(LAST_ANSWERS_S):
                while self._owed:
                    self._settled = anyio.Event()
                    await self._settled.wait()

    async def _take(self, line: bytes, to_session: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValidationError:
            mended = await self._mend(line)
            if mended is None:
                return
            message = mended
        if isinstance(message, types.JSONRPCRequest):
            self._owed.add(json.dumps(message.id))
        await to_session.send(SessionMessage(message))

    async def _mend(self, line: bytes) -> types.JSONRPCMessage | None:
        """Read a line that strict parsing refuses: half surrogate pairs are replaced, all else is answered with why."""
        try:
            plain = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            await self._refuse(types.PARSE_ERROR, "The line is not valid UTF-8: send UTF-8 text.", _id_in(line))
            return None
        except (ValueError, RecursionError):
            await self._refuse(types.PARSE_ERROR, "The line is not valid JSON: send one JSON-RPC message a line.", _id_in(line))
            return None
        if isinstance(plain, list):
            await self._refuse(types.INVALID_REQUEST, "Batches are not part of MCP: send one message a line.", None)
            return None
        try:
            return types.jsonrpc_message_adapter.validate_python(_without_surrogates(plain), by_name=False)
        except ValidationError:
            found = plain.get("id") if isinstance(plain, dict) else None
            known = found if isinstance(found, str | int) and not isinstance(found, bool) else None
            await self._refuse(types.INVALID_REQUEST, "The line is not a JSON-RPC 2.0 message.", known)
            return None

    async def _pump_out(self, from_session: MemoryObjectReceiveStream[SessionMessage], group: TaskGroup) -> None:
        async with from_session:
            async for item in from_session:
                try:
                    await self._write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                except OSError:  # the host is gone: nobody is left to answer
                    group.cancel_scope.cancel()
                    return
                if isinstance(item.message, types.JSONRPCResponse | types.JSONRPCError):
                    self._owed.discard(json.dumps(item.message.id))
                    self._settled.set()
                    self.answered.set()

    async def _refuse(self, code: int, message: str, request_id: str | int | None) -> None:
        error: dict[str, Any] = {"code": code, "message": message}
        await self._write(json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode() + b"\n")

    async def _read(self) -> bytes:
        try:
            if _pollable(self._read_fd):
                await anyio.wait_readable(self._read_fd)
                return os.read(self._read_fd, READ_BYTES)
            return await anyio.to_thread.run_sync(os.read, self._read_fd, READ_BYTES, abandon_on_cancel=True)
        except OSError:
            return b""

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not _pollable(self._write_fd):
                await anyio.to_thread.run_sync(_write_all, self._write_fd, data)
                return
            view = memoryview(data)
            while view:
                await anyio.wait_writable(self._write_fd)
                view = view[os.write(self._write_fd, view[:WRITE_BYTES]) :]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


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


def _too_long() -> str:
    return f"The line is over {MAX_LINE >> 20} MiB: split the content into parts."


def _id_in(line: bytes) -> str | int | None:
    """The request id in a line that could not be parsed, so that the host does not wait for ever."""
    found = _ID.search(line)
    if found is None:
        return None
    try:
        value = json.loads(found.group(1))
    except ValueError:
        return None
    return value if isinstance(value, str | int) else None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value
