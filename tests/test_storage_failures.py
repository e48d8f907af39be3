"""A full disk or a directory that can only be read: refused with the reason, nothing half stored, reading goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from person import Person
from sqlalchemy import event

from memos_mcp.errors import StorageFailed
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect

PROGRAM = Path(__file__).with_name("cramped.py")


@contextmanager
def full_disk(kernel: Kernel) -> Iterator[None]:
    """No page more fits into the ledger's file, until the block ends."""

    def limit(connection: Any, *_: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}").close()

    def lift(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1073741823").close()

    engine = kernel.ledger.engine
    event.listen(engine, "checkout", limit)
    yield
    event.remove(engine, "checkout", limit)
    event.listen(engine, "checkout", lift)


def test_on_a_full_disk_nothing_is_half_stored_and_reading_goes_on(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The gate code is 4711")
    long = "filler " * 20_000
    with kernel.ledger.read() as connection:
        before = {**kernel.api.read.stats(ada.caller), "working": None}  # what is held in memory is another matter
        assert dialect.check(connection) == []
    with full_disk(kernel):
        for act in (
            lambda: ada.add(long),
            lambda: ada.add(messages=[{"role": "user", "content": f"{i} {long}"} for i in range(9)]),
            lambda: ada.update(cube, content=long),
        ):
            with pytest.raises(StorageFailed, match="the disk is full: free some space"):
                act()
        assert ada.text(cube) == "The gate code is 4711"
        assert ada.ids("gate code") == [cube]
        assert {**kernel.api.read.stats(ada.caller), "working": None} == before
    added = ada.keep(long)
    assert ada.ids("filler", top_k=1) == [added]
    with kernel.ledger.read() as connection:
        assert dialect.check(connection) == []


def test_a_purge_on_a_full_disk_erases_all_or_nothing(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"Fact number {i} " + "filler " * 500) for i in range(20)]
    with full_disk(kernel):
        try:
            gone = ada.forget(*cubes, mode="purge")["affected"]
        except StorageFailed:
            gone = []
        left = [cube for cube in cubes if cube in ada.ids("fact number filler", top_k=50)]
    assert sorted(gone + left) == sorted(cubes)
    assert not gone or not left


def test_usage_that_cannot_be_written_does_not_disturb_the_search(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The gate code is 4711")
    with full_disk(kernel):
        for _ in range(300):
            assert ada.ids("gate code") == [cube]
        kernel.api.parts.usage.flush()
    assert ada.text(cube) == "The gate code is 4711"


def run(home: Path, work: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(home), work],
        capture_output=True, text=True, timeout=120, check=False, env={"PYTHONPATH": str(PROGRAM.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_survived_like_a_full_disk(home: Path) -> None:
    told = run(home, "small-files")
    assert told["refused"], "it came to the limit"
    assert all("was not changed, because" in reason and "disk" in reason for reason in told["refused"])
    assert told["read"] == told["kept"]
    assert told["after"] == "Space is back"
    assert told["check"] == []
    assert told["closed"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
def test_a_directory_that_can_only_be_read_is_read(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The gate code is 4711")
    home = kernel.settings.home
    kernel.close()
    closed = [path for path in home.parents if path.stat().st_mode & 0o005 != 0o005]
    modes = {path: path.stat().st_mode & 0o7777 for path in [*closed, home]}
    for name in ("ledger.db", "config.toml"):
        (home / name).chmod(0o444)
    home.chmod(0o555)
    try:
        for path in closed:
            path.chmod(modes[path] | 0o055)
        told = run(home, "read-only")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
        for name in ("ledger.db", "config.toml"):
            (home / name).chmod(0o600)
    if "skip" in told:
        pytest.skip(told["skip"])
    assert told["found"] == [cube]
    assert told["text"] == "The gate code is 4711"
    assert set(told["refused"]) == {"add", "update", "forget", "undo", "filter"}
    assert all("read-only" in reason for reason in told["refused"].values())
    kernel = open_kernel()
    assert Person(kernel.api, "ada").keep("Writable again")
