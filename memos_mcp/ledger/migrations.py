"""The ledger's schema as an append-only list of migrations, each one transaction with its record.

Knows nothing of what the tables are for. A new migration is appended, never edited: stores out there have run it. The
first one makes the newest tables, so that each later one looks whether it is still to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert, inspect, select

from memos_mcp.cube import instant
from memos_mcp.errors import StoreTooNew
from memos_mcp.ledger import dialect, schema
from memos_mcp.version import VERSION

KEPT_BACKUPS = 3


@dataclass(frozen=True)
class Migration:
    """A step from one schema to the next."""

    name: str
    apply: Callable[[Connection], None]


def _first_schema(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    dialect.create_full_text(connection)


def _requests_and_answers(connection: Connection) -> None:
    if any(column["name"] == "request" for column in inspect(connection).get_columns("operations")):
        return  # made just now, by the first migration
    for column in ("request VARCHAR", "answer TEXT"):
        connection.exec_driver_sql(f"ALTER TABLE operations ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE UNIQUE INDEX operations_by_request ON operations (request)")


def _graph(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.entities, schema.mentions, schema.relations])


def _contexts(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.contexts, schema.context_lines])
    pinned = next(index for index in schema.cubes.indexes if index.name == "cubes_pinned")
    pinned.create(connection, checkfirst=True)


def _states(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.kept_states, schema.state_parts, schema.promoted_cubes])


MIGRATIONS: tuple[Migration, ...] = (
    Migration("first schema", _first_schema),
    Migration("requests and answers", _requests_and_answers),
    Migration("graph", _graph),
    Migration("contexts", _contexts),
    Migration("states of the local model", _states),
)


def migrate(
    engine: Engine, backups: Path, now: datetime, migrations: Sequence[Migration] = MIGRATIONS
) -> list[str]:
    """Bring the ledger to the newest schema; return the names of what was applied.

    Before a migration of a ledger that holds anything, a backup is written to `backups` (the last three are kept).

    Raises:
        StoreTooNew: the ledger has a migration that this version does not know; nothing was touched.
    """
    with engine.connect() as connection:
        done, writer = state(connection)
    if done > len(migrations):
        raise StoreTooNew(done, len(migrations), writer, VERSION)
    applied = []
    for number in range(done, len(migrations)):
        if done:
            _backup(engine, backups, number)
        with engine.connect().execution_options(write=True) as connection, connection.begin():
            migrations[number].apply(connection)
            row = {"number": number + 1, "name": migrations[number].name, "applied": instant(now), "writer": VERSION}
            connection.execute(insert(schema.applied_migrations), row)
        applied.append(migrations[number].name)
    return applied


def state(connection: Connection) -> tuple[int, str]:
    """How many migrations the ledger has had, and the version of memos-mcp that made the last one."""
    table = schema.applied_migrations
    if not inspect(connection).has_table(table.name):
        return 0, ""
    done = connection.execute(select(func.count()).select_from(table)).scalar_one()
    last = select(table.c.writer).order_by(table.c.number.desc()).limit(1)
    return int(done), str(connection.execute(last).scalar() or "")


def _backup(engine: Engine, folder: Path, number: int) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    dialect.backup(engine, folder / f"ledger-before-{number + 1:04d}.db")
    for old in sorted(folder.glob("ledger-before-*.db"))[:-KEPT_BACKUPS]:
        old.unlink()
