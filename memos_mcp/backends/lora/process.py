"""Trains adapters in a process of its own, so that native code that fails costs a job and never a session.

Knows the worker's lines, and no store. Imports nothing of torch or peft.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from memos_mcp import asked
from memos_mcp.errors import MemosError, StorageFailed, TrainerLost, TrainerUnavailable, TrainingStopped
from memos_mcp.parametric.trainer import Course, Exam, Limits, Marks, Tell, Trained

MODULE = "memos_mcp.backends.lora.worker"
NEEDED = ("torch", "peft", "transformers", "gguf")
END_S = 5.0
CANCEL_S = 20.0
"""Seconds that a training may take to end after it was told to, with its checkpoint; then its process is killed."""
LOOK_S = 0.05
"""Seconds between two looks at whether a training was cancelled."""


class LoraTrainer:
    """Satisfies the port Trainer. `log` gets what the libraries print."""

    def __init__(self, log: Path, threads: int | None = None) -> None:
        self._log, self._threads = log, threads

    @staticmethod
    def missing() -> str | None:
        """A sentence that says what is to be installed; None if nothing is. Imports nothing."""
        lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if not lacking:
            return None
        named = " and ".join(lacking)
        return f"Adapters are trained with {named}, not installed here: pip install 'memos-mcp[parametric]'."

    def estimate(self, course: Course) -> float:
        """See the port."""
        with self._asked({"do": "estimate", "course": course.as_plain()}) as (_, answers):
            for said in answers:
                if "seconds" in said:
                    return float(said["seconds"])
        raise TrainerLost("it gave no answer")

    def train(self, course: Course, folder: Path, limits: Limits, cancelled: threading.Event, tell: Tell) -> Trained:
        """See the port."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        wish = {"do": "train", "course": course.as_plain(), "folder": str(folder), "limits": asdict(limits)}
        with self._asked(wish) as (process, answers):
            ended = threading.Event()
            watching = threading.Thread(target=_cancel, args=(process, cancelled, ended), daemon=True)
            watching.start()
            try:
                for said in answers:
                    if "done" in said:
                        tell(said["done"], said["loss"])
                    elif "trained" in said:
                        return _trained(said["trained"])
            finally:
                ended.set()
                watching.join()
        raise TrainerLost("it gave no answer")

    @contextmanager
    def _asked(self, wish: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
        if (missing := self.missing()) is not None:
            raise TrainerUnavailable(missing)
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                encoding="utf-8", env={"TOKENIZERS_PARALLELISM": "false", **asked.environment()},
            )  # fmt: skip
        try:
            with contextlib.suppress(BrokenPipeError):  # its end says what is wrong
                cast("Any", process.stdin).write(json.dumps({**wish, "threads": self._threads}) + "\n")
                cast("Any", process.stdin).flush()
            yield process, self._answers(process)
        finally:
            _end(process)

    def _answers(self, process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
        for line in cast("Any", process.stdout):
            said = json.loads(line)
            for name, fault in _FAULTS.items():
                if name in said:
                    raise fault(str(said[name]))
            yield said
        status = process.wait()
        if status:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise TrainerLost(f"{how}; see {self._log}")


_FAULTS: dict[str, Callable[[str], MemosError]] = {
    "unavailable": TrainerUnavailable,
    "stopped": TrainingStopped,
    "storage": lambda why: StorageFailed(f"The adapter could not be kept ({why}): free space, and start it again."),
    "failed": lambda why: TrainingStopped(f"The training failed: {why}"),
}


def _cancel(process: subprocess.Popen[str], cancelled: threading.Event, ended: threading.Event) -> None:
    """Tell the worker when its training is cancelled, and end one that does not end."""
    while not ended.is_set():
        if cancelled.wait(LOOK_S):
            with contextlib.suppress(OSError, ValueError):
                cast("Any", process.stdin).write("cancel\n")
                cast("Any", process.stdin).flush()
            if not ended.wait(CANCEL_S):
                process.kill()
            return


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        cast("Any", process.stdin).close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    cast("Any", process.stdout).close()


def _trained(said: dict[str, Any]) -> Trained:
    return Trained(**{**said, "before": _exam(said["before"]), "after": _exam(said["after"])})


def _exam(said: dict[str, Any]) -> Exam:
    marks = {name: Marks(**said[name]) for name in ("facts", "paraphrases", "reading")}
    return Exam(**marks, general=said["general"], missed=tuple(said["missed"]))
