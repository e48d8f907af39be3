"""How much alike two memories say the same: by their words, and by the cosine that is given.

Knows no ledger and no model. Of two texts that are alike one says all that the other says, and little more: where each
has words of its own, or one has a number, a negation or a question more, they are not alike at all.
"""

from __future__ import annotations

from memos_mcp.operators.fusing import said_alike, words
from memos_mcp.operators.opposing import opposed
from memos_mcp.operators.sentences import sentences

ENOUGH = 0.8
"""Share of their words that two near-duplicates have in common."""
LONGEST = 2_000
"""Characters of a text that is compared: longer ones are documents, which are alike in parts."""
_TURNING = frozenset(
    ("?", "not", "no", "never", "none", "nor", "without", "stopped", "quit", "former", "formerly", "used", "except")
) | frozenset("不没无非别勿戒曾前莫未")


def likeness(a: str, b: str, cosine: float) -> float:
    """0..1: 1 for the same sentences; else how far words and meaning agree, 0 where they may not say the same."""
    if max(len(a), len(b)) > LONGEST:
        return 0.0
    if said_alike(a, b):
        return 1.0
    first, second = _words(a), _words(b)
    apart = first ^ second
    replaced = bool(first - second) and bool(second - first)
    if not first or not second or replaced or any(word in _TURNING or _is_number(word) for word in apart):
        return 0.0
    if opposed(a, b) or opposed(b, a):
        return 0.0
    shared = len(first & second) / len(first | second)
    return round(min(shared, max(cosine, 0.0), 0.999), 4) if shared >= ENOUGH else 0.0


def _words(text: str) -> frozenset[str]:
    return frozenset(word for sentence in sentences(text) for word in words(sentence))


def _is_number(word: str) -> bool:
    return any(char.isdigit() or char in "零一二三四五六七八九十百千万两" for char in word)
