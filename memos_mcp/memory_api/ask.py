"""The verb ask: an answer of the local model from memories that it has read before, or reads now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

from memos_mcp import governance
from memos_mcp.activation.conversations import Question, Told
from memos_mcp.activation.engine import JobCancelled, Turn
from memos_mcp.activation.entries import Mount, Text
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.cube import ADAPTER, TEXTLESS, Cube, clean_label
from memos_mcp.errors import Conflict, EngineLost, InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.memory_api import compose, search
from memos_mcp.memory_api.mounting import Mounting, mount, said_of, to_mount
from memos_mcp.memory_api.parts import Parts, cubes_for
from memos_mcp.memory_api.promote import activation_of
from memos_mcp.requests import AskRequest, SearchRequest
from memos_mcp.results import AskResult, MountedCube, Timing
from memos_mcp.usage import task_of

FOUND = 5
"""Memories that are looked for when none are named."""


def ask(parts: Parts, caller: Caller, request: AskRequest) -> AskResult:
    """Answer a question from memories: those named, or the best that a search finds.

    Raises:
        InvalidInput: the question is empty, or what is named has no room in the model's context. NotFound: not the
            caller's to read. Conflict: a memory was changed while it was read, or what is to be mounted cannot be.
        EngineUnavailable: there is no model.
    """
    begun = time.perf_counter()
    if not request.question.strip():
        raise InvalidInput("question is empty: ask something.", field="question")
    if request.ids is None or request.adapters:
        activation_of(parts)  # before a search for nothing
    mounting = to_mount(parts, caller, request)
    cubes, degraded = picked(parts, caller, request)
    found = time.perf_counter()
    activation = activation_of(parts)
    try:
        told, mounted = _told(parts, activation, caller, request, cubes, mounting)
    except EngineLost:  # the next call has a new process, and reads what only the lost one held
        told, mounted = _told(parts, activation, caller, request, cubes, mounting)
    for entry in told.keep if not parts.ledger.read_only else ():
        activation.keep_later(entry)
    timing: Timing = {
        "search_s": round(found - begun, 6),
        "attach_s": round(told.attach_s, 6),
        "read_s": round(told.read_s, 6),
        "wait_s": round(told.waited_s, 6),
        "first_token_s": round(told.first_token_s, 6),
        "rest_s": round(told.rest_s, 6),
        "keep_s": round(told.save_s or 0.0, 6),
        "total_s": round(time.perf_counter() - begun, 6),
    }
    result: AskResult = {
        "answer": told.text,
        "used": [{"id": cube, "version": version, "how": how} for cube, version, how in told.used],
        "timing": timing,
    }
    _note_told(parts, caller, request, told, cubes)
    if mounted:
        _note_mounted(parts, caller, mounting)
        result["mounted"] = mounted
    if told.conversation is not None:
        result["conversation"] = told.conversation
    if told.approximate is not None:
        result["approximate"] = told.approximate
    said = [degraded, _approximate(told), *dict.fromkeys(told.notes), _cut_short(told)]
    if any(said):
        result["degraded"] = " ".join(filter(None, said))
    return result


def _note_told(parts: Parts, caller: Caller, request: AskRequest, told: Told, brought: Sequence[Cube]) -> None:
    note_use(parts, caller, request, [cube for cube, _, _ in told.used], [cube.id for cube in brought])


def _note_mounted(parts: Parts, caller: Caller, mounting: Mounting) -> None:
    brought = [cube.seq for cube, _ in (*mounting.adapters, *mounting.steering)]
    parts.usage.served(brought, parts.stamp(), caller, "cited")
    if parts.adapters is not None:
        parts.adapters.answered(said_of(mounting.adapters))


def note_use(
    parts: Parts, caller: Caller, request: AskRequest, used: Iterable[str], brought: Iterable[str]
) -> None:
    """Note of which memories an answer was made: those `brought` for it are cited, the others stay from before."""
    ids, cited = list(dict.fromkeys(used)), set(brought)
    with parts.ledger.read() as connection:
        found = parts.vault.by_ids(connection, ids).values()
    for event in ("cited", "stayed"):
        seqs = [cube.seq for cube in found if (cube.id in cited) == (event == "cited")]
        parts.usage.served(seqs, parts.stamp(), caller, event, task=task_of(caller, request.session))


def picked(parts: Parts, caller: Caller, request: AskRequest) -> tuple[list[Cube], str | None]:
    """The memories to answer from, best first, and why a search was less than whole; of compositions their parts."""
    degraded = None
    if request.ids is not None:
        ids = list(dict.fromkeys(request.ids))
    else:
        wanted = SearchRequest(query=request.question, space=request.space, top_k=FOUND)
        result = search.search(parts, caller, wanted, task_of(caller, request.session))
        ids, degraded = [hit["id"] for hit in result["hits"]], result.get("degraded")
    with parts.ledger.read() as connection:
        cubes = compose.in_parts(parts, connection, caller, cubes_for(parts, connection, caller, ids, "read"))
    textless = [cube for cube in cubes if cube.snapshot.kind in TEXTLESS]
    if textless:
        what = "an adapter" if textless[0].snapshot.kind == ADAPTER else "a steering vector"
        raise InvalidInput(f"{textless[0].id} is {what} and no text: name it in adapters.", field="ids")
    return cubes, degraded


def _told(
    parts: Parts,
    activation: ActivationMemory,
    caller: Caller,
    request: AskRequest,
    cubes: Sequence[Cube],
    mounting: Mounting,
) -> tuple[Told, list[MountedCube]]:
    with activation.composer.watching([*(cube.seq for cube in cubes), *mounting.seqs]) as changed:
        texts = activation.texts(cubes)
        turn = Turn(caller.writer or caller.principal, cancelled=changed)
        try:
            on, mounted = mount(parts, activation, mounting, turn)
            question = _question(parts, activation, caller, request, texts, cubes, on)
            told = activation.conversations.ask(question, turn)
        except (JobCancelled, InvalidInput):
            if changed.is_set():
                raise Conflict(CHANGED) from None
            raise
        if changed.is_set():
            raise Conflict(CHANGED)
    return told, mounted


def _question(
    parts: Parts,
    activation: ActivationMemory,
    caller: Caller,
    request: AskRequest,
    texts: Sequence[Text],
    cubes: Sequence[Cube],
    mount: Mount,
) -> Question:
    with parts.ledger.read() as connection:
        space = governance.find_space(connection, request.space or caller.space)
    session = clean_label(request.session, "session") if request.session else None
    if session is not None and space is None:
        raise InvalidInput("A conversation belongs to a space, and this one has no memories yet: add one first.")
    whole = Question(
        request.question.strip(), tuple(texts), request.max_tokens, reader(parts, caller), caller.principal,
        space.id if space is not None else 0, session, mount,
    )  # fmt: skip
    room = activation.conversations.room(whole)
    if room < 0:
        raise InvalidInput("The question and max_tokens leave no room in the model's context: make them shorter.")
    chosen: set[int] = set()
    by_seq = {text.seq: text for text in texts}
    for cube in cubes:  # best first
        text = by_seq[cube.seq]
        if session is not None and not text.keepable:
            if request.ids is not None:
                raise InvalidInput(f"Memory {cube.id} is secret or over: a conversation is kept, and may not hold it.")
            continue
        size = activation.conversations.size(whole, text)
        if size <= room:
            room -= size
            chosen.add(cube.seq)
        elif request.ids is not None:
            raise InvalidInput("The memories named do not fit into the model's context: name fewer.", field="ids")
    return replace(whole, texts=tuple(text for text in texts if text.seq in chosen))


def reader(parts: Parts, caller: Caller) -> Callable[[int], bool]:
    """Whether the caller may read a memory, by its number; asked once for each, and holding no transaction open."""

    @cache
    def may_read(seq: int) -> bool:
        with parts.ledger.read() as connection:
            cube = parts.vault.by_seqs(connection, [seq]).get(seq)
            if cube is None:
                return False
            space = governance.space_of(connection, cube.space)
            return governance.may(connection, caller.principal, "read", space, seq)

    return may_read


def _approximate(told: Told) -> str | None:
    if told.approximate is None:
        return None
    return f"The memories were read apart and joined ({told.approximate}): an approximation of reading them together."


def _cut_short(told: Told) -> str | None:
    if told.reason == "length":
        return LENGTH
    return "The answer ends where the model's context was full." if told.reason == "full" else None


LENGTH = "The answer ends where max_tokens was reached."
CHANGED = "A memory was changed while the answer was made from it: ask again."
