"""Divides a text that has grown too long: its oldest paragraphs go out as pages, the newest stay.

Knows no store. Nothing is lost: the pages and what stays, one behind the other, are the text, but for white space
around it.
"""

from __future__ import annotations

import re
import unicodedata

PAGE = 1_000
"""Characters of a page, at most, but for a sign of several characters at its end."""
_BOUNDARIES = tuple(
    re.compile(rule) for rule in (r"\n[^\S\n]*\n\s*", r"\n\s*", r"(?:[。！？…]|[.!?](?=\s))\s*", r"\s+")
)
"""Where a text may be divided, best first: behind a paragraph, a line, a sentence, a word."""
_JOINER, _LEAST_PART = "\u200d", 2
_MOST_JOINED = 32
"""Characters that one written sign may be made of."""


def paged(text: str, limit: int, page: int = PAGE) -> tuple[list[str], str]:
    """The pages that go out, oldest first, and what stays: at most `limit` characters, and not blank.

    As little goes out as the limit asks for and a paragraph's, a line's, a sentence's or a word's end allows. A text
    within the limit stays as it is.
    """
    if len(text) <= limit:
        return [], text
    text = text.strip()
    if len(text) <= limit:
        return [], text
    cut = _first_end(text, len(text) - limit, len(text) - limit // _LEAST_PART)
    pages, kept = _pages(text[:cut], page), text[cut:]
    return pages, kept


def _pages(text: str, page: int) -> list[str]:
    found: list[str] = []
    start = 0
    while len(text) - start > page:
        end = _last_end(text, start + page // _LEAST_PART, start + page)
        found.append(text[start:end])
        start = end
    return _without_blanks([*found, text[start:]])


def _without_blanks(pages: list[str]) -> list[str]:
    """The same text in pages none of which is blank, unless all of it is."""
    found: list[str] = []
    for page in pages:
        if found and (not page.strip() or not found[-1].strip()):
            found[-1] += page
        else:
            found.append(page)
    return found


def _first_end(text: str, low: int, high: int) -> int:
    """The first of the best places to divide the text between `low` and `high`, so that something is left behind."""
    for boundary in _BOUNDARIES:
        for match in boundary.finditer(text, max(low - 1, 0), high):
            if match.end() >= low and match.end() < len(text):
                return match.end()
    return _whole_sign(text, low)


def _last_end(text: str, low: int, high: int) -> int:
    for boundary in _BOUNDARIES:
        ends = [match.end() for match in boundary.finditer(text, low, high)]
        if ends:
            return ends[-1]
    return _whole_sign(text, high)


def _whole_sign(text: str, at: int) -> int:
    """The place, moved behind the sign that stands there where that is made of several characters."""
    end = min(at + _MOST_JOINED, len(text) - 1)
    while 0 < at < end and (_joins(text[at]) or text[at - 1] == _JOINER):
        at += 1
    return at


def _joins(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me", "Mc") or char == _JOINER or "\U0001f3fb" <= char <= "\U0001f3ff"
