"""The interfaces behind which models and derived stores sit; their comments are the contract.

Knows no implementation: backends and fakes pass one conformance suite per port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""One embedding, shape (dimensions,), L2-normalised, so that a dot product is a cosine."""
Matrix = NDArray[np.float32]
"""Embeddings, shape (n, dimensions), each row L2-normalised."""
Scores = NDArray[np.float32]
"""One number a text, shape (n,)."""


class Embedder(Protocol):
    """Turns text into vectors whose dot product orders by meaning. Safe to call from several threads."""

    @property
    def identity(self) -> str:
        """What the vectors depend on: two embedders with one identity give the same vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def at_a_time(self) -> int:
        """Texts of one call beyond which there is nothing to gain: background work steps aside between calls."""
        ...

    @property
    def is_quick(self) -> bool:
        """Whether a short text takes a few milliseconds, so that a transaction may wait for its vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of `texts` in their order, shape (n, dimensions); (0, dimensions) for no text.

        Raises:
            EmbedderUnavailable: the model could not be loaded or reached.
        """
        ...

    def embed_query(self, text: str) -> Vector:
        """The vector of a question, shape (dimensions,); raises as `embed` does."""
        ...

    def trust(self, text: str) -> float:
        """How far the embedder understands the language of `text`, 0..1: the weight of meaning beside words."""
        ...


class Reranker(Protocol):
    """Reads a question together with a text, and says how well the text answers it. Safe to call from several threads.

    Nothing that is kept depends on it, so a store may change it at any time.
    """

    @property
    def identity(self) -> str:
        """What the scores depend on: two rerankers with one identity give the same scores."""
        ...

    @property
    def at_a_time(self) -> int:
        """Texts of one call beyond which there is nothing to gain: a caller in a hurry looks at the clock between."""
        ...

    def scores(self, query: str, texts: Sequence[str]) -> Scores:
        """How well each of `texts` answers `query`, in their order, shape (n,); (0,) for no text.

        Higher is better. A score is the log-odds that the text is relevant: finite, 0 is even, beyond -10 or 10 is as
        good as sure. It depends on its own pair alone, never on the other texts. Only the beginning of a long text may
        count.

        Raises:
            RerankerUnavailable: the model could not be loaded or asked.
        """
        ...


class LanguageModel(Protocol):
    """Answers a question about some data in JSON. Called from one thread, in the background only."""

    @property
    def name(self) -> str:
        """What the memories that it helped to make are marked with."""
        ...

    def answer(self, instructions: str, data: str) -> str:
        """The model's answer as it came: meant to be JSON, and nothing to rely on.

        Raises:
            ModelUnavailable: it could not be reached, or gave no answer, within its time.
        """
        ...


@dataclass(frozen=True)
class Spoken:
    """An answer that was streamed: its text, the seconds until its first piece and until its end, and why it ended.

    Tokens are those that the server counts, None where it does not say: of the prompt, of these the ones that it had
    read before, and of the answer.
    """

    text: str
    first_token_s: float
    total_s: float
    finish: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    answer_tokens: int | None = None


@dataclass(frozen=True)
class Said:
    """A turn of a conversation that a server is told again: what it was asked, and what it answered."""

    asked: str
    answered: str


class RemoteModel(Protocol):
    """Answers a question behind a prompt's prefix that its server may have read before. Safe to call from several
    threads."""

    @property
    def name(self) -> str:
        """What answers, and where."""
        ...

    def window(self) -> int | None:
        """Tokens that a prompt and its answer may be together; None where the server does not say.

        Asked once, and None is no proof that it answers: raises nothing.
        """
        ...

    def check(self) -> str:
        """The name of the model that answers, after it has made one token.

        Raises:
            ModelUnavailable, ContextTooLong: as `speak` does.
        """
        ...

    def speak(
        self,
        prefix: str,
        rest: str,
        max_tokens: int,
        heard: Callable[[str], None] = lambda _: None,
        turns: Sequence[Said] = (),
    ) -> Spoken:
        """The answer to `prefix`, the `turns` behind it and `rest`; `heard` gets each piece as it comes.

        What the server reads begins with the same bytes for the same prefix and turns, whatever `rest` is, and nothing
        that changes from call to call stands before it. What `heard` raises ends the answer and passes through. An
        answer that is returned came whole.

        Raises:
            ModelUnavailable: it could not be reached, did not answer within its time, or broke off.
            ContextTooLong: what it would have to read has no room in its context.
        """
        ...

    def close(self) -> None:
        """Release connections; may be called twice."""
        ...


class VectorIndex(Protocol):
    """An approximate nearest-neighbour index per space: derived from the ledger and disposable.

    Every method may raise `IndexBroken`; the caller then drops the space and builds it anew.
    Safe to call from several threads.
    """

    def size(self, space: int) -> int | None:
        """Entries held for the space; None when the space has no index."""
        ...

    def add(self, space: int, keys: Sequence[int], vectors: Matrix) -> None:
        """Add entries. Adding a key twice leaves one entry, so that a batch may be repeated after a crash."""
        ...

    def rebuild(self, space: int, batches: Iterator[tuple[Sequence[int], Matrix]]) -> None:
        """Build the space's index from nothing beside the one that serves, then swap and `drop` the old one.

        When `batches` ends early or raises, the old one stays.
        """
        ...

    def remove(self, space: int, keys: Sequence[int]) -> None:
        """Remove entries; unknown keys are ignored."""
        ...

    def nearest(self, space: int, vector: Vector, count: int) -> list[int]:
        """At most `count` keys, nearest first. Scores are left to the caller, who has the exact vectors."""
        ...

    def drop(self, space: int) -> None:
        """Forget the space: none of its vectors' bytes stay in any file. Unknown spaces are ignored."""
        ...

    def verify(self) -> list[int]:
        """Spaces whose files changed behind the index's back, or cannot be opened; called once, at start."""
        ...

    def close(self) -> None:
        """Flush and release files and threads; may be called twice."""
        ...


class IndexBroken(Exception):
    """A derived index cannot answer; the ledger still can."""

    def __init__(self, space: int, why: str) -> None:
        super().__init__(f"index of space {space}: {why}")
        self.space = space
