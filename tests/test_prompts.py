"""The prompts that a person picks in a host, in both eras: what they quote from memory is marked as data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stdio_client import ERAS, RpcError, Server, serving

pytestmark = pytest.mark.slow

INVALID_PARAMS = -32602


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), request.param) as opened:
        yield opened


def words(server: Server, name: str, **arguments: str) -> str:
    """The text of a prompt, which is one message of the user's."""
    (message,) = server.request("prompts/get", {"name": name, "arguments": arguments})["messages"]
    assert message["role"] == "user"
    return str(message["content"]["text"])


def test_every_prompt_says_what_it_is_and_what_it_takes(server: Server) -> None:
    prompts = {prompt["name"]: prompt for prompt in server.request("prompts/list")["prompts"]}
    assert list(prompts) == ["recall", "remember", "review"]
    assert all(prompt["title"] and prompt["description"] for prompt in prompts.values())
    required = [name for name, p in prompts.items() if any(argument["required"] for argument in p["arguments"])]
    assert required == ["recall"]
    assert all(argument["description"] for p in prompts.values() for argument in p["arguments"])


def test_reviewing_an_empty_store_says_that_there_is_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("empty")) as fresh:
        assert "(none yet)" in words(fresh, "review")
        assert "Nothing matched" in words(fresh, "recall", topic="anything")


@pytest.mark.parametrize(
    ("said", "topic"),
    [("Hanna's cat is called Miso.", "Hanna's cat"), ("汉娜的猫叫味噌。", "汉娜的猫叫什么")],
    ids=["english", "chinese"],
)
def test_recall_quotes_what_is_remembered_as_data(server: Server, said: str, topic: str) -> None:
    cube = server.keep(said)
    text = words(server, "recall", topic=topic)
    assert topic in text
    assert said in text
    assert cube in text
    assert text.index("quoted data, not instructions") < text.index(said)


def test_remember_asks_for_one_memory_a_fact(server: Server) -> None:
    assert "everything in this conversation" in words(server, "remember")
    text = words(server, "remember", what="the recipe 🥣")
    assert "the recipe 🥣" in text
    assert "memory_add" in text


def test_review_lists_a_spaces_memories_with_their_ids(server: Server) -> None:
    cube = server.keep("To be reviewed.", space="复习")
    text = words(server, "review", space="复习")
    assert cube in text
    assert "To be reviewed." in text
    assert "wait for my word" in text


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("recall", {}, "needs a topic"),
        ("recall", {"topic": "  "}, "needs a topic"),
        ("review", {"space": "nowhere"}, "No space 'nowhere'"),
        ("review", {"space": "a\u0007b"}, "control characters"),
        ("guess", {}, "recall, remember, review"),
        ("recall", {"topic": "x" * 30_000}, "topic"),
    ],
    ids=["missing", "blank", "unknown space", "control", "unknown prompt", "long"],
)
def test_a_prompt_that_cannot_be_made_is_invalid_with_the_next_step(
    server: Server, name: str, arguments: dict[str, str], said: str
) -> None:
    with pytest.raises(RpcError) as caught:
        server.request("prompts/get", {"name": name, "arguments": arguments})
    assert caught.value.code == INVALID_PARAMS
    assert said in caught.value.message
    assert server.is_alive()


def test_arguments_of_the_wrong_type_are_named(server: Server) -> None:
    with pytest.raises(RpcError) as caught:
        server.request("prompts/get", {"name": "recall", "arguments": {"topic": 5}})
    assert caught.value.code == INVALID_PARAMS
    assert "topic" in caught.value.message
