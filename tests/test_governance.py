"""Who may: every verb asks, strangers learn nothing, and grants open exactly what they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from person import Clock, Person
from sqlalchemy import insert

from memos_mcp.errors import AccessDenied, InvalidInput, MemosError, NotFound
from memos_mcp.ledger import proposals
from memos_mcp.ledger.schema import grants
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.memory_api.read import Read
from memos_mcp.requests import AddRequest, DocumentRequest, DropRequest, MoveRequest

SECRET = "The vault combination is 31-41-59"


@pytest.fixture
def secret(ada: Person) -> str:
    return ada.keep(SECRET, space="vault", session="s1", tags=["code"], metadata={"n": 1})


def share(ada: Person, cube: str, principal: str, *actions: str) -> None:
    """Grant one memory by itself, as the ledger keeps it."""
    with ada.api.parts.ledger.write() as connection:
        seq = ada.api.parts.vault.by_ids(connection, [cube])[cube].seq
        rows = [{"cube": seq, "principal": principal, "can": action} for action in actions]
        connection.execute(insert(grants), rows)


def kept_document(space: str, **given: Any) -> DocumentRequest:
    return DocumentRequest(of="x", title="x", content="x", about=AddRequest(space=space), **given)


def proposed(person: Person, cube: str) -> str:
    """What the background proposed to do with the memory."""
    parts = person.api.parts
    with parts.ledger.write() as connection:
        cubes = list(parts.vault.by_ids(connection, [cube]).values())
        return str(proposals.propose(connection, "merge", cubes, 1.0, "they say the same", parts.stamp()))


VERBS: dict[str, Callable[[Person, str, str], object]] = {
    "add": lambda p, cube, _: p.add("x", space="vault"),
    "add supersedes": lambda p, cube, _: p.add("x", supersedes=[cube]),
    "add links": lambda p, cube, _: p.add("x", links=[{"to": cube, "relation": "about"}]),
    "search ids": lambda p, cube, _: p.search(ids=[cube]),
    "search space": lambda p, cube, _: p.search("vault", space="vault"),
    "search default space": lambda p, cube, _: p.at("vault").search("vault combination", space="vault"),
    "context": lambda p, cube, _: p.context("vault combination", space="vault"),
    "update": lambda p, cube, _: p.update(cube, content="x"),
    "update links": lambda p, cube, _: p.update(p.keep("own"), links=[{"to": cube, "relation": "about"}]),
    "promote": lambda p, cube, _: p.promote(cube),
    "promote back": lambda p, cube, _: p.promote(cube, to="plaintext"),
    "promote working": lambda p, cube, _: p.promote(cube, to="working"),
    "promote archive": lambda p, cube, _: p.promote(cube, to="archive"),
    "ask": lambda p, cube, _: p.ask("What is it?", ids=[cube]),
    "forget": lambda p, cube, _: p.forget(cube),
    "forget purge": lambda p, cube, _: p.forget(cube, mode="purge"),
    "forget filter": lambda p, cube, _: p.forget(query="vault", space="vault", dry_run=True),
    "history": lambda p, cube, _: p.history(cube),
    "history op": lambda p, cube, op: p.history(op=op),
    "undo": lambda p, cube, op: p.undo(op),
    "graph": lambda p, cube, _: p.graph(cube, depth=4),
    "graph name": lambda p, cube, _: p.graph("Vault", depth=4),
    "add document": lambda p, cube, _: p.add("x. " * 1000, kind="document", supersedes=[cube]),
    "keep_document": lambda p, cube, _: p.api.keep_document(p.caller, kept_document("vault")),
    "keep_document dry": lambda p, cube, _: p.api.keep_document(p.caller, kept_document("vault", dry_run=True)),
    "drop_document": lambda p, cube, _: p.api.drop_document(p.caller, DropRequest(of="x", space="vault")),
    "documents": lambda p, cube, _: p.api.documents(p.caller, "vault"),
    "tree": lambda p, cube, _: p.api.tree(p.caller, cube),
    "steer": lambda p, cube, _: p.steer("x", [cube], [p.keep("Mine")]),
    "steer by tag": lambda p, cube, _: p.steer("x", ["tag:any"], [p.keep("Mine")], space="vault"),
    "plan": lambda p, cube, _: p.api.plan(p.caller, "vault"),
    "policy": lambda p, cube, _: p.api.policy(p.caller, cube, "keep"),
    "policy of space": lambda p, cube, _: p.api.policy(p.caller, "vault", "keep"),
    "policy shown": lambda p, cube, _: p.api.policy(p.caller, "vault"),
    "settle_proposal": lambda p, _, op: p.api.settle_proposal(p.caller, {"approve": op}),
    "publish": lambda p, cube, _: p.publish("own/news", cube),
    "publish space": lambda p, cube, _: p.at("vault").publish("news", query="vault"),
    "withdraw": lambda p, cube, _: p.withdraw("vault/news", cube),
    "subscribe": lambda p, cube, _: p.subscribe("vault/news"),
    "unsubscribe": lambda p, cube, _: p.unsubscribe("vault/news"),
    "channel": lambda p, cube, _: p.api.channel(p.caller, "vault/news"),
    "share": lambda p, cube, _: p.share("bert", cube),
    "fuse": lambda p, cube, _: p.fuse(cube, p.keep("Mine")),
    "split": lambda p, cube, _: p.split(cube, "One", "Two"),
    "compose": lambda p, cube, _: p.compose(p.keep("Mine"), cube),
    "relocate": lambda p, cube, _: p.relocate("den", cube),
    "relocate copy": lambda p, cube, _: p.relocate("den", cube, copy=True),
    "relocate into": lambda p, _, __: p.relocate("vault", p.keep("Mine")),
    "estimate": lambda p, cube, _: p.api.estimate(p.caller, [cube]),
    "externalise": lambda p, cube, _: p.api.externalise(p.caller, cube, None),
    "import_adapter": lambda p, cube, _: p.api.import_adapter(p.caller, "/nowhere", "x", "vault"),
    "retire_adapter": lambda p, cube, _: p.api.retire_adapter(p.caller, cube),
    "approve": lambda p, cube, _: p.api.approve(p.caller, proposed(p, cube)),
    "decline": lambda p, cube, _: p.api.decline(p.caller, proposed(p, cube)),
    "move": lambda p, cube, _: p.api.move(p.caller, MoveRequest(id=cube)),
    "cube": lambda p, cube, _: p.api.read.cube(p.caller, cube),
    "page": lambda p, cube, _: p.api.read.page(p.caller, "vault"),
    "require_watchable": lambda p, cube, _: p.api.read.require_watchable(p.caller, "vault"),
    "past": lambda p, *_: p.past("2030-01-01", space="vault"),
    "restore": lambda p, *_: p.restore("2020-01-01", space="vault"),
    "job": lambda p, *_: p.api.job(p.caller, job_of(p)),
    "cancel_job": lambda p, *_: p.api.cancel_job(p.caller, job_of(p)),
    "create_space": lambda p, cube, _: p.api.read.create_space(p.caller, "vault"),
    "grant": lambda p, cube, _: p.api.grant(p.caller, "vault", "eve", ["read"]),
    "revoke": lambda p, cube, _: p.api.revoke(p.caller, "vault", "eve"),
}


def job_of(stranger: Person) -> str:
    """A job of ada's, in the store of the stranger."""
    parts = stranger.api.parts
    with parts.ledger.write() as connection:
        return parts.jobs.create(connection, "of another version", {}, 1, principal="ada")


OPEN = {
    "read", "jobs", "stats", "figures", "spaces", "shared_spaces", "templates", "adapters", "channels", "proposals",
    "working", "get_ready",
}  # fmt: skip
"""What asks nobody: figures, lists of what is the caller's own, and what answers nothing."""


def test_every_verb_of_the_api_is_tried_by_a_stranger() -> None:
    verbs = {name for name, _ in inspect.getmembers(MemoryAPI, inspect.isfunction) if not name.startswith("_")}
    verbs |= {name for name, _ in inspect.getmembers(Read, inspect.isfunction) if not name.startswith("_")}
    assert verbs - OPEN == {name.split(" ")[0] for name in VERBS}


MAKES_SPACES = {"add", "keep_document", "create_space", "import_adapter", "relocate into"}
"""What would make the space if its name were free: the stranger learns that it is taken, and no more."""


@pytest.mark.parametrize("name", sorted(MAKES_SPACES))
def test_a_stranger_is_told_that_a_name_is_taken_and_what_to_do(
    ada: Person, bob: Person, secret: str, name: str
) -> None:
    with pytest.raises(AccessDenied, match=r"'bob' may not write space 'vault': name a space of your own") as caught:
        VERBS[name](bob, secret, "")
    assert "ada" not in str(caught.value)
    assert ada.text(secret) == SECRET


@pytest.mark.parametrize("verb", [verb for name, verb in VERBS.items() if name not in MAKES_SPACES])
def test_a_stranger_is_told_that_there_is_nothing(
    ada: Person, bob: Person, secret: str, verb: Callable[[Person, str, str], object]
) -> None:
    bob.keep("Something of bob's own")
    op = ada.history(secret)["operations"][0]["op"]
    with pytest.raises(NotFound) as caught:
        verb(bob, secret, op)
    assert "31-41-59" not in str(caught.value)
    assert secret not in caught.value.ids or caught.value.what == "memory"
    assert "ada" not in str(caught.value)
    assert ada.text(secret) == SECRET


def test_an_operation_of_others_reveals_no_ids(ada: Person, bob: Person, secret: str) -> None:
    op = ada.history(secret)["operations"][0]["op"]
    for act in (lambda: bob.undo(op), lambda: bob.history(op=op)):
        with pytest.raises(NotFound) as caught:
            act()
        assert (caught.value.what, caught.value.ids) == ("operation", (op,))
    purged = ada.forget(secret, mode="purge")["op"]
    for gone in (op, purged):
        assert gone is not None
        with pytest.raises(NotFound, match="operation"):
            bob.undo(gone)
        with pytest.raises(NotFound, match="operation"):
            bob.history(op=gone)
    with pytest.raises(NotFound):
        bob.history(secret)


def test_a_stranger_finds_nothing_by_searching(ada: Person, bob: Person, secret: str) -> None:
    bob.keep("Something of bob's own")
    assert secret not in bob.ids("vault combination 31-41-59", top_k=50)
    assert bob.history()["operations"][0]["principal"] == "bob"
    assert [space.name for space in bob.api.read.spaces(bob.caller)] == ["personal"]


@pytest.mark.parametrize(
    "verb", ["add", "add supersedes", "update", "forget", "forget purge", "forget filter", "grant", "revoke"]
)
def test_a_reader_is_told_what_may_not_be_done(ada: Person, bob: Person, secret: str, verb: str) -> None:
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    at = bob.at("desk")
    with pytest.raises(AccessDenied, match="bob") as caught:
        VERBS[verb](at, secret, "")
    assert caught.value.principal == "bob"
    assert at.text(secret) == SECRET
    assert at.search("vault combination")["hits"][0]["id"] == secret


def test_undo_of_anothers_operation_needs_the_right_to_write(ada: Person, bob: Person, secret: str) -> None:
    op = ada.history(secret)["operations"][0]["op"]
    ada.api.grant(ada.caller, "vault", "bob", ["read"])
    with pytest.raises(AccessDenied):
        bob.undo(op)
    ada.api.grant(ada.caller, "vault", "bob", ["write"])
    assert bob.undo(op)["undone"] == [secret]


def test_a_granted_space_opens_what_was_granted_and_no_more(ada: Person, bob: Person, secret: str) -> None:
    ada.keep("Another space of ada's", space="diary")
    ada.api.grant(ada.caller, "vault", "bob", ["read", "write"])
    added = bob.add("The vault door squeaks", space="vault")
    assert ada.text(added["cubes"][0]["id"]) == "The vault door squeaks"
    assert bob.update(secret, tags=["seen"])["version"] == 2
    with pytest.raises(AccessDenied):
        bob.forget(secret)
    with pytest.raises(NotFound):
        bob.search("x", space="diary")
    owner = ada.api.read.cube(ada.caller, added["cubes"][0]["id"])["governance"]
    assert owner["owner"] == "ada"
    assert owner["acl"] == [{"principal": "bob", "can": ["read", "write"]}]


def test_one_who_may_only_write_is_shown_nothing(ada: Person, bob: Person, secret: str) -> None:
    ada.api.grant(ada.caller, "vault", "bob", ["write"])
    added = bob.add(SECRET + "!", space="vault")
    assert added["similar"] is None
    assert "31-41-59" not in str(added)
    with pytest.raises(NotFound):
        bob.text(secret)


def test_a_single_memory_can_be_shared(ada: Person, bob: Person, secret: str) -> None:
    other = ada.keep("The vault has a green door", space="vault", session="s1")
    bob.keep("Something of bob's own")
    share(ada, secret, "bob", "read")
    assert bob.text(secret) == SECRET
    hits = bob.search("vault combination", top_k=50)["hits"]
    assert secret in [hit["id"] for hit in hits]
    assert "combin" in str(next(hit["why"]["words"] for hit in hits if hit["id"] == secret)), "found by its words too"
    assert other not in [hit["id"] for hit in hits]
    assert bob.ids("vault", tags=["code"]) == [secret]
    assert bob.ids("vault", where={"n": 1}) == [secret]
    with pytest.raises(NotFound):
        bob.text(other)
    with pytest.raises(AccessDenied):
        bob.update(secret, content="x")
    with pytest.raises(AccessDenied):
        bob.forget(secret)


def test_a_shared_memory_does_not_bring_its_neighbours(ada: Person, bob: Person, secret: str) -> None:
    ada.keep("The vault has a green door", space="vault", session="s1")
    share(ada, secret, "bob", "read")
    for found in (bob.search(ids=[secret], around=2), bob.search("vault combination", around=2)):
        assert [hit["text"] for hit in found["hits"]] == [SECRET]
    assert "green door" in ada.search(ids=[secret], around=2)["hits"][0]["text"]


def test_a_purge_does_not_reach_into_a_space_of_others_nor_name_what_is_there(ada: Person, bob: Person) -> None:
    source = ada.keep(SECRET)
    share(ada, source, "bob", "read")
    copy = bob.keep("31-41-59", space="den", links=[{"to": source, "relation": "copied_from"}])
    for dry_run in (True, False):
        with pytest.raises(AccessDenied, match="1 ") as caught:
            ada.forget(source, mode="purge", dry_run=dry_run)
        assert copy not in str(caught.value)
    assert ada.text(source) == SECRET
    assert bob.text(copy) == "31-41-59"


def test_two_hundred_granted_spaces_are_searched(ada: Person, bob: Person) -> None:
    cubes = set()
    for i in range(200):
        cubes.add(ada.keep(f"Beacon number {i}", space=f"room {i}"))
        ada.api.grant(ada.caller, f"room {i}", "bob", ["read"])
    found = bob.ids("beacon", top_k=50)
    assert len(found) == 50
    assert set(found) <= cubes
    assert bob.ids("beacon number 117", top_k=1)[0] in cubes
    assert bob.search("beacon number 117", top_k=1)["hits"][0]["text"] == "Beacon number 117"
    assert len(bob.api.read.spaces(bob.caller)) == 200


def test_the_default_space_is_the_connections_own(ada: Person) -> None:
    ada.keep("Something personal")
    ada.keep("Something of work", space="work")
    assert [hit["space"] for hit in ada.search("something")["hits"]] == ["personal"]
    assert [hit["space"] for hit in ada.at("work").search("something")["hits"]] == ["work"]


def test_granting_twice_is_granting_once_and_unknown_actions_are_refused(ada: Person, bob: Person, secret: str) -> None:
    for _ in range(2):
        ada.api.grant(ada.caller, "vault", "bob", ["read", "read"])
    acl = ada.api.read.cube(ada.caller, secret)["governance"]["acl"]
    assert acl == [{"principal": "bob", "can": ["read"]}]
    with pytest.raises(InvalidInput, match="fly"):
        ada.api.grant(ada.caller, "vault", "bob", ["fly"])


def test_a_grant_to_share_lets_another_grant(ada: Person, bob: Person, secret: str) -> None:
    ada.api.grant(ada.caller, "vault", "bob", ["read", "share"])
    bob.api.grant(bob.caller, "vault", "eve", ["read"])
    assert Person(ada.api, "eve").text(secret) == SECRET


def test_a_refused_call_leaves_no_operation(ada: Person, bob: Person, secret: str, clock: Clock) -> None:
    with ada.api.parts.ledger.read() as connection:
        before = ada.api.read.stats(ada.caller)["operations"]
        assert connection is not None
    for verb in VERBS.values():
        with pytest.raises(MemosError):
            verb(bob.at("vault"), secret, "")
    assert ada.api.read.stats(ada.caller)["operations"] == before
