"""The port of a local language model whose reading can be kept: sequences of tokens, their states, greedy answers.

Knows no implementation, and nothing of memories: what tokens say, and which states are worth keeping, is for others.

A **sequence** is tokens that the model has read and holds in its context; a **state** is what a sequence holds, as
bytes. Both depend on the tokens, the model, its settings and its mounts alone: however a reading was cut into calls,
whoever else was read between, from a state or from the text, the logits that follow are the same to the last bit. (That
is so on a CPU with flash attention, and checked by tests; `thin`, `join` and a change of mounts are approximations.)

Tokens are those of each text alone: the text of two tokenised apart need not be the text tokenised as one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from memos_mcp.errors import InvalidInput, MemosError

Tokens = Sequence[int]
Layers = NDArray[np.float32]
"""A row for each layer of the model, shape (layers, embedding)."""
KVType = Literal["f32", "f16", "q8_0"]
Reason = Literal["end", "length", "stop", "full", "cancelled"]


@dataclass(frozen=True)
class EngineSettings:
    """Which model, and how its context is made. Every field but `threads` is part of a state's identity."""

    model: Path
    cells: int = 8_192
    """Tokens that all sequences together may hold."""
    step: int = 60
    """Tokens read between two turns, 2 to 63: within these bounds the bits of a state depend neither on how its reading
    was cut nor on what else is in the context; llama.cpp reads a lone row, and 64 and more, in other ways."""
    sequences: int = 32
    """Sequences at a time, 1 to `step` - 3."""
    kv_type: KVType = "f16"
    flash_attention: bool = True
    """Without it the last bits depend on what else is in the context; q8_0 cannot do without."""
    rope_base: float = 0.0
    rope_scale: float = 0.0
    """0 takes what the model file says."""
    gpu_layers: int | None = None
    """None: all of them, where llama.cpp was built for a GPU."""
    threads: int | None = None
    """None: the physical cores that this process may use."""

    def __post_init__(self) -> None:
        if not 4 <= self.step <= 63 or not 1 <= self.sequences <= self.step - 3 or self.cells < 2 * self.step:
            raise InvalidInput("A step has 4 to 63 tokens, a context two steps or more, and sequences up to step - 3.")
        if self.kv_type == "q8_0" and not self.flash_attention:
            raise InvalidInput("A q8_0 context needs flash attention.")


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model once it is loaded."""

    identity: str
    """What a state made without mounts depends on: file, program and settings. Equal only if states may be shared."""
    description: str
    layers: int
    embedding: int
    vocabulary: int
    trained_context: int
    """Tokens that one sequence should not exceed."""
    cells: int
    sequences: int
    step: int
    kv_type: KVType
    bytes_per_token: int
    bos: int | None
    adds_bos: bool
    """Whether the model wants `bos` at the beginning of a sequence."""
    chat_template: str | None
    threads: int
    gpu: bool
    can_shift: bool
    """Whether `join` works: not with a quantised KV, which llama.cpp cannot shift."""
    load_s: float


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in GGUF."""

    path: Path
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Steering:
    """A control vector: row n of `vectors` is added, times `weight`, to what layer n puts out, first <= n <= last.

    Layer 0 cannot be steered: `first` is at least 1, `last` at most layers - 1.
    """

    vectors: Layers
    first: int
    last: int
    weight: float = 1.0


@dataclass(frozen=True)
class Mounts:
    """What changes the model while a sequence is read and answers. Belongs to the identity of the sequence's states."""

    adapters: tuple[Adapter, ...] = ()
    steering: Steering | None = None


NOTHING = Mounts()


@dataclass(frozen=True)
class Resident:
    """A sequence in the engine's context; void once the engine was lost (`SequenceGone`)."""

    life: int
    number: int


@dataclass(frozen=True)
class Kept:
    """A state in the engine's own memory: the fastest to restore; void once the engine was lost (`SequenceGone`)."""

    life: int
    number: int
    size: int


@dataclass(frozen=True)
class FileBlob:
    """A state as part of a file, read in place."""

    path: Path
    offset: int
    size: int


Blob = bytes | Kept | FileBlob


@dataclass(frozen=True)
class Turn:
    """Who asks, and how the wait may be cut short.

    Callers get turns one after the other, a step each; background work gets one in eight while anybody else waits.
    """

    caller: str = ""
    background: bool = False
    cancelled: threading.Event | None = None


ANYONE = Turn()


@dataclass(frozen=True)
class Best:
    """A likely next token with its logit; of equal ones, the lower id is the likelier."""

    token: int
    logit: float


@dataclass(frozen=True)
class Answer:
    """What was generated and what the parts took. Seconds are the engine's own, without the way to it."""

    text: str
    """Without the stop text, and without the bytes of a character that was never finished."""
    tokens: tuple[int, ...]
    """Every token generated, but for the one that means the end."""
    read: tuple[int, ...]
    """Tokens that the sequence holds more than before: the question, and the answer up to its last token but one."""
    reason: Reason
    best: tuple[tuple[Best, ...], ...]
    """For each token, the likeliest ones at its place, if they were asked for."""
    waited_s: float
    """From the call's arrival to its first turn."""
    first_s: float
    """From the first turn until the first token was known: reading the question, and turns of others between."""
    rest_s: float


@dataclass(frozen=True)
class Usage:
    """What the engine holds."""

    cells_used: int
    cells: int
    sequences_used: int
    sequences: int
    kept_bytes: int
    """Of states in its own memory."""
    resident_bytes: int
    """Memory of its process, the model's mapped file included."""
    life: int
    """How many workers were started: grows when one was lost."""


class Engine(Protocol):
    """One loaded model. Safe to call from several threads; a call blocks until it is done, in turns with others.

    It loads at the first call. A sequence is used by one call at a time, a second one waits behind the first.

    Every method may raise:
        EngineUnavailable: it cannot be loaded; the sentence says what to install or set.
        EngineLost: it died under this call. Its sequences and kept states are gone; the next call starts it anew.
        SequenceGone: a sequence or kept state that was dropped, or lost with a former life.
        InvalidInput: an argument that makes no sense.
    """

    def load_in_background(self) -> None:
        """Begin to load; returns at once. What goes wrong is raised by the next call, and shows in `problem`."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether a call would find it ready."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the last attempt to load failed, in a sentence; None if it did not."""
        ...

    def facts(self) -> ModelFacts:
        """What is known of the model; loads it."""
        ...

    def identity(self, mounts: Mounts = NOTHING) -> str:
        """What a state made under these mounts depends on."""
        ...

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> tuple[int, ...]:
        """The tokens of a text. `bos`: with the token that begins a sequence, if the model wants one.

        `special`: names of control tokens in the text mean these; for templates, never for what a user wrote.
        """
        ...

    def detokenize(self, tokens: Tokens) -> str:
        """The text of tokens, control tokens left out; of `tokenize(text)`, the text itself."""
        ...

    def open(self, mounts: Mounts = NOTHING) -> Resident:
        """An empty sequence. Raises `ContextFull` when there are as many as there may be."""
        ...

    def attach(self, source: Resident, length: int | None = None, mounts: Mounts | None = None) -> Resident:
        """A sequence that begins with the first `length` tokens of another and shares their cells: no copy, no reading.

        `mounts`: None for those of the source. Others make it an approximation: its beginning was read without them.
        Raises `ContextFull` as `open` does.
        """
        ...

    def read(self, sequence: Resident, tokens: Tokens, turn: Turn = ANYONE,
             progress: Callable[[int, int], None] | None = None) -> int:  # fmt: skip
        """Read tokens at the sequence's end; returns its new length. `progress(tokens read, tokens to read)`.

        All or nothing: after an error the sequence is as it was.
        Raises: ContextFull. JobCancelled: `turn.cancelled` was set.
        """
        ...

    def tokens(self, sequence: Resident) -> tuple[int, ...]:
        """What the sequence holds."""
        ...

    def positions(self, sequence: Resident) -> tuple[int, ...]:
        """Where each of its tokens stands: 0, 1, 2 … unless the sequence was thinned or joined."""
        ...

    def cut(self, sequence: Resident, length: int) -> None:
        """Keep the first `length` tokens."""
        ...

    def drop(self, sequence: Resident) -> None:
        """Forget the sequence; cells that no other one shares become free. A second time does nothing."""
        ...

    def save(self, sequence: Resident) -> bytes:
        """The sequence's state."""
        ...

    def keep(self, sequence: Resident) -> Kept:
        """The sequence's state in the engine's own memory, until `release`; the sequence may be dropped."""
        ...

    def write(self, sequence: Resident, path: Path, offset: int) -> int:
        """Write the sequence's state into an existing file from `offset` on, not flushed; returns its size in bytes."""
        ...

    def release(self, kept: Kept) -> None:
        """Forget a kept state. A second time does nothing."""
        ...

    def restore(self, blob: Blob, tokens: Tokens, mounts: Mounts = NOTHING,
                positions: Tokens | None = None) -> Resident:  # fmt: skip
        """A sequence from a state that was made of these tokens under the same `identity(mounts)`.

        `positions`: None for 0, 1, 2 …. What stands in the context afterwards is compared with them.
        Raises: ContextFull. StateRejected: the engine would not have it, or holds something else after it.
        """
        ...

    def thin(self, sequence: Resident, ranges: Sequence[tuple[int, int]]) -> None:
        """Approximate: forget the tokens at positions first <= p < end of each range; the others keep their places.

        The last token stays, because reading goes on behind it.
        """
        ...

    def join(self, sequences: Sequence[Resident]) -> Resident:
        """Approximate: one sequence out of several that were read apart, each moved behind the one before it.

        The sequences are used up, also by an error. Only under equal mounts, and only where `facts().can_shift`.
        No other sequence changes.
        """
        ...

    def generate(self, sequence: Resident, tokens: Tokens, max_tokens: int, turn: Turn = ANYONE, *,
                 stop: Sequence[str] = (), on_text: Callable[[str], None] | None = None,
                 best: int = 0) -> Answer:  # fmt: skip
        """Read `tokens` (one at least) and answer greedily until the model ends, `max_tokens`, or a text of `stop`.

        `on_text` gets whole characters as they come, and never the beginning of a stop text. `best`: how many of the
        likeliest tokens are reported for each place, at most 16. Cancelled or out of cells while it answers, it
        returns what there is, with the reason. Raises as `read` does while it reads, and is then undone.
        """
        ...

    def best(self, sequence: Resident, tokens: Tokens, count: int = 2, turn: Turn = ANYONE) -> tuple[Best, ...]:
        """Read `tokens` (one at least), and say which are likeliest next, likeliest first; at most 16."""
        ...

    def hidden(self, texts: Sequence[Tokens], turn: Turn = ANYONE) -> tuple[Layers, ...]:
        """For each text, what each layer puts out, as the mean over its tokens, read alone without mounts.

        A difference of two such is what `Steering` takes. A text has 1 to 512 tokens.
        """
        ...

    def forget_steering(self, vectors: Layers) -> None:
        """Keep no copy of a control vector that was mounted; starts nothing, and a second time does nothing.

        Sequences that were read under it are not to be used any more, and are dropped by who holds them.
        """
        ...

    def forget_adapter(self, sha256: str) -> None:
        """Unmount an adapter, named by its file's digest, and keep no copy; starts nothing, a second time does nothing.

        Sequences that were read under it are not to be used any more, as with `forget_steering`.
        """
        ...

    def usage(self) -> Usage:
        """What it holds; starts nothing."""
        ...

    def close(self) -> None:
        """End it, and whatever it is doing (`EngineLost`). May be called twice; a later call is `EngineUnavailable`."""
        ...


class SequenceGone(MemosError):
    """A sequence or kept state that is not there any more."""

    def __init__(self) -> None:
        super().__init__("The model no longer holds this: restore it from its file, or read the text again.")


class ContextFull(MemosError):
    """The context has no room for more tokens or sequences."""

    def __init__(self, needed: int, free: int, what: str) -> None:
        super().__init__(
            f"The model's context has room for {free} more {what} and {needed} were needed: drop some, or enlarge it."
        )
        self.needed, self.free, self.what = needed, free, what


class StateRejected(MemosError):
    """The engine refused a state, or held something else after it was restored."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The state cannot be used ({why}): read the text again.")
        self.why = why


class JobCancelled(MemosError):
    """The caller asked for it."""

    def __init__(self) -> None:
        super().__init__("This was cancelled; nothing was changed.")
