"""The verbs subscribe and unsubscribe: a space shows what is published to a channel, and what a channel holds is read.

A subscription stands in a space. By references the memories stay where they are, in their newest version; by copies
they become the space's own, made behind the calls (`deliver`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import channels, operations, standings, subscriptions
from memos_mcp.ledger.channels import Channel
from memos_mcp.ledger.standings import Standing
from memos_mcp.ledger.subscriptions import Subscription
from memos_mcp.memory_api import deliver
from memos_mcp.memory_api.parts import Parts, begun
from memos_mcp.memory_api.publish import MOST, SHOWN, address, channel_for, fallen, tell, uri_of
from memos_mcp.requests import SubscribeRequest, UnsubscribeRequest
from memos_mcp.results import SubscribeResult

PAGE = 50
TEXT_CHARS = 200


def subscribe(parts: Parts, caller: Caller, request: SubscribeRequest) -> SubscribeResult:
    """Have the caller's space show what is published to a channel, now and later.

    Subscribed in the same way already, copies take the new versions that are offered; in another way, this one stands
    in place of the former.

    Raises:
        InvalidInput: copies are to follow where there are none. NotFound: no such channel, or not the caller's to see.
        AccessDenied: the space is not the caller's to write to.
    """
    if request.follow and not request.copies:
        raise InvalidInput("References follow by themselves: give follow with copies=true only.", field="follow")
    with parts.ledger.write() as connection:
        channel = channel_for(connection, caller, request.channel)
        space = governance.open_space(connection, caller, caller.space, parts.stamp())
        former = subscriptions.subscribed(connection, channel.id, space.id)
        same = [one for one in former if (one.copies, one.follows) == (request.copies, request.follow)]
        if not same:
            op = begun(parts, caller, "subscribe", f"to {channel.address}{' by copies' if request.copies else ''}")
            fresh = subscriptions.subscribe(
                connection, space.id, channel.id, caller.principal, copies=request.copies, follows=request.follow,
                at=parts.stamp(),
            )  # fmt: skip
            ended = [Standing(0, "subscription", one.id, stands=False) for one in former]
            standings.set_standing(connection, op.id, [*ended, Standing(0, "subscription", fresh, stands=True)])
            result = _result(parts, connection, channel, space, op.id)
            operations.record(connection, op, [], result)
            told = subscriptions.subscribing_spaces(connection, [channel.id])
    if same:
        return _taken(parts, caller, channel, space, same[0])
    tell(parts, [channel], told)
    return result


def unsubscribe(parts: Parts, caller: Caller, request: UnsubscribeRequest) -> SubscribeResult:
    """End the subscription of the caller's space: references are gone at once, copies are archived behind the call.

    Raises:
        NotFound: no such channel. InvalidInput: the space did not subscribe. AccessDenied: not the caller's space.
    """
    with parts.ledger.write() as connection:
        space = governance.open_space(connection, caller, caller.space, parts.stamp())
        channel = _subscribed(connection, caller, space, request.channel) or channel_for(
            connection, caller, request.channel
        )
        former = subscriptions.subscribed(connection, channel.id, space.id)
        if not former:
            raise InvalidInput(f"Space {space.name!r} is not subscribed to {channel.address}.", field="channel")
        op = begun(parts, caller, "unsubscribe", f"from {channel.address}")
        told = subscriptions.subscribing_spaces(connection, [channel.id])
        standings.set_standing(connection, op.id, [Standing(0, "subscription", one.id, stands=False) for one in former])
        seqs = [row.cube for row in channels.page(connection, channel.id, 0, MOST)]
        fallen(connection, [channel], seqs)
        result = _result(parts, connection, channel, space, op.id)
        operations.record(connection, op, [], result)
    parts.unread(seqs)
    tell(parts, [channel], told)
    return result


def listed(parts: Parts, caller: Caller) -> list[dict[str, Any]]:
    """The channels that the caller may read, with how the caller's space is subscribed to each."""
    with parts.ledger.read() as connection:
        found = channels.readable(connection, caller.principal)
        space = governance.find_space(connection, caller.space)
        mine = subscriptions.of_spaces(connection, [space.id] if space is not None else [])
        ways = {one.channel: _way(one) for one in mine}
        return [
            {
                "channel": one.address,
                "uri": uri_of(one),
                "memories": channels.count(connection, one.id),
                "subscribed": ways.get(one.id),
            }
            for one in found
        ]


def page(parts: Parts, caller: Caller, name: str, after: int = 0) -> dict[str, Any]:
    """What a channel holds, in the order of publication, a page at a time; `next` is where the following one begins.

    Raises:
        NotFound: no such channel, or not the caller's to see.
    """
    with parts.ledger.read() as connection:
        channel = channel_for(connection, caller, name)
        rows = channels.page(connection, channel.id, after, PAGE + 1)
        cubes = parts.vault.by_seqs(connection, [row.cube for row in rows[:PAGE]])
        total = channels.count(connection, channel.id)
        spaces = subscriptions.subscribing_spaces(connection, [channel.id])
        may_see = {space.id for space in governance.list_spaces(connection, caller)}
    memories = [
        {
            "id": cube.id,
            "uri": cube.uri,
            "kind": cube.snapshot.kind,
            "state": cube.state,
            "version": cube.version,
            "space": cube.space_name,
            "by": row.principal,
            "published": row.created,
            "text": cube.snapshot.content[:TEXT_CHARS],
        }
        for row in rows[:PAGE]
        for cube in [cubes[row.cube]]
    ]
    subscribed = sorted(name for number, name in spaces if number in may_see)
    found = {"channel": channel.address, "uri": uri_of(channel), "count": total, "memories": memories}
    following = rows[PAGE - 1].id if len(rows) > PAGE else None
    return {**found, "subscribed": subscribed, "next": following}


def _subscribed(connection: Connection, caller: Caller, space: Space, text: str) -> Channel | None:
    """The channel of this name that the space is subscribed to, also if the caller may not read it any more."""
    mine = subscriptions.of_spaces(connection, [space.id])
    found = channels.by_ids(connection, [one.channel for one in mine])
    return next((one for one in found if (one.space_name, one.name) == address(caller, text)), None)


def _taken(parts: Parts, caller: Caller, channel: Channel, space: Space, one: Subscription) -> SubscribeResult:
    """Have the copies of a subscription take the versions that are offered."""
    taken, op = deliver.take(parts, caller, channel, one, SHOWN)
    with parts.ledger.read() as connection:
        result = _result(parts, connection, channel, space, op)
    return {**result, "taken": [cube.id for cube in taken]}


def _result(
    parts: Parts, connection: Connection, channel: Channel, space: Space, op: str | None
) -> SubscribeResult:
    behind: list[int] = []
    for one in subscriptions.subscribed(connection, channel.id, space.id):
        behind += [row.copy for row in subscriptions.behind(connection, one, SHOWN)]
    return {
        "channel": channel.address,
        "uri": uri_of(channel),
        "space": space.name,
        "memories": channels.count(connection, channel.id),
        "offered": _ids(parts, connection, behind),
        "taken": [],
        "op": op,
    }


def _ids(parts: Parts, connection: Connection, seqs: Sequence[int]) -> list[str]:
    return [cube.id for cube in parts.vault.by_seqs(connection, seqs).values()]


def _way(one: Subscription) -> str:
    if not one.copies:
        return "references"
    return "copies that follow" if one.follows else "copies"
