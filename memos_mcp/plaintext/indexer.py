"""Keeps vectors and index up with the ledger, behind the calls: embeds what waits, feeds and mends the index.

Knows nothing of verbs. Every step may be repeated after a crash: the ledger says what is done, and only afterwards.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from memos_mcp.errors import MemosError
from memos_mcp.ledger import vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.dense import INDEX_FROM, SpaceCache
from memos_mcp.ports import Embedder, IndexBroken, Matrix, VectorIndex
from memos_mcp.vault import Vault, embeddable_text

log = logging.getLogger(__name__)

EMBED_BATCH = 16
INDEX_BATCH = 500
INDEX_TAIL = 256
"""Vectors that a space's index may lack; they are searched exactly."""
YIELD_S = 0.05
"""Seconds that background work waits for calls in progress before each batch."""


class Foreground:
    """Counts calls in progress, so that background work can step aside. Safe to share between threads."""

    def __init__(self) -> None:
        self._calls = 0
        self._quiet = threading.Condition()

    def __enter__(self) -> None:
        with self._quiet:
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._quiet:
            self._calls -= 1
            self._quiet.notify_all()

    def step_aside(self, limit_s: float = YIELD_S) -> None:
        """Wait until no call is in progress, at most `limit_s` seconds."""
        with self._quiet:
            self._quiet.wait_for(lambda: self._calls == 0, limit_s)


class Indexer:
    """Background work on derivatives. `embedder()` blocks until the model is loaded, and raises if it cannot be."""

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        index: VectorIndex,
        embedder: Callable[[], Embedder],
        embedder_number: Callable[[], tuple[int, int]],
        cache: SpaceCache,
        foreground: Foreground,
    ) -> None:
        self._ledger, self._vault, self._index = ledger, vault, index
        self._embedder, self._number = embedder, embedder_number
        self._cache, self._foreground = cache, foreground
        self._changed = threading.Condition()
        self._dirty: set[int] = set()
        self._rebuild: dict[int, list[Callable[[str | None], None]]] = {}
        self._work = self._stopping = False
        self._embedding = threading.Lock()

    def start(self) -> None:
        """Compare the index with the ledger, mend it, and go on in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in progress; may be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if hasattr(self, "_thread"):
            self._thread.join()

    def notice(self, space: int) -> None:
        """Memories of the space were added, changed or erased; told after the transaction."""
        with self._changed:
            self._dirty.add(space)
            self._work = True
            self._changed.notify_all()

    def rebuild(self, space: int, done: Callable[[str | None], None] = lambda _: None) -> None:
        """Build the space's index anew beside the old one and swap; `done(error)` is called at the end."""
        with self._changed:
            self._rebuild.setdefault(space, []).append(done)
            self._work = True
            self._changed.notify_all()

    def wait_embedded(self, space_ids: tuple[int, ...], limit_s: float) -> bool:
        """Wait until every memory of the spaces has its vector; False when `limit_s` seconds were not enough."""
        end = time.monotonic() + limit_s
        while True:
            with self._ledger.read() as connection:
                if not vectors.queue_length(connection, space_ids):
                    return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left, 0.02))

    def catch_up(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Do all work there is, in the calling thread. Raises what the embedder raises."""
        with self._ledger.read() as connection:
            total = vectors.queue_length(connection)
        done = 0
        while batch := self._embed_batch():
            done += batch
            progress(done, max(total, done))
        self._mend()
        self._feed_all()

    def _run(self) -> None:
        try:
            self._mend()
            with self._changed:
                self._work = True
        except (MemosError, SQLAlchemyError, IndexBroken) as error:
            log.warning("the index was not compared with the ledger: %s", error)
        while self._wait_for_work():
            try:
                while not self._stopping and self._embed_batch():
                    self._foreground.step_aside()
                self._rebuild_asked()
                self._feed_all()
            except (MemosError, SQLAlchemyError, IndexBroken) as error:
                log.warning("indexing stopped until the next change: %s", error)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._work or self._stopping)
            self._work = False
            return not self._stopping

    def _embed_batch(self) -> int:
        """Embed the oldest memories that wait; returns how many were taken from the queue."""
        with self._embedding:
            with self._ledger.read() as connection:
                cubes = self._vault.by_seqs(connection, vectors.queued(connection, EMBED_BATCH))
            if not cubes:
                return 0
            matrix = self._embedder().embed([embeddable_text(cube.snapshot) for cube in cubes.values()])
            number, _ = self._number()
            with self._ledger.write() as connection:
                present = self._vault.by_seqs(connection, list(cubes))
                rows, done = [], []
                for cube, vector in zip(cubes.values(), matrix, strict=True):
                    current = present.get(cube.seq)
                    if current is not None and current.version == cube.version:
                        rows.append((cube.seq, cube.version, current.space, vector))
                    if current is None or current.version == cube.version:
                        done.append(cube.seq)
                vectors.put(connection, number, rows)
                vectors.dequeue(connection, done)
        with self._changed:
            self._dirty |= {cube.space for cube in cubes.values()}
            self._changed.notify_all()
        return len(cubes)

    def _feed_all(self) -> None:
        with self._changed:
            dirty, self._dirty = self._dirty, set()
        for space in dirty:
            if self._stopping:
                return
            try:
                self._feed(space)
            except IndexBroken as error:
                log.warning("%s: it is built anew", error)
                self._build(space)

    def _feed(self, space: int) -> None:
        number, dimensions = self._number()
        with self._ledger.read() as connection:
            upto = vectors.indexed_upto(connection, space)
            gone = vectors.removals(connection, space, INDEX_BATCH)
            if upto is None:
                if vectors.count_by_space(connection, number, [space]).get(space, 0) <= INDEX_FROM:
                    return
            elif not gone:
                tail = vectors.of_spaces(connection, number, [space], dimensions, after=upto, limit=INDEX_TAIL)
                if len(tail.keys) < INDEX_TAIL:
                    return
        if upto is None:
            self._build(space)
            return
        while gone and not self._stopping:
            self._index.remove(space, gone)
            with self._ledger.write() as connection:
                vectors.removed(connection, space, gone)
                gone = vectors.removals(connection, space, INDEX_BATCH)
        for stored in self._batches(space, upto):
            self._index.add(space, stored.keys.tolist(), stored.matrix)
            with self._ledger.write() as connection:
                vectors.set_indexed_upto(connection, space, int(stored.keys[-1]))

    def _batches(self, space: int, after: int = 0) -> Iterator[vectors.Stored]:
        number, dimensions = self._number()
        while not self._stopping:
            self._foreground.step_aside()
            with self._ledger.read() as connection:
                stored = vectors.of_spaces(connection, number, [space], dimensions, after=after, limit=INDEX_BATCH)
            if not len(stored.keys):
                return
            after = int(stored.keys[-1])
            yield stored

    def _build(self, space: int) -> None:
        """Build the space's index from the ledger, beside an old one, and swap."""
        last = 0

        def batches() -> Iterator[tuple[list[int], Matrix]]:
            nonlocal last
            for stored in self._batches(space):
                last = int(stored.keys[-1])
                yield stored.keys.tolist(), np.ascontiguousarray(stored.matrix)
            if self._stopping:
                raise IndexBroken(space, "the program ends before the index is built")

        self._index.rebuild(space, batches())
        with self._ledger.write() as connection:
            vectors.set_indexed_upto(connection, space, last)

    def _rebuild_asked(self) -> None:
        with self._changed:
            asked, self._rebuild = self._rebuild, {}
        for space, waiting in asked.items():
            error: str | None = None
            try:
                number, _ = self._number()
                with self._ledger.read() as connection:
                    count = vectors.count_by_space(connection, number, [space]).get(space, 0)
                if count > INDEX_FROM:
                    self._build(space)
                else:
                    self._drop(space)
            except (MemosError, IndexBroken) as failure:
                error = str(failure)
            for done in waiting:
                done("the program ended before the index was built" if self._stopping else error)

    def _drop(self, space: int) -> None:
        with self._ledger.write() as connection:
            vectors.set_indexed_upto(connection, space, None)
            vectors.removed(connection, space, None)
        self._index.drop(space)

    def _mend(self) -> None:
        """Compare every index with the ledger; one that is broken, missing or unlike is built anew."""
        number, _ = self._number()
        broken = set(self._index.verify())
        with self._ledger.read() as connection:
            indexed = vectors.indexed_spaces(connection)
            counts = vectors.count_by_space(connection, number)
            unlike = {
                space
                for space, upto in indexed.items()
                if space in broken or not self._plausible(connection, number, space, upto)
            }
        with self._changed:
            self._dirty |= {space for space, count in counts.items() if count > INDEX_FROM} | set(indexed)
        for space in unlike:
            log.warning("the index of space %d does not match the ledger: it is built anew", space)
            with self._ledger.write() as connection:
                vectors.set_indexed_upto(connection, space, None)
            self._index.drop(space)

    def _plausible(self, connection: Connection, number: int, space: int, upto: int) -> bool:
        """Whether the index holds what the ledger says, or one batch more: added, and not yet noted when a crash came."""
        size = self._index.size(space)
        expected = vectors.expected_in_index(connection, number, space, upto)
        return size is not None and expected <= size <= expected + INDEX_BATCH
