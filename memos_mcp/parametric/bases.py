"""The model that adapters are made for: the base folder, the GGUF file that is asked, and whether both are one model.

Knows no adapter. What was read once is read again only when a file has changed.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.parametric import gguf_file, safetensors_file
from memos_mcp.parametric.base_model import ARCHITECTURES, OF_FILE, BaseModel, is_of_file, read_base_model
from memos_mcp.parametric.gguf_file import GgufFile

SAMPLED_ROWS = 16
"""Rows of each matrix that are compared."""
CLOSE: Mapping[int, float] = {gguf_file.F32: 0.01, gguf_file.F16: 0.01, gguf_file.BF16: 0.01, 8: 0.02, 14: 0.05}
"""How far, as a share of their length, the rows of a quantised file may be from those of the folder, by type."""
CLOSE_ENOUGH = 0.3
"""The same for coarser types."""
_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF's name of an architecture -> the `model_type` whose rules its adapters follow."""
_FIELDS = ("layers", "width", "heads", "kv_heads", "head_width", "feed_forward")
_Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Read:
    """What was read when the files were stamped so."""

    stamp: _Stamp
    folder: BaseModel | None
    file: GgufFile | None
    of_file: BaseModel | None
    apart: str | None


class Bases:
    """The base folder and the model file of a store, either of which may be missing. Safe to share between threads."""

    def __init__(self, folder: Path | None, file: Path | None) -> None:
        self._folder, self._file = folder, file
        self._lock = threading.Lock()
        self._read: _Read | None = None

    def base(self) -> BaseModel:
        """What adapters are made for: the model of the base folder, else that of the file alone.

        Raises:
            InvalidInput: there is neither, or it cannot be used; the sentence says what to set.
        """
        found = self._known()
        base = found.folder or found.of_file
        if base is None:
            raise InvalidInput(
                "The store has no model that an adapter could be for: set one with `memos-mcp config model FILE.gguf`, "
                "and its Hugging Face folder with `memos-mcp config base_model FOLDER`.",
                field="base_model",
            )
        return base

    def require(self, identity: str) -> None:
        """Raise unless an adapter for the base of this identity can be mounted on the model file.

        Raises:
            Conflict: it is another model; the sentence says in what. InvalidInput: as `base`.
        """
        found = self._known()
        if found.of_file is None:
            raise Conflict("Adapters are mounted on a local model: set one with `memos-mcp config model FILE.gguf`.")
        if identity == found.of_file.identity:
            return
        if is_of_file(identity):
            raise Conflict("It was imported for another model file than the one in use: import it again.")
        if found.folder is None or identity != found.folder.identity:
            raise Conflict(
                "It was trained for another base model than the one that the store is set to: set that one again with "
                "`memos-mcp config base_model FOLDER`, or train it anew."
            )
        if found.apart is not None:
            raise Conflict(
                f"The base folder and the model file are not the same model ({found.apart}): set `model` to a GGUF "
                "file that was made of `base_model`."
            )

    def _known(self) -> _Read:
        with self._lock:
            stamp = self._stamp()
            if self._read is None or self._read.stamp != stamp:
                self._read = self._look(stamp)
            return self._read

    def _look(self, stamp: _Stamp) -> _Read:
        folder = read_base_model(self._folder) if self._folder is not None else None
        file = gguf_file.read(self._file) if self._file is not None and self._file.is_file() else None
        of_file = of_gguf(file) if file is not None else None
        apart = None
        if folder is not None and file is not None and of_file is not None:
            apart = difference(folder, file, of_file)
        return _Read(stamp, folder, file, of_file, apart)

    def _stamp(self) -> _Stamp:
        files = [self._file] if self._file is not None else []
        if self._folder is not None:
            files += [self._folder / "config.json", *sorted(self._folder.glob("*.safetensors"))]
        return tuple(_stamped(files))


def _stamped(files: Iterable[Path]) -> Iterable[tuple[str, int, int]]:
    for path in files:
        try:
            found = path.stat()
        except OSError:
            continue
        yield str(path), found.st_size, found.st_mtime_ns


def of_gguf(file: GgufFile) -> BaseModel:
    """The shape of the model in a GGUF file, as adapters need it.

    Raises:
        InvalidInput: it is no model of a kind that adapters are mounted on.
    """
    architecture = file.text("general.architecture") or "nothing"
    if architecture not in _TYPES or file.text("general.type") == "adapter":
        known = ", ".join(_TYPES)
        raise InvalidInput(f"{file.path} holds a {architecture[:40]!r} model: adapters are mounted on {known}.")
    sizes = {name: file.number(f"{architecture}.{name}") for name in (
        "block_count", "embedding_length", "attention.head_count", "feed_forward_length"
    )}  # fmt: skip
    if None in sizes.values():
        lacking = next(name for name, value in sizes.items() if value is None)
        raise InvalidInput(f"{file.path} does not say its {lacking}, or has another in each layer.", field="model")
    layers, width, heads, feed_forward = (int(value or 0) for value in sizes.values())
    kv_heads = file.number(f"{architecture}.attention.head_count_kv") or heads
    head_width = file.number(f"{architecture}.attention.key_length") or width // max(heads, 1)
    identity = OF_FILE + file.identity()
    return BaseModel(
        file.path, identity, _TYPES[architecture], layers, width, heads, kv_heads, head_width, feed_forward
    )


def difference(folder: BaseModel, file: GgufFile, of_file: BaseModel) -> str | None:
    """In what the folder's model and the file's differ; None where shapes are equal and a sample of weights agrees.

    Between a file that is quantised and one that was tuned a little further, a sample cannot tell.
    """
    if ARCHITECTURES[folder.model_type] != file.text("general.architecture"):
        return f"the folder holds a {folder.model_type}, the file a {file.text('general.architecture')}"
    for name in _FIELDS:
        ours, theirs = getattr(folder, name), getattr(of_file, name)
        if ours != theirs:
            return f"{name.replace('_', ' ')}: {ours} in the folder, {theirs} in the file"
    held = _held(folder.folder)
    for ours, theirs in _sampled(folder.layers):
        if ours not in held or theirs not in file.tensors:
            continue
        path, one = held[ours]
        if one.shape != file.tensors[theirs].shape:
            return f"{theirs} is {file.tensors[theirs].shape}, and {one.shape} in the folder"
        found = _rows(file, theirs)
        if found is None:
            continue
        wanted = safetensors_file.tensor(path, one, SAMPLED_ROWS if len(one.shape) == 2 else None)
        apart = float(np.linalg.norm(found - wanted)) / max(float(np.linalg.norm(wanted)), 1e-12)
        if not apart <= CLOSE.get(file.tensors[theirs].type, CLOSE_ENOUGH):
            return f"the weights of {theirs} are others"
    return None


def _held(folder: Path) -> dict[str, tuple[Path, safetensors_file.Held]]:
    found: dict[str, tuple[Path, safetensors_file.Held]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= {name: (path, held) for name, held in safetensors_file.header(path).items()}
    return found


def _sampled(layers: int) -> list[tuple[str, str]]:
    """Names in the folder and in the file of what is compared: norms of every layer, and matrices of three."""
    names = [("model.norm.weight", "output_norm.weight"), ("model.embed_tokens.weight", "token_embd.weight")]
    for layer in range(layers):
        of_folder, of_file = f"model.layers.{layer}", f"blk.{layer}"
        names += [
            (f"{of_folder}.input_layernorm.weight", f"{of_file}.attn_norm.weight"),
            (f"{of_folder}.post_attention_layernorm.weight", f"{of_file}.ffn_norm.weight"),
        ]
        if layer in (0, layers // 2, layers - 1):
            names += [
                (f"{of_folder}.mlp.down_proj.weight", f"{of_file}.ffn_down.weight"),
                (f"{of_folder}.self_attn.o_proj.weight", f"{of_file}.attn_output.weight"),
            ]
    return names


def _rows(file: GgufFile, name: str) -> NDArray[np.float32] | None:
    """The sampled rows of a tensor; None of a type that cannot be read here."""
    tensor = file.tensors[name]
    if tensor.type in (gguf_file.F32, gguf_file.F16, gguf_file.BF16):
        return gguf_file.plain_tensor(file, name, SAMPLED_ROWS if len(tensor.shape) == 2 else None)
    raw = gguf_file.raw_rows(file, name, SAMPLED_ROWS)
    if raw is None or importlib.util.find_spec("gguf") is None:
        return None
    import gguf

    values: NDArray[np.float32] = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(tensor.type))
    return values
