"""Brings what is published to its subscribers, behind the calls.

Knows nothing of channels: `deliver` does the steps, and notes in the ledger how far it is.
"""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from memos_mcp.errors import MemosError
from memos_mcp.memory_api import deliver
from memos_mcp.memory_api.parts import Parts
from memos_mcp.store import Changed

log = logging.getLogger(__name__)

GATHER_S = 0.05
"""Seconds for which it waits for the next change, so that a long addition is read in batches."""
MOST_WAIT_S = 2.0
"""Seconds after which it begins all the same."""
RETRY_S = 30.0


class Deliveries:
    """A thread of its own. Safe to share between threads; `stop` may be called twice."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wake = threading.Condition()
        self._working = threading.Lock()
        self._notices = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.busy = False
        """Whether changes are being read, or about to be."""

    def start(self) -> None:
        """Listen for changes, and begin with what the last process left."""
        self._notices, self.busy = 1, True
        self._end_listening = self._parts.events.listen(self._notice)
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step in progress; the rest is done after the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._end_listening()
            self._thread.join()
            self._thread = None

    def catch_up(self) -> None:
        """Do everything that there is to do, in the calling thread.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        while self._step():
            pass

    def _notice(self, _changed: Changed) -> None:
        with self._wake:
            self._notices, self.busy = self._notices + 1, True
            self._wake.notify_all()

    def _step(self) -> int:
        with self._working:
            return deliver.step(self._parts)

    def _run(self) -> None:
        retry_s: float | None = None
        while self._wait(retry_s):
            retry_s = None
            try:
                while not self._stopping and self._step():
                    self._parts.step_aside()
            except (MemosError, SQLAlchemyError) as error:
                retry_s = RETRY_S
                log.warning("deliveries are tried again in %d seconds, or at the next change: %s", RETRY_S, error)

    def _wait(self, retry_s: float | None) -> bool:
        """Wait until something changed and nobody changes more, within bounds; False at the end."""
        with self._wake:
            self.busy = self._notices > 0
            self._wake.wait_for(lambda: self._notices or self._stopping, retry_s)
            self.busy, end = True, time.monotonic() + MOST_WAIT_S
            while self._notices and not self._stopping and time.monotonic() < end:
                self._notices = 0
                self._wake.wait_for(lambda: self._notices or self._stopping, GATHER_S)
            self._notices = 0
            return not self._stopping
