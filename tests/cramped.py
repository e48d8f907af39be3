"""A program that uses a store under a limit of the operating system, and prints what it met as JSON.

    python cramped.py HOME small-files | read-only
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import FakeEmbedder, FakeIndex
from person import Person, settings_for

from memos_mcp.errors import StorageFailed
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect

LIMIT = 600_000


def open_store(home: Path) -> Kernel:
    kernel = Kernel.open(settings_for(home), embedder=lambda _: FakeEmbedder(), index=FakeIndex())
    kernel.api.parts.embedder.get(10.0)
    return kernel


def small_files(home: Path) -> dict[str, Any]:
    import resource  # POSIX only

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    kernel = open_store(home)
    ada = Person(kernel.api, "ada")
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    kept, refused = [], []
    for i in range(60):
        try:
            kept.append(ada.keep(f"Fact number {i} " + "filler " * 3_000))
        except StorageFailed as error:
            refused.append(str(error))
    told: dict[str, Any] = {"kept": len(kept), "refused": refused}
    told["read"] = sum(ada.text(cube).startswith("Fact number") for cube in kept)
    kernel.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    told["closed"] = True
    kernel = open_store(home)
    ada = Person(kernel.api, "ada")
    told["after"] = ada.text(ada.keep("Space is back"))
    with kernel.ledger.read() as connection:
        told["check"] = dialect.check(connection)
    kernel.close()
    return told


def read_only(home: Path) -> dict[str, Any]:
    if os.geteuid() == 0:
        try:
            os.setgid(65_534)
            os.setuid(65_534)
        except OSError as error:
            return {"skip": f"root may write everywhere, and cannot become another user: {error}"}
    if os.access(home, os.W_OK) or not os.access(home, os.R_OK | os.X_OK):
        return {"skip": "permissions are not what was set: another user cannot read the folder, or can write it"}
    kernel = open_store(home)
    ada = Person(kernel.api, "ada")
    found = ada.search("gate code")["hits"]
    cube = found[0]["id"]
    op = ada.history(cube)["operations"][0]["op"]
    acts: dict[str, Callable[[], object]] = {
        "add": lambda: ada.add("x"),
        "update": lambda: ada.update(cube, tags=["x"]),
        "forget": lambda: ada.forget(cube),
        "undo": lambda: ada.undo(op),
        "filter": lambda: ada.forget(query="gate", dry_run=True),
    }
    refused = {}
    for name, act in acts.items():
        try:
            act()
        except StorageFailed as error:
            refused[name] = str(error)
    told = {"found": [hit["id"] for hit in found], "text": ada.text(cube), "refused": refused}
    kernel.close()
    return told


if __name__ == "__main__":
    print(json.dumps({"small-files": small_files, "read-only": read_only}[sys.argv[2]](Path(sys.argv[1]))))
