"""A program that keeps memories and says which are acknowledged, until it is killed.

    python doomed.py HOME adds | index | purge

Prints a JSON list of ids after each call, and words where something else begins.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

from fakes import FakeEmbedder
from person import INDEX_FROM, Person, settings_for

from memos_mcp.kernel import Kernel


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def add_bulk(ada: Person, first: int, count: int) -> list[str]:
    said = [{"role": "user", "content": f"Note {i} of the doomed"} for i in range(first, first + count)]
    return [cube["id"] for cube in ada.add(messages=said)["cubes"]]


def adds(ada: Person) -> None:
    for i in itertools.count(0, 100):
        say(add_bulk(ada, i, 60) if i % 300 == 0 else [ada.keep(f"Note {i} of doomed process {os.getpid()}")])
        ada.search(f"note {i}")


def index(ada: Person) -> None:
    """Every call from the first on has the index to be built, or a tail to be fed to it."""
    for start in range(0, INDEX_FROM + 400, 400):
        say(add_bulk(ada, start, 400))
    ada.api.parts.indexer.wait_embedded((1,), 120.0)
    say("embedded")
    for i in itertools.count(INDEX_FROM + 400, 100):
        say(add_bulk(ada, i, 100))


def purge(ada: Person) -> None:
    canary = ada.keep("Canary vaxlorqump sings")
    for start in range(0, INDEX_FROM + 400, 400):
        say(add_bulk(ada, start, 400))
    ada.api.parts.indexer.wait_embedded((1,), 120.0)
    say("embedded")
    say(ada.forget(canary, mode="purge").get("job"))
    adds(ada)


if __name__ == "__main__":
    with_store = Kernel.open(settings_for(Path(sys.argv[1])), embedder=lambda _: FakeEmbedder(dimensions=384))
    with_store.api.parts.embedder.get(10.0)
    {"adds": adds, "index": index, "purge": purge}[sys.argv[2]](Person(with_store.api, "ada"))
