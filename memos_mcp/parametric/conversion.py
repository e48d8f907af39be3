"""Writes an adapter that was checked as a GGUF file for llama.cpp.

Knows no training. Needs the library gguf, which comes with memos-mcp[parametric].
"""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from memos_mcp.parametric import safetensors_file
from memos_mcp.parametric.adapter_folder import AdapterFolder
from memos_mcp.parametric.base_model import ARCHITECTURES, ROTATED_IN_PAIRS, BaseModel
from memos_mcp.parametric.gguf_adapter import BASE_KEY, GGUF_NAMES

_ROTATED = ("q_proj", "k_proj")


def to_gguf(adapter: AdapterFolder, base: BaseModel, out: Path) -> None:
    """Write the adapter in F32; `out` is replaced only by a whole file on disk.

    Raises:
        OSError: it could not be written. InvalidInput: the adapter's file changed meanwhile.
    """
    fresh = out.with_name(out.name + ".new")
    try:
        writer = gguf.GGUFWriter(fresh, ARCHITECTURES[base.model_type])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
        writer.add_string(BASE_KEY, base.identity)
        for part in adapter.parts:
            name = f"blk.{part.layer}.{GGUF_NAMES[part.projection]}.weight"
            a, b = (safetensors_file.tensor(adapter.weights, held) for held in (part.a, part.b))
            if part.projection in _ROTATED and base.model_type in ROTATED_IN_PAIRS:
                b = _in_pairs(b, base.heads if part.projection == "q_proj" else base.kv_heads)
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(fresh, out)
    finally:
        fresh.unlink(missing_ok=True)


def _in_pairs(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a head's output in the order in which llama.cpp rotates them: the two of a pair beside each other."""
    count, rank = rows.shape
    return rows.reshape(heads, 2, count // heads // 2, rank).swapaxes(1, 2).reshape(count, rank)
