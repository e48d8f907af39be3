"""Writes Llama-shaped GGUF files with random weights: real shapes and timings, no sense in what they say.

Needs numpy alone: the container is written here. The vocabulary is every byte and the printable ASCII characters, so
any text has tokens, and then as many that no text has as a real model of the shape knows: its output matrix is a good
part of what a token costs. The same shape and seed give the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

Kind = Literal["f32", "q8_0"]

ALIGNMENT = 32
U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9
TENSOR_F32, TENSOR_Q8_0 = 0, 8
FILE_TYPES: dict[str, int] = {"f32": 0, "q8_0": 7}
NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
BLOCK = 32
"""Weights of one q8_0 block: an f16 scale and as many signed bytes."""
FIRST_CHARACTER, LAST_CHARACTER = 3 + 256, 3 + 256 + 94
"""The tokens that are printable characters stand between these, behind those for control and for single bytes."""
SPELLED = LAST_CHARACTER + 1
"""Tokens of which texts are made."""
OUTPUT = "output.weight"
SPREAD = 0.02
"""Standard deviation of a weight."""


@dataclass(frozen=True)
class Shape:
    """What a Llama is made of."""

    embedding: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int = 8_192
    words: int = SPELLED
    """Tokens that it knows: SPELLED at least."""
    tied: bool = False
    """One matrix is both its first and its last."""


TINY = Shape(embedding=128, layers=3, heads=4, kv_heads=2, feed_forward=128)
HALF_B = Shape(896, layers=24, heads=14, kv_heads=2, feed_forward=4_864, words=151_936, tied=True)
ONE_AND_A_HALF_B = Shape(1_536, layers=28, heads=12, kv_heads=2, feed_forward=8_960, words=151_936, tied=True)
SHAPES = {"0.5b": HALF_B, "1.5b": ONE_AND_A_HALF_B}
"""Sizes of models that people run on two cores, by name."""


def write(
    path: Path, shape: Shape = TINY, *, seed: int = 0, kind: Kind = "f32", spread: float = SPREAD, legible: bool = False
) -> Path:
    """The file, written beside and renamed, so that a half-written one is never found; returns `path`.

    `legible`: it says printable characters alone, so that an answer can be read as text and does not end by itself. Its
    last matrix is then one of its own: what has no weight in it must have some in the first.
    """
    fresh, random = path.with_suffix(".new"), np.random.default_rng(seed)
    if legible:
        shape = replace(shape, tied=False)
    with open(fresh, "wb") as out:
        _put(out, list(_metadata(shape, kind)), list(_tensors(shape)), random, kind, spread, legible)
    fresh.replace(path)
    return path


def vocabulary(words: int) -> list[tuple[bytes, int]]:
    """Every token's text and type, in the order of ids."""
    special = [(b"<unk>", UNKNOWN), (b"<s>", CONTROL), (b"</s>", CONTROL)]
    each_byte = [(f"<0x{number:02X}>".encode(), BYTE) for number in range(256)]
    characters = [(chr(code).replace(" ", "▁").encode(), NORMAL) for code in range(32, 127)]
    return special + each_byte + characters + [(f"<w{number}>".encode(), UNUSED) for number in range(SPELLED, words)]


def write_adapter(
    path: Path, shape: Shape = TINY, *, seed: int = 0, rank: int = 4, spread: float = 0.5, everything: bool = False
) -> Path:
    """A LoRA adapter for a model of this shape, on its query projections or on all its matrices; returns `path`."""
    entries = [
        _word("general.architecture", b"llama"),
        _word("general.type", b"adapter"),
        _word("adapter.type", b"lora"),
        _fraction("adapter.lora.alpha", float(rank)),
    ]
    adapted = [
        (name, size)
        for name, size in _tensors(shape)
        if name.startswith("blk.") and len(size) == 2 and (everything or "attn_q" in name)
    ]
    tensors = [
        (f"{name}.lora_{side}", (size[0], rank) if side == "b" else (rank, size[1]))
        for name, size in adapted
        for side in "ab"
    ]
    with open(path, "wb") as out:
        _put(out, entries, tensors, np.random.default_rng(seed), "f32", spread)
    return path


def _put(
    out: BinaryIO,
    entries: list[bytes],
    tensors: list[tuple[str, tuple[int, ...]]],
    random: np.random.Generator,
    kind: Kind,
    spread: float,
    legible: bool = False,
) -> None:
    out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)))
    out.write(b"".join(entries))
    place = 0
    for name, size in tensors:
        quantised = kind == "q8_0" and len(size) == 2
        out.write(_text(name.encode()) + struct.pack(f"<I{len(size)}Q", len(size), *reversed(size)))
        out.write(struct.pack("<IQ", TENSOR_Q8_0 if quantised else TENSOR_F32, place))
        place += _padded(_bytes_of(size, quantised))
    out.write(bytes(-out.tell() % ALIGNMENT))
    for name, size in tensors:
        weights = _weights(size, random, kind, spread)
        if legible and name == OUTPUT:
            row = len(weights) // size[0]
            spoken = weights[FIRST_CHARACTER * row : (LAST_CHARACTER + 1) * row]
            weights = bytes(FIRST_CHARACTER * row) + spoken + bytes((size[0] - LAST_CHARACTER - 1) * row)
        out.write(weights)
        out.write(bytes(-out.tell() % ALIGNMENT))


def _metadata(shape: Shape, kind: Kind) -> Iterator[bytes]:
    tokens = vocabulary(shape.words)
    yield _word("general.architecture", b"llama")
    yield _word("general.name", b"random weights")
    yield _number("general.file_type", FILE_TYPES[kind])
    yield _number("llama.context_length", shape.context)
    yield _number("llama.embedding_length", shape.embedding)
    yield _number("llama.block_count", shape.layers)
    yield _number("llama.feed_forward_length", shape.feed_forward)
    yield _number("llama.attention.head_count", shape.heads)
    yield _number("llama.attention.head_count_kv", shape.kv_heads)
    yield _fraction("llama.attention.layer_norm_rms_epsilon", 1e-5)
    yield _number("llama.rope.dimension_count", shape.embedding // shape.heads)
    yield _fraction("llama.rope.freq_base", 10_000.0)
    yield _number("llama.vocab_size", len(tokens))
    yield _word("tokenizer.ggml.model", b"llama")
    yield _row("tokenizer.ggml.tokens", STRING, len(tokens), b"".join(_text(text) for text, _ in tokens))
    yield _row("tokenizer.ggml.scores", F32, len(tokens), bytes(4 * len(tokens)))
    yield _row("tokenizer.ggml.token_type", I32, len(tokens), struct.pack(f"<{len(tokens)}i", *(t for _, t in tokens)))
    for name, token in (("unknown", 0), ("bos", 1), ("eos", 2)):
        yield _number(f"tokenizer.ggml.{name}_token_id", token)


def _number(key: str, value: int) -> bytes:
    return _text(key.encode()) + struct.pack("<II", U32, value)


def _fraction(key: str, value: float) -> bytes:
    return _text(key.encode()) + struct.pack("<If", F32, value)


def _word(key: str, value: bytes) -> bytes:
    return _text(key.encode()) + struct.pack("<I", STRING) + _text(value)


def _row(key: str, kind: int, count: int, content: bytes) -> bytes:
    return _text(key.encode()) + struct.pack("<IIQ", ARRAY, kind, count) + content


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    size = shape.embedding
    shared = shape.kv_heads * (size // shape.heads)
    yield "token_embd.weight", (shape.words, size)
    yield "output_norm.weight", (size,)
    if not shape.tied:
        yield OUTPUT, (shape.words, size)
    for layer in range(shape.layers):
        for name, rows in (
            ("attn_norm", (size,)),
            ("attn_q", (size, size)),
            ("attn_k", (shared, size)),
            ("attn_v", (shared, size)),
            ("attn_output", (size, size)),
            ("ffn_norm", (size,)),
            ("ffn_gate", (shape.feed_forward, size)),
            ("ffn_up", (shape.feed_forward, size)),
            ("ffn_down", (size, shape.feed_forward)),
        ):
            yield f"blk.{layer}.{name}.weight", rows


def _weights(size: tuple[int, ...], random: np.random.Generator, kind: Kind, spread: float) -> bytes:
    if len(size) == 1:
        return np.ones(size, np.float32).tobytes()
    if kind == "f32":
        return (random.standard_normal(size, np.float32) * np.float32(spread)).tobytes()
    blocks = np.empty(size[0] * size[1] // BLOCK, np.dtype([("scale", "<f2"), ("weights", "i1", BLOCK)]))
    blocks["scale"] = spread * np.sqrt(12.0) / 255.0  # even bytes spread over their range deviate by range / sqrt(12)
    blocks["weights"] = random.integers(-127, 128, (len(blocks), BLOCK), np.int8)
    return blocks.tobytes()


def _bytes_of(size: tuple[int, ...], quantised: bool) -> int:
    count = int(np.prod(size))
    return count // BLOCK * (2 + BLOCK) if quantised else 4 * count


def _padded(count: int) -> int:
    return count + -count % ALIGNMENT


def _text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content
