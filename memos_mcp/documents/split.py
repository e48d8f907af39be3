"""Splits a document into a tree of parts: by headings first, then at the ends of blocks and sentences.

Knows nothing of storage or files. The same text always gives the same parts, and a change of the text changes the
parts near it only: where a long section is cut is chosen by what the text says there, not by counting from the top
(content-defined chunking, after Muthitacharoen, Chen and Mazieres 2001).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memos_mcp.documents.markup import Block, Heading, markdown_blocks, plain_blocks
from memos_mcp.documents.outline import items
from memos_mcp.documents.position import ITEM, PART, SECTION

Format = Literal["markdown", "text", "outline"]
LEAST, MOST = 800, 1_600
"""Characters of a part within a long section: some 1,200 as a rule. A section up to `MOST` stays one part."""
WHOLE = 3_000
"""Characters up to which code and tables are not cut."""
REST = 300
"""Characters that are left at least for a section's last part."""
OVERLAP = 160
"""Characters, at most, that a part repeats from the one before: the last sentence or two."""
_WITNESS = 48
"""Characters behind a place that decide whether the text is cut there."""
_SENTENCE = re.compile(
    r"(?<![.!?؟।])[.!?؟।]++[\"'”’)\]]*+\s++(?=[^a-z])|[。！？；…]++[”’』」）)\]]*+\s*+|(?:\r\n|\r|\n)\s*+"
)
_SPACE = re.compile(r"\s+")
_JOINING = frozenset("\u200d\ufe0e\ufe0f")


@dataclass(frozen=True)
class Piece:
    """A part: characters `start` to `end` of the text, and before them `overlap` that belong to the part before.

    `parent` is the place of the piece above it in the list, None for those right under the document; `headings` lead
    from the document down to it.
    """

    start: int
    end: int
    overlap: int
    parent: int | None
    order: int
    node: str
    title: str
    headings: tuple[str, ...]


def split(text: str, form: Format, headings: Sequence[Heading] | None = None) -> list[Piece]:
    """The parts of a text in its order; without their overlaps they join to the text. None for a blank text.

    Each heading begins a part, under the part of the heading above it; what does not fit follows in parts under it.
    In an outline each item is a part. `headings` are those of a plain text that does not mark them itself.
    """
    if not text.strip():
        return []
    if form == "outline":
        return [
            Piece(one.start, one.end, 0, one.parent, one.order, ITEM if one.item else SECTION, one.title, one.titles)
            for one in items(text)
        ]
    blocks = markdown_blocks(text) if form == "markdown" else plain_blocks(text, headings or ())
    pieces: list[Piece] = []
    above: list[tuple[int, int]] = []  # level and place of the headings that are open
    for section in _sections(blocks):
        first, titles = section[0], tuple[str, ...]()
        if first.kind == "heading":
            while above and above[-1][0] >= first.level:
                above.pop()
            titles = (*pieces[above[-1][1]].headings, first.title) if above else (first.title,)
        parent = above[-1][1] if above else None
        if first.kind == "heading":
            above.append((first.level, len(pieces)))
        pieces += _parts(text, section, len(pieces), parent, titles)
    return _ordered(_without_blank(text, pieces))


def _sections(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks from one heading to the next."""
    section: list[Block] = []
    for block in blocks:
        if block.kind == "heading" and section:
            yield section
            section = []
        section.append(block)
    if section:
        yield section


def _parts(
    text: str, section: Sequence[Block], place: int, parent: int | None, titles: tuple[str, ...]
) -> Iterator[Piece]:
    headed = section[0].kind == "heading"
    start = before = section[0].start
    cuts = [*_cuts(text, section), section[-1].end]
    for number, end in enumerate(cuts):
        if number == 0:
            yield Piece(start, end, 0, parent, 0, SECTION if headed else PART, section[0].title, titles)
        else:
            overlap = _overlap(text, before, start)
            yield Piece(start, end, overlap, place if headed else parent, 0, PART, "", titles)
        before, start = start, end


def _cuts(text: str, section: Sequence[Block]) -> Iterator[int]:
    """Where a section is cut, from its beginning to its end."""
    position, end = section[0].start, section[-1].end
    strong = [block.start for block in section[1:]]
    weak = [at for block in section for at in _ends_of_sentences(text, block)]
    while end - position > MOST:
        low, high = position + LEAST, min(position + MOST, end - REST)
        found = _within(strong, low, high) or _within(weak, low, high)
        cut = min(found, key=lambda at: _witness(text, at)) if found else _forced(text, section, position, high)
        if end - cut < 1:
            return
        yield cut
        position = cut


def _ends_of_sentences(text: str, block: Block) -> Iterator[int]:
    if block.kind == "whole" and block.end - block.start <= WHOLE:
        return
    for match in _SENTENCE.finditer(text, block.start, block.end):
        if match.end() < block.end:
            yield match.end()


def _within(places: Sequence[int], low: int, high: int) -> Sequence[int]:
    return places[bisect_right(places, low - 1) : bisect_right(places, high)]


def _witness(text: str, at: int) -> bytes:
    said = text[at : at + _WITNESS].encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=8).digest()


def _forced(text: str, section: Sequence[Block], position: int, high: int) -> int:
    """A cut where nothing ends within reach: around a block that stays whole, else between words, else anywhere."""
    for block in section:
        if block.kind == "whole" and block.start <= high < block.end and block.end - block.start <= WHOLE:
            return block.start if block.start - position >= REST else block.end
    spaces = [match.end() for match in _SPACE.finditer(text, position + LEAST, high)]
    return min(spaces, key=lambda at: _witness(text, at)) if spaces else _between_characters(text, high)


def _between_characters(text: str, at: int) -> int:
    """The place, or one shortly before it, at which no visible character is torn."""
    for back in range(32):
        here, before = text[at - back], text[at - back - 1]
        torn = unicodedata.combining(here) or here in _JOINING or before == "\u200d" or (before, here) == ("\r", "\n")
        if not torn and not 0x1F3FB <= ord(here) <= 0x1F3FF:
            return at - back
    return at


def _overlap(text: str, before: int, at: int) -> int:
    """How many characters before `at` the next part repeats: whole sentences, else whole words."""
    low = max(before, at - OVERLAP)
    ends = [match.end() for match in _SENTENCE.finditer(text, low, at) if match.end() < at]
    if not ends:
        ends = [match.end() for match in _SPACE.finditer(text, max(low, at - OVERLAP // 2), at) if match.end() < at]
    start = ends[0] if ends else _between_characters(text, max(low, at - OVERLAP // 2)) if low < at else at
    start = max(start, before)
    return at - start if text[start:at].strip() else 0


def _without_blank(text: str, pieces: Sequence[Piece]) -> list[Piece]:
    """Blank pieces joined to the one before, or to the one behind where none is before."""
    kept: list[Piece] = []
    place: list[int] = []  # of each piece given, where it or what took it in is kept
    lead = None
    for piece in pieces:
        blank = not text[piece.start : piece.end].strip()
        if blank and kept:
            kept[-1] = replace(kept[-1], end=piece.end)
        elif blank:
            lead = piece.start if lead is None else lead
        else:
            start = piece.start if lead is None else lead
            parent = None if piece.parent is None else place[piece.parent]
            kept.append(replace(piece, start=start, parent=parent, overlap=0 if lead is not None else piece.overlap))
            lead = None
        place.append(max(len(kept) - 1, 0))
    return kept


def _ordered(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with their places among their siblings."""
    counts: dict[int | None, int] = {}
    found = []
    for piece in pieces:
        order = counts.get(piece.parent, 0)
        counts[piece.parent] = order + 1
        found.append(replace(piece, order=order))
    return found
