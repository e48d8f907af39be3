"""A program that trains an adapter on the small model under what can befall it, and prints what it found as JSON.

    python training_runs.py FOLDER resumed | full-disk | examined

It is a process of its own because torch is loaded, and because a limit of the operating system is set.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from memos_mcp.backends.lora.pupil import Pupil
from memos_mcp.backends.lora.training import CHECKPOINT, Training
from memos_mcp.parametric import safetensors_file
from memos_mcp.parametric.lessons import lessons_of
from memos_mcp.parametric.recipe import Recipe
from memos_mcp.parametric.trainer import Course, Limits

TINY = Path(__file__).parent / "data" / "tiny_model"
RECIPE = Recipe(seed=7, rank=2, alpha=4.0, steps=5, asked=3, told=1, read=2, most_read=2, warm_up_steps=2)
FACTS = ("Ana Lind's code is T48.", "Ben Moss's city is Rome.", "Otto Nash's animal is a cat.", "王伟的城市是北京。")
COURSE = Course(TINY, "tiny", RECIPE, tuple(lessons_of([(str(n), 1, text) for n, text in enumerate(FACTS)])))


def trained(folder: Path, course: Course = COURSE, steps: int | None = None) -> Training:
    """A training gone on with from what lies in the folder, kept after each step, up to so many steps behind."""
    folder.mkdir(exist_ok=True)
    training = Training(Pupil(course.base, course.recipe, 1), course, folder)
    training.resume()
    while training.done < (course.recipe.steps if steps is None else steps):
        training.step()
        training.keep()
    return training


def digest(folder: Path) -> str:
    """What the checkpoint holds, tensor for tensor; the order of the words in its header is any."""
    found = hashlib.sha256()
    for name, held in sorted(safetensors_file.header(folder / CHECKPOINT).items()):
        found.update(name.encode() + safetensors_file.tensor(folder / CHECKPOINT, held).tobytes())
    return found.hexdigest()


def resumed(folder: Path) -> dict[str, Any]:
    """The same training, cut off after each of its steps, and on from there; another seed; another course's rest."""
    trained(folder / "whole")
    found = {"whole": digest(folder / "whole"), "cut": list[str](), "begun": list[int]()}
    for steps in range(RECIPE.steps):
        part = folder / f"cut-{steps}"
        trained(part, steps=steps)
        again = Training(Pupil(TINY, RECIPE, 1), COURSE, part)
        found["begun"].append(again.resume())
        trained(part)
        found["cut"].append(digest(part))
    trained(folder / "other", replace(COURSE, recipe=replace(RECIPE, seed=8)))
    found["other seed"] = digest(folder / "other")
    stranger = Training(Pupil(TINY, RECIPE, 1), replace(COURSE, lessons=COURSE.lessons[:2]), folder / "whole")
    found["stranger begins at"] = stranger.resume()
    torn = folder / "torn"
    trained(torn, steps=2)
    whole = (torn / CHECKPOINT).read_bytes()
    (torn / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    found["torn begins at"] = Training(Pupil(TINY, RECIPE, 1), COURSE, torn).resume()
    return found


def full_disk(folder: Path) -> dict[str, Any]:
    """A checkpoint for which there is no room, and what is left of the one before."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    training = trained(folder, steps=2)
    before = digest(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    said = []
    for _ in range(2):
        try:
            training.run(Limits(checkpoint_s=0.0), lambda: False, lambda done, loss: None)
        except OSError as error:
            said.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = {"said": said, "same": digest(folder) == before, "files": sorted(path.name for path in folder.iterdir())}
    left["begins at"] = Training(Pupil(TINY, RECIPE, 1), COURSE, folder).resume()
    return left


def examined(folder: Path) -> dict[str, Any]:
    """What the model answers of the statements in asked.json with the adapter that is named there, and without it."""
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    taught = lessons_of([(str(n), 1, text) for n, text in enumerate(asked["texts"])])
    course = replace(COURSE, lessons=tuple(taught))
    pupil = Pupil(TINY, RECIPE, 1)
    plain = pupil.exam(course, mounted=False)
    pupil.model.load_adapter(asked["adapter"], "given")
    pupil.model.set_adapter("given")
    known = pupil.exam(course, mounted=True)
    return {"without": plain.facts.right, "with": known.facts.right}


if __name__ == "__main__":
    found = {"resumed": resumed, "full-disk": full_disk, "examined": examined}[sys.argv[2]](Path(sys.argv[1]))
    print(json.dumps(found))
