"""Section recall: how much of exact search the dense stage finds, in the way in which the product calls it.

Knows the dense stage only as what `Search` asks: it listens to real searches and compares each answer with brute force
over the same eligible vectors of the ledger. It always takes stores whose vectors are all real: generated ones lie
further apart than the memories of people, and an index finds them more easily than it should.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import texts
from benchmarks.calls import FILTERS
from benchmarks.plan import Plan
from benchmarks.stores import caller, opened, wait_indexed
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import vectors
from memos_mcp.ledger.vectors import Stored
from memos_mcp.plaintext.pool import WHOLE
from memos_mcp.plaintext.scope import Scope
from memos_mcp.ports import Vector
from memos_mcp.requests import SearchRequest

Mask = NDArray[np.bool_]
TARGET = 0.99
AT = 10
QUESTIONS = 300
TIE = 1e-6
"""Cosines that differ by less are equal: exact search and index may break a tie in their own ways."""


class _Listening:
    """The dense stage with an ear: keeps the last question's vector, its scope and what was found, of its own thread's
    questions: what works behind the calls asks too."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._thread = inner, threading.get_ident()
        self.heard: tuple[Vector, Scope, dict[int, float]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def nearest(self, connection: Any, query: Vector, scope: Scope, *rest: Any, **named: Any) -> dict[int, float]:
        found: dict[int, float] = self._inner.nearest(connection, query, scope, *rest, **named)
        if threading.get_ident() == self._thread:
            self.heard = (query, scope, found)
        return found


def recall(plan: Plan) -> None:
    """recall@10 of the dense stage against brute force, without a filter and with each."""
    work = replace(plan.work, embed_all=True)
    for size in plan.sizes:
        if size <= WHOLE:
            plan.work.say(f"of {size:,} memories each is looked at, and the dense stage is asked for none")
            continue
        asked = texts.questions(QUESTIONS, size)
        with work.copy_of(size) as home, opened(home) as kernel:
            wait_indexed(kernel)
            everything = _everything(kernel)
            for label, given in (("no filter", {}), *FILTERS):
                shares, eligible = _shares(kernel, everything, asked, given)
                note = f"{eligible:,} eligible, {len(shares)} questions, lowest {min(shares):.1f}; all vectors real"
                mean = sum(shares) / len(shares)
                plan.figure("recall", f"recall@{AT} at {size:,}, {label}", mean, "", TARGET, at_least=True, note=note)


def _everything(kernel: Kernel) -> Stored:
    """Every current vector of the store."""
    number, dimensions = kernel.api.parts.embedder.number()
    with kernel.ledger.read() as connection:
        spaces = list(vectors.count_by_space(connection, number))
        return vectors.of_spaces(connection, number, spaces, dimensions)


def _shares(kernel: Kernel, everything: Stored, asked: list[str], given: dict[str, Any]) -> tuple[list[float], int]:
    search, shares, allowed = kernel.api.parts.search, list[float](), np.empty(0, dtype=bool)
    listening = _Listening(search._dense)
    search._dense = listening  # type: ignore[assignment]
    try:
        for question in asked:
            kernel.api.search(caller(), SearchRequest(query=question, **given))
            if listening.heard is None:
                raise RuntimeError("the search asked the dense stage for nothing")
            query, scope, found = listening.heard
            if not len(allowed):
                allowed = _allowed(kernel, everything, scope)
            shares.append(_share(everything, allowed, query, found))
    finally:
        search._dense = listening._inner
    return shares, int(allowed.sum())


def _allowed(kernel: Kernel, everything: Stored, scope: Scope) -> Mask:
    with kernel.ledger.read() as connection:
        seqs = scope.first(connection, len(everything.cubes) + 1)
    return np.isin(everything.cubes, np.array(seqs, dtype=np.int64))


def _share(everything: Stored, allowed: Mask, query: Vector, found: dict[int, float]) -> float:
    """The share of the ten nearest eligible memories, by brute force, that stand among the first ten eligible found."""
    cosines = everything.matrix @ query
    cosines[~allowed] = -2.0
    wanted = min(AT, int(allowed.sum()))
    floor = float(np.partition(cosines, -wanted)[-wanted]) - TIE
    ranks = dict(zip(everything.cubes.tolist(), cosines.tolist(), strict=True))
    best = sorted((ranks[seq] for seq in found if ranks.get(seq, -2.0) > -2.0), reverse=True)[:wanted]
    return float(sum(cosine >= floor for cosine in best)) / wanted
