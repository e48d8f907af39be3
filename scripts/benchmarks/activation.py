"""Section activation: the first token of an answer, with the memory as a state and with the memory as text.

Knows the port of the local model, and uses random weights in a real shape: what is said is noise, what it takes is not.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import random_model
from benchmarks.plan import Plan
from memos_mcp.activation.engine import Engine, EngineSettings, Resident
from memos_mcp.activation.state_file import StateHeader, open_state, write_state
from memos_mcp.backends.llama.engine import LlamaEngine

MEMORIES, QUESTIONS = (256, 1_024, 3_000), (4, 16)
REPEATS = 9
READ_AGAIN = {256: 3, 1_024: 3}
"""After so many rounds a memory of so many tokens is read again: both ways are to meet the machine in the same hour."""
SHAPES = (replace(random_model.HALF_B, words=random_model.SPELLED), random_model.HALF_B)
"""With bytes for a vocabulary, as the figures were made that the aims come from, and with that of a real model, whose
last matrix is paid for every question, with or without a state."""
ABOVE_ALONE, OF_CEILING, ATTACH_MS = 1.10, 0.9, 1.0
LEAST = {(random_model.SPELLED, 1_024, 4): 90.0}
"""By words, tokens of memory and of question: how many times faster than reading."""


@dataclass
class _Times:
    """Seconds of each way to a first token, and of the parts of these ways."""

    all: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, work: Callable[[], Resident | None]) -> Resident | None:
        began = time.perf_counter()
        found = work()
        self.all.setdefault(name, []).append(time.perf_counter() - began)
        return found

    def median(self, name: str) -> float:
        return statistics.median(self.all[name])


def activation(plan: Plan) -> None:
    """First token resident, from RAM, from disk, and by reading the text, all in one run."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("activation", "first token", None, "ms", note="the extra activation is not installed")
        return
    for shape in SHAPES[:1] if plan.quick else SHAPES:
        path = plan.work.folder / f"random-{shape.embedding}-{shape.words}.gguf"
        if not path.exists():
            random_model.write(path, shape, kind="q8_0")
        with plan.work.fresh() as folder:
            engine = LlamaEngine(EngineSettings(path), folder)
            try:
                _shape(plan, engine, shape, path.stat().st_size, folder / "memory.state")
            finally:
                engine.close()


def _shape(plan: Plan, engine: Engine, shape: random_model.Shape, bytes_: int, path: Path) -> None:
    facts, what = engine.facts(), f"{shape.words:,} words"
    note = f"{bytes_ / 1e6:.0f} MB, {facts.threads} threads, {facts.bytes_per_token} bytes a token"
    plan.figure("activation", f"{what}: load of a 0.5B shape, q8_0", facts.load_s, "s", note=note)
    for size in MEMORIES[:1] if plan.quick else MEMORIES:
        rnd = random.Random(size)
        memory = [rnd.randrange(259, 350) for _ in range(size)]
        for length in QUESTIONS:
            least = LEAST.get((shape.words, size, length))
            question = [rnd.randrange(259, 350) for _ in range(length)]
            _question(plan, engine, f"{what}, {size:,} tokens, question of {length}", memory, question, path, least)


def _question(
    plan: Plan, engine: Engine, what: str, memory: list[int], question: list[int], path: Path, least: float | None
) -> None:
    times = _Times()
    source = times.add("text", lambda: _by_reading(engine, memory, question))
    assert source is not None
    engine.cut(source, len(memory))
    kept = engine.keep(source)
    header = StateHeader(engine.identity(), "f16", engine.facts().layers, 0, tuple(memory))
    size_on_disk = write_state(path, header, lambda file, offset: engine.write(source, file, offset))
    for number in range(3 if plan.quick else REPEATS):
        if number and number % READ_AGAIN.get(len(memory), REPEATS) == 0:
            again = times.add("text", lambda: _by_reading(engine, memory, question))
            assert again is not None
            engine.drop(again)
        _alone(engine, times, source, question)
        _one_round(engine, times, question, lambda: engine.restore(kept, memory), "RAM")
        _one_round(engine, times, question, lambda: engine.attach(source), "resident")
        _forget_pages(path)
        _one_round(engine, times, question, lambda: _from_disk(engine, path, memory), "disk")
    engine.release(kept)
    engine.drop(source)
    _report(plan, times, what, len(memory), size_on_disk, least)


def _by_reading(engine: Engine, memory: list[int], question: list[int]) -> Resident:
    sequence = engine.open()
    engine.read(sequence, memory)
    engine.generate(sequence, question, 1)
    return sequence


def _alone(engine: Engine, times: _Times, source: Resident, question: list[int]) -> None:
    """The question's tokens and no more, behind a memory that is there already."""
    times.add("alone", lambda: engine.generate(source, question, 1) and None)
    engine.cut(source, len(engine.tokens(source)) - len(question))


def _one_round(engine: Engine, times: _Times, question: list[int], get: Callable[[], Resident], name: str) -> None:
    began = time.perf_counter()
    sequence = times.add(f"get {name}", get)
    assert sequence is not None
    engine.generate(sequence, question, 1)
    times.all.setdefault(name, []).append(time.perf_counter() - began)
    engine.drop(sequence)


def _from_disk(engine: Engine, path: Path, memory: list[int]) -> Resident:
    found = open_state(path, engine.identity(), tokens=memory)
    return engine.restore(found.blob, found.header.tokens)


def _forget_pages(path: Path) -> None:
    """Let the next reading of the file come from the disk, where the system can be asked for that."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _report(plan: Plan, times: _Times, what: str, size: int, size_on_disk: int, least: float | None) -> None:
    """`least` is how many times faster than reading it has to be; None: a share of what the question alone allows."""
    alone, text = times.median("alone"), times.median("text")
    ceiling = text / alone
    plan.figure("activation", f"{what}: question alone", 1e3 * alone, "ms")
    plan.figure(
        "activation", f"{what}: by reading the text", 1e3 * text, "ms", note=f"{size / text:.0f} tokens a second"
    )
    for name in ("resident", "RAM", "disk"):
        first, get = times.median(name), times.median(f"get {name}")
        target = None if name == "disk" else ABOVE_ALONE * 1e3 * alone
        note = f"of these {1e3 * get:.1f} ms until it is in the context; {first / alone:.2f} of the question alone"
        plan.figure("activation", f"{what}: {name}", 1e3 * first, "ms", target, note=note)
        ratio = text / first
        wanted = None if name == "disk" else least or OF_CEILING * ceiling
        plan.figure("activation", f"{what}: text ÷ {name}", ratio, "x", wanted, at_least=True,
                    note=f"ceiling {ceiling:.0f}")  # fmt: skip
    plan.figure("activation", f"{what}: attach", 1e3 * times.median("get resident"), "ms", ATTACH_MS,
                note=f"state of {size_on_disk / 1e6:.1f} MB on disk")  # fmt: skip
