"""Embedders and rerankers by folder: small real ones in the shapes of the large, and everything wrong with them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from person import Person, eventually, settings_for
from stdio_client import serving

from memos_mcp.errors import EmbedderUnavailable, RerankerUnavailable
from memos_mcp.kernel import Kernel, make_embedder, make_reranker
from memos_mcp.maintenance.derivatives import change_embedder
from memos_mcp.ports import Embedder

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip("the extra models is not installed", allow_module_level=True)

import small_models
from small_models import changed, chinese, cross_encoder_folder, edited, embedder_folder, english, multilingual

from memos_mcp.backends.model_folders import MOST_TOKENS


def by_folder(folder: Path) -> Embedder:
    return make_embedder(f"sentence-transformers:{folder}", folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that tests read and copy, and do not change."""
    root = tmp_path_factory.mktemp("models")
    return {
        "english": embedder_folder(root / "english", english()),
        "chinese": embedder_folder(root / "chinese", chinese(), dimensions=24, pooling="cls"),
        "multilingual": embedder_folder(
            root / "multilingual", multilingual(), shape="xlm-roberta", dimensions=48, pooling="cls"
        ),
        "bytes": embedder_folder(root / "bytes", small_models.english_bytes(), shape="xlm-roberta"),
        "reranker": cross_encoder_folder(root / "reranker", chinese()),
        "large reranker": cross_encoder_folder(root / "large", multilingual(), shape="xlm-roberta", dimensions=64),
    }


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


# --- what the folder says holds


@pytest.mark.parametrize(("name", "dimensions"), [("english", 32), ("chinese", 24), ("multilingual", 48)])
def test_shapes_and_poolings_give_vectors_of_their_own_length(
    models: dict[str, Path], name: str, dimensions: int
) -> None:
    embedder = by_folder(models[name])
    assert embedder.dimensions == dimensions
    assert embedder.embed(["绿茶", "green tea"]).shape == (2, dimensions)


def test_mean_and_first_token_are_told_apart(tmp_path: Path) -> None:
    mean = by_folder(embedder_folder(tmp_path / "mean", chinese(), pooling="mean", seed=1))
    first = by_folder(embedder_folder(tmp_path / "cls", chinese(), pooling="cls", seed=1))
    assert float(mean.embed_query("绿茶") @ first.embed_query("绿茶")) < 0.99
    assert mean.identity != first.identity


def test_questions_and_texts_get_the_prompts_that_the_folder_names(models: dict[str, Path], tmp_path: Path) -> None:
    plain = by_folder(models["chinese"])
    folder = copied(models["chinese"], tmp_path / "prompted")
    edited(folder / "config_sentence_transformers.json", prompts={"query": "green: ", "passage": "the tea "})
    prompted = by_folder(folder)
    np.testing.assert_allclose(prompted.embed_query("绿茶"), plain.embed_query("green: 绿茶"), atol=1e-5)
    np.testing.assert_allclose(prompted.embed(["绿茶"]), plain.embed(["the tea 绿茶"]), atol=1e-5)
    assert prompted.identity != plain.identity


def test_a_model_of_the_e5_family_that_names_no_prompts_gets_those_it_was_trained_with(
    models: dict[str, Path], tmp_path: Path
) -> None:
    plain = by_folder(models["chinese"])
    e5 = by_folder(copied(models["chinese"], tmp_path / "multilingual-e5-small"))
    np.testing.assert_allclose(e5.embed_query("绿茶"), plain.embed_query("query: 绿茶"), atol=1e-5)
    np.testing.assert_allclose(e5.embed(["绿茶"]), plain.embed(["passage: 绿茶"]), atol=1e-5)
    assert e5.identity == f"{plain.identity}+e5"


def test_no_more_is_read_than_the_folder_allows(tmp_path: Path) -> None:
    short = by_folder(embedder_folder(tmp_path / "short", chinese(), max_seq_length=8))
    np.testing.assert_allclose(short.embed_query("汉字" * 4), short.embed_query("汉字" * 4 + "绿茶"), atol=1e-5)
    longer = by_folder(embedder_folder(tmp_path / "longer", chinese(), max_seq_length=16))
    assert float(longer.embed_query("汉字" * 4) @ longer.embed_query("汉字" * 4 + "绿茶")) < 0.9999


def test_a_model_that_could_read_a_book_reads_a_page(tmp_path: Path) -> None:
    embedder = by_folder(embedder_folder(tmp_path / "long", chinese(), max_seq_length=520))
    page = "汉字" * (MOST_TOKENS // 2)
    np.testing.assert_allclose(embedder.embed_query(page), embedder.embed_query(page + "绿茶"), atol=1e-5)
    assert np.isfinite(embedder.embed(["汉" * 1_000_000])).all()


def test_a_model_without_a_transformer_embeds_too(tmp_path: Path) -> None:
    embedder = by_folder(small_models.static_folder(tmp_path / "static", chinese()))
    rows = embedder.embed(["绿茶", "", "x" * 100_000])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert rows.shape == (3, 16)
    assert (embedder.trust("绿茶"), embedder.trust("안녕하세요")) == (1.0, 0.15)


def test_the_identity_is_that_of_the_contents_wherever_they_lie(models: dict[str, Path], tmp_path: Path) -> None:
    before = by_folder(models["chinese"]).identity
    moved = copied(models["chinese"], tmp_path / "elsewhere")
    assert by_folder(moved).identity == before
    (moved / "README.md").write_text("notes")
    (moved / "onnx").mkdir()
    (moved / "onnx" / "config.json").write_text("{}")
    assert by_folder(moved).identity == before, "what is not read does not count"
    changed(moved)
    assert by_folder(moved).identity != before


def test_the_identity_of_a_reranker_follows_its_weights_too(models: dict[str, Path], tmp_path: Path) -> None:
    moved = copied(models["reranker"], tmp_path / "reranker")
    before = make_reranker(f"cross-encoder:{models['reranker']}").identity
    assert make_reranker(f"cross-encoder:{moved}").identity == before
    changed(moved)
    assert make_reranker(f"cross-encoder:{moved}").identity != before


# --- how far a model knows a language


@pytest.mark.parametrize(
    ("name", "text", "least", "most"),
    [
        ("multilingual", "我喜欢喝绿茶", 1.0, 1.0),
        ("multilingual", "玛雅对花生过敏，不能吃什么？", 1.0, 1.0),
        ("chinese", "服务器中午重启", 1.0, 1.0),
        ("chinese", "汉" * 3_000, 1.0, 1.0),
        ("english", "What must Maya not eat?", 1.0, 1.0),
        ("english", "I am a man", 1.0, 1.0),
        ("english", "我喜欢喝绿茶", 0.15, 0.15),
        ("english", "上海的地铁几点关门", 0.15, 0.15),
        ("english", "привет как дела", 0.15, 0.15),
        ("english", "안녕하세요 세계", 0.15, 0.15),
        ("english", "مرحبا بالعالم", 0.15, 0.15),
        ("english", "重启 the production server", 0.8, 0.95),
        ("bytes", "我喜欢喝绿茶", 0.15, 0.15),
        ("bytes", "what must Maya not eat", 0.8, 1.0),
        *((name, text, 1.0, 1.0) for name in ("english", "multilingual") for text in ("", "42", "🧑‍🚀🚀", "\x01 ?")),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_trust_is_full_for_languages_of_the_model_and_low_for_others(
    models: dict[str, Path], name: str, text: str, least: float, most: float
) -> None:
    assert least <= by_folder(models[name]).trust(text) <= most


def test_a_tokenizer_set_to_cut_early_does_not_make_chinese_foreign(tmp_path: Path) -> None:
    embedder = by_folder(embedder_folder(tmp_path / "short", chinese(), max_seq_length=16))
    embedder.embed(["汉字" * 40])
    assert embedder.trust("汉字" * 40) == 1.0


# --- what is wrong is said


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("harm", [Path.unlink, garbage, halved])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "modules.json"])
def test_an_embedder_whose_folder_is_not_whole_is_refused_with_what_to_do(
    models: dict[str, Path], tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    folder = copied(models["chinese"], tmp_path / "harmed")
    harm(folder / file)
    if (file, harm) == ("modules.json", Path.unlink):
        assert by_folder(folder).dimensions == 24, "a plain transformer folder will do"
        return
    with pytest.raises(EmbedderUnavailable, match=r"cannot be loaded .* copy or download it again") as caught:
        by_folder(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("harm", [Path.unlink, garbage, halved])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_reranker_whose_folder_is_not_whole_is_refused_with_what_to_do(
    models: dict[str, Path], tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    folder = copied(models["reranker"], tmp_path / "harmed")
    harm(folder / file)
    with pytest.raises(RerankerUnavailable, match=r"cannot be loaded .* copy or download it again"):
        make_reranker(f"cross-encoder:{folder}")


def test_an_empty_folder_a_file_and_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, said in (("empty", "cannot be loaded"), ("file", "is a file"), ("nowhere", "is not there")):
        with pytest.raises(EmbedderUnavailable, match=said):
            by_folder(tmp_path / name)
        with pytest.raises(RerankerUnavailable, match=said):
            make_reranker(f"cross-encoder:{tmp_path / name}")


def test_vocabulary_and_weights_of_different_models_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(models["chinese"], tmp_path / "mixed")
    edited(folder / "config.json", vocab_size=99)
    with pytest.raises(EmbedderUnavailable, match="copy or download it again"):
        by_folder(folder)


def test_a_model_that_was_not_made_for_reranking_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    classifier = cross_encoder_folder(tmp_path / "classifier", chinese(), labels=3)
    for folder in (models["chinese"], classifier):
        with pytest.raises(RerankerUnavailable, match=r"no reranker .* config reranker none"):
            make_reranker(f"cross-encoder:{folder}")


@pytest.mark.parametrize("folder", ["./model", "models/of/mine", ".."])
def test_a_relative_folder_is_refused_with_what_to_give(folder: str) -> None:
    with pytest.raises(EmbedderUnavailable, match="whole path"):
        make_embedder(f"sentence-transformers:{folder}", Path("/"))


SCRIPT = """
import sys
from pathlib import Path
from memos_mcp.errors import MemosError
from memos_mcp.kernel import make_embedder, make_reranker
for make, name in ((lambda n: make_embedder(n, Path("/")), sys.argv[1]), (make_reranker, sys.argv[2])):
    try:
        print("MADE", make(name).identity)
    except MemosError as error:
        print(type(error).__name__, error)
"""


def elsewhere(first: str, second: str, *flags: str, **env: str) -> list[str]:
    """What a fresh process says of making these two."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", SCRIPT, first, second],
        capture_output=True, text=True, timeout=300, check=True, env={**os.environ, **env},
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_name_is_loaded_from_this_machine_without_the_network(models: dict[str, Path], tmp_path: Path) -> None:
    for name, folder in (("models--own--embedder", "chinese"), ("models--own--reranker", "reranker")):
        revision = "0123456789abcdef" * 2 + "01234567"
        kept = tmp_path / "hub" / name
        copied(models[folder], kept / "snapshots" / revision)
        (kept / "refs").mkdir()
        (kept / "refs" / "main").write_text(revision)
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    said = elsewhere("sentence-transformers:own/embedder", "cross-encoder:own/reranker", **env)
    assert said == [
        "MADE sentence-transformers:own/embedder@0123456789ab",
        "MADE cross-encoder:own/reranker@0123456789ab",
    ]
    said = elsewhere("sentence-transformers:own/other", "cross-encoder:other", **env)
    assert [line.split()[0] for line in said] == ["EmbedderUnavailable", "RerankerUnavailable"]
    assert all("go online once, or give the whole path" in line for line in said)
    (snapshot,) = (tmp_path / "hub" / "models--own--embedder" / "snapshots").iterdir()
    (snapshot / "modules.json").unlink()
    said = elsewhere("sentence-transformers:own/embedder", "none", **env)
    assert said[0].startswith("EmbedderUnavailable"), "it would be pooled in another way than it was trained"


@pytest.mark.slow
def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path: Path, models: dict[str, Path]) -> None:
    (tmp_path / "sentence_transformers.py").write_text("raise ImportError('not here', name='sentence_transformers')")
    said = elsewhere(
        f"sentence-transformers:{models['chinese']}",
        f"cross-encoder:{models['reranker']}",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{os.pathsep.join(sys.path)}",
    )
    assert [line.split()[0] for line in said] == ["EmbedderUnavailable", "RerankerUnavailable"]
    assert all("pip install 'memos-mcp[models]'" in line for line in said)


# --- in a store


def opened(home: Path, embedder: str) -> Kernel:
    kernel = Kernel.open(settings_for(home, embedder=embedder))
    kernel.api.parts.embedder.get(120.0)
    return kernel


def test_weights_that_were_replaced_are_noticed_and_re_embedding_mends_it(
    models: dict[str, Path], home: Path, tmp_path: Path
) -> None:
    folder = copied(models["chinese"], tmp_path / "model")
    name = f"sentence-transformers:{folder}"
    kernel = opened(home, name)
    cube = Person(kernel.api, "ada").keep("绿茶要趁热喝")
    assert "degraded" not in Person(kernel.api, "ada").search("绿茶")
    kernel.close()
    changed(folder)
    kernel = Kernel.open(settings_for(home))
    try:
        ada = Person(kernel.api, "ada")
        result = ada.search("绿茶")
        assert [hit["id"] for hit in result["hits"]] == [cube], "words still find it"
        assert f"memos-mcp embedder {name}" in result["degraded"]
        assert change_embedder(kernel, name).embedded == 1
        assert "degraded" not in ada.search("绿茶")
    finally:
        kernel.close()


@pytest.mark.slow
def test_a_host_gets_reranked_hits_from_a_real_cross_encoder(models: dict[str, Path], tmp_path: Path) -> None:
    name = f"cross-encoder:{models['large reranker']}"
    texts = ["Green tea is drunk hot", "绿茶要趁热喝", "Tea with milk", "Tea at noon in the office", "茶"]
    with serving(tmp_path / "home", MEMOS_RERANKER=name) as server:
        for text in texts:
            server.keep(text, kind="fact")
        first: dict[str, Any] = server.done("memory_search", query="green tea 绿茶")
        assert "rerank" not in first["hits"][0]["why"]
        assert "The reranker is still loading" in first["degraded"]
        assert eventually(lambda: "degraded" not in server.done("memory_search", query="green tea 绿茶"), 120.0)
        hits = server.done("memory_search", query="green tea 绿茶")["hits"]
    log_odds = make_reranker(name).scores("green tea 绿茶", [hit["text"] for hit in hits])
    assert [hit["why"]["rerank"] for hit in hits] == pytest.approx((1 / (1 + np.exp(-log_odds))).tolist(), abs=2e-3)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    config = json.dumps((tmp_path / "home" / "config.toml").read_text())
    assert str(models["large reranker"]) in config, "what the first host asked for is kept"


def test_a_reranker_of_the_largest_shape_orders_by_its_own_scores(models: dict[str, Path]) -> None:
    reranker = make_reranker(f"cross-encoder:{models['large reranker']}")
    scores = reranker.scores("绿茶", ["绿茶要趁热喝", "The server restarts"])
    assert scores[0] != scores[1]
