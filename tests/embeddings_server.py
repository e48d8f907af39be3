"""A real HTTP server on this machine that answers as an OpenAI-compatible embeddings endpoint.

Knows no store: it embeds with the fake embedder and remembers what it was asked.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fakes import FakeEmbedder


class EmbeddingsServer:
    """Serves for the length of a block; `texts` is what it was sent, in order."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._embedder = FakeEmbedder("server", 48)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps({"data": server.answer(asked["input"])}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep standard error quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, texts: list[str]) -> list[dict[str, object]]:
        self.texts += texts
        return [{"index": i, "embedding": row} for i, row in enumerate(self._embedder.embed(texts).tolist())]

    def __enter__(self) -> EmbeddingsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
