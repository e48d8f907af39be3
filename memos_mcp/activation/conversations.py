"""Questions to the model, alone or in a conversation whose state is kept from turn to turn and over restarts.

Knows not how memories are found, nor who may read them: it is given them, and asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ulid import ULID

from memos_mcp.activation.blocks import Blocks
from memos_mcp.activation.catalogue import Catalogue
from memos_mcp.activation.composer import Composed, Composer
from memos_mcp.activation.engine import Answer, Resident, SequenceGone, StateRejected, Turn
from memos_mcp.activation.entries import PLAIN, Entry, How, Mount, Text, conversation_key, parts_of
from memos_mcp.activation.in_turn import InTurn
from memos_mcp.activation.reading import Role
from memos_mcp.activation.state_file import StateRefused, read_header
from memos_mcp.cube import instant
from memos_mcp.errors import Conflict
from memos_mcp.ledger.kept_states import Owner, PartRow

MARGIN = 8
"""Tokens of the context left free beside what is known to be needed."""


@dataclass(frozen=True)
class Question:
    """What is asked, of which memories, by whom, under what. `session` is what the principal calls the conversation,
    if any."""

    text: str
    texts: tuple[Text, ...]
    max_tokens: int
    may_read: Callable[[int], bool]
    principal: str
    space: int
    session: str | None = None
    mount: Mount = PLAIN


@dataclass(frozen=True)
class Told:
    """An answer, where each memory was, and the seconds of each part."""

    text: str
    reason: str
    used: tuple[tuple[str, int, How], ...]
    """Every memory that the model had before it, as id, version, and where it was."""
    attach_s: float
    read_s: float
    waited_s: float
    first_token_s: float
    rest_s: float
    save_s: float | None = None
    conversation: str | None = None
    resumed: bool = False
    notes: tuple[str, ...] = ()
    keep: tuple[Entry, ...] = ()
    approximate: str | None = None
    """How the memories were composed, if not as reading them would."""


class ConversationFull(Conflict):
    """The context has no room for another turn."""

    def __init__(self, conversation: str) -> None:
        super().__init__(
            f"The conversation {conversation} fills the model's context: go on under another session; memory_promote "
            f"with ids=[{conversation!r}] and to=plaintext keeps it as memories."
        )


class Conversations:
    """Asks the model. Safe to share between threads; the turns of one conversation wait for each other.

    Memories are composed in the store's own way for a question alone; in a conversation, which is kept, exactly.
    """

    def __init__(self, composer: Composer, way: Composer | Blocks) -> None:
        self._composer, self._way = composer, way
        self._turns = InTurn()

    @property
    def _catalogue(self) -> Catalogue:
        return self._composer.catalogue

    def limit(self) -> int:
        """Tokens that one sequence may hold."""
        facts = self._catalogue.ready()
        return min(facts.cells, facts.trained_context) - MARGIN

    def room(self, question: Question) -> int:
        """Tokens left for memories beside the question and its answer, in a new conversation or in none."""
        composer = self._composer
        asked = sum(len(tokens) for _, tokens in composer.form().question(composer.tokenize, question.text))
        return self.limit() - len(self._catalogue.opening(self._catalogue.ready())) - asked - question.max_tokens

    def size(self, question: Question, text: Text) -> int:
        """The part of that room which a memory takes."""
        way = self._way if question.session is None else self._composer
        return way.size(len(text.tokens), question.mount)

    def ask(self, question: Question, turn: Turn) -> Told:
        """Answer once, greedily.

        Raises:
            ContextFull, JobCancelled, EngineLost, EngineUnavailable: as the engine does. ConversationFull.
            StorageFailed: the conversation could not be kept; it is as it was.
        """
        if question.session is not None:
            key = conversation_key(question.principal, question.space, question.session)
            with self._turns.of(key):
                return self._in_conversation(question, question.session, key, turn)
        composed = self._way.compose(question.texts, question.may_read, turn, mount=question.mount)
        try:
            answer, _ = self._answered(composed.sequence, question, turn)
        finally:
            self._composer.release(composed.sequence)
        return replace(_told(answer, composed), keep=composed.keep, approximate=composed.approximate)

    def _answered(
        self, sequence: Resident, question: Question, turn: Turn
    ) -> tuple[Answer, list[tuple[Role | None, tuple[int, ...]]]]:
        composer = self._composer
        form = composer.form()
        asked = form.question(composer.tokenize, question.text)
        tokens = tuple(token for _, piece in asked for token in piece)
        answer = composer.catalogue.with_room(
            lambda: composer.engine.generate(sequence, tokens, question.max_tokens, turn, stop=form.stop)
        )
        return answer, asked

    def _in_conversation(self, question: Question, session: str, key: str, turn: Turn) -> Told:
        composed, former = self._begun(question, key, turn)
        kept = False
        try:
            self._require_room(composed, question, former)
            answer, asked = self._answered(composed.sequence, question, turn)
            told = _told(answer, composed)
            if former is not None:
                told = replace(told, used=_standing(former, composed) + told.used)
            if answer.reason == "cancelled":
                return told
            before = time.perf_counter()
            owner = Owner(str(ULID()), question.principal, question.space, session)
            entry = self._grown(composed, former, asked, answer, turn, question.mount)
            entry.owner = former.owner if former is not None else owner
            entry.key = key
            self._catalogue.replace(entry)
            kept = True
        finally:
            if not kept:
                self._composer.release(composed.sequence)
        assert entry.owner is not None
        return replace(
            told, save_s=time.perf_counter() - before, conversation=entry.owner.conversation,
            resumed=former is not None,
        )  # fmt: skip

    def _begun(self, question: Question, key: str, turn: Turn) -> tuple[Composed, Entry | None]:
        """A sequence of the conversation as it stands, with these memories; of a new one where there is none."""
        catalogue = self._catalogue
        notes: tuple[str, ...] = ()
        catalogue.ready()
        former = catalogue.entries.get(key)
        if former is not None:
            if all(question.may_read(seq) for seq in former.needs):
                try:
                    return self._resumed(former, question, turn), former
                except (StateRefused, StateRejected, SequenceGone) as error:
                    catalogue.drop(former, str(error))
            else:
                catalogue.drop(former, "a memory in it is not its principal's to read any more")
            notes = (BEGUN_ANEW,)
        elif key in catalogue.lost:
            notes = (BEGUN_ANEW,)
        composed = self._composer.compose(question.texts, question.may_read, turn, mount=question.mount)
        composed.notes += notes
        return composed, None

    def _resumed(self, former: Entry, question: Question, turn: Turn) -> Composed:
        composer, begun = self._composer, time.perf_counter()
        notes: tuple[str, ...] = ()
        how: How = "read"
        if former.mounted != question.mount.identity:
            sequence = self._read_again(former, turn, question.mount)
            notes = (_OTHERWISE,)
        else:
            former.mounts = question.mount.mounts
            try:
                sequence, how = self._catalogue.sequence(former, None)
            except (StateRefused, StateRejected) as error:
                sequence = self._read_again(former, turn, question.mount)
                notes = (str(error),)
        attached = time.perf_counter()
        fresh = [text for text in question.texts if text.step not in former.steps]
        more = tuple(token for text in fresh for token in text.tokens)
        whole = False
        try:
            for text in fresh:
                composer.read(sequence, text.tokens, turn)
            whole = True
        finally:
            if not whole:
                composer.release(sequence)
        hows: tuple[How, ...] = tuple("read" for _ in fresh)
        return Composed(
            sequence, (former.tokens or ()) + more, tuple(fresh), hows, len(more), attached - begun,
            time.perf_counter() - attached, notes=notes, begun_from=how,
        )  # fmt: skip

    def _read_again(self, former: Entry, turn: Turn, mount: Mount) -> Resident:
        """The conversation read anew from its tokens, where the head of its file is whole and of this model.

        Under another mount its file is not of what is mounted now, and its tokens are this model's all the same.

        Raises:
            StateRefused: it is not.
        """
        if former.path is None:
            raise SequenceGone
        header = read_header(former.path)
        if (header.model or header.identity) != self._catalogue.ready().identity:
            raise StateRefused(former.path, "model", "it was made by another model, or under other settings")
        sequence = self._catalogue.with_room(lambda: self._composer.engine.open(mount.mounts))
        self._composer.read(sequence, header.tokens, turn)
        former.tokens = header.tokens
        return sequence

    def _require_room(self, composed: Composed, question: Question, former: Entry | None) -> None:
        asked = self.limit() - self.room(question)
        if former is not None and former.owner is not None and len(composed.tokens) + asked > self.limit():
            raise ConversationFull(former.owner.conversation)

    def _grown(
        self,
        composed: Composed,
        former: Entry | None,
        asked: Sequence[tuple[Role | None, tuple[int, ...]]],
        answer: Answer,
        turn: Turn,
        mount: Mount,
    ) -> Entry:
        """The conversation with this turn, whose end is read."""
        composer = self._composer
        form = composer.form()
        closing = () if answer.reason == "stop" else form.closing_tokens(composer.tokenize)
        question = tuple(token for _, piece in asked for token in piece)
        tail = (*answer.tokens[len(answer.read) - len(question) :], *closing)
        if tail:
            composer.read(composed.sequence, tail, turn)
        parts = parts_of(composed.texts, len(composed.tokens) - sum(len(text.tokens) for text in composed.texts))
        steps = tuple(text.step for text in composed.texts)
        rows = [PartRow(part.end, seq, version) for (seq, version), part in zip(steps, parts, strict=True)]
        end = len(composed.tokens)
        stretches: list[tuple[Role | None, tuple[int, ...]]] = [*asked, ("assistant", answer.tokens), (None, closing)]
        for role, piece in stretches:
            end += len(piece)
            rows += [PartRow(end, role=role)] if piece else []
        before = former if former is not None else Entry("", (), (), (), "")
        return Entry(
            "", before.steps + steps, before.parts + parts, composed.tokens + question + answer.tokens + closing,
            self._catalogue.ready().identity, promoted=True, uses=before.uses + 1,
            tokens_read=before.tokens_read + composed.tokens_read + len(question),
            last_used=instant(self._catalogue.now()), created=before.created, resident=composed.sequence,
            turns=before.turns + tuple(rows),
            head=before.head if former is not None else len(self._catalogue.opening(self._catalogue.ready())),
            mounted=mount.identity, mounts=mount.mounts, under=mount.steps,
        )  # fmt: skip

    def said(self, conversation: str, principal: str) -> tuple[Owner, list[tuple[Role, str]]] | None:
        """Whose the conversation is, and its questions and answers in order; None if the principal has none such.

        Raises:
            StateRefused: its file is not what it should be.
        """
        with self._catalogue.lock:
            owned = (e for e in self._catalogue.entries.values() if e.owner is not None)
            entry = next((e for e in owned if e.owner and e.owner.conversation == conversation), None)
            if entry is None or entry.owner is None or entry.owner.principal != principal:
                return None
            tokens = entry.tokens
            if tokens is None and entry.path is not None:
                tokens = read_header(entry.path).tokens
        form, engine, start = self._composer.form(), self._composer.engine, 0
        found: list[tuple[Role, str]] = []
        for row in entry.turns:
            if row.role == "user" or row.role == "assistant":
                role: Role = "user" if row.role == "user" else "assistant"
                found.append((role, form.said(engine.detokenize((tokens or ())[start : row.end]))))
            start = row.end
        return entry.owner, found


_OTHERWISE = "The conversation was read again, for another weight or another steering vector is mounted than before."
BEGUN_ANEW = (
    "The conversation begins anew: a memory in it was changed or is not yours to read any more, or its state could not "
    "be used."
)


def _told(answer: Answer, composed: Composed) -> Told:
    rows = zip(composed.texts, composed.hows, strict=True)
    return Told(
        answer.text.strip(), answer.reason, tuple((text.cube, text.version, how) for text, how in rows),
        composed.attach_s, composed.read_s, answer.waited_s, answer.first_s, answer.rest_s, notes=composed.notes,
    )  # fmt: skip


def _standing(former: Entry, composed: Composed) -> tuple[tuple[str, int, How], ...]:
    """What the conversation held before this turn."""
    return tuple((part.cube, part.version, composed.begun_from) for part in former.parts)
