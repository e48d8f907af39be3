"""What every command of one run shares: the settings, who calls, the open store, and whether the answer is JSON.

Knows no command. What is heavy to import is imported when it is first asked for, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from memos_mcp import settings as settings_of
from memos_mcp.errors import InvalidInput, MemosError
from memos_mcp.settings import Settings

if TYPE_CHECKING:
    from memos_mcp.governance import Caller
    from memos_mcp.kernel import Kernel
    from memos_mcp.requests import Request

_R = TypeVar("_R", bound="Request")
CLIENT = "memos-mcp cli"
MOST_INPUT = 8_000_000
"""Bytes read from standard input; one memory's text is far below."""


class Session:
    """One run of the command line."""

    def __init__(self, arguments: dict[str, str]) -> None:
        self.arguments = arguments
        self.json = False

    @cached_property
    def settings(self) -> Settings:
        """Every setting. Raises InvalidInput as `settings.load` does."""
        return settings_of.load(self.arguments)

    @property
    def caller(self) -> Caller:
        """Who acts, and in which space."""
        from memos_mcp.cube import clean_label
        from memos_mcp.governance import Caller

        principal = clean_label(self.settings.principal, "principal")
        return Caller(principal=principal, space=clean_label(self.settings.space, "space"), client=CLIENT)

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """The store, owned by this process for the length of the block."""
        from memos_mcp.kernel import opened

        with opened(self.settings) as kernel:
            yield kernel


def session_of(context: typer.Context) -> Session:
    """The session of this run, whichever command the context is of."""
    found = context.find_object(Session)
    if found is None:
        raise InvalidInput("A command was called outside of memos-mcp: start it with `memos-mcp COMMAND`.")
    return found


def _wants_json(context: typer.Context, value: bool) -> bool:
    session_of(context).json = value
    return value


Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.", callback=_wants_json, is_eager=True)]


def request(model: type[_R], given: dict[str, Any]) -> _R:
    """The verb's request from options; those left out (None) take its defaults.

    Raises:
        InvalidInput: a value that the verb does not take; names the option.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        shown = repr(first["input"])[:80]
        raise InvalidInput(f"{name} {shown} cannot be taken: {first['msg']}.", field=name) from None


def identifier(text: str) -> str:
    """A memory's id, given bare or as its URI."""
    return text.strip().removeprefix("memcube://")


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """An option's JSON object.

    Raises:
        InvalidInput: it is not one.
    """
    if text is None:
        return None
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"{option} must be a JSON object, as in {option} '{{\"year\": 2026}}'.", field=option)
    return found


def read_input() -> str:
    """Standard input as text; bytes that are no UTF-8 become U+FFFD."""
    data = sys.stdin.buffer.read(MOST_INPUT + 1)
    if len(data) > MOST_INPUT:
        raise InvalidInput(f"Standard input is over {MOST_INPUT:,} bytes: add it in parts.", field="content")
    return data.decode("utf-8-sig", "replace").rstrip("\r\n")


def embedder_problem(kernel: Kernel) -> str | None:
    """Wait for the embedder; why it is not there, when it is not."""
    try:
        kernel.api.parts.embedder.get()
    except MemosError as error:
        return str(error)
    return None
