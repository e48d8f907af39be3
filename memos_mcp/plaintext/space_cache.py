"""Keeps the vectors of spaces in memory as last read, so that a search reads only newer and changed ones.

Knows nothing of questions. An entry has a large part and a small one of the newest, so that an addition copies little;
it holds one space, or many small ones that are asked together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from memos_mcp.ledger import vectors
from memos_mcp.ledger.vectors import Stored
from memos_mcp.plaintext.signatures import Signatures

CACHE_BYTES = 96 << 20
LARGEST_BYTES = 512 << 20
"""Bytes up to which one space is kept whole while its index is being built."""
SMALL = 256
"""Vectors of the small part from which on they join the large one."""
SINGLES_BYTES = 16 << 20
"""Of the vectors of single memories of other spaces."""
MOST_TOUCHES = 64
"""Changes of a space that are remembered; an entry that missed more is read anew."""


Marks = tuple[int, ...]


@dataclass(frozen=True)
class _Entry:
    """`marks`: the last change of each of its spaces that it knows; `last`: the vector up to which it was read."""

    marks: Marks
    last: int
    large: Stored
    small: Stored

    @property
    def nbytes(self) -> int:
        return self.large.matrix.nbytes + self.small.matrix.nbytes

    @property
    def parts(self) -> tuple[Stored, ...]:
        return tuple(part for part in (self.large, self.small) if len(part.keys))


class SpaceCache:
    """Bounded in bytes, least recently used out first. Safe to share between threads.

    `signatures` are of the same vectors, and forgotten with them.
    """

    def __init__(self, signatures: Signatures, limit_bytes: int = CACHE_BYTES) -> None:
        self.signatures, self._limit = signatures, limit_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[tuple[int, ...], int, int, bool], _Entry] = OrderedDict()
        self._singles: OrderedDict[tuple[int, tuple[int, ...]], Stored] = OrderedDict()
        self._marks: dict[int, int] = {}
        self._touches: dict[int, deque[tuple[int, tuple[int, ...]]]] = {}

    def touch(self, space: int, cubes: Sequence[int]) -> None:
        """These memories of the space lost or changed their vectors; told after the transaction."""
        self.signatures.touch(space, cubes)
        with self._lock:
            mark = self._marks[space] = self._marks.get(space, 0) + 1
            self._touches.setdefault(space, deque(maxlen=MOST_TOUCHES)).append((mark, tuple(cubes)))
            for key in [key for key, stored in self._singles.items() if np.isin(stored.cubes, cubes).any()]:
                del self._singles[key]

    def clear(self) -> None:
        """Forget every entry."""
        self.signatures.clear()
        with self._lock:
            self._entries.clear()
            self._singles.clear()
            self._touches.clear()
            self._marks = {space: mark + 1 for space, mark in self._marks.items()}

    def forget(self, space: int) -> None:
        """Let a space's vectors go: its index serves from now on."""
        with self._lock:
            for key in [key for key in self._entries if space in key[0]]:
                del self._entries[key]

    def of_space(
        self, connection: Connection, embedder: int, space: int, dimensions: int, after: int = 0, *, half: bool = False
    ) -> tuple[Stored, ...]:
        """The space's current vectors above number `after`, in parts, as the transaction sees them, or newer.

        `half`: in half precision, to look single ones up.
        """
        return self.of_spaces(connection, embedder, (space,), dimensions, after, half=half)

    def of_spaces(
        self,
        connection: Connection,
        embedder: int,
        spaces: tuple[int, ...],
        dimensions: int,
        after: int = 0,
        *,
        half: bool = False,
    ) -> tuple[Stored, ...]:
        """The current vectors of spaces that are asked together, as `of_space` gives those of one."""
        key = (spaces, embedder, after, half)
        with self._lock:
            marks, entry = self._marks_of(spaces), self._entries.get(key)
            changed = self._changed_since(spaces, entry.marks, marks) if entry is not None else None
            if entry is not None:
                self._entries.move_to_end(key)
        if entry is None or changed is None:
            large = vectors.of_spaces(connection, embedder, spaces, dimensions, after=after)
            last = int(large.keys.max(initial=after))
            large = _halved(large) if half else large
            entry = _Entry(marks, last, large, _without(large, large.cubes))
        else:
            tail = vectors.of_spaces(connection, embedder, spaces, dimensions, after=entry.last)
            again = vectors.of_cubes(connection, embedder, sorted(changed), dimensions) if changed else None
            if not len(tail.keys) and again is None:
                return entry.parts
            entry = _newer(entry, marks, changed, tail, again, after, half=half)
        with self._lock:
            fits = len(spaces) == 1 or entry.nbytes <= self._limit
            if fits and self._marks_of(spaces) == marks:
                self._entries[key] = entry
                self._entries.move_to_end(key)
                self._shrink()
        return entry.parts

    def of_singles(
        self, connection: Connection, embedder: int, cubes: tuple[int, ...], dimensions: int
    ) -> Stored:
        """The current vectors of single memories of any spaces, kept once each of them has one."""
        key = (embedder, cubes)
        with self._lock:
            marks, found = dict(self._marks), self._singles.get(key)
            if found is not None:
                self._singles.move_to_end(key)
                return found
        found = vectors.of_cubes(connection, embedder, cubes, dimensions)
        with self._lock:
            if len(found.keys) == len(cubes) and marks == self._marks:
                self._singles[key] = found
                held = sum(stored.matrix.nbytes for stored in self._singles.values())
                while held > SINGLES_BYTES and len(self._singles) > 1:
                    held -= self._singles.popitem(last=False)[1].matrix.nbytes
        return found

    def _marks_of(self, spaces: tuple[int, ...]) -> Marks:
        return tuple(self._marks.get(space, 0) for space in spaces)

    def _changed_since(self, spaces: tuple[int, ...], known: Marks, marks: Marks) -> set[int] | None:
        """The memories that changed after the changes `known`; None when that is not remembered."""
        changed: set[int] = set()
        for space, seen, mark in zip(spaces, known, marks, strict=True):
            if seen == mark:
                continue
            touches = self._touches.get(space, ())
            if not touches or touches[0][0] > seen + 1:
                return None
            changed.update(cube for number, cubes in touches if number > seen for cube in cubes)
        return changed

    def _shrink(self) -> None:
        # one large space stays while it has no index: reading it for every search takes seconds
        held = sum(entry.nbytes for entry in self._entries.values())
        while held > self._limit and (len(self._entries) > 1 or held > LARGEST_BYTES):
            _, entry = self._entries.popitem(last=False)
            held -= entry.nbytes


def _newer(
    entry: _Entry, marks: Marks, changed: set[int], tail: Stored, again: Stored | None, after: int, *, half: bool
) -> _Entry:
    """The entry with what was written since (`tail`), and what changed as it is now (`again`)."""
    gone = np.array([*changed, *tail.cubes.tolist()], dtype=np.int64)
    large, small = _without(entry.large, gone), _without(entry.small, gone)
    added = [tail]
    if again is not None:
        kept = (again.keys > after) & (again.keys <= entry.last)
        added.append(Stored(again.keys[kept], again.cubes[kept], again.matrix[kept]))
    small = joined([small, *(_halved(part) if half else part for part in added)])
    last = int(tail.keys.max(initial=entry.last))
    if len(small.keys) > SMALL:
        large, small = joined([large, small]), _without(small, small.cubes)
    return _Entry(marks, last, large, small)


def joined(parts: Sequence[Stored]) -> Stored:
    """Parts, of which there is at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    return Stored(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.cubes for part in parts]),
        np.concatenate([part.matrix for part in parts]),
    )


def _without(stored: Stored, cubes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Stored:
    if not len(cubes) or not len(stored.cubes) or cubes.min() > stored.cubes.max():
        return stored  # nearly always: what is new is of memories that are new
    kept = ~np.isin(stored.cubes, cubes)
    return stored if kept.all() else Stored(stored.keys[kept], stored.cubes[kept], stored.matrix[kept])


def _halved(stored: Stored) -> Stored:
    return Stored(stored.keys, stored.cubes, stored.matrix.astype(vectors.HALF))
