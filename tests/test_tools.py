"""The tools as a host uses them: end to end over a real process, in both eras of the protocol and in two languages.

Every structured result is held to its tool's output schema by the client, with no field beside those it names.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from stdio_client import COMMAND, ERAS, Outcome, Server, checked, environment, serving

pytestmark = pytest.mark.slow

CORE = [
    "memory_add", "memory_search", "memory_context", "memory_update", "memory_fuse", "memory_promote",
    "memory_forget", "memory_history", "memory_undo",
]  # fmt: skip
SEEN_BY_A_MODEL, WHOLE = 7_168, 12_288
"""Bytes of tools/list, as compact JSON: without output schemas, and whole."""


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), request.param) as opened:
        yield opened


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_the_core_tools_are_listed_in_a_fixed_order(server: Server) -> None:
    assert list(server.tools()) == CORE
    assert [tool["name"] for tool in server.request("tools/list")["tools"]] == CORE


def test_what_a_session_pays_for_the_tools_is_within_its_budgets(server: Server) -> None:
    tools = list(server.tools().values())
    assert len(compact({"tools": [seen(tool) for tool in tools]})) <= SEEN_BY_A_MODEL
    assert len(compact({"tools": tools})) <= WHOLE


def seen(tool: dict[str, Any]) -> dict[str, Any]:
    """What a model sees of a tool."""
    return {key: part for key, part in tool.items() if key != "outputSchema"}


@pytest.mark.parametrize("name", CORE)
def test_every_tool_says_what_it_is_and_what_it_takes(server: Server, name: str) -> None:
    tool = server.tools()[name]
    assert tool["title"]
    assert len(tool["description"]) > 20
    hints = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert {hint for hint, value in tool["annotations"].items() if isinstance(value, bool)} == hints
    for schema in (tool["inputSchema"], tool["outputSchema"]):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert tool["inputSchema"]["additionalProperties"] is False
    unbounded = [".".join(path) for path in _unbounded(tool["inputSchema"], (name,))]
    assert unbounded == []


def _unbounded(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where arguments have no type, or no bound on how much they hold."""
    for option in schema.get("anyOf", ()):
        yield from _unbounded(option, path)
    for key, part in schema.get("properties", {}).items():
        yield from _unbounded(part, (*path, key))
    if {"anyOf", "properties", "enum"} & set(schema) or schema.get("type") == "boolean":
        return
    bounds = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}
    if bounds.get(schema.get("type", ""), "maximum") not in schema:
        yield path
    if schema.get("type") == "array":
        yield from _unbounded(schema["items"], (*path, "[]"))


def test_only_forgetting_is_marked_destructive_and_only_reading_read_only(server: Server) -> None:
    marked = {name: tool["annotations"] for name, tool in server.tools().items()}
    assert [name for name, hints in marked.items() if hints["destructiveHint"]] == ["memory_forget"]
    assert [name for name, hints in marked.items() if hints["readOnlyHint"]] == [
        "memory_search", "memory_context", "memory_history",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Grace prefers green tea over coffee in the morning.", "What does Grace drink in the morning?"),
        ("小王对花生过敏，聚餐时要避开含花生的菜。", "小王对什么食物过敏？"),
    ],
    ids=["english", "chinese"],
)
def test_what_was_added_is_found_with_its_origin_and_full_text(server: Server, said: str, asked: str) -> None:
    added = server.done(
        "memory_add", content=said, kind="preference", tags=["food", "饮食"], source="https://example.org/notes",
        time="2026-03-05", metadata={"by": "tests"},
    )  # fmt: skip
    (cube,) = added["cubes"]
    assert added["op"]
    outcome = server.call("memory_search", query=asked)
    hit = outcome.data["hits"][0]
    assert (hit["id"], hit["text"], hit["kind"], hit["space"]) == (cube["id"], said, "preference", "personal")
    assert hit["valid_from"].startswith("2026-03-05")
    for part in (cube["id"], "2026-03-05", "https://example.org/notes", "preference", said):
        assert part in outcome.text
    again = server.done("memory_add", content=said, kind="preference")
    assert (again["cubes"], again["unchanged"], again["op"]) == ([], [cube["id"]], None)


def test_the_text_of_a_search_holds_every_hit_whole_and_is_not_the_json(server: Server) -> None:
    for n in range(3):
        server.keep(f"Step {n} of the launch plan:\n- check the valves {n}\n- sign the form {n}", source=f"plan {n}")
    outcome = server.call("memory_search", query="launch plan valves form", top_k=3)
    assert len(outcome.data["hits"]) == 3
    for hit in outcome.data["hits"]:
        assert hit["text"] in outcome.text
        assert f'[id {hit["id"]} | {hit["valid_from"][:10]} | {hit["kind"]} | source "{hit["source"]}"' in outcome.text
    with pytest.raises(ValueError, match="line 1 column"):
        json.loads(outcome.text)
    assert '"hits"' not in outcome.text


def test_a_conversation_becomes_one_memory_a_message_in_order(server: Server) -> None:
    turns = [
        {"role": "user", "content": "我们周六去爬山吧。", "name": "小李", "time": "2026-04-01", "ref": "t1"},
        {"role": "assistant", "content": "Good idea, I will bring water.", "ref": "t2"},
    ]
    added = server.done("memory_add", messages=turns, session="trip")
    assert len(added["cubes"]) == 2
    hits = server.done("memory_search", query="爬山", session="trip", around=1)["hits"]
    assert hits[0]["text"] == "小李: 我们周六去爬山吧。\nassistant: Good idea, I will bring water."
    assert hits[0]["refs"] == ["t1", "t2"]


def test_an_update_makes_a_version_that_history_tells_and_undo_takes_back(server: Server) -> None:
    cube = server.keep("The meeting is on Tuesday.")
    changed = server.done("memory_update", id=cube, content="The meeting is on Thursday.", tags=["work"])
    assert changed["version"] == 2
    told = server.call("memory_history", id=cube)
    texts = [version["text"] for version in told.data["versions"]]
    assert texts == ["The meeting is on Tuesday.", "The meeting is on Thursday."]
    assert all(text in told.text for text in texts)
    (operation,) = server.done("memory_history", op=changed["op"])["operations"]
    assert (operation["verb"], operation["principal"], operation["client"]) == ("update", "ada", "tests 1")
    undone = server.done("memory_undo", op=changed["op"])
    assert undone["undone"] == [cube]
    assert server.done("memory_search", ids=[cube])["hits"][0]["text"] == "The meeting is on Tuesday."
    assert "cannot be undone" not in server.refused("memory_undo", op=changed["op"])


def test_fused_memories_give_way_to_the_one_that_stands_for_them_until_that_is_undone(server: Server) -> None:
    one = server.keep("Oskar restores clocks in a cellar.", time="2026-02-01")
    other = server.keep("Oskar restores clocks in a cellar. He sells them in spring.", time="2026-03-01", kind="event")
    fused = server.call("memory_fuse", ids=[other, one])
    assert fused.data["merged"] == [other, one]
    assert all(cube in fused.text for cube in (fused.data["id"], one, other, fused.data["op"]))
    (hit,) = server.done("memory_search", query="Who restores clocks?", top_k=1)["hits"]
    assert (hit["id"], hit["text"]) == (
        fused.data["id"], "Oskar restores clocks in a cellar.\nHe sells them in spring."
    )  # fmt: skip
    assert server.done("memory_search", ids=[one])["hits"][0]["state"] == "merged"
    assert fused.data["id"] in server.refused("memory_fuse", ids=[one, hit["id"]])
    server.done("memory_undo", op=fused.data["op"])
    assert {one, other} <= set(_found(server, "Who restores clocks?"))


def test_pinning_freezing_feedback_and_links_are_updates_too(server: Server) -> None:
    one, other = server.keep("Ada owns the red bicycle."), server.keep("The red bicycle has a flat tyre.")
    assert server.done("memory_update", id=one, links=[{"to": other, "relation": "about"}], pin=True)["op"]
    assert server.done("memory_update", id=one, freeze=True)["state"] == "frozen"
    assert "frozen" in server.refused("memory_update", id=one, content="Ada sold the red bicycle.")
    assert server.done("memory_update", id=one, freeze=False, feedback="useful")["op"]
    assert server.done("memory_update", id=one, pin=True)["op"] is None


def test_a_block_for_a_prompt_stays_the_same_from_turn_to_turn(server: Server) -> None:
    cube = server.keep("Heidi keeps bees behind the mill.")
    first = server.call("memory_context", task="What does Heidi keep?", budget_tokens=2_000)
    assert cube in [row["id"] for row in first.data["cubes"]]
    assert first.text == first.data["prefix"] + first.data["suffix"]
    second = server.done("memory_context", task="And where does Heidi keep them?", budget_tokens=2_000)
    assert second["prefix"].startswith(first.data["prefix"])
    server.done("memory_forget", ids=[cube])
    assert "bees" not in server.call("memory_context", task="What does Heidi keep?", budget_tokens=2_000).text
    assert "budget_tokens" in server.refused("memory_context", task="x", budget_tokens=1)
    assert "is empty" in server.refused("memory_context", task=" ")


def test_a_promotion_without_a_model_says_what_to_install_and_set(server: Server) -> None:
    cube = server.keep("Ivan keeps goats.")
    assert "config model PATH" in server.refused("memory_promote", ids=[cube], to="activation")
    untrained = server.refused("memory_promote", ids=[cube], to="parametric")
    assert "config base_model" in untrained or "pip install" in untrained
    assert server.done("memory_promote", ids=[cube], to="working")["moved"] == [cube]
    moved = server.call("memory_promote", ids=[cube], to="archive")
    assert moved.data["moved"] == [cube]
    assert cube in moved.text


def test_the_local_model_is_asked_only_where_there_is_one(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF and no more")
    with serving(tmp_path / "home", MEMOS_MODEL=str(model)) as server:
        assert list(server.tools()) == [*CORE, "memory_ask"]
        (tool,) = [tool for name, tool in server.tools().items() if name == "memory_ask"]
        assert tool["inputSchema"]["additionalProperties"] is False
        assert [".".join(path) for path in _unbounded(tool["inputSchema"], ("memory_ask",))] == []
        assert len(compact({"tools": [seen(tool) for tool in server.tools().values()]})) <= SEEN_BY_A_MODEL
        assert len(compact({"tools": list(server.tools().values())})) <= WHOLE
        server.keep("Judy plays the harp.")
        said = server.refused("memory_ask", question="What does Judy play?")
        assert "llama" in said
        assert server.done("memory_search", query="harp")["hits"]


def test_superseding_hides_the_old_memory_and_keeps_it_readable(server: Server) -> None:
    old = server.keep("Bruno lives in Lisbon.")
    new = server.keep("Bruno lives in Porto.", supersedes=[old])
    found = [hit["id"] for hit in server.done("memory_search", query="Where does Bruno live?")["hits"]]
    assert new in found
    assert old not in found
    both = server.done("memory_search", query="Where does Bruno live?", include=["superseded"])["hits"]
    assert {new, old} <= {hit["id"] for hit in both}


def test_forgetting_by_id_archives_and_can_be_undone(server: Server) -> None:
    cube = server.keep("The old password hint is a river.")
    plan = server.done("memory_forget", ids=[cube], dry_run=True)
    assert (plan["would_affect"], plan["affected"], plan["op"]) == ([cube], [], None)
    gone = server.call("memory_forget", ids=[cube])
    assert gone.data["affected"] == [cube]
    assert cube in gone.text
    assert cube not in _found(server, "old password hint")
    server.done("memory_undo", op=gone.data["op"])
    assert cube in _found(server, "old password hint")


def test_forgetting_by_a_filter_needs_the_token_of_its_dry_run(server: Server) -> None:
    doomed = [server.keep(f"Obsolete entry number {n}.", tags=["obsolete"]) for n in range(3)]
    assert "dry_run=true" in server.refused("memory_forget", tags=["obsolete"], mode="purge")
    plan = server.call("memory_forget", tags=["obsolete"], mode="purge", dry_run=True)
    assert sorted(plan.data["would_affect"]) == sorted(doomed)
    assert plan.data["confirm"] in plan.text
    late = server.keep("Obsolete entry that came later.", tags=["obsolete"])
    assert "have changed" in server.refused(
        "memory_forget", tags=["obsolete"], mode="purge", confirm=plan.data["confirm"]
    )
    token = server.done("memory_forget", tags=["obsolete"], mode="purge", dry_run=True)["confirm"]
    purged = server.done("memory_forget", tags=["obsolete"], mode="purge", confirm=token)
    assert sorted(purged["affected"]) == sorted([*doomed, late])
    assert "purged" in server.refused("memory_undo", op=purged["op"])
    assert "check the id" in server.refused("memory_search", ids=doomed)


def test_nothing_found_and_nothing_to_change_are_said_in_words(server: Server) -> None:
    empty = server.call("memory_search", query="zebra crossing", tags=["no-such-tag"])
    assert empty.data["hits"] == []
    assert empty.text == empty.data["next"]
    assert server.done("memory_forget", ids=[server.keep("Twice.")], dry_run=True)["affected"] == []


def test_texts_cut_to_fit_are_said_to_be_cut(server: Server) -> None:
    long = server.keep("word " * 1_000)
    outcome = server.call("memory_search", ids=[long], max_chars=300)
    assert len(outcome.data["hits"][0]["text"]) <= 300
    assert outcome.data["next"] in outcome.text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_sdks_own_client_uses_every_tool(tmp_path: Path, mode: Any) -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=list(COMMAND[1:]), env=environment(tmp_path / "home")
    )

    async def use() -> list[str]:
        async with Client(parameters, mode=mode) as client:
            listed = [tool.model_dump(by_alias=True, exclude_none=True) for tool in (await client.list_tools()).tools]
            tools = {tool["name"]: tool for tool in listed}
            used = []

            async def call(name: str, **arguments: Any) -> Outcome:
                result = await client.call_tool(name, arguments)
                used.append(name)
                return checked(tools[name], result.model_dump(by_alias=True, exclude_none=True, mode="json"))

            added = await call("memory_add", content="Carla repairs violins. 卡拉修理小提琴。")
            cube = added.data["cubes"][0]["id"]
            assert (await call("memory_search", query="谁修理小提琴？")).data["hits"][0]["id"] == cube
            assert "卡拉修理小提琴" in (await call("memory_context", task="谁修理小提琴？")).data["prefix"]
            assert (await call("memory_update", id=cube, pin=True)).data["version"] == 2
            assert len((await call("memory_history", id=cube)).data["versions"]) == 2
            other = (await call("memory_add", content="Carla lives in Cremona.")).data["cubes"][0]["id"]
            fused = await call("memory_fuse", ids=[cube, other])
            assert fused.data["merged"] == [cube, other]
            assert (await call("memory_undo", op=fused.data["op"])).data["undone"]
            assert (await call("memory_promote", ids=[cube], to="plaintext")).data == {"moved": [], "op": None}
            forgotten = await call("memory_forget", ids=[cube])
            assert (await call("memory_undo", op=forgotten.data["op"])).data["undone"] == [cube]
            assert (await call("memory_undo", op="unknown")).failed
            with pytest.raises(MCPError, match="There is no tool"):
                await client.call_tool("memory_guess", {})
            return used

    with anyio.from_thread.start_blocking_portal() as portal:
        assert sorted(set(portal.call(use))) == sorted(CORE)


def test_a_description_may_say_no_more_than_the_tool_does(server: Server) -> None:
    """What one tool's words name of another tool's must exist."""
    named = set(re.findall(r"memory_\w+", json.dumps(server.request("tools/list"))))
    assert named <= set(server.tools())


def _found(server: Server, query: str) -> list[str]:
    return [hit["id"] for hit in server.done("memory_search", query=query)["hits"]]
