"""The verbs publish and withdraw: memories, or a query for memories, in a channel of a space.

Publishing needs the right to write to the channel's space, and to share each memory (for a query: the space that it
looks in). What is published may be read by whoever may read the channel's space, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, clean_label, storable
from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import channels, kept_states, operations, standings, subscriptions
from memos_mcp.ledger.channels import Channel, Publication, Published, Query
from memos_mcp.ledger.operations import Change
from memos_mcp.ledger.standings import Standing
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.plaintext import lexical
from memos_mcp.plaintext.analysis import tokens
from memos_mcp.plaintext.scope import Scope
from memos_mcp.policies.publishing import matches, refusal
from memos_mcp.requests import PublishRequest, WithdrawRequest
from memos_mcp.results import PublishResult, WithdrawResult
from memos_mcp.vault import embeddable_text

NOTE = "channels-upto"
"""The ledger's note of how far `deliver` has read: an operation's number, a memory's id, and a standing's number."""
MOST = 10_000
"""Memories that a query may take in when it is published."""
SHOWN = 200
"""Ids that a result names."""
LONGEST_NAME = 100
_PREFIX = "memos://channels/"


def publish(parts: Parts, caller: Caller, request: PublishRequest) -> PublishResult:
    """Publish memories to a channel, which is made if there is none; what stands there already is unchanged.

    A query goes on taking in what is added to the caller's space and matches. The operation's undo withdraws.

    Raises:
        InvalidInput: neither ids nor a query, or a query without words or for too many. NotFound, AccessDenied: not the
            caller's to share, or to write. Conflict: a memory that is no longer so, or is private or secret.
    """
    query = _query(request)
    space_name, name = address(caller, request.channel)
    found, upto = _found(parts, caller, query) if query is not None else ([], 0)
    with parts.ledger.write() as connection:
        source = None
        if query is None:
            cubes = publishable(parts, connection, caller, request.ids or [])
        else:
            source = _queried(connection, caller)
            cubes = _still(parts, connection, query, source, found, upto)
        space = governance.open_space(connection, caller, space_name, parts.stamp())
        result, channel, told = _into(parts, connection, caller, request, (query, source), (space, name), cubes)
    if result["op"] is not None:
        tell(parts, [channel], told)
    return result


def _into(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    request: PublishRequest,
    asked: tuple[Query | None, Space | None],
    place: tuple[Space, str],
    cubes: Sequence[Cube],
) -> tuple[PublishResult, Channel, list[tuple[int, str]]]:
    """Publish what is not in the channel yet; returns the channel too, and the spaces to tell."""
    (query, source), (space, name), now = asked, place, parts.stamp()
    known = channels.find(connection, space.id, name)
    standing = channels.standing_in(connection, known.id, [c.seq for c in cubes]) if known is not None else set()
    fresh = [cube for cube in cubes if cube.seq not in standing]
    unchanged = [cube.id for cube in cubes if cube.seq in standing]
    channel = known or Channel(0, space.id, space.name, name)
    if (query is None and not fresh) or _asked_already(connection, known, caller, query, source):
        return _result(channel, [], unchanged, 0, None), channel, []
    if known is None:
        channel = channels.make(connection, space.id, space.name, name, now)
    op = begun(parts, caller, "publish", f"to {channel.address}")
    begin_reading(parts, connection)
    number = channels.publish(
        connection, channel.id, caller.principal, source.id if source else None, query, request.withdrawal, now
    )
    # a query keeps what others published too, for they may withdraw it
    channels.add(connection, number, [cube.seq for cube in (fresh if query is None else cubes)], now)
    standings.set_standing(connection, op.id, [Standing(0, "publication", number, stands=True)])
    told = subscriptions.subscribing_spaces(connection, [channel.id])
    result = _result(channel, [cube.id for cube in fresh], unchanged, len(told), op.id)
    operations.record(connection, op, _touched(fresh) if query is None else [], result)
    return result, channel, told


def withdraw(parts: Parts, caller: Caller, request: WithdrawRequest) -> WithdrawResult:
    """Take memories out of a channel, or all that the caller published there, queries included.

    Whoever published a memory may do so, its owner, and whoever may forget in the channel's space.

    Raises:
        NotFound: no such channel, or a memory that does not stand in it. AccessDenied: others published it.
    """
    with parts.ledger.write() as connection:
        channel = channel_for(connection, caller, request.channel)
        if request.ids is not None:
            rows, queries = _named(parts, connection, caller, channel, request.ids), list[Publication]()
            entries = [Standing(0, "published", row.id, stands=False) for row in rows]
        else:
            mine = channels.publications_of(connection, channel.id, caller.principal)
            rows = channels.rows_of(connection, channel.id, None, caller.principal)
            queries = [one for one in mine if one.query is not None]
            entries = [Standing(0, "publication", one.id, stands=False) for one in mine]
        seqs = sorted({row.cube for row in rows})
        ids = [cube.id for cube in parts.vault.by_seqs(connection, seqs[:SHOWN]).values()]
        result: WithdrawResult = {
            "channel": channel.address, "withdrawn": ids, "count": len(seqs), "queries": len(queries), "op": None,
        }  # fmt: skip
        if not entries:
            return result
        op = begun(parts, caller, "withdraw", f"from {channel.address}")
        result["op"] = op.id
        standings.set_standing(connection, op.id, entries)
        touched = list(parts.vault.by_seqs(connection, seqs).values()) if request.ids is not None else []
        operations.record(connection, op, _touched(touched), result)
        told = fallen(connection, [channel], seqs)
    parts.unread(seqs)
    tell(parts, [channel], told)
    return result


def address(caller: Caller, text: str) -> tuple[str, str]:
    """Space and name of a channel given as NAME (of the caller's space), SPACE/NAME or its URI.

    Raises:
        InvalidInput: it cannot be one.
    """
    text = text.strip()
    if text.startswith(_PREFIX):
        space, _, name = text.removeprefix(_PREFIX).partition("/")
        space, name = unquote(space), unquote(name)
    else:
        space, _, name = text.rpartition("/")
    name = clean_label(name, "channel", LONGEST_NAME)
    if "/" in name:
        raise InvalidInput(f"A channel's name holds no '/', and {name!r} does: write SPACE/NAME.", field="channel")
    return clean_label(space or caller.space, "space"), name


def uri_of(channel: Channel) -> str:
    """The URI under which a channel is read."""
    return f"{_PREFIX}{quote(channel.space_name, safe='')}/{quote(channel.name, safe='')}"


def channel_for(connection: Connection, caller: Caller, text: str) -> Channel:
    """The channel that is called so, if the caller may read its space.

    Raises:
        NotFound: there is none, or it is not the caller's to see.
    """
    space_name, name = address(caller, text)
    space = governance.find_space(connection, space_name)
    if space is not None and governance.may(connection, caller.principal, "read", space):
        channel = channels.find(connection, space.id, name)
        if channel is not None:
            return channel
    known = [repr(one.address) for one in channels.readable(connection, caller.principal, 10)]
    advice = f"you can read {', '.join(known)}." if known else "it is made by the first memory published to it."
    raise NotFound("channel", [f"{space_name}/{name}"], advice)


def publishable(parts: Parts, connection: Connection, caller: Caller, ids: Sequence[str]) -> list[Cube]:
    """The named memories, if each is the caller's to share and may be published.

    Raises:
        NotFound, AccessDenied: not the caller's to share. Conflict: private, secret, or no longer so.
    """
    cubes = cubes_for(parts, connection, caller, ids, "share")
    refused = [(cube.id, why) for cube in cubes if (why := refusal(cube, parts.stamp())) is not None]
    if refused:
        named = "; ".join(f"{cube} {why}" for cube, why in refused[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise Conflict(f"Nothing was published: memory {named}{more}.")
    return cubes


def takes_in(query: Query, cube: Cube, now: str) -> bool:
    """Whether a published query takes the memory in."""
    words = tokens(query.text)
    held = set(tokens(embeddable_text(cube.snapshot))) if words else ()
    return matches(cube, held, words, query.tags, query.kinds, now)


def fallen(connection: Connection, touched: Iterable[Channel], seqs: Sequence[int]) -> list[tuple[int, str]]:
    """Drop the rows of what a model had read of memories whose publication ended; returns which spaces to tell.

    `Parts.unread` follows the commit.
    """
    kept_states.drop_containing(connection, seqs)
    return subscriptions.subscribing_spaces(connection, [channel.id for channel in touched])


def tell(parts: Parts, touched: Sequence[Channel], spaces: Sequence[tuple[int, str]]) -> None:
    """Tell who watches these channels, or spaces that subscribed to them, after the commit."""
    named = [(channel.space_name, channel.name) for channel in touched]
    parts.events.publish([], spaces, listing=True, channels=named)


def begin_reading(parts: Parts, connection: Connection) -> None:
    """Have `deliver` read from here on what changes, unless it does so already."""
    if parts.ledger.get(connection, NOTE) is None or not channels.anything_stands(connection):
        place = f"{operations.newest(connection)}|\uffff|{standings.last_entry(connection)}"
        parts.ledger.put(connection, NOTE, place)


def _query(request: PublishRequest) -> Query | None:
    """What is asked for where no ids are given."""
    by_query = request.query is not None or bool(request.tags) or bool(request.kinds)
    if (request.ids is not None) == by_query:
        raise InvalidInput("Give either ids or a query (query, tags, kinds).", field="ids")
    if request.ids is not None:
        if not request.ids:
            raise InvalidInput("ids is empty: name at least one memory.", field="ids")
        return None
    text = storable(request.query or "").strip()
    if request.query is not None and not tokens(text):
        raise InvalidInput("query holds no word: name words, or give tags or kinds alone.", field="query")
    tags = tuple(clean_label(tag, "tag", 100) for tag in request.tags)
    return Query(text, tags, tuple(request.kinds))


def _queried(connection: Connection, caller: Caller) -> Space:
    """The space that a query of the caller's looks in, which is theirs to share."""
    space = governance.readable_spaces(connection, caller, [caller.space])[0]
    governance.require(connection, caller, "share", space)
    return space


def _found(parts: Parts, caller: Caller, query: Query) -> tuple[list[int], int]:
    """Numbers of what may match, and the operation up to which that is so."""
    with parts.ledger.read() as connection:
        source, upto = _queried(connection, caller), operations.newest(connection)
        scope = Scope((source.id,), parts.stamp(), kinds=query.kinds, tags=query.tags)
        if query.text:
            holding = lexical.holding_all(connection, query.text, [source.id], MOST + 1)
            seqs = sorted(scope.keep(connection, holding))
        else:
            seqs = sorted(scope.first(connection, MOST + 1))
    if len(seqs) > MOST:
        raise InvalidInput(f"Over {MOST:,} memories match: publish them in parts, with a narrower query.")
    return seqs, upto


def _still(
    parts: Parts, connection: Connection, query: Query, source: Space, found: Sequence[int], upto: int
) -> list[Cube]:
    """What the query takes in now, given what did up to an operation."""
    cubes = {cube.id: cube for cube in parts.vault.by_seqs(connection, found).values()}
    since = operations.changed_after(connection, upto, "\uffff", MOST)
    cubes |= parts.vault.by_ids(connection, [cube for _, cube in since])
    kept = [cube for cube in cubes.values() if cube.space == source.id and takes_in(query, cube, parts.stamp())]
    came = subscriptions.are_copies(connection, [cube.seq for cube in kept])
    return sorted((cube for cube in kept if cube.seq not in came), key=lambda cube: cube.seq)


def _asked_already(
    connection: Connection, channel: Channel | None, caller: Caller, query: Query | None, source: Space | None
) -> bool:
    """Whether the caller's same query stands in the channel."""
    if channel is None or query is None or source is None:
        return False
    mine = channels.publications_of(connection, channel.id, caller.principal)
    return any(one.query == query and one.source == source.id for one in mine)


def _named(
    parts: Parts, connection: Connection, caller: Caller, channel: Channel, ids: Sequence[str]
) -> list[Published]:
    """The rows of these memories in the channel, if the caller may withdraw each."""
    cubes = cubes_for(parts, connection, caller, ids, "read")
    rows = channels.rows_of(connection, channel.id, [cube.seq for cube in cubes], None)
    published = {row.cube for row in rows}
    missing = [cube.id for cube in cubes if cube.seq not in published]
    if missing:
        raise NotFound("memory", missing, f"it is not published in {channel.address}.")
    space = governance.space_of(connection, channel.space)
    keeps_house = governance.may(connection, caller.principal, "forget", space)
    owned = {cube.seq: cube for cube in cubes}
    for row in rows:
        cube = owned[row.cube]
        home = governance.space_of(connection, cube.space)
        own = row.principal == caller.principal or governance.may(
            connection, caller.principal, "share", home, cube.seq
        )
        if not own and not keeps_house:
            raise AccessDenied(caller.principal, "forget", f"what {row.principal} published in {channel.address}")
    return rows


def _touched(cubes: Sequence[Cube]) -> list[Change]:
    return [Change(cube.id, None, None, None, None) for cube in cubes]


def _result(
    channel: Channel, fresh: Sequence[str], unchanged: Sequence[str], subscribers: int, op: str | None
) -> PublishResult:
    return {
        "channel": channel.address,
        "uri": uri_of(channel),
        "published": list(fresh[:SHOWN]),
        "count": len(fresh),
        "unchanged": list(unchanged[:SHOWN]),
        "subscribers": subscribers,
        "op": op,
    }
