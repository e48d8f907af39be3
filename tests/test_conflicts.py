"""What contradicts: the newer one takes its place where a rule is sure, else both stay and the host is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Person
from sqlalchemy import Connection, delete, func, select

from memos_mcp import entities
from memos_mcp.cube import KINDS, Snapshot
from memos_mcp.gateway import texts
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import graph, progress
from memos_mcp.ledger.life_schema import claims
from memos_mcp.ledger.progress import Upto
from memos_mcp.policies import conflicts
from memos_mcp.results import AddResult
from memos_mcp.settings import write_config

MOVES = [
    ("I live in Lisbon.", "I moved to Porto."),
    ("我喜欢咖啡", "我戒咖啡了"),
    ("I like coffee.", "I don't like coffee any more."),
    ("Ada works at Google.", "Ada now works for Mistral."),
]


def told(result: AddResult) -> dict[str, str]:
    """The conflicts that an addition tells of, by id."""
    return {one["id"]: one["conflict"] for one in result["similar"] or [] if "conflict" in one}


def superseded_by(person: Person, cube: str) -> str | None:
    found: str | None = person.api.read.cube(person.caller, cube)["lineage"]["superseded_by"]
    return found


def kept_claims(person: Person) -> int:
    with person.api.parts.ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(claims)).scalar_one())


@pytest.mark.parametrize(("older", "newer"), MOVES, ids=["home", "chinese", "preference", "employer"])
def test_the_newer_one_takes_the_place_of_the_older_in_the_same_operation(ada: Person, older: str, newer: str) -> None:
    first = ada.keep(older)
    added = ada.add(newer)
    second = added["cubes"][0]["id"]
    assert superseded_by(ada, first) == second
    assert ada.api.read.cube(ada.caller, second)["lineage"]["supersedes"] == [first]
    assert first not in ada.ids(older)
    assert "superseded by the one added" in told(added)[first]
    assert f"Conflict ({added['similar'][0]['similarity']:.2f}) {first}" in texts.added(added)  # type: ignore[index]


@pytest.mark.parametrize(("older", "newer"), MOVES, ids=["home", "chinese", "preference", "employer"])
def test_an_undo_restores_what_was_superseded_and_undone_again_it_is_so_again(
    ada: Person, older: str, newer: str
) -> None:
    first = ada.keep(older)
    added = ada.add(newer)
    undone = ada.undo(added["op"])
    assert superseded_by(ada, first) is None
    assert first in ada.ids(older)
    assert ada.state(added["cubes"][0]["id"]) == "expired"
    ada.undo(undone["op"])
    assert superseded_by(ada, first) == added["cubes"][0]["id"]


def test_what_is_older_by_its_own_time_is_superseded_though_it_comes_later(ada: Person) -> None:
    newer = ada.keep("I live in Porto.", time="2026-02-01")
    added = ada.add("I live in Lisbon.", time="2020-05-01")
    older = added["cubes"][0]["id"]
    assert superseded_by(ada, older) == newer
    assert superseded_by(ada, newer) is None
    assert "supersedes the one added" in told(added)[newer]
    assert ada.ids("where do I live") == [newer]
    assert ada.undo(added["op"])["undone"] == [older]


def test_a_chain_of_homes_leaves_one(ada: Person) -> None:
    for city in ("Lisbon", "Porto", "Faro", "Lisbon"):
        last = ada.keep(f"I live in {city}.")
    assert ada.ids("where do I live") == [last]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("I drive a Honda.", "My car is a Toyota."),
        ("Dad is 71 years old.", "Dad is 68 years old."),
        ("My sister lives in Rome.", "My sister moved to Paris."),
        ("I live in Lisbon, near the river.", "I moved to Porto."),
    ],
)
def test_where_the_rule_is_not_sure_both_are_kept_and_the_host_is_told(ada: Person, older: str, newer: str) -> None:
    first = ada.keep(older)
    added = ada.add(newer)
    assert superseded_by(ada, first) is None
    assert told(added)[first].endswith("both are kept")


def test_the_opposite_in_the_same_words_is_told(ada: Person) -> None:
    first = ada.keep("The code of the back door in the yard works in winter.")
    added = ada.add("The code of the back door in the yard does not work in winter.")
    assert told(added)[first].endswith("both are kept")
    assert superseded_by(ada, first) is None


def test_an_unsure_conflict_that_is_found_by_its_claim_is_told_however_far_its_words_are(ada: Person) -> None:
    first = ada.keep("I drive a Honda.")
    added = ada.add("My car is a Toyota.")
    assert "both are kept" in told(added)[first]
    assert added["similar"] is not None
    assert -1 <= added["similar"][0]["similarity"] <= 1


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("I like tea.", "I like coffee."),
        ("I live in Lisbon.", "My brother moved to Porto."),
        ("I live in Lisbon.", "I might move to Porto."),
        ("I live in Lisbon.", "I live in Portugal."),
        ("我住在上海。", "我在考虑搬到深圳。"),
        ("我喜欢喝茶。", "我喜欢喝咖啡。"),
    ],
)
def test_what_may_both_be_true_is_no_conflict(ada: Person, older: str, newer: str) -> None:
    first = ada.keep(older)
    assert told(ada.add(newer)) == {}
    assert superseded_by(ada, first) is None


def test_a_frozen_memory_is_never_superseded_by_a_rule(ada: Person) -> None:
    first = ada.keep("I live in Lisbon.")
    ada.update(first, freeze=True)
    added = ada.add("I moved to Porto.")
    assert superseded_by(ada, first) is None
    assert "frozen" in told(added)[first]


def test_a_turn_of_a_conversation_and_an_event_stay_what_was_said(ada: Person) -> None:
    event = ada.keep("I moved to Lisbon.", kind="event")
    turn = ada.add(messages=[{"role": "user", "content": "I live in Lisbon."}])["cubes"][0]["id"]
    added = ada.add("I live in Porto.")
    assert told(added) == {}
    assert superseded_by(ada, event) is superseded_by(ada, turn) is None


def test_another_space_is_not_looked_at(ada: Person) -> None:
    first = ada.keep("I live in Lisbon.")
    assert told(ada.add("I moved to Porto.", space="work")) == {}
    assert superseded_by(ada, first) is None


def test_what_the_caller_supersedes_is_not_told_again(ada: Person) -> None:
    first = ada.keep("I live in Lisbon.")
    added = ada.add("I moved to Porto.", supersedes=[first])
    assert superseded_by(ada, first) == added["cubes"][0]["id"]
    assert told(added) == {}


def test_the_store_can_leave_it_to_the_host(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    home = kernel.settings.home
    kernel.close()
    write_config(home, "supersede", "off")
    ada = Person(open_kernel().api, "ada")
    first = ada.keep("I live in Lisbon.")
    added = ada.add("I moved to Porto.")
    assert superseded_by(ada, first) is None
    assert "both are kept" in told(added)[first]


def test_a_long_list_is_not_compared_and_its_claims_are_read_behind_the_call(ada: Person) -> None:
    ada.keep("I live in Lisbon.")
    turns = [{"role": "user", "content": f"Line {i}"} for i in range(9)] + [{"role": "user", "content": "I moved."}]
    assert ada.add(messages=turns)["similar"] is None
    before = kept_claims(ada)
    first = ada.keep("I work at Siemens.")
    ada.api.parts.weaver.catch_up()
    assert kept_claims(ada) == before + 1
    ada.update(first, content="I work at Bosch.")
    ada.api.parts.weaver.catch_up()
    added = ada.add("I work at Nokia.")
    assert superseded_by(ada, first) == added["cubes"][0]["id"]


def test_a_conflict_is_told_before_the_embedder_is_there(
    open_kernel: Callable[..., Kernel], embedder: FakeEmbedder
) -> None:
    ada = Person(open_kernel().api, "ada")
    embedder.down = True
    first = ada.keep("I live in Lisbon.")
    added = ada.add("I moved to Porto.")
    assert superseded_by(ada, first) == added["cubes"][0]["id"]
    assert "superseded by the one added" in told(added)[first]
    assert added["similar"] is not None
    assert "similarity" not in added["similar"][0]
    assert f"Conflict {first}: " in texts.added(added)
    assert ada.add("Rain fell on Tuesday.")["similar"] is None


def test_a_changed_text_claims_what_it_says_now_and_no_longer_what_it_said(ada: Person) -> None:
    cube = ada.keep("I live in Lisbon.")
    changed = ada.update(cube, content="Our dog is called Rex.")
    assert ada.api.parts.weaver.catch_up()
    assert told(ada.add("I live in Porto.")) == {}
    told_now = told(ada.add("Our dog is called Bello."))
    assert list(told_now) == [cube]
    ada.undo(changed["op"])
    assert ada.api.parts.weaver.catch_up()
    assert cube in told(ada.add("I live in Faro."))


def test_a_fused_text_is_found_by_its_claims(ada: Person) -> None:
    sources = ada.keep("I live in Lisbon."), ada.keep("Rain fell on Tuesday.")
    fused = ada.fuse(*sources, content="I live in Lisbon, on a hill.")
    assert ada.api.parts.weaver.catch_up()
    assert list(told(ada.add("I moved to Porto."))) == [fused["id"]]


def test_feedback_leaves_the_claims_as_they_are(ada: Person) -> None:
    cube = ada.keep("I live in Lisbon.")
    ada.update(cube, feedback="useful")
    assert ada.api.parts.weaver.catch_up()
    assert kept_claims(ada) == 1
    assert superseded_by(ada, cube) is None
    assert list(told(ada.add("I moved to Porto."))) == [cube]


def test_what_was_archived_before_it_was_read_is_found_once_it_is_back(ada: Person) -> None:
    cube = ada.keep("I live in Lisbon.")
    gone = ada.forget(cube)
    assert ada.api.parts.weaver.catch_up()
    assert told(ada.add("Bruno lives in Oslo.")) == {}
    ada.undo(gone["op"])
    assert list(told(ada.add("I moved to Porto."))) == [cube]


def test_a_store_whose_memories_were_read_by_former_rules_is_read_anew(ada: Person) -> None:
    cube = ada.keep("I live in Lisbon.")
    parts = ada.api.parts
    assert parts.weaver.catch_up()
    with parts.ledger.write() as connection:
        connection.execute(delete(claims))
        progress.note(connection, graph.NOTE, Upto(entities.RULES, *_last(connection)))
    assert parts.weaver.catch_up()
    assert list(told(ada.add("I moved to Porto."))) == [cube]


def _last(connection: Connection) -> tuple[int, str]:
    return progress.changed_after(connection, Upto(0), 1_000, versions=True)[-1]


def test_a_purge_leaves_no_claim(ada: Person) -> None:
    first = ada.keep("I live in Lisbon.")
    assert kept_claims(ada) == 1
    ada.forget(first, mode="purge")
    assert kept_claims(ada) == 0


TEXTS = st.text(max_size=80) | st.sampled_from([text for pair in MOVES for text in pair] + ["", "?", "了", "not", "不"])


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_any_two_texts_can_be_compared_and_none_contradicts_itself(a: str, b: str, kind: str, other: str) -> None:
    conflicts.conflict(Snapshot(a, kind=kind), Snapshot(b, kind=other))
    assert conflicts.conflict(Snapshot(a, kind=kind), Snapshot(a, kind=kind)) is None
