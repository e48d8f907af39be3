"""Templates: prompts with variables that are kept as memories, offered to a host, and filled when one is picked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from person import Clock, Person
from stdio_client import ERAS, LEGACY, RpcError, Server, serving

from memos_mcp import templates
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.errors import InvalidInput
from memos_mcp.gateway import prompts
from memos_mcp.states import State

pytestmark = pytest.mark.slow

CHANGED = "notifications/prompts/list_changed"
LETTER = "Dear {{name}},\nthank you for {{gift|your letter}}. Yours, {{ from | Ada }}"


def template(text: str, **metadata: Any) -> templates.Template:
    """A kept template of this text."""
    snapshot = Snapshot(text, "template", metadata=metadata)
    cube = Cube(1, "01J", 1, "personal", 1, State.GENERATED, "ada", "", "", None, "en", "", 0, None, snapshot)
    return templates.named([cube], [])[0]


def names(person: Person) -> list[str]:
    return [prompt.name for prompt in prompts.kept(person.api, person.caller)]


def filled(person: Person, name: str, **given: str) -> str:
    return prompts.get(person.api, person.caller, name, given)


def test_variables_are_found_in_order_each_once() -> None:
    found = templates.variables("{{a}} {{b|x}} {{ a }} {{变量}} {{c|}} {{d-1.x}} {{b}}")
    assert [(v.name, v.default) for v in found] == [
        ("a", None), ("b", "x"), ("变量", None), ("c", ""), ("d-1.x", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "{name}", "{{}}", "{{ }}", "{{1st}}", "{{a b}}", "{{a", "a}}", "{{a+b}}", "{{\n}}", "{% if a %}", "🙂{ {a} }"],
)
def test_what_is_no_variable_is_text(text: str) -> None:
    assert templates.variables(text) == ()
    assert templates.fill(template(text), {}) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r"\{{name\}} is {{name}}", "{{name}} is Bo"),
        (r"C:\\{{name}}", r"C:\Bo"),
        (r"C:\dir\{x}", r"C:\dir\{x}"),
        ("{{name|x}} {{name}}", "x x"),
        ("{{other|x}} {{other|y}} {{other}} {{name}}", "x y x Bo"),
        ("{{name}}{{name}}", "BoBo"),
        ("{{{name}}}", "{Bo}"),
    ],
)
def test_a_template_is_filled(text: str, said: str) -> None:
    kept = template(text)
    assert templates.fill(kept, {v.name: "Bo" for v in kept.variables if v.default is None}) == said


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert templates.fill(template("{{a}} {{b}}"), {"a": "{{b}}", "b": r"\{{a}}"}) == r"{{b}} \{{a}}"


@given(st.text(), st.text())
def test_any_text_is_a_template_and_any_value_fills_it(text: str, value: str) -> None:
    kept = template(text or " ")
    said = templates.fill(kept, {v.name: f"x{value}" for v in kept.variables})
    if "{{" not in text and "}}" not in text:
        assert said == (text or " ")


@pytest.mark.parametrize(
    ("given_values", "said"),
    [
        ({}, "needs name, day: give each a value"),
        ({"name": "Bo", "day": " \n"}, "needs day"),
        ({"name": "Bo", "day": "x", "dya": "y"}, "no variable 'dya': it takes name, day, from"),
        ({"name": "B" * 100_001, "day": "x"}, "may have 100,000"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_the_next_step(given_values: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        templates.fill(template("{{name}} {{day}} {{from|Ada}}"), given_values)
    assert said in str(caught.value)


def test_a_template_is_named_by_its_metadata_its_ref_or_its_first_words(ada: Person) -> None:
    ada.keep("Text {{a}}", kind="template", metadata={"name": "Weekly Report!"}, ref="r-1")
    ada.keep("Other {{a}}", kind="template", ref="code_review")
    ada.keep("# 写信给 {{name}}\nmore", kind="template")
    ada.keep("🙂🙂", kind="template")
    assert names(ada)[:3] == ["Weekly-Report", "code_review", "写信给-name"]
    assert names(ada)[3] == "template"


def test_names_are_unique_and_stay_usable_when_others_come_and_go(ada: Person) -> None:
    first = ada.keep("First {{a}}", kind="template", metadata={"name": "note"})
    ada.keep("Second {{a}}", kind="template", metadata={"name": "note"})
    ada.keep("Third", kind="template", metadata={"name": "recall"})
    listed = names(ada)
    assert len(set(listed)) == 3
    assert listed[0] == "note"
    assert "recall" not in listed
    longer = listed[1]
    assert filled(ada, longer, a="1") == "Second 1"
    ada.forget(first)
    assert filled(ada, longer, a="1") == "Second 1"
    assert filled(ada, "note", a="1") == "Second 1"


def test_a_template_is_offered_with_its_variables_as_arguments(ada: Person) -> None:
    about = {"name": "thanks", "title": "Thank-you letter", "variables": {"name": "Who gave it"}}
    ada.keep(LETTER, kind="template", metadata=about)
    (prompt,) = prompts.kept(ada.api, ada.caller)
    assert (prompt.name, prompt.title, prompt.description) == ("thanks", "Thank-you letter", "Dear {{name}},")
    arguments = [(a.name, a.description, a.required) for a in prompt.arguments or []]
    assert arguments == [
        ("name", "Who gave it", True), ("gift", "default: your letter", False), ("from", "default: Ada", False)
    ]  # fmt: skip


def test_an_updated_template_is_offered_in_its_newest_version(ada: Person) -> None:
    cube = ada.keep("Old {{a}}", kind="template", ref="t")
    op = ada.update(cube, content="New {{b}}")["op"]
    assert filled(ada, "t", b="1") == "New 1"
    ada.undo(op)
    assert filled(ada, "t", a="1") == "Old 1"


def test_templates_that_are_over_are_not_offered(ada: Person, clock: Clock) -> None:
    archived = ada.keep("A", kind="template", ref="a")
    replaced = ada.keep("B", kind="template", ref="b")
    ada.keep("C", kind="template", ref="c", supersedes=[replaced])
    ada.keep("D", kind="template", ref="d", expires=clock.advance(days=1))
    ada.keep("E", kind="document", ref="e")
    clock.advance(days=2)
    op = ada.forget(archived)["op"]
    assert names(ada) == ["c"]
    ada.undo(op)
    assert names(ada) == ["a", "c"]
    ada.forget(archived, mode="purge")
    assert names(ada) == ["c"]
    with pytest.raises(InvalidInput, match="no prompt 'd': use recall, remember, review, c"):
        filled(ada, "d")


def test_nobody_is_offered_what_they_may_not_read(ada: Person, bob: Person) -> None:
    ada.keep("Private {{a}}", kind="template", ref="mine")
    ada.keep("Shared {{a}}", kind="template", ref="ours", space="team")
    assert names(bob.at("bobs")) == []
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    (prompt,) = prompts.kept(bob.api, bob.at("bobs").caller)
    assert prompt.name == "ours"
    assert "by ada, from the space 'team'" in (prompt.description or "")
    with pytest.raises(InvalidInput):
        filled(bob.at("bobs"), "mine", a="1")


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), request.param) as opened:
        yield opened


def test_a_kept_template_is_a_prompt_of_the_server(server: Server) -> None:
    server.keep(LETTER, kind="template", ref="thanks")
    listed = {prompt["name"]: prompt for prompt in server.request("prompts/list")["prompts"]}
    assert list(listed) == ["recall", "remember", "review", "thanks"]
    assert [a["name"] for a in listed["thanks"]["arguments"] if a["required"]] == ["name"]
    given_values = {"name": "孔", "gift": ""}
    (message,) = server.request("prompts/get", {"name": "thanks", "arguments": given_values})["messages"]
    assert message["content"]["text"] == "Dear 孔,\nthank you for your letter. Yours, Ada"
    with pytest.raises(RpcError) as caught:
        server.request("prompts/get", {"name": "thanks", "arguments": {}})
    assert caught.value.code == -32602
    assert "needs name" in caught.value.message


@pytest.mark.parametrize("era", ERAS)
def test_a_host_hears_when_the_prompts_are_others(tmp_path: Path, era: str) -> None:
    with serving(tmp_path / "home", era) as server:
        assert server.hello["capabilities"]["prompts"] == {"listChanged": True}
        if era != LEGACY:
            server.send("subscriptions/listen", {"notifications": {"promptsListChanged": True}})
            server.notification("notifications/subscriptions/acknowledged")
        cube = server.keep("Say {{word}}", kind="template")
        server.notification(CHANGED)
        server.done("memory_update", id=cube, content="Say {{words}}")
        server.notification(CHANGED)
        server.keep("Not a template.")
        assert server.is_alive()
        assert CHANGED not in [message["method"] for message in server.notifications]
