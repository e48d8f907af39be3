"""Section preload: how much of what is used was in the working set before it was asked for, and what filling costs.

Knows the sets only as the product shows them. A memory is used if it is evidence of the question, as whoever labelled
the data says; nothing of that is shown to the product, which learns from what its own searches serve. Beside it stand
sets of the same size: the memories added or served last (LRU), and those nearest in meaning to the latest message.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.replay import Ready, data_in, replay
from benchmarks.stores import caller, opened, wait_indexed
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.requests import SearchRequest

SIZES = (8, 16, 32)
BETTER_BY = 10.0
"""Points by which the working set is to hold more than each of the others."""
SESSIONS = 1_000
MEMORIES = 10_000
WARM_UP = 20
PAUSE_S = 0.06
"""Seconds between two searches: those in which a set is just being filled when the next one comes."""


def preload(plan: Plan) -> None:
    """Shares of used memories that stood ready, for each data file; then what it costs."""
    if plan.data is None:
        plan.work.say("preload: no data was named, so no sessions are replayed (--data FOLDER)")
    for name, stores in (data_in(plan.data) if plan.data is not None else {}).items():
        chosen = stores[:1] if plan.quick else stores
        for told in (False, True):
            ready: list[Ready] = []
            for store in chosen:
                with plan.work.fresh() as folder:
                    ready += replay(store, folder / "home", told=told)
            _report(plan, name, ready, told=told)
    _cost(plan)


def _report(plan: Plan, name: str, ready: list[Ready], *, told: bool) -> None:
    when = "once the message has come" if told else "before the message"
    used = sum(len(one.used) for one in ready)
    for size in SIZES:
        ours = _share(ready, size, (one.working for one in ready))
        others = {
            "LRU": _share(ready, size, (one.recent for one in ready)),
            "similarity": _share(ready, size, (one.similar for one in ready)),
        }
        note = ", ".join(f"{other} {share:.1f}" for other, share in others.items())
        target = min(max(others.values()) + BETTER_BY, 100.0)
        label = f"{name}, {when}: of {used:,} used memories were among {size} held ready"
        plan.figure("preload", label, ours, "%", target, at_least=True, note=note)


def _share(ready: list[Ready], size: int, sets: Iterable[list[int]]) -> float:
    found = total = 0
    for one, held in zip(ready, sets, strict=True):
        first = set(held[:size])
        total += len(one.used)
        found += sum(not first.isdisjoint(group) for group in one.used)
    return 100.0 * found / max(total, 1)


def _cost(plan: Plan) -> None:
    """What searches cost with the filling stopped and going, in turns, so that both meet the same machine."""
    size = min(MEMORIES, max(plan.sizes))
    asked = itertools.cycle(texts.questions(plan.rounds * plan.calls, size))
    with plan.work.copy_of(size) as home, opened(home) as kernel:
        wait_indexed(kernel)
        _searched(kernel, caller(), asked, WARM_UP)
        stopped, going = list[float](), list[float]()
        for _ in range(plan.rounds):
            kernel.api.parts.working.stop()
            stopped += _searched(kernel, caller(), asked, plan.calls, PAUSE_S)
            kernel.api.parts.working.catch_up()
            kernel.api.parts.working.start()
            going += _searched(kernel, caller(), asked, plan.calls, PAUSE_S)
            kernel.api.parts.working.catch_up()
        for label, times in (("no set filled", stopped), ("sets filled behind", going)):
            for name, share in (("p50", 0.5), ("p95", 0.95)):
                plan.figure("preload", f"search at {size:,}, {label}, {name}", milliseconds(times, share), "ms")
        filled, looked = list[float](), list[float]()
        for _ in range(plan.calls):
            _searched(kernel, caller(), asked, 1)
            filled.append(_timed(kernel.api.parts.working.catch_up))
            looked.append(_timed(lambda: kernel.api.working(caller())))
        plan.figure("preload", f"filling a set at {size:,}, p50", milliseconds(filled, 0.5), "ms")
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            label = f"reading a working set at {size:,}, {name}"
            plan.figure("preload", label, milliseconds(looked, share), "ms", 50.0)
        _many_sessions(plan, kernel, asked)


def _many_sessions(plan: Plan, kernel: Kernel, asked: Iterator[str]) -> None:
    """What the sets of many sessions take together."""
    sessions = SESSIONS // 20 if plan.quick else SESSIONS
    for number in range(sessions):
        one = replace(caller(), request=f"bridge {number}:1")
        _searched(kernel, one, asked, 1)
    kernel.api.parts.working.catch_up()
    figures = kernel.api.parts.working.figures()
    note = f"{figures['memories']:,} memories in {figures['sessions']:,} sets"
    plan.figure("preload", f"the sets of {sessions:,} sessions", figures["bytes"] / (1 << 20), "MB", note=note)


def _searched(kernel: Kernel, who: Caller, asked: Iterator[str], count: int, pause_s: float = 0.0) -> list[float]:
    """Seconds that each search took; they begin `pause_s` after the one before has ended."""
    times = []
    for question in itertools.islice(asked, count):
        request = SearchRequest(query=question)
        time.sleep(pause_s)
        times.append(_timed(partial(kernel.api.search, who, request)))
    return times


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
