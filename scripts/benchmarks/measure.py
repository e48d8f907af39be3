"""Figures with their targets, percentiles, and the line that says on what machine they were measured.

Knows nothing of what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.processes import kernel_of


@dataclass(frozen=True)
class Figure:
    """One measured value. `target` is an upper limit, or a lower one where `at_least`; None: there is no claim."""

    section: str
    name: str
    value: float | None
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a share of its target: with an upper limit, up to 1 is within it; with a lower one, from 1."""
        if self.value is None or not self.target:
            return None
        return self.value / self.target

    @property
    def verdict(self) -> str:
        """Whether the target is met: ok, OVER or UNDER; empty without a target."""
        if self.value is not None and self.target == 0 and not self.at_least:
            return "ok" if self.value <= 0 else "OVER"
        if self.ratio is None:
            return ""
        if self.at_least:
            return "ok" if self.ratio >= 1 else "UNDER"
        return "ok" if self.ratio <= 1 else "OVER"


@dataclass
class Report:
    """The figures of a run as they come in, each printed at once."""

    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Keep a figure and print its row."""
        self.figures.append(figure)
        print(row(figure), flush=True)

    def write(self, path: Path, quick: bool) -> None:
        """Keep everything as JSON."""
        figures = [{**asdict(f), "ratio": f.ratio, "verdict": f.verdict} for f in self.figures]
        content = {"environment": environment(), "quick": quick, "figures": figures, "failures": self.failures}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


HEAD = (
    "| section | figure | value | target | ratio | | note |\n"
    "|---|---|---:|---:|---:|---|---|"
)  # fmt: skip


def row(figure: Figure) -> str:
    """A figure as a row of a Markdown table."""
    value = "skipped" if figure.value is None else f"{_short(figure.value)} {figure.unit}".strip()
    target = "" if figure.target is None else f"{'≥' if figure.at_least else '≤'} {_short(figure.target)}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    cells = (figure.section, figure.name, value, target, ratio, figure.verdict, figure.note)
    return "| " + " | ".join(cells) + " |"


def environment() -> dict[str, str]:
    """What the figures depend on beside the code."""
    packages = ("chromadb", "onnxruntime", "numpy", "mcp", "SQLAlchemy")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "cores": str(os.cpu_count()),
        "load": load,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in packages},
    }


def environment_line() -> str:
    """The environment in one line."""
    return ", ".join(f"{name} {value}" for name, value in environment().items())


def milliseconds(seconds: Iterable[float], share: float) -> float:
    """The percentile `share` (0..1) of times, in milliseconds."""
    ordered = sorted(seconds)
    return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def p50_note(rounds: Sequence[Sequence[float]]) -> str:
    """The median of each round, by which the noise of the machine shows."""
    return "p50 of each round " + " ".join(f"{1e3 * statistics.median(times):.1f}" for times in rounds)


def resident_mb(process: int, home: Path) -> float:
    """Resident memory of a server: its process, those below it, and whoever owns the data directory, in MB."""
    return float(sum(found.memory_info().rss for found in _processes(process, home))) / 2**20


def open_descriptors(process: int, home: Path) -> int:
    """Open file descriptors of the same processes."""
    return sum(found.num_fds() for found in _processes(process, home))


def _processes(process: int, home: Path) -> set[psutil.Process]:
    found = psutil.Process(process)
    everyone = {found, *found.children(recursive=True)}
    with contextlib.suppress(psutil.NoSuchProcess):
        if (owner := kernel_of(home)) is not None:
            everyone.add(psutil.Process(owner))
    return everyone


def _short(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
