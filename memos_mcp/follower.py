"""A thread that follows changes: it waits until nobody changes more, works, and looks again.

Knows nothing of what is done. Each worker behind the calls brings its own step, and how long it is to wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from memos_mcp.errors import MemosError

log = logging.getLogger(__name__)

RETRY_S = 30.0
"""Seconds after which work that failed is tried again, unless something changes before."""


class Follower:
    """Safe to share between threads; `stop` may be called twice, and before `start`."""

    def __init__(self, name: str, work: Callable[[], float | None], *, quiet_s: float, most_wait_s: float) -> None:
        """`work()` does everything there is to do, until `stopping`; returns seconds after which it wants to be called
        although nothing changed, or None. It is called after `quiet_s` seconds without a change, and after
        `most_wait_s` all the same.
        """
        self._name, self._work = name, work
        self._quiet_s, self._most_wait_s = quiet_s, most_wait_s
        self._changed = threading.Condition()
        self._notices = 0
        self._thread: threading.Thread | None = None
        self.stopping = False
        self.busy = False
        """Whether changes are being read, or about to be."""

    def start(self) -> None:
        """Do what the last process left, and go on in a thread of its own."""
        self._notices, self.busy = 1, True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step in progress; the rest is done after the next start."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def notice(self) -> None:
        """Something changed; told after the transaction."""
        with self._changed:
            self._notices, self.busy = self._notices + 1, True
            self._changed.notify_all()

    def _run(self) -> None:
        wait_s: float | None = None
        while self._wait(wait_s):
            try:
                wait_s = self._work()
            except (MemosError, SQLAlchemyError) as error:
                wait_s = RETRY_S
                log.warning("the %s tries again in %d seconds, or at the next change: %s", self._name, RETRY_S, error)

    def _wait(self, wait_s: float | None) -> bool:
        """Wait until something changed and nobody changes more, within bounds; False when the work is to end."""
        with self._changed:
            self.busy = self._notices > 0
            self._changed.wait_for(lambda: self._notices or self.stopping, wait_s)
            self.busy, end = True, time.monotonic() + self._most_wait_s
            while self._notices and not self.stopping and time.monotonic() < end:
                self._notices = 0
                self._changed.wait_for(lambda: self._notices or self.stopping, self._quiet_s)
            self._notices = 0
            return not self.stopping
