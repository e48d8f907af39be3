"""A deterministic stand-in for a local model: the port `Engine` without a model or a process.

Its tokens are bytes, its states say which tokens they hold, and what it answers is a function of those alone.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from memos_mcp.activation.engine import (
    ANYONE,
    NOTHING,
    Answer,
    Best,
    Blob,
    ContextFull,
    FileBlob,
    JobCancelled,
    Kept,
    Layers,
    ModelFacts,
    Mounts,
    Resident,
    SequenceGone,
    StateRejected,
    Tokens,
    Turn,
    Usage,
)
from memos_mcp.errors import EngineLost, EngineUnavailable, InvalidInput

BOS, END, FIRST_BYTE = 1, 2, 3
WORDS = FIRST_BYTE + 256
STEP = 60


@dataclass
class _Held:
    mounts: Mounts
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cells: list[object] = field(default_factory=list)


class FakeEngine:
    """Satisfies the port `Engine`. `lose()` is the death of its process; while `down`, it cannot be loaded.

    `before(verb)` is called ahead of every call and may raise or block; `reads` counts the tokens that were read.
    """

    def __init__(
        self,
        name: str = "fake",
        cells: int = 2_000,
        sequences: int = 32,
        before: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name, self.before, self.down = name, before, False
        self.reads = 0
        self.forgotten: list[Layers] = []
        self.unmounted: list[str] = []
        self._cells, self._sequences = cells, sequences
        self._lock = threading.RLock()
        self._life, self._number = 0, 0
        self._held: dict[int, _Held] = {}
        self._kept: dict[int, bytes] = {}
        self.loaded, self._closed, self._dying = False, False, False

    def lose(self) -> None:
        """Die under the next call."""
        self._dying = True

    def load_in_background(self) -> None:
        if not self.down:
            self._load()

    @property
    def problem(self) -> str | None:
        return "The fake is down: start it." if self.down else None

    def _load(self) -> None:
        if self._closed or self.down:
            raise EngineUnavailable("The fake is down: start it.")
        if not self.loaded:
            self.loaded, self._life = True, self._life + 1

    def _enter(self, verb: str) -> None:
        self.before(verb)
        self._load()
        if self._dying:
            self._dying, self.loaded = False, False
            self._held, self._kept = {}, {}
            raise EngineLost("signal 9")

    def facts(self) -> ModelFacts:
        self._enter("facts")
        return ModelFacts(
            identity=self._digest(self.name), description="a fake", layers=3, embedding=8, vocabulary=WORDS,
            trained_context=4_096, cells=self._cells, sequences=self._sequences, step=STEP, kv_type="f16",
            bytes_per_token=16, bos=BOS, adds_bos=True, chat_template=None, threads=1, gpu=False, can_shift=True,
            load_s=0.0,
        )  # fmt: skip

    def identity(self, mounts: Mounts = NOTHING) -> str:
        self._enter("identity")
        steering = mounts.steering and [
            mounts.steering.vectors.tolist(), mounts.steering.first, mounts.steering.last, mounts.steering.weight
        ]  # fmt: skip
        adapters = [[adapter.path.read_bytes().hex(), adapter.weight] for adapter in mounts.adapters]
        return self._digest(self.name, *([json.dumps([adapters, steering])] if mounts != NOTHING else []))

    @staticmethod
    def _digest(*parts: str) -> str:
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> tuple[int, ...]:
        self._enter("tokenize")
        return (*([BOS] if bos else []), *(FIRST_BYTE + byte for byte in text.encode("utf-8", "replace")))

    def detokenize(self, tokens: Tokens) -> str:
        self._enter("detokenize")
        self._check(tokens)
        return bytes(token - FIRST_BYTE for token in tokens if token >= FIRST_BYTE).decode("utf-8", "replace")

    def _check(self, tokens: Tokens) -> None:
        if not all(0 <= token < WORDS for token in tokens):
            raise InvalidInput(f"The model has {WORDS} tokens.")

    def _get(self, sequence: Resident) -> _Held:
        if sequence.life != self._life or sequence.number not in self._held:
            raise SequenceGone
        return self._held[sequence.number]

    @property
    def _used(self) -> int:
        return len({id(cell) for held in self._held.values() for cell in held.cells})

    def _new(self, held: _Held) -> Resident:
        if len(self._held) >= self._sequences:
            raise ContextFull(1, 0, "sequences")
        self._number += 1
        self._held[self._number] = held
        return Resident(self._life, self._number)

    def open(self, mounts: Mounts = NOTHING) -> Resident:
        with self._lock:
            self._enter("open")
            if not all(adapter.path.exists() for adapter in mounts.adapters):
                raise InvalidInput("The adapter cannot be read.")
            return self._new(_Held(mounts))

    def attach(self, source: Resident, length: int | None = None, mounts: Mounts | None = None) -> Resident:
        with self._lock:
            self._enter("attach")
            held = self._get(source)
            length = self._length(held, len(held.tokens) if length is None else length)
            rows = held.tokens[:length], held.positions[:length], held.cells[:length]
            return self._new(_Held(held.mounts if mounts is None else mounts, *rows))

    @staticmethod
    def _length(held: _Held, length: int) -> int:
        if not 0 <= length <= len(held.tokens):
            raise InvalidInput(f"The sequence has {len(held.tokens)} tokens.")
        return length

    def read(self, sequence: Resident, tokens: Tokens, turn: Turn = ANYONE,
             progress: Callable[[int, int], None] | None = None) -> int:  # fmt: skip
        with self._lock:
            self._enter("read")
            held = self._get(sequence)
            before = len(held.tokens)
            self._check(tokens)
            if len(tokens) > self._cells - self._used:
                raise ContextFull(len(tokens), self._cells - self._used, "tokens")
            for begin in range(0, len(tokens), STEP):
                if turn.cancelled is not None and turn.cancelled.is_set():
                    self._cut(held, before)
                    raise JobCancelled
                self._append(held, tokens[begin : begin + STEP])
                if progress is not None:
                    progress(min(begin + STEP, len(tokens)), len(tokens))
            return len(held.tokens)

    def _append(self, held: _Held, tokens: Tokens) -> None:
        end = held.positions[-1] + 1 if held.positions else 0
        held.tokens += tokens
        held.positions += range(end, end + len(tokens))
        held.cells += [object() for _ in tokens]
        self.reads += len(tokens)

    @staticmethod
    def _cut(held: _Held, length: int) -> None:
        del held.tokens[length:], held.positions[length:], held.cells[length:]

    def tokens(self, sequence: Resident) -> tuple[int, ...]:
        self._enter("tokens")
        return tuple(self._get(sequence).tokens)

    def positions(self, sequence: Resident) -> tuple[int, ...]:
        self._enter("positions")
        return tuple(self._get(sequence).positions)

    def cut(self, sequence: Resident, length: int) -> None:
        with self._lock:
            self._enter("cut")
            held = self._get(sequence)
            self._cut(held, self._length(held, length))

    def drop(self, sequence: Resident) -> None:
        with self._lock:
            if sequence.life == self._life:
                self._held.pop(sequence.number, None)

    def save(self, sequence: Resident) -> bytes:
        with self._lock:
            self._enter("save")
            held = self._get(sequence)
            return json.dumps([held.tokens, held.positions]).encode()

    def keep(self, sequence: Resident) -> Kept:
        state = self.save(sequence)
        with self._lock:
            self._number += 1
            self._kept[self._number] = state
            return Kept(self._life, self._number, len(state))

    def write(self, sequence: Resident, path: Path, offset: int) -> int:
        state = self.save(sequence)
        with open(path, "r+b") as file:
            file.seek(offset)
            return file.write(state)

    def release(self, kept: Kept) -> None:
        if kept.life == self._life:
            self._kept.pop(kept.number, None)

    def restore(self, blob: Blob, tokens: Tokens, mounts: Mounts = NOTHING,
                positions: Tokens | None = None) -> Resident:  # fmt: skip
        with self._lock:
            self._enter("restore")
            places = list(range(len(tokens)) if positions is None else positions)
            if not places or places != sorted(set(places)) or len(places) != len(tokens):
                raise InvalidInput("A state has one token or more, and as many positions, ascending.")
            self._check(tokens)
            if len(tokens) > self._cells - self._used:
                raise ContextFull(len(tokens), self._cells - self._used, "tokens")
            try:
                found = json.loads(self._bytes(blob))
            except ValueError as error:
                raise StateRejected("it makes no sense") from error
            if [len(found[0]), found[1]] != [len(tokens), places]:
                raise StateRejected("it holds another number of tokens")
            return self._new(_Held(mounts, list(found[0]), places, [object() for _ in places]))

    def _bytes(self, blob: Blob) -> bytes:
        if isinstance(blob, Kept):
            if blob.life != self._life or blob.number not in self._kept:
                raise SequenceGone
            return self._kept[blob.number]
        if isinstance(blob, FileBlob):
            return blob.path.read_bytes()[blob.offset : blob.offset + blob.size]
        return blob

    def thin(self, sequence: Resident, ranges: Sequence[tuple[int, int]]) -> None:
        with self._lock:
            self._enter("thin")
            held = self._get(sequence)
            stays = [not any(begin <= place < end for begin, end in ranges) for place in held.positions]
            if stays and not stays[-1]:
                raise InvalidInput("The last token stays.")
            for rows in (held.tokens, held.positions, held.cells):
                rows[:] = [row for row, stay in zip(rows, stays, strict=True) if stay]

    def join(self, sequences: Sequence[Resident]) -> Resident:
        with self._lock:
            self._enter("join")
            try:
                parts = [self._get(sequence) for sequence in sequences]
                if len(set(sequences)) != len(sequences) or len(parts) < 2 or not all(part.tokens for part in parts):
                    raise InvalidInput("Two sequences or more are joined, each once and none of them empty.")
            finally:
                for sequence in sequences:
                    self._held.pop(sequence.number, None)
            made = parts[0]
            if any(part.mounts != made.mounts for part in parts):
                raise InvalidInput("Sequences that were read under other mounts cannot be joined.")
            for part in parts[1:]:
                by = made.positions[-1] + 1 - part.positions[0]
                made.tokens += part.tokens
                made.positions += [place + by for place in part.positions]
                made.cells += part.cells
            return self._new(made)

    def _next(self, held: _Held, count: int, *, begun: bool = True) -> list[Best]:
        """The likeliest tokens behind what was read: letters, or now and then the end of an answer that has `begun`."""
        steering = held.mounts.steering
        steered = steering and (steering.weight, steering.first, steering.last, steering.vectors.tobytes())
        said = repr((held.tokens, held.positions, held.mounts.adapters, steered))
        digest = hashlib.sha256(said.encode()).digest()
        first = END if begun and digest[0] < 8 else FIRST_BYTE + 97 + digest[1] % 26
        rest = [FIRST_BYTE + number for number in range(16) if FIRST_BYTE + number != first]
        return [Best(first, 9.0), *(Best(token, 8.0 - n) for n, token in enumerate(rest))][:count]

    def generate(self, sequence: Resident, tokens: Tokens, max_tokens: int, turn: Turn = ANYONE, *,
                 stop: Sequence[str] = (), on_text: Callable[[str], None] | None = None,
                 best: int = 0) -> Answer:  # fmt: skip
        if not tokens or max_tokens < 1 or not 0 <= best <= 16:
            raise InvalidInput("An answer needs a token to read, and one to write.")
        with self._lock:
            before = len(self._get(sequence).tokens) if sequence.life == self._life else 0
            self.read(sequence, tokens, turn)
            held, said, tops, reason, text = self._get(sequence), list[int](), [], "length", ""
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while len(said) < max_tokens:
                tops.append(tuple(self._next(held, best, begun=bool(said))))
                token = self._next(held, 1, begun=bool(said))[0].token
                if token == END:
                    reason = "end"
                    break
                text += decoder.decode(bytes([token - FIRST_BYTE]))
                said.append(token)
                ends = [at for at in (text.find(word) for word in stop if word) if at >= 0]
                if ends:
                    reason, text = "stop", text[: min(ends)]
                    break
                if len(said) == max_tokens:
                    break
                if turn.cancelled is not None and turn.cancelled.is_set():
                    reason = "cancelled"
                    break
                if self._used >= self._cells:
                    reason = "full"
                    break
                self._append(held, [token])
            if on_text is not None and text:
                on_text(text)
            read = tuple(held.tokens[before:])
            return Answer(text, tuple(said), read, reason, tuple(tops) if best else (), 0.0, 0.0, 0.0)  # type: ignore[arg-type]

    def best(self, sequence: Resident, tokens: Tokens, count: int = 2, turn: Turn = ANYONE) -> tuple[Best, ...]:
        if not tokens or not 1 <= count <= 16:
            raise InvalidInput("There is a token or more to read, and 1 to 16 to compare.")
        with self._lock:
            self.read(sequence, tokens, turn)
            return tuple(self._next(self._get(sequence), count))

    def hidden(self, texts: Sequence[Tokens], turn: Turn = ANYONE) -> tuple[Layers, ...]:
        self._enter("hidden")
        if not all(1 <= len(text) <= 512 for text in texts):
            raise InvalidInput("A text has 1 to 512 tokens.")
        rows = []
        for text in texts:
            self._check(text)
            means = [np.random.default_rng(token).standard_normal((3, 8)) for token in text]
            rows.append(np.mean(means, axis=0).astype(np.float32))
        return tuple(rows)

    def forget_steering(self, vectors: Layers) -> None:
        self.forgotten.append(vectors)

    def forget_adapter(self, sha256: str) -> None:
        self.unmounted.append(sha256)

    def usage(self) -> Usage:
        kept = sum(len(state) for state in self._kept.values())
        return Usage(self._used, self._cells, len(self._held), self._sequences, kept, 0, self._life)

    def close(self) -> None:
        self._closed, self.loaded = True, False
