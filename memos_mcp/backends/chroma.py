"""The vector index in embedded Chroma: a folder and one collection per space.

Knows no memories: keys are the ledger's vector numbers. One process may use a folder at a time. A folder of its own
per space keeps a fault or a rebuild within it, and lets a rebuilt index leave no byte of the old one behind.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from memos_mcp.backends.heap import blank_heap
from memos_mcp.ports import IndexBroken, Matrix, Vector

log = logging.getLogger(__name__)

COLLECTION = "vectors"
OPEN_INDEXES = 8
"""Folders kept open at once: an open one costs about a dozen file descriptors and its vectors' memory."""
HNSW = {"space": "ip", "ef_construction": 128, "ef_search": 400, "max_neighbors": 24}
ADD_BATCH = 500
PROBE_S = 120
_STAMPS = "stamps.json"
_T = TypeVar("_T")


class ChromaIndex:
    """Satisfies the port `VectorIndex`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._folders: dict[int, str] = {}
        self._open: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self._generation = 0

    def verify(self) -> list[int]:
        """Spaces whose folder is not as it was left. After a crash each folder is tried in a process of its own.

        A damaged HNSW file can abort the process that reads it, so no doubtful folder is opened in this one.
        """
        stamps = _read_stamps(self._root)
        broken: list[int] = []
        for folder in sorted(self._root.iterdir()) if self._root.is_dir() else []:
            if not folder.is_dir():
                continue
            space, generation = _parse(folder.name)
            if space is None:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._generation = max(self._generation, generation)
            left_as = stamps.get(folder.name)
            sound = left_as == _stamp(folder) if left_as is not None else _probe(folder)
            if sound and space not in self._folders:
                self._folders[space] = folder.name
            else:
                broken.append(space)
                shutil.rmtree(folder, ignore_errors=True)
        (self._root / _STAMPS).unlink(missing_ok=True)
        return broken

    def size(self, space: int) -> int | None:
        if space not in self._folders:
            return None
        try:
            return self._with(space, lambda collection: int(collection.count()))
        except IndexBroken:
            return None

    def add(self, space: int, keys: Sequence[int], vectors: Matrix) -> None:
        with blank_heap():  # hnswlib writes room for vectors to come as it was given out
            self._with(space, lambda collection: _add(collection, keys, vectors))

    def remove(self, space: int, keys: Sequence[int]) -> None:
        self._with(space, lambda collection: collection.delete(ids=[str(key) for key in keys]))

    def nearest(self, space: int, vector: Vector, count: int) -> list[int]:
        def query(collection: Any) -> list[int]:
            found = collection.query(query_embeddings=vector.reshape(1, -1), n_results=count, include=[])
            return [int(key) for key in found["ids"][0]]

        return self._with(space, query)

    def rebuild(self, space: int, batches: Iterator[tuple[Sequence[int], Matrix]]) -> None:
        with self._lock:
            self._generation += 1
            name = f"{space}-{self._generation}"
        folder = self._root / name
        opened: tuple[Any, Any] = (None, None)
        whole = False
        try:
            with blank_heap(), _as_broken(space):
                opened = _open(folder, create=True)
            for keys, vectors in batches:
                with blank_heap(), _as_broken(space):
                    _add(opened[1], keys, vectors)
            whole = True
        finally:
            if not whole:
                _close(opened[0])
                shutil.rmtree(folder, ignore_errors=True)
        with self._lock:
            old = self._folders.get(space)
            self._shut(space)
            self._folders[space] = name
            self._open[space] = opened
        if old is not None:
            shutil.rmtree(self._root / old, ignore_errors=True)

    def drop(self, space: int) -> None:
        with self._lock:
            self._shut(space)
            folder = self._folders.pop(space, None)
        if folder is not None:
            shutil.rmtree(self._root / folder, ignore_errors=True)

    def close(self) -> None:
        with self._lock:
            for space in list(self._open):
                self._shut(space)
            if self._folders and self._root.is_dir():
                stamps = {name: _stamp(self._root / name) for name in self._folders.values()}
                try:
                    (self._root / _STAMPS).write_text(json.dumps(stamps), encoding="utf-8")
                except OSError as error:
                    log.warning("the index was not stamped (%s): it is examined at the next start", error.strerror)
            self._folders.clear()

    def _with(self, space: int, work: Callable[[Any], _T]) -> _T:
        with _as_broken(space):
            with self._lock:
                collection = self._collection(space)
            return work(collection)

    def _collection(self, space: int) -> Any:
        if space in self._open:
            self._open.move_to_end(space)
            return self._open[space][1]
        name = self._folders.get(space)
        if name is None or not (self._root / name).is_dir():
            raise IndexBroken(space, "its folder is gone")
        self._open[space] = _open(self._root / name, create=False)
        while len(self._open) > OPEN_INDEXES:
            self._shut(next(iter(self._open)))
        return self._open[space][1]

    def _shut(self, space: int) -> None:
        client, _ = self._open.pop(space, (None, None))
        _close(client)


def _open(folder: Path, *, create: bool) -> tuple[Any, Any]:
    import chromadb  # half a second: only stores with a large space pay it
    from chromadb.config import Settings

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    if create:
        return client, client.create_collection(COLLECTION, embedding_function=None, configuration={"hnsw": HNSW})
    return client, client.get_collection(COLLECTION, embedding_function=None)


def _close(client: Any) -> None:
    if client is not None:
        client.close()


def _add(collection: Any, keys: Sequence[int], vectors: Matrix) -> None:
    for start in range(0, len(keys), ADD_BATCH):
        part = slice(start, start + ADD_BATCH)
        collection.upsert(ids=[str(key) for key in keys[part]], embeddings=vectors[part])


@contextmanager
def _as_broken(space: int) -> Iterator[None]:
    """Whatever Chroma raises becomes IndexBroken; a panic of its native part is a BaseException of no name."""
    try:
        yield
    except BaseException as error:
        if _is_chroma(error):
            raise IndexBroken(space, str(error)[:200]) from error
        raise


def _is_chroma(error: BaseException) -> bool:
    """Whether Chroma failed: its own errors, or a panic of its native part, which is no `Exception`."""
    module = type(error).__module__
    return module.startswith(("chromadb", "pyo3_runtime")) or isinstance(error, OSError | ValueError | RuntimeError)


def _parse(name: str) -> tuple[int | None, int]:
    space, _, generation = name.partition("-")
    return (int(space), int(generation)) if space.isdigit() and generation.isdigit() else (None, 0)


def _stamp(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of every file of the folder, by relative path."""
    stamp = {}
    for top, _, names in os.walk(folder):
        for name in names:
            found = (Path(top) / name).stat()
            stamp[str((Path(top) / name).relative_to(folder))] = [found.st_size, found.st_mtime_ns]
    return stamp


def _read_stamps(root: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((root / _STAMPS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _probe(folder: Path) -> bool:
    """Whether a process of its own can open the folder and find its entries where they say they are."""
    command = [sys.executable, "-m", "memos_mcp.backends.chroma_probe", str(folder)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
