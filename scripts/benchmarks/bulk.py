"""Section bulk: many memories in few calls, and what searches feel meanwhile.

Knows the ledger's queue of memories without a vector, which it reads from outside while the server works.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks import texts
from benchmarks.client import CallFailed, Client
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import as_message, ask_all, eventually, serving, warm
from benchmarks.texts import Memory

MESSAGES = 50
BULK_SEED = texts.SEED + 2
TARGET_PER_S = 150.0
TIMES_IDLE = 3.0
LIMIT_S = 600.0


def bulk(plan: Plan) -> None:
    """Bulk add until everything is embedded and findable; search beside it, over one session."""
    _throughput(plan)
    for label, space in (("another space", "archive"), ("the same space", "personal")):
        _beside(plan, label, space)


def _throughput(plan: Plan) -> None:
    made = list(texts.memories(500 if plan.quick else 5_000, BULK_SEED))
    with plan.work.no_store() as home, serving(home) as client:
        warm(client)
        began = time.perf_counter()
        _add_in_bulk(client, made, "archive")
        acknowledged = time.perf_counter() - began
        eventually(lambda: waiting(home) == 0, LIMIT_S, "embedding")
        embedded = time.perf_counter() - began
        if not _finds(client, made[-1]):
            raise CallFailed("a memory that has its vector was not found by its own words")
    note = f"{len(made):,} memories in calls of {MESSAGES}, empty store"
    plan.figure("bulk", "acknowledged", len(made) / acknowledged, "/s", note=note)
    plan.figure("bulk", "embedded and findable", len(made) / embedded, "/s", TARGET_PER_S, at_least=True, note=note)


def _beside(plan: Plan, label: str, space: str) -> None:
    """Searches of one thread while another adds, both over the same session."""
    size = plan.sizes[min(1, len(plan.sizes) - 1)]
    asked, made = texts.questions(100, size), list(texts.memories(300 if plan.quick else 3_000, BULK_SEED))
    with plan.work.copy_of(size) as home, serving(home) as client:
        warm(client)
        idle = milliseconds(ask_all(client, asked * 3), 0.95)
        adding = threading.Thread(target=_add_in_bulk, args=(client, made, space))
        adding.start()
        times, degraded = list[float](), 0
        while adding.is_alive() or waiting(home):
            question = asked[len(times) % len(asked)]
            found, seconds = client.call("memory_search", {"query": question, "space": "personal"})
            times.append(seconds)
            degraded += "degraded" in found
        adding.join()
    busy = milliseconds(times, 0.95)
    note = f"{len(times)} searches at {size:,} beside {len(made):,} adds; idle p95 {idle:.1f} ms; {degraded} degraded"
    plan.figure("bulk", f"search p50 while adding to {label}", milliseconds(times, 0.5), "ms")
    plan.figure("bulk", f"search p95 while adding to {label}", busy, "ms", TIMES_IDLE * idle, note=note)


def waiting(home: Path) -> int:
    """How many memories have no vector yet."""
    with closing(sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True, timeout=10)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM vector_queue").fetchone()[0])


def _add_in_bulk(client: Client, made: Sequence[Memory], space: str) -> None:
    for start in range(0, len(made), MESSAGES):
        part = made[start : start + MESSAGES]
        messages = [as_message(memory, f"bulk-{start + i}") for i, memory in enumerate(part)]
        client.call("memory_add", {"messages": messages, "space": space, "session": f"bulk-{start}"})


def _finds(client: Client, memory: Memory) -> bool:
    found, _ = client.call("memory_search", {"query": memory.text, "space": "archive"})
    return any(hit["text"] == memory.text for hit in found["hits"])
