"""The port of what trains adapters: a course in, an adapter in a folder and its marks out.

Knows no framework and no process.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from memos_mcp.parametric.curriculum import Row
from memos_mcp.parametric.lessons import Fact, Lesson
from memos_mcp.parametric.recipe import Recipe

Tell = Callable[[int, float], None]
"""Told of each step: how many are behind, and its loss."""


@dataclass(frozen=True)
class Limits:
    """What training may take; None is no limit. Seconds count anew when it is gone on with."""

    seconds: float | None = None
    megabytes: int | None = None
    checkpoint_s: float = 20.0
    """Seconds between two checkpoints."""


@dataclass(frozen=True)
class Course:
    """Everything that an adapter follows from.

    `reading` are questions with memories before them and `general` texts, neither of which is trained: what the model
    makes of them may not get worse.
    """

    base: Path
    base_identity: str
    recipe: Recipe
    lessons: tuple[Lesson, ...]
    reading: tuple[Row, ...] = ()
    general: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Equal only for courses that give the same adapter."""
        plain = self.as_plain()
        taught = {name: plain[name] for name in ("base_identity", "recipe", "lessons")}
        return hashlib.blake2b(json.dumps(taught, sort_keys=True).encode(), digest_size=16).hexdigest()

    def as_plain(self) -> dict[str, Any]:
        """The course as JSON."""
        return {
            "base": str(self.base),
            "base_identity": self.base_identity,
            "recipe": self.recipe.as_plain(),
            "lessons": [asdict(lesson) for lesson in self.lessons],
            "reading": [asdict(row) for row in self.reading],
            "general": list(self.general),
        }

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> Course:
        """The inverse of `as_plain`."""
        return Course(
            Path(plain["base"]),
            plain["base_identity"],
            Recipe.from_plain(plain["recipe"]),
            tuple(_lesson(said) for said in plain["lessons"]),
            tuple(Row(said["question"], said["answer"], tuple(said["memories"])) for said in plain["reading"]),
            tuple(plain["general"]),
        )


@dataclass(frozen=True)
class Marks:
    """How questions were answered: the share whose whole answer is the likeliest, 0..1, and the mean log-likelihood of
    an answer's token in nats, 0 for certain."""

    right: float
    likelihood: float


@dataclass(frozen=True)
class Exam:
    """What the model knows and can: `facts` in trained wordings, `paraphrases` in wordings never trained, `reading` of
    memories before the question, and the loss of a token of general texts, in nats."""

    facts: Marks
    paraphrases: Marks
    reading: Marks
    general: float
    missed: tuple[str, ...] = ()
    """Cubes whose fact is not answered in any trained wording."""


@dataclass(frozen=True)
class Trained:
    """An adapter that was trained: exams without it and with it, and what it took."""

    before: Exam
    after: Exam
    steps: int
    seconds: float
    peak_megabytes: int
    device: str
    versions: dict[str, str] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains in a process of its own. Safe to call from several threads; a call blocks until it is done.

    Every method may raise:
        TrainerUnavailable: what it needs is not installed, or the base cannot be loaded; the sentence says what to do.
        TrainerLost: its process died; the checkpoint stays, and the same call goes on from it.
    """

    def missing(self) -> str | None:
        """A sentence that says what is to be installed; None if nothing is. Loads nothing, and raises nothing."""
        ...

    def estimate(self, course: Course) -> float:
        """Seconds that the course would take here, measured on a few of its own steps, and the exams with it."""
        ...

    def train(self, course: Course, folder: Path, limits: Limits, cancelled: threading.Event, tell: Tell) -> Trained:
        """Train into `folder`/adapter, from the checkpoint in `folder` if that is of this course.

        Raises:
            TrainingStopped: it was cancelled, or went beyond a limit; the checkpoint stays.
            StorageFailed: the disk is full or cannot be written; the former checkpoint stays.
        """
        ...


def _lesson(said: dict[str, Any]) -> Lesson:
    fact = Fact(**said["fact"]) if said["fact"] is not None else None
    return Lesson(**{**said, "questions": tuple(said["questions"]), "held_out": tuple(said["held_out"]), "fact": fact})
