"""Keeps which memories followed which in use, what use has taught of each principal, and what was put into working
memory.

Knows no session and no text: numbers of memories and counts alone. The first two are derived from use and may be
cleared at any time; what was put into working memory is a decision, and stays until it is taken out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from memos_mcp.ledger.schema import usage
from memos_mcp.ledger.working_schema import habits, transitions, working_cubes

TOGETHER, NEXT = 0, 1
"""Turns between two memories: served in one answer, or in the one after it."""
MOST_TARGETS = 24
"""Memories that are remembered to follow one memory, for one principal; the lightest go first."""
MOST_OF_PRINCIPAL = 50_000
"""Rows of one principal; the oldest go first, a batch at a time."""
MOST_HABITS = 1_000
Pair = tuple[int, int, int]
"""From, to, and the turns between."""
_PART = 500
_BATCH = 1_000
_T = TypeVar("_T")
_FROM = select(transitions).where(
    transitions.c.principal == bindparam("principal"),
    transitions.c.source.in_(bindparam("sources", expanding=True)),
)
_MORE = (
    update(transitions)
    .where(transitions.c.seq == bindparam("row"))
    .values(weight=transitions.c.weight + bindparam("more"), at=bindparam("now"))
)


def note(connection: Connection, principal: str, pairs: Mapping[Pair, float], at: str) -> None:
    """Add these weights to what is known to follow what, and drop what is lightest where there is too much."""
    held = _rows(connection, principal, sorted({source for source, _, _ in pairs}))
    known = [{"row": held[pair][0], "more": weight, "now": at} for pair, weight in pairs.items() if pair in held]
    fresh = [
        {"principal": principal, "source": source, "target": target, "turns": turns, "weight": weight, "at": at}
        for (source, target, turns), weight in pairs.items()
        if (source, target, turns) not in held
    ]
    for statement, rows in ((_MORE, known), (insert(transitions), fresh)):
        if rows:
            connection.execute(statement, rows)
    if fresh:
        _prune(connection, principal, sorted({source for source, _, _ in pairs}))


def following(
    connection: Connection, principal: str, sources: Sequence[int]
) -> dict[int, list[tuple[int, int, float]]]:
    """What followed each of these memories in the principal's use, as (memory, turns, weight), heaviest first."""
    found: dict[int, list[tuple[int, int, float]]] = {}
    for (source, target, turns), (_, weight) in _rows(connection, principal, sources).items():
        found.setdefault(source, []).append((target, turns, weight))
    return {source: sorted(rows, key=lambda row: (-row[2], row[0])) for source, rows in found.items()}


def count(connection: Connection, principal: str) -> int:
    """How many rows there are of the principal."""
    query = select(func.count()).select_from(transitions).where(transitions.c.principal == principal)
    return int(connection.execute(query).scalar_one())


def last_served(connection: Connection, principal: str, limit: int) -> list[list[int]]:
    """What the principal was served, answer by answer, the latest last, out of the latest `limit` uses of anybody."""
    query = select(usage.c.cube, usage.c.at, usage.c.principal).order_by(usage.c.seq.desc()).limit(limit)
    answers: dict[str, list[int]] = {}
    for row in reversed(connection.execute(query).all()):
        if row.principal == principal:
            answers.setdefault(row.at, []).append(int(row.cube))
    return list(answers.values())


def learnt(connection: Connection, principal: str) -> tuple[list[float], list[float]] | None:
    """What use has taught of the principal: weights, and how much each was moved."""
    held = connection.execute(select(habits.c.learnt).where(habits.c.principal == principal)).scalar()
    if held is None:
        return None
    weights, moved = json.loads(held)
    return weights, moved


def learn(connection: Connection, principal: str, weights: Sequence[float], moved: Sequence[float], at: str) -> None:
    """Keep what use has taught of the principal; of too many principals the one that was longest away is forgotten."""
    text = json.dumps([[round(n, 6) for n in weights], [round(n, 6) for n in moved]])
    connection.execute(delete(habits).where(habits.c.principal == principal))
    connection.execute(insert(habits), {"principal": principal, "learnt": text, "at": at})
    stays = select(habits.c.principal).order_by(habits.c.at.desc()).limit(MOST_HABITS)
    connection.execute(delete(habits).where(habits.c.principal.not_in(stays)))


def clear(connection: Connection) -> None:
    """Forget what was derived from use."""
    connection.execute(delete(transitions))
    connection.execute(delete(habits))


def put_in(connection: Connection, principal: str, seqs: Iterable[int], op: str) -> None:
    """Put memories into the principal's working memory, as the operation `op` does."""
    rows = [{"principal": principal, "cube": seq, "in_op": op, "with_state": False} for seq in seqs]
    if rows:
        connection.execute(insert(working_cubes), rows)


def take_out(connection: Connection, principal: str, seqs: Sequence[int], op: str, with_state: set[int]) -> None:
    """Take memories out, as the operation `op` does; `with_state` are those that it takes out of activation too."""
    for seq in seqs:
        row = (working_cubes.c.principal == principal, working_cubes.c.cube == seq, working_cubes.c.out_op.is_(None))
        connection.execute(update(working_cubes).where(*row).values(out_op=op, with_state=seq in with_state))


def take_back(connection: Connection, target: str, op: str) -> tuple[set[int], set[int]]:
    """Take back what the operation `target` did, as the operation `op` does.

    Returns what came in again, and what of this is a state to be made again too.
    """
    put, taken = working_cubes.c.in_op == target, working_cubes.c.out_op == target
    rows = connection.execute(select(working_cubes.c.cube, working_cubes.c.with_state).where(taken)).all()
    connection.execute(update(working_cubes).where(put, working_cubes.c.out_op.is_(None)).values(out_op=op))
    connection.execute(update(working_cubes).where(taken).values(in_op=op, out_op=None))
    return {int(row.cube) for row in rows}, {int(row.cube) for row in rows if row.with_state}


def promoted(connection: Connection, principal: str) -> list[int]:
    """Memories that the principal put into working memory, in that order."""
    here = working_cubes.c.principal == principal, working_cubes.c.out_op.is_(None)
    query = select(working_cubes.c.cube).where(*here).order_by(working_cubes.c.seq)
    return [int(seq) for seq in connection.execute(query).scalars()]


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Forget everything about these memories."""
    for part in _parts(seqs):
        gone = transitions.c.source.in_(part) | transitions.c.target.in_(part)
        connection.execute(delete(transitions).where(gone))
        connection.execute(delete(working_cubes).where(working_cubes.c.cube.in_(part)))


def _rows(connection: Connection, principal: str, sources: Sequence[int]) -> dict[Pair, tuple[int, float]]:
    """The number and weight of each row that begins at one of these memories."""
    found: dict[Pair, tuple[int, float]] = {}
    for part in _parts(sources):
        rows = connection.execute(_FROM, {"principal": principal, "sources": part}).all()
        found.update({(row.source, row.target, row.turns): (row.seq, row.weight) for row in rows})
    return found


def _prune(connection: Connection, principal: str, sources: Sequence[int]) -> None:
    """Keep the heaviest of each source, and of a principal with too many rows the latest."""
    by_source: dict[int, list[tuple[float, int]]] = {}
    for (source, _, _), (row, weight) in _rows(connection, principal, sources).items():
        by_source.setdefault(source, []).append((weight, row))
    light = [row for rows in by_source.values() for _, row in sorted(rows, reverse=True)[MOST_TARGETS:]]
    for part in _parts(light):
        connection.execute(delete(transitions).where(transitions.c.seq.in_(part)))
    if count(connection, principal) > MOST_OF_PRINCIPAL:
        oldest = select(transitions.c.seq).where(transitions.c.principal == principal)
        oldest = oldest.order_by(transitions.c.at, transitions.c.seq).limit(_BATCH)
        connection.execute(delete(transitions).where(transitions.c.seq.in_(oldest)))


def _parts(values: Sequence[_T]) -> list[Sequence[_T]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
