"""Replays conversations with known evidence through the product, and yields what stood ready before each question.

Knows no figure. Every store of a file has a fresh data directory: its memories go in through the verb add, a session at
a time and in order; its questions are asked in their order (that of `at`, where it is given) through the
verb search. Between two calls the background has caught up. What is shown of a question before it is asked is nothing,
or, where a host tells its turns as they come, its text: never its evidence.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from benchmarks.stores import caller, opened, wait_indexed
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import vectors
from memos_mcp.ledger.schema import cubes
from memos_mcp.policies.preload import Floats, Habits
from memos_mcp.ports import Vector
from memos_mcp.requests import AddRequest, Message, SearchRequest

BATCH = 50
SERVED = 5
LONGEST = 4_000


@dataclass(frozen=True)
class Ready:
    """What stood ready before a question, each a list of memories by number, the likeliest first.

    `used` are groups of interchangeable memories that answer it; `table` is what spoke for the memories of `likely`.
    """

    used: list[set[int]]
    working: list[int]
    recent: list[int]
    similar: list[int]
    likely: tuple[int, ...]
    table: Floats
    served: list[int] = field(default_factory=list)
    """What the search served in the end, the best first: empty until the next one is yielded."""


def data_in(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The stores of each data file in the folder, by the file's name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "stores" in data:
            found[path.stem] = data["stores"]
    return found


def replay(store: dict[str, Any], home: Path, *, told: bool, habits: Habits | None = None) -> Iterator[Ready]:
    """What stood ready before each question of a store; `told`: its text came as a message before it was asked."""
    with opened(home) as kernel:
        if habits is not None:
            kernel.api.parts.working.begin_with = habits
        yield from _Replay(kernel, store).run(told=told)


class _Replay:
    def __init__(self, kernel: Kernel, store: dict[str, Any]) -> None:
        self._kernel, self._store = kernel, store
        self._seqs: dict[str, int] = {}
        self._touched: OrderedDict[int, None] = OrderedDict()
        self._last: Vector | None = None

    def run(self, *, told: bool) -> Iterator[Ready]:
        memories, done = self._store["memories"], 0
        parts = self._kernel.api.parts
        for question in sorted(self._store["queries"], key=lambda q: int(q.get("at", len(memories)))):
            upto = int(question.get("at", len(memories)))
            self._add(memories[done:upto])
            done = max(done, upto)
            text = question["text"][:LONGEST]
            vector = parts.embedder.get().embed_query(text)
            wait_indexed(self._kernel)
            if told:
                parts.working.heard(caller(), None, text)
            parts.working.catch_up()
            used = [{self._seqs[ref] for ref in group if ref in self._seqs} for group in question["gold"]]
            working = [cube.seq for cube, _ in parts.working.of(caller())]
            ready = Ready(
                [group for group in used if group],
                working,
                list(reversed(self._touched)),
                self._nearest(vector if told else self._last),
                *self._likely(),
            )
            yield ready
            ready.served.extend(self._ask(text))
            self._last = vector

    def _add(self, memories: Sequence[dict[str, Any]]) -> None:
        for session, group in groupby(memories, key=lambda memory: memory["session"]):
            said = list(group)
            for start in range(0, len(said), BATCH):
                part = said[start : start + BATCH]
                messages = [
                    Message(role="user", content=one["text"], name=one["speaker"], time=one["time"], ref=one["ref"])
                    for one in part
                ]
                request = AddRequest(messages=messages, session=session or "none", kind="dialogue")
                self._kernel.api.add(caller(), request)
                self._learn_numbers([one["ref"] for one in part])

    def _learn_numbers(self, refs: Sequence[str]) -> None:
        with self._kernel.ledger.read() as connection:
            rows = connection.execute(select(cubes.c.ref, cubes.c.seq).where(cubes.c.ref.in_(refs))).all()
        self._seqs.update((row.ref, row.seq) for row in rows)
        self._touch([self._seqs[ref] for ref in refs if ref in self._seqs])

    def _touch(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._touched.pop(seq, None)
            self._touched[seq] = None

    def _ask(self, text: str) -> list[int]:
        hits = self._kernel.api.search(caller(), SearchRequest(query=text, top_k=SERVED))["hits"]
        served = [self._seqs[ref] for hit in hits for ref in hit["refs"][:1] if ref in self._seqs]
        self._touch(served[::-1])
        return served

    def _nearest(self, to: Vector | None) -> list[int]:
        """Every memory, those nearest to the message or question in meaning first."""
        number, dimensions = self._kernel.api.parts.embedder.number()
        with self._kernel.ledger.read() as connection:
            stored = vectors.of_cubes(connection, number, list(self._seqs.values()), dimensions)
        if to is None:  # nobody asked yet: near to what was said last
            last = next(reversed(self._touched), None)
            found = stored.matrix[stored.cubes == last]
            to = found[0] if len(found) else np.zeros(dimensions, dtype=np.float32)
        return [int(seq) for seq in stored.cubes[np.argsort(-(stored.matrix @ to), kind="stable")]]

    def _likely(self) -> tuple[tuple[int, ...], Floats]:
        sessions = self._kernel.api.parts.working._sessions
        guess = next(reversed(sessions.values())).guess
        return guess.seqs, guess.table
