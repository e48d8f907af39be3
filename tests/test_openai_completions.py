"""Answers streamed from an OpenAI-compatible endpoint, against a real HTTP server on this machine."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator

import httpx
import pytest
from chat_server import ChatServer

from memos_mcp.backends.openai_completions import OpenAICompletions
from memos_mcp.errors import ContextTooLong, InvalidInput, ModelUnavailable
from memos_mcp.ports import RemoteModel, Said

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
    assert server.asked[0]["model"] == "first-model"
    assert model.name == f"first-model at {server.url}"


def test_who_listens_can_end_the_answer(server: ChatServer) -> None:
    server.pieces = ["one", "two", "three"]

    def enough(piece: str) -> None:
        raise KeyboardInterrupt(piece)

    with pytest.raises(KeyboardInterrupt, match="one"):
        OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8, enough)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"{}", "500.*that server's log"),
        (401, b"{}", "wants a key: .*config model_api_key"),
        (403, b"{}", "wants a key"),
        (404, b'{"error": {"message": "no such model"}}', r"404 \(no such model\): it has no model 'small'"),
        (404, b"<html>", "404: it has no model 'small', or no such path"),
        (503, b'{"error": {"message": "Loading model"}}', r"503 \(Loading model\): it is busy or still loading"),
        (400, b'{"detail": "temperature must be above 0"}', r"400 \(temperature must be above 0\)"),
        (400, b"\xff\x00", "400: see"),
        (200, b"data: {broken\n\n", "JSON"),
        (200, b'data: {"error": {"message": "out of memory"}}\n\n', "error"),
        (200, b"data: [1]\n\n", "error"),
        (200, b'data: {"choices": [{"delta": {"content": "half"}}]}\n\n', "broke its answer off in the middle"),
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


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"error": {"message": "This model's maximum context length is 4096 tokens", "code": 400}}),
        (400, {"error": {"code": 400, "message": "request (9000 tokens) exceeds the available context size (4096)"}}),
        (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}),
        (500, {"message": "Requested tokens exceed context window of 512"}),
        (200, None),
    ],
)
def test_a_prompt_that_is_too_long_is_told_from_other_refusals(
    server: ChatServer, status: int, said: dict[str, object] | None
) -> None:
    in_stream = b'data: {"error": {"message": "context length exceeded"}}\n\n'
    server.status, server.body = status, in_stream if said is None else json.dumps(said).encode()
    with pytest.raises(ContextTooLong, match="name fewer ids"):
        OpenAICompletions(f"small@{server.url}").speak(PREFIX, REST, 8)


def test_an_answer_that_is_cut_in_the_middle_is_no_answer(server: ChatServer) -> None:
    model, heard = OpenAICompletions(f"small@{server.url}"), list[str]()
    server.pieces, server.short_of = ["Pea", "nuts"], 150
    with pytest.raises(ModelUnavailable, match="broke its answer off in the middle, and nothing of it is kept"):
        model.speak(PREFIX, REST, 8, heard.append)
    assert heard[:1] == ["Pea"]
    server.short_of = 0
    assert model.speak(PREFIX, REST, 8).text == "Peanuts"


def test_each_question_has_a_connection_of_its_own() -> None:
    with ChatServer(keeps_open=True) as server:
        model = OpenAICompletions(f"small@{server.url}")
        server.pieces = ["yes"]
        for _ in range(3):
            model.speak(PREFIX, REST, 8)
    assert len(set(server.ports)) == 3, "some servers hang up on a connection that was left open"


def test_a_server_that_says_nothing_is_given_up(server: ChatServer) -> None:
    server.holding = threading.Event()
    with pytest.raises(ModelUnavailable, match=r"said nothing for 0 seconds: see whether that server is overloaded"):
        OpenAICompletions(f"small@{server.url}", timeout_s=0.2).speak(PREFIX, REST, 8)


def test_turns_stand_between_prefix_and_question_as_they_were_said(server: ChatServer) -> None:
    server.pieces = ["yes"]
    OpenAICompletions(f"small@{server.url}").speak(PREFIX, "three", 8, turns=[Said("one", "1"), Said("two", "2")])
    said = [(message["role"], message["content"]) for message in server.asked[0]["messages"]]
    assert said == [
        ("system", PREFIX), ("user", "one"), ("assistant", "1"), ("user", "two"), ("assistant", "2"), ("user", "three"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "window"),
    [
        ([{"id": "small", "max_model_len": 4096}], 4096),
        ([{"id": "other", "max_model_len": 1}, {"id": "small", "meta": {"n_ctx": 512, "n_ctx_train": 9}}], 512),
        ([{"id": "small"}], None),
        ([{"id": "small", "max_model_len": "many"}, "noise"], None),
        ([], None),
    ],
)
def test_how_much_it_can_read_is_taken_from_the_list_of_models(
    server: ChatServer, models: list[dict[str, object]], window: int | None
) -> None:
    server.models = models
    assert OpenAICompletions(f"small@{server.url}").window() == window


def test_a_key_goes_to_its_server_and_into_no_message(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = OpenAICompletions(f"small@{server.url}", key=" sk-very-secret\n")
    server.status, server.body = 401, b"{}"
    with pytest.raises(ModelUnavailable) as refused:
        model.speak(PREFIX, REST, 8)
    assert server.keys == ["Bearer sk-very-secret"]
    assert "very-secret" not in str(refused.value) + caplog.text
    with pytest.raises(InvalidInput, match="no key has") as unusable:
        OpenAICompletions(f"small@{server.url}", key="schlüssel")
    assert "schl" not in str(unusable.value)


def test_a_server_that_is_not_there_or_hangs_up_is_named() -> None:
    def hangs_up(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    for model in (
        OpenAICompletions("small@http://127.0.0.1:9/v1"),
        OpenAICompletions("small@http://there/v1", transport=httpx.MockTransport(hangs_up)),
        OpenAICompletions("http://127.0.0.1:9/v1"),
    ):
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            model.speak(PREFIX, REST, 8)
        assert model.window() is None
    for name in ("nowhere", "m@http://", "m@http://user:password@there/v1", "http://a b/v1", "m@ftp://there"):
        with pytest.raises(InvalidInput, match="MODEL@URL"):
            OpenAICompletions(name)


def test_an_endpoint_without_models_says_so() -> None:
    nothing = httpx.MockTransport(lambda _: httpx.Response(200, content=json.dumps({"data": []})))
    with pytest.raises(ModelUnavailable, match="names no model"):
        OpenAICompletions("http://there/v1", transport=nothing).speak(PREFIX, REST, 8)
