"""Sections loop and beside: what the life of memories costs the ledger at a million, and searches at 10,000.

The million are rows copied within a ledger, without vectors or words but for those that are to be archived. Knows the
tables of the ledger; the rules of life it only runs.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from sqlalchemy import Connection

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import ask_all, eventually, serving, wake, warm
from benchmarks.stores import mark, opened, rebuilt
from memos_mcp.cube import instant
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import graph, reviews, tiers
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.reviews import Place, SpacePolicy
from memos_mcp.lifecycle import following
from memos_mcp.lifecycle.plan import BATCH
from memos_mcp.scheduler import merging
from memos_mcp.scheduler.loop import Loop
from memos_mcp.settings import write_config

MILLION, QUICK = 1_000_000, 20_000
BASE = 1_000
TARGET_MS = 50.0
TIMES_IDLE = 1.5
BESIDE = 10_000
TICKS = 200
OLD_DAYS = 400
LIMIT_S = 600.0


class Timed:
    """A ledger that notes how long each transaction was held, in seconds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.read_only, self.path = ledger.read_only, ledger.path
        self.get, self.put = ledger.get, ledger.put
        self.wrote: list[float] = []
        self.read_s: list[float] = []

    @contextmanager
    def read(self) -> Iterator[Connection]:
        began = time.perf_counter()
        with self._ledger.read() as connection:
            yield connection
        self.read_s.append(time.perf_counter() - began)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        began = time.perf_counter()
        with self._ledger.write() as connection:
            yield connection
        self.wrote.append(time.perf_counter() - began)


def loop(plan: Plan) -> None:
    """Ledger time of each kind of tick at a million memories."""
    size, ticks = (QUICK, 20) if plan.quick else (MILLION, TICKS)
    kept = plan.work.folder / f"life-{size}"
    if rebuilt(kept):
        _build(plan, kept, size, ticks)
    with plan.work.copy_of_folder(kept) as home, opened(home) as kernel:
        parts = kernel.api.parts
        assert parts.life is not None
        timed = Timed(kernel.ledger)
        runs = Loop(parts, replace(parts.life, ledger=cast("Ledger", timed)))
        note = f"{size:,} memories"
        _measure(plan, timed, runs, "following changes", note, ticks)
        _use(kernel, ticks)
        _measure(plan, timed, runs, "heeding uses", note, ticks)
        _use(kernel, ticks)
        with _near_duplicates_sought(kernel) as sought:
            _measure(plan, timed, runs, "heeding uses beside a heavy job", note, ticks)
            plan.work.say(f"beside it near-duplicates of {sought()} memories were looked for")
        _measure(plan, timed, runs, "archiving what is due", note, ticks)
        with kernel.ledger.write() as connection:
            late = instant(datetime.now(UTC) + timedelta(days=30))
            connection.exec_driver_sql("UPDATE reviews SET at = ? WHERE at < ?", (late, late))
        while parts.life is not None and following.follow(parts.life):
            pass
        with kernel.ledger.write() as connection:
            connection.exec_driver_sql("UPDATE reviews SET at = ? WHERE at < ?", (late, late))
            stand = reviews.size_of(connection, 1)[0]
            wanted = f"at most {stand - BATCH * ticks // 4} memories"
            reviews.give_policy(connection, SpacePolicy(1, wanted, None, "bench"))
        _measure(plan, timed, runs, "thinning out a crowded space", note, ticks // 4)
        with kernel.ledger.write() as connection:
            following.judge_anew(parts.life, connection)
        _measure(plan, timed, runs, "judging anew", note, ticks)


@contextmanager
def _near_duplicates_sought(kernel: Kernel) -> Iterator[Callable[[], int]]:
    """A heavy job that runs while the block lasts; how many memories it has looked at, more than none."""
    parts = kernel.api.parts

    def looked_at() -> int:
        with kernel.ledger.read() as connection:
            return int(kernel.ledger.get(connection, merging.NOTE) or BASE) - BASE

    with kernel.ledger.write() as connection:
        kernel.ledger.put(connection, merging.NOTE, str(BASE))
    job = merging.queue(parts)
    assert job is not None
    eventually(lambda: looked_at() > 0, LIMIT_S, "a job that looks for near-duplicates")
    yield looked_at
    parts.jobs.cancel(job)
    eventually(lambda: not parts.jobs.unfinished(merging.KIND), LIMIT_S, "a cancelled job's end")


def _use(kernel: Kernel, ticks: int) -> None:
    """Have the last memories been used, for so many ticks."""
    with kernel.ledger.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO usage(cube, at, event, principal) SELECT seq, ?, 'served', 'bench' FROM cubes "
            "ORDER BY seq DESC LIMIT ?", (kernel.api.parts.stamp(), ticks * following.USES),
        )  # fmt: skip


def _build(plan: Plan, kept: Path, size: int, ticks: int) -> None:
    """The store of a million, made once: it is not whole until it is marked so."""
    with plan.work.copy_of(BASE) as home:
        write_config(home, "life", "off")
        write_config(home, "index_from", 10**9)
        with opened(home) as kernel:
            kernel.api.parts.weaver.catch_up()
            kernel.segmenter.catch_up()
        began = time.perf_counter()
        _multiply(home, size, ticks)
        plan.work.say(f"{size:,} rows made in {time.perf_counter() - began:.0f} s")
        shutil.move(home, kept)
    mark(kept, whole=True)


def _measure(plan: Plan, timed: Timed, runs: Loop, what: str, note: str, ticks: int) -> None:
    """Ledger time of ticks: of a tick's transactions the one that keeps other writers waiting, and all."""
    held, both = [], []
    for _ in range(ticks):
        timed.wrote, timed.read_s = [], []
        if runs.tick().idle:
            break
        held.append(sum(timed.wrote))
        both.append(sum(timed.wrote) + sum(timed.read_s))
    if not held:
        plan.figure("loop", f"a tick of {what}", None, "ms", note="there was nothing to do")
        return
    for name, times, about in (("writing", held, f"{note}; {len(held)} ticks, "), ("reading and writing", both, "")):
        said = f"{about}p50 {milliseconds(times, 0.5):.1f} ms, longest {1e3 * max(times):.1f} ms"
        plan.figure("loop", f"a tick of {what}, {name}, p95", milliseconds(times, 0.95), "ms", TARGET_MS, note=said)


def _multiply(home: Path, size: int, ticks: int) -> None:
    """Copy the memories of a store until there are so many, with changes, reviews and sums, as if all but the last had
    been followed; some are due, and these have words and vectors."""
    now = datetime.now(UTC)
    old, soon = instant(now - timedelta(days=OLD_DAYS)), instant(now + timedelta(days=30))
    due, behind = 2 * BATCH * ticks, following.BATCH * ticks
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as ledger:
        base = ledger.execute("SELECT count(*) FROM cubes").fetchone()[0]
        columns = [row[1] for row in ledger.execute("PRAGMA table_info(cubes)")]
        taken = {"seq": "?1 + n", "id": "printf('01BENCH%019d', n)", "uses": "n % 5"}
        taken |= dict.fromkeys(("created", "updated", "last_used"), "?2")
        chosen = ", ".join(taken.get(name, f"c.{name}") for name in columns)
        ledger.execute("BEGIN")
        _forget_reviews(ledger)
        ledger.execute(
            "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < ?3) "
            f"INSERT INTO cubes({', '.join(columns)}) SELECT {chosen} FROM up JOIN cubes c ON c.seq = 1 + n % ?1",
            (base, old, size - base),
        )
        op = ledger.execute("SELECT max(seq) FROM operations").fetchone()[0]
        ledger.execute(
            "INSERT INTO operations(seq, id, verb, principal, at, purged) SELECT ?1 + (seq - ?2 + 1999) / 2000, "
            "'bench' || seq, 'add', 'bench', ?3, 0 FROM cubes WHERE seq > ?2 AND (seq - ?2 - 1) % 2000 = 0",
            (op, base, old),
        )
        ledger.execute(
            "INSERT INTO changes(op, cube, to_version, to_state) SELECT ?1 + (seq - ?2 + 1999) / 2000, id, 1, state "
            "FROM cubes WHERE seq > ?2", (op, base),
        )  # fmt: skip
        _with_derivatives(ledger, base, due)
        ledger.execute(
            "INSERT INTO reviews(cube, space, at, size) SELECT seq, space, CASE WHEN seq <= ?1 THEN ?2 ELSE ?3 END, "
            "length(CAST(json_extract(snapshot, '$.content') AS BLOB)) FROM cubes WHERE seq <= ?4",
            (base + due, old, soon, size - behind),
        )
        ledger.execute("INSERT INTO space_sizes SELECT space, count(*), sum(size) FROM reviews GROUP BY space")
        last = ledger.execute(
            "SELECT op, cube FROM changes ORDER BY op DESC, cube DESC LIMIT 1 OFFSET ?", (behind,)
        ).fetchone()
        use = ledger.execute("SELECT coalesce(max(seq), 0) FROM usage").fetchone()[0]
        place = Place(last[0], last[1], use, rules="180 0.4 decay").as_json()
        ledger.execute("INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", (following.NOTE, place))
        top = ledger.execute("SELECT op, cube FROM changes ORDER BY op DESC, cube DESC LIMIT 1").fetchone()
        _all_is_read(ledger, top)
        ledger.execute("COMMIT")
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _with_derivatives(ledger: sqlite3.Connection, base: int, due: int) -> None:
    """Words and vectors of the memories that are to be archived, as those have that they were copied from."""
    ledger.execute(
        "INSERT INTO full_text(rowid, tokens) SELECT c.seq, t.c0 FROM cubes c JOIN full_text_content t "
        "ON t.id = 1 + (c.seq - ?1) % ?1 WHERE c.seq > ?1 AND c.seq <= ?1 + ?2", (base, due),
    )  # fmt: skip
    ledger.execute(
        "INSERT INTO vectors(cube, version, space, embedder, tier, data) SELECT c.seq, 1, c.space, v.embedder, v.tier, "
        "v.data FROM cubes c JOIN vectors v ON v.cube = 1 + (c.seq - ?1) % ?1 WHERE c.seq > ?1 AND c.seq <= ?1 + ?2",
        (base, due),
    )


def _all_is_read(ledger: sqlite3.Connection, top: tuple[int, str]) -> None:
    """Note that all is read that graph, topics and near-duplicates are made from: what they would do beside is not
    measured here."""
    ledger.execute("UPDATE meta SET value = (SELECT max(seq) FROM cubes) WHERE key = ?", (merging.NOTE,))
    for note in (graph.NOTE, tiers.NOTE):
        found = ledger.execute("SELECT value FROM meta WHERE key = ?", (note,)).fetchone()
        place = json.dumps([json.loads(found[0])[0], *top])
        ledger.execute("UPDATE meta SET value = ? WHERE key = ?", (place, note))


def beside(plan: Plan) -> None:
    """Searches while the loop archives a whole store, beside those of the same store with the loop off."""
    size, rounds = (1_000, 1) if plan.quick else (BESIDE, 5)
    asked = texts.questions(100, size)
    idle = _idle_p95(plan, size, asked, rounds)
    with plan.work.copy_of(size) as home:
        with closing(sqlite3.connect(home / "ledger.db")) as ledger, ledger:
            _all_due(ledger)
        with serving(home) as client:
            wake(client)
            for place, what in enumerate(("reads the changes", "archives")):
                _wait_for_more(home, place, what)
                began, times = _figures(home), list[float]()
                while len(times) < rounds * 100 and _figures(home)[1] < size:
                    times += ask_all(client, asked[len(times) % len(asked) :][:10])
                after = _figures(home)
                done = f"meanwhile {after[0] - began[0]:,} were read and {after[1] - began[1]:,} archived"
                note = f"{len(times)} searches at {size:,}, all of them due; {done}; idle p95 {idle:.1f} ms"
                name = f"search p95 while the loop {what}"
                plan.figure("beside", name, milliseconds(times, 0.95), "ms", TIMES_IDLE * idle, note=note)
    _beside_everything(plan, size, asked, rounds, idle)


def _beside_everything(plan: Plan, size: int, asked: list[str], rounds: int, idle: float) -> None:
    """Searches while all is read anew, as after an upgrade, and due: graph, topics, merging, summaries, the archive."""
    with plan.work.copy_of(size) as home:
        for name, value in (("merge_from", 95), ("summaries", "rules"), ("compress_after", 1)):
            write_config(home, name, value)
        with closing(sqlite3.connect(home / "ledger.db")) as ledger, ledger:
            _all_due(ledger)
            ledger.execute("UPDATE meta SET value = '0' WHERE key = ?", (merging.NOTE,))
            notes = (graph.NOTE, tiers.NOTE)
            ledger.execute("UPDATE meta SET value = json_set(value, '$[0]', -1) WHERE key IN (?, ?)", notes)
        with serving(home) as client:
            wake(client)
            times = list[float]()
            while len(times) < rounds * 100 and _figures(home)[1] < size:
                times += ask_all(client, asked[len(times) % len(asked) :][:10])
            judged, archived = _figures(home)
            read = _read_anew(home)
        after = _idle_p95(plan, size, asked, rounds)
    note = (
        f"{len(times)} searches at {size:,}; {read:.0%} read anew, {judged:,} judged and {archived:,} archived then; "
        f"idle p95 {idle:.1f} ms before and {after:.1f} after"
    )
    wanted = TIMES_IDLE * (idle + after) / 2
    plan.figure("beside", "search p95 beside everything at once", milliseconds(times, 0.95), "ms", wanted, note=note)


def _all_due(ledger: sqlite3.Connection) -> None:
    """Make every memory old, and unknown to the loop."""
    old = instant(datetime.now(UTC) - timedelta(days=OLD_DAYS))
    ledger.execute("UPDATE cubes SET created = ?, updated = ?, last_used = NULL", (old, old))
    _forget_reviews(ledger)


def _forget_reviews(ledger: sqlite3.Connection) -> None:
    """Have the loop know none of what the store has settled."""
    for table in ("reviews", "space_sizes"):
        ledger.execute(f"DELETE FROM {table}")
    ledger.execute("DELETE FROM meta WHERE key = ?", (following.NOTE,))


def _read_anew(home: Path) -> float:
    """The share of the changes that graph and topics have read, of the one that has read less."""
    with closing(sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True, timeout=10)) as ledger:
        last = ledger.execute("SELECT max(op) FROM changes").fetchone()[0]
        rows = ledger.execute("SELECT value FROM meta WHERE key IN (?, ?)", (graph.NOTE, tiers.NOTE)).fetchall()
    return min((json.loads(value)[1] / last for (value,) in rows), default=0.0)


def _idle_p95(plan: Plan, size: int, asked: list[str], rounds: int) -> float:
    with plan.work.copy_of(size) as home:
        write_config(home, "life", "off")
        with serving(home) as client:
            warm(client)
            return milliseconds(ask_all(client, asked * rounds), 0.95)


def _wait_for_more(home: Path, place: int, what: str) -> None:
    begun = _figures(home)[place]
    eventually(lambda: _figures(home)[place] > begun, LIMIT_S, f"a loop that {what}")


def _figures(home: Path) -> tuple[int, int]:
    """How many memories have a review, or had one, and how many are archived."""
    with closing(sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True, timeout=10)) as ledger:
        archived = ledger.execute("SELECT count(*) FROM cubes WHERE state = 'archived'").fetchone()[0]
        known = "SELECT count(*) FROM cubes WHERE state = 'archived' OR seq IN (SELECT cube FROM reviews)"
        return ledger.execute(known).fetchone()[0], archived
