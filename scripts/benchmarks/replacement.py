"""Section replacement: how often what was needed was still in a bounded set, by which rule the set makes room.

Knows the policies alone, and no store: the product's rule beside LRU, LFU and heat alone, on the same traces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from benchmarks.plan import Plan
from benchmarks.traces import Trace, Vector, generated, recorded
from memos_mcp.backends.minilm import MiniLM
from memos_mcp.cube import Figures, instant
from memos_mcp.policies import use
from memos_mcp.policies.heat import heat
from memos_mcp.policies.replacement import STANDARD, Member, Weights, going
from memos_mcp.policies.use import Happened

ROOM = (16, 64)
"""Memories that the set has room for."""
SETS = ("realmem_dev.json", "locomo_dev.json", "memorybank_zh_dev.json")


@dataclass
class Held:
    """A memory of the set: when it was last used, by count of steps, how often, and its figures."""

    last: int
    count: int
    figures: Figures


@dataclass
class State:
    """The set at a moment; `past` keeps the figures of what left it, as the ledger does."""

    now: datetime
    step: int = 0
    about: Vector | None = None
    held: dict[int, Held] = field(default_factory=dict)
    past: dict[int, Figures] = field(default_factory=dict)


Rule = Callable[[State, Trace], int]
"""Which memory goes."""


def lru(state: State, _: Trace) -> int:
    return min(state.held, key=lambda one: (state.held[one].last, one))


def lfu(state: State, _: Trace) -> int:
    return min(state.held, key=lambda one: (state.held[one].count, state.held[one].last, one))


def warmth(held: Held, now: datetime) -> float:
    return heat(use.seen(held.figures, now.astimezone()))


def heat_alone(state: State, _: Trace) -> int:
    return min(state.held, key=lambda one: (warmth(state.held[one], state.now), state.held[one].last, one))


def by_policy(weights: Weights) -> Rule:
    """The product's own rule with these weights."""

    def rule(state: State, trace: Trace) -> int:
        about = state.about
        members = [
            Member(
                str(one), state.step - held.last, warmth(held, state.now) if weights.heat else 0.0,
                max(float(trace.vectors[one] @ about), 0.0) if about is not None and weights.relevance else 0.0,
            )
            for one, held in state.held.items()
        ]  # fmt: skip
        return int(going(members, len(members) - 1, "the set", weights)[0].key)

    return rule


RULES: dict[str, Rule] = {
    "LRU": lru,
    "LFU": lfu,
    "heat alone": heat_alone,
    "ours": by_policy(STANDARD),
    "ours without the task": by_policy(Weights(STANDARD.recency, 0.0, STANDARD.heat)),
}


def hit_rate(trace: Trace, room: int, rule: Rule) -> tuple[int, int]:
    """Needed memories that were in the set, and all that were needed. What is written or needed comes into the set."""
    state = State(trace.steps[0].at)
    hits = needed = 0
    for step in trace.steps:
        state.now, state.step = step.at, state.step + 1
        state.about = step.about if step.about is not None else state.about
        needed += len(step.needed)
        hits += sum(one in state.held for one in step.needed)
        for one in (*step.written, *step.needed):
            _use(state, one, "served" if one in step.needed else None)
            while len(state.held) > room:
                gone = rule(state, trace)
                state.past[gone] = state.held.pop(gone).figures
    return hits, needed


def _use(state: State, one: int, event: str | None) -> None:
    at = instant(state.now.astimezone())
    held = state.held.get(one)
    figures = held.figures if held is not None else state.past.get(one) or use.begun(at)
    if event is not None:
        figures = use.fold(figures, [Happened(event, at), Happened("cited", at)])
    state.held[one] = Held(state.step, held.count + 1 if held is not None else 1, figures)


def replacement(plan: Plan) -> None:
    """Hit rate of each rule on each kind of trace; recorded traces where a folder of data is named."""
    size = (300, 200) if plan.quick else (2_000, 1_500)
    traces = {trace.name: [trace] for trace in generated(1, *size)}
    if plan.data is not None:
        embedder = MiniLM()
        for name in SETS:
            if (plan.data / name).exists():
                found = recorded(plan.data / name, embedder)
                traces[name.removesuffix(".json")] = found[:1] if plan.quick else found
    for name, of_kind in traces.items():
        for room in ROOM:
            _report(plan, name, of_kind, room)


def _report(plan: Plan, name: str, traces: Sequence[Trace], room: int) -> None:
    for label, rule in RULES.items():
        found = np.array([hit_rate(trace, room, rule) for trace in traces]).sum(axis=0)
        share = float(found[0]) / max(int(found[1]), 1)
        plan.figure("replacement", f"{name}, room for {room}: {label}", share, "", note=f"{found[1]:,} needed")
