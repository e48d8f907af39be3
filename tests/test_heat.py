"""Heat, the figures it is made of, and how memories do in a task: pure rules first, then the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from person import Clock, Person

from memos_mcp import heat_constants, settings
from memos_mcp.cube import Figures, instant
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.heat_constants import STANDARD
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import figures, relevance
from memos_mcp.policies import use
from memos_mcp.policies.heat import heat, together
from memos_mcp.policies.use import EVENTS, Happened, Use
from memos_mcp.usage import Usage, task_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HAPPENED = st.builds(
    lambda event, hours: Happened(event, instant(NOW - timedelta(hours=hours))),
    st.sampled_from(sorted(EVENTS)),
    st.floats(0, 24 * 800),
)
USES = st.builds(Use, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e5))
SAID = st.sampled_from([None, "useful", "wrong", "stale"])


def written(days: float) -> Figures:
    return use.begun(instant(NOW - timedelta(days=days)))


def warmth(days_old: float, *events: Happened, importance: float = 0.5) -> float:
    return heat(use.seen(use.fold(written(days_old), events), NOW), importance)


@given(USES, st.floats(0, 1), st.booleans(), SAID)
def test_heat_is_between_nothing_and_one(one: Use, importance: float, pinned: bool, said: str | None) -> None:
    assert 0.0 <= heat(one, importance, pinned, said) <= 1.0


@given(st.lists(HAPPENED, max_size=20), st.sampled_from(sorted(EVENTS)), st.floats(0, 400), SAID)
def test_no_further_use_lowers_heat(events: list[Happened], event: str, days: float, said: str | None) -> None:
    before = use.fold(written(1_000), events)
    later = NOW + timedelta(days=days)
    after = use.fold(before, [Happened(event, instant(later))])
    assert heat(use.seen(after, later), feedback=said) >= heat(use.seen(before, later), feedback=said) - 1e-12


@given(st.lists(HAPPENED, max_size=20), st.floats(0, 4_000), st.floats(0, 4_000), st.booleans())
def test_heat_never_rises_by_waiting(events: list[Happened], first: float, more: float, pinned: bool) -> None:
    held = use.fold(written(1_000), events)
    sooner, later = (NOW + timedelta(days=days) for days in (first, first + more))
    assert heat(use.seen(held, later), pinned=pinned) <= heat(use.seen(held, sooner), pinned=pinned)


@given(USES, st.floats(0, 1), st.floats(0, 1))
def test_what_is_more_important_or_pinned_is_no_colder(one: Use, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert heat(one, low) <= heat(one, high) <= heat(one, high, pinned=True)
    assert heat(one, low, pinned=True) >= STANDARD.pinned


def test_the_moment_of_writing_counts_as_the_first_and_fades() -> None:
    assert warmth(0) > warmth(7) > warmth(70)
    assert warmth(0) - warmth(7) == pytest.approx(STANDARD.recency / 2)


def test_a_memory_used_ten_times_a_year_ago_is_not_warm() -> None:
    ago = instant(NOW - timedelta(days=365))
    often = [Happened("served", ago), Happened("read", ago)] * 10
    assert warmth(400, *often) < warmth(400, Happened("served", instant(NOW))) / 2
    assert warmth(400, *often) < 0.06


def test_what_a_caller_called_wrong_or_stale_is_colder() -> None:
    one = Use(5, 5, 0)
    assert heat(one, feedback="wrong") < heat(one, feedback="stale") < heat(one) == heat(one, feedback="useful")


def test_the_use_of_several_memories_is_that_of_all_and_as_late_as_the_latest() -> None:
    assert together([Use(1, 2, 3), Use(4, 5, 1)]) == Use(5, 7, 1)
    assert heat(together([])) == pytest.approx(STANDARD.importance / 2)


@given(st.lists(HAPPENED, max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_a_log_folded_part_by_part_gives_the_very_figures_of_the_whole(events: list[Happened], cuts: list[int]) -> None:
    whole, held = use.fold(written(900), events), written(900)
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    for start, end in itertools.pairwise(edges):
        held = use.fold(held, events[start:end])
    assert held == whole


@given(st.lists(HAPPENED, max_size=12), st.randoms(use_true_random=False))
def test_events_out_of_order_leave_the_same(events: list[Happened], shuffling: object) -> None:
    turned = list(events)
    shuffling.shuffle(turned)  # type: ignore[attr-defined]
    one, other = use.fold(written(900), events), use.fold(written(900), turned)
    assert (one.at, one.last, one.served, one.used) == (other.at, other.last, other.served, other.used)
    assert (one.visits, one.dwell) == pytest.approx((other.visits, other.dwell))


@pytest.mark.parametrize("text", ["", "  ", "half_life_days=14", "visits=0.4, dwell=0.2", "half_at=1e2"])
def test_constants_are_read_from_a_text(text: str) -> None:
    found = heat_constants.read(text)
    assert heat(Use(3, 3, 3), constants=found) <= 1.0
    assert found == STANDARD or text.strip()


@pytest.mark.parametrize(
    "text", ["warmth=1", "visits", "visits=", "visits=much", "visits=nan", "visits=0.9", "half_life_days=0",
             "热=1", "=", "recency=-1", "pinned=2", "half_life_days=inf", "\U0001f525"],
)  # fmt: skip
def test_constants_that_cannot_be_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="heat"):
        heat_constants.read(text)


# The ledger.

BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(sorted(EVENTS)), st.floats(0, 90)), max_size=8), max_size=6
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(batches=BATCHES, kept=st.integers(1, 12))
def test_figures_kept_in_any_batches_are_the_fold_of_the_log_however_short_the_log_is_kept(
    ada: Person, kernel: Kernel, batches: list[list[tuple[int, str, float]]], kept: int
) -> None:
    parts = kernel.api.parts
    usage = Usage(parts.ledger, parts.vault, most_events=kept)
    ids = [ada.keep(f"memory {place} of {id(batches)} {kept}", kind="event") for place in range(3)]
    with parts.ledger.read() as connection:
        cubes = [parts.vault.by_ids(connection, ids)[one] for one in ids]
    wanted = {cube.seq: use.begun(cube.created) for cube in cubes}
    for batch in batches:
        for place, event, days in batch:
            at = instant(NOW + timedelta(days=days))
            usage.served([cubes[place].seq], at, ada.caller, event)
            wanted[cubes[place].seq] = use.fold(wanted[cubes[place].seq], [Happened(event, at)])
        usage.flush()
        usage.shorten()
        with parts.ledger.read() as connection:
            assert usage.figures_of(connection, list(wanted)) == wanted
            rows = [row for row in figures.oldest(connection, 10_000) if row.cube in wanted]
            folded = {seq: use.begun(at) for seq, at in figures.written(connection, list(wanted)).items()}
            folded |= figures.bases(connection, list(wanted))
            assert figures.length(connection) <= max(kept, 1)
        for row in rows:
            folded[row.cube] = use.fold(folded[row.cube], [Happened(row.event, row.at)])
        assert folded == wanted


def test_a_log_of_a_former_version_is_counted_in_at_the_start(ada: Person, kernel: Kernel) -> None:
    parts = kernel.api.parts
    parts.usage.stop()
    cube = ada.keep("The spare key is with Bruno")
    with parts.ledger.write() as connection:
        seq = parts.vault.by_ids(connection, [cube])[cube].seq
        row = {"cube": seq, "at": instant(NOW), "event": "served", "principal": "ada"}
        figures.log(connection, [row] * 5)
    usage = Usage(parts.ledger, parts.vault)
    usage.start()
    usage.served([seq], instant(NOW), ada.caller)
    usage.stop()
    with parts.ledger.read() as connection:
        assert usage.figures_of(connection, [seq])[seq].served == 6


def heat_of(kernel: Kernel, ada: Person, cube: str) -> float:
    kernel.api.parts.usage.flush()
    return float(kernel.api.read.cube(ada.caller, cube)["behavioural"]["heat"])


def test_heat_in_the_cube_rises_with_use_and_fades_with_time(ada: Person, kernel: Kernel, clock: Clock) -> None:
    cube = ada.keep("Clara keeps bees on the roof")
    heats = [heat_of(kernel, ada, cube)]
    ada.search("Who keeps bees?")
    heats.append(heat_of(kernel, ada, cube))
    ada.search(ids=[cube])
    heats.append(heat_of(kernel, ada, cube))
    ada.update(cube, feedback="useful")
    heats.append(heat_of(kernel, ada, cube))
    assert heats == sorted(set(heats))
    clock.advance(days=365)
    assert heat_of(kernel, ada, cube) < min(heats)
    behaviour = kernel.api.read.cube(ada.caller, cube)["behavioural"]
    assert (behaviour["served"], behaviour["used"], behaviour["uses"]) == (1, 2, 2)


def test_what_stays_in_a_prompt_from_turn_to_turn_dwells(ada: Person, kernel: Kernel) -> None:
    cube = ada.keep("Dmitri is allergic to oysters", kind="preference")
    parts = kernel.api.parts
    for _ in range(4):
        ada.context("Plan a dinner for Dmitri")
    parts.usage.flush()
    with parts.ledger.read() as connection:
        seq = parts.vault.by_ids(connection, [cube])[cube].seq
        found = parts.usage.figures_of(connection, [seq])[seq]
    assert found.used == 3
    assert found.dwell == pytest.approx(3)


def of_task(kernel: Kernel, caller: Caller, task: str, cube: str) -> relevance.Relevance | None:
    parts = kernel.api.parts
    parts.usage.flush()
    with parts.ledger.read() as connection:
        seq = parts.vault.by_ids(connection, [cube])[cube].seq
        return parts.usage.relevance_of(connection, caller, task, [seq]).get(seq)


def test_relevance_is_kept_by_task_and_a_use_counts_for_the_task_that_served(ada: Person, kernel: Kernel) -> None:
    cube = ada.keep("Elif moved to Porto", session="monday")
    ada.search("Where does Elif live?", session="monday")
    monday, other = task_of(ada.caller, "monday"), task_of(ada.caller, "tuesday")
    found = of_task(kernel, ada.caller, monday, cube)
    assert found is not None
    assert (found.served, found.used) == (1, 0)
    assert 0 < found.score <= 1
    ada.search(ids=[cube])
    ada.update(cube, feedback="useful")
    after = of_task(kernel, ada.caller, monday, cube)
    assert after is not None
    assert (after.served, after.used) == (1, 2)
    assert of_task(kernel, ada.caller, other, cube) is None
    assert of_task(kernel, Caller("bob"), monday, cube) is None


def test_what_was_never_served_for_a_task_is_not_relevant_to_it(ada: Person, kernel: Kernel) -> None:
    cube = ada.keep("Farid plays the oud")
    ada.search(ids=[cube])
    assert of_task(kernel, ada.caller, task_of(ada.caller, None), cube) is None


def test_relevance_is_bounded_and_what_was_longest_without_a_use_goes_first(ada: Person, kernel: Kernel) -> None:
    parts = kernel.api.parts
    cube = ada.keep("Greta has a kayak")
    for place in range(6):
        parts.usage.served([1], f"2026-03-01T12:00:0{place}.000Z", ada.caller, task=f"task {place}", scores=[0.5])
    parts.usage.flush()
    with parts.ledger.write() as connection:
        assert relevance.bound(connection, 2) == 4
    assert [of_task(kernel, ada.caller, f"task {place}", cube) is not None for place in range(6)] == [False] * 4 + [
        True
    ] * 2


def test_a_store_with_other_constants_reckons_by_them(open_kernel: Callable[..., Kernel], home: Path) -> None:
    home.mkdir()
    with pytest.raises(InvalidInput, match="may be 1 together"):
        settings.write_config(home, "heat", "visits=0.9")
    settings.write_config(home, "heat", "recency=0 importance=0")
    kernel = open_kernel()
    person = Person(kernel.api, "ada")
    cube = person.keep("Ingrid has a greenhouse")
    assert heat_of(kernel, person, cube) == 0.0
    person.search("Who has a greenhouse?")
    assert heat_of(kernel, person, cube) > 0.0


@pytest.mark.parametrize("read", [lambda kernel: kernel.api.parts.usage.flush()])
def test_a_purge_leaves_nothing_of_use(ada: Person, kernel: Kernel, read: Callable[[Kernel], None]) -> None:
    cube = ada.keep("Hiro's door code is 4711")
    ada.search("What is the code of Hiro's door?")
    read(kernel)
    ada.forget(cube, mode="purge")
    with kernel.ledger.read() as connection:
        for table in ("figures", "usage_bases", "relevance", "usage"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0
