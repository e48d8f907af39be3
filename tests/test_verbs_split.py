"""Splitting a memory: its parts stand for it in order, and nothing of it is lost when they are fused again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import Person

from memos_mcp.documents.parting import parted
from memos_mcp.errors import Conflict, InvalidInput, NotFound
from memos_mcp.operators.sentences import sentences

NOTES = (
    "Notes of May.\n\n# Garden\n\nPlant the beans.\n\n## Pond\nClean the pump. 清洗水泵。\n\n"
    "# House\n\nPaint the door."
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (NOTES, ["Notes of May.", "# Garden\n\nPlant the beans.", "## Pond\nClean the pump. 清洗水泵。",
                 "# House\n\nPaint the door."]),
        ("# Trip\n\n## Day one\nWe swam.\n\n## Day two\nWe slept.", ["# Trip\n\n## Day one\nWe swam.",
                                                                   "## Day two\nWe slept."]),
        ("Ann: Shall we go?\nBob: Yes.\nAt noon.\nAnn: Fine.",
         ["Ann: Shall we go?", "Bob: Yes.\nAt noon.", "Ann: Fine."]),
        ("**User:** hi there\n\n**Assistant:** hello", ["**User:** hi there", "**Assistant:** hello"]),
        ("小王：去爬山吗？\n小李：好的。", ["小王：去爬山吗？", "小李：好的。"]),
        ("First thing.\nStill it.\n\nSecond thing.", ["First thing.\nStill it.", "Second thing."]),
        ("```\n# no heading\n\nmore\n```\n\nText.", ["```\n# no heading\n\nmore\n```", "Text."]),
        ("One sentence. And another.", ["One sentence. And another."]),
        ("See http://example.org now", ["See http://example.org now"]),
    ],
)  # fmt: skip
def test_a_text_falls_apart_where_its_writer_set_it_apart(text: str, parts: list[str]) -> None:
    found = parted(text)
    assert "".join(found) == text
    assert [part.strip() for part in found] == parts


def test_the_parts_are_found_in_place_of_the_memory_and_know_their_order(ada: Person) -> None:
    whole = ada.keep(NOTES, kind="procedure", tags=["may"], importance=0.8, time="2026-02-01", ref="notes")
    done = ada.split(whole)
    ids = [part["id"] for part in done["parts"]]
    assert (len(ids), done["id"]) == (4, whole)
    assert ada.state(whole) == "merged"
    assert ada.text(whole) == NOTES
    found = ada.ids("clean the pump of the pond", top_k=10)
    assert found[0] == ids[2]
    assert whole not in found
    cube = ada.api.read.cube(ada.caller, ids[2])
    assert cube["lineage"]["parents"] == [whole]
    assert {"to": ids[1], "relation": "follows"} in cube["lineage"]["links"]
    assert cube["descriptive"]["metadata"]["split"] == {"of": whole, "place": 2}
    assert (cube["descriptive"]["kind"], cube["descriptive"]["tags"]) == ("procedure", ["may"])
    around = ada.search(ids=[ids[2]], around=1)["hits"][0]["text"]
    assert around == "# Garden\n\nPlant the beans.\n## Pond\nClean the pump. 清洗水泵。\n# House\n\nPaint the door."


def test_an_undo_brings_the_memory_back(ada: Person) -> None:
    whole = ada.keep(NOTES)
    done = ada.split(whole)
    ada.undo(done["op"])
    assert whole in ada.ids("plant the beans")
    assert {ada.state(part["id"]) for part in done["parts"]} == {"expired"}


def test_given_parts_are_kept_as_they_are_given(ada: Person) -> None:
    whole = ada.keep("He lives in Porto and plays chess.")
    done = ada.split(whole, "Bruno lives in Porto.", "布鲁诺下棋。🙂")
    assert [ada.text(part["id"]) for part in done["parts"]] == ["Bruno lives in Porto.", "布鲁诺下棋。🙂"]


def test_purging_the_memory_purges_its_parts(ada: Person) -> None:
    whole = ada.keep(NOTES)
    part = ada.split(whole)["parts"][0]["id"]
    ada.forget(whole, mode="purge")
    with pytest.raises(NotFound):
        ada.text(part)


def test_what_cannot_be_split_is_refused_in_a_sentence(ada: Person, bob: Person) -> None:
    plain = ada.keep("One sentence. And another.")
    with pytest.raises(InvalidInput, match="give the texts in parts"):
        ada.split(plain)
    with pytest.raises(InvalidInput, match=r"parts\[1\]"):
        ada.split(plain, "One sentence.", " ")
    with pytest.raises(InvalidInput, match="201 parts"):
        ada.split(ada.keep("\n\n".join(f"Paragraph {n}." for n in range(201))))
    ada.update(plain, freeze=True)
    with pytest.raises(Conflict, match="thaw it first"):
        ada.split(plain, "One", "Two")
    with pytest.raises(NotFound):
        bob.split(plain, "One", "Two")


LINE = st.sampled_from(
    ["# Garden", "## Pond", "Plant beans. Plant peas!", "Plant beans. Plant peas!", "Ann: hello there",
     "小王：你好。再见。", "- one thing", "", "", "```\ncode. Here\n\n# not\n```"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(st.lists(LINE, min_size=2, max_size=9).map("\n".join).filter(lambda text: len(parted(text)) > 1))
def test_split_then_fuse_loses_no_sentence_and_keeps_their_order(ada: Person, text: str) -> None:
    whole = ada.keep(text, kind="event")
    parts = [part["id"] for part in ada.split(whole)["parts"]]
    fused = ada.text(ada.fuse(*reversed(parts))["id"])
    at = 0
    for sentence in sentences(text):
        at = fused.index(sentence.strip(), at) + len(sentence.strip())
