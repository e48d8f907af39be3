"""Has conversations summarised once they rest: queues the job, and does it in steps.

Knows no thread of its own but one for a question to a model, which nothing waits for at an end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import datetime, timedelta

from memos_mcp.cube import instant
from memos_mcp.errors import InvalidInput, MemosError, ModelUnavailable
from memos_mcp.jobs import Job
from memos_mcp.ledger import unsummarised
from memos_mcp.ledger.unsummarised import Waiting
from memos_mcp.memory_api import summarise
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.summarise import Part
from memos_mcp.operators import reading, retelling, summary
from memos_mcp.operators.reading import BadAnswer
from memos_mcp.operators.reading import Turn as Read
from memos_mcp.ports import LanguageModel
from memos_mcp.scheduler.queued import Queued
from memos_mcp.scheduler.runner import Turn, Work
from memos_mcp.store import Changed

log = logging.getLogger(__name__)

SUMMARISE = "summarise"
"""Kind of the job that summarises what rests; its payload is empty, for the ledger notes how far it is."""
REST = timedelta(hours=1)
"""How long nothing is said in a conversation until it rests."""
SOON = timedelta(minutes=1)
"""After what changed of a conversation is looked at: a former summary of it may tell what is no more so."""
ANSWERS_TRIED = 2
MODEL_NOTE = "summarised-by-model"
"""The ledger's note of the memory that was written last when the store got its model: what was said before is not sent
to it."""
POLL_S = 0.2


class Summaries:
    """Summaries by rules, or by the model that `model()` makes, which may raise InvalidInput; `mode`: off, rules or
    model."""

    def __init__(self, parts: Parts, mode: str, model: Callable[[], LanguageModel] | None) -> None:
        self._parts, self._on = parts, mode != "off"
        self._make = model if mode == "model" else None
        self._model: LanguageModel | None = None
        self._queued = Queued(parts, SUMMARISE)
        self._end_listening: Callable[[], None] | None = None

    def works(self) -> dict[str, Work]:
        """How its jobs are done."""
        return {SUMMARISE: Work(self._summarise, heavy=True)}

    def start(self) -> None:
        """Listen for what is said and changed, and have done what a former process left."""
        if not self._on:
            return
        if self._make is not None:
            self._mind_the_past()
        self._end_listening = self._parts.events.listen(self._notice)
        with self._parts.ledger.read() as connection:
            waits = unsummarised.first(connection)
        if waits is not None:
            self._queued.ask(instant(self._parts.now() + SOON))

    def stop(self) -> None:
        """Listen no more; may be called twice."""
        if self._end_listening is not None:
            self._end_listening()

    def _notice(self, changed: Changed) -> None:
        if changed.said:
            urgent = changed.archived or not changed.listing
            self._queued.ask(instant(self._parts.now() + (SOON if urgent else REST)), sooner=urgent)

    def _summarise(self, _job: Job, turn: Turn) -> None:
        if not self._on:
            return
        self._queued.begun()
        parts = self._parts
        from_model = self._from_model()
        while summarise.look(parts):
            turn.step()
        done = 0
        while (waiting := self._next()) is not None:
            from_model = self._conversation(waiting, turn, from_model)
            done += 1
            turn.step(done)
        with parts.ledger.read() as connection:
            since = unsummarised.first(connection)
        if since is not None:
            rests = datetime.fromisoformat(since) + REST if since else parts.now()
            self._queued.ask(instant(max(rests, parts.now() + SOON)))

    def _next(self) -> Waiting | None:
        with self._parts.ledger.read() as connection:
            return unsummarised.due(connection, instant(self._parts.now() - REST))

    def _mind_the_past(self) -> None:
        """Note from which memory on a model may read, when the store has one for the first time."""
        ledger, vault = self._parts.ledger, self._parts.vault
        with ledger.write() as connection:
            if ledger.get(connection, MODEL_NOTE) is None:
                ledger.put(connection, MODEL_NOTE, str(vault.last(connection)))

    def _from_model(self) -> int | None:
        """The memory behind which a model may read; None: there is no model."""
        if self._make is None:
            return None
        with self._parts.ledger.read() as connection:
            return int(self._parts.ledger.get(connection, MODEL_NOTE) or 0)

    def _conversation(self, waiting: Waiting, turn: Turn, from_model: int | None) -> int | None:
        """Summarise one conversation; returns `from_model`, or None once the model cannot be reached."""
        parts, taken, after = self._parts, set[str](), 0
        while True:
            turns, place = summarise.turns_of(parts, waiting, after)
            for part in summarise.divided(parts, waiting, turns, taken):
                if summarise.is_due(part):
                    kept, from_model = self._part(waiting, part, turn, from_model)
                    taken |= {kept} if kept is not None else set()
                turn.step()
            if place is None:
                break
            after = place
        summarise.end_others(parts, waiting, taken)
        summarise.settle(parts, waiting)
        return from_model

    def _part(
        self, waiting: Waiting, part: Part, turn: Turn, from_model: int | None
    ) -> tuple[str | None, int | None]:
        """The id of the summary that was written, if one was; and `from_model` as `_conversation` returns it."""
        told: tuple[str, str] | None = None
        if from_model is not None and part.turns[0].seq > from_model:
            try:
                told = self._retold(part, turn)
            except (ModelUnavailable, InvalidInput) as error:
                log.warning("summaries are made by rules this time: %s", error)
                from_model = None
        if told is not None:
            return summarise.keep(self._parts, waiting, part, *told), from_model
        text = summary.summary(part.said(), summarise.words)
        kept = None if text is None else summarise.keep(self._parts, waiting, part, text, None)
        return kept, from_model

    def _retold(self, part: Part, turn: Turn) -> tuple[str, str] | None:
        """What the model makes of the turns, and its name; None if it does not answer as it should.

        Raises:
            ModelUnavailable, InvalidInput: it cannot be reached now.
        """
        said = [Read(one.text, one.speaker, None, one.day, own=True) for one in part.said()]
        for _ in range(ANSWERS_TRIED):
            asked = _Question(self._asked, reading.question(said))
            while (answer := asked.answer(POLL_S)) is None:
                turn.step()  # raises at the end of the program, which waits for no model
            try:
                return retelling.read(answer[1], answer[0]), answer[0]
            except BadAnswer as error:
                log.warning("%s gave no JSON of the schema (%s) for a summary", answer[0], error)
        return None

    def _asked(self, question: str) -> tuple[str, str]:
        assert self._make is not None
        if self._model is None:
            self._model = self._make()
        answer = self._model.answer(retelling.INSTRUCTIONS, question)
        return self._model.name, answer


class _Question:
    """A question that is asked in a thread of its own, so that nobody has to wait for the answer."""

    def __init__(self, ask: Callable[[str], tuple[str, str]], question: str) -> None:
        self._ask, self._question = ask, question
        self._answered: Future[tuple[str, str]] = Future()
        threading.Thread(target=self._run, name="summary", daemon=True).start()

    def answer(self, wait_s: float) -> tuple[str, str] | None:
        """The model's name and its answer; None while there is none. Raises what asking raised."""
        wait([self._answered], wait_s)
        return self._answered.result() if self._answered.done() else None

    def _run(self) -> None:
        try:
            self._answered.set_result(self._ask(self._question))
        except MemosError as error:
            self._answered.set_exception(error)
        finally:
            if not self._answered.done():
                self._answered.set_exception(ModelUnavailable("The question ended without an answer: see the log."))
