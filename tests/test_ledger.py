"""The ledger: durable settings, transactions, and migrations that lose nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from person import Person
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from memos_mcp.errors import StorageFailed, StoreTooNew
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.migrations import KEPT_BACKUPS, MIGRATIONS, Migration, migrate
from memos_mcp.version import VERSION

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def adds_column(name: str) -> Migration:
    return Migration(f"add {name}", lambda connection: run(connection, f"ALTER TABLE meta ADD COLUMN {name} TEXT"))


def run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def columns(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(meta)")]


def open_ledger(path: Path, backups: Path) -> Ledger:
    return Ledger.open(path, backups, NOW)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1), ("busy_timeout", 10_000)],
)
def test_every_connection_is_durable_and_strict(path: Path, backups: Path, pragma: str, value: object) -> None:
    ledger = open_ledger(path, backups)
    with ledger.read() as one, ledger.read() as two, ledger.write() as three:
        found = [c.exec_driver_sql(f"PRAGMA {pragma}").scalar() for c in (one, two, three)]
    ledger.close()
    assert found == [value] * 3


def test_the_file_is_for_its_owner_alone(path: Path, backups: Path) -> None:
    open_ledger(path, backups).close()
    assert path.stat().st_mode & 0o077 == 0


def test_foreign_keys_are_kept(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with pytest.raises(StorageFailed, match="FOREIGN KEY"), ledger.write() as connection:
        run(connection, "INSERT INTO tags(space, tag, cube) VALUES (1, 'x', 999)")
    ledger.close()


def test_a_transaction_is_whole_or_not_at_all(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with ledger.write() as connection:
        ledger.put(connection, "kept", "1")

    def fails() -> None:
        with ledger.write() as connection:
            ledger.put(connection, "kept", "2")
            ledger.put(connection, "lost", str(1 // 0))

    with pytest.raises(ZeroDivisionError):
        fails()
    with ledger.read() as connection:
        assert ledger.get(connection, "kept") == "1"
        assert ledger.get(connection, "lost") is None
    with ledger.write() as connection:
        ledger.put(connection, "kept", None)
        assert ledger.get(connection, "kept") is None
    ledger.close()


def test_a_reader_sees_one_moment(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with ledger.read() as reader:
        assert ledger.get(reader, "note") is None
        with ledger.write() as writer:
            ledger.put(writer, "note", "new")
        assert ledger.get(reader, "note") is None
    with ledger.read() as reader:
        assert ledger.get(reader, "note") == "new"
    ledger.close()


def test_closing_twice_leaves_no_log_behind(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with ledger.write() as connection:
        ledger.put(connection, "note", "new")
    ledger.close()
    ledger.close()
    wal = path.with_name("ledger.db-wal")
    assert not wal.exists() or wal.stat().st_size == 0


def test_a_new_ledger_needs_no_backup_and_migrating_again_does_nothing(path: Path, backups: Path) -> None:
    engine = dialect.open_engine(path)
    assert migrate(engine, backups, NOW) == [migration.name for migration in MIGRATIONS]
    assert migrate(engine, backups, NOW) == []
    engine.dispose()
    assert not backups.exists() or not list(backups.iterdir()) or len(MIGRATIONS) > 1


def test_a_migration_backs_up_first_and_the_last_three_are_kept(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with ledger.write() as connection:
        ledger.put(connection, "note", "mine")
    more = [adds_column(f"c{i}") for i in range(5)]
    for i in range(1, 6):
        assert migrate(ledger.engine, backups, NOW, [*MIGRATIONS, *more[:i]]) == [f"add c{i - 1}"]
    assert columns(ledger.engine) == ["key", "value", "c0", "c1", "c2", "c3", "c4"]
    ledger.close()
    kept = sorted(backups.glob("*.db"))
    assert len(kept) == KEPT_BACKUPS == 3
    with sqlite3.connect(kept[-1]) as old:
        assert old.execute("SELECT value FROM meta WHERE key = 'note'").fetchone() == ("mine",)
        assert len(old.execute("PRAGMA table_info(meta)").fetchall()) == 6
    old.close()
    assert list(backups.glob("*.part")) == []


def test_a_failing_migration_leaves_the_store_as_it_was(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    with ledger.write() as connection:
        ledger.put(connection, "note", "mine")

    def fails(connection: Connection) -> None:
        run(connection, "ALTER TABLE meta ADD COLUMN half TEXT")
        run(connection, "DELETE FROM meta")
        run(connection, "SELECT * FROM nowhere")

    steps = [*MIGRATIONS, adds_column("first"), Migration("fails", fails)]
    with pytest.raises(OperationalError, match="nowhere"):
        migrate(ledger.engine, backups, NOW, steps)
    assert columns(ledger.engine) == ["key", "value", "first"]
    with ledger.read() as connection:
        assert ledger.get(connection, "note") == "mine"
    assert migrate(ledger.engine, backups, NOW, [*steps[:-1], adds_column("second")]) == ["add second"]
    ledger.close()


def test_a_newer_store_is_refused_with_both_versions_named(path: Path, backups: Path) -> None:
    ledger = open_ledger(path, backups)
    migrate(ledger.engine, backups, NOW, [*MIGRATIONS, adds_column("later")])
    with ledger.write() as connection:
        run(connection, "UPDATE applied_migrations SET writer = '9.8.7' WHERE name = 'add later'")
    ledger.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew) as caught:
        open_ledger(path, backups)
    assert "9.8.7" in str(caught.value)
    assert VERSION in str(caught.value)
    assert (caught.value.found, caught.value.known) == (len(MIGRATIONS) + 1, len(MIGRATIONS))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but long enough for one" * 30, b"SQLite format 3\0" * 99])
def test_a_damaged_file_is_said_to_be_damaged(path: Path, backups: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageFailed, match="damaged"):
        open_ledger(path, backups)
    assert path.read_bytes() == content


def test_a_folder_in_the_place_of_the_file_is_said(path: Path, backups: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageFailed, match="cannot be opened"):
        open_ledger(path, backups)


def test_a_backup_of_a_store_in_use_is_a_whole_store(
    open_kernel: Callable[..., Kernel], tmp_path: Path, backups: Path
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The gate code is 4711")
    dialect.backup(kernel.ledger.engine, tmp_path / "copy.db")
    copy = open_ledger(tmp_path / "copy.db", backups)
    with copy.read() as connection:
        assert dialect.check(connection) == []
        assert kernel.api.parts.vault.by_ids(connection, [cube])[cube].snapshot.content == "The gate code is 4711"
    copy.close()


def test_full_text_written_anew_finds_the_same(ada: Person) -> None:
    cubes = [ada.keep(f"Lamp number {i}") for i in range(30)]
    before = ada.ids("lamp number 17", top_k=5)
    with ada.api.parts.ledger.write() as connection:
        assert ada.api.parts.vault.rebuild_full_text(connection) == 30
        assert dialect.full_text_size(connection) == 30
    assert ada.ids("lamp number 17", top_k=5) == before
    assert before[0] == cubes[17]
