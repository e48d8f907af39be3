"""Adapters of strangers: each file that is damaged, foreign or worse is refused with the reason, and nothing is run."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_adapters as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_mcp.errors import InvalidInput
from memos_mcp.parametric import gguf_file, safetensors_file
from memos_mcp.parametric.adapter_folder import read_adapter
from memos_mcp.parametric.base_model import BaseModel, read_base_model
from memos_mcp.parametric.gguf_adapter import read_gguf_adapter

TINY = Path(__file__).parent / "data" / "tiny_model"
BASE = read_base_model(TINY)
FIRST = f"{made.PREFIX}.0.self_attn.q_proj.lora_A.weight"
BLOCK = "blk.0.attn_q.weight.lora_a"
RAN = "it ran"


class Bomb:
    """What a pickle may do to its reader."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.mark, RAN)


def with_one(arrays: made.Arrays, name: str, values: Any) -> made.Arrays:
    return {**arrays, name: values}


def without(arrays: made.Arrays, name: str) -> made.Arrays:
    return {key: values for key, values in arrays.items() if key != name}


def nan(shape: tuple[int, ...], value: float = float("nan")) -> Any:
    values = np.zeros(shape, "<f4")
    values.flat[-1] = value
    return values


def test_a_whole_folder_and_a_whole_file_are_read(tmp_path: Path) -> None:
    found = read_adapter(made.folder(tmp_path / "peft", made.matrices(BASE)), BASE)
    assert (found.rank, found.alpha, found.targets, len(found.parts)) == (2, 4.0, ("q_proj", "v_proj"), 2 * BASE.layers)
    path = tmp_path / "adapter.gguf"
    path.write_bytes(made.gguf(made.gguf_values(BASE), made.gguf_matrices(BASE)))
    read = read_gguf_adapter(path, BASE)
    assert (read.rank, read.alpha, read.targets) == (2, 4.0, ("q_proj", "v_proj"))


A = made.matrices(BASE)
SHAPE = A[FIRST].shape
WRONG_FOLDERS: dict[str, tuple[made.Arrays, dict[str, Any] | None, str]] = {
    "another rank than it says": (A, made.config_of(4), "does not fit the base"),
    "a shape of another base": (with_one(A, FIRST, np.zeros((2, 96), "<f4")), None, "does not fit the base"),
    "a layer that the base lacks": (
        with_one(A, f"{made.PREFIX}.99.self_attn.q_proj.lora_A.weight", A[FIRST]), None, "does not fit the base"
    ),
    "an extra key": (with_one(A, "base_model.extra", np.zeros(2, "<f4")), None, "no part of a LoRA"),
    "a key in the wrong module": (
        with_one(A, f"{made.PREFIX}.0.mlp.q_proj.lora_A.weight", A[FIRST]), None, "no part of a LoRA"
    ),
    "a key twice": (
        with_one(A, FIRST.replace("lora_A", "lora_A.default"), A[FIRST]), None, "twice"
    ),
    "digits of another script": (
        with_one(A, f"{made.PREFIX}.١.self_attn.q_proj.lora_A.weight", A[FIRST]), None, "no part of a LoRA"
    ),
    "the vocabulary": (
        with_one(A, "base_model.model.model.embed_tokens.lora_embedding_A", nan((2, 8))), None, "may be tied"
    ),
    "a head": (with_one(A, "base_model.model.lm_head.lora_A.weight", np.zeros((2, 8), "<f4")), None, "may be tied"),
    "fused queries": (
        with_one(A, f"{made.PREFIX}.0.self_attn.qkv_proj.lora_A.weight", A[FIRST]), None, "are fused"
    ),
    "one side alone": (without(A, FIRST), None, "lacks a side"),
    "nothing": ({}, None, "it holds no matrix"),
    "no numbers": (with_one(A, FIRST, nan(SHAPE)), None, "no number"),
    "infinity": (with_one(A, FIRST, nan(SHAPE, float("inf"))), None, "no number"),
    "a number beyond reason": (with_one(A, FIRST, nan(SHAPE, 3e38)), None, "no number, or one beyond"),
    "whole numbers": (with_one(A, FIRST, np.zeros(SHAPE, "<i4")), None, "has the type I32"),
    "rank 0": (A, made.config_of(0), "the rank 0"),
    "a rank beyond reason": (A, made.config_of(10**9), "1 to 512"),
    "a rank that is none": (A, made.config_of(r=True), "the rank True"),
    "an alpha that is none": (A, made.config_of(lora_alpha="all"), "the alpha all"),
    "an alpha beyond reason": (A, made.config_of(lora_alpha=10**400), "a number is needed"),
    "no LoRA": (A, made.config_of(peft_type="IA3"), "not of a LoRA"),
    "DoRA": (A, made.config_of(use_dora=True), "only plain LoRA"),
    "patterns of ranks": (A, made.config_of(rank_pattern={"q_proj": 9}), "only plain LoRA"),
    "saved modules": (A, made.config_of(modules_to_save=["lm_head"]), "only plain LoRA"),
    "biases": (A, made.config_of(bias="all"), "only plain LoRA"),
}


@pytest.mark.parametrize("what", WRONG_FOLDERS)
def test_a_folder_that_is_wrong_in_one_thing_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    arrays, config, said = WRONG_FOLDERS[what]
    with pytest.raises(InvalidInput, match=said):
        read_adapter(made.folder(tmp_path / "peft", arrays, config), BASE)


G = made.gguf_matrices(BASE)
V = made.gguf_values(BASE)
WRONG_FILES: dict[str, tuple[dict[str, Any], made.Arrays, str]] = {
    "a model": ({**V, "general.type": "model"}, G, "no LoRA adapter"),
    "no lora": ({**V, "adapter.type": "control vector"}, G, "no LoRA adapter"),
    "another architecture": ({**V, "general.architecture": "gemma3"}, G, "made for 'gemma3'"),
    "another base of the shape": ({**V, "memos.base": "0" * 32}, G, "another base model"),
    "no alpha": ({key: value for key, value in V.items() if "alpha" not in key}, G, "alpha is None"),
    "an alpha that is none": ({**V, "adapter.lora.alpha": float("nan")}, G, "alpha is nan"),
    "a shape of another base": (V, with_one(G, BLOCK, np.zeros((2, 96), "<f4")), "does not fit the base"),
    "a layer that the base lacks": (
        V, with_one(G, "blk.99.attn_q.weight.lora_a", G[BLOCK]), "does not fit the base"
    ),
    "two ranks": (V, with_one(G, BLOCK, np.zeros((3, BASE.width), "<f4")), "have the ranks"),
    "an extra tensor": (V, with_one(G, "token_embd.weight.lora_a", G[BLOCK]), "no part of a LoRA"),
    "a tensor of whole numbers": (V, with_one(G, BLOCK, np.zeros(G[BLOCK].shape, "<i4")), "not of the type"),
    "one side alone": (V, without(G, BLOCK), "does not fit the base"),
    "nothing": (V, {}, "holds no matrix"),
    "no numbers": (V, with_one(G, BLOCK, nan(G[BLOCK].shape)), "no number"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_file_that_is_wrong_in_one_thing_is_refused_with_the_reason(what: str, tmp_path: Path) -> None:
    values, arrays, said = WRONG_FILES[what]
    (tmp_path / "adapter.gguf").write_bytes(made.gguf(values, arrays))
    with pytest.raises(InvalidInput, match=said):
        read_gguf_adapter(tmp_path / "adapter.gguf", BASE)


def header(tensors: int, values: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + rest


BOMBS: dict[str, bytes] = {
    "empty": b"",
    "another file": b"PK\x03\x04" + bytes(100),
    "another version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "more tensors than there are": header(2**63, 0),
    "more values than there are": header(0, 2**63),
    "a name without end": header(0, 1, struct.pack("<Q", 2**62)),
    "a text without end": header(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IQ", 8, 2**62)),
    "an array without end": header(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 0, 2**62)),
    "texts without end": header(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 8, 2**62)),
    "arrays in arrays": header(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 2) + bytes(64)),
    "a type that is none": header(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 77)),
    "dimensions without end": header(1, 0, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 2**31)),
    "a tensor beyond the end": header(
        1, 0, struct.pack("<Q", 1) + b"a" + struct.pack("<IQQ", 2, 8, 2**40) + struct.pack("<IQ", 0, 0)
    ),
    "a tensor far away": header(
        1, 0, struct.pack("<Q", 1) + b"a" + struct.pack("<IQQ", 2, 8, 8) + struct.pack("<IQ", 0, 2**63)
    ),
    "a tensor of nothing": header(
        1, 0, struct.pack("<Q", 1) + b"a" + struct.pack("<IQQ", 2, 0, 8) + struct.pack("<IQ", 0, 0)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BOMBS)
def test_a_header_that_says_more_than_there_is_costs_a_sentence_and_no_memory(what: str, tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(BOMBS[what] + bytes(64) if what != "empty" else b"")
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="is not used"):
            read_gguf_adapter(tmp_path / "adapter.gguf", BASE)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 << 20


@pytest.mark.parametrize("length", [2**63, 10**12, 1])
def test_a_safetensors_header_of_an_impossible_length_is_refused(length: int, tmp_path: Path) -> None:
    given = made.folder(tmp_path / "peft", A)
    raw = (given / "adapter_model.safetensors").read_bytes()
    (given / "adapter_model.safetensors").write_bytes(length.to_bytes(8, "little") + raw[8:])
    with pytest.raises(InvalidInput, match="is not used"):
        read_adapter(given, BASE)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_json_that_is_nested_without_end_is_refused(name: str, tmp_path: Path) -> None:
    given = made.folder(tmp_path / "peft", A)
    deep = b"[" * 100_000
    (given / name).write_bytes(deep if name.endswith("json") else len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(InvalidInput, match="no JSON"):
        read_adapter(given, BASE)


SOUND = made.gguf(V, G)
SOUND_TENSORS = made.safetensors(A)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(SOUND) - 1))
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "adapter.gguf"
    path.write_bytes(SOUND[:length])
    with pytest.raises(InvalidInput, match="is not used"):
        read_gguf_adapter(path, BASE)
    tensors = tmp_path / "adapter_model.safetensors"
    tensors.write_bytes(SOUND_TENSORS[: length % len(SOUND_TENSORS)])
    with pytest.raises(InvalidInput, match="is not used"):
        safetensors_file.header(tensors)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1_600), st.binary(min_size=1, max_size=12))
def test_a_header_with_any_bytes_changed_is_read_or_refused_and_never_more(
    tmp_path: Path, place: int, bytes_: bytes
) -> None:
    path = tmp_path / "adapter.gguf"
    path.write_bytes(SOUND[:place] + bytes_ + SOUND[place + len(bytes_) :])
    try:
        read_gguf_adapter(path, BASE)
    except InvalidInput:
        return
    assert gguf_file.read(path).tensors


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_a_pickle_is_refused_unread(name: str, tmp_path: Path) -> None:
    given = made.folder(tmp_path / "peft", A)
    (given / "adapter_model.safetensors").unlink()
    mark = tmp_path / "mark"
    (given / name).write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InvalidInput, match="is a pickle"):
        read_adapter(given, BASE)
    (given / "adapter_model.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InvalidInput, match="no safetensors file"):
        read_adapter(given, BASE)
    assert not mark.exists()


def test_a_base_of_another_kind_has_no_such_projection() -> None:
    other = BaseModel(TINY, "x", "llama", 1, 8, 2, 2, 4, 16)
    with pytest.raises(InvalidInput, match="no c_attn"):
        other.shape("c_attn")
    assert os.sep not in other.identity
