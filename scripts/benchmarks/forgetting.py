"""Sections purge and recovery: what it costs to erase a memory, and to lose the index.

Knows where the index stands in a data directory and how the ledger notes that one is complete.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks import texts
from benchmarks.client import CallFailed, Client
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import eventually, serving, warm
from memos_mcp.layout import Layout

LIMIT_S = 900.0
PAUSE_S = 0.1
"""Between two searches while the index is built: a person asks, the machine is not flooded."""


def purge(plan: Plan) -> None:
    """Erase one memory: the call, and the job that builds the index anew without it."""
    for size in plan.sizes:
        times, jobs = list[float](), list[float]()
        with plan.work.copy_of(size) as home, serving(home) as client:
            warm(client)
            for question in texts.questions(3 if size < 50_000 else 1, size):
                found, _ = client.call("memory_search", {"query": question, "top_k": 1})
                began = time.perf_counter()
                gone, seconds = client.call("memory_forget", {"ids": [found["hits"][0]["id"]], "mode": "purge"})
                times.append(seconds)
                if "job" in gone:
                    job = str(gone["job"])
                    eventually(lambda job=job: _finished(client, job), LIMIT_S, "the job of the purge")  # type: ignore[misc]
                    jobs.append(time.perf_counter() - began)
        note = f"median of {len(times)}"
        plan.figure("purge", f"purge of one memory at {size:,}", milliseconds(times, 0.5) / 1e3, "s", note=note)
        if jobs:
            plan.figure("purge", f"until its job is done at {size:,}", milliseconds(jobs, 0.5) / 1e3, "s", note=note)


def recovery(plan: Plan) -> None:
    """Delete the index's folder: how long until it is there again, and what searches take meanwhile."""
    for size in plan.sizes[1:] or plan.sizes:
        asked = texts.questions(100, size)
        with plan.work.copy_of(size) as home:
            if not Layout(home).index.is_dir():
                plan.figure("recovery", f"index deleted at {size:,}", None, "s", note="too small for an index")
                continue
            shutil.rmtree(Layout(home).index)
            began = time.perf_counter()
            with serving(home) as client:
                times, degraded = _asked_until_indexed(client, home, asked)
                seconds = time.perf_counter() - began
        note = f"{len(times)} searches meanwhile, {degraded} degraded, the first after {times[0]:.2f} s"
        plan.figure("recovery", f"index deleted at {size:,}: built anew", seconds, "s", note=note)
        plan.figure("recovery", f"search meanwhile at {size:,}, p50", milliseconds(times[1:], 0.5), "ms")
        plan.figure("recovery", f"search meanwhile at {size:,}, p95", milliseconds(times[1:], 0.95), "ms")


def _asked_until_indexed(client: Client, home: Path, asked: list[str]) -> tuple[list[float], int]:
    times, degraded, end = list[float](), 0, time.perf_counter() + LIMIT_S
    while len(times) < 2 or not _indexed(home):
        if time.perf_counter() > end:
            raise TimeoutError(f"the index was not built within {LIMIT_S:.0f} s")
        found, seconds = client.call("memory_search", {"query": asked[len(times) % len(asked)]})
        if not found["hits"]:
            raise CallFailed("a search found nothing while the index was built")
        times.append(seconds)
        degraded += "degraded" in found
        time.sleep(PAUSE_S)
    return times, degraded


def _indexed(home: Path) -> bool:
    """Whether the index's folder is there and the ledger says how far it reaches."""
    with closing(sqlite3.connect(f"file:{Layout(home).ledger}?mode=ro", uri=True, timeout=10)) as ledger:
        noted = ledger.execute("SELECT count(*) FROM spaces WHERE indexed_upto IS NOT NULL").fetchone()[0]
    return bool(noted) and Layout(home).index.is_dir() and any(f.is_dir() for f in Layout(home).index.iterdir())


def _finished(client: Client, job: str) -> bool:
    read, _ = client.request("resources/read", {"uri": f"memos://jobs/{job}"})
    state = json.loads(read["contents"][0]["text"])["state"]
    if state == "failed":
        raise CallFailed(f"the job {job} failed")
    return bool(state == "done")
