"""Starts the server under test on a data directory, and puts questions to it.

Knows the names of tools and their arguments, nothing of how they work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import CallFailed, Client
from benchmarks.processes import end_kernel, kernel_of, wait_quiet
from benchmarks.session import Session
from benchmarks.stores import server_environment
from benchmarks.texts import Memory

COMMAND = (sys.executable, "-m", "memos_mcp")
WARM_UP = "Who was it that told me about the trip to the lake?"
TYPING_S = 3.0
"""Seconds between the listing of the tools and the first question."""


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Client]:
    """A session with a server on this data directory, whose kernel ends with it; settings as in space="work"."""
    try:
        with Client(COMMAND, server_environment(home, settings), home.parent) as client:
            yield client
    finally:
        end_kernel(home)


def arrive(client: Client | Session) -> None:
    """List the tools as a host does, and let the moment pass in which a person types."""
    client.request("tools/list", {})
    time.sleep(TYPING_S)


def warm(client: Client | Session, home: Path | None = None, **given: Any) -> None:
    """Arrive and wake, so that what is measured next is not loading: with `home`, not behind the calls either."""
    arrive(client)
    wake(client, **given)
    kernel = kernel_of(home) if home is not None else None
    if kernel is not None:
        wait_quiet(kernel)


def wake(client: Client | Session, **given: Any) -> None:
    """Ask until the embedder and the index are there."""
    for _ in range(200):
        found, _ = client.call("memory_search", {"query": WARM_UP, **given})
        if "degraded" not in found:
            break
        time.sleep(0.1)
    else:
        raise CallFailed("searches were degraded for 20 s: is the embedder there?")
    for _ in range(4):
        client.call("memory_search", {"query": WARM_UP, **given})


def ask_all(client: Client, asked: Sequence[str], **given: Any) -> list[float]:
    """Seconds of a search for each question."""
    return [client.call("memory_search", {"query": question, **given})[1] for question in asked]


def add_all(client: Client, made: Sequence[Memory], **given: Any) -> list[float]:
    """Seconds of an add for each memory."""
    return [client.call("memory_add", {**as_arguments(memory), **given})[1] for memory in made]


def as_arguments(memory: Memory) -> dict[str, Any]:
    """A made-up memory as the arguments of memory_add."""
    return {
        "content": memory.text,
        "kind": memory.kind,
        "tags": list(memory.tags),
        "metadata": memory.metadata,
        "session": memory.session,
        "time": memory.time,
    }


def as_message(memory: Memory, ref: str) -> dict[str, Any]:
    """A made-up memory as a turn of a conversation."""
    return {"role": "user", "content": memory.text, "time": memory.time, "ref": ref}


def eventually(condition: Callable[[], bool], limit_s: float, what: str, pause_s: float = 0.05) -> float:
    """Seconds until the condition came true.

    Raises:
        TimeoutError: it did not within `limit_s` seconds.
    """
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > limit_s:
            raise TimeoutError(f"{what}: not within {limit_s:.0f} s")
        time.sleep(pause_s)
    return time.perf_counter() - began
