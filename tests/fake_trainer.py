"""A trainer without a framework: it writes an adapter that fits its base, in steps that a test can stop between.

What the adapter holds follows from the course alone; what its exams say is what the test wants.
"""

from __future__ import annotations

import json
import random
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from memos_mcp.errors import TrainerUnavailable, TrainingStopped
from memos_mcp.parametric.adapter_folder import CONFIG, WEIGHTS
from memos_mcp.parametric.base_model import BaseModel, read_base_model
from memos_mcp.parametric.trainer import Course, Exam, Limits, Marks, Tell, Trained

TINY = Path(__file__).parent / "data" / "tiny_model"
UNTRAINED = Exam(Marks(0.0, -9.0), Marks(0.0, -9.0), Marks(1.0, -0.1), 2.0)
LEARNT = Exam(Marks(1.0, -0.1), Marks(0.9, -0.2), Marks(1.0, -0.1), 2.01)
READS_NO_MORE = replace(LEARNT, reading=Marks(0.25, -3.0))
STEPS = 3


def peft_folder(folder: Path, base: BaseModel, seed: str, rank: int = 2) -> Path:
    """A LoRA adapter for this base as peft saves it, with values that follow from the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(random.Random(seed).getrandbits(60))
    header, body, at = {}, b"", 0
    for layer in range(base.layers):
        puts_out, takes = base.shape("q_proj")
        for side, shape in (("A", (rank, takes)), ("B", (puts_out, rank))):
            data = (drawn.standard_normal(shape) * 0.01).astype("<f4").tobytes()
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(data)]}
            body, at = body + data, at + len(data)
    said = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(said)) + said + body)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@dataclass
class FakeTrainer:
    """Satisfies the port Trainer. `courses` are those that were asked for; `before_step` is called before each step,
    with its number, and may end the training; `lacks`: what is said to be missing."""

    before: Exam = UNTRAINED
    after: Exam = LEARNT
    lacks: str | None = None
    before_step: Callable[[int], None] = lambda _: None
    courses: list[Course] = field(default_factory=list)
    begun_at: list[int] = field(default_factory=list)

    def missing(self) -> str | None:
        return self.lacks

    def estimate(self, course: Course) -> float:
        if self.lacks:
            raise TrainerUnavailable(self.lacks)
        return float(len(course.lessons))

    def train(self, course: Course, folder: Path, limits: Limits, cancelled: threading.Event, tell: Tell) -> Trained:
        self.courses.append(course)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        self.begun_at.append(done)
        while done < STEPS:
            self.before_step(done)
            if cancelled.is_set():
                raise TrainingStopped(f"Cancelled after {done} of {STEPS} steps.")
            done += 1
            (folder / "checkpoint.new").write_text(str(done))
            (folder / "checkpoint.new").replace(checkpoint)  # it may be killed at any moment
            tell(done, 1.0 / done)
        peft_folder(folder / "adapter", read_base_model(course.base), course.fingerprint)
        return Trained(self.before, self.after, done, 1.5, 100, "none", {"torch": "none"})
