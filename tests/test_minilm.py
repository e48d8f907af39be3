"""Tests of the embedder minilm on its real model files.

Knows nothing of stores: what search makes of the vectors is tested elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from memos_mcp.backends.minilm import BUNDLED_FOLDER, MiniLM
from memos_mcp.errors import EmbedderUnavailable
from memos_mcp.ports import Embedder

MIXED_LENGTHS = [
    "The invoice was paid on the third of May, and the receipt lies in the blue folder in the office.",
    "Coffee.",
    "My sister moved to Lisbon two years ago and works at the harbour.",
    "用户喜欢喝绿茶,不喜欢咖啡。",
    "Never push to the main branch without a review. " * 12,
    "who owns the billing service",
]

HOSTILE = {
    "empty": "",
    "whitespace": " \t\n\u3000 ",
    "lone surrogate": "\ud800",
    "surrogate inside words": "green \udfff tea",
    "nul": "green\x00tea\x00",
    "controls": "\x01\x02\x7f\ufffd\ufeff",
    "one megabyte of words": "green tea " * 100_000,
    "one megabyte without a space": "a" * 1_000_000,
    "one megabyte of spaces, then a word": " " * 1_000_000 + "tea",
    "special tokens": "[CLS] [SEP] [MASK] [PAD]",
    "combining marks": "e" + "\u0301" * 3_000,
}

PARAPHRASES = [
    (
        "The user prefers tea over coffee.",
        "She would rather drink tea than coffee.",
        "The server restarts at noon.",
    ),
    (
        "When is the dentist appointment?",
        "The visit to the dentist is on Tuesday.",
        "The gate squeaks in the wind.",
    ),
    (
        "The build failed last night.",
        "Compilation broke yesterday evening.",
        "Anna plays the cello on Wednesdays.",
    ),
    ("Use tabs for indentation.", "Indent the code with tab characters.", "The museum is closed on Mondays."),
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


def test_it_satisfies_the_embedder_port(minilm: MiniLM) -> None:
    embedder: Embedder = minilm
    assert embedder.dimensions == 384
    assert embedder.identity.startswith("minilm:")


def test_the_file_is_the_one_that_was_made() -> None:
    digest = hashlib.sha256((BUNDLED_FOLDER / "model.onnx").read_bytes()).hexdigest()
    assert json.loads((BUNDLED_FOLDER / "model.json").read_text(encoding="utf-8"))["sha256"] == digest


def test_a_store_of_the_first_graph_needs_no_embedding_anew(minilm: MiniLM) -> None:
    """`minilm_vectors.npy` holds what the graph of version 0.1.0 made of these texts, in half precision."""
    assert minilm.identity == "minilm:623697549607ce6c"
    former = np.load(Path(__file__).parent / "data" / "minilm_vectors.npy").astype(np.float32)
    cosines = np.sum(former * minilm.embed(MIXED_LENGTHS), axis=1)
    assert cosines.min() > 0.99
    assert cosines.mean() > 0.998


def test_every_row_is_a_float32_vector_of_unit_length(minilm: MiniLM) -> None:
    rows = minilm.embed(MIXED_LENGTHS)
    assert rows.shape == (len(MIXED_LENGTHS), 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_no_text_gives_no_row(minilm: MiniLM) -> None:
    rows = minilm.embed([])
    assert rows.shape == (0, 384)
    assert rows.dtype == np.float32


def test_rows_come_in_the_order_of_the_texts(minilm: MiniLM) -> None:
    forward = minilm.embed(MIXED_LENGTHS)
    backward = minilm.embed(MIXED_LENGTHS[::-1])
    np.testing.assert_array_equal(forward, backward[::-1])


def test_a_vector_does_not_depend_on_the_texts_embedded_with_it(minilm: MiniLM) -> None:
    together = minilm.embed(MIXED_LENGTHS)
    alone = np.stack([minilm.embed_query(text) for text in MIXED_LENGTHS])
    np.testing.assert_array_equal(together, alone)


def test_threads_at_work_together_get_the_vectors_of_one_alone(minilm: MiniLM) -> None:
    expected = minilm.embed(MIXED_LENGTHS)
    with ThreadPoolExecutor(max_workers=4) as pool:
        results = list(pool.map(minilm.embed, [MIXED_LENGTHS] * 16))
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_hardly_changes_a_vector(minilm: MiniLM, threads: int) -> None:
    other = MiniLM(threads=threads)
    cosines = np.sum(other.embed(MIXED_LENGTHS) * minilm.embed(MIXED_LENGTHS), axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize(("text", "paraphrase", "unrelated"), PARAPHRASES)
def test_a_paraphrase_is_nearer_than_an_unrelated_sentence(
    minilm: MiniLM, text: str, paraphrase: str, unrelated: str
) -> None:
    query = minilm.embed_query(text)
    near, far = minilm.embed([paraphrase, unrelated]) @ query
    assert near > far + 0.2


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_string_has_a_vector_of_unit_length(minilm: MiniLM, text: str) -> None:
    vector = minilm.embed_query(text)
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_a_surrogate_does_not_hide_the_words_around_it(minilm: MiniLM) -> None:
    np.testing.assert_array_equal(minilm.embed_query("green \ud800tea"), minilm.embed_query("green tea"))


def test_leading_space_does_not_push_the_text_out_of_reach(minilm: MiniLM) -> None:
    np.testing.assert_array_equal(
        minilm.embed_query(" " * 10_000 + "green tea"), minilm.embed_query("green tea")
    )


def test_text_past_the_token_limit_is_not_read(minilm: MiniLM) -> None:
    long = "green tea " * 200
    np.testing.assert_array_equal(minilm.embed_query(long), minilm.embed_query(long + "the server restarts"))


def test_a_missing_folder_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match=r"nowhere.*Install memos-mcp again"):
        MiniLM(folder=tmp_path / "nowhere")


def _copy_of_the_model(folder: Path, leave_out: Sequence[str] = ()) -> Path:
    for name in ("model.onnx", "tokenizer.json", "model.json"):
        if name not in leave_out:
            shutil.copyfile(BUNDLED_FOLDER / name, folder / name)
    return folder


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "model.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbedderUnavailable, match=name):
        MiniLM(folder=_copy_of_the_model(tmp_path, leave_out=[name]))


def test_a_model_file_cut_short_is_named(tmp_path: Path) -> None:
    model = _copy_of_the_model(tmp_path) / "model.onnx"
    model.write_bytes(model.read_bytes()[:1_000])
    with pytest.raises(EmbedderUnavailable, match="1000 bytes instead of"):
        MiniLM(folder=tmp_path)


def test_a_model_file_of_the_right_size_and_the_wrong_content_is_refused(tmp_path: Path) -> None:
    model = _copy_of_the_model(tmp_path) / "model.onnx"
    model.write_bytes(b"\xff" * model.stat().st_size)
    with pytest.raises(EmbedderUnavailable, match="onnxruntime refuses it"):
        MiniLM(folder=tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_bytes": null}'])
def test_a_description_in_another_form_is_refused(tmp_path: Path, content: str) -> None:
    (_copy_of_the_model(tmp_path) / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(EmbedderUnavailable, match="not in the expected form"):
        MiniLM(folder=tmp_path)
