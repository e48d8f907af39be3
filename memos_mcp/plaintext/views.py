"""Keeps the views of the spaces that are asked, and brings them up to date when they are asked again.

Knows nothing of questions. Safe to share between threads. The view of a large space is made behind the calls.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection

from memos_mcp.errors import StorageFailed
from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.facts import Row
from memos_mcp.plaintext.view import View, empty, renewed

log = logging.getLogger(__name__)

LIMIT_BYTES = 160 << 20
AT_ONCE = 20_000
"""Memories that a question waits for, should their words not be in memory yet: under half a second."""
PAGE = 1_000
"""Memories read at a time behind the calls."""


class Views:
    """Views by space, bounded in bytes, least recently used out first. `step_aside` waits for questions in progress."""

    def __init__(
        self, ledger: Ledger, step_aside: Callable[[], None] = lambda: None, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self._ledger, self._step_aside, self._limit = ledger, step_aside, limit_bytes
        self._lock = threading.Lock()
        self._views: OrderedDict[int, View] = OrderedDict()
        self._changed: dict[int, set[int]] = {}
        self._counted: dict[int, int] = {}
        self._making: dict[int, object] = {}
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._closed = False

    @property
    def making(self) -> bool:
        """Whether a view is being made behind the calls."""
        return bool(self._making)

    def touch(self, space: int, seqs: Sequence[int]) -> None:
        """Memories of the space were changed or erased; told after the transaction."""
        with self._lock:
            if space in self._views or space in self._making:
                self._changed.setdefault(space, set()).update(seqs)

    def clear(self) -> None:
        """Forget every view."""
        with self._lock:
            self._views.clear()
            self._changed.clear()
            self._making.clear()

    def close(self) -> None:
        """End the work behind the calls; views may still be asked for."""
        self._closed = True
        self._maker.shutdown()

    def of(self, connection: Connection, held: Mapping[int, int]) -> list[View] | None:
        """The views of these spaces, as the connection's transaction sees them, or newer.

        `held` tells about how many memories each space has. None while a large one is being made.
        """
        newest = dialect.sequence(connection, "cubes")
        with self._lock:
            far = [space for space, count in held.items() if self._is_far(space, count)]
            for space in far:
                self._make_behind(space, held[space])
            if far:
                return None
            late = [space for space in held if self._is_late(space, newest)]
            if late:
                # read on a connection of its own: what was changed before this moment is seen by it
                with self._ledger.read() as fresh:
                    self._bring_up(fresh, late)
                self._counted.update({space: held[space] for space in late})
            for space in held:
                self._views.move_to_end(space)
            found = [self._views[space] for space in held]
            self._shrink()
        return found

    def _is_late(self, space: int, newest: int) -> bool:
        view = self._views.get(space)
        return view is None or view.upto < newest or bool(self._changed.get(space))

    def _is_far(self, space: int, count: int) -> bool:
        """Whether more is to be read than a question waits for; `count` includes memories that are over."""
        view = self._views.get(space)
        if view is None or view.is_due:
            return count > AT_ONCE
        return count - self._counted[space] > AT_ONCE

    def _bring_up(self, connection: Connection, late: Sequence[int]) -> None:
        newest = dialect.sequence(connection, "cubes")
        known = {space: view for space in late if (view := self._views.get(space)) is not None and not view.is_due}
        after = min((view.upto for view in known.values()), default=0)
        fresh = _by_space(dialect.indexed_rows(connection, list(known), after=after)) if known else {}
        for space in late:
            gone = self._changed.pop(space, set())
            view = known.get(space)
            if view is None:
                rows = _by_space(dialect.indexed_rows(connection, [space])).get(space, [])
                self._views[space] = renewed(empty(0), (), rows, newest)
                continue
            rows = [row for row in fresh.get(space, ()) if row.seq > view.upto]
            changed = {seq for seq in gone if seq <= view.upto}
            if changed:
                rows = _by_space(dialect.indexed_rows(connection, [space], seqs=sorted(changed))).get(space, []) + rows
            self._views[space] = renewed(view, changed, rows, newest)

    def _make_behind(self, space: int, count: int) -> None:
        if space in self._making or self._closed:
            return
        # from here on what is changed is noted; what was changed before is seen by what is read from now on
        self._views.pop(space, None)
        self._changed.pop(space, None)
        self._counted[space] = count
        self._making[space] = asked = object()
        self._maker.submit(self._make, space, asked)

    def _make(self, space: int, asked: object) -> None:
        made = None
        try:
            made = self._read(space, asked)
        except StorageFailed as error:
            log.warning("the words of space %s are not in memory: %s", space, error)
        with self._lock:
            if self._making.get(space) is asked:
                del self._making[space]
                if made is not None:
                    self._views[space] = made

    def _read(self, space: int, asked: object) -> View | None:
        """The view of a space, read page by page; None when it is not wanted any more."""
        with self._ledger.read() as connection:
            newest = dialect.sequence(connection, "cubes")
        view, last = empty(newest), 0
        while last < newest:
            self._step_aside()
            if self._closed or self._making.get(space) is not asked:
                return None
            with self._ledger.read() as connection:
                read = _by_space(dialect.indexed_rows(connection, [space], after=last, limit=PAGE)).get(space, [])
            rows = [row for row in read if row.seq <= newest]
            view = renewed(view, (), rows, newest)
            last = rows[-1].seq if len(rows) == PAGE else newest
        return view.in_one()

    def _shrink(self) -> None:
        held = sum(view.nbytes for view in self._views.values())
        while held > self._limit and len(self._views) > 1:
            space, view = self._views.popitem(last=False)
            self._changed.pop(space, None)
            held -= view.nbytes


def _by_space(found: Sequence[tuple[int, int, str | None, str, str]]) -> dict[int, list[Row]]:
    rows: dict[int, list[Row]] = {}
    for space, seq, session, becomes_true, text in found:
        rows.setdefault(space, []).append(Row(seq, session, becomes_true, text))
    return rows
