"""The states of a memory and the one table of moves between them.

Knows nothing of why a move is wanted: callers name an event, and the table says whether it is allowed.
"""

from __future__ import annotations

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

_GENERATED, _ACTIVATED, _MERGED, _ARCHIVED, _EXPIRED, _FROZEN = State

MOVES: dict[tuple[State, State], frozenset[str]] = {
    (_GENERATED, _ACTIVATED): frozenset({"use", "confirm", "undo"}),
    (_ACTIVATED, _GENERATED): frozenset({"undo"}),
    (_GENERATED, _ARCHIVED): frozenset({"forget", "undo"}),
    (_ACTIVATED, _ARCHIVED): frozenset({"forget", "undo"}),
    (_MERGED, _ARCHIVED): frozenset({"forget", "undo"}),
    (_ARCHIVED, _GENERATED): frozenset({"undo"}),
    (_ARCHIVED, _ACTIVATED): frozenset({"confirm", "undo"}),
    (_ARCHIVED, _MERGED): frozenset({"undo"}),
    (_GENERATED, _EXPIRED): frozenset({"undo", "expire"}),
    (_ACTIVATED, _EXPIRED): frozenset({"undo", "expire"}),
    (_MERGED, _EXPIRED): frozenset({"undo", "expire"}),
    (_ARCHIVED, _EXPIRED): frozenset({"undo", "expire"}),
    (_EXPIRED, _GENERATED): frozenset({"undo"}),
    (_EXPIRED, _ACTIVATED): frozenset({"undo"}),
    (_EXPIRED, _ARCHIVED): frozenset({"undo"}),
    (_EXPIRED, _MERGED): frozenset({"undo"}),
    (_GENERATED, _FROZEN): frozenset({"freeze", "undo"}),
    (_ACTIVATED, _FROZEN): frozenset({"freeze", "undo"}),
    (_MERGED, _FROZEN): frozenset({"freeze", "undo"}),
    (_ARCHIVED, _FROZEN): frozenset({"freeze", "undo"}),
    (_FROZEN, _GENERATED): frozenset({"thaw", "undo"}),
    (_FROZEN, _ACTIVATED): frozenset({"thaw", "undo"}),
    (_FROZEN, _MERGED): frozenset({"thaw", "undo"}),
    (_FROZEN, _ARCHIVED): frozenset({"thaw", "undo"}),
}
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
