"""Which of the known sequences share the longest beginning with a wanted one: a tree with a node a memory.

Knows neither texts nor states: a step is anything that can be compared, a holder anything that names a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Step = TypeVar("Step", bound=Hashable)
Holder = TypeVar("Holder", bound=Hashable)


@dataclass
class _Node(Generic[Step, Holder]):
    holders: dict[Holder, None] = field(default_factory=dict)
    """Of every sequence that begins with the steps down to here, oldest first."""
    children: dict[Step, _Node[Step, Holder]] = field(default_factory=dict)


class PrefixTree(Generic[Step, Holder]):
    """Sequences of steps by what they have in common. Not safe to share between threads."""

    def __init__(self) -> None:
        self._root: _Node[Step, Holder] = _Node()

    def add(self, steps: Sequence[Step], holder: Holder) -> None:
        """Know a sequence; one holder has one."""
        for node in self._path(steps):
            node.holders[holder] = None

    def remove(self, steps: Sequence[Step], holder: Holder) -> None:
        """Forget a holder's sequence; nothing happens if it was not known."""
        node = self._root
        node.holders.pop(holder, None)
        for step in steps:
            child = node.children.get(step)
            if child is None:
                return
            child.holders.pop(holder, None)
            if not child.holders:
                del node.children[step]
                return
            node = child

    def longest(
        self, wanted: Sequence[Step], allowed: Callable[[Holder], bool] = lambda _: True
    ) -> tuple[list[Holder], int]:
        """The allowed holders that share most steps at their beginning with `wanted`, oldest first, and how many.

        ([], 0) when none shares a step.
        """
        node, found, depth = self._root, [], 0
        for place, step in enumerate(wanted, 1):
            child = node.children.get(step)
            among = [] if child is None else [holder for holder in child.holders if allowed(holder)]
            if child is None or not among:
                break
            node, found, depth = child, among, place
        return found, depth

    def _path(self, steps: Sequence[Step]) -> Iterator[_Node[Step, Holder]]:
        node = self._root
        yield node
        for step in steps:
            node = node.children.setdefault(step, _Node())
            yield node
