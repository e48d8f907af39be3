"""Finds where a memory's text falls into parts: at its headings, else its turns, else its empty lines.

Knows nothing of storage. The parts joined are the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memos_mcp.documents.markup import markdown_blocks

_TURN = re.compile(
    r"^[ \t>*_-]*[^\s:：*_`\"“][^\n:：*`\"“]{0,39}[*_]*[:：][*_]*(?=[ \t\n]|[\u3400-\u9fff“])", re.MULTILINE
)
"""The beginning of a line that names who speaks: "Ann: …", "**User:** …", "小王：…"."""

_EMPTY_LINE = re.compile(r"\n[ \t\r]*\n[ \t]*\Z")
_LOOKED_BACK = 200
"""Characters before a place in which an empty line is looked for."""


def parted(text: str) -> list[str]:
    """The parts in order; one where the text does not fall into any.

    A heading begins a part, and one that has nothing under it belongs to the next.
    """
    blocks = markdown_blocks(text)
    headings = [block.start for block in blocks if block.kind == "heading"]
    for places in (headings, _turns(text), [block.start for block in blocks if _stands_apart(text, block.start)]):
        found = _cut(text, places)
        if len(found) > 1:
            return found
    return [text]


def _turns(text: str) -> list[int]:
    """Where speakers begin, if the text begins with one."""
    places = [match.start() for match in _TURN.finditer(text)]
    return places if places and not text[: places[0]].strip() else []


def _stands_apart(text: str, at: int) -> bool:
    """Whether an empty line is before this place."""
    return _EMPTY_LINE.search(text[max(at - _LOOKED_BACK, 0) : at]) is not None


def _cut(text: str, places: Sequence[int]) -> list[str]:
    """The text cut at these places; what is blank, or a heading alone, stays with what follows it."""
    ends = [*dict.fromkeys(at for at in places if at > 0), len(text)]
    found: list[str] = []
    start = 0
    for end in ends:
        if end < len(text) and _says_nothing(text[start:end]):
            continue
        found.append(text[start:end])
        start = end
    if len(found) > 1 and _says_nothing(found[-1]):
        found[-2:] = [found[-2] + found[-1]]
    return found


def _says_nothing(part: str) -> bool:
    lines = [line for line in part.splitlines() if line.strip()]
    return not lines or (len(lines) == 1 and lines[0].lstrip().startswith("#"))
