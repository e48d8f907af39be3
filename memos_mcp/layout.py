"""The layout of a data directory, and whether it can be worked in.

Standard library only; knows nothing of what the files mean.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_mcp.errors import StorageFailed
from memos_mcp.lock import LOCK
from memos_mcp.version import VERSION, newer

PROOF_BYTES = 1 << 16
"""Bytes written to find out whether there is room to work at all."""


@dataclass(frozen=True)
class Layout:
    """Paths inside a data directory."""

    home: Path

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.db"

    @property
    def backups(self) -> Path:
        return self.home / "backups"

    @property
    def index(self) -> Path:
        return self.home / "index"

    @property
    def states(self) -> Path:
        """What the local model has read, in files."""
        return self.home / "states"

    @property
    def adapters(self) -> Path:
        """LoRA adapters, a folder each, by the ids of their cubes."""
        return self.home / "adapters"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def lock(self) -> Path:
        return self.home / LOCK

    @property
    def program(self) -> Path:
        """Names the program that last migrated the ledger."""
        return self.home / "program.json"

    def create(self) -> None:
        """Make the data directory, readable by its user alone.

        Raises:
            StorageFailed: the folder cannot be made or is not a folder.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"The data directory {self.home} cannot be made ({error.strerror}): "
                "set MEMOS_HOME to a folder that you may write to."
            ) from error

    def prove_writable(self) -> None:
        """Write and flush a little, and take it away again.

        Raises:
            StorageFailed: the folder cannot be written, or the disk is full.
        """
        proof = self.home / f".proof-{os.getpid()}"
        try:
            with open(proof, "wb") as file:
                file.write(bytes(PROOF_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageFailed(
                f"The data directory {self.home} cannot be written ({error.strerror}): check its permissions and "
                "the space on its disk, or set MEMOS_HOME to another folder."
            ) from error
        finally:
            proof.unlink(missing_ok=True)

    def record_program(self) -> None:
        """Note this interpreter and version as the last that brought the ledger up to date; a newer one stays noted.

        An older memos-mcp then starts this one instead of a kernel that could not read the ledger.
        """
        known = self.recorded_program()
        if known == {"python": sys.executable, "version": VERSION}:
            return
        if known and newer(str(known.get("version")), VERSION) and os.access(str(known.get("python")), os.X_OK):
            return
        fresh = self.program.with_suffix(".new")
        fresh.write_text(json.dumps({"python": sys.executable, "version": VERSION}), encoding="utf-8")
        fresh.replace(self.program)

    def recorded_program(self) -> dict[str, Any]:
        """What `record_program` noted: {python, version}; {} when that cannot be read."""
        try:
            found = json.loads(self.program.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
