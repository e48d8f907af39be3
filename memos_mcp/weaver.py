"""Keeps the graph of what memories name, and about what they make claims, up with the ledger, behind the calls.

Knows neither verbs nor who may see what. The ledger's own record of changes says what is still to be read, so that an
addition costs nothing more, and reading something twice changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from memos_mcp import entities
from memos_mcp.claims import claim
from memos_mcp.claims.claim import digest
from memos_mcp.cube import Cube
from memos_mcp.entities.naming import key_of, relation_key
from memos_mcp.follower import Follower
from memos_mcp.ledger import claims, graph, progress
from memos_mcp.ledger.graph import Entry
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.progress import Upto
from memos_mcp.policies import conflicts
from memos_mcp.vault import Vault

RULES = entities.RULES * 1_000 + claim.RULES
"""By which rules memories are read: where others read them, all are read anew."""
BATCH, BESIDE = 64, 8
"""Memories whose names are written in one transaction: by a caller who waits for it, and beside other calls."""
QUIET_S = 1.0
"""Seconds without a change that the thread waits for, so that it writes beside nobody's additions."""
MOST_WAIT_S = 10.0
"""Seconds after which it begins all the same."""


@dataclass(frozen=True)
class _Read:
    """What a version of a memory names and states, and under which keys it makes claims."""

    entry: Entry
    version: int
    keys: list[int]


class Weaver:
    """Background work on the graph. `step_aside()` lets calls in progress go first. Safe to share between threads."""

    def __init__(self, ledger: Ledger, vault: Vault, step_aside: Callable[[], None] = lambda: None) -> None:
        self._ledger, self._vault, self._step_aside = ledger, vault, step_aside
        self._working = threading.Lock()
        self._follower = Follower("weaver", self._work, quiet_s=QUIET_S, most_wait_s=MOST_WAIT_S)
        self.start, self.stop, self.notice = self._follower.start, self._follower.stop, self._follower.notice

    @property
    def busy(self) -> bool:
        """Whether changes are being read, or about to be."""
        return self._follower.busy

    def catch_up(self, limit_s: float | None = None) -> bool:
        """Read every change there is, in the calling thread; False if that took more than `limit_s` seconds.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        end = None if limit_s is None else time.monotonic() + limit_s
        while self._step():
            if self._follower.stopping or (end is not None and time.monotonic() > end):
                return False
        return True

    def rebuild(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Forget the graph and read every memory anew. Raises as `catch_up` does."""
        with self._working, self._ledger.write() as connection:
            graph.clear(connection)
            total = self._vault.count(connection)
        done = 0
        while read := self._step():
            done += read
            progress(min(done, total), total)
        if done < total:  # some were read behind this call
            progress(total, total)

    def _work(self) -> None:
        while not self._follower.stopping and self._step(self._step_aside):
            pass

    def _step(self, step_aside: Callable[[], None] | None = None) -> int:
        """Read the next changes; returns how many there were.

        With `step_aside()`, which comes before each memory, in short steps: reading takes the interpreter from whoever
        asks, and writing the ledger.
        """
        batch = BATCH if step_aside is None else BESIDE
        with self._working:
            with self._ledger.read() as connection:
                place = progress.upto(connection, graph.NOTE, RULES)
                met = progress.changed_after(connection, place, batch, versions=True)
                found = self._vault.by_ids(connection, list(dict.fromkeys(cube for _, cube in met)))
            if not met:
                return 0
            read = []
            for cube in found.values():
                if step_aside is not None:
                    step_aside()
                read.append(_Read(entry_of(cube), cube.version, keys_of(cube)))
            with self._ledger.write() as connection:
                # Only what is still so: a memory may have been purged, or changed again, which is a later change.
                versions = graph.current(connection, [one.entry.cube for one in read])
                same = [one for one in read if versions.get(one.entry.cube) == one.version]
                graph.put(connection, [one.entry for one in same])
                claims.put(connection, {one.entry.cube: one.keys for one in same})
                progress.note(connection, graph.NOTE, Upto(RULES, *met[-1]))
            return len(met)


def keys_of(cube: Cube) -> list[int]:
    """About what a memory makes claims, as the ledger keeps it; that it stands is asked of it when they are read."""
    if cube.snapshot.kind not in conflicts.NEWS:
        return []
    keys = (one.key for one in conflicts.claimed(cube.snapshot).claims)
    return [digest(cube.space, key) for key in dict.fromkeys(keys)]


def entry_of(cube: Cube) -> Entry:
    """What a memory names and states, as the ledger keeps it."""
    found = entities.found_in(cube.snapshot)
    names = {key_of(named.name): (key_of(named.name), named.name, named.kind) for named in found.names}
    stated = tuple(
        (key_of(one.subject), relation_key(one.relation), key_of(one.object), one.since, one.until)
        for one in found.stated
        if {key_of(one.subject), key_of(one.object)} <= names.keys()
    )
    return Entry(cube.seq, cube.space, tuple(names.values()), stated)
