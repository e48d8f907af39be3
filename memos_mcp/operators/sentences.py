"""Parts a text into sentences without losing a character, in English and Chinese.

Knows nothing of what becomes of them. Lines end sentences too; a fenced block of code is one.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"^(`{3,}+|~{3,}+)[^\n]*+\n.*?(?:^\1[`~]*[ \t]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)
_END = re.compile(
    r"(?<![.!?])[.!?]++[\"'”’)\]]*+[ \t]++(?=[^\sa-z])"  # a point ends a sentence before anything but a small letter
    r"|(?<![。！？；])(?:[。！？；]|……)++[”’』」）)\]]*+[ \t]*+"
    r"|(?:\r\n|\r|\n)\s*+"
)
_SHORTENED = re.compile(
    r"(?:^|[\s(\[\"“])(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|no|nr|fig|approx|inc|ltd|co|dept|gen|col|capt|rev|hon"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|e\.g|i\.e|cf|al|p|pp|[a-z])\.$",
    re.IGNORECASE,
)
"""What a point behind it shortens, rather than ends; initials too."""

_LONGEST = 16
"""Characters before a point that are looked at for that."""


def sentences(text: str) -> list[str]:
    """The sentences in order, each with the white space behind it: joined they are the text."""
    found: list[str] = []
    start = 0
    for fence in _FENCE.finditer(text):
        found += _of_prose(text[start : fence.start()])
        found.append(fence[0])
        start = fence.end()
    return found + _of_prose(text[start:])


def _of_prose(text: str) -> list[str]:
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if end[0].strip() == "." and _SHORTENED.search(text[max(start, end.start() - _LONGEST) : end.start() + 1]):
            continue
        here = text[start : end.end()]
        if here.strip():
            found.append(here)
        elif found:
            found[-1] += here
        else:
            continue  # white space before the first sentence belongs to it
        start = end.end()
    rest = text[start:]
    if rest.strip() or not found:
        return [*found, rest] if rest else found
    found[-1] += rest
    return found
