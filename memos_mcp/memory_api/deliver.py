"""The background's verb: brings what is published to where it was subscribed, and published queries up to date.

Knows not when it is done. The ledger's own records of changes and of standings say what is still to be read, so that
an addition costs nothing more; every step may be repeated, for it looks at what is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, insert

from memos_mcp import governance
from memos_mcp.cube import Cube, Link, Snapshot
from memos_mcp.governance import Caller
from memos_mcp.ledger import channels, kept_states, operations, standings, subscriptions, vectors
from memos_mcp.ledger.channels import Channel, Publication
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.schema import grants
from memos_mcp.ledger.standings import Standing
from memos_mcp.ledger.subscriptions import Copied, Subscription
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.publish import NOTE, takes_in, tell
from memos_mcp.ports import Vector
from memos_mcp.states import LIVE, State

VERB = "deliver"
CLIENT = "memos-mcp channels"
KEY = "copied_from"
"""Metadata key of a copy: the version that it is of, and the channel; its relation to the source has the same name."""
WITHDRAWN = "withdrawn"
"""Metadata key of a copy whose source was withdrawn and that was to be marked: when."""
BATCH = 64
"""Changes, or copies, of one transaction."""
_OPEN = tuple(state for state in LIVE if state is not State.FROZEN)


@dataclass(frozen=True)
class _Place:
    """How far was read: the last change, by operation and memory, and the last standing."""

    op: int
    cube: str
    standing: int

    @staticmethod
    def of(note: str) -> _Place:
        op, cube, standing = note.split("|")
        return _Place(int(op), cube, int(standing))

    def __str__(self) -> str:
        return f"{self.op}|{self.cube}|{self.standing}"


@dataclass(frozen=True)
class _Next:
    """What is to be read next: `met` are changes, as operation and memory, and `entries` standings; `touched` channels.

    `concerned`: whether a published query looks in one of the memories' spaces.
    """

    note: str
    met: Sequence[tuple[int, str]]
    entries: Sequence[Standing]
    cubes: Sequence[Cube]
    touched: frozenset[int]
    concerned: bool

    def after(self) -> str:
        """The note once this is read."""
        place = _Place.of(self.note)
        op, cube = self.met[-1] if self.met else (place.op, place.cube)
        return str(_Place(op, cube, self.entries[-1].id if self.entries else place.standing))


def step(parts: Parts) -> int:
    """Read the next changes and do what follows from them; returns how many there were, 0 when all are read.

    Raises:
        StorageFailed: the ledger cannot be written; the note stands where it stood.
    """
    found = _next(parts)
    if found is None:
        return 0
    touched = found.touched | (_judge(parts, found.cubes) if found.concerned else set())
    reached = _reached(parts, sorted(touched))
    for channel, copying in reached:
        for one in copying:
            _reconcile(parts, channel, one)
            if one.follows and one.stands:
                _follow(parts, channel, one, [cube.seq for cube in found.cubes])
    with parts.ledger.write() as connection:
        # another note: somebody published the first memory after the last one was withdrawn
        if parts.ledger.get(connection, NOTE) == found.note:
            parts.ledger.put(connection, NOTE, found.after())
        told = subscriptions.subscribing_spaces(connection, [channel.id for channel, _ in reached])
    if reached:
        tell(parts, [channel for channel, _ in reached], told)
    return len(found.met) + len(found.entries)


def _next(parts: Parts) -> _Next | None:
    with parts.ledger.read() as connection:
        note = parts.ledger.get(connection, NOTE)
        if note is None:
            return None
        place = _Place.of(note)
        entries = standings.entries_after(connection, place.standing, BATCH)
        if not entries and not channels.anything_stands(connection):
            return None
        met = operations.changed_after(connection, place.op, place.cube, BATCH)
        if not met and not entries:
            return None
        cubes = list(parts.vault.by_ids(connection, list(dict.fromkeys(cube for _, cube in met))).values())
        touched = channels.channels_of(connection, [cube.seq for cube in cubes])
        touched |= standings.channels_of(connection, entries)
        concerned = bool(channels.queries_of(connection, {cube.space for cube in cubes}))
    return _Next(note, met, entries, cubes, frozenset(touched), concerned)


def take(
    parts: Parts, caller: Caller, channel: Channel, one: Subscription, limit: int
) -> tuple[list[Cube], str | None]:
    """Have up to `limit` copies take the newest version of their source, whatever they had become; with the operation.

    Frozen ones stay as they are.
    """
    with parts.ledger.write() as connection:
        waiting = subscriptions.behind(connection, one, limit)
        found, op = _renewed(parts, connection, caller, channel, waiting)
    parts.changed(caller, found, listing=False)
    return found, op


def _judge(parts: Parts, changed: Sequence[Cube]) -> set[int]:
    """Have published queries take in, or let go of, memories that changed; returns the channels that this touched."""
    touched = set[int]()
    gone: list[int] = []
    with parts.ledger.write() as connection:
        cubes = list(parts.vault.by_ids(connection, [cube.id for cube in changed]).values())
        came = subscriptions.are_copies(connection, [cube.seq for cube in cubes])
        for one in channels.queries_of(connection, {cube.space for cube in cubes}):
            here = [cube for cube in cubes if cube.space == one.source]
            wanted = {cube.seq for cube in here if cube.seq not in came and _wanted(parts, connection, one, cube)}
            held = set(channels.seqs_of(connection, one.id, [cube.seq for cube in here]))
            if wanted != held:
                channels.add(connection, one.id, sorted(wanted - held), parts.stamp())
                channels.change_among(connection, one.id, sorted(held - wanted), stands=False)
                gone += held - wanted
                touched.add(one.channel)
        kept_states.drop_containing(connection, gone)
    if gone:
        parts.unread(gone)
    return touched


def _wanted(parts: Parts, connection: Connection, one: Publication, cube: Cube) -> bool:
    """Whether the query takes the memory in, and its publisher may still share it."""
    if one.query is None or not takes_in(one.query, cube, parts.stamp()):
        return False
    space = governance.space_of(connection, cube.space)
    return governance.may(connection, one.principal, "share", space, cube.seq)


def _reached(parts: Parts, numbers: Sequence[int]) -> list[tuple[Channel, list[Subscription]]]:
    """The channels, with the subscriptions by copies that each has or had."""
    with parts.ledger.read() as connection:
        found = channels.by_ids(connection, numbers)
        return [(channel, subscriptions.ever_copying(connection, channel.id)) for channel in found]


def _reconcile(parts: Parts, channel: Channel, one: Subscription) -> None:
    """Make the copies that are missing, withdraw those whose source was withdrawn or may be read no more, bring back
    those of which that is not so any longer."""
    caller = Caller(one.principal, "", CLIENT)
    while True:
        with parts.ledger.write() as connection:
            turning = subscriptions.to_change(connection, one, BATCH, readable=_may_read(connection, caller, channel))
            made = _turned(parts, connection, caller, channel, turning)
            missing: list[tuple[int, int, str]] = []
            if one.stands and _may_deliver(connection, caller, channel, one):
                missing = subscriptions.uncopied(connection, one, BATCH)
                made += _copies(parts, connection, caller, channel, one, missing)
        parts.changed(caller, made, listing=True)
        if not turning and not missing:
            return
        parts.step_aside()


def _may_deliver(connection: Connection, caller: Caller, channel: Channel, one: Subscription) -> bool:
    """Whether who subscribed may still read the channel, and write to the space."""
    home = governance.space_of(connection, one.space)
    return governance.may(connection, caller.principal, "write", home) and _may_read(connection, caller, channel)


def _may_read(connection: Connection, caller: Caller, channel: Channel) -> bool:
    return governance.may(connection, caller.principal, "read", governance.space_of(connection, channel.space))


def _copies(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    channel: Channel,
    one: Subscription,
    missing: Sequence[tuple[int, int, str]],
) -> list[Cube]:
    """Make copies of these memories in the subscription's space; owner and publisher may forget them there."""
    sources = parts.vault.by_seqs(connection, [seq for seq, _, _ in missing])
    if not sources:
        return []
    op = operations.begin(VERB, caller.principal, CLIENT, parts.stamp(), f"copies from {channel.address}")
    space, number = governance.space_of(connection, one.space), parts.embedder_number()
    drafts = [_copy_of(cube, channel) for cube in sources.values()]
    known = [_vector_of(connection, number, cube) for cube in sources.values()]
    given = [vector for vector in known if vector is not None]
    whole = given if number and len(given) == len(known) else None
    made, changes = parts.vault.insert(connection, op, space, drafts, whole, number)
    operations.record(connection, op, changes)
    pairs = list(zip(made, sources.values(), strict=True))
    noted = [Copied(copy.seq, cube.seq, one.id, cube.version, copy.version, withdrawn=False) for copy, cube in pairs]
    subscriptions.note_copies(connection, noted)
    publishers = {seq: who for seq, _, who in missing}
    owners = {copy.seq: {cube.owner, publishers[cube.seq]} - {space.owner} for copy, cube in pairs}
    rows = [{"cube": seq, "principal": who, "can": "forget"} for seq, all_ in owners.items() for who in sorted(all_)]
    if rows:
        connection.execute(insert(grants), rows)
    return made


def _copy_of(cube: Cube, channel: Channel) -> Snapshot:
    """What a copy of the memory holds: what it says, and where it is from; nothing of how its owner treats it."""
    own = cube.snapshot
    return Snapshot(
        own.content, own.kind, valid_from=own.valid_from, valid_to=own.valid_to, role=own.role, name=own.name,
        source=own.source or cube.uri, tags=own.tags, importance=own.importance, expires=own.expires,
        metadata={**own.metadata, KEY: {"uri": f"{cube.uri}/v/{cube.version}", "channel": channel.address}},
        links=(Link(cube.id, KEY),),
    )  # fmt: skip


def _vector_of(connection: Connection, number: int, cube: Cube) -> Vector | None:
    return vectors.of_now(connection, number, cube.seq) if number else None


def _turned(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    channel: Channel,
    turning: Sequence[tuple[Copied, str | None]],
) -> list[Cube]:
    """Archive or mark copies whose source was withdrawn, or take that back; edited and frozen ones stay as they are."""
    if not turning:
        return []
    found = parts.vault.by_seqs(connection, [row.copy for row, _ in turning])
    op = operations.begin(VERB, caller.principal, CLIENT, parts.stamp(), f"withdrawn from {channel.address}")
    made, changes, rows = list[Cube](), list[Change](), list[Copied]()
    for row, wish in turning:
        cube = found[row.copy]
        turned, change = _turn(parts, connection, op, cube, row, wish)
        rows.append(replace(row, withdrawn=wish is not None, made=turned.version if change else row.made))
        if change is not None:
            made.append(turned)
            changes.append(change)
    if changes:
        operations.record(connection, op, changes)
    subscriptions.note_copies(connection, rows)
    return made


def _turn(
    parts: Parts, connection: Connection, op: Operation, cube: Cube, row: Copied, wish: str | None
) -> tuple[Cube, Change | None]:
    if cube.version != row.made or cube.state is State.FROZEN:
        return cube, None
    if wish == "archive" and cube.state in _OPEN:
        return parts.vault.move(connection, op, cube, State.ARCHIVED, "forget")
    marked = WITHDRAWN in cube.snapshot.metadata
    if wish == "mark" and not marked:
        metadata = {**cube.snapshot.metadata, WITHDRAWN: op.at}
        return parts.vault.rewrite(connection, op, cube, replace(cube.snapshot, metadata=metadata), None, 0)
    if wish is None and marked:
        metadata = {key: value for key, value in cube.snapshot.metadata.items() if key != WITHDRAWN}
        return parts.vault.rewrite(connection, op, cube, replace(cube.snapshot, metadata=metadata), None, 0)
    if wish is None and cube.state is State.ARCHIVED:
        return parts.vault.move(connection, op, cube, State.ACTIVATED, "revive")
    return cube, None


def _follow(parts: Parts, channel: Channel, one: Subscription, sources: Sequence[int]) -> None:
    """Have copies that nobody edited take the new versions of these sources."""
    caller = Caller(one.principal, "", CLIENT)
    with parts.ledger.write() as connection:
        if not sources or not _may_deliver(connection, caller, channel, one):
            return
        waiting = subscriptions.behind(connection, one, BATCH, sources)
        copies = parts.vault.by_seqs(connection, [row.copy for row in waiting])
        unedited = [row for row in waiting if copies[row.copy].version == row.made]
        found, _ = _renewed(parts, connection, caller, channel, unedited)
    parts.changed(caller, found, listing=False)


def _renewed(
    parts: Parts, connection: Connection, caller: Caller, channel: Channel, waiting: Sequence[Copied]
) -> tuple[list[Cube], str | None]:
    """Give copies the newest version of their source, as one operation; what the space made of them itself (tags,
    links, importance) stays."""
    copies = parts.vault.by_seqs(connection, [row.copy for row in waiting])
    sources = parts.vault.by_seqs(connection, [row.source for row in waiting])
    at, number = parts.stamp(), parts.embedder_number()
    op = operations.begin(VERB, caller.principal, caller.client, at, f"new versions from {channel.address}")
    made, changes, rows = list[Cube](), list[Change](), list[Copied]()
    for row in waiting:
        copy, source = copies[row.copy], sources[row.source]
        if copy.state not in _OPEN:
            continue
        draft = _copy_of(source, channel)
        said = {"content", "kind", "valid_from", "valid_to", "role", "name", "expires", "metadata"}
        vector = _vector_of(connection, number, source)
        fresh, change = parts.vault.rewrite(
            connection, op, copy, copy.snapshot.merged(said, draft), vector, number if vector is not None else 0
        )
        made.append(fresh)
        changes.append(change)
        rows.append(replace(row, version=source.version, made=fresh.version))
    if not made:
        return [], None
    operations.record(connection, op, changes)
    subscriptions.note_copies(connection, rows)
    return made, op.id
