"""Sections ranking and million: what finding costs beyond the question's embedding, and what pruning loses.

In process: the search is asked as the verb asks it, with the question's vector given. Knows the search's own bounds
only to lift them: what is found with every memory's words in memory is what nothing was left out for.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import eventually
from benchmarks.stores import opened, wait_indexed
from memos_mcp.kernel import Kernel
from memos_mcp.plaintext import pool, search, views
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Begun
from memos_mcp.ports import Vector

TARGET_MS = {1_000: 3.0, 10_000: 3.0, 100_000: 8.0, 1_000_000: 25.0}
MILLION = 1_000_000
AT = 10
COMPARED, OF_A_MILLION = 60, 20
"""Questions whose hits are compared with those of a search that leaves nothing out: ten seconds each at a million."""
EVERYTHING = 10**9
BUILD_S = 3 * 3600.0


def ranking(plan: Plan) -> None:
    """Finding at each size, beside SQLite's own full text over the same texts."""
    for size in plan.sizes:
        _at(plan, size)
        _full_text(plan, size)


def million(plan: Plan) -> None:
    """The same at a million memories; the store takes about an hour to build."""
    _at(plan, MILLION)


def _at(plan: Plan, size: int) -> None:
    asked = texts.questions(plan.rounds * plan.calls, size)
    with plan.work.copy_of(size) as home, opened(home) as kernel:
        wait_indexed(kernel, BUILD_S)
        vectors = [kernel.api.parts.embedder.get().embed_query(question) for question in asked]
        began = time.perf_counter()
        _find(kernel, asked[0], vectors[0])
        first = time.perf_counter() - began
        eventually(lambda: not kernel.api.parts.views.making, BUILD_S, "the words in memory")
        ready = time.perf_counter() - began
        eventually(lambda: not kernel.busy, BUILD_S, "what a new version reads anew")  # no call, so it steps not aside
        times = [_beyond_embedding(kernel, question) for question in asked]
        opening = f"first question after the start {1e3 * first:.0f} ms, words in memory after {ready:.1f} s"
        note = f"{plan.vectors_note(size)}; {opening}"
        name = f"finding at {size:,} beyond the question's embedding"
        plan.figure("ranking", f"{name}, p50", milliseconds(times, 0.5), "ms", TARGET_MS[size], note=note)
        plan.figure("ranking", f"{name}, p95", milliseconds(times, 0.95), "ms")
        _compared(plan, kernel, size)


def _find(kernel: Kernel, question: str, vector: Vector) -> list[int]:
    parts = kernel.api.parts
    with parts.ledger.read() as connection:
        trust = parts.embedder.get().trust(question)
        hits = parts.search.find(connection, question, vector, Scope((1,), parts.stamp()), AT, trust)
    return [hit.seq for hit in hits]


def _beyond_embedding(kernel: Kernel, question: str) -> float:
    """Seconds that finding takes in the verb's way, words looked up while the vector is made, less the model's own."""
    parts = kernel.api.parts
    scope = Scope((1,), parts.stamp())

    def begin() -> Begun:
        with parts.ledger.read() as connection:
            return parts.search.begin(connection, question, scope, AT)

    began = time.perf_counter()
    begun = parts.ahead.submit(begin)
    embedder, asked = parts.embedder.get(), time.perf_counter()
    vector = embedder.embed_query(question)
    embedding = time.perf_counter() - asked
    with parts.ledger.read() as connection:
        parts.search.finish(connection, begun.result(), vector, scope, AT, embedder.trust(question))
    return time.perf_counter() - began - embedding


def _compared(plan: Plan, kernel: Kernel, size: int) -> None:
    """What is found beside a search that leaves nothing out: the memory that a question was made for, and all hits."""
    count = COMPARED if size < MILLION else OF_A_MILLION
    asked, model = texts.questions(count, size), kernel.api.parts.embedder.get()
    vectors = [model.embed_query(question) for question in asked]
    step = size // count
    answers = [i + 1 for i in range(size) if i % step == step // 2][:count]  # memories are numbered as they are made
    usual = [_find(kernel, question, vector) for question, vector in zip(asked, vectors, strict=True)]
    bounds = search.VIEWED, pool.WHOLE, views.AT_ONCE
    search.VIEWED = pool.WHOLE = views.AT_ONCE = EVERYTHING
    try:
        kernel.api.parts.views.clear()
        whole = [_find(kernel, question, vector) for question, vector in zip(asked, vectors, strict=True)]
    finally:
        search.VIEWED, pool.WHOLE, views.AT_ONCE = bounds
        kernel.api.parts.views.clear()
    right, best = (
        100 * sum(answer in hits for answer, hits in zip(answers, found, strict=True)) / count
        for found in (usual, whole)
    )
    same = 100 * sum(len(set(a) & set(b)) / len(b) for a, b in zip(usual, whole, strict=True)) / count
    note = f"{best:.1f} % when nothing is left out; {same:.0f} % of the {AT} hits are the same; {count} questions"
    plan.figure("ranking", f"R@{AT} at {size:,}, common words included", right, "%", best, at_least=True, note=note)


def _full_text(plan: Plan, size: int) -> None:
    """SQLite's FTS5 with its stemmer over the same texts, every word of a question asked for."""
    asked = texts.questions(plan.calls, size)
    with plan.work.fresh() as folder:
        connection = sqlite3.connect(Path(folder) / "words.db")
        connection.execute("CREATE VIRTUAL TABLE held USING fts5(text, tokenize='porter unicode61')")
        rows: Any = ((memory.text,) for memory in texts.memories(size))
        connection.executemany("INSERT INTO held VALUES (?)", rows)
        connection.commit()
        times = []
        for question in asked:
            words = " OR ".join(f'"{word}"' for word in dict.fromkeys(question.replace('"', " ").split()))
            began = time.perf_counter()
            query = "SELECT rowid FROM held WHERE held MATCH ? ORDER BY bm25(held) LIMIT ?"
            connection.execute(query, (words, AT)).fetchall()
            times.append(time.perf_counter() - began)
        connection.close()
    plan.figure("ranking", f"SQLite FTS5 alone at {size:,}, p50", milliseconds(times, 0.5), "ms")
