"""Decides when a kernel that nobody uses may end.

Knows no process and no clock: it is told the time.
"""

from __future__ import annotations


class Idleness:
    """How long there has been nothing to do; times in seconds of any steady clock. `limit_s` None: never over."""

    def __init__(self, limit_s: float | None, now: float) -> None:
        self._limit_s, self._since = limit_s, now

    def is_over(self, now: float, *, connections: int, busy: bool) -> bool:
        """Whether there was neither a connection nor work since `limit_s`."""
        if connections or busy:
            self._since = now
        return self._limit_s is not None and now - self._since >= self._limit_s
