"""Decides where in a context tokens are put, so that what a sequence computes does not depend on who else is there.

llama.cpp puts tokens into whichever cells are empty, and attention adds up in the order of cells: after some coming and
going a sequence would stand out of order, and its logits would differ in their last bits. Here the empty cells are
always the last ones: what is given up in the middle stays occupied, by a slot of the dead, until the living are moved
together. So every sequence stands in the order in which it was read. Knows nothing of tokens. One thread uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
"""Cells, or positions, shape (n,)."""

NONE: Numbers = np.empty(0, np.int64)


@dataclass
class Placed:
    """A sequence's tokens: number n stands at position `positions[n]`, ascending, in the cell `cells[n]`."""

    slot: int
    positions: Numbers = field(default_factory=lambda: NONE)
    cells: Numbers = field(default_factory=lambda: NONE)

    @property
    def end(self) -> int:
        """The position behind the last token."""
        return int(self.positions[-1]) + 1 if len(self.positions) else 0


class Context(Protocol):
    """What is needed of llama.cpp's context."""

    cells: int
    dead_slot: int
    spare_slot: int

    def copy(self, source: int, target: int, begin: int, end: int) -> None: ...

    def remove(self, slot: int, begin: int = -1, end: int = -1) -> None: ...

    def clear(self) -> None: ...

    def state(self, slot: int) -> bytearray: ...

    def put_state(self, slot: int, state: NDArray[np.uint8]) -> bool: ...


class CellsFull(Exception):
    """There are not so many cells to be had."""

    def __init__(self, free: int) -> None:
        super().__init__(f"{free} cells are free")
        self.free = free


class Cells:
    """Which cells of a context are occupied, and by how many sequences."""

    def __init__(self, context: Context, everyone: Callable[[], Sequence[Placed]]) -> None:
        self._context, self._everyone = context, everyone
        self._owners = np.zeros(context.cells, np.int64)
        self._top = 0
        self.size = context.cells - 1
        """Cells that may be used: one is for the row that keeps a lone token company."""

    @property
    def used(self) -> int:
        return int(np.count_nonzero(self._owners[: self._top]))

    @property
    def free(self) -> int:
        return self.size - self.used

    def make_room(self, count: int) -> None:
        """See to it that the next `count` tokens find cells in a row. Raises `CellsFull`."""
        if count > self.free:
            raise CellsFull(self.free)
        if self._top + count > self.size:
            self._move_together()

    def take(self, placed: Placed, positions: Numbers) -> None:
        """Note that tokens were put at a sequence's end."""
        taken = np.arange(self._top, self._top + len(positions), dtype=np.int64)
        self._owners[taken] = 1
        self._top += len(positions)
        placed.positions = np.concatenate([placed.positions, positions])
        placed.cells = np.concatenate([placed.cells, taken])

    def share(self, source: Placed, target: Placed, count: int) -> None:
        """Let an empty sequence begin with another's first `count` tokens."""
        target.positions, target.cells = source.positions[:count].copy(), source.cells[:count].copy()
        if count:
            self._owners[target.cells] += 1
            self._context.copy(source.slot, target.slot, 0, target.end)

    def shared(self, placed: Placed) -> bool:
        """Whether another sequence has some of its cells."""
        return bool((self._owners[placed.cells] > 1).any())

    def give_up(self, placed: Placed, gone: NDArray[np.bool_]) -> None:
        """Take tokens from a sequence: those where `gone`, shape (its tokens,), is true."""
        out = np.flatnonzero(gone)
        self._owners[placed.cells[out]] -= 1
        loose = out[self._owners[placed.cells[out]] == 0]
        top = self._without_tail(np.sort(placed.cells[loose]))
        for run in _runs(loose[placed.cells[loose] < top]):
            begin, end = int(placed.positions[run[0]]), int(placed.positions[run[-1]]) + 1
            self._context.copy(placed.slot, self._context.dead_slot, begin, end)
        for run in _runs(out):
            self._context.remove(placed.slot, int(placed.positions[run[0]]), int(placed.positions[run[-1]]) + 1)
        self._top = top
        placed.positions, placed.cells = placed.positions[~gone], placed.cells[~gone]
        if self._top and not self.used:
            self._context.clear()
            self._top = 0

    def hand_over(self, source: Placed, target: Placed) -> None:
        """Note that the target's slot shares the source's cells behind its own; the source is empty then."""
        target.positions = np.concatenate([target.positions, source.positions])
        target.cells = np.concatenate([target.cells, source.cells])
        self._context.remove(source.slot)
        source.positions = source.cells = NONE

    def _without_tail(self, loose: Numbers) -> int:
        """The number of occupied cells once the last ones, as far as they are loose, are empty."""
        from_top = self._top - 1 - np.arange(len(loose))
        tail = loose[::-1] == from_top
        return self._top - (len(loose) if tail.all() else int(tail.argmin()))

    def _move_together(self) -> None:
        """Put the living side by side, in the order in which they stand, sharing what they share."""
        everyone = [placed for placed in self._everyone() if len(placed.cells)]
        parts = [(owners, cells, self._copy_out(owners[0], cells)) for owners, cells in self._parts(everyone)]
        self._context.clear()
        moved = np.full(len(self._owners), -1, np.int64)
        spare, top = self._context.spare_slot, 0
        for owners, cells, state in parts:
            if not self._context.put_state(spare, np.frombuffer(state, np.uint8)):
                raise CellsFull(0)
            for owner in owners:
                self._context.copy(spare, owner.slot, -1, -1)
            self._context.remove(spare)
            moved[cells] = np.arange(top, top + len(cells))
            top += len(cells)
        counts = self._owners.copy()
        self._owners[:] = 0
        for _, cells, _ in parts:
            self._owners[moved[cells]] = counts[cells]
        for placed in everyone:
            placed.cells = moved[placed.cells]
        self._top = top

    def _parts(self, everyone: Sequence[Placed]) -> list[tuple[list[Placed], Numbers]]:
        """Living cells in their order, cut where the owners change or the first owner's tokens do not follow."""
        owners: dict[int, list[int]] = {}
        ranks: dict[int, int] = {}
        for number, placed in enumerate(everyone):
            for rank, cell in enumerate(placed.cells.tolist()):
                owners.setdefault(cell, []).append(number)
                ranks.setdefault(cell, rank)
        parts: list[tuple[list[int], list[int]]] = []
        for cell in sorted(owners):
            last = parts[-1] if parts else None
            if last is not None and last[0] == owners[cell] and ranks[cell] == ranks[last[1][-1]] + 1:
                last[1].append(cell)
            else:
                parts.append((owners[cell], [cell]))
        return [([everyone[number] for number in who], np.array(cells, np.int64)) for who, cells in parts]

    def _copy_out(self, owner: Placed, cells: Numbers) -> bytearray:
        """The state of a stretch of a sequence."""
        places = owner.positions[np.isin(owner.cells, cells)]
        spare = self._context.spare_slot
        self._context.copy(owner.slot, spare, int(places[0]), int(places[-1]) + 1)
        state = self._context.state(spare)
        self._context.remove(spare)
        return state


def _runs(numbers: Numbers) -> list[Numbers]:
    """Ascending numbers, cut where one is not the next; no run for none."""
    if not len(numbers):
        return []
    return np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
