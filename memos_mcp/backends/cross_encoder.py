"""A reranker over any cross-encoder that sentence-transformers can load, by name or folder; needs the extra `models`.

Knows nothing of search or stores; the model is loaded at construction, from disk, or from its hub when it is not there.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memos_mcp.backends.model_folders import load, readable
from memos_mcp.errors import RerankerUnavailable
from memos_mcp.ports import Scores

CHARACTERS = 4_000
"""Read of a question and of a text: more than the tokens that count need."""
BATCH = 32


class CrossEncoderReranker:
    """Satisfies the port `Reranker` with models that give one number a pair, such as ms-marco and bge-reranker."""

    def __init__(self, model: str) -> None:
        """Load the model and have it score a pair.

        Raises:
            RerankerUnavailable: the extra is missing, or the model is not there, not whole, or no reranker.
        """
        loaded = load("CrossEncoder", model, RerankerUnavailable)
        self._model, self._turn, self._name = loaded.model, loaded.turn, model
        self.at_a_time = BATCH if loaded.accelerated else 8
        self.identity = f"cross-encoder:{loaded.identity}"
        if self._model.num_labels != 1 or not _was_trained_on_pairs(self._model):
            raise RerankerUnavailable(
                f"The model {model!r} is no reranker that gives one score a pair: choose one made for reranking, such "
                "as BAAI/bge-reranker-base, or `memos-mcp config reranker none`."
            )
        torch: Any = importlib.import_module("torch")
        self._log_odds = torch.nn.Identity()
        self.scores("question", ["text"])

    def scores(self, query: str, texts: Sequence[str]) -> Scores:
        if not texts:
            return np.empty(0, dtype=np.float32)
        asked = readable(query[:CHARACTERS])
        pairs = [(asked, readable(text[:CHARACTERS])) for text in texts]
        try:
            with self._turn:
                found = self._model.predict(
                    pairs, batch_size=BATCH, show_progress_bar=False, activation_fn=self._log_odds
                )
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            raise RerankerUnavailable(
                f"The model {self._name!r} failed to score ({type(error).__name__}): its files may not belong "
                "together, so copy or download it again."
            ) from error
        scores = np.asarray(found, dtype=np.float32).reshape(-1)
        if len(scores) != len(texts) or not np.isfinite(scores).all():
            raise RerankerUnavailable(f"The model {self._name!r} does not give numbers: copy or download it again.")
        return scores


def _was_trained_on_pairs(model: Any) -> bool:
    """Whether the head that scores was loaded: of another model the library makes one up from random numbers."""
    if len(model) > 1:
        return True
    named = getattr(getattr(model, "config", None), "architectures", None) or []
    return any(str(one).endswith("ForSequenceClassification") for one in named)
