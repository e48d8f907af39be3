"""Turns text into the tokens that full-text search indexes and asks for, in English, Chinese and mixed scripts.

Knows nothing of where tokens are kept. One analyser serves index and query: they cannot drift apart.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache

import rjieba
import snowballstemmer

from memos_mcp.cube import Snapshot

MAX_TOKEN = 64
"""Characters kept of one token."""

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_PAIRED = r"\u3040-\u30ff\uac00-\ud7af"
_DAY = re.compile(r"(\d{1,2})([月日号])")
_RUN = re.compile(rf"\d{{1,2}}[月日号]|[{_HAN}]+|[{_PAIRED}]+|[^\W_{_HAN}{_PAIRED}]+(?:[-_.'’][^\W_{_HAN}{_PAIRED}]+)*")
_IS_HAN = re.compile(rf"[{_HAN}]")
_IS_PAIRED = re.compile(rf"[{_PAIRED}]")
_PART = re.compile(r"[-_.'’]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MARKS = re.compile("[\u0300-\u036f]")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_STEMMER, _STEMMING = snowballstemmer.stemmer("english"), threading.Lock()
"""A stemmer holds the word that it works on, so that two threads would cut each other's."""


def tokens(text: str) -> list[str]:
    """The tokens of a text in order, repeats kept: folded, stemmed, segmented; each free of white space."""
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text)):
        if day := _DAY.fullmatch(run):
            found.append(f"{int(day[1])}{'月' if day[2] == '月' else '日'}")
        elif _IS_HAN.match(run):
            found += _han(run)
        elif _IS_PAIRED.match(run):
            found += _pairs(run)
        else:
            found += _word(run)
    return found


def indexed_text(space: int, snapshot: Snapshot, created: str) -> str:
    """What full text holds of a memory: its scope, speaker, day and words, parted by spaces."""
    day = snapshot.valid_from or created
    said = [scope_token(space), *_day(day), *tokens(snapshot.name or ""), *tokens(snapshot.content)]
    return " ".join(said + [token for tag in snapshot.tags for token in tokens(tag)])


def scope_token(space: int) -> str:
    """The token that stands for a space; no word of a text looks like it."""
    return f"§{space}"


def _han(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    words = [word for word in rjieba.cut_for_search(run) if len(word) != 2]
    return words + _pairs(run)


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] if len(run) > 1 else [run]


def _word(run: str) -> list[str]:
    parts = [part for part in _PART.split(run) if part]
    whole = _stemmed(_folded(run)[:MAX_TOKEN])
    if len(parts) <= 1:
        return [whole]
    stems = [_stemmed(_folded(part)[:MAX_TOKEN]) for part in parts]
    return stems[:1] if _is_possessive(parts) else [*stems, re.sub(r"[-_.'’]", "", whole)]


def _is_possessive(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[1] in ("s", "S")


def _folded(word: str) -> str:
    folded = word.casefold()
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", folded)))


@lru_cache(maxsize=65_536)
def _stemmed(word: str) -> str:
    if not (word.isascii() and word.isalpha()):
        return word
    with _STEMMING:
        return str(_STEMMER.stemWord(word))


def _day(instant: str) -> list[str]:
    year, month, day = instant[:4], int(instant[5:7]), int(instant[8:10])
    return [year, _stemmed(_MONTHS[month - 1]), str(day), f"{month}月", f"{day}日"]
