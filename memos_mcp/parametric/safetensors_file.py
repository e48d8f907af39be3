"""Reads safetensors files by their header: names, types, shapes and places of tensors, checked before they count.

Knows no framework but numpy. The format (safetensors 0.4): eight bytes with the header's length, little endian, the
header as JSON, then the tensors one after the other without gaps.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_mcp.errors import InvalidInput

MOST_HEADER = 16 << 20
"""Bytes of a header; those of large models have some hundred thousand."""
TYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "F64": np.dtype("<f8"),
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """A tensor of a file: its type's name, its shape, its first byte and the one behind its last."""

    type: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header(path: Path) -> dict[str, Held]:
    """The tensors that a file holds, by name.

    Raises:
        InvalidInput: it is no whole safetensors file; the sentence says what is wrong with it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MOST_HEADER, size - 8):
                raise _refused(path, "it is no safetensors file, or was cut off")
            found = json.loads(file.read(length))
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _refused(path, "its header is no JSON") from None
    if not isinstance(found, dict):
        raise _refused(path, "its header names no tensors")
    found.pop("__metadata__", None)
    held = {str(name): _held(path, name, said, 8 + length) for name, said in found.items()}
    end = 8 + length
    for name, one in sorted(held.items(), key=lambda pair: pair[1].begin):
        if one.begin != end:
            raise _refused(path, f"{name} does not stand where the one before it ends")
        end = one.end
    if end != size:
        raise _refused(path, f"it has {size:,} bytes where its header says {end:,}")
    return held


def tensor(path: Path, held: Held, rows: int | None = None) -> NDArray[np.float32]:
    """The values of a tensor, or of its first `rows` rows, as float32.

    Raises:
        InvalidInput: the file changed since its header was read.
    """
    shape = held.shape if rows is None else (min(rows, held.shape[0]), *held.shape[1:])
    raw = np.fromfile(path, TYPES[held.type], math.prod(shape), offset=held.begin)
    if raw.size != math.prod(shape):
        raise _refused(path, "it was cut off")
    if held.type == "BF16":
        return (raw.astype("<u4") << 16).view("<f4").reshape(shape)
    values: NDArray[np.float32] = raw.astype(np.float32).reshape(shape)
    return values


def digest(path: Path) -> str:
    """The SHA-256 of the whole file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _held(path: Path, name: str, said: Any, start: int) -> Held:
    try:
        kind, shape = str(said["dtype"]), tuple(int(size) for size in said["shape"])
        begin, end = (int(place) for place in said["data_offsets"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _refused(path, f"its header says nothing whole of {name}") from None
    if kind not in TYPES:
        raise _refused(path, f"{name} has the type {kind}: {', '.join(TYPES)} are read")
    if min(shape, default=0) < 0 or end - begin != math.prod(shape) * TYPES[kind].itemsize:
        raise _refused(path, f"{name} has not the size that its shape says")
    return Held(kind, shape, start + begin, start + end)


def _refused(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{path.name} is not used: {why}.", field="adapter")
