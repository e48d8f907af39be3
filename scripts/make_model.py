#!/usr/bin/env python3
"""Makes the small model of the tests: trains it, writes it as GGUF, checks it, and notes how it came to be.

Knows only the order of these steps; `tiny_model` has the data, the training, the export and the checks.

Exit status: 0 when the model passed its checks and was put in place, 1 when it did not (nothing is then replaced), 2
for wrong arguments.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import random_model
from tiny_model.export import ExportError, export

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "data" / "tiny_model"
MADE = "made.json"
TRAINED = "trained.json"
GGUF = "model.gguf"
CASES = 400
CASE_SEED = 2026
COUNTS = (1, 4, 8, 16)
LEAST_ACCURACY_AT_EIGHT = 0.9
MOST_DIFFERENCE = 1e-3
LEAST_SAME_BEST = 0.999
HUGGING_FACE = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
PACKAGES = ("torch", "transformers", "tokenizers", "gguf", "llama-cpp-python")


def main() -> int:
    """Do what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="scripts/make_model", description="Make a small model that answers from context."
    )
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where it goes (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="train this many steps instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the training (default: %(default)s)")
    parser.add_argument("--trained", type=Path, metavar="DIR", help="do not train: finish what a training left here")
    parser.add_argument("--export", nargs=2, metavar=("DIR", "OUT"), help="only write a Hugging Face folder as GGUF")
    shapes = ", ".join(random_model.SHAPES)
    parser.add_argument("--random", nargs=2, metavar=("SHAPE", "OUT"), help=f"only write random weights: {shapes}")
    given = parser.parse_args()
    if given.random:
        name, out = given.random
        if name not in random_model.SHAPES:
            parser.error(f"there is no shape {name!r}: choose of {shapes}")
        began = time.monotonic()
        random_model.write(Path(out), random_model.SHAPES[name], seed=given.seed, kind="q8_0")
        _say(f"{out}: {Path(out).stat().st_size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s")
        return 0
    try:
        if given.export:
            export(Path(given.export[0]), Path(given.export[1]))
            return 0
        return _make(given)
    except ExportError as error:
        _say(str(error))
        return 1


def _make(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="make-model-") as temporary:
        folder = given.trained or Path(temporary)
        if given.trained is None:
            # Imported when there is something to train: random weights and export need neither torch nor transformers.
            from tiny_model.training import Recipe, train

            changed = {} if given.steps is None else {"steps": given.steps}
            recipe = Recipe(seed=given.seed, **changed)
            took = train(recipe, folder, _say)
            (folder / TRAINED).write_text(json.dumps({"recipe": asdict(recipe), **took}), encoding="utf-8")
        return _finish(folder, given.out)


def _finish(folder: Path, out: Path) -> int:
    """Export and check what was trained; put it in place if it passes."""
    path = folder / GGUF
    export(folder, path)
    made = json.loads((folder / TRAINED).read_text(encoding="utf-8")) | measured(folder, path)
    made["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    made["versions"]["python"] = platform.python_version()
    made["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (GGUF, "model.safetensors")
    }
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    _say(text)
    if failed := failures(made):
        _say(f"not put into {out}: {'; '.join(failed)}")
        return 1
    (folder / MADE).write_text(text, encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    for name in (*HUGGING_FACE, GGUF, MADE):
        if (folder / name).resolve() != (out / name).resolve():
            shutil.copyfile(folder / name, out / name)
    return 0


def measured(folder: Path, path: Path) -> dict[str, Any]:
    """Everything the checks say of a model: accuracy by facts, language and kind of value; tokens; logits."""
    from tiny_model import check
    from tiny_model.facts import LANGUAGES, cases

    texts = [*check.TEXTS, *check.fact_texts(CASE_SEED, 200)]
    with check.opened(path) as model:
        at_eight = list(cases(CASE_SEED, CASES, 8))
        parts = {
            f"{language} {'codes' if code else 'words'}": [
                case for case in at_eight if (case.asked.language, case.asked.attribute == "code") == (language, code)
            ]
            for language in LANGUAGES
            for code in (False, True)
        }
        accuracy = {str(count): check.accuracy(model, cases(CASE_SEED, CASES, count)) for count in COUNTS}
        by_part = {name: [round(check.accuracy(model, part), 3), len(part)] for name, part in parts.items()}
        unequal = check.unequal_texts(model, folder, texts)
    compared = texts[: len(check.TEXTS) + 40]
    return {
        "cases": CASES,
        "accuracy_by_facts": {count: round(share, 4) for count, share in accuracy.items()},
        "accuracy_and_cases_at_8_facts": by_part,
        "texts": len(texts),
        "unequal_texts": unequal,
        "exact": asdict(check.agreement(path, folder, compared, exact=True)),
        "defaults": asdict(check.agreement(path, folder, compared, exact=False)),
    }


def failures(made: dict[str, Any]) -> list[str]:
    """What keeps a model from being put in place, in words."""
    found = []
    if made["unequal_texts"]:
        found.append(f"{len(made['unequal_texts'])} texts have other tokens in llama.cpp")
    if made["exact"]["largest_difference"] > MOST_DIFFERENCE:
        found.append(f"logits differ by {made['exact']['largest_difference']:.1e}")
    if made["defaults"]["same_best"] < LEAST_SAME_BEST:
        found.append(f"only {made['defaults']['same_best']:.4f} of the best tokens are the same")
    if made["accuracy_by_facts"]["8"] < LEAST_ACCURACY_AT_EIGHT:
        found.append(f"{made['accuracy_by_facts']['8']:.3f} of the answers are right with eight facts")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
