"""Whose turn it is: jobs of several callers take steps one after the other, so that nobody waits for a long one's end.

Knows nothing of what a step does. One thread uses it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

BACKGROUND_EVERY = 8
"""Background work gets one turn in so many while others wait."""

Steps = Generator[None, None, Any]
"""Does a step between two yields, and returns a job's result."""


@dataclass(eq=False)
class Job:
    """A call that is being carried out: `uses` are the sequences that nobody else may touch meanwhile."""

    number: int
    steps: Steps
    caller: str = ""
    background: bool = False
    short: bool = False
    uses: frozenset[int] = frozenset()
    cancelled: bool = False
    started: bool = False
    served: int = field(default=0, repr=False)


class Turns:
    """Jobs in the order of their arrival, and who was served when."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._served: dict[str, int] = {}
        self._turn = 0

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def find(self, number: int) -> Job | None:
        return next((job for job in self._jobs if job.number == number), None)

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)
        if not any(other.caller == job.caller for other in self._jobs):
            self._served.pop(job.caller, None)

    def next(self) -> Job | None:
        """The job whose turn it is; None if there is none.

        What is short goes first. Then the callers take turns, whoever waited longest; a caller's own jobs go one after
        the other. A job waits for every earlier one that uses the same sequence.
        """
        ready = self._ready()
        if not ready:
            return None
        short = next((job for job in ready if job.short), None)
        if short is not None:
            return short
        self._turn += 1
        behind = [job for job in ready if job.background]
        front = [job for job in ready if not job.background]
        due = behind if behind and (not front or self._turn % BACKGROUND_EVERY == 0) else front
        chosen = min(due, key=lambda job: self._served.get(job.caller, 0))  # of equal ones, the one that came first
        self._served[chosen.caller] = self._turn
        return chosen

    def _ready(self) -> list[Job]:
        ready, taken = [], set[int]()
        for job in self._jobs:
            if not taken & job.uses:
                ready.append(job)
            taken |= job.uses
        return ready
