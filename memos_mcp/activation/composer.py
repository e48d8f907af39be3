"""A sequence of the model that holds given memories: as much of it as is known already, and the rest read now.

Knows nothing of questions and answers. Memories stand in canonical order, as they were written, each a reading of its
own, so that the same memories are the same state, and sets that begin alike share their beginning.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from memos_mcp.activation import reading, retention
from memos_mcp.activation.catalogue import Catalogue
from memos_mcp.activation.engine import ANYONE, ContextFull, Resident, SequenceGone, StateRejected, Turn
from memos_mcp.activation.entries import PLAIN, Entry, How, Mount, Step, Text, key_of, parts_of
from memos_mcp.activation.reading import Form
from memos_mcp.activation.state_file import StateRefused
from memos_mcp.cube import Cube
from memos_mcp.errors import EngineLost, EngineUnavailable, StorageFailed

log = logging.getLogger(__name__)

MOST_TEXTS = 5_000
"""Memories whose tokens are remembered."""
TRIES = 8
"""States that may turn out unusable before the texts are read without looking for any."""
Progress = Callable[[int, int], None]


@dataclass
class Composed:
    """A sequence that holds memories; whoever asked for it drops it.

    `hows` says for each memory where it was; `notes` are sentences about states that could not be used. Seconds:
    `attach_s` until the known part was there, `read_s` for the rest.
    """

    sequence: Resident
    tokens: tuple[int, ...]
    texts: tuple[Text, ...]
    hows: tuple[How, ...]
    tokens_read: int
    attach_s: float
    read_s: float
    entry: Entry | None = None
    """The state of just these memories, if it is known now."""
    keep: tuple[Entry, ...] = ()
    """States that are to be kept beyond the context, and are not yet."""
    notes: tuple[str, ...] = ()
    begun_from: How = "read"
    """Where the conversation was that this goes on with."""
    approximate: str | None = None
    """How it was composed, if it is not what reading the texts would give."""


@dataclass
class _Found:
    """How far a known state goes."""

    sequence: Resident
    how: How
    depth: int
    length: int
    entry: Entry | None
    notes: list[str] = field(default_factory=list)


class Composer:
    """Composes states. Safe to share between threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue, self.engine = catalogue, catalogue.engine
        self._tokens: OrderedDict[int, tuple[int, tuple[int, ...]]] = OrderedDict()
        self._running: dict[int, tuple[frozenset[int], threading.Event]] = {}
        self._calls = 0
        self._lock = threading.Lock()

    def form(self) -> Form:
        """The words around memories and questions for this model."""
        return reading.form_for(self.catalogue.ready().chat_template)

    def keys(self, steps: Sequence[Step]) -> list[str]:
        """The names of the states that hold these memories once they are read: of one for all of them."""
        return [key_of(self.catalogue.ready().identity, sorted(steps))]

    def size(self, tokens: int, mount: Mount = PLAIN) -> int:
        """The room that a memory of so many tokens takes in the context."""
        return tokens

    def tokenize(self, text: str, special: bool) -> tuple[int, ...]:
        """Tokens of a text, without any that begins a sequence."""
        return self.engine.tokenize(text, special=special)

    def texts(self, cubes: Sequence[Cube], heats: Callable[[Cube], float], now: str) -> list[Text]:
        """The memories as the model reads them, in canonical order."""
        return [self._text(cube, heats(cube), now) for cube in sorted(cubes, key=lambda cube: cube.seq)]

    def _text(self, cube: Cube, heat: float, now: str) -> Text:
        said = cube.snapshot
        keepable = cube.is_alive(now) and said.sensitivity != "secret"
        with self._lock:
            version, tokens = self._tokens.get(cube.seq, (0, ()))
        if version != cube.version:
            tokens = self.tokenize(reading.text_of(cube), False)
            with self._lock:
                if keepable:
                    self._tokens[cube.seq] = (cube.version, tokens)
                while len(self._tokens) > MOST_TEXTS:
                    self._tokens.popitem(last=False)
        return Text(cube.seq, cube.id, cube.version, tokens, heat, said.pinned, keepable)

    @contextmanager
    def watching(self, seqs: Iterable[int]) -> Iterator[threading.Event]:
        """An event that is set if one of these memories changes while the block lasts."""
        event = threading.Event()
        with self._lock:
            self._calls += 1
            call = self._calls
            self._running[call] = frozenset(seqs), event
        try:
            yield event
        finally:
            with self._lock:
                del self._running[call]

    def changed(self, seqs: Sequence[int]) -> None:
        """These memories were changed: nothing of their former versions is kept, and who reads them now is stopped."""
        gone = set(seqs)
        with self._lock:
            for seq in gone:
                self._tokens.pop(seq, None)
            for held, event in self._running.values():
                if held & gone:
                    event.set()
        self.catalogue.changed(seqs)

    def compose(
        self,
        texts: Sequence[Text],
        may_read: Callable[[int], bool],
        turn: Turn = ANYONE,
        progress: Progress = lambda done, total: None,
        mount: Mount = PLAIN,
    ) -> Composed:
        """A sequence that holds these memories, which are in canonical order and all the caller's to read.

        A known state is used only if every memory in it `may_read`, and if it was read under the same `mount`.

        Raises:
            ContextFull: they have no room in the model's context. JobCancelled: as `turn` says. EngineLost,
            EngineUnavailable.
        """
        head = self.catalogue.opening(self.catalogue.ready())
        begun = time.perf_counter()
        found = self._known(head, texts, may_read, mount)
        attached = time.perf_counter()
        tokens = head + tuple(token for text in texts for token in text.tokens)
        whole = False
        hows: list[How] = [found.how if place < found.depth else "read" for place in range(len(texts))]
        try:
            read = self._read(found, head, texts, tokens, turn, progress)
            composed = Composed(
                found.sequence, tokens, tuple(texts), tuple(hows), read, attached - begun,
                time.perf_counter() - attached, notes=tuple(found.notes),
            )  # fmt: skip
            self._note(composed, found, len(head), mount)
            whole = True
        finally:
            if not whole:
                self.release(found.sequence)
        return composed

    def release(self, sequence: Resident) -> None:
        """Give a sequence up."""
        with suppress(SequenceGone, EngineLost, EngineUnavailable):
            self.engine.drop(sequence)

    def _known(
        self, head: tuple[int, ...], texts: Sequence[Text], may_read: Callable[[int], bool], mount: Mount
    ) -> _Found:
        """The longest beginning that is known, as a sequence; an empty one where nothing is."""
        catalogue, steps, notes = self.catalogue, [*mount.way, *(text.step for text in texts)], list[str]()
        own = {text.seq for text in texts}

        def allowed(key: str) -> bool:
            return all(may_read(seq) for seq in catalogue.entries[key].cubes - own)

        for _ in range(TRIES):
            with catalogue.lock:
                keys, depth = catalogue.tree.longest(steps, allowed)
                depth -= len(mount.way)
                if depth <= 0:
                    break
                entry = min((catalogue.entries[key] for key in keys), key=_nearest)
                entry.mounts = mount.mounts
                length = entry.parts[depth - 1].end
                wanted = head + tuple(token for text in texts[:depth] for token in text.tokens)
                try:
                    sequence, how = catalogue.sequence(entry, length)
                except (StateRefused, StateRejected) as error:
                    notes.append(str(error))
                    catalogue.drop(entry, str(error))
                    continue
                except SequenceGone:
                    catalogue.drop(entry, "it was in the context of a model that ended")
                    continue
                if (entry.tokens or ())[:length] == wanted:
                    catalogue.note_use(entry)
                    return _Found(sequence, how, depth, length, entry, notes)
                self.release(sequence)
                catalogue.drop(entry, "it was made of another text")
        return _Found(catalogue.with_room(lambda: self.engine.open(mount.mounts)), "read", 0, 0, None, notes)

    def _read(
        self,
        found: _Found,
        head: tuple[int, ...],
        texts: Sequence[Text],
        tokens: tuple[int, ...],
        turn: Turn,
        progress: Progress,
    ) -> int:
        """Read what is not known; returns how many tokens that were."""
        total, done = len(tokens) - found.length, 0
        pieces = [text.tokens for text in texts[found.depth :]]
        for piece in [head, *pieces] if not found.length else pieces:
            if not piece:
                continue
            before = done

            def tell(read: int, _of: int, before: int = before) -> None:
                progress(before + read, total)

            self.read(found.sequence, piece, turn, tell)
            done += len(piece)
            progress(done, total)
        return done

    def read(self, sequence: Resident, tokens: Sequence[int], turn: Turn, tell: Progress | None = None) -> None:
        """Read on, with what room can be made for it. Raises as `compose` does."""
        self.catalogue.with_room(lambda: self.engine.read(sequence, tokens, turn, tell))

    def _note(self, composed: Composed, found: _Found, start: int, mount: Mount) -> None:
        """Know the state of just these memories, and whether it is worth keeping."""
        texts = composed.texts
        if not texts or not all(text.keepable for text in texts):
            return
        asked_before = False
        if found.entry is not None and found.entry.steps == tuple(text.step for text in texts):
            composed.entry, asked_before = found.entry, True
        else:
            composed.entry = self._remember(composed, start, mount)
        entry = composed.entry
        if entry is not None and not entry.number:
            size = len(composed.tokens) if asked_before else composed.tokens_read
            pinned = any(text.pinned for text in texts)
            if retention.worth_keeping(size, [text.heat for text in texts], pinned, asked_before):
                composed.keep = (entry,)

    def _remember(self, composed: Composed, start: int, mount: Mount) -> Entry | None:
        """The new state, in the context by a second sequence that shares the first one's cells."""
        texts, catalogue = composed.texts, self.catalogue
        steps = tuple(text.step for text in texts)
        identity = catalogue.ready().identity
        key = key_of(identity, steps, mount.identity)
        entry = Entry(
            key, steps, parts_of(texts, start), composed.tokens, identity, tokens_read=composed.tokens_read, head=start,
            mounted=mount.identity, mounts=mount.mounts, under=mount.steps,
        )  # fmt: skip
        with catalogue.lock:
            if key in catalogue.entries or not catalogue.is_current(entry):
                return catalogue.entries.get(key)
            try:
                entry.resident = catalogue.with_room(lambda: self.engine.attach(composed.sequence))
            except ContextFull:
                return None
            catalogue.know(entry)
            catalogue.note_use(entry)
        return entry

    def keep(self, entry: Entry) -> None:
        """Write a state that is worth it into a file; what stands in the way of that is logged."""
        try:
            self.catalogue.save(entry)
        except (StorageFailed, SequenceGone, EngineLost, EngineUnavailable) as error:
            log.info("state %s was not kept: %s", entry.key, error)


def _nearest(entry: Entry) -> tuple[int, int]:
    """Sorts the fastest way first, and of equal ones the shorter state."""
    return ("resident", "ram", "disk").index(entry.how), entry.parts[-1].end
