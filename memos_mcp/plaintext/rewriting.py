"""Writes full text anew, a little at a time, in a store where a former version wrote it otherwise.

Knows nothing of searches: until it has come to a memory, that one is found by what the former version indexed of it.
"""

from __future__ import annotations

import logging
import threading

from memos_mcp.errors import MemosError
from memos_mcp.foreground import Foreground
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.indexed import FORM
from memos_mcp.plaintext.views import Views
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

WRITTEN = "full_text_form"
"""Key of the note that says in which form full text is whole."""
UPTO = "full_text_upto"
"""Key of the note up to which memory it has been written anew."""
BATCH = 200


class Rewriting:
    """Work of a thread of its own, which ends when full text is whole; what was done stays when it is stopped."""

    def __init__(self, ledger: Ledger, vault: Vault, views: Views, asking: Foreground) -> None:
        self._ledger, self._vault, self._views, self._asking = ledger, vault, views, asking
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if there is anything to do."""
        with self._ledger.read() as connection:
            if self._ledger.get(connection, WRITTEN) == FORM:
                return
        self._thread = threading.Thread(target=self._run, name="rewriting", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in progress; may be called twice."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        batches = 0
        try:
            while not self._ending.is_set() and self._batch():
                batches += 1
                self._asking.step_aside()
        except MemosError as error:
            log.warning("full text is written anew at the next start: %s", error)
        self._views.clear()
        if batches:
            log.info("full text was written anew: %d batches", batches)

    def _batch(self) -> bool:
        with self._ledger.write() as connection:
            last = self._vault.rewrite_full_text(connection, _noted(self._ledger.get(connection, UPTO)), BATCH)
            self._ledger.put(connection, UPTO, None if last is None else f"{FORM} {last}")
            if last is None:
                self._ledger.put(connection, WRITTEN, FORM)
        return last is not None


def _noted(upto: str | None) -> int:
    form, _, last = (upto or "").partition(" ")
    return int(last) if form == FORM and last.isdigit() else 0
