"""Core blocks: small named texts that an agent writes itself; nothing of them is lost, whoever writes and however much.

The pages that go out of a block and what stays in it are, one behind the other, what was written.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Person
from sqlalchemy import insert

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput
from memos_mcp.ledger.schema import grants
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.memory_api.blocks import LIMIT
from memos_mcp.operators.paging import PAGE, paged

WORDS = st.sampled_from(
    ["harbour ", "她住在里斯本。", "👩‍👩‍👧 ", "é̄ ", "\n", "\n\n", "Yes. ", "咖啡", "x" * 40, "\u200d", " "]
)
TEXTS = st.lists(WORDS, max_size=60).map("".join)


def paragraph(number: int) -> str:
    return f"Paragraph {number}: " + f"note{number} " * 30


# --- the pure part


@given(TEXTS, st.integers(5, 200), st.integers(10, 100))
def test_pages_and_what_stays_are_the_text(text: str, limit: int, page: int) -> None:
    pages, kept = paged(text, limit, page)
    assert len(kept) <= limit
    assert "".join([*pages, kept]) == (text if not pages and kept == text else text.strip())
    assert all(one.strip() for one in pages)
    assert not pages or kept.strip()


@given(TEXTS, st.integers(5, 200))
def test_what_fits_stays_as_it_is(text: str, limit: int) -> None:
    assert paged(text[:limit], limit) == ([], text[:limit])


def test_a_text_is_divided_behind_a_paragraph_then_a_sentence_and_never_inside_a_sign() -> None:
    pages, kept = paged("First one.\n\nSecond one.\nThird line here.", 32)
    assert (pages, kept) == (["First one.\n\n"], "Second one.\nThird line here.")
    pages, kept = paged("她住在里斯本。他住在波尔图。", 8)
    assert (pages, kept) == (["她住在里斯本。"], "他住在波尔图。")
    family = "👩‍👩‍👧"
    pages, kept = paged(family * 4, 7)
    assert set("".join(pages).split(family)) | set(kept.split(family)) == {""}


# --- in the store


def test_a_block_is_found_by_its_name_and_replaced_by_it(ada: Person) -> None:
    first = ada.add("I speak Portuguese.", kind="block", ref="persona")
    again = ada.add("I speak Portuguese and Basque.", ref="persona")  # whoever forgets the kind means the block
    assert again["cubes"][0]["id"] == first["cubes"][0]["id"]
    assert again["cubes"][0]["version"] == 2
    (hit,) = ada.search("persona", kinds=["block"])["hits"]
    assert (hit["id"], hit["refs"], hit["kind"]) == (first["cubes"][0]["id"], ["persona"], "block")
    assert hit["text"] == "I speak Portuguese and Basque."
    assert ada.add("I speak Portuguese and Basque.", kind="block", ref="persona")["op"] is None
    ada.undo(again["op"])
    assert ada.text(first["cubes"][0]["id"]) == "I speak Portuguese."


def test_what_overflows_is_found_by_search_and_comes_back_with_an_undo(ada: Person) -> None:
    block = ada.keep(paragraph(1), kind="block", ref="notes")
    done, pages = [], []
    for number in range(2, 12):
        done.append(ada.update(block, append=paragraph(number)))
        pages += done[-1].get("paged", [])
        assert len(ada.text(block)) <= LIMIT
    assert pages
    whole = "".join(ada.text(page) for page in pages) + ada.text(block)
    assert whole == "\n".join(paragraph(number) for number in range(1, 12)).strip()
    assert ada.ids("note1")[0] == pages[0]
    cube = ada.api.read.cube(ada.caller, pages[0])
    assert cube["lineage"]["parents"] == [block]
    assert cube["descriptive"]["metadata"] == {"paged": {"block": "notes"}}
    before = ada.text(block)
    for one in reversed(done):
        ada.undo(one["op"])
    assert ada.text(block).strip() == paragraph(1).strip()
    assert {ada.state(page) for page in pages} == {"expired"}
    redone = ada.history()["operations"]
    for entry in [one for one in redone if one["verb"] == "undo"][: len(done)]:
        ada.undo(entry["op"])
    assert ada.text(block) == before
    assert {ada.state(page) for page in pages} <= {"generated", "activated"}


def test_a_text_replaced_by_one_far_too_long_loses_nothing_and_is_not_paged_out_twice(ada: Person) -> None:
    text = "\n".join(paragraph(number) for number in range(40)).strip()
    ada.keep("Nothing yet.", kind="block", ref="notes")
    said = ada.add(text, kind="block", ref="notes")
    made = [c["cube"] for c in ada.history(op=said["op"])["operations"][0]["changes"]]
    block = said["cubes"][0]["id"]
    pages = sorted(cube for cube in made if cube != block)
    assert "".join(ada.text(page) for page in pages) + ada.text(block) == text
    assert all(len(ada.text(page)) <= PAGE for page in pages)
    assert ada.add(text, kind="block", ref="notes") == {"cubes": [], "unchanged": [block], "similar": [], "op": None}
    assert ada.update(block, content=text)["op"] is None
    ada.forget(pages[0])
    assert [len(ada.history(op=ada.update(block, content=text)["op"])["operations"][0]["changes"])] == [1]
    new = ada.add(text, kind="block", ref="other")
    assert len(ada.history(op=new["op"])["operations"][0]["changes"]) == len(made)


def test_appends_of_several_hosts_at_once_lose_nothing(api: MemoryAPI, ada: Person) -> None:
    block = ada.keep("Begun.", kind="block", ref="shared", metadata={"limit": 300})
    hosts = [Person(api, "ada") for _ in range(4)]
    said = [f"host {host} says thing {number} 喝茶🍵" for host in range(4) for number in range(10)]

    def append(number: int) -> list[str]:
        return hosts[number // 10].update(block, append=said[number]).get("paged", [])

    with ThreadPoolExecutor(4) as pool:
        pages = sorted(page for some in pool.map(append, range(len(said))) for page in some)
    whole = "".join(ada.text(page) for page in pages) + ada.text(block)
    assert sorted(whole.splitlines()) == sorted(["Begun.", *said])


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=8))
def test_whatever_is_appended_stays_somewhere(texts: list[str]) -> None:
    whole = "Begun."
    pages: list[str] = []
    kept = whole
    for text in texts:
        fresh, kept = paged(f"{kept}\n{text}", 200)
        pages += fresh
        whole = f"{whole}\n{text}"
    assert "".join([*pages, kept]).split() == whole.split()


def test_purging_a_block_purges_its_pages(ada: Person) -> None:
    block = ada.keep("\n".join(paragraph(number) for number in range(20)), kind="block", ref="notes")
    assert len(ada.forget(block, mode="purge")["affected"]) == 4
    assert ada.ids("note1 note2 note3", include=["archived"]) == []


@pytest.mark.parametrize("budget", [400, 700, 6_000])
def test_every_block_stands_in_every_context(ada: Person, budget: int) -> None:
    liked = [{"role": "user", "content": f"I like thing {number}"} for number in range(210)]
    ada.add(messages=liked, kind="preference")
    text = f"{paragraph(1)} 我住在里斯本🏠"
    blocks = [ada.keep(f"{name}: {text}", kind="block", ref=name) for name in ("me", "her", "us")]
    ada.update(ada.keep("A pinned thing " * 40), pin=True)
    for task in ("thing 7", "what is the weather", "thing 9"):
        shown = ada.context(task, budget_tokens=budget)
        assert set(blocks) <= {cube["id"] for cube in shown["cubes"]}
        assert all(f"block, {name}: " in shown["prefix"] for name in ("me", "her", "us"))
    ada.update(blocks[1], append="She moved to Porto.")
    shown = ada.context("thing 7", budget_tokens=budget)
    assert set(blocks) <= {cube["id"] for cube in shown["cubes"]}


@pytest.mark.parametrize("limit", [0, 199, 20_001, "many", True, 300.5, None, [300]])
def test_a_limit_that_cannot_be_is_refused_in_a_sentence(ada: Person, limit: object) -> None:
    with pytest.raises(InvalidInput, match="limit of a block is a whole number of characters from 200 to 20,000"):
        ada.add("Text.", kind="block", ref="me", metadata={"limit": limit})
    assert ada.ids("text") == []


def test_what_cannot_be_appended_is_refused_and_changes_nothing(ada: Person) -> None:
    block, fact = ada.keep("Begun.", kind="block", ref="me"), ada.keep("A fact.")
    for cube, text in ((block, ""), (block, " \n\t"), (fact, "more")):
        with pytest.raises(InvalidInput, match=r"append"):
            ada.update(cube, append=text)
    with pytest.raises(InvalidInput, match="not both"):
        ada.update(block, append="more", content="other")
    ada.update(block, freeze=True)
    with pytest.raises(Conflict, match="frozen"):
        ada.update(block, append="more")
    with pytest.raises(Conflict, match="frozen"):
        ada.add("Other.", kind="block", ref="me")
    assert ada.text(block) == "Begun."


def test_a_block_of_one_space_is_not_the_other_spaces(ada: Person) -> None:
    first = ada.keep("Of the first.", kind="block", ref="me")
    second = ada.at("work").keep("Of the second.", kind="block", ref="me")
    assert first != second
    assert (ada.text(first), ada.text(second)) == ("Of the first.", "Of the second.")


def test_who_may_write_a_block_alone_cannot_fill_its_space_with_pages(ada: Person, bob: Person, api: MemoryAPI) -> None:
    block = ada.keep("Begun.", kind="block", ref="me", metadata={"limit": 200})
    parts = api.parts
    with parts.ledger.write() as connection:
        seq = parts.vault.by_ids(connection, [block])[block].seq
        for can in ("read", "write"):
            connection.execute(insert(grants), {"space": None, "cube": seq, "principal": "bob", "can": can})
    bob.update(block, append="Bob was here.")
    with pytest.raises(AccessDenied, match="write"):
        bob.update(block, append=paragraph(1))
    assert ada.text(block) == "Begun.\nBob was here."
