"""Keeps how each memory did in a task: how often it was given, how often that was of use, and how well it was found.

Knows no search. A task is a keyed digest, never its words: without the store's own key nobody can try out which it was.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, func, insert, select, update

from memos_mcp.ledger import dialect, notes
from memos_mcp.ledger.life_schema import relevance

KEY = "context.secret"
"""Name of the ledger's note that holds the store's own key."""
MOST = 50_000
"""Rows that are kept; those longest without a use go first."""
_OF_TASK = select(relevance).where(
    relevance.c.principal == bindparam("whose"),
    relevance.c.task == bindparam("of"),
    dialect.among(relevance.c.cube, "seqs"),
)
_LATEST = (
    select(relevance.c.id)
    .where(relevance.c.cube == bindparam("cube"), relevance.c.principal == bindparam("whose"))
    .order_by(relevance.c.at.desc(), relevance.c.id.desc())
    .limit(1)
)
_SERVED = (
    update(relevance)
    .where(relevance.c.id == bindparam("row"))
    .values(served=relevance.c.served + bindparam("more"), score=bindparam("new_score"), at=bindparam("new_at"))
)
_FIRST = insert(relevance)
_USED = (
    update(relevance)
    .where(relevance.c.id == bindparam("row"))
    .values(
        used=relevance.c.used + 1,
        at=case((relevance.c.at < bindparam("new_at"), bindparam("new_at")), else_=relevance.c.at),
    )
)


@dataclass(frozen=True)
class Relevance:
    """How a memory did in a task; `score` is what the latest search in it said, 0..1."""

    served: int
    used: int
    score: float


def new_key() -> str:
    """A key for a store that has none yet."""
    return secrets.token_hex(32)


def digest(key: str, text: str) -> str:
    """The digest of a task's words, the spaces between them aside."""
    words = " ".join(text.split()).encode("utf-8", "replace")
    return hashlib.blake2b(words, key=bytes.fromhex(key), digest_size=16).hexdigest()


def key_of(connection: Connection) -> str | None:
    """The store's own key; None while it has none."""
    return notes.get(connection, KEY)


def made_key(connection: Connection) -> str:
    """The store's own key, made if there is none; in a transaction that writes."""
    found = key_of(connection)
    if found is None:
        found = new_key()
        notes.put(connection, KEY, found)
    return found


def of_task(connection: Connection, principal: str, task: str, seqs: Sequence[int]) -> dict[int, Relevance]:
    """How these memories did in the principal's task, given by its digest; those that were never given are left out."""
    rows = connection.execute(_OF_TASK, {"whose": principal, "of": task, "seqs": dialect.listed(seqs)})
    return {row.cube: Relevance(row.served, row.used, row.score) for row in rows}


def served(connection: Connection, principal: str, task: str, given: Sequence[tuple[int, float, str]]) -> None:
    """These memories, by number with score and time, were given in the task one after the other, some perhaps again."""
    times = Counter(cube for cube, _, _ in given)
    rows = _rows(connection, principal, task, list(times))
    again, first = [], []
    for cube, (score, at) in {cube: (score, at) for cube, score, at in given}.items():
        if cube in rows:
            again.append({"row": rows[cube], "more": times[cube], "new_score": score, "new_at": at})
        else:
            fresh = {"principal": principal, "task": task, "cube": cube, "served": times[cube], "used": 0}
            first.append({**fresh, "score": score, "at": at})
    if again:
        connection.execute(_SERVED, again)
    if first:
        connection.execute(_FIRST, first)


def used(connection: Connection, principal: str, task: str | None, cubes: Iterable[int], at: str) -> None:
    """These memories were of use in the task; without one, in the principal's latest task in which each was given.

    One that was given in none is not counted.
    """
    for cube in cubes:
        row = None if task is None else _rows(connection, principal, task, [cube]).get(cube)
        if row is None:
            row = connection.execute(_LATEST, {"cube": cube, "whose": principal}).scalar()
        if row is not None:
            connection.execute(_USED, {"row": row, "new_at": at})


def bound(connection: Connection, most: int = MOST) -> int:
    """Drop the rows longest without a use beyond `most`; returns how many went."""
    over = int(connection.execute(select(func.count()).select_from(relevance)).scalar_one()) - most
    if over > 0:
        doomed = select(relevance.c.id).order_by(relevance.c.at, relevance.c.id).limit(over)
        connection.execute(delete(relevance).where(relevance.c.id.in_(doomed)))
    return max(over, 0)


def _rows(connection: Connection, principal: str, task: str, cubes: Sequence[int]) -> dict[int, int]:
    """The rows of these memories in the task, by memory."""
    found = connection.execute(_OF_TASK, {"whose": principal, "of": task, "seqs": dialect.listed(cubes)})
    return {row.cube: row.id for row in found}
