"""Gathers the memories that a session may need next, with what is known of each.

Knows no weights: `policies.preload` says what it comes to. However large the store, it reads a bounded number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, bindparam, select

from memos_mcp.cube import TEXTLESS, Cube
from memos_mcp.ledger import transitions, vectors
from memos_mcp.ledger.edges import Memory, Name, View
from memos_mcp.ledger.schema import cubes
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Search
from memos_mcp.policies.preload import Floats, Known
from memos_mcp.vault import Vault
from memos_mcp.working.sessions import Heard, Session

NEWEST = 96
"""Of the newest memories of the searched spaces that are looked at, for each space; of spaces the first `SPACES`."""
SPACES = 8
TOUCHED = 64
FOUND = 48
"""Memories that a search for the latest message or question brings."""
AHEAD, BEHIND = 24, 6
"""Memories written after and before one that was served."""
REACH = 512
"""Numbers of memories that are looked through for them: those between may belong to other spaces."""
ANSWER = 5
"""Memories of an answer that what comes next may follow from: the best."""
NAMED, NAMES, NAMING = 3, 6, 8
"""Of these many memories of an answer, so many names each, and so many memories that mention one."""
HIDDEN = ("template", *TEXTLESS)
_SEQ, _LIMIT = cubes.c.seq, bindparam("limit", type_=Integer)
_WINDOW = select(_SEQ).where(
    cubes.c.space + 0 == bindparam("space"), _SEQ.between(bindparam("first"), bindparam("last"))
)
_AFTER, _BEFORE = (_WINDOW.order_by(order).limit(_LIMIT) for order in (_SEQ, _SEQ.desc()))
_NEWEST = (
    select(_SEQ).where(cubes.c.space == bindparam("space")).order_by(cubes.c.becomes_true.desc(), _SEQ.desc())
).limit(NEWEST)
_LAST = select(_SEQ).order_by(_SEQ.desc()).limit(1)
"""Statements are made once: to build one costs more than to run it."""


@dataclass(frozen=True)
class Meaning:
    """The store's vectors: their embedder's number, their length, and how far it understands what was said."""

    number: int
    dimensions: int
    trust: float


@dataclass(frozen=True)
class Gathered:
    """Memories that may be needed, alive and the caller's to read; `vectors` (n, dimensions), 0 where there is none."""

    cubes: tuple[Cube, ...]
    known: Known
    vectors: NDArray[np.float32]


@dataclass
class _Sums:
    """What adds up for a memory over everything that brought it."""

    ahead: dict[int, float] = field(default_factory=dict)
    beside: dict[int, float] = field(default_factory=dict)
    followed: dict[int, float] = field(default_factory=dict)
    together: dict[int, float] = field(default_factory=dict)
    named: dict[int, float] = field(default_factory=dict)
    found: dict[int, float] = field(default_factory=dict)

    def seqs(self) -> set[int]:
        return {seq for sums in vars(self).values() for seq in sums}


class Candidates:
    """Gathers for one session at a time; `step_aside()` lets calls in progress go first, between any two steps."""

    def __init__(self, vault: Vault, search: Search, step_aside: Callable[[], None]) -> None:
        self._vault, self._search, self._step_aside = vault, search, step_aside

    def of(
        self, connection: Connection, session: Session, scope: Scope, meaning: Meaning | None, kept: Sequence[int]
    ) -> Gathered:
        """What may be needed next in the session, and those `kept` in any case, as far as they are in scope."""
        sums = _Sums()
        said = session.heard or session.asked
        newest = _newest(connection, scope.space_ids[:SPACES])
        if said is not None:
            self._look_up(connection, said, scope, meaning, sums, waits=session.heard is not None)
        self._step_aside()
        if session.served:
            self._around(connection, session.served[-1][:ANSWER], scope, sums)
            _followed(connection, session.caller.principal, session.served[-1][:ANSWER], sums)
        self._step_aside()
        sources = session.served[-1] if session.served else tuple(session.touched)[-NAMED:]
        _named(connection, sources[:NAMED], scope, sums)
        self._step_aside()
        wanted = sums.seqs() | set(newest) | set(kept) | set(list(session.touched)[-TOUCHED:])
        if session.heard is not None:
            wanted -= set(session.heard.kept_as)
        alive = scope.keep(connection, sorted(wanted))
        found = tuple(cube for cube in self._vault.by_seqs(connection, sorted(alive)).values() if _may_be_held(cube))
        self._step_aside()
        matrix = _vectors(connection, meaning, [cube.seq for cube in found])
        return Gathered(found, _known(found, session, sums, matrix, _last(connection)), matrix)

    def _look_up(
        self, connection: Connection, said: Heard, scope: Scope, meaning: Meaning | None, sums: _Sums, *, waits: bool
    ) -> None:
        """What a search finds. What was served for a question that was answered is known; the rest may be next."""
        trust = meaning.trust if meaning is not None else 0.0
        hits = self._search.find(connection, said.text, said.vector, scope, FOUND, trust)
        for place, hit in enumerate(hits):
            sums.found[hit.seq] = float(place) if waits else np.inf

    def _around(self, connection: Connection, served: Sequence[int], scope: Scope, sums: _Sums) -> None:
        """What was written after and before what was served, in its space."""
        homes = {cube.seq: cube.space for cube in self._vault.by_seqs(connection, served).values()}
        for rank, seq in enumerate(served):
            if homes.get(seq) not in scope.space_ids:
                continue
            weight = 1.0 / (1 + rank)
            for distance, near in enumerate(_beside(connection, homes[seq], seq, AHEAD), 1):
                _add(sums.ahead, near, weight * np.exp(-distance / 16))
                _add(sums.beside, near, weight * np.exp(-distance / 4))
            for distance, near in enumerate(_beside(connection, homes[seq], seq, -BEHIND), 1):
                _add(sums.beside, near, weight * np.exp(-distance / 4))


def _beside(connection: Connection, space: int, seq: int, count: int) -> list[int]:
    """Numbers of the next memories of the space, or of those before for a negative `count`."""
    query, first, last = (_AFTER, seq + 1, seq + REACH) if count > 0 else (_BEFORE, seq - REACH, seq - 1)
    values = {"space": space, "first": first, "last": last, "limit": abs(count)}
    return [int(found) for found in connection.execute(query, values).scalars()]


def _newest(connection: Connection, spaces: Sequence[int]) -> list[int]:
    """Numbers of the memories of each space that became true last."""
    found: list[int] = []
    for space in spaces:
        found += [int(seq) for seq in connection.execute(_NEWEST, {"space": space}).scalars()]
    return found


def _followed(connection: Connection, principal: str, served: Sequence[int], sums: _Sums) -> None:
    known = transitions.following(connection, principal, served)
    for rank, source in enumerate(served):
        for target, turns, weight in known.get(source, ()):
            into = sums.together if turns == transitions.TOGETHER else sums.followed
            _add(into, target, weight / (1 + rank))


def _named(connection: Connection, sources: Sequence[int], scope: Scope, sums: _Sums) -> None:
    """Memories that name what the sources name, the rarer the name the more."""
    view = View(scope.space_ids, scope.now, scope.shared)
    for rank, seq in enumerate(sources):
        for edge in view.out_of(connection, Memory(seq, ""), None, NAMES):
            if isinstance(edge.target, Memory):
                _add(sums.named, edge.target.seq, 1.0 / (1 + rank))
            elif isinstance(edge.target, Name):
                near = [one.source for one in view.into(connection, edge.target, "mentions", NAMING)]
                for memory in near:
                    if isinstance(memory, Memory) and memory.seq != seq:
                        _add(sums.named, memory.seq, 1.0 / ((1 + rank) * len(near)))


def _vectors(connection: Connection, meaning: Meaning | None, seqs: Sequence[int]) -> NDArray[np.float32]:
    if meaning is None:
        return np.zeros((len(seqs), 0), dtype=np.float32)
    matrix = np.zeros((len(seqs), meaning.dimensions), dtype=np.float32)
    stored = vectors.of_cubes(connection, meaning.number, seqs, meaning.dimensions)
    places = {seq: i for i, seq in enumerate(seqs)}
    for i, seq in enumerate(stored.cubes.tolist()):
        matrix[places[seq]] = stored.matrix[i]
    return matrix


def _known(
    found: Sequence[Cube], session: Session, sums: _Sums, matrix: NDArray[np.float32], last: int
) -> Known:
    ranks = {seq: float(rank) for rank, seq in enumerate(reversed(session.touched))}
    written = {seq: float(rank) for rank, seq in enumerate(sorted((cube.seq for cube in found), reverse=True))}

    def of(sums: Mapping[int, float], missing: float = 0.0) -> Floats:
        return np.array([sums.get(cube.seq, missing) for cube in found], dtype=np.float64)

    return Known(
        touched=of({**{seq: len(ranks) + rank for seq, rank in written.items()}, **ranks}),
        age=np.array([last - cube.seq for cube in found], dtype=np.float64),
        ahead=of(sums.ahead),
        beside=of(sums.beside),
        asked=_cosines(matrix, session.asked),
        heard=_cosines(matrix, session.heard),
        found=of(sums.found, np.inf),
        followed=of(sums.followed),
        together=of(sums.together),
        uses=np.array([cube.uses for cube in found], dtype=np.float64),
        named=of(sums.named),
        chars=np.array([len(cube.snapshot.content) for cube in found], dtype=np.float64),
        newer=_newer(matrix, np.array([cube.seq for cube in found])),
    )


def _cosines(matrix: NDArray[np.float32], said: Heard | None) -> Floats:
    """Cosines of the memories to what was said, NaN where a vector is missing."""
    found = np.full(len(matrix), np.nan)
    if said is None or said.vector is None or said.vector.shape != matrix.shape[1:]:
        return found
    there = matrix.any(axis=1)
    found[there] = np.einsum("ij,j->i", matrix[there], said.vector)
    return found


def _newer(matrix: NDArray[np.float32], seqs: NDArray[np.int64]) -> Floats:
    """The cosine of each memory to the nearest of those written after it."""
    found = np.full(len(seqs), np.nan)
    if matrix.size:
        near = matrix @ matrix.T
        near[seqs[:, None] >= seqs[None, :]] = -1.0
        later = near.max(axis=1)
        found[later > -1.0] = later[later > -1.0]
    return found


def _may_be_held(cube: Cube) -> bool:
    """Secrets are found by those who ask for them, and are nowhere unasked; templates are prompts, and steering
    vectors no text."""
    return cube.snapshot.sensitivity != "secret" and cube.snapshot.kind not in HIDDEN


def _add(sums: dict[int, float], seq: int, weight: float) -> None:
    sums[seq] = sums.get(seq, 0.0) + float(weight)


def _last(connection: Connection) -> int:
    return int(connection.execute(_LAST).scalar() or 0)
