"""A killed process loses nothing that it acknowledged, and the next start mends what it left half done."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder
from person import Person, eventually

from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect, vectors
from memos_mcp.memory_api import forget

pytestmark = pytest.mark.slow


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder(dimensions=384)


def run_and_kill(home: Path, work: str, enough: Callable[[list[Any]], bool], after_s: float = 0.0) -> list[Any]:
    """Let the program work until what it said is enough and `after_s` more, then kill it; returns all it said."""
    said: list[Any] = []
    reached = threading.Event()
    complaints = home.with_name("stderr")
    with complaints.open("w") as stderr, subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("doomed.py")), str(home), work],
        stdout=subprocess.PIPE, stderr=stderr, text=True, env={"PYTHONPATH": str(Path(__file__).parent)},
    ) as process:  # fmt: skip
        assert process.stdout is not None

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.endswith("\n"):
                    said.append(json.loads(line))
                    if enough(said):
                        reached.set()
            reached.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert reached.wait(120.0)
        threading.Event().wait(after_s)
        process.kill()
        listener.join(30.0)
    assert process.returncode == -9, complaints.read_text()[-3_000:]
    return said


def ids_of(said: list[Any]) -> list[str]:
    return [cube for ids in said if isinstance(ids, list) for cube in ids]


def assert_all_kept(kernel: Kernel, acknowledged: list[str]) -> None:
    ada = Person(kernel.api, "ada")
    with kernel.ledger.read() as connection:
        assert dialect.check(connection) == []
        kept = kernel.api.parts.vault.by_ids(connection, acknowledged)
    assert [cube for cube in acknowledged if cube not in kept] == []
    for cube in random.Random(1).sample(acknowledged, min(30, len(acknowledged))):
        hits = ada.search(kept[cube].snapshot.content, top_k=5)["hits"]
        assert cube in [hit["id"] for hit in hits]
    assert kernel.api.parts.indexer.wait_embedded((1,), 60.0)
    ada.keep("Life goes on")
    assert ada.ids("life goes on", top_k=1)


@pytest.mark.parametrize(("calls", "after_s"), [(1, 0.0), (2, 0.003), (7, 0.011), (40, 0.0), (41, 0.027)])
def test_every_acknowledged_memory_survives_a_kill(
    open_kernel: Callable[..., Kernel], home: Path, calls: int, after_s: float
) -> None:
    said = run_and_kill(home, "adds", lambda said: len(said) >= calls, after_s)
    assert_all_kept(open_kernel(), ids_of(said))


def test_a_store_survives_one_kill_after_another(open_kernel: Callable[..., Kernel], home: Path) -> None:
    acknowledged: list[str] = []
    for calls in (3, 9, 5):
        acknowledged += ids_of(run_and_kill(home, "adds", lambda said, calls=calls: len(said) >= calls))
    assert_all_kept(open_kernel(), acknowledged)


@pytest.mark.parametrize("after_s", [0.0, 0.08, 0.2, 0.4, 0.9])
def test_an_index_half_built_is_complete_after_the_next_start(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder, after_s: float
) -> None:
    said = run_and_kill(home, "index", lambda said: "embedded" in said, after_s)
    index = ChromaIndex(home / "index")
    kernel = open_kernel(index=index)
    assert_all_kept(kernel, ids_of(said))
    assert eventually(lambda: complete(kernel, index), 60.0)
    assert len([path for path in (home / "index").iterdir() if path.is_dir()]) == 1, "nothing of a former build stays"


def complete(kernel: Kernel, index: ChromaIndex) -> bool:
    """Whether the index of the one space holds what the ledger says, but for a tail that is searched exactly."""
    with kernel.ledger.read() as connection:
        number, _ = kernel.api.parts.embedder.number()
        upto = vectors.indexed_upto(connection, 1)
        if upto is None or index.size(1) is None:
            return False
        expected = vectors.expected_in_index(connection, number, 1, upto)
        held = vectors.count_by_space(connection, number)[1]
    return index.size(1) == expected and held - expected <= 500


@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.5])
def test_the_job_of_a_purge_is_finished_by_the_next_start(
    open_kernel: Callable[..., Kernel], home: Path, embedder: FakeEmbedder, after_s: float
) -> None:
    said = run_and_kill(home, "purge", lambda said: "embedded" in said and said[-1] != "embedded", after_s)
    job = said[said.index("embedded") + 1]
    kernel = open_kernel(index=ChromaIndex(home / "index"))
    assert_all_kept(kernel, ids_of(said))
    assert eventually(lambda: kernel.api.parts.jobs.unfinished(forget.REBUILD) == [], 60.0)
    found = None if job is None else kernel.api.parts.jobs.find(job)
    assert found is None or found.state == "done"
    vector = embedder.embed_query("Canary vaxlorqump sings")
    wanted = [b"vaxlorqump", vector.astype("<f2").tobytes()[96:200], vector.astype("<f4").tobytes()[96:200]]
    left = [path for path in home.rglob("*") if path.is_file() and any(w in path.read_bytes() for w in wanted)]
    assert left == []
