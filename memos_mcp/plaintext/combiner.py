"""Weighs the evidence for each memory: which fits better than which, and how well.

Two ways: a fixed blend by hand, and a linear combination learnt from questions with known answers
(`scripts/train_combiner.py`), which also knows how long the question is and whether it names who speaks. As far as
the embedder does not understand the question, the fixed blend decides alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memos_mcp.plaintext.evidence import NAMES, Evidence
from memos_mcp.plaintext.facts import Floats, weighted

WEIGHTS = "combiner.json"
BLEND = {
    "both": 1.0, "beside": 0.2, "further": 0.1, "session_words": 0.35, "session_best": 0.2, "meaning_around": 0.2,
    "speaks": 0.1, "timed": 0.05, "on_day": 0.4, "near_day": 0.1, "asks": -0.08, "answers": 0.1,
}  # fmt: skip
"""The fixed blend."""
MIXED = ("words", "meaning", "both", "meaning_around", "session_words", "session_best", "beside", "age")
"""Columns whose weight depends on the question."""
USUAL_SIZE, USUAL_NAMED = 0.6, 0.5
FIT = ("behind", "covered", "near", "trust", "always")
TRUST_FROM = 0.5
"""Trust in the embedder from which on the learned combination takes part."""
BLEND_SHARE = 0.25
"""Share of the fixed blend beside the learned combination, in units of each one's spread."""


@dataclass(frozen=True)
class Weights:
    """`columns` (k,) for `inputs`; `fit` for what `fit_inputs` gives."""

    columns: Floats
    fit: Floats


def inputs(evidence: Evidence) -> Floats:
    """What the learned combination sums up, shape (n, k): the evidence, and some of it by the question's kind."""
    mixed = evidence.columns[:, [NAMES.index(name) for name in MIXED]]
    by_size = mixed * np.float32(evidence.size - USUAL_SIZE)
    by_name = mixed * np.float32(evidence.named - USUAL_NAMED)
    return np.concatenate([evidence.columns, by_size, by_name], axis=1)


def input_names() -> list[str]:
    """The names of what `inputs` gives, in order."""
    return [*NAMES, *(f"{name} by size" for name in MIXED), *(f"{name} by named" for name in MIXED)]


def blend(evidence: Evidence) -> Floats:
    """The fixed blend, shape (n,)."""
    return weighted(evidence.columns, _BLEND)


def combine(evidence: Evidence, trust: float) -> Floats:
    """What orders the memories of one question, shape (n,), higher is better.

    `trust`, 0..1, is how far meaning is known and can be relied on: without it the fixed blend decides alone, for the
    learned combination was learnt with it.
    """
    fixed = blend(evidence)
    return beside_blend(weighted(inputs(evidence), LEARNED.columns), fixed, trust) if len(fixed) else fixed


def fit_inputs(evidence: Evidence, totals: Floats, cosines: Floats | None, trust: float) -> Floats:
    """What tells how well each memory fits, shape (n, len(FIT)): how far its total is below the best one's, which share
    of the question's words it holds, how near it is in meaning, and whether meaning can be relied on."""
    behind = totals - totals.max(initial=-np.inf)
    near = np.zeros(len(totals)) if cosines is None else np.maximum(cosines, 0.0)
    columns = (behind, evidence.of("covered"), trust * near, np.full(len(totals), trust), np.ones(len(totals)))
    return np.stack(columns, axis=1).astype(np.float32)


def fits(evidence: Evidence, totals: Floats, cosines: Floats | None, trust: float) -> Floats:
    """About the chance that each memory answers the question, shape (n,), 0..1; `totals` are those of `combine`."""
    return _chances(weighted(fit_inputs(evidence, totals, cosines, trust), LEARNED.fit))


def beside_blend(learnt: Floats, fixed: Floats, trust: float) -> Floats:
    """A learned combination, as far as it is trusted, with the fixed blend, both shape (n,)."""
    spread, unit = float(fixed.std()), float(learnt.std()) or 1.0
    if not spread:
        return fixed
    share = min(max((trust - TRUST_FROM) / (1.0 - TRUST_FROM), 0.0), 1.0)
    total: Floats = share * learnt + (BLEND_SHARE + 1.0 - share) * unit * (fixed - fixed.mean()) / spread
    return total


def _learned() -> Weights:
    plain = json.loads(Path(__file__).with_name(WEIGHTS).read_text(encoding="utf-8"))
    columns, fit = ([by_name[name] for name in names] for by_name, names in (
        (plain["weights"], input_names()), (plain["fit"], FIT)
    ))  # fmt: skip
    return Weights(np.array(columns, dtype=np.float32), np.array(fit, dtype=np.float32))


def _chances(sums: Floats) -> Floats:
    chances: Floats = (1.0 / (1.0 + np.exp(-np.clip(sums, -30.0, 30.0)))).astype(np.float32)
    return chances


LEARNED = _learned()
"""The weights that come with the package."""
_BLEND = np.array([BLEND.get(name, 0.0) for name in NAMES], dtype=np.float32)
