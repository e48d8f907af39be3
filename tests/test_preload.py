"""The decision what a session needs next: properties of the pure function."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memos_mcp.policies import preload
from memos_mcp.policies.preload import NAMES, REASONS, WEIGHTS, Habits, Known

COUNTS = st.floats(0, 1e6)
COSINES = st.one_of(st.floats(-1, 1), st.just(float("nan")))
RANKS = st.one_of(st.floats(0, 1e4), st.just(float("inf")))
OF = {"asked": COSINES, "heard": COSINES, "newer": COSINES, "touched": RANKS, "found": RANKS}
NOBODY = np.zeros(3)


@st.composite
def known(draw: st.DrawFn) -> Known:
    size = draw(st.integers(0, 12))
    return Known(*(draw(arrays(np.float64, size, elements=OF.get(one.name, COUNTS))) for one in fields(Known)))


def plain(size: int = 3) -> Known:
    """Memories of which nothing is known that would tell them apart."""
    never, nothing, unknown = np.full(size, np.inf), np.zeros(size), np.full(size, np.nan)
    return Known(never, np.full(size, 5.0), nothing, nothing, unknown, unknown, never, nothing, nothing, nothing,
                 nothing, np.full(size, 40.0), unknown)  # fmt: skip


@given(known())
def test_chances_are_shares_of_one_whatever_is_known(found: Known) -> None:
    table = preload.features(found)
    assert table.shape == (len(found.age), len(NAMES))
    assert np.isfinite(table).all()
    favour = np.zeros(len(table))
    chances = preload.scores(table, Habits(), favour)
    assert not len(chances) or abs(chances.sum() - 1) < 1e-9
    assert sorted(preload.order(table, Habits(), favour)) == list(range(len(table)))
    assert all(preload.reason(table, Habits(), place) in REASONS.values() for place in range(len(table)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("touched", [0, np.inf, np.inf]),
        ("age", [0, 100, 100]),
        ("ahead", [1, 0, 0]),
        ("asked", [0.9, 0.1, np.nan]),
        ("heard", [0.9, 0.1, np.nan]),
        ("found", [0, 9, np.inf]),
        ("followed", [3, 1, 0]),
        ("together", [3, 1, 0]),
        ("uses", [9, 1, 0]),
        ("named", [1, 0, 0]),
        ("chars", [400, 10, 10]),
        ("newer", [np.nan, 0.95, 0.95]),
    ],
)
def test_each_thing_known_speaks_for_a_memory_when_the_rest_is_equal(name: str, values: list[float]) -> None:
    table = preload.features(replace(plain(), **{name: np.array(values, dtype=float)}))
    assert preload.order(table, Habits(tuple(max(weight, 0.1) for weight in WEIGHTS)), NOBODY)[0] == 0


@given(known(), st.data())
def test_what_was_needed_is_likelier_the_next_time_and_never_less(found: Known, data: st.DataObject) -> None:
    table = preload.features(found)
    if not len(table):
        assert preload.learnt(Habits(), table, []) == Habits()
        return
    place = data.draw(st.integers(0, len(table) - 1))
    favour = np.zeros(len(table))
    after = preload.learnt(Habits(), table, [place])
    assert np.isfinite(after.weights).all()
    slope = np.array(after.weights) - np.array(Habits().weights)
    spread = table[place] - preload.scores(table, Habits(), favour) @ table
    assert slope @ spread >= -1e-9


def test_a_priority_that_a_caller_sets_comes_before_what_is_guessed() -> None:
    table = preload.features(plain())
    assert preload.order(table, Habits(), np.array([0.0, 0.5, -0.5])).tolist() == [1, 0, 2]


def test_nothing_is_learnt_from_an_answer_that_could_not_have_been_predicted() -> None:
    assert preload.learnt(Habits(), preload.features(plain()), []) == Habits()
