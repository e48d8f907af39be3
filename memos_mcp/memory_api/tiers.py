"""The tiers as verbs see them: where a memory is, how tools did, and how a topic's statements go to the long term.

Knows neither which turn belongs to which topic nor when it is looked at: the ledger's segments say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, instant
from memos_mcp.errors import Conflict, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import figures, proposals, tiers
from memos_mcp.ledger.tiers import Segment
from memos_mcp.memory_api import extract
from memos_mcp.memory_api.extract import Found
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators.extraction import extract as by_rules
from memos_mcp.policies import tiers as policy
from memos_mcp.policies import use

LONG_TERM = "long-term"
"""Kind of the job that moves a segment's statements to the long term, payload {"segment": number}; and of a proposal to
do so, whose memories are the turns that state something."""
MOST_TOOLS = 50
"""Ways in which tools ended that are told at a time."""
_DAY_S = 86_400.0


def of_cube(parts: Parts, connection: Connection, caller: Caller, cube: Cube) -> dict[str, Any]:
    """The tier of a memory, and of a turn its segment, with the turns that the caller may read."""
    said, now = cube.snapshot, parts.now()
    after, idle = policy.BUFFER_TURNS, float("inf")
    if said.session is not None and said.kind == "dialogue":
        after, last = tiers.turns_after(connection, cube.space, said.session, cube.seq, policy.BUFFER_TURNS)
        idle = _days(last, now)
    placed = tiers.placed(connection, [cube.seq]).get(cube.seq)
    segment = tiers.find(connection, [placed.segment])[placed.segment] if placed is not None else None
    in_long_term = segment is not None and segment.moved_at is not None
    found: dict[str, Any] = {"name": policy.tier_of(said.kind, after, idle, in_long_term)}
    if placed is None or segment is None:
        return found
    turns = _turns(parts, connection, segment)
    readable = governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space))
    shown = [turn for turn in turns if readable or turn.seq == cube.seq]
    by_seq = {turn.seq: turn.id for turn in shown}
    found["segment"] = {
        "id": segment.id,
        "begun": segment.begun,
        "last": segment.last,
        "heat": round(warmth_of(parts, connection, segment, now), 4),
        "turns": [turn.id for turn in shown],
        "continues": by_seq.get(placed.continues) if placed.continues is not None else None,
        "closeness": round(placed.score, 4),
        "long_term_since": segment.moved,
    }
    return found


def outcomes(connection: Connection, spaces: Sequence[int]) -> list[dict[str, Any]]:
    """How the tools of these spaces did, the most called first: which, with what, how it ended, how often, how fast."""
    return [
        {"tool": one.tool, "given": list(one.given), "outcome": one.outcome, "calls": one.calls, "mean_ms": one.mean_ms}
        for one in tiers.outcomes(connection, spaces, MOST_TOOLS)
    ]


def warmth_of(parts: Parts, connection: Connection, segment: Segment, now: datetime) -> float:
    """How warm a segment is now, 0..1, from its last turns."""
    seqs = tiers.turns_of(connection, segment.id, policy.MOST_TURNS)
    held = figures.standing(connection, seqs).values()
    written = figures.written(connection, seqs).values()
    constants = parts.usage.constants
    uses = [use.seen(one.figures, now, constants) for one in held]
    return policy.segment_heat(uses, [_days(at, now) for at in written], constants)


def to_long_term(parts: Parts, segment_id: int, step: Callable[[], None] = lambda: None) -> None:
    """Keep what the segment's turns state as facts and profile, by rules, or propose that where the store draws none.

    Turns that went there before are not read again. Doing it twice is doing it once.

    Raises:
        StorageFailed: nothing was written.
    """
    now = parts.now()
    with parts.ledger.read() as connection:
        segment = tiers.find(connection, [segment_id]).get(segment_id)
        if segment is None:
            return
        reason = policy.goes_long(warmth_of(parts, connection, segment, now), segment.turns, segment.moved_at)
        turns = [turn for turn in _turns(parts, connection, segment) if turn.created > (segment.moved or "")]
    step()
    found = stated(turns, parts.stamp()) if reason is not None else []

    def follow(connection: Connection, _: Sequence[str]) -> None:
        if reason is None:
            tiers.moving(connection, segment_id, None)
        else:
            tiers.moved(connection, segment_id, segment.turns, instant(now))

    if found and parts.extraction != "off":
        extract.keep(parts, found, reason=f"rules: {reason}", follow=follow)
        return
    with parts.ledger.write() as connection:
        if found:
            standing = parts.vault.by_seqs(connection, [one.turn.seq for one in found])
            about = [cube for cube in standing.values() if extract.eligible(cube, parts.stamp())]
            score = warmth_of(parts, connection, segment, now)
            if about:
                said = f"{len(about)} turns state something to keep, and {reason}."
                proposals.propose(connection, LONG_TERM, about, score, said, parts.stamp())
        follow(connection, [])


def approve(parts: Parts, caller: Caller, proposal_id: str) -> list[str]:
    """Carry a proposal to move to the long term out; returns the operations, each of which can be undone.

    Raises:
        NotFound: there is no such proposal for this caller. Conflict: it is settled already.
        AccessDenied: the caller may not write to the space.
    """
    with parts.ledger.read() as connection:
        proposal = proposals.find(connection, proposal_id)
        if proposal is None or proposal.kind != LONG_TERM:
            raise NotFound("proposal", [proposal_id], "memos-mcp plan lists those that are open.")
        governance.require(connection, caller, "write", governance.space_of(connection, proposal.space))
        if proposal.state != "open":
            raise Conflict(f"Proposal {proposal_id} is {proposal.state} already.")
        cubes = parts.vault.by_seqs(connection, [seq for seq, _ in proposal.cubes])
    as_then = [cubes[seq] for seq, version in proposal.cubes if seq in cubes and cubes[seq].version == version]
    done: list[str] = []

    def follow(connection: Connection, ops: Sequence[str]) -> None:
        done.extend(ops)
        proposals.settle(connection, proposal_id, "done", parts.stamp(), ops[0] if ops else None)

    extract.keep(parts, stated(as_then, parts.stamp()), reason=f"rules: {proposal.reason}", follow=follow)
    return done


def stated(turns: Sequence[Cube], now: str) -> list[Found]:
    """What these turns state, of those from which something may be drawn."""
    found = []
    for turn in turns:
        said = turn.snapshot
        if extract.eligible(turn, now):
            statements = by_rules(said.content, said.name, said.role, turn.becomes_true)
            found += [Found(turn, statements)] if statements else []
    return found


def _turns(parts: Parts, connection: Connection, segment: Segment) -> list[Cube]:
    seqs = tiers.turns_of(connection, segment.id, policy.MOST_TURNS)
    return list(parts.vault.by_seqs(connection, seqs).values())


def _days(moment: str, now: datetime) -> float:
    return max((now - datetime.fromisoformat(moment)).total_seconds(), 0.0) / _DAY_S
