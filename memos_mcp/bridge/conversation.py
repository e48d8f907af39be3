"""What a host and its kernel have said, as far as another kernel must know it to go on in its place.

Standard library only. Knows neither sockets nor pipes: it turns lines of the host into lines for the kernel.
"""

from __future__ import annotations

import json
import time

from memos_mcp.framing import AGAIN, OTHER, OVERLONG, Overlong, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

STANDING = ("subscriptions/listen",)
"""Requests that are answered only when they end."""
MOST_REQUESTS, MOST_BYTES = 128, 16 << 20
"""Unanswered requests, and bytes of them, beyond which the host is not read."""
DEATHS = 2
"""Kernels that may die of a request before it is not sent again."""
SUDDEN_S = 2.0
"""Seconds after a standing request within which the death of the kernel may be its doing."""
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
FAILED = -32603


class Request:
    """A request of the host without an answer. `sent`: when it went to a kernel; `deaths`: of kernels that had it."""

    __slots__ = ("cancelled", "deaths", "id", "line", "method", "own", "params", "sent")

    def __init__(self, line: bytes, request_id: Any, method: str, params: Any, own: bool = False) -> None:
        self.line, self.id, self.method, self.own = line, request_id, method, own
        self.params = params if isinstance(params, dict) else {}
        self.sent: float | None = None
        self.deaths, self.cancelled = 0, False

    @property
    def stands(self) -> bool:
        """Whether nobody waits for its answer."""
        return self.method in STANDING


class Conversation:
    """One host's side of a session. `requests`: those without an answer, by their number, oldest first."""

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}
        self._last = self._bytes = 0
        self._handshake: bytes | None = None
        self._initialized: bytes | None = None
        self._level: bytes | None = None
        self._watched: dict[str, bytes] = {}
        self._held: list[bytes] = []

    @property
    def full(self) -> bool:
        return len(self.requests) >= MOST_REQUESTS or self._bytes >= MOST_BYTES

    @property
    def owed(self) -> bool:
        """Whether the host waits for something."""
        return bool(self._held) or any(not one.stands and not one.cancelled for one in list(self.requests.values()))

    @property
    def attached(self) -> bool:
        """Whether the host counts on being told of changes."""
        return bool(self._watched) or any(one.stands for one in list(self.requests.values()))

    def from_host(self, line: bytes | Overlong, connected: bool) -> bytes:
        """Note a line of the host; returns what goes to the kernel, if there is one."""
        if isinstance(line, Overlong):
            return self._hold(marked(OVERLONG, line.head.replace(b"\0", b" ") + b"\0" + line.tail), connected)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return self._hold(marked(OTHER, line), connected)
        if not isinstance(message, dict) or not isinstance(method := message.get("method"), str):
            return marked(OTHER, line)
        if "id" in message:
            number = self._note(Request(line, message["id"], method, message.get("params")))
            if connected:
                self.requests[number].sent = time.monotonic()
            return marked(b"%d" % number, line)
        if method == "notifications/initialized":
            self._initialized = line
        elif method == "notifications/cancelled":
            self._cancel(message.get("params"))
        return marked(OTHER, line)

    def answered(self, number: int, line: bytes) -> bool:
        """Note the kernel's answer to a request; returns whether it is the host's to see."""
        request = self._forget(number)
        if request is None:
            return False
        if not request.own:
            self._learn(request, line)
        return bool(line) and not request.own

    def resume(self) -> tuple[int, bytes] | None:
        """The handshake for another kernel, as a request of our own; None if the host has had none answered."""
        if self._handshake is None:
            return None
        number = self._note(Request(self._handshake, None, "initialize", None, own=True))
        return number, marked(b"%d" % number, self._handshake)

    def replay(self) -> Iterator[bytes]:
        """What another kernel is told after the handshake: what the host set and watches, and what it waits for."""
        if self._handshake is not None:
            if self._initialized is not None:
                yield marked(OTHER, self._initialized)
            for line in ([self._level] if self._level else []) + list(self._watched.values()):
                yield marked(b"%d" % self._note(Request(line, None, "", None, own=True)), line)
        for number, request in list(self.requests.items()):
            if not request.own:
                mark = b"%d" % number if request.sent is None else b"%d%b" % (number, AGAIN)
                request.sent = time.monotonic()
                yield marked(mark, request.line)
        held, self._held = self._held, []
        yield from held

    def missed(self) -> Iterator[bytes]:
        """Notifications for the host: what it watches may have changed while there was no kernel to say so."""
        for uri in self._watched:
            yield _notification("notifications/resources/updated", {"uri": uri})
        for request in list(self.requests.values()):
            if request.stands:
                wanted = request.params.get("notifications")
                uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
                for uri in uris if isinstance(uris, list) else ():
                    meta = {SUBSCRIPTION: request.id}
                    yield _notification("notifications/resources/updated", {"uri": uri, "_meta": meta})

    def kernel_died(self) -> list[bytes]:
        """Note that a kernel died with what it was sent; returns answers for what is not sent again."""
        now, failed = time.monotonic(), []
        self.kernel_left()
        for number, request in list(self.requests.items()):
            if request.sent is not None and (not request.stands or now - request.sent < SUDDEN_S):
                request.deaths += 1
                if request.deaths >= DEATHS:
                    failed.append(self._fail(number, _KILLED))
        return failed

    def kernel_left(self) -> None:
        """Note that a kernel ended in order: what it did not answer is for the next one."""
        for number, request in list(self.requests.items()):
            if request.own or request.cancelled:
                self._forget(number)

    def overdue(self, before: float) -> list[int]:
        """Numbers of requests that were sent before this moment and whose answer somebody waits for."""
        waiting = list(self.requests.items())
        waiting = [(number, one) for number, one in waiting if not one.stands and not one.cancelled]
        return [number for number, one in waiting if one.sent is not None and one.sent < before]

    def fail(self, numbers: list[int], sentence: str) -> list[bytes]:
        """Give requests up; returns the errors that answer them."""
        return [self._fail(number, sentence) for number in numbers if number in self.requests]

    def _note(self, request: Request) -> int:
        self._last += 1
        self.requests[self._last] = request
        self._bytes += len(request.line)
        return self._last

    def _forget(self, number: int) -> Request | None:
        request = self.requests.pop(number, None)
        if request is not None:
            self._bytes -= len(request.line)
        return request

    def _fail(self, number: int, sentence: str) -> bytes:
        request = self._forget(number)
        error = {"code": FAILED, "message": sentence}
        return json.dumps({"jsonrpc": "2.0", "id": request.id if request else None, "error": error}).encode() + b"\n"

    def _hold(self, data: bytes, connected: bool) -> bytes:
        """What is no message is answered by a kernel too."""
        if not connected:
            self._held.append(data)
        return data

    def _cancel(self, params: Any) -> None:
        """Of a cancelled request no kernel hears again; one that was told of it says that it needs no answer."""
        for number, request in list(self.requests.items()):
            if isinstance(params, dict) and request.id == params.get("requestId") and not request.own:
                request.cancelled = True
                if request.sent is None:
                    self._forget(number)

    def _learn(self, request: Request, line: bytes) -> None:
        """Keep what the kernel granted, for the next one."""
        if request.method not in _LASTING:
            return
        try:
            granted = "result" in json.loads(line)
        except (ValueError, TypeError):
            granted = False
        uri = request.params.get("uri")
        if request.method == "resources/unsubscribe" and isinstance(uri, str):
            self._watched.pop(uri, None)
        elif not granted:
            return
        elif request.method == "initialize":
            self._handshake = request.line
        elif request.method == "logging/setLevel":
            self._level = request.line
        elif isinstance(uri, str):
            self._watched[uri] = request.line


_LASTING = ("initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
_KILLED = (
    "The memory kernel died twice with this request, so it is not sent again; whether it was carried out, "
    "memory_history shows. Run `memos-mcp doctor` if it happens again."
)


def _notification(method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode() + b"\n"
