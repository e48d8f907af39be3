"""Keeps the tiers' derived rows: segments of topics with their turns, and outcomes of tools.

Knows neither which turn belongs where nor what is warm. All of it may be cleared at any time and is made anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select, update

from memos_mcp.ledger import dialect, notes
from memos_mcp.ledger.life_schema import segment_turns, segments, tool_calls, tool_outcomes
from memos_mcp.ledger.schema import cubes

NOTE = "tiers"
"""Key of the ledger's note that holds the last change whose memory has been placed."""
_PART = 500
# Made once: to build a statement costs more than to run it.
_FOUND = select(segments).where(dialect.among(segments.c.id, "ids"))
_PLACED = select(segment_turns).where(dialect.among(segment_turns.c.cube, "seqs"))
_TURNS = (
    select(segment_turns.c.cube)
    .where(segment_turns.c.segment == bindparam("segment"))
    .order_by(segment_turns.c.cube.desc())
    .limit(bindparam("most"))
)
_LATEST = (
    select(segments.c.id)
    .where(segments.c.space == bindparam("space"))
    .order_by(segments.c.last.desc(), segments.c.id.desc())
    .limit(bindparam("most"))
)
_NEAR = (
    select(cubes.c.seq)
    .where(
        cubes.c.space == bindparam("space"), cubes.c.session == bindparam("session"), cubes.c.seq < bindparam("before")
    )
    .order_by(cubes.c.seq.desc())
    .limit(bindparam("most"))
    .subquery()
)
_LAST_OF_SESSION = (
    select(segment_turns)
    .join(_NEAR, _NEAR.c.seq == segment_turns.c.cube)
    .order_by(segment_turns.c.cube.desc())
)
_JOINED = insert(segment_turns)
_GREW = (
    update(segments)
    .where(segments.c.id == bindparam("segment"))
    .values(
        turns=segments.c.turns + 1,
        last=case((segments.c.last < bindparam("at"), bindparam("at")), else_=segments.c.last),
    )
)
_OWN = segments.c.id == bindparam("segment")
_MOVING = update(segments).where(_OWN).values(job=bindparam("by"))
_MOVED = update(segments).where(_OWN).values(job=None, moved=bindparam("at"), moved_at=bindparam("of"))
_OF_SEGMENTS = (
    select(segment_turns.c.segment, func.count())
    .where(dialect.among(segment_turns.c.cube, "seqs"))
    .group_by(segment_turns.c.segment)
)
_LEFT = delete(segment_turns).where(dialect.among(segment_turns.c.cube, "seqs"))
_COUNTED = select(tool_calls).where(dialect.among(tool_calls.c.cube, "seqs"))


@dataclass(frozen=True)
class Segment:
    """A segment's row; `moved_at` is how many turns had been there when it went to the long term, or None."""

    id: int
    space: int
    begun: str
    last: str
    turns: int
    moved_at: int | None
    moved: str | None
    job: str | None


@dataclass(frozen=True)
class Placed:
    """A turn in its segment."""

    cube: int
    segment: int
    continues: int | None
    score: float


@dataclass(frozen=True)
class Outcome:
    """How often a tool that was given these arguments ended so, and the mean of its time where that is known."""

    tool: str
    given: tuple[str, ...]
    outcome: str
    calls: int
    mean_ms: float | None


def clear(connection: Connection) -> None:
    """Forget all of it, so that it is made anew."""
    for table in (segment_turns, segments, tool_calls, tool_outcomes):
        connection.execute(delete(table))
    notes.put(connection, NOTE, None)


# Segments.


def placed(connection: Connection, seqs: Sequence[int]) -> dict[int, Placed]:
    """Where these turns are, by number; those in no segment are left out."""
    rows = connection.execute(_PLACED, {"seqs": dialect.listed(seqs)}).all() if seqs else ()
    return {row.cube: Placed(row.cube, row.segment, row.continues, row.score) for row in rows}


def find(connection: Connection, ids: Sequence[int]) -> dict[int, Segment]:
    """Segments by number; unknown ones are left out."""
    rows = connection.execute(_FOUND, {"ids": dialect.listed(ids)}).all() if ids else ()
    return {row.id: Segment(*row) for row in rows}


def turns_of(connection: Connection, segment: int, limit: int) -> list[int]:
    """Numbers of a segment's last turns, in order."""
    rows = connection.execute(_TURNS, {"segment": segment, "most": limit}).scalars().all()
    return [int(cube) for cube in rows][::-1]


def latest(connection: Connection, space: int, limit: int) -> list[int]:
    """Segments of the space that were gone on with last, oldest first."""
    rows = connection.execute(_LATEST, {"space": space, "most": limit}).scalars().all()
    return [int(one) for one in rows][::-1]


def last_of_session(connection: Connection, space: int, session: str, before: int, limit: int) -> list[Placed]:
    """The placed ones of the session's turns before a memory, the latest first, among its last `limit` memories."""
    asked = {"space": space, "session": session, "before": before, "most": limit}
    rows = connection.execute(_LAST_OF_SESSION, asked).all()
    return [Placed(row.cube, row.segment, row.continues, row.score) for row in rows]


def turns_after(connection: Connection, space: int, session: str, cube: int, limit: int) -> tuple[int, str]:
    """How many turns came after this one in its session, at most `limit`, and when the session's last was written."""
    mine = (cubes.c.space == space) & (cubes.c.session == session) & (cubes.c.kind == "dialogue")
    after = select(cubes.c.seq).where(mine, cubes.c.seq > cube).order_by(cubes.c.seq).limit(limit)
    last = select(cubes.c.created).where(mine).order_by(cubes.c.seq.desc()).limit(1)
    return len(connection.execute(after).all()), str(connection.execute(last).scalar_one())


def open_segment(connection: Connection, space: int, at: str) -> int:
    """A new segment without turns."""
    row = {"space": space, "begun": at, "last": at, "turns": 0}
    return dialect.insert_row(connection, segments, row)


def join(connection: Connection, turn: Placed, at: str) -> None:
    """Put a turn into its segment as the last one."""
    connection.execute(_JOINED, vars(turn))
    connection.execute(_GREW, {"segment": turn.segment, "at": at})


def leave(connection: Connection, seqs: Sequence[int]) -> None:
    """Take turns out of their segments; one that is empty goes."""
    if not seqs:
        return
    fewer = connection.execute(_OF_SEGMENTS, {"seqs": dialect.listed(seqs)}).all()
    if not fewer:
        return
    connection.execute(_LEFT, {"seqs": dialect.listed(seqs)})
    for segment, count in fewer:
        further = (segment_turns.c.segment == segment) & dialect.among_these(segment_turns.c.continues, seqs)
        connection.execute(update(segment_turns).where(further).values(continues=None))
        own = segments.c.id == segment
        connection.execute(update(segments).where(own).values(turns=segments.c.turns - count))
        connection.execute(delete(segments).where(own, segments.c.turns <= 0))


def moving(connection: Connection, segment: int, job: str | None) -> None:
    """Note which job moves the segment's statements to the long term; None for none any more."""
    connection.execute(_MOVING, {"segment": segment, "by": job})


def moved(connection: Connection, segment: int, turns: int, at: str) -> None:
    """Note that the statements of a segment of so many turns are in the long term, or proposed for it."""
    connection.execute(_MOVED, {"segment": segment, "at": at, "of": turns})


# Tools.


def count_call(
    connection: Connection, cube: int, space: int, tool: str, given: str, outcome: str, ms: float | None
) -> None:
    """Count a trace in, in place of what was counted of it before."""
    uncount(connection, [cube])
    row = {"space": space, "tool": tool, "given": given, "outcome": outcome}
    same = and_(*(tool_outcomes.c[name] == value for name, value in row.items()))
    found = connection.execute(select(tool_outcomes.c.id).where(same)).scalar()
    if found is None:
        found = dialect.insert_row(connection, tool_outcomes, {**row, "calls": 0, "timed": 0, "ms": 0.0})
    connection.execute(insert(tool_calls), {"cube": cube, "outcome": found, "ms": ms})
    more = {"calls": tool_outcomes.c.calls + 1, "timed": tool_outcomes.c.timed + (ms is not None)}
    more["ms"] = tool_outcomes.c.ms + (ms or 0.0)
    connection.execute(update(tool_outcomes).where(tool_outcomes.c.id == found).values(more))


def uncount(connection: Connection, seqs: Sequence[int]) -> None:
    """Count traces out; a tool, or a way in which it ended, that no trace tells of any more is forgotten."""
    for row in connection.execute(_COUNTED, {"seqs": dialect.listed(seqs)}).all() if seqs else ():
        own = tool_outcomes.c.id == row.outcome
        fewer = {"calls": tool_outcomes.c.calls - 1, "timed": tool_outcomes.c.timed - (row.ms is not None)}
        fewer["ms"] = tool_outcomes.c.ms - (row.ms or 0.0)
        connection.execute(delete(tool_calls).where(tool_calls.c.cube == row.cube))
        connection.execute(update(tool_outcomes).where(own).values(fewer))
        connection.execute(delete(tool_outcomes).where(own, tool_outcomes.c.calls <= 0))


def relocate(connection: Connection, seqs: Sequence[int], space: int) -> None:
    """Take turns that are in this space now out of their segments, which are of another, and count traces there."""
    leave(connection, seqs)
    counted = select(tool_calls.c.cube, tool_outcomes.c.tool, tool_outcomes.c.given, tool_outcomes.c.outcome)
    counted = counted.add_columns(tool_calls.c.ms).join(tool_outcomes, tool_outcomes.c.id == tool_calls.c.outcome)
    for part in _parts(seqs):
        for row in connection.execute(counted.where(tool_calls.c.cube.in_(part))).all():
            count_call(connection, row.cube, space, row.tool, row.given, row.outcome, row.ms)


def outcomes(connection: Connection, spaces: Sequence[int], limit: int) -> list[Outcome]:
    """How the tools of these spaces ended, the most called first."""
    table = tool_outcomes
    total = func.sum(table.c.calls)
    query = select(table.c.tool, table.c.given, table.c.outcome, total, func.sum(table.c.timed), func.sum(table.c.ms))
    query = query.where(table.c.space.in_(spaces)).group_by(table.c.tool, table.c.given, table.c.outcome)
    rows = connection.execute(query.order_by(total.desc(), table.c.tool, table.c.given, table.c.outcome).limit(limit))
    return [
        Outcome(tool, tuple(json.loads(given)), outcome, calls, round(ms / timed, 3) if timed else None)
        for tool, given, outcome, calls, timed, ms in rows
    ]


def figures(connection: Connection) -> dict[str, int]:
    """How many segments, turns in them, segments of the long term, and tool traces there are."""
    counted: dict[str, Any] = {
        "segments": select(func.count()).select_from(segments),
        "segment_turns": select(func.count()).select_from(segment_turns),
        "segments_in_long_term": select(func.count()).select_from(segments).where(segments.c.moved_at.is_not(None)),
        "tool_traces": select(func.count()).select_from(tool_calls),
    }
    return {name: int(connection.execute(query).scalar_one()) for name, query in counted.items()}


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget these memories in every tier."""
    leave(connection, seqs)
    uncount(connection, seqs)


def _parts(values: Sequence[int]) -> list[Sequence[int]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
