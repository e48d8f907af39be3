"""Section context: a chat over changing memories, with the block of `memory_context` and with hits pasted each turn.

Each turn's prompt is the memories and the question, without the chat's own history. Of each way: how much of the prompt
is the same as before from its beginning, whether what is needed is in it, what it costs at a provider's prices, and the
first token's time from llama.cpp's own server, whose cache keeps the longest common prefix of one slot.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import httpx

from benchmarks import chat, random_model
from benchmarks.client import Client
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.server import serving, warm
from memos_mcp.backends.openai_completions import OpenAICompletions
from memos_mcp.context import block, prices
from memos_mcp.context.tokens import estimate
from memos_mcp.cube import Snapshot

TURNS, BUDGET = 50, 6_000
PASTED = (5, 8, 20)
SEEDS = (1, 2, 3)
TIMED_BUDGET, TIMED_TURNS = 500, 12
"""A byte is a token of the measured model, four times as many as of a real one: so the blocks are small here."""
SERVER_NEEDS = ("llama_cpp", "fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")


@dataclass(frozen=True)
class Prompt:
    """A prompt in the part that a host would cache, and the rest; `needed` is what must be in it, `gone` what not."""

    cached: str
    rest: str
    needed: str
    gone: tuple[str, ...]

    @property
    def whole(self) -> str:
        return self.cached + self.rest


@dataclass
class Way:
    """A way to put memories into prompts, and the prompts of its turns."""

    name: str
    prompts: list[Prompt] = field(default_factory=list)


def context(plan: Plan) -> None:
    """The three figures of each way, over chats of three seeds, and once with twice as much forgotten."""
    turns = 8 if plan.quick else TURNS
    for seed in SEEDS[:1] if plan.quick else SEEDS:
        made = _played(plan, f"chat-{seed}", chat.make(seed, turns), BUDGET, PASTED)
        for way in made:
            _told(plan, way, f"seed {seed}", target=0.9 if way is made[0] else None)
    if not plan.quick:
        often = _played(plan, "chat-often", chat.make(SEEDS[0], turns, forgets=2 * chat.FORGETS), BUDGET, ())
        _told(plan, often[0], f"seed {SEEDS[0]}, twice as much forgotten", target=None)
    _timed(plan)


def _told(plan: Plan, way: Way, note: str, target: float | None) -> None:
    prompts = way.prompts
    same = [_common(before.whole, after.whole) for before, after in pairwise(prompts)]
    sizes = [estimate(prompt.whole) for prompt in prompts]
    share = sum(map(estimate, same)) / sum(sizes[1:])
    found = sum(prompt.needed in prompt.whole for prompt in prompts)
    leaked = sum(text in prompt.whole for prompt in prompts for text in prompt.gone)
    cost = sum(_price(before, after) for before, after in zip([None, *prompts], prompts, strict=False)) / len(prompts)
    say = f"{note}; {statistics.mean(sizes):.0f} tokens a turn"
    plan.figure("context", f"{way.name}: same as before, from turn 2", share, "", target, at_least=True, note=say)
    plan.figure("context", f"{way.name}: needed memory in the prompt", found / len(prompts), "", note=note)
    plan.figure("context", f"{way.name}: cost of a turn in plain tokens", cost, "", note=f"{note}; Anthropic's prices")
    plan.figure("context", f"{way.name}: forgotten text shown", float(leaked), "times", 0.0, note=note)


def _price(before: Prompt | None, after: Prompt) -> float:
    """What the prompt costs: its cached part read or written, the rest at full price."""
    cached = estimate(after.cached)
    read = min(estimate(_common(before.cached, after.cached)) if before else 0, cached)
    paid = prices.ANTHROPIC
    return paid.read * read + paid.write * (cached - read) + estimate(after.whole) - cached


def _played(plan: Plan, name: str, made: chat.Chat, budget: int, pasted: Sequence[int]) -> list[Way]:
    """The chat over MCP on a store of its own; the prompts of each way."""
    ours = Way("memory_context")
    ways = [ours, *(Way(f"top {count} pasted") for count in pasted), Way("pasted, as many tokens")]
    gone: list[str] = []
    home = plan.work.folder / name
    with serving(home) as client:
        warm(client)
        ids: dict[int, str] = {}
        for text in chat.PREFERENCES:
            client.call("memory_add", {"content": text, "kind": "preference"})
        for number in made.known:
            ids[number] = _kept(client, made.facts[number])
        for turn, step in enumerate(made.steps):
            _happens(client, made, step, ids, gone, purge=bool(turn % 2))
            fact = made.facts[step.asked]
            question = f"\nQuestion: {fact.question}\n"
            given, _ = client.call("memory_context", {"task": fact.question, "budget_tokens": budget})
            ours.prompts.append(Prompt(given["prefix"], given["suffix"] + question, fact.value, tuple(gone)))
            hits, _ = client.call("memory_search", {"query": fact.question, "top_k": 50, "max_chars": 1_000_000})
            lines = [_line(place, hit) for place, hit in enumerate(hits["hits"], 1)]
            room = estimate(given["prefix"] + given["suffix"])
            for way, count in zip(ways[1:], [*pasted, _fitting(lines, room)], strict=True):
                said = block.HEAD + block.part(lines[:count]) + question
                way.prompts.append(Prompt("", said, fact.value, tuple(gone)))
    return ways


def _happens(
    client: Client, made: chat.Chat, step: chat.Step, ids: dict[int, str], gone: list[str], *, purge: bool
) -> None:
    for number in step.added:
        ids[number] = _kept(client, made.facts[number])
    for number, value in step.changed:
        made.facts[number].value = value
        client.call("memory_update", {"id": ids[number], "content": made.facts[number].text})
    for number in step.forgotten:
        gone.append(made.facts[number].value)
        client.call("memory_forget", {"ids": [ids[number]], "mode": "purge" if purge else "archive"})


def _kept(client: Client, fact: chat.Fact) -> str:
    added, _ = client.call("memory_add", {"content": fact.text})
    return str(added["cubes"][0]["id"])


def _line(place: int, hit: dict[str, Any]) -> str:
    return block.line(block.Text(place, "said", Snapshot(hit["text"], kind=hit["kind"]), hit["valid_from"]))


def _fitting(lines: Sequence[str], room: int) -> int:
    used = estimate(block.HEAD) + block.FENCES
    for count, line in enumerate(lines):
        used += estimate(line)
        if used > room:
            return count
    return len(lines)


def _common(a: str, b: str) -> str:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return a[: sum(1 for _ in pairs)]


def _timed(plan: Plan) -> None:
    """First tokens of the last turns of a small chat, the first of them not counted: it finds an empty cache."""
    missing = [name for name in SERVER_NEEDS if find_spec(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)} (pip install 'llama-cpp-python[server]')"
        plan.figure("context", "first token", None, "s", note=reason)
        return
    shape = random_model.TINY if plan.quick else random_model.HALF_B
    path = plan.work.folder / f"random-{shape.embedding}.gguf"
    if not path.exists():
        random_model.write(path, shape, kind="q8_0", legible=True)
    ways = _played(plan, "chat-timed", chat.make(SEEDS[0], 8 if plan.quick else 30), TIMED_BUDGET, (5,))
    with _model_server(path) as url:
        model = OpenAICompletions(f"{path}@{url}")
        for way in ways:
            prompts = way.prompts[-TIMED_TURNS - 1 :]
            spoken = [model.speak(prompt.cached, prompt.rest, 1).first_token_s for prompt in prompts][1:]
            size = statistics.mean(len(prompt.whole.encode()) for prompt in prompts)
            spread = f"{min(spoken):.2f} to {max(spoken):.2f}"
            note = f"{len(spoken)} turns, {spread} s; {size:.0f} bytes a prompt, each a token; width {shape.embedding}"
            plan.figure("context", f"{way.name}: first token, p50", milliseconds(spoken, 0.5) / 1e3, "s", note=note)


@contextlib.contextmanager
def _model_server(model: Path) -> Iterator[str]:
    """llama.cpp's server of llama-cpp-python on loopback, for the length of a block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = random_model.HALF_B.context
    options = {"model": model, "model_alias": model, "host": "127.0.0.1", "port": port, "n_ctx": context}
    command = [sys.executable, "-m", "llama_cpp.server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        _answering(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answering(process: subprocess.Popen[bytes], url: str, limit_s: float = 120.0) -> None:
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < limit_s:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/models", trust_env=False).is_success:
                return
        time.sleep(0.2)
    raise RuntimeError("llama.cpp's server did not start")
