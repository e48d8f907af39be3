"""What search holds in memory of a space is what the ledger holds, and finds what full text finds."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Person, eventually

from memos_mcp import governance
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect, vectors
from memos_mcp.plaintext import search, view, views
from memos_mcp.plaintext.facts import Row
from memos_mcp.plaintext.indexed import FORM
from memos_mcp.plaintext.postings import Part, appended, holding, part_of
from memos_mcp.plaintext.rewriting import WRITTEN
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.view import Making, View, renewed, viewed

DAY = "2026-03-01T00:00:00.000Z"
TEXTS = st.lists(st.sampled_from(["tea", "milk", "lamp", "绿茶", "oslo"]), max_size=6).map(" ".join)
ROWS = st.dictionaries(st.integers(1, 40), st.tuples(st.sampled_from([None, "s", "t"]), TEXTS), max_size=20)


def rows_of(given: dict[int, tuple[str | None, str]]) -> list[Row]:
    return [Row(seq, session, DAY, f"§1 @ada ? {text}") for seq, (session, text) in sorted(given.items())]


def described(seen: View) -> dict[int, Any]:
    """What a view says of each memory that stands."""
    words: dict[int, dict[str, float]] = {int(place): {} for place in seen.standing.nonzero()[0]}
    for word in seen.shared.words.names:
        places, counts = seen.holding(word)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            words[place][word] = count
    for place in words:
        assert seen.places_of(seen.facts.seq[place : place + 1]).tolist() == [place]
    names = {code: name for name, code in seen.shared.sessions.names.items()}
    seqs = [*seen.facts.seq.tolist(), None]
    return {
        seqs[place]: (
            held, names.get(int(seen.facts.session[place])), bool(seen.facts.asks[place]), seen.facts.length[place],
            seqs[seen.before[place]], seqs[seen.after[place]],
        )
        for place, held in words.items()
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ROWS, st.lists(st.tuples(st.sets(st.integers(1, 40), max_size=5), ROWS), max_size=4))
def test_a_renewed_view_is_the_one_that_would_be_made_anew(
    first: dict[int, tuple[str | None, str]], changes: list[tuple[set[int], dict[int, tuple[str | None, str]]]]
) -> None:
    held, seen = dict(first), viewed(rows_of(first), 40)
    for gone, rows in changes:
        held = {seq: row for seq, row in held.items() if seq not in gone} | rows
        seen = renewed(seen, gone - set(rows), rows_of(rows), 40)
        assert described(seen) == described(viewed(rows_of(held), 40))


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 7))
def test_a_view_read_page_by_page_is_the_one_that_is_made_at_once(
    held: dict[int, tuple[str | None, str]], page: int
) -> None:
    rows, making = rows_of(held), Making()
    for start in range(0, len(rows), page):
        making.add(rows[start : start + page])
    assert described(making.made(40)) == described(viewed(rows, 40))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6), max_size=12))
def test_joined_postings_hold_what_their_parts_held(batches: list[list[list[int]]]) -> None:
    parts: tuple[Part, ...] = ()
    texts: list[list[int]] = []
    for batch in batches:
        codes = np.fromiter(chain.from_iterable(batch), dtype=np.int64)
        parts = appended(parts, part_of(codes, np.array([len(text) for text in batch], dtype=np.int64), len(texts)))
        texts += batch
    assert len(parts) <= 8
    for code in range(10):
        expected = [(place, text.count(code)) for place, text in enumerate(texts) if code in text]
        places, counts = holding(parts, code) if parts else ([], [])
        assert list(zip(places, counts, strict=True)) == expected


def test_the_view_of_a_large_space_is_made_behind_the_questions(
    talk: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "AT_ONCE", 0)
    monkeypatch.setattr(views, "PAGE", 4)
    kept = talk.api.parts.views
    first = talk.search("How much was the lamp of Oslo?", top_k=12)["hits"]
    changed, gone = first[0]["id"], first[1]["id"]
    talk.update(changed, content="The price is on the lamp of Oslo")
    talk.forget(gone)
    new = talk.keep("A lamp came to Oslo, says Ada")
    assert eventually(lambda: not kept.making)
    found = {hit["id"]: hit for hit in talk.search("price lamp Oslo", top_k=20)["hits"]}
    assert eventually(lambda: not kept.making)
    again = {hit["id"]: hit for hit in talk.search("price lamp Oslo", top_k=20)["hits"]}
    for hits in (found, again):
        assert {changed, new} <= hits.keys()
        assert gone not in hits
        assert "price" in hits[changed]["why"]["words"]
    with talk.api.parts.ledger.read() as connection:
        held = kept.of({1: 0}, dialect.sequence(connection, "cubes"))
    assert held is not None
    assert int(held[0].standing.sum()) == 12


def test_a_store_is_closed_while_a_view_is_being_made(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "AT_ONCE", 0)
    monkeypatch.setattr(views, "PAGE", 1)
    kernel = open_kernel()
    person = Person(kernel.api, "ada")
    person.add(messages=[{"role": "user", "content": f"Lamp {i} is red"} for i in range(200)])
    assert person.search("red lamp")["hits"]
    kernel.close()
    assert not kernel.api.parts.views.making


def test_among_many_eligible_memories_of_a_large_space_the_best_words_in_scope_are_found(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memos_mcp.plaintext.pool.WHOLE", 1)
    monkeypatch.setattr("memos_mcp.plaintext.pool.BY_WORDS", 3)
    monkeypatch.setattr("memos_mcp.plaintext.dense.EXACT_UPTO", 1)
    monkeypatch.setattr(search, "DENSE_HITS", 1)
    for i in range(12):
        ada.add(f"Lamp {i} of Oslo is red", tags=["other"])
    mine = [ada.keep(f"A lamp that is in room {i}", tags=["mine"]) for i in range(4)]
    assert set(ada.ids("red lamp of Oslo", tags=["mine"], top_k=4)) == set(mine)


@pytest.fixture
def talk(ada: Person) -> Person:
    """Somebody with three sessions of dialogue and as many facts."""
    for session in ("one", "two", "three"):
        said = [
            {"role": "user", "name": "Ada", "content": f"I bought a lamp in Oslo, number {session}."},
            {"role": "user", "name": "Bob", "content": "How much was it?"},
            {"role": "user", "name": "Ada", "content": f"It was {len(session)} crowns."},
        ]
        ada.add(messages=said, session=session, time=f"2026-0{len(session)}-05")
        ada.add(f"The shelf {session} is green")
    return ada


QUESTIONS = (
    "How much was the lamp of Oslo?",
    "lamp number two",
    "Bob",
    "What did Ada buy on 5 March 2026?",
    "green shelf",
    "绿茶",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_small_and_large_spaces_are_searched_to_the_same_end(
    talk: Person, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    in_memory = talk.search(question, top_k=12)["hits"]
    monkeypatch.setattr(search, "VIEWED", 0)
    through_full_text = talk.search(question, top_k=12)["hits"]
    assert {hit["id"] for hit in through_full_text if hit["why"]["words"]} == {
        hit["id"] for hit in in_memory if hit["why"]["words"]
    }
    if in_memory[0]["why"]["words"]:
        assert through_full_text[0]["text"] == in_memory[0]["text"]


@pytest.mark.parametrize("large", [False, True])
def test_the_exact_text_of_a_memory_finds_it_first_whatever_else_is_added(
    talk: Person, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr(search, "VIEWED", 0)
    exact = talk.keep("How much is it? 多少钱", kind="dialogue", session="four")
    assert talk.ids("How much is it? 多少钱")[0] == exact
    talk.add(messages=[{"role": "user", "content": f"How much is it now, and {i} times 多少钱?"} for i in range(60)])
    assert talk.ids("How much is it? 多少钱")[0] == exact
    assert talk.ids("How much is it? 多少钱", top_k=20) == talk.ids("How much is it? 多少钱", top_k=20)


@pytest.mark.parametrize("whole", [True, False])
def test_changes_are_seen_at_once(ada: Person, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    if not whole:
        monkeypatch.setattr("memos_mcp.plaintext.pool.WHOLE", 3)
    monkeypatch.setattr(view, "WASTE", 2)
    lamp = ada.keep("The lamp is red")
    assert ada.ids("red lamp") == [lamp]
    ada.update(lamp, content="The lamp is blue")
    assert ada.search("blue lamp")["hits"][0]["why"]["words"] == ["blue", "lamp"]
    others = [ada.keep(f"Vase {i} stands in the hall") for i in range(12)]
    assert set(ada.ids("vase in the hall", top_k=20)) >= set(others)
    op = ada.forget(lamp)["op"]
    assert lamp not in ada.ids("blue lamp", top_k=20)
    ada.undo(op)
    assert ada.ids("blue lamp")[0] == lamp
    ada.forget(others[3], mode="purge")
    assert others[3] not in ada.ids("vase in the hall", top_k=20)


def test_a_store_whose_full_text_has_a_former_form_is_written_anew(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel()
    Person(kernel.api, "ada").add("The lamp was bought in Oslo.")
    assert eventually(lambda: form_of(kernel) == FORM)
    with kernel.ledger.write() as connection:
        kernel.ledger.put(connection, WRITTEN, "1")
        dialect.put_full_text(connection, [(1, "§1 nothing of it")], replace=True)
    kernel.close()
    kernel = open_kernel()
    assert eventually(lambda: form_of(kernel) == FORM)
    found = Person(kernel.api, "ada").search("who buys lamps")["hits"]
    assert set(found[0]["why"]["words"]) == {"buy", "lamp"}


def form_of(kernel: Kernel) -> str | None:
    with kernel.ledger.read() as connection:
        return kernel.ledger.get(connection, WRITTEN)


def test_facts_that_say_the_same_are_one_hit_the_newest_and_events_are_not(ada: Person) -> None:
    older = ada.keep("I prefer the green tea", time="2025-01-01")
    newer = ada.keep("What I prefer is green tea!", time="2026-01-01")
    ada.keep("Tea of Green's they prefer", time="2026-03-01")
    other = ada.keep("I do not prefer green tea", time="2026-02-01")
    hits = ada.search("Which tea do I prefer?")["hits"]
    assert {newer, other} < {hit["id"] for hit in hits}
    assert older not in {hit["id"] for hit in hits}
    assert next(hit for hit in hits if hit["id"] == newer)["why"]["same"] == [older]
    ada.add("Tea at noon", kind="event", time="2025-01-01")
    ada.add("Tea at noon", kind="event", time="2025-01-02")
    assert len(ada.search("Tea at noon", kinds=["event"])["hits"]) == 2


def test_without_an_embedder_words_still_find(open_kernel: Callable[..., Kernel], embedder: FakeEmbedder) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    lamp = ada.keep("The lamp is red")
    ada.keep("The door is open")
    embedder.down = True
    answer = ada.search("a red lamp")
    assert answer["hits"][0]["id"] == lamp
    assert "words alone" in answer["degraded"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_memory_that_was_changed_is_one_hit(ada: Person, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    if not whole:
        monkeypatch.setattr("memos_mcp.plaintext.pool.WHOLE", 1)
    cubes = [ada.keep(f"Lamp {i} stands in room {i + 1}", kind="event") for i in range(4)]
    assert sorted(ada.ids("lamp")) == sorted(cubes)
    ada.update(cubes[0], content="Lamp 0 stands in the cellar")
    hits = ada.search("lamp", top_k=20)["hits"]
    assert sorted(hit["id"] for hit in hits) == sorted(cubes)
    assert all("same" not in hit["why"] for hit in hits)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("spaces", [("personal",), ("personal", "work", "home")])
def test_vectors_in_memory_are_those_of_the_ledger_whatever_changes(
    ada: Person, monkeypatch: pytest.MonkeyPatch, half: bool, spaces: tuple[str, ...]
) -> None:
    monkeypatch.setattr("memos_mcp.plaintext.space_cache.SMALL", 4)
    monkeypatch.setattr("memos_mcp.plaintext.space_cache.MOST_TOUCHES", 3)
    parts, chance = ada.api.parts, random.Random(5)
    kept = [ada.keep(f"Vase {space}", space=space) for space in spaces]
    numbers = tuple(range(1, len(spaces) + 1))
    for i in range(1, 120):
        what, cube = chance.choice(("add", "add", "text", "tags", "archive", "purge")), chance.choice(kept)
        if what == "add":
            kept.append(ada.keep(f"Vase {i}", space=chance.choice(spaces)))
        elif what in ("archive", "purge"):
            if len(kept) > 1:
                kept.remove(cube)
                ada.forget(cube, mode=what)
        else:
            ada.update(cube, **({"content": f"Lamp {i}"} if what == "text" else {"tags": [f"t{i}"]}))
        if chance.random() < 0.5:
            assert parts.indexer.wait_embedded(numbers, 10.0)
            number, dimensions = parts.embedder.number()
            with parts.ledger.read() as connection:
                held = parts.cache.of_spaces(connection, number, numbers, dimensions, half=half)
                there = vectors.of_spaces(connection, number, numbers, dimensions)
            pairs = (zip(part.cubes.tolist(), part.matrix.tolist(), strict=True) for part in held)
            found = {cube: row for pair in pairs for cube, row in pair}
            assert sum(len(part.keys) for part in held) == len(there.keys)
            assert found == dict(zip(there.cubes.tolist(), there.matrix.tolist(), strict=True))


def test_small_spaces_asked_together_have_one_view_that_follows_every_change(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, spaces = random.Random(7), ("work", "home", "club")
    kept: list[str] = []
    for i in range(36):
        space = chance.choice(spaces)
        if i > 5 and chance.random() < 0.3:
            ada.forget(kept.pop(chance.randrange(len(kept))), mode=chance.choice(("archive", "purge")))
        elif i > 5 and chance.random() < 0.3:
            ada.update(chance.choice(kept), content=f"The lamp {i} of {space} is on the shelf")
        else:
            kept.append(ada.keep(f"The lamp {i} of {space} is red", space=space, session="talk"))
        together = _told(ada, "Which lamp is on the red shelf?", spaces)
        with monkeypatch.context() as apart:
            apart.setattr(views, "SMALL", 0)
            assert _told(ada, "Which lamp is on the red shelf?", spaces) == pytest.approx(together, abs=2e-3)


def _told(person: Person, question: str, spaces: tuple[str, ...]) -> dict[str, float]:
    """The figures of each hit over those of the spaces that exist."""
    api = person.api
    with api.parts.ledger.read() as connection:
        there = [space for space in spaces if governance.find_space(connection, space) is not None]
    told: dict[str, float] = {}
    for hit in person.search(question, space=there, top_k=50)["hits"]:
        reasons = {name: value for name, value in hit["why"].items() if isinstance(value, float)}
        told |= {f"{hit['id']} {name}": value for name, value in {"score": hit["score"], **reasons}.items()}
    return told


def test_many_spaces_are_searched_as_few_are(ada: Person) -> None:
    for i in range(12):
        ada.add(f"Lamp {i} stands in Oslo", space=f"room {i}")
    asked = [f"room {i}" for i in range(12)]
    found = [hit["space"] for hit in ada.search("a lamp of Oslo", space=asked, top_k=20)["hits"]]
    assert sorted(found) == sorted(asked)
    late = ada.keep("The lamp of Oslo is broken", space="room 3")
    assert ada.ids("Is the lamp of Oslo broken?", space=asked)[0] == late
    ada.forget(late, mode="purge")
    assert late not in ada.ids("Is the lamp of Oslo broken?", space=asked, top_k=20)


FILTERS: tuple[dict[str, Any], ...] = (
    {"tags": ["lamp"]},
    {"tags": ["lamp", "old"]},
    {"where": {"room": 1}},
    {"where": {"room": [1, 2], "owner": {"ne": "Bob"}}},
    {"tags": ["old"], "where": {"room": {"gt": 0}}},
    {"tags": ["nothing"]},
)


@pytest.mark.slow
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_filter_by_labels_finds_what_a_look_at_every_memory_finds(
    ada: Person, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    chance = random.Random(3)
    for i in range(60):
        metadata = {"room": i % 3, "owner": chance.choice(("Ada", "Bob"))}
        tags = [tag for tag in ("lamp", "old") if chance.random() < 0.5]
        cube = ada.keep(f"The lamp {i} of Oslo is red", tags=tags, metadata=metadata)
        what = chance.choice(("keep", "keep", "archive", "purge", "tags", "supersede"))
        if what in ("archive", "purge"):
            ada.forget(cube, mode=what)
        elif what == "tags":
            ada.update(cube, tags=["old"])
        elif what == "supersede":
            ada.keep(f"The lamp {i} of Oslo is blue", supersedes=[cube], tags=tags, metadata=metadata)
    found = {hit["id"] for hit in ada.search("red lamp of Oslo", top_k=50, **filters)["hits"]}
    monkeypatch.setattr(Scope, "_labels_alone", False)
    assert found == {hit["id"] for hit in ada.search("red lamp of Oslo", top_k=50, **filters)["hits"]}
    assert bool(found) == (filters != {"tags": ["nothing"]})
