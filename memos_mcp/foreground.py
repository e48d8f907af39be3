"""Calls in progress, so that what works behind them can step aside.

Knows nothing of what the calls do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

YIELD_S = 0.05
"""Seconds that background work waits for questions in progress before each step."""
BETWEEN_S = 0.004
"""Seconds after a call in which the next one of a host that calls without a pause has come."""


class Foreground:
    """Counts calls in progress, so that background work can step aside. Safe to share between threads.

    `between_s`: for how long after a call work that lets go first waits for the next of the same host.
    """

    def __init__(self, between_s: float = BETWEEN_S) -> None:
        self.between_s = between_s
        self._calls = 0
        self._closed = False
        self._last = time.monotonic()
        self._quiet = threading.Condition()

    @property
    def busy(self) -> bool:
        """Whether a call is in progress."""
        return self._calls > 0

    @property
    def quiet_s(self) -> float:
        """Seconds since the last call ended; 0 while one is in progress."""
        with self._quiet:
            return 0.0 if self._calls else time.monotonic() - self._last

    def __enter__(self) -> None:
        with self._quiet:
            self._quiet.wait_for(lambda: not self._closed)
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._quiet:
            self._calls -= 1
            self._last = time.monotonic()
            self._quiet.notify_all()

    def step_aside(self, limit_s: float = YIELD_S, since_s: float = 0.0) -> None:
        """Wait until no call is in progress, nor was in the last `since_s` seconds; at most `limit_s` seconds."""
        end = time.monotonic() + limit_s
        with self._quiet:
            while (left := end - time.monotonic()) > 0:
                rest = since_s - (time.monotonic() - self._last)
                if self._calls == 0 and rest <= 0:
                    return
                self._quiet.wait(left if self._calls else min(rest, left))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no call is in progress, and let none begin while the block lasts."""
        with self._quiet:
            self._quiet.wait_for(lambda: not self._closed)
            self._closed = True
            self._quiet.wait_for(lambda: self._calls == 0)
        try:
            yield
        finally:
            with self._quiet:
                self._closed = False
                self._quiet.notify_all()


def let_go_first(calls: Iterable[Foreground]) -> None:
    """Let calls in progress go first, and those that follow at their heels, a bounded moment for each kind."""
    for kind in calls:
        kind.step_aside(since_s=kind.between_s)
