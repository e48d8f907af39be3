"""Writes answers to the terminal: JSON, tables and texts, none of which can steer the terminal.

Knows no memories: it takes text from anywhere and shows what is in it, control characters as escapes.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# C0 without tab and newline, DEL and C1, and the marks that turn the direction of writing.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PIPE_WIDTH = 10_000
"""Columns of a table that goes into a pipe, where nothing should be wrapped."""
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def prepare_streams() -> None:
    """Let output hold any character, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(text: str) -> str:
    """The text with everything that could steer a terminal shown as an escape; newlines and tabs stay."""
    return _STEERING.sub(_escape, text)


def one_line(text: str, most: int = 200) -> str:
    """The beginning of a text on one line, made visible."""
    flat = visible(" ".join(text[: 4 * most].split()))
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def write_json(value: Any) -> None:
    """The answer for a program: one JSON document, and nothing else, on standard output."""
    text = json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout), indent=2)
    sys.stdout.write(_STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")
    sys.stdout.flush()


def say(text: str = "", style: str | None = None) -> None:
    """A line, or lines, for people on standard output."""
    _print(_console(sys.stdout), text, style)


def note(text: str, style: str | None = None) -> None:
    """A remark on standard error: never part of the answer."""
    _print(_console(sys.stderr), text, style)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; cells are shown as they are, never as markup, and on one line each in a pipe."""
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    made = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    console.print(made)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, where that is a terminal; the block calls what it is given with (what, done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _console(stream: Any) -> Console:
    from rich.console import Console

    made = Console(file=stream, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def _print(console: Console, text: str, style: str | None) -> None:
    from rich.text import Text

    console.print(Text(visible(text), style=style or ""), soft_wrap=True)


def _is_utf8(stream: Any) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def _escape(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
