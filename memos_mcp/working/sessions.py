"""What is remembered of a session while it goes on: what it touched, asked and heard, and its working set.

Knows no ledger and no lock: one thread changes it, but for its set. Everything here is lost with the process, and
rebuilt from use; no memory's text is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_mcp.governance import Caller
from memos_mcp.policies.preload import Floats
from memos_mcp.ports import Vector

MOST_TOUCHED = 256
LAST = 2
"""Answers that what comes next may follow from."""
LEARNT_FROM = 128
"""Memories of a prediction that the next answer is learnt from: the likeliest."""


class Key(NamedTuple):
    """A session: a principal's connection, the space it works in, and the session it named, if it did."""

    principal: str
    writer: str
    space: str
    session: str | None


@dataclass(frozen=True)
class Heard:
    """A message that nobody asked about yet, or a question: its text and vector, and the memories it was kept as."""

    text: str
    vector: Vector | None = None
    kept_as: tuple[int, ...] = ()


@dataclass(frozen=True)
class Held:
    """A memory of a working set: `why` it is there, and how likely it is to be needed, 0..1; None where that was not
    asked."""

    seq: int
    why: str
    chance: float | None


@dataclass(frozen=True)
class Guess:
    """What the next answer is learnt from: memories that could be needed, and what spoke for each."""

    seqs: tuple[int, ...] = ()
    table: Floats = field(default_factory=lambda: np.empty((0, 0)))


@dataclass
class Session:
    """The state of a session. `touched` are numbers of memories, the latest last; `served` the last answers."""

    caller: Caller
    touched: OrderedDict[int, None] = field(default_factory=OrderedDict)
    served: list[tuple[int, ...]] = field(default_factory=list)
    asked: Heard | None = None
    heard: Heard | None = None
    held: tuple[Held, ...] = ()
    vectors: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float16))
    guess: Guess = field(default_factory=Guess)

    def touch(self, seqs: Sequence[int]) -> None:
        """These were added or served, the last of them at last."""
        for seq in seqs:
            self.touched.pop(seq, None)
            self.touched[seq] = None
        while len(self.touched) > MOST_TOUCHED:
            self.touched.popitem(last=False)

    def answer(self, seqs: Sequence[int]) -> None:
        """These were served, the best first."""
        self.touch(seqs[::-1])
        self.served = [*self.served, tuple(seqs)][-LAST:]

    def begun_after(self, caller: Caller) -> Session:
        """A new session of the same principal, which begins where this one stands, without a set."""
        return Session(caller, OrderedDict(self.touched), list(self.served), self.asked)

    def without(self, gone: set[int]) -> tuple[tuple[Held, ...], NDArray[np.float16]]:
        """The set and its vectors without these memories."""
        places = [i for i, one in enumerate(self.held) if one.seq not in gone]
        return tuple(self.held[i] for i in places), self.vectors[places]
