"""The time machine: a space as it stood at a time, and brought back there."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from kernels import Hosts
from person import Clock, Person
from sqlalchemy import event
from terminals import Terminal

from memos_mcp.errors import InvalidInput, NotFound
from memos_mcp.gateway import resources
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import packed
from memos_mcp.memory_api import archive
from memos_mcp.memory_api.past import PAGE

FUTURE = "2030-01-01"


def tick(clock: Clock) -> str:
    """A time behind everything done and before everything to come."""
    clock.advance(seconds=1)
    at = clock.now.isoformat()
    clock.advance(seconds=1)
    return at


def as_of(ada: Person, at: str, **given: Any) -> dict[str, tuple[str, str]]:
    """State and text of each memory at a time."""
    return {one["id"]: (one["state"], one["text"]) for one in ada.past(at, **given)["memories"]}


def test_a_space_is_read_as_it_stood_with_texts_and_states_of_then(ada: Person, clock: Clock) -> None:
    before = tick(clock)
    tea, gone = ada.keep("Ada drinks tea"), ada.keep("The gate is green")
    early = tick(clock)
    ada.update(tea, content="Ada drinks 绿茶 🍵", tags=["drink"])
    ada.forget(gone)
    milk = ada.keep("Milk is bought on Friday")
    late = tick(clock)
    assert as_of(ada, before) == {}
    assert as_of(ada, early) == {tea: ("generated", "Ada drinks tea"), gone: ("generated", "The gate is green")}
    now = {
        tea: ("generated", "Ada drinks 绿茶 🍵"), gone: ("archived", "The gate is green"),
        milk: ("generated", "Milk is bought on Friday"),
    }  # fmt: skip
    assert as_of(ada, late) == as_of(ada, FUTURE) == now
    told = {one["id"]: (one["uri"], one["version"], one["changed"]) for one in ada.past(early)["memories"]}
    assert told == {tea: (f"memcube://{tea}/v/1", 1, True), gone: (f"memcube://{gone}", 1, True)}
    assert not any(one["changed"] for one in ada.past(late)["memories"])


def test_that_a_memory_was_used_since_is_no_change_but_its_state_of_then_is_told(ada: Person, clock: Clock) -> None:
    tea = ada.keep("Ada drinks tea")
    at = tick(clock)
    ada.update(tea, feedback="useful")
    assert as_of(ada, at) == {tea: ("generated", "Ada drinks tea")}
    ada.search("tea")
    ada.api.parts.usage.flush()
    assert ada.state(tea) == "activated"


def test_what_was_purged_since_is_nowhere_and_is_said_so(ada: Person, clock: Clock) -> None:
    kept, gone = ada.keep("Ada drinks tea"), ada.keep("The code is 31-41-59")
    at = tick(clock)
    later = ada.keep("The code is 27-18-28")
    ada.forget(gone, later, mode="purge")
    page = ada.past(at)
    assert ([one["id"] for one in page["memories"]], page["purged"]) == ([kept], 1)
    assert ada.past(tick(clock))["purged"] == 0
    assert ada.restore(at)["purged"] == 1
    assert "31-41" not in json.dumps(ada.restore(at))


def test_pages_follow_one_another_and_miss_nothing(ada: Person, clock: Clock) -> None:
    said = [{"role": "user", "content": f"Line {n}"} for n in range(2 * PAGE + 1)]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    at = tick(clock)
    ada.add(messages=[{"role": "user", "content": f"Later {n}"} for n in range(5)])
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = ada.past(at, after=after)
        seen += [one["id"] for one in page["memories"]]
        after = page.get("next")
    assert seen == ids


def test_a_space_at_a_time_is_a_resource(ada: Person, clock: Clock, kernel: Kernel) -> None:
    said = [{"role": "user", "content": f"Line {n}"} for n in range(PAGE + 1)]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    at = tick(clock)
    ada.forget(*ids[:2])

    def read(uri: str) -> Any:
        return json.loads(resources.read(kernel.api, ada.caller, uri))

    page = read(f"memcube://space/personal?as_of={at.replace('+', '%2B')}")
    assert [one["state"] for one in page["memories"]] == ["generated"] * PAGE
    following = read(page["next"])
    assert [one["id"] for one in following["memories"]] == ids[PAGE:]
    assert following["as_of"] == page["as_of"]
    with pytest.raises(InvalidInput, match="is not a date"):
        read("memcube://space/personal?as_of=yesterday")


@pytest.mark.parametrize("at", ["", "yesterday", "昨天", "🎈", "0001-01-01", "9" * 60, "2026-13-01"])
def test_a_time_that_cannot_be_is_refused_with_one_that_can(ada: Person, at: str) -> None:
    ada.keep("Ada drinks tea")
    for verb in (ada.past, ada.restore):
        with pytest.raises(InvalidInput, match=r"is not a date|years before 1000"):
            verb(at)


# Bringing back.


def test_a_space_is_brought_back_as_one_operation_and_taken_back_by_its_undo(ada: Person, clock: Clock) -> None:
    tea, gone, old = ada.keep("Ada drinks tea"), ada.keep("The gate is green"), ada.keep("Ada lives in Lisbon")
    at = tick(clock)
    then = as_of(ada, at)
    ada.update(tea, content="Ada drinks coffee", importance=0.9)
    ada.forget(gone)
    moved = ada.keep("Ada lives in Porto", supersedes=[old])
    now = as_of(ada, FUTURE)
    plan = ada.restore(at, dry_run=True)
    assert plan["op"] is None
    assert as_of(ada, FUTURE) == now
    assert {one["id"]: one["why"] for one in plan["restored"]} == {
        tea: "its content, importance changed since", gone: "it was generated",
        old: "its superseded_by, valid_to changed since", moved: "it was written since",
    }  # fmt: skip
    done = ada.restore(at)
    assert done["restored"] == plan["restored"]
    assert done["left"] == []
    assert as_of(ada, FUTURE) == then | {moved: ("archived", "Ada lives in Porto")}
    assert ada.ids("Ada lives", top_k=1) == [old]
    assert ada.ids("the green gate", top_k=1) == [gone]
    [entry] = ada.history(op=done["op"])["operations"]
    assert (entry["verb"], len(entry["changes"])) == ("restore", 4)
    ada.undo(done["op"])
    assert as_of(ada, FUTURE) == now
    assert ada.ids("Ada lives", top_k=1) == [moved]


def test_bringing_back_what_is_so_changes_nothing(ada: Person, clock: Clock) -> None:
    ada.keep("Ada drinks tea")
    at = tick(clock)
    before = ada.history()
    done = ada.restore(at)
    assert (done["restored"], done["op"]) == ([], None)
    assert ada.history() == before
    ada.update(ada.keep("Milk"), content="Oat milk")
    assert ada.restore(at)["op"] is not None
    assert ada.restore(at)["op"] is None


def test_what_is_frozen_is_left_and_named(ada: Person, clock: Clock) -> None:
    tea, gate = ada.keep("Ada drinks tea"), ada.keep("The gate is green")
    at = tick(clock)
    ada.update(tea, content="Ada drinks coffee")
    ada.update(tea, freeze=True)
    ada.update(gate, content="The gate is red")
    late = ada.keep("Written since")
    ada.update(late, freeze=True)
    done = ada.restore(at)
    assert [one["id"] for one in done["restored"]] == [gate]
    assert {one["id"] for one in done["left"]} == {tea, late}
    assert all("thaw it first" in one["why"] for one in done["left"])
    assert ada.text(tea) == "Ada drinks coffee"


def test_what_was_frozen_is_frozen_again_and_thaws_to_where_it_was(ada: Person, clock: Clock) -> None:
    tea = ada.keep("Ada drinks tea")
    ada.update(tea, feedback="useful")
    ada.update(tea, freeze=True)
    at = tick(clock)
    ada.update(tea, freeze=False)
    ada.forget(tea)
    done = ada.restore(at)
    assert ada.state(tea) == "frozen"
    ada.undo(done["op"])
    assert ada.state(tea) == "archived"
    ada.restore(at)
    assert ada.update(tea, freeze=False)["state"] == "activated"


def test_what_ended_while_it_had_been_frozen_is_left_with_the_next_step(ada: Person, clock: Clock) -> None:
    added = ada.add("Ada drinks tea")
    tea = added["cubes"][0]["id"]
    ada.update(tea, freeze=True)
    at = tick(clock)
    ada.update(tea, freeze=False)
    ada.undo(added["op"])
    [left] = ada.restore(at)["left"]
    assert left == {"id": tea, "why": "it was frozen and is expired: undo what moved it (memory_history)"}


def test_what_is_not_the_callers_to_change_is_left_and_named(ada: Person, bob: Person, clock: Clock) -> None:
    vault = ada.at("vault")
    open_to_him, closed = vault.keep("The gate is green"), vault.keep("The door is blue")
    ada.api.grant(vault.caller, "vault", "bob", ["read"])
    at = tick(clock)
    vault.update(open_to_him, content="The gate is red")
    vault.update(closed, content="The door is red")
    later = vault.keep("Written since")
    done = bob.restore(at, space="vault")
    assert (done["op"], done["restored"]) == (None, [])
    assert {one["id"]: one["why"] for one in done["left"]} == {
        open_to_him: "you may not write it", closed: "you may not write it", later: "you may not forget it",
    }  # fmt: skip
    ada.api.grant(vault.caller, "vault", "bob", ["write"])
    done = bob.restore(at, space="vault")
    assert {one["id"] for one in done["restored"]} == {open_to_him, closed}
    assert [one["id"] for one in done["left"]] == [later]
    with pytest.raises(NotFound):
        bob.at("personal").restore(at, space="nowhere")


def test_only_the_space_asked_for_is_brought_back(ada: Person, clock: Clock) -> None:
    here, there = ada.keep("Ada drinks tea"), ada.at("work").keep("The gate is green")
    at = tick(clock)
    ada.update(here, content="Ada drinks coffee")
    ada.update(there, content="The gate is red")
    assert [one["id"] for one in ada.restore(at, space="work")["restored"]] == [there]
    assert ada.text(here) == "Ada drinks coffee"


def test_a_restored_text_has_its_vector_at_once(ada: Person, clock: Clock) -> None:
    tea = ada.keep("Ada drinks tea")
    ada.update(tea, tags=["drink"])
    at = tick(clock)
    ada.update(tea, content="The gate is green")
    parts = ada.api.parts
    assert parts.indexer.wait_embedded((1,), 10.0)
    ada.restore(at)
    assert ada.api.read.stats(ada.caller)["waiting_for_vectors"] == 0


def test_a_restoration_looks_at_what_was_done_since_and_not_at_the_space(
    ada: Person, clock: Clock, kernel: Kernel
) -> None:
    """By the plans of the database itself: every table is reached by a key, and a space in its order or not at all."""
    at = tick(clock)
    ada.update(ada.keep("Ada drinks tea"), content="Ada drinks coffee")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(kernel.ledger.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if threading.current_thread() is threading.main_thread() and statement.startswith("SELECT"):
            asked.append((statement, parameters))

    ada.past(at)
    ada.restore(at, dry_run=True)
    event.remove(kernel.ledger.engine, "before_cursor_execute", note)
    plans: list[str] = []
    with kernel.ledger.read() as connection:
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [row[3] for row in rows]
    assert len(asked) > 6
    assert [plan for plan in plans if plan.startswith("SCAN") and "VIRTUAL TABLE" not in plan] == []
    assert [plan for plan in plans if plan.endswith("(space=?)")] == []


# What became of memories in other ways.


def test_what_was_moved_to_another_space_since_is_read_where_it_was_and_left_where_it_is(
    ada: Person, clock: Clock
) -> None:
    away, stays, other = ada.keep("Ada drinks tea"), ada.keep("The gate is green"), ada.at("work").keep("A plan")
    at = tick(clock)
    ada.relocate("work", away)
    ada.relocate("personal", other)
    ada.update(away, content="Ada drinks coffee")
    assert as_of(ada, at) == {away: ("generated", "Ada drinks tea"), stays: ("generated", "The gate is green")}
    assert as_of(ada, at, space="work") == {other: ("generated", "A plan")}
    assert set(as_of(ada, FUTURE)) == {stays, other}
    done = ada.restore(at)
    assert (done["op"], done["restored"]) == (None, [])
    whys = {one["id"]: one["why"] for one in done["left"]}
    assert set(whys) == {away, other}
    assert all("undo what moved it" in why for why in whys.values())


def test_who_may_not_read_a_memory_where_it_is_now_does_not_read_what_it_was(
    ada: Person, bob: Person, clock: Clock
) -> None:
    cube = ada.at("team").keep("The code is 31-41-59")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    at = tick(clock)
    assert set(as_of(bob, at, space="team")) == {cube}
    ada.at("team").relocate("personal", cube)
    assert as_of(bob, at, space="team") == {}
    assert set(as_of(ada, at, space="team")) == {cube}


def test_pages_of_then_miss_nothing_that_was_moved_since(ada: Person, clock: Clock) -> None:
    said = [{"role": "user", "content": f"Line {n}"} for n in range(2 * PAGE + 1)]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    at = tick(clock)
    ada.relocate("work", *ids[10:50])
    found: list[str] = []
    after = 0
    while True:
        page = ada.past(at, after=after)
        found += [one["id"] for one in page["memories"]]
        if "next" not in page:
            break
        after = page["next"]
    assert found == ids


def test_merged_and_split_memories_come_back_with_their_states(ada: Person, clock: Clock) -> None:
    one, two = ada.keep("Ada drinks tea in the morning"), ada.keep("Ada drinks milk at night")
    whole = ada.keep("# One\n\nThe gate is green.\n\n# Two\n\nThe well is deep.", kind="document")
    at = tick(clock)
    stood = as_of(ada, at)
    ada.fuse(one, two)
    ada.split(whole)
    merged = tick(clock)
    was_merged = as_of(ada, merged)
    assert {was_merged[cube][0] for cube in (one, two, whole)} == {"merged"}
    done = ada.restore(at)
    now = as_of(ada, FUTURE)
    assert {cube: now[cube] for cube in stood} == stood
    assert {state for cube, (state, _) in now.items() if cube not in stood} == {"archived"}
    ada.undo(done["op"])
    assert as_of(ada, FUTURE) == was_merged
    ada.restore(at)
    ada.restore(merged)
    assert as_of(ada, FUTURE) == was_merged


def test_former_versions_that_were_compressed_are_read_and_restored(
    ada: Person, clock: Clock, kernel: Kernel
) -> None:
    tea = ada.keep("Ada drinks 绿茶 🍵")
    at = tick(clock)
    ada.update(tea, content="Ada drinks coffee")
    ada.forget(tea)
    clock.advance(days=40)
    with kernel.ledger.read() as connection:
        assert not packed.is_in(connection, [1])
    assert archive.compress(kernel.api.parts, [tea]) == 2
    assert as_of(ada, at) == {tea: ("generated", "Ada drinks 绿茶 🍵")}
    ada.restore(at)
    assert ada.text(tea) == "Ada drinks 绿茶 🍵"


def test_publications_and_shares_stay_and_are_named(ada: Person, clock: Clock) -> None:
    told, shared, quiet = ada.keep("Ada drinks tea"), ada.keep("The gate is green"), ada.keep("The well is deep")
    ada.api.read.create_space(ada.caller, "team")
    at = tick(clock)
    ada.publish("team/news", told)
    ada.share("bob", shared)
    ada.update(told, content="Ada drinks coffee")
    done = ada.restore(at)
    assert [one["id"] for one in done["restored"]] == [told]
    assert {one["id"] for one in done["left"]} == {told, shared}
    assert all("stays as it is" in one["why"] for one in done["left"])
    assert [row["id"] for row in ada.api.channel(ada.caller, "team/news")["memories"]] == [told]
    assert quiet not in {one["id"] for one in done["left"]}


# One operation, whole.


def test_an_operation_is_told_with_what_was_before_and_after_it(ada: Person, clock: Clock) -> None:
    tea = ada.keep("Ada drinks tea")
    op = ada.update(tea, content="Ada drinks coffee", tags=["drink"])["op"]
    [entry] = ada.history(op=op)["operations"]
    [change] = entry["changes"]
    assert (change["fields"], change["before"], change["after"]) == (
        ["content", "tags"], "Ada drinks tea", "Ada drinks coffee",
    )  # fmt: skip
    made = ada.history(op=ada.history(tea)["operations"][0]["op"])["operations"][0]["changes"][0]
    assert (made["before"], made["after"]) == (None, "Ada drinks tea")
    ada.forget(tea, mode="purge")
    [change] = ada.history(op=op)["operations"][0]["changes"]
    assert "before" not in change


def test_an_operation_of_ones_own_tells_nothing_that_one_may_not_read_any_more(
    ada: Person, bob: Person, kernel: Kernel
) -> None:
    vault = ada.at("vault")
    vault.keep("The gate is green")
    ada.api.grant(vault.caller, "vault", "bob", ["read", "write"])
    op = bob.add("The code is 31-41-59", space="vault")["op"]
    assert bob.history(op=op)["operations"][0]["changes"][0]["after"] == "The code is 31-41-59"
    ada.api.revoke(vault.caller, "vault", "bob")
    assert "31-41" not in json.dumps(bob.history(op=op))


@pytest.mark.slow
def test_a_terminal_shows_a_space_as_it_stood_and_brings_it_back(hosts: Hosts) -> None:
    terminal = Terminal(hosts.home)
    tea = terminal.keep("Ada drinks tea")
    at = terminal.json("show", tea)["descriptive"]["created"]
    terminal.run("add", "The gate is green")
    shown = terminal.run("past", "--at", at).stdout
    assert "Ada drinks tea" in shown
    assert "gate" not in shown
    assert [one["id"] for one in terminal.json("past", "--at", at)["memories"]] == [tea]
    assert "written since" in terminal.run("past", "--at", at, "--restore", "--dry-run").stdout
    done = terminal.json("past", "--at", at, "--restore")
    assert len(done["restored"]) == 1
    assert "is as it stood" in terminal.run("past", "--at", at, "--restore").stdout
    terminal.run("undo", done["op"])
    assert "is not a date" in terminal.run("past", "--at", "昨天", code=1).stderr
    assert "goes with --restore" in terminal.run("past", "--at", at, "--dry-run", code=1).stderr
