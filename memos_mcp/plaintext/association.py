"""Scores what belongs to the best hits of a question: a walk from their rare words to the memories that share them.

Knows neither the ledger nor how the hits were found: it is given tokens and scores. The walk is personalised PageRank
(Haveliwala 2002) over the two-sided graph of the given memories and the words that few of them hold, begun at the best
hits and at the question's own words. A question that needs several memories finds one of them by itself, and the others
through it; a memory's own score is no part of what it gets here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from memos_mcp.plaintext.analysis import tokens

SEEDS = 10
"""Best hits from which the walk begins."""
STEEPNESS = 4
"""Power by which a better hit is a more likely beginning."""
MOST_SHARED = 0.3
"""Share of the memories above which a word is too common to lead from one to another."""
ONWARD = 0.5
"""Chance that the walk goes on at each step, instead of beginning anew."""
STEPS = 8
"""Later steps add less than a hundredth."""
_COMMON = """
a about above after again against all also always am an and another any anything are around as ask at away awesome back
be because been before being below between both bring but by call came can cannot come could cool day did do does doing
done down during each either else even ever every everything feel felt few find for from further gave get give go goes
going gone good got great had happen has have having he hello her here hers herself hey hi him himself his how however
i if image in into is it its itself just keep kept kind know last later least less let life like little look lot lots
love made make many may maybe me mean might more most much must my myself need never new next nice no nor not nothing
now of off often oh ok okay on once one only or other our ours out over own part people person photo picture please
probably put quite rather really right said same saw say see seem shall share she should since so some someone something
soon sound still stuff such sure take talk tell than thank thanks that the their theirs them themselves then there these
they thing think this those though thought through time to today together told tomorrow too took tonight try turn two
under until up upon us use very want was way we week well went were what when where which while who whom whose why will
with without wonder work would wow year yes yesterday yet you your yours yourself
"""
"""Words that lead anywhere: what everybody says, whatever it is about."""


def associated(
    bodies: Mapping[int, Collection[str]], scores: Mapping[int, float], words: Collection[str]
) -> dict[int, float]:
    """How near each memory stands to the best ones and to the question's words, 0..1, the nearest 1.

    `bodies` are the tokens of the memories that are candidates, by number (150 give a millisecond's work); `scores`,
    at least 0, higher is better, rank them before; one without a score counts as 0. `words` are the question's tokens.
    Same input, same output; nothing is kept.
    """
    seqs = list(bodies)
    if not seqs:
        return {}
    holds, leads = _shared_words(bodies)
    before = np.array([max(scores.get(seq, 0.0), 0.0) for seq in seqs])
    if not len(leads) or not before.any():
        return dict.fromkeys(seqs, 0.0)
    counts = holds.sum(axis=0)
    weights = np.log(1.0 + (len(seqs) - counts + 0.5) / (counts + 0.5))
    weighed = holds * weights
    to_words = weighed / np.maximum(weighed.sum(axis=1, keepdims=True), 1e-12)
    to_memories = holds / counts
    asked = np.where(np.isin(leads, np.array(list(words), dtype=np.str_)), weights, 0.0)
    near = _walk(to_words, to_memories, _seeds(before), asked / max(asked.sum(), 1e-12))
    highest = float(near.max())
    if highest <= 0.0:
        return dict.fromkeys(seqs, 0.0)
    return dict(zip(seqs, (near / highest).tolist(), strict=True))


def _shared_words(bodies: Mapping[int, Collection[str]]) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Which memory (row) holds which word (column), of the words that some memories share and not too many do."""
    holders: dict[str, list[int]] = {}
    for row, body in enumerate(bodies.values()):
        for word in dict.fromkeys(body):
            holders.setdefault(word, []).append(row)
    most = MOST_SHARED * len(bodies)
    kept = {word: rows for word, rows in holders.items() if 2 <= len(rows) <= most and _leads(word)}
    holds = np.zeros((len(bodies), len(kept)))
    for column, rows in enumerate(kept.values()):
        holds[rows, column] = 1.0
    return holds, np.array(list(kept), dtype=np.str_)


def _seeds(before: NDArray[np.float64]) -> NDArray[np.float64]:
    best = np.argsort(-before, kind="stable")[:SEEDS]
    seeds = np.zeros(len(before))
    seeds[best] = (before[best] / before.max()) ** STEEPNESS
    seeds /= seeds.sum()
    return seeds


def _walk(
    to_words: NDArray[np.float64],
    to_memories: NDArray[np.float64],
    seeds: NDArray[np.float64],
    asked: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How often the walk comes to each memory, its beginning not counted."""
    at, share = to_memories @ (0.5 * (seeds @ to_words) + 0.5 * asked), ONWARD
    visited = share * at
    for _ in range(STEPS - 1):
        at, share = to_memories @ (at @ to_words), share * ONWARD
        visited += share * at
    return visited


def _leads(word: str) -> bool:
    """Whether a word that two memories share says something of both: no filler, no number, no letter or two."""
    return word not in _common() and (not word.isascii() or (len(word) > 2 and not word.isdigit()))


@cache
def _common() -> frozenset[str]:
    return frozenset(tokens(_COMMON))
