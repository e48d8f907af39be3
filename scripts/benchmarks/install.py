"""Section install: what the light install takes in time and space, in a fresh virtual environment.

Knows pip; it uses the package index that the person's own pip is set up with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


def install(plan: Plan) -> None:
    """A new virtual environment and `pip install` of this tree."""
    if plan.quick:
        plan.figure("install", "light install", None, "s", note="left out with --quick")
        return
    with plan.work.fresh() as folder:
        venv = folder / "venv"
        began = time.perf_counter()
        _run([sys.executable, "-m", "venv", str(venv)])
        made = time.perf_counter() - began
        before = _megabytes(venv)
        python = str(next(path for path in (venv / "bin" / "python", venv / "Scripts" / "python.exe") if path.exists()))
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)])
        seconds = time.perf_counter() - began
        packages = json.loads(_run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]))
        own = {"pip", "setuptools", "wheel"}
        count = sum(package["name"].lower() not in own for package in packages)
        plan.figure("install", "light install", seconds, "s", note=f"of these {made:.1f} s for the empty environment")
        plan.figure("install", "size on disk", _megabytes(venv) - before, "MB", note="beside the empty environment")
        plan.figure("install", "packages", count, "")


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
