"""Moving and copying memories between spaces: everything kept of them goes along, and can be brought back."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import INDEX_FROM, Person, eventually
from sqlalchemy import select

from memos_mcp.errors import AccessDenied, Conflict, NotFound
from memos_mcp.ledger.life_schema import packed, packs
from memos_mcp.ledger.schema import attributes, grants, spaces, tags, vectors
from memos_mcp.memory_api import archive


def space_of(ada: Person, cube: str) -> str:
    return str(ada.search(ids=[cube])["hits"][0]["space"])


def test_a_moved_memory_is_found_in_its_new_space_alone(ada: Person) -> None:
    cube = ada.keep("Otto repairs accordions.", tags=["music"], metadata={"year": 2024})
    ada.update(cube, content="Otto repairs old accordions.")
    ada.ids("accordions")
    moved = ada.relocate("workshop", cube)
    assert (moved["moved"], moved["space"]) == ([cube], "workshop")
    assert ada.ids("Who repairs accordions?", space="personal") == []
    assert ada.ids("Who repairs accordions?", space="workshop") == [cube]
    assert ada.ids("accordions", space="workshop", tags=["music"], where={"year": {"gte": 2024}}) == [cube]
    assert len(ada.history(cube)["versions"]) == 2
    with ada.api.parts.ledger.read() as connection:
        (number,) = connection.execute(select(spaces.c.id).where(spaces.c.name == "workshop")).scalars()
        for table in (tags, attributes, vectors):
            assert set(connection.execute(select(table.c.space)).scalars()) == {number}


def test_an_undo_brings_it_back_and_the_undo_of_that_moves_it_again(ada: Person) -> None:
    one, two = ada.keep("Otto repairs accordions."), ada.at("den").keep("Otto sleeps late.")
    moved = ada.relocate("workshop", one, two)
    ada.ids("Otto", space="workshop")
    undone = ada.undo(moved["op"])
    assert set(undone["undone"]) == {one, two}
    assert (space_of(ada, one), space_of(ada, two)) == ("personal", "den")
    assert ada.ids("Otto", space="workshop") == []
    assert ada.ids("Otto", space="personal") == [one]
    assert ada.ids("Otto", space="den") == [two]
    ada.undo(undone["op"])
    assert set(ada.ids("Otto", space="workshop")) == {one, two}


def test_a_memory_that_was_moved_on_stands_in_the_way(ada: Person) -> None:
    cube = ada.keep("Otto repairs accordions.")
    first = ada.relocate("a", cube)
    second = ada.relocate("b", cube)
    with pytest.raises(Conflict, match="moved on"):
        ada.undo(first["op"])
    ada.undo(second["op"])
    ada.undo(first["op"])
    assert space_of(ada, cube) == "personal"


def test_a_copy_knows_its_original_and_goes_with_it(ada: Person) -> None:
    cube = ada.keep("The code is 31-41-59.", tags=["code"], ref="c")
    copied = ada.relocate("den", cube, copy=True)
    (copy,) = copied["moved"]
    assert space_of(ada, cube) == "personal"
    read = ada.api.read.cube(ada.caller, copy)
    assert read["lineage"]["links"] == [{"to": cube, "relation": "copied_from"}]
    assert read["descriptive"]["tags"] == ["code"]
    assert ada.ids("What is the code?", space="den") == [copy]
    assert ada.relocate("den", cube, copy=True) == {"moved": [], "unchanged": [copy], "space": "den", "op": None}
    assert ada.forget(cube, mode="purge", dry_run=True)["derived"]["cubes"] == [copy]
    ada.undo(copied["op"])
    assert ada.state(copy) == "expired"
    again = ada.relocate("den", cube, copy=True)["moved"]
    ada.forget(cube, mode="purge")
    with pytest.raises(NotFound):
        ada.text(again[0])


def test_a_copy_has_its_vector_at_once(ada: Person) -> None:
    cube = ada.keep("Otto repairs accordions.")
    ada.relocate("den", cube, copy=True)
    with ada.api.parts.ledger.read() as connection:
        rows = connection.execute(select(vectors.c.space, vectors.c.data)).all()
    assert len({row.space for row in rows}) == 2
    assert len({row.data for row in rows}) == 1


def test_who_may_move_and_copy_is_asked_on_both_sides(ada: Person, bob: Person) -> None:
    cube = ada.keep("Otto repairs accordions.")
    with pytest.raises(NotFound):
        bob.relocate("bobs", cube)
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    with pytest.raises(AccessDenied, match="forget"):
        bob.relocate("bobs", cube)
    with pytest.raises(AccessDenied, match="share"):
        bob.relocate("bobs", cube, copy=True)
    ada.api.grant(ada.caller, "personal", "bob", ["share"])
    assert len(bob.relocate("bobs", cube, copy=True)["moved"]) == 1
    with pytest.raises(AccessDenied, match="write"):
        ada.relocate("bobs", cube)
    ada.api.grant(ada.caller, "personal", "bob", ["forget"])
    assert bob.relocate("bobs2", cube)["moved"] == [cube]
    with pytest.raises(NotFound):
        ada.text(cube)


def test_grants_on_the_memory_itself_go_along(ada: Person, bob: Person) -> None:
    cube = ada.keep("Otto repairs accordions.")
    with ada.api.parts.ledger.write() as connection:
        seq = ada.api.parts.vault.by_ids(connection, [cube])[cube].seq
        connection.execute(grants.insert(), {"cube": seq, "principal": "bob", "can": "read"})
    ada.relocate("den", cube)
    assert bob.text(cube) == "Otto repairs accordions."


def test_a_document_moves_whole_and_its_parts_do_not_move_alone(ada: Person) -> None:
    text = "# One\n\n" + "Words of one. " * 200 + "\n\n# Two\n\nWords of two."
    cubes = [cube["id"] for cube in ada.add(text, kind="document", ref="d")["cubes"]]
    with pytest.raises(Conflict, match="move the whole document"):
        ada.relocate("den", cubes[-1])
    root = ada.api.read.cube(ada.caller, cubes[-1])["lineage"]["path"][0]["id"]
    moved = ada.relocate("den", root)
    assert set(moved["moved"]) >= set(cubes)
    assert {space_of(ada, cube) for cube in moved["moved"]} == {"den"}
    assert ada.api.tree(ada.caller, root)["nodes"] == len(moved["moved"])
    assert ada.add(text, kind="document", ref="d", space="den")["cubes"] == []


def test_what_is_not_moved_is_said_in_a_sentence(ada: Person) -> None:
    cube = ada.keep("Otto repairs accordions.", ref="r")
    ada.update(cube, freeze=True)
    with pytest.raises(Conflict, match="frozen and is not moved"):
        ada.relocate("den", cube)
    ada.update(cube, freeze=False)
    ada.at("den").keep("Another of that name.", ref="r")
    with pytest.raises(Conflict, match="has the ref 'r'"):
        ada.relocate("den", cube)
    assert ada.relocate("personal", cube) == {"moved": [], "unchanged": [cube], "space": "personal", "op": None}
    (copy,) = ada.relocate("den", cube, copy=True)["moved"]
    assert ada.search(ids=[copy])["hits"][0]["refs"] == []


def test_archived_and_superseded_memories_keep_their_place_out_of_search(ada: Person) -> None:
    old = ada.keep("Otto repairs accordions.")
    ada.forget(old)
    ada.relocate("den", old)
    assert ada.ids("accordions", space="den") == []
    assert ada.ids("accordions", space="den", include=["archived"]) == [old]
    assert ada.ids("accordions", space="personal", include=["archived"]) == []


def test_a_memory_leaves_and_enters_a_space_that_has_an_index(ada: Person) -> None:
    big = ada.at("big")
    rows = [{"role": "user", "content": f"Beacon number {n} stands on hill {n}."} for n in range(INDEX_FROM + 20)]
    cubes = [cube["id"] for cube in big.add(messages=rows)["cubes"]]
    parts = ada.api.parts
    assert eventually(lambda: not parts.indexer.busy)
    stranger = ada.keep("Otto repairs accordions.")
    ada.relocate("big", stranger)
    ada.relocate("personal", cubes[7])
    assert big.ids("Who repairs accordions?", space="big", top_k=1) == [stranger]
    assert cubes[7] not in big.ids("Beacon number 7 stands on hill 7.", space="big", top_k=50)
    assert ada.ids("Beacon number 7 stands on hill 7.", space="personal") == [cubes[7]]
    assert eventually(lambda: not parts.indexer.busy)
    assert big.ids("Who repairs accordions?", space="big", top_k=1) == [stranger]
    assert cubes[7] not in big.ids("Beacon number 7 stands on hill 7.", space="big", top_k=50)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
def test_however_often_it_moves_it_is_found_where_it_is(ada: Person, places: list[str]) -> None:
    cube = ada.keep("Otto repairs accordions.", kind="event")
    ops = [ada.relocate(place, cube)["op"] for place in places]
    where = places[-1]
    for place in "abc":
        assert (cube in ada.ids("accordions", space=place, top_k=50)) is (place == where) if place in places else True
    for op in reversed([op for op in ops if op]):
        ada.undo(op)
    assert cube in ada.ids("accordions", space="personal", top_k=50)


def test_a_compressed_memory_goes_along_and_stays_compressed(ada: Person) -> None:
    cube, stays = ada.keep("Otto repairs accordions."), ada.keep("Otto sleeps late.")
    ada.update(cube, content="Otto repairs old accordions.")
    ada.forget(cube, stays)
    parts = ada.api.parts
    assert archive.compress(parts, [cube, stays]) == 3
    moved = ada.relocate("workshop", cube)
    shown = ada.api.read.cube(ada.caller, cube)
    assert (shown["payload"]["value"], shown["governance"]["state"]) == ("Otto repairs old accordions.", "archived")
    assert len(ada.history(cube)["versions"]) == 2
    assert ada.ids("accordions", space="workshop", include=["archived"]) == [cube]
    assert ada.ids("accordions", space="personal", include=["archived"]) == []
    with parts.ledger.read() as connection:
        numbers = {row.name: row.id for row in connection.execute(select(spaces))}
        seqs = {one.id: one.seq for one in parts.vault.by_ids(connection, [cube, stays]).values()}
        joined = select(packed.c.cube, packs.c.space).join(packs, packs.c.id == packed.c.pack)
        held = {tuple(row) for row in connection.execute(joined)}
    assert held == {(seqs[cube], numbers["workshop"]), (seqs[stays], numbers["personal"])}
    ada.undo(moved["op"])
    ada.forget(cube, mode="purge")
    assert ada.text(stays) == "Otto sleeps late."
    with parts.ledger.read() as connection:
        assert set(connection.execute(select(packed.c.cube)).scalars()) == {seqs[stays]}


def test_a_copy_of_a_compressed_memory_is_a_whole_one(ada: Person) -> None:
    cube = ada.keep("Otto repairs accordions.")
    ada.forget(cube)
    archive.compress(ada.api.parts, [cube])
    (copy,) = ada.relocate("workshop", cube, copy=True)["moved"]
    assert (ada.text(copy), ada.state(copy)) == ("Otto repairs accordions.", "generated")
    assert eventually(lambda: not ada.api.parts.indexer.busy)
    assert ada.ids("Who repairs accordions?", space="workshop") == [copy]
    assert ada.state(cube) == "archived"


def test_what_it_claims_is_held_against_its_new_space(ada: Person) -> None:
    home = ada.keep("I live in Lisbon.")
    assert ada.api.parts.weaver.catch_up()
    ada.relocate("den", home)
    assert ada.add("I live in Porto.", space="personal")["similar"] == []
    told = ada.add("I live in Faro.", space="den")["similar"]
    assert told is not None
    assert [one["id"] for one in told if "conflict" in one] == [home]
