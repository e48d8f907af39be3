"""What is looked at for a question holds what exact search finds, through the index and whatever the filter leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from person import Person, eventually

from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import vectors
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Matrix, Vector

pytestmark = pytest.mark.slow

COUNT, CLUSTERS, DIMENSIONS, WANTED = 3_000, 60, 64, 20


class Clustered:
    """An embedder whose vectors lie in clusters: text 'c n' is the n-th point around centre c."""

    identity, dimensions, at_a_time, is_quick = "clustered", DIMENSIONS, 64, True

    def __init__(self) -> None:
        self.centres = np.random.default_rng(1).normal(size=(CLUSTERS, DIMENSIONS))
        self.centres[:, 0] += 8.0  # like those of a real model, no two vectors point away from each other

    def embed(self, texts: list[str]) -> Matrix:
        return np.stack([self.embed_query(text) for text in texts]) if texts else np.empty((0, DIMENSIONS), np.float32)

    def embed_query(self, text: str) -> Vector:
        numbers = [int(word) for word in text.split() if word.isdigit()]
        centre, n = (numbers[0] % CLUSTERS, numbers[1]) if len(numbers) > 1 else (0, 0)
        point = self.centres[centre] + 0.6 * np.random.default_rng(n).normal(size=DIMENSIONS)
        return np.asarray(point / np.linalg.norm(point), dtype=np.float32)

    def trust(self, text: str) -> float:
        return 1.0


@pytest.fixture
def filled(open_kernel: Callable[..., Kernel], home: Path) -> Person:
    """3,000 memories of one space with an index; every 100th has the tag few, every second the tag half."""
    kernel = open_kernel(embedder=lambda _: Clustered(), index=ChromaIndex(home / "index"))
    ada = Person(kernel.api, "ada")
    for name, numbers in {
        "few": range(0, COUNT, 100),
        "half": range(1, COUNT, 2),
        "rest": [i for i in range(0, COUNT, 2) if i % 100],
    }.items():
        for start in range(0, len(numbers), 1_000):
            said = [{"role": "user", "content": f"{i % CLUSTERS} {i}"} for i in numbers[start : start + 1_000]]
            ada.add(messages=said, tags=[name])
    assert kernel.api.parts.indexer.wait_embedded((1,), 120.0)
    assert eventually(lambda: kernel.api.read.stats(ada.caller)["indexed_spaces"] == 1, 120.0)
    return ada


@pytest.mark.parametrize("tag", ["few", "half", None])
def test_recall_against_exact_search(filled: Person, tag: str | None) -> None:
    parts = filled.api.parts
    number, _ = parts.embedder.number()
    scope = Scope((1,), parts.stamp(), tags=(tag,) if tag else ())
    recalls = []
    with parts.ledger.read() as connection:
        everything = vectors.of_spaces(connection, number, [1], DIMENSIONS)
        eligible = np.isin(everything.cubes, scope.first(connection, COUNT))
        for i in range(60):
            query = Clustered().embed_query(f"{i} {10_000 + i}")
            cosines = np.where(eligible, everything.matrix @ query, -2.0)
            best = set(everything.cubes[np.argsort(-cosines)[:WANTED]].tolist())
            begun = parts.search.begin(connection, "?", scope, WANTED)
            looked_at = parts.search.weighed(connection, begun, query, scope, WANTED).pool.facts.seq
            recalls.append(len(best & set(looked_at.tolist())) / WANTED)
    assert eligible.sum() == {"few": COUNT // 100, "half": COUNT // 2, None: COUNT}[tag]
    assert float(np.mean(recalls)) >= 0.99
