"""Has a language model word what an adapter is asked in further ways, once for each training.

Knows no ledger. A model that does not answer, or not as it should, costs wordings and never a training.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from memos_mcp.errors import ModelUnavailable
from memos_mcp.operators.reading import BadAnswer
from memos_mcp.parametric import rewording
from memos_mcp.parametric.lessons import Lesson
from memos_mcp.ports import LanguageModel

log = logging.getLogger(__name__)

TRIED = 2
"""Answers of a model that are looked at until one is of the schema."""


def reworded(
    make: Callable[[], LanguageModel] | None, lessons: Sequence[Lesson], file: Path, cancelled: threading.Event
) -> list[Lesson]:
    """The lessons with a model's wordings beside their own: those in the file, or else asked for and kept there.

    Nothing is kept of a training that was cancelled meanwhile.
    """
    if make is None:
        return list(lessons)
    further = _kept(file, lessons)
    if further is None:
        further = _asked(make, lessons, cancelled)
        if not cancelled.is_set():
            _keep(file, lessons, further)
    return rewording.reworded(lessons, further)


def _asked(
    make: Callable[[], LanguageModel], lessons: Sequence[Lesson], cancelled: threading.Event
) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    try:
        model = make()
        for start in range(0, len(lessons), rewording.AT_ONCE):
            if cancelled.is_set():
                break
            found += _answered(model, lessons[start : start + rewording.AT_ONCE])
    except ModelUnavailable as error:
        log.warning("an adapter is trained on the rules' wordings alone from lesson %d on: %s", len(found) + 1, error)
    return found + [()] * (len(lessons) - len(found))


def _answered(model: LanguageModel, lessons: Sequence[Lesson]) -> list[tuple[str, ...]]:
    if not any(one.fact is not None for one in lessons):
        return [()] * len(lessons)
    for _ in range(TRIED):
        try:
            return rewording.read(model.answer(rewording.INSTRUCTIONS, rewording.data(lessons)), lessons)
        except BadAnswer as error:
            log.warning("%s gave no JSON of the schema (%s) for %d lessons", model.name, error, len(lessons))
    return [()] * len(lessons)


def _kept(file: Path, lessons: Sequence[Lesson]) -> list[tuple[str, ...]] | None:
    """What a former process was told for just these lessons; None if there is nothing."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return [tuple(map(str, held[_key(one)])) for one in lessons]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(file: Path, lessons: Sequence[Lesson], further: Sequence[Sequence[str]]) -> None:
    """Write what was told, as a whole or not at all; without it the training goes on, and asks again after a kill."""
    said = json.dumps({_key(one): list(more) for one, more in zip(lessons, further, strict=True)}, ensure_ascii=False)
    fresh = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(said)
            out.flush()
            os.fsync(out.fileno())
        os.replace(fresh, file)
    except OSError as error:
        log.warning("the wordings of a training are not kept: %s", error.strerror)


def _key(lesson: Lesson) -> str:
    return f"{lesson.cube} {lesson.version}"
