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
        python = str(_python(venv))
        _pip(venv, str(ROOT))
        seconds = time.perf_counter() - began
        packages = json.loads(_run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]))
        own = {"pip", "setuptools", "wheel"}
        count = sum(package["name"].lower() not in own for package in packages)
        plan.figure("install", "light install", seconds, "s", note=f"of these {made:.1f} s for the empty environment")
        plan.figure("install", "size on disk", _megabytes(venv) - before, "MB", note="beside the empty environment")
        plan.figure("install", "packages", count, "")


def installed(folder: Path) -> Path:
    """The folder of commands of a light install of this tree, made there once and brought up to date."""
    venv = folder / "installed"
    done = venv / "requirements.txt"
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        _pip(venv, str(ROOT))
        done.write_text(wanted, encoding="utf-8")
    else:
        _pip(venv, "--force-reinstall", "--no-deps", str(ROOT))
    return _python(venv).parent


def _python(venv: Path) -> Path:
    return next(path for path in (venv / "bin" / "python", venv / "Scripts" / "python.exe") if path.exists())


def _pip(venv: Path, *what: str) -> None:
    _run([str(_python(venv)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what])


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
