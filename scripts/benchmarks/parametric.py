"""Section parametric: what adapters of 20, 50 and 200 facts do to the small trained model, and what they cost.

Facts are about held-out names, which the model has never seen. Nothing is examined that training saw but the facts in
trained wordings: paraphrases, questions with memories before them, and general texts are others.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tiny_model.facts import Split, cases, draw_facts

from benchmarks.plan import Plan
from memos_mcp.backends.lora.process import LoraTrainer
from memos_mcp.parametric.base_model import read_base_model
from memos_mcp.parametric.curriculum import Row
from memos_mcp.parametric.gate import judge
from memos_mcp.parametric.lessons import Lesson, lesson_of
from memos_mcp.parametric.recipe import recipe_for
from memos_mcp.parametric.trainer import Course, Limits, Trained

MODEL = Path(__file__).parents[2] / "tests" / "data" / "tiny_model"
SIZES, QUICK_SIZES = (20, 50, 200), (20,)
SEEDS, QUICK_SEEDS = (11, 12, 13), (11,)
QUICK_STEPS = 30
TOGETHER = (1.0, 0.7, 0.5)
"""Weights of two adapters that are mounted at once; at 1 that is the same as one of both' ranks."""
WORDS = ("Q: ", "\nA:", "问：", "\n答：")
"""What stands around a question of the small model's own form."""


def parametric(plan: Plan) -> None:
    """Before and after training: facts, paraphrases, reading, general loss; time and memory; two adapters."""
    trainer = LoraTrainer(plan.work.folder / "training.log", threads=1)
    missing = trainer.missing()
    if missing is not None:
        raise RuntimeError(missing)
    sizes, seeds = (QUICK_SIZES, QUICK_SEEDS) if plan.quick else (SIZES, SEEDS)
    for size in sizes:
        for seed in seeds:
            course = _course(facts(size, seed), seed, plan.quick)
            done = _trained(plan, trainer, course, "one")
            _tell(plan, f"{size} facts, seed {seed}", done)
    _two(plan, trainer)


def facts(count: int, seed: int) -> tuple[Lesson, ...]:
    """Lessons about held-out names, no two of one name's attribute."""
    drawn, found = random.Random(seed), dict[tuple[str, str], Lesson]()
    while len(found) < count:
        for fact in draw_facts(drawn, 8, Split.HELD_OUT):
            key = (fact.name, fact.attribute)
            made = lesson_of(f"{len(found)}", 1, fact.statement(drawn.randrange(2)))
            if key not in found and made is not None and len(found) < count:
                found[key] = made
    return tuple(found.values())


def _course(lessons: Sequence[Lesson], seed: int, quick: bool) -> Course:
    recipe = recipe_for(len(lessons), seed)
    recipe = replace(recipe, steps=QUICK_STEPS) if quick else recipe
    asked = [case for size in (1, 4, 8) for case in cases(5, 60, size)]
    reading = tuple(Row(_bare(case.question), case.asked.value, case.statements) for case in asked)
    general = tuple(said for case in cases(77, 60, 4) for said in case.statements)
    return Course(MODEL, read_base_model(MODEL).identity, recipe, tuple(lessons), reading, general)


def _trained(plan: Plan, trainer: LoraTrainer, course: Course, name: str) -> Trained:
    folder = plan.work.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    return trainer.train(course, folder, Limits(), threading.Event(), lambda done, loss: None)


def _tell(plan: Plan, what: str, done: Trained) -> None:
    before, after = done.before, done.after
    kept = after.reading.right / before.reading.right if before.reading.right else 1.0
    passes = "passes" if judge(before, after).passes else "does not pass"
    rows = (
        ("facts answered", after.facts.right, "of 1", 0.9, True, f"{before.facts.right:.2f} before; it {passes}"),
        ("paraphrases never trained on", after.paraphrases.right, "of 1", 0.8, True,
         f"{before.paraphrases.right:.2f} before"),
        ("reading kept", kept, "x", 0.95, True, f"{before.reading.right:.3f} before, {after.reading.right:.3f} after"),
        ("loss of general texts", after.general / before.general, "x", 1.02, False,
         f"{before.general:.3f} before, {after.general:.3f} after"),
        ("time", done.seconds, "s", None, False, f"{done.steps} steps, {done.device}"),
        ("peak memory", done.peak_megabytes, "MB", None, False, ""),
    )  # fmt: skip
    for name, value, unit, target, at_least, note in rows:
        plan.figure("parametric", f"{what}: {name}", value, unit, target, at_least=at_least, note=note)


def _two(plan: Plan, trainer: LoraTrainer) -> None:
    """Two adapters of different facts: each alone, both at once with weights, and one trained from both."""
    from memos_mcp.backends.lora.pupil import Pupil

    count = QUICK_SIZES[0] // 2 if plan.quick else QUICK_SIZES[0]
    both = facts(2 * count, SEEDS[0] + 10)
    first, second, union = (_course(part, SEEDS[0], plan.quick) for part in (both[:count], both[count:], both))
    for course, name in ((first, "first"), (second, "second"), (union, "union")):
        _trained(plan, trainer, course, name)
    pupil = Pupil(MODEL, first.recipe, 1)
    ways: dict[str, str] = {"first alone": "first", "second alone": "second", "trained from the union": "union"}
    for name in ways.values():
        pupil.model.load_adapter(str(plan.work.folder / name / "adapter"), name)
    for weight in TOGETHER:
        name = f"both_{weight:g}".replace(".", "_")
        pupil.model.add_weighted_adapter(["first", "second"], [weight, weight], name, combination_type="cat")
        ways[f"both, weight {weight:g} each" + (" (concatenated)" if weight == 1 else "")] = name
    plain = pupil.exam(union, mounted=False)
    for way, name in ways.items():
        pupil.model.set_adapter(name)
        of_first, of_second = (pupil.exam(course, mounted=True) for course in (first, second))
        note = (
            f"first's facts {of_first.facts.right:.2f}, second's {of_second.facts.right:.2f}, reading "
            f"{of_first.reading.right:.2f} ({plain.reading.right:.2f} without), general loss "
            f"{of_first.general / plain.general:.3f} x"
        )
        mean = (of_first.facts.right + of_second.facts.right) / 2
        plan.figure("parametric", f"two adapters of {count} facts, {way}", mean, "of 1", note=note)


def _bare(question: str) -> str:
    for word in WORDS:
        question = question.removeprefix(word).removesuffix(word)
    return question
