"""Keeps the views of the spaces that are asked, and brings them up to date when they are asked again.

Knows nothing of questions. Safe to share between threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy import Connection

from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.view import TAIL, Row, View, is_due, renewed, viewed

LIMIT_BYTES = 64 << 20


class Views:
    """Views by space, bounded in bytes, least recently used out first."""

    def __init__(self, ledger: Ledger, limit_bytes: int = LIMIT_BYTES) -> None:
        self._ledger, self._limit = ledger, limit_bytes
        self._lock = threading.Lock()
        self._views: OrderedDict[int, View] = OrderedDict()
        self._changed: dict[int, set[int]] = {}

    def touch(self, space: int, seqs: Sequence[int]) -> None:
        """Memories of the space were changed or erased; told after the transaction."""
        with self._lock:
            if space in self._views:
                self._changed.setdefault(space, set()).update(seqs)

    def clear(self) -> None:
        """Forget every view."""
        with self._lock:
            self._views.clear()
            self._changed.clear()

    def of(self, connection: Connection, space_ids: Sequence[int]) -> list[View]:
        """The views of these spaces, as the connection's transaction sees them, or newer."""
        newest = dialect.sequence(connection, "cubes")
        with self._lock:
            late = [space for space in space_ids if self._is_late(space, newest)]
            if late:
                # read on a connection of its own: what was changed before this moment is seen by it
                with self._ledger.read() as fresh:
                    self._bring_up(fresh, late)
            for space in space_ids:
                self._views.move_to_end(space)
            found = [self._views[space] for space in space_ids]
            self._shrink()
        return found

    def _is_late(self, space: int, newest: int) -> bool:
        view = self._views.get(space)
        return view is None or view.upto < newest or bool(self._changed.get(space))

    def _bring_up(self, connection: Connection, late: Sequence[int]) -> None:
        newest = dialect.sequence(connection, "cubes")
        known = {space: self._views[space] for space in late if space in self._views}
        after = min((view.upto for view in known.values()), default=0)
        fresh = _by_space(dialect.indexed_rows(connection, list(known), after=after)) if known else {}
        for space, view in known.items():
            gone = {seq for seq in self._changed.pop(space, ()) if seq <= view.upto}
            rows = [row for row in fresh.get(space, ()) if row.seq > view.upto]
            newer = None
            if len(gone) + len(rows) <= TAIL:
                if gone:
                    rows = self._again(connection, space, gone) + rows
                newer = renewed(view, gone, rows, newest)
            self._views[space] = newer if newer is not None and not is_due(newer) else self._new(connection, space)
        for space in late:
            if space not in known:
                self._views[space] = self._new(connection, space)

    def _again(self, connection: Connection, space: int, seqs: set[int]) -> list[Row]:
        return _by_space(dialect.indexed_rows(connection, [space], seqs=sorted(seqs))).get(space, [])

    def _new(self, connection: Connection, space: int) -> View:
        newest = dialect.sequence(connection, "cubes")
        return viewed(_by_space(dialect.indexed_rows(connection, [space], after=0)).get(space, ()), newest)

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
