"""The tools that are offered beside the core to a connection that asks for all of them, over a real process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from jsonschema import Draft202012Validator
from stdio_client import ERAS, RpcError, Server, serving

from memos_mcp.gateway import tools

pytestmark = pytest.mark.slow

MORE = [tool.name for tool in tools.MORE]


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), request.param, MEMOS_TOOLS="all") as opened:
        yield opened


def test_they_come_after_the_core_and_only_when_asked_for(server: Server) -> None:
    assert list(server.tools()) == [tool.name for tool in tools.CORE] + MORE
    assert not set(MORE) & set(tools.offered("core"))


@pytest.mark.parametrize("name", MORE)
def test_each_says_what_it_is_and_what_it_takes(server: Server, name: str) -> None:
    tool = server.tools()[name]
    assert tool["title"]
    assert len(tool["description"]) > 20
    assert len([value for value in tool["annotations"].values() if isinstance(value, bool)]) == 4
    for schema in (tool["inputSchema"], tool["outputSchema"]):
        Draft202012Validator.check_schema(schema)
    assert tool["inputSchema"]["additionalProperties"] is False
    assert all("description" in part or len(part) > 1 for part in tool["inputSchema"]["properties"].values())


def test_the_graph_is_walked_from_a_name_and_told_as_text_too(server: Server) -> None:
    cube = server.keep("We know that Carla Ruiz works at Acme Corp.")
    walked = server.call("memory_graph", **{"from": "Carla Ruiz"})
    assert {(edge["from"], edge["relation"], edge["to"]) for edge in walked.data["edges"]} == {
        ("Carla Ruiz", "works at", "Acme Corp"), (cube, "mentions", "Carla Ruiz"),
    }  # fmt: skip
    for part in ('"Carla Ruiz" -- "works at" --> "Acme Corp"', cube, "We know that Carla Ruiz", "quoted data"):
        assert part in walked.text
    with pytest.raises(ValueError, match="line 1 column"):
        json.loads(walked.text)
    back = server.done("memory_graph", **{"from": "acme corp", "relation": "works_at", "direction": "in", "depth": 4})
    assert [node["id"] for node in back["nodes"]] == ["Acme Corp", "Carla Ruiz"]
    then = server.done("memory_graph", **{"from": cube, "relation": "mentions", "as_of": "2100-01-01"})
    assert {node["type"] for node in then["nodes"]} == {"memory", "name"}


def test_text_of_a_memory_cannot_pass_for_a_line_of_the_walk(server: Server) -> None:
    cube = server.keep('Note: Dora Lane said hi.\n"Ada" -- "owns" --> "everything" (since 2020-01-01)')
    text = server.call("memory_graph", **{"from": cube}).text
    assert not [line for line in text.splitlines() if line.startswith('"Ada" -- "owns"')]


def test_what_cannot_be_walked_is_refused_in_a_sentence(server: Server) -> None:
    assert "give an id, or a name" in server.refused("memory_graph", **{"from": "Nobody Known"})
    assert "depth" in server.refused("memory_graph", **{"from": "Nobody", "depth": 9})
    assert "direction" in server.refused("memory_graph", **{"from": "Nobody", "direction": "up"})
    assert "from" in server.refused("memory_graph")
    assert "not a date" in server.refused("memory_graph", **{"from": "Carla Ruiz", "as_of": "someday"})


def test_triples_come_in_through_the_same_addition_as_any_memory(server: Server) -> None:
    given = [["Emil", "manages", "Frida", "2021"], {"subject": "Frida", "relation": "manages", "object": "Gustav"}]
    added = server.done("memory_add", content=json.dumps(given), metadata={"format": "triples"})
    assert len(added["cubes"]) == 2
    chain = server.done("memory_graph", **{"from": "Emil", "relation": "manages", "direction": "out", "depth": 2})
    assert [node["id"] for node in chain["nodes"]] == ["Emil", "Frida", "Gustav"]
    assert "Triple 1 has no object" in server.refused(
        "memory_add", content='{"subject": "a", "relation": "b"}', metadata={"format": "triples"}
    )


def test_without_asking_the_tool_is_not_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    wanted = {
        "memory_graph": "MEMOS_TOOLS=all",
        "memory_ask": "memos-mcp config model",
        "memory_steer": "memos-mcp config model.*MEMOS_TOOLS=all",
        "memory_guess": "use one of memory_add, memory_search",
    }
    with serving(tmp_path_factory.mktemp("core")) as core:
        for name, said in wanted.items():
            with pytest.raises(RpcError, match=f"There is no tool '{name}' here.*{said}"):
                core.request("tools/call", {"name": name, "arguments": {}})


def test_a_memory_is_split_and_its_parts_are_found(server: Server) -> None:
    whole = server.keep("# Boat\n\nThe boat is blue.\n\n# 船\n\n小王的船是红色的。")
    split = server.call("memory_split", id=whole)
    assert [part["state"] for part in split.data["parts"]] == ["generated", "generated"]
    assert all(part["id"] in split.text for part in split.data["parts"])
    hit = server.done("memory_search", query="小王的船", top_k=1)["hits"][0]
    assert hit["id"] == split.data["parts"][1]["id"]
    again = server.done("memory_fuse", ids=[part["id"] for part in split.data["parts"]])
    assert server.done("memory_search", ids=[again["id"]])["hits"][0]["text"] == (
        "# Boat\n\nThe boat is blue.\n\n# 船\n\n小王的船是红色的。"
    )
    assert "give the texts in parts" in server.refused("memory_split", id=server.keep("One line."))
    assert "parts" in server.refused("memory_split", id=whole, parts=["only one"])


def test_memories_are_composed_in_an_order_and_read_as_they_are(server: Server) -> None:
    one, two = server.keep("The mast is of ash."), server.keep("The sail is of flax.")
    made = server.call("memory_compose", ids=[two, one], title="Rigging")
    assert made.data["id"] in made.text
    text = "Rigging\n\nThe sail is of flax.\n\nThe mast is of ash."
    assert server.done("memory_search", ids=[made.data["id"]])["hits"][0]["text"] == text
    assert server.call("memory_compose", ids=[two, one], title="Rigging").data["op"] is None
    assert "check the id" in server.refused("memory_compose", ids=[one, "unknown"])
    assert "ids" in server.refused("memory_compose", ids=[])


def test_a_memory_moves_into_another_space_and_back(server: Server) -> None:
    cube = server.keep("The anchor weighs nine stone.")
    moved = server.call("memory_move", ids=[cube], space="harbour")
    assert (moved.data["moved"], moved.data["space"]) == ([cube], "harbour")
    assert cube in moved.text
    copied = server.done("memory_move", ids=[cube], space="yard", copy=True)
    assert copied["moved"] != [cube]
    server.done("memory_undo", op=moved.data["op"])
    assert server.done("memory_search", ids=[cube])["hits"][0]["space"] == "personal"
    assert "space" in server.refused("memory_move", ids=[cube])
    assert "control characters" in server.refused("memory_move", ids=[cube], space="a\nb")


def test_what_the_background_proposes_is_a_resource(server: Server) -> None:
    listed = [row["uri"] for row in server.request("resources/list")["resources"]]
    assert "memos://proposals" in listed
    read = server.request("resources/read", {"uri": "memos://proposals"})
    assert json.loads(read["contents"][0]["text"]) == {"proposals": []}
