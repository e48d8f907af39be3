"""Section prefixes: which share of a chat's turns finds the memories of its answer read already, in whole or in part.

No model is needed: a state is as good as its memories, and those are what the real search finds for each turn. Every
set that was asked stays known until a memory in it changes, so this is the most that any budget can give.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import chat
from benchmarks.plan import Plan
from memos_mcp.activation.prefixes import PrefixTree
from memos_mcp.activation.reading import text_of
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel, opened
from memos_mcp.requests import AddRequest, ForgetRequest, SearchRequest, UpdateRequest
from memos_mcp.settings import load

TURNS = 100
SEEDS = (1, 2, 3)
FOUND = (1, 3, 5)
EMBED_S = 120.0
Sets = list[tuple[tuple[int, int, int], ...]]
"""For each turn its memories in canonical order: number, version, characters."""


@dataclass
class Known:
    """What of the turns' memories was known: turns of which all or some were, and characters."""

    whole: int = 0
    begun: int = 0
    turns: int = 0
    attached: int = 0
    characters: int = 0


def prefixes(plan: Plan) -> None:
    """The shares for one, three and five memories a turn, in canonical order and in the order of the search."""
    seeds = SEEDS[:1] if plan.quick else SEEDS
    for count in FOUND:
        known, ranked = Known(), Known()
        for seed in seeds:
            sets = _found(plan, seed, count)
            _count(known, [tuple(sorted(one)) for one in sets])
            _count(ranked, sets)
        note = f"{known.turns} turns of a generated chat, {count} memories each"
        for name, kept in (("canonical order", known), ("order of the search", ranked)):
            rows = (
                ("whole set known", kept.whole / kept.turns),
                ("begins with something known", kept.begun / kept.turns),
                ("text attached, not read", kept.attached / kept.characters),
            )
            for what, share in rows:
                plan.figure("prefixes", f"{what}, {name}, {count} found", 100 * share, "%", note=note)


def _count(known: Known, sets: Sets) -> None:
    tree: PrefixTree[tuple[int, int], int] = PrefixTree()
    for holder, one in enumerate(sets):
        steps = [(seq, version) for seq, version, _ in one]
        _, depth = tree.longest(steps)
        known.turns += 1
        known.whole += depth == len(steps)
        known.begun += depth > 0
        known.attached += sum(size for _, _, size in one[:depth])
        known.characters += sum(size for _, _, size in one)
        tree.add(steps, holder)


def _found(plan: Plan, seed: int, count: int) -> Sets:
    """What the search finds at each turn of the chat of this seed; a changed memory has another version."""
    talk = chat.make(seed, 30 if plan.quick else TURNS)
    with opened(load({"home": str(plan.work.folder / f"prefixes-{seed}-{count}")}, env={})) as kernel:
        caller, ids = Caller("bench"), dict[int, str]()
        texts = {number: fact.text for number, fact in enumerate(talk.facts)}
        for number in talk.known:
            ids[number] = _add(kernel, caller, texts[number])
        kernel.api.parts.indexer.wait_embedded((1,), EMBED_S)
        sets: Sets = []
        for step in talk.steps:
            _changes(kernel, caller, talk, step, ids)
            wanted = SearchRequest(query=talk.facts[step.asked].question, top_k=count)
            hits = kernel.api.search(caller, wanted)["hits"]
            with kernel.ledger.read() as connection:
                cubes = kernel.api.parts.vault.by_ids(connection, [hit["id"] for hit in hits])
            found = [cubes[hit["id"]] for hit in hits]
            sets.append(tuple((cube.seq, cube.version, len(text_of(cube))) for cube in found))
    return sets


def _changes(kernel: Kernel, caller: Caller, talk: chat.Chat, step: chat.Step, ids: dict[int, str]) -> None:
    for number in step.added:
        ids[number] = _add(kernel, caller, talk.facts[number].text)
    for number, value in step.changed:
        talk.facts[number].value = value
        kernel.api.update(caller, UpdateRequest(id=ids[number], content=talk.facts[number].text))
    for number in step.forgotten:
        kernel.api.forget(caller, ForgetRequest(ids=[ids[number]]))


def _add(kernel: Kernel, caller: Caller, text: str) -> str:
    return kernel.api.add(caller, AddRequest(content=text))["cubes"][0]["id"]
