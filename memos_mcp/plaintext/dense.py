"""Finds memories by meaning: exact search over the ledger's vectors where few are eligible, else through the index.

Knows nothing of words or of access. Scores are cosines, -1 to 1, higher is nearer; what comes from the index is
scored again with the ledger's vectors, so an entry that the index holds too long can never be a hit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from memos_mcp.ledger import vectors
from memos_mcp.ledger.schema import COLD
from memos_mcp.ledger.vectors import Stored
from memos_mcp.plaintext import signatures
from memos_mcp.plaintext.scope import Eligible, Scope
from memos_mcp.plaintext.signatures import Signed
from memos_mcp.plaintext.space_cache import SpaceCache, joined
from memos_mcp.ports import IndexBroken, Vector, VectorIndex

log = logging.getLogger(__name__)

CACHED_SPACES = 8
"""Spaces without an index of which each is kept in memory by itself; more are kept together."""
CACHED_TOGETHER = 500
"""Spaces that are kept together; what is in more is read from the ledger."""
FEW = 200
"""Eligible memories whose vectors are read one by one, rather than picked from those of the space."""
EXACT_UPTO = 2_000
"""Eligible vectors up to which exact search is taken when a filter narrows."""
COLD_AT_ONCE = 5_000
"""Vectors of memories that do not stand that are in memory at a time: some 8 MB."""
READ = 100
"""Vectors read one by one to see which of them are as near as their signatures say. Measured on 100,000 templated texts
with hundreds of near-duplicates each: the nearest five are among them in 99.7 % of the cases."""
MARGIN = 16
"""Entries asked of an index beyond those wanted: some are of memories that are over."""
OVERFETCH = 4
ROUNDS = 4


Keep = Callable[[list[int]], Collection[int]]
"""Which of these memories are wanted."""


def many(eligible: Eligible) -> bool:
    """Whether they are too many for their vectors to be read one by one."""
    return len(eligible.seqs) > EXACT_UPTO


@dataclass(frozen=True)
class Ground:
    """Vectors that are searched exactly: of spaces without an index, and by space those that its index lacks."""

    plain: tuple[Stored, ...]
    tails: Mapping[int, Stored]

    @property
    def is_large(self) -> bool:
        """Whether so much is searched that signatures tell faster what is nearly the same."""
        return bool(self.tails) or sum(len(stored.keys) for stored in self.plain) >= signatures.FEW


@dataclass(frozen=True)
class Searcher:
    """What dense search needs beside a connection; `broken(space)` is told when an index fails."""

    index: VectorIndex
    embedder: Callable[[], tuple[int, int]]
    broken: Callable[[int], None]
    cache: SpaceCache

    def nearest(
        self,
        connection: Connection,
        query: Vector,
        scope: Scope,
        count: int,
        eligible: Eligible | None,
        *,
        strict: bool,
        ground: Ground | None = None,
        asked: Mapping[int, list[int]] | None = None,
        cold: Sequence[int] = (),
    ) -> dict[int, float]:
        """Cosines of about the `count` nearest memories of the scope's spaces, nearest first, by cube seq.

        With `eligible` they are of these, and exact unless there are `many`. Without, each is known to be in scope only
        when the scope narrows or `strict` is set; else the caller drops what is over. `ground` is that of the scope, if
        it was read before; it stays good, for what an index has got since is in the index and on the ground. `asked`
        is what `ask` found for this count. As many again come from `cold`, memories in scope that do not stand.
        """
        number, dimensions = self.embedder()
        if len(cold):
            beside = self._cold(connection, number, query, cold, count, dimensions)
            main = self.nearest(connection, query, scope, count, eligible, strict=strict, ground=ground, asked=asked)
            return dict(sorted((main | beside).items(), key=lambda item: -item[1]))
        if eligible is not None and not many(eligible):
            indexed = vectors.indexed_among(connection, scope.space_ids)
            plain = [space for space in scope.space_ids if space not in indexed]
            return top(self._eligible(connection, number, eligible.seqs, plain, indexed, dimensions), query, count)
        keep: Keep | None = partial(scope.keep, connection) if strict or scope.narrows else None
        if eligible is not None:
            keep = partial(_of, eligible)
        found: dict[int, float] = {}
        if ground is None:
            ground = self.ground(connection, scope)
        for stored in ground.plain:
            found |= _kept(stored, query, keep, count)
        if scope.shared:
            stored = self.cache.of_singles(connection, number, scope.shared, dimensions)
            found |= _kept(stored, query, keep, count)
        for space, tail in ground.tails.items():
            keys = None if asked is None else asked.get(space)
            found |= self._through_index(connection, query, keep, count, space, tail, keys)
        return dict(sorted(found.items(), key=lambda item: -item[1])[:count])

    def near(
        self, connection: Connection, query: Vector, scope: Scope, floor: float, count: int, where: Ground | Signed
    ) -> dict[int, float]:
        """Cosines of about the `count` nearest memories of at least `floor`, nearest first, by cube seq.

        `where` is what `like` gave for the scope; the caller drops what is over.
        """
        if isinstance(where, Signed):
            keys = where.near(query, floor, READ)
            found = top(vectors.of_keys(connection, keys, len(query)), query, count) if keys else {}
        else:
            found = self.nearest(connection, query, scope, count, None, strict=False, ground=where)
        return {cube: cosine for cube, cosine in found.items() if cosine >= floor}

    def ask(self, query: Vector, spaces: Sequence[int], count: int) -> dict[int, list[int]]:
        """What the indexes of these spaces hold near the question, for `nearest`; in any thread, without the ledger.

        An index that is broken is left out.
        """
        found: dict[int, list[int]] = {}
        for space in spaces:
            with suppress(IndexBroken):  # asked again by `nearest`, which mends it
                found[space] = self.index.nearest(space, query, count + MARGIN)
        return found

    def cosines(
        self,
        connection: Connection,
        query: Vector,
        scope: Scope,
        cubes: NDArray[np.int64],
        near: Mapping[int, float],
        ground: Ground,
        *,
        read: Sequence[Stored] = (),
        cached: bool,
    ) -> Vector:
        """Cosines of single memories of the scope, shape as `cubes`; NaN for one that has no vector yet.

        `near` are those that are known, `read` vectors that were read before; `ground` is that of the scope. With
        `cached` the vectors of every space are kept in memory for the next time.
        """
        number, dimensions = self.embedder()
        found = np.full(len(cubes), np.nan, dtype=np.float32)
        if near:
            found[:] = [near.get(cube, np.nan) for cube in cubes.tolist()]
        for stored in read:
            _fill(found, cubes, stored, query)
        parts = list(ground.plain)
        if cached:
            for space in ground.tails:
                parts += self.cache.of_space(connection, number, space, dimensions, half=True)
        elif ground.tails:
            parts.append(vectors.of_cubes(connection, number, cubes[np.isnan(found)].tolist(), dimensions))
        if scope.reaches_cold:
            unknown = cubes[np.isnan(found)].tolist()
            parts.append(vectors.of_cubes(connection, number, unknown, dimensions, COLD))
        for stored in parts:
            _fill(found, cubes, stored, query)
        if scope.shared:
            _fill(found, cubes, self.cache.of_singles(connection, number, scope.shared, dimensions), query)
        return found

    def read(self, connection: Connection, cubes: Sequence[int]) -> Stored:
        """Vectors of single memories, for `cosines`."""
        number, dimensions = self.embedder()
        return vectors.of_cubes(connection, number, cubes, dimensions)

    def ground(self, connection: Connection, scope: Scope) -> Ground:
        """Where a search of all of the scope's spaces has to look."""
        number, dimensions = self.embedder()
        if not scope.reaches_main:
            return Ground((), {})
        indexed = vectors.indexed_among(connection, scope.space_ids)
        plain = [space for space in scope.space_ids if space not in indexed]
        return Ground(
            self._whole(connection, number, plain, dimensions),
            {
                space: _one(self.cache.of_space(connection, number, space, dimensions, after=upto), dimensions)
                for space, upto in indexed.items()
            },
        )

    def like(self, connection: Connection, scope: Scope) -> Ground | Signed:
        """Where `near` has to look for what is nearly the same: a space of many vectors has signatures of them.

        Until these are made it is where any search looks.
        """
        if len(scope.space_ids) != 1 or scope.narrows or scope.shared or scope.include:
            return self.ground(connection, scope)
        number, dimensions = self.embedder()
        asked = (scope.space_ids[0], number, dimensions)
        signed = self.cache.signatures.of(connection, asked)
        if signed is not None:
            return signed
        ground = self.ground(connection, scope)
        if ground.is_large:
            self.cache.signatures.make(asked)
        return ground

    def _cold(
        self, connection: Connection, number: int, query: Vector, cold: Sequence[int], count: int, dimensions: int
    ) -> dict[int, float]:
        found: dict[int, float] = {}
        for start in range(0, len(cold), COLD_AT_ONCE):
            part = cold[start : start + COLD_AT_ONCE]
            found |= top(vectors.of_cubes(connection, number, part, dimensions, COLD), query, count)
        return dict(sorted(found.items(), key=lambda item: -item[1])[:count])

    def _eligible(
        self,
        connection: Connection,
        number: int,
        few: NDArray[np.int64],
        plain: list[int],
        indexed: dict[int, int],
        dimensions: int,
    ) -> Stored:
        if indexed or len(plain) != 1 or len(few) < FEW:
            return vectors.of_cubes(connection, number, few.tolist(), dimensions)
        found = []
        for stored in self.cache.of_space(connection, number, plain[0], dimensions):
            eligible = np.isin(stored.cubes, few)
            found.append(Stored(stored.keys[eligible], stored.cubes[eligible], stored.matrix[eligible]))
        return _one(found, dimensions)

    def _whole(self, connection: Connection, number: int, plain: list[int], dimensions: int) -> tuple[Stored, ...]:
        if len(plain) <= CACHED_SPACES:
            kept = (self.cache.of_space(connection, number, space, dimensions) for space in plain)
            return tuple(part for parts in kept for part in parts)
        if len(plain) <= CACHED_TOGETHER:
            return self.cache.of_spaces(connection, number, tuple(plain), dimensions)
        return (vectors.of_spaces(connection, number, plain, dimensions),)

    def _through_index(
        self,
        connection: Connection,
        query: Vector,
        keep: Keep | None,
        count: int,
        space: int,
        tail: Stored,
        asked: list[int] | None,
    ) -> dict[int, float]:
        number, dimensions = self.embedder()
        wanted, enough = count + MARGIN, max(count // 3, 1)
        for _ in range(ROUNDS):
            try:
                keys = self.index.nearest(space, query, wanted) if asked is None else asked
            except IndexBroken as error:
                log.warning("%s: searching the ledger instead", error)
                self.broken(space)
                break
            stored = vectors.of_keys(connection, keys, dimensions)
            found = _kept(stored, query, keep, count)
            # what left a moment ago, and much at once, may still stand before the rest in the index
            plenty = len(stored.keys) >= count if keep is None else len(found) >= enough
            if plenty or len(keys) < wanted:
                return _kept(tail, query, keep, count) | found
            wanted, asked = wanted * OVERFETCH, None
        else:
            if keep is None:  # what is left will be there when the index has let go of the rest, in a moment
                return _kept(tail, query, keep, count) | found
        # exact search over the whole space, however large: slow, and right when nothing else can be
        whole = _one(self.cache.of_space(connection, number, space, dimensions), dimensions)
        return _kept(whole, query, keep, count)


def _of(eligible: Eligible, seqs: list[int]) -> list[int]:
    numbers = np.array(seqs, dtype=np.int64)
    found: list[int] = numbers[eligible.among(numbers)].tolist()
    return found


def _kept(stored: Stored, query: Vector, keep: Keep | None, count: int) -> dict[int, float]:
    """The nearest of `stored`; of those that are kept, looking further down until enough are found."""
    if keep is None:
        return top(stored, query, count)
    order, cosines = _ordered(stored, query)
    found: dict[int, float] = {}
    step = count * OVERFETCH
    for start in range(0, len(order), step):
        block = [int(stored.cubes[i]) for i in order[start : start + step]]
        kept = set(keep(block))
        for cube, i in zip(block, order[start : start + step], strict=True):
            if cube in kept and len(found) < count:
                found[cube] = float(cosines[i])
        if len(found) >= count:
            break
    return found


def _one(parts: Sequence[Stored], dimensions: int) -> Stored:
    nothing = np.empty(0, dtype=np.int64)
    return joined(parts) if parts else Stored(nothing, nothing, np.empty((0, dimensions), dtype=np.float32))


def top(stored: Stored, query: Vector, count: int) -> dict[int, float]:
    """The `count` nearest of `stored`, nearest first: cosines by cube seq; none by another embedder's vector."""
    if _is_foreign(stored, query):
        return {}
    cosines = _cosines(stored, query)
    if 0 < count < len(cosines):
        best = np.argpartition(-cosines, count - 1)[:count]
        best = best[np.argsort(-cosines[best], kind="stable")]
    else:
        best = np.argsort(-cosines, kind="stable")[:count]
    return dict(zip(stored.cubes[best].tolist(), cosines[best].tolist(), strict=True))


def _fill(found: Vector, cubes: NDArray[np.int64], stored: Stored, query: Vector) -> None:
    """Set the cosines of those of `cubes` that have none yet and are stored, unless by another embedder."""
    if _is_foreign(stored, query):
        return
    places = np.flatnonzero(np.isnan(found))
    where = _places(stored.cubes, cubes[places])
    held = where >= 0
    few = Stored(stored.keys[where[held]], cubes[places[held]], stored.matrix[where[held]])
    found[places[held]] = _cosines(few, query)


def _is_foreign(stored: Stored, query: Vector) -> bool:
    """Whether the embedder was changed between the two: no call meets that, and what works behind the calls may."""
    return stored.matrix.shape[1:] != query.shape


def _places(held: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in `held` each of `wanted` stands, -1 where it does not."""
    if not len(held):
        return np.full(len(wanted), -1)
    order = np.argsort(held, kind="stable")
    at = np.minimum(np.searchsorted(held[order], wanted), len(held) - 1)
    return np.where(held[order[at]] == wanted, order[at], -1)


def _cosines(stored: Stored, query: Vector) -> Vector:
    # not `@`: BLAS starts threads above some thousand rows, and on a busy machine waits for the slowest
    cosines: Vector = np.einsum("ij,j->i", stored.matrix, query)
    return cosines


def _ordered(stored: Stored, query: Vector) -> tuple[list[int], Vector]:
    cosines = _cosines(stored, query)
    return np.argsort(-cosines, kind="stable").tolist(), cosines
