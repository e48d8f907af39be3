"""The background's verb for conversations that rest: keeps summaries of them beside their turns, with lineage.

Knows neither when it is done nor what makes a summary's text. A conversation is a session of a space, or a day of it
where no session is named; what changes in one is found in the log of operations, from a note on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select

from memos_mcp import governance
from memos_mcp.cube import SAID, Cube, Snapshot, content_hash
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, unsummarised
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.schema import changes, cubes, links
from memos_mcp.ledger.schema import operations as operations_table
from memos_mcp.ledger.unsummarised import Waiting
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators import summary
from memos_mcp.operators.summary import Said
from memos_mcp.plaintext.analysis import is_common, tokens
from memos_mcp.states import LIVE, State

VERB = "summarise"
KEY = "summary"
"""Tag and metadata key of a summary; under it: by, conversation, of (how many turns), from, to, and two digests."""
CLIENT = "memos-mcp summaries"
NOTE = "summarised"
"""The ledger's note of the last operation that was looked at."""
OPERATIONS, TURNS = 200, 400
"""Operations, and turns of one conversation, that are looked at in one step."""
_STANDING = tuple(state for state in LIVE if state is not State.FROZEN)
_USED = ("use",)


@dataclass(frozen=True)
class Part:
    """Turns of one topic, in order, as they were read, and the summary that covers them now, if any does."""

    turns: Sequence[Cube]
    held: Cube | None = None

    @property
    def digest(self) -> str:
        """Tells whether a summary is of these turns as they are."""
        return content_hash(",".join(f"{turn.id}@{turn.version}" for turn in self.turns))

    def said(self) -> list[Said]:
        """The turns as operators read them."""
        return [
            Said(turn.snapshot.content, turn.snapshot.name or turn.snapshot.role, turn.becomes_true[:10])
            for turn in self.turns
        ]


def words(text: str) -> list[str]:
    """The words of a text that are not common."""
    return [token for token in tokens(text) if not is_common(token)]


def look(parts: Parts) -> bool:
    """Note the conversations that the next operations changed; False once there are no further operations."""
    with parts.ledger.read() as connection:
        after = int(parts.ledger.get(connection, NOTE) or 0)
        last = int(connection.execute(select(func.max(operations_table.c.seq))).scalar() or 0)
        upto = min(after + OPERATIONS, last)
        found = _changed(connection, after, upto) if upto > after else []
    if upto <= after:
        return False
    with parts.ledger.write() as connection:
        there = parts.vault.by_seqs(connection, [row.turn for row in found])  # none that was purged meanwhile
        unsummarised.mark(connection, [row for row in found if row.turn in there])
        parts.ledger.put(connection, NOTE, str(upto))
    return True


def _changed(connection: Connection, after: int, upto: int) -> list[Waiting]:
    query = (
        select(
            cubes.c.seq, cubes.c.space, cubes.c.session, cubes.c.becomes_true, operations_table.c.at,
            operations_table.c.verb, changes.c.from_version, changes.c.from_state, changes.c.to_state,
        )
        .join(operations_table, operations_table.c.seq == changes.c.op)
        .join(cubes, cubes.c.id == changes.c.cube)
        .where(changes.c.op > after, changes.c.op <= upto, cubes.c.kind.in_(SAID))
        .where(operations_table.c.verb.not_in(_USED))
        .order_by(changes.c.op)
    )  # fmt: skip
    found = []
    for row in connection.execute(query):
        if row.to_state == State.ARCHIVED and row.verb != "forget":
            continue  # what leaves the way because nobody asks for it stays in its summary
        is_new = row.from_version is None and row.from_state is None
        key = _conversation(row.session, row.becomes_true)
        found.append(Waiting(row.space, key, row.seq, row.at if is_new else ""))
    return found


def conversation_of(turn: Cube) -> str:
    """Which conversation of its space a turn belongs to."""
    return _conversation(turn.snapshot.session, turn.becomes_true)


def _conversation(session: str | None, moment: str) -> str:
    return content_hash(f"day {moment[:10]}" if session is None else f"session {session}")


def turns_of(parts: Parts, waiting: Waiting, after: int) -> tuple[list[Cube], int | None]:
    """The next turns of a conversation, numbered above `after`, that a summary may tell of, and the number to go on
    from; None: there are no more."""
    with parts.ledger.read() as connection:
        first = parts.vault.by_seqs(connection, [waiting.turn]).get(waiting.turn)
        if first is None:
            return [], None
        seqs = _numbers(connection, first, after)
        turns = list(parts.vault.by_seqs(connection, seqs).values())
        gone = _forgotten(connection, [turn.id for turn in turns if turn.state is State.ARCHIVED])
        now = parts.stamp()
        told = [turn for turn in turns if turn.id not in gone and _may_be_told(turn, now)]
    return told, seqs[-1] if len(seqs) == TURNS else None


def _numbers(connection: Connection, first: Cube, after: int) -> list[int]:
    made = select(links.c.cube).where(links.c.cube == cubes.c.seq, links.c.relation == "parent").exists()
    same = (cubes.c.session == first.snapshot.session) & (cubes.c.seq > after)
    if first.snapshot.session is None:
        day = first.becomes_true[:10]
        same = (func.coalesce(cubes.c.session, "") == "") & (cubes.c.seq + 0 > after)
        same &= (cubes.c.becomes_true >= day) & (cubes.c.becomes_true < f"{day}U")  # behind every time of that day
    kind = func.coalesce(cubes.c.kind, "")  # no indexed column: a session or a day is read, not a kind of a space
    query = select(cubes.c.seq).where(
        cubes.c.space == first.space, same, kind.in_(SAID),
        cubes.c.state.in_((*LIVE, State.ARCHIVED)), cubes.c.superseded_by.is_(None), ~made,
    )  # fmt: skip
    return list(connection.execute(query.order_by(cubes.c.seq).limit(TURNS)).scalars())


def _may_be_told(turn: Cube, now: str) -> bool:
    said = turn.snapshot
    return said.sensitivity != "secret" and (said.expires is None or said.expires > now)


def _forgotten(connection: Connection, archived: Sequence[str]) -> set[str]:
    """Those of the archived memories that a caller put there."""
    query = (
        select(changes.c.cube, operations_table.c.verb)
        .join(operations_table, operations_table.c.seq == changes.c.op)
        .where(changes.c.cube.in_(archived), changes.c.to_state == State.ARCHIVED)
        .order_by(changes.c.op)
    )
    last = {row.cube: row.verb for row in connection.execute(query)} if archived else {}
    return {cube for cube, verb in last.items() if verb in ("forget", "undo")}


def divided(parts: Parts, waiting: Waiting, turns: Sequence[Cube], taken: set[str]) -> list[Part]:
    """The turns by topic, each part with the summary that covers most of it and is not `taken`, which it then is."""
    with parts.ledger.read() as connection:
        held = parts.vault.holding(connection, waiting.space, f"{KEY}.conversation", waiting.conversation)
    found = []
    for start, end in summary.parts([words(turn.snapshot.content) for turn in turns]):
        ids = {turn.id for turn in turns[start:end]}
        shared = [(len(ids.intersection(cube.snapshot.parents)), -cube.seq, cube) for cube in held]
        best = max((one for one in shared if one[0] and one[2].id not in taken), default=None, key=lambda one: one[:2])
        if best is not None:
            taken.add(best[2].id)
        found.append(Part(turns[start:end], best[2] if best else None))
    return found


def is_due(part: Part) -> bool:
    """Whether the part has no summary, or one that the background wrote of other turns than these as they are now."""
    if part.held is None:
        return True
    return _is_own(part.held) and part.held.snapshot.metadata[KEY].get("digest") != part.digest


def keep(parts: Parts, waiting: Waiting, part: Part, text: str, model: str | None) -> str | None:
    """Write the summary of a part, or the next version of the one that it has, in one operation of the space's owner.

    Returns its id; None if nothing was written, for one of its turns changed or went in between.
    """
    with parts.ledger.write() as connection:
        now = parts.vault.by_ids(connection, [turn.id for turn in part.turns])
        if any(turn.id not in now or now[turn.id].version != turn.version for turn in part.turns):
            return None
        held = parts.vault.by_ids(connection, [part.held.id]).get(part.held.id) if part.held is not None else None
        if part.held is not None and (held is None or held.version != part.held.version):
            return None
        space = governance.space_of(connection, waiting.space)
        caller = Caller(space.owner, space.name, CLIENT)
        reason = "rules" if model is None else f"model {model}"
        op = operations.begin(VERB, caller.principal, CLIENT, parts.stamp(), reason)
        draft = _draft(waiting, part, text, model)
        if held is not None:
            cube, change = parts.vault.rewrite(connection, op, held, _renewed(held.snapshot, draft), None, 0)
        else:
            made, written = parts.vault.insert(connection, op, space, [draft], None, 0)
            cube, change = made[0], written[0]
        operations.record(connection, op, [change])
    parts.changed(caller, [cube], listing=True)
    return cube.id


def end_others(parts: Parts, waiting: Waiting, taken: set[str]) -> None:
    """End the background's summaries of a conversation that cover no part of it any more."""
    ended: list[Cube] = []
    with parts.ledger.write() as connection:
        space = governance.space_of(connection, waiting.space)
        caller = Caller(space.owner, space.name, CLIENT)
        held = parts.vault.holding(connection, waiting.space, f"{KEY}.conversation", waiting.conversation)
        over = [cube for cube in held if cube.id not in taken and cube.state in _STANDING and _is_own(cube)]
        if over:
            op = operations.begin(VERB, caller.principal, CLIENT, parts.stamp(), "its turns are told of no more")
            ended = _ended(parts, connection, op, over)
    parts.changed(caller, ended, listing=True)


def _ended(parts: Parts, connection: Connection, op: Operation, over: Sequence[Cube]) -> list[Cube]:
    moved = parts.vault.move_all(connection, op, over, State.EXPIRED, "expire")
    made: list[Change] = [change for _, change in moved]
    operations.record(connection, op, made)
    return [cube for cube, _ in moved]


def settle(parts: Parts, waiting: Waiting) -> None:
    """Note that a conversation is summarised as it was read."""
    with parts.ledger.write() as connection:
        unsummarised.settle(connection, waiting)


def regroup(parts: Parts, connection: Connection, gone: Sequence[Cube]) -> None:
    """Note what is left of the conversations of turns that were purged, whose summaries went with them."""
    if parts.ledger.get(connection, NOTE) is None:
        return
    of = {(cube.space, conversation_of(cube)): cube for cube in gone if cube.snapshot.kind in SAID}
    left = {key: _numbers(connection, cube, 0)[:1] for key, cube in of.items()}
    unsummarised.mark(
        connection, [Waiting(space, key, seqs[0], "") for (space, key), seqs in left.items() if seqs]
    )


def _is_own(cube: Cube) -> bool:
    """Whether the summary is the background's to change: alive, and as the background wrote it."""
    how = cube.snapshot.metadata.get(KEY)
    wrote = isinstance(how, dict) and how.get("wrote") == content_hash(cube.snapshot.content)
    return wrote and cube.state in _STANDING and cube.snapshot.superseded_by is None


def _draft(waiting: Waiting, part: Part, text: str, model: str | None) -> Snapshot:
    turns = [turn.snapshot for turn in part.turns]
    how: dict[str, Any] = {"by": "rules"} if model is None else {"by": "model", "model": model}
    days = sorted(turn.becomes_true for turn in part.turns)
    how |= {"conversation": waiting.conversation, "of": len(turns), "from": days[0][:10], "to": days[-1][:10]}
    how |= {"digest": part.digest, "wrote": content_hash(text)}
    return Snapshot(
        content=text,
        kind="document",
        valid_from=days[-1],
        session=turns[0].session,
        tags=(KEY,),
        metadata={KEY: how},
        importance=max(turn.importance for turn in turns),
        priority=max(turn.priority for turn in turns),
        expires=min((turn.expires for turn in turns if turn.expires is not None), default=None),
        sensitivity="private" if any(turn.sensitivity == "private" for turn in turns) else "normal",
        parents=tuple(turn.id for turn in part.turns),
    )


def _renewed(held: Snapshot, draft: Snapshot) -> Snapshot:
    """What a caller set on the summary stays."""
    given = {name: getattr(draft, name) for name in ("content", "valid_from", "expires", "sensitivity", "parents")}
    metadata = {**held.metadata, KEY: draft.metadata[KEY]}
    return replace(held, metadata=metadata, **given)
