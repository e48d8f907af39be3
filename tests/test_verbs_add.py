"""The verb add: what is new, what is known, what replaces what."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from fakes import FakeEmbedder
from person import Clock, Person, eventually

from memos_mcp.errors import Conflict, EmbedderUnavailable, InvalidInput, NotFound
from memos_mcp.kernel import Kernel


def test_an_added_memory_is_found_and_read_back(ada: Person) -> None:
    added = ada.add("The deploy script lives in tools/ship.sh", tags=["ops"], source="wiki", importance=0.9)
    cube = added["cubes"][0]
    assert cube["state"] == "generated"
    assert cube["version"] == 1
    assert cube["uri"] == f"memcube://{cube['id']}"
    hit = ada.search("where is the deploy script")["hits"][0]
    assert (hit["id"], hit["text"]) == (cube["id"], "The deploy script lives in tools/ship.sh")
    assert (hit["tags"], hit["source"], hit["kind"], hit["space"]) == (["ops"], "wiki", "fact", "personal")


@pytest.mark.parametrize(("quick", "text"), [(False, "Tea is green."), (True, "Tea is green. " * 100)])
def test_others_write_while_a_vector_is_being_made_that_takes_long(
    embedder: FakeEmbedder, ada: Person, kernel: Kernel, quick: bool, text: str
) -> None:
    making, written = threading.Event(), threading.Event()

    def before(texts: Sequence[str]) -> None:
        making.set()
        assert written.wait(10)

    embedder.is_quick, embedder.before = quick, before
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(ada.keep, text)
        assert making.wait(10)
        with kernel.ledger.write() as connection:
            kernel.ledger.put(connection, "note", "written meanwhile")
        written.set()
        assert ada.state(adding.result(10)) == "generated"


def is_being_written(ledger: Path) -> bool:
    with closing(sqlite3.connect(ledger, timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def test_a_quick_embedder_that_fails_behind_the_write_leaves_the_memory_to_be_embedded_later(
    embedder: FakeEmbedder, ada: Person, kernel: Kernel
) -> None:
    def before(texts: Sequence[str]) -> None:
        embedder.before = None
        assert eventually(lambda: is_being_written(kernel.ledger.path))
        raise EmbedderUnavailable("It is gone for a moment.")

    embedder.before = before
    added = ada.add("Tea is green.")
    assert added["similar"] is None
    assert ada.ids("green tea") == [added["cubes"][0]["id"]]
    assert eventually(lambda: ada.search("green tea")["hits"][0]["why"]["cosine"] is not None)


@pytest.mark.parametrize("kind", ["fact", "preference", "profile", "procedure", "document"])
def test_the_same_text_again_is_unchanged(ada: Person, kind: str) -> None:
    first = ada.keep("Tea is  drunk at four.", kind=kind)
    again = ada.add(" Tea is drunk at four. ", kind=kind)
    assert again["cubes"] == []
    assert again["unchanged"] == [first]
    assert again["op"] is None


def test_the_same_text_in_another_space_is_another_memory(ada: Person) -> None:
    first = ada.keep("Tea is drunk at four.")
    second = ada.keep("Tea is drunk at four.", space="work")
    assert first != second


@pytest.mark.parametrize(
    "differs",
    [{"session": "two"}, {"time": "2026-02-02"}, {"ref": "m2"}],
    ids=["session", "time", "ref"],
)
def test_the_same_words_on_another_occasion_are_another_event(ada: Person, differs: dict[str, str]) -> None:
    occasion = {"kind": "event", "session": "one", "time": "2026-02-01", "ref": "m1"}
    ada.keep("Good morning", **occasion)
    again = ada.add("Good morning", **{**occasion, "ref": None, **differs})
    assert len(again["cubes"]) == 1
    assert again["unchanged"] == []


def test_words_said_twice_at_the_same_time_are_one_event(ada: Person) -> None:
    first = ada.keep("Good morning", kind="event", session="one", time="2026-02-01")
    assert ada.add("Good morning", kind="event", session="one", time="2026-02-01")["unchanged"] == [first]


def test_a_repeated_ref_is_unchanged_and_with_other_content_a_new_version(ada: Person) -> None:
    first = ada.keep("Meeting at nine", ref="cal-7")
    assert ada.add("Meeting at nine", ref="cal-7")["unchanged"] == [first]
    moved = ada.add("Meeting at ten", ref="cal-7")
    assert [(cube["id"], cube["version"]) for cube in moved["cubes"]] == [(first, 2)]
    assert ada.text(first) == "Meeting at ten"
    ada.undo(moved["op"])
    assert ada.text(first) == "Meeting at nine"


def test_a_new_version_by_ref_keeps_what_was_set_before(ada: Person) -> None:
    first = ada.keep("Meeting at nine", ref="cal-7", importance=0.9, priority=0.8, tags=["work"], expires="2027-01-01")
    ada.add("Meeting at ten", ref="cal-7")
    cube = ada.api.read.cube(ada.caller, first)
    assert cube["behavioural"]["importance"] == 0.9
    assert cube["governance"]["priority"] == 0.8
    assert cube["governance"]["expires"] == "2027-01-01T00:00:00.000Z"
    assert cube["descriptive"]["tags"] == ["work"]


def test_messages_become_a_memory_each_in_order(ada: Person) -> None:
    said = [{"role": "user", "content": "Hello", "name": "Ada"}, {"role": "assistant", "content": "Hello Ada"}]
    added = ada.add(messages=said, session="s1")
    texts = [ada.text(cube["id"]) for cube in added["cubes"]]
    assert texts == ["Hello", "Hello Ada"]
    kinds = {hit["kind"] for hit in ada.search(ids=[c["id"] for c in added["cubes"]])["hits"]}
    assert kinds == {"dialogue"}


def test_a_conversation_added_again_by_its_refs_adds_nothing(ada: Person) -> None:
    said = [{"role": "user", "content": f"Line {i}", "ref": f"m{i}"} for i in range(6)]
    first = ada.add(messages=said, session="s1")
    again = ada.add(messages=said, session="s1")
    assert again["unchanged"] == [cube["id"] for cube in first["cubes"]]
    assert again["op"] is None


def test_the_same_fact_twice_in_one_call_is_one_memory(ada: Person) -> None:
    said = [{"role": "user", "content": text} for text in ("Tea at four", "Cake at five", "Tea  at four")]
    added = ada.add(messages=said, kind="fact")
    assert len(added["cubes"]) == 2
    assert added["unchanged"] == [added["cubes"][0]["id"]]


def test_superseding_hides_the_old_memory_and_include_shows_it(ada: Person) -> None:
    old = ada.keep("Ada works at Initech", time="2025-01-01")
    added = ada.add("Ada works at Hooli", supersedes=[old], time="2026-02-01")
    new = added["cubes"][0]["id"]
    assert old not in ada.ids("where does Ada work")
    assert set(ada.ids("where does Ada work", include=["superseded"])) == {old, new}
    lineage = ada.api.read.cube(ada.caller, old)["lineage"]
    assert lineage["superseded_by"] == new
    assert ada.api.read.cube(ada.caller, old)["descriptive"]["valid_to"] == "2026-02-01T00:00:00.000Z"
    ada.undo(added["op"])
    assert ada.ids("where does Ada work") == [old]


def test_a_known_text_can_still_supersede_another(ada: Person) -> None:
    new, old = ada.keep("Hooli, where Ada works"), ada.keep("Initech, where Ada works")
    added = ada.add("Hooli, where Ada works", supersedes=[old])
    assert added["op"] is not None
    assert old not in ada.ids("where does Ada work")
    assert ada.api.read.cube(ada.caller, old)["lineage"]["superseded_by"] == new
    ada.undo(added["op"])
    assert old in ada.ids("where does Ada work")


def test_a_memory_cannot_supersede_itself(ada: Person) -> None:
    known = ada.keep("Ada works at Hooli", ref="job")
    with pytest.raises(Conflict, match="itself"):
        ada.add("Ada works at Pied Piper", ref="job", supersedes=[known])
    assert ada.text(known) == "Ada works at Hooli"


def test_a_fact_that_was_archived_is_there_again_when_it_is_added_again(ada: Person) -> None:
    fact = ada.keep("The gate code is 4711")
    ada.forget(fact)
    assert ada.ids("gate code") == []
    again = ada.add("The gate code is 4711")
    assert [cube["id"] for cube in again["cubes"]] == [fact]
    assert ada.ids("gate code") == [fact]
    ada.undo(again["op"])
    assert ada.ids("gate code") == []


def test_a_fact_whose_life_is_over_is_new_when_it_is_added_again(ada: Person, clock: Clock) -> None:
    ada.keep("The gate code is 4711", expires="2026-03-02")
    clock.advance(days=3)
    again = ada.keep("The gate code is 4711")
    assert ada.ids("gate code") == [again]


def test_ids_that_are_not_there_are_all_named_and_nothing_is_written(ada: Person) -> None:
    with pytest.raises(NotFound) as caught:
        ada.add("New", supersedes=["nope-1", "nope-2"])
    assert caught.value.ids == ("nope-1", "nope-2")
    with pytest.raises(NotFound, match="nope-3"):
        ada.add("New", links=[{"to": "nope-3", "relation": "about"}])
    assert ada.ids("New") == []


def test_what_is_alike_is_told(ada: Person) -> None:
    first = ada.keep("The deploy script lives in tools/ship.sh")
    added = ada.add("The deploy script lives in tools/ship.sh.")
    assert added["similar"] is not None
    assert [one["id"] for one in added["similar"]] == [first]
    assert added["similar"][0]["similarity"] >= 0.8


def test_nothing_alike_is_an_empty_list_and_unchecked_is_null(ada: Person) -> None:
    assert ada.add("Something of its own")["similar"] == []
    bulk = ada.add(messages=[{"role": "user", "content": f"Line {i}"} for i in range(20)])
    assert bulk["similar"] is None


def test_without_an_embedder_a_memory_is_kept_and_found_by_its_words(
    open_kernel: Callable[..., Kernel], embedder: FakeEmbedder
) -> None:
    ada = Person(open_kernel().api, "ada")
    embedder.down = True
    added = ada.add("The gate code is 4711")
    assert added["similar"] is None
    found = ada.search("gate code")
    assert [hit["id"] for hit in found["hits"]] == [added["cubes"][0]["id"]]
    assert "degraded" in found


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"content": "a", "messages": [{"role": "user", "content": "b"}]},
        {"messages": []},
        {"content": "  "},
        {"content": "a", "time": "yesterday"},
        {"content": "a", "expires": "never"},
        {"content": "a", "tags": ["line\nbreak"]},
        {"content": "a", "metadata": {"n": float("nan")}},
        {"content": "a", "metadata": {"n": 10**400}},
        {"content": "a", "metadata": {"long": "x" * 20_000}},
        {"content": "a", "space": "\x07"},
        {"messages": [{"role": "user", "content": "a", "ref": "r"}, {"role": "user", "content": "b", "ref": "r"}]},
        {"messages": [{"role": "user", "content": "a"}], "ref": "r"},
    ],
)
def test_what_cannot_be_kept_is_refused_whole(ada: Person, given: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        ada.add(**given)  # type: ignore[arg-type]
    with ada.api.parts.ledger.read() as connection:
        assert ada.api.parts.vault.count(connection) == 0


def test_metadata_nested_beyond_reason_is_refused(ada: Person) -> None:
    nested: dict[str, object] = {}
    for _ in range(2_500):
        nested = {"a": nested}
    with pytest.raises(InvalidInput, match="metadata"):
        ada.add("a", metadata=nested)


def test_a_space_is_named_in_any_script(ada: Person) -> None:
    cube = ada.keep("项目周会改到星期三", space="工作/项目甲")
    assert ada.search("周会", space="工作/项目甲")["hits"][0]["space"] == "工作/项目甲"
    assert ada.at("工作/项目甲").ids("星期三开会") == [cube]
