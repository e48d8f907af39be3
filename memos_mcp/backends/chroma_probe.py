"""Tries a Chroma folder that may be damaged, in a process that may die of it: exit 0 when every entry is found.

Knows nothing of the ledger: whether the entries are the right ones is compared elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SAMPLE = 200


def sound(folder: Path) -> bool:
    """Whether a sample of entries, each asked for by its own vector, comes back as its own nearest."""
    from memos_mcp.backends.chroma import _close, _open

    client, collection = _open(folder, create=False)
    ids = collection.get(include=[])["ids"]
    if len(ids) != collection.count():
        return False
    sample = ids[:: max(1, len(ids) // SAMPLE)]
    found = collection.get(ids=sample, include=["embeddings"])
    matrix = np.asarray(found["embeddings"], dtype=np.float32)
    if not np.allclose(np.linalg.norm(matrix, axis=1), 1.0, atol=0.02):
        return False
    nearest = collection.query(query_embeddings=matrix, n_results=5, include=[])["ids"]
    held = sum(key in near for key, near in zip(found["ids"], nearest, strict=True))
    _close(client)
    return held >= 0.97 * len(sample)


if __name__ == "__main__":
    sys.exit(0 if sound(Path(sys.argv[1])) else 1)
