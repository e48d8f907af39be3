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
from memos_mcp.ledger import adapter_schema, channel_tables, dialect, life_schema, schema, working_schema
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


_STOOD = "(superseded_by IS NULL AND state IN ('generated', 'activated', 'frozen'))"


def _main_index_and_cold(connection: Connection) -> None:
    """Vectors and words of memories that do not stand leave the tables' parts that ordinary searches read."""
    if any(column["name"] == "tier" for column in inspect(connection).get_columns("vectors")):
        return  # made just now, by the first migration
    over = f"SELECT seq FROM cubes WHERE NOT {_STOOD}"
    own = "SELECT e.id FROM embedders e JOIN meta m ON m.key = 'embedder' AND m.value = e.identity"
    fallen = "superseded_by IS NOT NULL OR state NOT IN ('generated', 'activated', 'frozen')"
    dialect.create_full_text(connection)
    for statement in (
        "ALTER TABLE vectors RENAME COLUMN current TO tier",
        f"CREATE INDEX cubes_cold ON cubes (space, seq) WHERE ({fallen})",
        "INSERT OR IGNORE INTO index_removals(vector, space) SELECT v.seq, v.space FROM vectors v "
        "JOIN spaces s ON s.id = v.space AND s.indexed_upto IS NOT NULL "
        f"WHERE v.tier = 1 AND v.embedder IN ({own}) AND v.cube IN ({over})",
        f"UPDATE vectors SET tier = 2 WHERE tier = 1 AND cube IN ({over})",
        f"INSERT INTO cold_text(rowid, tokens) SELECT id, c0 FROM full_text_content WHERE id IN ({over})",
        f"DELETE FROM full_text WHERE rowid IN ({over})",
    ):
        connection.exec_driver_sql(statement)


def _contexts(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.contexts, schema.context_lines])
    pinned = next(index for index in schema.cubes.indexes if index.name == "cubes_pinned")
    pinned.create(connection, checkfirst=True)


def _states(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.kept_states, schema.state_parts, schema.promoted_cubes])


def _steering(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=[schema.steerings, schema.steering_sources])
    known = {column["name"] for column in inspect(connection).get_columns("kept_states")}
    for name, kind in (("format", "VARCHAR"), ("layers", "INTEGER"), ("head", "INTEGER"), ("mounted", "VARCHAR")):
        if name not in known:
            connection.exec_driver_sql(f"ALTER TABLE kept_states ADD COLUMN {name} {kind}")


def _life(connection: Connection) -> None:
    """Jobs with leases, moves between spaces, and every table of the life of memories."""
    for table, columns in _LIFE_COLUMNS.items():
        known = {column["name"] for column in inspect(connection).get_columns(table)}
        for name, kind in columns.items():
            if name not in known:
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    tables = [schema.proposals, schema.proposed_cubes, *channel_tables.TABLES]
    tables += [table for module in (life_schema, working_schema) for table in module.TABLES]
    schema.metadata.create_all(connection, tables=tables)
    for index in schema.operations.indexes | schema.cubes.indexes:
        if index.name in ("operations_by_time", "cubes_by_space"):
            index.create(connection, checkfirst=True)


_LIFE_COLUMNS = {
    "jobs": {
        "attempts": "INTEGER NOT NULL DEFAULT 0", "not_before": "VARCHAR", "holder": "VARCHAR",
        "leased_until": "VARCHAR", "priority": "FLOAT NOT NULL DEFAULT 0.5",
        "cancelled": "BOOLEAN NOT NULL DEFAULT 0", "principal": "VARCHAR",
    },
    "changes": {"from_space": "INTEGER", "to_space": "INTEGER"},
}  # fmt: skip


def _adapters(connection: Connection) -> None:
    schema.metadata.create_all(connection, tables=adapter_schema.TABLES)


MIGRATIONS: tuple[Migration, ...] = (
    Migration("first schema", _first_schema),
    Migration("requests and answers", _requests_and_answers),
    Migration("graph", _graph),
    Migration("main index and cold", _main_index_and_cold),
    Migration("contexts", _contexts),
    Migration("states of the local model", _states),
    Migration("steering vectors", _steering),
    Migration("life of memories", _life),
    Migration("adapters", _adapters),
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
        with dialect.writing(engine) as connection:
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
