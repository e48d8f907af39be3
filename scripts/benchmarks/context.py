"""Section context: a chat over changing memories, with the block of `memory_context` and with hits pasted each turn.

Each turn's prompt is the memories and the question, without the chat's own history. Of each way: how much of the prompt
is the same as before from its beginning, whether what is needed is in it, and what it costs at a provider's prices.
What a real server makes of the same prompts is measured by `benchmarks.prefix_cache`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any

from benchmarks import chat, prefix_cache
from benchmarks.client import Client
from benchmarks.plan import Plan
from benchmarks.prefix_cache import Sent
from benchmarks.server import serving, warm
from memos_mcp.context import block, prices
from memos_mcp.context.tokens import estimate
from memos_mcp.cube import Snapshot

TURNS, BUDGET = 50, 6_000
PASTED = (5, 8, 20)
SEEDS = (1, 2, 3)


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
    first: list[Way] = []
    for seed in SEEDS[:1] if plan.quick else SEEDS:
        made = _played(plan, f"chat-{seed}", chat.make(seed, turns), BUDGET, PASTED)
        first = first or made
        for way in made:
            _told(plan, way, f"seed {seed}", target=0.9 if way is made[0] else None)
    if not plan.quick:
        often = _played(plan, "chat-often", chat.make(SEEDS[0], turns, forgets=2 * chat.FORGETS), BUDGET, ())
        _told(plan, often[0], f"seed {SEEDS[0]}, twice as much forgotten", target=None)
    sent = {way.name: [Sent(prompt.cached, prompt.rest) for prompt in way.prompts] for way in first}
    prefix_cache.measured(plan, sent, lambda model: _asked(plan, chat.make(SEEDS[0], turns), model))


def _asked(plan: Plan, made: chat.Chat, model: str) -> list[dict[str, Any]]:
    """What `memory_ask` says of each turn of the chat, answered by this model."""
    told: list[dict[str, Any]] = []
    ids: dict[int, str] = {}
    home = plan.work.folder / "chat-asked"
    with serving(home, model=model) as client:
        warm(client)
        _begun(client, made, ids)
        for turn, step in enumerate(made.steps):
            _happens(client, made, step, ids, [], purge=bool(turn % 2))
            asked = {"question": made.facts[step.asked].question, "max_tokens": 1}
            told.append(client.call("memory_ask", asked)[0])
    return told


def _begun(client: Client, made: chat.Chat, ids: dict[int, str]) -> None:
    """What is known before the first turn."""
    for text in chat.PREFERENCES:
        client.call("memory_add", {"content": text, "kind": "preference"})
    for number in made.known:
        ids[number] = _kept(client, made.facts[number])


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
        _begun(client, made, ids)
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
