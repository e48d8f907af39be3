"""Loads the embedder behind the calls and holds the store to the one it was made with.

Knows no backend: it is given a function that makes the embedder.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy import Connection

from memos_mcp.errors import EmbedderMismatch, EmbedderUnavailable, InvalidInput, MemosError, NotReady
from memos_mcp.ledger import vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.model_names import BUILT_IN
from memos_mcp.ports import Embedder

log = logging.getLogger(__name__)

PIN = vectors.PIN
CHOSEN = "embedder_name"
"""Key of the note that holds the embedder's name from the moment it is pinned until config.toml says so too."""


class EmbedderSlot:
    """The store's embedder, once it is loaded. Safe to share between threads.

    `make(name)` gives any embedder by its name; the slot serves the one it was given the name of.
    """

    def __init__(self, ledger: Ledger, name: str, make: Callable[[str], Embedder]) -> None:
        self._ledger, self._name, self.make = ledger, name, make
        self._settled = threading.Event()
        self._embedder: Embedder | None = None
        self._number = 0
        self._error: MemosError | None = None

    def load_in_background(self) -> None:
        """Begin to load; calls before the end get NotReady or wait."""
        threading.Thread(target=self.load, name="embedder", daemon=True).start()

    def load(self) -> None:
        """Load and pin; an error is kept and raised to whoever asks for the embedder."""
        try:
            embedder = self.make(self._name)
            self._number = self._pinned_number(embedder)
            self._embedder = embedder
        except MemosError as error:
            log.error("the embedder is not available: %s", error)
            self._error = self._with_way_out(error)
        finally:
            if self._embedder is None and self._error is None:
                self._error = EmbedderUnavailable(f"The embedder {self._name!r} failed to load: see the log.")
            self._settled.set()

    def get(self, wait_s: float | None = None) -> Embedder:
        """The embedder, waiting at most `wait_s` seconds (None: for as long as it takes).

        Raises:
            NotReady: it is still loading. EmbedderMismatch: the store was made with another one.
            EmbedderUnavailable: it cannot be loaded.
        """
        if not self._settled.wait(wait_s):
            raise NotReady("The embedder is still loading: ask again in a moment.")
        if self._error is not None:
            raise self._error
        if self._embedder is None:
            raise EmbedderUnavailable(f"The embedder {self._name!r} is not loaded.")
        return self._embedder

    def known(self) -> tuple[int, int] | None:
        """What `number` gives, without waiting: None while there is no embedder."""
        return (self._number, self._embedder.dimensions) if self._embedder is not None else None

    @property
    def is_quick(self) -> bool:
        """Whether the embedder is there and quick, without waiting."""
        return self._embedder is not None and self._embedder.is_quick

    def number(self) -> tuple[int, int]:
        """The ledger's number of the embedder and the length of its vectors; waits and raises as `get` does."""
        embedder = self.get()
        return self._number, embedder.dimensions

    def swap(self, embedder: Embedder, number: int) -> None:
        """Serve another embedder from now on; the caller has waited for `load`, and pinned it in the ledger."""
        self._embedder, self._number, self._error = embedder, number, None
        self._settled.set()

    def _with_way_out(self, error: MemosError) -> MemosError:
        """The same error with the way to the embedder that is always there: the store is held to a name till then."""
        if self._name == BUILT_IN or not isinstance(error, EmbedderUnavailable | InvalidInput):
            return error
        return EmbedderUnavailable(f"{error} To go on with the built-in one: `memos-mcp embedder {BUILT_IN}`.")

    def _pinned_number(self, embedder: Embedder) -> int:
        with self._ledger.read() as connection:
            pinned = self._ledger.get(connection, PIN)
            if pinned is not None and pinned != embedder.identity:
                raise EmbedderMismatch(pinned, self._name)
            if pinned is not None or self._ledger.read_only:
                number = vectors.embedder_id(connection, embedder.identity, embedder.dimensions)
                made_with = vectors.dimensions_of(connection, number)
                if made_with != embedder.dimensions:
                    raise EmbedderUnavailable(
                        f"The embedder {self._name!r} gives vectors of {embedder.dimensions} numbers, and this store's "
                        f"have {made_with}: run `memos-mcp embedder {self._name}` to re-embed."
                    )
                return number
        with self._ledger.write() as connection:
            return pin(self._ledger, connection, embedder)


def pin(ledger: Ledger, connection: Connection, embedder: Embedder) -> int:
    """Make `embedder` the store's own; returns the ledger's number for it."""
    number = vectors.embedder_id(connection, embedder.identity, embedder.dimensions)
    ledger.put(connection, PIN, embedder.identity)
    return number
