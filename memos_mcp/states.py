"""The states of a memory and the one table of moves between them.

Knows nothing of why a move is wanted: callers name an event, and the table says whether it is allowed. The tables and
the diagram of docs/life.md are made from it (`scripts/make_docs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from memos_mcp.errors import Conflict


class State(StrEnum):
    """Where a memory is in its life."""

    GENERATED = "generated"
    ACTIVATED = "activated"
    MERGED = "merged"
    ARCHIVED = "archived"
    EXPIRED = "expired"
    FROZEN = "frozen"


LIVE = (State.GENERATED, State.ACTIVATED, State.FROZEN)
"""States that default search looks at."""

USED = (State.GENERATED, State.ACTIVATED)
"""States between which a memory moves by being used."""

MEANINGS: dict[State, str] = {
    State.GENERATED: "written, not yet used",
    State.ACTIVATED: "used or confirmed",
    State.MERGED: "absorbed by another memory, which names it as a parent",
    State.ARCHIVED: "out of default search",
    State.EXPIRED: "its life is over; it awaits a purge",
    State.FROZEN: "protected from every automatic change",
}


@dataclass(frozen=True)
class Event:
    """What moves a memory. An `automatic` one is the scheduler's own; the others follow from a call."""

    name: str
    meaning: str
    automatic: bool = False


EVENTS: dict[str, Event] = {
    event.name: event
    for event in (
        Event("use", "it was served to a caller", automatic=True),
        Event("confirm", "a caller said that it is useful, or said it again"),
        Event("merge", "a caller fused it with others"),
        Event("absorb", "the scheduler fused it with others that say the same", automatic=True),
        Event("forget", "a caller archived it"),
        Event("cool", "it was not used for long", automatic=True),
        Event("revive", "a caller took it out of the archive"),
        Event("expire", "the end that was set for it has come", automatic=True),
        Event("freeze", "a caller protected it"),
        Event("thaw", "a caller ended the protection"),
        Event("undo", "the operation that moved it was taken back"),
        Event("restore", "a caller brought back what was so at a former time"),
    )
}


@dataclass(frozen=True)
class Move:
    """A row of the table: `reason` says why the move exists."""

    start: State
    target: State
    event: str
    reason: str


_GENERATED, _ACTIVATED, _MERGED, _ARCHIVED, _EXPIRED, _FROZEN = State
_FREED = (_GENERATED, _ACTIVATED, _MERGED, _ARCHIVED)
"""States that freezing keeps and thawing returns to."""

ROWS: tuple[Move, ...] = (
    Move(_GENERATED, _ACTIVATED, "use", "what is served has proved its use"),
    Move(_GENERATED, _ACTIVATED, "confirm", "its reader vouches for it"),
    Move(_ARCHIVED, _ACTIVATED, "confirm", "said again, it is current again"),
    Move(_ARCHIVED, _ACTIVATED, "revive", "what was archived can be wanted again"),
    Move(_ARCHIVED, _ACTIVATED, "use", "a question that nothing else answered fetched it back"),
    *(Move(start, _MERGED, "merge", "the fused memory stands for it") for start in (_GENERATED, _ACTIVATED, _ARCHIVED)),
    *(Move(start, _MERGED, "absorb", "one memory stands for what is said twice") for start in (_GENERATED, _ACTIVATED)),
    *(Move(start, _ARCHIVED, "forget", "forgetting begins with the archive") for start in _FREED[:3]),
    *(Move(start, _ARCHIVED, "cool", "what nobody asks for leaves the way") for start in _FREED[:3]),
    *(Move(start, _EXPIRED, "expire", "its owner gave it an end") for start in _FREED),
    *(Move(start, _FROZEN, "freeze", "its owner wants it as it is") for start in _FREED),
    *(Move(_FROZEN, target, "thaw", "it returns to where it was") for target in _FREED),
)
"""The moves forward. Each has its way back, see `MOVES`."""


def _moves() -> dict[tuple[State, State], frozenset[str]]:
    """The rows by pair, with the way back by undo and restore, and forward again when that is itself taken back.

    What is frozen leaves it by a thaw, or when the freezing is itself taken back, and in no other way.
    """
    found: dict[tuple[State, State], set[str]] = {}
    for row in ROWS:
        found.setdefault((row.start, row.target), set()).add(row.event)
        for pair in ((row.start, row.target), (row.target, row.start)):
            ways = ("undo",) if pair[0] is _FROZEN else ("undo", "restore")
            found.setdefault(pair, set()).update(ways)
    return {pair: frozenset(events) for pair, events in found.items()}


MOVES: dict[tuple[State, State], frozenset[str]] = _moves()
"""(from, to) -> the events that may cause the move. What is not here is illegal."""


class IllegalMove(Conflict):
    """A move that the table does not hold."""

    def __init__(self, cube: str, current: State, target: State, event: str) -> None:
        advice = " Thaw it first (memory_update freeze=false)." if current is State.FROZEN else ""
        super().__init__(f"Memory {cube} is {current}: it cannot become {target} by {event}.{advice}")
        self.cube, self.current, self.target, self.event = cube, current, target, event


def move(cube: str, current: State, target: State, event: str) -> State:
    """Return `target` if the table allows the move.

    Raises:
        IllegalMove: the table does not hold this move for this event.
    """
    if event not in MOVES.get((current, target), frozenset()):
        raise IllegalMove(cube, current, target, event)
    return target
