"""Finds near-duplicates among many vectors without reading them: by the signs of random projections.

Two vectors at an angle differ in each sign with the chance angle / pi (Charikar 2002), so a cosine that is wanted at
least bounds the signs that differ at most. Signs are of vectors less the mean of their space: texts of one space share
much, and around their mean what is near stands out. Knows nothing of texts; safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from memos_mcp.errors import StorageFailed
from memos_mcp.ledger import vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.vectors import Stored
from memos_mcp.ports import Matrix, Vector

log = logging.getLogger(__name__)

FEW = 2_000
"""Vectors of a space up to which exact search costs no more."""
WORDS = 8
BITS = 64 * WORDS
FIRST = 3
"""Words that are compared of every vector, and all of those alone that may be near by these."""
SURE = 3.7
"""Standard deviations that a count of differing signs may lie above what is expected: 1 in 9,000 lies higher."""
PAGE = 1_000
"""Vectors read at a time behind the calls."""
LATE = 256
"""Vectors that a call reads itself to bring signatures up to date."""
MANY = 1_000
"""Changed memories from which on signatures are made anew."""
SPARE = 10_000
"""Vectors more than there are that signatures have room for, or a quarter of what there is."""
MOST = 500_000
"""Vectors of a space up to which all of its signatures are looked through faster than an index answers."""
LIMIT_BYTES = 96 << 20
SEED = 1

Bits = NDArray[np.uint64]
Asked = tuple[int, int, int]
"""The number of a space, of the embedder, and the length of its vectors."""


class Signed:
    """The signatures of a space's vectors; only ever added to, and struck out.

    `keys` are vector numbers, ascending, and `cubes` the memories they are of, shape (room,); `bits` (WORDS, room); the
    first `count` are there. `centre` (d,) is about the mean, and `least` the shortest distance from it.
    """

    def __init__(self, centre: Vector, room: int) -> None:
        self.centre, self.count, self.last, self.least = centre, 0, 0, math.inf
        self._keys, self._cubes = np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.int64)
        self._bits = np.zeros((WORDS, room), dtype=np.uint64)
        self._gone = np.zeros(room, dtype=np.bool_)

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._cubes.nbytes + self._bits.nbytes + self._gone.nbytes

    def fits(self, more: int) -> bool:
        """Whether there is room for so many more."""
        return self.count + more <= len(self._keys)

    def add(self, stored: Stored) -> None:
        """Add the signatures of vectors, in the order of their keys; those that are there already are left out."""
        fresh = stored.keys > self.last
        keys, matrix = stored.keys[fresh], stored.matrix[fresh]
        if not len(keys):
            return
        apart, end = matrix - self.centre, self.count + len(keys)
        self._keys[self.count : end] = keys
        self._cubes[self.count : end] = stored.cubes[fresh]
        self._bits[:, self.count : end] = _signs(apart).T
        self.least = min(self.least, float(np.sqrt(np.einsum("ij,ij->i", apart, apart).min())))
        self.last, self.count = int(keys[-1]), end

    def strike_out(self, cubes: Collection[int], left: Stored) -> None:
        """Of these memories no vectors are found any more but those that are `left`."""
        keys = self._keys[: self.count]
        of_these = np.isin(self._cubes[: self.count], list(cubes))
        self._gone[: self.count][of_these] = ~np.isin(keys[of_these], left.keys)

    def near(self, query: Vector, floor: float, most: int) -> list[int]:
        """Numbers of the vectors whose cosine to `query` is likely to be `floor` or more, at most the `most` likeliest.

        One whose cosine is just `floor` is left out once in some thousands, a nearer one less often still; some are
        farther.
        """
        count, apart = self.count, query - self.centre
        asked = _signs(apart[None])[0]
        share = _share(floor, float(np.linalg.norm(apart)), self.least)
        differing = np.zeros(count, dtype=np.uint8)
        for word, signs in zip(self._bits[:FIRST], asked, strict=False):
            differing += np.bitwise_count(word[:count] ^ signs)
        places = np.flatnonzero(differing <= _most(share, 64 * FIRST))
        places = places[~self._gone[places]]
        # all signs of those that may be near by the first words: a few, or a few thousand
        total = np.bitwise_count(self._bits[:, places] ^ asked[:, None]).sum(axis=0, dtype=np.uint16)
        near = np.flatnonzero(total <= _most(share, BITS))
        if len(near) > most:
            near = near[np.argpartition(total[near], most)[:most]]
        found: list[int] = self._keys[places[near]].tolist()
        return found


class Signatures:
    """Signatures by space, bounded in bytes, least recently used out first; made behind the calls.

    `maker` makes them, and `step_aside` waits for calls in progress.
    """

    def __init__(
        self,
        ledger: Ledger,
        maker: Executor,
        step_aside: Callable[[], None] = lambda: None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._ledger, self._maker, self._step_aside, self._limit = ledger, maker, step_aside, limit_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[Asked, Signed] = OrderedDict()
        self._changed: dict[Asked, set[int]] = {}
        self._refused: set[Asked] = set()
        self._making: dict[Asked, object] = {}
        self._closed = False

    @property
    def making(self) -> bool:
        """Whether signatures are being made behind the calls."""
        return bool(self._making)

    def touch(self, space: int, cubes: Sequence[int]) -> None:
        """These memories of the space lost or changed their vectors; told after the transaction."""
        with self._lock:
            for asked in {*self._held, *self._making}:
                if asked[0] == space:
                    self._changed.setdefault(asked, set()).update(cubes)

    def clear(self) -> None:
        """Forget everything; what is being made is dropped."""
        with self._lock:
            self._held.clear()
            self._changed.clear()
            self._refused.clear()
            self._making.clear()

    def close(self) -> None:
        """Let the work behind the calls end; signatures may still be asked for."""
        self._closed = True

    def of(self, connection: Connection, asked: Asked) -> Signed | None:
        """The signatures of a space as the connection's transaction sees it, or newer; None while there are none."""
        with self._lock:
            held = self._held.get(asked)
            if held is None:
                return None
            self._held.move_to_end(asked)
            changed = self._changed.pop(asked, set())
            if len(changed) > MANY:
                del self._held[asked]
                return None
            tail = _read(connection, asked, held.last, LATE)
            if len(tail.keys) == LATE or not held.fits(len(tail.keys)):
                self._changed[asked] = changed
                return None
            held.add(tail)
            if changed:
                _, embedder, dimensions = asked
                held.strike_out(changed, vectors.of_cubes(connection, embedder, list(changed), dimensions))
        return held

    def make(self, asked: Asked) -> None:
        """Have the signatures of a space made, or brought up to date, behind the calls."""
        with self._lock:
            if asked in self._making or asked in self._refused or self._closed:
                return
            self._making[asked] = made = object()
            self._maker.submit(self._make, asked, made)

    def _make(self, asked: Asked, made: object) -> None:
        try:
            self._bring_up(asked, made)
        except StorageFailed as error:
            log.warning("near-duplicates of space %d are looked for without signatures: %s", asked[0], error)
        finally:
            with self._lock:
                if self._making.get(asked) is made:
                    del self._making[asked]

    def _bring_up(self, asked: Asked, made: object) -> None:
        with self._lock:
            signed = self._held.get(asked)
        if signed is not None and self._read_on(asked, made, signed) and signed.fits(LATE):
            return
        with self._ledger.read() as connection:
            count = vectors.count_by_space(connection, asked[1], [asked[0]]).get(asked[0], 0)
            first = _read(connection, asked, 0, PAGE)
        if count > MOST:
            with self._lock:
                self._refused.add(asked)
        if not 0 < count <= MOST:
            return
        signed = Signed(first.matrix.mean(axis=0), count + max(count // 4, SPARE))
        if self._read_on(asked, made, signed):
            self._keep(asked, made, signed)

    def _read_on(self, asked: Asked, made: object, signed: Signed) -> bool:
        """Add what is there since; False when there is no room for it, or when it is not wanted any more."""
        after, more = signed.last, True
        while more:
            self._step_aside()
            if self._closed or self._making.get(asked) is not made:
                return False
            with self._ledger.read() as connection:
                page = _read(connection, asked, after, PAGE)
            with self._lock:
                if not signed.fits(max(len(page.keys), LATE)):
                    return False
                signed.add(page)
            after, more = int(page.keys.max(initial=after)), len(page.keys) == PAGE
        return True

    def _keep(self, asked: Asked, made: object, signed: Signed) -> None:
        with self._lock:
            if self._making.get(asked) is not made:
                return
            self._held[asked] = signed
            self._held.move_to_end(asked)
            held = sum(one.nbytes for one in self._held.values())
            while held > self._limit and len(self._held) > 1:
                other, least = self._held.popitem(last=False)
                self._changed.pop(other, None)
                held -= least.nbytes


def _read(connection: Connection, asked: Asked, after: int, most: int) -> Stored:
    space, embedder, dimensions = asked
    return vectors.of_spaces(connection, embedder, (space,), dimensions, after=after, limit=most)


def _signs(matrix: Matrix) -> Bits:
    """The signs of each row's projections, shape (n, WORDS)."""
    projected = matrix @ _projections(matrix.shape[1])
    return np.packbits(projected > 0, axis=1).view(np.uint64)


@cache
def _projections(dimensions: int) -> Matrix:
    """Random directions, shape (d, BITS): the same in every run."""
    return np.random.default_rng(SEED).standard_normal((dimensions, BITS), dtype=np.float32)


def _share(floor: float, length: float, least: float) -> float:
    """The share of signs by which two vectors with a cosine of `floor` or more are expected to differ, at most.

    One is `length` away from the mean, the other `least` or more: the angle at the mean is widest where the other is as
    near to it as it can be.
    """
    apart = 2 - 2 * floor  # the square of their distance, at most
    other = max(least, math.sqrt(max(length * length - apart, 0.0)))
    if not other or not length or math.isinf(other):
        return 1.0
    cosine = (length * length + other * other - apart) / (2 * length * other)
    return math.acos(min(max(cosine, -1.0), 1.0)) / math.pi


def _most(share: float, bits: int) -> float:
    """Of so many signs, how many may differ where this share is expected to."""
    return bits * share + SURE * math.sqrt(bits * share * (1 - share))
