"""Section answers: how many answers of the small trained model are right, by how it got to know the facts.

Held-out facts in English and Chinese, each a memory of its own, and a question about one of them, through the verb ask:
from no memory, from the text, from the state of that text, from blocks that were read apart, and from thinned blocks.
Knows nothing of engines: a way is a composition of the store, and a question asked for the first or the second time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tiny_model.facts import Case, cases

from benchmarks.plan import Plan
from memos_mcp.activation.catalogue import Budgets
from memos_mcp.activation.composition import BLENDED, EXACT, Composition
from memos_mcp.activation.engine import EngineSettings
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel, opened
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.requests import AddRequest, AskRequest
from memos_mcp.settings import load

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model" / "model.gguf"
SEED = 41
FACTS = (1, 4, 8, 16)
CASES, QUICK_CASES = 200, 5
MOST_TOKENS = 8
BUDGETS = Budgets(512 << 20, 4_096 << 20)
SHARES = (2, 4, 8)
"""Of so many cells one is left."""
TOGETHER = (1, 2)
"""Facts that one memory holds, a line each, where memories are thinned."""
Memories = dict[str, str]
"""Ids by text."""


def answers(plan: Plan) -> None:
    """Right answers without memory, from text, from the exact state, from joined blocks, and from thinned blocks."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("answers", "right answers", None, "%", note="the extra activation is not installed")
        return
    count = QUICK_CASES if plan.quick else CASES
    asked = {facts: list(cases(SEED, count, facts)) for facts in FACTS}
    ways = [EXACT, BLENDED, *(Composition("thinned", share) for share in SHARES)]
    with (
        plan.work.fresh() as folder,
        opened(load({"home": str(folder / "home"), "embedder": "minilm"}, env={})) as kernel,
    ):
        caller, known = Caller("bench"), Memories()
        texts: dict[str, list[str]] = {}
        for way in ways:
            for together in TOGETHER if way.one_in > 1 else TOGETHER[:1]:
                with _asking(kernel, folder, way) as api:
                    for facts, chosen in asked.items():
                        if together > facts:
                            continue
                        sets = [_kept(api, caller, known, case, together) for case in chosen]
                        said = _answers(api, caller, chosen, sets)
                        name = f"{facts} facts, {together} a memory, {way.described}"
                        if way.exact:
                            texts[f"{facts}"] = said
                            _share(plan, f"{facts} facts, no memory", _answers(api, caller, chosen, [[]] * count), chosen)
                            _share(plan, f"{facts} facts, text read", said, chosen)
                            said = _answers(api, caller, chosen, sets)
                        same = sum(a == b for a, b in zip(said, texts[f"{facts}"], strict=True))
                        _share(plan, name, said, chosen, f"{same} of {count} answers as from the text")


@contextmanager
def _asking(kernel: Kernel, folder: Path, way: Composition) -> Iterator[MemoryAPI]:
    """The verbs of a store with the trained model, whose memories are put together in this way."""
    parts = kernel.api.parts
    engine = LlamaEngine(EngineSettings(MODEL), folder)
    states = folder / f"states-{way.name}-{way.one_in}"
    activation = ActivationMemory(parts.ledger, parts.vault, parts.jobs, engine, states, BUDGETS, parts.now, way)
    activation.start()
    try:
        yield MemoryAPI(replace(parts, activation=activation))
    finally:
        activation.close()


def _kept(api: MemoryAPI, caller: Caller, known: Memories, case: Case, together: int) -> list[str]:
    """The case's facts as memories, so many in each."""
    lines = case.statements
    texts = ["\n".join(lines[start : start + together]) for start in range(0, len(lines), together)]
    for text in texts:
        if text not in known:
            kind = "document" if together > 1 else None  # whose line ends stay
            known[text] = api.add(caller, AddRequest(content=text, kind=kind))["cubes"][0]["id"]
    return [known[text] for text in texts]


def _answers(api: MemoryAPI, caller: Caller, asked: Sequence[Case], sets: Sequence[list[str]]) -> list[str]:
    def ask(case: Case, ids: list[str]) -> str:
        bare = case.question.removeprefix("Q: ").removeprefix("问：").partition("\n")[0]
        return api.ask(caller, AskRequest(question=bare, ids=ids, max_tokens=MOST_TOKENS))["answer"]

    return [ask(case, ids) for case, ids in zip(asked, sets, strict=True)]


def _share(plan: Plan, name: str, said: Sequence[str], asked: Sequence[Case], note: str = "") -> None:
    right = sum(answer == case.answer.strip() for answer, case in zip(said, asked, strict=True))
    plan.figure("answers", f"right answers, {name}", 100 * right / len(asked), "%", note=note)
