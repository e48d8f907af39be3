"""What becomes of publications where memories that stand in channels are moved, fused or split.

Knows neither verbs nor who may call them. All of it is recorded as the operation's own, so that its undo takes it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.ledger import channels, standings
from memos_mcp.ledger.channels import Placed
from memos_mcp.ledger.operations import Operation
from memos_mcp.ledger.standings import Standing
from memos_mcp.memory_api.parts import Parts
from memos_mcp.policies.publishing import refusal


def moved(connection: Connection, op: Operation, cubes: Sequence[Cube]) -> None:
    """Take memories that are in another space now out of the queries that looked in the former one, and out of what
    those published who may not share them there; elsewhere they go on standing."""
    known = {cube.seq: cube for cube in cubes}
    gone = [
        placed
        for placed in channels.placed(connection, list(known))
        if (placed.source is not None and placed.source != known[placed.cube].space)
        or not _may_share(connection, placed.principal, known[placed.cube])
    ]
    standings.set_standing(connection, op.id, [Standing(0, "published", one.id, stands=False) for one in gone])


def replaced(
    parts: Parts, connection: Connection, op: Operation, sources: Sequence[Cube], made: Sequence[Cube]
) -> None:
    """Let what was made of memories stand in their place in each channel in which all of them stood.

    Where one of them did not, the others stay, readable by id: what was made of them says more than was published. What
    a query took in is left to the query, which judges anew.
    """
    seqs, now = {cube.seq for cube in sources}, parts.stamp()
    stood = [one for one in channels.placed(connection, sorted(seqs)) if not one.hidden]
    if not stood or any(refusal(cube, now) is not None for cube in made):
        return
    entries: list[Standing] = []
    for channel in dict.fromkeys(one.channel for one in stood):
        here = [one for one in stood if one.channel == channel]
        if {one.cube for one in here} == seqs:
            entries += _in_place(connection, [one for one in here if one.source is None], made, now)
    standings.set_standing(connection, op.id, entries)


def taken_back(parts: Parts, connection: Connection, op: Operation, target: Operation) -> None:
    """Turn what the target let stand or fall, as far as it is still so and its publisher may share it.

    Where what it let stand was withdrawn since, nothing is published again.
    """
    entries = [one for one in standings.entries_of(connection, target.id) if one.what == "published"]
    same = [one for one in entries if standings.stands(connection, one) is one.stands]
    whole = all(one in same for one in entries if one.stands)
    turned = [one for one in same if one.stands or (whole and _may_stand(parts, connection, one))]
    standings.set_standing(connection, op.id, [replace(one, stands=not one.stands) for one in turned])


def _may_stand(parts: Parts, connection: Connection, one: Standing) -> bool:
    row = channels.publication_of(connection, one.row)
    cube = parts.vault.by_seqs(connection, [row.cube]).get(row.cube) if row is not None else None
    return row is not None and cube is not None and _may_share(connection, row.principal, cube)


def _in_place(
    connection: Connection, named: Sequence[Placed], made: Sequence[Cube], now: str
) -> list[Standing]:
    """The entries that put the new memories into a channel, by who published one of the former, and take those out."""
    able = [one for one in named if all(_may_share(connection, one.principal, cube) for cube in made)]
    if not able:
        return []
    channels.add(connection, able[0].publication, [cube.seq for cube in made], now)
    fresh = channels.placed(connection, [cube.seq for cube in made])
    stand = [one.id for one in fresh if one.publication == able[0].publication]
    return [
        *(Standing(0, "published", row, stands=True) for row in stand),
        *(Standing(0, "published", one.id, stands=False) for one in named),
    ]


def _may_share(connection: Connection, principal: str, cube: Cube) -> bool:
    space = governance.space_of(connection, cube.space)
    return governance.may(connection, principal, "share", space, cube.seq)
