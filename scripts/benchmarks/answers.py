"""Section answers: how many answers of the small trained model are right, by how it got to know the facts.

Held-out facts in English and Chinese, each a memory of its own, and a question about one of them. Knows how memories
are put together for a model: read as one text, restored, read apart and joined, or thinned to fewer cells.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tiny_model.facts import ANSWER_END, Case, cases

from benchmarks.plan import Plan
from memos_mcp.activation.engine import Engine, EngineSettings, Resident
from memos_mcp.backends.llama.engine import LlamaEngine

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model" / "model.gguf"
SEED = 41
FACTS = (1, 4, 8, 16)
CASES, QUICK_CASES = 200, 20
MOST_TOKENS = 12
CONTEXT = 8
"""Facts of the cases in which memories are thinned."""
SHARES = (2, 4, 8)
"""Of so many cells one is left."""

Know = Callable[[Engine, Case], Resident]
"""Has the engine know a case's facts, in a sequence that the question is to follow."""
Choose = Callable[[Engine, Case, list[int], int], list[int]]
"""Of a case's tokens, the places of those that are kept when one in so many is."""


def answers(plan: Plan) -> None:
    """Right answers without memory, from text, from the exact state, from joined blocks, and from thinned states."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("answers", "right answers", None, "%", note="the extra activation is not installed")
        return
    with tempfile.TemporaryDirectory() as folder, closing(LlamaEngine(EngineSettings(MODEL), Path(folder))) as engine:
        count = QUICK_CASES if plan.quick else CASES
        for facts in FACTS:
            asked = list(cases(SEED, count, facts))
            text = [_answered(engine, case, _read) for case in asked]
            _share(plan, f"{facts} facts, text in the prompt", text, asked)
            _share(plan, f"{facts} facts, no memory", [_answered(engine, case, _nothing) for case in asked], asked)
            exact = [_answered(engine, case, _restored) for case in asked]
            same = sum(a == b for a, b in zip(exact, text, strict=True))
            _share(plan, f"{facts} facts, state restored", exact, asked, f"{same} of {count} answers as from the text")
            for name, know in (("apart, each from the start token", _joined), ("apart, in pairs", _joined_pairs)):
                joined = [_answered(engine, case, know) for case in asked] if facts > 1 else []
                if joined:
                    same = sum(a == b for a, b in zip(joined, text, strict=True))
                    note = f"approximate; {same} of {count} answers as from the text"
                    _share(plan, f"{facts} facts, read {name}, and joined", joined, asked, note)
        asked = list(cases(SEED, count, CONTEXT))
        for name, choose in CHOICES.items():
            for share in SHARES:
                thinned = [_answered(engine, case, _thinned(choose, share)) for case in asked]
                _share(plan, f"{CONTEXT} facts, one cell in {share} kept: {name}", thinned, asked, "approximate")


def _share(plan: Plan, name: str, said: Sequence[str], asked: Sequence[Case], note: str = "") -> None:
    right = [answer == case.answer for answer, case in zip(said, asked, strict=True)]
    plan.figure("answers", f"right answers, {name}", 100 * sum(right) / len(right), "%", note=note)


def _answered(engine: Engine, case: Case, know: Know) -> str:
    sequence = know(engine, case)
    try:
        return engine.generate(sequence, engine.tokenize(case.question), MOST_TOKENS, stop=(ANSWER_END,)).text
    finally:
        engine.drop(sequence)


def _nothing(engine: Engine, case: Case) -> Resident:
    return engine.open()


def _lines(engine: Engine, case: Case) -> Iterator[tuple[int, ...]]:
    for line in case.statements:
        yield engine.tokenize(f"{line}\n")


def _read(engine: Engine, case: Case) -> Resident:
    sequence = engine.open()
    for tokens in _lines(engine, case):
        engine.read(sequence, tokens)
    return sequence


def _restored(engine: Engine, case: Case) -> Resident:
    sequence = _read(engine, case)
    blob, tokens = engine.save(sequence), engine.tokens(sequence)
    engine.drop(sequence)
    return engine.restore(blob, tokens)


def _joined(engine: Engine, case: Case, of: int = 1) -> Resident:
    lines = list(_lines(engine, case))
    blocks = []
    for start in range(0, len(lines), of):
        blocks.append(engine.open())
        for tokens in lines[start : start + of]:
            engine.read(blocks[-1], tokens)
    return engine.join(blocks)


def _joined_pairs(engine: Engine, case: Case) -> Resident:
    return _joined(engine, case, 2)


def _thinned(choose: Choose, share: int) -> Know:
    def know(engine: Engine, case: Case) -> Resident:
        sequence = _read(engine, case)
        tokens = list(engine.tokens(sequence))
        kept = {*choose(engine, case, tokens, share), len(tokens) - 1}
        engine.thin(sequence, [(place, place + 1) for place in range(len(tokens)) if place not in kept])
        return sequence

    return know


def _every(engine: Engine, case: Case, tokens: list[int], share: int) -> list[int]:
    return list(range(0, len(tokens), share))


def _by_chance(engine: Engine, case: Case, tokens: list[int], share: int) -> list[int]:
    return random.Random(SEED).sample(range(len(tokens)), len(tokens) // share)


def _rarest(engine: Engine, case: Case, tokens: list[int], share: int) -> list[int]:
    """The tokens that occur least often in the memories themselves: names and values rather than `the` and `is`."""
    order = sorted(range(len(tokens)), key=lambda place: (tokens.count(tokens[place]), place))
    return order[: len(tokens) // share]


def _last_of_each(engine: Engine, case: Case, tokens: list[int], share: int) -> list[int]:
    """The end of each memory, which alone has read all of it."""
    kept, end = list[int](), 0
    for line in _lines(engine, case):
        end += len(line)
        kept += range(end - max(len(line) // share, 1), end)
    return kept


CHOICES: dict[str, Choose] = {
    "every so many": _every,
    "by chance": _by_chance,
    "the rarest tokens": _rarest,
    "the end of each memory": _last_of_each,
}
