"""What is known of a base model from its Hugging Face folder: its shape, and an identity that adapters belong to.

Knows no framework: configuration and the headers of the weights are read as they lie, and no code of the folder is run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_mcp.errors import InvalidInput
from memos_mcp.parametric import safetensors_file

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "mistral": "llama", "qwen3": "qwen3"}
"""`model_type` of a configuration -> the name that GGUF has for it."""
ROTATED_IN_PAIRS = frozenset({"llama", "mistral"})
"""Models whose q and k rows GGUF keeps in another order than Hugging Face does."""


OF_FILE = "gguf:"
"""What the identity of a model begins with of which there is no Hugging Face folder, but the GGUF file alone."""


@dataclass(frozen=True)
class BaseModel:
    """A base model. `identity` is equal only for folders whose configuration and weights are the same."""

    folder: Path
    identity: str
    model_type: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int

    def shape(self, projection: str) -> tuple[int, int]:
        """Rows and columns of a projection's weight: what it puts out, what it takes.

        Raises:
            InvalidInput: the model has no such projection.
        """
        of = {
            "q_proj": (self.heads * self.head_width, self.width),
            "k_proj": (self.kv_heads * self.head_width, self.width),
            "v_proj": (self.kv_heads * self.head_width, self.width),
            "o_proj": (self.width, self.heads * self.head_width),
            "gate_proj": (self.feed_forward, self.width),
            "up_proj": (self.feed_forward, self.width),
            "down_proj": (self.width, self.feed_forward),
        }
        if projection not in of:
            raise InvalidInput(f"The model has no {projection} that an adapter could change: {', '.join(of)} can be.")
        return of[projection]


def is_of_file(identity: str) -> bool:
    """Whether it is the identity of a GGUF file; those of folders cannot be compared with it."""
    return identity.startswith(OF_FILE)


def read_base_model(folder: Path) -> BaseModel:
    """What the folder holds.

    Raises:
        InvalidInput: it is no folder of a Llama-, Qwen- or Mistral-like model with safetensors weights.
    """
    config = _config(folder)
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InvalidInput(f"{folder} holds a {kind!r} model: adapters are made for {known}.", field="base_model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InvalidInput(f"{folder} holds no safetensors weights: save the model in that form.", field="base_model")
    try:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return BaseModel(
            folder, _identity(folder, weights), kind, int(config["num_hidden_layers"]), width, heads,
            int(config.get("num_key_value_heads") or heads), int(config.get("head_dim") or width // heads),
            int(config["intermediate_size"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        said = f"{folder}/config.json lacks a size that a {kind} has: {error}."
        raise InvalidInput(said, field="base_model") from None


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder} is no Hugging Face folder (config.json: {error}).", field="base_model") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{folder}/config.json is no configuration.", field="base_model")
    return found


def _identity(folder: Path, weights: list[Path]) -> str:
    """A digest of what the model computes: configuration, headers and weights, without what only describes it."""
    digest = hashlib.blake2b(digest_size=16)
    config = _config(folder)
    for name in ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures"):
        config.pop(name, None)
    digest.update(json.dumps(config, sort_keys=True).encode())
    for path in weights:
        digest.update(safetensors_file.digest(path).encode())
    return digest.hexdigest()
