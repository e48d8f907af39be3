"""Reads outlines: nested lists of Markdown, and OPML, the format in which outliners and mind maps are exchanged.

Knows nothing of storage. Indentation alone decides what stands under what, however deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memos_mcp.documents.position import title_of
from memos_mcp.errors import InvalidInput

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_ITEM = re.compile(r"([ \t]*)(?:[-*+•]|\d{1,9}[.)])[ \t]+(\S.*)", re.DOTALL)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)", re.DOTALL)
_TAB = 4
LEAST_ITEMS = 3


@dataclass(frozen=True)
class Item:
    """An entry of an outline, or a heading in it, with the lines that belong to it alone.

    `parent` is the place of the entry above it in the list; `titles` lead down to it, its own the last.
    """

    start: int
    end: int
    parent: int | None
    order: int
    item: bool
    title: str
    titles: tuple[str, ...]


def is_outline(text: str) -> bool:
    """Whether a text is one nested list: nothing but items within items, lines that continue them, and headings."""
    if "```" in text or "~~~" in text:
        return False
    count, nested, within = 0, False, False
    for _, line in _lines(text):
        if found := _ITEM.fullmatch(line):
            count, within = count + 1, True
            nested = nested or bool(found[1])
        elif _HEADING.fullmatch(line):
            within = False
        elif line.strip() and not (within and line[0] in " \t"):
            return False
    return nested and count >= LEAST_ITEMS


def items(text: str) -> list[Item]:
    """The entries of an outline in order; together they cover the text. Lines of no item belong to the one before."""
    marks: list[tuple[int, int, bool, str]] = []  # start, depth, whether an item, title
    for start, line in _lines(text):
        if found := _ITEM.fullmatch(line):
            marks.append((start, 10 + len(found[1].expandtabs(_TAB)), True, title_of(found[2])))
        elif found := _HEADING.fullmatch(line):
            marks.append((start, len(found[1]), False, title_of(found[2].rstrip().rstrip("#"))))
    if not marks or marks[0][0] > 0:
        blank = not text[: marks[0][0] if marks else len(text)].strip()
        if blank and marks:
            marks[0] = (0, *marks[0][1:])
        else:
            marks.insert(0, (0, 1_000_000, True, title_of(text[:200])))
    return list(_nested(marks, len(text)))


def _nested(marks: list[tuple[int, int, bool, str]], length: int) -> Iterator[Item]:
    above: list[tuple[int, int, tuple[str, ...]]] = []  # depth, place and titles of the entries that are open
    counts: dict[int | None, int] = {}
    ends = [*(start for start, *_ in marks[1:]), length]
    for place, ((start, depth, item, title), end) in enumerate(zip(marks, ends, strict=True)):
        while above and above[-1][0] >= depth:
            above.pop()
        parent, titles = (above[-1][1], (*above[-1][2], title)) if above else (None, (title,))
        order = counts.get(parent, 0)
        counts[parent] = order + 1
        above.append((depth, place, titles))
        yield Item(start, end, parent, order, item, title, titles)


def opml(data: bytes) -> tuple[str, str]:
    """The outline of an OPML file as a nested list, and its title.

    Raises:
        InvalidInput: it is not OPML; entities and external references are refused.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Any = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        said = str(error).partition("\n")[0][:120]
        raise InvalidInput(f"This is not a readable OPML file ({said}): export it again as OPML 2.0.") from None
    body = root.find("body") if root.tag == "opml" else None
    if body is None:
        raise InvalidInput("This XML file has no <opml> with a <body>: export it as OPML 2.0.")
    lines: list[str] = []
    open_elements = [(0, one) for one in reversed(list(body)) if one.tag == "outline"]
    while open_elements:
        depth, element = open_elements.pop()
        said = element.get("text") or element.get("title") or "(no title)"
        lines.append(f"{'  ' * depth}- {' '.join(said.split()) or '(no title)'}")
        note = element.get("_note") or ""
        lines += [f"{'  ' * depth}  {line.strip()}" for line in note.splitlines() if line.strip()]
        open_elements += [(depth + 1, one) for one in reversed(list(element)) if one.tag == "outline"]
    if not lines:
        raise InvalidInput("This OPML file has no outline in its body: there is nothing to remember.")
    return "\n".join(lines) + "\n", title_of(root.findtext("head/title") or "")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for match in _LINE.finditer(text):
        if match[0]:
            yield match.start(), match[0]
