"""Decides whether a memory may be published, and whether a published query takes it in.

Knows no ledger and no channel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memos_mcp.cube import Cube


def refusal(cube: Cube, now: str) -> str | None:
    """Why a memory may not be published, as the end of a sentence about it; None if it may."""
    if cube.snapshot.sensitivity != "normal":
        return f"is {cube.snapshot.sensitivity} and stays with its owner (memory_update sensitivity=normal opens it)"
    if cube.snapshot.form != "plaintext":
        return "is no text that others could read"
    if cube.snapshot.superseded_by is not None:
        return f"is superseded by {cube.snapshot.superseded_by}: publish that one"
    if not cube.is_alive(now):
        return f"is {cube.state} or over: bring it back first (memory_undo)"
    return None


def matches(
    cube: Cube, held: Collection[str], words: Sequence[str], tags: Sequence[str], kinds: Sequence[str], now: str
) -> bool:
    """Whether a query for all of the words and tags and one of the kinds takes the memory in; `held` are its words.

    What may not be published is never taken in.
    """
    own = cube.snapshot
    return (
        refusal(cube, now) is None
        and (not kinds or own.kind in kinds)
        and all(tag in own.tags for tag in tags)
        and all(word in held for word in words)
    )
