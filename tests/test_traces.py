"""Traces of tool calls: found by their words, filtered by tool, outcome and duration, and nothing of them lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from person import Person

from memos_mcp.cube import Snapshot
from memos_mcp.errors import InvalidInput
from memos_mcp.traces import HEAD, TAIL, traced


def trace(**fields: Any) -> str:
    return json.dumps({"tool": "grep", **fields}, ensure_ascii=False)


def keep(ada: Person, **fields: Any) -> str:
    return ada.keep(trace(**fields), kind="tool_trace")


def metadata(ada: Person, cube: str) -> dict[str, Any]:
    found: dict[str, Any] = ada.api.read.cube(ada.caller, cube)["descriptive"]["metadata"]
    return found


def test_a_trace_is_kept_as_text_that_a_person_can_read(ada: Person) -> None:
    cube = keep(ada, arguments={"pattern": "记忆"}, result="3 matches\nin two files", outcome="ok", duration_ms=12)
    assert ada.text(cube) == 'grep: ok after 12 ms\narguments: {"pattern": "记忆"}\nresult: 3 matches\nin two files'


def test_traces_are_filtered_by_tool_outcome_and_duration(ada: Person) -> None:
    failed = keep(ada, outcome="error", duration_ms=900, error="No such file: notes.txt")
    worked = keep(ada, outcome="ok", duration_ms=12.5, result="notes.txt: milk")
    other = ada.keep(trace(tool="curl", outcome="error", result="notes"), kind="tool_trace")
    assert ada.ids("notes", where={"tool": "grep", "outcome": "error"}) == [failed]
    assert ada.ids("notes", where={"tool": "grep", "duration_ms": {"lt": 100}}) == [worked]
    assert ada.ids("notes", where={"duration_ms": {"gte": 100, "lt": 1000}}) == [failed]
    assert set(ada.ids("notes", where={"outcome": "error"}, kinds=["tool_trace"])) == {failed, other}


def test_arguments_can_be_filtered_by_name_when_they_are_short(ada: Person) -> None:
    keep(ada, arguments={"path": "/tmp", "depth": 3})
    wanted = keep(ada, arguments={"path": "/home", "depth": 9})
    assert ada.ids("grep", where={"arguments.path": "/home"}) == [wanted]
    assert ada.ids("grep", where={"arguments.depth": {"gt": 5}}) == [wanted]


def test_a_long_result_is_shown_in_part_and_kept_whole(ada: Person) -> None:
    result = "first line\n" + "x" * 50_000 + "\nFatal: the disk is full"
    cube = keep(ada, result=result, outcome="error")
    text = ada.search(ids=[cube], max_chars=100_000)["hits"][0]["text"]
    assert len(text) < HEAD + TAIL + 300
    assert "first line" in text
    assert "Fatal: the disk is full" in text
    assert f"of {len(result):,} characters are left out here; the whole is in metadata.result" in text
    assert metadata(ada, cube)["result"] == result
    assert ada.ids("Fatal: the disk is full") == [cube]


def test_a_long_structured_result_and_long_arguments_are_kept_as_json(ada: Person) -> None:
    rows = [{"n": n, "名": "值"} for n in range(2_000)]
    cube = keep(ada, result=rows, arguments={"rows": rows})
    kept = metadata(ada, cube)
    assert json.loads(kept["result"]) == rows
    assert json.loads(kept["arguments"]) == {"rows": rows}


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"error": "it broke"}, "error"),
        ({"result": 0}, "ok"),
        ({"result": None}, "ok"),
        ({"arguments": {}}, None),
        ({"result": "…", "isError": True}, "error"),
        ({"result": "…", "success": False}, "error"),
        ({"success": True}, "ok"),
        ({"outcome": "timeout", "result": "half"}, "timeout"),
        ({"outcome": "OK", "error": "warning only"}, "OK"),
    ],
)
def test_an_outcome_that_is_not_given_follows_from_the_rest(
    ada: Person, fields: dict[str, Any], outcome: str | None
) -> None:
    assert metadata(ada, keep(ada, **fields)).get("outcome") == outcome


def test_what_the_caller_says_in_metadata_wins(ada: Person) -> None:
    given = {"outcome": "flaky", "duration_ms": 1, "mine": True}
    cube = ada.keep(trace(outcome="ok", duration_ms=50), kind="tool_trace", metadata=given)
    assert metadata(ada, cube) == {"tool": "grep", **given}


def test_fields_that_are_not_a_traces_own_are_kept_and_shown(ada: Person) -> None:
    cube = keep(ada, result="done", call_id="c-7", host={"os": "linux"})
    assert metadata(ada, cube)["call_id"] == "c-7"
    assert ada.ids("grep", where={"host.os": "linux"}) == [cube]
    assert 'host: {"os": "linux"}' in ada.text(cube)
    big = keep(ada, result="done", dump="z" * 9_000)
    assert "z" * 9_000 in ada.search(ids=[big], max_chars=100_000)["hits"][0]["text"]
    assert "dump" not in metadata(ada, big)


@pytest.mark.parametrize(
    "prose",
    ["grep found nothing in the notes 🔍", "{tool} is a variable", "{}", "[1, 2]", '{"a": 1}', '{"result": "x"}', "{{"],
)
def test_prose_of_that_kind_stays_as_it_is(ada: Person, prose: str) -> None:
    cube = ada.keep(prose, kind="tool_trace")
    assert ada.text(cube) == prose
    assert metadata(ada, cube) == {}


def test_prose_with_a_trace_in_its_metadata_stays_and_shows_what_it_does_not_say(ada: Person) -> None:
    plain = ada.keep("The search failed.", kind="tool_trace", metadata={"tool": "grep", "outcome": "error"})
    assert ada.text(plain) == "The search failed."
    assert ada.ids("search", where={"tool": "grep", "outcome": "error"}) == [plain]
    given = {"tool": "sed", "arguments": {"script": "s/a/b/"}, "result": "nothing changed"}
    fuller = ada.keep("sed: nothing changed.", kind="tool_trace", metadata=given)
    assert ada.text(fuller) == 'sed: nothing changed.\narguments: {"script": "s/a/b/"}'
    assert metadata(ada, fuller) == given


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"tool": "grep", "result": }', "not JSON (line 1, column 28)"),
        ("{'tool': 'grep', \"tool\": 1}", "not JSON"),
        ('{"result": 1, "outcome": "ok"}', "does not name its tool"),
        ('{"tool": 7, "result": 1}', "name as text"),
        ('{"tool": "", "result": 1}', "tool must have 1 to 200 characters"),
        ('{"tool": "grep", "outcome": false}', "a word, ok or error"),
        ('{"tool": "grep", "duration_ms": "12"}', "milliseconds"),
        ('{"tool": "grep", "duration_ms": -1}', "milliseconds"),
        ('{"tool": "grep", "duration_ms": NaN}', "milliseconds"),
        ('{"tool": "grep", "duration_ms": true}', "milliseconds"),
        ('{"tool": "a\\u0007b"}', "control characters"),
    ],
)
def test_a_trace_that_is_not_one_is_refused_with_its_shape(ada: Person, content: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ada.add(content, kind="tool_trace")
    assert said in str(caught.value)
    assert ada.ids("grep") == []


def test_metadata_of_a_trace_is_checked_too(ada: Person) -> None:
    with pytest.raises(InvalidInput, match="milliseconds"):
        ada.add("It ran.", kind="tool_trace", metadata={"tool": "grep", "duration_ms": "fast"})


def test_json_of_other_kinds_is_text(ada: Person) -> None:
    cube = ada.keep(trace(result=1), kind="document")
    assert ada.text(cube) == trace(result=1)
    assert metadata(ada, cube) == {}


def test_a_tools_turn_in_a_conversation_is_a_trace_where_it_is_one(ada: Person) -> None:
    turns = [
        {"role": "user", "content": trace(result="said by a person")},
        {"role": "tool", "content": trace(result="two matches", outcome="ok")},
        {"role": "tool", "content": "42 rows", "name": "query"},
        {"role": "tool", "content": "just words"},
        {"role": "tool", "content": '{"tool": 5, "result": 1}'},
    ]
    ids = [cube["id"] for cube in ada.add(messages=turns, session="s")["cubes"]]
    kinds = [ada.search(ids=[cube])["hits"][0]["kind"] for cube in ids]
    assert kinds == ["dialogue", "tool_trace", "tool_trace", "dialogue", "dialogue"]
    assert ada.ids("matches rows", where={"tool": "grep"}) == [ids[1]]
    assert ada.ids("matches rows", where={"tool": "query"}) == [ids[2]]
    assert ada.text(ids[2]) == "42 rows"


def test_turns_called_traces_are_never_refused_for_what_a_tool_printed(ada: Person) -> None:
    turns = [{"role": "tool", "content": '{"tool": broken', "name": "cat"}, {"role": "tool", "content": '{"tool": 1}'}]
    added = ada.add(messages=turns, kind="tool_trace")
    assert [ada.search(ids=[cube["id"]])["hits"][0]["kind"] for cube in added["cubes"]] == ["tool_trace"] * 2


def test_the_same_trace_with_the_same_ref_is_one_memory(ada: Person) -> None:
    first = ada.keep(trace(result="r" * 20_000), kind="tool_trace", ref="call-1")
    assert ada.add(trace(result="r" * 20_000), kind="tool_trace", ref="call-1")["unchanged"] == [first]


def test_a_trace_nested_very_deep_is_refused_and_one_without_a_name_is_text(ada: Person) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    with pytest.raises(InvalidInput, match="not JSON"):
        ada.add('{"tool": "grep", "result": ' + deep + "}", kind="tool_trace")
    assert ada.keep('{"a": ' + deep + "}", kind="tool_trace")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8) | st.sampled_from(["arguments", "result", "error"]), VALUES))
def test_tracing_twice_is_tracing_once_and_words_are_never_lost(fields: dict[str, Any]) -> None:
    given_fields = {"tool": "grep", **{key: value for key, value in fields.items() if key not in ("tool", "outcome")}}
    given_fields.pop("duration_ms", None)
    draft = Snapshot(content=json.dumps(given_fields), kind="tool_trace")
    once = traced(draft, meant=True)
    assert traced(once, meant=True) == once
    kept = once.content + json.dumps(once.metadata, ensure_ascii=False)
    for value in given_fields.values():
        if isinstance(value, str):
            assert value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() in kept or "\ufffd" in kept
