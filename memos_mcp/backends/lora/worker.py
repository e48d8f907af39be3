"""The process that trains: one course from its standard input, lines of JSON on its standard output, then it ends.

Knows no store. It ends when its standard input is closed, for then nobody waits for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from memos_mcp.errors import TrainingStopped
from memos_mcp.parametric.trainer import Course, Limits, Trained

TRIED_STEPS = 3
"""Steps of a course that are done to say how long it takes; the first, which also sets things up, does not count."""
PACKAGES = ("torch", "transformers", "peft", "safetensors")
Say = Callable[[dict[str, Any]], None]


def main() -> int:
    """Do what the first line of standard input asks for."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the lines
    wish = json.loads(sys.stdin.readline())
    cancelled = threading.Event()
    threading.Thread(target=_watch, args=(cancelled,), daemon=True).start()
    say = _sayer(out)
    try:
        from memos_mcp.backends.lora.pupil import Pupil
    except ImportError as error:
        say({"unavailable": f"Adapters are trained with torch and peft: install memos-mcp[parametric] ({error})."})
        return 1
    course = Course.from_plain(wish["course"])
    try:
        pupil = Pupil(course.base, course.recipe, wish.get("threads"))
    except (OSError, ValueError, RuntimeError) as error:
        say({"unavailable": f"The base model in {course.base} cannot be loaded: {_line(error)}."})
        return 1
    try:
        if wish["do"] == "estimate":
            say({"seconds": _estimate(pupil, course)})
        else:
            limits = Limits(**wish["limits"])
            say({"trained": asdict(_train(pupil, course, Path(wish["folder"]), limits, cancelled, say))})
    except TrainingStopped as stopped:
        say({"stopped": str(stopped)})
    except OSError as error:
        say({"storage": error.strerror or _line(error)})
    except RuntimeError as error:  # torch's own: out of memory, a device that failed
        say({"failed": _line(error)})
    return 0


def _train(pupil: Any, course: Course, folder: Path, limits: Limits, cancelled: threading.Event, say: Say) -> Trained:
    from memos_mcp.backends.lora.training import Training, peak_megabytes

    began = time.monotonic()
    before = pupil.exam(course, mounted=False)
    training = Training(pupil, course, folder)
    say({"resumed": training.resume()})
    training.run(limits, cancelled.is_set, lambda done, loss: say({"done": done, "loss": round(loss, 4)}))
    pupil.save(folder / "adapter")
    after = pupil.exam(course, mounted=True)
    return Trained(
        before, after, training.done, round(time.monotonic() - began, 2), peak_megabytes(), str(pupil.device),
        {name: metadata.version(name) for name in PACKAGES},
    )  # fmt: skip


def _estimate(pupil: Any, course: Course) -> float:
    import tempfile

    from memos_mcp.backends.lora.training import Training

    began = time.monotonic()
    pupil.exam(course, mounted=False)
    examined = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        training = Training(pupil, course, Path(folder))
        training.step()
        began = time.monotonic()
        for _ in range(TRIED_STEPS):
            training.step()
    return round((time.monotonic() - began) / TRIED_STEPS * course.recipe.steps + 2 * examined, 1)


def _watch(cancelled: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "cancel":
            cancelled.set()
    os._exit(2)  # whoever asked is gone


def _sayer(out: TextIO) -> Say:
    def say(said: dict[str, Any]) -> None:
        out.write(json.dumps(said) + "\n")
        out.flush()

    return say


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
