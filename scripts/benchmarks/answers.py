"""Section answers: how many answers of the small trained model are right, by how it got to know the facts.

Held-out facts in English and Chinese, each a memory of its own, and a question about one of them, through the verb ask:
from no memory, from the text, from the state of that text, from blocks that were read apart, and from thinned blocks.
Knows nothing of engines: a way is a composition of the store, and a question asked for the first or the second time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tiny_model.facts import Case, cases

from benchmarks.asking import CALLER, asking
from benchmarks.plan import Plan
from memos_mcp.activation.composition import BLENDED, EXACT, Composition
from memos_mcp.kernel import Kernel, opened
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.requests import AddRequest, AskRequest
from memos_mcp.settings import load

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model" / "model.gguf"
SEED = 41
FACTS = (1, 4, 8, 16)
CASES, QUICK_CASES = 100, 5
MOST_TOKENS = 8
PAIRED = (8,)
"""Facts of the cases in which a memory holds two of them, a line each."""
SHARES = (2, 4, 8)
"""Of so many cells one is left."""
Memories = dict[str, str]
"""Ids by text."""


def answers(plan: Plan) -> None:
    """Right answers without memory, from text, from the exact state, from joined blocks, and from thinned blocks."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("answers", "right answers", None, "%", note="the extra activation is not installed")
        return
    count = QUICK_CASES if plan.quick else CASES
    asked = {facts: list(cases(SEED, count, facts)) for facts in FACTS}
    thinned = [Composition("thinned", share) for share in SHARES]
    with plan.work.fresh() as folder, opened(load({"home": str(folder / "home")}, env={})) as kernel:
        known = Memories()
        read = _from_text(plan, kernel, folder, known, asked)
        for together, numbers, ways in ((1, FACTS, [BLENDED, *thinned]), (2, PAIRED, thinned)):
            for way in ways:
                with asking(kernel, folder, MODEL, way) as api:
                    for facts in numbers:
                        chosen = asked[facts]
                        said = _answers(api, chosen, [_kept(api, known, case, together) for case in chosen])
                        what = f"{facts} facts, {together} a memory, {way.described}"
                        _share(plan, what, said, chosen, _same(said, read[facts]))


def _from_text(
    plan: Plan, kernel: Kernel, folder: Path, known: Memories, asked: dict[int, list[Case]]
) -> dict[int, list[str]]:
    """What is answered from the text, for each number of facts; reports that, and the answers from its state and from
    nothing."""
    read: dict[int, list[str]] = {}
    with asking(kernel, folder, MODEL, EXACT) as api:
        for facts, chosen in asked.items():
            sets = [_kept(api, known, case, 1) for case in chosen]
            _share(plan, f"{facts} facts, no memory", _answers(api, chosen, [[] for _ in chosen]), chosen)
            read[facts] = _answers(api, chosen, sets)
            _share(plan, f"{facts} facts, text read", read[facts], chosen)
            again = _answers(api, chosen, sets)
            _share(plan, f"{facts} facts, exact state", again, chosen, _same(again, read[facts]))
    return read


def _same(said: Sequence[str], read: Sequence[str]) -> str:
    return f"{sum(a == b for a, b in zip(said, read, strict=True))} of {len(read)} answers as from the text"


def _kept(api: MemoryAPI, known: Memories, case: Case, together: int) -> list[str]:
    """The case's facts as memories, so many in each."""
    lines = case.statements
    texts = ["\n".join(lines[start : start + together]) for start in range(0, len(lines), together)]
    for text in texts:
        if text not in known:
            kind = "document" if together > 1 else None  # whose line ends stay
            known[text] = api.add(CALLER, AddRequest(content=text, kind=kind))["cubes"][0]["id"]
    return [known[text] for text in texts]


def _answers(api: MemoryAPI, asked: Sequence[Case], sets: Sequence[list[str]]) -> list[str]:
    def ask(case: Case, ids: list[str]) -> str:
        bare = case.question.removeprefix("Q: ").removeprefix("问：").partition("\n")[0]
        return api.ask(CALLER, AskRequest(question=bare, ids=ids, max_tokens=MOST_TOKENS))["answer"]

    return [ask(case, ids) for case, ids in zip(asked, sets, strict=True)]


def _share(plan: Plan, name: str, said: Sequence[str], asked: Sequence[Case], note: str = "") -> None:
    right = sum(answer == case.answer.strip() for answer, case in zip(said, asked, strict=True))
    plan.figure("answers", f"right answers, {name}", 100 * right / len(asked), "%", note=note)
