"""Pure decisions about memories, each with its reason.

Knows no ledger: what a decision needs is given to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Cube, Snapshot


@dataclass(frozen=True)
class Admission:
    """What to do with a draft: write it, leave the memory that is there, or make it that memory's next version."""

    verdict: Literal["new", "unchanged", "new version"]
    reason: str
    cube: Cube | None = None


def admit(draft: Snapshot, same_ref: Cube | None, same_text: Sequence[Cube]) -> Admission:
    """Decide about a draft, given the memory with the caller's own `ref` and those with the very same text.

    For kinds in SAME_TEXT_IS_SAME_MEMORY the same text in one space is one memory. Of the others the same words are
    another memory unless session, time and speaker are given and the same.
    """
    if same_ref is not None:
        if said_the_same(draft, same_ref.snapshot):
            return Admission("unchanged", "the same ref with the same content", same_ref)
        return Admission("new version", "the same ref with other content", same_ref)
    if draft.ref is not None and draft.kind not in SAME_TEXT_IS_SAME_MEMORY:
        return Admission("new", "a ref not seen before")
    for cube in same_text:
        held = cube.snapshot
        if held.superseded_by is not None or held.kind != draft.kind:
            continue
        if draft.kind in SAME_TEXT_IS_SAME_MEMORY and (draft.ref is None or held.ref in (None, draft.ref)):
            return Admission("unchanged", f"the same {draft.kind} is known", cube)
        moment = (held.session, held.valid_from, held.role, held.name)
        if draft.valid_from is not None and moment == (draft.session, draft.valid_from, draft.role, draft.name):
            return Admission("unchanged", "the same words at the same time", cube)
    return Admission("new", "not known before")


def said_the_same(a: Snapshot, b: Snapshot) -> bool:
    """Whether two snapshots of one ref say the same: content, kind, time and what the caller attached."""
    return (a.content, a.kind, a.name, a.role) == (b.content, b.kind, b.name, b.role) and (
        a.valid_from is None or a.valid_from == b.valid_from
    ) and (not a.metadata or a.metadata == b.metadata) and (not a.tags or a.tags == b.tags)


def shares(lengths: Sequence[int], budget: int) -> list[int]:
    """Divide `budget` characters fairly: short texts whole, the rest an equal part each."""
    given = [0] * len(lengths)
    left = budget
    for place, i in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        given[i] = min(lengths[i], left // (len(lengths) - place))
        left -= given[i]
    return given


def heat(uses: int, days_since_use: float | None, half_life_days: float = 7.0) -> float:
    """How warm a memory is, 0..1: visits, and recency with a half-life.

    After MemoryOS (2025), heat = visits + interactions + exp(-age / scale), squashed to 0..1; never used is 0.
    """
    if not uses or days_since_use is None:
        return 0.0
    recency = 0.5 ** (max(days_since_use, 0.0) / half_life_days)
    return round((uses / (uses + 3.0)) * 0.5 + recency * 0.5, 4)
