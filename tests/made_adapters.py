"""Adapters written by hand, whole or wrong in one thing: peft folders and GGUF files, without torch, peft or gguf.

Knows no memory and no model: a shape is what a `BaseModel` says.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_mcp.parametric.base_model import ARCHITECTURES, BaseModel
from memos_mcp.parametric.gguf_adapter import GGUF_NAMES

Arrays = dict[str, NDArray[Any]]
PREFIX = "base_model.model.model.layers"
_TYPES = {"<f4": "F32", "<f2": "F16", "<i4": "I32"}
_OF = {"gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}


def matrices(base: BaseModel, targets: Sequence[str] = ("q_proj", "v_proj"), rank: int = 2, seed: int = 0) -> Arrays:
    """The tensors of a random adapter for a base, by peft's names."""
    rng, found = np.random.default_rng(seed), Arrays()
    for layer in range(base.layers):
        for target in targets:
            puts_out, takes = base.shape(target)
            stem = f"{PREFIX}.{layer}.{_OF.get(target, 'self_attn')}.{target}"
            found[f"{stem}.lora_A.weight"] = rng.normal(0, 0.1, (rank, takes)).astype("<f4")
            found[f"{stem}.lora_B.weight"] = rng.normal(0, 0.1, (puts_out, rank)).astype("<f4")
    return found


def config_of(rank: int = 2, **given: Any) -> dict[str, Any]:
    """A configuration as peft writes it."""
    plain = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": ["q_proj"]}
    return {**plain, **given}


def safetensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a safetensors file."""
    header, data = dict[str, Any](), b""
    for name, values in arrays.items():
        raw = values.tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": _TYPES[values.dtype.str], "shape": list(values.shape), "data_offsets": place}
        data += raw
    said = json.dumps(header).encode()
    return len(said).to_bytes(8, "little") + said + data


def folder(
    at: Path, arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any] | None = None
) -> Path:
    """A folder as peft saves an adapter."""
    at.mkdir(parents=True, exist_ok=True)
    (at / "adapter_config.json").write_text(json.dumps(config if config is not None else config_of()))
    (at / "adapter_model.safetensors").write_bytes(safetensors(arrays))
    return at


def gguf_matrices(base: BaseModel, targets: Sequence[str] = ("q_proj", "v_proj"), rank: int = 2) -> Arrays:
    """The same by GGUF's names."""
    found = Arrays()
    for name, values in matrices(base, targets, rank).items():
        layer, _, target, side = name.removeprefix(f"{PREFIX}.").split(".")[:4]
        found[f"blk.{layer}.{GGUF_NAMES[target]}.weight.lora_{side[-1].lower()}"] = values
    return found


def gguf_values(base: BaseModel, **given: Any) -> dict[str, Any]:
    """What a GGUF adapter says of itself."""
    return {
        "general.architecture": ARCHITECTURES[base.model_type], "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 4.0, **given,
    }  # fmt: skip


def gguf(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], version: int = 3) -> bytes:
    """The bytes of a GGUF file."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(arrays), len(values))
    for key, value in values.items():
        out += _text(key) + _value(value)
    data = b""
    for name, one in arrays.items():
        data += bytes(-len(data) % 32)
        out += _text(name) + struct.pack("<I", one.ndim) + struct.pack(f"<{one.ndim}Q", *reversed(one.shape))
        out += struct.pack("<IQ", {"<f4": 0, "<f2": 1, "<i4": 26}[one.dtype.str], len(data))
        data += one.tobytes()
    return out + bytes(-len(out) % 32) + data


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<Iq", 11, value)
