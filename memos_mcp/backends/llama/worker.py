"""The process that holds a model: takes calls from one pipe, carries them out in turns, and answers into another.

Knows nothing of memories and data directories, and ends with whoever started it. A call is {"id", "verb", …}; it is
answered by {"id", "ok": …} or {"id", "error", "say", …}, and before that, maybe, by {"id", "event": …}.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, BinaryIO

import numpy as np

from memos_mcp.activation.engine import ContextFull, JobCancelled, SequenceGone, StateRejected
from memos_mcp.backends.llama import frames
from memos_mcp.backends.llama.hidden import CELLS, Watch
from memos_mcp.backends.llama.native import LoadFailed, Native, NativeFailed, Steered, Wish
from memos_mcp.backends.llama.residents import Mounted, Residents, likeliest
from memos_mcp.backends.llama.turns import Job, Steps, Turns
from memos_mcp.errors import InvalidInput

Call = dict[str, Any]

LONG = ("read", "generate", "best", "hidden")
"""Verbs that take several turns; all others are done in one, before those."""


class Worker:
    """One model, the calls that wait for it, and the pipe into which they are answered."""

    def __init__(self, out: BinaryIO, residents: Residents) -> None:
        self._out, self._residents, self._native = out, residents, residents.native
        self._turns = Turns()
        self._arrived: dict[int, float] = {}
        self._kept: dict[int, bytearray] = {}
        self._numbers = count(1)
        self._vectors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
        self._watch: Watch | None = None
        self._blob: bytes | bytearray = b""
        self._verbs: dict[str, Callable[[Call, bytes], Any]] = {
            "tokenize": lambda call, _: self._native.tokenize(call["text"], call["special"]),
            "detokenize": lambda call, _: self._native.detokenize(self._known(call["tokens"])),
            "open": lambda call, _: residents.open(self._mounts(call)),
            "attach": self._attach,
            "tokens": lambda call, _: residents.get(call["sequence"]).tokens,
            "positions": lambda call, _: residents.get(call["sequence"]).placed.positions.tolist(),
            "cut": lambda call, _: residents.cut(call["sequence"], call["length"]),
            "drop": lambda call, _: residents.drop(call["sequence"]),
            "save": self._save,
            "keep": self._keep,
            "write": self._write,
            "release": lambda call, _: self._kept.pop(call["kept"], None) and None,
            "restore": self._restore,
            "thin": lambda call, _: residents.thin(call["sequence"], call["ranges"]),
            "join": lambda call, _: residents.join(call["sequences"]),
            "vectors": self._learn,
            "unlearn": self._unlearn,
            "unmount": lambda call, _: self._native.forget_adapter(call["digest"]),
            "usage": self._usage,
        }

    def run(self, calls: queue.SimpleQueue[frames.Frame]) -> None:
        """Carry out calls until the process ends."""
        while True:
            self._admit(calls)
            job = self._turns.next()
            if job is not None:
                self._step(job)

    def _admit(self, calls: queue.SimpleQueue[frames.Frame]) -> None:
        """Take what has arrived; wait for it only when there is nothing to do."""
        while not self._turns or not calls.empty():
            call, blob = calls.get()
            if call["verb"] == "cancel":
                job = self._turns.find(call["job"])
                if job is not None:
                    job.cancelled = True
                continue
            self._arrived[call["id"]] = time.perf_counter()
            uses = frozenset([*([call["sequence"]] if "sequence" in call else []), *call.get("sequences", [])])
            job = Job(call["id"], self._steps(call, blob), call.get("caller", ""), call.get("background", False))
            job.uses, job.short = uses, call["verb"] not in LONG
            self._turns.add(job)

    def _step(self, job: Job) -> None:
        try:
            if job.cancelled:
                job.cancelled = False
                if not job.started:
                    raise JobCancelled
                job.steps.throw(JobCancelled())
            else:
                job.started = True
                next(job.steps)
        except StopIteration as done:
            self._answer(job, {"ok": done.value}, self._blob)
        except (JobCancelled, InvalidInput, SequenceGone, StateRejected, NativeFailed, LoadFailed) as error:
            self._answer(job, {"error": type(error).__name__, "say": getattr(error, "why", str(error))})
        except ContextFull as full:
            self._answer(job, {"error": "ContextFull", "say": [full.needed, full.free, full.what]})
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            self._answer(job, {"error": "InvalidInput", "say": f"{type(error).__name__}: {error}"})

    def _answer(self, job: Job, content: Call, blob: bytes | bytearray = b"") -> None:
        self._turns.remove(job)
        self._arrived.pop(job.number, None)
        self._blob = b""
        frames.send(self._out, {"id": job.number, **content}, memoryview(blob))

    def _tell(self, call: Call, **event: Any) -> None:
        frames.send(self._out, {"id": call["id"], "event": event})

    def _steps(self, call: Call, blob: bytes) -> Steps:
        verb = call["verb"]
        if verb == "read":
            return (yield from self._read(call))
        if verb == "generate":
            return (yield from self._generate(call))
        if verb == "best":
            logits = yield from self._residents.read(call["sequence"], call["tokens"], wanted=True)
            return likeliest(logits, call["count"])
        if verb == "hidden":
            return (yield from self._hidden(call))
        return self._verbs[verb](call, blob)

    def _read(self, call: Call) -> Steps:
        tokens = call["tokens"]
        steps = self._residents.read(call["sequence"], tokens)
        done = 0
        for _ in steps:
            done += self._native.wish.step
            if call["progress"]:
                self._tell(call, progress=[done, len(tokens)])
            try:
                yield
            except JobCancelled as cancelled:
                steps.throw(cancelled)
        if call["progress"]:
            self._tell(call, progress=[len(tokens), len(tokens)])
        return len(self._residents.get(call["sequence"]).tokens)

    def _generate(self, call: Call) -> Steps:
        waited_s = time.perf_counter() - self._arrived[call["id"]]
        answering = self._residents.generate(
            call["sequence"], call["tokens"], call["max_tokens"], call["stop"], call["best"]
        )
        steps = answering.steps()
        while True:
            try:
                next(steps)
                self._say(call, answering.spoken())
                try:
                    yield
                except JobCancelled as cancelled:
                    steps.throw(cancelled)
            except StopIteration as done:
                self._say(call, answering.spoken())
                return {**done.value, "waited_s": waited_s}

    def _say(self, call: Call, text: str) -> None:
        if text and call["stream"]:
            self._tell(call, text=text)

    def _hidden(self, call: Call) -> Steps:
        texts = [self._known(tokens) for tokens in call["texts"]]
        if not all(1 <= len(tokens) <= CELLS for tokens in texts):
            raise InvalidInput(f"A text has 1 to {CELLS} tokens.")
        if self._watch is None:
            self._watch = Watch(self._native)
        rows = []
        for tokens in texts:
            rows.append(self._watch.mean(tokens).tobytes())
            yield
        self._blob = b"".join(rows)
        return None

    def _known(self, tokens: list[int]) -> list[int]:
        if not all(0 <= token < self._native.words for token in tokens):
            raise InvalidInput(f"The model has {self._native.words} tokens.")
        return tokens

    def _attach(self, call: Call, _: bytes) -> int:
        mounts = None if call["mounts"] is None else self._mounts(call)
        return self._residents.attach(call["sequence"], call["length"], mounts)

    def _save(self, call: Call, _: bytes) -> None:
        self._blob = self._residents.state(call["sequence"])

    def _keep(self, call: Call, _: bytes) -> list[int]:
        number = next(self._numbers)
        self._kept[number] = self._residents.state(call["sequence"])
        return [number, len(self._kept[number])]

    def _write(self, call: Call, _: bytes) -> int:
        state = self._residents.state(call["sequence"])
        with open(call["path"], "r+b") as file:
            file.seek(call["offset"])
            file.write(state)
        return len(state)

    def _restore(self, call: Call, blob: bytes) -> int:
        if call["kept"] is not None:
            if call["kept"] not in self._kept:
                raise SequenceGone
            state = np.frombuffer(self._kept[call["kept"]], np.uint8)
        elif call["file"] is not None:
            path, offset, size = call["file"]
            if os.path.getsize(path) < offset + size:  # behind a mapping's end is a bus error
                raise StateRejected("its file is too short")
            state = np.memmap(path, np.uint8, "r", offset, (size,))
        else:
            state = np.frombuffer(blob, np.uint8)
        return self._residents.restore(state, call["tokens"], call["positions"], self._mounts(call))

    def _learn(self, call: Call, blob: bytes) -> None:
        rows = np.frombuffer(blob, np.float32)
        if rows.size != self._native.layers * self._native.embedding or not np.isfinite(rows).all():
            raise InvalidInput(
                f"A steering vector for this model has {self._native.layers} rows of {self._native.embedding} numbers."
            )
        self._vectors[call["name"]] = rows.reshape(self._native.layers, self._native.embedding)

    def _unlearn(self, call: Call, _: bytes) -> None:
        self._vectors.pop(call["name"], None)
        self._native.forget_steering(call["name"])

    def _mounts(self, call: Call) -> Mounted:
        wanted = call["mounts"]
        adapters = tuple((path, digest, weight) for path, digest, weight in wanted["adapters"])
        if wanted["steering"] is None:
            return adapters, None
        name, first, last, weight = wanted["steering"]
        if not 1 <= first <= last < self._native.layers:
            raise InvalidInput(f"Layers 1 to {self._native.layers - 1} can be steered, not {first} to {last}.")
        return adapters, Steered(f"{name} {weight}", first, last, self._vectors[name] * np.float32(weight))

    def _usage(self, _: Call, __: bytes) -> list[int]:
        kept = sum(len(state) for state in self._kept.values())
        return [self._residents.cells.used, len(self._residents), kept]


def main() -> None:
    """Load what the first frame asks for, say so, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for whoever started this
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever C prints must not get between the frames
    calls: queue.SimpleQueue[frames.Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    wish, _ = calls.get()
    began = time.perf_counter()
    try:
        native = Native(Wish(**wish))
    except LoadFailed as failed:
        frames.send(out, {"failed": str(failed)})
        return
    try:
        frames.send(out, {"loaded": _facts(native, time.perf_counter() - began)})
        Worker(out, Residents(native)).run(calls)
    except (BrokenPipeError, ValueError):
        os._exit(0)  # whoever started this has gone


def _listen(pipe: BinaryIO, calls: queue.SimpleQueue[frames.Frame]) -> None:
    for frame in _frames(pipe):
        calls.put(frame)
    os._exit(0)  # the other side has gone; the thread that computes may be deep in native code


def _frames(pipe: BinaryIO) -> Iterator[frames.Frame]:
    while (frame := frames.receive(pipe)) is not None:
        yield frame


def _facts(native: Native, load_s: float) -> Call:
    return {
        "description": native.description,
        "layers": native.layers,
        "embedding": native.embedding,
        "vocabulary": native.words,
        "trained_context": native.trained_context,
        "cells": native.cells - 1,
        "bytes_per_token": native.bytes_per_token,
        "bos": native.bos,
        "adds_bos": native.adds_bos,
        "chat_template": native.chat_template,
        "gpu": native.gpu,
        "can_shift": native.can_shift,
        "load_s": load_s,
    }


if __name__ == "__main__":
    main()
