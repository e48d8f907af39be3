"""Knowledge graphs as triples: every form in which they come, and the memories that they become."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from person import Person

from memos_mcp.cube import Snapshot
from memos_mcp.entities import triples
from memos_mcp.entities.triples import Triple
from memos_mcp.errors import InvalidInput

ADA = Triple("Ada", "works at", "Acme, Inc")
AS_TRIPLES = {"format": "triples"}


@pytest.mark.parametrize(
    "text",
    [
        '{"subject": "Ada", "relation": "works at", "object": "Acme, Inc"}',
        '[{"s": "Ada", "p": "works_at", "o": "Acme, Inc"}]',
        '["Ada", "worksAt", "Acme, Inc"]',
        '[["Ada", "works-at", "Acme, Inc"]]',
        'Ada,works at,"Acme, Inc"',
        '# people\n\nAda\tworks at\tAcme, Inc\r\n',
        'from,type,to\nAda,works_at,"Acme, Inc"\n',
        'object,subject,relation\n"Acme, Inc",Ada,works at',
        '<http://example.org/people/Ada> <http://example.org/#worksAt> "Acme, Inc"@en .',
    ],
)
def test_a_triple_is_read_from_every_form(text: str) -> None:
    assert list(triples.read(text)) == [ADA]


def test_lines_may_each_have_a_form_of_their_own() -> None:
    text = '{"subject":"Ada","relation":"knows","object":"Bob"}\n["Bob","knows","Carla"]\nCarla,knows,"Ada"'
    assert [one.sentence() for one in triples.read(text)] == ["Ada knows Bob", "Bob knows Carla", "Carla knows Ada"]


def test_iris_and_literals_become_words() -> None:
    text = '<http://x.org/Ada_Lovelace> <http://x.org/bornIn> "caf\\u00e9 \\"X\\""^^<http://x.org/string> .'
    assert next(triples.read(text)) == Triple("Ada Lovelace", "born in", 'café "X"')


def test_times_are_part_of_what_is_said() -> None:
    (one,) = triples.read('[["Ada", "works at", "Acme", "2015", "2017-06-01"]]')
    assert one.sentence() == "Ada works at Acme (since 2015-01-01, until 2017-06-01)"
    assert Triple.of({"triple": one.as_plain()}) == one


def test_chinese_is_said_without_spaces() -> None:
    (one,) = triples.read('["小王", "喜欢", "咖啡"]')
    assert one.sentence() == "小王喜欢咖啡"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ada,works at", "Line 1 has no object"),
        ("Ada,knows,Bob\nAda,knows", "Line 2 has no object"),
        ('[{"subject": 1, "object": true}]', "Triple 1 has no relation"),
        ('[{"subject": "a", "relation": "b", "object": true}]', "Triple 1 has no object"),
        ('[["a", "b"]]', "Triple 1 is no triple"),
        ('[["a","b","c"], 7]', "Triple 2 is no triple"),
        ("a,b,c,someday", "Line 1: since 'someday' is not a date"),
        ("a,b,c,2020,2019", "ends before it begins"),
        ('a,"b,c', "quotation mark"),
        ("a,b,c,2020,2021,more", "Line 1 has 6 values"),
        (f"{'x' * 300},b,c", "Line 1: subject must have 1 to 200 characters"),
        ("nothing of the kind", "Line 1 has no relation"),
    ],
)
def test_what_is_no_triple_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        list(triples.read(text))


def test_triples_are_added_as_memories_once(ada: Person) -> None:
    text = '[["Ada","works at","Acme","2020-01-01"],["Ada","knows","Bob"],["Ada","knows","Bob"]]'
    first = ada.add(text, metadata={**AS_TRIPLES, "list": "people"}, tags=["graph"])
    said = [ada.text(cube["id"]) for cube in first["cubes"]]
    assert said == ["Ada works at Acme (since 2020-01-01)", "Ada knows Bob"]
    again = ada.add(text, metadata=AS_TRIPLES)
    assert (again["cubes"], again["op"]) == ([], None)
    assert again["unchanged"] == [cube["id"] for cube in first["cubes"]]
    works = first["cubes"][0]["id"]
    assert ada.ids("Acme", where={"triple.relation": "works at", "list": "people"}) == [works]
    assert ada.search(ids=[works])["hits"][0]["valid_from"].startswith("2020-01-01")
    assert set(ada.undo(first["op"])["undone"]) == {cube["id"] for cube in first["cubes"]}


def test_another_time_is_another_memory(ada: Person) -> None:
    ada.add('["Ada","works at","Acme","2010","2012"]', metadata=AS_TRIPLES)
    assert len(ada.add('["Ada","works at","Acme","2020"]', metadata=AS_TRIPLES)["cubes"]) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "holds no triple"), ("# only this", "holds no triple"), ("a,b", "Line 1"), ("{", "Line 1")],
)
def test_nothing_is_kept_of_what_holds_a_mistake(ada: Person, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ada.add(text, metadata=AS_TRIPLES)
    good = json.dumps([["Ada", "knows", f"Person {i}"] for i in range(5)])
    with pytest.raises(InvalidInput, match="Triple 6"):
        ada.add(f"{good[:-1]}, 1]", metadata=AS_TRIPLES)
    assert ada.api.read.stats(ada.caller)["cubes"] == 0


def test_a_ref_or_too_many_triples_are_refused(ada: Person) -> None:
    with pytest.raises(InvalidInput, match="leave ref out"):
        ada.add('["a","b","c"]', metadata=AS_TRIPLES, ref="mine")
    with pytest.raises(InvalidInput, match="1,000"):
        ada.add(json.dumps([["a", "knows", str(i)] for i in range(1_001)]), metadata=AS_TRIPLES)


def test_without_the_format_the_text_stays_what_it_is(ada: Person) -> None:
    assert ada.text(ada.keep('["Ada","knows","Bob"]')) == '["Ada","knows","Bob"]'


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())))
def test_metadata_of_any_shape_hold_a_triple_or_none(held: dict[str, object]) -> None:
    found = Triple.of({"triple": held})
    assert found is None or Triple.of({"triple": found.as_plain()}) == found
    assert Triple.of({"triple": "text"}) is None


@given(st.text())
def test_any_text_is_triples_or_a_clear_refusal(text: str) -> None:
    try:
        drafts = triples.drafts(Snapshot(content=""), text)
    except InvalidInput:
        drafts = []
    assert all(draft.content and Triple.of(draft.metadata) for draft in drafts)
