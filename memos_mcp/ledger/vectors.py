"""Keeps the embeddings of memories in half precision, and the work that an index still has to do.

Knows neither how vectors are made nor how they are searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, delete, func, insert, select, update

from memos_mcp.cube import TEXTLESS
from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import (
    COLD,
    FORMER,
    MAIN,
    NOT_STANDING,
    STANDING,
    cubes,
    embedders,
    index_removals,
    meta,
    spaces,
    vector_queue,
    vectors,
)
from memos_mcp.ports import Matrix, Vector

HALF = np.dtype("<f2")
PIN = "embedder"
"""Key of the ledger's note that holds the identity of the store's own embedder; indexes hold its vectors alone."""
_PART = 900

# Statements of every addition and search are made once: to build one costs more than to run it.
_PUT = insert(vectors).values(
    tier=select(case((NOT_STANDING, COLD), else_=MAIN)).where(cubes.c.seq == bindparam("of")).scalar_subquery()
)
_ROWS = select(vectors.c.seq, vectors.c.cube, vectors.c.data)
_MAIN = vectors.c.tier == MAIN
_OF_NOW = vectors.c.tier.in_((MAIN, COLD))
_MAIN_OF_KEYS = _ROWS.where(dialect.among(vectors.c.seq, "keys"), _MAIN)
_OF_CUBES = _ROWS.where(
    dialect.among(vectors.c.cube, "cubes"),
    vectors.c.embedder == bindparam("embedder"),
    vectors.c.tier == bindparam("tier"),
)
_MAIN_OF_SPACE = _ROWS.where(
    vectors.c.space == bindparam("space"),
    vectors.c.embedder == bindparam("embedder"),
    _MAIN,
    vectors.c.seq > bindparam("after"),
).order_by(vectors.c.seq)
_MAIN_OF_SPACE_UPTO = dialect.blobs_in_one_row(_MAIN_OF_SPACE.limit(bindparam("most")))
_INDEXED_OF = select(spaces.c.id, spaces.c.indexed_upto).where(
    dialect.among(spaces.c.id, "spaces"), spaces.c.indexed_upto.is_not(None)
)
_OF_THESE = dialect.among(vectors.c.cube, "cubes")
_IN_COLD = _OF_THESE & (vectors.c.tier == COLD)
_COLD_ROWS = (
    select(*(vectors.c[name] for name in ("cube", "version", "space", "embedder", "data")))
    .where(_IN_COLD)
    .order_by(vectors.c.seq)
)
_COLD_GONE, _AGAIN = delete(vectors).where(_IN_COLD), insert(vectors)
_LEFT = update(vectors).where(_OF_THESE, _MAIN).values(tier=COLD)
_WAITING = select(vector_queue.c.cube).where(dialect.among(vector_queue.c.cube, "cubes"))
_QUEUED = select(func.count()).select_from(vector_queue)
_QUEUED_OF = _QUEUED.where(dialect.among(vector_queue.c.space, "spaces"))
_QUEUED_OF_UPTO = _QUEUED_OF.where(vector_queue.c.cube <= bindparam("upto"))


@dataclass(frozen=True)
class Stored:
    """Embeddings as read: `keys` (vector numbers) and `cubes` (cube seqs), shape (n,); `matrix`, (n, d), float32."""

    keys: NDArray[np.int64]
    cubes: NDArray[np.int64]
    matrix: Matrix


def embedder_id(connection: Connection, identity: str, dimensions: int) -> int:
    """The ledger's number for an embedder, given one if it is new."""
    found = connection.execute(select(embedders.c.id).where(embedders.c.identity == identity)).scalar()
    if found is not None:
        return int(found)
    row = {"identity": identity, "dimensions": dimensions}
    return dialect.insert_row(connection, embedders, row)


def dimensions_of(connection: Connection, embedder: int) -> int:
    """The length of an embedder's vectors, as it was when they were made."""
    return int(connection.execute(select(embedders.c.dimensions).where(embedders.c.id == embedder)).scalar_one())


def put(connection: Connection, embedder: int, rows: Sequence[tuple[int, int, int, Vector]]) -> None:
    """Keep the vectors of current versions, given as (cube seq, version, space, vector).

    Those of memories that stand belong to the main index; the others are kept beside it.
    """
    if rows:
        connection.execute(
            _PUT,
            [
                {"cube": cube, "of": cube, "version": version, "space": space, "embedder": embedder,
                 "data": vector.astype(HALF).tobytes()}
                for cube, version, space, vector in rows
            ],
        )  # fmt: skip


def retire(connection: Connection, cube: int) -> None:
    """Step the memory's vectors back: kept for its former version, out of search and out of the index."""
    now = (vectors.c.cube == cube) & _OF_NOW
    _queue_removals(connection, _in_index(now))
    connection.execute(update(vectors).where(now).values(tier=FORMER))


def leave(connection: Connection, cube_seqs: Sequence[int]) -> None:
    """Take the vectors of memories that do not stand any more out of the main index; they are kept beside it."""
    named = {"cubes": dialect.listed(cube_seqs)}
    _queue_removals(connection, _LEAVING, named)
    connection.execute(_LEFT, named)


def enter(connection: Connection, cube_seqs: Sequence[int]) -> None:
    """Bring the vectors of memories that stand (again) into the main index, with new numbers: it reads on from its
    last one."""
    for part in _parts(cube_seqs):
        named = {"cubes": dialect.listed(part)}
        rows = connection.execute(_COLD_ROWS, named).all()
        if rows:
            connection.execute(_COLD_GONE, named)
            connection.execute(_AGAIN, [{**row._asdict(), "tier": MAIN} for row in rows])


def relocate(connection: Connection, cube_seqs: Sequence[int], space: int, *, main: bool) -> None:
    """Give the vectors of memories another space; those of the main index leave the former one's and enter its own."""
    if main:
        leave(connection, cube_seqs)
    for part in _parts(cube_seqs):
        connection.execute(update(vectors).where(vectors.c.cube.in_(part)).values(space=space))
        connection.execute(update(vector_queue).where(vector_queue.c.cube.in_(part)).values(space=space))
    if main:
        enter(connection, cube_seqs)


def astray(connection: Connection) -> tuple[list[int], list[int]]:
    """Numbers of memories with vectors in the main index that do not stand, and of those that stand and have none there
    but beside it."""
    joined = select(vectors.c.cube).join(cubes, cubes.c.seq == vectors.c.cube).distinct()
    inside = connection.execute(joined.where(_MAIN, NOT_STANDING)).scalars()
    outside = connection.execute(joined.where(vectors.c.tier == COLD, STANDING)).scalars()
    return list(inside), list(outside)


def of_version(connection: Connection, embedder: int, cube: int, version: int) -> Vector | None:
    """The vector kept for one version of a memory."""
    query = select(vectors.c.data).where(
        vectors.c.cube == cube, vectors.c.version == version, vectors.c.embedder == embedder
    )
    data = connection.execute(query.limit(1)).scalar()
    return None if data is None else np.frombuffer(data, dtype=HALF).astype(np.float32)


def of_now(connection: Connection, embedder: int, cube: int) -> Vector | None:
    """The vector of a memory's present text, of whichever version it was made; None while it has none."""
    query = select(vectors.c.data).where(vectors.c.cube == cube, vectors.c.embedder == embedder, _OF_NOW)
    data = connection.execute(query.order_by(vectors.c.version.desc()).limit(1)).scalar()
    return None if data is None else np.frombuffer(data, dtype=HALF).astype(np.float32)


def raw_of(connection: Connection, cube_seqs: Sequence[int]) -> list[bytes]:
    """The kept bytes of every vector of these memories, former versions included."""
    found: list[bytes] = []
    for part in _parts(cube_seqs):
        found += connection.execute(select(vectors.c.data).where(vectors.c.cube.in_(part))).scalars()
    return found


def erase(connection: Connection, cube_seqs: Sequence[int]) -> None:
    """Delete every vector of these memories, and queue their removal from the index."""
    for part in _parts(cube_seqs):
        _queue_removals(connection, _in_index(vectors.c.cube.in_(part)))
        connection.execute(delete(vectors).where(vectors.c.cube.in_(part)))
        connection.execute(delete(vector_queue).where(vector_queue.c.cube.in_(part)))


def enqueue(connection: Connection, rows: Sequence[tuple[int, int]]) -> None:
    """Note memories, as (cube seq, space), whose current version has no vector yet."""
    seqs = [cube for cube, _ in rows]
    for part in _parts(seqs):
        connection.execute(delete(vector_queue).where(vector_queue.c.cube.in_(part)))
    if rows:
        connection.execute(insert(vector_queue), [{"cube": cube, "space": space} for cube, space in rows])


def queued(connection: Connection, limit: int) -> list[int]:
    """Numbers of memories that wait for a vector, oldest first."""
    return list(connection.execute(select(vector_queue.c.cube).order_by(vector_queue.c.cube).limit(limit)).scalars())


def queue_length(connection: Connection) -> int:
    """How many memories wait for a vector."""
    return int(connection.execute(_QUEUED).scalar_one())


def queue_length_of(connection: Connection, space_ids: Sequence[int], upto: int | None = None) -> int:
    """How many memories of these spaces, numbered up to `upto`, wait for a vector."""
    named = {"spaces": dialect.listed(space_ids)}
    if upto is None:
        return int(connection.execute(_QUEUED_OF, named).scalar_one())
    return int(connection.execute(_QUEUED_OF_UPTO, {**named, "upto": upto}).scalar_one())


def waiting(connection: Connection, cube_seqs: Sequence[int]) -> set[int]:
    """Those of the memories whose current version has no vector yet and is to get one."""
    if not cube_seqs:
        return set()
    return set(connection.execute(_WAITING, {"cubes": dialect.listed(cube_seqs)}).scalars().all())


def dequeue(connection: Connection, cube_seqs: Sequence[int]) -> None:
    """Note that these memories have their vectors."""
    for part in _parts(cube_seqs):
        connection.execute(delete(vector_queue).where(vector_queue.c.cube.in_(part)))


def count_by_space(connection: Connection, embedder: int, space_ids: Sequence[int] | None = None) -> dict[int, int]:
    """How many vectors each space has in the main index."""
    query = select(vectors.c.space, func.count()).where(vectors.c.embedder == embedder, _MAIN).group_by(vectors.c.space)
    if space_ids is not None:
        query = query.where(vectors.c.space.in_(space_ids))
    return {int(space): int(n) for space, n in connection.execute(query)}


def count_by_embedder(connection: Connection) -> dict[str, int]:
    """How many memories have a vector of each embedder that made any, by its identity."""
    query = (
        select(embedders.c.identity, func.count())
        .join(vectors, vectors.c.embedder == embedders.c.id)
        .where(_OF_NOW)
        .group_by(embedders.c.identity)
    )
    return {str(identity): int(n) for identity, n in connection.execute(query)}


def of_spaces(
    connection: Connection,
    embedder: int,
    space_ids: Sequence[int],
    dimensions: int,
    after: int = 0,
    limit: int | None = None,
) -> Stored:
    """Vectors of whole spaces in the main index, above `after` only; of one space, or with a limit, in their order."""
    if len(space_ids) == 1:
        found = {"space": space_ids[0], "embedder": embedder, "after": after}
        if limit is None:
            return _stored(connection.execute(_MAIN_OF_SPACE, found).all(), dimensions)
        keys, cube_seqs, data = dialect.blobs(connection, _MAIN_OF_SPACE_UPTO, {**found, "most": limit})
        return Stored(keys, cube_seqs, _matrix(data, dimensions))
    query = _ROWS.where(vectors.c.space.in_(space_ids), vectors.c.embedder == embedder, _MAIN, vectors.c.seq > after)
    if limit is not None:
        query = query.order_by(vectors.c.seq).limit(limit)
    return _stored(connection.execute(query).all(), dimensions)


def of_cubes(
    connection: Connection, embedder: int, cube_seqs: Sequence[int], dimensions: int, tier: int = MAIN
) -> Stored:
    """Vectors of single memories in the main index, or in another tier; those that have none are left out."""
    values = {"cubes": dialect.listed(cube_seqs), "embedder": embedder, "tier": tier}
    return _stored(connection.execute(_OF_CUBES, values).all(), dimensions)


def of_keys(connection: Connection, keys: Sequence[int], dimensions: int) -> Stored:
    """Vectors of the main index by their own numbers; those that left are left out."""
    return _stored(connection.execute(_MAIN_OF_KEYS, {"keys": dialect.listed(keys)}).all(), dimensions)


def removals(connection: Connection, space: int, limit: int) -> list[int]:
    """Vector numbers that a space's index still has to let go."""
    query = select(index_removals.c.vector).where(index_removals.c.space == space).limit(limit)
    return list(connection.execute(query).scalars())


def removed(connection: Connection, space: int, keys: Sequence[int] | None) -> None:
    """Note that the index let these vectors go; None: all of the space."""
    if keys is None:
        connection.execute(delete(index_removals).where(index_removals.c.space == space))
        return
    for part in _parts(keys):
        connection.execute(delete(index_removals).where(index_removals.c.vector.in_(part)))


def indexed_upto(connection: Connection, space: int) -> int | None:
    """The vector number up to which the space's index is complete; None when it has none."""
    found = connection.execute(select(spaces.c.indexed_upto).where(spaces.c.id == space)).scalar()
    return None if found is None else int(found)


def set_indexed_upto(connection: Connection, space: int, upto: int | None) -> None:
    """Note how far a space's index reaches."""
    connection.execute(update(spaces).where(spaces.c.id == space).values(indexed_upto=upto))


def built(connection: Connection, embedder: int, space: int, keys: NDArray[np.int64]) -> None:
    """Note that a space's index was made of these vectors, ascending, and which of them left while it was."""
    upto = int(keys[-1]) if len(keys) else 0
    there = select(vectors.c.seq).where(
        vectors.c.space == space, vectors.c.embedder == embedder, _MAIN, vectors.c.seq <= upto
    )
    left = np.setdiff1d(keys, np.array(dialect.numbers(connection, dialect.in_one_row(there)), dtype=np.int64))
    removed(connection, space, None)
    if len(left):
        connection.execute(insert(index_removals), [{"vector": key, "space": space} for key in left.tolist()])
    set_indexed_upto(connection, space, upto)


def indexed_among(connection: Connection, space_ids: Sequence[int]) -> dict[int, int]:
    """Those of the spaces that have an index, and how far it reaches."""
    found = connection.execute(_INDEXED_OF, {"spaces": dialect.listed(space_ids)})
    return {int(space): int(upto) for space, upto in found}


def indexed_spaces(connection: Connection) -> dict[int, int]:
    """Spaces that have an index, and how far it reaches."""
    query = select(spaces.c.id, spaces.c.indexed_upto).where(spaces.c.indexed_upto.is_not(None))
    return {int(space): int(upto) for space, upto in connection.execute(query)}


def space_numbers(connection: Connection) -> list[int]:
    """The number of every space."""
    return list(connection.execute(select(spaces.c.id).order_by(spaces.c.id)).scalars())


def count_after(connection: Connection, embedder: int, space: int, upto: int) -> int:
    """How many vectors of a space's main index are above a number."""
    later = select(func.count()).where(
        vectors.c.space == space, vectors.c.embedder == embedder, _MAIN, vectors.c.seq > upto
    )
    return int(connection.execute(later).scalar_one())


def expected_in_index(connection: Connection, embedder: int, space: int, upto: int) -> int:
    """How many entries a space's index must hold: those up to its mark, and those still to be let go."""
    live = select(func.count()).where(
        vectors.c.space == space, vectors.c.embedder == embedder, _MAIN, vectors.c.seq <= upto
    )
    leaving = select(func.count()).where(index_removals.c.space == space, index_removals.c.vector <= upto)
    return int(connection.execute(live).scalar_one()) + int(connection.execute(leaving).scalar_one())


def missing(connection: Connection, embedder: int, limit: int, after: int = 0) -> list[int]:
    """Numbers of memories above `after` without a vector of this embedder, oldest first."""
    query = select(cubes.c.seq).where(cubes.c.seq > after, ~_has_vector(embedder)).order_by(cubes.c.seq)
    return list(connection.execute(query.limit(limit)).scalars())


def missing_count(connection: Connection, embedder: int) -> int:
    """How many memories have no vector of this embedder, of the text that they have now."""
    query = select(func.count()).select_from(cubes).where(~_has_vector(embedder))
    return int(connection.execute(query).scalar_one())


def queue_missing(connection: Connection, embedder: int) -> None:
    """Queue exactly the memories without a vector of this embedder."""
    connection.execute(delete(vector_queue))
    without = select(cubes.c.seq, cubes.c.space).where(~_has_vector(embedder))
    connection.execute(insert(vector_queue).from_select(["cube", "space"], without))


def forget_embedder(connection: Connection, embedder: int, dimensions: int) -> None:
    """Delete every vector of this embedder, which gives vectors of `dimensions` from now on."""
    connection.execute(delete(vectors).where(vectors.c.embedder == embedder))
    connection.execute(update(embedders).where(embedders.c.id == embedder).values(dimensions=dimensions))


def forget_other_embedders(connection: Connection, embedder: int) -> None:
    """Delete the vectors of every embedder but this one."""
    connection.execute(delete(vectors).where(vectors.c.embedder != embedder))


def forget_indexes(connection: Connection) -> None:
    """Note that no space has an index."""
    connection.execute(delete(index_removals))
    connection.execute(update(spaces).values(indexed_upto=None))


def _has_vector(embedder: int) -> ColumnElement[bool]:
    """Whether a memory has a vector of this embedder, or needs none: it is no text, or compressed in the archive."""
    same = (vectors.c.cube == cubes.c.seq) & (vectors.c.embedder == embedder) & _OF_NOW
    return select(vectors.c.seq).where(same).exists() | cubes.c.kind.in_(TEXTLESS) | (cubes.c.snapshot == "")


def _in_index(which: ColumnElement[bool]) -> Select[tuple[int, int]]:
    """Those of the vectors, with their spaces, that an index holds or is to hold."""
    own = select(embedders.c.id).join(meta, (meta.c.key == PIN) & (meta.c.value == embedders.c.identity))
    return (
        select(vectors.c.seq, vectors.c.space)
        .join(spaces, spaces.c.id == vectors.c.space)
        .where(which, _MAIN, vectors.c.embedder.in_(own), spaces.c.indexed_upto.is_not(None))
    )


_LEAVING = _in_index(_OF_THESE)


def _queue_removals(
    connection: Connection, which: Select[tuple[int, int]], values: Mapping[str, str] | None = None
) -> None:
    gone = [{"vector": row.seq, "space": row.space} for row in connection.execute(which, values).all()]
    if gone:
        connection.execute(insert(index_removals), gone)


def _stored(rows: Sequence[tuple[int, int, bytes]], dimensions: int) -> Stored:
    if not rows:
        nothing = np.empty(0, dtype=np.int64)
        return Stored(nothing, nothing, np.empty((0, dimensions), dtype=np.float32))
    keys, cube_seqs, data = zip(*rows, strict=True)
    matrix = _matrix(b"".join(data), dimensions)
    return Stored(np.array(keys, dtype=np.int64), np.array(cube_seqs, dtype=np.int64), matrix)


def _matrix(data: bytes, dimensions: int) -> Matrix:
    return np.frombuffer(data, dtype=HALF).reshape(-1, dimensions).astype(np.float32)


def _parts(values: Sequence[int]) -> list[Sequence[int]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
