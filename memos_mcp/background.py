"""What works behind the calls of one store, as one list: begun in its order, ended in the opposite one.

Knows no worker: each has a thread of its own, or is told of changes by the threads of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol


class Worker(Protocol):
    """Works behind the calls from `start` to `stop`."""

    def start(self) -> None:
        """Begin, with what the last process left."""
        ...

    def stop(self) -> None:
        """End after the step in progress, and return once it has; may be called twice, and without a start."""
        ...


class Awake(Protocol):
    """A worker for which a process does not end of itself."""

    @property
    def busy(self) -> bool:
        """Whether something is being done, or about to be; what only waits for a retry is not."""
        ...


class Background:
    """The workers of a store. `stop` may be called twice.

    A worker that others hand work to stands before them: so it begins before they do, and ends after them. `awake` are
    those for whose work the process is kept.
    """

    def __init__(self, workers: Sequence[Worker], awake: Sequence[Awake]) -> None:
        self._workers, self._awake = workers, awake
        self._begun = ExitStack()

    def start(self) -> None:
        """Begin them all. Raises what a worker raises; `stop` then ends those that had begun, that one too."""
        for worker in self._workers:
            self._begun.callback(worker.stop)
            worker.start()

    def stop(self) -> None:
        """End them all, the last one first. Where one fails to, the others are ended still, and its error is raised."""
        self._begun.close()

    @property
    def busy(self) -> bool:
        """Whether background work is being done for which the process is kept."""
        return any(one.busy for one in self._awake)
