"""Looks at what was written since the last time for near-duplicates, and proposes to merge them.

Knows neither how duplicates are told nor how they are merged. Each memory is looked at once; nothing is scanned.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from memos_mcp import governance
from memos_mcp.cube import Cube
from memos_mcp.governance import Caller
from memos_mcp.jobs import Job
from memos_mcp.ledger import operations, proposals
from memos_mcp.ledger.schema import cubes, vector_queue
from memos_mcp.memory_api import duplicates
from memos_mcp.memory_api.duplicates import Cluster
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.proposals import KINDS, MERGE, Carried, standing, tell
from memos_mcp.scheduler.runner import Turn, Work

KIND = "propose-merges"
NOTE = "merges"
"""Key of the ledger's note that holds the number of the last memory that was looked at."""
CLIENT = "memos-mcp scheduler"
QUIET_S = 60.0
"""Seconds without a call before the job is queued behind additions."""
MOST_WAIT = timedelta(minutes=10)
"""How long additions wait for such a minute."""
BATCH = 6
"""Memories that are looked at between two steps aside: some 35 ms of processor time."""


def work(parts: Parts) -> Work:
    """How the job is done: a batch at a time, each in one transaction with the note of how far it came."""

    def do(_job: Job, turn: Turn) -> None:
        done = 0
        while looked_at := look(parts):
            done += looked_at
            turn.step(done)

    return Work(do, heavy=True)


def queue(parts: Parts, quiet_s: float = QUIET_S) -> str | None:
    """Queue the job if memories were written since the last one; its id, or None.

    The first time only the place is noted: what was there before is not looked at. `quiet_s`: for how long nobody has
    called; not before that is a minute, or the first of these memories has waited for ten, and it has its vector.
    """
    with parts.ledger.read() as connection:
        last, noted = parts.vault.last(connection), parts.ledger.get(connection, NOTE)
        if noted is not None and (int(noted) >= last or not _rested(parts, connection, int(noted), quiet_s)):
            return None
    if noted is not None and parts.jobs.unfinished(KIND):
        return None
    job = None
    with parts.ledger.write() as connection:
        if noted is None:
            parts.ledger.put(connection, NOTE, str(last))
        else:
            job = parts.jobs.create(connection, KIND, {}, last - int(noted))
    if job is not None:
        parts.jobs.notice()
    return job


def _rested(parts: Parts, connection: Connection, noted: int, quiet_s: float) -> bool:
    """Whether the moment is one for looking at what was written behind memory `noted`."""
    waits = select(vector_queue.c.cube).where(vector_queue.c.cube == cubes.c.seq).exists()
    first = select(cubes.c.created, waits).where(cubes.c.seq > noted).order_by(cubes.c.seq).limit(1)
    found = connection.execute(first).first()
    if found is None or found[1]:
        return False
    return quiet_s >= QUIET_S or parts.now() - datetime.fromisoformat(found.created) >= MOST_WAIT


def look(parts: Parts) -> int:
    """Look at the next memories and propose what follows; returns how many, 0 at the end.

    What still waits for its vector is looked at the next time. From the store's threshold on a proposal is carried out
    at once, in the name of the space's owner.

    Raises:
        StorageFailed: nothing was written, and the note stands where it stood.
    """
    with parts.ledger.read() as connection:
        upto = int(parts.ledger.get(connection, NOTE) or 0)
        fresh = _next(parts, connection, upto)
        found = duplicates.clusters(parts, connection, fresh) if fresh else []
    if not fresh:
        return 0
    carried: list[tuple[Caller, Carried]] = []
    proposed: list[Cube] = []
    with parts.ledger.write() as connection:
        for cluster in found:
            done = _propose(parts, connection, cluster)
            if done is not None:
                carried.append(done)
            else:
                proposed += cluster.cubes
        parts.ledger.put(connection, NOTE, str(fresh[-1].seq))
    for caller, one in carried:
        parts.changed(caller, one.cubes, listing=True)
        one.follow()
    tell(parts, proposed)
    return len(fresh)


def _next(parts: Parts, connection: Connection, upto: int) -> list[Cube]:
    """The next memories in the order of writing, up to the first that waits for its vector."""
    seqs = connection.execute(select(cubes.c.seq).where(cubes.c.seq > upto).order_by(cubes.c.seq).limit(BATCH))
    found = list(seqs.scalars())
    waits = select(vector_queue.c.cube).where(vector_queue.c.cube.in_(found)).order_by(vector_queue.c.cube).limit(1)
    first = connection.execute(waits).scalar()
    return list(parts.vault.by_seqs(connection, [seq for seq in found if first is None or seq < first]).values())


def _propose(parts: Parts, connection: Connection, cluster: Cluster) -> tuple[Caller, Carried] | None:
    """Note the proposal; what was carried out at once, or None.

    An open proposal about some of the same memories and no others gives way to this one.
    """
    present = list(parts.vault.by_seqs(connection, [cube.seq for cube in cluster.cubes]).values())
    now = parts.stamp()
    same = {(cube.seq, cube.version) for cube in duplicates.mergeable(parts, connection, present, now)}
    if not all((cube.seq, cube.version) in same for cube in cluster.cubes):
        return None
    reason = f"{len(cluster.cubes)} memories say nearly the same (likeness {cluster.score:.2f})"
    proposal = proposals.propose(connection, MERGE, cluster.cubes, cluster.score, reason, now)
    if proposal is None:
        return None
    for other in _within(connection, cluster):
        proposals.settle(connection, other, "declined", now)
    threshold = parts.merge_from
    if threshold is None or cluster.score < threshold:
        return None
    space = governance.space_of(connection, cluster.cubes[0].space)
    caller = Caller(space.owner, space.name, CLIENT)
    op = operations.begin("fuse", caller.principal, CLIENT, now, f"{reason}, from {threshold:.2f} on without asking")
    found = proposals.find(connection, proposal)
    cubes_now = standing(parts, connection, found) if found is not None else None
    if cubes_now is None:
        return None
    done = KINDS[MERGE](parts, connection, op, cubes_now, True)
    proposals.settle(connection, proposal, "done", now, op.id)
    return caller, done


def _within(connection: Connection, cluster: Cluster) -> Sequence[str]:
    """Open proposals to merge some of the cluster's memories and no others."""
    return [
        one.id
        for one in proposals.about(connection, sorted(cluster.seqs))
        if one.kind == MERGE and one.state == "open" and {seq for seq, _ in one.cubes} < cluster.seqs
    ]
