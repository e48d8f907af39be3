"""Pure decisions about the life of memories: policies in words, verdicts with their next moment, forms, retention."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.cube import Figures, instant
from memos_mcp.errors import InvalidInput
from memos_mcp.policies import forms, policy
from memos_mcp.policies.forms import TARGETS, Room, Standing, expected_uses, judge, tokens_of
from memos_mcp.policies.lifecycle import ENDABLE, Action, Context, Facts, Likeness, Verdict, decide
from memos_mcp.policies.policy import SILENT, Policy, parse, resolve
from memos_mcp.policies.retention import Beyond, Held, Rules, retain
from memos_mcp.states import State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PLANS = Path(__file__).parent / "data" / "plans"

lifetimes = st.sampled_from(["keep", "decay", "expire after 30 days", ""])
extras = st.sets(
    st.sampled_from(["legal hold", "may be trained", "archive after 12 days", "at most 7 memories", "at most 3 MB"])
)


@given(lifetimes, extras)
def test_a_policy_reads_as_it_is_written(lifetime: str, more: set[str]) -> None:
    if lifetime not in ("decay", ""):
        more = more - {"archive after 12 days"}
    text = ", ".join(filter(None, [lifetime, *sorted(more)]))
    if not text:
        return
    read = parse(text.upper(), "space")
    assert parse(str(read), "space") == policy.of(str(read)) == read
    assert sorted(str(read).split(", ")) == sorted(text.split(", "))


@pytest.mark.parametrize(
    "text",
    ["", "   ", "keep it", "keep, decay", "expire after 0 days", "expire after -3 days", "expire after 1e3 days",
     "永久保存", "🦊", "expire after ١٢ days", "archive after 99999 days", "keep, archive after 3 days", "legal",
     "x" * 5_000,
     "may be trained, not trained", "archive below heat 1.5", "at most 0 memories"],
)  # fmt: skip
def test_what_is_no_policy_is_told_with_those_that_are(text: str) -> None:
    with pytest.raises(InvalidInput, match="write one or several of: keep; decay; expire after N days") as refused:
        parse(text, "space")
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("place", ["memory", "store"])
def test_limits_are_a_spaces_alone(place: Any) -> None:
    assert parse("at most 7 memories, archive below heat .3", "space").most_memories == 7
    for term in ("at most 7 memories", "at most 7 MB", "archive below heat .3"):
        with pytest.raises(InvalidInput):
            parse(term, place)


def test_the_nearest_policy_holds_and_a_hold_holds_wherever_it_is_said() -> None:
    store, space = parse("decay, not trained", "store"), parse("expire after 9 days, legal hold, at most 5 MB", "space")
    assert str(resolve(SILENT, space, store)) == "expire after 9 days, at most 5 MB, legal hold, not trained"
    assert str(resolve(parse("keep, may be trained", "memory"), space, store)) == (
        "keep, at most 5 MB, legal hold, may be trained"
    )
    assert resolve(SILENT, SILENT, store).hold is False


def test_terms_of_a_later_version_are_passed_over() -> None:
    assert policy.of("decay, sing at dawn") == Policy(lifetime="decay")
    assert policy.of(None) == policy.of("") == SILENT


days = st.floats(0, 900, allow_nan=False).map(lambda n: timedelta(days=n))


@st.composite
def memories(draw: st.DrawFn) -> Facts:
    age, idle = draw(days), draw(days)
    uses = draw(st.integers(0, 40))
    created = NOW - max(age, idle)
    terms = ["keep", "decay", "expire after 300 days", "archive after 20 days", "legal hold", "decay"]
    said = draw(st.sampled_from(terms))
    moved = draw(st.none() | days.map(lambda n: NOW - n))
    held: Any = draw(st.sampled_from(["no", "scheduler", "caller"]))
    state = draw(st.sampled_from(list(State)))
    last, count = instant(NOW - idle if uses else created), st.floats(0, 40)
    return Facts(
        state,
        state in (State.GENERATED, State.ACTIVATED, State.FROZEN) and draw(st.booleans()),
        created,
        created,
        Figures(last, last, draw(count), draw(count)) if uses else Figures(last, last),
        uses,
        NOW - idle if uses else None,
        pinned=draw(st.booleans()),
        importance=draw(st.floats(0, 1)),
        priority=draw(st.floats(0, 1)),
        expires=draw(st.none() | st.integers(-400, 400).map(lambda n: NOW + n * DAY)),
        policy=parse(said, "space"),
        brought_back=draw(st.none() | days.map(lambda n: NOW - n)),
        lasting=draw(st.sampled_from([None, None, "it is a template"])),
        form=draw(st.none() | st.just(Standing("activation", draw(st.integers(1, 4_000)), held, moved))),
    )


ROOMS = [None, Room(2_000, 1_000), Room(-5, 1_000)]
CONTEXTS = st.sampled_from([*(Context(room=room) for room in ROOMS), Context(archive_days=0)])


@given(memories(), CONTEXTS)
def test_nothing_automatic_happens_to_what_is_protected(facts: Facts, context: Context) -> None:
    verdict = decide(facts, context, NOW)
    if facts.state is State.FROZEN or facts.pinned or facts.policy.hold:
        assert (verdict.action, verdict.again) == (Action.KEEP, None)
    if verdict.action is not Action.KEEP:
        assert facts.state in ENDABLE
        assert verdict.reason
    if verdict.action is Action.ARCHIVE:
        assert facts.stands
        assert facts.policy.lifetime in (None, "decay")
        assert facts.lasting is None


@given(memories(), CONTEXTS, st.floats(0.001, 0.999))
def test_until_the_moment_to_look_again_the_verdict_stays_and_then_it_changes(
    facts: Facts, context: Context, share: float
) -> None:
    verdict = decide(facts, context, NOW)
    if verdict.action is not Action.KEEP:
        return
    if verdict.again is None:
        assert decide(facts, context, NOW + 20_000 * DAY).action is Action.KEEP
        return
    assert verdict.again > NOW
    between = NOW + share * (verdict.again - NOW)
    assert decide(facts, context, between).action is Action.KEEP
    then = decide(facts, context, verdict.again)
    assert then.action is not Action.KEEP or then.again is None or then.again > verdict.again


LAST = instant(NOW - 181 * DAY)
PLAIN = Facts(
    State.ACTIVATED, True, NOW - 400 * DAY, NOW - 400 * DAY, Figures(LAST, LAST, 2.0), 2, NOW - 181 * DAY
)


def test_a_memory_is_archived_on_the_day_and_not_before() -> None:
    assert decide(PLAIN, Context(), NOW - DAY - timedelta(seconds=1)).again == NOW - DAY
    assert decide(PLAIN, Context(), NOW - DAY).action is Action.ARCHIVE
    assert decide(replace(PLAIN, importance=1.0), Context(), NOW).again == NOW + 89 * DAY
    assert decide(replace(PLAIN, priority=0.0), Context(), NOW - 91 * DAY).action is Action.ARCHIVE


def test_what_was_used_often_stays_warm_and_what_somebody_brought_back_stays_for_a_while() -> None:
    soon = Context(archive_days=10)
    assert decide(PLAIN, soon, NOW - 150 * DAY).action is Action.ARCHIVE
    often = replace(PLAIN, figures=Figures(LAST, LAST, 40.0, 40.0))
    assert decide(often, soon, NOW - 50 * DAY).action is Action.KEEP
    assert decide(often, soon, NOW).action is Action.ARCHIVE, "nothing stays warm for ever"
    wrong = replace(often, feedback="wrong")
    assert decide(wrong, soon, NOW - 150 * DAY).action is Action.ARCHIVE, "a caller's word counts"
    back = decide(replace(PLAIN, brought_back=NOW - DAY), Context(), NOW)
    assert (back.action, back.again) == (Action.KEEP, NOW + 179 * DAY)


def test_what_somebody_brought_back_after_its_end_is_not_ended_again() -> None:
    over = replace(PLAIN, expires=NOW - 3 * DAY, last_used=NOW)
    assert decide(over, Context(), NOW).action is Action.EXPIRE
    assert decide(replace(over, brought_back=NOW - DAY), Context(), NOW).action is Action.KEEP


def test_only_what_is_sure_is_done_without_being_asked() -> None:
    sure = Likeness("p", "merge", 0.98, "two memories say the same")
    asked = Context(sure=0.97)
    assert decide(replace(PLAIN, likeness=sure), asked, NOW) == Verdict(
        Action.MERGE, "two memories say the same (0.98)"
    )
    for kind, action in (("deduplicate", Action.DEDUPLICATE), ("conflict", Action.CONFLICT)):
        assert decide(replace(PLAIN, likeness=replace(sure, kind=kind)), asked, NOW).action is action
    doubtful = replace(PLAIN, last_used=NOW, likeness=replace(sure, score=0.9))
    assert decide(doubtful, asked, NOW).action is Action.KEEP
    assert decide(replace(doubtful, likeness=sure), Context(), NOW).action is Action.KEEP, "unless that is wanted"
    assert decide(replace(PLAIN, pinned=True, likeness=sure), asked, NOW).action is Action.KEEP


def test_use_makes_active_unless_somebody_took_that_back_since() -> None:
    at = instant(NOW)
    fresh = Facts(State.GENERATED, True, NOW - DAY, NOW - DAY, Figures(at, at, 1.0), 1, NOW)
    assert decide(fresh, Context(), NOW).action is Action.ACTIVATE
    assert decide(replace(fresh, brought_back=NOW), Context(), NOW).action is Action.KEEP


@given(st.integers(1, 1_000), days, days, days)
def test_expected_uses_rise_by_use_and_fall_by_waiting(
    uses: int, known: timedelta, idle: timedelta, more: timedelta
) -> None:
    now = expected_uses(uses, known + idle, idle)
    assert expected_uses(uses + 1, known + idle, idle) >= now
    assert expected_uses(uses, known + idle + more, idle + more) <= now


ROOM = Room(10_000, 2_000)


@given(st.integers(0, 60), st.integers(1, 3_000), st.lists(st.floats(0.01, 3), min_size=1, max_size=60))
def test_a_memory_does_not_flap_between_two_forms(uses: int, tokens: int, waits: list[float]) -> None:
    """However it is used, two moves of it lie a day apart, and by waiting alone it leaves once and stays out."""
    standing, at, last, moves = Standing("activation", tokens), NOW, NOW, []
    for wait in waits:
        at += timedelta(days=wait)
        uses, last = (uses + 3, at) if wait < 1 else (uses, last)
        verdict = judge(standing, ROOM, uses, NOW - DAY, last, at)
        if verdict.action != "keep":
            moves.append(at)
            standing = replace(standing, held="scheduler" if verdict.action == "promote" else "no", moved=at)
    assert all(later - earlier >= TARGETS["activation"].rest for earlier, later in pairwise(moves))
    alone = [judge(standing, ROOM, uses, NOW - DAY, last, at + n * DAY).action for n in range(1, 60)]
    if standing.held == "no" and alone[0] == "keep":
        assert "promote" not in alone[1:]


def test_a_form_is_given_for_expected_use_within_room_and_what_a_caller_gave_stays() -> None:
    hot = Standing("activation", 400)
    given = judge(hot, ROOM, 12, NOW - 7 * DAY, NOW, NOW)
    assert given.action == "promote"
    assert given.reason == (
        "12.00 uses expected within 7 days save some 4,800 tokens of reading for 400 read once, of 10,000 free"
    )
    assert judge(hot, Room(399, 2_000), 12, NOW - 7 * DAY, NOW, NOW).reason.endswith("more than the 399 free")
    assert judge(hot, Room(10_000, 100), 12, NOW - 7 * DAY, NOW, NOW).action == "keep"
    assert judge(hot, ROOM, 2, NOW - 7 * DAY, NOW, NOW).action == "keep"
    held = replace(hot, held="scheduler", moved=NOW - 3 * DAY)
    assert judge(held, ROOM, 1, NOW - 30 * DAY, NOW - 20 * DAY, NOW).action == "demote"
    full = judge(held, Room(-1, 0), 12, NOW - 7 * DAY, NOW, NOW)
    assert full.reason == "activation holds 1 tokens more than its budget"
    assert judge(replace(held, held="caller"), Room(-1, 0), 0, NOW - 30 * DAY, None, NOW).action == "keep"
    assert tokens_of("tea 茶") == 1 + 1
    assert forms.AHEAD_DAYS == 7.0


helds = st.lists(
    st.builds(
        Held, st.uuids().map(str), st.floats(0, 900), st.floats(0, 900), st.floats(0, 1), st.integers(0, 10_000),
        st.floats(0, 1), st.floats(0, 1), st.booleans(),
    ),
    max_size=30,
)  # fmt: skip
ruled = st.builds(
    Rules, st.none() | st.floats(0, 900), st.none() | st.floats(0, 1), st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 50_000), st.none() | st.floats(1, 900),
)  # fmt: skip


@given(helds, ruled, st.integers(0, 9))
def test_kept_archived_and_ended_are_all_and_the_limits_hold_as_far_as_they_can(
    held: list[Held], rules: Rules, others: int
) -> None:
    plan = retain(held, rules, Beyond(others, others * 10))
    parts = [[one.id for one in part] for part in (plan.kept, plan.archived, plan.ended)]
    assert sorted(chain.from_iterable(parts)) == sorted(one.id for one in held)
    assert all(one.reason for part in (plan.kept, plan.archived, plan.ended) for one in part)
    protected = {one.id for one in held if one.protected}
    assert protected <= set(parts[0])
    kept = [one for one in held if one.id in parts[0]]
    if set(parts[0]) - protected:
        assert rules.memories is None or len(kept) + others <= rules.memories
        assert rules.size is None or sum(one.size for one in kept) + others * 10 <= rules.size
    again = retain([one for one in held if one.id in parts[0]], rules, Beyond(others, others * 10))
    assert not again.archived
    assert not again.ended
    if rules.end_days is None:
        assert not plan.ended


@given(helds)
def test_without_a_rule_everything_is_kept(held: list[Held]) -> None:
    plan = retain(held, Rules())
    assert [one.id for one in plan.kept] == [one.id for one in held if one.protected] + [
        one.id for one in plan.kept if one.reason == "no rule"
    ]
    assert len(plan.kept) == len(held)


def example(number: int) -> Held:
    """A memory of a small space, all figures from its number."""
    return Held(
        f"m{number}", idle_days=number * 37 % 200, age_days=number * 53 % 400, heat=number * 29 % 100 / 100,
        size=number * 311 % 1_000, priority=(0.2, 0.5, 0.5, 0.9)[number % 4], protected=number % 7 == 6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("no rule", Rules()),
        ("age", Rules(end_days=300)),
        ("idle and cold", Rules(idle_days=90, heat=0.5)),
        ("heat", Rules(heat=0.2)),
        ("count", Rules(memories=6)),
        ("size", Rules(size=3_000)),
        ("all", Rules(idle_days=150, heat=0.4, memories=8, size=4_000, end_days=350)),
    ],
)
def test_a_plan_is_as_it_was(name: str, rules: Rules) -> None:
    """Golden files: delete one to have it written anew, and read what it says."""
    plan = json.dumps(asdict(retain([example(n) for n in range(16)], rules)), indent=1) + "\n"
    golden = PLANS / f"{name.replace(' ', '-')}.json"
    if not golden.exists():
        golden.write_text(plan, encoding="utf-8")
        pytest.fail(f"{golden} was not there and is written: read it, and run again")
    assert plan == golden.read_text(encoding="utf-8")
