"""The background's verb for adapters whose memories have changed: each is trained anew without them, or retired.

Knows nothing of when it is done. A successor takes the place of the tainted one once it has passed its exams; until
then there is none to be mounted.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import ADAPTER, Cube
from memos_mcp.governance import Caller
from memos_mcp.ledger import adapters, operations
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.memory_api import parametric
from memos_mcp.memory_api.parametric import Enrolled
from memos_mcp.memory_api.parts import Parts
from memos_mcp.states import LIVE

CLIENT = "memos-mcp training"


def to_follow(parts: Parts, connection: Connection) -> list[int]:
    """Tainted adapters that are neither retired nor about to be replaced."""
    left = adapters.left_tainted(connection)
    cubes = parts.vault.by_seqs(connection, left)
    return [seq for seq in left if seq in cubes and not _successors(parts, connection, cubes[seq])]


def follow(parts: Parts, seq: int) -> None:
    """Have a successor trained for a tainted adapter where the store is set so and it can be, else retire it."""
    with parts.ledger.write() as connection:
        if seq not in to_follow(parts, connection):
            return
        cube = parts.vault.by_seqs(connection, [seq])[seq]
        row = adapters.listed(connection, [seq])[0]
        space = governance.space_of(connection, cube.space)
        caller = Caller(space.owner, space.name, CLIENT)
        at, why = parts.stamp(), f"{row.tainted}"
        made = successors(parts, connection, [(cube, row)], ())
        op = operations.begin("promote", caller.principal, CLIENT, at, f"retired: {why}")
        moved = [] if made and row.gguf_sha256 is not None else parametric.retire(parts, connection, op, [cube])
        if moved:
            operations.record(connection, op, [change for _, change in moved])
        elif not made:  # frozen: nothing automatic is done to it but what keeps it from being mounted
            adapters.set_state(connection, [seq], "retired")
    parts.changed(caller, [one for one, _ in moved], listing=True, embedded=True)
    parametric.announce(parts, caller, made)


def successors(
    parts: Parts, connection: Connection, tainted: Sequence[tuple[Cube, AdapterRow]], without: Sequence[int]
) -> list[Enrolled]:
    """Enroll an adapter for each of these, of what is left of its memories as they are now, where the store retrains.

    `without` are numbers of memories that are about to be purged.
    """
    training = parts.training
    if training is None or not training.wishes.retrains or not training.able:
        return []
    made: list[Enrolled] = []
    for cube, row in tainted:
        if row.state == "retired":
            continue
        named = parts.vault.by_seqs(connection, [seq for seq, _ in row.sources if seq not in without])
        left = [one for one in named.values() if parametric.untaught(parts, connection, one) is None]
        if not parametric.lessons(left):
            continue
        taught, _ = parametric.teachable(left)
        space = governance.space_of(connection, cube.space)
        op = operations.begin("promote", space.owner, CLIENT, parts.stamp(), parametric.RETRAINED)
        replaces = None if cube.seq in without else cube
        one = parametric.enroll(parts, connection, op, space.owner, space, taught, replaces)
        operations.record(connection, op, one.changes)
        made.append(one)
    return made


def trained_on(
    parts: Parts, connection: Connection, cubes: Sequence[Cube]
) -> list[tuple[Cube, AdapterRow]]:
    """The adapters that were trained on some of these memories, with what is known of each."""
    made = adapters.made_from(connection, [cube.seq for cube in cubes])
    rows = {row.cube: row for row in adapters.listed(connection, made)}
    found = parts.vault.by_seqs(connection, list(rows))
    return [(found[seq], row) for seq, row in rows.items() if seq in found]


def _successors(parts: Parts, connection: Connection, cube: Cube) -> list[Cube]:
    found = parts.vault.linked_by(connection, [cube.id], "supersedes")
    return [one for one in found if one.snapshot.kind == ADAPTER and one.state in LIVE]
