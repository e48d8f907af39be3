"""What readers of a channel get when a memory that stands in it is moved, fused or split, and when that is undone."""

from __future__ import annotations

import pytest
from person import Person
from test_channels import NEWS, copies_of, delivered, held, team

from memos_mcp.errors import NotFound
from memos_mcp.kernel import Kernel

__all__ = ["team"]


def test_what_was_published_by_name_is_read_wherever_it_stands(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    ada.relocate("harbour", cube)
    delivered(kernel)
    assert held(team) == [cube]
    (hit,) = [hit for hit in team.search("When does the harbour open?")["hits"] if hit["id"] == cube]
    assert hit["space"] == "harbour"


def test_what_leaves_the_space_of_a_query_leaves_its_channel_and_comes_back_with_the_undo(
    ada: Person, team: Person, kernel: Kernel
) -> None:
    cube = ada.keep("The harbour opens at seven", tags=["harbour"])
    ada.publish(NEWS, tags=["harbour"])
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    (copy,) = copies_of(team, "harbour opens")
    moved = ada.relocate("attic", cube)
    assert held(team) == [], "at once"
    with pytest.raises(NotFound):
        team.text(cube)
    delivered(kernel)
    assert copies_of(team, "harbour opens") == []
    undone = ada.undo(moved["op"])
    assert held(team) == [cube]
    delivered(kernel)
    assert [hit["id"] for hit in copies_of(team, "harbour opens")] == [copy["id"]]
    ada.undo(undone["op"])
    delivered(kernel)
    assert held(team) == []


def test_a_query_over_the_new_space_takes_it_in(ada: Person, team: Person, kernel: Kernel) -> None:
    ada.at("harbour").keep("Something else", tags=["harbour"])
    ada.at("harbour").publish(NEWS, tags=["harbour"])
    cube = ada.keep("The harbour opens at seven", tags=["harbour"])
    ada.relocate("harbour", cube)
    delivered(kernel)
    assert cube in held(team)


def test_a_publisher_who_may_not_share_it_in_its_new_space_publishes_it_no_more(
    ada: Person, bob: Person, kernel: Kernel
) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.api.grant(ada.caller, "personal", "bob", ["read", "share"])
    bob.api.read.create_space(bob.caller, "board")
    bob.api.grant(bob.caller, "board", "eve", ["read"])
    eve = Person(ada.api, "eve")
    bob.publish("board/news", cube)
    assert eve.text(cube)
    moved = ada.relocate("attic", cube)
    with pytest.raises(NotFound):
        eve.text(cube)
    ada.undo(moved["op"])
    assert eve.text(cube)
    again = ada.relocate("attic", cube)
    with ada.api.parts.ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM grants WHERE principal = 'bob' AND can = 'share'")
    ada.undo(again["op"])
    with pytest.raises(NotFound):
        eve.text(cube)


def test_a_fused_memory_stands_where_all_of_its_sources_stood(ada: Person, team: Person, kernel: Kernel) -> None:
    one, two = ada.keep("The harbour opens at seven."), ada.keep("The harbour closes at nine.")
    ada.publish(NEWS, one, two)
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    assert len(copies_of(team, "harbour")) == 2
    done = ada.fuse(one, two)
    assert held(team) == [done["id"]]
    delivered(kernel)
    (copy,) = copies_of(team, "harbour")
    assert copy["text"] == "The harbour opens at seven.\nThe harbour closes at nine."
    undone = ada.undo(done["op"])
    assert set(held(team)) == {one, two}
    delivered(kernel)
    assert {hit["text"] for hit in copies_of(team, "harbour")} == {ada.text(one), ada.text(two)}
    ada.undo(undone["op"])
    assert held(team) == [done["id"]]


def test_a_fused_memory_that_says_more_than_was_published_is_not_published(
    ada: Person, team: Person, kernel: Kernel
) -> None:
    one, two = ada.keep("The harbour opens at seven."), ada.keep("The safe's code is 4711.")
    ada.publish(NEWS, one)
    ada.publish("team/other", two)
    team.subscribe(NEWS)
    done = ada.fuse(one, two)
    delivered(kernel)
    assert held(team) == [one]
    assert team.text(one) == "The harbour opens at seven."
    with pytest.raises(NotFound):
        team.text(done["id"])
    assert "4711" not in str(team.search("harbour"))


def test_the_parts_of_a_published_memory_stand_in_its_place(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("# Harbour\n\nIt opens at seven.\n\n# Market\n\nIt opens at eight.")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    done = ada.split(cube)
    parts = [part["id"] for part in done["parts"]]
    assert held(team) == parts
    assert set(parts) <= set(team.ids("When does the market open?"))
    delivered(kernel)
    ada.undo(done["op"])
    assert held(team) == [cube]


def test_what_was_withdrawn_since_is_not_published_again_by_an_undo(ada: Person, team: Person) -> None:
    one, two = ada.keep("The harbour opens at seven."), ada.keep("The harbour closes at nine.")
    ada.publish(NEWS, one, two)
    done = ada.fuse(one, two)
    ada.withdraw(NEWS, done["id"])
    ada.undo(done["op"])
    assert held(team) == []
    assert ada.state(one) == "generated"


def test_a_query_judges_what_was_made_by_itself(ada: Person, team: Person, kernel: Kernel) -> None:
    one = ada.keep("The harbour opens at seven.", tags=["harbour"])
    two = ada.keep("The harbour closes at nine.", tags=["harbour"])
    ada.publish(NEWS, tags=["harbour"])
    done = ada.fuse(one, two)
    delivered(kernel)
    assert held(team) == [done["id"]]


def test_a_copy_that_its_space_moved_goes_on_being_one(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS, copies=True, follow=True)
    delivered(kernel)
    (copy,) = copies_of(team, "harbour opens")
    team.relocate("cellar", copy["id"])
    ada.update(cube, content="The harbour opens at eight")
    delivered(kernel)
    assert team.text(copy["id"]) == "The harbour opens at eight"
    assert copies_of(team, "harbour opens") == []
    ada.forget(cube, mode="purge")
    with pytest.raises(NotFound):
        team.text(copy["id"])
