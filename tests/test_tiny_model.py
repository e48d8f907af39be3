"""The project's own small model: its facts, its files, and what llama.cpp makes of them.

The facts need nothing but the standard library, the exporter gguf, tokens and answers llama_cpp, logits torch and
transformers besides; what is not installed is skipped.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import random_model
from tiny_model import facts
from tiny_model.facts import LANGUAGES, MAX_FACTS, Case, Fact, Split, cases, draw_facts

FOLDER = Path(__file__).parent / "data" / "tiny_model"
MODEL = FOLDER / "model.gguf"
FRESH_SEED = 41
MAKE = Path(__file__).parents[1] / "scripts" / "make_model.py"
SMALL = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 300, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 500.0, "tie_word_embeddings": False, "hidden_act": "silu",
    "bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": None,
}  # fmt: skip
"""A Llama whose keys are shared by two heads each, and whose output is not its input."""


@pytest.fixture(scope="module")
def export() -> Any:
    pytest.importorskip("gguf", reason="gguf is not installed: no model is written")
    from tiny_model import export

    return export


@pytest.fixture(scope="module")
def check() -> Any:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: no model is read")
    from tiny_model import check

    return check


@pytest.fixture(scope="module")
def model(check: Any) -> Iterator[Any]:
    with check.opened(MODEL) as opened:
        yield opened


def drawn(split: Split, count: int = 300) -> list[Fact]:
    rng = random.Random(3)
    return [fact for _ in range(count) for fact in draw_facts(rng, 8, split)]


def codes(of: list[Fact]) -> set[str]:
    return {fact.value for fact in of if fact.attribute == "code"}


def test_no_held_out_name_or_code_occurs_in_training() -> None:
    seen, held_out = drawn(Split.TRAINING), drawn(Split.HELD_OUT)
    assert {fact.name for fact in seen}.isdisjoint(fact.name for fact in held_out)
    assert codes(seen).isdisjoint(codes(held_out))
    assert len({fact.name for fact in held_out}) > 100
    assert len(codes(held_out)) > 100


def test_the_same_seed_gives_the_same_cases_and_another_one_others() -> None:
    assert list(cases(5, 20, 4)) == list(cases(5, 20, 4))
    assert list(cases(5, 20, 4)) != list(cases(6, 20, 4))


@pytest.mark.parametrize("count", [1, 4, 8, 16, MAX_FACTS])
def test_a_case_says_one_thing_of_each_kind_about_a_name_and_asks_about_one_of_them(count: int) -> None:
    for case in cases(1, 20, count):
        assert len({(fact.name, fact.attribute) for fact in case.facts}) == count
        assert case.asked in case.facts
        assert len(case.context.splitlines()) == count
        assert case.asked.name in case.question
        assert case.answer in case.context


def test_cases_are_in_both_languages_or_in_the_one_that_is_asked_for() -> None:
    assert {fact.language for case in cases(1, 20, 4) for fact in case.facts} == set(LANGUAGES)
    assert {fact.language for case in cases(1, 20, 4, languages=("zh",)) for fact in case.facts} == {"zh"}


@pytest.mark.parametrize("count", [0, MAX_FACTS + 1])
def test_a_number_of_facts_that_cannot_be_drawn_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to"):
        draw_facts(random.Random(0), count, Split.TRAINING)


def test_a_fact_reads_as_a_memory_does() -> None:
    ana = Fact("en", "Ana Lind", "code", "T48")
    assert ana.statement() == "Ana Lind's code is T48."
    assert ana.question() + ana.answer() == "Q: What is Ana Lind's code?\nA: T48"
    wang = Fact("zh", "王伟", "city", "北京")
    assert wang.statement() + wang.question() + wang.answer() == "王伟的城市是北京。问：王伟的城市是什么？\n答：北京"


def test_every_unit_of_the_facts_is_one_token_of_the_kept_tokenizer() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    split = {unit for unit in facts.units() if len(tokenizer.encode(unit, add_special_tokens=False).ids) != 1}
    assert not split


def test_the_kept_files_are_those_that_were_measured() -> None:
    made = json.loads((FOLDER / "made.json").read_text(encoding="utf-8"))
    for name, digest in made["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000


def test_names_of_tensors_are_translated_and_foreign_ones_refused(export: Any) -> None:
    assert export.gguf_name("model.layers.11.self_attn.q_proj.weight") == "blk.11.attn_q.weight"
    assert export.gguf_name("model.norm.weight") == "output_norm.weight"
    assert export.gguf_name("lm_head.weight") == "output.weight"
    foreign = (
        "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.q_proj.bias", "encoder.layer.0.weight"
    )  # fmt: skip
    for name in foreign:
        with pytest.raises(export.ExportError, match="no Llama has"):
            export.gguf_name(name)


def test_rows_of_a_head_are_paired_with_their_partner_in_its_other_half_and_back(export: Any) -> None:
    rows = np.arange(8).reshape(8, 1)
    assert export.neighbouring_pairs(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    matrix = np.random.default_rng(0).standard_normal((24, 5))
    np.testing.assert_array_equal(export.separate_halves(export.neighbouring_pairs(matrix, 3), 3), matrix)


def safetensors(tensors: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A safetensors file of float32 tensors, or of bfloat16 ones where the numbers are uint16."""
    head: dict[str, Any] = {}
    body = b""
    for name, tensor in tensors.items():
        kind = "BF16" if tensor.dtype == np.uint16 else "F32"
        raw = tensor.tobytes()
        head[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def small_tensors() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    sizes = {"model.embed_tokens": (300, 32), "lm_head": (300, 32), "model.norm": (32,)}
    for layer in range(2):
        sizes |= {
            f"model.layers.{layer}.{name}": size
            for name, size in {
                "self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32),
                "self_attn.o_proj": (32, 32), "mlp.gate_proj": (48, 32), "mlp.up_proj": (48, 32),
                "mlp.down_proj": (32, 48), "input_layernorm": (32,), "post_attention_layernorm": (32,),
            }.items()
        }  # fmt: skip
    return {f"{name}.weight": rng.standard_normal(size).astype(np.float32) * 0.3 for name, size in sizes.items()}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A Hugging Face folder of random weights, with the tokenizer of the kept model as far as it fits."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(small_tensors()))
    tokenizer = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {token: number for token, number in tokenizer["model"]["vocab"].items() if number < 280}
    merges = [pair for pair in tokenizer["model"]["merges"] if "".join(pair) in vocabulary]
    tokenizer["model"] |= {"vocab": vocabulary, "merges": merges}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def read_back(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from gguf import GGUFReader

    return {tensor.name: np.array(tensor.data).reshape(tensor.shape[::-1]) for tensor in GGUFReader(path).tensors}


def test_every_tensor_comes_back_from_the_file_in_its_place(export: Any, small: Path, tmp_path: Path) -> None:
    given, out = small_tensors(), tmp_path / "small.gguf"
    shape = export.export(small, out)
    found = read_back(out)
    assert (shape.heads, shape.kv_heads, shape.tied, shape.rope_theta) == (4, 2, False, 500.0)
    assert len(found) == len(given)
    for name, tensor in given.items():
        back = found[export.gguf_name(name)]
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            back = export.separate_halves(back, 4 if "q_proj" in name else 2)
        np.testing.assert_array_equal(back, tensor, err_msg=name)


def test_a_tied_model_has_no_output_of_its_own_and_bfloat16_is_read_exactly(
    export: Any, small: Path, tmp_path: Path
) -> None:
    halves = {name: (tensor.view(np.uint32) >> 16).astype(np.uint16) for name, tensor in small_tensors().items()}
    (small / "model.safetensors").write_bytes(safetensors(halves))
    (small / "config.json").write_text(json.dumps(SMALL | {"tie_word_embeddings": True}), encoding="utf-8")
    export.export(small, tmp_path / "tied.gguf")
    found = read_back(tmp_path / "tied.gguf")
    assert "output.weight" not in found
    whole = (halves["model.embed_tokens.weight"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found["token_embd.weight"], whole)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "qwen2"}, "'qwen2'"),
        ({"model_type": "bert"}, "'bert'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "'llama3'"),
        ({"num_hidden_layers": 3}, "lacks"),
        ({"num_key_value_heads": 4}, "has the size"),
    ],
)
def test_a_model_that_cannot_be_written_exactly_is_refused_and_leaves_no_file(
    export: Any, small: Path, changed: dict[str, Any], reason: str
) -> None:
    (small / "config.json").write_text(json.dumps(SMALL | changed), encoding="utf-8")
    before = sorted(small.iterdir())
    with pytest.raises(export.ExportError, match=reason):
        export.export(small, small / "out.gguf")
    assert sorted(small.iterdir()) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"normalizer": {"type": "NFC"}},
        {"model": {"type": "Unigram", "vocab": []}},
    ],
)
def test_a_tokenizer_that_llama_cpp_would_not_follow_is_refused(
    export: Any, small: Path, changed: dict[str, Any]
) -> None:
    path = small / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changed), encoding="utf-8")
    with pytest.raises(export.ExportError, match="the tokenizer"):
        export.export(small, small / "out.gguf")


def test_a_tensor_that_no_llama_has_is_refused(export: Any, small: Path) -> None:
    extra = small_tensors() | {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)}
    (small / "model.safetensors").write_bytes(safetensors(extra))
    with pytest.raises(export.ExportError, match=r"q_proj\.bias"):
        export.export(small, small / "out.gguf")


@pytest.mark.parametrize("tied", [True, False])
def test_random_weights_of_any_shape_are_written_and_read_by_llama_cpp(check: Any, tmp_path: Path, tied: bool) -> None:
    shape = random_model.Shape(64, layers=2, heads=2, kv_heads=1, feed_forward=96, words=400, tied=tied)
    for name in ("one", "other"):
        random_model.write(tmp_path / name, shape, seed=3, kind="q8_0", spread=0.2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    with check.opened(tmp_path / "one") as opened:
        text = "a byte a token: é"
        tokens = opened.tokens(text, start=True)
        assert len(tokens) == 2 + len(text.encode())  # what begins a text, and the space before its first word
        logits = opened.logits(tokens)
    assert logits.shape == (len(tokens), 400)
    assert np.isfinite(logits).all()
    assert logits.std() > 0.1


@pytest.mark.parametrize("tied", [True, False])
def test_a_legible_model_of_random_weights_says_printable_characters_alone(
    check: Any, tmp_path: Path, tied: bool
) -> None:
    shape = random_model.Shape(64, layers=2, heads=2, kv_heads=1, feed_forward=96, words=400, tied=tied)
    path = random_model.write(tmp_path / "model.gguf", shape, kind="q8_0", spread=0.2, legible=True)
    with check.opened(path) as opened:
        said = opened.logits(opened.tokens("What does it say, 什么？", start=True)).argmax(axis=-1)
    assert said.min() >= random_model.FIRST_CHARACTER
    assert said.max() <= random_model.LAST_CHARACTER


def test_llama_cpp_makes_the_same_tokens_as_the_tokenizer_file(check: Any, model: Any) -> None:
    assert check.unequal_texts(model, FOLDER, [*check.TEXTS, *check.fact_texts(FRESH_SEED, 100)]) == []


def test_eight_facts_about_people_never_seen_are_answered_from_the_context(check: Any, model: Any) -> None:
    asked = list(cases(FRESH_SEED, 150, 8))
    assert check.accuracy(model, asked) >= 0.9


def test_nothing_is_answered_right_without_the_context(check: Any, model: Any) -> None:
    bare = [case for case in cases(FRESH_SEED, 120, 8) if case.asked.attribute == "code"]
    assert len(bare) > 10
    assert not any(check.is_right(case, model.answer(case.question)) for case in bare)


def test_an_answer_counts_only_when_it_is_whole() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: no model is read")
    from tiny_model.check import is_right

    fact = Fact("en", "Ana Lind", "code", "T48")
    case = Case((fact,), (fact.statement(),), fact, fact.question())
    assert is_right(case, "T48")
    assert not is_right(case, "T")
    assert not is_right(case, "T48 T48")


@pytest.mark.slow
def test_logits_are_those_of_the_hugging_face_model(check: Any) -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    texts = [*check.TEXTS, *check.fact_texts(FRESH_SEED, 40)]
    exact = check.agreement(MODEL, FOLDER, texts, exact=True)
    assert exact.positions > 2000
    assert exact.largest_difference <= 1e-3
    assert check.agreement(MODEL, FOLDER, texts, exact=False).same_best >= 0.999


@pytest.mark.slow
def test_a_model_with_shared_keys_and_an_output_of_its_own_says_the_same_in_both(
    export: Any, check: Any, small: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    export.export(small, tmp_path / "small.gguf")
    compared = check.agreement(tmp_path / "small.gguf", small, check.TEXTS, exact=True)
    assert compared.largest_difference <= 1e-3


@pytest.mark.slow
def test_heads_are_told_to_look_at_the_value_that_is_asked_for_and_at_its_name_and_attribute() -> None:
    pytest.importorskip("torch", reason="torch is not installed: nothing is trained")
    pytest.importorskip("transformers", reason="transformers is not installed: nothing is trained")
    from tiny_model.training import Rows
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    row = Rows(tokenizer).row(random.Random(2), 12)

    def gathered(place: int) -> list[str]:
        found = sorted((part, where) for part, at, where in row.gathers if at == place)
        return [tokenizer.decode([row.tokens[where]]).strip() for _, where in found]

    assert len(row.matches) >= 12
    for place, where in row.matches:
        assert row.tokens[where] == row.labels[place + 1]
        assert where < place
        assert len(gathered(place)) == 3
        assert gathered(place) == gathered(where)


@pytest.mark.slow
def test_a_model_that_learnt_nothing_is_not_put_in_place(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "gguf", "llama_cpp"):
        pytest.importorskip(package, reason=f"{package} is not installed: no model is made")
    command = (sys.executable, str(MAKE), "--steps", "2", "--out", str(tmp_path / "out"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert "right with eight facts" in done.stderr
    assert not (tmp_path / "out").exists()
