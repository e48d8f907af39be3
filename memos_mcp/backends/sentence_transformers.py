"""An embedder over any sentence-transformers model, by name or folder; needs the extra `models`.

Knows nothing of stores; the model is loaded at construction, from disk, or from its hub when it is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from memos_mcp.backends.familiarity import Familiarity, Piece
from memos_mcp.backends.model_folders import load, readable
from memos_mcp.errors import EmbedderUnavailable
from memos_mcp.ports import Matrix, Vector

CHARACTERS = 8_000
"""Read of a text: more than the tokens that count need in any language, and little enough to be cut in milliseconds."""
BATCH = 32
UNKNOWN = ("[UNK]", "<unk>")
"""What tokenizers call a token that they do not know, where they do not say so."""
_E5 = re.compile(r"(^|[/_-])e5-(small|base|large)(?!.*instruct)", re.IGNORECASE)
_E5_PROMPTS = {"query": "query: ", "document": "passage: "}


class SentenceTransformersEmbedder:
    """Satisfies the port `Embedder`; vectors are normalised whatever the model does.

    Questions and texts get the prompts that the model's own configuration names for them; a model of the E5 family
    whose configuration names none gets those that it was trained with.
    """

    def __init__(self, model: str) -> None:
        """Load the model and have it embed a word.

        Raises:
            EmbedderUnavailable: the extra is missing, or the model is not there or not whole.
        """
        loaded = load("SentenceTransformer", model, EmbedderUnavailable)
        self._model, self._turn, self._name = loaded.model, loaded.turn, model
        self.at_a_time, self.is_quick = BATCH if loaded.accelerated else 1, False
        prompted = _give_prompts(self._model, model)
        self.identity = f"sentence-transformers:{loaded.identity}{'+e5' if prompted else ''}"
        self.dimensions = 0
        self.dimensions = self._encoded(self._model.encode_query, ["dimensions"]).shape[1]
        tokenizer = getattr(self._model, "tokenizer", None)
        self._tokenizer: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._unknown: set[Any] = {getattr(tokenizer, "unk_token_id", None)}
        self._familiarity: Familiarity | None = None
        if self._tokenizer is not None and hasattr(self._tokenizer, "token_to_id"):
            self._unknown |= {self._tokenizer.token_to_id(token) for token in UNKNOWN}
            self._familiarity = Familiarity(self._cut)

    def embed(self, texts: Sequence[str]) -> Matrix:
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        return self._encoded(self._model.encode_document, texts)

    def embed_query(self, text: str) -> Vector:
        return np.asarray(self._encoded(self._model.encode_query, [text])[0], dtype=np.float32)

    def trust(self, text: str) -> float:
        """By how the tokenizer cuts the text; 1 where it does not say which letters a token is of."""
        return self._familiarity.of(readable(text)) if self._familiarity else 1.0

    def _encoded(self, encode: Any, texts: Sequence[str]) -> Matrix:
        clean = [readable(text[:CHARACTERS]) for text in texts]
        try:
            with self._turn:
                found = encode(clean, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            raise EmbedderUnavailable(
                f"The model {self._name!r} failed to embed ({type(error).__name__}): its files may not belong "
                "together, so copy or download it again."
            ) from error
        matrix = np.asarray(found, dtype=np.float32)
        if matrix.shape[0] != len(texts) or not np.isfinite(matrix).all():
            raise EmbedderUnavailable(f"The model {self._name!r} does not give numbers: copy or download it again.")
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
        empty = lengths[:, 0] == 0.0
        matrix[empty, 0] = lengths[empty] = 1.0  # of a text in which the model found nothing
        return np.asarray(matrix / lengths, dtype=np.float32)

    def _cut(self, text: str) -> list[Piece]:
        with self._turn:
            cut_off = self._tokenizer.truncation
            self._tokenizer.no_truncation()
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            if cut_off is not None:
                self._tokenizer.enable_truncation(**cut_off)
        return [
            ("" if number in self._unknown else token, start, end)
            for number, token, (start, end) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
            if end > start
        ]


def _give_prompts(model: Any, name: str) -> bool:
    """Have questions and texts get their prompts, under whichever name the model has them; whether E5's were needed.

    The library looks for a text's prompt under three names, and takes the first, which it sets itself to none.
    """
    named = {key: prompt for key, prompt in model.prompts.items() if prompt}
    e5 = not named and _E5.search(PurePath(name).name) is not None
    named = _E5_PROMPTS if e5 else named
    of_texts = [named[key] for key in ("document", "passage", "corpus") if key in named]
    model.prompts = {**model.prompts, "query": named.get("query", ""), "document": (of_texts or [""])[0]}
    return e5
