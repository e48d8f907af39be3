"""Checks a LoRA adapter in GGUF, as llama.cpp mounts it, before it counts.

Knows no llama.cpp: a file that this refuses never reaches it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memos_mcp.errors import InvalidInput
from memos_mcp.parametric import gguf_file, safetensors_file
from memos_mcp.parametric.adapter_folder import MOST_RANK, MOST_VALUE
from memos_mcp.parametric.base_model import ARCHITECTURES, BaseModel, is_of_file
from memos_mcp.parametric.gguf_file import GgufFile
from memos_mcp.parametric.recipe import TARGETS

GGUF_NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
    "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip
BASE_KEY = "memos.base"
"""Key of a file that was made here: the identity of its base."""
_NAME = re.compile(r"blk\.(?P<layer>0|[1-9][0-9]{0,5})\.(?P<name>[a-z_]+)\.weight\.lora_(?P<side>[ab])")
_PROJECTIONS = {name: projection for projection, name in GGUF_NAMES.items()}
_TYPES = (gguf_file.F32, gguf_file.F16, gguf_file.BF16)


@dataclass(frozen=True)
class GgufAdapter:
    """An adapter that fits its base."""

    path: Path
    rank: int
    alpha: float
    targets: tuple[str, ...]
    sha256: str


def read_gguf_adapter(path: Path, base: BaseModel) -> GgufAdapter:
    """The adapter in a file, made for this base.

    Raises:
        InvalidInput: what is there is damaged, foreign, or no plain LoRA for this base; the sentence says what.
    """
    file = gguf_file.read(path)
    alpha = _alpha(file, base)
    sides: dict[tuple[int, str], dict[str, tuple[int, ...]]] = {}
    for name, one in file.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or match["name"] not in _PROJECTIONS:
            raise gguf_file.refused(path, f"it holds {name!r}, which is no part of a LoRA on such a model")
        if one.type not in _TYPES:
            raise gguf_file.refused(path, f"{name} is not of the type F32, F16 or BF16")
        sides.setdefault((int(match["layer"]), _PROJECTIONS[match["name"]]), {})[match["side"]] = one.shape
    rank = _rank(path, sides, base)
    for name in file.tensors:
        require_sound(path.name, name, gguf_file.plain_tensor(file, name))
    targets = tuple(name for name in TARGETS if any(projection == name for _, projection in sides))
    return GgufAdapter(path, rank, alpha, targets, safetensors_file.digest(path))


def require_sound(of: str, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    """Raise `InvalidInput` unless a matrix holds numbers that can be reckoned with."""
    if not np.isfinite(values).all():
        raise InvalidInput(f"{of} is not used: {name} holds what is no number.", field="adapter")
    if float(np.abs(values).max(initial=0.0)) > MOST_VALUE:
        raise InvalidInput(f"{of} is not used: {name} holds a number beyond {MOST_VALUE:,.0f}.", field="adapter")


def _alpha(file: GgufFile, base: BaseModel) -> float:
    if file.text("general.type") != "adapter" or file.text("adapter.type") != "lora":
        kind = file.text("general.type") or "model"
        raise gguf_file.refused(file.path, f"it is no LoRA adapter (its header says {kind[:40]!r})")
    architecture = ARCHITECTURES[base.model_type]
    if file.text("general.architecture") != architecture:
        found = (file.text("general.architecture") or "nothing")[:40]
        raise gguf_file.refused(file.path, f"it is made for {found!r}, and the base is {architecture!r}")
    made_for = file.text(BASE_KEY)
    if made_for is not None and made_for != base.identity and is_of_file(made_for) == is_of_file(base.identity):
        raise gguf_file.refused(file.path, "it was made for another base model of the same shape")
    alpha = file.values.get("adapter.lora.alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise gguf_file.refused(file.path, f"its alpha is {alpha!r}, where a number is needed")
    return float(alpha)


def _rank(path: Path, sides: dict[tuple[int, str], dict[str, tuple[int, ...]]], base: BaseModel) -> int:
    if not sides:
        raise gguf_file.refused(path, "it holds no matrix")
    ranks = {shape[0] if side == "a" else shape[-1] for found in sides.values() for side, shape in found.items()}
    rank = min(ranks)
    if len(ranks) != 1 or not 1 <= rank <= MOST_RANK:
        raise gguf_file.refused(path, f"its matrices have the ranks {sorted(ranks)}: one, 1 to {MOST_RANK}, is mounted")
    for (layer, projection), found in sides.items():
        puts_out, takes = base.shape(projection)
        wanted = {"a": (rank, takes), "b": (puts_out, rank)}
        if layer >= base.layers or found != wanted:
            fits = f"{wanted} in each of {base.layers} layers"
            raise gguf_file.refused(path, f"{projection} of layer {layer} is {found} and does not fit the base: {fits}")
    return rank
