"""What is purged is in no file of the data directory: not as text, not as words, not as a vector."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from fakes import FakeEmbedder
from person import INDEX_FROM, Person, eventually
from sqlalchemy import event

from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect
from memos_mcp.memory_api import forget
from memos_mcp.plaintext.analysis import tokens

FIRST = "Canary vaxlorqump sings at brithnavoq when the sun is high"
SECOND = "Canary zempluvarg sings at ostrikhelm when the sun is low"
DERIVED = "A summary: the krovantish bird of yelmodrapt"
WORDS = ("vaxlorqump", "brithnavoq", "zempluvarg", "ostrikhelm", "krovantish", "yelmodrapt")
FILLERS = INDEX_FROM + 100


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder(dimensions=384)


def traces(embedder: FakeEmbedder, texts: Sequence[str] = (FIRST, SECOND, DERIVED)) -> dict[str, bytes]:
    """Every form in which a file could hold the texts, by name."""
    found: dict[str, bytes] = {}
    for text in (*texts, *(word for word in WORDS if any(word in t for t in texts))):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            found[f"{text} in {encoding}"] = text.encode(encoding)
    for text in texts:
        vector = embedder.embed_query(text)
        for kind in ("<f2", "<f4"):
            data = vector.astype(kind).tobytes()
            for start in range(0, len(data), 192):
                if any(data[start : start + 96]):
                    found[f"vector of {text} as {kind} from {start}"] = data[start : start + 96]
    return found


def remnants(home: Path, wanted: dict[str, bytes]) -> list[str]:
    """Which of the byte strings are in which file below the folder."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    return [f"{name}: {path.name}" for path in files for data in [path.read_bytes()]
            for name, trace in wanted.items() if trace in data]  # fmt: skip


def fill(ada: Person, count: int) -> None:
    """Other memories of the same space, so that pages are shared and the space may be large."""
    for start in range(0, count, 1_000):
        said = [{"role": "user", "content": f"Line {i} of the filler"} for i in range(start, min(start + 1_000, count))]
        ada.add(messages=said)
    assert ada.api.parts.indexer.wait_embedded((1,), 120.0)


def job_done(ada: Person, job: str | None) -> bool:
    return job is None or eventually(lambda: ada.api.read.job(job)["state"] == "done", 120.0)


def indexed(ada: Person) -> bool:
    return eventually(lambda: ada.api.read.stats(ada.caller)["indexed_spaces"] == 1, 120.0)


def test_the_words_of_the_canary_are_whole_tokens() -> None:
    assert all(tokens(word) == [word] for word in WORDS)


@pytest.mark.parametrize("fillers", [300, pytest.param(FILLERS, marks=pytest.mark.slow)])
def test_no_byte_of_a_purged_memory_stays_in_any_file(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder, fillers: int
) -> None:
    kernel = open_kernel(index=ChromaIndex(home / "index"))
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST, tags=[WORDS[1]], metadata={"about": WORDS[0]}, source=f"wiki/{WORDS[0]}")
    fill(ada, fillers)
    assert fillers < FILLERS or indexed(ada)
    ada.update(canary, content=SECOND)
    derived = ada.keep(DERIVED, links=[{"to": canary, "relation": "derived_from"}])
    ada.update(derived, tags=["child"])
    kernel.close()
    (home / "backups").mkdir()
    dialect.backup(kernel.ledger.engine, home / "backups" / "ledger-before-0002.db")
    kernel.ledger.engine.dispose()

    kernel = open_kernel(index=ChromaIndex(home / "index"))
    ada = Person(kernel.api, "ada")
    ada.search("canary")
    assert fillers < FILLERS or indexed(ada)
    wanted = traces(embedder)
    assert len({trace.split(": ")[0] for trace in remnants(home, wanted)}) > 15, "the canary can be found at all"
    planned = ada.forget(canary, mode="purge", dry_run=True)
    assert planned["derived"]["cubes"] == [derived]
    done = ada.forget(canary, mode="purge")
    assert set(done["affected"]) == {canary, derived}
    assert ("job" in done) == (fillers >= FILLERS)
    assert job_done(ada, done.get("job"))
    assert remnants(home, wanted) == []
    kernel.close()
    assert remnants(home, wanted) == []
    kernel = open_kernel(index=ChromaIndex(home / "index"))
    assert Person(kernel.api, "ada").ids("line 7 of the filler", top_k=1)


def test_a_memory_purged_before_it_was_embedded_leaves_nothing(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    embedder.down = True
    canary = ada.keep(FIRST)
    assert ada.api.read.stats(ada.caller)["waiting_for_vectors"] == 1
    ada.forget(canary, mode="purge")
    embedder.down = False
    ada.keep("Something else")
    assert ada.api.parts.indexer.wait_embedded((1,), 10.0)
    assert FIRST not in embedder.seen
    assert remnants(home, traces(embedder, [FIRST])) == []


def test_no_byte_of_a_purged_memory_stays_in_a_state_of_the_local_model(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    engine = FakeEngine()
    kernel = open_kernel(engine=lambda _: engine)
    ada = Person(kernel.api, "ada")
    canary, other = ada.keep(FIRST), ada.keep("A bird that may stay, as long as it likes to")
    ada.activate(canary, other)
    ada.activate(other)
    told = ada.ask("Who sings?", ids=[canary], session="birds")
    tokens = ",".join(map(str, engine.tokenize(FIRST))).encode()
    wanted = {**traces(embedder, [FIRST]), "its tokens": tokens}
    assert len(remnants(home, {"its tokens": tokens})) == 2
    kept = set((home / "states").glob("*.state"))
    planned = ada.forget(canary, mode="purge", dry_run=True)["derived"]["states"]
    assert len(planned) == 2
    done = ada.forget(canary, mode="purge")
    assert done["derived"]["states"] == planned
    assert remnants(home, wanted) == []
    assert engine.usage().kept_bytes == 0
    assert len(kept - set((home / "states").glob("*.state"))) == 2
    assert told["conversation"] != ada.ask("Who sings?", session="birds")["conversation"]
    kernel.close()
    assert remnants(home, wanted) == []


def test_an_old_text_left_by_an_update_goes_with_any_later_purge_of_its_memory(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST)
    for i in range(40):
        ada.keep(f"Between, number {i}")
        ada.update(canary, content=f"{FIRST} {i}" if i < 20 else f"{SECOND} {i}")
    ada.forget(canary, mode="purge")
    assert remnants(home, traces(embedder, [FIRST, SECOND])) == []


def test_a_purge_by_filter_of_very_many_leaves_nothing(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    fill(ada, 100)
    ada.add(messages=[{"role": "user", "content": f"{FIRST} {i}"} for i in range(150)])
    assert ada.api.parts.indexer.wait_embedded((1,), 30.0)
    token = ada.forget(query=WORDS[0], mode="purge", dry_run=True)["confirm"]
    assert len(ada.forget(query=WORDS[0], mode="purge", confirm=token)["affected"]) == 150
    assert remnants(home, traces(embedder, [FIRST])) == []


def test_shadow_tables_of_full_text_hold_no_word_of_an_erased_row(tmp_path: Path) -> None:
    engine = dialect.open_engine(tmp_path / "words.db")
    with dialect.writing(engine) as connection:
        dialect.create_full_text(connection)
    for i in range(30):
        with dialect.writing(engine) as connection:
            dialect.put_full_text(connection, [(i + 1, f"common word{i} {WORDS[i % 2]}")])
    with dialect.writing(engine) as connection:
        dialect.put_full_text(connection, [(i + 1, f"common word{i}") for i in range(15)], replace=True)
    with dialect.writing(engine) as connection:
        dialect.remove_full_text(connection, list(range(16, 31)))
        dialect.scrub_full_text(connection)
    dialect.truncate_log(engine)
    engine.dispose()
    held = (tmp_path / "words.db").read_bytes()
    assert b"word14" in held
    assert [word for word in WORDS if word.encode() in held] == []
    with sqlite3.connect(tmp_path / "words.db") as connection:
        connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab('full_text', 'row')")
        terms = {row[0] for row in connection.execute("SELECT term FROM terms")}
    connection.close()
    assert terms == {"common", *(f"word{i}" for i in range(15))}


def test_operations_changes_jobs_and_logs_hold_no_text(
    open_kernel: Callable[..., Kernel], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST, tags=[WORDS[0]], source=WORDS[1], session=WORDS[1])
    op = ada.update(canary, content=SECOND)["op"]
    ada.search(FIRST)
    ada.undo(op)
    ada.forget(query=WORDS[0], dry_run=True)
    ada.forget(canary)
    ada.forget(canary, mode="purge")
    kernel.close()
    with sqlite3.connect(home / "ledger.db") as connection:
        rows = [connection.execute(f"SELECT * FROM {table}").fetchall()
                for table in ("operations", "changes", "jobs", "meta")]  # fmt: skip
    connection.close()
    told = json.dumps(rows) + caplog.text
    assert rows[0]
    assert rows[2]
    assert [word for word in (*WORDS, "Canary") if word in told] == []


@pytest.mark.slow
def test_a_purge_while_the_index_is_first_built_is_not_in_its_files(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel(index=ChromaIndex(home / "index"))
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST)
    fill(ada, FILLERS)
    done = ada.forget(canary, mode="purge")
    assert job_done(ada, done["job"])
    assert indexed(ada)
    assert remnants(home, traces(embedder, [FIRST])) == []


@pytest.mark.slow
def test_a_purge_cut_short_is_finished_by_the_next_start(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel(index=ChromaIndex(home / "index"))
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST)
    fill(ada, FILLERS)
    assert indexed(ada)
    job = ada.forget(canary, mode="purge")["job"]
    kernel.close()
    (home / "backups").mkdir(exist_ok=True)
    (home / "backups" / "ledger-before-0002.db").write_text(FIRST)

    kernel = open_kernel(index=ChromaIndex(home / "index"))
    assert job_done(Person(kernel.api, "ada"), job)
    left = remnants(home / "index", traces(embedder, [FIRST]))
    assert left == []


def test_a_job_left_by_a_crash_right_after_the_purge_cleans_the_files(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    ada.keep("Something else")
    with kernel.ledger.write() as connection:
        kernel.api.parts.jobs.create(connection, forget.REBUILD, {"spaces": []}, 1)
    kernel.close()
    (home / "backups").mkdir()
    (home / "backups" / "ledger-before-0002.db").write_text(FIRST)
    kernel = open_kernel()
    assert remnants(home, traces(embedder, [FIRST])) == []
    assert kernel.api.parts.jobs.unfinished(forget.REBUILD) == []


def test_a_purge_that_a_reader_kept_from_its_end_is_finished_by_the_next_start(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    canary = ada.keep(FIRST)

    @event.listens_for(kernel.ledger.engine, "checkout")
    def impatient(connection: Any, _record: object, _proxy: object) -> None:
        connection.execute("PRAGMA busy_timeout = 20").close()

    with kernel.ledger.read() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM cubes").scalar() == 1
        ada.forget(canary, mode="purge")
        [job] = kernel.api.parts.jobs.unfinished(forget.REBUILD)
        assert "reader" in str(job.error)
    kernel.close()
    kernel = open_kernel()
    assert remnants(home, traces(embedder, [FIRST])) == []
    found = kernel.api.parts.jobs.find(job.id)
    assert found is not None
    assert (found.state, found.error) == ("done", None)
