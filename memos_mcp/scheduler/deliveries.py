"""Brings what is published to its subscribers, behind the calls.

Knows nothing of channels: `deliver` does the steps, and notes in the ledger how far it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from memos_mcp.follower import Follower
from memos_mcp.memory_api import deliver
from memos_mcp.memory_api.parts import Parts

GATHER_S = 0.05
"""Seconds for which it waits for the next change, so that a long addition is read in batches."""
MOST_WAIT_S = 2.0
"""Seconds after which it begins all the same."""


class Deliveries:
    """A thread of its own. Safe to share between threads; `stop` may be called twice."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._working = threading.Lock()
        self._follower = Follower("deliveries", self._work, quiet_s=GATHER_S, most_wait_s=MOST_WAIT_S)
        self._end_listening: Callable[[], None] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether changes are being read, or about to be."""
        return self._follower.busy

    def start(self) -> None:
        """Listen for changes, and begin with what the last process left."""
        self._end_listening = self._parts.events.listen(lambda _changed: self._follower.notice())
        self._follower.start()

    def stop(self) -> None:
        """End after the step in progress; the rest is done after the next start."""
        self._end_listening()
        self._end_listening = lambda: None
        self._follower.stop()

    def catch_up(self) -> None:
        """Do everything that there is to do, in the calling thread.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        while self._step():
            pass

    def _step(self) -> int:
        with self._working:
            return deliver.step(self._parts)

    def _work(self) -> None:
        while not self._follower.stopping and self._step():
            self._parts.step_aside()
