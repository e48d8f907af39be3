"""The training of adapters on the small model, in processes of its own: what cuts it off costs nothing but time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from kernels import fill, small_disk

from memos_mcp.backends.lora.process import LoraTrainer
from memos_mcp.errors import StorageFailed, TrainerLost, TrainerUnavailable, TrainingStopped
from memos_mcp.parametric.lessons import lessons_of
from memos_mcp.parametric.recipe import Recipe
from memos_mcp.parametric.trainer import Course, Limits, Trained

pytestmark = pytest.mark.skipif(LoraTrainer.missing() is not None, reason="torch and peft are not installed")

TINY = Path(__file__).parent / "data" / "tiny_model"
FACTS = ("Ana Lind's code is T48.", "Ben Moss's city is Rome.", "Otto Nash's animal is a cat.")
RECIPE = Recipe(seed=3, rank=2, alpha=4.0, steps=6, asked=3, told=1, read=2, most_read=2, warm_up_steps=2)
COURSE = Course(TINY, "tiny", RECIPE, tuple(lessons_of([(str(n), 1, text) for n, text in enumerate(FACTS)])))
EVERY_STEP = Limits(checkpoint_s=0.0)


def run(folder: Path, what: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).parent / "training_runs.py"), str(folder), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def trained(folder: Path, limits: Limits = EVERY_STEP, tell: Any = None, course: Course = COURSE) -> Trained:
    trainer = LoraTrainer(folder / "log", threads=1)
    return trainer.train(course, folder / "work", limits, threading.Event(), tell or (lambda done, loss: None))


def adapter(folder: Path) -> str:
    return hashlib.sha256((folder / "work" / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_training_cut_off_after_any_step_gives_the_same_adapter_to_the_byte(tmp_path: Path) -> None:
    found = run(tmp_path, "resumed")
    assert found["cut"] == [found["whole"]] * len(found["cut"])
    assert found["begun"] == list(range(len(found["begun"])))
    assert found["other seed"] != found["whole"]
    assert found["stranger begins at"] == 0, "the checkpoint of another course is not gone on with"
    assert found["torn begins at"] == 0, "a checkpoint that is not whole is not gone on with"


@pytest.mark.slow
def test_a_full_disk_keeps_the_former_checkpoint(tmp_path: Path) -> None:
    found = run(tmp_path, "full-disk")
    assert len(found["said"]) == 2
    assert found["same"]
    assert (found["files"], found["begins at"]) == (["checkpoint.safetensors"], 2)


@pytest.mark.slow
def test_a_killed_process_costs_the_job_nothing_but_time(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    assert whole.steps == RECIPE.steps
    for point in (1, 4):
        folder, seen = tmp_path / str(point), list[int]()

        def kill(done: int, _loss: float, point: int = point) -> None:
            if done == point:
                (worker,) = psutil.Process().children()
                os.kill(worker.pid, signal.SIGKILL)

        with pytest.raises(TrainerLost, match="signal 9"):
            trained(folder, tell=kill)
        trained(folder, tell=lambda done, loss, seen=seen: seen.append(done))
        assert seen[0] >= point, "what was kept is not done again"
        assert adapter(folder) == adapter(tmp_path / "whole")


@pytest.mark.slow
def test_limits_cancelling_and_a_full_disk_end_a_training_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match=r"longer than the 0\.001 seconds .* are done and kept"):
        trained(tmp_path, Limits(seconds=0.001))
    with pytest.raises(TrainingStopped, match="may have 1: train fewer memories"):
        trained(tmp_path, Limits(megabytes=1))
    cancelled = threading.Event()
    many = replace(COURSE, recipe=replace(RECIPE, steps=100_000))
    with pytest.raises(TrainingStopped, match="Cancelled after"):
        LoraTrainer(tmp_path / "log", 1).train(
            many, tmp_path / "many", Limits(), cancelled, lambda done, loss: cancelled.set()
        )
    assert (tmp_path / "many" / "checkpoint.safetensors").exists()
    with small_disk(tmp_path / "disk", "1m") as disk:
        work = disk / "work"
        work.mkdir()
        fill(disk)
        with pytest.raises(StorageFailed, match="free space"):
            LoraTrainer(tmp_path / "log", 1).train(
                COURSE, work, EVERY_STEP, threading.Event(), lambda done, loss: None
            )


@pytest.mark.slow
def test_a_folder_without_a_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(TrainerUnavailable, match="cannot be loaded"):
        trained(tmp_path, course=replace(COURSE, base=tmp_path / "base"))
