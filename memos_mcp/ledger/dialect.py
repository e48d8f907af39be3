"""What SQLite does in its own way: the connection, full text, backups and scrubbing.

Knows nothing of memories: PostgreSQL needs this module's functions again and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Insert,
    QueuePool,
    Select,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import PoolProxiedConnection

from memos_mcp.cube import TEXTLESS
from memos_mcp.ledger.schema import NOT_STANDING, STANDING

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000
PAGE_CACHE_KIB = 2_048
"""Of each connection, of which eight stay open: what lies in the system's own cache is read as fast."""
MOST_CONNECTIONS = 64
"""More calls at once than this wait for one another."""
_DRIVER = "sqlite+memos"
_WRITES = "writes"
"""What a connection's notes hold until the transaction that writes has begun."""
_TEXTLESS = ", ".join(f"'{kind}'" for kind in sorted(TEXTLESS))
TABLES = ("full_text", "cold_text")
"""Full text of the memories that stand, and of those that do not."""


def open_engine(path: Path, *, read_only: bool = False) -> Engine:
    """An engine whose connections are durable (WAL, FULL), keep foreign keys, and zero what they delete."""
    if read_only:
        # Only where nobody can write may the file be taken for one that does not change.
        still = not _has_wal(path) and not os.access(path.parent, os.W_OK)
        url = f"file:{_quoted(path)}?mode=ro" + ("&immutable=1" if still else "")
        engine = create_engine(
            f"{_DRIVER}://",
            creator=lambda: sqlite3.connect(url, uri=True, check_same_thread=False),
            poolclass=QueuePool,  # what SQLAlchemy takes for a creator gives a thread one connection for all it does
            pool_size=8,
            hide_parameters=True,
        )
    else:
        url_of = URL.create(_DRIVER, database=str(path))  # as text, a path with a question mark would be cut
        engine = create_engine(
            url_of, connect_args={"check_same_thread": False}, pool_size=8, max_overflow=MOST_CONNECTIONS - 8,
            hide_parameters=True,
        )  # fmt: skip

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            if sys.platform == "darwin":
                cursor.execute("PRAGMA fullfsync = ON")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: it begins IMMEDIATE, so that it is never told halfway that another was first."""
    with engine.connect() as connection:
        connection.info[_WRITES] = True
        with connection.begin():
            yield connection


class Transactions(SQLiteDialect_pysqlite):
    """Begins each transaction by saying so, which Python's own driver leaves until something is written.

    A listener that did it would have SQLAlchemy look for listeners at every statement, a fifth of what one costs.
    """

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        """Open the transaction; one that writes takes the only right to."""
        dbapi_connection.cursor().execute("BEGIN IMMEDIATE" if dbapi_connection.info.pop(_WRITES, False) else "BEGIN")


registry.register(_DRIVER.replace("+", "."), __name__, Transactions.__name__)


def insert_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """Write a row of a table with a number of its own; returns that number."""
    return int(connection.execute(_insert(table), dict(row)).lastrowid)


@cache
def _insert(table: Table) -> Insert:
    """Inline: SQLAlchemy is not asked for the whole key of the new row, which costs as much as writing it."""
    return insert(table).inline()


def create_full_text(connection: Connection) -> None:
    """The tables of full text: row number = cube seq, content = analysed tokens parted by spaces.

    One holds what stands, which is what ordinary questions probe; the other what does not. Without positions
    (`detail=none`): scoring is done outside, from the tokens themselves.
    """
    for table in TABLES:
        connection.execute(
            text(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(tokens, detail=none, "
                "tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* M* S* P* Co'\")"
            )
        )
        if sqlite3.sqlite_version_info >= (3, 42):
            connection.execute(text(f"INSERT INTO {table}({table}, rank) VALUES('secure-delete', 1)"))


def put_full_text(
    connection: Connection, rows: Sequence[tuple[int, str]], *, cold: bool = False, replace: bool = False
) -> None:
    """Write the tokens of cubes given as (seq, tokens); `cold`: of those that do not stand."""
    if replace:
        remove_full_text(connection, [seq for seq, _ in rows])
    if rows:
        connection.exec_driver_sql(f"INSERT INTO {TABLES[cold]}(rowid, tokens) VALUES (?, ?)", list(rows))


def move_full_text(connection: Connection, seqs: Iterable[int], *, cold: bool) -> None:
    """Move the tokens of cubes among those of what does not stand (`cold`), or back; there already, they stay."""
    here, there, named = TABLES[not cold], TABLES[cold], (listed(seqs),)
    which = "IN (SELECT value FROM json_each(?))"
    connection.exec_driver_sql(
        f"INSERT OR REPLACE INTO {there}(rowid, tokens) SELECT id, c0 FROM {here}_content WHERE id {which}", named
    )
    connection.exec_driver_sql(f"DELETE FROM {here} WHERE rowid {which}", named)


def remove_full_text(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget the tokens of cubes; unknown ones are ignored."""
    for table in TABLES if seqs else ():
        connection.exec_driver_sql(f"DELETE FROM {table} WHERE rowid = ?", [(seq,) for seq in seqs])


def clear_full_text(connection: Connection) -> None:
    """Forget every cube's tokens, before they are written anew."""
    for table in TABLES:
        connection.exec_driver_sql(f"DELETE FROM {table}")


def full_text_rows(
    connection: Connection, words: Sequence[str], scopes: Sequence[str], limit: int, *, cold: bool = False
) -> list[int]:
    """Newest first, at most `limit` (-1: any number of) cubes that hold all of `words` and, when given, one of
    `scopes`; of those that stand, or (`cold`) of those that do not."""
    query = " AND ".join(_phrase(word) for word in words)
    if scopes:
        query = f"({' OR '.join(_phrase(scope) for scope in scopes)}) AND {query}"
    table = TABLES[cold]
    found = connection.exec_driver_sql(
        "SELECT group_concat(rowid) FROM "
        f"(SELECT rowid FROM {table} WHERE {table} MATCH ? ORDER BY rowid DESC LIMIT ?)",
        (query, limit),
    )
    return sorted(_split(found.scalar()), reverse=True)


def in_one_row(query: Select[tuple[int]]) -> Select[Any]:
    """A query of one column of whole numbers as `numbers` runs it: a row each would cost Python far more."""
    return select(func.group_concat(query.subquery().c[0]))


def numbers(connection: Connection, joined: Select[Any], values: Mapping[str, Any] | None = None) -> list[int]:
    """The whole numbers of a query that `in_one_row` made; `values` are its parameters'."""
    return _split(connection.execute(joined, values).scalar())


def numbers_array(
    connection: Connection, joined: Select[Any], values: Mapping[str, Any] | None = None
) -> NDArray[np.int64]:
    """What `numbers` gives, as an array."""
    return _numbers(connection.execute(joined, values).scalar())


def blobs_in_one_row(query: Select[tuple[int, int, bytes]]) -> Select[Any]:
    """A query of two whole numbers and a blob as `blobs` runs it, for many rows: between two rows another thread may
    run Python, and a row each would wait for it as often."""
    row = query.subquery().c
    return select(func.group_concat(row[0]), func.group_concat(row[1]), func.group_concat(func.hex(row[2]), ""))


def blobs(
    connection: Connection, joined: Select[Any], values: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bytes]:
    """Both columns of numbers, and the blobs one after the other, of a query that `blobs_in_one_row` made."""
    first, second, data = connection.execute(joined, values).one()
    return _numbers(first), _numbers(second), bytes.fromhex(data or "")


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether a column is one of the whole numbers or texts that parameter `name` lists, as `listed` writes them.

    One statement whatever their number, where SQLAlchemy would write a new one each time.
    """
    return column.in_(select(func.json_each(bindparam(name, type_=String)).table_valued("value").c.value))


def among_these(column: ColumnElement[Any], values: Iterable[int]) -> ColumnElement[bool]:
    """The same for numbers that are known when the statement is made: one parameter, however many they are."""
    given = bindparam(None, listed(values), type_=String, unique=True)
    return column.in_(select(func.json_each(given).table_valued("value").c.value))


def listed(values: Iterable[int] | Iterable[str]) -> str:
    """Whole numbers or texts as the parameter of `among`."""
    given = list(values)
    # of whole numbers Python's own way to write a list is JSON, and a fourth of its cost
    return str(given) if given and type(given[0]) is int else json.dumps(given)


def full_text_tokens(connection: Connection, seqs: Iterable[int]) -> dict[int, str]:
    """The analysed tokens of cubes, by seq."""
    found: dict[int, str] = {}
    for part in _parts(list(seqs)):
        marks = ",".join("?" * len(part))
        for table in TABLES:
            rows = connection.exec_driver_sql(f"SELECT id, c0 FROM {table}_content WHERE id IN ({marks})", tuple(part))
            found.update((row[0], row[1]) for row in rows.fetchall())
    return found


_NAMED = "c.seq IN (SELECT value FROM json_each(?))"
Indexed = tuple[int, int, str | None, str, str]
"""A memory as search reads it: space, seq, session, becomes_true, tokens."""


def indexed_rows(
    connection: Connection,
    space_ids: Sequence[int],
    *,
    after: int = 0,
    seqs: Sequence[int] | None = None,
    limit: int = -1,
) -> list[Indexed]:
    """Standing memories of the spaces, oldest first: the first `limit` numbered above `after`, or those of `seqs`."""
    which, value = _NAMED, listed(seqs or ())
    if seqs is None:
        which, value = "c.seq > CAST(? AS INTEGER)", str(after)
    # the plus keeps newer rows from being found through an index of the space: by number they are few
    space = "+c.space" if after or seqs is not None or limit >= 0 else "c.space"
    where = f"{space} IN ({_marks(space_ids)}) AND {which} AND {STANDING}"
    return _indexed(connection, where, (*space_ids, value), limit)


def indexed_rows_of(connection: Connection, seqs: Sequence[int], *, cold: bool = False) -> list[Indexed]:
    """Memories by number, oldest first; without `cold` only those that stand; unknown ones are left out."""
    return _indexed(connection, _NAMED if cold else f"{_NAMED} AND {STANDING}", (listed(seqs),), cold=cold)


def seqs_between(
    connection: Connection, space_ids: Sequence[int], first: str, end: str, limit: int, *, cold: bool = False
) -> list[int]:
    """Numbers of the newest memories of the spaces that became true from `first` up to `end`, which is left out.

    Of those that stand, or (`cold`) of those that do not; a limit of -1 is none.
    """
    which = NOT_STANDING if cold else STANDING
    found = connection.exec_driver_sql(
        f"SELECT group_concat(seq) FROM (SELECT seq FROM cubes WHERE space IN ({_marks(space_ids)}) "
        f"AND becomes_true >= ? AND becomes_true < ? AND {which} ORDER BY seq DESC LIMIT ?)",
        (*space_ids, first, end, limit),
    )
    return _split(found.scalar())


def _indexed(
    connection: Connection, where: str, values: tuple[Any, ...], limit: int = -1, *, cold: bool = False
) -> list[Indexed]:
    words, joined = "f.c0", "LEFT JOIN full_text_content f ON f.id = c.seq"
    if cold:
        words, joined = "f.c0, g.c0", f"{joined} LEFT JOIN cold_text_content g ON g.id = c.seq"
    query = (
        f"SELECT c.space, c.seq, c.session, c.becomes_true, coalesce({words}, '') "
        f"FROM cubes c {joined} WHERE {where} AND c.kind NOT IN ({_TEXTLESS}) ORDER BY c.seq LIMIT ?"
    )
    return [(r[0], r[1], r[2], r[3], r[4]) for r in connection.exec_driver_sql(query, (*values, limit)).fetchall()]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def full_text_size(connection: Connection) -> int:
    """How many cubes full text covers."""
    counted = (f"SELECT count(*) FROM {table}_content" for table in TABLES)
    return sum(int(connection.exec_driver_sql(query).scalar() or 0) for query in counted)


def full_text_astray(connection: Connection) -> int:
    """How many cubes stand and have their tokens among what does not, or the other way round."""
    counted = (
        f"SELECT count(*) FROM {table}_content f JOIN cubes c ON c.seq = f.id WHERE {wrong}"
        for table, wrong in zip(TABLES, (NOT_STANDING, STANDING), strict=True)
    )
    return sum(int(connection.exec_driver_sql(query).scalar() or 0) for query in counted)


def scrub_full_text(connection: Connection) -> None:
    """Leave no token of deleted rows in the index, where SQLite (before 3.42) cannot do so at deletion."""
    if sqlite3.sqlite_version_info < (3, 42):
        for table in TABLES:
            connection.exec_driver_sql(f"INSERT INTO {table}({table}) VALUES('optimize')")


def truncate_log(engine: Engine) -> bool:
    """Carry the write-ahead log into the main file and cut it to nothing; False if a reader or the disk forbids."""
    rows = _outside_transactions(engine, "PRAGMA wal_checkpoint(TRUNCATE)")
    return rows is not None and not rows[0][0]


def vacuum(engine: Engine) -> bool:
    """Rewrite the main file, so that it holds nothing but live rows; False if there is not as much free space again."""
    return _outside_transactions(engine, "VACUUM") is not None


def _outside_transactions(engine: Engine, statement: str) -> list[Any] | None:
    """The rows of a statement that no transaction may hold; None when SQLite refuses it."""
    try:
        connection = engine.raw_connection()
    except (DatabaseError, sqlite3.Error):  # what prepares a connection meets SQLite's own
        return None
    try:
        return list(connection.execute(statement).fetchall())
    except sqlite3.Error as error:
        log.warning("%s: %s", statement, error)
        return None
    finally:
        connection.close()


def backup(engine: Engine, target: Path) -> None:
    """Copy the whole ledger through SQLite's backup API, consistent while it is in use."""
    partial = target.with_name(target.name + ".part")
    source = engine.raw_connection()
    try:
        copy = sqlite3.connect(partial)
        try:
            source.backup(copy)
        finally:
            copy.close()
    finally:
        source.close()
    partial.replace(target)


def sequence(connection: Connection, table: str) -> int:
    """The highest number an autoincrement table has given out."""
    found = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).scalar()
    return int(found or 0)


def check(connection: Connection) -> list[str]:
    """Complaints of SQLite's own quick integrity check; none when the file is sound."""
    found = [row[0] for row in connection.exec_driver_sql("PRAGMA quick_check(5)")]
    return [] if found == ["ok"] else found


def _parts(seqs: list[int], size: int = 500) -> Iterable[list[int]]:
    for start in range(0, len(seqs), size):
        yield seqs[start : start + size]


def _split(joined: str | None) -> list[int]:
    found: list[int] = _numbers(joined).tolist()
    return found


def _numbers(joined: str | None) -> NDArray[np.int64]:
    return np.fromstring(joined or "", dtype=np.int64, sep=",")  # ten times as fast as a whole number each in Python


def _phrase(token: str) -> str:
    return f'"{token}"'


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _has_wal(path: Path) -> bool:
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0
