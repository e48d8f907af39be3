"""Answers over an OpenAI-compatible endpoint, streamed, behind a prefix that the server may have cached.

Knows nothing of stores. Tried with servers that keep the longest prefix by themselves (llama.cpp's); no marker for a
cache is sent, for the format has none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from memos_mcp.backends.openai_chat import endpoint
from memos_mcp.errors import ModelUnavailable
from memos_mcp.ports import Spoken

FIRST_BYTE_S = 300.0
"""Seconds without a word from the server: as long as reading a long prompt may take on a slow machine."""
MOST_BYTES = 4_000_000
"""Bytes of an answer beyond which it is not read on."""
_REFUSED = (400, 422)


class OpenAICompletions:
    """Satisfies the port `RemoteModel`. `name` is MODEL@URL, or a URL alone, whose first model is then asked.

    The prefix is the system message and nothing else is in it; what changes is the user's.
    """

    def __init__(
        self,
        name: str,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = FIRST_BYTE_S,
    ) -> None:
        self._model, self._url = endpoint(name)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout_s, transport=transport, trust_env=False)
        self._counts = True

    @property
    def name(self) -> str:
        return self._model or self._url

    def speak(
        self, prefix: str, rest: str, max_tokens: int, heard: Callable[[str], None] = lambda _: None
    ) -> Spoken:
        messages = [{"role": "system", "content": prefix}] if prefix else []
        body: dict[str, Any] = {
            "model": self._model or self._first_model(),
            "messages": [*messages, {"role": "user", "content": rest}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
        }
        if self._counts:
            try:
                return self._spoken({**body, "stream_options": {"include_usage": True}}, heard)
            except _Refused:
                self._counts = False  # some servers know no stream_options
        return self._spoken(body, heard)

    def _spoken(self, body: dict[str, Any], heard: Callable[[str], None]) -> Spoken:
        began = time.perf_counter()
        first: float | None = None
        pieces: list[str] = []
        told: dict[str, Any] = {}
        for event in self._events(body):
            if (piece := _piece(event)) is not None:
                first = time.perf_counter() - began if first is None else first
                pieces.append(piece)
                heard(piece)
            told |= _told(event)
        total = time.perf_counter() - began
        if first is None and told.get("finish") is None:
            raise ModelUnavailable(f"The model at {self._url} ended its answer before it began.")
        return Spoken("".join(pieces), total if first is None else first, total, **told)

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            with self._client.stream("POST", self._url + "/chat/completions", json=body) as response:
                if response.status_code in _REFUSED and "stream_options" in body:
                    raise _Refused(f"The model at {self._url} refused the request.")
                response.raise_for_status()
                for line in self._lines(response):
                    if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
                        yield self._event(data)
        except httpx.HTTPStatusError as error:
            raise ModelUnavailable(
                f"The model at {self._url} answered {error.response.status_code}: check its name and the key."
            ) from error
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"The model at {self._url} cannot be reached ({type(error).__name__}): start it, or check the URL."
            ) from error

    def _lines(self, response: httpx.Response) -> Iterator[bytes]:
        read, rest = 0, b""
        for part in response.iter_bytes():
            read += len(part)
            if read > MOST_BYTES:
                raise ModelUnavailable(f"The model at {self._url} answers without an end.")
            *lines, rest = (rest + part).split(b"\n")
            yield from lines
        yield rest

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelUnavailable(f"The model at {self._url} did not answer with JSON.") from error
        if not isinstance(event, dict) or "error" in event:
            raise ModelUnavailable(f"The model at {self._url} broke its answer off with an error.")
        return event

    def _first_model(self) -> str:
        try:
            response = self._client.get(self._url + "/models")
            self._model = str(response.raise_for_status().json()["data"][0]["id"])
        except httpx.HTTPError as error:
            raise ModelUnavailable(f"{self._url} names no models: start it, or check the URL.") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ModelUnavailable(f"{self._url} names no model: write it as MODEL@URL.") from error
        return self._model


class _Refused(ModelUnavailable):
    """The server does not take the request as it was put."""


def _piece(event: dict[str, Any]) -> str | None:
    """The text that the event adds; None when it adds none."""
    choice = _choice(event)
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else None
    return text if isinstance(text, str) and text else None


def _told(event: dict[str, Any]) -> dict[str, Any]:
    """What the event says of the answer's end and of tokens, in the words of OpenAI or of llama.cpp's own server."""
    told: dict[str, Any] = {}
    finish = _choice(event).get("finish_reason")
    if isinstance(finish, str):
        told["finish"] = finish
    usage, timings = event.get("usage"), event.get("timings")
    if isinstance(usage, dict):
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        counted = {
            "prompt_tokens": usage.get("prompt_tokens"),
            "cached_tokens": cached,
            "answer_tokens": usage.get("completion_tokens"),
        }
        told |= {name: value for name, value in counted.items() if isinstance(value, int)}
    if isinstance(timings, dict) and isinstance(timings.get("cache_n"), int):
        told["cached_tokens"] = timings["cache_n"]
    return told


def _choice(event: dict[str, Any]) -> dict[str, Any]:
    choices = event.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
