"""The background's verb for the archive: compresses what has lain there for some time, and drops its vectors.

Knows neither when it is done nor how long that time is. What is compressed reads the same; its return is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, select

from memos_mcp.cube import TEXTLESS, Cube
from memos_mcp.ledger import packed, vectors
from memos_mcp.ledger.schema import changes, operations
from memos_mcp.memory_api.parts import Parts
from memos_mcp.states import State

NOTE = "archive-compressed"
"""The ledger's note of the last operation whose memories were looked at."""
OPERATIONS = 500
"""Operations that are looked at in one step."""


@dataclass(frozen=True)
class Step:
    """What operations up to number `upto` archived for good: ids of memories; `last`: no further one is old enough."""

    ids: Sequence[str]
    upto: int
    last: bool


def look(parts: Parts, before: str) -> Step:
    """The next step from the note on, over operations done up to `before`."""
    with parts.ledger.read() as connection:
        after = int(parts.ledger.get(connection, NOTE) or 0)
        rows = connection.execute(
            select(operations.c.seq, operations.c.at).where(operations.c.seq > after).order_by(operations.c.seq)
            .limit(OPERATIONS)
        ).all()  # fmt: skip
        old = [int(row.seq) for row in rows if row.at <= before]
        upto = old[-1] if old else after
        ids = [str(row.cube) for row in connection.execute(_archived(after, upto))] if old else []
    return Step(ids, upto, len(old) < OPERATIONS)


def compress(parts: Parts, ids: Sequence[str]) -> int:
    """Compress those of these memories that are archived still, in one transaction; returns how many texts."""
    with parts.ledger.write() as connection:
        by_space: dict[int, list[Cube]] = {}
        for cube in parts.vault.by_ids(connection, ids).values():
            if cube.state is State.ARCHIVED and cube.snapshot.kind not in TEXTLESS:
                by_space.setdefault(cube.space, []).append(cube)
        return sum(_pack(connection, space, cubes) for space, cubes in by_space.items())


def note(parts: Parts, upto: int) -> None:
    """Note that nothing up to this operation is left to do."""
    with parts.ledger.write() as connection:
        parts.ledger.put(connection, NOTE, str(upto))


def next_archived(parts: Parts, after: int) -> tuple[str | None, int | None]:
    """When the first of the next operations behind number `after` that archived something was done, and the number to
    go on from; None: there are no more."""
    upto = after + OPERATIONS
    done = (changes.c.op > after) & (changes.c.op <= upto) & (changes.c.to_state == State.ARCHIVED)
    with parts.ledger.read() as connection:
        last = connection.execute(select(func.max(operations.c.seq))).scalar() or 0
        first = select(func.min(operations.c.at)).join(changes, changes.c.op == operations.c.seq).where(done)
        found = connection.execute(first).scalar()
    return found, upto if upto < int(last) else None


def _pack(connection: Connection, space: int, cubes: Sequence[Cube]) -> int:
    seqs = [cube.seq for cube in cubes]
    vectors.erase(connection, seqs)
    return packed.put(connection, space, seqs)


def _archived(after: int, upto: int) -> Select[tuple[str]]:
    """Memories that these operations moved to the archive and that no later one moved again."""
    later = changes.alias()
    moved_again = select(later.c.op).where(
        later.c.cube == changes.c.cube, later.c.op > changes.c.op, later.c.to_state.is_not(None)
    )
    return (
        select(changes.c.cube)
        .where(
            changes.c.op > after, changes.c.op <= upto, changes.c.to_state == State.ARCHIVED, ~moved_again.exists()
        )
        .order_by(changes.c.op, changes.c.cube)
    )
