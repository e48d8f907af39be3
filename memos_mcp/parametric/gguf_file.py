"""Reads GGUF files by their header: values, and names, types, shapes and places of tensors, checked before they count.

Knows no llama.cpp and no library: a hostile file costs a sentence. The format (GGUF 2 and 3): a magic, a version, the
counts of tensors and values, the values, what the tensors are, then the tensors, each at a multiple of an alignment.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from memos_mcp.errors import InvalidInput

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_HEADER = 256 << 20
"""Bytes of a header; a large model's vocabulary takes a few million."""
MOST_TENSORS = 65_536
MOST_VALUES = 65_536
MOST_NAME = 65_535
"""Bytes of a name."""
KEPT_TEXT = 1 << 20
"""Bytes of a text among the values up to which it is kept; of a longer one it is only known that it is there."""
KEPT_NUMBERS = 4_096
"""Numbers of an array up to which it is kept."""
MOST_DIMENSIONS = 4
SAMPLE = 4_096
"""Bytes of each tensor that go into a file's identity."""
_NUMBERS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
F32, F16, BF16 = 0, 1, 30
BLOCKS: Mapping[int, tuple[int, int]] = {
    F32: (1, 4), F16: (1, 2), BF16: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
}  # fmt: skip
"""Types of tensors by their number: how many weights a block has, and how many bytes."""
_PLAIN: Mapping[int, np.dtype[Any]] = {F32: np.dtype("<f4"), F16: np.dtype("<f2"), BF16: np.dtype("<u2")}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: the number of its type, its shape (rows first, as numpy has it), and its first byte."""

    type: int
    shape: tuple[int, ...]
    begin: int

    @property
    def size(self) -> int | None:
        """Its bytes; None of a type that is not known here."""
        if self.type not in BLOCKS:
            return None
        weights, taken = BLOCKS[self.type]
        return math.prod(self.shape) // weights * taken


@dataclass(frozen=True)
class GgufFile:
    """What a header says. `header` is a digest of it."""

    path: Path
    size: int
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    header: str

    def text(self, key: str) -> str | None:
        """A value that is a text."""
        found = self.values.get(key)
        return found if isinstance(found, str) else None

    def number(self, key: str) -> int | None:
        """A value that is a whole number."""
        found = self.values.get(key)
        return found if isinstance(found, int) else None

    def identity(self) -> str:
        """A digest of the header and the beginning of each tensor: other weights have another one."""
        digest = hashlib.blake2b(self.header.encode(), digest_size=16)
        with self.path.open("rb") as file:
            for tensor in sorted(self.tensors.values(), key=lambda one: one.begin):
                file.seek(tensor.begin)
                digest.update(file.read(SAMPLE))
        return digest.hexdigest()


def read(path: Path) -> GgufFile:
    """The header of a file.

    Raises:
        InvalidInput: it is no whole GGUF file; the sentence says what is wrong with it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(path, _Header(path, file, size))
    except OSError as error:
        raise refused(path, f"it cannot be read ({error.strerror})") from None


def plain_tensor(file: GgufFile, name: str, rows: int | None = None) -> NDArray[np.float32]:
    """The values of a tensor of type F32, F16 or BF16 as float32, or its first `rows` rows.

    Raises:
        InvalidInput: it is of another type, or the file changed since its header was read.
    """
    tensor = file.tensors[name]
    if tensor.type not in _PLAIN:
        raise refused(file.path, f"{name} is of a type that is not read here")
    shape = tensor.shape if rows is None else (min(rows, tensor.shape[0]), *tensor.shape[1:])
    count = math.prod(shape)
    raw = np.fromfile(file.path, _PLAIN[tensor.type], count, offset=tensor.begin)
    if raw.size != count:
        raise refused(file.path, "it was cut off")
    if tensor.type == BF16:
        return (raw.astype("<u4") << 16).view("<f4").reshape(shape)
    values: NDArray[np.float32] = raw.astype(np.float32).reshape(shape)
    return values


def raw_rows(file: GgufFile, name: str, rows: int) -> NDArray[np.uint8] | None:
    """The first rows of a tensor as its type's bytes, shape (rows, bytes of one); None where that is not known here."""
    tensor = file.tensors[name]
    if tensor.type not in BLOCKS or len(tensor.shape) != 2:
        return None
    weights, taken = BLOCKS[tensor.type]
    width = tensor.shape[1] // weights * taken
    count = min(rows, tensor.shape[0])
    raw = np.fromfile(file.path, np.uint8, count * width, offset=tensor.begin)
    return raw.reshape(count, width) if raw.size == count * width else None


def refused(path: Path, why: str) -> InvalidInput:
    """What is raised for a file that is not used."""
    return InvalidInput(f"{path.name} is not used: {why}.", field="adapter")


class _Header:
    """What is read of a header, never beyond the file's end."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._left = path, file, min(size, MOST_HEADER)
        self.size, self.at = size, 0
        self.digest = hashlib.blake2b(digest_size=16)

    def take(self, count: int) -> bytes:
        if count > self._left:
            raise refused(self._path, "it was cut off, or its header says more than it holds")
        found = self._file.read(count)
        if len(found) != count:
            raise refused(self._path, "it was cut off")
        self._left -= count
        self.at += count
        self.digest.update(found)
        return found

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def count(self, most: int, of: str) -> int:
        found = int(self.number("<Q"))
        if found > most:
            raise refused(self._path, f"its header speaks of {found:,} {of}")
        return found

    def skip(self, count: int) -> None:
        """Pass over bytes, a bounded number at a time in memory."""
        while count > 0:
            count -= len(self.take(min(count, KEPT_TEXT)))

    def name(self) -> str:
        raw = self.take(self.count(MOST_NAME, "bytes of a name"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise refused(self._path, "a name in its header is no text") from None

    def text(self) -> str | None:
        length = int(self.number("<Q"))
        if length > KEPT_TEXT:
            if length > self._left:
                raise refused(self._path, "it was cut off, or its header says more than it holds")
            self.skip(length)
            return None
        return self.take(length).decode("utf-8", "replace")

    def value(self) -> Any:
        kind = int(self.number("<I"))
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        return self._plain(kind)

    def _plain(self, kind: int) -> Any:
        if kind not in _NUMBERS:
            raise refused(self._path, f"its header has a value of the type {kind}, which there is not")
        found = self.number(_NUMBERS[kind])
        return bool(found) if kind == 7 else found

    def _array(self) -> tuple[Any, ...] | None:
        kind, length = int(self.number("<I")), int(self.number("<Q"))
        if kind == _TEXT:
            if length * 8 > self._left:
                raise refused(self._path, "it was cut off, or its header says more than it holds")
            for _ in range(length):
                self.skip(self.count(self._left, "bytes of a text"))
            return None
        if kind not in _NUMBERS:
            raise refused(self._path, f"its header has an array of the type {kind}, which is not read")
        width = struct.calcsize(_NUMBERS[kind])
        if length * width > self._left:
            raise refused(self._path, "it was cut off, or its header says more than it holds")
        if length > KEPT_NUMBERS:
            self.skip(length * width)
            return None
        return tuple(self._plain(kind) for _ in range(length))


def _read(path: Path, header: _Header) -> GgufFile:
    if header.size < 24 or header.take(4) != MAGIC:
        raise refused(path, "it is no GGUF file, or was cut off")
    version = int(header.number("<I"))
    if version not in VERSIONS:
        raise refused(path, f"it is of GGUF's version {version}: {' and '.join(map(str, VERSIONS))} are read")
    tensors, values = header.count(MOST_TENSORS, "tensors"), header.count(MOST_VALUES, "values")
    said: dict[str, Any] = {}
    for _ in range(values):
        key = header.name()
        if key in said:
            raise refused(path, f"its header says {key!r} twice")
        said[key] = header.value()
    described: dict[str, Tensor] = {}
    for _ in range(tensors):
        name = header.name()
        if name in described:
            raise refused(path, f"it holds {name!r} twice")
        described[name] = _described(path, header, name)
    alignment = said.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
        raise refused(path, f"its alignment is {alignment!r}")
    start = -(-header.at // alignment) * alignment
    placed = {name: Tensor(one.type, one.shape, start + one.begin) for name, one in described.items()}
    _require_room(path, header.size, alignment, placed)
    return GgufFile(path, header.size, said, placed, header.digest.hexdigest())


def _described(path: Path, header: _Header, name: str) -> Tensor:
    dimensions = int(header.number("<I"))
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise refused(path, f"{name} has {dimensions} dimensions")
    shape = tuple(int(header.number("<Q")) for _ in range(dimensions))[::-1]
    kind, begin = int(header.number("<I")), int(header.number("<Q"))
    if not math.prod(shape) or math.prod(shape) > 1 << 48:
        raise refused(path, f"{name} has the shape {shape}")
    if kind in BLOCKS and shape[-1] % BLOCKS[kind][0]:
        raise refused(path, f"{name} has the shape {shape}, which its type cannot have")
    return Tensor(kind, shape, begin)


def _require_room(path: Path, size: int, alignment: int, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless the tensors lie in the file, and no two of them on each other."""
    end = 0
    for name, one in sorted(tensors.items(), key=lambda pair: pair[1].begin):
        if one.begin < end or one.begin % alignment:
            raise refused(path, f"{name} does not stand where it should")
        end = one.begin + (one.size or 0)
        if end > size:
            raise refused(path, f"it was cut off: {name} goes beyond its end")
