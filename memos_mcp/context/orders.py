"""Remembers in which orders sets of memories stood in prompts, so that a set that comes back, or has grown, goes on.

Knows no texts and no server: a memory here is its number and version, and nothing outlives the process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

Step = tuple[int, int]
"""A memory's number and version."""
Order = tuple[tuple[Step, ...], ...]
"""Memories in the order in which they stand, part by part: a part is what joined together."""
MOST = 64
"""Orders remembered of one owner, and owners: about as many prefixes as a server's cache holds."""


class Orders:
    """Orders by their owner. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, OrderedDict[Order, None]] = OrderedDict()
        self._lock = threading.Lock()

    def arrange(self, owner: str, wanted: Sequence[Step]) -> Order:
        """Just these memories, beginning as far as can be like something of the owner's before; the rest behind it as
        they were written. The same set comes in the same order as long as it is remembered."""
        asked = frozenset(wanted)
        with self._lock:
            known = self._known.setdefault(owner, OrderedDict())
            self._known.move_to_end(owner)
            begun = max((_beginning(order, asked) for order in reversed(known)), key=_length, default=())
            rest = tuple(sorted(asked - {step for part in begun for step in part}))
            order = (*begun, rest) if rest else begun
            known[order] = None
            known.move_to_end(order)
            for held in (known, self._known):
                while len(held) > MOST:
                    held.popitem(last=False)
        return order


def _beginning(order: Order, asked: frozenset[Step]) -> Order:
    """The parts, the last of them maybe cut, up to the first memory that was not asked for."""
    found: list[tuple[Step, ...]] = []
    for part in order:
        kept = next((place for place, step in enumerate(part) if step not in asked), len(part))
        if kept:
            found.append(part[:kept])
        if kept < len(part):
            break
    return tuple(found)


def _length(order: Order) -> tuple[int, int]:
    """More memories are better, and of as many those in fewer parts: a cut part would not be the same bytes."""
    return sum(map(len, order)), -len(order)
