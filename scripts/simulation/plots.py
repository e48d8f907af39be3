"""Draws a simulated year as pictures.

Knows nothing of how it was lived.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from simulation.year import Year

WEEK = 7


def draw(life: Year, everything: Year, folder: Path) -> list[Path]:
    """Write the pictures of a year with its life beside one in which everything is kept; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_states(life, folder / "states.png"), _recall(life, everything, folder / "recall.png")]


def _states(year: Year, path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(9, 4.5))
    names = sorted({name for day in year.states for name in day})
    axes.stackplot(range(len(year.states)), [[day.get(name, 0) for day in year.states] for name in names], labels=names)
    axes.set(xlabel="day", ylabel="memories", title="Memories by state")
    axes.legend(loc="upper left")
    return _written(figure, path)


def _recall(life: Year, everything: Year, path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(9, 4.5))
    for year, name in ((everything, "everything kept"), (life, "with its life")):
        weeks = range(0, len(year.asked), WEEK)
        shares = [sum(year.hits[week : week + WEEK]) / max(sum(year.asked[week : week + WEEK]), 1) for week in weeks]
        axes.plot(list(weeks), shares, label=f"{name}: {year.recall:.3f}")
    axes.set(xlabel="day", ylabel="share found, a week", ylim=(0, 1.02), title="Needed memories that were found")
    axes.legend(loc="lower left")
    return _written(figure, path)


def _written(figure: plt.Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
