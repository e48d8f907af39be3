"""Rows of the local model's states: what each holds, and which memories are to be held together.

Knows no model, no file and no text: a state here is numbers, and the name of a file that others write and unlink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from memos_mcp.ledger import dialect
from memos_mcp.ledger.adapter_schema import adapters
from memos_mcp.ledger.schema import cubes, kept_states, promoted_cubes, state_parts
from memos_mcp.states import LIVE

_PART = 500
_HOLDING = select(state_parts.c.state).where(dialect.among(state_parts.c.cube, "seqs")).distinct()
_TAINTED = (
    select(adapters.c.cube).where(adapters.c.cube == cubes.c.seq, adapters.c.tainted.is_not(None)).correlate(cubes)
).exists()


@dataclass(frozen=True)
class PartRow:
    """A stretch of a state up to token `end`: a memory's text in this version, or a conversation's turn (`role`).

    With the role `mounted`, no stretch but a cube that the state was read under.
    """

    end: int
    cube: int | None = None
    version: int | None = None
    role: str | None = None


@dataclass(frozen=True)
class Owner:
    """Whose conversation a state is: `conversation` is its id, `session` what its principal calls it."""

    conversation: str
    principal: str
    space: int
    session: str


@dataclass(frozen=True)
class StateRow:
    """A state in a file; `id` is 0 until it is kept.

    `format`, `layers` and `head` (tokens before the first memory) are None of one that was kept before they were noted;
    `mounted` is the engine's identity with what the state was read under, None for nothing.
    """

    key: str
    identity: str
    promoted: bool
    tokens: int
    tokens_read: int
    bytes: int
    file: str
    created: str
    last_used: str
    uses: int
    parts: tuple[PartRow, ...]
    owner: Owner | None = None
    id: int = 0
    format: str | None = None
    layers: int | None = None
    head: int | None = None
    mounted: str | None = None

    @property
    def cubes(self) -> frozenset[int]:
        return frozenset(part.cube for part in self.parts if part.cube is not None)


def keep(connection: Connection, row: StateRow) -> int:
    """Write a state down in place of the one with its key; returns its number."""
    drop(connection, list(connection.execute(select(kept_states.c.id).where(kept_states.c.key == row.key)).scalars()))
    owner = vars(row.owner) if row.owner is not None else {}
    values = {name: value for name, value in vars(row).items() if name not in ("id", "parts", "owner")}
    number = dialect.insert_row(connection, kept_states, {**values, **owner})
    rows = [{"state": number, "place": place, **vars(part)} for place, part in enumerate(row.parts)]
    if rows:
        connection.execute(insert(state_parts), rows)
    return number


def listed(connection: Connection, holding: int | None = None) -> list[StateRow]:
    """Every state, or those that hold this memory, in the order of being kept."""
    states, held = select(kept_states).order_by("id"), select(state_parts)
    if holding is not None:
        numbers = select(state_parts.c.state).where(state_parts.c.cube == holding)
        states, held = states.where(kept_states.c.id.in_(numbers)), held.where(state_parts.c.state.in_(numbers))
    parts: dict[int, list[PartRow]] = {}
    for row in connection.execute(held.order_by(state_parts.c.state, state_parts.c.place)):
        parts.setdefault(row.state, []).append(PartRow(row.end, row.cube, row.version, row.role))
    return [_state(row, parts.get(row.id, [])) for row in connection.execute(states)]


def containing(connection: Connection, seqs: Sequence[int]) -> list[str]:
    """Keys of the states that hold one of these memories, in any version, in the order of being kept."""
    found: dict[int, str] = {}
    for start in range(0, len(seqs), _PART):
        holding = select(state_parts.c.state).where(state_parts.c.cube.in_(seqs[start : start + _PART]))
        query = select(kept_states.c.id, kept_states.c.key).where(kept_states.c.id.in_(holding))
        found |= {row.id: row.key for row in connection.execute(query)}
    return [found[number] for number in sorted(found)]


def drop(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete states with what they hold."""
    for start in range(0, len(numbers), _PART):
        part = numbers[start : start + _PART]
        connection.execute(delete(state_parts).where(state_parts.c.state.in_(part)))
        connection.execute(delete(kept_states).where(kept_states.c.id.in_(part)))


def drop_containing(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete the states that hold one of these memories, conversations included."""
    holding = connection.execute(_HOLDING, {"seqs": dialect.listed(seqs)}).scalars().all() if seqs else ()
    drop(connection, list(holding))


def drop_of(connection: Connection, principal: str, space: int) -> set[int]:
    """Delete the states of a principal's conversations that hold memories of a space; numbers of those memories."""
    query = (
        select(kept_states.c.id, state_parts.c.cube)
        .join(state_parts, state_parts.c.state == kept_states.c.id)
        .join(cubes, cubes.c.seq == state_parts.c.cube)
        .where(kept_states.c.principal == principal, cubes.c.space == space)
    )
    rows = connection.execute(query).all()
    drop(connection, sorted({row.id for row in rows}))
    return {row.cube for row in rows}


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete every trace of memories that are purged."""
    drop_containing(connection, seqs)
    for start in range(0, len(seqs), _PART):
        part = seqs[start : start + _PART]
        connection.execute(delete(promoted_cubes).where(promoted_cubes.c.cube.in_(part)))


def used(connection: Connection, number: int, uses: int, at: str) -> None:
    """Note how often a state was used, and when last."""
    row = {"uses": uses, "last_used": at}
    connection.execute(update(kept_states).where(kept_states.c.id == number).values(row))


def priorities(connection: Connection, seqs: Sequence[int]) -> dict[int, float]:
    """The memories' priorities, 0..1, by number."""
    found: dict[int, float] = {}
    said = func.json_extract(cubes.c.snapshot, "$.priority").label("priority")
    for start in range(0, len(seqs), _PART):
        query = select(cubes.c.seq, said).where(cubes.c.seq.in_(seqs[start : start + _PART]))
        found |= {row.seq: float(row.priority) for row in connection.execute(query)}
    return found


def ids_of(connection: Connection, seqs: Sequence[int]) -> dict[int, str]:
    """The memories' ids by number."""
    found: dict[int, str] = {}
    for start in range(0, len(seqs), _PART):
        query = select(cubes.c.seq, cubes.c.id).where(cubes.c.seq.in_(seqs[start : start + _PART]))
        found |= {row.seq: row.id for row in connection.execute(query)}
    return found


def standing(connection: Connection, seqs: Sequence[int]) -> dict[int, int]:
    """The present version of each memory that is live; others, and adapters that hold no more, are left out."""
    found: dict[int, int] = {}
    for start in range(0, len(seqs), _PART):
        live = cubes.c.seq.in_(seqs[start : start + _PART]) & cubes.c.state.in_(LIVE) & ~_TAINTED
        found |= {row.seq: row.version for row in connection.execute(select(cubes.c.seq, cubes.c.version).where(live))}
    return found


def stand(connection: Connection, steps: Sequence[tuple[int, int]]) -> bool:
    """Whether these memories, by number and version, are all live and at that version."""
    present = standing(connection, sorted({seq for seq, _ in steps}))
    return all(present.get(seq) == version for seq, version in steps)


def latest(connection: Connection, count: int) -> list[int]:
    """The numbers of the memories that were written last and are live, latest first."""
    query = select(cubes.c.seq).where(cubes.c.state.in_(LIVE)).order_by(cubes.c.seq.desc()).limit(count)
    return list(connection.execute(query).scalars())


def promote(connection: Connection, seqs: Sequence[int]) -> int:
    """Note that these memories are to be held as one state; returns the number of their set."""
    last = connection.execute(select(func.max(promoted_cubes.c.set))).scalar()
    number = int(last or 0) + 1
    connection.execute(insert(promoted_cubes), [{"set": number, "cube": seq} for seq in seqs])
    return number


def demote(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """Take memories out of every set; returns those that were in one."""
    found: set[int] = set()
    for start in range(0, len(seqs), _PART):
        among = promoted_cubes.c.cube.in_(seqs[start : start + _PART])
        found |= set(connection.execute(select(promoted_cubes.c.cube).where(among)).scalars())
        connection.execute(delete(promoted_cubes).where(among))
    return found


def drop_set(connection: Connection, number: int) -> None:
    """Forget that the memories of a set belong together."""
    connection.execute(delete(promoted_cubes).where(promoted_cubes.c.set == number))


def give_up(connection: Connection, seqs: frozenset[int]) -> None:
    """Forget that just these memories belong together, in whatever sets they do."""
    with_one = select(promoted_cubes.c.set).where(promoted_cubes.c.cube.in_(sorted(seqs)[:1]))
    rows = connection.execute(select(promoted_cubes.c.set, promoted_cubes.c.cube).where(
        promoted_cubes.c.set.in_(with_one)
    ))  # fmt: skip
    held: dict[int, set[int]] = {}
    for number, cube in rows:
        held.setdefault(number, set()).add(cube)
    for number in [number for number, cubes_of in held.items() if cubes_of == seqs]:
        drop_set(connection, number)


def promoted(connection: Connection) -> dict[int, list[int]]:
    """The memories of each set that are live, in canonical order: as they were written."""
    query = (
        select(promoted_cubes.c.set, promoted_cubes.c.cube)
        .join(cubes, cubes.c.seq == promoted_cubes.c.cube)
        .where(cubes.c.state.in_(LIVE), cubes.c.superseded_by.is_(None))
        .order_by(promoted_cubes.c.set, promoted_cubes.c.cube)
    )
    found: dict[int, list[int]] = {}
    for number, cube in connection.execute(query):
        found.setdefault(number, []).append(cube)
    return found


def all_promoted(connection: Connection) -> set[int]:
    """The memories of every set, live or not."""
    return set(connection.execute(select(promoted_cubes.c.cube)).scalars())


def _state(row: Any, parts: Sequence[PartRow]) -> StateRow:
    owner = None
    if row.conversation is not None:
        owner = Owner(row.conversation, row.principal, row.space, row.session)
    return StateRow(
        row.key, row.identity, row.promoted, row.tokens, row.tokens_read, row.bytes, row.file, row.created,
        row.last_used, row.uses, tuple(parts), owner, row.id, row.format, row.layers, row.head, row.mounted,
    )  # fmt: skip
