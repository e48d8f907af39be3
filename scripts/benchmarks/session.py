"""An MCP session by hand over two descriptors: a process that a host would start, or a kernel's socket directly.

Single-threaded, so that many sessions can be driven by one loop and no thread of the measurement is in the way of
another. Knows MCP's framing and a bridge's, no SDK.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.client import PROTOCOL, CallFailed
from memos_mcp import asked, rendezvous

LIMIT_S = 120.0
HELLO = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


def line(method: str, params: Mapping[str, Any], number: int | None = None) -> bytes:
    """A request with this id, or a notification, as it goes over the wire."""
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if number is None else {**message, "id": number}).encode() + b"\n"


class Session:
    """One side of a session. `marked`: its lines carry the marks that bridge and kernel put before them."""

    def __init__(self, reads: int, writes: int, *, marked: bool = False) -> None:
        self._reads, self._writes, self._marked = reads, writes, marked
        self._last, self._kept = 0, b""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def fileno(self) -> int:
        """What is ready when the server has said something."""
        return self._reads

    def greet(self) -> None:
        """Begin the session as a host does."""
        self.request("initialize", HELLO)
        self.notify("notifications/initialized")

    def send(self, method: str, params: Mapping[str, Any]) -> int:
        """Send a request; returns its id, which its answer will have."""
        self._last += 1
        self.write((b"%d " % self._last if self._marked else b"") + line(method, params, self._last))
        return self._last

    def notify(self, method: str) -> None:
        self.write((b"- " if self._marked else b"") + line(method, {}))

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._writes, view) :]

    def write_what_fits(self, data: bytes) -> bool:
        """Write bytes to a server that may not read, over a descriptor that does not block; False if some were left."""
        try:
            self.write(data)
        except BlockingIOError:
            return False
        return True

    def read(self) -> bytes:
        """Bytes that have come, as they are.

        Raises:
            CallFailed: the server has closed its end.
        """
        chunk = os.read(self._reads, 1 << 18)
        if not chunk:
            raise CallFailed("the server closed its output")
        return chunk

    def take(self) -> list[dict[str, Any]]:
        """Read once; returns the messages that are complete with it. Raises as `read` does."""
        *lines, self._kept = (self._kept + self.read()).split(b"\n")
        bare = (one.partition(b" ")[2] if self._marked else one for one in lines)
        return [json.loads(one) for one in bare if one.strip()]

    def request(self, method: str, params: Mapping[str, Any], limit_s: float = LIMIT_S) -> tuple[dict[str, Any], float]:
        """The result of a request, and the seconds from sending it until its answer was read.

        Raises:
            CallFailed: an error, a closed session, or no answer in time.
        """
        began = time.perf_counter()
        number = self.send(method, params)
        while True:
            if not select.select([self], [], [], max(began + limit_s - time.perf_counter(), 0))[0]:
                raise CallFailed(f"{method} got no answer in {limit_s:.0f} s")
            for message in self.take():
                if message.get("id") == number and "method" not in message:
                    return result_of(message), time.perf_counter() - began

    def call(self, tool: str, arguments: Mapping[str, Any], limit_s: float = LIMIT_S) -> tuple[dict[str, Any], float]:
        """The structured result of a tool, and the seconds it took; raises CallFailed with the tool's sentence too."""
        result, seconds = self.request("tools/call", {"name": tool, "arguments": arguments}, limit_s)
        return dict(result.get("structuredContent") or {}), seconds

    def close(self) -> None:
        """End the session in order."""


class Spawned(Session):
    """A session with a process, which it starts; it is not greeted yet. `begun`: when it was started."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        with (folder / "stderr.txt").open("ab") as errors:
            self.begun = time.perf_counter()
            self.process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=dict(env), cwd=folder,
                bufsize=0,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdout.fileno(), self.process.stdin.fileno())

    def close(self) -> None:
        """Close the host's end and wait for the process; one that does not end is killed."""
        self._close(self.process.stdin)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        self._close(self.process.stdin)
        self._close(self.process.stdout)

    @staticmethod
    def _close(pipe: Any) -> None:
        with contextlib.suppress(OSError):
            pipe.close()


class Direct(Session):
    """A session with the kernel of a data directory over its own socket, as a bridge has it; not greeted yet."""

    def __init__(self, home: Path, env: Mapping[str, str]) -> None:
        connection = rendezvous.connect(str(home))
        rendezvous.greet(connection, str(home), _who(env), LIMIT_S)
        self._sock: socket.socket = connection.detached()
        super().__init__(self._sock.fileno(), self._sock.fileno(), marked=True)

    def close(self) -> None:
        self._sock.close()


def bridge_greeting(home: Path, env: Mapping[str, str]) -> bytes:
    """The first line that a bridge would send, for a shim that knows nothing of it."""
    first = {"memos": rendezvous.PROTOCOL, "version": rendezvous.VERSION, "pid": os.getpid(), "token": ""}
    return json.dumps(first | {"home": rendezvous.identity(str(home))} | _who(env)).encode() + b"\n"


def result_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """The result in an answer.

    Raises:
        CallFailed: it is an error, or a tool's refusal.
    """
    if "error" in message:
        raise CallFailed(json.dumps(message["error"])[:500])
    result = message["result"]
    if result.get("isError"):
        raise CallFailed(" ".join(str(part.get("text", "")) for part in result.get("content", []))[:500])
    return dict(result)


def _who(env: Mapping[str, str]) -> dict[str, Any]:
    wishes = asked.Asked({}, env, "bench", None)
    return {"role": "host", "bridge": os.urandom(12).hex(), "generation": 0, "asked": wishes.as_json()}
