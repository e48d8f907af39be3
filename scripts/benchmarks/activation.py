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
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import random_model
from benchmarks.plan import Plan
from memos_mcp.activation.engine import Engine, EngineSettings, Resident
from memos_mcp.activation.state_file import StateHeader, open_state, write_state
from memos_mcp.backends.llama.engine import LlamaEngine

MEMORIES, QUESTIONS = (256, 1_024, 3_000), (4, 16)
REPEATS = 9
ABOVE_ALONE, OF_CEILING, AT_1024, ATTACH_MS = 1.10, 0.9, 90.0, 1.0


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
    path = plan.work.folder / f"random-{random_model.HALF_B.embedding}-{random_model.HALF_B.words}.gguf"
    if not path.exists():
        random_model.write(path, random_model.HALF_B, kind="q8_0")
    with plan.work.fresh() as folder:
        engine = LlamaEngine(EngineSettings(path), folder)
        try:
            facts = engine.facts()
            note = f"{path.stat().st_size / 1e6:.0f} MB, {facts.threads} threads, {facts.bytes_per_token} bytes a token"
            plan.figure("activation", "load of a 0.5B shape, q8_0", facts.load_s, "s", note=note)
            for size in MEMORIES[:1] if plan.quick else MEMORIES:
                _memory(plan, engine, size, folder / "memory.state")
        finally:
            engine.close()


def _memory(plan: Plan, engine: Engine, size: int, path: Path) -> None:
    rnd = random.Random(size)
    memory = [rnd.randrange(259, 350) for _ in range(size)]
    for length in QUESTIONS:
        _question(plan, engine, memory, [rnd.randrange(259, 350) for _ in range(length)], path)


def _question(plan: Plan, engine: Engine, memory: list[int], question: list[int], path: Path) -> None:
    times = _Times()
    source = times.add("text", lambda: _by_reading(engine, memory, question))
    assert source is not None
    engine.cut(source, len(memory))
    kept = engine.keep(source)
    header = StateHeader(engine.identity(), "f16", engine.facts().layers, 0, tuple(memory))
    size_on_disk = write_state(path, header, lambda file, offset: engine.write(source, file, offset))
    for _ in range(3 if plan.quick else REPEATS):
        _alone(engine, times, source, question)
        _one_round(engine, times, question, lambda: engine.restore(kept, memory), "RAM")
        _one_round(engine, times, question, lambda: engine.attach(source), "resident")
        _forget_pages(path)
        _one_round(engine, times, question, lambda: _from_disk(engine, path, memory), "disk")
    engine.release(kept)
    engine.drop(source)
    _report(plan, times, len(memory), len(question), size_on_disk)


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


def _report(plan: Plan, times: _Times, size: int, length: int, size_on_disk: int) -> None:
    what = f"{size:,} tokens, question of {length}"
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
        least = AT_1024 if (size, length) == (1_024, 4) and name != "disk" else OF_CEILING * ceiling
        plan.figure("activation", f"{what}: text ÷ {name}", ratio, "x", least if name != "disk" else None,
                    at_least=True, note=f"ceiling {ceiling:.0f}")  # fmt: skip
    plan.figure("activation", f"{what}: attach", 1e3 * times.median("get resident"), "ms", ATTACH_MS,
                note=f"state of {size_on_disk / 1e6:.1f} MB on disk")  # fmt: skip
