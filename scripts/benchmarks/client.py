"""A bare JSON-RPC client for MCP servers over stdio, so that the product is timed by nothing of its own.

Standard library only, and it knows no MCP SDK. Calls may come from several threads at once.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROTOCOL = "2025-06-18"


class CallFailed(Exception):
    """The server answered with an error, or not at all."""


class Client:
    """One stdio session; the server runs in `folder`, where what it says on stderr is kept, and ends with `close`."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: Path, timeout_s: float = 600.0) -> None:
        self._timeout_s = timeout_s
        self._next = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[tuple[float, dict[str, Any] | None]]] = {}
        self.errors = folder / "stderr.txt"
        self._errors_file = self.errors.open("ab")
        started = time.perf_counter()
        self.process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors_file,
            env=dict(env), cwd=folder, bufsize=0,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.request("initialize", hello)
        self.initialize_s = time.perf_counter() - started
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """The result of one request, and the seconds from sending it until its answer was read.

        Raises:
            CallFailed: a protocol error, a closed session, or no answer in time.
        """
        box: queue.SimpleQueue[tuple[float, dict[str, Any] | None]] = queue.SimpleQueue()
        with self._lock:
            self._next += 1
            me = self._next
            self._waiting[me] = box
        line = {"jsonrpc": "2.0", "id": me, "method": method, "params": params}
        begun = time.perf_counter()
        self._send(line)
        try:
            ended, answer = box.get(timeout=self._timeout_s)
        except queue.Empty:
            raise CallFailed(f"{method} got no answer in {self._timeout_s:.0f} s") from None
        if answer is None:
            raise CallFailed(f"{method}: the server closed its output (its own words: {self.errors})")
        if "error" in answer:
            raise CallFailed(f"{method}: {json.dumps(answer['error'])[:500]}")
        return answer["result"], ended - begun

    def call(self, tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """The structured result of a tool and the seconds it took.

        Raises:
            CallFailed: the tool refused or failed; carries its sentence.
        """
        result, seconds = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            said = " ".join(str(part.get("text", "")) for part in result.get("content", []))
            raise CallFailed(f"{tool}: {said[:500]}")
        return result["structuredContent"], seconds

    def close(self) -> None:
        """Close the session and wait for the server to end; it is killed when it does not."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors_file.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        assert self.process.stdin is not None
        with self._lock:
            while data:
                data = data[os.write(self.process.stdin.fileno(), data) :]

    def _read(self) -> None:
        assert self.process.stdout is not None
        kept = b""
        while chunk := os.read(self.process.stdout.fileno(), 1 << 20):
            arrived = time.perf_counter()
            *lines, kept = (kept + chunk).split(b"\n")
            for line in lines:
                self._deliver(line, arrived)
        for box in list(self._waiting.values()):
            box.put((time.perf_counter(), None))

    def _deliver(self, line: bytes, arrived: float) -> None:
        if not line.strip():
            return
        message = json.loads(line)
        box = self._waiting.pop(message.get("id"), None) if "method" not in message else None
        if box is not None:
            box.put((arrived, message))
