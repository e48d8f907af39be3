"""Section spaces: thousands of small spaces in one store, and a search over the many that were granted.

Knows how a store is written past the verbs, and measures over MCP stdio.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import texts
from benchmarks.measure import milliseconds, open_descriptors, p50_note, resident_mb
from benchmarks.plan import Plan
from benchmarks.server import ask_all, serving, warm
from benchmarks.stores import PRINCIPAL, caller, mark, opened, rebuilt, write
from memos_mcp.kernel import Kernel

OWNER = "owner"
EACH = 20
GRANTED = 200
MEMORY_TARGET_MB = 500.0
SEARCH_TARGET_MS = 30.0


def spaces(plan: Plan) -> None:
    """Memory and file descriptors after searches in many spaces; a search over 200 granted ones."""
    count = 500 if plan.quick else 5_000
    _store(plan, count)
    visited = count // 10
    asked = texts.questions(plan.calls, count * EACH)
    with plan.work.copy_of_folder(_home(plan, count)) as home:
        with serving(home, principal=OWNER, space=_name(0)) as client:
            warm(client)
            for i in range(0, count, count // visited):
                client.call("memory_search", {"query": asked[i % len(asked)], "space": _name(i)})
            note = f"{count:,} spaces of {EACH}; after a search in each of {visited}"
            resident = resident_mb(client.process.pid, home)
            plan.figure("spaces", "resident memory", resident, "MB", MEMORY_TARGET_MB, note=note)
            plan.figure("spaces", "open file descriptors", open_descriptors(client.process.pid, home), "", note=note)
            rounds = [ask_all(client, asked, space=_name(count // 2)) for _ in range(plan.rounds)]
            one = milliseconds([seconds for times in rounds for seconds in times], 0.5)
            plan.figure("spaces", "search in one of them, p50", one, "ms", note=p50_note(rounds))
        with serving(home) as client:
            warm(client)
            rounds = [ask_all(client, asked) for _ in range(plan.rounds)]
    times = [seconds for times in rounds for seconds in times]
    name = f"search over {GRANTED} granted spaces"
    plan.figure("spaces", f"{name}, p50", milliseconds(times, 0.5), "ms", SEARCH_TARGET_MS, note=p50_note(rounds))
    plan.figure("spaces", f"{name}, p95", milliseconds(times, 0.95), "ms")


def _home(plan: Plan, count: int) -> Path:
    return plan.work.folder / f"spaces-{count}"


def _store(plan: Plan, count: int) -> None:
    home = _home(plan, count)
    if not rebuilt(home):
        return
    plan.work.say(f"building {count:,} spaces of {EACH} memories")
    made = list(texts.memories(count * EACH))
    matrix = plan.work.vectors_of(made)
    with opened(home) as kernel:
        for i in range(count):
            part = slice(i * EACH, (i + 1) * EACH)
            write(kernel, _name(i), made[part], matrix[part], OWNER)
        _grant(kernel)
    mark(home, whole=True)


def _grant(kernel: Kernel) -> None:
    for i in range(GRANTED):
        kernel.api.grant(caller(_name(i), OWNER), _name(i), PRINCIPAL, ["read"])


def _name(i: int) -> str:
    return f"team-{i:05d}"
