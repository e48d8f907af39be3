"""Answers over an OpenAI-compatible endpoint, streamed, behind a prefix that the server may have cached.

Knows nothing of stores. Tried with servers that keep the longest prefix by themselves (llama.cpp's); no marker for a
cache is sent, for the format has none.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from memos_mcp.errors import ContextTooLong, InvalidInput, ModelUnavailable
from memos_mcp.model_names import ENDPOINT, is_served, served_model
from memos_mcp.ports import Said, Spoken

SILENT_S = 300.0
"""Seconds without a word from the server: as long as reading a long prompt may take on a slow machine."""
CONNECT_S, LIST_S = 10.0, 10.0
MOST_S = 900.0
"""Seconds for a whole answer, however many signs of life come in between."""
MOST_BYTES = 4_000_000
"""Bytes of an answer beyond which it is not read on."""
MOST_REASON = 160
"""Characters of a server's own words that are passed on."""
_REFUSED = (400, 422)
_LOADING = (429, 502, 503, 504)
_TOO_LONG = re.compile(
    r"context[ _]?(size|length|window)|max_(new_|model_|total_)?(tokens|len)\b.*exceed|n_ctx|too (long|many tokens)"
    r"|inputs. tokens \+",
    re.IGNORECASE,
)
_WINDOWS = ("max_model_len", "context_length", "context_window", "n_ctx")
"""What servers call the room of a model in their list of models: vLLM, several gateways, llama.cpp."""
KEY_ADVICE = "set the key with `memos-mcp config model_api_key KEY`, then `memos-mcp stop`"


class OpenAICompletions:
    """Satisfies the port `RemoteModel`. `name` is MODEL@URL, or a URL alone, whose first model is then asked.

    The prefix is the system message and nothing else is in it; what changes is the last message of the user. The key
    goes to this URL alone, and into no message or log.
    """

    def __init__(
        self,
        name: str,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = SILENT_S,
    ) -> None:
        found = served_model(name if is_served(name) else f"{ENDPOINT}:{name}")
        assert found is not None
        self._model, self._url = found
        self._silent_s = timeout_s
        headers = {"Authorization": f"Bearer {_key(key)}"} if key else {}
        limits = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        # llama.cpp's server hangs up on connections that it had left open, just as the next request is sent
        anew = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(
            headers=headers, timeout=limits, transport=transport, limits=anew, trust_env=False
        )
        self._counts = True
        self._window: tuple[int | None] | None = None

    @property
    def name(self) -> str:
        return f"{self._model} at {self._url}" if self._model else self._url

    def window(self) -> int | None:
        if self._window is None:
            try:
                self._window = (_window(self._listed(), self._model),)
            except ModelUnavailable:
                return None
        return self._window[0]

    def check(self) -> str:
        self.speak("", "Say yes.", 1)
        return self._model

    def close(self) -> None:
        self._client.close()

    def speak(
        self,
        prefix: str,
        rest: str,
        max_tokens: int,
        heard: Callable[[str], None] = lambda _: None,
        turns: Sequence[Said] = (),
    ) -> Spoken:
        messages = [{"role": "system", "content": prefix}] if prefix else []
        for turn in turns:
            messages.append({"role": "user", "content": turn.asked})
            messages.append({"role": "assistant", "content": turn.answered})
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
        whole = False
        for event in self._events(body, began):
            if event is None:
                whole = True
                continue
            if (piece := _piece(event)) is not None:
                first = time.perf_counter() - began if first is None else first
                pieces.append(piece)
                heard(piece)
            told |= _told(event)
        total = time.perf_counter() - began
        if first is None and told.get("finish") is None:
            raise ModelUnavailable(
                f"The model at {self._url} ended its answer before it began: see that server's log, and ask again."
            )
        if not whole and told.get("finish") is None:
            raise self._broken_off()
        return Spoken("".join(pieces), total if first is None else first, total, **told)

    def _events(self, body: dict[str, Any], began: float) -> Iterator[dict[str, Any] | None]:
        """What the server sends, event by event; None for the end that it announces."""
        answering = False
        sent, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        try:
            with self._client.stream(
                "POST", self._url + "/chat/completions", content=sent, headers=headers
            ) as response:
                if not response.is_success:
                    raise self._refusal(response, "stream_options" in body)
                for line in self._lines(response, began):
                    if line.startswith(b"data:"):
                        answering, data = True, line[5:].strip()
                        yield None if data == b"[DONE]" else self._event(data)
        except httpx.TimeoutException as error:
            raise self._silent(error) from error
        except httpx.HTTPError as error:
            raise (self._broken_off() if answering else self._unreachable(error)) from error

    def _lines(self, response: httpx.Response, began: float) -> Iterator[bytes]:
        read, rest = 0, b""
        for part in response.iter_bytes():
            read += len(part)
            if read > MOST_BYTES or time.perf_counter() - began > MOST_S:
                raise ModelUnavailable(f"The model at {self._url} answers without an end: ask with fewer max_tokens.")
            *lines, rest = (rest + part).split(b"\n")
            yield from lines
        yield rest

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelUnavailable(
                f"The model at {self._url} did not answer with JSON: check that the URL is that of an "
                "OpenAI-compatible server."
            ) from error
        if not isinstance(event, dict) or "error" in event:
            reason = _reason(event)
            if _TOO_LONG.search(reason):
                raise self._too_long(reason)
            raise ModelUnavailable(
                f"The model at {self._url} broke its answer off with an error{_in_brackets(reason)}: ask again."
            )
        return event

    def _first_model(self) -> str:
        models = self._listed()
        if not models:
            raise ModelUnavailable(
                f"{self._url} names no model: name it, with `memos-mcp config model openai:MODEL@URL`."
            )
        self._model = str(models[0]["id"])
        return self._model

    def _listed(self) -> list[dict[str, Any]]:
        """The server's models, each with its `id`."""
        try:
            response = self._client.get(self._url + "/models", timeout=min(LIST_S, self._silent_s))
            if not response.is_success:
                raise self._refusal(response, False)
            rows = response.json()["data"]
        except httpx.TimeoutException as error:
            raise self._silent(error) from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError, RecursionError):
            rows = []
        return [row for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []

    # What went wrong, each with the next step.

    def _refusal(self, response: httpx.Response, with_options: bool) -> ModelUnavailable | ContextTooLong:
        status, reason = response.status_code, _reason_of(response)
        if status in (*_REFUSED, 413, 500) and _TOO_LONG.search(reason):
            return self._too_long(reason)
        if status in _REFUSED and with_options:
            return _Refused(f"The model at {self._url} refused the request.")
        said = _in_brackets(reason)
        if status in (401, 403):
            return ModelUnavailable(f"The server at {self._url} answered {status}, it wants a key: {KEY_ADVICE}.")
        if status == 404:
            return ModelUnavailable(
                f"The server at {self._url} answered 404{said}: it has no model {self._model!r}, or no such path. Name "
                "another with `memos-mcp config model openai:MODEL@URL`; the URL ends where /chat/completions begins."
            )
        if status in _LOADING:
            return ModelUnavailable(
                f"The server at {self._url} answered {status}{said}: it is busy or still loading. Ask again soon."
            )
        return ModelUnavailable(
            f"The server at {self._url} answered {status}{said}: see that server's log, and check the model's name."
        )

    def _too_long(self, reason: str) -> ContextTooLong:
        return ContextTooLong(
            f"The memories and the question have no room in the context of the model at {self._url}"
            f"{_in_brackets(reason)}: name fewer ids, ask for fewer max_tokens, or start that server with more context."
        )

    def _broken_off(self) -> ModelUnavailable:
        return ModelUnavailable(
            f"The model at {self._url} broke its answer off in the middle, and nothing of it is kept: ask again."
        )

    def _silent(self, error: httpx.TimeoutException) -> ModelUnavailable:
        if isinstance(error, httpx.ConnectTimeout):
            return self._unreachable(error)
        return ModelUnavailable(
            f"The model at {self._url} said nothing for {self._silent_s:,.0f} seconds: see whether that server is "
            "overloaded or hangs, and ask again."
        )

    def _unreachable(self, error: httpx.HTTPError) -> ModelUnavailable:
        return ModelUnavailable(
            f"The model at {self._url} cannot be reached ({type(error).__name__}): start it, or check the URL "
            "(memos-mcp config model)."
        )


class Nowhere:
    """Satisfies the port `RemoteModel` where a store names a server that cannot be: says why, whatever it is asked."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self._problem = name, problem

    def window(self) -> int | None:
        return None

    def check(self) -> str:
        raise ModelUnavailable(self._problem)

    def speak(
        self,
        prefix: str,
        rest: str,
        max_tokens: int,
        heard: Callable[[str], None] = lambda _: None,
        turns: Sequence[Said] = (),
    ) -> Spoken:
        raise ModelUnavailable(self._problem)

    def close(self) -> None:
        """There is nothing to release."""


class _Refused(ModelUnavailable):
    """The server does not take the request as it was put."""


def _key(key: str) -> str:
    """The key as a header may hold it.

    Raises:
        InvalidInput: it cannot; the sentence does not show it.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidInput("model_api_key holds characters that no key has: set it again.", field="model_api_key")
    return key


def _reason_of(response: httpx.Response) -> str:
    """What the server says of its refusal, from the beginning of its body."""
    read = b""
    for part in response.iter_bytes():
        read += part
        if len(read) > 65_536:
            break
    try:
        return _reason(json.loads(read))
    except (ValueError, RecursionError):
        return ""


def _reason(found: Any) -> str:
    """The message of an error as servers put it: as text, or in an object under `error`, `message` or `detail`."""
    for _ in range(3):
        if isinstance(found, dict):
            found = next((found[name] for name in ("error", "message", "detail") if name in found), None)
    return " ".join(found.split())[:MOST_REASON] if isinstance(found, str) else ""


def _in_brackets(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _window(models: list[dict[str, Any]], model: str) -> int | None:
    named = [row for row in models if row["id"] == model] or (models[:1] if not model else [])
    for row in named:
        meta = row.get("meta")
        for holder in (row, meta if isinstance(meta, dict) else {}):
            found = [holder.get(name) for name in _WINDOWS]
            sizes = [size for size in found if isinstance(size, int) and not isinstance(size, bool) and size > 0]
            if sizes:
                return min(sizes)
    return None


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
