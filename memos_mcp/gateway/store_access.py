"""Opens the store behind the protocol: the first answer never waits for it, and each call waits only for what it needs.

Knows nothing of messages; it turns "not open yet" and "cannot be opened" into errors that a tool can show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from memos_mcp.errors import MemosError, NotReady, StorageFailed
from memos_mcp.gateway.process import spare_what_is_loaded
from memos_mcp.lock import DirectoryLock
from memos_mcp.settings import Settings

if TYPE_CHECKING:
    from memos_mcp.kernel import Kernel

log = logging.getLogger(__name__)

HEAD_START_S = 0.3
RETRY_AFTER_S = 2.0
"""Seconds after which a store that could not be opened is tried again by the next call."""


class StoreAccess:
    """The kernel of one process, opened once in a thread; after a failure the next call tries again.

    `opened` is called with the kernel, once, before any call gets it. `lock` is held by this process already; without
    it, other processes are told that an `owner` holds the directory.
    """

    def __init__(
        self,
        settings: Settings,
        opened: Callable[[Kernel], object] = lambda _: None,
        *,
        lock: DirectoryLock | None = None,
        owner: str = "command",
    ) -> None:
        self.settings = settings
        self._on_opened, self._lock_held, self._owner = opened, lock, owner
        self._kernel: Kernel | None = None
        self._error: MemosError | None = None
        self._failed_at = 0.0
        self._opening: anyio.CancelScope | None = None
        self._lock = anyio.Lock()

    async def open_behind(self, first_answer: anyio.Event) -> None:
        """Open after the first answer has gone out, or after a moment without any."""
        with anyio.move_on_after(HEAD_START_S):
            await first_answer.wait()
        try:
            await self.kernel()
        except MemosError as error:
            log.error("the store is not open: %s", error)
        spare_what_is_loaded()

    async def kernel(self) -> Kernel:
        """The open kernel.

        Raises:
            MemosError: it cannot be opened; the sentence says why and what to do.
        """
        if self._kernel is not None:
            return self._kernel
        async with self._lock:
            if self._kernel is None:
                if self._error is not None and time.monotonic() - self._failed_at < RETRY_AFTER_S:
                    raise self._error
                try:
                    self._kernel = await self._open()
                except MemosError as error:
                    self._error, self._failed_at = error, time.monotonic()
                    raise
                self._error = None
                self._on_opened(self._kernel)
            return self._kernel

    async def _open(self) -> Kernel:
        """Open, even if the call that began it is cancelled: a kernel that nobody holds would keep the directory."""
        with anyio.CancelScope(shield=True) as self._opening:
            return await run_sync(_open, self.settings, self._lock_held, self._owner, abandon_on_cancel=True)
        raise NotReady("The process is ending: start it again.")

    @property
    def opened(self) -> Kernel | None:
        """The kernel, if it is open by now."""
        return self._kernel

    def end_opening(self) -> None:
        """Stop waiting for a store that is being opened, because the process ends."""
        if self._opening is not None:
            self._opening.cancel()

    async def close(self, within_s: float) -> None:
        """Flush and close the store, whatever is being cancelled around it.

        What does not end in time is left to the next start: all that was acknowledged is on disk before its answer.
        """
        with anyio.move_on_after(within_s, shield=True):
            async with self._lock:
                if self._kernel is not None:
                    await run_sync(self._kernel.close, abandon_on_cancel=True)
                    self._kernel = None


def _open(settings: Settings, lock: DirectoryLock | None, owner: str) -> Kernel:
    from memos_mcp.kernel import Kernel  # the ledger, the index and the model: after the first answer

    try:
        return Kernel.open(settings, lock=lock, owner=owner)
    except OSError as error:
        raise StorageFailed(
            f"The data directory {settings.home} cannot be used ({error.strerror}): check its permissions."
        ) from error
