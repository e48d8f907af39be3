"""One suite for each port, run over every implementation and its fake."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from fakes import FakeEmbedder, FakeIndex, FakeReranker

from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.backends.minilm import MiniLM
from memos_mcp.backends.openai import OpenAIEmbedder
from memos_mcp.errors import EmbedderUnavailable, InvalidInput
from memos_mcp.ports import Embedder, IndexBroken, Matrix, Reranker, VectorIndex

DIMENSIONS = 32
NEEDS_MODELS = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra models is not installed"
)


def endpoint(request: httpx.Request) -> httpx.Response:
    """An `/embeddings` endpoint over the fake, answering in reverse order as the protocol allows."""
    asked = json.loads(request.content)["input"]
    rows = FakeEmbedder("remote", DIMENSIONS).embed(asked) * 3.0
    data = [{"index": i, "embedding": row.tolist()} for i, row in enumerate(rows)]
    return httpx.Response(200, json={"data": data[::-1]})


def small_bert(folder: Path) -> Embedder:
    import small_models

    from memos_mcp.backends.sentence_transformers import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder(str(small_models.embedder_folder(folder / "bert", small_models.chinese())))


def small_xlm_roberta(folder: Path) -> Embedder:
    import small_models

    from memos_mcp.backends.sentence_transformers import SentenceTransformersEmbedder

    made = small_models.embedder_folder(
        folder / "xlm", small_models.multilingual(), shape="xlm-roberta", dimensions=48, pooling="cls"
    )
    return SentenceTransformersEmbedder(str(made))


EMBEDDERS: dict[str, Callable[[Path], Embedder]] = {
    "fake": lambda _: FakeEmbedder(),
    "minilm": lambda _: MiniLM(),
    "openai": lambda _: OpenAIEmbedder("m@http://host/v1", transport=httpx.MockTransport(endpoint)),
}
MODELS = {"bert": small_bert, "xlm-roberta": small_xlm_roberta}


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(make, id=name) for name, make in EMBEDDERS.items()),
        *(pytest.param(make, id=name, marks=NEEDS_MODELS) for name, make in MODELS.items()),
    ],
)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    made: Embedder = request.param(tmp_path_factory.mktemp("model"))
    return made


TEXTS = ["Green tea is drunk hot", "绿茶要趁热喝", "The server restarts at noon", "x" * 3_000, "", "\ud800 half"]


def test_vectors_come_in_order_normalised_and_float32(embedder: Embedder) -> None:
    rows = embedder.embed(TEXTS)
    assert rows.shape == (len(TEXTS), embedder.dimensions)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1]), rows[::-1], atol=1e-5)


def test_no_text_gives_no_vector(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_a_question_lies_where_its_text_lies(embedder: Embedder) -> None:
    query = embedder.embed_query(TEXTS[0])
    assert query.shape == (embedder.dimensions,)
    assert query.dtype == np.float32
    cosines = embedder.embed(TEXTS[:3]) @ query
    assert int(np.argmax(cosines)) == 0
    assert cosines[0] > 0.99


def test_the_identity_is_steady(embedder: Embedder) -> None:
    assert embedder.identity
    assert embedder.identity == embedder.identity


def test_what_it_understands_is_a_share(embedder: Embedder) -> None:
    for text in TEXTS:
        assert 0.0 < embedder.trust(text) <= 1.0


def test_several_threads_get_what_one_gets(embedder: Embedder) -> None:
    alone = embedder.embed(TEXTS[:3])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: embedder.embed([TEXTS[n % 3]])[0], range(24)))
    for n, vector in enumerate(found):
        np.testing.assert_allclose(vector, alone[n % 3], atol=1e-5)


def small_cross_encoder(folder: Path) -> Reranker:
    import small_models

    from memos_mcp.backends.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(str(small_models.cross_encoder_folder(folder / "cross", small_models.chinese())))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(lambda _: FakeReranker(), id="fake"),
        pytest.param(small_cross_encoder, id="cross-encoder", marks=NEEDS_MODELS),
    ],
)
def reranker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    made: Reranker = request.param(tmp_path_factory.mktemp("model"))
    return made


def test_every_text_gets_a_finite_score_in_its_place(reranker: Reranker) -> None:
    scores = reranker.scores("tea 绿茶", TEXTS)
    assert scores.shape == (len(TEXTS),)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) > 1
    np.testing.assert_allclose(reranker.scores("tea 绿茶", TEXTS[::-1]), scores[::-1], atol=1e-4)


def test_a_score_depends_on_its_own_pair_alone(reranker: Reranker) -> None:
    together = reranker.scores("Is tea hot?", TEXTS)
    alone = [float(reranker.scores("Is tea hot?", [text])[0]) for text in TEXTS]
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_no_text_gets_no_score(reranker: Reranker) -> None:
    assert reranker.scores("tea", []).shape == (0,)


@pytest.mark.parametrize("question", ["", "\ud800", "x" * 20_000, "🧑‍🚀 مرحبا \u202e\x01", "汉" * 5_000], ids=ascii)
def test_any_question_can_be_asked(reranker: Reranker, question: str) -> None:
    assert np.isfinite(reranker.scores(question, TEXTS[:3])).all()


def test_several_threads_get_the_scores_that_one_gets(reranker: Reranker) -> None:
    alone = reranker.scores("green tea", TEXTS[:3])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: reranker.scores("green tea", [TEXTS[n % 3]])[0], range(24)))
    np.testing.assert_allclose(found, [alone[n % 3] for n in range(24)], atol=1e-4)


def test_a_reranker_says_what_it_is_and_how_many_texts_it_takes(reranker: Reranker) -> None:
    assert reranker.identity == reranker.identity != ""
    assert reranker.at_a_time >= 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(500),
        lambda _: httpx.Response(401, text="who are you"),
        lambda _: httpx.Response(200, text="not json"),
        lambda _: httpx.Response(200, json={"data": []}),
        lambda _: httpx.Response(200, json={"data": [{"index": 0}]}),
        lambda _: httpx.Response(200, json=[1]),
        lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": []}]}),
        lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": [float(10**5)], "x": None}] * 2}),
    ],
)
def test_an_endpoint_that_answers_wrongly_is_unavailable(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    with pytest.raises(EmbedderUnavailable, match="http://host/v1/embeddings"):
        OpenAIEmbedder("m@http://host/v1", transport=httpx.MockTransport(answer))


def test_an_endpoint_whose_vectors_change_length_is_unavailable() -> None:
    lengths = iter([4, 3])

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0] * next(lengths)}]})

    remote = OpenAIEmbedder("m@http://host/v1", transport=httpx.MockTransport(answer))
    with pytest.raises(EmbedderUnavailable, match="3"):
        remote.embed(["a"])


def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(EmbedderUnavailable, match="cannot be reached"):
        OpenAIEmbedder("m@http://host/v1", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("name", ["", "m", "m@", "@http://host", "m@ftp://host"])
def test_a_name_that_is_no_endpoint_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="MODEL@URL"):
        OpenAIEmbedder(name)


INDEXES: dict[str, Callable[[Path], VectorIndex]] = {"fake": lambda _: FakeIndex(), "chroma": ChromaIndex}


@pytest.fixture(params=INDEXES.values(), ids=INDEXES.keys())
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorIndex]:
    made: VectorIndex = request.param(tmp_path / "index")
    assert made.verify() == []
    yield made
    made.close()
    made.close()


def batch(first: int, count: int) -> tuple[list[int], Matrix]:
    rows = np.random.default_rng(first).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return list(range(first, first + count)), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_space_that_was_never_built_has_no_index(index: VectorIndex) -> None:
    assert index.size(1) is None
    with pytest.raises(IndexBroken) as caught:
        index.nearest(1, batch(1, 1)[1][0], 3)
    assert caught.value.space == 1
    with pytest.raises(IndexBroken):
        index.add(1, *batch(1, 2))
    index.drop(1)


def test_entries_are_found_nearest_first(index: VectorIndex) -> None:
    keys, rows = batch(1, 300)
    index.rebuild(1, iter([(keys[:200], rows[:200]), (keys[200:], rows[200:])]))
    assert index.size(1) == 300
    for i in (0, 150, 299):
        expected = [keys[j] for j in np.argsort(-(rows @ rows[i]))[:10]]
        assert index.nearest(1, rows[i], 10) == expected


def test_more_are_asked_for_than_there_are(index: VectorIndex) -> None:
    keys, rows = batch(1, 5)
    index.rebuild(1, iter([(keys, rows)]))
    assert sorted(index.nearest(1, rows[0], 50)) == keys


def test_adding_a_key_twice_leaves_one_entry(index: VectorIndex) -> None:
    keys, rows = batch(1, 20)
    index.rebuild(1, iter([(keys, rows)]))
    index.add(1, keys[:5], rows[:5])
    index.add(1, *batch(100, 3))
    assert index.size(1) == 23


def test_removed_entries_are_not_found_and_unknown_keys_are_ignored(index: VectorIndex) -> None:
    keys, rows = batch(1, 20)
    index.rebuild(1, iter([(keys, rows)]))
    index.remove(1, [keys[3], 9_999])
    assert index.size(1) == 19
    assert keys[3] not in index.nearest(1, rows[3], 19)


def test_spaces_are_apart(index: VectorIndex) -> None:
    one, two = batch(1, 10), batch(100, 10)
    index.rebuild(1, iter([one]))
    index.rebuild(2, iter([two]))
    assert set(index.nearest(1, two[1][0], 10)) == set(one[0])
    index.drop(1)
    assert index.size(1) is None
    assert index.size(2) == 10


def test_a_rebuild_replaces_everything(index: VectorIndex) -> None:
    index.rebuild(1, iter([batch(1, 10)]))
    keys, rows = batch(50, 4)
    index.rebuild(1, iter([(keys, rows)]))
    assert sorted(index.nearest(1, rows[0], 10)) == keys


def test_a_rebuild_that_fails_leaves_the_old_one(index: VectorIndex) -> None:
    keys, rows = batch(1, 10)
    index.rebuild(1, iter([(keys, rows)]))

    def batches() -> Iterator[tuple[list[int], Matrix]]:
        yield batch(50, 4)
        raise IndexBroken(1, "the program ends")

    with pytest.raises(IndexBroken):
        index.rebuild(1, batches())
    assert sorted(index.nearest(1, rows[0], 10)) == keys


def test_an_empty_rebuild_is_an_empty_index(index: VectorIndex) -> None:
    index.rebuild(1, iter([]))
    assert index.size(1) == 0
    assert index.nearest(1, batch(1, 1)[1][0], 5) == []


def test_a_vector_of_another_length_breaks_no_more_than_the_answer(index: VectorIndex) -> None:
    keys, rows = batch(1, 10)
    index.rebuild(1, iter([(keys, rows)]))
    with pytest.raises(IndexBroken):
        index.nearest(1, np.ones(DIMENSIONS + 1, dtype=np.float32), 3)
    assert index.nearest(1, rows[0], 1) == [keys[0]]


def test_a_closed_index_is_there_again(tmp_path: Path) -> None:
    keys, rows = batch(1, 30)
    first = ChromaIndex(tmp_path / "index")
    assert first.verify() == []
    for space in range(1, 12):
        first.rebuild(space, iter([(keys, rows)]))
    first.close()
    second = ChromaIndex(tmp_path / "index")
    assert second.verify() == []
    assert [second.size(space) for space in range(1, 13)] == [30] * 11 + [None]
    assert second.nearest(7, rows[4], 1) == [keys[4]]
    second.close()
