"""Section paths: how many answers are right from nothing, from the text, from the adapter, and from both of them.

Held-out facts in a whole store with the small trained model, asked through the verb ask, in wordings that training saw
and in others; and again with a memory that says something else than the adapter was taught. Knows nothing of training:
the memories are promoted, and the job that follows is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.asking import CALLER
from benchmarks.parametric import MODEL, facts
from benchmarks.plan import Plan
from memos_mcp.backends.lora.process import LoraTrainer
from memos_mcp.kernel import Kernel, opened
from memos_mcp.parametric.lessons import Lesson
from memos_mcp.requests import AddRequest, AskRequest, PromoteRequest, Weighted
from memos_mcp.settings import load

SIZE, QUICK_SIZE = 50, 6
SEED = 14
MOST_TOKENS = 8
ELSEWHERE = "elsewhere"
"""The space of what says otherwise: beside the facts it would replace them, and taint what was trained on them."""


def paths(plan: Plan) -> None:
    """Right answers from nothing, text, what a search finds, adapter, both, and a text that the adapter gainsays."""
    missing = LoraTrainer(plan.work.folder / "training.log", threads=1).missing()
    if missing is not None:
        plan.figure("paths", "right answers", None, "%", note=missing)
        return
    lessons = facts(QUICK_SIZE if plan.quick else SIZE, SEED)
    with plan.work.fresh() as folder:
        given = {"home": str(folder / "home"), "model": str(MODEL / "model.gguf"), "base_model": str(MODEL)}
        with opened(load(given | {"life": "off"}, env={})) as kernel:
            kernel.api.parts.embedder.get(60.0)
            _measured(plan, kernel, lessons)


def _measured(plan: Plan, kernel: Kernel, lessons: Sequence[Lesson]) -> None:
    said = [_kept(kernel, lesson.statement) for lesson in lessons]
    changed = [_otherwise(lesson, lessons) for lesson in lessons]
    otherwise = [_kept(kernel, lesson.statement, ELSEWHERE) for lesson in changed]
    nothing: list[list[str] | None] = [[] for _ in lessons]
    found: list[list[str] | None] = [None for _ in lessons]
    texts: list[list[str] | None] = [[cube] for cube in said]
    others: list[list[str] | None] = [[cube] for cube in otherwise]
    for name, memories in (("nothing", nothing), ("the text", texts), ("what a search finds", found)):
        _told(plan, kernel, name, lessons, memories, [])
    adapter = _trained(kernel, said)
    for name, memories in (("", nothing), (" and the text", texts), (" and what a search finds", found)):
        _told(plan, kernel, f"the adapter{name}", lessons, memories, [adapter])
    _told(plan, kernel, "a text that the adapter gainsays", changed, others, [adapter])


def _told(
    plan: Plan, kernel: Kernel, name: str, lessons: Sequence[Lesson], memories: Sequence[list[str] | None],
    adapters: list[Weighted],
) -> None:  # fmt: skip
    wordings: tuple[tuple[str, Callable[[Lesson], tuple[str, ...]]], ...] = (
        ("wordings that are taught", lambda lesson: lesson.questions),
        ("other wordings", lambda lesson: lesson.held_out),
    )
    for wording, questions_of in wordings:
        right = count = 0
        for lesson, ids in zip(lessons, memories, strict=True):
            for question in questions_of(lesson):
                asked = AskRequest(question=question, ids=ids, adapters=adapters, max_tokens=MOST_TOKENS)
                right += str(kernel.api.ask(CALLER, asked)["answer"]).strip() == lesson.answer
                count += 1
        plan.figure("paths", f"right from {name}, {wording}", 100 * right / count, "%", note=f"{count} questions")


def _otherwise(lesson: Lesson, lessons: Sequence[Lesson]) -> Lesson:
    """The same lesson with the value that another has of the same attribute."""
    assert lesson.fact is not None
    for other in lessons:
        fact = other.fact
        if fact and (fact.attribute, fact.language) == (lesson.fact.attribute, lesson.fact.language):
            changed = lesson.with_value(fact.value) if fact.value != lesson.fact.value else None
            if changed is not None:
                return changed
    return lesson.with_value("K99") or lesson


def _kept(kernel: Kernel, text: str, space: str | None = None) -> str:
    kept: dict[str, Any] = kernel.api.add(CALLER, AddRequest(content=text, space=space))
    return str(kept["cubes"][0]["id"])


def _trained(kernel: Kernel, cubes: list[str]) -> Weighted:
    """The adapter that is taught what these memories say, whatever its exams find."""
    begun = kernel.api.promote(CALLER, PromoteRequest(ids=cubes, to="parametric"))
    while kernel.api.job(CALLER, str(begun["job"]))["state"] in ("queued", "running"):
        kernel.runner.run_ready()
    (made,) = kernel.api.read.adapters(CALLER)
    return Weighted(id=made["id"], weight=1.0)
