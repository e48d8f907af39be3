"""Section tiers: what each tier of memory takes to give what it holds, beside what users are told to expect.

In process, at each size: activation (attaching a state that the model has in its context), working memory (reading the
set of a session), the middle term (a search within one session), the long term (a search of everything), the archive
(a search that asks for it too), tool traces (a search of them alone). Knows nothing of how a tier is kept.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.ranking import BUILD_S, MILLION
from benchmarks.server import eventually
from benchmarks.stores import caller, opened, wait_indexed
from memos_mcp.kernel import Kernel
from memos_mcp.requests import AddRequest, AskRequest, ForgetRequest, PromoteRequest, SearchRequest
from memos_mcp.settings import write_config

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model" / "model.gguf"
CALLS = 100
TRACES, PUT_AWAY = 200, 200
EXPECTED = {
    "activation": 1.0, "working": 50.0, "mid-term": 200.0, "long-term": 1_000.0, "archive": 1_000.0,
    "tool traces": 500.0,
}  # fmt: skip
"""Milliseconds that users are told to expect at most."""


def tiers(plan: Plan) -> None:
    """Every tier at each size; at a million where its store was built already, by the section of that name."""
    if not plan.work.has(MILLION):
        plan.work.say("tiers: no store of a million here (scripts/bench million --work DIR builds it, in an hour)")
    for size in (*plan.sizes, MILLION) if plan.work.has(MILLION) and not plan.quick else plan.sizes:
        with plan.work.copy_of(size) as home:
            if has_model():
                write_config(home, "model", str(MODEL))
            with opened(home) as kernel:
                wait_indexed(kernel)
                _at(plan, kernel, size)


def has_model() -> bool:
    """Whether a local model can be asked here."""
    return importlib.util.find_spec("llama_cpp") is not None and MODEL.exists()


def _at(plan: Plan, kernel: Kernel, size: int) -> None:
    asked = texts.questions(CALLS, size)
    _keep_traces(kernel)
    _put_away(kernel, asked)
    _wait_quiet(kernel)
    session = next(memory.session for memory in texts.memories(1))
    for name, given in (
        ("mid-term", {"session": session}), ("long-term", {}), ("archive", {"include": ["archived"]}),
        ("tool traces", {"kinds": ["tool_trace"]}),
    ):  # fmt: skip
        _tell(plan, name, size, _searches(kernel, asked, given))
    _tell(plan, "working", size, _timed(CALLS, lambda _: kernel.api.working(caller())))
    if has_model():
        _tell(plan, "activation", size, _attached(kernel))
    else:
        print("activation: llama-cpp-python is not installed, so that no state is attached")


def _wait_quiet(kernel: Kernel) -> None:
    """Until all is read that was written, and what is held in memory is made anew."""
    eventually(lambda: not kernel.busy, BUILD_S, "what is read behind the calls")
    kernel.api.parts.maker.submit(int).result(BUILD_S)


def _tell(plan: Plan, name: str, size: int, times: Sequence[float]) -> None:
    for share in (0.5, 0.95):
        plan.figure(
            "tiers", f"{name} at {size:,}, p{100 * share:.0f}", milliseconds(times, share), "ms", EXPECTED[name],
            note="target: what users are told to expect at most",
        )  # fmt: skip


def _timed(count: int, act: Callable[[int], Any]) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        act(number)
        times.append(time.perf_counter() - began)
    return times


def _searches(kernel: Kernel, asked: Sequence[str], given: dict[str, Any]) -> list[float]:
    requests = [SearchRequest.model_validate({"query": question, **given}) for question in asked]
    kernel.api.search(caller(), requests[0])
    return _timed(len(requests), lambda number: kernel.api.search(caller(), requests[number]))


def _keep_traces(kernel: Kernel) -> None:
    traces = [
        {"role": "tool", "content": json.dumps({"tool": f"tool-{n % 9}", "arguments": {"n": n}, "result": f"{n} rows"})}
        for n in range(TRACES)
    ]
    kernel.api.add(caller(), AddRequest.model_validate({"messages": traces, "kind": "tool_trace"}))


def _put_away(kernel: Kernel, asked: Sequence[str]) -> None:
    """Archive some memories, so that there is an archive to look into."""
    ids: list[str] = []
    for question in asked[: PUT_AWAY // 5]:
        ids += [hit["id"] for hit in kernel.api.search(caller(), SearchRequest(query=question))["hits"]]
    kernel.api.forget(caller(), ForgetRequest(ids=list(dict.fromkeys(ids))[:PUT_AWAY]))


def _attached(kernel: Kernel) -> list[float]:
    """Seconds that attaching a kept state takes, as memory_ask tells it; nothing of the answer."""
    question = "What is Ana Lind's code?"
    kept = kernel.api.add(caller(), AddRequest(content="Ana Lind's code is T48."))
    ids = [cube["id"] for cube in kept["cubes"]] or kept["unchanged"]
    kernel.api.promote(caller(), PromoteRequest(ids=ids, to="activation"))
    request = AskRequest(question=question, ids=ids, max_tokens=4)
    kernel.api.ask(caller(), request)
    _wait_quiet(kernel)
    return [kernel.api.ask(caller(), request)["timing"]["attach_s"] for _ in range(CALLS)]
