"""Bytes into lines, and how lines between a bridge and its kernel are marked.

Standard library only: bridge and kernel share it. Knows nothing of JSON.

A line between the two is a mark, a space, and a line of the host or of the kernel as it is:

- `17 {...}`: to the kernel, the bridge's request number 17; back, its answer, or nothing when it gets none.
- `17! {...}`: a request that may have been carried out already, sent again.
- `- {...}`: anything else.
- `> ...`: the two ends of a line that was too long to keep, parted by a NUL.
- `? ` and `! `: are you there, and yes.
- `. WORD`: the kernel is about to close the connection, and why.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 4 << 20
"""Bytes of one line."""
KEPT_OF_OVERLONG = 4096
OTHER, OVERLONG, PING, PONG, GOODBYE = b"-", b">", b"?", b"!", b"."
AGAIN = b"!"
"""Stands behind the number of a request that is sent again."""


class Overlong:
    """The first and the last bytes of a line that is too long to keep."""

    __slots__ = ("head", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head, self.tail = head, tail


class Lines:
    """Cuts what is read into lines, and keeps of an overlong one no more than its two ends."""

    __slots__ = ("_buffer", "_head", "_most", "_searched")

    def __init__(self, most: int = MAX_LINE) -> None:
        self._buffer, self._searched = bytearray(), 0
        self._head, self._most = b"", most

    def take(self, chunk: bytes) -> Iterator[bytes | Overlong]:
        """The lines that this chunk completes; empty ones are left out."""
        self._buffer += chunk
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if self._head or len(line) > self._most:
                yield Overlong(self._head or line[:KEPT_OF_OVERLONG], line[-KEPT_OF_OVERLONG:])
                self._head = b""
            elif line.strip():
                yield line
        self._searched = len(self._buffer)
        if len(self._buffer) > self._most:
            self._head = self._head or bytes(self._buffer[:KEPT_OF_OVERLONG])
            del self._buffer[:-KEPT_OF_OVERLONG]
            self._searched = len(self._buffer)

    @property
    def rest(self) -> bytes:
        """What stands after the last line end: the line's beginning, if it was too long to keep."""
        return self._head or bytes(self._buffer.strip())


def marked(mark: bytes, line: bytes) -> bytes:
    """A line as it goes between bridge and kernel."""
    return b"%b %b\n" % (mark, line)
