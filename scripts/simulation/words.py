"""An embedder for simulations: words hashed into a vector, thousands of texts a second, no model.

Knows nothing of meaning: texts are near as far as they share words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from memos_mcp.plaintext.analysis import tokens
from memos_mcp.ports import Matrix, Vector

DIMENSIONS = 256


class HashedWords:
    """Satisfies the port Embedder."""

    identity = f"hashed-words-{DIMENSIONS}"
    dimensions = DIMENSIONS
    at_a_time, is_quick = 1_000, True

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Unit vectors of the texts, shape (n, 256)."""
        rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for token in tokens(text):
                place, sign = _hashed(token)
                row[place] += sign
            row /= max(float(np.linalg.norm(row)), 1e-9)
        return rows

    def embed_query(self, text: str) -> Vector:
        """The vector of a question, shape (256,)."""
        vector: Vector = self.embed([text])[0]
        return vector

    def trust(self, text: str) -> float:
        """Meaning is no more than words here, so words decide."""
        return 0.5


@lru_cache(maxsize=65_536)
def _hashed(token: str) -> tuple[int, float]:
    """The place of a token in the vector, and what it adds there."""
    digest = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little") % DIMENSIONS, 1.0 if digest[4] & 1 else -1.0
