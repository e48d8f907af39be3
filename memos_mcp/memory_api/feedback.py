"""What follows when a host says that a memory is useful, wrong or stale, and when that is taken back.

Knows no rank and no rule: `policies.feedback` says what is proposed, the search what a score becomes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from memos_mcp.cube import Cube, instant
from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.ledger import claims, feedback, proposals
from memos_mcp.memory_api.contradicted import MOST, keys_of
from memos_mcp.memory_api.parts import Parts
from memos_mcp.plaintext.scope import Scope
from memos_mcp.policies import conflicts
from memos_mcp.policies import feedback as policy
from memos_mcp.policies.duplicates import duplicate

AGAIN_S = 60.0
"""Seconds in which the same word of the same principal is a repetition, not another occasion."""
NEWER_FROM = 0.80
"""Cosine from which on a newer memory is like one that is stale."""
MOST_NEAR = 10
_OF_NEWER = {"supersede", "merge"}
"""Kinds of proposals that name a newer memory too."""
_PART = re.compile(r"\n\s*\n|\n(?=#)")

Newer = Sequence[tuple[Cube, float | None]]
"""Newer memories that are like one, nearest first, with their cosines where these are known."""


def newer_than(parts: Parts, cube: Cube) -> Newer:
    """What stands in the memory's space, is newer by its own time, and is like it or claims something about the same.

    Meaning is left out while the embedder is not there.
    """
    vector, near, now = parts.embed_cube_text(cube), dict[int, float](), parts.stamp()
    with parts.ledger.read() as connection:
        keys = keys_of(cube.space, conflicts.claimed(cube.snapshot))
        held = claims.holders(connection, keys, MOST) if keys else []
        if vector is not None:
            scope = Scope((cube.space,), now)
            try:
                where = parts.search.like(connection, scope)
                near = dict(parts.search.similar(connection, vector, scope, NEWER_FROM, MOST_NEAR, where))
            except MemosError:
                near = {}  # an index that cannot answer leaves the claims
        found = parts.vault.by_seqs(connection, [*near, *held])
    newer = [one for one in found.values() if one.id != cube.id and _after(one, cube) and one.is_alive(now)]
    return [(one, near.get(one.seq)) for one in sorted(newer, key=lambda one: -near.get(one.seq, 0.0))]


def given(
    parts: Parts, connection: Connection, caller: Caller, cube: Cube, event: str, newer: Newer, at: str
) -> list[str]:
    """Keep what was said, in the transaction that writes it, and propose what follows; what is new is told."""
    since = instant(datetime.fromisoformat(at) - timedelta(seconds=AGAIN_S))
    if not feedback.said_since(connection, cube.seq, event, caller.principal, since):
        feedback.note(connection, cube.seq, event, at, caller.principal)
    waiting = feedback.open_proposals(connection, cube.seq, policy.KINDS)
    made: list[str] = []
    for one in policy.suggestions(_judged(parts, connection, cube, newer)):
        about = [cube, newer[0][0]] if one.with_newer else [cube]
        found = None
        if one.kind not in waiting:
            found = proposals.propose(connection, one.kind, about, one.score, one.reason, at)
        if found is not None:
            made.append(f"{one.kind} {', '.join(cube.id for cube in about)}: {one.reason} (proposal {found})")
    return made


def undone(
    parts: Parts, connection: Connection, caller: Caller, before: Cube, after: Cube, *, again: bool, at: str
) -> None:
    """Follow an undo that changed what is said of a memory: its event goes, or comes back when an undo was undone, and
    what was proposed and no longer follows is withdrawn."""
    said, says = before.snapshot.feedback, after.snapshot.feedback
    if said == says:
        return
    if said is not None and not again:
        feedback.take_back(connection, after.seq, said)
    if says is not None and again:
        feedback.note(connection, after.seq, says, at, caller.principal)
    judged = _judged(parts, connection, after, [])
    follows = {one.kind for one in policy.suggestions(judged)} | (_OF_NEWER if judged.said.get("stale") else set())
    for kind, proposal in feedback.open_proposals(connection, after.seq, policy.KINDS).items():
        if kind not in follows:
            feedback.withdraw(connection, proposal)


def _judged(parts: Parts, connection: Connection, cube: Cube, newer: Newer) -> policy.Judged:
    """What was said of the memory since it has its present text."""
    since = cube.created
    for version in parts.vault.versions_of(connection, cube):
        if version.snapshot.content != cube.snapshot.content and version.until is not None:
            since = version.until
    text = cube.snapshot.content
    same = bool(newer) and bool(duplicate(newer[0][0].snapshot, cube.snapshot, newer[0][1]))
    said = feedback.counts(connection, cube.seq, since)
    return policy.Judged(said, len(text), len(_PART.split(text.strip())), bool(newer), same)


def _after(one: Cube, other: Cube) -> bool:
    return (one.becomes_true, one.seq) > (other.becomes_true, other.seq)
