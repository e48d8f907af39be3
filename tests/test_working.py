"""Working memory: what a session is likely to need, who may see it, and what puts memories there and takes them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from person import Clock, Person
from sqlalchemy import delete, func, select

from memos_mcp.errors import Conflict, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import transitions
from memos_mcp.ledger.schema import grants
from memos_mcp.ledger.working_schema import transitions as rows
from memos_mcp.ledger.working_schema import working_cubes
from memos_mcp.requests import AddRequest, Message
from memos_mcp.working import memory as working
from memos_mcp.working.memory import MOST_PROMOTED


def ready(person: Person) -> list[str]:
    """Ids of the working set, the likeliest first, once the background has caught up."""
    person.api.parts.working.catch_up()
    return [row["id"] for row in person.api.working(person.caller)["memories"]]


def why(person: Person, cube: str) -> str:
    return next(row["why"] for row in person.api.working(person.caller)["memories"] if row["id"] == cube)


def say(person: Person, text: str, session: str | None = None) -> str:
    """A turn of the person's in a conversation that goes on."""
    message = Message(role="user", content=text)
    added = person.api.add(person.caller, AddRequest(messages=[message], session=session))
    return added["cubes"][0]["id"]


def many(person: Person, count: int) -> list[str]:
    return [person.keep(f"Entry number {n} of the ship's log, about the weather") for n in range(count)]


def test_what_was_added_and_asked_stands_ready_and_the_set_is_bounded(ada: Person) -> None:
    kept = many(ada, 40)
    gate = ada.keep("The gate of the harbour is green")
    found = ready(ada)
    assert len(found) == ada.api.parts.working.size < len(kept)
    assert gate in found
    ada.search("What colour is the gate?")
    assert gate in ready(ada)


def test_a_message_brings_what_it_is_about_before_anybody_searches(ada: Person) -> None:
    gate = ada.keep("The gate of the harbour is painted green")
    many(ada, 150)
    assert gate not in ready(ada)
    said = say(ada, "What colour is the gate of the harbour painted?")
    found = ready(ada)
    assert found[0] == gate
    assert said not in found
    assert why(ada, gate) in working.preload.REASONS.values()


def test_a_search_in_the_words_of_the_message_needs_no_second_vector(ada: Person) -> None:
    many(ada, 3)
    say(ada, "What was the weather like?")
    ready(ada)
    parts = ada.api.parts
    assert parts.working.vector_of(ada.caller, "What was the weather like?") is not None
    assert parts.working.vector_of(ada.caller, "What was the sea like?") is None
    assert parts.working.vector_of(replace(ada.caller, principal="bob"), "What was the weather like?") is None


def test_what_followed_in_earlier_sessions_stands_ready_in_the_next(ada: Person) -> None:
    breakfast = ada.keep("Zebras graze beneath acacias")
    ticket = ada.keep("Quantum flux capacitors hum")
    many(ada, 150)
    for _ in range(3):
        ada.search(ids=[breakfast])
        ada.search(ids=[ticket])
        ready(ada)
    ada.search(ids=[breakfast])
    ready(ada)
    with ada.api.parts.ledger.read() as connection:
        seqs = {cube.id: cube.seq for cube in ada.api.parts.vault.by_ids(connection, [breakfast, ticket]).values()}
        known = transitions.following(connection, "ada", [seqs[breakfast]])
    assert (seqs[ticket], transitions.NEXT) in {row[:2] for row in known[seqs[breakfast]]}
    assert ticket in ready(ada)


def test_a_new_session_begins_where_the_last_one_ended_and_so_does_one_after_a_restart(
    kernel: Kernel, open_kernel: Callable[..., Kernel]
) -> None:
    ada = Person(kernel.api, "ada")
    gate = ada.keep("The gate of the harbour is green")
    many(ada, 40)
    ada.search("gate harbour")
    assert gate in ready(ada)
    say(ada, "Good morning", session="another")
    assert gate in ready(ada)
    kernel.close()
    again = Person(open_kernel().api, "ada")
    assert ready(again) == []
    again.search("weather")
    assert gate in ready(again)


def test_nobody_finds_in_a_set_what_is_not_theirs_to_read(kernel: Kernel, ada: Person, bob: Person) -> None:
    secret = ada.keep("The gate of the harbour is green")
    bob.at("his").keep("The gate of the garden is red")
    his = bob.at("his")
    his.search("gate")
    assert secret not in ready(his)
    kernel.api.grant(ada.caller, "personal", "bob", ["read"])
    his.search("gate of the harbour")
    assert secret in ready(his)
    with kernel.ledger.write() as connection:
        connection.execute(delete(grants))
    assert secret not in [row["id"] for row in his.api.working(his.caller)["memories"]]


def test_secrets_templates_and_what_is_over_are_in_no_set(ada: Person) -> None:
    secret = ada.keep("The code of the safe is 4711")
    ada.update(secret, sensitivity="secret")
    template = ada.keep("Write to {name}", kind="template")
    old = ada.keep("The office is in Berlin")
    ada.forget(old)
    ada.search("safe office Berlin code")
    assert {secret, template, old}.isdisjoint(ready(ada))


@pytest.mark.parametrize("mode", ["archive", "purge"])
def test_what_is_forgotten_leaves_the_set_at_once(ada: Person, kernel: Kernel, mode: str) -> None:
    gate = ada.keep("The gate of the harbour is green")
    door = ada.keep("The door of the harbour is blue")
    ada.search("harbour")
    ada.promote(gate, to="working")
    assert gate in ready(ada)
    ada.forget(gate, mode=mode)
    assert gate not in [row["id"] for row in ada.api.working(ada.caller)["memories"]]
    ready(ada)
    sessions = ada.api.parts.working._sessions.values()
    with kernel.ledger.read() as connection:
        there = {cube.seq for cube in kernel.api.parts.vault.by_ids(connection, [gate, door]).values()}
        if mode == "purge":
            assert connection.execute(select(func.count()).select_from(working_cubes)).scalar_one() == 0
            assert all({row.source, row.target} <= there for row in connection.execute(select(rows)))
    assert all(one.seq in there for session in sessions for one in session.held)


def test_what_was_put_there_stays_and_plaintext_takes_it_out(ada: Person) -> None:
    gate = ada.keep("The gate of the harbour is green")
    done = ada.promote(gate, to="working")
    assert done["moved"] == [gate]
    assert ada.promote(gate, to="working") == {"moved": [], "op": None}
    many(ada, 150)
    assert ready(ada)[0] == gate
    assert why(ada, gate) == "promoted"
    assert ada.promote(gate, to="plaintext")["moved"] == [gate]
    assert gate not in ready(ada)
    assert ada.promote(gate, to="plaintext") == {"moved": [], "op": None}


def test_putting_in_and_taking_out_are_undone_and_the_undo_too(ada: Person) -> None:
    gate = ada.keep("The gate of the harbour is green")
    many(ada, 150)
    held = []
    op = ada.promote(gate, to="working")["op"]
    for _ in range(4):
        op = ada.undo(op)["op"]
        held.append(gate in ready(ada))
    assert held == [False, True, False, True]
    op = ada.promote(gate, to="plaintext")["op"]
    for _ in range(4):
        op = ada.undo(op)["op"]
        held.append(gate in ready(ada))
    assert held[4:] == [True, False, True, False]


def test_what_may_not_be_put_there_is_refused_with_the_reason(ada: Person, bob: Person) -> None:
    cube, secret = ada.keep("The gate is green"), ada.keep("The code is 4711")
    ada.update(secret, sensitivity="secret")
    with pytest.raises(NotFound):
        bob.promote(cube, to="working")
    with pytest.raises(Conflict, match="secret"):
        ada.promote(secret, to="working")
    ada.forget(cube)
    with pytest.raises(Conflict, match="is over"):
        ada.promote(cube, to="working")
    cubes = many(ada, MOST_PROMOTED + 1)
    ada.promote(*cubes[:MOST_PROMOTED], to="working")
    with pytest.raises(Conflict, match="take some out first"):
        ada.promote(cubes[-1], to="working")


def test_pinned_memories_stay_and_a_high_priority_comes_first(ada: Person) -> None:
    pinned = ada.keep("The gate of the harbour is green")
    ada.update(pinned, pin=True)
    many(ada, 150)
    wanted = ada.keep("Zebras graze", priority=1.0)
    found = ready(ada)
    assert why(ada, pinned) == "pinned"
    assert found.index(wanted) < 5


def test_a_kernel_forgets_the_sessions_that_were_longest_away(ada: Person) -> None:
    ada.api.parts.working.most_sessions = 3
    ada.keep("The gate is green")
    for n in range(6):
        say(ada, f"Message {n}", session=f"s{n}")
        ready(ada)
    assert ada.api.parts.working.figures()["sessions"] == 3


def test_of_many_conversations_that_come_in_at_once_the_last_alone_is_made_ready(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIET_S", "MOST_WAIT_S"):
        monkeypatch.setattr(working, name, 60.0)
    ada.keep("The gate is green")
    for n in range(6):
        say(ada, f"Message {n}", session=f"s{n}")
    assert ready(ada), "the set of the session that was named last"
    assert ada.api.parts.working.figures()["sessions"] == 1
    say(ada, "And the gate?", session="s2")
    ready(ada)
    assert ada.api.parts.working.figures()["sessions"] == 2


def test_what_follows_a_memory_is_bounded_and_the_heaviest_stays(ada: Person, kernel: Kernel, clock: Clock) -> None:
    cubes = many(ada, transitions.MOST_TARGETS + 10)
    with kernel.ledger.write() as connection:
        seqs = [cube.seq for cube in kernel.api.parts.vault.by_ids(connection, cubes).values()]
        at = clock().isoformat()
        transitions.note(connection, "ada", {(seqs[0], seqs[1], transitions.NEXT): 9.0}, at)
        transitions.note(connection, "ada", {(seqs[0], seq, transitions.NEXT): 1.0 for seq in seqs[1:]}, at)
        found = transitions.following(connection, "ada", seqs[:1])[seqs[0]]
        assert len(found) == transitions.MOST_TARGETS
        assert found[0] == (seqs[1], transitions.NEXT, 10.0)
        assert transitions.following(connection, "bob", seqs[:1]) == {}


def test_habits_outlive_the_kernel_and_are_each_principals_own(
    kernel: Kernel, open_kernel: Callable[..., Kernel]
) -> None:
    ada = Person(kernel.api, "ada")
    many(ada, 40)
    for n in range(3):
        ada.search(f"weather log {n}")
        ready(ada)
    with kernel.ledger.read() as connection:
        learnt = transitions.learnt(connection, "ada")
        assert learnt is not None
        assert tuple(learnt[0]) != working.preload.WEIGHTS
        assert transitions.learnt(connection, "bob") is None
    kernel.close()
    again = open_kernel()
    assert again.api.parts.working._habits_of("ada").weights == tuple(learnt[0])
    assert again.api.parts.working._habits_of("bob").weights == working.preload.WEIGHTS
