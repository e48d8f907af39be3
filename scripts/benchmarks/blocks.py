"""Section blocks: the first token where memories that are known come together in a set that is new.

Through the verb ask, over random weights in a real shape: what is said is noise, what it takes is not. Every memory has
been read before. In exact composition that helps as far as the set begins as an earlier one did.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
from collections.abc import Sequence

from benchmarks import random_model
from benchmarks.asking import CALLER, asking
from benchmarks.plan import Plan
from memos_mcp.activation.composition import BLENDED, EXACT
from memos_mcp.kernel import Kernel, opened
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.requests import AddRequest, AskRequest
from memos_mcp.results import AskResult
from memos_mcp.settings import load

SEED = 8
MEMORIES, TOGETHER, CHARACTERS = 8, 4, 100
"""So many memories of so many characters, each a token of the model; so many are asked of at a time."""
QUESTIONS = 3
QUESTION = "Who?"


def blocks(plan: Plan) -> None:
    """The first token of each way, and what of it is attaching and reading."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("blocks", "first token", None, "ms", note="the extra activation is not installed")
        return
    shape = random_model.TINY if plan.quick else random_model.HALF_B
    path = plan.work.folder / f"random-{shape.embedding}-{shape.words}.gguf"
    if not path.exists():
        random_model.write(path, shape, kind="q8_0")
    rng = random.Random(SEED)
    sets = [sorted(rng.sample(range(MEMORIES), TOGETHER)) for _ in range(QUESTIONS)]
    with plan.work.fresh() as folder, opened(load({"home": str(folder / "home")}, env={})) as kernel:
        ids = _memories(kernel)
        for way in (BLENDED, EXACT):
            with asking(kernel, folder, path, way) as api:
                for start in range(0, MEMORIES, TOGETHER):
                    _ask(api, ids[start : start + TOGETHER])
                told = [_ask(api, [ids[place] for place in one]) for one in sets]
                again = _ask(api, [ids[place] for place in sets[-1]])
            _report(plan, f"{way.name}, a new set of known memories", told)
            _report(plan, f"{way.name}, the same set again", [again])


def _memories(kernel: Kernel) -> list[str]:
    rng = random.Random(SEED)
    texts = [f"{n} " + "".join(rng.choice("abcdefghij klmnop") for _ in range(CHARACTERS)) for n in range(MEMORIES)]
    return [kernel.api.add(CALLER, AddRequest(content=text))["cubes"][0]["id"] for text in texts]


def _ask(api: MemoryAPI, ids: Sequence[str]) -> AskResult:
    return api.ask(CALLER, AskRequest(question=QUESTION, ids=list(ids), max_tokens=1))


def _report(plan: Plan, name: str, told: Sequence[AskResult]) -> None:
    parts = [(one["timing"]["attach_s"], one["timing"]["read_s"], one["timing"]["first_token_s"]) for one in told]
    attach, read, first = (1e3 * statistics.median(column) for column in zip(*parts, strict=True))
    whole = [1e3 * sum(row) for row in parts]
    ways = sorted({cube["how"] for one in told for cube in one["used"]})
    note = (
        f"attaching {attach:.0f}, reading {read:.0f}, question {first:.0f} ms; {min(whole):.0f} to {max(whole):.0f}; "
        f"{TOGETHER} memories of {CHARACTERS} tokens: {', '.join(ways)}"
    )
    plan.figure("blocks", f"first token, {name}", statistics.median(whole), "ms", note=note)
