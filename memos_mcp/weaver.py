"""Keeps the graph of what memories name, and about what they make claims, up with the ledger, behind the calls.

Knows neither verbs nor who may see what. The ledger's own record of changes says what is still to be read, so that an
addition costs nothing more, and reading something twice changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from memos_mcp import entities
from memos_mcp.claims import claim
from memos_mcp.claims.claim import digest
from memos_mcp.cube import Cube
from memos_mcp.entities.naming import key_of, relation_key
from memos_mcp.errors import MemosError
from memos_mcp.ledger import claims, graph
from memos_mcp.ledger.graph import Entry, Upto
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.policies import conflicts
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

RULES = entities.RULES * 1_000 + claim.RULES
"""By which rules memories are read: where others read them, all are read anew."""
BATCH = 64
"""Memories whose names are written in one transaction."""
QUIET_S = 1.0
"""Seconds without a change that the thread waits for, so that it writes beside nobody's additions."""
MOST_WAIT_S = 10.0
"""Seconds after which it begins all the same."""
RETRY_S = 30.0


class Weaver:
    """Background work on the graph. `step_aside()` lets calls in progress go first. Safe to share between threads."""

    def __init__(self, ledger: Ledger, vault: Vault, step_aside: Callable[[], None] = lambda: None) -> None:
        self._ledger, self._vault, self._step_aside = ledger, vault, step_aside
        self._changed = threading.Condition()
        self._working = threading.Lock()
        self._notices = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.busy = False
        """Whether changes are being read, or about to be."""

    def start(self) -> None:
        """Read what the last process left, and go on in a thread of its own."""
        self._notices, self.busy = 1, True
        self._thread = threading.Thread(target=self._run, name="weaver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in progress; may be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def notice(self) -> None:
        """Memories were added or changed; told after the transaction."""
        with self._changed:
            self._notices, self.busy = self._notices + 1, True
            self._changed.notify_all()

    def catch_up(self, limit_s: float | None = None) -> bool:
        """Read every change there is, in the calling thread; False if that took more than `limit_s` seconds.

        Raises:
            StorageFailed: the ledger cannot be written.
        """
        end = None if limit_s is None else time.monotonic() + limit_s
        while self._step():
            if self._stopping or (end is not None and time.monotonic() > end):
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

    def _run(self) -> None:
        retry_s: float | None = None
        while self._wait_for_changes(retry_s):
            retry_s = None
            try:
                while not self._stopping and self._step():
                    self._step_aside()
            except (MemosError, SQLAlchemyError) as error:
                retry_s = RETRY_S
                log.warning("the graph is tried again in %d seconds, or at the next change: %s", RETRY_S, error)

    def _wait_for_changes(self, retry_s: float | None) -> bool:
        """Wait until something changed and nobody changes more, within bounds; False when the work is to end."""
        with self._changed:
            self.busy = self._notices > 0
            self._changed.wait_for(lambda: self._notices or self._stopping, retry_s)
            self.busy, end = True, time.monotonic() + MOST_WAIT_S
            while self._notices and not self._stopping and time.monotonic() < end:
                self._notices = 0
                self._changed.wait_for(lambda: self._notices or self._stopping, QUIET_S)
            self._notices = 0
            return not self._stopping

    def _step(self) -> int:
        """Read the next changes; returns how many there were."""
        with self._working:
            with self._ledger.read() as connection:
                place = graph.upto(connection, RULES)
                met = graph.changed_after(connection, place, BATCH)
                found = self._vault.by_ids(connection, list(dict.fromkeys(cube for _, cube in met)))
            if not met:
                return 0
            entries = [(entry_of(cube), cube.version) for cube in found.values()]
            with self._ledger.write() as connection:
                # Only what is still so: a memory may have been purged, or changed again, which is a later change.
                versions = graph.current(connection, [entry.cube for entry, _ in entries])
                graph.put(connection, [entry for entry, version in entries if versions.get(entry.cube) == version])
                same = [cube for cube in found.values() if versions.get(cube.seq) == cube.version]
                claims.put(connection, {cube.seq: keys_of(cube) for cube in same})
                graph.note(connection, Upto(RULES, *met[-1]))
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
