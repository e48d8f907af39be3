"""Tests of the embedder behind an OpenAI-compatible endpoint: against a transport without network, and a real server.

Knows nothing of stores.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from embeddings_server import EmbeddingsServer

from memos_mcp.backends.openai import BATCH, OpenAIEmbedder
from memos_mcp.errors import EmbedderUnavailable, InvalidInput

NAME = "fake-model@http://embeddings.test/v1"
Handler = Callable[[httpx.Request], httpx.Response]


def answering(request: httpx.Request) -> httpx.Response:
    """Two numbers a text: its length, and one; given back in reverse, as an endpoint may."""
    texts = json.loads(request.content)["input"]
    data = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data[::-1]})


def made(handler: Handler, key: str | None = None) -> OpenAIEmbedder:
    return OpenAIEmbedder(NAME, key, transport=httpx.MockTransport(handler))


def test_vectors_come_in_the_order_of_the_texts_and_of_unit_length() -> None:
    embedder = made(answering)
    matrix = embedder.embed(["a", "four", "sixsix"])
    assert embedder.dimensions == 2
    assert matrix.dtype == np.float32
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1.0)
    assert np.allclose(matrix[:, 0] / matrix[:, 1], [1, 4, 6])


def test_many_texts_are_sent_in_batches_with_the_model_and_the_key() -> None:
    sent: list[httpx.Request] = []

    def remembering(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return answering(request)

    assert made(remembering, "secret").embed(["text"] * (BATCH + 1)).shape == (BATCH + 1, 2)
    sizes = [len(json.loads(request.content)["input"]) for request in sent]
    assert sizes == [1, BATCH, 1]
    assert {str(request.url) for request in sent} == {"http://embeddings.test/v1/embeddings"}
    assert {request.headers["Authorization"] for request in sent} == {"Bearer secret"}
    assert {json.loads(request.content)["model"] for request in sent} == {"fake-model"}


def test_no_text_gives_no_vector_of_the_right_length() -> None:
    assert made(answering).embed([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(401), "401"),
        (httpx.Response(200, text="<html>"), "did not answer with embeddings"),
        (httpx.Response(200, json={"data": []}), "0 vectors for 1 texts"),
        (httpx.Response(200, json={"data": [{"index": 0}]}), "did not answer with embeddings"),
        (httpx.Response(200, json=["no object"]), "did not answer with embeddings"),
    ],
)
def test_an_endpoint_that_answers_something_else_is_unavailable(answer: httpx.Response, said: str) -> None:
    with pytest.raises(EmbedderUnavailable, match=said):
        made(lambda _: answer)


def test_an_endpoint_that_cannot_be_reached_is_unavailable() -> None:
    def refusing(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        made(refusing)


@pytest.mark.parametrize("name", ["", "model", "model@", "@http://x", "model@ftp://x", "model@localhost:80"])
def test_a_name_without_model_or_address_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="MODEL@URL"):
        OpenAIEmbedder(name)


def test_a_real_server_on_this_machine_is_asked_over_http() -> None:
    with EmbeddingsServer() as server:
        embedder = OpenAIEmbedder(f"local@{server.url}")
        near, far = embedder.embed(["green tea", "motorway"]) @ embedder.embed_query("green tea please")
        assert embedder.identity == f"openai:local@{server.url}"
        assert near > far
        assert server.texts[-1] == "green tea please"
    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        embedder.embed(["after it has gone"])
