"""Builds the stores that are measured, once per size, and hands out copies of them to be written to.

Knows nothing of measuring. The stores are written through the ledger in large transactions; beyond the first
`EMBEDDED` memories the vectors are generated unless asked otherwise: a mixture of two real ones of the same language
and noise, normalised.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from benchmarks import texts
from benchmarks.texts import Memory
from memos_mcp import governance
from memos_mcp.backends import chroma
from memos_mcp.cube import Snapshot, parse_instant
from memos_mcp.gateway.process import spare_what_is_loaded, take_short_turns
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel, make_embedder
from memos_mcp.ledger import dialect, operations, schema, vectors
from memos_mcp.plaintext import analysis, indexed
from memos_mcp.plaintext.indexer import INDEX_TAIL
from memos_mcp.ports import Embedder, Matrix
from memos_mcp.scheduler import merging
from memos_mcp.settings import load

EMBEDDED = 5_000
MIXTURE, NOISE = 0.35, 0.45
TRANSACTION = 2_000
PRINCIPAL, SPACE = "bench", "personal"
MARKER = "bench.json"
INDEX_WAIT_S = 4 * 3_600.0
"""A million vectors take Chroma more than an hour on two cores."""


@dataclass(frozen=True)
class Workplace:
    """Where stores are kept between runs, and how to say what is going on."""

    folder: Path
    embed_all: bool
    say: Callable[[str], None]

    def store(self, size: int) -> Path:
        """The data directory of a store with `size` memories in one space, built if it is not there yet."""
        home = self._home(size)
        if rebuilt(home, resumed=True):
            self._build(home, size)
        return home

    def _home(self, size: int) -> Path:
        return self.folder / (f"store-{size}" + ("-embedded" if self.embed_all and size > EMBEDDED else ""))

    def has(self, size: int) -> bool:
        """Whether the store of this size is built already."""
        fits, whole = built(self._home(size))
        return fits and whole

    @contextmanager
    def copy_of(self, size: int) -> Iterator[Path]:
        """A copy of the store to write to, gone at the end."""
        with self.copy_of_folder(self.store(size)) as home:
            yield home

    @contextmanager
    def copy_of_folder(self, source: Path) -> Iterator[Path]:
        """A copy of a data directory, gone at the end; file times are kept, so that the index is trusted."""
        with self.fresh() as folder:
            yield Path(shutil.copytree(source, folder / "home"))

    @contextmanager
    def no_store(self) -> Iterator[Path]:
        """Where a data directory can be made that is not there yet."""
        with self.fresh() as folder:
            yield folder / "home"

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """An empty folder, gone at the end."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.folder) as folder:
            yield Path(folder)

    def generated(self, size: int) -> int:
        """How many vectors of the store of this size are generated."""
        return 0 if self.embed_all else max(size - EMBEDDED, 0)

    def _build(self, home: Path, size: int) -> None:
        began = time.perf_counter()
        made = list(texts.memories(size))
        matrix = self.vectors_of(made)
        self.say(f"building a store of {size:,} memories ({self.generated(size):,} vectors generated)")
        mark(home, whole=False)
        with opened(home) as kernel:
            with kernel.ledger.read() as connection:
                there = connection.execute(select(func.count()).select_from(schema.cubes)).scalar_one()
            write(kernel, SPACE, made[there:], matrix[there:])
            wait_indexed(kernel)
            settle(kernel)
        mark(home, whole=True)
        self.say(f"built in {time.perf_counter() - began:.0f} s")

    def vectors_of(self, made: Sequence[Memory]) -> Matrix:
        """Vectors of memories, shape (n, dimensions): real ones for the first, generated ones for the rest."""
        real = len(made) if self.embed_all else min(EMBEDDED, len(made))
        model = _embedder()
        kept = self.folder / f"vectors-{real}-{model.identity[-8:]}.npy"
        if kept.exists():
            matrix: Matrix = np.load(kept)
        else:
            self.say(f"embedding {real:,} texts")
            matrix = model.embed([memory.text for memory in made[:real]])
            np.save(kept, matrix)
        return _extended(matrix, [memory.text for memory in made])


@cache
def _embedder() -> Embedder:
    return make_embedder("minilm", Path())


def _extended(real: Matrix, said: Sequence[str]) -> Matrix:
    """The real vectors and, for the texts beyond them, generated ones near real ones of the same language."""
    rng = np.random.default_rng(texts.SEED)
    ascii_text = np.array([text.isascii() for text in said])
    matrix = np.empty((len(said), real.shape[1]), dtype=np.float32)
    matrix[: len(real)] = real
    for language in (True, False):
        pool = np.flatnonzero(ascii_text[: len(real)] == language)
        wanted = np.flatnonzero(ascii_text[len(real) :] == language) + len(real)
        if len(wanted):
            near, far = rng.choice(pool, len(wanted)), rng.choice(pool, len(wanted))
            noise = rng.standard_normal((len(wanted), real.shape[1]), dtype=np.float32) / np.sqrt(real.shape[1])
            mixed = (1 - MIXTURE) * real[near] + MIXTURE * real[far] + NOISE * noise
            matrix[wanted] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return matrix


def rebuilt(home: Path, *, resumed: bool = False) -> bool:
    """Whether the store has to be built, because it is not whole or was made otherwise.

    What is there is then gone, unless it was begun as it would be now and can be gone on with (`resumed`).
    """
    fits, whole = built(home)
    if not fits or not (whole or resumed):
        shutil.rmtree(home, ignore_errors=True)
    return not (fits and whole)


def built(home: Path) -> tuple[bool, bool]:
    """Whether a store was begun as it would be now, and whether it is whole."""
    try:
        said = json.loads((home / MARKER).read_text(encoding="utf-8"))
        return said["fingerprint"] == fingerprint(), bool(said["whole"])
    except (OSError, ValueError, KeyError):
        return False, False


def mark(home: Path, *, whole: bool) -> None:
    """Note of what a store is being built, and whether it is."""
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).write_text(json.dumps({"fingerprint": fingerprint(), "whole": whole}), encoding="utf-8")


def fingerprint() -> str:
    """What a store's content depends on: the analysis of words, the index's form and the made-up texts.

    And what has been done about it behind the calls. Not the tables: a store of former ones is migrated when it is
    opened, as a person's is.
    """
    code = [inspect.getsource(part) for part in (dialect.create_full_text, analysis, indexed, settle)]
    made = [repr(memory) for memory in texts.memories(100)]
    rest = [_embedder().identity, str(chroma.HNSW)]
    return hashlib.sha256("\n".join([*code, *made, *rest]).encode()).hexdigest()[:16]


@contextmanager
def opened(home: Path) -> Iterator[Kernel]:
    """The store's kernel in this process, set up as a serving one, with its embedder loaded."""
    take_short_turns()
    kernel = Kernel.open(load({"home": str(home), "principal": PRINCIPAL}, env={}))
    try:
        kernel.api.parts.embedder.get()
        spare_what_is_loaded()
        yield kernel
    finally:
        kernel.close()
        gc.unfreeze()


def caller(space: str = SPACE, principal: str = PRINCIPAL) -> Caller:
    """Who the benchmark acts as, in process."""
    return Caller(principal, space, "bench 1")


def write(kernel: Kernel, space: str, made: Sequence[Memory], matrix: Matrix, principal: str = PRINCIPAL) -> None:
    """Write memories with their vectors into one space, a transaction for many, past the verb add."""
    parts, by = kernel.api.parts, caller(space, principal)
    for start in range(0, len(made), TRANSACTION):
        part = slice(start, start + TRANSACTION)
        with parts.ledger.write() as connection:
            now = parts.stamp()
            target = governance.open_space(connection, by, space, now)
            op = operations.begin("add", by.principal, by.client, now)
            drafts, number = [snapshot(memory) for memory in made[part]], parts.embedder_number()
            cubes, changes = parts.vault.insert(connection, op, target, drafts, list(matrix[part]), number)
            operations.record(connection, op, changes)
        parts.changed(by, cubes[:1], listing=True)


def snapshot(memory: Memory) -> Snapshot:
    """What the ledger keeps of a made-up memory."""
    return Snapshot(
        content=memory.text,
        kind=memory.kind,
        valid_from=parse_instant(memory.time, "time"),
        session=memory.session,
        tags=memory.tags,
        metadata=dict(memory.metadata),
    )


def wait_indexed(kernel: Kernel, limit_s: float = INDEX_WAIT_S) -> float:
    """Wait until no memory waits for its vector and every index is complete; returns the seconds it took.

    Raises:
        TimeoutError: it was not so within `limit_s` seconds.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < limit_s:
        if is_indexed(kernel):
            return time.perf_counter() - began
        time.sleep(0.05)
    raise TimeoutError(f"the index was not complete after {limit_s:.0f} s")


def settle(kernel: Kernel) -> None:
    """Do what works behind the calls would do in the next hours: the graph, the topics, and the memories' life.

    The memories count as looked at for near-duplicates, which takes milliseconds of each: no merger is proposed.
    """
    parts = kernel.api.parts
    parts.weaver.catch_up()
    kernel.segmenter.catch_up()
    if kernel.loop is not None:
        kernel.loop.settle()
    with kernel.ledger.write() as connection:
        kernel.ledger.put(connection, merging.NOTE, str(parts.vault.last(connection)))


def is_indexed(kernel: Kernel) -> bool:
    """Whether background indexing has caught up with the ledger, to within the tail that is searched exactly."""
    number, dimensions = kernel.api.parts.embedder.number()
    with kernel.ledger.read() as connection:
        if vectors.queue_length(connection):
            return False
        upto = vectors.indexed_spaces(connection)
        for space, count in vectors.count_by_space(connection, number).items():
            if count > kernel.settings.index_from and space not in upto:
                return False
            if space in upto:
                tail = vectors.of_spaces(connection, number, [space], dimensions, upto[space], INDEX_TAIL)
                if len(tail.keys) >= INDEX_TAIL:
                    return False
    return True


def server_environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server on this data directory, with no setting of the person who measures."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MEMOS_", "PYTHON"))}
    asked = {f"MEMOS_{key.upper()}": value for key, value in settings.items()}
    return kept | {"MEMOS_HOME": str(home), "MEMOS_PRINCIPAL": PRINCIPAL, "MEMOS_IDLE_EXIT": "900"} | asked
