"""Checks a LoRA adapter as peft saves it, before it counts: a folder with a configuration and safetensors.

Knows no framework, and runs no code of a file: a pickle is refused unread.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memos_mcp.errors import InvalidInput
from memos_mcp.parametric import safetensors_file
from memos_mcp.parametric.base_model import BaseModel
from memos_mcp.parametric.recipe import TARGETS
from memos_mcp.parametric.safetensors_file import Held

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "adapter_model.pkl")
MOST_RANK = 512
MOST_VALUE = 10_000.0
"""Of one number of an adapter; trained ones stay below ten."""
MOST_CONFIG = 1 << 20
"""Bytes of a configuration."""
_KEY = re.compile(
    r"base_model\.model\.model\.layers\.(?P<layer>0|[1-9][0-9]{0,5})\."
    r"(?P<projection>self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
_TIED = re.compile(r"embed_tokens|lm_head|lora_embedding|modules_to_save")
_FUSED = re.compile(r"qkv_proj|gate_up_proj|query_key_value|c_attn|Wqkv|in_proj")
_PLAIN: dict[str, Any] = {
    "use_dora": False, "bias": "none", "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None,
    "fan_in_fan_out": False, "layer_replication": None, "megatron_config": None, "lora_bias": False,
}  # fmt: skip
"""What a plain LoRA says of itself; anything else changes the model in ways that a GGUF adapter cannot hold."""


@dataclass(frozen=True)
class Part:
    """The two matrices of one projection of one layer: A (rank, takes) and B (puts out, rank)."""

    layer: int
    projection: str
    a: Held
    b: Held


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter that fits its base. `scale` is what its product is multiplied by."""

    folder: Path
    rank: int
    alpha: float
    targets: tuple[str, ...]
    parts: tuple[Part, ...]
    sha256: str

    @property
    def weights(self) -> Path:
        """The file of its matrices."""
        return self.folder / WEIGHTS


def read_adapter(folder: Path, base: BaseModel) -> AdapterFolder:
    """The adapter in a folder, made for this base.

    Raises:
        InvalidInput: what is there is damaged, foreign, or more than plain LoRA; the sentence says what, and of what.
    """
    _require_no_pickle(folder)
    config = _config(folder)
    rank, alpha = _rank(config), _alpha(config)
    held = safetensors_file.header(folder / WEIGHTS)
    parts = _parts(held, rank, base)
    _require_finite(folder / WEIGHTS, parts)
    targets = tuple(name for name in TARGETS if any(part.projection == name for part in parts))
    return AdapterFolder(folder, rank, alpha, targets, parts, safetensors_file.digest(folder / WEIGHTS))


def _require_no_pickle(folder: Path) -> None:
    for name in PICKLES:
        if (folder / name).exists() and not (folder / WEIGHTS).exists():
            raise _refused(folder, f"{name} is a pickle, which may run code when it is read: save it as safetensors")


def _config(folder: Path) -> dict[str, Any]:
    try:
        with (folder / CONFIG).open("rb") as file:
            raw = file.read(MOST_CONFIG + 1)
        if len(raw) > MOST_CONFIG:
            raise _refused(folder, f"{CONFIG} has over {MOST_CONFIG:,} bytes")
        found = json.loads(raw)
    except OSError as error:
        raise _refused(folder, f"there is no {CONFIG} that can be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _refused(folder, f"{CONFIG} is no JSON") from None
    if not isinstance(found, dict) or str(found.get("peft_type")).upper() != "LORA":
        raise _refused(folder, f"{CONFIG} is not of a LoRA adapter")
    for name, plain in _PLAIN.items():
        if found.get(name, plain) not in (plain, None, [], {}, False):
            raise _refused(folder, f"{name} is {str(found[name])[:60]!r}: only plain LoRA can be mounted")
    return found


def _rank(config: dict[str, Any]) -> int:
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        said = f"The adapter has the rank {str(rank)[:40]}: 1 to {MOST_RANK} can be mounted."
        raise InvalidInput(said, field="adapter")
    return rank


def _alpha(config: dict[str, Any]) -> float:
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= MOST_VALUE:
        raise InvalidInput(f"The adapter has the alpha {str(alpha)[:40]}: a number is needed.", field="adapter")
    # llama.cpp multiplies by alpha / rank; rank-stabilised LoRA means alpha / sqrt(rank)
    return float(alpha) * (math.sqrt(_rank(config)) if config.get("use_rslora") else 1.0)


def _parts(held: dict[str, Held], rank: int, base: BaseModel) -> tuple[Part, ...]:
    sides: dict[tuple[int, str], dict[str, Held]] = {}
    for key, one in held.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise InvalidInput(f"The adapter holds {key[:120]!r}, {_foreign(key)}.", field="adapter")
        layer, projection = int(match["layer"]), match["projection"].partition(".")[2]
        puts_out, takes = base.shape(projection)
        wanted = (rank, takes) if match["side"] == "A" else (puts_out, rank)
        if layer >= base.layers or one.shape != wanted:
            fits = f"{wanted} in each of {base.layers} layers"
            raise InvalidInput(f"The adapter does not fit the base: {key} is {one.shape}, not {fits}.", field="adapter")
        if match["side"] in sides.setdefault((layer, projection), {}):
            raise InvalidInput(f"The adapter holds {key} twice.", field="adapter")
        sides[layer, projection][match["side"]] = one
    lone = [f"{name} of layer {at} lacks a side" for (at, name), found in sides.items() if set(found) != {"A", "B"}]
    if lone or not sides:
        why = lone[0] if lone else "it holds no matrix"
        raise InvalidInput(f"The adapter is not whole: {why}.", field="adapter")
    return tuple(Part(layer, name, found["A"], found["B"]) for (layer, name), found in sorted(sides.items()))


def _foreign(key: str) -> str:
    """Why a key cannot be used."""
    if _TIED.search(key):
        return "a part of the model's vocabulary, which may be tied: adapt the projections of the layers alone"
    if _FUSED.search(key):
        return "a module in which projections are fused, which GGUF keeps apart: adapt a model that has them apart"
    return "which is no part of a LoRA on such a model"


def _require_finite(path: Path, parts: tuple[Part, ...]) -> None:
    for part in parts:
        for held in (part.a, part.b):
            values = safetensors_file.tensor(path, held)
            if not np.isfinite(values).all() or float(np.abs(values).max(initial=0.0)) > MOST_VALUE:
                where = f"{part.projection} of layer {part.layer}"
                said = f"The adapter holds what is no number, or one beyond {MOST_VALUE:,.0f}, in {where}."
                raise InvalidInput(said, field="adapter")


def _refused(folder: Path, why: str) -> InvalidInput:
    return InvalidInput(f"The adapter in {folder.name} is not used: {why}.", field="adapter")
