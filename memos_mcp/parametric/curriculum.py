"""What a training step reads: rows drawn from lessons by the recipe's seed and the step's number alone.

Knows no tokens. A step is drawn without regard to those before it, so that training goes on after a crash exactly as it
would have gone on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from memos_mcp.parametric.lessons import Lesson
from memos_mcp.parametric.recipe import Recipe

OTHER_VALUE = 0.7
"""Share of the memories before a question that say something else than was taught: what is read is to count."""


@dataclass(frozen=True)
class Row:
    """A question with its answer, after the memories that are read before it."""

    question: str
    answer: str
    memories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """What one step reads: `asked` without memories, `told` statements, and `read` with memories before them."""

    asked: tuple[Row, ...]
    told: tuple[str, ...]
    read: tuple[Row, ...]


def step(lessons: Sequence[Lesson], recipe: Recipe, number: int) -> Step:
    """The step of this number (from 0)."""
    drawn = random.Random(f"{recipe.seed}/{number}")
    asked = [drawn.choice(lessons) for _ in range(recipe.asked)]
    return Step(
        tuple(Row(drawn.choice(lesson.questions), lesson.answer) for lesson in asked),
        tuple(drawn.choice(lessons).statement for _ in range(recipe.told)),
        tuple(reading_row(drawn, lessons, recipe.most_read) for _ in range(recipe.read)),
    )


def reading_row(drawn: random.Random, lessons: Sequence[Lesson], most: int) -> Row:
    """A question about one of some memories that stand before it, most of which say something else than the lessons."""
    sample = drawn.sample(list(lessons), min(drawn.randint(1, most), len(lessons)))
    told = [_changed(drawn, lesson, lessons) for lesson in sample]
    asked = drawn.choice(told)
    return Row(drawn.choice(asked.questions), asked.answer, tuple(lesson.statement for lesson in told))


def _changed(drawn: random.Random, lesson: Lesson, lessons: Sequence[Lesson]) -> Lesson:
    """The lesson with the value that another one has of the same attribute, mostly."""
    fact = lesson.fact
    if fact is None or drawn.random() >= OTHER_VALUE:
        return lesson
    others = [
        other.fact.value for other in lessons
        if other.fact is not None and other.fact.attribute == fact.attribute and other.fact.language == fact.language
        and other.fact.value != fact.value
    ]  # fmt: skip
    return (lesson.with_value(drawn.choice(others)) or lesson) if others else lesson
