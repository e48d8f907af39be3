"""Traces of a bounded set's life: what was written and what was needed, in order, with what it was about.

Knows no policy. Generated ones come from a seed; recorded ones from data sets of conversations in a folder that is
named, and nothing of those is kept.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memos_mcp.ports import Embedder

Vector = NDArray[np.float32]
START = datetime(2026, 1, 1)
_MEANING = 32
"""Numbers of a generated vector."""


@dataclass(frozen=True)
class Step:
    """A moment: memories that were written at it, or that were needed then; `about` is the task's vector."""

    at: datetime
    written: tuple[int, ...]
    needed: tuple[int, ...]
    about: Vector | None


@dataclass(frozen=True)
class Trace:
    """Steps in order, and the vector of each memory, by number."""

    name: str
    steps: list[Step]
    vectors: list[Vector]


def recorded(path: Path, embedder: Embedder) -> list[Trace]:
    """Every store of a data set: memories in the order of writing, each question where it was asked.

    Questions without such a place are asked once everything is written, in an order from a seed.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    return [_of_store(f"{data['name']} {place}", store, embedder) for place, store in enumerate(data["stores"])]


def _of_store(name: str, store: dict[str, Any], embedder: Embedder) -> Trace:
    memories, queries = store["memories"], list(store["queries"])
    if any("at" not in query for query in queries):
        random.Random(0).shuffle(queries)
    number = {memory["ref"]: place for place, memory in enumerate(memories)}
    vectors = [np.asarray(v, dtype=np.float32) for v in embedder.embed([memory["text"] for memory in memories])]
    asked = [np.asarray(v, dtype=np.float32) for v in embedder.embed([query["text"] for query in queries])]
    times = [datetime.fromisoformat(memory["time"]).replace(tzinfo=None) for memory in memories]
    waiting = sorted(range(len(queries)), key=lambda at: (queries[at].get("at", len(memories)), at))
    steps: list[Step] = []
    for place, time in enumerate(times):
        while waiting and queries[waiting[0]].get("at", len(memories)) <= place:
            steps.append(_question(queries, asked, number, waiting.pop(0), times[max(place - 1, 0)], len(steps)))
        steps.append(Step(time + timedelta(seconds=len(steps)), (place,), (), None))
    steps += [_question(queries, asked, number, at, times[-1], len(steps) + more) for more, at in enumerate(waiting)]
    return Trace(name, steps, vectors)


def _question(
    queries: Sequence[dict[str, Any]],
    asked: Sequence[Vector],
    number: dict[str, int],
    at: int,
    time: datetime,
    step: int,
) -> Step:
    needed = [next((number[ref] for ref in group if ref in number), None) for group in queries[at]["gold"]]
    found = tuple(dict.fromkeys(one for one in needed if one is not None))
    return Step(time + timedelta(seconds=step), (), found, asked[at])


def generated(seed: int = 1, memories: int = 2_000, questions: int = 1_500) -> list[Trace]:
    """Traces of four shapes: a few favourites, topics that come and go, scans between questions, and all of it."""
    shapes = {"favourites": (1.2, 1, 0), "topics": (0.6, 40, 0), "scans": (1.0, 1, 60), "mixed": (0.9, 40, 60)}
    return [
        Trace(f"generated {name}", *_made(random.Random(f"{seed} {name}"), memories, questions, *shape))
        for name, shape in shapes.items()
    ]


def _made(
    rng: random.Random, memories: int, questions: int, skew: float, topics: int, scan: int
) -> tuple[list[Step], list[Vector]]:
    np_rng = np.random.default_rng(rng.randrange(2**32))
    centres = np_rng.normal(size=(topics, _MEANING))
    of_topic = [memory % topics for memory in range(memories)]
    vectors = [_unit(centres[topic] + np_rng.normal(size=_MEANING)) for topic in of_topic]
    groups = [[m for m in range(memories) if of_topic[m] == topic] for topic in range(topics)]
    shares = [[1 / rank**skew for rank in range(1, len(group) + 1)] for group in groups]
    steps = [Step(START + timedelta(minutes=at), (at,), (), None) for at in range(memories)]
    now, topic = START + timedelta(minutes=memories), 0
    for at in range(questions):
        now += timedelta(minutes=rng.choice((2, 5, 30, 400)))
        if at % 12 == 0:
            topic = rng.randrange(topics)
        needed = rng.choices(groups[topic], shares[topic], k=2)
        about = _unit(vectors[needed[0]] * 1.5 + np_rng.normal(size=_MEANING) / 4)
        steps.append(Step(now, (), tuple(dict.fromkeys(needed)), about))
        if scan and at % 25 == 24:
            steps += _scan(rng, memories, scan, now)
    return steps, vectors


def _scan(rng: random.Random, memories: int, length: int, now: datetime) -> Iterator[Step]:
    """Memories that are written again, as an import does, and that nobody asks for."""
    for at, memory in enumerate(rng.sample(range(memories), length)):
        yield Step(now + timedelta(milliseconds=at), (memory,), (), None)


def _unit(vector: NDArray[Any]) -> Vector:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
