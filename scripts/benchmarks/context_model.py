"""Writes a language model with random weights in the shape of a real one, as a GGUF file, to measure time with.

Knows nothing of language: what it says is noise. Its vocabulary is the 256 bytes and no merges, so that a prompt has as
many tokens as bytes, whatever its script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONTEXT = 8_192
PRINTABLE = range(32, 127)
"""Bytes that it says: an answer can be read as text, and does not end by itself."""


@dataclass(frozen=True)
class Shape:
    """A Llama's dimensions."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int


HALF_B = Shape(896, 24, 14, 2, 4_864)
"""As Qwen2.5-0.5B."""
TINY = Shape(64, 2, 4, 2, 128)


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """Write the model to `path`, its matrices in Q8_0."""
    import gguf

    rng = np.random.default_rng(seed)
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * len(pieces))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_vocab_size(len(pieces))
    kv_width = shape.width // shape.heads * shape.kv_heads
    for name, rows, columns in _matrices(shape, kv_width, len(pieces)):
        weights = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        if name == "output.weight":
            weights[[piece for piece in range(rows) if piece - 3 not in PRINTABLE]] = 0
        packed = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    norms = ["output_norm", *(f"blk.{layer}.{kind}_norm" for layer in range(shape.layers) for kind in ("attn", "ffn"))]
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(shape.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _matrices(shape: Shape, kv_width: int, vocabulary: int) -> list[tuple[str, int, int]]:
    """Names, rows and columns of the matrices."""
    found = [("token_embd.weight", vocabulary, shape.width), ("output.weight", vocabulary, shape.width)]
    for layer in range(shape.layers):
        found += [
            (f"blk.{layer}.attn_q.weight", shape.width, shape.width),
            (f"blk.{layer}.attn_k.weight", kv_width, shape.width),
            (f"blk.{layer}.attn_v.weight", kv_width, shape.width),
            (f"blk.{layer}.attn_output.weight", shape.width, shape.width),
            (f"blk.{layer}.ffn_gate.weight", shape.inner, shape.width),
            (f"blk.{layer}.ffn_up.weight", shape.inner, shape.width),
            (f"blk.{layer}.ffn_down.weight", shape.width, shape.inner),
        ]
    return found
