"""Says which memories a session is likely to need next, and why: one pure function of what is known of each.

Knows no ledger, no session and no clock. A memory's chance is a softmax over linear features; the weights are learnt
from what was served (listwise, Cao et al. 2007) and go on learning for each principal with AdaGrad (Duchi et al. 2011),
because what predicts differs: a plan is followed from its latest entries, an old conversation is read onwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIZE = 32
"""Memories of a working set."""
NAMES = (
    "touched",
    "new",
    "ahead",
    "beside",
    "asked",
    "heard",
    "found",
    "followed",
    "together",
    "used",
    "named",
    "long",
    "said_again",
)
"""What speaks for a memory, in the order of the weights."""
REASONS = {
    "touched": "added or served in this session a moment ago",
    "new": "among the newest of its space",
    "ahead": "was said after what was served last",
    "beside": "stands beside what was served last",
    "asked": "near to the last question in meaning",
    "heard": "near to the latest message in meaning",
    "found": "a search for the latest message finds it",
    "followed": "was needed after these in earlier turns",
    "together": "was served together with these before",
    "used": "served often",
    "named": "names what was served or said last",
    "long": "says much",
    "said_again": "no newer memory says it again",
}
WEIGHTS = (0.15, 0.20, 0.40, 0.20, 0.80, 4.0, 2.0, 0.27, 0.16, 0.20, 0.10, 0.80, 2.50)
"""Of a principal who was never seen: set by hand near what conversations of three kinds teach (LOG.md);
`scripts/train_preload.py` learns them from such conversations, and validates on others."""
RATE, DEPTH = 0.1, 1.0
"""How far one answer moves the weights, and what each weight's past is taken to be at the beginning."""
FAVOUR = 4.0
"""What the highest priority is worth beside the usual one, twice, as a logarithm of the chance."""
UNKNOWN_COSINE = 0.15
"""Of a memory that has no vector yet, or where there is nothing to compare it with."""
ALIKE = 0.7
"""Cosine from which on a newer memory counts as saying the same again, up to 1."""
_FAR = 256.0


@dataclass(frozen=True)
class Known:
    """What is known of n memories that may be needed, each of shape (n,).

    `touched`: how many others the session touched since, infinity for never; `age`: how many were written since;
    `ahead` and `beside`: nearness to what was served last, in the order of writing, >= 0; `asked` and `heard`: cosine
    to the last question and to a message that was not asked about yet, NaN where unknown; `found`: place in a search
    for that message, infinity for none; `followed` and `together`: how often it was served after, or with, what was
    served last; `uses`: how often ever; `named`: rarity of the names that it shares with that, >= 0; `chars`: its
    length; `newer`: cosine of the nearest newer memory, NaN where unknown.
    """

    touched: Floats
    age: Floats
    ahead: Floats
    beside: Floats
    asked: Floats
    heard: Floats
    found: Floats
    followed: Floats
    together: Floats
    uses: Floats
    named: Floats
    chars: Floats
    newer: Floats


@dataclass(frozen=True)
class Habits:
    """What a principal's use has taught: `weights` and how much each has been moved, one number for each of `NAMES`."""

    weights: tuple[float, ...] = WEIGHTS
    moved: tuple[float, ...] = (DEPTH,) * len(NAMES)


def features(known: Known) -> Floats:
    """What speaks for each memory, shape (n, len(NAMES)); more speaks for it, whatever the sign of a number."""
    columns = {
        "touched": -np.log((np.minimum(known.touched, _FAR) + 4) / 20),
        "new": -np.log((known.age + 16) / 100),
        "ahead": _share(known.ahead, 0.03),
        "beside": _share(known.beside, 0.03),
        "asked": _cosine(known.asked),
        "heard": _cosine(known.heard),
        "found": -np.log1p(np.minimum(known.found, 48.0) / 8) if np.isfinite(known.found).any() else _none(known),
        "followed": _share(known.followed, 0.1),
        "together": _share(known.together, 0.1),
        "used": _share(np.log1p(known.uses), 0.1),
        "named": _share(known.named, 0.1),
        "long": np.log1p(known.chars),
        "said_again": -np.clip((np.nan_to_num(known.newer) - ALIKE) / (1 - ALIKE), 0, 1),
    }
    return np.column_stack([columns[name] for name in NAMES]).astype(np.float64)


def scores(table: Floats, habits: Habits, favour: Floats) -> Floats:
    """How likely each memory is to be needed, as shares of 1, shape (n,).

    `table` is of `features`; `favour`, -0.5..0.5, is how much more than usual the caller wants each to be at hand.
    """
    return _softmax(_totals(table, habits, favour))


def order(table: Floats, habits: Habits, favour: Floats) -> NDArray[np.int64]:
    """Places of the memories, likeliest first; of equal ones the former first."""
    return np.argsort(-_totals(table, habits, favour), kind="stable")


def reason(table: Floats, habits: Habits, place: int) -> str:
    """What speaks most for the memory at `place`, beside what speaks for all of them."""
    gains = (table[place] - table.mean(axis=0)) * np.array(habits.weights)
    return REASONS[NAMES[int(np.argmax(gains))]]


def learnt(habits: Habits, table: Floats, used: Sequence[int]) -> Habits:
    """The habits after the memories at these places were needed, of those that could have been; the same for none."""
    if not len(used) or not len(table):
        return habits
    weights, moved = np.array(habits.weights), np.array(habits.moved)
    wanted = np.zeros(len(table))
    wanted[list(used)] = 1.0 / len(used)
    slope = table.T @ (wanted - _softmax(table @ weights))
    moved = moved + slope * slope
    weights = weights + RATE * slope / np.sqrt(moved)
    return Habits(tuple(weights.tolist()), tuple(moved.tolist()))


def _totals(table: Floats, habits: Habits, favour: Floats) -> Floats:
    found: Floats = table @ np.array(habits.weights) + FAVOUR * favour
    return found


def _softmax(totals: Floats) -> Floats:
    if not len(totals):
        return totals
    grown = np.exp(totals - totals.max())
    shares: Floats = grown / grown.sum()
    return shares


def _share(values: Floats, floor: float) -> Floats:
    """Values as logarithms of their shares of the greatest one; all 0 where nothing is known."""
    most = float(values.max(initial=0.0))
    found: Floats = np.log(np.maximum(values, 0) / most + floor) if most > 0 else np.zeros(len(values))
    return found


def _cosine(values: Floats) -> Floats:
    found: Floats = np.where(np.isnan(values), UNKNOWN_COSINE, values)
    return found


def _none(known: Known) -> Floats:
    return np.zeros(len(known.age))
