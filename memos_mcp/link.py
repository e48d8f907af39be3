"""Calls of the kernel by the command line: the other end of `gateway.control`, one call after the other.

Standard library only. Knows neither terminal nor memories: arguments and results are plain JSON.
"""

from __future__ import annotations

import json
import os
import sys

from memos_mcp import launch
from memos_mcp.errors import KernelUnreachable, MemosError
from memos_mcp.framing import Lines
from memos_mcp.rendezvous import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any

    from memos_mcp.asked import Asked

    Progress = Callable[[str, int, int], None]

READ_BYTES = 1 << 16


class Refused(MemosError):
    """What the kernel would not or could not do; `kind` is the name of its error, the sentence is its own."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Link:
    """A greeted connection. Leaving it interrupts the call in the making, if that tells its progress."""

    def __init__(self, home: str, connection: Connection, received: bytes) -> None:
        self._home, self._sock = home, connection.sock
        self._lines = Lines(sys.maxsize)
        self._received = received

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; may be called twice."""
        self._sock.close()

    def call(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        progress: Progress | None = None,
        within_s: float | None = None,
    ) -> Any:
        """Have the kernel do something. Arguments that are None are left out.

        Raises:
            Refused: the kernel's own error. KernelUnreachable: it ended before it answered, or was silent for
                `within_s` seconds.
        """
        given = {key: value for key, value in (arguments or {}).items() if value is not None}
        self._sock.settimeout(within_s)
        try:
            self._sock.sendall(json.dumps({"call": name, "arguments": given}).encode() + b"\n")
            for answer in self._answers():
                if "result" in answer:
                    return answer["result"]
                if "error" in answer:
                    raise Refused(answer["error"]["kind"], answer["error"]["message"])
                if progress is not None:
                    progress(*answer["progress"])
        except TimeoutError:
            raise launch.silent(self._home) from None
        except OSError:
            pass
        raise KernelUnreachable(
            f"The kernel of {self._home} ended before it answered: run the command again; `memos-mcp history` says "
            f"whether a change was made, and {os.path.join(self._home, 'logs')} what happened."
        )

    def _answers(self) -> Iterator[dict[str, Any]]:
        """What the kernel says, until it hangs up."""
        chunk = self._received
        self._received = b""
        while True:
            for line in self._lines.take(chunk):
                if isinstance(line, bytes):
                    yield json.loads(line)
            chunk = self._sock.recv(READ_BYTES)
            if not chunk:
                return


def to_kernel(home: str, wishes: Asked) -> Link:
    """A link to the kernel of the data directory, started if there is none.

    Raises:
        MemosError: there is none and none can be started; the sentence says why and what to do.
    """
    connection, _, received = launch.reach(home, {"role": "command", "asked": wishes.as_json()})
    return Link(home, connection, received)
