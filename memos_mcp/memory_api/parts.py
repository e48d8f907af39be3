"""The parts that the verbs work with, and what several verbs do in the same way.

Knows no protocol and no process: the kernel builds the parts, a surface says who calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection

from memos_mcp import governance, templates
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.activation.transcripts import Transcripts
from memos_mcp.context.orders import Orders
from memos_mcp.cube import SAID, Cube, instant
from memos_mcp.errors import MemosError, NotFound
from memos_mcp.foreground import Foreground, let_go_first
from memos_mcp.governance import Action, Caller
from memos_mcp.jobs import Jobs
from memos_mcp.ledger import operations
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.lifecycle.life import Life
from memos_mcp.parametric.registry import Adapters
from memos_mcp.parametric.trainings import Trainings
from memos_mcp.plaintext.embedding import EmbedderSlot
from memos_mcp.plaintext.indexer import Indexer
from memos_mcp.plaintext.reranker import RerankerSlot
from memos_mcp.plaintext.rewriting import Rewriting
from memos_mcp.plaintext.search import Search
from memos_mcp.plaintext.space_cache import SpaceCache
from memos_mcp.plaintext.views import Views
from memos_mcp.ports import RemoteModel, Vector
from memos_mcp.states import State
from memos_mcp.store import Events
from memos_mcp.usage import Usage
from memos_mcp.vault import Vault, embeddable_text
from memos_mcp.weaver import Weaver
from memos_mcp.working.memory import WorkingMemory

EMBED_WAIT_S = 0.0
MOST_WRITERS = 1_000
MOST_OF_OTHERS = 64
"""Memories just written by other hosts whose vectors a search waits for: a fraction of a second of embedding."""
SEARCH_WAIT_S = 5.0
"""Seconds a search waits for the embedder, or for memories written just before, until it gives a degraded answer."""


class Behind:
    """Up to which memory each writer's are still to be embedded, so that a search waits for its own writer's alone.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._upto: dict[str | None, int] = {}
        self._lock = threading.Lock()

    def note(self, writer: str | None, seqs: Sequence[int]) -> None:
        """These memories of the writer were queued for embedding."""
        with self._lock:
            self._upto[writer] = max([self._upto.pop(writer, 0), *seqs])
            while len(self._upto) > MOST_WRITERS:
                del self._upto[next(iter(self._upto))]

    def upto(self, writer: str | None) -> int | None:
        """The last memory of the writer that was queued; None if none was."""
        with self._lock:
            return self._upto.get(writer)


@dataclass(frozen=True)
class Parts:
    """Everything a verb may use.

    `life` has the thresholds by which memories live. There is `activation` where the store has a local model, else
    `transcripts`; `server` where another server answers; `training` trains `adapters`. `beside` runs what an addition
    does at the same time, `ahead` what a search does before its vector is there, and `maker` makes what is held in
    memory of large spaces; `now` is the clock, in UTC.
    `extraction`: whether statements are drawn out of dialogue: off, rules, model. `supersede`: a newer statement takes
    the older one's place where the rule is sure. `merge_from` is the likeness, 0..1, from which near-duplicates are
    merged without asking; None: never.
    """

    ledger: Ledger
    vault: Vault
    search: Search
    embedder: EmbedderSlot
    reranker: RerankerSlot
    indexer: Indexer
    weaver: Weaver
    cache: SpaceCache
    views: Views
    rewriting: Rewriting
    foreground: Foreground
    adding: Foreground
    asking: Foreground
    beside: Executor
    ahead: Executor
    maker: Executor
    events: Events
    usage: Usage
    jobs: Jobs
    working: WorkingMemory
    activation: ActivationMemory | None = None
    server: RemoteModel | None = None
    transcripts: Transcripts | None = None
    adapters: Adapters | None = None
    training: Trainings | None = None
    life: Life | None = None
    orders: Orders = field(default_factory=Orders)
    extraction: str = "off"
    merge_from: float | None = None
    behind: Behind = field(default_factory=Behind)
    supersede: bool = True
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def stamp(self) -> str:
        """Now, as the ledger writes times."""
        return instant(self.now())

    def quiet_s(self) -> float:
        """Seconds since the last call ended; 0 while one is in progress."""
        return min(self.foreground.quiet_s, self.asking.quiet_s)

    def step_aside(self) -> None:
        """Let calls in progress go first, and those that follow at their heels, a bounded moment."""
        let_go_first((self.adding, self.asking))

    def vector_of(self, texts: Sequence[str], wait_s: float = EMBED_WAIT_S) -> list[Vector] | None:
        """Vectors of a few texts, or None while the embedder is not there to make them."""
        try:
            return list(self.embedder.get(wait_s).embed(texts))
        except MemosError:
            return None

    def embed_cube_text(self, cube: Cube) -> Vector | None:
        """The vector of a cube's text, or None while the embedder is not there."""
        made = self.vector_of([embeddable_text(cube.snapshot)])
        return made[0] if made else None

    def embedder_number(self) -> int:
        """The ledger's number of the embedder; 0 while there is none, for writes that queue their vectors."""
        known = self.embedder.known()
        return known[0] if known is not None else 0

    def unread(self, seqs: Sequence[int]) -> None:
        """Drop what a model had read, or was told, of these memories, and unmount what was trained on them."""
        gone = self.adapters.changed(seqs) if self.adapters is not None else []
        for told in (self.activation, self.transcripts, self.working, self.training):
            if told is not None:
                told.changed([*seqs, *gone])

    def changed(self, caller: Caller, cubes: Sequence[Cube], *, listing: bool, embedded: bool = False) -> None:
        """Tell states, index, graph, cache and listeners what a caller's finished transaction changed.

        What a model had read, or was told, of the memories before is gone when this returns.

        `embedded`: each memory has its vector already, and none lost one.
        """
        self.unread([cube.seq for cube in cubes])
        if not embedded and cubes:
            self.behind.note(caller.writer, [cube.seq for cube in cubes])
        # a first version that stands only adds a vector, and the cache reads on from its last one
        for space, losing in _by_space(cube for cube in cubes if cube.version > 1 or not cube.stands).items():
            self.cache.touch(space, losing)
        for space, touched in _by_space(cubes).items():
            self.views.touch(space, touched)
            self.indexer.notice(space, embedded=embedded)
        if cubes:
            self.weaver.notice()
        spaces = [(cube.space, cube.space_name) for cube in cubes]
        self.events.publish(
            [cube.id for cube in cubes],
            spaces,
            listing=listing,
            templates=any(cube.snapshot.kind == templates.KIND for cube in cubes),
            archived=any(cube.state is State.ARCHIVED for cube in cubes),
            said=any(cube.snapshot.kind in SAID for cube in cubes),
        )


def life_of(parts: Parts) -> Life:
    """The store's life of memories; of one that nobody configured, by the thresholds that hold where nothing is set."""
    return parts.life or Life(parts.ledger, parts.vault, parts.now, parts.activation, enabled=False)


def _by_space(cubes: Iterable[Cube]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for cube in cubes:
        found.setdefault(cube.space, []).append(cube.seq)
    return found


def begun(parts: Parts, caller: Caller, verb: str, reason: str | None = None, undoes: str | None = None) -> Operation:
    """A new operation of the caller's, which carries its request out."""
    at = parts.stamp()
    return operations.begin(verb, caller.principal, caller.client, at, reason, undoes, caller.request)


def operation_for(
    parts: Parts, connection: Connection, caller: Caller, op_id: str
) -> tuple[Operation, list[Change]]:
    """The operation and what it did, if it is the caller's own or touched only memories that the caller may read.

    Raises:
        NotFound: there is no such operation for this caller.
    """
    op = operations.find(connection, op_id)
    made = operations.changes_of(connection, op) if op is not None else []
    if op is not None and op.principal != caller.principal:
        cubes = parts.vault.by_ids(connection, [change.cube for change in made]).values()
        spaces = [governance.space_of(connection, cube.space) for cube in cubes]
        readable = [
            governance.may_ever(connection, caller.principal, "read", space, cube.seq)
            for cube, space in zip(cubes, spaces, strict=True)
        ]
        op = op if readable and all(readable) else None
    if op is None:
        raise NotFound("operation", [op_id], "memory_history without arguments lists the latest.")
    return op, made


def cubes_for(
    parts: Parts, connection: Connection, caller: Caller, ids: Sequence[str], action: Action
) -> list[Cube]:
    """The named memories, in the order given, if the caller may do `action` to each.

    Raises:
        NotFound: some are not there or not the caller's to see, all of them named. AccessDenied: readable, no more.
    """
    found = parts.vault.by_ids(connection, ids)
    missing = [cube_id for cube_id in ids if cube_id not in found]
    for cube in found.values():
        try:
            governance.require(connection, caller, action, cube)
        except NotFound:
            missing.append(cube.id)
    if missing:
        raise NotFound("memory", missing, "check the id, or find it with memory_search.")
    return [found[cube_id] for cube_id in dict.fromkeys(ids)]
