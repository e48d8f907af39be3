"""Keeps the texts of archived memories compressed: several in one pack, each given back byte for byte.

Knows neither which memories are packed nor why; a text is a version's snapshot as `cubes` and `versions` hold it, and
empty there while it is in a pack.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from memos_mcp.errors import StorageFailed
from memos_mcp.ledger import dialect
from memos_mcp.ledger.life_schema import packed, packs
from memos_mcp.ledger.schema import cubes, versions

PACK = 64
"""Texts in a pack: twice as many save a tenth more and take twice as long to be read."""
LEVEL = 9
_BETWEEN = "\0"
"""Stands between texts: JSON holds none."""
_PART = 500

_OF_KEYS = select(packed).where(dialect.among(packed.c.cube, "cubes"))
_DATA = select(packs.c.id, packs.c.data).where(dialect.among(packs.c.id, "packs"))
_WHOLE = select(cubes.c.seq, cubes.c.version, cubes.c.snapshot).where(
    dialect.among(cubes.c.seq, "cubes"), cubes.c.snapshot != ""
)
_WHOLE_FORMER = select(versions.c.cube, versions.c.version, versions.c.snapshot).where(
    dialect.among(versions.c.cube, "cubes"), versions.c.snapshot != ""
)
_CURRENT = update(cubes).where(cubes.c.seq == bindparam("at")).values(snapshot=bindparam("text"))
_FORMER = (
    update(versions)
    .where(versions.c.cube == bindparam("at"), versions.c.version == bindparam("number"))
    .values(snapshot=bindparam("text"))
)


def put(connection: Connection, space: int, seqs: Sequence[int]) -> int:
    """Move every version's text of these memories of one space into packs; what is packed already stays. Returns how
    many texts."""
    named = {"cubes": dialect.listed(seqs)}
    rows = [(row.seq, row.version, row.snapshot, True) for row in connection.execute(_WHOLE, named)]
    rows += [(row.cube, row.version, row.snapshot, False) for row in connection.execute(_WHOLE_FORMER, named)]
    rows.sort(key=lambda row: row[:2])
    for start in range(0, len(rows), PACK):
        part = rows[start : start + PACK]
        number = dialect.insert_row(connection, packs, {"space": space, "data": _closed([row[2] for row in part])})
        connection.execute(
            insert(packed),
            [{"cube": r[0], "version": r[1], "pack": number, "place": place} for place, r in enumerate(part)],
        )
    _write(connection, [(cube, version, "", current) for cube, version, _, current in rows])
    return len(rows)


def texts(connection: Connection, keys: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The packed texts of versions, given as (cube seq, version).

    Raises:
        StorageFailed: a pack is damaged.
    """
    wanted = set(keys)
    rows = connection.execute(_OF_KEYS, {"cubes": dialect.listed({cube for cube, _ in wanted})}).all()
    rows = [row for row in rows if (row.cube, row.version) in wanted]
    opened = {number: _opened(number, data) for number, data in _read(connection, {row.pack for row in rows})}
    return {(row.cube, row.version): opened[row.pack][row.place] for row in rows}


def filled(connection: Connection, rows: Sequence[tuple[int, int, str]]) -> list[str]:
    """The texts of versions, given as (cube seq, version, text as it stands in its row), read from packs where they are
    there; raises as `texts` does."""
    resting = [(cube, version) for cube, version, text in rows if not text]
    kept = texts(connection, resting) if resting else {}
    return [text or kept[cube, version] for cube, version, text in rows]


def take_out(connection: Connection, seqs: Sequence[int]) -> list[int]:
    """Put the texts of these memories back where they were, and forget them in their packs; returns which of the
    memories had any there."""
    rows = _rows(connection, seqs)
    if not rows:
        return []
    kept = texts(connection, [(cube, version) for cube, version, _, _ in rows])
    now = {row.seq: row.version for row in connection.execute(
        select(cubes.c.seq, cubes.c.version).where(dialect.among(cubes.c.seq, "cubes")),
        {"cubes": dialect.listed({cube for cube, _, _, _ in rows})},
    )}  # fmt: skip
    _write(connection, [(c, v, kept[c, v], now.get(c) == v) for c, v, _, _ in rows])
    _forget(connection, rows)
    return sorted({cube for cube, _, _, _ in rows})


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete every packed text of these memories: their packs are written anew without them."""
    _forget(connection, _rows(connection, seqs))


def is_in(connection: Connection, space_ids: Sequence[int]) -> bool:
    """Whether a memory of these spaces is packed."""
    return connection.execute(select(packs.c.id).where(packs.c.space.in_(space_ids)).limit(1)).first() is not None


def _rows(connection: Connection, seqs: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(cube, version, pack, place) of every packed text of these memories."""
    found = connection.execute(_OF_KEYS, {"cubes": dialect.listed(seqs)}).all() if seqs else []
    return [(row.cube, row.version, row.pack, row.place) for row in found]


def _forget(connection: Connection, rows: Sequence[tuple[int, int, int, int]]) -> None:
    """Blank these texts in their packs, so that the places of the others stay; drop packs that are left without any."""
    gone: dict[int, set[int]] = {}
    for _, _, pack, place in rows:
        gone.setdefault(pack, set()).add(place)
    for number, data in _read(connection, gone):
        left = ["" if place in gone[number] else text for place, text in enumerate(_opened(number, data))]
        if any(left):
            connection.execute(update(packs).where(packs.c.id == number).values(data=_closed(left)))
    by_cube = sorted({cube for cube, _, _, _ in rows})
    for start in range(0, len(by_cube), _PART):
        connection.execute(delete(packed).where(packed.c.cube.in_(by_cube[start : start + _PART])))
    still = select(packed.c.pack).where(packed.c.pack == packs.c.id).exists()
    for start in range(0, len(numbers := sorted(gone)), _PART):
        connection.execute(delete(packs).where(packs.c.id.in_(numbers[start : start + _PART]), ~still))


def _read(connection: Connection, numbers: Iterable[int]) -> list[tuple[int, bytes]]:
    listed = sorted(numbers)
    found = connection.execute(_DATA, {"packs": dialect.listed(listed)}).all() if listed else []
    return [(int(row.id), row.data) for row in found]


def _write(connection: Connection, rows: Sequence[tuple[int, int, str, bool]]) -> None:
    """Write texts, given as (cube, version, text, whether it is the current version)."""
    current = [{"at": cube, "text": text} for cube, _, text, is_current in rows if is_current]
    former = [{"at": cube, "number": v, "text": text} for cube, v, text, is_current in rows if not is_current]
    for statement, values in ((_CURRENT, current), (_FORMER, former)):
        if values:
            connection.execute(statement, values)


def _closed(texts_of: Sequence[str]) -> bytes:
    return zlib.compress(_BETWEEN.join(texts_of).encode(), LEVEL)


def _opened(number: int, data: bytes) -> list[str]:
    try:
        return zlib.decompress(data).decode().split(_BETWEEN)
    except (zlib.error, UnicodeDecodeError) as error:
        raise StorageFailed(
            f"Pack {number} of archived memories in the ledger is damaged ({error}): restore a backup of the ledger."
        ) from error
