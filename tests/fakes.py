"""Deterministic stand-ins for the model and the index, each honest to its port.

Knows nothing of the ledger: tests give these to the real kernel in place of a real model and of Chroma.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from memos_mcp.errors import EmbedderUnavailable, ModelUnavailable, RerankerUnavailable
from memos_mcp.ports import IndexBroken, Matrix, Scores, Vector


class FakeEmbedder:
    """Satisfies the port `Embedder`: words and character trigrams hashed into a vector, so that like texts are near.

    Two embedders of different `identity` place the same text differently. `before(texts)` is called with every batch
    and may raise or block; `calls` counts batches, `seen` keeps the texts in their order. While `down`, it cannot be
    reached.
    """

    def __init__(
        self, identity: str = "fake", dimensions: int = 64, before: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self.identity, self.dimensions, self.before = identity, dimensions, before
        self.at_a_time, self.is_quick = 16, True
        self.down = False
        self.calls = 0
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> Matrix:
        if self.down:
            raise EmbedderUnavailable(f"The embedder {self.identity!r} cannot be reached: start it.")
        if self.before is not None:
            self.before(texts)
        self.calls += 1
        self.seen += texts
        rows = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = self._vector(text)
        return rows

    def embed_query(self, text: str) -> Vector:
        if self.down:
            raise EmbedderUnavailable(f"The embedder {self.identity!r} cannot be reached: start it.")
        return self._vector(text)

    def trust(self, text: str) -> float:
        return 1.0

    def _vector(self, text: str) -> Vector:
        vector = np.zeros(self.dimensions, dtype=np.float32)
        for feature, weight in _features(text):
            digest = hashlib.blake2b(f"{self.identity}\0{feature}".encode("utf-8", "replace"), digest_size=8).digest()
            place = int.from_bytes(digest[:4], "little") % self.dimensions
            vector[place] += weight if digest[4] & 1 else -weight
        length = float(np.linalg.norm(vector))
        if length == 0.0:
            vector[0] = length = 1.0
        return np.asarray(vector / length, dtype=np.float32)


def _features(text: str) -> Iterator[tuple[str, float]]:
    folded = text.casefold()
    for word in re.findall(r"\w+", folded):
        yield word, 2.0
    for start in range(max(len(folded) - 2, 1)):
        yield folded[start : start + 3], 0.5


class FakeReranker:
    """Satisfies the port `Reranker`: the more of the question's words a text has, the better, and `favour` wins.

    `before()` is called with every call and may raise or block; `seen` keeps the texts. While `down`, it cannot be
    asked.
    """

    def __init__(self, favour: str = "\0", before: Callable[[], None] = lambda: None) -> None:
        self.identity, self.at_a_time = "fake", 4
        self.favour, self.before = favour, before
        self.down = False
        self.seen: list[str] = []

    def scores(self, query: str, texts: Sequence[str]) -> Scores:
        self.before()
        if self.down:
            raise RerankerUnavailable("The fake reranker is down: start it.")
        self.seen += texts
        asked = set(re.findall(r"\w+", query.casefold()))
        found = [
            9.0 if self.favour in text else 2.0 * len(asked & set(re.findall(r"\w+", text.casefold()))) - 6.0
            for text in texts
        ]
        return np.clip(np.array(found, dtype=np.float32), -12.0, 12.0)


class FakeIndex:
    """Satisfies the port `VectorIndex` in memory, with exact search.

    `broken` holds spaces that raise `IndexBroken` until they are rebuilt or dropped; `changed` those that `verify`
    reports, and loses as a real index loses a damaged folder.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.held: dict[int, dict[int, Vector]] = {}
        self.broken: set[int] = set()
        self.changed: set[int] = set()
        self.closed = False

    def size(self, space: int) -> int | None:
        with self._lock:
            held = self.held.get(space)
            return None if held is None or space in self.broken else len(held)

    def add(self, space: int, keys: Sequence[int], vectors: Matrix) -> None:
        with self._lock:
            held = self._of(space)
            held |= {int(key): np.array(vector) for key, vector in zip(keys, vectors, strict=True)}

    def rebuild(self, space: int, batches: Iterator[tuple[Sequence[int], Matrix]]) -> None:
        fresh: dict[int, Vector] = {}
        for keys, vectors in batches:
            fresh |= {int(key): np.array(vector) for key, vector in zip(keys, vectors, strict=True)}
        with self._lock:
            self.held[space] = fresh
            self.broken.discard(space)

    def remove(self, space: int, keys: Sequence[int]) -> None:
        with self._lock:
            held = self._of(space)
            for key in keys:
                held.pop(int(key), None)

    def nearest(self, space: int, vector: Vector, count: int) -> list[int]:
        with self._lock:
            held = self._of(space)
            wrong = next((v.shape for v in held.values() if v.shape != vector.shape), None)
            if wrong is not None:
                raise IndexBroken(space, f"holds vectors of {wrong[0]} dimensions, asked for {vector.shape[0]}")
            ranked = sorted(held, key=lambda key: (-float(held[key] @ vector), key))
        return ranked[:count]

    def drop(self, space: int) -> None:
        with self._lock:
            self.held.pop(space, None)
            self.broken.discard(space)

    def verify(self) -> list[int]:
        with self._lock:
            changed, self.changed = sorted(self.changed), set()
            for space in changed:
                self.held.pop(space, None)
            return changed

    def close(self) -> None:
        self.closed = True

    def _of(self, space: int) -> dict[int, Vector]:
        if space in self.broken:
            raise IndexBroken(space, "it is broken")
        if space not in self.held:
            raise IndexBroken(space, "its folder is gone")
        return self.held[space]


class FakeModel:
    """Satisfies the port `LanguageModel`: `reply(data)` is its answer, an exception from it is raised.

    `seen` keeps what it was asked; while `down`, it cannot be reached.
    """

    def __init__(self, reply: Callable[[str], str] = lambda _: '{"memories": []}') -> None:
        self.name = "fake-1"
        self.reply, self.down = reply, False
        self.seen: list[str] = []

    def answer(self, instructions: str, data: str) -> str:
        if self.down:
            raise ModelUnavailable("The model 'fake-1' cannot be reached: start it.")
        self.seen.append(data)
        return self.reply(data)
