"""Takes back what operations let stand or fall: publications, withdrawals, subscriptions and grants.

Knows nothing of changes to memories: these are `undo`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.errors import AccessDenied, Conflict, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import channels, kept_states, operations, standings, subscriptions
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.standings import ACCESS, Standing
from memos_mcp.memory_api.parts import Parts, begun
from memos_mcp.memory_api.publish import SHOWN, fallen, tell
from memos_mcp.policies.publishing import refusal
from memos_mcp.results import UndoResult


def concerns(connection: Connection, target: Operation) -> bool:
    """Whether the operation let something stand or fall."""
    return bool(standings.entries_of(connection, target.id))


def take_back(
    parts: Parts, connection: Connection, caller: Caller, target: Operation
) -> tuple[UndoResult, Callable[[], None]]:
    """Turn every entry of the operation that is still as it left it; returns the result, and what is to follow.

    What was purged since is left out.

    Raises:
        Conflict: nothing of it is so any more, a memory may not be published again, or the space is subscribed in
        another way by now. AccessDenied: not the caller's.
    """
    made = standings.entries_of(connection, target.id)
    entries = [one for one in made if standings.stands(connection, one) is one.stands]
    if not entries:
        raise Conflict(f"Nothing of operation {target.id} stands any more: there is nothing to take back.")
    turned = [replace(one, stands=not one.stands) for one in entries]
    for one in turned:
        _require(parts, connection, caller, one)
    _require_one_way(connection, turned)
    op = begun(parts, caller, "undo", f"undo of {target.verb}", target.id)
    seqs = _memories(connection, turned)
    cubes = list(parts.vault.by_seqs(connection, seqs[:SHOWN]).values())
    result: UndoResult = {"undone": [cube.id for cube in cubes], "op": op.id}
    standings.set_standing(connection, op.id, turned)
    operations.record(connection, op, [Change(cube.id, None, None, None, None) for cube in cubes], result)
    follow_up = follow(parts, connection, turned, seqs)
    granted = [cube.id for cube in cubes] if any(one.what == "grant" for one in turned) else []

    def after() -> None:
        parts.events.publish(granted, [], listing=False)
        follow_up()

    return result, after


def follow(
    parts: Parts, connection: Connection, turned: Sequence[Standing], seqs: Sequence[int]
) -> Callable[[], None]:
    """Drop the rows of what was read of these memories, and by those who may read a space no more; returns what is to
    follow the commit: who watches is told."""
    touched = channels.by_ids(connection, standings.channels_of(connection, turned))
    told = fallen(connection, touched, seqs)
    unread = set(seqs)
    for one in turned:
        if one.what == ACCESS:
            space = governance.space_of(connection, one.row)
            told.append((space.id, space.name))
            if one.can == "read" and not one.stands and one.principal is not None:
                unread |= kept_states.drop_of(connection, one.principal, space.id)

    def after() -> None:
        parts.unread(sorted(unread))
        tell(parts, touched, told)

    return after


def _memories(connection: Connection, turned: list[Standing]) -> list[int]:
    """Numbers of the memories that the entries are about."""
    found: list[int] = []
    for one in turned:
        if one.what == "grant":
            found.append(one.row)
        elif one.what == "publication":
            found += channels.seqs_of(connection, one.row)
        elif one.what == "published":
            row = channels.publication_of(connection, one.row)
            found += [row.cube] if row is not None else []
    return sorted(set(found))


def _require(parts: Parts, connection: Connection, caller: Caller, one: Standing) -> None:
    """Raise unless the caller may turn the entry so."""
    if one.what == "grant":
        cube = parts.vault.by_seqs(connection, [one.row])[one.row]
        governance.require(connection, caller, "share", cube)
    elif one.what == ACCESS:
        governance.require(connection, caller, "share", governance.space_of(connection, one.row))
    elif one.what == "subscription":
        row = subscriptions.subscription(connection, one.row)
        if row is not None:
            governance.require(connection, caller, "write", governance.space_of(connection, row.space))
            channel = channels.by_ids(connection, [row.channel])[0]
            if one.stands:
                _may_read(connection, caller, channel)
    else:
        _require_publisher(parts, connection, caller, one)


def _require_one_way(connection: Connection, turned: list[Standing]) -> None:
    """Raise if a space would be subscribed to a channel twice."""
    ended = {one.row for one in turned if one.what == "subscription" and not one.stands}
    for one in turned:
        row = subscriptions.subscription(connection, one.row) if one.what == "subscription" and one.stands else None
        if row is None:
            continue
        others = [other.id for other in subscriptions.subscribed(connection, row.channel, row.space)]
        if set(others) - ended - {row.id}:
            address = channels.by_ids(connection, [row.channel])[0].address
            raise Conflict(f"The space is subscribed to {address} anew by now: end that subscription first.")


def _may_read(connection: Connection, caller: Caller, channel: channels.Channel) -> None:
    space = governance.space_of(connection, channel.space)
    if not governance.may(connection, caller.principal, "read", space):
        raise NotFound("channel", [channel.address], "it is not yours to read any more.")


def _require_publisher(parts: Parts, connection: Connection, caller: Caller, one: Standing) -> None:
    row = channels.publication_of(connection, one.row) if one.what == "published" else None
    number = row.publication if row is not None else one.row
    publication = channels.publication(connection, number)
    if publication is None:
        return
    channel = channels.by_ids(connection, [publication.channel])[0]
    space = governance.space_of(connection, channel.space)
    if not one.stands:
        own = publication.principal == caller.principal
        if not own and not governance.may(connection, caller.principal, "forget", space):
            what = f"what {publication.principal} published in {channel.address}"
            raise AccessDenied(caller.principal, "forget", what)
        return
    governance.require(connection, caller, "write", space)
    seqs = [row.cube] if row is not None else channels.seqs_of(connection, number)
    for cube in parts.vault.by_seqs(connection, seqs).values():
        governance.require(connection, caller, "share", cube)
        why = refusal(cube, parts.stamp())
        if why is not None and cube.snapshot.sensitivity != "normal":
            raise Conflict(f"Memory {cube.id} {why}: it is not published again.")
