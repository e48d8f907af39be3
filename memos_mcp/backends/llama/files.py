"""Hashes of large files, kept by size, time and inode so that each is read once; and whether a file may be a model.

Knows nothing of what is in a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from memos_mcp.errors import EngineUnavailable

MAGIC = b"GGUF"
KEPT = 256
"""Files whose hashes are kept; the oldest go."""


class FileHashes:
    """SHA-256 of files, remembered in a JSON file of the data directory. Safe to call from several threads."""

    def __init__(self, kept: Path) -> None:
        self._kept, self._lock = kept, threading.Lock()

    def of(self, path: Path) -> str:
        """The file's hash in hexadecimal. Raises `OSError` if it cannot be read."""
        with self._lock:
            found = os.stat(path)
            key = f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
            known = self._read()
            if key not in known:
                with open(path, "rb") as file:
                    known[key] = hashlib.file_digest(file, "sha256").hexdigest()
                self._write(dict(list(known.items())[-KEPT:]))
            return known[key]

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, known: dict[str, str]) -> None:
        fresh = self._kept.with_suffix(".new")
        try:
            self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(known), encoding="utf-8")
            fresh.replace(self._kept)
        except OSError:
            return  # it is read again then


def check_model(path: Path) -> int:
    """The size of what may be a model file.

    Raises:
        EngineUnavailable: there is none, it cannot be read, or it is something else.
    """
    try:
        with open(path, "rb") as file:
            magic, size = file.read(len(MAGIC)), os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise EngineUnavailable(
            f"There is no model file {path}: set MEMOS_MODEL (memos-mcp config model PATH) to a GGUF file."
        ) from error
    except OSError as error:
        raise EngineUnavailable(f"The model file {path} cannot be read ({error.strerror}).") from error
    if magic != MAGIC:
        raise EngineUnavailable(
            f"{path} is not a GGUF file: set MEMOS_MODEL (memos-mcp config model PATH) to one that is."
        )
    return size
