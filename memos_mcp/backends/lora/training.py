"""Trains an adapter step by step, in a way that a crash costs nothing but time: from its checkpoint it goes on to the
very same adapter.

Knows no process and no store. A checkpoint holds weights, what the optimiser knows and the number of steps; everything
else follows from the recipe's seed. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memos_mcp.backends.lora.pupil import Pupil
from memos_mcp.errors import TrainingStopped
from memos_mcp.parametric import curriculum
from memos_mcp.parametric.trainer import Course, Limits, Tell

CHECKPOINT = "checkpoint.safetensors"
PARTS = ("weight", "exp_avg", "exp_avg_sq")
"""What is kept of each matrix: itself, and what AdamW knows of it."""
CLIPPED = 1.0
_MB = 1 << 20


class Training:
    """One adapter on its way. Not safe to share between threads."""

    def __init__(self, pupil: Pupil, course: Course, folder: Path) -> None:
        self._pupil, self._recipe, self._lessons = pupil, course.recipe, course.lessons
        self._fingerprint, self._file = course.fingerprint, folder / CHECKPOINT
        weights = list(pupil.weights.values())
        self._optimiser = torch.optim.AdamW(weights, lr=course.recipe.learning_rate, weight_decay=0.0)
        self.done = 0
        """Steps that are behind."""

    def resume(self) -> int:
        """Go on from the checkpoint if there is one of this very training; returns the steps that are behind."""
        with contextlib.suppress(FileNotFoundError, SafetensorError, OSError), safe_open(self._file, "pt") as held:
            noted, names = held.metadata() or {}, self._keys()
            if noted.get("fingerprint") == self._fingerprint and set(held.keys()) == names:
                self._take({name: held.get_tensor(name) for name in names}, int(noted["done"]))
        return self.done

    def run(self, limits: Limits, cancelled: Callable[[], bool], tell: Tell) -> None:
        """Do the steps that are left. `tell(steps done, loss)` after each.

        Raises:
            TrainingStopped: cancelled, or beyond a limit. OSError: a checkpoint could not be written; the former stays.
        """
        begun = kept = time.monotonic()
        while self.done < self._recipe.steps:
            if cancelled():
                self.keep()
                raise TrainingStopped(f"Cancelled after {self.done} of {self._recipe.steps} steps.")
            loss = self.step()
            tell(self.done, loss)
            now = time.monotonic()
            if now - kept >= limits.checkpoint_s:
                self.keep()
                kept = now
            self._require_within(limits, now - begun)

    def step(self) -> float:
        """One step; returns its loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.rate(self.done)
        loss = self._pupil.learn(curriculum.step(self._lessons, self._recipe, self.done))
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self._pupil.weights.values()), CLIPPED)
        self._optimiser.step()
        self.done += 1
        return float(loss.detach())

    def keep(self) -> None:
        """Write the checkpoint; the former one stands until the new one is whole on disk.

        Raises:
            OSError: it could not be written.
        """
        tensors: dict[str, Tensor] = {}
        for name, weight in self._pupil.weights.items():
            known = {"weight": weight.detach(), **self._optimiser.state.get(weight, {})}
            for part in PARTS:
                tensors[f"{part}/{name}"] = known.get(part, torch.zeros_like(weight)).cpu().contiguous()
        fresh = self._file.with_suffix(".new")
        try:
            save_file(tensors, fresh, {"fingerprint": self._fingerprint, "done": str(self.done)})
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(fresh, self._file)
        except SafetensorError as error:
            raise OSError(f"the checkpoint could not be written: {error}") from error
        finally:
            fresh.unlink(missing_ok=True)

    def _keys(self) -> set[str]:
        return {f"{part}/{name}" for name in self._pupil.weights for part in PARTS}

    def _take(self, tensors: dict[str, Tensor], done: int) -> None:
        with torch.no_grad():
            for name, weight in self._pupil.weights.items():
                weight.copy_(tensors[f"weight/{name}"])
                self._optimiser.state[weight] = {
                    "step": torch.tensor(float(done)),
                    "exp_avg": tensors[f"exp_avg/{name}"].to(weight.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(weight.device),
                }
        self.done = done

    def _require_within(self, limits: Limits, seconds: float) -> None:
        if limits.seconds is not None and seconds > limits.seconds:
            self.keep()
            raise TrainingStopped(
                f"The training took longer than the {limits.seconds:g} seconds it may: {self.done} of "
                f"{self._recipe.steps} steps are done and kept; start it again to go on, or train fewer memories."
            )
        used = peak_megabytes()
        if limits.megabytes is not None and used > limits.megabytes:
            raise TrainingStopped(
                f"The training needs {used:,} MB and may have {limits.megabytes:,}: train fewer memories at a time, or "
                "set training_ram_mb higher."
            )


def peak_megabytes() -> int:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / _MB if sys.platform == "darwin" else peak / 1024)
