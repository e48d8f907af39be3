"""Which of a bounded set goes: properties, what each term decides, and that a caller's priority is obeyed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.policies.replacement import Member, Weights, going, worth

MEMBERS = st.lists(
    st.builds(
        Member, st.text("abcdef", min_size=1, max_size=6), st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1),
        st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 50), st.booleans(), st.booleans(),
    ),
    max_size=15, unique_by=lambda one: one.key,
)  # fmt: skip


@given(MEMBERS, st.integers(0, 300))
def test_what_goes_and_what_stays_is_all_and_no_more_goes_than_must(held: list[Member], budget: int) -> None:
    order = [gone.key for gone in going(held, budget, "the set")]
    by_key = {one.key: one for one in held}
    assert len(set(order)) == len(order)
    assert not any(by_key[key].in_use for key in order)
    left = [one for one in held if one.key not in order]
    size = sum(one.size for one in left)
    assert size <= budget or all(one.in_use for one in left)
    if order:
        assert size + by_key[order[-1]].size > budget


@given(MEMBERS, st.integers(0, 300))
def test_nothing_goes_before_what_has_a_lower_priority_or_was_not_asked_to_be_kept(
    held: list[Member], budget: int
) -> None:
    gone = {one.key for one in going(held, budget, "the set")}
    loose = [one for one in held if one.key not in gone and not one.in_use]
    for out in (one for one in held if one.key in gone):
        assert all((out.kept, out.priority) <= (stays.kept, stays.priority) for stays in loose)


@given(MEMBERS)
def test_worth_is_between_nothing_and_one(held: list[Member]) -> None:
    assert all(0.0 <= value <= 1.0 for value in worth(held).values())


@given(MEMBERS.filter(lambda held: len(held) > 1), st.integers(0, 14), st.sampled_from(["heat", "relevance", "idle"]))
def test_what_is_warmer_more_relevant_or_later_used_is_worth_no_less(
    held: list[Member], place: int, what: str
) -> None:
    one = held[place % len(held)]
    better = replace(one, **{what: 0.0 if what == "idle" else 1.0})
    others = [other for other in held if other.key != one.key]
    before, after = worth([one, *others]), worth([better, *others])
    rest = len(others)
    below = [sum(values[other.key] <= values[one.key] for other in others) for values in (before, after)]
    assert below[1] >= below[0] or rest == 0


A, B = Member("a", idle=9, heat=0.5), Member("b", idle=1, heat=0.5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (A, B),
        (replace(A, idle=1, heat=0.2), B),
        (replace(A, idle=1), replace(B, relevance=0.4)),
        (replace(A, idle=0, heat=1.0, priority=0.4), B),
        (replace(A, idle=1, size=2), B),
    ],
    ids=["longer idle", "colder", "less relevant", "lower priority", "of equals the largest"],
)
def test_of_two_goes_first(first: Member, second: Member) -> None:
    budget = first.size + second.size - 1
    (gone,) = going([second, first], budget, "the set")
    assert gone.key == first.key
    assert gone.reason.startswith(f"the set is over its budget of {budget}:")


def test_a_reason_tells_what_it_was_weighed_by() -> None:
    (gone,) = going([A, B], 1, "the working set")
    assert "task 0.00, heat 0.50, idle 9" in gone.reason
    (kept,) = going([replace(A, kept=True)], 0, "the disk")
    assert "kept by request, and even so" in kept.reason


def test_weights_of_nothing_leave_the_order_to_size_and_name() -> None:
    assert set(worth([A, B], Weights(0, 0, 0)).values()) == {0.0}
    assert going([], 0, "nothing") == []
