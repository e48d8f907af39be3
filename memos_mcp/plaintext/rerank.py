"""Chooses the hits that a reranker is shown, and blends what it says with the scores they had.

Pure: it knows neither models, nor clocks, nor the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST, LEAST = 50, 20
"""Hits that are shown: as many as BYTES allow between these."""
BYTES = 12_000
"""Of all texts together in UTF-8, by which English and Chinese are as long as their tokens: what a small model reads in
less than a second on one core."""
WEIGHT = 0.6
"""The reranker's part of a score; the rest keeps what words and meaning found, which knows names and dates better."""
SPREAD = 4.0
"""Log-odds between the best and the worst hit below which the reranker's opinion counts for less: where it finds all
alike, small differences are noise."""


@dataclass(frozen=True)
class Place:
    """Where a hit stands now: its `position` before, its blended `score` 0..1, and its `relevance` 0..1 by the reranker
    alone, None for a hit that it was not shown."""

    position: int
    score: float
    relevance: float | None


def shown(texts: Sequence[str]) -> list[str]:
    """The beginnings of the best hits' texts, best first: what the reranker is asked about."""
    found: list[str] = []
    left = BYTES
    for text in texts[:MOST]:
        part = text[: BYTES // LEAST].encode("utf-8", "replace")[: BYTES // LEAST]
        if len(found) >= LEAST and len(part) > left:
            break
        found.append(part.decode("utf-8", "ignore"))
        left -= len(part)
    return found


def blend(given: Sequence[float], log_odds: Sequence[float]) -> list[Place]:
    """The hits in their new order, best first.

    `given` are the scores of all hits, best first, 0..1; `log_odds` the reranker's of the first ones, higher is better.
    A hit that the reranker was not shown stays below all that it was shown; equal scores keep their order.
    """
    shares = _shares(log_odds)
    shares += [0.0] * (len(given) - len(shares))
    scores = [(1.0 - WEIGHT) * score + WEIGHT * share for score, share in zip(given, shares, strict=True)]
    order = sorted(range(len(given)), key=lambda position: (position >= len(log_odds), -scores[position], position))
    return [
        Place(position, scores[position], _odds(log_odds[position]) if position < len(log_odds) else None)
        for position in order
    ]


def _shares(log_odds: Sequence[float]) -> list[float]:
    """Each score as a share of the way from the worst to the best, which is 1 only if they are far enough apart."""
    if not log_odds:
        return []
    worst = min(log_odds)
    wide = max(max(log_odds) - worst, SPREAD)
    return [(one - worst) / wide for one in log_odds]


def _odds(log_odds: float) -> float:
    """The probability of these log-odds."""
    return 1.0 / (1.0 + math.exp(-max(min(log_odds, 40.0), -40.0)))
