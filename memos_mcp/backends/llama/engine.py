"""The port `Engine` over llama.cpp: one model in a worker process, started at need and again after it was lost.

Knows no memories, and never loads llama.cpp into the process that it serves.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memos_mcp.activation.engine import (
    ANYONE,
    NOTHING,
    Adapter,
    Answer,
    Best,
    Blob,
    ContextFull,
    EngineSettings,
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
from memos_mcp.backends.llama import machine
from memos_mcp.backends.llama.files import FileHashes, check_model
from memos_mcp.backends.llama.process import Refused, WorkerProcess
from memos_mcp.errors import EngineLost, EngineUnavailable, InvalidInput

log = logging.getLogger(__name__)

PACKAGE = "llama_cpp"
NOT_INSTALLED = "The local model needs llama-cpp-python: pip install 'memos-mcp[activation]'."
CLOSED = "The local model was closed."
HASHES, LOG = "model-hashes.json", "engine.log"
MOST_OF_MEMORY = 0.9
"""Share of the free memory beyond which a model is not loaded: more, and the system would kill something."""


class LlamaEngine:
    """Satisfies the port `Engine`."""

    def __init__(self, settings: EngineSettings, folder: Path, logs: Path | None = None) -> None:
        """`folder`: where hashes of model files are kept; `logs`: where llama.cpp's complaints go, None for nowhere."""
        self._settings = settings
        self._hashes = FileHashes(folder / HASHES)
        self._log = logs / LOG if logs is not None else None
        self._starting = threading.Lock()
        self._worker: WorkerProcess | None = None
        self._facts: ModelFacts | None = None
        self._life = 0
        self._closed = False
        self._known_vectors: set[str] = set()
        self._loader: threading.Thread | None = None
        self._problem: str | None = None

    # Its life.

    def load_in_background(self) -> None:
        if self._loader is None:
            self._loader = threading.Thread(target=self._load_behind, name="llama-load", daemon=True)
            self._loader.start()

    def _load_behind(self) -> None:
        try:
            self.facts()
        except (EngineUnavailable, EngineLost) as error:
            log.warning("the local model is not loaded: %s", error)

    @property
    def loaded(self) -> bool:
        return self._worker is not None and self._worker.alive

    @property
    def problem(self) -> str | None:
        return self._problem

    @property
    def pid(self) -> int | None:
        """The worker's process; None while there is none."""
        worker = self._worker
        return worker.pid if worker is not None and worker.alive else None

    def facts(self) -> ModelFacts:
        self._running()
        assert self._facts is not None
        return self._facts

    def _running(self) -> WorkerProcess:
        """The worker, started if there is none."""
        with self._starting:
            if self._closed:
                raise EngineUnavailable(CLOSED)
            if self._worker is None or not self._worker.alive:
                try:
                    self._start()
                except (EngineUnavailable, EngineLost) as error:
                    self._problem = str(error)
                    raise
                self._problem = None
            assert self._worker is not None
            return self._worker

    def _start(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if importlib.util.find_spec(PACKAGE) is None:
            raise EngineUnavailable(NOT_INSTALLED)
        settings, path = self._settings, self._settings.model.absolute()
        size, free = check_model(path), machine.available_memory()
        if free is not None and size > MOST_OF_MEMORY * free:
            raise EngineUnavailable(
                f"The model file {path} has {size / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free: "
                "end other programs, or set a smaller model."
            )
        threads = settings.threads or machine.threads()
        wish = {
            "model": str(path),
            "cells": settings.cells,
            "step": settings.step,
            "sequences": settings.sequences,
            "kv_type": settings.kv_type,
            "flash": settings.flash_attention,
            "rope_base": settings.rope_base,
            "rope_scale": settings.rope_scale,
            "gpu_layers": settings.gpu_layers,
            "threads": threads,
        }
        try:
            self._worker = WorkerProcess(wish, self._log)
        except EngineUnavailable as error:
            raise EngineUnavailable(
                f"The model file {path} cannot be loaded ({error}): it may be damaged, unfinished, or of a kind that "
                "llama.cpp does not know."
            ) from error
        self._life += 1
        self._known_vectors = set()
        found = self._worker.facts
        self._facts = ModelFacts(
            identity=self._identity(wish, path),
            sequences=settings.sequences,
            step=settings.step,
            kv_type=settings.kv_type,
            threads=threads,
            **found,
        )

    def _identity(self, wish: dict[str, Any], path: Path) -> str:
        """A digest of what a state depends on. The number of threads changes no bit of it."""
        spec = importlib.util.find_spec(PACKAGE)
        folders = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "lib"]
        libraries = sorted(found for folder in folders for found in folder.iterdir() if found.is_file())
        content = {
            **{name: value for name, value in wish.items() if name not in ("model", "threads")},
            "file": self._hashes.of(path),
            "build": [importlib.metadata.version("llama_cpp_python"), *map(self._hashes.of, libraries)],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def identity(self, mounts: Mounts = NOTHING) -> str:
        base = self.facts().identity
        if mounts == NOTHING:
            return base
        adapters = [[self._hash(adapter), adapter.weight] for adapter in mounts.adapters]
        steering = mounts.steering and [
            _name(mounts.steering.vectors), mounts.steering.first, mounts.steering.last, mounts.steering.weight
        ]  # fmt: skip
        return hashlib.sha256(json.dumps([base, adapters, steering]).encode()).hexdigest()

    def _hash(self, adapter: Adapter) -> str:
        try:
            return self._hashes.of(adapter.path)
        except OSError as error:
            raise InvalidInput(f"The adapter {adapter.path} cannot be read ({error.strerror}).") from error

    def usage(self) -> Usage:
        worker, settings = self._worker, self._settings
        if worker is None or not worker.alive:
            return Usage(0, settings.cells, 0, settings.sequences, 0, 0, self._life)
        used, sequences, kept = self._call("usage")
        resident = machine.resident_memory(worker.pid)
        return Usage(used, self.facts().cells, sequences, settings.sequences, kept, resident, self._life)

    def close(self) -> None:
        with self._starting:
            self._closed = True
            if self._worker is not None:
                self._worker.close()
        if self._loader is not None and self._loader is not threading.current_thread():
            self._loader.join()

    # Text.

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> tuple[int, ...]:
        facts = self.facts()
        first = (facts.bos,) if bos and facts.adds_bos and facts.bos is not None else ()
        return (*first, *self._call("tokenize", text=text.encode("utf-8", "replace").decode(), special=special))

    def detokenize(self, tokens: Tokens) -> str:
        return str(self._call("detokenize", tokens=list(tokens)))

    # Sequences.

    def open(self, mounts: Mounts = NOTHING) -> Resident:
        return self._resident("open", mounts=self._mounts(mounts))

    def attach(self, source: Resident, length: int | None = None, mounts: Mounts | None = None) -> Resident:
        wanted = None if mounts is None else self._mounts(mounts)
        return self._resident("attach", source, length=length, mounts=wanted)

    def read(self, sequence: Resident, tokens: Tokens, turn: Turn = ANYONE,
             progress: Callable[[int, int], None] | None = None) -> int:  # fmt: skip
        def on_event(event: dict[str, Any]) -> None:
            if progress is not None:
                progress(*event["progress"])

        return int(
            self._call("read", sequence, turn, on_event, tokens=list(tokens), progress=progress is not None)
        )  # fmt: skip

    def tokens(self, sequence: Resident) -> tuple[int, ...]:
        return tuple(self._call("tokens", sequence))

    def positions(self, sequence: Resident) -> tuple[int, ...]:
        return tuple(self._call("positions", sequence))

    def cut(self, sequence: Resident, length: int) -> None:
        self._call("cut", sequence, length=length)

    def drop(self, sequence: Resident) -> None:
        if sequence.life == self._life and self.loaded:
            self._call("drop", sequence)

    def save(self, sequence: Resident) -> bytes:
        return self._exchange("save", sequence)[1]

    def keep(self, sequence: Resident) -> Kept:
        (number, size), life = self._call("keep", sequence), sequence.life
        return Kept(life, number, size)

    def write(self, sequence: Resident, path: Path, offset: int) -> int:
        return int(self._call("write", sequence, path=str(path.absolute()), offset=offset))

    def release(self, kept: Kept) -> None:
        if kept.life == self._life and self.loaded:
            self._call("release", kept=kept.number)

    def restore(self, blob: Blob, tokens: Tokens, mounts: Mounts = NOTHING,
                positions: Tokens | None = None) -> Resident:  # fmt: skip
        kept, file, raw = None, None, b""
        if isinstance(blob, Kept):
            self._running()
            if blob.life != self._life:
                raise SequenceGone
            kept = blob.number
        elif isinstance(blob, FileBlob):
            file = [str(blob.path.absolute()), blob.offset, blob.size]
        else:
            raw = blob
        places = None if positions is None else list(positions)
        content: dict[str, Any] = {"kept": kept, "file": file, "tokens": list(tokens), "positions": places}
        return self._resident("restore", blob=raw, mounts=self._mounts(mounts), **content)

    def thin(self, sequence: Resident, ranges: Sequence[tuple[int, int]]) -> None:
        self._call("thin", sequence, ranges=[list(pair) for pair in ranges])

    def join(self, sequences: Sequence[Resident]) -> Resident:
        worker = self._running()
        if any(sequence.life != self._life for sequence in sequences):
            raise SequenceGone
        life = self._life
        number, _ = _translated(worker, "join", sequences=[sequence.number for sequence in sequences])
        return Resident(life, number)

    # Answers.

    def generate(self, sequence: Resident, tokens: Tokens, max_tokens: int, turn: Turn = ANYONE, *,
                 stop: Sequence[str] = (), on_text: Callable[[str], None] | None = None,
                 best: int = 0) -> Answer:  # fmt: skip
        def on_event(event: dict[str, Any]) -> None:
            if on_text is not None:
                on_text(event["text"])

        content = {"tokens": list(tokens), "max_tokens": max_tokens, "stop": list(stop), "best": best}
        found = self._call("generate", sequence, turn, on_event, stream=on_text is not None, **content)
        return Answer(
            text=found["text"],
            tokens=tuple(found["tokens"]),
            read=tuple(found["read"]),
            reason=found["reason"],
            best=tuple(tuple(Best(*pair) for pair in place) for place in found["best"]),
            waited_s=found["waited_s"],
            first_s=found["first_s"],
            rest_s=found["rest_s"],
        )

    def best(self, sequence: Resident, tokens: Tokens, count: int = 2, turn: Turn = ANYONE) -> tuple[Best, ...]:
        if not tokens or not 1 <= count <= 16:
            raise InvalidInput("There is a token or more to read, and 1 to 16 to compare.")
        return tuple(Best(*pair) for pair in self._call("best", sequence, turn, tokens=list(tokens), count=count))

    def hidden(self, texts: Sequence[Tokens], turn: Turn = ANYONE) -> tuple[Layers, ...]:
        facts = self.facts()
        _, blob = self._exchange("hidden", None, turn, texts=[list(tokens) for tokens in texts])
        rows = np.frombuffer(blob, np.float32).reshape(len(texts), facts.layers, facts.embedding)
        return tuple(rows)

    def forget_steering(self, vectors: Layers) -> None:
        name = _name(vectors)
        if name in self._known_vectors and self.loaded:
            self._known_vectors.discard(name)
            self._call("unlearn", name=name)

    def forget_adapter(self, sha256: str) -> None:
        if self.loaded:
            self._call("unmount", digest=sha256)

    # Calls.

    def _call(
        self,
        verb: str,
        sequence: Resident | None = None,
        turn: Turn | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        **content: Any,
    ) -> Any:
        return self._exchange(verb, sequence, turn, on_event, **content)[0]

    def _exchange(
        self,
        verb: str,
        sequence: Resident | None = None,
        turn: Turn | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        **content: Any,
    ) -> tuple[Any, bytes]:
        worker = self._running()
        if sequence is not None:
            if sequence.life != self._life:
                raise SequenceGone
            content["sequence"] = sequence.number
        if turn is not None:
            content |= {"caller": turn.caller, "background": turn.background, "cancelled": turn.cancelled}
        return _translated(worker, verb, on_event=on_event, **content)

    def _resident(self, verb: str, source: Resident | None = None, **content: Any) -> Resident:
        self._running()
        life = self._life
        return Resident(life, int(self._call(verb, source, **content)))

    def _mounts(self, mounts: Mounts) -> dict[str, Any]:
        """Mounts as they go through the pipe; the vectors of a steering are sent ahead, once in a worker's life."""
        adapters = [[str(found.path.absolute()), self._hash(found), found.weight] for found in mounts.adapters]
        steering = mounts.steering
        if steering is None:
            return {"adapters": adapters, "steering": None}
        self._running()
        name = _name(steering.vectors)
        if name not in self._known_vectors:
            rows = np.ascontiguousarray(steering.vectors, np.float32)
            self._call("vectors", name=name, blob=rows.tobytes())
            self._known_vectors.add(name)
        return {"adapters": adapters, "steering": [name, steering.first, steering.last, steering.weight]}


def _name(vectors: Layers) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors, np.float32).tobytes()).hexdigest()


def _translated(worker: WorkerProcess, verb: str, **content: Any) -> tuple[Any, bytes]:
    """A call whose refusal is an error of the port."""
    try:
        return worker.call(verb, **content)
    except Refused as refused:
        if refused.name == "ContextFull":
            raise ContextFull(*refused.say) from None
        if refused.name == "SequenceGone":
            raise SequenceGone from None
        if refused.name == "JobCancelled":
            raise JobCancelled from None
        if refused.name == "StateRejected":
            raise StateRejected(refused.say) from None
        if refused.name == "LoadFailed":
            raise EngineUnavailable(f"The local model cannot do this ({refused.say}).") from None
        raise InvalidInput(str(refused.say)) from None
