"""Tells listeners which memories and spaces changed, after the change is on disk.

Knows nothing of who listens or how they pass it on. Safe to share between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Changed:
    """One operation's effect: ids of memories, whether some appeared or went, and their spaces' numbers and names.

    `channels` whose content changed are named by space and name. `templates`: whether one of the memories is a
    template, so that the list of prompts may be another.
    """

    cubes: tuple[str, ...]
    listing: bool
    spaces: tuple[tuple[int, str], ...]
    templates: bool = False
    channels: tuple[tuple[str, str], ...] = ()


class Events:
    """Publish and subscribe inside one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Changed], None]] = []

    def listen(self, listener: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `listener` after every change, on the thread that made it; returns what ends the listening."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end

    def publish(
        self,
        cubes: Sequence[str],
        spaces: Sequence[tuple[int, str]],
        *,
        listing: bool,
        templates: bool = False,
        channels: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Tell every listener."""
        if not cubes and not channels:
            return
        with self._lock:
            listeners = list(self._listeners)
        changed = Changed(tuple(cubes), listing, tuple(dict.fromkeys(spaces)), templates, tuple(channels))
        for listener in listeners:
            listener(changed)
