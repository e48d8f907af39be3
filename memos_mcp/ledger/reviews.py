"""When each memory is to be looked at again, how much stands in each space, and which policy a space has.

Knows no rule. What is new since the last look is read from the record of changes and of uses, from a note on, so that
nothing is searched for over the whole ledger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from memos_mcp.ledger import dialect
from memos_mcp.ledger.life_schema import reviews, space_policies, space_sizes
from memos_mcp.ledger.operations import Change
from memos_mcp.ledger.schema import changes, cubes, operations, promoted_cubes, proposals, proposed_cubes, spaces, usage

_PART = 500
_OF = select(reviews).where(dialect.among(reviews.c.cube, "seqs"))
_PRESENT = select(cubes.c.seq, cubes.c.version, cubes.c.state).where(dialect.among(cubes.c.seq, "seqs"))
_DROP = delete(reviews).where(dialect.among(reviews.c.cube, "seqs"))
_ADD = (
    update(space_sizes)
    .where(space_sizes.c.space == bindparam("of"))
    .values(memories=space_sizes.c.memories + bindparam("more"), size=space_sizes.c.size + bindparam("bytes"))
)
_PAGE = select(cubes.c.seq).where(cubes.c.seq > bindparam("after")).order_by(cubes.c.seq).limit(bindparam("most"))
DUE = (
    select(reviews)
    .where(reviews.c.at <= bindparam("now"))
    .order_by(reviews.c.at, reviews.c.cube)
    .limit(bindparam("most"))
)
UNDATED = (
    select(reviews)
    .where(reviews.c.space == bindparam("of"), reviews.c.at.is_(None))
    .order_by(reviews.c.cube)
    .limit(bindparam("most"))
)
OF_SPACE = (
    select(reviews)
    .where(reviews.c.space == bindparam("of"), reviews.c.at.is_not(None))
    .order_by(reviews.c.at, reviews.c.cube)
    .limit(bindparam("most"))
)
NEXT = select(reviews.c.at).where(reviews.c.at.is_not(None)).order_by(reviews.c.at).limit(1)
USED = (
    select(usage.c.seq, usage.c.cube).where(usage.c.seq > bindparam("after")).order_by(usage.c.seq)
    .limit(bindparam("most"))
)  # fmt: skip
CHANGED = (
    select(changes, operations.c.verb, operations.c.client, operations.c.at)
    .join(operations, operations.c.seq == changes.c.op)
    .where(
        changes.c.op >= bindparam("after"),
        or_(changes.c.op > bindparam("after"), changes.c.cube > bindparam("cube")),
    )
    .order_by(changes.c.op, changes.c.cube)
    .limit(bindparam("most"))
)  # fmt: skip
LIKE = (
    select(proposed_cubes.c.cube, proposals.c.id, proposals.c.kind, proposals.c.score, proposals.c.reason)
    .join(proposals, proposals.c.id == proposed_cubes.c.proposal)
    .where(dialect.among(proposed_cubes.c.cube, "seqs"), proposals.c.state == "open")
)
PROMOTED = select(promoted_cubes.c.cube).where(dialect.among(promoted_cubes.c.cube, "seqs"))
SPACES = select(space_policies.c.space, func.max(space_policies.c.id)).group_by(space_policies.c.space)
"""The queries that run regularly; a test looks that none of them reads a whole table."""


_POLICIES = select(space_policies).where(dialect.among(space_policies.c.id, "ids"))
_NEW = insert(reviews)


@dataclass(frozen=True)
class Review:
    """A row of `reviews`: see there."""

    cube: int
    space: int
    at: str | None
    size: int | None
    since: str | None = None
    held: str | None = None


@dataclass(frozen=True)
class Place:
    """Up to where the ledger was read: a change by operation and memory, a use by number; and where a new judgement of
    every memory is, from `sweep` (a memory's number) up to `upto`, as the thresholds `rules` want."""

    op: int = 0
    cube: str = ""
    use: int = 0
    sweep: int = 0
    upto: int = 0
    rules: str = ""

    def as_json(self) -> str:
        return json.dumps(vars(self))

    @staticmethod
    def from_json(text: str | None) -> Place | None:
        return Place(**json.loads(text)) if text else None


@dataclass(frozen=True)
class Changed:
    """A change with the operation that made it: its number, verb, client and time."""

    op: int
    change: Change
    verb: str
    client: str | None
    at: str


@dataclass(frozen=True)
class SpacePolicy:
    """A policy that a space was given by an operation, and the one it had before."""

    space: int
    policy: str | None
    former: str | None
    op: str


def changed_after(connection: Connection, place: Place, limit: int) -> list[Changed]:
    """The next changes, in order."""
    rows = connection.execute(CHANGED, {"after": place.op, "cube": place.cube, "most": limit})
    return [
        Changed(
            row.op, Change(row.cube, row.from_version, row.to_version, row.from_state, row.to_state),
            row.verb, row.client, row.at,
        )
        for row in rows
    ]  # fmt: skip


def used_after(connection: Connection, use: int, limit: int) -> list[tuple[int, int]]:
    """The next uses, as (number, memory's number)."""
    return [(int(row.seq), int(row.cube)) for row in connection.execute(USED, {"after": use, "most": limit})]


def page(connection: Connection, after: int, limit: int) -> list[int]:
    """Numbers of the next memories, in the order of writing."""
    return [int(row.seq) for row in connection.execute(_PAGE, {"after": after, "most": limit})]


def last_use(connection: Connection) -> int:
    """The number of the use that was written last; 0 when there is none."""
    return int(connection.execute(select(func.max(usage.c.seq))).scalar() or 0)


def due(connection: Connection, now: str, limit: int) -> list[Review]:
    """Memories whose time has come, the longest waiting first."""
    return [_review(row) for row in connection.execute(DUE, {"now": now, "most": limit})]


def next_at(connection: Connection) -> str | None:
    """When the next memory is to be looked at."""
    found = connection.execute(NEXT).scalar()
    return None if found is None else str(found)


def of_space(connection: Connection, space: int, limit: int) -> list[Review]:
    """Memories of a space that are to be looked at some time, the next first."""
    return [_review(row) for row in connection.execute(OF_SPACE, {"of": space, "most": limit})]


def undated(connection: Connection, space: int, limit: int) -> list[Review]:
    """Memories of a space that need no look, in the order of writing."""
    return [_review(row) for row in connection.execute(UNDATED, {"of": space, "most": limit})]


def of(connection: Connection, seqs: Sequence[int]) -> dict[int, Review]:
    """The rows of these memories, by number."""
    return {row.cube: _review(row) for row in connection.execute(_OF, {"seqs": dialect.listed(seqs)}).all()}


def put(connection: Connection, rows: Sequence[Review]) -> None:
    """Write rows in place of those that were there, of memories that are still there, and bring the sums along."""
    seqs = dialect.listed([row.cube for row in rows])
    present = {row.seq for row in connection.execute(_PRESENT, {"seqs": seqs})}
    rows = [row for row in rows if row.cube in present]
    if not rows:
        return
    before = of(connection, [row.cube for row in rows])
    if before:
        connection.execute(_DROP, {"seqs": dialect.listed(before)})
    connection.execute(_NEW, [vars(row) for row in rows])
    _sum(connection, [*before.values()], rows)


def drop(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete the rows of memories that need no look any more, and take them out of the sums."""
    before = of(connection, seqs)
    if before:
        connection.execute(_DROP, {"seqs": dialect.listed(seqs)})
        _sum(connection, [*before.values()], [])


def erase(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete every trace of memories that are purged."""
    for start in range(0, len(seqs), _PART):
        drop(connection, seqs[start : start + _PART])


def look_at(connection: Connection, seqs: Sequence[int], at: str) -> None:
    """Have memories looked at by this time, unless it is to be sooner: for whoever learns something of them."""
    later = reviews.c.at.is_(None) | (reviews.c.at > at)
    for start in range(0, len(seqs), _PART):
        among = reviews.c.cube.in_(list(seqs[start : start + _PART]))
        connection.execute(update(reviews).where(among, later).values(at=at))


def standing(connection: Connection, seqs: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Version and state of the memories that are there, by number."""
    rows = connection.execute(_PRESENT, {"seqs": dialect.listed(seqs)})
    return {row.seq: (row.version, row.state) for row in rows}


def size_of(connection: Connection, space: int) -> tuple[int, int]:
    """How many memories of the space stand, and bytes of their texts, as far as the changes were read."""
    row = connection.execute(select(space_sizes).where(space_sizes.c.space == space)).first()
    return (0, 0) if row is None else (row.memories, row.size)


def likely(connection: Connection, seqs: Sequence[int]) -> list[tuple[int, str, str, float, str]]:
    """Open proposals about these memories, as (memory, proposal, kind, score, reason)."""
    return [tuple(row) for row in connection.execute(LIKE, {"seqs": dialect.listed(seqs)})]


def promoted(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """Those of the memories that are to be held as a state of the local model."""
    return set(connection.execute(PROMOTED, {"seqs": dialect.listed(seqs)}).scalars())


def policy_of(connection: Connection, space: int) -> SpacePolicy | None:
    """The space's own policy as it was given last; None if it never was."""
    mine = select(space_policies).where(space_policies.c.space == space)
    row = connection.execute(mine.order_by(space_policies.c.id.desc()).limit(1)).first()
    return None if row is None else SpacePolicy(row.space, row.policy, row.former, row.op)


def policies(connection: Connection) -> dict[int, str]:
    """The policies of all spaces that have one."""
    newest = [row[1] for row in connection.execute(SPACES).all()]
    rows = connection.execute(_POLICIES, {"ids": dialect.listed(newest)}).all() if newest else ()
    return {row.space: row.policy for row in rows if row.policy is not None}


def policy_by(connection: Connection, op: str) -> SpacePolicy | None:
    """What an operation gave a space; None if it was about no space's policy."""
    row = connection.execute(select(space_policies).where(space_policies.c.op == op)).first()
    return None if row is None else SpacePolicy(row.space, row.policy, row.former, row.op)


def give_policy(connection: Connection, given: SpacePolicy) -> None:
    """Note what a space was given."""
    connection.execute(insert(space_policies), vars(given))


def names(connection: Connection) -> dict[int, tuple[str, str]]:
    """Name and owner of every space, by number."""
    return {row.id: (row.name, row.owner) for row in connection.execute(select(spaces))}


def _sum(connection: Connection, before: Sequence[Review], after: Sequence[Review]) -> None:
    sums: dict[int, list[int]] = {}
    for rows, sign in ((before, -1), (after, 1)):
        for row in rows:
            if row.size is not None:
                found = sums.setdefault(row.space, [0, 0])
                found[0] += sign
                found[1] += sign * row.size
    for space, (more, size) in sums.items():
        if not connection.execute(_ADD, {"of": space, "more": more, "bytes": size}).rowcount:
            connection.execute(insert(space_sizes), {"space": space, "memories": more, "size": size})


def _review(row: Any) -> Review:
    return Review(row.cube, row.space, row.at, row.size, row.since, row.held)
