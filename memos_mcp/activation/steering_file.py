"""Steering vectors on disk: a direction for each layer with all that it was made of, checked before it is used.

Knows no model and no ledger. The file is sealed as those of states are; it holds numbers, and no text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from memos_mcp.activation.engine import Layers
from memos_mcp.activation.state_file import StateRefused, open_sealed, write_sealed

MAGIC = b"MEMOSCV\n"
SUFFIX = ".steering"
FORMAT = "application/x-steering+f32"
"""Rows of 32-bit floats, little endian, one for each layer from the first to the last."""
_FLOATS = np.dtype("<f4")


@dataclass(frozen=True)
class SteeringHeader:
    """What a vector was made of, as (id, version, side), and for which model and layers."""

    identity: str
    first: int
    last: int
    width: int
    sources: tuple[tuple[str, int, str], ...]
    format: str = FORMAT


def write_steering(path: Path, header: SteeringHeader, rows: Layers) -> tuple[int, str]:
    """Make a file of `rows`, shape (layers first to last, width); returns its size and the digest of the vector.

    Raises:
        StorageFailed: the disk is full, or the folder cannot be written.
    """
    data = np.ascontiguousarray(rows, _FLOATS).tobytes()

    def write(file: Path, offset: int) -> int:
        with open(file, "r+b") as out:
            out.seek(offset)
            return out.write(data)

    return write_sealed(path, MAGIC, asdict(header), write), hashlib.sha256(data).hexdigest()


def read_steering(path: Path, header: SteeringHeader, sha256: str) -> Layers:
    """The rows of a file that is whole and was made of just this.

    Raises:
        StateRefused: it is anything else.
    """
    text, blob = open_sealed(path, MAGIC)
    if json.loads(text) != json.loads(json.dumps(asdict(header))):
        raise StateRefused(path, "cubes", "it was made of other memories, or for another model")
    with open(path, "rb") as file:
        file.seek(blob.offset)
        data = file.read(blob.size)
    shape = (header.last - header.first + 1, header.width)
    if hashlib.sha256(data).hexdigest() != sha256 or len(data) != _FLOATS.itemsize * shape[0] * shape[1]:
        raise StateRefused(path, "damaged", "it is damaged: it is another vector than was written")
    return np.frombuffer(data, _FLOATS).reshape(shape).astype(np.float32)
