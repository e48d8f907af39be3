"""Which trainings the store may do and is doing, where their files lie, and how one is ended when it must not go on.

Knows neither what is taught nor who may have it taught, and nothing of how a trainer works.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memos_mcp.cube import Cube
from memos_mcp.errors import InvalidInput, TrainerUnavailable
from memos_mcp.ledger import adapters
from memos_mcp.ledger.adapters import AdapterState
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.parametric.base_model import BaseModel, read_base_model
from memos_mcp.parametric.trainer import Limits, Trainer

log = logging.getLogger(__name__)

END_WAIT_S = 30.0
"""Seconds for which it is waited for a training that was told to end, before its files are removed."""
WORKPLACE = "training"
"""Folder within an adapter's own that holds what training needs: a checkpoint, and at its end the adapter."""
NO_BASE = (
    "There is no base model to train adapters for: name the Hugging Face folder of the store's model with "
    "`memos-mcp config base_model FOLDER`, then restart with `memos-mcp stop`."
)
OFF = "Training is off in this store: `memos-mcp config train ask` lets it be asked for; then `memos-mcp stop`."
Consent = Literal["ask", "auto", "off"]
Keep = Callable[[Cube, Path, dict[str, Any], AdapterState], bool]
"""Takes a trained adapter, a peft folder, over with its report, in this state; False if it is not wanted any more."""


@dataclass(frozen=True)
class Wishes:
    """What the store is set to. `base`: the folder of the base model; `retrains`: whether an adapter is trained anew
    when what it was trained on changes; `limits` of one training."""

    base: Path | None = None
    consent: Consent = "ask"
    retrains: bool = False
    limits: Limits = Limits()


@dataclass
class _Running:
    concerned: frozenset[int]
    cancelled: threading.Event


class Trainings:
    """The trainings of a store. Safe to share between threads. `folder` holds the adapters, by the ids of their cubes.

    `follow` is called when something that an adapter was trained on has changed, behind the transaction.
    """

    def __init__(self, ledger: Ledger, trainer: Trainer, folder: Path, wishes: Wishes, keep: Keep) -> None:
        self.trainer, self.wishes, self.folder, self.keep = trainer, wishes, folder, keep
        self.follow: Callable[[], None] = _nothing
        self._ledger = ledger
        self._lock = threading.Condition()
        self._running: dict[str, _Running] = {}
        self._concerned: set[int] = set()
        self._base: tuple[object, BaseModel] | None = None
        self._stopping = False

    def base(self) -> BaseModel:
        """The store's base model.

        Raises:
            TrainerUnavailable: nothing is trained here: it is off, no base model is set, or something is not installed;
                the sentence says what to do. InvalidInput: the folder holds no model that adapters are made for.
        """
        if self.wishes.consent == "off":
            raise TrainerUnavailable(OFF)
        missing = self.trainer.missing()
        if missing is not None:
            raise TrainerUnavailable(missing)
        if self.wishes.base is None:
            raise TrainerUnavailable(NO_BASE)
        marks = _marks(self.wishes.base)
        with self._lock:
            if self._base is None or self._base[0] != marks:
                self._base = marks, read_base_model(self.wishes.base)
            return self._base[1]

    @property
    def able(self) -> bool:
        """Whether something could be trained here."""
        try:
            self.base()
        except (TrainerUnavailable, InvalidInput):
            return False
        return True

    def workplace(self, adapter: str) -> Path:
        """Where an adapter, named by its cube's id, is trained."""
        return self.folder / adapter / WORKPLACE

    def start(self) -> None:
        """Learn what there is, and remove the files of adapters that are gone; called once, before anything runs."""
        with self._ledger.read() as connection:
            self._concerned = adapters.concerned(connection)
            known = adapters.ids(connection)
        for stray in self.folder.iterdir() if self.folder.is_dir() else ():
            if stray.name not in known:
                shutil.rmtree(stray, ignore_errors=True)

    def enrolled(self, seqs: Sequence[int]) -> None:
        """An adapter and the memories that it is trained on are looked after from here."""
        with self._lock:
            self._concerned |= set(seqs)

    @contextmanager
    def running(self, job: str, seqs: Sequence[int]) -> Iterator[threading.Event]:
        """The event by which this training is told to end; it concerns these memories and the adapter's own cube."""
        one = _Running(frozenset(seqs), threading.Event())
        with self._lock:
            if self._stopping:
                one.cancelled.set()
            self._running[job] = one
        try:
            yield one.cancelled
        finally:
            with self._lock:
                self._running.pop(job, None)
                self._lock.notify_all()

    def changed(self, seqs: Sequence[int]) -> None:
        """A finished transaction changed these memories: what was trained on them is followed, a training ended."""
        with self._lock:
            if self._concerned.isdisjoint(seqs):
                return
        self._end(seqs)
        self.follow()

    def cancelled(self, job: str) -> None:
        """The job was asked to end."""
        with self._lock:
            if job in self._running:
                self._running[job].cancelled.set()

    def remove(self, seqs: Sequence[int], ids: Sequence[str]) -> None:
        """Remove every file of these adapters, or of what their trainings left; those in progress end first."""
        self._end(seqs)
        with self._lock:
            self._lock.wait_for(lambda: not self._of(seqs), END_WAIT_S)
        for adapter in ids:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.folder / adapter)

    def clear(self, adapter: str) -> None:
        """Remove what the training of an adapter needed."""
        shutil.rmtree(self.workplace(adapter), ignore_errors=True)

    def stop(self) -> None:
        """Have every training end after its step, with its checkpoint; none begins any more."""
        with self._lock:
            self._stopping = True
            for one in self._running.values():
                one.cancelled.set()

    def _end(self, seqs: Sequence[int]) -> None:
        with self._lock:
            for one in self._of(seqs):
                one.cancelled.set()

    def _of(self, seqs: Sequence[int]) -> list[_Running]:
        return [one for one in self._running.values() if not one.concerned.isdisjoint(seqs)]


def _nothing() -> None:
    """What follows where nobody listens."""


def _marks(folder: Path) -> object:
    """What changes when the files of a model's folder do."""
    found = [*folder.glob("*.safetensors"), folder / "config.json"]
    with contextlib.suppress(OSError):
        return folder, tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(found))
    return folder
