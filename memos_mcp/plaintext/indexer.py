"""Keeps vectors and index up with the ledger, behind the calls: embeds what waits, feeds and mends the index.

Knows nothing of verbs. Every step may be repeated after a crash: the ledger says what is done, and only afterwards.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from memos_mcp.errors import MemosError
from memos_mcp.foreground import Foreground
from memos_mcp.ledger import vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.space_cache import SpaceCache
from memos_mcp.ports import Embedder, IndexBroken, Matrix, VectorIndex
from memos_mcp.vault import Vault, embeddable_text

log = logging.getLogger(__name__)

EMBED_BATCH = 16
FEED_EVERY = 128
"""Batches of embedding after which the indexes are fed, while there is more to embed."""
INDEX_BATCH = 64
"""Vectors fed to a serving index at a time: few, for the library takes every core for as long as it takes."""
BUILD_BATCH = 500
INDEX_TAIL = 256
"""Vectors that a space's index may lack; they are searched exactly."""
POLL_S = 0.005
NOTICES = 64
"""Single additions after which the thread looks whether an index lacks enough to be fed."""
RETRY_S = 30.0
"""Seconds after which work that failed is tried again: the embedder or the disk may be back."""


@dataclass(frozen=True)
class SpaceIndex:
    """A space's index beside what the ledger expects of it; `held` is None when it is gone or cannot be read."""

    space: int
    expected: int
    held: int | None

    @property
    def plausible(self) -> bool:
        """Whether it holds what the ledger says, or one batch more: added, and not yet noted when a crash came."""
        return self.held is not None and self.expected <= self.held <= self.expected + INDEX_BATCH


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
        asking: Foreground,
        index_from: int,
    ) -> None:
        self.index_from = index_from
        """Vectors of a space above which it gets an index."""
        self._ledger, self._vault, self._index = ledger, vault, index
        self._embedder, self._number = embedder, embedder_number
        self._cache, self._asking = cache, asking
        self.stalled = False
        """Whether the last round of work failed: what waits for it would wait in vain."""
        self._changed = threading.Condition()
        self._dirty: set[int] = set()
        self._unread = 0
        self._rebuild: dict[int, list[Callable[[str | None], None]]] = {}
        self._work = self._stopping = self._compared = False
        self.busy = True
        self._working = threading.RLock()
        self.mended: tuple[int, ...] = ()
        """Spaces whose index did not match the ledger at the start."""

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

    def notice(self, space: int, *, embedded: bool = False) -> None:
        """Memories of the space were added, changed or erased; told after the transaction.

        `embedded`: one came with its vector, and nothing waits; then the thread is woken only now and then.
        """
        with self._changed:
            self._dirty.add(space)
            self._unread += 1
            if not embedded or self._unread >= NOTICES:
                self._unread, self._work = 0, True
                self._changed.notify_all()

    def rebuild(self, space: int, done: Callable[[str | None], None] = lambda _: None) -> None:
        """Build the space's index anew beside the old one and swap; `done(error)` is called at the end."""
        with self._changed:
            self._rebuild.setdefault(space, []).append(done)
            self._work = True
            self._changed.notify_all()

    def broken(self, space: int) -> None:
        """A search found the space's index broken; before the comparison at the start, that one decides."""
        if self._compared:
            self.rebuild(space)

    def wait_embedded(
        self,
        space_ids: tuple[int, ...],
        limit_s: float,
        give_up: Callable[[], bool] = lambda: False,
        upto: int | None = None,
    ) -> bool:
        """Wait until every memory of the spaces (numbered up to `upto`) has its vector.

        False after `limit_s` seconds, or as soon as `give_up()` says so.
        """
        end = time.monotonic() + limit_s
        while True:
            with self._ledger.read() as connection:
                if not vectors.queue_length_of(connection, space_ids, upto):
                    return True
            left = end - time.monotonic()
            if left <= 0 or give_up():
                return False
            with self._changed:
                self._changed.wait(min(left, POLL_S))

    def catch_up(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Do all work there is, in the calling thread. Raises what the embedder raises."""
        with self._ledger.read() as connection:
            total = vectors.queue_length(connection)
        done = 0
        while batch := self._embed_batch():
            done += batch
            progress(done, max(total, done))
        self._mend()
        self._rebuild_asked()
        self._feed_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No step of the work runs in another thread while the block lasts."""
        with self._working:
            yield

    def forget_all(self) -> None:
        """Drop every index; the next work builds anew what is large enough. Raises as the embedder does."""
        with self._working:
            self._mend()
            with self._ledger.write() as connection:
                vectors.forget_indexes(connection)
                held = vectors.space_numbers(connection)
            for space in held:
                self._index.drop(space)
        with self._changed:
            self._dirty |= set(held)

    def compare(self) -> list[SpaceIndex]:
        """Every index beside what the ledger expects of it, once the start has mended what it could."""
        self._mend()
        number, _ = self._number()
        with self._working, self._ledger.read() as connection:
            return [
                self._beside(connection, number, space, upto)
                for space, upto in vectors.indexed_spaces(connection).items()
            ]

    def _run(self) -> None:
        try:
            self._mend()
            with self._changed:
                self._work = True
        except (MemosError, SQLAlchemyError, IndexBroken) as error:
            log.warning("the index was not compared with the ledger: %s", error)
        retry_s: float | None = None
        while self._wait_for_work(retry_s):
            retry_s = None
            try:
                self._mend()
                self._rebuild_asked()
                batches = 0
                while not self._stopping and self._embed_batch():
                    batches += 1
                    self._asking.step_aside()
                    self._rebuild_asked()
                    if batches % FEED_EVERY == 0:  # what an index lacks is searched exactly, so it must stay small
                        self._feed_all()
                self._feed_all()
                self.stalled = False
            except (MemosError, SQLAlchemyError, IndexBroken) as error:
                retry_s, self.stalled = RETRY_S, True
                log.warning("indexing is tried again in %d seconds, or at the next change: %s", RETRY_S, error)

    def _wait_for_work(self, limit_s: float | None) -> bool:
        with self._changed:
            self.busy = self._work
            self._changed.wait_for(lambda: self._work or self._stopping, limit_s)
            self._work, self.busy = False, True
            return not self._stopping

    def _embed(self, texts: list[str]) -> Matrix:
        """Vectors of the texts, a few at a time, so that a question does not wait for all of them."""
        embedder, found = self._embedder(), []
        for start in range(0, len(texts), embedder.at_a_time):
            self._asking.step_aside()
            found.append(embedder.embed(texts[start : start + embedder.at_a_time]))
        return np.concatenate(found)

    def _embed_batch(self) -> int:
        """Embed the oldest memories that wait; returns how many were taken from the queue."""
        with self._working:
            with self._ledger.read() as connection:
                cubes = self._vault.by_seqs(connection, vectors.queued(connection, EMBED_BATCH))
            if not cubes:
                return 0
            matrix = self._embed([embeddable_text(cube.snapshot) for cube in cubes.values()])
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
        while not self._stopping and self._feed_next():
            pass

    def _feed_next(self) -> bool:
        """Feed one space whose memories changed; False when there is none. After an error it is still to be fed."""
        with self._working:
            with self._changed:
                space = next(iter(self._dirty), None)
                if space is None:
                    return False
                self._dirty.discard(space)
            fed = False
            try:
                try:
                    self._feed(space)
                except IndexBroken as error:
                    log.warning("%s: it is built anew", error)
                    self._build(space)
                fed = True
            finally:
                if not fed:
                    with self._changed:
                        self._dirty.add(space)
        return True

    def _feed(self, space: int) -> None:
        number, _ = self._number()
        with self._ledger.read() as connection:
            upto = vectors.indexed_upto(connection, space)
            gone = vectors.removals(connection, space, INDEX_BATCH)
            if upto is None:
                if vectors.count_by_space(connection, number, [space]).get(space, 0) <= self.index_from:
                    return
            elif not gone and vectors.count_after(connection, number, space, upto) < INDEX_TAIL:
                return
        if upto is None:
            self._build(space)
            return
        while gone and not self._stopping:
            self._asking.step_aside()
            self._index.remove(space, gone)
            with self._ledger.write() as connection:
                vectors.removed(connection, space, gone)
                gone = vectors.removals(connection, space, INDEX_BATCH)
        for stored in self._batches(space, upto, INDEX_BATCH):
            self._index.add(space, stored.keys.tolist(), stored.matrix)
            with self._ledger.write() as connection:
                vectors.set_indexed_upto(connection, space, int(stored.keys[-1]))

    def _batches(self, space: int, after: int, size: int) -> Iterator[vectors.Stored]:
        number, dimensions = self._number()
        while not self._stopping:
            self._asking.step_aside()
            with self._ledger.read() as connection:
                stored = vectors.of_spaces(connection, number, [space], dimensions, after=after, limit=size)
            if not len(stored.keys):
                return
            after = int(stored.keys[-1])
            yield stored

    def _build(self, space: int) -> None:
        """Build the space's index from the ledger, beside an old one, and swap."""
        keys = [np.empty(0, dtype=np.int64)]

        def batches() -> Iterator[tuple[list[int], Matrix]]:
            for stored in self._batches(space, 0, BUILD_BATCH):
                keys.append(stored.keys)
                yield stored.keys.tolist(), np.ascontiguousarray(stored.matrix)
            if self._stopping:
                raise IndexBroken(space, "the program ends before the index is built")

        self._index.rebuild(space, batches())
        number, _ = self._number()
        with self._ledger.write() as connection:
            vectors.built(connection, number, space, np.concatenate(keys))
        self._cache.forget(space)

    def _rebuild_asked(self) -> None:
        while not self._stopping:
            error: str | None = None
            with self._working:
                with self._changed:
                    if not self._rebuild:
                        return
                    space, waiting = self._rebuild.popitem()
                try:
                    self._build_or_drop(space)
                except (MemosError, IndexBroken) as failure:
                    error = str(failure)
            for done in waiting:
                done("the program ended before the index was built" if self._stopping else error)

    def _build_or_drop(self, space: int) -> None:
        number, _ = self._number()
        with self._ledger.read() as connection:
            count = vectors.count_by_space(connection, number, [space]).get(space, 0)
        if count > self.index_from:
            self._build(space)
        else:
            self._drop(space)

    def _drop(self, space: int) -> None:
        with self._ledger.write() as connection:
            vectors.set_indexed_upto(connection, space, None)
            vectors.removed(connection, space, None)
        self._index.drop(space)

    def _mend(self) -> None:
        """Compare every index with the ledger, once; one that is broken, missing or unlike is built anew."""
        self._embedder()
        with self._working:
            if self._compared:
                return
            number, _ = self._number()
            broken = set(self._index.verify())
            with self._ledger.read() as connection:
                indexed = vectors.indexed_spaces(connection)
                counts = vectors.count_by_space(connection, number)
                unlike = {
                    space
                    for space, upto in indexed.items()
                    if space in broken or not self._beside(connection, number, space, upto).plausible
                }
            with self._changed:
                self._dirty |= {space for space, count in counts.items() if count > self.index_from} | set(indexed)
            small = {space for space in indexed if counts.get(space, 0) <= self.index_from}
            for space in unlike | small:
                if space in unlike:
                    log.warning("the index of space %d does not match the ledger: it is built anew", space)
                with self._ledger.write() as connection:
                    vectors.set_indexed_upto(connection, space, None)
                self._index.drop(space)
            self.mended, self._compared = tuple(sorted(unlike)), True

    def _beside(self, connection: Connection, number: int, space: int, upto: int) -> SpaceIndex:
        expected = vectors.expected_in_index(connection, number, space, upto)
        return SpaceIndex(space, expected, self._index.size(space))
