"""States on disk: a model's state together with all that it depends on, checked to the last byte before it is used.

Knows no model and no ledger: what a state must have been made of is said by whoever opens it.

A file is a preamble of fixed size, a header in JSON, zeros up to a round offset, and the state. The preamble holds a
SHA-256 over all before the state, itself with its own place empty included, and one over the state; nothing stands
behind. Files are private to their user, and written beside and renamed: a name is only ever that of a whole file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from memos_mcp.activation.engine import FileBlob
from memos_mcp.errors import MemosError, StorageFailed

MAGIC = b"MEMOSKV\n"
FORMAT = 1
"""Raised whenever the same bytes would mean something else."""
PREAMBLE = struct.Struct("<8sIIQQ32s32s")
"""Magic, format, bytes of the header, offset and bytes of the state, digest of the state, digest of the head."""
HEAD_DIGEST = PREAMBLE.size - 32
ROUND = 64
MOST_HEADER = 64 << 20
SUFFIX, UNFINISHED = ".state", ".unfinished"

Reason = Literal["missing", "unreadable", "not a state", "format", "damaged", "model", "tokens", "cubes"]


class StateRefused(MemosError):
    """A state file that is not used; `reason` is one of a few words for reports."""

    def __init__(self, path: Path, reason: Reason, detail: str) -> None:
        super().__init__(f"The state {path.name} is not used ({detail}): it is made anew from the text.")
        self.path, self.reason, self.detail = path, reason, detail


@dataclass(frozen=True)
class Part:
    """A cube whose text was read, in this version, into the tokens up to `end`."""

    cube: str
    version: int
    end: int


@dataclass(frozen=True)
class StateHeader:
    """What a state was made of and with, and how to read it."""

    identity: str
    """The engine's, with the mounts."""
    kv_type: str
    layers: int
    bytes_per_token: int
    tokens: tuple[int, ...]
    positions: tuple[int, ...] | None = None
    """Where the tokens stand; None for 0, 1, 2 …."""
    head: int | None = None
    """Tokens before the first part."""
    model: str | None = None
    """The engine's identity without the mounts, where there are any."""
    parts: tuple[Part, ...] = ()
    approximate: str | None = None
    """How it was composed, if it is not what reading the text would give."""
    created: str = ""

    @property
    def end(self) -> int:
        """The position behind the last token."""
        return self.positions[-1] + 1 if self.positions else len(self.tokens)


@dataclass(frozen=True)
class StateFile:
    """A state file that was checked: its header, and the state, for `Engine.restore`."""

    header: StateHeader
    blob: FileBlob


def write_state(path: Path, header: StateHeader, write: Callable[[Path, int], int]) -> int:
    """Make a state file; `write(path, offset)` puts the state there and returns its size, as `Engine.write` does.

    Returns the size of the file. An older file of this name is replaced; on any error it stays.

    Raises:
        StorageFailed: the disk is full, or the folder cannot be written.
    """
    return write_sealed(path, MAGIC, asdict(header), write)


def write_sealed(path: Path, magic: bytes, header: dict[str, Any], write: Callable[[Path, int], int]) -> int:
    """Make a file of another kind, named by eight bytes of `magic`, in the same way."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    text = json.dumps(header, separators=(",", ":")).encode()
    offset = -(-(PREAMBLE.size + len(text)) // ROUND) * ROUND
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            file.write(bytes(PREAMBLE.size) + text + bytes(offset - PREAMBLE.size - len(text)))
            file.flush()
            size = write(fresh, offset)
            head = (magic, FORMAT, len(text), offset, size)
            state = _digest(file.fileno(), offset, size)
            rest = text + bytes(offset - PREAMBLE.size - len(text))
            digest = _head_digest(PREAMBLE.pack(*head, state, bytes(32)), rest)
            file.seek(0)
            file.write(PREAMBLE.pack(*head, state, digest))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise StorageFailed(f"The state {path} cannot be written ({error.strerror}): check the disk.") from error
    finally:
        fresh.unlink(missing_ok=True)
    return offset + size


def read_header(path: Path) -> StateHeader:
    """A state file's header, checked without its state. Raises `StateRefused`."""
    return _opened(path, False).header


def open_state(
    path: Path,
    identity: str,
    *,
    tokens: Sequence[int] | None = None,
    parts: Sequence[Part] | None = None,
) -> StateFile:
    """A state file that is whole and was made by this model of just these tokens and cube versions, as far as given.

    Raises:
        StateRefused: it is anything else.
    """
    found = _opened(path, True)
    if found.header.identity != identity:
        raise StateRefused(path, "model", "it was made by another model, or under other settings")
    if tokens is not None and tuple(tokens) != found.header.tokens:
        raise StateRefused(path, "tokens", "it was made of another text")
    if parts is not None and tuple(parts) != found.header.parts:
        raise StateRefused(path, "cubes", "it was made of other memories or of other versions of them")
    return found


def remove_unfinished(folder: Path) -> int:
    """Delete what a crash left half written; returns how many. Only while nothing is being written there."""
    found = list(folder.glob(f".*{UNFINISHED}"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _opened(path: Path, whole: bool) -> StateFile:
    text, blob = open_sealed(path, MAGIC, whole=whole)
    return StateFile(_header(path, text), blob)


def open_sealed(path: Path, magic: bytes, *, whole: bool = True) -> tuple[bytes, FileBlob]:
    """The header and the place of what a file of this kind holds, checked; without `whole`, the header alone.

    Raises:
        StateRefused: it is not there, or not what was written.
    """
    try:
        with open(path, "rb") as file:
            return _checked(path, file.fileno(), magic, whole)
    except FileNotFoundError as error:
        raise StateRefused(path, "missing", "it is not there") from error
    except OSError as error:
        raise StateRefused(path, "unreadable", f"it cannot be read: {error.strerror}") from error


def _checked(path: Path, file: int, magic: bytes, whole: bool) -> tuple[bytes, FileBlob]:
    length = os.fstat(file).st_size
    start = os.pread(file, PREAMBLE.size, 0)
    if len(start) < PREAMBLE.size or start[: len(magic)] != magic:
        raise StateRefused(path, "not a state", "it is not a state file")
    _, version, of_text, offset, size, state, digest = PREAMBLE.unpack(start)
    if version != FORMAT:
        raise StateRefused(path, "format", f"it has format {version}, and this program knows {FORMAT}")
    if offset + size != length or not PREAMBLE.size + of_text <= offset <= MOST_HEADER:
        raise StateRefused(path, "damaged", "it is damaged: its sizes do not fit")
    rest = os.pread(file, offset - PREAMBLE.size, PREAMBLE.size)
    if _head_digest(start[:HEAD_DIGEST] + bytes(32), rest) != digest:
        raise StateRefused(path, "damaged", "it is damaged: its header is not what was written")
    if whole and _digest(file, offset, size) != state:
        raise StateRefused(path, "damaged", "it is damaged: its state is not what was written")
    return rest[:of_text], FileBlob(path, offset, size)


def _header(path: Path, text: bytes) -> StateHeader:
    try:
        found: dict[str, Any] = json.loads(text)
        found["tokens"] = tuple(found["tokens"])
        found["positions"] = None if found["positions"] is None else tuple(found["positions"])
        found["parts"] = tuple(Part(**part) for part in found["parts"])
        return StateHeader(**found)
    except (ValueError, TypeError, KeyError) as error:
        raise StateRefused(path, "damaged", f"its header makes no sense: {error}") from error


def _head_digest(preamble: bytes, rest: bytes) -> bytes:
    return hashlib.sha256(preamble + rest).digest()


def _digest(file: int, offset: int, size: int) -> bytes:
    """SHA-256 of a part of a file, through a mapping: nothing is copied, and other threads go on."""
    if not size:
        return hashlib.sha256().digest()
    with (
        mmap.mmap(file, offset + size, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[offset:] as state,
    ):
        return hashlib.sha256(state).digest()


def _flush_folder(folder: Path) -> None:
    """Make a renaming outlive a power cut, where folders can be flushed."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
