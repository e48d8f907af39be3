"""Looks once a day for what is worth training, and proposes it; trains it at once where the store needs no consent.
Adapters that are rarely used are proposed to be put away.

Knows no rule of its own. It looks at what was used last, so that a large store costs no more than a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from memos_mcp import governance
from memos_mcp.cube import Cube, instant
from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.jobs import Job
from memos_mcp.ledger import adapters, proposals
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.ledger.proposals import Proposal
from memos_mcp.ledger.schema import usage
from memos_mcp.memory_api import parametric
from memos_mcp.memory_api.parts import Parts, life_of
from memos_mcp.memory_api.proposals import DEMOTE, TRAIN, standing, tell
from memos_mcp.policies.training import Known, rarely_used, worth
from memos_mcp.scheduler.runner import Turn, Work

KIND = "propose-training"
CLIENT = "memos-mcp scheduler"
USES = 5_000
"""Of the log of uses, the latest that are looked at."""
SELDOM = timedelta(days=1)
DAY = timedelta(days=1)
DOUBTED = ("wrong", "stale")
AWAY_SCORE = 0.5
"""Of a proposal to put an adapter away, which waits for a person whatever its score."""


@dataclass(frozen=True)
class _Worthy:
    """Memories that are worth an adapter, how much, and why."""

    cubes: list[Cube]
    score: float
    reason: str


def work(parts: Parts) -> Work:
    """How the job is done, at once; it asks for the next one itself."""

    def do(_job: Job, turn: Turn) -> None:
        look(parts)
        look_back(parts)
        turn.step(1)
        with parts.ledger.write() as connection:
            _ask(parts, connection, instant(parts.now() + SELDOM))

    return Work(do)


def queue(parts: Parts) -> None:
    """Queue the job where something may be trained, or was, unless it waits already."""
    training = parts.training
    if training is None or not life_of(parts).enabled or parts.jobs.unfinished(KIND):
        return
    if not training.able and not any(row.usable for row in training.registry.rows()):
        return
    with parts.ledger.write() as connection:
        _ask(parts, connection, None)
    parts.jobs.notice()


def look(parts: Parts) -> list[str]:
    """Propose what is worth training in each space, or train it where that needs no consent; what was proposed.

    An open proposal that still stands is left as it is, unless what it proposes was done, or needs no consent: an
    earlier look may have been cut off.
    """
    training = parts.training
    if training is None or not training.able:
        return []
    with parts.ledger.read() as connection:
        found = {space: _worth_of(parts, connection, cubes) for space, cubes in _used(parts, connection).items()}
        waiting = {space: _open(connection, space) for space in found}
    made: list[str] = []
    for space, worthy in found.items():
        if worthy is None and not waiting[space]:
            continue
        with parts.ledger.write() as connection:
            proposal, chosen = _standing(parts, connection, space)
            if proposal is None and worthy is not None:
                proposal, chosen = _proposed(parts, connection, space, worthy), worthy.cubes
                made += [proposal] if proposal is not None else []
        if proposal is None:
            continue
        if proposal in made:
            tell(parts, chosen)
        if training.wishes.consent == "auto":
            _train(parts, proposal, chosen)
    return made


def look_back(parts: Parts) -> list[str]:
    """Propose to put adapters away that nobody was answered by for long; what was proposed.

    A proposal whose adapter was mounted again is declined. One made elsewhere is left alone: nothing else says what it
    knows.
    """
    with parts.ledger.write() as connection:
        rows = {row.cube: row for row in adapters.listed(connection) if row.usable and row.sources}
        cubes = parts.vault.by_seqs(connection, list(rows))
        why = {seq: rarely_used(_idle_days(parts, rows[seq])) for seq in cubes}
        for one in proposals.about(connection, list(cubes)):
            if one.kind == DEMOTE and one.state == "open" and not any(why.get(seq) for seq, _ in one.cubes):
                proposals.settle(connection, one.id, "declined", parts.stamp())
        made = {
            seq: proposals.propose(connection, DEMOTE, [cubes[seq]], AWAY_SCORE, reason, parts.stamp())
            for seq, reason in why.items()
            if reason is not None
        }
    fresh = {seq: one for seq, one in made.items() if one is not None}
    if fresh:
        tell(parts, [cubes[seq] for seq in fresh])
    return list(fresh.values())


def _idle_days(parts: Parts, row: AdapterRow) -> float:
    last = max(row.created, row.last_mounted or row.created)
    return (parts.now() - datetime.fromisoformat(last)) / DAY


def _standing(parts: Parts, connection: Connection, space: int) -> tuple[str | None, list[Cube]]:
    """The open proposal that still stands, with its memories; one whose memories an adapter knows by now is done."""
    for one in _open(connection, space):
        cubes = standing(parts, connection, one)
        if cubes and {cube.seq for cube in cubes} <= _taught(connection, cubes):
            proposals.settle(connection, one.id, "done", parts.stamp())
        elif cubes:
            return one.id, cubes
    return None, []


def _proposed(parts: Parts, connection: Connection, space: int, found: _Worthy) -> str | None:
    """A proposal in place of those that stand no more; None if somebody has declined just this."""
    for one in _open(connection, space):
        proposals.settle(connection, one.id, "declined", parts.stamp())
    return proposals.propose(connection, TRAIN, found.cubes, found.score, found.reason, parts.stamp())


def _train(parts: Parts, proposal: str, cubes: Sequence[Cube]) -> None:
    """Carry the proposal out in the name of the space's owner; what cannot be done waits for somebody."""
    with parts.ledger.read() as connection:
        space = governance.space_of(connection, cubes[0].space)
    caller = Caller(space.owner, space.name, CLIENT)
    try:
        op = parametric.to_parametric(parts, caller, [cube.id for cube in cubes])["op"]
    except MemosError:
        return
    with parts.ledger.write() as connection:
        proposals.settle(connection, proposal, "done", parts.stamp(), op)


def _used(parts: Parts, connection: Connection) -> dict[int, list[Cube]]:
    """What was used last and stands, by space."""
    latest = select(usage.c.cube).order_by(usage.c.seq.desc()).limit(USES)
    seqs = sorted(set(connection.execute(latest).scalars()))
    found: dict[int, list[Cube]] = {}
    for cube in parts.vault.by_seqs(connection, seqs).values():
        found.setdefault(cube.space, []).append(cube)
    return found


def _worth_of(
    parts: Parts, connection: Connection, cubes: Sequence[Cube]
) -> _Worthy | None:
    now = parts.now()
    may = [cube for cube in cubes if parametric.untaught(parts, connection, cube) is None]
    may = [cube for cube in may if parametric.lessons([cube])]
    heats = parts.usage.heats(connection, may, now)
    doubted = {seq for one in proposals.about(connection, [cube.seq for cube in may]) if _doubts(one)
               for seq, _ in one.cubes}  # fmt: skip
    known = _taught(connection, may)
    judged = worth([
        Known(
            cube.id, cube.snapshot.kind, (now - datetime.fromisoformat(cube.created)) / DAY,
            (now - datetime.fromisoformat(cube.updated)) / DAY, heats[cube.seq],
            cube.seq in doubted or cube.snapshot.feedback in DOUBTED, cube.seq in known,
        )
        for cube in may
    ])  # fmt: skip
    if judged is None:
        return None
    by_id = {cube.id: cube for cube in may}
    return _Worthy([by_id[name] for name in judged.ids], judged.score, judged.reason)


def _taught(connection: Connection, cubes: Sequence[Cube]) -> set[int]:
    """Numbers of memories that an adapter knows, or is about to be taught, with those of the same adapters."""
    rows = adapters.listed(connection, adapters.made_from(connection, [cube.seq for cube in cubes]))
    return {seq for row in rows if row.tainted is None and row.state != "retired" for seq, _ in row.sources}


def _doubts(one: Proposal) -> bool:
    """Whether an open proposal says that the memory is not the whole truth."""
    return one.state == "open" and one.kind != TRAIN


def _open(connection: Connection, space: int) -> list[Proposal]:
    return [one for one in proposals.waiting(connection, [space]) if one.kind == TRAIN]


def _ask(parts: Parts, connection: Connection, not_before: str | None) -> None:
    parts.jobs.create(connection, KIND, {}, 1, not_before=not_before, priority=0.1)
