"""Activation memory in one place: what the verbs ask, and what works behind them.

Knows no verb and no caller. A thread of its own builds what was promoted, writes down what is worth keeping, and after
a start brings back what was warm; the model is loaded when it is first needed, or where something warm is kept.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection
from ulid import ULID

from memos_mcp.activation.blocks import Blocks
from memos_mcp.activation.catalogue import Budgets, Catalogue, NotKept
from memos_mcp.activation.composer import Composed, Composer
from memos_mcp.activation.composition import EXACT, Composition, Rarity, approximate
from memos_mcp.activation.conversations import Conversations
from memos_mcp.activation.engine import ContextFull, Engine, JobCancelled, SequenceGone, StateRejected, Turn
from memos_mcp.activation.entries import Entry, Step, Text
from memos_mcp.activation.retention import WARM
from memos_mcp.activation.state_file import StateRefused
from memos_mcp.activation.steering import SteeringVectors
from memos_mcp.cube import Cube, instant
from memos_mcp.errors import EngineLost, EngineUnavailable, InvalidInput, MemosError, StorageFailed
from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.jobs import Job, Jobs
from memos_mcp.ledger import figures, kept_states
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.policies import use
from memos_mcp.policies.heat import heat
from memos_mcp.states import LIVE
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

ACTIVATE = "activate"
"""Kind of the job that reads promoted memories; payload {"set": number}."""
STEER = "steer"
"""Kind of the job that makes a steering vector; payload {"cube": number}, counted in memories."""
KINDS = (ACTIVATE, STEER)
ATTEMPTS = 4
"""How often a job is tried while the store cannot be written; a worker that was lost is replaced at once, one time."""
PERCENT = 100
"""What a job's progress is counted in: how many tokens there are is known only to the model."""
PROGRESS_S = 0.5
"""Seconds between two notes of a job's progress."""
SAMPLED = 500
"""Memories of which it is counted how rare tokens are: the latest."""
USES_S = 30.0
"""Seconds after which uses of states are carried into the ledger."""
Task = Callable[[], None]


class ActivationMemory:
    """States of the local model. Safe to share between threads; `close` may be called twice."""

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        jobs: Jobs,
        engine: Engine,
        folder: Path,
        budgets: Budgets,
        now: Callable[[], datetime],
        composition: Composition = EXACT,
        constants: HeatConstants = STANDARD,
    ) -> None:
        self._ledger, self._vault, self._jobs, self._now = ledger, vault, jobs, now
        self.engine = engine
        self.catalogue = Catalogue(ledger, engine, folder, budgets, now, constants)
        self.composer = Composer(self.catalogue)
        self.composition = composition
        blocks = Blocks(self.composer, composition, Rarity(self._sample))
        self._way: Composer | Blocks = self.composer if composition.exact else blocks
        self.compose = self._way.compose
        """A sequence that holds given memories, put together in the store's own way: see `Composer.compose`."""
        self.conversations = Conversations(self.composer, self._way)
        self.steering = SteeringVectors(ledger, vault, self.catalogue, folder, now)
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._finished: dict[str, threading.Event] = {}
        self._promoted: set[int] = set()
        self._pending = 0
        self._lock = threading.Lock()
        self._stopping = self._ended = threading.Event()
        self._doing: str | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Mend what a crash left, and go on with what was begun."""
        self.catalogue.open()
        self.catalogue.mended += self.steering.open()
        self._thread = threading.Thread(target=self._run, name="activation", daemon=True)
        self._thread.start()
        if self._jobs.release(KINDS) or any(self._jobs.unfinished(kind) for kind in KINDS):
            self._later(self._do_jobs)
        with self._ledger.read() as connection:
            promoted = kept_states.promoted(connection)
            self._promoted = kept_states.all_promoted(connection)
        if promoted or self.catalogue.entries:
            self._later(self._warm_up)

    @property
    def busy(self) -> bool:
        """Whether something is being built or written, or about to be."""
        with self._lock:
            return self._pending > 0

    def stop(self) -> None:
        """End the background work after the step in progress, and the model; may be called twice."""
        with self._lock:
            self._stopping.set()
            self._ended.set()
        if self._thread is not None:
            self._later(None)
            self._thread.join()
            self._thread = None
            with suppress(MemosError):
                self.catalogue.write_uses()
        self.engine.close()

    def unmount(self, digests: Sequence[str]) -> None:
        """Keep no copy of adapters, named by their files' digests, in the model's process."""
        with suppress(EngineLost, EngineUnavailable):  # what is lost holds none
            for digest in digests:
                self.engine.forget_adapter(digest)

    def changed(self, seqs: Sequence[int]) -> None:
        """These memories were changed: their states are gone when this returns. What is promoted is read anew."""
        self.composer.changed(seqs)
        self.steering.changed(seqs)
        with self._lock:
            concerned = not self._promoted.isdisjoint(seqs)
        if concerned:
            self._later(self._renew_missing)

    # For the verbs.

    def texts(self, cubes: Sequence[Cube]) -> list[Text]:
        """The memories as the model reads them, in canonical order; loads the model."""
        heats = self._heats(cubes)
        return self.composer.texts(cubes, lambda cube: heats[cube.seq], instant(self._now()))

    def holds(self, steps: Sequence[Step]) -> bool:
        """Whether these memories, by number and version, are promoted and what holds them is in files."""
        entries = [self.catalogue.entries.get(key) for key in self._way.keys(steps)]
        return all(entry is not None and entry.promoted and bool(entry.number) for entry in entries)

    def is_conversation(self, name: str, principal: str) -> bool:
        """Whether the principal has a conversation of this id."""
        owners = [entry.owner for entry in list(self.catalogue.entries.values()) if entry.owner is not None]
        return any((owner.conversation, owner.principal) == (name, principal) for owner in owners)

    def keep_later(self, entry: Entry) -> None:
        """Write a state down behind the answer."""
        self._later(lambda: self.composer.keep(entry))

    def promote(self, connection: Connection, cubes: Sequence[Cube], principal: str | None = None) -> str:
        """Note that these memories are to be held as one state; returns the job, which `build` begins."""
        seqs = sorted(cube.seq for cube in cubes)
        number = kept_states.promote(connection, seqs)
        with self._lock:
            self._promoted.update(seqs)
        return self._jobs.create(connection, ACTIVATE, {"set": number}, PERCENT, principal=principal)

    def steer(self, connection: Connection, cube: Cube, sources: int, principal: str | None = None) -> str:
        """Note that the vector of this cube is to be made, of so many memories; returns the job, for `build`."""
        return self._jobs.create(connection, STEER, {"cube": cube.seq}, sources, principal=principal)

    def build(self, job: str) -> None:
        """Begin a job of `promote` or `steer`, whose transaction has ended."""
        with self._lock:
            self._finished[job] = threading.Event()
        self._later(self._do_jobs)

    def cancelled(self, job: Job) -> None:
        """A job was asked to end: what was to be held as one state is so no more; a vector is made when it is mounted.

        The model stops within the step in progress.
        """
        with self._lock:
            if self._doing == job.id:
                self._ended.set()
            elif (event := self._finished.pop(job.id, None)) is not None:
                event.set()
        if job.kind == ACTIVATE:
            self._give_up(int(job.payload["set"]))

    def _give_up(self, number: int) -> None:
        with self._ledger.write() as connection:
            kept_states.drop_set(connection, number)

    def wait(self, job: str, seconds: float) -> None:
        """Wait a bounded moment for a job to end."""
        with self._lock:
            event = self._finished.get(job)
        if event is not None:
            event.wait(seconds)

    def demote(self, connection: Connection, seqs: Sequence[int]) -> set[int]:
        """Take memories back to plaintext alone; returns those that were more. `drop_states` follows the commit."""
        gone = set(seqs)  # the catalogue's lock is never waited for within a transaction
        entries = [entry for entry in list(self.catalogue.entries.values()) if entry.owner is None]
        held = {seq for entry in entries for seq in entry.cubes & gone}
        kept_states.drop(connection, [entry.number for entry in entries if entry.number and entry.cubes & gone])
        return kept_states.demote(connection, seqs) | held

    def bring_ahead(self, steps: Sequence[Step]) -> None:
        """Bring what is kept of memories that are likely to be asked about near, behind the calls: their states into
        the context, or their blocks into memory. Nothing is read for it, and no model loaded; it waits for nobody."""
        wanted = set(steps)
        if self.catalogue.entries and self.engine.loaded and not self.busy:
            self._later(lambda: self._bring_likely(wanted))

    def drop_states(self, seqs: Sequence[int]) -> None:
        """Remove every state that holds one of these memories; conversations stay."""
        gone = set(seqs)
        with self.catalogue.lock:
            for entry in list(self.catalogue.entries.values()):
                if entry.owner is None and entry.cubes & gone:
                    self.catalogue.drop(entry, "its memories went back to plaintext")

    # Behind the calls.

    def _sample(self) -> list[tuple[int, ...]]:
        """The tokens of the latest memories, secret ones left out."""
        with self._ledger.read() as connection:
            cubes = self._vault.by_seqs(connection, kept_states.latest(connection, SAMPLED)).values()
        return [text.tokens for text in self.texts(list(cubes)) if text.keepable]

    def _heats(self, cubes: Sequence[Cube]) -> dict[int, float]:
        now, constants = self._now(), self.catalogue.constants
        with self._ledger.read() as connection:
            held = figures.standing(connection, [cube.seq for cube in cubes])
        return {
            cube.seq: heat(
                use.seen(held[cube.seq].figures if cube.seq in held else use.begun(cube.created), now, constants),
                cube.snapshot.importance, cube.snapshot.pinned, cube.snapshot.feedback, constants,
            )
            for cube in cubes
        }  # fmt: skip

    def _later(self, task: Task | None) -> None:
        with self._lock:
            self._pending += 1
        self._tasks.put(task)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                task = self._tasks.get(timeout=USES_S)
            except queue.Empty:
                with suppress(MemosError):  # they are carried over, and jobs looked for, the next time
                    self.catalogue.write_uses()
                    self._do_jobs()
                continue
            try:
                if task is not None and not self._stopping.is_set():
                    task()
            except MemosError as error:
                log.warning("states: %s", error)
            finally:
                with self._lock:
                    self._pending -= 1

    def _turn(self) -> Turn:
        return Turn("activation", background=True, cancelled=self._ended)

    def _do_jobs(self) -> None:
        """Do every job that is ready."""
        while not self._stopping.is_set() and (job := self._jobs.lease(KINDS, holder := str(ULID()))) is not None:
            ended = threading.Event()
            with self._lock:
                self._doing, self._ended = job.id, self._stopping if self._stopping.is_set() else ended
            try:
                self._do(job, holder, ended)
            finally:
                with self._lock:
                    self._doing, self._ended = None, self._stopping
                    event = self._finished.pop(job.id, None)
                if event is not None:
                    event.set()

    def _do(self, job: Job, holder: str, ended: threading.Event) -> None:
        """Do a job as its holder; it says how it went."""

        def progress(done: int) -> None:
            if not self._jobs.keep(job.id, holder, done):
                ended.set()

        try:
            if job.cancelled:
                raise JobCancelled
            if job.kind == STEER:
                self._make_steering(int(job.payload["cube"]), progress)
            else:
                self._hold(int(job.payload["set"]), progress)
            self._jobs.give_back(job.id, holder, state="done")
        except JobCancelled:
            log.info("job %s was cancelled, or goes on at the next start", job.id)
            with suppress(MemosError):
                self._jobs.give_back(job.id, holder, state="queued")
        except MemosError as error:
            passing = isinstance(error, StorageFailed) and not isinstance(error, NotKept)  # a disk may get room again
            with suppress(MemosError):
                self._jobs.fail(job.id, holder, str(error), ATTEMPTS if passing else 1)

    def _make_steering(self, seq: int, progress: Callable[[int], None]) -> None:
        """Make the vector of a cube, if it is still wanted; `progress` gets how many of its memories were read."""
        with self._ledger.read() as connection:
            cube = self._vault.by_seqs(connection, [seq]).get(seq)
        if cube is None or cube.state not in LIVE:
            return
        noted = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal noted
            if time.monotonic() - noted >= PROGRESS_S:
                noted = time.monotonic()
                progress(done)

        try:
            self.steering.make(cube, self._turn(), tell)
        except EngineLost:
            self.steering.make(cube, self._turn(), tell)  # by the worker that is started in place of the lost one

    def _hold(self, number: int, progress: Callable[[int], None]) -> None:
        """Make the state of a set, if it is not there; `progress` gets percent.

        Raises:
            InvalidInput: there is no room for it. NotKept: it could not be written; the set is given up in both cases.
        """
        try:
            self._read_set(number, progress)
        except (EngineLost, SequenceGone):
            self._read_set(number, progress)  # by the worker that is started in place of the lost one
        except (InvalidInput, ContextFull, NotKept):
            with self._ledger.write() as connection:
                kept_states.drop_set(connection, number)
            raise

    def _read_set(self, number: int, progress: Callable[[int], None]) -> None:
        with self._ledger.read() as connection:
            seqs = kept_states.promoted(connection).get(number, [])
            cubes = list(self._vault.by_seqs(connection, seqs).values())
        texts = [text for text in self.texts(cubes) if text.keepable]
        size, limit = sum(len(text.tokens) for text in texts), self.conversations.limit()
        if not texts:
            return
        if size > limit // 2:
            raise InvalidInput(
                f"These memories hold {size:,} tokens, and a state may hold {limit // 2:,}, half of the model's "
                "context: promote fewer at a time.", field="ids",
            )  # fmt: skip
        composed = self._composed(texts, progress)
        try:
            for key in self._way.keys([text.step for text in texts]):
                entry = self.catalogue.entries.get(key)
                if entry is not None and not (entry.number and entry.promoted):
                    entry.promoted = True
                    self.catalogue.save(entry)
                elif entry is None and self._stand([text.step for text in texts]):
                    raise NotKept("There is no room for the state: set states_ram_mb or states_disk_mb higher.")
        finally:
            self.composer.release(composed.sequence)

    def _stand(self, steps: Sequence[Step]) -> bool:
        """Whether these memories stand in these versions."""
        with self._ledger.read() as connection:
            return kept_states.stand(connection, steps)

    def _composed(self, texts: Sequence[Text], progress: Callable[[int], None]) -> Composed:
        noted = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal noted
            if time.monotonic() - noted > PROGRESS_S:
                noted = time.monotonic()
                progress(PERCENT * done // max(total, 1))

        return self.compose(texts, lambda _: True, self._turn(), tell)

    def _renew_missing(self) -> None:
        """Read the promoted sets anew whose states are gone, for a memory of theirs has changed."""
        self.catalogue.ready()
        with self._ledger.read() as connection:
            promoted = kept_states.promoted(connection)
            standing = kept_states.standing(connection, sorted({seq for held in promoted.values() for seq in held}))
        for number, held in promoted.items():
            if self.holds([(seq, standing[seq]) for seq in held]):
                continue
            try:
                self._hold(number, lambda _: None)
            except JobCancelled:
                return
            except MemosError as error:
                log.warning("a promoted state could not be made anew: %s", error)

    def _warm_up(self) -> None:
        """Bring what was warm into the context, and warm blocks into memory, warmest first; make promoted states that
        are not there."""
        self.catalogue.ready()
        self._renew_missing()
        room = self.conversations.limit() // 2
        heats = self.catalogue.heats(list(self.catalogue.entries.values()))
        for key in sorted(heats, key=lambda key: -heats[key]):
            entry = self.catalogue.entries.get(key)
            if entry is None or self._stopping.is_set():
                continue
            if not entry.mounted and (entry.promoted or heats[key] >= WARM):
                room -= self._bring(entry, room)

    def _bring_likely(self, wanted: set[Step]) -> None:
        room = self.conversations.limit() // 2
        for entry in list(self.catalogue.entries.values()):
            if self._stopping.is_set():
                return
            own = entry.owner is None and not entry.mounted and bool(entry.steps)
            if own and set(entry.steps) <= wanted:
                room -= self._bring(entry, room)

    def _bring(self, entry: Entry, room: int) -> int:
        """Bring a state into the context, if it has this many tokens or fewer, or a block into memory; returns the
        tokens of room that it takes."""
        block = not entry.is_prefix and entry.owner is None
        end = 0 if block else entry.turns[-1].end if entry.turns else entry.parts[-1].end
        there = entry.kept if block else entry.resident
        if there is not None or end > room or (block and approximate(entry.identity) != self.composition.name):
            return 0
        try:
            sequence, _ = self.catalogue.copy(entry) if block else self.catalogue.sequence(entry, None)
        except (StateRefused, StateRejected, SequenceGone) as error:
            if entry.owner is None:  # a conversation may be read again by whoever goes on with it
                self.catalogue.drop(entry, str(error))
        else:
            self.composer.release(sequence)
        return end
