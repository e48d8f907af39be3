"""Links with typed relations: written one way, taken away again, and never to what one may not read."""

from __future__ import annotations

import pytest
from person import Person

from memos_mcp.errors import InvalidInput, NotFound


def links(ada: Person, cube: str) -> list[tuple[str, str]]:
    return [(link["to"], link["relation"]) for link in ada.api.read.cube(ada.caller, cube)["lineage"]["links"]]


def test_one_relation_is_written_one_way(ada: Person) -> None:
    other = ada.keep("Acme makes anvils.")
    cube = ada.keep("Bruno works at Acme.", links=[{"to": other, "relation": "Works_at"}])
    ways = ("works_at", " Works at ", "works-at", "worksAt")
    same = ada.update(cube, links=[{"to": other, "relation": one} for one in ways])
    assert same["op"] is None
    assert links(ada, cube) == [(other, "Works_at")]
    ada.update(cube, links=[{"to": other, "relation": "关于"}, {"to": other, "relation": "derived from"}])
    assert links(ada, cube) == [(other, "Works_at"), (other, "关于"), (other, "derived_from")]
    assert ada.forget(other, mode="purge", dry_run=True)["derived"]["cubes"] == [cube]
    edges = ada.graph(cube, relation="works_at")["edges"]
    assert (cube, "Works_at", other) in [(edge["from"], edge["relation"], edge["to"]) for edge in edges]


def test_a_link_is_taken_away_and_an_undo_brings_it_back(ada: Person) -> None:
    other = ada.keep("Acme makes anvils.")
    cube = ada.keep("Bruno works at Acme.", links=[{"to": other, "relation": one} for one in ("about", "works at")])
    gone = ada.update(cube, links=[{"to": other, "relation": "-works_at"}])
    assert links(ada, cube) == [(other, "about")]
    ada.undo(gone["op"])
    assert links(ada, cube) == [(other, "about"), (other, "works at")]
    ada.update(cube, links=[{"to": other, "relation": "-"}, {"to": other, "relation": "near"}])
    assert links(ada, cube) == [(other, "near")]
    assert ada.update(cube, links=[{"to": other, "relation": "-unheard of"}])["op"] is None


def test_a_link_to_what_one_may_not_read_is_refused_and_one_that_is_there_can_be_taken_away(
    ada: Person, bob: Person
) -> None:
    secret, cube = ada.keep("The code is 31-41-59."), bob.keep("Bob's own.", space="bobs")
    with pytest.raises(NotFound):
        bob.update(cube, links=[{"to": secret, "relation": "about"}])
    assert bob.update(cube, links=[{"to": secret, "relation": "-about"}])["op"] is None
    own = ada.keep("Ada's own.", links=[{"to": secret, "relation": "about"}])
    ada.forget(secret, mode="purge")
    assert links(ada, own) == []


@pytest.mark.parametrize(
    ("relation", "said"),
    [("parent", "derived_from"), ("supersedes", "in supersedes"), ("x" * 61, "1 to 60"), (" ", "1 to 60"),
     ("a\nb", "control characters")],
)  # fmt: skip
def test_relations_that_cannot_be_are_refused_in_a_sentence(ada: Person, relation: str, said: str) -> None:
    other = ada.keep("Acme makes anvils.")
    with pytest.raises(InvalidInput, match=said):
        ada.keep("Bruno.", links=[{"to": other, "relation": relation}])
    with pytest.raises(InvalidInput, match="memory_update takes it"):
        ada.keep("Bruno.", links=[{"to": other, "relation": "-about"}])
