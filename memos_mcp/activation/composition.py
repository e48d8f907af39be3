"""The ways in which a model's memories are put together, and what the states of each way depend on.

Knows no state and no model but by its identity. Exact: every memory is read behind the one before it. Blended: each is
read by itself, behind the opening alone, and their blocks are moved side by side, so that none has read another.
Thinned: the same, with fewer cells of each block. The last two are approximations, and their states never mix with
exact ones: key and identity differ.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HALF = 2


@dataclass(frozen=True)
class Composition:
    """A way; `one_in`: of so many cells of a memory one is kept."""

    name: str
    one_in: int = 1

    @property
    def exact(self) -> bool:
        return self.name == "exact"

    @property
    def described(self) -> str:
        """Its name, and how far it is thinned."""
        return self.name if self.one_in == 1 else f"{self.name} to one cell in {self.one_in}"

    def cells(self, tokens: int) -> int:
        """The cells that a memory of so many tokens takes."""
        return max(tokens // self.one_in, min(tokens, 1))

    def identity(self, engine: str, opening: Sequence[int]) -> str:
        """What a state of this way depends on, given the engine's identity and what stands before every memory.

        That of an exact state is the engine's own: its opening is among its tokens.
        """
        if self.exact:
            return engine
        made_with = json.dumps([engine, list(opening), self.one_in])
        return f"{self.name}:{hashlib.sha256(made_with.encode()).hexdigest()}"


EXACT, BLENDED, THINNED = Composition("exact"), Composition("blended"), Composition("thinned", HALF)
COMPOSITIONS = {composition.name: composition for composition in (EXACT, BLENDED, THINNED)}
"""Those that a store may be set to, by name."""


def approximate(identity: str) -> str | None:
    """The name of the way of states of this identity, if it is an approximation."""
    return identity.partition(":")[0] if ":" in identity else None


class Rarity:
    """How rare a token is among the memories of a store, of which `sample` gives some: it is counted once.

    Safe to share between threads: at worst two count at the same time, and the same.
    """

    def __init__(self, sample: Callable[[], Iterable[Sequence[int]]]) -> None:
        self._sample = sample
        self._counts: Counter[int] | None = None

    def rarest(self, tokens: Sequence[int], count: int) -> list[int]:
        """The places of the `count` tokens that the fewest memories have, ascending; of equal ones the later, which
        has read more."""
        if count >= len(tokens):
            return list(range(len(tokens)))
        if self._counts is None:
            self._counts = Counter(token for memory in self._sample() for token in set(memory))
        counts = self._counts
        return sorted(sorted(range(len(tokens)), key=lambda place: (counts[tokens[place]], -place))[:count])
