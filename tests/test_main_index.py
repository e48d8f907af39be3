"""What is archived or superseded leaves the main index at once, comes back at once, and is found when asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, FakeIndex
from person import Clock, Person, eventually, settings_for
from sqlalchemy import insert, select, text, update

from memos_mcp.errors import Conflict
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect, vectors
from memos_mcp.ledger.migrations import MIGRATIONS
from memos_mcp.ledger.schema import COLD, FORMER, MAIN, grants
from memos_mcp.ledger.schema import cubes as cubes_table
from memos_mcp.ledger.schema import vectors as vectors_table
from memos_mcp.maintenance.derivatives import change_embedder, reindex
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.plaintext import search
from memos_mcp.plaintext.indexed import FORM, scope_token
from memos_mcp.plaintext.rewriting import WRITTEN
from memos_mcp.plaintext.scope import Scope
from memos_mcp.vault import embeddable_text

pytestmark = pytest.mark.slow

QUESTION = "Where does the brass lamp of the hall in Oslo stand?"
TWIN = "The brass lamp of the hall in Oslo does stand where the clock {} was"


def small_index(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, size: int = 3) -> None:
    """From now on spaces of more than `size` vectors get an index, which is fed at once."""
    kernel.api.parts.indexer.index_from = size
    monkeypatch.setattr("memos_mcp.plaintext.indexer.INDEX_TAIL", 1)


def settled(kernel: Kernel) -> None:
    """Wait until vectors and indexes are up with the ledger."""
    for space in spaces(kernel):
        kernel.api.parts.indexer.notice(space)
    kernel.api.parts.indexer.catch_up()


def spaces(kernel: Kernel) -> list[int]:
    with kernel.ledger.read() as connection:
        return vectors.space_numbers(connection)


def assert_the_main_index_holds_what_stands(kernel: Kernel, index: FakeIndex) -> None:
    """Vectors, cache, index, words and views, each compared with the memories themselves."""
    parts = kernel.api.parts
    number, dimensions = parts.embedder.number()
    model = parts.embedder.get()
    with parts.ledger.read() as connection:
        for space in spaces(kernel):
            held = {cube.seq: cube for cube in parts.vault.page(connection, space, 0, 10_000)}
            standing = {seq for seq, cube in held.items() if cube.stands}
            for tier, expected in ((MAIN, standing), (COLD, held.keys() - standing)):
                stored = vectors.of_cubes(connection, number, sorted(held), dimensions, tier)
                assert sorted(stored.cubes.tolist()) == sorted(expected)
                texts = [embeddable_text(held[seq].snapshot) for seq in stored.cubes.tolist()]
                if texts:
                    np.testing.assert_allclose(stored.matrix, model.embed(texts), atol=2e-3)
            for half in (False, True):
                cached = parts.cache.of_space(connection, number, space, dimensions, half=half)
                assert sorted(seq for part in cached for seq in part.cubes.tolist()) == sorted(standing)
            main = vectors.of_spaces(connection, number, [space], dimensions)
            upto = vectors.indexed_upto(connection, space)
            indexed = {} if upto is None else index.held[space]
            assert set(indexed) == {key for key in main.keys.tolist() if upto is not None and key <= upto}
            for cold, expected in ((False, standing), (True, held.keys() - standing)):
                assert set(dialect.full_text_rows(connection, [scope_token(space)], [], -1, cold=cold)) == expected
            views = parts.views.of({space: len(held)}, dialect.sequence(connection, "cubes"))
            assert views is not None
            assert set(views[0].facts.seq[views[0].standing].tolist()) == standing


class Chance:
    """Acts on memories at random; what is refused changes nothing."""

    def __init__(self, seed: int, kernel: Kernel, embedder: FakeEmbedder) -> None:
        self.random, self.kernel, self.embedder = random.Random(seed), kernel, embedder
        self.ada = Person(kernel.api, "ada")
        self.ops: list[str] = []
        self.texts = ["Vase 0"]
        self.cubes = [self.ada.keep("Vase 0")]
        self.acts: list[Callable[[str, str], Any]] = [
            lambda cube, said: self.ada.add(said),
            lambda cube, said: self.ada.add(said, kind="event"),
            lambda cube, said: self.ada.add(self.random.choice(self.texts)),
            lambda cube, said: self.ada.update(cube, content=said),
            lambda cube, said: self.ada.update(cube, tags=[said[-2:]]),
            lambda cube, said: self.ada.forget(cube),
            lambda cube, said: self.ada.forget(cube, self.random.choice(self.cubes)),
            lambda cube, said: self.ada.add(said, supersedes=[cube]),
            lambda cube, said: self.ada.add(said, supersedes=[cube, self.random.choice(self.cubes)]),
            lambda cube, said: self.ada.update(cube, freeze=True),
            lambda cube, said: self.ada.update(cube, freeze=False),
            lambda cube, said: self.ada.undo(self.random.choice(self.ops)),
            lambda cube, said: self.ada.undo(self.random.choice(self.ops)),
            lambda cube, said: self.ada.undo(self.ada.history(cube)["operations"][0]["op"]),
            lambda cube, said: self.ada.forget(cube, mode="purge") if len(self.cubes) > 4 else {},
            lambda cube, said: setattr(self.embedder, "down", not self.embedder.down) or {},
        ]

    def act(self, step: int) -> None:
        cube, said = self.random.choice(self.cubes), f"Lamp {step} is red"
        try:
            done = self.random.choice(self.acts)(cube, said)
        except (Conflict, IndexError):
            return
        self.texts.append(said)
        self.cubes += [one["id"] for one in done.get("cubes", ()) if one["id"] not in self.cubes]
        if "derived" in done:
            with self.kernel.ledger.read() as connection:
                present = self.kernel.api.parts.vault.by_ids(connection, self.cubes)
            self.cubes = [one for one in self.cubes if one in present]
        self.ops += [done["op"]] if done.get("op") else []


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_the_main_index_holds_exactly_what_stands(
    open_kernel: Callable[..., Kernel], embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    index = FakeIndex()
    kernel = open_kernel(index=index)
    small_index(kernel, monkeypatch, 3 if seed % 2 else 400)
    chance = Chance(seed, kernel, embedder)
    for step in range(90):
        chance.act(step)
        if step % 15 == 14:
            embedder.down = False
            settled(kernel)
            assert_the_main_index_holds_what_stands(kernel, index)
    assert [check for check in of_running(kernel) if check.status == "fail"] == []
    other = FakeEmbedder("other", 32)
    kernel.api.parts.embedder.make = lambda _: other
    assert change_embedder(kernel, "other").waiting == 0
    assert_the_main_index_holds_what_stands(kernel, index)
    with kernel.ledger.read() as connection:
        counts = vectors.count_by_embedder(connection)
        assert counts == {"other": kernel.api.parts.vault.count(connection)}
    assert reindex(kernel).embedded == 0
    assert_the_main_index_holds_what_stands(kernel, index)


def test_what_leaves_while_an_index_is_built_is_not_left_in_it(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []

    class Slow(FakeIndex):
        """Somebody archives a memory after the index has read it."""

        def rebuild(self, space: int, batches: Any) -> None:
            super().rebuild(space, batches)
            if kept and not gone:
                gone.append(kept[0])
                ada.forget(kept[0])

    index, kept = Slow(), list[str]()
    kernel = open_kernel(index=index)
    ada = Person(kernel.api, "ada")
    kept += [ada.keep(f"Vase {i} is blue") for i in range(6)]
    small_index(kernel, monkeypatch)
    settled(kernel)
    assert gone == kept[:1]
    settled(kernel)
    assert_the_main_index_holds_what_stands(kernel, index)


# --- nothing that is over stands in the way


PATHS = ("in memory", "in memory, through the index", "full text", "full text, through the index")


@pytest.fixture(params=PATHS)
def crowded(
    request: pytest.FixtureRequest, open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Person, str]]:
    """A store with 300 archived memories that are nearer to the question than the live one that answers it.

    An index has not been told of it yet.
    """
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    small_index(kernel, monkeypatch, 20 if "index" in request.param else 1_000)
    if "full text" in request.param:
        monkeypatch.setattr(search, "VIEWED", 0)
    monkeypatch.setattr("memos_mcp.plaintext.pool.WHOLE", 1)
    answer = ada.keep("In Oslo the brass lamp has come to rest beside the piano")
    ada.add(messages=[{"role": "user", "content": f"The garden of house {i} has a red gate"} for i in range(100)])
    said = [{"role": "user", "content": TWIN.format(i)} for i in range(300)]
    twins = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    settled(kernel)
    with kernel.ledger.read() as connection:
        assert bool(vectors.indexed_spaces(connection)) == ("index" in request.param)
    with kernel.api.parts.indexer.paused():
        ada.forget(*twins[:150])
        ada.forget(*twins[150:])
        yield ada, answer


def first_pass(ada: Person, question: str, count: int = 5) -> tuple[set[str], list[str]]:
    """The memories that the first pass of a search looks at, and the best of them, by id."""
    parts = ada.api.parts
    vector = parts.embedder.get().embed_query(question)
    scope = Scope((1,), parts.stamp())
    with parts.ledger.read() as connection:
        begun = parts.search.begin(connection, question, scope, count)
        weighed = parts.search.weighed(connection, begun, vector, scope, count)
        best = weighed.ranked(begun.exact, begun.eligible).standing(connection, scope, count)
        cubes = parts.vault.by_seqs(connection, weighed.pool.facts.seq.tolist())
    return {cube.id for cube in cubes.values()}, [cubes[hit.seq].id for hit in best]


def test_three_hundred_archived_twins_of_a_question_do_not_crowd_the_answer_out(crowded: tuple[Person, str]) -> None:
    ada, answer = crowded
    for fed in (False, True):
        if fed:
            settled_store(ada)
        looked_at, best = first_pass(ada, QUESTION)
        assert best[0] == answer
        assert len(best) == 5
        with ada.api.parts.ledger.read() as connection:
            cubes = ada.api.parts.vault.by_ids(connection, sorted(looked_at))
        assert all(cube.stands for cube in cubes.values()), "nothing that is over takes a place"
        assert ada.ids(QUESTION)[0] == answer
        assert_no_place_is_taken(ada, answer)


def assert_no_place_is_taken(ada: Person, answer: str) -> None:
    """Of the nearest and of the best by words, each is a memory that stands."""
    parts = ada.api.parts
    vector = parts.embedder.get().embed_query(QUESTION)
    scope = Scope((1,), parts.stamp())
    with parts.ledger.read() as connection:
        near = parts.search.similar(connection, vector, scope, -1.0, 64, parts.search.like(connection, scope))
        assert len(near) == 64
        assert scope.keep(connection, [seq for seq, _ in near]) == {seq for seq, _ in near}
        seq = parts.vault.by_ids(connection, [answer])[answer].seq
        assert near[0][0] == seq
        begun = parts.search.begin(connection, QUESTION, scope, 5)
        if begun.holders is not None:
            assert set(begun.holders[1]) == scope.keep(connection, begun.holders[1])
            assert begun.holders[1][0] == seq
        else:
            assert begun.words is not None
            assert begun.words.widest(begun.question, 64)[0] == seq


def settled_store(ada: Person) -> None:
    ada.api.parts.indexer.notice(1)
    ada.api.parts.indexer.catch_up()


def test_archived_twins_are_found_when_they_are_asked_for(crowded: tuple[Person, str]) -> None:
    ada, answer = crowded
    live = ada.search(QUESTION, top_k=50)["hits"]
    assert all(hit["state"] != "archived" for hit in live)
    both = ada.search(QUESTION, top_k=50, include=["archived"])["hits"]
    assert {hit["state"] for hit in both[:40]} == {"archived"}
    assert both[0]["why"]["cosine"] > 0.5
    exact = ada.ids(TWIN.format(137), include=["archived"])[0]
    assert ada.text(exact) == TWIN.format(137)
    only = ada.search(QUESTION, top_k=50, where={"state": "archived"})["hits"]
    assert {hit["state"] for hit in only} == {"archived"}
    assert len(only) == 50
    assert answer in ada.ids("beside the piano", include=["archived"])


def test_the_text_of_twenty_archived_events_is_still_found_first_where_it_stands(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memos_mcp.plaintext.pool.WHOLE", 1)
    for day in range(1, 29):
        over = ada.keep("Tea at noon", kind="event", time=f"2025-01-{day:02d}")
        ada.forget(over)
    stands = ada.keep("Tea at noon", kind="event", time="2025-02-01")
    for i in range(100):
        ada.keep(f"At noon the tea of room {i} is cold")
    assert ada.search("Tea at noon")["hits"][0]["id"] == stands
    archived = ada.search("Tea at noon", include=["archived"], top_k=10)["hits"]
    assert {hit["text"] for hit in archived} == {"Tea at noon"}


def test_what_is_like_a_new_text_is_looked_for_among_what_stands(crowded: tuple[Person, str]) -> None:
    ada, _ = crowded
    twin = ada.ids(TWIN.format(7), include=["archived"])[0]
    like = ada.add("The garden of house 7 has a red gate, I think")["similar"] or []
    assert len(like) == 5
    assert twin not in {one["id"] for one in like}
    assert all("garden" in one["text"] for one in like)
    assert not ada.add(TWIN.format(7) + " once")["similar"]
    teas = [ada.keep(f"Tea at noon is served in room {i}", kind="event") for i in range(60)]
    stands = ada.keep("Tea at noon is served in room red", kind="event")
    ada.forget(*teas)
    like = ada.add("Tea at noon is served in room 7, as ever", kind="event")["similar"] or []
    assert [one["id"] for one in like] == [stands]


# --- found when it is asked for, exactly


@pytest.mark.parametrize("indexed", [False, True])
def test_every_memory_that_is_over_is_looked_at_when_such_are_asked_for(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    if indexed:
        small_index(kernel, monkeypatch, 20)
    monkeypatch.setattr("memos_mcp.plaintext.dense.COLD_AT_ONCE", 7)
    monkeypatch.setattr("memos_mcp.plaintext.dense.EXACT_UPTO", 10)
    said = [{"role": "user", "content": f"The drum of band {i} is loud in street {i % 13}"} for i in range(120)]
    kept = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    settled(kernel)
    ada.forget(*kept[:60])
    ada.add("The band plays no more", supersedes=kept[60:80])
    settled(kernel)
    for i in (3, 59, 60, 79, 80, 119):
        which = {"include": ["archived"]} if i < 60 else {"include": ["superseded"]} if i < 80 else {}
        question = f"drum band {i} street {i % 13}"
        assert ada.ids(question, **which)[0] == kept[i]
        assert bool(which) == (kept[i] not in ada.ids(question, top_k=50))
        tagged = ada.ids(question, include=["archived", "superseded"], after="2026-01-01")
        assert tagged[0] == kept[i]
    model = kernel.api.parts.embedder.get()
    vector = model.embed_query("bass of a loud band")
    cosines = {kept[i]: float(model.embed([f"The drum of band {i} is loud in street {i % 13}"])[0] @ vector)
               for i in range(60)}  # fmt: skip
    nearest = sorted(cosines, key=lambda cube: -cosines[cube])[:10]
    hits = ada.search("bass of a loud band", where={"state": "archived"}, top_k=50)["hits"]
    told = {hit["id"]: hit["why"]["cosine"] for hit in hits}
    assert told == {cube: pytest.approx(cosines[cube], abs=2e-3) for cube in told}
    assert set(nearest) <= told.keys()


def test_as_of_finds_what_stood_then_and_nothing_archived_before_crowds_it(ada: Person, clock: Clock) -> None:
    early = [ada.keep(TWIN.format(i), kind="event") for i in range(80)]
    ada.forget(*early)
    stood = ada.keep("In Oslo the brass lamp has come to rest beside the piano")
    moment = clock.now.isoformat()
    clock.advance(days=1)
    ada.forget(stood)
    assert ada.ids(QUESTION) == []
    assert ada.ids(QUESTION, as_of=moment) == [stood]
    assert set(ada.ids(QUESTION, as_of=moment, include=["archived"])) & set(early)


def test_a_memory_shared_by_itself_is_found_while_it_stands_and_when_archived_ones_are_asked_for(
    ada: Person, bob: Person
) -> None:
    lamp = ada.keep("The lamp of Ada is red")
    bob.at("bobs").keep("The door is open")
    with ada.api.parts.ledger.write() as connection:
        seq = ada.api.parts.vault.by_ids(connection, [lamp])[lamp].seq
        connection.execute(insert(grants), {"cube": seq, "principal": "bob", "can": "read"})
    reader = bob.at("bobs")
    assert lamp in reader.ids("red lamp of Ada")
    ada.forget(lamp)
    assert lamp not in reader.ids("red lamp of Ada")
    hits = {hit["id"]: hit["why"]["cosine"] for hit in reader.search("red lamp", include=["archived"])["hits"]}
    assert hits[lamp] is not None


def test_the_text_of_an_archived_memory_brings_it_back_into_the_main_index(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FakeIndex()
    kernel = open_kernel(index=index)
    small_index(kernel, monkeypatch)
    ada = Person(kernel.api, "ada")
    kept = [ada.keep(f"Vase {i} is blue") for i in range(6)]
    settled(kernel)
    ada.forget(kept[0])
    assert kept[0] not in ada.ids("vase 0 is blue", top_k=20)
    assert ada.add("Vase 0 is blue")["cubes"][0]["id"] == kept[0]
    assert ada.search("vase 0 is blue")["hits"][0]["why"]["cosine"] == pytest.approx(1.0, abs=0.3)
    assert ada.ids("vase 0 is blue")[0] == kept[0]
    settled(kernel)
    assert_the_main_index_holds_what_stands(kernel, index)


def test_forgetting_by_words_finds_what_is_superseded_too(ada: Person) -> None:
    old = ada.keep("The safe is green")
    new = ada.keep("The safe is yellow", supersedes=[old])
    plan = ada.forget(query="safe", dry_run=True)
    assert set(plan["would_affect"]) == {old, new}


# --- stores that were written before, or otherwise


def as_before(kernel: Kernel) -> None:
    """Make the open store one that a version without this distinction left, and close it."""
    with kernel.ledger.write() as connection:
        for statement in (
            f"UPDATE vectors SET tier = {MAIN} WHERE tier = {COLD}",
            "DROP INDEX cubes_cold",
            "ALTER TABLE vectors RENAME COLUMN tier TO current",
            "INSERT INTO full_text(rowid, tokens) SELECT id, c0 FROM cold_text_content",
            "DROP TABLE cold_text",
            "DELETE FROM index_removals",
            "DELETE FROM applied_migrations WHERE number >= "
            "(SELECT number FROM applied_migrations WHERE name = 'main index and cold')",
        ):
            connection.execute(text(statement))
    kernel.close()


def test_a_store_of_a_former_version_is_brought_to_order(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FakeIndex()
    kernel = open_kernel(index=index)
    small_index(kernel, monkeypatch)
    ada = Person(kernel.api, "ada")
    kept = [ada.keep(f"Vase {i} is blue") for i in range(9)]
    ada.update(kept[8], content="Vase 8 is of brass")
    settled(kernel)
    with kernel.ledger.read() as connection:
        upto = vectors.indexed_upto(connection, 1)
    kernel.api.parts.indexer.stop()  # what leaves now is still in the index
    ada.forget(kept[0], kept[1])
    ada.keep("Vase 2 is broken", supersedes=[kept[2]])
    as_before(kernel)

    before = kernel.settings
    kernel = Kernel.open(before, embedder=lambda _: FakeEmbedder(), index=index, now=Clock(), lock_wait_s=0.0)
    try:
        kernel.api.parts.embedder.get(10.0)
        with kernel.ledger.read() as connection:
            written = connection.execute(text("SELECT count(*) FROM applied_migrations")).scalar()
            tiers = dict(
                connection.execute(select(vectors_table.c.tier, text("count(*)")).group_by(vectors_table.c.tier)).all()
            )
        assert written == len(MIGRATIONS)
        assert tiers == {FORMER: 1, MAIN: 7, COLD: 3}
        assert upto is not None
        settled(kernel)
        assert_the_main_index_holds_what_stands(kernel, index)
        ada = Person(kernel.api, "ada")
        assert kept[0] in ada.ids("vase 0 is blue", include=["archived"])
        assert kept[0] not in ada.ids("vase 0 is blue", top_k=20)
        assert [check for check in of_running(kernel) if check.status != "ok"] == []
    finally:
        kernel.close()


def test_archived_memories_of_a_store_whose_full_text_is_written_anew_stay_where_they_are(
    open_kernel: Callable[..., Kernel],
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    lamp = ada.keep("The lamp was bought in Oslo")
    ada.forget(lamp)
    with kernel.ledger.write() as connection:
        kernel.ledger.put(connection, WRITTEN, "1")
        dialect.put_full_text(connection, [(1, "§1 lamp")], cold=True, replace=True)
    kernel.close()
    kernel = open_kernel()

    def written() -> bool:
        with kernel.ledger.read() as connection:
            return kernel.ledger.get(connection, WRITTEN) == FORM

    assert eventually(written)
    ada = Person(kernel.api, "ada")
    assert ada.ids("who buys lamps") == []
    found = ada.search("who buys lamps", include=["archived"])["hits"]
    assert set(found[0]["why"]["words"]) == {"buy", "lamp"}


def test_the_doctor_finds_what_stands_in_the_wrong_place_and_reindex_mends_it(
    open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FakeIndex()
    kernel = open_kernel(index=index)
    small_index(kernel, monkeypatch)
    ada = Person(kernel.api, "ada")
    kept = [ada.keep(f"Vase {i} is blue") for i in range(8)]
    ada.forget(*kept[:3])
    settled(kernel)
    assert {check.status for check in of_running(kernel)} == {"ok"}
    over = select(cubes_table.c.seq).where(cubes_table.c.state == "archived")
    with kernel.ledger.write() as connection:
        connection.execute(update(vectors_table).where(vectors_table.c.cube.in_(over)).values(tier=MAIN))
    unwell = {check.name: check for check in of_running(kernel) if check.status == "fail"}
    assert "reindex" in (unwell["main index"].next or "")
    with kernel.ledger.write() as connection:
        dialect.move_full_text(connection, connection.execute(over).scalars().all(), cold=False)
    unwell = {check.name: check for check in of_running(kernel) if check.status == "fail"}
    assert "reindex" in (unwell["full text"].next or "")
    reindex(kernel)
    assert {check.status for check in of_running(kernel)} == {"ok"}
    assert_the_main_index_holds_what_stands(kernel, index)


def test_the_memories_that_are_over_are_listed_without_a_look_at_the_others(ada: Person, home: Path) -> None:
    ada.forget(ada.keep("The lamp is red"))
    assert settings_for(home)
    with ada.api.parts.ledger.read() as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT seq FROM cubes INDEXED BY cubes_cold WHERE "
                "(superseded_by IS NOT NULL OR state NOT IN ('generated', 'activated', 'frozen')) AND space + 0 = 1"
            )
        )
        assert "cubes_cold" in str(plan.all())
        assert len(Scope((1,), ada.api.parts.stamp(), include=("archived",)).cold(connection)) == 1
        assert Scope((1,), ada.api.parts.stamp()).cold(connection) == []
