"""What a section of the benchmark is given: sizes, repeats, the stores and the report it fills.

Knows no section.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Figure, Report
from benchmarks.stores import Workplace


@dataclass(frozen=True)
class Plan:
    """A run: `quick` takes the small sizes and few repeats, whose figures are no claim's proof; `minutes` of soak."""

    work: Workplace
    report: Report
    quick: bool
    minutes: float
    server: str | None = None
    """The program that serves a model with a prefix cache, if one was named."""
    data: Path | None = None
    """Where conversations with known evidence lie, if a folder was named; nothing of it is kept."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Memories in the one space of a store."""
        return (1_000,) if self.quick else (1_000, 10_000, 100_000)

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 3

    @property
    def calls(self) -> int:
        """Calls of one round."""
        return 30 if self.quick else 100

    def figure(self, section: str, name: str, value: float | None, unit: str, target: float | None = None, *,
               at_least: bool = False, note: str = "") -> None:  # fmt: skip
        """Report a figure."""
        self.report.add(Figure(section, name, value, unit, target, at_least, note))

    def vectors_note(self, size: int) -> str:
        """Which of a store's vectors are generated."""
        generated = self.work.generated(size)
        return f"{generated:,} of {size:,} vectors generated" if generated else "all vectors real"


Section = Callable[[Plan], None]
