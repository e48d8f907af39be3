"""Looks into the archive for a question that nothing in view answers, and brings back what was found there.

As an operating system fetches a page that it had put out: only what the scheduler archived for not being used is looked
at, never what somebody archived. What it finds holds more of the question's telling words than any hit; so it costs a
question nothing whose words are all there, and another one a few probes of the archive's words.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp.cube import Cube
from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.ledger import dialect, operations
from memos_mcp.lifecycle.life import CLIENT
from memos_mcp.memory_api.parts import Parts, begun
from memos_mcp.plaintext.analysis import is_common
from memos_mcp.plaintext.indexed import scope_token
from memos_mcp.plaintext.lexical import MAX_SCOPES
from memos_mcp.plaintext.question import Question
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Found
from memos_mcp.states import State

log = logging.getLogger(__name__)

TELLING = 2
"""Words of a question that are not common which a memory of the archive must hold, and more than any hit holds."""
SHARE = 0.6
"""Of the question's telling words, how many it must hold."""
PROBED = 200
"""Memories of the archive with a word that are looked at, newest first."""
MOST = 3
"""Memories fetched for one question."""

Pairs = list[tuple[Cube, Found]]


def fetched(parts: Parts, connection: Connection, question: Question, scope: Scope, hits: Pairs) -> Pairs:
    """The hits, behind what was fetched from the archive for want of better; `hits` itself where nothing was."""
    telling = {word for word in question.words if not is_common(word)}
    if scope.include or "state" in scope.where or not 0 < len(scope.space_ids) <= MAX_SCOPES or len(telling) < TELLING:
        return hits
    best = max((len(telling.intersection(found.words)) for _, found in hits), default=0)
    wanted = max(best + 1, TELLING, round(SHARE * len(telling)))
    if wanted > len(telling):
        return hits
    held = _holding(connection, scope, sorted(telling), wanted)
    best_first = sorted(held.items(), key=lambda one: (-one[1], -one[0]))
    likely = [seq for seq, count in best_first if count >= wanted][:PROBED]
    cubes = _cooled(parts, connection, scope, likely)[:MOST]
    return [(cube, _found(cube, held[cube.seq] / len(telling), telling, hits)) for cube in cubes] + hits


def bring_back(parts: Parts, caller: Caller, cubes: Sequence[Cube]) -> None:
    """Take what was fetched out of the archive, as an operation; behind the answer, which does not wait for it."""
    try:
        with parts.ledger.write() as connection:
            present = parts.vault.by_seqs(connection, [cube.seq for cube in cubes]).values()
            cold = [cube for cube in present if cube.state is State.ARCHIVED]
            if not cold:
                return
            op = begun(parts, replace(caller, request=None, again=False), "use", "asked for again")
            moved = parts.vault.move_all(connection, op, cold, State.ACTIVATED, "use")
            operations.record(connection, op, [change for _, change in moved])
        parts.changed(caller, [cube for cube, _ in moved], listing=True)
    except MemosError as error:
        log.warning("what was fetched stays in the archive: %s", error)


def _holding(connection: Connection, scope: Scope, telling: Sequence[str], wanted: int) -> Counter[int]:
    """How many of these words each memory of the archive holds, of the newest with each; nothing is said of any as soon
    as none can hold as many as are `wanted`."""
    scopes = [scope_token(space) for space in scope.space_ids]
    held: Counter[int] = Counter()
    for left, word in zip(reversed(range(len(telling))), telling, strict=True):
        held.update(dialect.full_text_rows(connection, [word], scopes, PROBED, cold=True))
        if max(held.values(), default=0) + left < wanted:
            return Counter()
    return held


def _cooled(parts: Parts, connection: Connection, scope: Scope, seqs: Sequence[int]) -> list[Cube]:
    """Those of the memories, in their order, that are in scope and that the scheduler archived."""
    kept = replace(scope, include=("archived",)).keep(connection, list(seqs)) if seqs else set()
    known = parts.vault.by_seqs(connection, [seq for seq in seqs if seq in kept])
    archived = [cube for cube in known.values() if cube.state is State.ARCHIVED]
    if not archived:
        return []
    by_itself = operations.archived_by(connection, [cube.id for cube in archived], CLIENT)
    return [known[seq] for seq in seqs if seq in known and known[seq].id in by_itself]


def _found(cube: Cube, share: float, telling: set[str], hits: Pairs) -> Found:
    """The memory as a hit that fits better than the others, for it holds more of what was asked for."""
    best = max((found.score for _, found in hits), default=0.0)
    return Found(cube.seq, max(share * SHARE, best), 0.0, None, tuple(sorted(telling)), {"archive": share})
