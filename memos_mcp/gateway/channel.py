"""Bytes to and from one peer: the two pipes of a host, or the socket of a bridge.

Knows neither lines nor messages.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import Protocol

import anyio

READ_BYTES = 1 << 16
WRITE_BYTES = 4096
"""A pipe that is ready takes this many bytes without blocking (PIPE_BUF)."""


class Channel(Protocol):
    """Both raise OSError when the peer is gone."""

    async def receive(self) -> bytes:
        """What has come; empty when the peer has closed its end."""

    async def send(self, data: bytes, stuck_s: float | None) -> None:
        """Write all of it.

        Raises:
            TimeoutError: the peer read nothing for `stuck_s` seconds.
        """


class Pipes:
    """File descriptors of this process; files and terminals, which no event loop can wait for, are used in a thread."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd

    async def receive(self) -> bytes:
        while True:
            try:
                if _pollable(self._read_fd):
                    await anyio.wait_readable(self._read_fd)
                    return os.read(self._read_fd, READ_BYTES)
                return await anyio.to_thread.run_sync(os.read, self._read_fd, READ_BYTES, abandon_on_cancel=True)
            except BlockingIOError:  # the host made its end non-blocking, and somebody else read first
                continue

    async def send(self, data: bytes, stuck_s: float | None) -> None:
        if not _pollable(self._write_fd):
            await anyio.to_thread.run_sync(_write_all, self._write_fd, data)
            return
        view = memoryview(data)
        while view:
            with anyio.fail_after(stuck_s):
                await anyio.wait_writable(self._write_fd)
            view = view[_write_some(self._write_fd, view[:WRITE_BYTES]) :]


class Socket:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock

    async def receive(self) -> bytes:
        while True:
            try:
                return self._sock.recv(READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)

    async def send(self, data: bytes, stuck_s: float | None) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                with anyio.fail_after(stuck_s):
                    await anyio.wait_writable(self._sock)

    def close(self) -> None:
        self._sock.close()


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
