"""The compressed archive: what lies there takes little room, reads the same and comes back byte for byte."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Clock, Person, eventually
from sqlalchemy import insert, select, text

from memos_mcp.errors import StorageFailed
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import packed, vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.life_schema import packs
from memos_mcp.ledger.packed import PACK
from memos_mcp.ledger.schema import cubes, spaces, versions
from memos_mcp.maintenance import derivatives
from memos_mcp.scheduler.runner import Runner
from memos_mcp.scheduler.upkeep import COMPRESS

SAID = [
    "The harbour opens at 6.", "她住在里斯本，每天喝咖啡。", "👩‍👩‍👧 and é̄ and \u202e turned",
    'quotes " and \\ and \t tab', "a\nline\n\nmore", "\x01 control", "same words", "same words too",
]  # fmt: skip


def tended(kernel: Kernel) -> None:
    """Do what the background has to do now, without waiting for a quiet moment."""
    kernel.runner.stop()
    parts = kernel.api.parts
    assert eventually(lambda: not parts.indexer.busy)
    Runner(parts.jobs, parts.now, kernel.upkeep.works()).run_ready()


def raw(kernel: Kernel) -> dict[str, Any]:
    """Every snapshot as its row holds it, and how many vectors there are."""
    with kernel.ledger.read() as connection:
        current = connection.execute(select(cubes.c.seq, cubes.c.snapshot).order_by(cubes.c.seq)).all()
        former = connection.execute(select(versions.c.cube, versions.c.version, versions.c.snapshot)).all()
        return {
            "current": [tuple(row) for row in current],
            "former": sorted(tuple(row) for row in former),
            "vectors": connection.execute(text("SELECT count(*) FROM vectors")).scalar(),
            "packs": connection.execute(text("SELECT count(*) FROM packs")).scalar(),
            "packed": connection.execute(text("SELECT count(*) FROM packed")).scalar(),
        }


@pytest.fixture
def kept(ada: Person) -> list[str]:
    """Archived memories with former versions, in the order of writing, beside one that stands."""
    ids = [ada.keep(said, kind="dialogue", session="s", tags=["t"], metadata={"n": 1}) for said in SAID]
    for cube in ids[:3]:
        ada.update(cube, content=f"{ada.text(cube)} Changed, 改了.", importance=0.9)
    ada.keep("It stands.")
    ada.forget(*ids)
    return ids


def test_what_lies_in_the_archive_is_compressed_after_its_time_and_not_before(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock
) -> None:
    before, told = raw(kernel), {cube: ada.api.read.cube(ada.caller, cube) for cube in kept}
    clock.advance(days=29)
    tended(kernel)
    assert raw(kernel) == before
    clock.advance(days=2)
    told = {cube: ada.api.read.cube(ada.caller, cube) for cube in kept}
    histories = {cube: ada.history(cube)["versions"] for cube in kept}
    tended(kernel)
    after = raw(kernel)
    assert [snapshot for _, snapshot in after["current"]][: len(kept)] == [""] * len(kept)
    assert {snapshot for _, _, snapshot in after["former"]} == {""}
    assert (after["vectors"], after["packed"], after["packs"]) == (1, len(kept) + 3, 1)
    assert {cube: ada.api.read.cube(ada.caller, cube) for cube in kept} == told
    assert {cube: ada.history(cube)["versions"] for cube in kept} == histories
    assert [ada.api.read.cube(ada.caller, kept[0], 1)["payload"]["value"]] == [SAID[0]]


def test_it_is_found_by_its_words_and_the_answer_says_so(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock
) -> None:
    assert "degraded" not in ada.search("harbour", include=["archived"])
    clock.advance(days=31)
    tended(kernel)
    found = ada.search("harbour 6", include=["archived"])
    assert found["hits"][0]["id"] == kept[0]
    assert found["hits"][0]["text"] == f"{SAID[0]} Changed, 改了."
    assert "words only" in found["degraded"]
    assert ada.ids("里斯本 咖啡", include=["archived"])[0] == kept[1]
    assert kept[0] in ada.ids("harbour", where={"state": "archived", "n": 1})
    standing = ada.search("harbour")
    assert [hit["text"] for hit in standing["hits"]] == ["It stands."]
    assert "degraded" not in standing


def back_by_undo(ada: Person, cube: str) -> None:
    (op,) = {one["op"] for one in ada.history(cube)["operations"] if one["verb"] == "forget"}
    ada.undo(op)


def back_by_freezing(ada: Person, cube: str) -> None:
    ada.update(cube, freeze=True)


@pytest.mark.parametrize("back", [back_by_undo, back_by_freezing])
def test_its_return_is_exact_and_its_vector_is_made_anew(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock, back: Callable[[Person, str], None]
) -> None:
    before = raw(kernel)
    clock.advance(days=31)
    tended(kernel)
    back(ada, kept[0])
    after = raw(kernel)
    returned = len(kept) if back is back_by_undo else 1
    assert after["current"][:returned] == before["current"][:returned]
    assert {row for row in after["former"] if row[2]} == {row for row in before["former"] if row[0] <= returned}
    assert (after["packs"], after["packed"]) == ((0, 0) if returned > 1 else (1, len(kept) - 1 + 2))
    assert ada.ids("harbour 6")[0] == kept[0]
    with kernel.ledger.read() as connection:
        assert vectors.queue_length(connection) == 0
        assert vectors.missing_count(connection, ada.api.parts.embedder_number()) == 0


def test_what_is_said_again_comes_back_and_what_is_changed_is_unpacked(
    kernel: Kernel, ada: Person, clock: Clock
) -> None:
    fact, other = ada.keep("The gate code is 4711."), ada.keep("The cat is called Miso.")
    ada.forget(fact, other)
    clock.advance(days=31)
    tended(kernel)
    assert raw(kernel)["packed"] == 2
    assert ada.add("The gate code is 4711.")["cubes"][0] == {
        "id": fact, "uri": f"memcube://{fact}", "version": 1, "state": "activated"
    }  # fmt: skip
    ada.update(other, tags=["pet"])
    assert raw(kernel)["packed"] == 0
    assert (ada.text(other), ada.state(other)) == ("The cat is called Miso.", "archived")
    assert [one["text"] for one in ada.history(other)["versions"]] == ["The cat is called Miso."] * 2
    assert eventually(lambda: not kernel.api.parts.indexer.busy)
    assert raw(kernel)["vectors"] == 2


def test_a_purge_leaves_nothing_of_it_and_the_others_as_they_were(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock, home: Path
) -> None:
    clock.advance(days=31)
    tended(kernel)
    with kernel.ledger.read() as connection:
        (old,) = connection.execute(select(packs.c.data)).scalars()
    texts = [ada.text(cube) for cube in kept]
    ada.forget(kept[0], kept[3], mode="purge")
    with kernel.ledger.read() as connection:
        (new,) = connection.execute(select(packs.c.data)).scalars()
    opened = zlib.decompress(new)
    assert b"harbour" not in opened
    assert b"quotes" not in opened
    assert [ada.text(cube) for cube in kept[1:3] + kept[4:]] == texts[1:3] + texts[4:]
    assert not {kept[0], kept[3]} & set(ada.ids("harbour quotes", include=["archived"]))
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert new[-32:] in held
    assert old[-32:] not in held
    ada.forget(*kept[1:3], *kept[4:], mode="purge")
    assert (raw(kernel)["packs"], raw(kernel)["packed"]) == (0, 0)


def test_a_purge_of_what_an_archived_memory_names_rewrites_that_one(
    kernel: Kernel, ada: Person, clock: Clock
) -> None:
    named = ada.keep("The old address.")
    ada.forget(holder := ada.keep("See there.", links=[{"to": named, "relation": "see"}]))
    clock.advance(days=31)
    tended(kernel)
    ada.forget(named, mode="purge")
    assert ada.api.read.cube(ada.caller, holder)["lineage"]["links"] == []
    assert raw(kernel)["packed"] == 0
    assert ada.text(holder) == "See there."


def test_reindexing_and_the_doctor_leave_it_compressed(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock
) -> None:
    clock.advance(days=31)
    tended(kernel)
    derivatives.reindex(kernel)
    assert (raw(kernel)["vectors"], raw(kernel)["packed"]) == (1, len(kept) + 3)
    assert ada.ids("harbour 6", include=["archived"])[0] == kept[0]
    with kernel.ledger.read() as connection:
        assert vectors.queue_length(connection) == 0


def test_the_job_comes_again_for_what_is_archived_later_and_never_without_need(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock
) -> None:
    jobs = kernel.api.parts.jobs
    clock.advance(days=20)
    ada.forget(later := ada.keep("Archived later."))
    assert len(jobs.unfinished(COMPRESS)) == 1
    clock.advance(days=11)
    tended(kernel)
    assert raw(kernel)["packed"] == len(kept) + 3
    (waiting,) = jobs.unfinished(COMPRESS)
    assert waiting.not_before is not None
    clock.advance(days=20)
    tended(kernel)
    assert raw(kernel)["packed"] == len(kept) + 4
    assert ada.text(later) == "Archived later."
    assert jobs.unfinished(COMPRESS) == []


def test_what_came_back_and_fell_again_waits_its_time_anew(kernel: Kernel, ada: Person, clock: Clock) -> None:
    cube = ada.keep("Back and forth.")
    op = ada.forget(cube)["op"]
    clock.advance(days=20)
    ada.undo(op)
    ada.forget(cube)
    clock.advance(days=11)
    tended(kernel)
    assert raw(kernel)["packed"] == 0
    clock.advance(days=20)
    tended(kernel)
    assert raw(kernel)["packed"] == 1


def test_a_store_that_is_set_so_compresses_nothing(
    home: Path, open_kernel: Callable[..., Kernel], clock: Clock
) -> None:
    home.mkdir()
    (home / "config.toml").write_text("compress_after = 0\n")
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    ada.forget(ada.keep("It stays as it is."))
    assert kernel.api.parts.jobs.unfinished(COMPRESS) == []
    clock.advance(days=400)
    tended(kernel)
    assert raw(kernel)["packed"] == 0


def test_a_damaged_pack_is_said_and_touches_nothing_else(
    kernel: Kernel, ada: Person, kept: list[str], clock: Clock
) -> None:
    clock.advance(days=31)
    tended(kernel)
    with kernel.ledger.write() as connection:
        connection.execute(packs.update().values(data=b"no zlib"))
    with pytest.raises(StorageFailed, match="restore a backup"):
        ada.text(kept[0])
    assert [hit["text"] for hit in ada.search("stands")["hits"]] == ["It stands."]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=2)), min_size=1, max_size=PACK + 6),
    data=st.data(),
)
def test_what_is_packed_is_given_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger.open(folder / "ledger.db", folder, Clock()())
    with ledger.write() as connection:
        connection.execute(insert(spaces), {"id": 1, "name": "s", "owner": "ada", "created": "-"})
        for seq, (current, former) in enumerate(texts, start=1):
            row = dict.fromkeys(("owner", "created", "updated", "language", "op", "becomes_true", "kind"), "-")
            row |= {"seq": seq, "id": str(seq), "space": 1, "version": len(former) + 1, "state": "archived", "uses": 0}
            connection.execute(insert(cubes), {**row, "content_hash": "-", "importance": 0.5, "snapshot": current})
            for version, one in enumerate(former, start=1):
                row = {"cube": seq, "version": version, "op": "-", "since": "-", "until": "-", "snapshot": one}
                connection.execute(insert(versions), row)

    def everything() -> list[str]:
        with ledger.read() as connection:
            rows = [(r.seq, r.version, r.snapshot) for r in connection.execute(select(cubes).order_by(cubes.c.seq))]
            query = select(versions).order_by(versions.c.cube, versions.c.version)
            rows += [(r.cube, r.version, r.snapshot) for r in connection.execute(query)]
            return packed.filled(connection, rows)

    seqs = list(range(1, len(texts) + 1))
    before = everything()
    count = sum(1 + len(former) for _, former in texts)
    with ledger.write() as connection:
        assert packed.put(connection, 1, seqs) == count
        assert packed.put(connection, 1, seqs) == 0
    assert everything() == before
    some = data.draw(st.lists(st.sampled_from(seqs), unique=True))
    with ledger.write() as connection:
        assert packed.take_out(connection, some) == sorted(some)
        assert packed.take_out(connection, some) == []
    assert everything() == before
    with ledger.write() as connection:
        assert packed.take_out(connection, seqs) == sorted(set(seqs) - set(some))
        assert not packed.is_in(connection, [1])
        rows = connection.execute(select(cubes.c.snapshot).order_by(cubes.c.seq)).scalars()
        assert list(rows) == [current for current, _ in texts]
    ledger.close()
