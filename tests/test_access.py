"""Rights on whole spaces: given and ended as operations, which reach what was read, copied and held ready with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_engine import FakeEngine
from person import LONG, Clock, Person, eventually
from sqlalchemy import text

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.gateway import texts
from memos_mcp.kernel import Kernel
from memos_mcp.store import Changed

SECRET = "The combination of the vault is 31-41-59"
NEWS = "vault/news"


@pytest.fixture
def cube(ada: Person) -> str:
    return ada.keep(SECRET, space="vault")


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


def granted(one: Person) -> dict[str, object]:
    """What others may do in the spaces of somebody's, by space."""
    found = one.api.shared_spaces(one.caller)
    return {row["name"]: row["granted"] for row in found if "granted" in row}


def readers_of(cube: str) -> dict[str, Callable[[Person], bool]]:
    """Every way to a memory, by name: whether somebody gets there."""

    def read(one: Person) -> bool:
        try:
            return one.text(cube) == SECRET
        except NotFound:
            return False

    def named(one: Person) -> bool:
        try:
            return cube in one.ids("vault", space="vault")
        except NotFound:
            return False

    def paged(one: Person) -> bool:
        try:
            return cube in [found.id for found in one.api.read.page(one.caller, "vault")[0]]
        except NotFound:
            return False

    return {
        "read by id": read,
        "a search": lambda one: cube in one.ids("the combination of the vault"),
        "a search of the space": named,
        "a page": paged,
        "a block": lambda one: "31-41-59" in str(one.context("the combination of the vault")),
        "a set": lambda one: cube in [row["id"] for row in one.api.working(one.caller)["memories"]],
        "the spaces": lambda one: "vault" in [space.name for space in one.api.read.spaces(one.caller)],
    }


def test_a_right_that_is_revoked_ends_every_way_to_the_memories(
    ada: Person, bob: Person, kernel: Kernel, cube: str
) -> None:
    bob = bob.at("den")
    bob.keep("The door of the den is blue")
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    ways = readers_of(cube)
    bob.search("the combination of the vault")
    assert eventually(lambda: ways["a set"](bob))
    assert {name for name, leads in ways.items() if leads(bob)} == set(ways)
    done = ada.api.revoke(ada.caller, "vault", "bob")
    assert (done["space"], done["principal"], done["can"]) == ("vault", "bob", [])
    assert {name for name, leads in ways.items() if leads(bob)} == set()
    assert ada.text(cube) == SECRET


def test_rights_are_operations_with_a_reason_and_an_undo(ada: Person, bob: Person, cube: str) -> None:
    given = ada.api.grant(ada.caller, "vault", "bob", ["read", "write"])
    assert granted(ada) == {"vault": {"bob": ["read", "write"]}}
    latest = ada.history()["operations"][0]
    assert (latest["op"], latest["verb"]) == (given["op"], "grant")
    assert latest["reason"] == "bob may read, write in vault"
    ended = ada.api.revoke(ada.caller, "vault", "bob")
    assert ada.history()["operations"][0]["reason"] == "bob may no longer read, write in vault"
    assert 'revoke by ada through tests ("bob may no longer read, write in vault").' in texts.told(ada.history())
    back = ada.undo(ended["op"])
    assert texts.undone(back) == f"Taken back. Operation {back['op']}."
    assert granted(ada) == {"vault": {"bob": ["read", "write"]}}
    assert bob.text(cube) == SECRET
    again = ada.undo(back["op"])
    with pytest.raises(NotFound):
        bob.text(cube)
    ada.undo(again["op"])
    ada.undo(given["op"])
    assert granted(ada) == {"vault": {}}
    with pytest.raises(Conflict, match="undone by"):
        ada.undo(given["op"])


def test_one_right_can_be_ended_and_the_others_kept(ada: Person, bob: Person, cube: str) -> None:
    ada.api.grant(ada.caller, "vault", "bob", ["read,write", " share"])
    assert granted(ada) == {"vault": {"bob": ["read", "write", "share"]}}
    assert ada.api.revoke(ada.caller, "vault", "bob", ["write"])["can"] == ["read", "share"]
    assert bob.text(cube) == SECRET
    with pytest.raises(AccessDenied, match="may not write"):
        bob.add("x", space="vault")
    ada.api.revoke(ada.caller, "vault", "bob", ["read", "forget"])
    assert granted(ada) == {"vault": {"bob": ["share"]}}
    with pytest.raises(NotFound):
        bob.text(cube)


def test_what_is_so_already_is_no_operation(ada: Person, bob: Person, cube: str) -> None:
    before = ada.api.read.stats(ada.caller)["operations"]
    assert ada.api.revoke(ada.caller, "vault", "bob")["op"] is None
    assert ada.api.read.stats(ada.caller)["operations"] == before
    assert ada.api.grant(ada.caller, "vault", "bob", ["read"])["op"] is not None
    assert ada.api.grant(ada.caller, "vault", "bob", ["read"])["op"] is None


@pytest.mark.parametrize("verb", ["grant", "revoke"])
def test_wrong_rights_are_refused_in_words(ada: Person, bob: Person, cube: str, verb: str) -> None:
    act = getattr(ada.api, verb)
    with pytest.raises(InvalidInput, match="no action 'fly': use read, write, forget, share"):
        act(ada.caller, "vault", "bob", ["fly"])
    with pytest.raises(InvalidInput, match="'vault' is ada's own"):
        act(ada.caller, "vault", "ada", ["read"])
    with pytest.raises(NotFound, match="cellar"):
        act(ada.caller, "cellar", "bob", ["read"])
    with pytest.raises(InvalidInput, match="principal"):
        act(ada.caller, "vault", "  ", ["read"])
    with pytest.raises(NotFound):
        act(bob.caller, "vault", "eve", ["read"])
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    with pytest.raises(AccessDenied, match="may not share"):
        act(bob.caller, "vault", "eve", ["read"])
    for nothing in ([], [" , "]):
        with pytest.raises(InvalidInput, match="Name what is meant: read, write, forget, share"):
            act(ada.caller, "vault", "bob", nothing)
    assert granted(ada) == {"vault": {"bob": ["read"]}}


def test_memories_that_were_shared_one_by_one_stay_shared(ada: Person, bob: Person, cube: str) -> None:
    other = ada.keep("The vault has a green door", space="vault")
    ada.share("bob", cube)
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    ada.api.revoke(ada.caller, "vault", "bob")
    assert bob.text(cube) == SECRET
    with pytest.raises(NotFound):
        bob.text(other)


@pytest.mark.parametrize("withdrawal", ["archive", "mark"])
def test_copies_from_a_channel_go_with_the_right_to_read_it_and_come_back_with_it(
    ada: Person, bob: Person, kernel: Kernel, cube: str, withdrawal: str
) -> None:
    bob, eve = bob.at("den"), Person(ada.api, "eve", "attic")
    for one in (bob, eve):
        ada.api.grant(ada.caller, "vault", one.caller.principal, ["read"])
    ada.publish(NEWS, cube, withdrawal=withdrawal)
    for one in (bob, eve):
        one.keep("Something of their own")
        one.subscribe(NEWS, copies=True)
    kernel.deliveries.catch_up()

    def copy_of(one: Person) -> str:
        found = one.search("combination", space=one.caller.space, include=["archived"])["hits"]
        (copy,) = [hit["id"] for hit in found if hit["space"] == one.caller.space and "vault" in hit["text"]]
        return copy

    def as_withdrawn(one: Person) -> bool:
        found = one.api.read.cube(one.caller, copy_of(one))
        return found["governance"]["state"] == "archived" or "withdrawn" in found["descriptive"]["metadata"]

    assert not as_withdrawn(bob)
    ended = ada.api.revoke(ada.caller, "vault", "bob")
    kernel.deliveries.catch_up()
    assert as_withdrawn(bob)
    assert not as_withdrawn(eve), "who may still read keeps theirs"
    ada.update(cube, content="The combination of the vault is 27-18-28")
    later = ada.keep("The combination of the cellar is 16-18-03", space="vault")
    ada.publish(NEWS, later)
    kernel.deliveries.catch_up()
    assert "27-18-28" not in bob.text(copy_of(bob))
    assert "16-18-03" not in str(bob.search("combination of the cellar", include=["archived"]))
    ada.undo(ended["op"])
    kernel.deliveries.catch_up()
    shown = bob.search("combination")["hits"]
    assert {"16-18-03" in hit["text"] for hit in shown} == {True, False}
    assert not any(hit["state"] == "archived" for hit in shown)


def test_a_reference_from_a_channel_ends_with_the_right_to_read_it(ada: Person, bob: Person, cube: str) -> None:
    bob = bob.at("den")
    bob.keep("Something of bob's own")
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    ada.publish(NEWS, cube)
    bob.subscribe(NEWS)
    assert cube in bob.ids("combination", space="den")
    ada.api.revoke(ada.caller, "vault", "bob")
    assert cube not in bob.ids("combination", space="den")
    with pytest.raises(NotFound):
        bob.api.channel(bob.caller, NEWS)


def test_what_a_conversation_has_read_of_the_space_is_dropped_and_nothing_of_others(
    ada: Person, bob: Person, kernel: Kernel
) -> None:
    cube = ada.keep(f"{SECRET} {LONG}", space="vault")
    own = bob.at("den").keep(f"The den is blue {LONG}")
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    bob.at("den").ask("What is it?", ids=[cube], session="of the vault")
    bob.at("den").ask("What is it?", ids=[own], session="of the den")
    ada.at("vault").ask("What is it?", ids=[cube], session="of ada")

    def kept() -> set[str]:
        with kernel.ledger.read() as connection:
            return set(connection.execute(text("SELECT session FROM kept_states WHERE session IS NOT NULL")).scalars())

    assert eventually(lambda: kept() == {"of the vault", "of the den", "of ada"})
    ada.api.revoke(ada.caller, "vault", "bob")
    assert kept() == {"of the den", "of ada"}
    told = bob.at("den").ask("And now?", session="of the vault")
    assert cube not in [used["id"] for used in told["used"]]


def test_who_watches_is_told_that_lists_have_changed(ada: Person, kernel: Kernel, cube: str) -> None:
    heard: list[Changed] = []
    end = kernel.api.parts.events.listen(heard.append)
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    ada.api.revoke(ada.caller, "vault", "bob")
    end()
    assert [one.listing for one in heard] == [True, True]
    assert all("vault" in [name for _, name in one.spaces] for one in heard)


def test_a_request_that_is_sent_again_is_carried_out_once(ada: Person, cube: str, clock: Clock) -> None:
    caller = replace(ada.caller, request="tests:1")
    first = ada.api.grant(caller, "vault", "bob", ["read"])
    ada.api.revoke(ada.caller, "vault", "bob")
    assert ada.api.grant(replace(caller, again=True), "vault", "bob", ["read"]) == first
    assert granted(ada) == {"vault": {}}
