"""Joins hits that say the same into one, the newest, with the others named.

Knows nothing of how they were found. What is told once more on another day is another event, so only kinds of which the
same text is the same memory are joined for their words; a memory made from another joins that one, while a node of a
tree is a memory of its own beside the node above it, and what went out of a block is no more in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Cube
from memos_mcp.documents.position import position_of
from memos_mcp.memory_api.blocks import is_page
from memos_mcp.plaintext.analysis import is_common, tokens
from memos_mcp.plaintext.search import Found

SPARE = 5
"""Hits beyond those asked for that are looked at, for some may be joined to others."""
TELLING = 2
"""Words that are not common which two texts must share to say the same."""


@dataclass
class Joined:
    """A hit, the newest of those that say the same, and the `others`."""

    cube: Cube
    found: Found
    others: list[Cube] = field(default_factory=list)


def joined(hits: Sequence[tuple[Cube, Found]], count: int) -> list[Joined]:
    """At most `count` hits, best first, each standing where the best of those that it joins stood."""
    there = {cube.id for cube, _ in hits}
    kept: list[Joined] = []
    made: list[Cube] = []
    by_words: dict[tuple[int, str, tuple[str, ...]], Joined] = {}
    for cube, found in hits:
        apart = position_of(cube.snapshot) is not None or is_page(cube.snapshot)
        if there.intersection(cube.snapshot.parents) and not apart:
            made.append(cube)
            continue
        key = _key(cube)
        former = by_words.get(key) if key is not None else None
        if former is None:
            former = Joined(cube, found)
            kept.append(former)
            if key is not None:
                by_words[key] = former
        elif (cube.becomes_true, cube.seq) > (former.cube.becomes_true, former.cube.seq):
            former.others.insert(0, former.cube)
            former.cube = cube
        else:
            former.others.append(cube)
    for one in kept:
        covered = {one.cube.id, *(other.id for other in one.others)}
        one.others += [cube for cube in made if covered.intersection(cube.snapshot.parents)]
    return kept[:count]


def _key(cube: Cube) -> tuple[int, str, tuple[str, ...]] | None:
    """What memories that say the same have in common: their telling words, in order; None for one of its own."""
    if cube.snapshot.kind not in SAME_TEXT_IS_SAME_MEMORY or cube.snapshot.recipe:
        return None
    telling = tuple(token for token in tokens(cube.snapshot.content) if not is_common(token))
    return (cube.space, cube.snapshot.kind, telling) if len(telling) >= TELLING else None
