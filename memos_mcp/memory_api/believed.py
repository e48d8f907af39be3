"""Search in the past: which memories stood at a time, and with what text.

The indexes know the present only, so memories changed since are read back from their versions and scored by themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, or_, select

from memos_mcp.cube import TEXTLESS, Cube
from memos_mcp.filterable import filterable
from memos_mcp.ledger.schema import changes, cubes, operations
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.past import as_they_were, vector_at
from memos_mcp.plaintext.analysis import tokens
from memos_mcp.plaintext.scope import CONSTANTS, Scope, holds
from memos_mcp.plaintext.search import Found
from memos_mcp.ports import Vector
from memos_mcp.states import LIVE, State

MOST_CHANGED = 5_000
"""Memories changed since the time asked for that are read back."""


def search(
    parts: Parts, connection: Connection, query: str, vector: Vector | None, scope: Scope, as_of: str, count: int
) -> list[tuple[Cube, Found]]:
    """The best `count` memories as they stood at `as_of`, best first."""
    wide = replace(scope, written_by=as_of, now=as_of)
    changed = _changed_since(connection, scope, as_of)
    found = parts.search.find(connection, query, vector, wide, count + len(changed))
    present = parts.vault.by_seqs(connection, [hit.seq for hit in found if hit.seq not in changed])
    pairs = [(present[hit.seq], hit) for hit in found if hit.seq in present]
    answers = [(cube, hit) for cube, hit in pairs if _stood(cube, scope, as_of)]
    wanted = set(tokens(query))
    touched = list(parts.vault.by_seqs(connection, sorted(changed)).values())
    for past in as_they_were(parts, connection, touched, as_of).values():
        if _stood(past, scope, as_of) and _matches(past, scope):
            hit = _score(parts, connection, past, wanted, vector)
            if hit.score > 0:
                answers.append((past, hit))
    return sorted(answers, key=lambda pair: -pair[1].score)[:count]


def _changed_since(connection: Connection, scope: Scope, as_of: str) -> set[int]:
    touched = (
        select(cubes.c.seq)
        .join(changes, changes.c.cube == cubes.c.id)
        .join(operations, operations.c.seq == changes.c.op)
        .where(cubes.c.space.in_(scope.space_ids), cubes.c.created <= as_of, operations.c.at > as_of)
        .where(or_(operations.c.verb != "use", changes.c.from_version.is_not(None)))
        .distinct()
        .limit(MOST_CHANGED)
    )
    return set(connection.execute(touched).scalars())


def _stood(cube: Cube, scope: Scope, as_of: str) -> bool:
    if cube.snapshot.kind in TEXTLESS or (cube.snapshot.expires is not None and cube.snapshot.expires <= as_of):
        return False
    states = [*LIVE, State.ARCHIVED] if "archived" in scope.include else list(LIVE)
    return cube.state in states and (cube.snapshot.superseded_by is None or "superseded" in scope.include)


def _matches(cube: Cube, scope: Scope) -> bool:
    """The filters that a former version can be held to without the ledger's columns."""
    snapshot = cube.snapshot
    return (
        (not scope.kinds or snapshot.kind in scope.kinds)
        and all(tag in snapshot.tags for tag in scope.tags)
        and (scope.session is None or snapshot.session == scope.session)
        and (scope.after is None or cube.becomes_true >= scope.after)
        and (scope.before is None or cube.becomes_true < scope.before)
        and all(holds(_values(cube, key), wanted) for key, wanted in scope.where.items())
    )


def _values(cube: Cube, key: str) -> list[Any]:
    own = {
        "state": str(cube.state),
        "language": cube.language,
        **{name: getattr(cube.snapshot, name) for name in ("source", "importance", "kind", "session", "ref")},
        **CONSTANTS,
    }
    if key in own:
        return [own[key]]
    rows = filterable(cube.snapshot.metadata)
    return [text if number is None else number for name, text, number in rows if name == key]


def _score(parts: Parts, connection: Connection, past: Cube, wanted: set[str], vector: Vector | None) -> Found:
    held = Counter(tokens(past.snapshot.content))
    shared = [word for word in wanted if word in held]
    share = len(shared) / max(len(wanted), 1)
    cosine = None
    if vector is not None:
        number, _ = parts.embedder.number()
        kept = vector_at(connection, number, past)
        cosine = float(kept @ vector) if kept is not None else None
    score = share if cosine is None else 0.5 * share + 0.5 * max(cosine, 0.0)
    return Found(past.seq, score, float(len(shared)), cosine, tuple(shared))
