"""Section archived: what half a store that is archived costs the other half, in hits and in time.

In process. The archived half are twins of the questions, nearer to them than any answer: what stands must be found as
if they were not there, and they when they are asked for. Knows nothing of how they are kept apart.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.recall import AT, _everything, _shares
from benchmarks.server import eventually
from benchmarks.stores import SPACE, caller, opened, wait_indexed, write
from benchmarks.texts import Memory
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import vectors as vectors_of
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Matrix
from memos_mcp.requests import ForgetRequest

HALVES, QUICK_HALVES = (5_000, 20_000), (2_000,)
QUESTIONS = 50
NEARNESS = 0.35
"""Length of the noise that parts a twin's vector from its question's: a cosine of about 0.94."""
AT_ONCE = 200
CALLS = 100
LIMIT_S = 3_600.0


def archived(plan: Plan) -> None:
    """Recall of the dense stage, and finding, before and after half of the store is archived."""
    for half in QUICK_HALVES if plan.quick else HALVES:
        asked = texts.questions(QUESTIONS, half)
        with plan.work.copy_of(half) as home, opened(home) as kernel:
            _add_twins(kernel, asked, half)
            wait_indexed(kernel)
            everything = _everything(kernel)
            twins = np.sort(everything.cubes)[-half:].tolist()
            began = time.perf_counter()
            _archive(kernel, twins)
            each = 1e3 * (time.perf_counter() - began) / half
            name, note = f"{half:,} of {2 * half:,} archived", plan.vectors_note(half)
            plan.figure("archived", f"archiving {half:,} by {AT_ONCE}, each", each, "ms", note=note)
            for when in ("at once", "later"):
                if when == "later":
                    eventually(lambda: not _leaving(kernel), LIMIT_S, "the index without what was archived")
                    took = time.perf_counter() - began
                shares, eligible = _shares(kernel, everything, asked, {})
                said = f"{eligible:,} stand, {len(shares)} questions, lowest {min(shares):.1f}"
                if when == "later":
                    said += f"; {took:.0f} s after the first was archived the index had let go of all"
                mean = sum(shares) / len(shares)
                plan.figure("archived", f"recall@{AT} with {name}, {when}", mean, "", 0.99, at_least=True, note=said)
            stands = Scope((1,), kernel.api.parts.stamp())
            both = replace(stands, include=("archived",))
            for label, scope in (("what stands", stands), ("archived ones too", both)):
                times = _times(kernel, asked, scope)
                plan.figure("archived", f"finding {label} with {name}, p50", milliseconds(times, 0.5), "ms")
                plan.figure("archived", f"finding {label} with {name}, p95", milliseconds(times, 0.95), "ms")


def _add_twins(kernel: Kernel, asked: list[str], count: int) -> None:
    model, rng = kernel.api.parts.embedder.get(), np.random.default_rng(texts.SEED)
    said = [f"{asked[i % len(asked)]} (number {i})" for i in range(count)]
    made = [Memory(text, text, "event", f"twin-{i}", "2024-01-01", (), {}) for i, text in enumerate(said)]
    near: Matrix = np.stack([model.embed_query(question) for question in asked])
    noise = rng.standard_normal((count, near.shape[1]), dtype=np.float32)
    matrix = near[np.arange(count) % len(asked)] + NEARNESS * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    write(kernel, SPACE, made, matrix / np.linalg.norm(matrix, axis=1, keepdims=True))


def _archive(kernel: Kernel, seqs: list[int]) -> None:
    for start in range(0, len(seqs), AT_ONCE):
        with kernel.ledger.read() as connection:
            cubes = kernel.api.parts.vault.by_seqs(connection, seqs[start : start + AT_ONCE])
        kernel.api.forget(caller(), ForgetRequest(ids=[cube.id for cube in cubes.values()]))


def _leaving(kernel: Kernel) -> int:
    """How many vectors the index still has to let go of."""
    with kernel.ledger.read() as connection:
        return len(vectors_of.removals(connection, 1, 1))


def _times(kernel: Kernel, asked: list[str], scope: Scope) -> list[float]:
    """Seconds that finding takes with the question's vector given."""
    parts, times = kernel.api.parts, list[float]()
    vectors = [parts.embedder.get().embed_query(question) for question in asked]
    for i in range(CALLS + len(asked)):
        place = i % len(asked)
        began = time.perf_counter()
        with parts.ledger.read() as connection:
            parts.search.find(connection, asked[place], vectors[place], scope, AT)
        times.append(time.perf_counter() - began)
    return times[len(asked) :]
