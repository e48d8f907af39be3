"""Section steering: what a steering vector does to the answers of the small trained model, and what it costs.

Each contrast is two values of an attribute: facts with the one against facts with the other, about names of the
training split. Asked is about held-out names, of which both values are said, in either order; and what else is right.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tiny_model.facts import ANSWER_END, CHINESE, ENGLISH, Case, Fact, Split, cases, draw_facts

from benchmarks.plan import Plan
from memos_mcp.activation.contrast import contrast
from memos_mcp.activation.engine import NOTHING, Engine, EngineSettings, Mounts, Steering
from memos_mcp.backends.llama.engine import LlamaEngine

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model" / "model.gguf"
SEED = 41
SIDE, QUICK_SIDE = 24, 6
"""Facts of a side."""
QUESTIONS, QUICK_QUESTIONS = 40, 6
WEIGHTS = (-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
OTHERS = 4
"""Facts of an unrelated question's memory."""
MOST_TOKENS, SEEN = 8, 16


@dataclass(frozen=True)
class Pair:
    """Two values of an attribute: towards the first, away from the second."""

    attribute: str
    towards: str
    away: str

    @property
    def language(self) -> str:
        return ENGLISH if self.towards.isascii() else CHINESE


PAIRS = (
    Pair("colour", "red", "blue"),
    Pair("animal", "cat", "dog"),
    Pair("city", "Paris", "Rome"),
    Pair("food", "bread", "rice"),
    Pair("colour", "红色", "蓝色"),
    Pair("city", "北京", "上海"),
)


@dataclass(frozen=True)
class Asked:
    """A question about a name of which both values are said."""

    name: str
    statements: tuple[str, ...]
    question: str

    def without(self, value: str) -> tuple[str, ...]:
        """The statements that do not say this value."""
        return tuple(line for line in self.statements if value not in line)


@dataclass(frozen=True)
class Contrasted:
    """Facts of both sides, and questions that either of them answers."""

    towards: tuple[str, ...]
    away: tuple[str, ...]
    asked: tuple[Asked, ...]


def contrast_of(pair: Pair, rng: random.Random, side: int, questions: int) -> Contrasted:
    """So many facts a side and so many questions, all about different names."""
    known = iter(_names(pair, rng, Split.TRAINING, 2 * side))
    towards, away = (
        tuple(Fact(pair.language, next(known), pair.attribute, value).statement(rng.randrange(2)) for _ in range(side))
        for value in (pair.towards, pair.away)
    )
    asked = []
    for number, name in enumerate(_names(pair, rng, Split.HELD_OUT, questions)):
        facts = [Fact(pair.language, name, pair.attribute, value) for value in (pair.towards, pair.away)]
        lines = tuple(fact.statement() for fact in (facts if number % 2 else facts[::-1]))
        asked.append(Asked(name, lines, facts[0].question(rng.randrange(2))))
    return Contrasted(towards, away, tuple(asked))


def _names(pair: Pair, rng: random.Random, split: Split, count: int) -> list[str]:
    found: dict[str, None] = {}
    for _ in range(200 * count):
        (fact,) = draw_facts(rng, 1, split, (pair.language,))
        if fact.attribute == pair.attribute:
            found[fact.name] = None
        if len(found) == count:
            break
    return (list(found) * count)[:count]  # of a few there are fewer held-out names than questions


def vector(engine: Engine, contrasted: Contrasted, layers: tuple[int, int]) -> tuple[Steering, Sequence[float]]:
    """The direction as the store makes it, and for each layer the share of the variance between the sides."""
    first, last = layers
    sides = []
    for lines in (contrasted.towards, contrasted.away):
        texts = [engine.tokenize(f"{line}\n", bos=True) for line in lines]
        sides.append([rows[first : last + 1] for rows in engine.hidden(texts)])
    made = contrast(*sides)
    facts = engine.facts()
    whole = np.zeros((facts.layers, facts.embedding), np.float32)
    whole[first : last + 1] = made.rows
    return Steering(whole, first, last), made.shares


def mounts(steering: Steering, weight: float) -> Mounts:
    """It with a weight; nothing for 0."""
    return Mounts(steering=Steering(steering.vectors, steering.first, steering.last, weight)) if weight else NOTHING


def margin(engine: Engine, asked: Asked, pair: Pair, mounted: Mounts) -> float:
    """By how much the first token of the wanted value is likelier than that of the other, in logits.

    One that is not among the likeliest is taken to be as likely as the last of these: an upper bound.
    """
    sequence = engine.open(mounted)
    try:
        for line in asked.statements:
            engine.read(sequence, engine.tokenize(f"{line}\n"))
        found = {best.token: best.logit for best in engine.best(sequence, engine.tokenize(asked.question), SEEN)}
    finally:
        engine.drop(sequence)
    first = [engine.tokenize(Fact(pair.language, "", "", value).answer())[0] for value in (pair.towards, pair.away)]
    there, here = (found.get(token, min(found.values())) for token in first)
    return there - here


def answer(engine: Engine, statements: Sequence[str], question: str, mounted: Mounts) -> str:
    """What the model says after reading the statements."""
    sequence = engine.open(mounted)
    try:
        for line in statements:
            engine.read(sequence, engine.tokenize(f"{line}\n"))
        return engine.generate(sequence, engine.tokenize(question), MOST_TOKENS, stop=(ANSWER_END,)).text
    finally:
        engine.drop(sequence)


def steering(plan: Plan) -> None:
    """Logits, answers and right answers to other questions, by weight and by layers."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("steering", "effect", None, "%", note="the extra activation is not installed")
        return
    with tempfile.TemporaryDirectory() as folder, closing(LlamaEngine(EngineSettings(MODEL), Path(folder))) as engine:
        last = engine.facts().layers - 1
        ranges = [(1, last), *((layer, layer) for layer in range(1, last + 1))]
        for layers in dict.fromkeys(ranges):
            _by_weight(plan, engine, layers)


def _by_weight(plan: Plan, engine: Engine, layers: tuple[int, int]) -> None:
    side, count = (QUICK_SIDE, QUICK_QUESTIONS) if plan.quick else (SIDE, QUESTIONS)
    made = []
    for number, pair in enumerate(PAIRS):
        contrasted = contrast_of(pair, random.Random(f"{SEED} {number}"), side, count)
        made.append((pair, contrasted, *vector(engine, contrasted, layers)))
    name = f"layers {layers[0]} to {layers[1]}"
    shares = [np.mean([row[3][place] for row in made]) for place in range(layers[1] - layers[0] + 1)]
    said = ", ".join(f"{100 * share:.0f}" for share in shares)
    mean = 100 * float(np.mean(shares))
    plan.figure("steering", f"{name}: variance between the sides", mean, "%", note=f"by layer {said}")
    before = {(pair, asked): answer(engine, asked.statements, asked.question, NOTHING)
              for pair, contrasted, _, _ in made for asked in contrasted.asked}  # fmt: skip
    for weight in WEIGHTS:
        margins, wanted, other, flips, right, kept = [], 0, 0, 0, list[bool](), 0
        for number, (pair, contrasted, steered, _) in enumerate(made):
            mounted = mounts(steered, weight)
            goal = Fact(pair.language, "", "", pair.towards).answer(), Fact(pair.language, "", "", pair.away).answer()
            for asked in contrasted.asked:
                margins.append(margin(engine, asked, pair, mounted))
                told = answer(engine, asked.statements, asked.question, mounted)
                wanted, other = wanted + (told == goal[0]), other + (told == goal[1])
                flips += told != before[pair, asked]
                kept += answer(engine, asked.without(pair.towards), asked.question, mounted) == goal[1]
            right += [_is_right(engine, case, mounted) for case in _others(pair, number, count)]
        total, mean = len(margins), float(np.mean(margins))
        note = f"towards {wanted}, away {other}, neither {total - wanted - other} of {total}; {flips} other than at 0"
        plan.figure("steering", f"{name}, weight {weight:g}: towards - away", mean, "logits", note=note)
        said = f"{name}, weight {weight:g}: right where only the other value is said"
        plan.figure("steering", said, 100 * kept / total, "%", note=f"of {total}")
        said = f"{name}, weight {weight:g}: other questions right"
        plan.figure("steering", said, 100 * sum(right) / len(right), "%", note=f"of {len(right)}")


def _others(pair: Pair, seed: int, count: int) -> list[Case]:
    """Cases whose question is about another attribute."""
    drawn = cases(SEED + seed, 4 * count, OTHERS)
    return [case for case in drawn if case.asked.attribute != pair.attribute][:count]


def _is_right(engine: Engine, case: Case, mounted: Mounts) -> bool:
    return answer(engine, case.statements, case.question, mounted) == case.answer
