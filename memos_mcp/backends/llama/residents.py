"""Keeps the sequences of a context: what each has read, under which mounts, and its state.

Knows llama.cpp through `native` alone, and nothing of callers and pipes. What takes long is a generator that yields
between steps; others may use the context meanwhile, though not the same sequence. One thread uses it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from memos_mcp.activation.engine import ContextFull, JobCancelled, SequenceGone, StateRejected
from memos_mcp.backends.llama.cells import Cells, CellsFull, Numbers, Placed
from memos_mcp.backends.llama.native import Native, NativeFailed, NoRoom, Steered, Vocabulary
from memos_mcp.backends.llama.streaming import TextStream
from memos_mcp.backends.llama.turns import Steps
from memos_mcp.errors import InvalidInput

Mounted = tuple[tuple[tuple[str, str, float], ...], Steered | None]
"""Adapters as (path, hash, weight), and the control vector."""

MOST_BEST = 16


@dataclass
class Held:
    """A sequence: the tokens it has read, where they stand, and the mounts under which it reads."""

    placed: Placed
    mounts: Mounted
    tokens: list[int] = field(default_factory=list)

    @property
    def slot(self) -> int:
        return self.placed.slot


class Residents:
    """The sequences of one context, by numbers that are never used twice."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self._held: dict[int, Held] = {}
        self._free = list(range(native.wish.sequences))[::-1]
        self._numbers = count(1)
        self.cells = Cells(native, lambda: [held.placed for held in self._held.values()])

    def get(self, number: int) -> Held:
        """Raises `SequenceGone`."""
        try:
            return self._held[number]
        except KeyError:
            raise SequenceGone from None

    def __len__(self) -> int:
        return len(self._held)

    def open(self, mounts: Mounted) -> int:
        if not self._free:
            raise ContextFull(1, 0, "sequences")
        number = next(self._numbers)
        self._held[number] = Held(Placed(self._free.pop()), mounts)
        return number

    def attach(self, source: int, length: int | None, mounts: Mounted | None) -> int:
        held = self.get(source)
        length = self._length(held, len(held.tokens) if length is None else length)
        number = self.open(held.mounts if mounts is None else mounts)
        made = self._held[number]
        made.tokens = held.tokens[:length]
        self.cells.share(held.placed, made.placed, length)
        return number

    def cut(self, number: int, length: int) -> None:
        held = self.get(number)
        gone = np.arange(len(held.tokens)) >= self._length(held, length)
        self.cells.give_up(held.placed, gone)
        del held.tokens[length:]

    @staticmethod
    def _length(held: Held, length: int) -> int:
        if not 0 <= length <= len(held.tokens):
            raise InvalidInput(f"The sequence has {len(held.tokens)} tokens, not {length}.")
        return length

    def drop(self, number: int) -> None:
        if number in self._held:
            self.cut(number, 0)
            self._free.append(self._held.pop(number).slot)

    def read(self, number: int, tokens: Sequence[int], *, wanted: bool = False) -> Steps:
        """Yields between steps; returns the logits behind the last token, a copy, if `wanted`."""
        held = self.get(number)
        before = len(held.tokens)
        self._check(tokens)
        logits: Vocabulary | None = None
        try:
            for begin in range(0, len(tokens), self.native.wish.step):
                part = tokens[begin : begin + self.native.wish.step]
                last = begin + len(part) == len(tokens)
                found = self._step(held, part, wanted and last)
                logits = None if found is None else found.copy()
                if not last:
                    yield
        except (JobCancelled, ContextFull, NativeFailed):
            self.cut(number, before)
            raise
        return logits

    def _check(self, tokens: Sequence[int]) -> None:
        wrong = next((token for token in tokens if not 0 <= token < self.native.words), None)
        if wrong is not None:  # llama.cpp would abort
            raise InvalidInput(f"The model has {self.native.words} tokens, and no token {wrong}.")
        if len(tokens) > self.cells.free:
            raise ContextFull(len(tokens), self.cells.free, "tokens")

    def _make_room(self, tokens: int) -> None:
        try:
            self.cells.make_room(tokens)
        except CellsFull as full:
            raise ContextFull(tokens, full.free, "tokens") from None

    def _step(self, held: Held, part: Sequence[int], wanted: bool) -> Vocabulary | None:
        self._make_room(len(part))
        self.native.mount(*held.mounts)
        position = held.placed.end
        try:
            logits = self.native.decode(held.slot, part, position, wanted)
        except NoRoom:
            raise ContextFull(len(part), self.cells.free, "tokens") from None
        except NativeFailed:
            self.native.remove(held.slot, position)
            raise
        held.tokens += part
        self.cells.take(held.placed, np.arange(position, position + len(part), dtype=np.int64))
        return logits

    # States.

    def state(self, number: int) -> bytearray:
        """Always through the same slot, whose number llama.cpp writes down: equal sequences have equal states."""
        slot, spare = self.get(number).slot, self.native.spare_slot
        self.native.copy(slot, spare, -1, -1)
        try:
            return self.native.state(spare)
        finally:
            self.native.remove(spare)

    def restore(self, state: NDArray[np.uint8], tokens: Sequence[int], positions: Sequence[int] | None,
                mounts: Mounted) -> int:  # fmt: skip
        """A sequence from a state's bytes; nothing of it stays if it is not what it should be."""
        places = np.arange(len(tokens)) if positions is None else np.array(positions, np.int64)
        if len(places) != len(tokens) or not len(places) or places[0] < 0 or (np.diff(places) < 1).any():
            raise InvalidInput("A state has one token or more, and as many positions, ascending.")
        self._check(tokens)
        self._make_room(len(tokens))
        number = self.open(mounts)
        held = self._held[number]
        self.native.complaints.forget()
        why = self._wrong(held.slot, state, places)
        if why is not None:
            self.native.remove(held.slot)
            self.drop(number)
            raise StateRejected(why)
        held.tokens = list(tokens)
        self.cells.take(held.placed, places)
        return number

    def _wrong(self, slot: int, state: NDArray[np.uint8], places: Numbers) -> str | None:
        """Fill a slot; what is wrong with it then."""
        if not self.native.put_state(slot, state):
            return self.native.complaints.first or "llama.cpp does not take it"
        found = self.native.begin(slot), self.native.end(slot)
        if found != (places[0], places[-1] + 1):
            return f"it goes from {found[0]} to {found[1]} and not from {places[0]} to {places[-1] + 1}"
        if not len(state) == self.native.state_size(slot) == self.native.bytes_of(len(places)):
            return "it holds another number of tokens"
        return None

    # Approximations.

    def thin(self, number: int, ranges: Sequence[Sequence[int]]) -> None:
        held = self.get(number)
        places = held.placed.positions
        gone = np.zeros(len(places), bool)
        for begin, end in ranges:
            gone |= (places >= begin) & (places < end)
        if len(gone) and gone[-1]:
            raise InvalidInput("The last token stays: reading goes on behind it.")
        self.cells.give_up(held.placed, gone)
        held.tokens = [token for token, out in zip(held.tokens, gone, strict=True) if not out]

    def join(self, numbers: Sequence[int]) -> int:
        """One sequence out of several, whose cells it takes over; what shares cells with another is copied first."""
        try:
            parts = [self.get(number) for number in numbers]
            if len(set(numbers)) != len(numbers) or len(parts) < 2 or not all(part.tokens for part in parts):
                raise InvalidInput("Two sequences or more are joined, each once and none of them empty.")
            if any(part.mounts != parts[0].mounts for part in parts):
                raise InvalidInput("Sequences that were read under other mounts cannot be joined.")
            if not self.native.can_shift:
                raise InvalidInput("This model's states cannot be joined with this KV type: set f16.")
            for number in numbers[1:]:
                self._append(numbers[0], number)
            self.native.settle()
            return numbers[0]
        except (InvalidInput, SequenceGone, ContextFull, StateRejected, NativeFailed):
            for number in numbers:
                self.drop(number)
            raise

    def _append(self, first: int, number: int) -> None:
        target, part = self.get(first), self.get(number)
        by = target.placed.end - int(part.placed.positions[0])
        if by and self.cells.shared(part.placed):  # a move is seen by everybody who shares the cells
            state = np.frombuffer(self.state(number), np.uint8)
            places = part.placed.positions.tolist()
            fresh = self.restore(state, part.tokens, places, part.mounts)
            self.drop(number)
            number, part = fresh, self.get(fresh)
        self.native.shift(part.slot, by)
        part.placed.positions = part.placed.positions + by
        self.native.copy(part.slot, target.slot, -1, -1)
        target.tokens += part.tokens
        self.cells.hand_over(part.placed, target.placed)
        part.tokens = []
        self.drop(number)

    # Answers.

    def generate(self, number: int, tokens: Sequence[int], most: int, stop: Sequence[str], best: int) -> Answering:
        return Answering(self, number, tokens, most, stop, best)


class Answering:
    """A greedy answer: `steps` yields between tokens, `out` is text to give out, `result` what is known so far."""

    def __init__(
        self, residents: Residents, number: int, tokens: Sequence[int], most: int, stop: Sequence[str], best: int
    ) -> None:
        if not tokens or most < 1 or not 0 <= best <= MOST_BEST:
            raise InvalidInput(f"An answer needs a token to read, one to write, and at most {MOST_BEST} to compare.")
        self._residents, self._number, self._most, self._best = residents, number, most, best
        self._question = list(tokens)
        self._stream = TextStream(stop)
        self._tokens: list[int] = []
        self._tops: list[list[tuple[int, float]]] = []
        self._reason = "length"
        self._began = self._first = 0.0
        self._before = 0
        self._out: list[str] = []

    def steps(self) -> Steps:
        """Returns the answer's fields, as they go through the pipe."""
        held = self._residents.get(self._number)
        self._before, self._began = len(held.tokens), time.perf_counter()
        logits = yield from self._residents.read(self._number, self._question, wanted=True)
        self._first = time.perf_counter()
        try:
            yield from self._write(logits)
        except JobCancelled:
            self._reason = "cancelled"
        except ContextFull:
            self._reason = "full"
        self._say(self._stream.finish())
        return {
            "text": self._stream.text,
            "tokens": self._tokens,
            "read": held.tokens[self._before :],
            "reason": self._reason,
            "best": self._tops,
            "first_s": self._first - self._began,
            "rest_s": time.perf_counter() - self._first,
        }

    def spoken(self) -> str:
        """Text that was not given out yet."""
        said, self._out = "".join(self._out), []
        return said

    def _write(self, logits: Vocabulary) -> Steps:
        native = self._residents.native
        while True:
            token = int(np.argmax(logits))
            if self._best:
                self._tops.append(likeliest(logits, self._best))
            if native.ends(token):
                self._reason = "end"
                return
            self._tokens.append(token)
            self._say(self._stream.feed(native.piece(token)))
            if self._stream.stopped:
                self._reason = "stop"
                return
            if len(self._tokens) == self._most:
                return
            yield
            logits = yield from self._residents.read(self._number, [token], wanted=True)

    def _say(self, text: str) -> None:
        if text:
            self._out.append(text)


def likeliest(logits: Vocabulary, most: int) -> list[tuple[int, float]]:
    """The likeliest tokens with their logits; of equal ones the lower id first."""
    most = min(most, len(logits))
    found = np.argpartition(-logits, most - 1)[:most]
    return sorted(((int(token), float(logits[token])) for token in found), key=lambda pair: (-pair[1], pair[0]))
