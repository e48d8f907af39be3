"""Turns text into the tokens that search indexes and asks for, in English, Chinese and mixed scripts.

Knows nothing of where tokens are kept. One analyser serves index and query: they cannot drift apart.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import rjieba
import snowballstemmer

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
_IRREGULAR = """
be am is are was were been; begin began begun; bite bit bitten; blow blew blown; break broke broken; bring brought;
build built; buy bought; catch caught; choose chose chosen; come came; deal dealt; draw drew drawn;
drink drank drunk; drive drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought; find found;
fly flew flown; forget forgot forgotten; forgive forgave forgiven; freeze froze frozen; get got gotten; give gave given;
go went gone; grow grew grown; hang hung; have has had; hear heard; hide hid hidden; hold held; keep kept;
know knew known; lead led; leave left; lend lent; lose lost; make made; mean meant; meet met; pay paid;
ride rode ridden; ring rang rung; rise rose risen; run ran; say said; see saw seen; sell sold; send sent; shake shook;
shoot shot; sing sang sung; sit sat; sleep slept; speak spoke spoken; spend spent; stand stood; steal stole stolen;
stick stuck; sweep swept; swim swam swum; take took taken; teach taught; tell told; think thought; throw threw thrown;
understand understood; wake woke woken; wear wore worn; win won; write wrote written; become became; do does did done;
child children; foot feet; knife knives; leaf leaves; life lives; man men; mouse mice; person people; tooth teeth;
wife wives; woman women; half halves
"""
_PRESENT = {form: forms[0] for forms in (line.split() for line in _IRREGULAR.split(";")) for form in forms[1:]}
"""English words whose forms no rule of spelling joins, by form."""
_ASKING = """
what when where who whom whose which why how do be have a an the of to in on at for with by from and or it its their
they he she his her him them this that these those i you my your me we our us would could should can will about into as
than then there
"""
_STEMMER, _STEMMING = snowballstemmer.stemmer("english"), threading.Lock()
"""A stemmer holds the word that it works on, so that two threads would cut each other's."""


def tokens(text: str) -> list[str]:
    """The tokens of a text in order, repeats kept: folded, stemmed, segmented; each free of white space."""
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text)):
        if run.isascii():
            found += _word(run)
        elif day := _DAY.fullmatch(run):
            found.append(f"{int(day[1])}{'月' if day[2] == '月' else '日'}")
        elif _IS_HAN.match(run):
            found += _han(run)
        elif _IS_PAIRED.match(run):
            found += _pairs(run)
        else:
            found += _word(run)
    return found


def is_common(token: str) -> bool:
    """Whether a token is one that questions are made of, in whatever they ask for: it says little where it is rare."""
    return token in _COMMON


def day_tokens(instant: str) -> list[str]:
    """The tokens of the day of an ISO 8601 time: its year, month and day, as English and Chinese say them."""
    year, month, day = instant[:4], int(instant[5:7]), int(instant[8:10])
    return [year, *_word(_MONTHS[month - 1]), str(day), f"{month}月", f"{day}日"]


def _han(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    words = [word for word in rjieba.cut_for_search(run) if len(word) != 2]
    return words + _pairs(run)


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] if len(run) > 1 else [run]


def _word(run: str) -> Sequence[str]:
    # what was said uses few words, which are kept; what is longer than a word is none, and may be a whole file
    return _kept_word(run) if len(run) <= MAX_TOKEN else _stems(run)


def _stems(run: str) -> Sequence[str]:
    parts = [part for part in _PART.split(run) if part]
    whole = _stemmed(_folded(run)[:MAX_TOKEN])
    if len(parts) <= 1:
        return [whole]
    stems = [_stemmed(_folded(part)[:MAX_TOKEN]) for part in parts]
    return stems[:1] if _is_possessive(parts) else [*stems, re.sub(r"[-_.'’]", "", whole)]


_kept_word = lru_cache(maxsize=65_536)(_stems)


def _is_possessive(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[1] in ("s", "S")


def _folded(word: str) -> str:
    folded = word.casefold()
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", folded)))


def _stemmed(word: str) -> str:
    if not (word.isascii() and word.isalpha()):
        return word
    with _STEMMING:
        return str(_STEMMER.stemWord(_PRESENT.get(word, word)))


_COMMON = frozenset(token for word in _ASKING.split() for token in tokens(word))
