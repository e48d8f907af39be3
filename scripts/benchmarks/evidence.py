"""Section evidence: how much of what answers a question is among the first hits, beside full text and plain Chroma.

All three are given the same memories in the same order, and the same questions when they are asked. Chroma stands with
its own default embedding function, where that model is on this machine already; it and full text read a line as time,
speaker and text. Needs a folder of conversations with known evidence, of which nothing is kept.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measure import milliseconds
from benchmarks.overhead import collection_in, default_model
from benchmarks.plan import Plan
from benchmarks.replay import BATCH, LONGEST, data_in
from benchmarks.stores import caller, opened, wait_indexed
from memos_mcp.kernel import Kernel
from memos_mcp.requests import AddRequest, Message, SearchRequest

AT = (5, 10)
QUICK_STORES = 1
Memory = dict[str, Any]


class Finder(Protocol):
    """What holds memories and finds their references."""

    def add(self, memories: list[Memory]) -> None: ...

    def find(self, question: str) -> list[str]: ...


class Ours:
    """The product's own verbs, in process."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def add(self, memories: list[Memory]) -> None:
        for session, group in groupby(memories, key=lambda one: str(one["session"] or "none")):
            turns = [
                Message(role="user", content=one["text"], name=one["speaker"], time=one["time"], ref=one["ref"])
                for one in group
            ]
            for start in range(0, len(turns), BATCH):
                asked = AddRequest(messages=turns[start : start + BATCH], session=session, kind="dialogue")
                self._kernel.api.add(caller(), asked)
        wait_indexed(self._kernel)

    def find(self, question: str) -> list[str]:
        asked = SearchRequest(query=question[:LONGEST], top_k=max(AT))
        found = self._kernel.api.search(caller(), asked)
        return [ref for hit in found["hits"] for ref in hit.get("refs", ())]


class FullText:
    """SQLite's full text with its English stemmer, any word of the question."""

    def __init__(self) -> None:
        self._held = sqlite3.connect(":memory:")
        self._held.execute("CREATE VIRTUAL TABLE held USING fts5(text, ref UNINDEXED, tokenize='porter unicode61')")

    def add(self, memories: list[Memory]) -> None:
        self._held.executemany("INSERT INTO held VALUES (?, ?)", [(_line(one), one["ref"]) for one in memories])

    def find(self, question: str) -> list[str]:
        words = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", question.lower())))
        query = "SELECT ref FROM held WHERE held MATCH ? ORDER BY bm25(held) LIMIT ?"
        return [ref for (ref,) in self._held.execute(query, (words, max(AT)))] if words else []


class PlainChroma:
    """A collection with Chroma's own default embedding function."""

    def __init__(self, folder: Path) -> None:
        from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

        self._held = collection_in(folder, DefaultEmbeddingFunction())

    def add(self, memories: list[Memory]) -> None:
        for start in range(0, len(memories), BATCH):
            part = memories[start : start + BATCH]
            self._held.add(ids=[one["ref"] for one in part], documents=[_line(one) for one in part])

    def find(self, question: str) -> list[str]:
        found: list[str] = self._held.query(query_texts=[question], n_results=max(AT))["ids"][0]
        return found


def evidence(plan: Plan) -> None:
    """Recall of known evidence among the first 5 and 10, and what a search takes, the embedding included."""
    if plan.data is None:
        plan.work.say("evidence: no data was named (--data FOLDER)")
        return
    if default_model() is None:
        plan.work.say("evidence: Chroma's default embedding model is not here, and nothing is downloaded")
    for name, stores in data_in(plan.data).items():
        for label, make in _finders(plan).items():
            shares: list[tuple[float, ...]] = []
            times: list[float] = []
            for store in stores[:QUICK_STORES] if plan.quick else stores:
                with make() as finder:
                    _ask(finder, store, shares, times)
            note = f"p50 {milliseconds(times, 0.5):.1f} ms, p95 {milliseconds(times, 0.95):.1f} ms a search"
            for number, most in enumerate(AT):
                mean = 100 * sum(share[number] for share in shares) / len(shares)
                plan.figure("evidence", f"{name}, {label}, R@{most}", mean, "%", note=note)


def _finders(plan: Plan) -> dict[str, Callable[[], Any]]:
    @contextmanager
    def ours() -> Iterator[Finder]:
        with plan.work.no_store() as home, opened(home) as kernel:
            yield Ours(kernel)

    @contextmanager
    def full_text() -> Iterator[Finder]:
        yield FullText()

    @contextmanager
    def chroma() -> Iterator[Finder]:
        with plan.work.fresh() as folder:
            yield PlainChroma(folder)

    found = {"memos-mcp": ours, "SQLite FTS5": full_text}
    return found if default_model() is None else {**found, "plain Chroma": chroma}


def _ask(finder: Finder, store: dict[str, Any], shares: list[tuple[float, ...]], times: list[float]) -> None:
    memories, done = store["memories"], 0
    for asked in sorted(store["queries"], key=lambda one: one.get("at", len(memories))):
        upto = asked.get("at", len(memories))
        if upto > done:
            finder.add(memories[done:upto])
            done = upto
        began = time.perf_counter()
        found = list(dict.fromkeys(finder.find(asked["text"])))
        times.append(time.perf_counter() - began)
        shares.append(tuple(_share(asked["gold"], found[:most]) for most in AT))


def _share(wanted: list[list[str]], found: list[str]) -> float:
    """Of groups of interchangeable references, the share of which one was found."""
    return sum(any(ref in found for ref in group) for group in wanted) / len(wanted)


def _line(memory: Memory) -> str:
    return f"{memory['time'] or ''} {memory['speaker'] or ''}: {memory['text']}"
