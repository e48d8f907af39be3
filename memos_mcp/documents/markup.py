"""Finds the blocks of a text, Markdown or plain: headings, paragraphs, list items, code and tables.

Knows nothing of how long a part may be. Every text is covered by its blocks without a gap, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from memos_mcp.documents.position import title_of

if TYPE_CHECKING:
    from markdown_it.token import Token

Kind = Literal["heading", "text", "item", "whole"]
_LINE_END = re.compile(r"\r\n|\r|\n")
MOST_LINES = 50_000
"""Lines of a text that is read as Markdown; of more, which would take many seconds, paragraphs are found alone."""
_WHOLE = ("fence", "code_block", "html_block", "table_open")
_CHAPTER = re.compile(
    r"\s*(第\s*[0-9〇零一二三四五六七八九十百千两]{1,8}\s*[章节回卷篇部][^。！？；]{0,40}"
    r"|(chapter|part|section|appendix)\s+([0-9]{1,4}|[ivxlc]{1,7}|[a-z])\b[^.!?;]{0,60}\.?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Heading:
    """A heading that the text itself does not mark, as a PDF's bookmarks: `level` 1 is the highest."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True)
class Block:
    """A stretch of a text with the white space behind it. Of kind whole is what should not be cut: code, tables."""

    start: int
    end: int
    kind: Kind
    level: int = 0
    title: str = ""


def markdown_blocks(text: str) -> list[Block]:
    """The blocks of a Markdown text (CommonMark with tables), list items one by one."""
    from markdown_it import MarkdownIt

    lines = _line_starts(text)
    if len(lines) > MOST_LINES:
        return plain_blocks(text)
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.disable(["inline"])
    found: list[tuple[int, Kind, int, str]] = []
    tokens = parser.parse(text)
    for place, token in enumerate(tokens):
        kind = _kind(token)
        if kind is None or token.map is None or token.map[0] >= len(lines):
            continue
        start = lines[token.map[0]]
        level, title = 0, ""
        if kind == "heading":
            level, title = int(token.tag[1]), title_of(tokens[place + 1].content)
        if not found or start > found[-1][0]:
            found.append((start, kind, level, title))
    return _covering(found, len(text))


def plain_blocks(text: str, headings: Sequence[Heading] = ()) -> list[Block]:
    """The paragraphs of a plain text, with chapters where `headings` or lines of their own name them."""
    named = {one.offset: one for one in headings}
    found: list[tuple[int, Kind, int, str]] = []
    for start, line, after_blank in _lines(text):
        if start in named:
            found.append((start, "heading", max(named[start].level, 1), title_of(named[start].title)))
        elif after_blank:
            chapter = not headings and _CHAPTER.fullmatch(line) is not None
            found.append((start, "heading", 1, title_of(line)) if chapter else (start, "text", 0, ""))
    return _covering(found, len(text))


def _kind(token: Token) -> Kind | None:
    if token.level == 1 and token.type == "list_item_open":
        return "item"
    if token.level or token.nesting < 0 or token.type.endswith("list_open"):
        return None
    if token.type == "heading_open":
        return "heading"
    return "whole" if token.type in _WHOLE else "text"


def _covering(found: Sequence[tuple[int, Kind, int, str]], length: int) -> list[Block]:
    """Blocks that end where the next begins; the first begins at the beginning."""
    if not found:
        return [Block(0, length, "text")] if length else []
    starts = [0, *(start for start, *_ in found[1:]), length]
    return [
        Block(starts[i], starts[i + 1], kind, level, title) for i, (_, kind, level, title) in enumerate(found)
    ]


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in _LINE_END.finditer(text))]


def _lines(text: str) -> Iterable[tuple[int, str, bool]]:
    """Lines that are not blank: where each starts, its text, and whether a blank line (or nothing) stands before."""
    starts = _line_starts(text)
    after_blank = True
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line = text[start:end]
        if line.strip():
            yield start, line, after_blank
            after_blank = False
        else:
            after_blank = True
