"""Section switching: what it costs that the next token comes from the model with another adapter, or with none.

Knows the port of the local model, and uses random weights in a real shape. Every sequence is in the context, so that
nothing is read; a token is generated from each in turn.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Sequence
from itertools import cycle, islice

from benchmarks import random_model
from benchmarks.plan import Plan
from memos_mcp.activation.engine import Adapter, Engine, EngineSettings, Mounts, Resident
from memos_mcp.backends.llama.engine import LlamaEngine

RANK, SPREAD, MEMORY = 16, 0.01, 64
ROUNDS, QUICK_ROUNDS = 40, 4
MOST_MS = 50.0
TOKEN = 300


def switching(plan: Plan) -> None:
    """A token from one adapter, from two in turns, and from one and none in turns; what the turns cost."""
    if importlib.util.find_spec("llama_cpp") is None:
        plan.figure("switching", "a switch", None, "ms", note="the extra activation is not installed")
        return
    shape = random_model.TINY if plan.quick else random_model.HALF_B
    with plan.work.fresh() as folder:
        model = plan.work.folder / f"random-{shape.embedding}-{shape.words}.gguf"
        if not model.exists():
            random_model.write(model, shape, kind="q8_0")
        paths = [folder / "first.gguf", folder / "second.gguf"]
        for seed, path in enumerate(paths):
            random_model.write_adapter(path, shape, seed=seed, rank=RANK, spread=SPREAD, everything=True)
        engine = LlamaEngine(EngineSettings(model), folder)
        try:
            first, second = (_begun(engine, Mounts((Adapter(path),))) for path in paths)
            note = f"{paths[0].stat().st_size / 1e6:.0f} MB each"
            _report(plan, engine, first, second, _begun(engine, Mounts()), note)
        finally:
            engine.close()


def _begun(engine: Engine, mounts: Mounts) -> Resident:
    sequence = engine.open(mounts)
    engine.read(sequence, [TOKEN + place % 40 for place in range(MEMORY)])
    return sequence


def _report(plan: Plan, engine: Engine, first: Resident, second: Resident, plain: Resident, note: str) -> None:
    """The three patterns alternate, so that all of them meet the machine in the same hour."""
    patterns: dict[str, Sequence[Resident]] = {
        "one adapter": [first], "no adapter": [plain], "two adapters in turns": [first, second],
        "an adapter and none in turns": [first, plain],
    }  # fmt: skip
    times: dict[str, list[list[float]]] = {name: [] for name in patterns}
    for _ in range(QUICK_ROUNDS if plan.quick else ROUNDS):
        for name, sequences in patterns.items():
            _token(engine, sequences[-1])  # what was mounted before is another pattern's
            times[name].append([_token(engine, sequence) for sequence in islice(cycle(sequences), 2)])
    middle = {
        name: 1e3 * statistics.mean(statistics.median(place) for place in zip(*found, strict=True))
        for name, found in times.items()
    }
    for name, value in middle.items():
        plan.figure("switching", f"a token, {name}", value, "ms", note=note)
    with_one = middle["one adapter"]
    costs = {
        "another adapter": middle["two adapters in turns"] - with_one,
        "none, or from none": middle["an adapter and none in turns"] - (with_one + middle["no adapter"]) / 2,
    }
    for name, cost in costs.items():
        plan.figure("switching", f"a switch to {name}", cost, "ms", MOST_MS, note="beyond the tokens themselves")


def _token(engine: Engine, sequence: Resident) -> float:
    began = time.perf_counter()
    engine.generate(sequence, [TOKEN], 1)
    seconds = time.perf_counter() - began
    engine.cut(sequence, MEMORY)
    return seconds
