"""A language model over an OpenAI-compatible `/chat/completions` endpoint, local or remote.

Knows nothing of stores. It sends what it is given to the URL it was given, and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from memos_mcp.errors import InvalidInput, ModelUnavailable

TIMEOUT_S = 120.0
MOST_BYTES = 2_000_000
"""Bytes of an answer beyond which it is not read on."""


def endpoint(name: str) -> tuple[str, str]:
    """The model ("" for the endpoint's first one) and the URL that MODEL@URL, or a URL alone, names.

    Raises:
        InvalidInput: it is neither.
    """
    name = name.removeprefix("openai:")
    model, _, url = ("", "", name) if name.startswith(("http://", "https://")) else name.partition("@")
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(
            f"llm {name!r} is not MODEL@URL: for example llama3.1@http://127.0.0.1:11434/v1.", field="llm"
        )
    return model, url.rstrip("/").removesuffix("/chat/completions")


class OpenAIChat:
    """Satisfies the port `LanguageModel`. `name` is MODEL@URL, or a URL alone, whose first model is then asked.

    The URL ends where `/chat/completions` begins.
    """

    def __init__(
        self,
        name: str,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._model, self._url = endpoint(name)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout_s, transport=transport, trust_env=False)
        self._formatted = True

    @property
    def name(self) -> str:
        return self._model or self._url

    def answer(self, instructions: str, data: str) -> str:
        if not self._model:
            self._model = self._first_model()
        said = [{"role": "system", "content": instructions}, {"role": "user", "content": data}]
        body: dict[str, Any] = {"model": self._model, "temperature": 0, "messages": said}
        if self._formatted:
            try:
                return self._content(self._asked("POST", "/chat/completions", {**body, **_AS_JSON}))
            except _Refused:
                self._formatted = False  # some servers know no response_format
        return self._content(self._asked("POST", "/chat/completions", body))

    def _first_model(self) -> str:
        try:
            return str(self._asked("GET", "/models", None)["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise ModelUnavailable(f"{self._url} names no model: write llm as MODEL@URL.") from error

    def _content(self, found: dict[str, Any]) -> str:
        try:
            text = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelUnavailable(f"The model at {self._url} did not answer with a message.") from error
        return text if isinstance(text, str) else ""

    def _asked(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            with self._client.stream(method, self._url + path, content=sent, headers=headers) as response:
                if response.status_code in (400, 422) and body is not None and "response_format" in body:
                    raise _Refused(f"The model at {self._url} refused the request.")
                response.raise_for_status()
                read = b""
                for part in response.iter_bytes():
                    read += part
                    if len(read) > MOST_BYTES:
                        raise ModelUnavailable(f"The model at {self._url} answers without an end.")
            found = json.loads(read)
        except httpx.HTTPStatusError as error:
            raise ModelUnavailable(
                f"The model at {self._url} answered {error.response.status_code}: "
                "check its name and the key (memos-mcp config llm_api_key KEY)."
            ) from error
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"The model at {self._url} cannot be reached ({type(error).__name__}): start it, or check the URL."
            ) from error
        except (ValueError, RecursionError) as error:
            raise ModelUnavailable(f"The model at {self._url} did not answer with JSON.") from error
        if not isinstance(found, dict):
            raise ModelUnavailable(f"The model at {self._url} did not answer with an object.")
        return found


class _Refused(ModelUnavailable):
    """The server does not take the request as it was put."""


_AS_JSON: dict[str, Any] = {"response_format": {"type": "json_object"}}
