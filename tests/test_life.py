"""The life of memories on the real ledger: what the loop archives, ends and promotes, and how it is taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from fakes import FakeEmbedder, FakeIndex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import LONG, Clock, Person, eventually, settings_for, states_of
from sqlalchemy import event, insert, text

from memos_mcp.cube import Cube
from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import operations, proposals, reviews
from memos_mcp.ledger.operations import Operation
from memos_mcp.ledger.schema import usage
from memos_mcp.lifecycle import carrying, following, plan
from memos_mcp.memory_api import proposals as settling
from memos_mcp.memory_api.parts import Parts, life_of
from memos_mcp.memory_api.proposals import Carried
from memos_mcp.scheduler.loop import Loop
from memos_mcp.settings import write_config
from memos_mcp.states import State

Opened = Callable[..., Kernel]


@pytest.fixture
def opened(home: Path, clock: Clock, embedder: FakeEmbedder) -> Iterator[Opened]:
    """Opens the store with a life that goes on only when a test says so."""
    made: list[Kernel] = []

    def open_it(engine: FakeEngine | None = None, **arguments: str) -> Kernel:
        given: dict[str, Any] = {} if engine is None else {"engine": lambda _: engine}
        arguments = {"life": "off", **arguments}
        for name, value in arguments.items() if home.exists() else ():
            write_config(home, name, value)
        made.append(
            Kernel.open(
                settings_for(home, **arguments), embedder=lambda _: embedder, now=clock, index=FakeIndex(),
                lock_wait_s=0.0, **given,
            )
        )
        made[-1].api.parts.embedder.get(10.0)
        return made[-1]

    yield open_it
    for kernel in made:
        kernel.close()


@pytest.fixture
def kernel(opened: Opened) -> Kernel:
    return opened()


def settle(kernel: Kernel) -> int:
    """Let the memories live up to now; returns how many steps were done."""
    kernel.api.parts.usage.flush()
    assert kernel.loop is not None
    return sum(tick.done for tick in kernel.loop.settle())


def state_of(ada: Person, cube: str) -> str:
    """The memory's state, read without using it."""
    return str(ada.api.read.cube(ada.caller, cube)["governance"]["state"])


def last(ada: Person) -> Any:
    return ada.history()["operations"][0]


def test_what_is_not_used_for_long_is_archived_with_its_reason_and_found_when_asked_for(
    ada: Person, clock: Clock, kernel: Kernel
) -> None:
    cold, used = ada.keep("The gate was green"), ada.keep("The well is deep")
    clock.advance(days=100)
    ada.search(ids=[used])
    assert settle(kernel) == 0
    clock.advance(days=80)
    assert settle(kernel) == 1
    assert (state_of(ada, cold), state_of(ada, used)) == ("archived", "activated")
    op = last(ada)
    assert (op["verb"], op["client"]) == ("life", "memos-mcp life")
    assert op["reason"] == "archive 1: archived when it is not used for 180 days and colder than 0.2"
    assert cold not in ada.ids("gate"), "one word fetches nothing"
    assert cold in ada.ids("gate green", include=["archived"])


def test_what_the_loop_did_is_undone_and_not_done_again_at_once(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cube = ada.keep("The gate was green")
    clock.advance(days=180)
    assert settle(kernel) == 1
    ada.undo(last(ada)["op"])
    assert state_of(ada, cube) == "generated"
    clock.advance(days=179)
    assert settle(kernel) == 0
    assert state_of(ada, cube) == "generated"
    clock.advance(days=1)
    assert settle(kernel) == 1


def test_a_memory_ends_on_its_date_and_not_before(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cube = ada.keep("The fair is on Sunday", expires="2026-03-08")
    archived = ada.keep("The fair was in May", expires="2026-03-08")
    ada.forget(archived)
    settle(kernel)
    clock.advance(days=6, hours=11)
    assert settle(kernel) == 0
    clock.advance(hours=1)
    assert settle(kernel) == 2
    assert [ada.history(one)["operations"][-1]["reason"] for one in (cube, archived)] == [
        "expire 2: the end that was set for it has come"
    ] * 2
    with kernel.ledger.read() as connection:
        states = [found.state for found in kernel.api.parts.vault.by_ids(connection, [cube, archived]).values()]
    assert states == [State.EXPIRED, State.EXPIRED]


def test_frozen_pinned_held_and_kept_memories_stay(ada: Person, clock: Clock, kernel: Kernel) -> None:
    frozen, pinned, held, kept = (ada.keep(f"The gate number {n} is green") for n in range(4))
    ada.update(frozen, freeze=True)
    ada.update(pinned, pin=True, expires="2026-04-01")
    ada.api.policy(ada.caller, held, "legal hold, expire after 3 days")
    ada.api.policy(ada.caller, kept, "keep")
    clock.advance(days=2_000)
    assert settle(kernel) == 0


def test_what_was_thawed_lives_again(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cube = ada.keep("The gate is green")
    ada.update(cube, freeze=True)
    clock.advance(days=400)
    assert settle(kernel) == 0
    ada.update(cube, freeze=False)
    assert settle(kernel) == 0
    clock.advance(days=180)
    assert settle(kernel) == 1


def test_a_plan_carried_out_twice_is_carried_out_once(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cubes = [ada.keep(f"The gate number {n} is green") for n in range(3)]
    settle(kernel)
    clock.advance(days=180)
    life = life_of(kernel.api.parts)
    with kernel.ledger.read() as connection:
        made = plan.due(life, connection, clock())
    assert sorted(step.id for step in made.steps) == sorted(cubes)
    ada.update(cubes[0], tags=["changed"])
    ada.forget(cubes[1])
    with kernel.ledger.write() as connection:
        first = carrying.carry(life, connection, made)
    with kernel.ledger.write() as connection:
        second = carrying.carry(life, connection, made)
    assert [step.id for step in first.done] == [cubes[2]]
    assert len(first.skipped) == 2
    assert (second.done, second.ops) == ([], [])
    assert [state_of(ada, cube) for cube in cubes] == ["generated", "archived", "archived"]


def test_a_store_that_is_opened_again_goes_on_where_it_was(
    opened: Opened, clock: Clock, home: Path
) -> None:
    first = opened()
    cube = Person(first.api, "ada").keep("The gate is green")
    settle(first)
    first.close()
    clock.advance(days=180)
    second = opened()
    assert settle(second) == 1
    assert state_of(Person(second.api, "ada"), cube) == "archived"


def test_low_priority_is_archived_before_high(ada: Person, clock: Clock, kernel: Kernel) -> None:
    low, high = ada.keep("The gate is green", priority=0.1), ada.keep("The well is deep", priority=0.9)
    clock.advance(days=110)
    settle(kernel)
    assert (state_of(ada, low), state_of(ada, high)) == ("archived", "generated")


def test_other_thresholds_judge_every_memory_anew(opened: Opened, clock: Clock) -> None:
    first = opened()
    cubes = [Person(first.api, "ada").keep(f"The gate number {n} is green") for n in range(5)]
    settle(first)
    first.close()
    clock.advance(days=20)
    second = opened(archive_days="10")
    assert settle(second) == 5
    second.close()
    third = opened(archive_days="0")
    assert settle(third) == 0
    assert [state_of(Person(third.api, "ada"), cube) for cube in cubes] == ["archived"] * 5


def test_a_space_has_a_policy_of_its_own_which_is_undone_like_any_other(
    ada: Person, clock: Clock, kernel: Kernel
) -> None:
    cube, own = ada.keep("The gate is green"), ada.keep("The well is deep")
    ada.api.policy(ada.caller, own, "keep")
    settle(kernel)
    given = ada.api.policy(ada.caller, "personal", "Expire after 10 days,  at most 5 memories")
    assert given == {
        "of": "personal", "policy": "expire after 10 days, at most 5 memories",
        "holds": "expire after 10 days, at most 5 memories", "op": given["op"],
    }  # fmt: skip
    assert ada.api.policy(ada.caller, cube)["holds"] == "expire after 10 days, at most 5 memories"
    again = ada.api.policy(ada.caller, "personal", "expire after 10 days, at most 5 memories")
    assert again["op"] is None
    undone = ada.undo(given["op"])
    assert ada.api.policy(ada.caller, "personal")["policy"] is None
    ada.undo(undone["op"])
    assert ada.api.policy(ada.caller, "personal")["policy"] == "expire after 10 days, at most 5 memories"
    later = ada.api.policy(ada.caller, "personal", "decay")
    with pytest.raises(Conflict, match=f"undo operation {later['op']} first"):
        ada.undo(given["op"])
    ada.undo(later["op"])
    clock.advance(days=10)
    assert settle(kernel) == 1
    assert state_of(ada, own) == "generated"


def test_the_policy_of_a_memory_is_a_version_of_it_and_shown_with_it(ada: Person, kernel: Kernel) -> None:
    cube = ada.keep("The gate is green")
    given = ada.api.policy(ada.caller, f"memcube://{cube}", "may be trained")
    shown = ada.api.read.cube(ada.caller, cube)
    assert (shown["version"], shown["governance"]["policy"]) == (2, "may be trained")
    assert given["holds"] == "decay, may be trained"
    ada.undo(given["op"])
    assert ada.api.read.cube(ada.caller, cube)["governance"]["policy"] is None
    ada.update(cube, freeze=True)
    with pytest.raises(Conflict, match="thaw it first"):
        ada.api.policy(ada.caller, cube, "keep")


@pytest.mark.parametrize("value", ["forever", "保留", "💾", "", "keep," * 90])
def test_a_policy_that_there_is_not_changes_nothing(ada: Person, value: str) -> None:
    cube = ada.keep("The gate is green")
    for name in (cube, "personal"):
        with pytest.raises(InvalidInput, match="expire after N days"):
            ada.api.policy(ada.caller, name, value)
    assert ada.api.policy(ada.caller, cube)["policy"] is None


def test_a_policy_is_its_owners_alone(ada: Person, bob: Person) -> None:
    cube = ada.keep("The gate is green")
    for name in (cube, "personal", "nowhere"):
        with pytest.raises(NotFound):
            bob.api.policy(bob.caller, name, "keep")
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    assert bob.api.policy(bob.caller, cube)["holds"] == "decay"
    for name in (cube, "personal"):
        with pytest.raises(AccessDenied):
            bob.api.policy(bob.caller, name, "keep")


@pytest.mark.parametrize("of", ["memory", "space", "store"])
def test_under_a_legal_hold_nothing_is_forgotten(opened: Opened, of: str) -> None:
    ada = Person(opened(policy="legal hold" if of == "store" else "decay").api, "ada")
    cube, other = ada.keep("The gate is green"), ada.keep("The well is deep")
    if of != "store":
        given = ada.api.policy(ada.caller, cube if of == "memory" else "personal", "legal hold")
    for mode in ("archive", "purge"):
        with pytest.raises(Conflict, match=f"Under a legal hold nothing is forgotten: {cube}"):
            ada.forget(cube, other, mode=mode)
        token = ada.forget(query="gate", dry_run=True, mode=mode)["confirm"]
        with pytest.raises(Conflict, match="legal hold"):
            ada.forget(query="gate", mode=mode, confirm=token)
    assert state_of(ada, cube) == "generated"
    if of != "store":
        ada.undo(given["op"])
        assert ada.forget(cube, mode="purge")["affected"] == [cube]


def test_a_store_is_not_opened_with_a_policy_that_there_is_not(opened: Opened, home: Path) -> None:
    with pytest.raises(InvalidInput, match="no policy of a store"):
        opened(policy="legal hodl")
    assert not home.exists()


def test_a_space_holds_what_its_policy_lets_it(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cubes = []
    for n in range(8):
        cubes.append(ada.keep(f"The gate number {n} is green", priority=0.9 if n == 0 else 0.5))
        clock.advance(days=1)
    ada.update(cubes[1], pin=True)
    ada.api.policy(ada.caller, "personal", "at most 4 memories")
    assert settle(kernel) == 4
    assert [state_of(ada, cube) for cube in cubes] == ["generated"] * 2 + ["archived"] * 4 + ["generated"] * 2
    assert "8 memories stand and 4 may" in str(last(ada)["reason"])
    assert settle(kernel) == 0
    assert size(kernel) == 4


def size(kernel: Kernel) -> int:
    with kernel.ledger.read() as connection:
        return reviews.size_of(connection, 1)[0]


def test_the_sums_of_a_space_follow_whatever_is_done(ada: Person, clock: Clock, kernel: Kernel) -> None:
    one, two, three, four = (ada.keep(f"The gate number {n} is green") for n in range(4))
    ada.update(one, content="The gate number one is a warm and friendly red")
    gone = ada.forget(two)
    ada.forget(three, mode="purge")
    ada.add("The gate four is blue", supersedes=[four])
    settle(kernel)
    ada.undo(gone["op"])
    settle(kernel)
    ada.forget(one, mode="purge")
    settle(kernel)
    with kernel.ledger.read() as connection:
        sums = "SELECT count(*), sum(length(json_extract(snapshot, '$.content'))) FROM cubes"
        truth = connection.execute(text(f"{sums} WHERE state != 'archived' AND superseded_by IS NULL")).one()
        assert reviews.size_of(connection, 1) == tuple(truth)
        assert reviews.of(connection, [1, 3]) == {}, "a purge leaves nothing"


def test_hot_memories_are_promoted_and_cold_ones_are_not_any_more(
    opened: Opened, clock: Clock, engine: FakeEngine
) -> None:
    kernel = opened(engine)
    ada = Person(kernel.api, "ada")
    hot, cold = ada.keep(f"The gate is green {LONG}"), ada.keep(f"The well is deep {LONG}")
    for _ in range(4):
        ada.search(ids=[hot])
    settle(kernel)
    assert eventually(lambda: not states_of(kernel).busy)
    assert promoted(kernel) == {hot}
    made = last(ada)
    assert made["reason"] == "to activation"
    assert states_of(kernel).catalogue.entries
    clock.advance(days=30)
    settle(kernel)
    assert promoted(kernel) == set()
    assert not states_of(kernel).catalogue.entries
    assert state_of(ada, cold) == "generated"


def promoted(kernel: Kernel) -> set[str]:
    with kernel.ledger.read() as connection:
        rows = connection.execute(text("SELECT id FROM cubes JOIN promoted_cubes ON cube = seq"))
        return set(rows.scalars())


def test_a_promotion_that_somebody_took_back_is_not_made_again_until_the_memory_is_used(
    opened: Opened, clock: Clock, engine: FakeEngine
) -> None:
    kernel = opened(engine)
    ada = Person(kernel.api, "ada")
    hot = ada.keep(f"The gate is green {LONG}")
    for _ in range(6):
        ada.search(ids=[hot])
    settle(kernel)
    assert promoted(kernel) == {hot}
    clock.advance(hours=1)
    ada.undo(next(op["op"] for op in ada.history()["operations"] if op["verb"] == "promote"))
    settle(kernel)
    clock.advance(days=2)
    assert (settle(kernel), promoted(kernel)) == (0, set())
    ada.search(ids=[hot])
    settle(kernel)
    assert promoted(kernel) == {hot}


def test_what_a_caller_promoted_stays_promoted(opened: Opened, clock: Clock, engine: FakeEngine) -> None:
    kernel = opened(engine)
    ada = Person(kernel.api, "ada")
    cube = ada.keep(f"The gate is green {LONG}")
    ada.activate(cube)
    clock.advance(days=90)
    settle(kernel)
    assert promoted(kernel) == {cube}


def test_parts_of_a_document_are_not_archived_one_by_one(ada: Person, clock: Clock, kernel: Kernel) -> None:
    ada.add("# Install\n\nTake the key.\n\n# Use\n\nTurn it twice. " + "And again. " * 200, kind="document")
    ada.add("The form {name}", kind="template")
    ada.add("I am a block", kind="block")
    clock.advance(days=2_000)
    before = size(kernel)
    assert settle(kernel) == (1 if before == 3 else 0)


def test_a_state_of_high_priority_is_warmer_than_one_of_low(opened: Opened, engine: FakeEngine) -> None:
    kernel = opened(engine)
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"The gate {n} is green {LONG}", priority=n / 2) for n in range(3)]
    for cube in cubes:
        ada.activate(cube)
        ada.search(ids=[cube])
    kernel.api.parts.usage.flush()
    catalogue = states_of(kernel).catalogue
    warm = catalogue.heats(list(catalogue.entries.values()))
    by_cube = {max(entry.cubes): warm[key] for key, entry in catalogue.entries.items() if entry.cubes}
    assert sorted(by_cube, key=lambda seq: by_cube[seq]) == [1, 2, 3]


def proposed(kernel: Kernel, ids: Sequence[str], score: float = 0.8, kind: str = "merge") -> str:
    with kernel.ledger.write() as connection:
        cubes = list(kernel.api.parts.vault.by_ids(connection, ids).values())
        stamp = kernel.api.parts.stamp()
        made = proposals.propose(connection, kind, cubes, score, "they say the same", stamp)
        reviews.look_at(connection, [cube.seq for cube in cubes], stamp)
    assert made is not None
    return made


def test_what_is_planned_and_proposed_is_shown_with_its_reasons(
    ada: Person, bob: Person, clock: Clock, kernel: Kernel
) -> None:
    one, two = ada.keep("The gate is green"), ada.keep("The fair is on Sunday", expires="2026-03-08")
    offer = proposed(kernel, [one, two])
    shown = ada.api.plan(ada.caller)
    assert (shown["life"], shown["complete"]) == ("off", True)
    assert [(step["id"], step["action"], step["at"][:10]) for step in shown["steps"]] == [
        (two, "expire", "2026-03-08"), (one, "archive", "2026-08-28"),
    ]  # fmt: skip
    assert shown["steps"][0]["reason"] == "the end that was set for it has come"
    assert [(found["id"], found["ids"]) for found in shown["proposals"]] == [(offer, [one, two])]
    others = bob.api.plan(bob.caller)
    assert (others["steps"], others["proposals"]) == ([], [])
    with pytest.raises(NotFound):
        bob.api.plan(bob.caller, "personal")
    for how in ("approve", "decline"):
        with pytest.raises(NotFound):
            bob.api.settle_proposal(bob.caller, {how: offer})


def carried(parts: Parts, connection: Any, op: Operation, cubes: Sequence[Cube], automatic: bool) -> Carried:
    """Archives all but the first, as an operation."""
    made = parts.vault.move_all(connection, op, cubes[1:], State.ARCHIVED, "forget")
    operations.record(connection, op, [change for _, change in made])
    return Carried([cube for cube, _ in made])


@pytest.fixture
def carrier() -> Iterator[None]:
    """Somebody who carries proposals out, for the length of a test."""
    settling.KINDS["imagined"] = carried
    yield
    del settling.KINDS["imagined"]


@pytest.mark.usefixtures("carrier")
def test_a_proposal_is_carried_out_once_or_declined_for_good(ada: Person, kernel: Kernel) -> None:
    one, two, three = (ada.keep(f"The gate number {n} is green") for n in range(3))
    offer, other = proposed(kernel, [one, two], kind="imagined"), proposed(kernel, [one, three], kind="imagined")
    done = ada.api.settle_proposal(ada.caller, {"approve": f" {offer} "})
    assert (done["state"], state_of(ada, two)) == ("done", "archived")
    with pytest.raises(Conflict, match=f"is done already by operation {done['op']}"):
        ada.api.settle_proposal(ada.caller, {"approve": offer})
    ada.undo(done["op"])
    ada.update(three, tags=["changed"])
    with pytest.raises(Conflict, match="is declined: its memories have changed"):
        ada.api.settle_proposal(ada.caller, {"approve": other})
    third = proposed(kernel, [one, three], kind="imagined")
    assert ada.api.settle_proposal(ada.caller, {"decline": third})["state"] == "declined"
    assert ada.api.plan(ada.caller)["proposals"] == []


def test_a_proposal_that_nobody_can_carry_out_says_so(ada: Person, kernel: Kernel) -> None:
    offer = proposed(kernel, [ada.keep("The gate is green"), ada.keep("The gate is green today")], kind="unheard")
    with pytest.raises(Conflict, match=f"memos-mcp plan --decline {offer}"):
        ada.api.settle_proposal(ada.caller, {"approve": offer})
    for arguments in ({}, {"approve": offer, "decline": offer}):
        with pytest.raises(InvalidInput):
            ada.api.settle_proposal(ada.caller, dict(arguments))
    for name in ("", "nothing", "🦊" * 99):
        with pytest.raises(NotFound, match="lists those that are open"):
            settling.approve(ada.api.parts, ada.caller, name)


def test_frozen_memories_and_those_under_a_hold_are_part_of_no_approval(ada: Person, kernel: Kernel) -> None:
    settling.KINDS.setdefault("held", carried)
    one, two = ada.keep("The gate is green"), ada.keep("The gate is green today")
    ada.update(two, freeze=True)
    offer = proposed(kernel, [one, two], kind="held")
    with pytest.raises(Conflict, match="frozen: thaw it first"):
        ada.api.settle_proposal(ada.caller, {"approve": offer})
    ada.update(two, freeze=False)
    ada.api.policy(ada.caller, "personal", "legal hold")
    with pytest.raises(Conflict, match="legal hold"):
        ada.api.settle_proposal(ada.caller, {"approve": offer})
    del settling.KINDS["held"]


def test_what_is_as_sure_as_the_store_wants_is_carried_out_by_itself_and_the_rest_waits(opened: Opened) -> None:
    kernel = opened(merge_from="97")
    ada = Person(kernel.api, "ada")
    settling.KINDS["merge"], former = carried, settling.KINDS.get("merge")
    pairs = [[ada.keep(f"The gate number {n} is green"), ada.keep(f"The gate number {n} is green!")] for n in range(2)]
    settle(kernel)
    proposed(kernel, pairs[0], 0.99)
    waits = proposed(kernel, pairs[1], 0.9)
    settle(kernel)
    settling.KINDS.pop("merge")
    if former is not None:
        settling.KINDS["merge"] = former
    states = [state_of(ada, cube) for pair in pairs for cube in pair]
    assert states == ["generated", "archived", "generated", "generated"]
    assert [one["id"] for one in ada.api.plan(ada.caller)["proposals"]] == [waits]


LARGE = (
    "cubes", "changes", "operations", "usage", "reviews", "proposals", "proposed_cubes", "promoted_cubes", "versions",
)  # fmt: skip


def test_no_query_of_a_tick_reads_a_whole_table(ada: Person, clock: Clock, kernel: Kernel) -> None:
    ada.api.policy(ada.caller, ada.add("First")["cubes"][0]["id"], "keep")
    ada.api.policy(ada.caller, "personal", "at most 2 memories, archive after 5 days")
    pair = [ada.keep(f"The gate number {n} is green") for n in range(4)]
    proposed(kernel, pair[:2])
    asked: dict[str, Any] = {}

    here = threading.get_ident()

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        mine = threading.get_ident() == here
        if mine and statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            asked[statement] = parameters[0] if many else parameters

    event.listen(kernel.ledger.engine, "before_cursor_execute", note)
    settle(kernel)
    clock.advance(days=6)
    ada.search(ids=pair[:1])
    settle(kernel)
    event.remove(kernel.ledger.engine, "before_cursor_execute", note)
    mine = {sql: given for sql, given in asked.items() if any(f" {table}" in sql for table in LARGE)}
    assert len(mine) > 10
    with kernel.ledger.read() as connection:
        for sql, parameters in mine.items():
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
            scans = [row[3] for row in steps if row[3].startswith("SCAN") and row[3].split()[1] in LARGE]
            assert not scans, f"{scans} in {sql}"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("akfuptcnx"), st.integers(0, 5), st.integers(0, 200)), max_size=14))
def test_whatever_happens_every_memory_that_stands_has_a_review_as_if_judged_just_now(
    ada: Person, clock: Clock, kernel: Kernel, story: list[tuple[str, int, int]]
) -> None:
    """The rows that grew with the ledger are those that a judgement of everything from nothing makes."""
    cubes = [ada.keep(f"The gate number {next(NUMBERS)} is green") for _ in range(6)]
    for what, which, wait in story:
        cube = cubes[which]
        try:
            _happen(ada, kernel, what, cube)
        except (Conflict, NotFound, InvalidInput):
            continue
        clock.advance(days=wait / 10)
        if wait % 3 == 0:
            settle(kernel)
    settle(kernel)
    life = life_of(kernel.api.parts)
    with kernel.ledger.write() as connection:
        grown = {row["cube"]: dict(row) for row in connection.execute(text("SELECT * FROM reviews")).mappings()}
        following.judge_anew(life, connection)
    while following.follow(life):
        pass
    with kernel.ledger.read() as connection:
        anew = {row["cube"]: dict(row) for row in connection.execute(text("SELECT * FROM reviews")).mappings()}
        stand = connection.execute(text("SELECT count(*) FROM reviews WHERE size IS NOT NULL")).scalar_one()
        assert reviews.size_of(connection, 1)[0] == stand
        due = reviews.due(connection, kernel.api.parts.stamp(), 100)
    assert not due
    assert set(grown) == set(anew)
    for seq, row in grown.items():  # a use only puts the day off: it is found when that day comes
        assert (row["at"] or "9") <= (anew[seq]["at"] or "9")
        assert {**row, "at": None} == {**anew[seq], "at": None}


NUMBERS = count()


def _happen(ada: Person, kernel: Kernel, what: str, cube: str) -> None:
    {
        "a": lambda: ada.forget(cube),
        "k": lambda: ada.api.policy(ada.caller, cube, "keep"),
        "f": lambda: ada.update(cube, freeze=True),
        "t": lambda: ada.update(cube, freeze=False),
        "u": lambda: ada.undo(ada.history(cube)["operations"][-1]["op"]),
        "p": lambda: ada.forget(cube, mode="purge"),
        "c": lambda: ada.update(cube, content=f"{cube} is blue"),
        "n": lambda: ada.update(cube, pin=True),
        "x": lambda: ada.search(ids=[cube]),
    }[what]()


def test_the_loop_works_by_itself_and_ends_with_the_kernel(
    home: Path, clock: Clock, embedder: FakeEmbedder
) -> None:
    kernel = Kernel.open(settings_for(home), embedder=lambda _: embedder, now=clock, index=FakeIndex())
    try:
        ada = Person(kernel.api, "ada")
        cube = ada.keep("The gate is green")
        clock.advance(days=180)
        assert kernel.loop is not None
        kernel.loop.notice()
        assert eventually(lambda: state_of(ada, cube) == "archived")
        assert eventually(lambda: not kernel.busy)
    finally:
        kernel.close()


def test_a_life_that_is_off_does_nothing_and_says_so(opened: Opened, clock: Clock) -> None:
    kernel = opened()
    ada = Person(kernel.api, "ada")
    ada.keep("The gate is green")
    assert isinstance(kernel.loop, Loop)
    kernel.loop.notice()
    assert ada.api.plan(ada.caller)["life"] == "off"


def test_uses_that_do_not_matter_move_nothing(ada: Person, clock: Clock, kernel: Kernel) -> None:
    cube = ada.keep("The gate is green")
    ada.search(ids=[cube])
    settle(kernel)
    with kernel.ledger.write() as connection:
        before = reviews.of(connection, [1])
        row = {"cube": 1, "at": kernel.api.parts.stamp(), "event": "served", "principal": "ada"}
        connection.execute(insert(usage), [row] * 300)
    assert settle(kernel) == 0
    with kernel.ledger.read() as connection:
        assert reviews.of(connection, [1]) == before


def test_a_step_that_was_interrupted_is_done_again_with_the_same_outcome(
    ada: Person, clock: Clock, kernel: Kernel
) -> None:
    for n in range(3):
        ada.keep(f"The gate number {n} is green")
    life = life_of(kernel.api.parts)
    while following.follow(life):
        pass
    with kernel.ledger.write() as connection:
        rows = reviews.of(connection, [1, 2, 3])
        kernel.ledger.put(connection, following.NOTE, None)
    while following.follow(life):
        pass
    with kernel.ledger.read() as connection:
        assert reviews.of(connection, [1, 2, 3]) == rows
        assert reviews.size_of(connection, 1)[0] == 3
