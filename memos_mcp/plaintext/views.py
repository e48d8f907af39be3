"""Keeps the views of the spaces that are asked, and brings them up to date when they are asked again.

Knows nothing of questions. Safe to share between threads. The view of a large space is made behind the calls; small
spaces that are asked together have one view together, for many views cost a question more than many memories.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from sqlalchemy import Connection

from memos_mcp.errors import StorageFailed
from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.plaintext.facts import Row
from memos_mcp.plaintext.view import Making, View, renewed, viewed

log = logging.getLogger(__name__)

LIMIT_BYTES = 160 << 20
AT_ONCE = 20_000
"""Memories that a question waits for, should their words not be in memory yet: under half a second."""
SMALL = 2_000
"""Memories up to which a space has no view of its own when others are asked with it."""
PAGE = 2_000
"""Memories read at a time behind the calls."""
SINGLES_BYTES = 32 << 20
"""Of the views of single memories of other spaces, which somebody shared or published."""
Group = tuple[int, ...]
"""Numbers of spaces that have a view together, ascending."""


class Views:
    """Views by group of spaces, bounded in bytes, least recently used out first.

    `maker` makes those of large spaces, and `step_aside` waits for questions in progress.
    """

    def __init__(
        self,
        ledger: Ledger,
        maker: Executor,
        step_aside: Callable[[], None] = lambda: None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._ledger, self._maker, self._step_aside, self._limit = ledger, maker, step_aside, limit_bytes
        self._lock = threading.Lock()
        self._views: OrderedDict[Group, View] = OrderedDict()
        self._singles: OrderedDict[tuple[int, ...], tuple[frozenset[int], View]] = OrderedDict()
        self._changed: dict[Group, set[int]] = {}
        self._counted: dict[Group, int] = {}
        self._making: dict[Group, object] = {}
        self._closed = False

    @property
    def making(self) -> bool:
        """Whether a view is being made behind the calls."""
        return bool(self._making)

    @property
    def held(self) -> list[Group]:
        """The spaces whose words are in memory, those that have a view together in one group."""
        with self._lock:
            return list(self._views)

    def touch(self, space: int, seqs: Sequence[int]) -> None:
        """Memories of the space were changed or erased; told after the transaction."""
        with self._lock:
            for group in (*self._views, *self._making):
                if space in group:
                    self._changed.setdefault(group, set()).update(seqs)
            for key in [key for key, (held, _) in self._singles.items() if not held.isdisjoint(seqs)]:
                del self._singles[key]

    def clear(self) -> None:
        """Forget every view."""
        with self._lock:
            self._views.clear()
            self._singles.clear()
            self._changed.clear()
            self._making.clear()

    def close(self) -> None:
        """Let the work behind the calls end; views may still be asked for."""
        self._closed = True

    def of(self, held: Mapping[int, int], newest: int) -> list[View] | None:
        """The views of these spaces, with every memory up to the number `newest`, and maybe newer ones.

        `held` tells about how many memories each space has. None while a large one is being made.
        """
        groups = _grouped(held)
        with self._lock:
            far = [group for group, count in groups.items() if self._is_far(group, count)]
            for group in far:
                self._make_behind(group, groups[group])
            if far:
                return None
            late = [group for group in groups if self._is_late(group, newest)]
            if late:
                # read on a connection of its own: what was changed before this moment is seen by it
                with self._ledger.read() as fresh:
                    self._bring_up(fresh, late)
                self._counted.update({group: groups[group] for group in late})
            for group in groups:
                self._views.move_to_end(group)
            found = [self._views[group] for group in groups]
            self._shrink()
        return found

    def of_singles(self, seqs: tuple[int, ...]) -> View:
        """A view of those of these memories that stand, of any spaces, as they are now. A question waits for it."""
        with self._lock:
            found = self._singles.get(seqs)
            if found is None:
                with self._ledger.read() as fresh:
                    newest = dialect.sequence(fresh, "cubes")
                    rows = _rows((), dialect.indexed_rows_of(fresh, seqs))
                found = self._singles[seqs] = frozenset(seqs), viewed(rows, newest)
            self._singles.move_to_end(seqs)
            size = sum(view.nbytes for _, view in self._singles.values())
            while size > SINGLES_BYTES and len(self._singles) > 1:
                _, (_, view) = self._singles.popitem(last=False)
                size -= view.nbytes
        return found[1]

    def _is_late(self, group: Group, newest: int) -> bool:
        view = self._views.get(group)
        return view is None or view.upto < newest or bool(self._changed.get(group))

    def _is_far(self, group: Group, count: int) -> bool:
        """Whether more is to be read than a question waits for; `count` includes memories that are over."""
        view = self._views.get(group)
        if view is None or view.is_due:
            return count > AT_ONCE
        return count - self._counted[group] > AT_ONCE

    def _bring_up(self, connection: Connection, late: Sequence[Group]) -> None:
        newest = dialect.sequence(connection, "cubes")
        for group in late:
            gone, view = self._changed.pop(group, set()), self._views.get(group)
            if view is None or view.is_due:
                rows = _rows(group, dialect.indexed_rows(connection, group))
                self._views[group] = viewed(rows, newest)
                continue
            rows = _rows(group, dialect.indexed_rows(connection, group, after=view.upto))
            changed = {seq for seq in gone if seq <= view.upto}
            if changed:
                rows = _rows(group, dialect.indexed_rows(connection, group, seqs=sorted(changed))) + rows
            self._views[group] = renewed(view, changed, rows, newest)

    def _make_behind(self, group: Group, count: int) -> None:
        if group in self._making or self._closed:
            return
        # from here on what is changed is noted; what was changed before is seen by what is read from now on
        self._views.pop(group, None)
        self._changed.pop(group, None)
        self._counted[group] = count
        self._making[group] = asked = object()
        self._maker.submit(self._make, group, asked)

    def _make(self, group: Group, asked: object) -> None:
        made = None
        try:
            made = self._read(group, asked)
        except StorageFailed as error:
            log.warning("the words of spaces %s are not in memory: %s", group, error)
        with self._lock:
            if self._making.get(group) is asked:
                del self._making[group]
                if made is not None:
                    self._views[group] = made

    def _read(self, group: Group, asked: object) -> View | None:
        """The view of a group, read page by page; None when it is not wanted any more."""
        with self._ledger.read() as connection:
            newest = dialect.sequence(connection, "cubes")
        making, last = Making(), 0
        while last < newest:
            self._step_aside()
            if self._closed or self._making.get(group) is not asked:
                return None
            with self._ledger.read() as connection:
                read = dialect.indexed_rows(connection, group, after=last, limit=PAGE)
            rows = [row for row in _rows(group, read) if row.seq <= newest]
            making.add(rows)
            last = rows[-1].seq if len(rows) == PAGE else newest
        return making.made(newest)

    def _shrink(self) -> None:
        held = sum(view.nbytes for view in self._views.values())
        while held > self._limit and len(self._views) > 1:
            group, view = self._views.popitem(last=False)
            self._changed.pop(group, None)
            held -= view.nbytes


def _grouped(held: Mapping[int, int]) -> dict[Group, int]:
    """Groups of these spaces, given with the number of their memories, and how many each group has."""
    groups: dict[Group, int] = {(space,): count for space, count in held.items() if count > SMALL}
    small = sorted(space for space, count in held.items() if count <= SMALL)
    if small:
        groups[tuple(small)] = sum(held[space] for space in small)
    return groups


def _rows(group: Group, found: Sequence[dialect.Indexed]) -> list[Row]:
    """Memories as a view takes them; where spaces are together, a session is one of its space."""
    if len(group) == 1:
        return [Row(*one[1:]) for one in found]
    return [
        Row(seq, session and f"{space} {session}", becomes_true, text)
        for space, seq, session, becomes_true, text in found
    ]
