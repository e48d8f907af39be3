"""Draws statements out of new turns behind the calls: by rules at once, by a model in batches when it can be reached.

Knows no protocol. The ledger notes up to which memory turns are read, so that nothing is read twice and a crash loses
nothing; an addition neither waits for this nor fails with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memos_mcp.cube import Cube
from memos_mcp.errors import InvalidInput, MemosError, ModelUnavailable
from memos_mcp.memory_api import extract
from memos_mcp.memory_api.extract import Found
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators import reading
from memos_mcp.operators.extraction import extract as by_rules
from memos_mcp.operators.reading import BadAnswer, Turn
from memos_mcp.operators.statements import Extracted
from memos_mcp.ports import LanguageModel
from memos_mcp.states import LIVE
from memos_mcp.store import Changed

log = logging.getLogger(__name__)

RULES_NOTE, MODEL_NOTE = "extracted-by-rules", "extracted-by-model"
"""The ledger's notes of the last memory that was read in each way."""
RULES_BATCH = 64
MODEL_BATCH, MODEL_CHARS = 8, 12_000
"""Turns of one session, and their characters, that a model reads at a time."""
NOTE_EVERY = 512
"""Memories without a statement after which the note is written, so that a start need not read them again."""
GATHER_S = 1.0
"""Seconds for which a model waits for more of a conversation, unless a batch is full."""
FIRST_RETRY_S, LAST_RETRY_S = 15.0, 3_600.0
"""Seconds after which a model that could not be reached is asked again, doubled each time up to the last."""
STORAGE_RETRY_S = 30.0
STOP_S = 5.0
"""Seconds that an end waits for a model's answer; what comes later is read again after the next start."""
ANSWERS_TRIED = 2
"""Answers that are no JSON of the schema after which a batch is left to the rules."""


@dataclass
class _Place:
    """How far one way of reading is, and how far the ledger says it is."""

    note: str
    at: int = 0
    noted: int = 0


class Extractor:
    """A thread of its own. `model()` makes the model, and may raise InvalidInput; None: rules alone."""

    def __init__(self, parts: Parts, model: Callable[[], LanguageModel] | None) -> None:
        self._parts, self._make = parts, model
        self._model: LanguageModel | None = None
        self._rules, self._by_model = _Place(RULES_NOTE), _Place(MODEL_NOTE)
        self._wake, self._writing = threading.Condition(), threading.Lock()
        self._first = 0
        """The last memory that was there when it was started."""
        self._work = True
        self._stopping = self._abandoned = self._begun = False
        self._changed: set[str] = set()
        self._retry_s, self._model_from = FIRST_RETRY_S, 0.0
        self.busy = True
        """Whether there is something to do now; what only waits for a retry is not."""

    def start(self) -> None:
        """Listen for changes and begin with what was left."""
        with self._parts.ledger.read() as connection:  # here, for the thread may begin after the first call
            self._first = self._parts.vault.last(connection)
        self._end_listening = self._parts.events.listen(self._notice)
        self._thread = threading.Thread(target=self._run, name="extractor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in progress; may be called twice. A question to a model is not waited for."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if hasattr(self, "_thread"):
            self._end_listening()
            self._thread.join(None if self._make is None else STOP_S)
            with self._writing:
                self._abandoned = True

    def _notice(self, changed: Changed) -> None:
        if not changed.cubes:
            return
        with self._wake:
            self._work = self.busy = True
            self._changed.update(changed.cubes)
            self._wake.notify_all()

    def _run(self) -> None:
        while self._wait():
            try:
                if not self._begun:
                    self._begin()
                self._take_back()
                self._read_by_rules()
                if self._make is not None and time.monotonic() >= self._model_from:
                    self._read_by_model(self._make)
                    self._retry_s = FIRST_RETRY_S
            except (ModelUnavailable, InvalidInput) as error:
                self._model_from = time.monotonic() + self._retry_s
                log.warning("the model is asked again in %d seconds: %s", self._retry_s, error)
                self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            except MemosError as error:
                log.warning("extraction is tried again in %d seconds: %s", STORAGE_RETRY_S, error)
                with self._wake:
                    self._work, self.busy = True, False
                    self._wake.wait_for(lambda: self._stopping, STORAGE_RETRY_S)
        try:
            self._note()
        except MemosError as error:
            log.warning("how far extraction came is not noted: %s", error)

    def _wait(self) -> bool:
        """Wait for work, or for the time at which a model that failed is asked again; False at the end."""
        with self._wake:
            self.busy = self._work
            rest_s = self._model_from - time.monotonic()
            self._wake.wait_for(lambda: self._work or self._stopping, rest_s if rest_s > 0 else None)
            self._work, self.busy = False, True
            return not self._stopping

    def _begin(self) -> None:
        """Find the places: rules read everything that is kept, a model what is said from its first day on."""
        ledger = self._parts.ledger
        with ledger.read() as connection:
            by_rules_upto, by_model_upto = ledger.get(connection, RULES_NOTE), ledger.get(connection, MODEL_NOTE)
        self._rules.at = self._rules.noted = int(by_rules_upto or 0)
        self._by_model.at = self._by_model.noted = int(by_model_upto if by_model_upto is not None else self._first)
        if self._make is not None and by_model_upto is None:
            with ledger.write() as connection:
                ledger.put(connection, MODEL_NOTE, str(self._first))
        self._begun = True

    def _take_back(self) -> None:
        with self._wake:
            changed, self._changed = self._changed, set()
        if changed:
            extract.take_back(self._parts, sorted(changed))

    def _next(self, place: _Place, limit: int) -> tuple[list[Cube], int]:
        """The next memories of kind dialogue, and the number up to which there are none further among them."""
        parts = self._parts
        parts.asking.step_aside()
        with parts.ledger.read() as connection:
            last = parts.vault.last(connection)
            cubes = parts.vault.of_kind(connection, "dialogue", place.at, limit) if last > place.at else []
        return cubes, cubes[-1].seq if len(cubes) == limit else max(last, place.at)

    def _keep(self, place: _Place, found: Sequence[Found], upto: int) -> None:
        with self._writing:
            if self._abandoned:
                return
            if any(one.statements for one in found):
                self._parts.adding.step_aside()
                extract.keep(self._parts, [one for one in found if one.statements], place.note, upto)
                place.noted = upto
        place.at = upto
        if place.at - place.noted >= NOTE_EVERY:
            self._note()

    def _note(self) -> None:
        ledger = self._parts.ledger
        for place in (self._rules, self._by_model):
            with self._writing:
                if place.at > place.noted and not self._abandoned:
                    with ledger.write() as connection:
                        ledger.put(connection, place.note, str(place.at))
                    place.noted = place.at

    def _read_by_rules(self) -> None:
        while not self._stopping:
            cubes, upto = self._next(self._rules, RULES_BATCH)
            now = self._parts.stamp()
            found = [Found(turn, _by_rules(turn)) for turn in cubes if extract.eligible(turn, now)]
            self._keep(self._rules, found, upto)
            if not cubes:
                return

    def _read_by_model(self, make: Callable[[], LanguageModel]) -> None:
        while not self._stopping:
            cubes, upto = self._next(self._by_model, MODEL_BATCH)
            if cubes and len(cubes) < MODEL_BATCH and self._gather():
                cubes, upto = self._next(self._by_model, MODEL_BATCH)
            batch = _together(cubes)
            if len(batch) < len(cubes):
                upto = batch[-1].seq
            found = self._asked(make, batch) if batch else []
            if self._stopping and batch and not found:
                return
            self._keep(self._by_model, found, upto)
            if not cubes:
                return

    def _gather(self) -> bool:
        """Wait a moment for the conversation to go on; False when the program ends."""
        with self._wake:
            return not self._wake.wait_for(lambda: self._stopping, GATHER_S)

    def _asked(self, make: Callable[[], LanguageModel], batch: Sequence[Cube]) -> list[Found]:
        """What the model finds in the turns; nothing where it does not answer as it should.

        Raises:
            ModelUnavailable: it cannot be reached now.
        """
        now = self._parts.stamp()
        turns = [
            Turn(c.snapshot.content, c.snapshot.name, c.snapshot.role, c.becomes_true[:10], extract.eligible(c, now))
            for c in batch
            if _readable(c)
        ]
        sent = [cube for cube in batch if _readable(cube)]
        if not any(turn.own for turn in turns):
            return []
        if self._model is None:
            self._model = make()
        for _ in range(ANSWERS_TRIED):
            if self._stopping:
                raise ModelUnavailable("The program ends.")
            try:
                answer = self._model.answer(reading.INSTRUCTIONS, reading.question(turns))
                statements = reading.read(answer, turns)
            except BadAnswer as error:
                log.warning("%s gave no JSON of the schema (%s) for turns %s", self._model.name, error,
                            ", ".join(cube.id for cube in sent))  # fmt: skip
                continue
            return [
                Found(cube, [statement for at, statement in statements if at == place], self._model.name)
                for place, cube in enumerate(sent)
            ]
        return []


def _by_rules(turn: Cube) -> list[Extracted]:
    said = turn.snapshot
    return by_rules(said.content, said.name, said.role, turn.becomes_true)


def _readable(turn: Cube) -> bool:
    """Whether a model may read a turn: an assistant's too, for what is answered to it, but none that is over."""
    return turn.state in LIVE and turn.snapshot.sensitivity != "secret"


def _together(cubes: Sequence[Cube]) -> list[Cube]:
    """The first of the turns that stand in one session of one space and are not too long together."""
    batch: list[Cube] = []
    length = 0
    for cube in cubes:
        length += min(len(cube.snapshot.content), reading.TURN_CHARS)
        same = not batch or (cube.space, cube.snapshot.session) == (batch[0].space, batch[0].snapshot.session)
        if batch and (not same or length > MODEL_CHARS):
            break
        batch.append(cube)
    return batch
