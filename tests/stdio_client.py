"""A small JSON-RPC client for `memos-mcp` processes: real pipes, bounded waits, every tool result held to its schema.

Knows nothing of the MCP SDK, so that what it sees is what any host sees. `Server` speaks to one process in the era it
is given; `checked` is the judgement on a tool's result that the tests with the SDK's own client use as well.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from memos_mcp.gateway import tools

LIMIT_S = 60.0
"""Seconds after which a process that does not answer has failed."""
LEGACY, MODERN = "2025-11-25", "2026-07-28"
ERAS = (LEGACY, MODERN)
OFFERED = tools.offered("all", asking=True)
COMMAND = (sys.executable, "-m", "memos_mcp", "stdio", "--in-process")
BRIDGE = (sys.executable, "-m", "memos_mcp")
CLIENT = {"name": "tests", "version": "1"}
UNSET = (
    "MEMOS_HOME", "MEMOS_SPACE", "MEMOS_TOOLS", "MEMOS_EMBEDDER", "MEMOS_RERANKER", "MEMOS_MODEL", "MEMOS_BASE_MODEL",
    "MEMOS_LLM",
)  # fmt: skip


class RpcError(Exception):
    """A JSON-RPC error answer."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.code, self.message = error["code"], error["message"]


@dataclass(frozen=True)
class Outcome:
    """A tool's result as a host gets it: the text, and the structured part unless it failed."""

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    failed: bool = False


def closed(schema: Any) -> Any:
    """The schema with every object held to the properties it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: closed(part) for key, part in schema.items()}
    if "properties" in strict:
        strict["additionalProperties"] = False
    return strict


def checked(tool: Mapping[str, Any], result: Mapping[str, Any]) -> Outcome:
    """The result, after holding it to what every result must be; both arguments in wire form."""
    texts = [part["text"] for part in result["content"] if part["type"] == "text"]
    assert len(texts) == len(result["content"]) == 1, result["content"]
    if result.get("isError"):
        assert "structuredContent" not in result
        assert texts[0].strip()
        return Outcome(texts[0], failed=True)
    data = result["structuredContent"]
    Draft202012Validator(closed(tool["outputSchema"])).validate(data)
    TypeAdapter(OFFERED[tool["name"]].result).validate_python(data, strict=True)  # no field missing, however deep
    assert not texts[0].lstrip().startswith(("{", "[{")), "the text part repeats the JSON"
    return Outcome(texts[0], data)


def environment(home: Path, **settings: str) -> dict[str, str]:
    """The environment of a process on this data directory, with no other setting of the developer's own."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "MEMOS_HOME": str(home), "MEMOS_PRINCIPAL": "ada", "PYTHONWARNINGS": "error", **settings}


class Server:
    """One process and both ends of its wire."""

    def __init__(self, home: Path, era: str = LEGACY, argv: Sequence[str] = COMMAND, **settings: str) -> None:
        self.era = era
        self.notifications: list[dict[str, Any]] = []
        self.answers: dict[Any, dict[str, Any]] = {}
        self.hello: dict[str, Any] = {}
        self._last_id, self._buffer = 0, b""
        self._tools: dict[str, dict[str, Any]] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0,
            env=environment(home, **settings), start_new_session=True,
        )  # fmt: skip

    def greet(self) -> dict[str, Any]:
        """Begin the session as this era does; returns, and keeps in `hello`, what the server says of itself."""
        if self.era == MODERN:
            self.hello = self.request("server/discover")
        else:
            hello = {"protocolVersion": self.era, "capabilities": {}, "clientInfo": CLIENT}
            self.hello = self.request("initialize", hello)
            self.notify("notifications/initialized")
        return self.hello

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are, whole, however long the server takes to read them."""
        assert self.process.stdin is not None
        view, end = memoryview(data), time.monotonic() + LIMIT_S
        while view:
            ready = select.select([], [self.process.stdin], [], max(end - time.monotonic(), 0))[1]
            assert ready, "the server does not read"
            view = view[os.write(self.process.stdin.fileno(), view[:4096]) :]

    def send(self, method: str, params: Mapping[str, Any] | None = None, request_id: Any = None) -> Any:
        """Send a request and return its id without waiting for the answer."""
        if request_id is None:
            self._last_id += 1
            request_id = self._last_id
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": self.with_meta(params)}
        self.send_raw(json.dumps(message).encode() + b"\n")
        return request_id

    def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": self.with_meta(params)}
        self.send_raw(json.dumps(message).encode() + b"\n")

    def receive(self, limit_s: float = LIMIT_S) -> dict[str, Any] | None:
        """The next message; None when the server has closed its end."""
        assert self.process.stdout is not None
        end = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            ready = select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))[0]
            assert ready, f"no message within {limit_s} s"
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            if not chunk:
                assert not self._buffer, f"the output ended within a line: {self._buffer[:200]!r}"
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return dict(message)

    def answer(self, request_id: Any) -> dict[str, Any]:
        """The whole answer to a request that was sent; what else comes is kept."""
        while request_id not in self.answers:
            message = self.receive()
            assert message is not None, f"the server ended without an answer to {request_id!r}"
            if "method" in message:
                self.notifications.append(message)
            else:
                self.answers[message["id"]] = message
        return self.answers.pop(request_id)

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and wait for its result.

        Raises:
            RpcError: the server answered with an error.
        """
        answer = self.answer(self.send(method, params))
        if "error" in answer:
            raise RpcError(answer["error"])
        return dict(answer["result"])

    def notification(self, method: str) -> dict[str, Any]:
        """The parameters of the next notification with this method, taken out of those that came."""
        while True:
            for message in self.notifications:
                if message["method"] == method:
                    self.notifications.remove(message)
                    return dict(message.get("params") or {})
            message = self.receive() or {}
            assert message, f"the server ended without {method}"
            if "method" in message:
                self.notifications.append(message)
            else:
                self.answers[message["id"]] = message

    def tools(self) -> dict[str, dict[str, Any]]:
        """What tools/list gives, by name; asked once."""
        if not self._tools:
            self._tools = {tool["name"]: tool for tool in self.request("tools/list")["tools"]}
        return self._tools

    def call(self, tool: str, /, **arguments: Any) -> Outcome:
        """Call a tool; its result is held to its output schema, with nothing beside what the schema names."""
        listed = self.tools()[tool]
        return checked(listed, self.request("tools/call", {"name": tool, "arguments": arguments}))

    def done(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The structured result of a call that must succeed."""
        outcome = self.call(tool, **arguments)
        assert not outcome.failed, outcome.text
        return outcome.data

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """The sentence of a call that must fail."""
        outcome = self.call(tool, **arguments)
        assert outcome.failed, outcome.data
        return outcome.text

    def keep(self, content: str, **given: Any) -> str:
        """Add one memory, unless it is known, and return its id."""
        added = self.done("memory_add", content=content, **given)
        return str(added["cubes"][0]["id"] if added["cubes"] else added["unchanged"][0])

    def resource(self, uri: str) -> Any:
        """A resource's JSON."""
        return json.loads(self.request("resources/read", {"uri": uri})["contents"][0]["text"])

    def is_alive(self) -> bool:
        """Whether the session goes on: a good request gets its answer."""
        return bool(self.request("prompts/list")["prompts"])

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """The exit status."""
        return self.process.wait(limit_s)

    def end(self) -> int:
        """Close the host's end and wait for the process; returns its exit status."""
        self.close_input()
        while self.receive() is not None:
            pass
        return self.wait()

    def errors(self) -> str:
        """What the ended process wrote to standard error."""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def release(self) -> None:
        """Give everything back, whatever state the process is in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                stream.close()

    def with_meta(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Parameters as this era wants them."""
        given = dict(params or {})
        if self.era == MODERN:
            given["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": CLIENT,
                **given.get("_meta", {}),
            }
        return given


@contextmanager
def serving(home: Path, era: str = LEGACY, **settings: str) -> Iterator[Server]:
    """A greeted server for the length of a block."""
    server = Server(home, era, **settings)
    try:
        server.greet()
        yield server
    finally:
        server.release()
