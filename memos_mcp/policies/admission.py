"""Decides what becomes of a draft beside what is known already, with the reason.

Knows no ledger: what a decision needs is given to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Cube, Snapshot, content_hash
from memos_mcp.states import State

_NOTHING = Snapshot(content="")


@dataclass(frozen=True)
class Admission:
    """What to do with a draft: write it, leave the memory that is there, make it that memory's next version, or bring
    that memory back from the archive."""

    verdict: Literal["new", "unchanged", "new version", "revived"]
    reason: str
    cube: Cube | None = None


def firsts(drafts: Sequence[Snapshot]) -> list[int]:
    """For each draft the place of the first one in the list that is the same memory; its own place if there is none."""
    seen: dict[str, list[int]] = {}
    found = []
    for i, draft in enumerate(drafts):
        alike = seen.setdefault(content_hash(draft.content), [])
        first = next((j for j in alike if _one_memory(draft, drafts[j])), i)
        if first == i:
            alike.append(i)
        found.append(first)
    return found


def admit(draft: Snapshot, same_ref: Cube | None, same_text: Sequence[Cube]) -> Admission:
    """Decide about a draft, given the memory with the caller's own `ref` and those with the very same text.

    For kinds in SAME_TEXT_IS_SAME_MEMORY the same text in one space is one memory; said again after it was archived,
    it comes back. Of the others the same words are another memory unless session, time and speaker are given and the
    same. A known memory that supersedes more than it did gets a next version that says so.
    """
    if same_ref is not None:
        if said_the_same(draft, same_ref.snapshot):
            return _known(draft, same_ref, "the same ref with the same content")
        return Admission("new version", "the same ref with other content", same_ref)
    for cube in same_text:
        reason = None if cube.snapshot.superseded_by is not None else _one_memory(draft, cube.snapshot)
        if reason is not None and cube.state is State.ARCHIVED:
            return Admission("revived", f"{reason}, and was archived", cube)
        if reason is not None:
            return _known(draft, cube, reason)
    return Admission("new", "not known before")


def _known(draft: Snapshot, cube: Cube, reason: str) -> Admission:
    if set(draft.supersedes) <= set(cube.snapshot.supersedes):
        return Admission("unchanged", reason, cube)
    return Admission("new version", f"{reason}, and supersedes more", cube)


def _one_memory(draft: Snapshot, held: Snapshot) -> str | None:
    """Why two snapshots of the same text are one memory, or None."""
    if held.kind != draft.kind:
        return None
    if draft.kind in SAME_TEXT_IS_SAME_MEMORY:
        return f"the same {draft.kind} is known" if draft.ref is None or held.ref in (None, draft.ref) else None
    moment = (held.session, held.valid_from, held.role, held.name)
    same = draft.valid_from is not None and moment == (draft.session, draft.valid_from, draft.role, draft.name)
    return "the same words at the same time" if same and draft.ref is None else None


_KEPT = ("valid_from", "session", "source", "tags", "metadata", "importance", "priority", "expires")
"""Fields that a draft changes only when it gives them."""


def renewed(held: Snapshot, draft: Snapshot) -> Snapshot:
    """The next version of a memory that is said again with `draft`: what the draft does not give stays."""
    unsaid = {name for name in _KEPT if getattr(draft, name) == getattr(_NOTHING, name)}
    standing = {"parents", "superseded_by", "valid_to", "pinned", "sensitivity", "policy"}
    return replace(
        draft.merged(unsaid | standing, held),
        ref=draft.ref or held.ref,
        links=tuple(dict.fromkeys(held.links + draft.links)),
        supersedes=tuple(dict.fromkeys(held.supersedes + draft.supersedes)),
    )


def said_the_same(a: Snapshot, b: Snapshot) -> bool:
    """Whether two snapshots of one ref say the same: content, kind, time and what the caller attached."""
    return (a.content, a.kind, a.name, a.role) == (b.content, b.kind, b.name, b.role) and (
        a.valid_from is None or a.valid_from == b.valid_from
    ) and (not a.metadata or a.metadata == b.metadata) and (not a.tags or a.tags == b.tags)
