"""What every command of one run shares: the settings, the link to the kernel, and whether the answer is JSON.

Knows no command. What takes time to import is imported when it is first asked for, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp import asked
from memos_mcp import settings as settings_of
from memos_mcp.errors import InvalidInput
from memos_mcp.settings import Settings

if TYPE_CHECKING:
    from memos_mcp.link import Link

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
    def home(self) -> Path:
        """The data directory, also when the other settings cannot be resolved."""
        return settings_of.place(self.arguments)

    def kernel(self) -> Link:
        """A link to the kernel of the data directory, for the length of a block; started if there is none.

        Who calls, and in which space, is resolved there from what was asked here.

        Raises:
            MemosError: there is none and none can be started.
        """
        from memos_mcp.link import to_kernel

        return to_kernel(str(self.home), asked.here(self.arguments))


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
