"""Rebuilds what is derived from the ledger, and changes the embedder that a store's vectors are made with.

Knows no terminal and no protocol: progress goes to a function, results are plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memos_mcp.cube import Cube
from memos_mcp.errors import MemosError
from memos_mcp.kernel import Kernel, keep_chosen_embedder
from memos_mcp.ledger import vectors
from memos_mcp.memory_api.parts import Parts
from memos_mcp.plaintext.embedding import CHOSEN, PIN, pin
from memos_mcp.ports import Embedder, IndexBroken
from memos_mcp.vault import embeddable_text

BATCH = 32
"""Memories embedded between two notes in the ledger: what an interruption can lose."""
ROUNDS = 3
"""Times that a change of embedder goes over the store, each for what was written during the one before."""

Progress = Callable[[str, int, int], None]
"""Told (what is being done, done, total), every time that `done` has grown."""


@dataclass(frozen=True)
class Reindexed:
    """What was rebuilt, counted; `problem` says why vectors and indexes were left as they are."""

    memories: int
    embedded: int
    indexes: int
    waiting: int
    problem: str | None = None


@dataclass(frozen=True)
class Changed:
    """The embedder that a store has now; `embedded` counts the memories embedded by this call before the change.

    `problem` says what was left to do after it.
    """

    embedder: str
    identity: str
    dimensions: int
    embedded: int
    waiting: int
    problem: str | None = None


@dataclass(frozen=True)
class EmbedderState:
    """What a store's vectors are made with: the name in its settings, the identity it is pinned to, and how it is.

    `vectors` counts by identity; more than one means that a change is half done. `problem`: why it is not there.
    """

    embedder: str
    source: str
    identity: str | None
    dimensions: int | None
    waiting: int
    vectors: dict[str, int]
    problem: str | None = None


def embedder_state(kernel: Kernel) -> EmbedderState:
    """How the store's embedder is, once it has loaded or failed to."""
    parts, settings = kernel.api.parts, kernel.settings
    dimensions, problem = None, None
    try:
        dimensions = parts.embedder.get().dimensions
    except MemosError as error:
        problem = str(error)
    with parts.ledger.read() as connection:
        pinned = parts.ledger.get(connection, PIN)
        waiting, counts = vectors.queue_length(connection), vectors.count_by_embedder(connection)
    source = settings.sources.get("embedder", "default")
    return EmbedderState(settings.embedder, source, pinned, dimensions, waiting, counts, problem)


def reindex(kernel: Kernel, progress: Progress = lambda _what, _done, _total: None) -> Reindexed:
    """Write full text and graph anew, sort vectors into the main index or out of it, embed every memory that has none,
    and build every index anew. May be repeated.

    Raises:
        StorageFailed: the ledger cannot be written; what was there before is there still.
    """
    parts = kernel.api.parts
    progress("full text", 0, 1)
    with parts.ledger.write() as connection:
        memories = parts.vault.rebuild_full_text(connection)
        parts.vault.settle_vectors(connection)
    parts.views.clear()
    parts.cache.clear()
    progress("full text", 1, 1)
    parts.weaver.rebuild(lambda done, total: progress("names", done, total))
    problem: str | None = None
    before = 0
    try:
        number, _ = parts.embedder.number()
        with parts.indexer.paused(), parts.ledger.write() as connection:
            vectors.queue_missing(connection, number)
            before = vectors.queue_length(connection)
        parts.indexer.forget_all()
        parts.cache.clear()
        problem = _catch_up(parts, lambda done, total: progress("embedding", done, total))
    except (MemosError, IndexBroken) as error:
        problem = str(error)
    with parts.ledger.read() as connection:
        waiting = vectors.queue_length(connection)
        indexes = len(vectors.indexed_spaces(connection))
    return Reindexed(memories, max(before - waiting, 0), indexes, waiting, problem)


def change_embedder(
    kernel: Kernel, name: str, progress: Progress = lambda _what, _done, _total: None
) -> Changed:
    """Make `name` the store's embedder: every memory is embedded anew, then the store changes over at once.

    The new vectors are kept as they are made, beside those that searches use meanwhile, so an interrupted change is
    taken up by calling again. Also the way out for a store whose own embedder is gone. For the embedder that made the
    store's vectors already, only config.toml is mended.

    Raises:
        InvalidInput: no such embedder. EmbedderUnavailable: it cannot be loaded or reached; the store is as it was.
        StorageFailed: the ledger cannot be written.
    """
    parts = kernel.api.parts
    embedder = parts.embedder.make(name)
    _await_settled(parts)
    number, own = _number_for(parts, embedder)
    embedded = 0 if own else _embed_missing(parts, embedder, number, progress)
    with parts.indexer.paused():
        # No call and no background work may hold a vector of one embedder and store or compare it as the other's.
        with parts.foreground.alone():
            _change_over(parts, embedder, number, name, own)
        kernel.settings = keep_chosen_embedder(parts.ledger, kernel.settings)
        if not own:
            parts.indexer.forget_all()
    problem = _catch_up(parts, lambda done, total: progress("embedding the newest", done, total))
    with parts.ledger.read() as connection:
        waiting = vectors.queue_length(connection)
    return Changed(name, embedder.identity, embedder.dimensions, embedded, waiting, problem)


def _await_settled(parts: Parts) -> None:
    """Let the store's own embedder finish loading or failing, so that it cannot come in after the change."""
    try:
        parts.embedder.get()
    except MemosError:
        return  # what fails to load is what the change replaces


def _catch_up(parts: Parts, progress: Callable[[int, int], None]) -> str | None:
    """Embed what waits and build the indexes; returns why not all of it was done."""
    try:
        parts.indexer.catch_up(progress)
    except (MemosError, IndexBroken) as error:
        return str(error)
    return None


def _number_for(parts: Parts, embedder: Embedder) -> tuple[int, bool]:
    """The ledger's number for the embedder, and whether the store is pinned to it already.

    Vectors that it made at another length are dropped; if they were the store's own, every memory waits to be
    embedded anew.
    """
    with parts.indexer.paused(), parts.foreground.alone(), parts.ledger.write() as connection:
        number = vectors.embedder_id(connection, embedder.identity, embedder.dimensions)
        own = parts.ledger.get(connection, PIN) == embedder.identity
        if vectors.dimensions_of(connection, number) != embedder.dimensions:
            vectors.forget_embedder(connection, number, embedder.dimensions)
            if own:
                vectors.forget_indexes(connection)
                vectors.queue_missing(connection, number)
    return number, own


def _embed_missing(parts: Parts, embedder: Embedder, number: int, progress: Progress) -> int:
    """Embed the memories without a vector of this embedder, and those written meanwhile in further rounds.

    Returns how many. The last few, or what is written faster than it is embedded, are left to wait after the change.
    """
    with parts.ledger.read() as connection:
        total, done = vectors.missing_count(connection, number), 0
    for _ in range(ROUNDS):
        met = last = 0
        while True:
            with parts.ledger.read() as connection:
                cubes = parts.vault.by_seqs(connection, vectors.missing(connection, number, BATCH, last))
            if not cubes:
                break
            done += _embed_batch(parts, embedder, number, cubes)
            met, last = met + len(cubes), max(cubes)
            progress("embedding", done, max(total, done))
            parts.foreground.step_aside()
        if met <= BATCH:
            break
    return done


def _embed_batch(parts: Parts, embedder: Embedder, number: int, cubes: dict[int, Cube]) -> int:
    """Embed memories and keep the vectors of those whose text is still the same; returns how many."""
    matrix = embedder.embed([embeddable_text(cube.snapshot) for cube in cubes.values()])
    rows = []
    with parts.ledger.write() as connection:
        present = parts.vault.by_seqs(connection, list(cubes))
        for (seq, cube), vector in zip(cubes.items(), matrix, strict=True):
            now = present.get(seq)
            if now is not None and embeddable_text(now.snapshot) == embeddable_text(cube.snapshot):
                rows.append((seq, now.version, now.space, vector))
        vectors.put(connection, number, rows)
    return len(rows)


def _change_over(parts: Parts, embedder: Embedder, number: int, name: str, own: bool) -> None:
    """Pin the embedder and let every other one's vectors go, in one transaction; then serve it."""
    with parts.ledger.write() as connection:
        pin(parts.ledger, connection, embedder)
        parts.ledger.put(connection, CHOSEN, name)
        vectors.forget_other_embedders(connection, number)
        vectors.queue_missing(connection, number)
        if not own:
            vectors.forget_indexes(connection)
    parts.embedder.swap(embedder, number)
    parts.working.forget()
    parts.cache.clear()
