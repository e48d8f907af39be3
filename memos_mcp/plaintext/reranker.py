"""Loads the reranker when it is first asked for, behind the calls, and asks it for no longer than a call can wait.

Knows no backend: it is given a function that makes the reranker. Nothing is kept that depends on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime

import numpy as np

from memos_mcp.errors import MemosError, NotReady, RerankerUnavailable
from memos_mcp.model_names import NONE
from memos_mcp.ports import Reranker, Scores

log = logging.getLogger(__name__)

WITHIN_S = 2.0
"""Seconds that a search waits for the reranker before it answers in the order that it has."""


class RerankerSlot:
    """The store's reranker, once it is loaded. Safe to share between threads.

    `make(name)` gives the reranker of a name; the slot serves the one it was given the name of, or none.
    """

    def __init__(self, name: str, make: Callable[[str], Reranker]) -> None:
        self.name, self._make = name, make
        self._begun = threading.Lock()
        self._settled = threading.Event()
        self._reranker: Reranker | None = None
        self._error: MemosError | None = None
        self._closed = threading.Event()
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="reranking")  # one model, one at a time

    @property
    def chosen(self) -> bool:
        """Whether the store has a reranker, loaded or not."""
        return self.name != NONE

    def get(self, wait_s: float | None = 0.0) -> Reranker:
        """The reranker, waiting at most `wait_s` seconds (None: as long as it takes); the first call begins to load.

        Raises:
            NotReady: it is still loading. RerankerUnavailable: it cannot be loaded, or there is none.
        """
        if not self.chosen:
            raise RerankerUnavailable("The store has no reranker: choose one with `memos-mcp config reranker NAME`.")
        if self._begun.acquire(blocking=False):  # never released: it is loaded once
            threading.Thread(target=self._load, name="reranker", daemon=True).start()
        if not self._settled.wait(wait_s):
            raise NotReady("The reranker is still loading: ask again in a moment.")
        if self._reranker is None:
            raise self._error or RerankerUnavailable(f"The reranker {self.name!r} failed to load: see the log.")
        return self._reranker

    def scores(self, query: str, texts: Sequence[str], within_s: float = WITHIN_S) -> Scores:
        """What the loaded reranker says, as its port has it; waiting for others that ask counts as well.

        Raises:
            NotReady: it is still loading, or it took longer. RerankerUnavailable: it cannot be loaded or asked.
        """
        reranker, late = self.get(), threading.Event()
        asked = self._asking.submit(self._in_parts, reranker, query, texts, late, time.monotonic() + within_s)
        try:
            return asked.result(within_s)
        except NotInTime:
            late.set()
            asked.cancel()
            raise NotReady(
                f"The reranker took longer than {within_s:g} s: choose a smaller one with "
                "`memos-mcp config reranker NAME`, or none."
            ) from None

    def close(self) -> None:
        """Ask no more; what is being asked ends after its part."""
        self._closed.set()
        self._asking.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> None:
        try:
            self._reranker = self._make(self.name)
        except MemosError as error:
            log.error("the reranker is not available: %s", error)
            self._error = error
        finally:
            self._settled.set()

    def _in_parts(
        self, reranker: Reranker, query: str, texts: Sequence[str], late: threading.Event, end: float
    ) -> Scores:
        found: list[Scores] = []
        for start in range(0, len(texts), reranker.at_a_time):
            if late.is_set() or self._closed.is_set() or time.monotonic() > end:
                raise NotInTime
            found.append(reranker.scores(query, texts[start : start + reranker.at_a_time]))
        return np.concatenate(found) if found else np.empty(0, dtype=np.float32)
