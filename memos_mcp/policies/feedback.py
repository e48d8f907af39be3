"""What a host's feedback does: how far a hit steps forward or back, and what is proposed to make the memory better.

Knows no ledger: what was said of a memory, and how it is, is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FACTORS = {"useful": 1.15, "stale": 0.7, "wrong": 0.5}
"""By what the score of a hit is multiplied, for the last that was said of the memory. Wrong weighs most, for it
misleads; useful little, so that what helped once does not stand before what fits."""
WRONG_TWICE = 2
USEFUL_OFTEN = 3
LONG_CHARS = 1_500
"""Characters from which on a memory of several parts is worth splitting."""
KINDS = ("rewrite", "archive", "supersede", "merge", "split")
"""Kinds of proposals that follow from feedback."""


@dataclass(frozen=True)
class Judged:
    """What was said of a memory's text as it is now, and how the memory is.

    `said` counts feedback by what it says; `newer`: there is a newer memory like it, `same`: one that says the same.
    """

    said: Mapping[str, int]
    chars: int
    parts: int
    newer: bool = False
    same: bool = False


@dataclass(frozen=True)
class Suggestion:
    """What is proposed: a kind of `KINDS`, how much speaks for it, 0..1, and why; `with_newer`: of both memories."""

    kind: str
    score: float
    reason: str
    with_newer: bool = False


def factor(feedback: str | None) -> float:
    """By what a hit's score is multiplied; 1 without feedback."""
    return FACTORS.get(feedback or "", 1.0)


def suggestions(judged: Judged) -> list[Suggestion]:
    """What would make the memory better, best first; nothing as long as it was said to be good, or once to be wrong."""
    found: list[Suggestion] = []
    useful, wrong, stale = (judged.said.get(name, 0) for name in ("useful", "wrong", "stale"))
    if wrong >= WRONG_TWICE:
        known = useful > 0
        rest = f" and useful {_times(useful)}: mend it" if known else ", never useful"
        reason = f"marked wrong {_times(wrong)}{rest}"
        found.append(Suggestion("rewrite" if known else "archive", _grown(wrong), reason))
    if stale and judged.newer:
        kind = "merge" if judged.same else "supersede"
        said = "says the same" if judged.same else "is like it"
        found.append(Suggestion(kind, _grown(stale + 1), f"marked stale {_times(stale)}, and a newer one {said}", True))
    elif stale >= WRONG_TWICE:
        reason = f"marked stale {_times(stale)}, and nothing newer is like it"
        found.append(Suggestion("archive", _grown(stale), reason))
    if useful >= USEFUL_OFTEN and not wrong and judged.chars >= LONG_CHARS and judged.parts > 1:
        reason = f"useful {_times(useful)} and {judged.chars:,} characters long, in {judged.parts} parts"
        found.append(Suggestion("split", _grown(useful - 1), reason))
    return sorted(found, key=lambda one: -one.score)


def _grown(count: int) -> float:
    """How much speaks for a proposal, 0..1: 0.5 for the first that calls for it, more for each that follows."""
    return round(1 - 0.5 ** max(count - 1, 1), 4)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
