"""Decides what becomes of a document's memories when the document is kept again: pure, each node with its part.

Knows no ledger: the memories that are held and the nodes that are wanted are given to it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence

from memos_mcp.documents.position import DOCUMENT, Position

Sketch = tuple[str, Position]
"""A node's text in its source, or what stands for that text, and where it stands."""


def matched(held: Sequence[Sketch], wanted: Sequence[Sketch]) -> list[int | None]:
    """For each wanted node the place of the held one that it continues; None where it is new.

    The document's own nodes belong together. Of the others first those with the same text do, within the same
    heading before elsewhere, then those under the same heading, in their order: what is edited stays the same memory.
    A held node continues in one wanted node at most; those that continue in none are no longer in the document.
    """
    found: list[int | None] = [None] * len(wanted)
    free = dict.fromkeys(range(len(held)))
    for key in (_own, _text_and_place, _text, _place):
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for i in free:
            if (name := key(held[i])) is not None:
                waiting[name].append(i)
        for j, sketch in enumerate(wanted):
            name = key(sketch) if found[j] is None else None
            if name is not None and waiting[name]:
                place = waiting[name].popleft()
                found[j] = place
                del free[place]
    return found


def _own(sketch: Sketch) -> Hashable:
    return DOCUMENT if sketch[1].node == DOCUMENT else None


def _text_and_place(sketch: Sketch) -> Hashable:
    return (sketch[0], _place(sketch)) if sketch[1].node != DOCUMENT else None


def _text(sketch: Sketch) -> Hashable:
    return sketch[0] if sketch[1].node != DOCUMENT else None


def _place(sketch: Sketch) -> Hashable:
    return (sketch[1].node, sketch[1].headings) if sketch[1].node != DOCUMENT else None
