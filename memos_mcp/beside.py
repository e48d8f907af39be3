"""What a call does beside itself: in another thread, or in its own where nothing is to be done behind it.

Knows nothing of what is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Something that several threads need, found by whichever of them asks first; the others wait for it."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._found: list[T] = []

    def __call__(self) -> T:
        """What was found. Raises what finding it raises; then the next to ask finds it anew."""
        with self._lock:
            if not self._found:
                self._found.append(self._find())
            return self._found[0]


class AtOnce(Executor):
    """Does what it is given at once, in the thread that gives it: a store that is lived with in one thread does the
    same in the same order every time."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The outcome, which is there already. Raises what doing it raises."""
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done
