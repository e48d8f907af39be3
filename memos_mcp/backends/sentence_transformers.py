"""An embedder over any sentence-transformers model, by name or folder; needs the extra `models`.

Knows nothing of stores; the model is loaded at construction, from disk or from its hub's cache.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memos_mcp.errors import EmbedderUnavailable
from memos_mcp.ports import Matrix, Vector


class SentenceTransformersEmbedder:
    """Satisfies the port `Embedder`; vectors are normalised whatever the model does."""

    def __init__(self, model: str) -> None:
        try:
            library: Any = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise EmbedderUnavailable(
                "The embedder sentence-transformers needs an extra: pip install 'memos-mcp[models]'."
            ) from error
        try:
            self._model = library.SentenceTransformer(model, device=None)
        except (OSError, ValueError, RuntimeError) as error:
            raise EmbedderUnavailable(
                f"The model {model!r} cannot be loaded: give a folder that holds it, or its name while online."
            ) from error
        self.at_a_time = 8
        self.identity = f"sentence-transformers:{model}"
        self.dimensions = int(self._model.get_sentence_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> Matrix:
        if not texts:
            return np.empty((0, self.dimensions), dtype=np.float32)
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        found = self._model.encode(clean, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, dtype=np.float32)

    def embed_query(self, text: str) -> Vector:
        return np.asarray(self.embed([text])[0], dtype=np.float32)

    def trust(self, text: str) -> float:
        return 1.0
