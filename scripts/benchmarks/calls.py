"""Sections add, search and filters: what one call costs over MCP stdio, as the store grows.

Knows nothing of how a call is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import texts
from benchmarks.measure import milliseconds, p50_note, resident_mb
from benchmarks.plan import Plan
from benchmarks.server import TYPING_S, add_all, arrive, ask_all, serving, warm

ADD_TARGET_MS = 6.0
SEARCH_TARGET_MS = {1_000: 12.0, 10_000: 15.0, 100_000: 25.0}
OTHER_SEED = texts.SEED + 1
FIRST = 10
"""Additions of a server that has just begun."""
FILTERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tags 0.01 %", {"tags": ["rare"]}),
    ("tags 1 %", {"tags": ["some"]}),
    ("tags 50 %", {"tags": ["half"]}),
    ("where 0.01 %", {"where": {"ticket": texts.MATCHING}}),
    ("where 1 %", {"where": {"team": f"team-{texts.MATCHING}"}}),
    ("where 50 %", {"where": {"half": texts.MATCHING % 2}}),
)


def add(plan: Plan) -> None:
    """memory_add of one text, with the comparison to what is known."""
    made = list(texts.memories(plan.rounds * plan.calls + FIRST, OTHER_SEED))
    rounds = [made[FIRST + i * plan.calls : FIRST + (i + 1) * plan.calls] for i in range(plan.rounds)]
    for size in plan.sizes:
        with plan.work.copy_of(size) as home, serving(home) as client:
            arrive(client)
            first = milliseconds(add_all(client, made[:FIRST]), 0.5)
            note = f"p50, {TYPING_S:.0f} s after the tools were listed"
            plan.figure("add", f"first {FIRST} memory_add of a server at {size:,}", first, "ms", note=note)
            warm(client, home)
            _times(plan, "add", f"memory_add at {size:,}", [add_all(client, one) for one in rounds], ADD_TARGET_MS)


def search(plan: Plan) -> None:
    """memory_search of a question in one space."""
    for size in plan.sizes:
        asked = texts.questions(plan.calls, size)
        with plan.work.copy_of(size) as home, serving(home) as client:
            arrive(client)
            (first,) = ask_all(client, asked[:1])
            note = f"{TYPING_S:.0f} s after the tools were listed"
            plan.figure("search", f"first memory_search of a server at {size:,}", 1e3 * first, "ms", note=note)
            warm(client, home)
            rounds = [ask_all(client, asked) for _ in range(plan.rounds)]
            note = plan.vectors_note(size)
            _times(plan, "search", f"memory_search at {size:,}", rounds, SEARCH_TARGET_MS[size], note)
            plan.figure("search", f"resident memory at {size:,}", resident_mb(client.process.pid, home), "MB")


def filters(plan: Plan) -> None:
    """memory_search with filters of tags and metadata that match few, some and many memories."""
    for size in plan.sizes:
        asked = texts.questions(plan.calls, size)
        with plan.work.copy_of(size) as home, serving(home) as client:
            warm(client, home)
            for label, given in FILTERS:
                rounds = [ask_all(client, asked, **given) for _ in range(plan.rounds)]
                _times(plan, "filters", f"memory_search at {size:,}, {label}", rounds, SEARCH_TARGET_MS[size])


def _times(
    plan: Plan, section: str, name: str, rounds: list[list[float]], target_ms: float | None, note: str = ""
) -> None:
    everything = [seconds for times in rounds for seconds in times]
    said = "; ".join(part for part in (p50_note(rounds), note) if part)
    plan.figure(section, f"{name}, p50", milliseconds(everything, 0.5), "ms", target_ms, note=said)
    plan.figure(section, f"{name}, p95", milliseconds(everything, 0.95), "ms")


SECTIONS: dict[str, Callable[[Plan], None]] = {"add": add, "search": search, "filters": filters}
