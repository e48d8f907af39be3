"""A sequence of the model out of blocks: memories that were each read by itself, moved side by side.

Knows nothing of questions and answers. A block is a memory's cells, read behind the opening alone. It lies in the
engine's memory and in a file, and not in the context, where it would answer nothing by itself. Where there are two or
more, the sequence is an approximation: no memory has read another. It stays in the context until its room is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import TypeVar

from memos_mcp.activation.composer import Composed, Composer, Progress
from memos_mcp.activation.composition import Composition, Rarity
from memos_mcp.activation.engine import ANYONE, ContextFull, Resident, SequenceGone, StateRejected, Turn
from memos_mcp.activation.entries import PLAIN, Entry, How, Mount, Step, Text, key_of
from memos_mcp.activation.state_file import Part, StateRefused

MOST_JOINED = 8
"""Sequences that a composition holds at a time: what moves them costs about the same for two as for eight."""
NOT_SHIFTED = (
    "The store is set to a {name} composition, but this model's states cannot be moved (its KV type or its positions "
    "do not allow it): the memories were composed exactly. `memos-mcp config composition exact` ends this notice."
)

_T = TypeVar("_T")


@dataclass
class _Work:
    """A sequence in the making, and what is known of it."""

    opening: tuple[int, ...]
    identity: str
    turn: Turn
    progress: Progress
    total: int
    parts: list[Resident] = field(default_factory=list)
    """To be joined; the first begins with the opening."""
    tokens: list[int] = field(default_factory=list)
    hows: list[How] = field(default_factory=list)
    read: int = 0
    read_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    keep: list[Entry] = field(default_factory=list)


class Blocks:
    """Composes sequences of blocks, in place of a `Composer`. Safe to share between threads."""

    def __init__(self, composer: Composer, composition: Composition, rarity: Rarity) -> None:
        self._composer, self._composition, self._rarity = composer, composition, rarity
        self._catalogue, self._engine = composer.catalogue, composer.engine

    def keys(self, steps: Sequence[Step]) -> list[str]:
        """The names of the states that hold these memories once they are read: one for each."""
        facts = self._catalogue.ready()
        if not facts.can_shift:
            return self._composer.keys(steps)
        identity = self._composition.identity(facts.identity, self._catalogue.opening(facts))
        return [key_of(identity, [step]) for step in sorted(steps)]

    def size(self, tokens: int, mount: Mount = PLAIN) -> int:
        """The room that a memory of so many tokens takes in the context: of cells, or of positions that were learnt."""
        facts = self._catalogue.ready()
        if mount.identity or not facts.can_shift:
            return tokens
        share = min(facts.cells, facts.trained_context) / facts.trained_context
        return max(self._composition.cells(tokens), math.ceil(tokens * share))

    def compose(
        self,
        texts: Sequence[Text],
        may_read: Callable[[int], bool],
        turn: Turn = ANYONE,
        progress: Progress = lambda done, total: None,
        mount: Mount = PLAIN,
    ) -> Composed:
        """A sequence that holds these memories, as `Composer.compose` gives it, out of a block of each.

        Under a mount it is composed exactly; so it is where the model cannot move states, and says so. Raises as that
        does.
        """
        if mount.identity:
            return self._composer.compose(texts, may_read, turn, progress, mount)
        catalogue, begun = self._catalogue, time.perf_counter()
        facts = catalogue.ready()
        if not facts.can_shift:
            composed = self._composer.compose(texts, may_read, turn, progress)
            composed.notes += (NOT_SHIFTED.format(name=self._composition.name),)
            return composed
        opening = catalogue.opening(facts)
        identity = self._composition.identity(facts.identity, opening)
        work = _Work(opening, identity, turn, progress, len(opening) + sum(len(text.tokens) for text in texts))
        whole = False
        try:
            if not self._attach(work, texts):
                self._make(work, texts)
                self._stay(work, texts)
            whole = True
        finally:
            if not whole:
                for part in work.parts:
                    self._composer.release(part)
        return Composed(
            work.parts[0], tuple(work.tokens), tuple(texts), tuple(work.hows), work.read,
            time.perf_counter() - begun - work.read_s, work.read_s, keep=tuple(work.keep), notes=tuple(work.notes),
            approximate=self._composition.described if len(texts) > 1 or (texts and self._thins) else None,
        )  # fmt: skip

    @property
    def _thins(self) -> bool:
        return self._composition.one_in > 1

    def _attach(self, work: _Work, texts: Sequence[Text]) -> bool:
        """Take the sequence of just these memories, if it stands in the context; whether it does."""
        catalogue = self._catalogue
        with catalogue.lock:
            entry = catalogue.entries.get(key_of(work.identity, [text.step for text in texts]))
            if entry is None or len(texts) < 2:
                return False
            try:
                made, how = catalogue.sequence(entry, None)
            except SequenceGone:
                catalogue.drop(entry, "it was in the context of a model that ended")
                return False
            catalogue.note_use(entry)
        work.parts, work.tokens, work.hows = [made], list(entry.tokens or ()), [how] * len(texts)
        return True

    def _make(self, work: _Work, texts: Sequence[Text]) -> None:
        for text in ([None] if work.opening else []) + list(texts):
            if len(work.parts) == MOST_JOINED:
                self._join(work)
            self._add(work, text)
        if not work.parts:
            work.parts.append(self._catalogue.with_room(self._engine.open))
        self._join(work)

    def _stay(self, work: _Work, texts: Sequence[Text]) -> None:
        """Know the sequence of just these memories, by a second one that shares its cells; it is kept in no file."""
        catalogue = self._catalogue
        if len(texts) < 2 or not all(text.keepable for text in texts):
            return
        steps = tuple(text.step for text in texts)
        ends = accumulate((self._composition.cells(len(text.tokens)) for text in texts), initial=len(work.opening))
        parts = tuple(Part(text.cube, text.version, end) for text, end in zip(texts, list(ends)[1:], strict=True))
        entry = Entry(key_of(work.identity, steps), steps, parts, tuple(work.tokens), work.identity)
        with catalogue.lock:
            if entry.key in catalogue.entries or not catalogue.is_current(entry):
                return
            try:
                entry.resident = catalogue.with_room(lambda: self._engine.attach(work.parts[0]))
            except ContextFull:
                return
            catalogue.know(entry)
            catalogue.note_use(entry)

    def _join(self, work: _Work) -> None:
        if len(work.parts) > 1:
            parts, work.parts = work.parts, []
            work.parts = [self._engine.join(parts)]

    def _with_slot(self, work: _Work, call: Callable[[], _T]) -> _T:
        """What the call gives, which needs a sequence; the parts so far become one if there is none free."""
        try:
            return self._catalogue.with_room(call)
        except ContextFull as full:
            if full.what != "sequences" or len(work.parts) < 2:
                raise
        self._join(work)
        return self._catalogue.with_room(call)

    def _add(self, work: _Work, text: Text | None) -> None:
        """The next part: a memory's block, or the opening (None)."""
        tokens = work.opening if text is None else text.tokens
        key = key_of(work.identity, [] if text is None else [text.step])
        found = self._known(work, key, tokens, 0 if text is None else len(work.opening))
        if found is None:
            began = time.perf_counter()
            found = self._read(work, key, text)
            work.read += len(tokens)
            work.read_s += time.perf_counter() - began
        made, how, entry = found
        work.parts.append(made)
        work.tokens += entry.tokens or ()
        if text is not None:
            work.hows.append(how)

    def _known(self, work: _Work, key: str, tokens: Sequence[int], start: int) -> tuple[Resident, How, Entry] | None:
        """The block of these tokens, which stand behind `start` others, where it is known and what it should be."""
        catalogue = self._catalogue
        with catalogue.lock:
            entry = catalogue.entries.get(key)
            if entry is None:
                return None
            try:
                made, how = self._with_slot(work, lambda: catalogue.copy(entry))
            except (StateRefused, StateRejected) as error:
                work.notes.append(str(error))
                catalogue.drop(entry, str(error))
                return None
            except SequenceGone:
                catalogue.drop(entry, "it was in the memory of a model that ended")
                return None
            held = entry.tokens or ()
            places = [at - start for at in entry.positions or range(len(held))]
            if all(0 <= at < len(tokens) for at in places) and held == tuple(tokens[at] for at in places):
                catalogue.note_use(entry)
                return made, how, entry
            self._composer.release(made)
            catalogue.drop(entry, "it was made of another text")
        return None

    def _read(self, work: _Work, key: str, text: Text | None) -> tuple[Resident, How, Entry]:
        """Read a block now, and know it if it may be kept."""
        start, engine = (0 if text is None else len(work.opening)), self._engine
        tokens = work.opening if text is None else text.tokens
        before = work.read

        def begin() -> Resident:
            return engine.attach(work.parts[0], start) if start else engine.open()

        made = self._with_slot(work, begin)
        whole = False
        try:
            self._composer.read(made, tokens, work.turn, lambda done, _: work.progress(before + done, work.total))
            kept = list(range(len(tokens)))
            if text is not None:
                kept = self._rarity.rarest(tokens, self._composition.cells(len(tokens)))
                self._leave(made, start, kept)
            entry = self._entry(work, key, text, tokens, kept)
            if text is None or text.keepable:
                self._remember(work, entry, made)
            whole = True
        finally:
            if not whole:
                self._composer.release(made)
        return made, "read", entry

    def _leave(self, made: Resident, start: int, kept: Sequence[int]) -> None:
        """Forget all but these of the tokens behind the first `start`."""
        end = kept[-1] + 1
        self._engine.cut(made, start + end)
        gone = [place for place in range(end) if place not in set(kept)]
        runs = [[place for _, place in run] for _, run in groupby(enumerate(gone), lambda pair: pair[1] - pair[0])]
        ranges = [(0, start)] if start else []
        ranges += [(start + run[0], start + run[-1] + 1) for run in runs]
        if ranges:
            self._engine.thin(made, ranges)

    def _entry(self, work: _Work, key: str, text: Text | None, tokens: Sequence[int], kept: Sequence[int]) -> Entry:
        held = tuple(tokens[place] for place in kept)
        if text is None:
            return Entry(key, (), (), held, work.identity, tokens_read=len(tokens))
        part = Part(text.cube, text.version, len(held))
        places = tuple(len(work.opening) + place for place in kept)
        return Entry(key, (text.step,), (part,), held, work.identity, places, tokens_read=len(tokens))

    def _remember(self, work: _Work, entry: Entry, made: Resident) -> None:
        """Know a block, and have it kept: read by itself it serves every set that its memory is found in."""
        catalogue = self._catalogue
        with catalogue.lock:
            if entry.key in catalogue.entries or not catalogue.is_current(entry):
                return
            catalogue.to_memory(entry, made)
            catalogue.know(entry)
            catalogue.note_use(entry)
            if entry.kept is not None:
                work.keep.append(entry)
                return
            entry.resident = made  # into its file at once, for it stands nowhere else
            self._composer.keep(entry)
            entry.resident = None
            if not entry.number:
                catalogue.drop(entry, "there is no room for it")
