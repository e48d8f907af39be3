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

    `templates`: whether one of the memories is a template, so that the list of prompts may be another; `archived`:
    whether one is in the archive; `said`: whether one is something that was said or happened. `channels` whose content
    changed are named by space and name. `job`: in place of all that, the background job whose row has changed.
    """

    cubes: tuple[str, ...]
    listing: bool
    spaces: tuple[tuple[int, str], ...]
    templates: bool = False
    archived: bool = False
    said: bool = False
    job: str | None = None
    channels: tuple[tuple[str, str], ...] = ()


class Events:
    """Publish and subscribe inside one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Changed], None]] = []
        self._watching_jobs: list[Callable[[Changed], None]] = []

    def listen(self, listener: Callable[[Changed], None], *, jobs: bool = False) -> Callable[[], None]:
        """Call `listener` after every change, on the thread that made it; returns what ends the listening.

        `jobs`: also after every note of a background job's progress, of which there is one a second.
        """
        with self._lock:
            self._listeners.append(listener)
            self._watching_jobs += [listener] if jobs else []

        def end() -> None:
            with self._lock:
                for listening in (self._listeners, self._watching_jobs):
                    if listener in listening:
                        listening.remove(listener)

        return end

    def publish(
        self,
        cubes: Sequence[str],
        spaces: Sequence[tuple[int, str]],
        *,
        listing: bool,
        templates: bool = False,
        archived: bool = False,
        said: bool = False,
        channels: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Tell every listener; the marks are those of `Changed`."""
        if cubes or spaces or channels:
            named = tuple(dict.fromkeys(spaces))
            changed = Changed(tuple(cubes), listing, named, templates, archived, said, channels=tuple(channels))
            self._tell(self._listeners, changed)

    def publish_job(self, job: str) -> None:
        """Tell those who listen to jobs too that a background job's row has changed."""
        self._tell(self._watching_jobs, Changed((), False, (), job=job))

    def _tell(self, those: Sequence[Callable[[Changed], None]], changed: Changed) -> None:
        with self._lock:
            listeners = list(those)
        for listener in listeners:
            listener(changed)
