"""Tests of rebuilding what is derived, of changing the embedder, and of the doctor, on the real ledger.

Knows no terminal: the commands over these are tested with the command line.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, FakeIndex
from person import INDEX_FROM, Person, eventually, settings_for
from sqlalchemy import delete, insert, select

from memos_mcp.errors import EmbedderMismatch, EmbedderUnavailable, InvalidInput, MemosError
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect, vectors
from memos_mcp.ledger.schema import applied_migrations
from memos_mcp.ledger.schema import vectors as vectors_table
from memos_mcp.maintenance import store_checks
from memos_mcp.maintenance.derivatives import change_embedder, embedder_state, reindex
from memos_mcp.maintenance.doctor import Check, doctor
from memos_mcp.plaintext import dense
from memos_mcp.plaintext.embedding import CHOSEN, PIN
from memos_mcp.requests import Message
from memos_mcp.settings import load, read_config, write_config


class Models:
    """Every embedder a test knows, by name."""

    def __init__(self) -> None:
        self.minilm = FakeEmbedder("minilm:1", 64)
        self.other = FakeEmbedder("other:1", 32)
        self.by_name = {"minilm": self.minilm, "other": self.other}

    def __call__(self, name: str) -> FakeEmbedder:
        if name not in self.by_name:
            raise InvalidInput(f"There is no embedder {name!r}: use minilm.")
        if self.by_name[name].down:
            raise EmbedderUnavailable(f"The embedder {name!r} cannot be reached: start it.")
        return self.by_name[name]


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex()


@pytest.fixture
def start(home: Path, models: Models, index: FakeIndex) -> Iterator[Callable[[], Kernel]]:
    """Opens the store with what config.toml says, as often as a test wants."""
    opened: list[Kernel] = []

    def start_it() -> Kernel:
        kernel = Kernel.open(settings_for(home), embedder=models, index=index, lock_wait_s=0.0)
        opened.append(kernel)
        with suppress(MemosError):
            kernel.api.parts.embedder.get(10.0)
        return kernel

    yield start_it
    for kernel in opened:
        kernel.close()


def fill(person: Person, count: int) -> list[str]:
    """Add so many memories of their own words, without waiting for their vectors."""
    ids: list[str] = []
    for begin in range(0, count, 1000):
        said = [Message(role="user", content=f"note {i} on subject{i}") for i in range(begin, min(begin + 1000, count))]
        ids += [cube["id"] for cube in person.add(messages=said)["cubes"]]
    return ids


def embedders_of(kernel: Kernel) -> dict[str, int]:
    with kernel.ledger.read() as connection:
        return vectors.count_by_embedder(connection)


def indexed(kernel: Kernel, index: FakeIndex) -> int:
    """Give the one space an index, however small it is; returns the space's number."""
    parts = kernel.api.parts
    number, dimensions = parts.embedder.number()
    with parts.ledger.write() as connection:
        (space,) = vectors.space_numbers(connection)
        stored = vectors.of_spaces(connection, number, [space], dimensions)
        vectors.set_indexed_upto(connection, space, int(stored.keys[-1]))
    index.rebuild(space, iter([(stored.keys.tolist(), stored.matrix)]))
    return space


def found_by_meaning(person: Person, query: str) -> dict[str, float | None]:
    return {hit["id"]: hit["why"]["cosine"] for hit in person.search(query, top_k=50)["hits"]}


# --- reindex


def test_reindex_brings_back_full_text_that_was_lost(start: Callable[[], Kernel]) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The cellar holds the spare fuses")
    with kernel.ledger.write() as connection:
        dialect.clear_full_text(connection)
    assert ada.search("fuses")["hits"][0]["why"]["words"] == []
    done = reindex(kernel)
    assert (done.memories, done.problem) == (1, None)
    hit = ada.search("fuses")["hits"][0]
    assert (hit["id"], hit["why"]["words"]) == (cube, ["fuse"])


def test_reindex_embeds_memories_whose_vectors_are_gone(start: Callable[[], Kernel]) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    ids = {ada.keep(f"memory number {i}") for i in range(5)}
    with kernel.ledger.write() as connection:
        connection.execute(delete(vectors_table))
    done = reindex(kernel)
    assert (done.embedded, done.waiting) == (5, 0)
    assert all(cosine is not None for cosine in found_by_meaning(ada, "memory").values())
    assert set(found_by_meaning(ada, "memory")) == ids


def test_reindex_twice_is_reindex_once(start: Callable[[], Kernel]) -> None:
    kernel = start()
    fill(Person(kernel.api, "ada"), 20)
    reindex(kernel)
    again = reindex(kernel)
    assert (again.memories, again.embedded, again.waiting) == (20, 0, 0)
    assert embedders_of(kernel) == {"minilm:1": 20}


def test_reindex_rebuilds_words_even_without_the_embedder_and_says_what_it_left(
    start: Callable[[], Kernel], models: Models
) -> None:
    start().close()
    models.minilm.down = True
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("The cellar holds the spare fuses")
    with kernel.ledger.write() as connection:
        dialect.clear_full_text(connection)
    done = reindex(kernel)
    assert done.memories == 1
    assert done.waiting == 1
    assert done.problem is not None
    assert "cannot be reached" in done.problem
    assert ada.ids("fuses") == [cube]


def test_reindex_builds_every_index_anew_from_the_ledger(start: Callable[[], Kernel], index: FakeIndex) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    fill(ada, INDEX_FROM + 1)
    reindex(kernel)
    (space,) = index.held
    kept = dict(index.held[space])
    index.held[space].clear()
    done = reindex(kernel)
    assert done.indexes == 1
    assert index.held[space].keys() == kept.keys()
    assert kernel.api.parts.indexer.compare()[0].plausible


# --- another embedder


def test_a_change_of_embedder_embeds_every_memory_and_names_it_in_the_settings(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    ids = {ada.keep(f"memory number {i}") for i in range(40)}
    told: list[tuple[int, int]] = []
    changed = change_embedder(kernel, "other", lambda _what, done, total: told.append((done, total)))
    assert (changed.identity, changed.dimensions, changed.embedded, changed.waiting) == ("other:1", 32, 40, 0)
    assert told[-1] == (40, 40)
    assert embedders_of(kernel) == {"other:1": 40}
    assert read_config(home) == {"embedder": "other", "index_from": INDEX_FROM}
    assert kernel.settings.embedder == "other"
    assert set(found_by_meaning(ada, "memory number")) == ids
    kernel.close()
    again = start()
    assert again.api.parts.embedder.get() is models.other


def test_searches_go_on_with_the_old_embedder_until_the_change(start: Callable[[], Kernel], models: Models) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("Ada plays the cello")
    during: list[float | None] = []
    models.other.before = lambda _: during.append(found_by_meaning(ada, "cello playing")[cube])
    before = found_by_meaning(ada, "cello playing")[cube]
    change_embedder(kernel, "other")
    assert during == [before]
    assert found_by_meaning(ada, "cello playing")[cube] != before


@pytest.mark.parametrize("embedded", [0, 32])
def test_what_is_added_changed_and_purged_meanwhile_is_right_after_the_change(
    start: Callable[[], Kernel], models: Models, embedded: int
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    changed, purged, tagged = (ada.keep(text) for text in ("the colour is red", "the secret word", "the house is old"))
    fill(ada, 60)
    added: list[str] = []

    def meanwhile(texts: Sequence[str]) -> None:
        if len(models.other.seen) == embedded and not added:
            added.append(ada.keep("the boat is new"))
            ada.update(changed, content="the colour is violet")
            ada.update(tagged, tags=["house"])
            ada.forget(purged, mode="purge")

    models.other.before = meanwhile
    change_embedder(kernel, "other")
    assert added
    found = found_by_meaning(ada, "the colour, the boat, the house, the secret")
    assert {added[0], changed, tagged} <= found.keys()
    assert purged not in found
    assert ada.search("the colour is violet")["hits"][0]["why"]["cosine"] == pytest.approx(1.0, abs=0.01)
    assert embedders_of(kernel) == {"other:1": 63}


def test_an_interrupted_change_goes_on_where_it_stopped_and_changes_nothing_before(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("Ada plays the cello")
    fill(ada, 99)

    def fail_late(texts: Sequence[str]) -> None:
        if len(models.other.seen) >= 64:
            raise EmbedderUnavailable("The line is cut: try again.")

    models.other.before = fail_late
    with pytest.raises(EmbedderUnavailable, match="cut"):
        change_embedder(kernel, "other")
    assert embedders_of(kernel)["other:1"] == 64
    assert read_config(home) == {"index_from": INDEX_FROM}
    assert cube in found_by_meaning(ada, "cello")
    kernel.close()
    kernel = start()
    ada = Person(kernel.api, "ada")
    assert kernel.api.parts.embedder.get() is models.minilm
    assert cube in found_by_meaning(ada, "cello")
    models.other.before, models.other.seen = None, []
    changed = change_embedder(kernel, "other")
    assert changed.embedded == len(models.other.seen) == 36
    assert embedders_of(kernel) == {"other:1": 100}


def test_a_change_half_done_is_dropped_by_naming_the_present_embedder(
    start: Callable[[], Kernel], models: Models
) -> None:
    kernel = start()
    fill(Person(kernel.api, "ada"), 40)
    kernel.api.parts.indexer.catch_up()
    models.other.before = lambda _: (_ for _ in ()).throw(EmbedderUnavailable("cut")) if models.other.calls else None
    with pytest.raises(EmbedderUnavailable):
        change_embedder(kernel, "other")
    assert len(embedders_of(kernel)) == 2
    models.minilm.seen = []
    change_embedder(kernel, "minilm")
    assert embedders_of(kernel) == {"minilm:1": 40}
    assert models.minilm.seen == []


def test_the_index_holds_only_vectors_of_the_pinned_embedder_before_and_after_a_change(
    start: Callable[[], Kernel], models: Models, index: FakeIndex
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    ids = fill(ada, INDEX_FROM + 300)
    kernel.api.parts.indexer.catch_up()
    (space,) = index.held
    seen: list[set[tuple[int, ...]]] = []

    def meanwhile(texts: Sequence[str]) -> None:
        if models.other.calls == 20:
            ada.update(ids[0], content="note 0 is another now")
            ada.keep("an addition in between")
            kernel.api.parts.indexer.catch_up()
            seen.append({vector.shape for vector in index.held[space].values()})
            assert all(one.plausible for one in kernel.api.parts.indexer.compare())

    models.other.before = meanwhile
    change_embedder(kernel, "other")
    assert seen == [{(64,)}]
    assert {vector.shape for vector in index.held[space].values()} == {(32,)}
    (compared,) = kernel.api.parts.indexer.compare()
    assert compared.plausible
    assert compared.held == INDEX_FROM + 301
    assert ada.ids("note 7 on subject7")[0] == ids[7]
    with kernel.ledger.read() as connection:
        assert vectors.removals(connection, space, 10) == []


def test_a_store_pinned_to_another_embedder_than_its_settings_say_can_be_changed_to_either(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("Ada plays the cello")
    kernel.close()
    for name in ("minilm", "other"):
        write_config(home, "embedder", "other" if name == "minilm" else "minilm")
        kernel = start()
        ada = Person(kernel.api, "ada")
        if name == "minilm":
            with pytest.raises(EmbedderMismatch):
                kernel.api.parts.embedder.get()
        added = ada.keep(f"added with the wrong settings, before {name}")
        assert change_embedder(kernel, name).waiting == 0
        found = found_by_meaning(ada, "cello, added with settings")
        assert found[cube] is not None
        assert found[added] is not None
        assert len(embedders_of(kernel)) == 1
        kernel.close()
        assert read_config(home)["embedder"] == name


def test_a_fresh_store_whose_embedder_cannot_be_loaded_names_the_way_out_in_every_answer(
    home: Path, models: Models, index: FakeIndex
) -> None:
    settings = load({"home": str(home)}, env={"MEMOS_EMBEDDER": "sentence-transformers:own/none", "USER": "ada"})
    kernel = Kernel.open(settings, embedder=models, index=index, lock_wait_s=0.0)
    try:
        assert read_config(home)["embedder"] == "sentence-transformers:own/none", "the store is held to it"
        ada = Person(kernel.api, "ada")
        cube = ada.keep("the boat is red")
        result = ada.search("red boat")
        assert [hit["id"] for hit in result["hits"]] == [cube]
        assert "`memos-mcp embedder minilm`" in result["degraded"]
        assert "`memos-mcp embedder minilm`" in (embedder_state(kernel).problem or "")
        checks = {check.name: check for check in store_checks.of_running(kernel)}
        assert checks["embedder"].status == "fail"
        assert (checks["embedder"].said + (checks["embedder"].next or "")).count("memos-mcp embedder minilm") == 1
        assert change_embedder(kernel, "minilm").problem is None
        assert "degraded" not in ada.search("red boat")
    finally:
        kernel.close()


def test_a_store_whose_embedder_cannot_be_reached_is_changed_to_one_that_can(
    start: Callable[[], Kernel], models: Models
) -> None:
    kernel = start()
    change_embedder(kernel, "other")
    cube = Person(kernel.api, "ada").keep("Ada plays the cello")
    kernel.close()
    models.other.down = True
    kernel = start()
    ada = Person(kernel.api, "ada")
    waiting = ada.keep("Ada rides a horse")
    assert change_embedder(kernel, "minilm").waiting == 0
    assert all(cosine is not None for cosine in found_by_meaning(ada, "Ada plays, rides").values())
    assert set(found_by_meaning(ada, "Ada plays, rides")) == {cube, waiting}


def test_an_embedder_that_cannot_be_reached_leaves_the_store_as_it_was(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("Ada plays the cello")
    models.other.down = True
    with pytest.raises(EmbedderUnavailable):
        change_embedder(kernel, "other")
    with pytest.raises(InvalidInput):
        change_embedder(kernel, "no such")
    assert embedders_of(kernel) == {"minilm:1": 1}
    assert read_config(home) == {"index_from": INDEX_FROM}
    assert cube in found_by_meaning(ada, "cello")


def test_an_embedder_that_changed_its_length_under_the_same_name_is_refused_until_re_embedded(
    start: Callable[[], Kernel], models: Models
) -> None:
    kernel = start()
    cube = Person(kernel.api, "ada").keep("Ada plays the cello")
    kernel.close()
    models.by_name["minilm"] = FakeEmbedder("minilm:1", 48)
    kernel = start()
    ada = Person(kernel.api, "ada")
    with pytest.raises(EmbedderUnavailable, match="embedder minilm"):
        kernel.api.parts.embedder.get()
    assert ada.ids("cello") == [cube]
    assert change_embedder(kernel, "minilm").dimensions == 48
    assert found_by_meaning(ada, "cello")[cube] is not None


def test_a_change_that_died_before_config_toml_was_written_is_finished_by_the_next_start(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    cube = Person(kernel.api, "ada").keep("Ada plays the cello")
    (home / "config.toml").unlink()
    (home / "config.toml").mkdir()
    change_embedder(kernel, "other")
    kernel.close()
    (home / "config.toml").rmdir()
    kernel = start()
    assert kernel.api.parts.embedder.get() is models.other
    assert cube in found_by_meaning(Person(kernel.api, "ada"), "cello")
    assert read_config(home) == {"embedder": "other"}
    with kernel.ledger.read() as connection:
        assert kernel.ledger.get(connection, CHOSEN) is None
        assert kernel.ledger.get(connection, PIN) == "other:1"


def test_a_broken_index_does_not_stand_in_the_way_of_a_change(
    start: Callable[[], Kernel], models: Models, index: FakeIndex
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("Ada plays the cello")
    space = indexed(kernel, index)
    index.broken.add(space)
    assert change_embedder(kernel, "other").problem is None
    assert found_by_meaning(ada, "cello")[cube] is not None
    assert kernel.api.parts.indexer.compare() == []
    assert index.size(space) is None


def test_calls_in_progress_never_meet_vectors_of_two_embedders(start: Callable[[], Kernel]) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    fill(ada, 60)
    turns = 25

    def work(number: int) -> int:
        person = Person(kernel.api, "ada")
        for turn in range(turns):
            cube = person.keep(f"thread {number} says {turn}")
            person.update(cube, content=f"thread {number} says {turn} again")
            assert person.ids(f"thread {number} says {turn} again")
        return turns

    with ThreadPoolExecutor(2) as pool:
        work_done = [pool.submit(work, number) for number in range(2)]
        for name in ("other", "minilm", "other"):
            change_embedder(kernel, name)
        assert [one.result() for one in work_done] == [turns, turns]
    kernel.api.parts.indexer.catch_up()
    assert embedders_of(kernel) == {"other:1": 60 + 2 * turns}


def test_the_state_of_the_embedder_counts_vectors_and_says_what_is_wrong(
    start: Callable[[], Kernel], models: Models
) -> None:
    kernel = start()
    Person(kernel.api, "ada").keep("Ada plays the cello")
    state = embedder_state(kernel)
    assert (state.embedder, state.source, state.identity) == ("minilm", "default", "minilm:1")
    assert (state.dimensions, state.waiting, state.vectors, state.problem) == (64, 0, {"minilm:1": 1}, None)
    kernel.close()
    models.minilm.down = True
    state = embedder_state(start())
    assert (state.identity, state.dimensions) == ("minilm:1", None)
    assert state.problem is not None


# --- the doctor


def examine(home: Path, models: Models, **arguments: str) -> dict[str, Check]:
    """The doctor's checks by name; of several of one name the worst."""
    worst = ("ok", "warn", "fail")
    found: dict[str, Check] = {}
    for check in doctor(settings_for(home, **arguments), make=models):
        if check.name not in found or worst.index(check.status) > worst.index(found[check.name].status):
            found[check.name] = check
    return found


def failing(checks: dict[str, Check]) -> set[str]:
    return {check.name for check in checks.values() if check.status == "fail"}


def test_the_doctor_finds_a_healthy_store_healthy_and_leaves_it_so(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    Person(kernel.api, "ada").keep("Ada plays the cello")
    kernel.close()
    checks = examine(home, models)
    assert {check.status for check in checks.values()} == {"ok"}
    assert "1 memory" in checks["full text"].said
    assert checks["setting embedder"].said == "minilm (default)."
    again = Person(start().api, "ada")
    assert len(again.history()["operations"]) == 1


def test_the_doctor_says_that_there_is_no_data_directory_and_makes_none(home: Path, models: Models) -> None:
    checks = examine(home, models)
    assert failing(checks) == set()
    assert checks["data directory"].status == "warn"
    assert "first memory" in (checks["data directory"].next or "")
    assert not home.exists()


@pytest.mark.parametrize("content", [b"", b"not a database" * 500, b"SQLite format 3\0" + bytes(4096)])
def test_the_doctor_survives_a_ledger_that_is_none(home: Path, models: Models, content: bytes) -> None:
    home.mkdir(mode=0o700)
    (home / "ledger.db").write_bytes(content)
    checks = examine(home, models)
    unwell = [check for check in checks.values() if check.status != "ok"]
    assert unwell
    assert all(check.next for check in unwell)
    assert (home / "ledger.db").read_bytes() == content


def test_the_doctor_finds_a_page_of_the_ledger_damaged(start: Callable[[], Kernel], home: Path, models: Models) -> None:
    kernel = start()
    fill(Person(kernel.api, "ada"), 300)
    kernel.close()
    with (home / "ledger.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4096 * 4))
    assert failing(examine(home, models)) & {"integrity", "ledger", "full text"}


def test_the_doctor_says_that_a_newer_memos_mcp_wrote_the_store(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    with kernel.ledger.write() as connection:
        row = {"number": 99, "name": "of the future", "applied": "2030-01-01T00:00:00.000Z", "writer": "9.9"}
        connection.execute(insert(applied_migrations), row)
    kernel.close()
    checks = examine(home, models)
    assert failing(checks) == {"schema"}
    assert checks["schema"].next == "Install memos-mcp 9.9 or newer."


def test_the_doctor_looks_at_a_store_in_use_without_disturbing_it(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    ada.keep("Ada plays the cello")
    checks = examine(home, models)
    assert failing(checks) == set()
    assert f"process {os.getpid()}" in checks["lock"].said
    assert "1 memory" in checks["full text"].said
    assert checks["embedder"].status == "ok"
    assert ada.keep("Ada rides a horse")


def test_the_doctor_finds_full_text_that_does_not_cover_the_ledger(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    Person(kernel.api, "ada").keep("Ada plays the cello")
    with kernel.ledger.write() as connection:
        dialect.clear_full_text(connection)
    kernel.close()
    checks = examine(home, models)
    assert failing(checks) == {"full text"}
    assert "reindex" in (checks["full text"].next or "")


def test_the_doctor_finds_another_embedder_in_the_settings_than_the_store_has(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    kernel.api.parts.embedder.get()
    write_config(home, "embedder", "other")
    in_use = examine(home, models)
    kernel.close()
    checks = examine(home, models)
    assert failing(in_use) == failing(checks) == {"embedder"}
    assert "memos-mcp embedder other" in (checks["embedder"].next or "")


def test_the_doctor_says_which_memories_wait_and_which_change_was_left(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    kernel = start()
    ada = Person(kernel.api, "ada")
    fill(ada, 40)
    kernel.api.parts.indexer.catch_up()
    models.other.before = lambda _: (_ for _ in ()).throw(EmbedderUnavailable("cut")) if models.other.calls else None
    with pytest.raises(EmbedderUnavailable):
        change_embedder(kernel, "other")
    kernel.close()
    models.minilm.down = True
    kernel = start()
    Person(kernel.api, "ada").keep("one that waits")
    kernel.close()
    said = [check for check in doctor(settings_for(home), make=models) if check.status != "ok"]
    assert [check.name for check in said if check.status == "fail"] == ["embedder"]
    assert any("by words alone: 1 memory" in check.said for check in said)
    assert any("'other:1' was begun" in check.said for check in said)


def test_the_doctor_tells_a_wish_that_is_not_applied(start: Callable[[], Kernel], home: Path, models: Models) -> None:
    start().close()
    settings = load({"home": str(home)}, env={"MEMOS_EMBEDDER": "other", "MEMOS_IDLE_EXIT": "5", "USER": "ada"})
    checks = {check.name: check for check in doctor(settings, make=models)}
    assert checks["setting embedder"].status == "warn"
    assert "memos-mcp embedder other" in (checks["setting embedder"].next or "")
    assert "memos-mcp config idle_exit 5" in (checks["setting idle_exit"].next or "")


def test_the_doctor_names_keys_of_config_toml_that_are_no_settings_and_files_that_are_not_there(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    start().close()
    (home / "config.toml").write_text('embeder = "minilm"\nmodel = "/nowhere/model.gguf"\n')
    checks = examine(home, models)
    assert "embeder" in checks["config.toml"].said
    assert checks["setting model"].status == "warn"
    (home / "config.toml").unlink()
    (home / "keys.toml").write_text("= nonsense")
    assert failing(examine(home, models)) == {"keys.toml"}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_doctor_warns_of_a_data_directory_that_others_may_enter(
    start: Callable[[], Kernel], home: Path, models: Models
) -> None:
    start().close()
    home.chmod(0o755)
    checks = examine(home, models)
    assert checks["data directory"].status == "warn"
    assert "chmod 700" in (checks["data directory"].next or "")


def test_the_doctor_says_that_an_index_was_lost_and_a_later_start_has_it_again(
    home: Path, models: Models
) -> None:
    settings = settings_for(home)
    kernel = Kernel.open(settings, embedder=models, lock_wait_s=0.0)
    fill(Person(kernel.api, "ada"), INDEX_FROM + 1)
    kernel.api.parts.indexer.catch_up()
    with kernel.ledger.read() as connection:
        (space,) = vectors.indexed_spaces(connection)
    kernel.close()
    assert examine(home, models)["index"].status == "ok"
    shutil.rmtree(next((home / "index").glob(f"{space}-*")))
    lost = examine(home, models)
    assert (lost["index"].status, failing(lost)) == ("warn", set())
    kernel = Kernel.open(settings, embedder=models, lock_wait_s=0.0)
    assert eventually(lambda: bool(kernel.api.parts.indexer.compare()))
    kernel.close()
    assert examine(home, models)["index"].status == "ok"


def test_a_vector_of_another_embedder_is_never_queued_for_removal_from_an_index(
    start: Callable[[], Kernel], models: Models, index: FakeIndex
) -> None:
    kernel = start()
    cube_id = Person(kernel.api, "ada").keep("Ada plays the cello")
    space = indexed(kernel, index)
    with kernel.ledger.write() as connection:
        cube = kernel.api.parts.vault.by_ids(connection, [cube_id])[cube_id]
        number = vectors.embedder_id(connection, "other:1", 32)
        vectors.put(connection, number, [(cube.seq, 1, space, models.other.embed(["x"])[0])])
        own = connection.execute(select(vectors_table.c.seq).where(vectors_table.c.embedder != number)).scalar_one()
        vectors.retire(connection, cube.seq)
        assert vectors.removals(connection, space, 10) == [own]


def test_a_vector_of_another_embedder_is_near_to_nothing() -> None:
    """A session's last words may have a vector of the embedder before, where what works behind the calls looks."""
    stored = vectors.Stored(np.array([1, 2]), np.array([7, 9]), np.eye(2, 32, dtype=np.float32))
    assert dense.top(stored, np.eye(1, 32, dtype=np.float32)[0], 5) == {7: 1.0, 9: 0.0}
    assert dense.top(stored, np.ones(64, dtype=np.float32), 5) == {}
