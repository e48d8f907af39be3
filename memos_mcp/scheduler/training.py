"""Trains adapters behind the calls: each in a job, has it examined, and lets it count if it passes.

Knows nothing of how a trainer works. What is asked of the adapter beside its memories was never trained on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import TEXTLESS, Cube
from memos_mcp.errors import Conflict, InvalidInput, MemosError, TrainerUnavailable, TrainingStopped
from memos_mcp.governance import Caller
from memos_mcp.jobs import Job
from memos_mcp.ledger import adapters, operations
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.memory_api import parametric
from memos_mcp.memory_api.parts import Parts
from memos_mcp.parametric import curriculum
from memos_mcp.parametric.curriculum import Row
from memos_mcp.parametric.gate import Judgement, judge
from memos_mcp.parametric.lessons import Lesson
from memos_mcp.parametric.trainer import Course, Trained
from memos_mcp.parametric.trainings import Trainings
from memos_mcp.scheduler.rewording import reworded
from memos_mcp.scheduler.runner import JobEnded, JobWaits, Turn, Work

CLIENT = "memos-mcp training"
READ = 100
"""Questions with memories before them that an adapter is examined on."""
GENERAL = 100
"""Other memories of the space whose loss is measured, at most."""
ATTEMPTS = 4
WORDINGS = "wordings.json"
"""In the folder of a training: what a model worded, so that a training that goes on teaches the same."""
NOTE_S = 2.0
"""Seconds between two notes of how far a training is."""


def work(parts: Parts) -> Work:
    """How the jobs are done; what is over a limit, or cannot be trained here, is not tried again."""
    return Work(
        lambda job, turn: train(parts, job, turn), heavy=True, attempts=ATTEMPTS,
        final=(TrainingStopped, TrainerUnavailable, InvalidInput),
    )  # fmt: skip


def train(parts: Parts, job: Job, turn: Turn) -> None:
    """Do the training of a job, from its checkpoint if there is one. May be repeated after a crash.

    Nothing is done for an adapter that was put away, or whose memories have changed since it was asked for.

    Raises:
        TrainerUnavailable: it cannot be trained here any more. TrainingStopped: it went beyond a limit.
        TrainerLost, StorageFailed: to be tried again, on from the checkpoint.
    """
    while not _is_trained(parts, job, turn):
        continue


def _is_trained(parts: Parts, job: Job, turn: Turn) -> bool:
    """Train once; whether that is all: a training that was told to end may be wanted still, for what was changed need
    not be what it was told of."""
    training = parametric.trainings_of(parts)
    with parts.ledger.read() as connection:
        found = _wanted(parts, connection, int(job.payload["adapter"]))
        course = None if found is None else _course(parts, connection, *found)
    if found is None or course is None:
        return True
    cube, row = found
    try:
        done = _trained(training, course, job, turn, cube, row)
        if done is not None:
            course, trained = done
            parametric.note_rate(parts, course, trained.seconds)
            _finish(parts, training, course, cube, trained)
    finally:
        _clear_forgotten(parts, training, cube)
    return done is not None


def _wanted(parts: Parts, connection: Connection, seq: int) -> tuple[Cube, AdapterRow] | None:
    """The adapter, if it is still to be trained."""
    rows = adapters.listed(connection, [seq])
    if not rows or rows[0].tainted is not None or rows[0].state != "candidate" or rows[0].report is not None:
        return None
    return parts.vault.by_seqs(connection, [seq])[seq], rows[0]


def _course(parts: Parts, connection: Connection, cube: Cube, row: AdapterRow) -> Course:
    sources = list(parts.vault.by_seqs(connection, [seq for seq, _ in row.sources]).values())
    taught = parametric.lessons(sources)
    recipe = parametric.course_of(parts, cube, sources).recipe
    reading = examined(taught, recipe.seed, recipe.most_read)
    return parametric.course_of(
        parts, cube, sources, reading=reading, general=_general(parts, connection, cube, sources)
    )


def examined(lessons: Sequence[Lesson], seed: int, most: int, count: int = READ) -> list[Row]:
    """Questions with memories before them that no training step draws: the seed is one that training never uses."""
    drawn = random.Random(f"examined/{seed}")
    return [curriculum.reading_row(drawn, lessons, most) for _ in range(count)]


def _general(parts: Parts, connection: Connection, cube: Cube, sources: Sequence[Cube]) -> list[str]:
    """Other memories of the space, of which the adapter is to leave the language as it is; the space's first ones."""
    trained = {one.seq for one in sources}
    page = parts.vault.page(connection, cube.space, 0, GENERAL + len(trained) + 1)
    others = [
        one.snapshot.content for one in page
        if one.seq not in trained and one.stands and one.snapshot.kind not in TEXTLESS
        and one.snapshot.sensitivity == "normal"
    ]  # fmt: skip
    return [*(text[:600] for text in others[:GENERAL]), *PLAIN_TEXTS]


def _trained(
    training: Trainings, course: Course, job: Job, turn: Turn, cube: Cube, row: AdapterRow
) -> tuple[Course, Trained] | None:
    """What was taught and what came of it; None if the training was ended because it must not go on.

    A step of the job that ends it lets the training write its checkpoint first.
    """
    ended: list[Exception] = []
    noted = time.monotonic()
    with training.running(job.id, [cube.seq, *(seq for seq, _ in row.sources)]) as cancelled:

        def tell(done: int, _loss: float) -> None:
            nonlocal noted
            if cancelled.is_set() or time.monotonic() - noted < NOTE_S:
                return
            noted = time.monotonic()
            try:
                turn.step(done, job.payload)
            except (JobEnded, JobWaits, MemosError) as error:
                ended.append(error)
                cancelled.set()

        folder = training.workplace(cube.id)
        course = replace(course, lessons=tuple(reworded(training.llm, course.lessons, folder / WORDINGS, cancelled)))
        try:
            return course, training.trainer.train(course, folder, training.wishes.limits, cancelled, tell)
        except TrainingStopped:
            if ended:
                raise ended[0] from None
            if training.stopping:
                raise JobEnded from None
            if not cancelled.is_set():
                raise
            turn.step(None, job.payload)  # it raises where the job itself was cancelled
            return None


def _finish(parts: Parts, training: Trainings, course: Course, cube: Cube, trained: Trained) -> None:
    """Have the adapter counted with its report, and what it takes the place of retired if it passes."""
    judged = judge(trained.before, trained.after)
    report = _report(course, trained, judged)
    state: adapters.AdapterState = "active" if judged.passes else "candidate"
    folder = training.workplace(cube.id) / "adapter"
    try:
        training.registry.finish(cube, folder, report, state)
    except Conflict:  # what it was trained on has changed, or it was put away, in this moment
        return
    retired: list[Cube] = []
    with parts.ledger.read() as connection:
        space = governance.space_of(connection, cube.space)
        former = parametric.replaced_by(parts, connection, cube) if judged.passes else []
    caller = Caller(space.owner, space.name, CLIENT)
    if former:
        with parts.ledger.write() as connection:
            op = operations.begin("promote", caller.principal, CLIENT, parts.stamp(), f"replaced by {cube.id}")
            moved = parametric.retire(parts, connection, op, former)
            operations.record(connection, op, [change for _, change in moved])
            retired = [one for one, _ in moved]
    parts.changed(caller, retired, listing=True, embedded=True)
    parts.events.publish([cube.id], [(cube.space, cube.space_name)], listing=True)


def _report(course: Course, trained: Trained, judged: Judgement) -> dict[str, Any]:
    """What is kept of a training: figures, reasons and ids, and no memory's text."""
    plain = asdict(trained)
    return {"passes": judged.passes, "reasons": list(judged.reasons), "lessons": len(course.lessons),
            "questions": sum(len(one.questions) for one in course.lessons), "recipe": course.recipe.as_plain(),
            **plain}  # fmt: skip


def _clear_forgotten(parts: Parts, training: Trainings, cube: Cube) -> None:
    """Leave nothing of a training whose adapter was purged, or must not be gone on with, while it was at work."""
    with parts.ledger.read() as connection:
        rows = adapters.listed(connection, [cube.seq])
    if not rows or rows[0].tainted is not None or rows[0].state == "retired":
        training.clear(cube.id)


PLAIN_TEXTS = (
    "The bus leaves at nine and comes back in the evening.", "She opened the window because the room was warm.",
    "Please send the letter before the end of the week.", "They walked along the river and talked about the weather.",
    "A good tool does one thing and does it well.", "He put the book on the table and made some tea.",
    "会议改到明天上午九点。", "他打开窗户，因为房间里很热。", "请在周末之前把信寄出去。",
    "我们沿着河边散步，聊起了天气。",
)  # fmt: skip
"""Texts that no memory holds, in whose words an adapter may not become worse."""
