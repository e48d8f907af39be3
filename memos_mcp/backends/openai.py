"""An embedder over an OpenAI-compatible `/embeddings` endpoint, local or remote.

Knows nothing of stores. It sends the texts to the URL it was given, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np

from memos_mcp.errors import EmbedderUnavailable, InvalidInput
from memos_mcp.ports import Matrix, Vector

BATCH = 64
TIMEOUT_S = 30.0
RETRIES = 2


class OpenAIEmbedder:
    """Satisfies the port `Embedder`. `name` is MODEL@URL; the URL ends where `/embeddings` begins."""

    def __init__(self, name: str, key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        model, at, url = name.partition("@")
        if not (model and at and url.startswith(("http://", "https://"))):
            raise InvalidInput(
                f"The embedder 'openai:{name}' is not openai:MODEL@URL: for example "
                "openai:nomic-embed-text@http://127.0.0.1:11434/v1.",
                field="embedder",
            )
        self.identity = f"openai:{name}"
        self.at_a_time, self.is_quick = BATCH, False
        self._model, self._url = model, url.rstrip("/") + "/embeddings"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            headers=headers,
            timeout=TIMEOUT_S,
            transport=transport or httpx.HTTPTransport(retries=RETRIES),
            trust_env=False,
        )
        self.dimensions = 0
        self.dimensions = len(self._ask(["dimensions"])[0])

    def embed(self, texts: Sequence[str]) -> Matrix:
        rows: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            rows += self._ask([text or " " for text in texts[start : start + BATCH]])
        if not rows:
            return np.empty((0, self.dimensions), dtype=np.float32)
        matrix = np.asarray(rows, dtype=np.float32)
        return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def embed_query(self, text: str) -> Vector:
        return np.asarray(self.embed([text])[0], dtype=np.float32)

    def trust(self, text: str) -> float:
        return 1.0

    def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        sent = [text.encode("utf-8", "replace").decode() for text in texts]
        try:
            answer = self._client.post(self._url, json={"model": self._model, "input": sent})
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda item: item["index"])
            found = [[float(x) for x in item["embedding"]] for item in rows]
        except httpx.HTTPStatusError as error:
            raise EmbedderUnavailable(
                f"The embedder at {self._url} answered {error.response.status_code}: "
                "check the model's name and the key (memos-mcp config openai_api_key KEY)."
            ) from error
        except httpx.HTTPError as error:
            raise EmbedderUnavailable(
                f"The embedder at {self._url} cannot be reached ({type(error).__name__}): start it, or check the URL."
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise EmbedderUnavailable(f"The embedder at {self._url} did not answer with embeddings.") from error
        if len(found) != len(texts):
            raise EmbedderUnavailable(f"The embedder at {self._url} gave {len(found)} vectors for {len(texts)} texts.")
        lengths = {len(vector) for vector in found}
        if lengths - {self.dimensions or max(lengths)} or not max(lengths) or not np.isfinite(found).all():
            raise EmbedderUnavailable(
                f"The embedder at {self._url} gave vectors of {sorted(lengths)} numbers where "
                f"{self.dimensions or 'some'} finite ones were expected: check the model's name."
            )
        return found
