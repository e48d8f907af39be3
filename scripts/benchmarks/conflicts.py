"""Section conflicts: what the rules for conflicts and duplicates find in pairs of statements labelled by hand.

Knows no rule. Of the two halves of each language one was written first and nothing was ever tuned on it.
"""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from memos_mcp.cube import Snapshot
from memos_mcp.kernel import make_embedder
from memos_mcp.policies.conflicts import conflict
from memos_mcp.policies.duplicates import duplicate

PAIRS = Path(__file__).parents[2] / "tests" / "data" / "pairs"
LANGUAGES = ("english", "chinese")
HALVES = ("held-out", "development")
PRECISION = 0.95


@dataclass(frozen=True)
class Pair:
    """Two statements, the `newer` said later; `label` is replaced, conflict, duplicate or neither."""

    label: str
    about: str
    older: str
    newer: str


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a pair."""

    pair: Pair
    conflict: bool
    sure: bool
    duplicate: bool


@dataclass(frozen=True)
class Score:
    """Of what was found (`said`), how much is so (`right`), and of what is so (`there`), how much was found."""

    right: int
    said: int
    there: int

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.there if self.there else 1.0


def pairs(language: str, half: str) -> list[Pair]:
    """The labelled pairs of one language and half."""
    with (PAIRS / f"{language}-{half}.tsv").open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Pair(row["label"], row["class"], row["older"], row["newer"]) for row in rows]


def verdicts(found: list[Pair]) -> Iterator[Verdict]:
    """What the rules say of each pair, with the meaning that the built-in embedder finds in them."""
    model = make_embedder("minilm", PAIRS)
    olders, newers = model.embed([pair.older for pair in found]), model.embed([pair.newer for pair in found])
    for pair, a, b in zip(found, olders, newers, strict=True):
        older, newer = Snapshot(pair.older), Snapshot(pair.newer)
        said = conflict(older, newer)
        same = duplicate(older, newer, float(a @ b))
        yield Verdict(pair, said is not None, said is not None and said.sure, bool(same))


def scores(found: list[Verdict]) -> dict[str, Score]:
    """How conflicts, sure ones among them, and duplicates were found."""
    labels = {"conflicts": ("replaced", "conflict"), "sure conflicts": ("replaced",), "duplicates": ("duplicate",)}
    said = {
        "conflicts": [one for one in found if one.conflict],
        "sure conflicts": [one for one in found if one.sure],
        "duplicates": [one for one in found if one.duplicate],
    }
    return {
        name: Score(
            sum(one.pair.label in wanted for one in said[name]),
            len(said[name]),
            sum(one.pair.label in wanted for one in found),
        )
        for name, wanted in labels.items()
    }


def conflicts(plan: Plan) -> None:
    """Precision and recall by language, half and class, and what a look at a pair costs."""
    for language in LANGUAGES:
        for half in HALVES:
            found = list(verdicts(pairs(language, half)))
            for name, score in scores(found).items():
                said = f"{language}, {half}: {name}"
                note = f"{score.right} of {score.said} found"
                plan.figure("conflicts", f"{said}, precision", score.precision, "", PRECISION, at_least=True, note=note)
                plan.figure("conflicts", f"{said}, recall", score.recall, "", note=f"{score.right} of {score.there}")
            for label in ("replaced", "conflict", "duplicate", "neither"):
                plan.figure("conflicts", f"{language}, {half}: {label}, as labelled", _right(found, label), "",
                            note=_by_class(found, label))  # fmt: skip
    _cost(plan)


def _correct(one: Verdict) -> bool:
    wanted = one.pair.label in ("replaced", "conflict")
    return (one.conflict, one.duplicate) == (wanted, one.pair.label == "duplicate")


def _right(found: list[Verdict], label: str) -> float:
    of_label = [one for one in found if one.pair.label == label]
    return sum(_correct(one) for one in of_label) / len(of_label)


def _by_class(found: list[Verdict], label: str) -> str:
    of_label = [one for one in found if one.pair.label == label]
    right, there = Counter(one.pair.about for one in of_label if _correct(one)), Counter(x.pair.about for x in of_label)
    return ", ".join(f"{name} {right[name]}/{count}" for name, count in sorted(there.items()))


def _cost(plan: Plan) -> None:
    for language in LANGUAGES:
        times = []
        for pair in pairs(language, "development") * plan.rounds:
            began = time.perf_counter()
            conflict(Snapshot(pair.older), Snapshot(pair.newer))
            duplicate(Snapshot(pair.older), Snapshot(pair.newer), 0.9)
            times.append(time.perf_counter() - began)
        plan.figure("conflicts", f"{language}: a pair looked at for both, p50", milliseconds(times, 0.5), "ms")
