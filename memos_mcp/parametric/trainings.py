"""Which trainings the store may do and is doing, and how one is ended when it must not go on.

Knows neither what is taught nor who may have it taught, and nothing of how a trainer works.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from memos_mcp.errors import InvalidInput, TrainerUnavailable
from memos_mcp.ledger import adapters
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.parametric.base_model import BaseModel
from memos_mcp.parametric.registry import Adapters
from memos_mcp.parametric.trainer import Limits, Trainer
from memos_mcp.ports import LanguageModel

END_WAIT_S = 30.0
"""Seconds for which it is waited for a training that was told to end, before its files are removed."""
NO_BASE = (
    "There is no base model to train adapters for: name the Hugging Face folder of the store's model with "
    "`memos-mcp config base_model FOLDER`, then restart with `memos-mcp stop`."
)
OFF = "Training is off in this store: `memos-mcp config train ask` lets it be asked for; then `memos-mcp stop`."
Consent = Literal["ask", "auto", "off"]


@dataclass(frozen=True)
class Wishes:
    """What the store is set to. `base`: the folder of the base model; `retrains`: whether an adapter is trained anew
    when what it was trained on changes; `limits` of one training."""

    base: Path | None = None
    consent: Consent = "ask"
    retrains: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass
class _Running:
    concerned: frozenset[int]
    cancelled: threading.Event


class Trainings:
    """The trainings of a store. Safe to share between threads. `registry` takes over what was trained.

    `follow` is called when something that an adapter was trained on has changed, behind the transaction. `llm` makes
    the language model that is asked for further wordings; None where the store has none.
    """

    def __init__(self, ledger: Ledger, trainer: Trainer, registry: Adapters, wishes: Wishes) -> None:
        self.trainer, self.wishes, self.registry = trainer, wishes, registry
        self.follow: Callable[[], None] = _nothing
        self.llm: Callable[[], LanguageModel] | None = None
        self._ledger = ledger
        self._lock = threading.Condition()
        self._running: dict[str, _Running] = {}
        self._concerned: set[int] = set()
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
        return self.registry.bases.base()

    @property
    def able(self) -> bool:
        """Whether something could be trained here."""
        try:
            self.base()
        except (TrainerUnavailable, InvalidInput):
            return False
        return True

    @property
    def stopping(self) -> bool:
        """Whether nothing is trained any more, for the program ends."""
        return self._stopping

    @property
    def is_ending(self) -> bool:
        """Whether a training was told to end and has not ended yet."""
        with self._lock:
            return any(one.cancelled.is_set() for one in self._running.values())

    def workplace(self, adapter: str) -> Path:
        """Where an adapter, named by its cube's id, is trained."""
        return self.registry.workplace(adapter)

    def start(self) -> None:
        """Learn what there is; called once, before anything runs."""
        with self._ledger.read() as connection:
            self._concerned = adapters.concerned(connection)

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

    def await_end(self, seqs: Sequence[int]) -> None:
        """Wait, a bounded time, until nothing is trained any more that concerns one of these memories."""
        self._end(seqs)
        with self._lock:
            self._lock.wait_for(lambda: not self._of(seqs), END_WAIT_S)

    def clear(self, adapter: str) -> None:
        """Remove what the training of an adapter needed, and left."""
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
