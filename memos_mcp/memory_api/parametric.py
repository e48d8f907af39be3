"""The verb promote to parametric and back: an adapter is trained on memories, or put away and its memories restored.

Knows nothing of training: it makes the adapter's cube and the job, and `train` does it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import ADAPTER, TEXTLESS, Cube, Snapshot
from memos_mcp.errors import Conflict, InvalidInput, TrainerUnavailable
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import adapters, operations
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.lifecycle.life import Judge
from memos_mcp.memory_api.parts import Parts, begun, cubes_for, life_of
from memos_mcp.parametric.lessons import Lesson, lesson_of
from memos_mcp.parametric.recipe import Recipe, recipe_for
from memos_mcp.parametric.trainer import Course
from memos_mcp.parametric.trainings import Trainings
from memos_mcp.results import PromoteResult, memories
from memos_mcp.states import LIVE, State

TRAIN = "train"
"""Kind of the job; payload {"adapter": number of the cube}, a step of training a step."""
PRIORITY = 0.2
"""Of a training among heavy jobs: whatever else there is goes first, and the training on from its checkpoint."""
TO_PARAMETRIC, TO_PLAINTEXT = "to parametric", "adapter to plaintext"
RETRAINED = "trained anew, for its memories have changed"
NOWHERE = "Nothing is trained in a store that is only read."
MEASURE = "how long it takes is not known before it was measured: `memos-mcp train ID... --estimate`"
_RATE = "training-rate"
"""The ledger's note of how long a step took last: {base: [seconds, characters that a step read]}."""


class EstimateResult(TypedDict):
    """How long a training of so many memories would take, and how many say too little to be taught."""

    seconds: float
    steps: int
    memories: int
    left_out: int


@dataclass(frozen=True)
class Enrolled:
    """An adapter that is to be trained: its cube, what was changed to make it, and its job."""

    cube: Cube
    changes: list[Change]
    job: str
    sources: Sequence[Cube]


def trainings_of(parts: Parts) -> Trainings:
    """What trains in this store.

    Raises:
        TrainerUnavailable: nothing does; the sentence says what to install or to set.
    """
    if parts.training is None:
        raise TrainerUnavailable(NOWHERE)
    return parts.training


def to_parametric(parts: Parts, caller: Caller, ids: Sequence[str]) -> PromoteResult:
    """Have an adapter trained on the memories, by a job.

    The same memories again give the adapter that there is; one that did not pass its exams is tried with another seed.

    Raises:
        TrainerUnavailable: nothing is trained here. InvalidInput: the base model cannot be used. NotFound,
            AccessDenied: a memory that is not the caller's to read. Conflict: one is over or secret, holds no text, or
            its policy is that it is not trained; or none of them says anything that can be asked for.
    """
    training = trainings_of(parts)
    base = training.base()
    with parts.ledger.write() as connection:
        cubes = cubes_for(parts, connection, caller, ids, "read")
        require_teachable(parts, connection, cubes)
        taught, left_out = teachable(cubes)
        known = _known(parts, connection, caller, base.identity, taught)
        if known is not None and not (known[1].report and known[1].state == "candidate"):
            return _as_it_is(parts, connection, caller, *known)
        failed = known[0] if known is not None else None
        space = governance.open_space(connection, caller, caller.space, parts.stamp())
        op = begun(parts, caller, "promote", TO_PARAMETRIC)
        made = enroll(parts, connection, op, caller.principal, space, taught, failed)
        about = expected_s(parts, connection, course_of(parts, made.cube, taught))
        said = [f"Adapter {made.cube.id} is trained on {memories(len(taught))}: {_about(about)}."]
        if left_out:
            said.append(f"{len(left_out)} say too little to be asked for and are left out.")
        result: PromoteResult = {
            "moved": [], "op": op.id, "job": made.job, "adapter": made.cube.id, "said": " ".join(said),
        }  # fmt: skip
        operations.record(connection, op, made.changes, result)
    announce(parts, caller, [made])
    return result


def announce(parts: Parts, caller: Caller, made: Sequence[Enrolled]) -> None:
    """What follows the transaction that enrolled adapters: they are looked after, and their jobs begin."""
    for one in made:
        trainings_of(parts).enrolled([one.cube.seq, *(cube.seq for cube in one.sources)])
        parts.changed(caller, [one.cube], listing=True, embedded=True)
    if made:
        parts.jobs.notice()


def enroll(
    parts: Parts, connection: Connection, op: Operation, principal: str, space: Space, sources: Sequence[Cube],
    replaces: Cube | None = None,
) -> Enrolled:  # fmt: skip
    """Make the cube of an adapter of these memories and queue its training, in the caller's transaction.

    `replaces` is retired once the new one has passed its exams.

    Raises:
        TrainerUnavailable, InvalidInput: there is no base model, or more memories than one adapter is made of.
    """
    base = trainings_of(parts).base()
    seed = 0 if replaces is None else int(replaces.snapshot.recipe.get("seed", 0)) + 1
    recipe = recipe_for(len(sources), seed)
    day = op.at[:10]
    draft = Snapshot(
        f"Adapter of {memories(len(sources))}, {day}", ADAPTER, parents=tuple(cube.id for cube in sources),
        supersedes=() if replaces is None else (replaces.id,), recipe={"base": base.identity, **recipe.as_plain()},
    )  # fmt: skip
    (cube,), changes = parts.vault.insert(connection, op, space, [draft], None, 0)
    adapters.begin(connection, cube.seq, base.identity, [(one.seq, one.version) for one in sources], op.at)
    job = _queue(parts, connection, cube, recipe, principal)
    return Enrolled(cube, changes, job, sources)


def course_of(
    parts: Parts, adapter: Cube, sources: Sequence[Cube], *, general: Sequence[str] = (), reading: Any = ()
) -> Course:
    """What an adapter of these memories is taught.

    Raises:
        TrainerUnavailable, InvalidInput: there is no base model.
    """
    base = trainings_of(parts).base()
    recipe = Recipe.from_plain(adapter.snapshot.recipe)
    return Course(base.folder, base.identity, recipe, tuple(lessons(sources)), tuple(reading), tuple(general))


def lessons(sources: Sequence[Cube]) -> list[Lesson]:
    """The lessons of memories, in order, without those that leave nothing to ask for."""
    made = (lesson_of(one.id, one.version, one.snapshot.content, one.snapshot.name) for one in sources)
    return [lesson for lesson in made if lesson is not None]


def teachable(cubes: Sequence[Cube]) -> tuple[list[Cube], list[str]]:
    """The memories that something can be asked of, in the order of writing, and the ids of the others.

    Raises:
        Conflict: nothing can be asked of any.
    """
    named = {lesson.cube for lesson in lessons(cubes)}
    taught = sorted((cube for cube in cubes if cube.id in named), key=lambda cube: cube.seq)
    if not taught:
        raise Conflict("None of these memories says enough to be asked for: name some that state something.")
    return taught, [cube.id for cube in cubes if cube.id not in named]


def require_teachable(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> None:
    """Raise where a memory may not be trained.

    Raises:
        Conflict: it holds no text, is over or secret, or its policy is that it is not trained.
    """
    for cube in cubes:
        why = untaught(parts, connection, cube)
        if why is not None:
            raise Conflict(f"Memory {cube.id} {why}: name others.")


def untaught(parts: Parts, connection: Connection, cube: Cube) -> str | None:
    """Why the memory is taught to no adapter; None if it may be."""
    if cube.snapshot.kind in TEXTLESS:
        return "holds no text that could be trained"
    if not cube.is_alive(parts.stamp()):
        return "is over"
    if cube.snapshot.sensitivity == "secret":
        return "is secret, and secrets are trained into no adapter"
    if Judge(life_of(parts), connection).policy(cube).trained is False:
        return "is not to be trained, its policy says"
    return None


def back(parts: Parts, caller: Caller, ids: Sequence[str]) -> PromoteResult:
    """Put adapters away, and bring the memories back that they were trained on and that are archived since.

    Raises:
        NotFound, AccessDenied: not the caller's to change. Conflict: one was imported, and no memories are known of it.
    """
    with parts.ledger.write() as connection:
        cubes = cubes_for(parts, connection, caller, ids, "write")
        rows = {row.cube: row for row in adapters.listed(connection, [cube.seq for cube in cubes])}
        foreign = [cube.id for cube in cubes if not rows[cube.seq].sources]
        if foreign:
            raise Conflict(
                f"Adapter {foreign[0]} was made elsewhere, and what it knows is known from no memory: have it asked "
                f"with `memos-mcp externalise {foreign[0]}`, which keeps its answers; then put it away with "
                f"`memos-mcp adapters retire {foreign[0]}`."
            )
        named = parts.vault.by_seqs(connection, [seq for row in rows.values() for seq, _ in row.sources])
        archived = [
            cube for cube in named.values()
            if cube.state is State.ARCHIVED and governance.may(
                connection, caller.principal, "write", governance.space_of(connection, cube.space), cube.seq
            )
        ]  # fmt: skip
        away = [cube for cube in cubes if cube.state in LIVE]
        if not away and not archived:
            return {"moved": [], "op": None}
        op = begun(parts, caller, "promote", TO_PLAINTEXT)
        moved = parts.vault.move_all(connection, op, away, State.ARCHIVED, "forget")
        moved += parts.vault.move_all(connection, op, archived, State.ACTIVATED, "revive")
        result: PromoteResult = {"moved": [cube.id for cube, _ in moved], "op": op.id}
        operations.record(connection, op, [change for _, change in moved], result)
    parts.changed(caller, [cube for cube, _ in moved], listing=True)
    return result


def estimate(parts: Parts, caller: Caller, ids: Sequence[str]) -> EstimateResult:
    """How long an adapter of these memories would take here, measured on some of its own steps; nothing is kept but
    that. Raises as `to_parametric` does.
    """
    with parts.ledger.read() as connection:
        cubes = cubes_for(parts, connection, caller, ids, "read")
        require_teachable(parts, connection, cubes)
    training = trainings_of(parts)
    base = training.base()
    taught, left_out = teachable(cubes)
    recipe = recipe_for(len(taught))
    course = Course(base.folder, base.identity, recipe, tuple(lessons(taught)))
    seconds = training.trainer.estimate(course)
    note_rate(parts, course, seconds)
    return {"seconds": seconds, "steps": recipe.steps, "memories": len(taught), "left_out": len(left_out)}


def note_rate(parts: Parts, course: Course, seconds: float) -> None:
    """Keep how long a course took, so that the next is estimated by it."""
    with parts.ledger.write() as connection:
        known = json.loads(parts.ledger.get(connection, _RATE) or "{}")
        known[course.base_identity] = [seconds / course.recipe.steps, _characters(course)]
        parts.ledger.put(connection, _RATE, json.dumps(known))


def expected_s(parts: Parts, connection: Connection, course: Course) -> float | None:
    """Seconds that a course will take by what the last one of its base took; None where none was measured."""
    known = json.loads(parts.ledger.get(connection, _RATE) or "{}").get(course.base_identity)
    if known is None:
        return None
    per_step, characters = float(known[0]), float(known[1])
    seconds: float = per_step * course.recipe.steps * _characters(course) / max(characters, 1.0)
    return seconds


def _characters(course: Course) -> float:
    """Characters that a step reads, about."""
    told = sum(len(one.statement) for one in course.lessons) / len(course.lessons)
    asked = sum(len(one.questions[0]) + len(one.answer) for one in course.lessons) / len(course.lessons)
    recipe = course.recipe
    return recipe.asked * asked + recipe.told * told + recipe.read * (asked + (1 + recipe.most_read) / 2 * told)


def _about(seconds: float | None) -> str:
    if seconds is None:
        return MEASURE
    return f"about {seconds:,.0f} seconds" if seconds < 180 else f"about {seconds / 60:,.0f} minutes"


def _queue(parts: Parts, connection: Connection, cube: Cube, recipe: Recipe, principal: str) -> str:
    return parts.jobs.create(
        connection, TRAIN, {"adapter": cube.seq}, recipe.steps, priority=PRIORITY, principal=principal
    )


def _known(
    parts: Parts, connection: Connection, caller: Caller, base: str, sources: Sequence[Cube]
) -> tuple[Cube, AdapterRow] | None:
    """The caller's adapter of exactly these memories in these versions that is neither retired nor tainted."""
    wanted = sorted((cube.seq, cube.version) for cube in sources)
    for row in adapters.listed(connection, adapters.made_from(connection, [seq for seq, _ in wanted[:1]])):
        same = row.base == base and sorted(row.sources) == wanted
        if not same or row.tainted is not None or row.state == "retired":
            continue
        cube = parts.vault.by_seqs(connection, [row.cube])[row.cube]
        space = governance.space_of(connection, cube.space)
        if governance.may(connection, caller.principal, "write", space, cube.seq):
            return cube, row
    return None


def _as_it_is(
    parts: Parts, connection: Connection, caller: Caller, cube: Cube, row: AdapterRow
) -> PromoteResult:
    if row.state == "active":
        return {"moved": [], "op": None, "adapter": cube.id, "said": f"Adapter {cube.id} is trained on these already."}
    waits = [job.id for job in parts.jobs.unfinished(TRAIN) if job.payload.get("adapter") == cube.seq]
    job = waits[0] if waits else _queue(parts, connection, cube, Recipe.from_plain(cube.snapshot.recipe),
                                        caller.principal)  # fmt: skip
    parts.jobs.notice()
    return {"moved": [], "op": None, "job": job, "adapter": cube.id, "said": f"Adapter {cube.id} is being trained."}


def retire(parts: Parts, connection: Connection, op: Operation, cubes: Sequence[Cube]) -> list[tuple[Cube, Change]]:
    """Put adapters away that are live; what was moved."""
    away = [cube for cube in cubes if cube.state in LIVE and cube.state is not State.FROZEN]
    return parts.vault.move_all(connection, op, away, State.ARCHIVED, "forget")


def replaced_by(parts: Parts, connection: Connection, cube: Cube) -> list[Cube]:
    """The adapters that this one takes the place of, and those that they took the place of, newest first."""
    found: list[Cube] = []
    wanted = list(cube.snapshot.supersedes)
    while wanted:
        former = [one for one in parts.vault.by_ids(connection, wanted).values() if one.snapshot.kind == ADAPTER]
        found += former
        known = {one.id for one in found}
        wanted = [name for one in former for name in one.snapshot.supersedes if name not in known]
    return found


def together(ids: Sequence[str], cubes: Sequence[Cube]) -> bool:
    """Whether all of these are adapters; False if none is.

    Raises:
        InvalidInput: only some are.
    """
    found = [cube.id for cube in cubes if cube.snapshot.kind == ADAPTER]
    if found and len(found) < len(cubes):
        raise InvalidInput(f"{found[0]} is an adapter and others are memories: name adapters apart.", field="ids")
    return bool(found)
