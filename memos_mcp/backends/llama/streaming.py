"""Turns the bytes of tokens into text as it comes: whole characters, and nothing of a text at which to stop.

Knows no tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of an answer so far. `stopped` once a stop text was found; what comes after it is not taken."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [text for text in stop if text]
        self._held = ""
        self._given: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """What was given out."""
        return "".join(self._given)

    def feed(self, piece: bytes) -> str:
        """What these further bytes let out: "" while a character or a possible stop text is unfinished."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(piece)
        found = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._give(min(found))
        return self._give(len(self._held) - self._doubtful())

    def finish(self) -> str:
        """The rest, at the answer's end; the bytes of an unfinished character are left out."""
        return "" if self.stopped else self._give(len(self._held))

    def _give(self, count: int) -> str:
        out, self._held = self._held[:count], self._held[count:]
        if out:
            self._given.append(out)
        return out

    def _doubtful(self) -> int:
        """Characters at the end that may become a stop text."""
        longest = 0
        for text in self._stop:
            for count in range(min(len(text) - 1, len(self._held)), longest, -1):
                if self._held.endswith(text[:count]):
                    longest = count
                    break
        return longest
