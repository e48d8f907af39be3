"""Writes Llama-shaped models in Hugging Face folders as GGUF files for llama.cpp.

Knows nothing of how a model was trained, and needs no torch: weights are read from the safetensors files as they lie.
A model that it could not write exactly is refused with the reason, before anything is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OF_MODEL = {"embed_tokens": "token_embd", "norm": "output_norm"}
OF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Q8_0_BLOCK = 32
"""Weights of one q8_0 block, beside which stands an f16 scale."""
SAFETENSORS_TYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8")}


class ExportError(ValueError):
    """The model cannot be written as GGUF; the message says why."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-shaped model, as GGUF records them."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_epsilon: float
    tied: bool


@dataclass(frozen=True)
class Vocabulary:
    """What GGUF keeps of a byte-level BPE tokenizer with GPT-2's splitter."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    starts_with_bos: bool
    special: Mapping[str, int]
    """Ids of bos, eos and pad, those that there are."""


def export(folder: Path, out: Path) -> Shape:
    """Write the model in a Hugging Face folder as an F32 GGUF file; `out` is replaced only by a whole file.

    Raises:
        ExportError: it is not Llama-shaped, its tokenizer is another one, or a tensor is missing or left over.
        OSError: a file of the folder is not there, or the disk refuses.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = shape_of(config)
    vocabulary = vocabulary_of(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), config)
    tensors = converted(_readers(folder), shape)
    with _writer(out, "tiny", shape, vocabulary, gguf.LlamaFileType.ALL_F32) as writer:
        for name, (size, _) in tensors.items():
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * int(np.prod(size)))
        _write_head(writer)
        for _, read in tensors.values():
            writer.write_tensor_data(read())
    return shape


def write_random(shape: Shape, out: Path, tokenizer: Path, seed: int = 0) -> None:
    """Write a model of this shape with random q8_0 weights, and the tokenizer of the Hugging Face folder `tokenizer`.

    It is as fast as a trained one, a text has as many tokens, and it says nothing. The same seed gives the same file.

    Raises:
        ExportError: the folder's tokenizer is one that cannot be written.
    """
    rng = np.random.default_rng(seed)
    norm = (shape.width,)
    vocabulary = _borrowed(tokenizer, shape.vocabulary)
    with _writer(out, "random", shape, vocabulary, gguf.LlamaFileType.MOSTLY_Q8_0) as writer:
        sizes = tensor_sizes(shape)
        for name, size in sizes.items():
            if size == norm:
                writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * shape.width)
            else:
                stored = (size[0], size[1] // Q8_0_BLOCK * (Q8_0_BLOCK + 2))
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor_info(name, stored, np.dtype(np.uint8), stored[0] * stored[1], raw_dtype=kind)
        _write_head(writer)
        for size in sizes.values():
            writer.write_tensor_data(np.ones(norm, np.float32) if size == norm else _random_q8_0(rng, size))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The sizes in a config.json.

    Raises:
        ExportError: it describes something that is not exactly a Llama.
    """
    kind = config.get("model_type")
    if kind != "llama":
        raise ExportError(f"the model is of type {kind!r}: only 'llama' can be written")
    for key, wanted in {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}.items():
        if config.get(key, wanted) != wanted:
            raise ExportError(f"the model has {key} = {config[key]!r}: only {wanted!r} can be written")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise ExportError(f"the model has RoPE of type {scaling!r}: only 'default' can be written")
    heads = config["num_attention_heads"]
    head_width = config.get("head_dim") or config["hidden_size"] // heads
    return Shape(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=head_width,
        feed_forward=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        norm_epsilon=config["rms_norm_eps"],
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def tensor_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The names that llama.cpp looks for, with (rows, columns) or (length,)."""
    width, queries = shape.width, shape.heads * shape.head_width
    keys = shape.kv_heads * shape.head_width
    of_layer: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_norm": (width,),
        "ffn_gate": (shape.feed_forward, width),
        "ffn_up": (shape.feed_forward, width),
        "ffn_down": (width, shape.feed_forward),
    }
    sizes: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocabulary, width), "output_norm.weight": (width,)}
    if not shape.tied:
        sizes["output.weight"] = (shape.vocabulary, width)
    for layer in range(shape.layers):
        sizes |= {f"blk.{layer}.{name}.weight": size for name, size in of_layer.items()}
    return sizes


def gguf_name(name: str) -> str:
    """`model.layers.3.self_attn.q_proj.weight` becomes `blk.3.attn_q.weight`.

    Raises:
        ExportError: no Llama has a tensor of this name.
    """
    stem, dot, suffix = name.rpartition(".")
    parts = stem.split(".", 3)
    found = None
    if suffix == "weight" and stem == "lm_head":
        found = "output"
    elif suffix == "weight" and parts[0] == "model" and len(parts) == 2:
        found = OF_MODEL.get(parts[1])
    elif suffix == "weight" and parts[:2] == ["model", "layers"] and len(parts) == 4 and parts[3] in OF_LAYER:
        found = f"blk.{int(parts[2])}.{OF_LAYER[parts[3]]}"
    if found is None:
        raise ExportError(f"the model has a tensor {name!r}, which no Llama has")
    return f"{found}{dot}{suffix}"


def neighbouring_pairs(rows: Array, heads: int) -> Array:
    """The rows of a query or key matrix in llama.cpp's order.

    Hugging Face rotates row i of a head together with row i + half; llama.cpp rotates rows 2 i and 2 i + 1.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, -1).transpose(0, 2, 1, 3).reshape(rows.shape)


def separate_halves(rows: Array, heads: int) -> Array:
    """The inverse of `neighbouring_pairs`."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, -1).transpose(0, 2, 1, 3).reshape(rows.shape)


Reader = Callable[[], Array]


def converted(
    found: Mapping[str, tuple[tuple[int, ...], Reader]], shape: Shape
) -> dict[str, tuple[tuple[int, ...], Reader]]:
    """Tensors under llama.cpp's names and in its row order, with their sizes, in a fixed order.

    Raises:
        ExportError: one is missing, left over or of another size.
    """
    wanted = tensor_sizes(shape)
    made: dict[str, tuple[tuple[int, ...], Reader]] = {}
    for name, (size, read) in found.items():
        if name == "lm_head.weight" and shape.tied:
            continue
        if name.endswith("rotary_emb.inv_freq"):
            continue
        ours = gguf_name(name)
        if wanted.get(ours) != size:
            raise ExportError(f"the tensor {name!r} has the size {size}, the configuration says {wanted.get(ours)}")
        made[ours] = size, _in_order(ours, read, shape)
    if missing := sorted(wanted.keys() - made.keys()):
        raise ExportError(f"the model lacks {len(missing)} tensors, the first {missing[0]!r}")
    return {name: made[name] for name in wanted}


def vocabulary_of(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary in a tokenizer.json.

    Raises:
        ExportError: llama.cpp would split texts into other tokens.
    """
    model, splitter = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    plain = splitter.get("use_regex", True) and not splitter.get("add_prefix_space", False)
    if model.get("type") != "BPE" or splitter.get("type") != "ByteLevel" or not plain:
        raise ExportError("the tokenizer is not byte-level BPE with GPT-2's splitter: only that can be written")
    for key in ("ignore_merges", "byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ExportError(f"the tokenizer has {key} = {model[key]!r}, which GGUF cannot say")
    if tokenizer.get("normalizer") is not None:
        raise ExportError("the tokenizer changes texts before it splits them, which GGUF cannot say")
    tokens = [f"[PAD{n}]" for n in range(config["vocab_size"])]
    types = [int(gguf.TokenType.UNUSED)] * len(tokens)
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, int(gguf.TokenType.NORMAL)
    for added in tokenizer.get("added_tokens", ()):
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    special = {part: _first(config.get(f"{part}_token_id")) for part in ("bos", "eos", "pad")}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    first = ((tokenizer.get("post_processor") or {}).get("single") or [{}])[0]
    bos = special["bos"]
    starts = bos is not None and first.get("SpecialToken", {}).get("id") == tokens[bos]
    return Vocabulary(tokens, types, merges, starts, {k: v for k, v in special.items() if v is not None})


def _first(number: int | list[int] | None) -> int | None:
    # Some models name several end tokens; GGUF has room for one.
    return number[0] if isinstance(number, list) else number


def _in_order(name: str, read: Reader, shape: Shape) -> Reader:
    if name.endswith(".attn_q.weight"):
        return lambda: np.ascontiguousarray(neighbouring_pairs(read(), shape.heads))
    if name.endswith(".attn_k.weight"):
        return lambda: np.ascontiguousarray(neighbouring_pairs(read(), shape.kv_heads))
    return read


def _readers(folder: Path) -> dict[str, tuple[tuple[int, ...], Reader]]:
    """What lies in the folder's safetensors files: sizes, and how to read each tensor as float32 in its turn."""
    found: dict[str, tuple[tuple[int, ...], Reader]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries: dict[str, Any] = json.loads(file.read(length))
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in SAFETENSORS_TYPES:
                raise ExportError(f"the tensor {name!r} is of type {entry['dtype']}, which is not read")
            found[name] = tuple(entry["shape"]), _reader(path, 8 + length, entry)
    if not found:
        raise ExportError(f"there is no model*.safetensors in {folder}")
    return found


def _reader(path: Path, start: int, entry: Mapping[str, Any]) -> Reader:
    def read() -> Array:
        kind = SAFETENSORS_TYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        raw: Array = np.fromfile(path, kind, count=(end - begin) // kind.itemsize, offset=start + begin)
        if entry["dtype"] == "BF16":  # the upper half of a float32
            raw = (raw.astype("<u4") << 16).view("<f4")
        return raw.astype("<f4", copy=False).reshape(entry["shape"])

    return read


def _borrowed(folder: Path, size: int) -> Vocabulary:
    """The vocabulary of a folder's tokenizer, filled up to `size` with tokens that no text has."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return vocabulary_of(tokenizer, {**config, "vocab_size": size})


def _random_q8_0(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.uint8]:
    blocks = np.empty((size[0], size[1] // Q8_0_BLOCK, Q8_0_BLOCK + 2), np.uint8)
    blocks[:, :, 2:] = np.frombuffer(rng.bytes(size[0] * size[1]), np.uint8).reshape(*blocks.shape[:2], Q8_0_BLOCK)
    # Evenly spread numbers from -128 to 127 deviate by 74: the weights then by one over the root of the inputs.
    scale = np.float16(1.0 / (74.0 * np.sqrt(size[1])))
    blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return blocks.reshape(size[0], -1)


@contextmanager
def _writer(
    out: Path, name: str, shape: Shape, vocabulary: Vocabulary, kind: gguf.LlamaFileType
) -> Iterator[gguf.GGUFWriter]:
    """A writer with everything said but the tensors; the file takes its name when it is whole."""
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(partial, "llama")
    try:
        writer.add_name(name)
        writer.add_file_type(kind)
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.width)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.feed_forward)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_key_length(shape.head_width)
        writer.add_value_length(shape.head_width)
        writer.add_layer_norm_rms_eps(shape.norm_epsilon)
        writer.add_rope_dimension_count(shape.head_width)
        writer.add_rope_freq_base(shape.rope_theta)
        writer.add_vocab_size(shape.vocabulary)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(vocabulary.tokens)
        writer.add_token_types(vocabulary.types)
        writer.add_token_merges(vocabulary.merges)
        writer.add_add_bos_token(vocabulary.starts_with_bos)
        for part, number in vocabulary.special.items():
            writer.add_uint32(f"tokenizer.ggml.{'padding' if part == 'pad' else part}_token_id", number)
        yield writer
        writer.close()
        partial.replace(out)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)


def _write_head(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
