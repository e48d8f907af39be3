"""The table of moves: nothing leaves it, and frozen lets nothing happen but thawing and undoing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp import states
from memos_mcp.errors import Conflict
from memos_mcp.states import LIVE, MOVES, IllegalMove, State, move

EVENTS = sorted({event for events in MOVES.values() for event in events})
WAYS_BACK = {"undo", "restore"}
STATES = st.sampled_from(list(State))


@given(STATES, st.lists(st.tuples(STATES, st.sampled_from(EVENTS))))
def test_no_sequence_of_events_leaves_the_table(start: State, asked: list[tuple[State, str]]) -> None:
    current = start
    for target, event in asked:
        if event in MOVES.get((current, target), ()):
            assert move("m", current, target, event) is target
            current = target
            continue
        with pytest.raises(IllegalMove) as caught:
            move("m", current, target, event)
        assert (caught.value.current, caught.value.target, caught.value.event) == (current, target, event)
    assert current in State


@pytest.mark.parametrize("target", list(State))
def test_frozen_refuses_all_but_thaw_and_undo(target: State) -> None:
    assert MOVES.get((State.FROZEN, target), frozenset()) <= {"thaw", "undo"}


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in ("thaw", "undo")])
@given(target=STATES)
def test_a_refused_move_of_a_frozen_memory_says_to_thaw_it(event: str, target: State) -> None:
    with pytest.raises(Conflict, match=r"frozen.*freeze=false"):
        move("m", State.FROZEN, target, event)


@pytest.mark.parametrize(("start", "target"), [pair for pair, events in MOVES.items() if events - WAYS_BACK])
def test_every_move_can_be_undone_and_the_undo_too(start: State, target: State) -> None:
    assert move("m", target, start, "undo") is start
    assert move("m", start, target, "undo") is target


def test_no_row_stays_where_it_is() -> None:
    assert all(start is not target and events for (start, target), events in MOVES.items())


def test_what_is_over_is_left_by_the_ways_back_alone() -> None:
    assert {event for (start, _), events in MOVES.items() if start is State.EXPIRED for event in events} == WAYS_BACK


def test_every_state_but_the_first_is_reached_from_it() -> None:
    reached, grown = {State.GENERATED}, True
    while grown:
        fresh = {target for (start, target) in MOVES if start in reached}
        grown = not fresh <= reached
        reached |= fresh
    assert reached == set(State)
    assert set(LIVE) <= reached


def test_every_event_of_the_table_is_explained_and_every_explained_one_moves_something() -> None:
    assert set(EVENTS) == set(states.EVENTS)
    assert all(row.reason for row in states.ROWS)


def test_nothing_automatic_touches_what_is_frozen_or_over() -> None:
    automatic = {event.name for event in states.EVENTS.values() if event.automatic}
    moved = {start for (start, _), events in MOVES.items() if events & automatic}
    assert moved == {State.GENERATED, State.ACTIVATED, State.MERGED, State.ARCHIVED}
