"""How a kernel and the worker of its model talk: frames of a JSON object and raw bytes, over two pipes.

Knows nothing of what they say.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

LENGTHS = struct.Struct("<IQ")
"""Bytes of the object and of what follows it."""

Frame = tuple[dict[str, Any], bytes]


def send(pipe: BinaryIO, content: dict[str, Any], blob: bytes | memoryview = b"") -> None:
    """Write a frame and flush it. Raises `OSError` or `ValueError` when the other side is gone or the pipe closed."""
    head = json.dumps(content).encode()
    pipe.write(LENGTHS.pack(len(head), len(blob)) + head)
    if blob:
        pipe.write(blob)
    pipe.flush()


def receive(pipe: BinaryIO) -> Frame | None:
    """The next frame; None at the pipe's end, also in the middle of a frame."""
    lengths = pipe.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    of_head, of_blob = LENGTHS.unpack(lengths)
    head = pipe.read(of_head)
    blob = pipe.read(of_blob) if of_blob else b""
    if len(head) < of_head or len(blob) < of_blob:
        return None
    return json.loads(head), blob
