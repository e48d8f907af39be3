"""The verb search: filters, times, neighbours, the fair cut, and reading by id."""

from __future__ import annotations

from typing import Any

import pytest
from person import Clock, Person, as_id

from memos_mcp.errors import InvalidInput, NotFound


@pytest.fixture
def shelf(ada: Person) -> dict[str, str]:
    """Four memories of the same words and other metadata, by name."""
    rows: dict[str, dict[str, Any]] = {
        "low": {"metadata": {"n": 1, "tag": "x", "done": True, "deep": {"a": {"b": "c"}}}, "tags": ["one"]},
        "mid": {"metadata": {"n": 5, "tag": ["x", "y"], "done": False}, "tags": ["one", "two"], "importance": 0.9},
        "high": {"metadata": {"n": 9.5, "tag": "z"}, "kind": "event", "time": "2025-05-05", "source": "wiki"},
        "bare": {"session": "s1", "time": "2025-07-07"},
    }
    return {name: ada.keep(f"The lamp of the shelf is {name}", **given) for name, given in rows.items()}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"n": 5}, {"mid"}),
        ({"n": {"gt": 1}}, {"mid", "high"}),
        ({"n": {"gte": 1, "lt": 9.5}}, {"low", "mid"}),
        ({"n": {"lte": 5}}, {"low", "mid"}),
        ({"n": {"in": [1, 9.5]}}, {"low", "high"}),
        ({"n": [1, 5]}, {"low", "mid"}),
        ({"n": {"in": []}}, set()),
        ({"tag": "x"}, {"low", "mid"}),
        ({"tag": {"in": ["y", "z"]}}, {"mid", "high"}),
        ({"tag": {"ne": "x"}}, {"high", "bare"}),
        ({"tag": {"ne": ["x", "z"]}}, {"bare"}),
        ({"n": {"in": [1, "z"]}}, {"low"}),
        ({"n": "5"}, set()),
        ({"done": True}, {"low"}),
        ({"done": False}, {"mid"}),
        ({"done": {"ne": True}}, {"mid", "high", "bare"}),
        ({"deep.a.b": "c"}, {"low"}),
        ({"source": "wiki"}, {"high"}),
        ({"source": {"ne": "wiki"}}, {"low", "mid", "bare"}),
        ({"importance": {"gte": 0.8}}, {"mid"}),
        ({"importance": {"ne": [0.9]}}, {"low", "high", "bare"}),
        ({"form": "plaintext"}, {"low", "mid", "high", "bare"}),
        ({"form": "activation"}, set()),
        ({"modality": {"ne": "text"}}, set()),
        ({"state": "generated"}, {"low", "mid", "high", "bare"}),
        ({"n": {"gt": 0}, "tag": "z"}, {"high"}),
        ({"n": 10**40}, set()),
        ({"absent": "x"}, set()),
        ({"absent": {"ne": "x"}}, {"low", "mid", "high", "bare"}),
    ],
    ids=as_id,
)
def test_where_filters_by_equality_and_range(
    ada: Person, shelf: dict[str, str], clock: Clock, where: dict[str, Any], expected: set[str]
) -> None:
    names = {cube: name for name, cube in shelf.items()}
    assert {names[cube] for cube in ada.ids("lamp of the shelf", where=where)} == expected
    moment = clock.now.isoformat()
    clock.advance(hours=1)
    for cube in shelf.values():
        ada.update(cube, tags=["changed"])
    then = {names[cube] for cube in ada.ids("lamp of the shelf", where=where, as_of=moment)}
    assert then == expected, "the same filter over former versions"


@pytest.mark.parametrize(
    "where",
    [{"n": {"like": 3}}, {"n": {"gt": [1]}}, {"n": {"a": {"b": 1}}}, {"n": {"eq": None}}, {"n": None}, {"n": [[1]]}],
    ids=str,
)
@pytest.mark.parametrize("past", [False, True])
def test_a_filter_without_meaning_is_refused(
    ada: Person, shelf: dict[str, str], where: dict[str, Any], past: bool
) -> None:
    with pytest.raises(InvalidInput, match="where"):
        ada.ids("lamp", where=where, as_of="2026-03-01T12:00:00Z" if past else None)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"tags": ["one"]}, {"low", "mid"}),
        ({"tags": ["one", "two"]}, {"mid"}),
        ({"kinds": ["event"]}, {"high"}),
        ({"session": "s1"}, {"bare"}),
        ({"after": "2025-05-05", "before": "2025-07-07"}, {"high"}),
        ({"before": "2026-01-01"}, {"high", "bare"}),
        ({"after": "2026-01-01"}, {"low", "mid"}),
    ],
    ids=as_id,
)
def test_filters_by_tag_kind_session_and_time(
    ada: Person, shelf: dict[str, str], filters: dict[str, Any], expected: set[str]
) -> None:
    names = {cube: name for name, cube in shelf.items()}
    assert {names[cube] for cube in ada.ids("lamp of the shelf", **filters)} == expected


def test_a_memory_is_not_found_after_its_life_is_over(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The parking permit is blue", expires="2026-03-02T00:00:00Z")
    assert ada.ids("parking permit") == [cube]
    clock.advance(days=1)
    assert ada.ids("parking permit") == []


def test_as_of_gives_the_text_that_was_believed_then(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The office is in Berlin")
    then = clock.now.isoformat()
    clock.advance(hours=1)
    ada.update(cube, content="The office is in Munich")
    assert ada.search("where is the office")["hits"][0]["text"] == "The office is in Munich"
    believed = ada.search("where is the office", as_of=then)["hits"]
    assert [(hit["text"], hit["version"]) for hit in believed] == [("The office is in Berlin", 1)]
    assert ada.ids("where is the office", as_of="2026-02-28") == []


def test_as_of_sees_what_was_archived_superseded_or_undone_since(ada: Person, clock: Clock) -> None:
    archived, old = ada.keep("The office cat is called Tom"), ada.keep("The office dog is called Rex")
    undone = ada.add("The office bird is called Kiwi")
    then = clock.now.isoformat()
    clock.advance(hours=1)
    ada.forget(archived)
    ada.add("The office dog is called Bello", supersedes=[old])
    ada.undo(undone["op"])
    assert set(ada.ids("office animal called", as_of=then)) == {archived, old, undone["cubes"][0]["id"]}


def test_as_of_leaves_out_what_had_ended_by_then(ada: Person, clock: Clock) -> None:
    cube = ada.keep("The parking permit is blue", expires="2026-03-02")
    clock.advance(days=5)
    then = clock.now.isoformat()
    clock.advance(hours=1)
    ada.update(cube, tags=["changed"])
    assert ada.ids("parking permit", as_of=then) == []


def test_archived_memories_are_found_when_included(ada: Person) -> None:
    cube = ada.keep("The parking permit is blue")
    ada.forget(cube)
    assert ada.ids("parking permit") == []
    hit = ada.search("parking permit", include=["archived"])["hits"][0]
    assert (hit["id"], hit["state"]) == (cube, "archived")


def test_around_returns_the_neighbours_and_their_refs(ada: Person) -> None:
    said = [{"role": "user", "name": "Ada", "content": f"Turn {word}", "ref": f"m-{word}"}
            for word in ("alpha", "bravo", "charlie", "delta", "echo")]  # fmt: skip
    ada.add(messages=said, session="talk")
    ada.add(messages=[{"role": "user", "content": "Turn foxtrot"}], session="other")
    hit = ada.search("charlie", around=1, top_k=1)["hits"][0]
    assert hit["text"] == "Ada: Turn bravo\nAda: Turn charlie\nAda: Turn delta"
    assert hit["refs"] == ["m-charlie", "m-bravo", "m-delta"]


def test_neighbours_that_ended_or_were_superseded_are_left_out(ada: Person, clock: Clock) -> None:
    first = ada.keep("Turn alpha", kind="dialogue", session="talk")
    ada.keep("Turn bravo", kind="dialogue", session="talk")
    ada.keep("Turn charlie", kind="dialogue", session="talk", expires="2026-03-02")
    ada.add("Turn delta", kind="dialogue", supersedes=[first])
    clock.advance(days=3)
    assert ada.search("bravo", around=2, top_k=1)["hits"][0]["text"] == "Turn bravo"


def test_long_hits_are_cut_fairly_and_short_ones_stay_whole(ada: Person) -> None:
    short = ada.keep("lighthouse keeper")
    long = [ada.keep(f"lighthouse {i} " + "beam " * 400) for i in range(3)]
    found = ada.search("lighthouse", max_chars=1_000)
    texts = {hit["id"]: hit["text"] for hit in found["hits"]}
    assert texts[short] == "lighthouse keeper"
    assert sum(map(len, texts.values())) <= 1_000
    assert all(300 <= len(texts[cube]) <= 330 and texts[cube].endswith("…") for cube in long)
    assert "max_chars=1000" in found["next"]
    assert ada.search(ids=[long[0]])["hits"][0]["text"].count("beam") == 400


def test_unknown_ids_are_all_named(ada: Person) -> None:
    known = ada.keep("Known")
    with pytest.raises(NotFound) as caught:
        ada.search(ids=["first", known, "second"])
    assert caught.value.ids == ("first", "second")


def test_a_space_that_is_not_there_is_named_with_those_that_are(ada: Person) -> None:
    ada.keep("Known")
    with pytest.raises(NotFound, match=r"'nowhere'.*'personal'"):
        ada.search("known", space="nowhere")


def test_one_may_search_before_anything_was_added(ada: Person) -> None:
    assert ada.search("anything")["hits"] == []
    assert ada.search("anything", space="personal")["hits"] == []


def test_several_spaces_are_searched_together(ada: Person) -> None:
    cubes = {ada.keep(f"Lamp number {i}", space=f"room {i}") for i in range(20)}
    assert set(ada.ids("lamp number", space=[f"room {i}" for i in range(20)], top_k=50)) == cubes


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_question_is_refused(ada: Person, query: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        ada.search(query)
    with pytest.raises(InvalidInput, match="either"):
        ada.search()


@pytest.mark.parametrize("query", ['"', "a AND OR NOT", "NEAR(", "tokens:x", "*", "¤§1", "\x00", "😀", "'; --", "§1"])
def test_a_question_is_never_taken_as_syntax(ada: Person, query: str) -> None:
    cube = ada.keep("The lamp is green")
    assert cube in ada.ids(f"{query} lamp")
    assert isinstance(ada.search(query)["hits"], list)


def test_why_names_the_shared_words_and_the_nearness(ada: Person) -> None:
    ada.keep("The lamp is green")
    why = ada.search("green lamp")["hits"][0]["why"]
    assert set(why["words"]) == {"green", "lamp"}
    assert why["bm25"] > 0
    assert why["cosine"] is not None
    assert why["cosine"] > 0


def test_being_found_activates_a_memory_and_counts_its_use(ada: Person) -> None:
    cube = ada.keep("The lamp is green")
    ada.search("lamp")
    ada.search(ids=[cube])
    ada.api.parts.usage.flush()
    kept = ada.api.read.cube(ada.caller, cube)
    assert kept["governance"]["state"] == "activated"
    assert kept["behavioural"]["uses"] == 2
    assert kept["version"] == 1
