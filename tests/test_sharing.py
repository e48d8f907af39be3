"""Single memories that are shared: found by search, bounded to what was granted, undone and revoked."""

from __future__ import annotations

import pytest
from person import Person

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound


@pytest.fixture
def cube(ada: Person) -> str:
    return ada.keep("The lighthouse keeper is called Ingrid", tags=["coast"])


def acl(ada: Person, cube: str) -> list[dict[str, object]]:
    return list(ada.api.read.cube(ada.caller, cube)["governance"]["acl"])


def test_a_shared_memory_is_found_by_search_and_shown_in_its_access_list(ada: Person, bob: Person, cube: str) -> None:
    other = ada.keep("The lighthouse has a red door")
    done = ada.share("bob", cube)
    assert (done["shared"], done["can"]) == ([cube], ["read"])
    assert acl(ada, cube) == [{"principal": "bob", "can": ["read"]}]
    bob.keep("Something of bob's own", space="den")
    for who in (bob.at("den"), bob.at("not there yet")):
        hits = who.search("Who keeps the lighthouse?")["hits"]
        found = {hit["id"]: hit["space"] for hit in hits}
        assert found[cube] == "personal"
        assert other not in found
    assert ada.share("bob", cube)["op"] is None, "it was so already"


def test_what_may_be_done_is_what_was_granted_and_writing_means_reading(ada: Person, bob: Person, cube: str) -> None:
    assert ada.share("bob", cube, can=["write"])["can"] == ["read", "write"]
    assert bob.update(cube, content="The lighthouse keeper is called Astrid")["version"] == 2
    for act in (lambda: bob.forget(cube), lambda: bob.share("eve", cube)):
        with pytest.raises(AccessDenied):
            act()
    ada.share("bob", cube, can=["share"])
    with pytest.raises(AccessDenied):
        bob.update(cube, content="x")
    bob.share("eve", cube)
    assert Person(ada.api, "eve").text(cube) == "The lighthouse keeper is called Astrid"


def test_sharing_is_revoked_and_undone_and_that_again(ada: Person, bob: Person, cube: str) -> None:
    first = ada.share("bob", cube, can=["read", "forget"])["op"]
    revoked = ada.share("bob", cube, can=[])
    assert acl(ada, cube) == []
    with pytest.raises(NotFound):
        bob.text(cube)
    assert cube not in bob.ids("lighthouse")
    back = ada.undo(revoked["op"])
    assert back["undone"] == [cube]
    assert acl(ada, cube) == [{"principal": "bob", "can": ["read", "forget"]}]
    ada.undo(back["op"])
    assert acl(ada, cube) == []
    with pytest.raises(Conflict, match="Nothing of operation"):
        ada.undo(first)
    assert [entry["verb"] for entry in ada.history(cube)["operations"]] == ["add", "share", "revoke", "undo", "undo"]


def test_a_grantee_cannot_take_back_what_others_shared(ada: Person, bob: Person, cube: str) -> None:
    op = ada.share("bob", cube, can=["write"])["op"]
    with pytest.raises(AccessDenied, match="may not share"):
        bob.undo(op)
    assert bob.text(cube)


def test_a_secret_is_not_shared_and_a_private_memory_is_by_name(ada: Person, bob: Person, cube: str) -> None:
    ada.update(cube, sensitivity="secret")
    with pytest.raises(Conflict, match=f"{cube} is secret"):
        ada.share("bob", cube)
    ada.update(cube, sensitivity="private")
    ada.share("bob", cube)
    assert bob.text(cube)


def test_a_purge_leaves_nothing_of_a_grant(ada: Person, bob: Person, cube: str) -> None:
    other = ada.keep("The lighthouse has a red door")
    op = ada.share("bob", cube, other)["op"]
    ada.forget(cube, mode="purge")
    assert ada.undo(op)["undone"] == [other]
    assert bob.ids("lighthouse") == []


@pytest.mark.parametrize(
    ("principal", "can", "said"),
    [
        ("ada", ["read"], "principal is you"),
        ("", ["read"], "1 to 200"),
        ("bob", ["fly"], "read"),
        ("b\x00b", [], "control characters"),
    ],
)
def test_bad_grants_are_refused(ada: Person, cube: str, principal: str, can: list[str], said: str) -> None:
    with pytest.raises((InvalidInput, ValueError), match=said):
        ada.share(principal, cube, can=can)
    assert acl(ada, cube) == []


def test_names_of_any_script_are_shared_with(ada: Person, cube: str) -> None:
    ada.share("李雷 🦊", cube)
    assert Person(ada.api, "李雷 🦊").at("den").ids("lighthouse keeper") == [cube]
