"""Answers streamed from an OpenAI-compatible endpoint, against a real HTTP server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from chat_server import ChatServer

from memos_mcp.backends.openai_completions import OpenAICompletions
from memos_mcp.errors import InvalidInput, ModelUnavailable
from memos_mcp.ports import RemoteModel

PREFIX, REST = "Memories: 小王对花生过敏。\n", "What must Wang avoid?"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as opened:
        yield opened


def test_the_pieces_are_heard_as_they_come_and_add_up_to_the_answer(server: ChatServer) -> None:
    model: RemoteModel = OpenAICompletions(f"small@{server.url}", key="k")
    server.pieces = ["Pea", "", "nuts", " 🥜"]
    server.usage = {"prompt_tokens": 40, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 32}}
    heard: list[str] = []
    spoken = model.speak(PREFIX, REST, 8, heard.append)
    assert heard == ["Pea", "nuts", " 🥜"]
    assert (spoken.text, spoken.finish) == ("Peanuts 🥜", "stop")
    assert (spoken.prompt_tokens, spoken.cached_tokens, spoken.answer_tokens) == (40, 32, 3)
    assert 0 < spoken.first_token_s <= spoken.total_s
    assert server.keys == ["Bearer k"]


def test_the_prefix_begins_what_is_sent_and_nothing_else_stands_with_it(server: ChatServer) -> None:
    model = OpenAICompletions(f"small@{server.url}")
    server.pieces = ["x"]
    for rest in ("one", "two"):
        model.speak(PREFIX, rest, 8)
    model.speak("", "three", 8)
    said = [asked["messages"] for asked in server.asked]
    assert said[0][0] == said[1][0] == {"role": "system", "content": PREFIX}
    assert [messages[-1]["content"] for messages in said] == ["one", "two", "three"]
    assert [len(messages) for messages in said] == [2, 2, 1]
    assert {(asked["max_tokens"], asked["stream"], asked["temperature"]) for asked in server.asked} == {(8, True, 0)}
    unlike = [{**asked, "messages": None} for asked in server.asked]
    assert unlike[0] == unlike[1] == unlike[2]


def test_a_server_that_knows_no_stream_options_is_asked_without_and_never_again_with_them(server: ChatServer) -> None:
    server.refuses, server.pieces = "stream_options", ["yes"]
    model = OpenAICompletions(f"small@{server.url}")
    assert [model.speak(PREFIX, REST, 8).text for _ in range(2)] == ["yes", "yes"]
    assert ["stream_options" in asked for asked in server.asked] == [True, False, False]
    assert model.speak(PREFIX, REST, 8).cached_tokens is None


def test_llama_cpps_own_words_for_cached_tokens_are_understood(server: ChatServer) -> None:
    server.pieces, server.timings = ["yes"], {"cache_n": 512, "prompt_n": 9}
    assert OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8).cached_tokens == 512


def test_an_url_alone_asks_its_first_model(server: ChatServer) -> None:
    model = OpenAICompletions(server.url)
    server.pieces = ["yes"]
    assert model.name == server.url
    model.speak(PREFIX, REST, 8)
    assert model.name == server.asked[0]["model"] == "first-model"


def test_who_listens_can_end_the_answer(server: ChatServer) -> None:
    server.pieces = ["one", "two", "three"]

    def enough(piece: str) -> None:
        raise KeyboardInterrupt(piece)

    with pytest.raises(KeyboardInterrupt, match="one"):
        OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8, enough)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"{}", "500"),
        (401, b"{}", "key"),
        (200, b"data: {broken\n\n", "JSON"),
        (200, b'data: {"error": {"message": "out of memory"}}\n\n', "error"),
        (200, b"data: [1]\n\n", "error"),
        (200, b"\n", "before it began"),
        (200, b"data: [DONE]\n\n", "before it began"),
        (200, b'data: {"choices": [{"delta": {"content": 7}}]}\n\n', "before it began"),
        (200, b"data: " + b" " * 5_000_000 + b"\n\n", "without an end"),
    ],
)
def test_what_is_no_answer_is_said_in_a_sentence(server: ChatServer, status: int, body: bytes, said: str) -> None:
    server.status, server.body = status, body
    with pytest.raises(ModelUnavailable, match=said):
        OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8)


def test_an_answer_of_no_words_is_an_answer(server: ChatServer) -> None:
    server.pieces = []
    spoken = OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8)
    assert (spoken.text, spoken.finish) == ("", "stop")


def test_a_server_that_is_not_there_or_hangs_up_is_named() -> None:
    def hangs_up(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    for model in (
        OpenAICompletions("small@http://127.0.0.1:9/v1"),
        OpenAICompletions("small@http://there/v1", transport=httpx.MockTransport(hangs_up)),
    ):
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            model.speak(PREFIX, REST, 8)
    with pytest.raises(ModelUnavailable, match="names no models"):
        OpenAICompletions("http://127.0.0.1:9/v1").speak(PREFIX, REST, 8)
    with pytest.raises(InvalidInput, match="MODEL@URL"):
        OpenAICompletions("nowhere")


def test_an_endpoint_without_models_says_so() -> None:
    nothing = httpx.MockTransport(lambda _: httpx.Response(200, content=json.dumps({"data": []})))
    with pytest.raises(ModelUnavailable, match="names no model"):
        OpenAICompletions("http://there/v1", transport=nothing).speak(PREFIX, REST, 8)
