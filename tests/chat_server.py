"""A real HTTP server on this machine that answers as an OpenAI-compatible chat endpoint.

Knows no store: `reply(data)` makes the answer to the user's message, `pieces` are that of one that is streamed, and it
remembers what it was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """Serves for the length of a block. `status` and `body` stand in for a good answer where they are set.

    `keeps_open`: connections, for further requests.
    """

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.ports: list[int] = []
        """Of each request the port that it came from: the same for those of one connection."""
        self.reply: Callable[[str], str] = lambda _: '{"memories": []}'
        self.pieces: list[str] = []
        self.finish = "stop"
        self.usage: dict[str, Any] = {}
        self.timings: dict[str, int] = {}
        self.status, self.body, self.refuses_format, self.refuses = 200, b"", False, "nothing"
        self.models: list[dict[str, Any]] = [{"id": "first-model"}]
        self.short_of = 0
        """Bytes that a streamed answer ends before its end."""
        self.holding: threading.Event | None = None
        """Who asks waits for it."""
        self.before: Callable[[], None] = lambda: None
        """Happens while an answer is being made."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if keeps_open else "HTTP/1.0"

            def do_GET(self) -> None:
                self._send(200, json.dumps({"data": server.models}).encode())

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(asked)
                server.ports.append(self.client_address[1])
                server.keys.append(self.headers["Authorization"])
                server.before()
                if server.holding is not None:
                    server.holding.wait()
                if server.refuses in asked or (server.refuses_format and "response_format" in asked):
                    self._send(400, b"{}")
                elif asked.get("stream") and server.status == 200 and not server.body:
                    self._send(200, server.streamed(), server.short_of)
                else:
                    self._send(server.status, server.body or server.answer(asked))

            def _send(self, status: int, body: bytes, short_of: int = 0) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) - short_of])
                self.close_connection = bool(short_of) or self.close_connection

            def log_message(self, format: str, *args: object) -> None:
                """Keep standard error quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, asked: dict[str, Any]) -> bytes:
        said = self.reply(asked["messages"][-1]["content"])
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()

    def streamed(self) -> bytes:
        """The pieces as events, with their end and what they cost."""
        events: list[dict[str, Any]] = [{"choices": [{"delta": {"role": "assistant"}}]}]
        events += [{"choices": [{"delta": {"content": piece}}]} for piece in self.pieces]
        events.append({"choices": [{"delta": {}, "finish_reason": self.finish}]})
        events.append({"choices": [], "usage": self.usage or None, "timings": self.timings or None})
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.holding is not None:
            self.holding.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
