"""Fusing memories: one stands for several, which stay readable; everything about it can be undone and purged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import LONG, Person, eventually, states_of

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.requests import FuseRequest

TEXTS = st.sampled_from(["Ann sings.", "Bob has 2 cats. Ann sings.", "小王住在北京。", "小王搬到上海了。"])
LISBON, PORTO = "Bruno lives in Lisbon.", "Bruno moved to Porto."


def test_the_sources_become_merged_and_search_finds_the_one_that_stands_for_them(ada: Person) -> None:
    old = ada.keep(LISBON, time="2026-01-02", tags=["home", "bruno"], importance=0.9, metadata={"by": "x", "n": 1})
    new = ada.keep(PORTO, time="2026-02-02", tags=["move"], priority=0.8, metadata={"by": "x", "n": 2})
    other = ada.keep("Bruno knows Ann.")
    ada.update(old, links=[{"to": other, "relation": "about"}, {"to": new, "relation": "before"}], pin=True)
    fused = ada.fuse(new, old)
    assert (fused["state"], fused["version"], fused["merged"]) == ("generated", 1, [new, old])
    assert ada.text(fused["id"]) == (
        f'{LISBON}\n{PORTO}\n[Contradiction: "{LISBON}" (2026-01-02) and "{PORTO}" (2026-02-02)]'
    )
    found = ada.ids("Where does Bruno live?", top_k=10)
    assert fused["id"] in found
    assert not {old, new} & set(found)
    assert {ada.state(cube) for cube in (old, new)} == {"merged"}
    assert ada.text(old) == LISBON
    cube = ada.api.read.cube(ada.caller, fused["id"])
    assert cube["lineage"]["parents"] == [new, old]
    assert cube["lineage"]["links"] == [{"to": other, "relation": "about"}]
    assert cube["descriptive"]["tags"] == ["move", "home", "bruno"]
    assert cube["descriptive"]["metadata"] == {"by": "x"}
    assert cube["descriptive"]["valid_from"].startswith("2026-01-02")
    assert (cube["behavioural"]["importance"], cube["governance"]["priority"]) == (0.9, 0.8)
    assert cube["governance"]["pinned"]


def test_the_hosts_own_text_is_kept_as_it_is(ada: Person) -> None:
    fused = ada.fuse(ada.keep("我喜欢咖啡。"), ada.keep("我戒咖啡了。"), content="我以前喜欢咖啡，现在戒了。🙂")
    assert ada.text(fused["id"]) == "我以前喜欢咖啡，现在戒了。🙂"
    assert fused["id"] in ada.ids("咖啡")


def test_an_undo_brings_the_sources_back_as_they_were_and_can_itself_be_undone(ada: Person) -> None:
    one, two = ada.keep("Ann sings in a choir."), ada.keep("Ann sings in a choir on Mondays.", kind="event")
    ada.forget(two)
    before = [ada.api.read.cube(ada.caller, cube) for cube in (one, two)]
    fused = ada.fuse(one, two)
    undone = ada.undo(fused["op"])
    assert set(undone["undone"]) == {one, two, fused["id"]}
    after = [ada.api.read.cube(ada.caller, cube) for cube in (one, two)]
    assert [(c["payload"], c["version"], c["governance"], c["lineage"]) for c in after] == [
        (c["payload"], c["version"], c["governance"], c["lineage"]) for c in before
    ]
    assert ada.state(fused["id"]) == "expired"
    assert one in ada.ids("choir")
    again = ada.undo(undone["op"])
    assert set(again["undone"]) == {one, two, fused["id"]}
    assert ada.ids("choir") == [fused["id"]]


def test_what_was_changed_since_stands_in_the_way_of_the_undo(ada: Person) -> None:
    fused = ada.fuse(ada.keep("Ann sings."), ada.keep("Ann dances."))
    later = ada.update(fused["id"], content="Ann sings and dances.")
    with pytest.raises(Conflict, match=str(later["op"])):
        ada.undo(fused["op"])


def test_purging_a_source_purges_what_was_fused_from_it(ada: Person) -> None:
    secret, other = ada.keep("The code is 31-41-59."), ada.keep("The door is green.")
    fused = ada.fuse(secret, other)
    plan = ada.forget(secret, mode="purge", dry_run=True)
    assert plan["derived"]["cubes"] == [fused["id"]]
    ada.forget(secret, mode="purge")
    with pytest.raises(NotFound):
        ada.text(fused["id"])
    assert ada.text(other) == "The door is green."


def test_it_is_as_secret_as_the_most_secret_and_lives_as_long_as_the_longest(ada: Person) -> None:
    one, two = ada.keep("Pin of the card.", expires="2026-05-01"), ada.keep("Colour of it.", expires="2027-05-01")
    ada.update(two, sensitivity="secret")
    cube = ada.api.read.cube(ada.caller, ada.fuse(one, two)["id"])
    assert cube["governance"]["sensitivity"] == "secret"
    assert cube["governance"]["expires"].startswith("2027-05-01")
    lasting = ada.fuse(ada.keep("x y", expires="2026-05-01"), ada.keep("z w"))
    assert ada.api.read.cube(ada.caller, lasting["id"])["governance"]["expires"] is None


def test_turns_of_a_conversation_become_an_event_that_says_who_spoke(ada: Person) -> None:
    turns = [
        {"role": "user", "name": "小李", "content": "周六去爬山吧。", "time": "2026-01-01"},
        {"role": "assistant", "content": "Good idea.", "time": "2026-01-02"},
    ]
    ids = [cube["id"] for cube in ada.add(messages=turns, session="trip")["cubes"]]
    fused = ada.fuse(*ids)
    assert ada.text(fused["id"]) == "小李: 周六去爬山吧。\nassistant: Good idea."
    cube = ada.api.read.cube(ada.caller, fused["id"])["descriptive"]
    assert (cube["kind"], cube["source"]["session"]) == ("event", "trip")


def refuse(ada: Person, *ids: str) -> str:
    states = {cube: ada.state(cube) for cube in ids}
    with pytest.raises(Conflict) as caught:
        ada.fuse(*ids)
    assert {cube: ada.state(cube) for cube in ids} == states
    return str(caught.value)


def test_what_cannot_be_fused_is_refused_in_a_sentence_and_left_as_it_is(ada: Person, clock: Any) -> None:
    one, two, three = ada.keep("Ann sings."), ada.keep("Ann dances."), ada.keep("Ann paints.")
    ada.update(one, freeze=True)
    assert "thaw it first" in refuse(ada, one, two)
    ada.update(one, freeze=False)
    fused = ada.fuse(one, two)
    assert f"into {fused['id']}" in refuse(ada, one, three)
    assert "expired" in refuse(ada, three, _undone(ada, "Never said."))
    soon = ada.keep("Ann is away.", expires="2026-03-02")
    clock.advance(days=3)
    assert "expired" in refuse(ada, soon, three)
    new = ada.keep("Ann sculpts.", supersedes=[three])
    assert f"superseded by {new}" in refuse(ada, three, fused["id"])
    assert ada.fuse(three, new)["merged"] == [three, new]
    assert "'den', 'personal'" in refuse(ada, ada.at("den").keep("Elsewhere."), fused["id"])


def _undone(ada: Person, text: str) -> str:
    added = ada.add(text)
    ada.undo(added["op"])
    return added["cubes"][0]["id"]


def test_parts_of_documents_are_not_fused(ada: Person) -> None:
    added = ada.add("# One\n\n" + "Words of one. " * 200 + "\n\n# Two\n\nWords of two.", kind="document", ref="d")
    assert "part of a document" in refuse(ada, added["cubes"][0]["id"], ada.keep("Ann sings."))


def test_two_different_memories_are_needed_and_they_must_be_the_callers(ada: Person, bob: Person) -> None:
    one, two = ada.keep("Ann sings."), ada.keep("Ann dances.")
    with pytest.raises(InvalidInput, match="two different"):
        ada.fuse(one, one)
    with pytest.raises(NotFound):
        bob.fuse(one, two)
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    with pytest.raises(AccessDenied):
        bob.fuse(one, two)
    with pytest.raises(ValueError, match="at least 2"):
        FuseRequest(ids=[one])
    with pytest.raises(InvalidInput, match="empty"):
        ada.fuse(one, two, content=" \n")


def test_the_same_words_again_are_what_the_fused_memory_says(ada: Person) -> None:
    one, two = ada.keep("Ann sings.", ref="a"), ada.keep("Ann dances.")
    fused = ada.fuse(one, two)
    assert ada.add("Ann dances.")["unchanged"] == [fused["id"]]
    assert ada.add("Ann sings.", ref="a")["unchanged"] == [fused["id"]]
    fresh = ada.keep("Ann sings loudly.", ref="a")
    assert fresh not in (one, fused["id"])
    assert fresh in ada.ids("Ann sings loudly")
    ada.forget(fused["id"], mode="purge")
    again = ada.keep("Ann dances.")
    assert again != two
    assert again in ada.ids("Ann dances")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(st.lists(TEXTS, min_size=2, max_size=5), st.booleans())
def test_fusing_and_undoing_leaves_everything_as_it_was(ada: Person, texts: list[str], hosts: bool) -> None:
    ids = [ada.keep(text, kind="event", session=str(place)) for place, text in enumerate(texts)]
    before = {cube: (ada.text(cube), ada.state(cube)) for cube in ids}
    fused = ada.fuse(*ids, content="Ann." if hosts else None)
    assert {ada.state(cube) for cube in ids} == {"merged"}
    ada.undo(fused["op"])
    after = {cube: (ada.text(cube), ada.state(cube)) for cube in ids}
    used = {"generated": "activated"}
    assert {cube: (text, used.get(state, state)) for cube, (text, state) in after.items()} == {
        cube: (text, used.get(state, state)) for cube, (text, state) in before.items()
    }


def test_what_the_local_model_had_read_of_the_sources_gives_way_to_the_fused_memory(
    open_kernel: Callable[..., Kernel], engine: FakeEngine
) -> None:
    ada = Person(open_kernel(engine=lambda _: engine).api, "ada")
    one, two = ada.keep(f"Ann sings, {LONG}."), ada.keep(f"Ann dances, {LONG}.")
    ada.activate(one)
    fused = ada.fuse(one, two)
    held = states_of(ada)
    (row,) = [row for row in _cubes(ada, fused["id"]) if row is not None]
    assert eventually(lambda: held.holds([(row, 1)]))
    (gone,) = _cubes(ada, one)
    assert not held.holds([(gone, 1)])
    ada.undo(fused["op"])
    assert not held.holds([(row, 1)])


def _cubes(ada: Person, *ids: str) -> list[int]:
    with ada.api.parts.ledger.read() as connection:
        return [cube.seq for cube in ada.api.parts.vault.by_ids(connection, ids).values()]


def test_what_was_believed_before_the_fusion_are_its_sources(ada: Person, clock: Any) -> None:
    one, two = ada.keep("Ann sings in a choir."), ada.keep("Ann sings in a choir on Mondays.")
    then = clock.advance(days=1)
    clock.advance(days=1)
    fused = ada.fuse(one, two)
    assert ada.ids("Who sings in a choir?") == [fused["id"]]
    assert set(ada.ids("Who sings in a choir?", as_of=then)) == {one, two}
