"""Sections overhead and peer: what the operating-system part costs beside a bare Chroma collection, in process.

Knows Chroma's own interface and the verbs. Both sides embed with the built-in model; the time that the product spends
in the embedder and in its index is taken by wrapping the two, so that the rest is governance, ledger and words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import eventually
from benchmarks.stores import PRINCIPAL, caller, wait_indexed
from benchmarks.texts import Memory
from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.kernel import Kernel, make_embedder
from memos_mcp.layout import Layout
from memos_mcp.memory_api import similar
from memos_mcp.ports import Embedder, Matrix
from memos_mcp.requests import AddRequest, SearchRequest
from memos_mcp.settings import load

HITS = 5
FILL = 1_000
READY_S = 60.0


class _Timed:
    """A part with a stop-watch: `seconds` grows by what its calls take on the thread that made it."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._thread, self.seconds = inner, threading.get_ident(), 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._watched(found) if callable(found) else found

    def _watched(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*given, **named)
            finally:
                if threading.get_ident() == self._thread:
                    self.seconds += time.perf_counter() - began

        return timed


def overhead(plan: Plan) -> None:
    """One add and one search through the verbs beside the same on a bare collection."""
    for size in plan.sizes[:2]:
        made = list(texts.memories(plan.calls, texts.SEED + 3))
        asked = texts.questions(plan.calls, size)
        bare = _bare(plan, size, made, asked)
        ours = _ours(plan, size, made, asked)
        for verb in ("add", "search"):
            total, apart = ours[verb]
            note = f"bare Chroma with the same embedder {bare[verb]:.2f} ms; {total / bare[verb]:.2f} times that"
            plan.figure("overhead", f"{verb} in process at {size:,}, p50", total, "ms", note=note)
            share = f"{100 * apart / total:.0f} % of the call"
            plan.figure("overhead", f"{verb} at {size:,} without embedder and index, p50", apart, "ms", note=share)


def peer(plan: Plan) -> None:
    """Plain Chroma with its own default embedding function, where its model is on this machine already."""
    from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

    if default_model() is None:
        plan.figure("peer", "plain Chroma", None, "", note="its model is not here, and nothing is downloaded")
        return
    made, asked = list(texts.memories(plan.calls)), texts.questions(plan.calls, 1_000)
    with plan.work.fresh() as folder:
        collection = collection_in(folder, DefaultEmbeddingFunction())
        adds = _each(made, lambda memory: collection.add(ids=[memory.text], documents=[memory.text]))
        searches = _each(asked, lambda question: collection.query(query_texts=[question], n_results=HITS))
    plan.figure("peer", "plain Chroma, add, p50", milliseconds(adds, 0.5), "ms")
    plan.figure("peer", f"plain Chroma, search at {len(made)}, p50", milliseconds(searches, 0.5), "ms")


def _ours(plan: Plan, size: int, made: Sequence[Memory], asked: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Milliseconds (whole, without embedder and index) of each verb."""
    embedders: list[_Timed] = []
    main = threading.get_ident()

    def embedder(name: str) -> Embedder:
        watched = _Timed(make_embedder(name, plan.work.folder))
        watched._thread = main  # it is made on the thread that loads it
        embedders.append(watched)
        made_here: Embedder = watched
        return made_here

    with plan.work.copy_of(size) as home:
        index = _Timed(ChromaIndex(Layout(home).index))
        settings = load({"home": str(home), "principal": PRINCIPAL}, env={})
        kernel = Kernel.open(settings, embedder=embedder, index=index)
        try:
            kernel.api.parts.embedder.get()
            wait_indexed(kernel)
            parts = kernel.api.parts
            similar.place_of(parts, caller(), caller().space)
            eventually(lambda: not parts.cache.signatures.making, READY_S, "what additions are compared with")
            watches = [embedders[0], index]
            return {
                "search": _measured(asked, watches, lambda q: kernel.api.search(caller(), SearchRequest(query=q))),
                "add": _measured(made, watches, lambda m: kernel.api.add(caller(), _request(m))),
            }
        finally:
            kernel.close()


def _measured(items: Sequence[Any], watches: Sequence[_Timed], work: Callable[[Any], Any]) -> tuple[float, float]:
    for item in items[:5]:
        work(item)
    whole, apart = list[float](), list[float]()
    for item in items[5:]:
        before, began = sum(watch.seconds for watch in watches), time.perf_counter()
        work(item)
        whole.append(time.perf_counter() - began)
        apart.append(whole[-1] - (sum(watch.seconds for watch in watches) - before))
    return milliseconds(whole, 0.5), milliseconds(apart, 0.5)


def _bare(plan: Plan, size: int, made: Sequence[Memory], asked: Sequence[str]) -> dict[str, float]:
    """Milliseconds of an add and a search on a Chroma collection of this size, embedding included."""
    model = make_embedder("minilm", plan.work.folder)
    held = list(texts.memories(size))
    matrix = plan.work.vectors_of(held)
    with plan.work.fresh() as folder:
        collection = collection_in(folder, None)
        for start in range(0, size, FILL):
            part = slice(start, start + FILL)
            _add(collection, start, held[part], matrix[part])

        def add(numbered: tuple[int, Memory]) -> None:
            _add(collection, size + numbered[0], [numbered[1]], model.embed([numbered[1].text]))

        def search(question: str) -> None:
            vector = model.embed_query(question)
            collection.query(query_embeddings=vector.reshape(1, -1), n_results=HITS)

        return {
            "search": milliseconds(_each(asked, search)[5:], 0.5),
            "add": milliseconds(_each(list(enumerate(made)), add)[5:], 0.5),
        }


def default_model() -> Path | None:
    """The model of Chroma's default embedding function, if it is on this machine."""
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    model = Path(ONNXMiniLM_L6_V2.DOWNLOAD_PATH) / ONNXMiniLM_L6_V2.EXTRACTED_FOLDER_NAME / "model.onnx"
    return model if model.exists() else None


def collection_in(folder: Path, embedding_function: Any) -> Any:
    """A new Chroma collection; without a function the vectors are given."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(str(folder / "bare"), settings=Settings(anonymized_telemetry=False))
    return client.create_collection("bare", embedding_function=embedding_function)


def _add(collection: Any, first: int, made: Sequence[Memory], matrix: Matrix) -> None:
    collection.add(
        ids=[str(first + i) for i in range(len(made))],
        embeddings=matrix,
        documents=[memory.text for memory in made],
        metadatas=[{"kind": memory.kind, "time": memory.time, "session": memory.session} for memory in made],
    )


def _each(items: Sequence[Any], work: Callable[[Any], Any]) -> list[float]:
    times = []
    for item in items:
        began = time.perf_counter()
        work(item)
        times.append(time.perf_counter() - began)
    return times


def _request(memory: Memory) -> AddRequest:
    return AddRequest(
        content=memory.text,
        kind=memory.kind,  # type: ignore[arg-type]
        tags=list(memory.tags),
        metadata=memory.metadata,
        session=memory.session,
        time=memory.time,
    )
