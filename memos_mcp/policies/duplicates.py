"""Decides whether two memories say the same, with the reason: in other words, or one of them more than the other.

Knows no ledger and no model: how near they are in meaning is given to it. Precision comes before recall: numbers,
names, negations, days, and whether a plan, the past or the present is told must agree, and so must who does what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from memos_mcp.claims.claim import Reading
from memos_mcp.claims.reading import read
from memos_mcp.claims.words import MOST_CHARS, Wording, is_han, wording, wordset
from memos_mcp.cube import SAME_TEXT_IS_SAME_MEMORY, Snapshot

NEAR = 0.95
"""Cosine from which on a memory says what another says whose telling words it has, wherever the others stand."""
FAR = 0.6
"""Cosine below which two memories do not say the same, whatever their words."""


@dataclass(frozen=True)
class Duplicate:
    """Whether one of two memories may go into the other.

    `contains`: the first says all that the second says, and more; `contained`: the other way round. `reason` names no
    words of theirs.
    """

    verdict: Literal["same", "contains", "contained", "different"]
    reason: str

    def __bool__(self) -> bool:
        return self.verdict != "different"


def duplicate(a: Snapshot, b: Snapshot, cosine: float | None = None) -> Duplicate:
    """Whether `a` and `b` say the same; `cosine`, -1..1, is that of their meanings, None while it is not known.

    What is told of another day by kinds of which the same words are another memory is another memory.
    """
    return compared(a)(b, cosine)


def compared(a: Snapshot) -> Callable[[Snapshot, float | None], Duplicate]:
    """The same of `a` and each of many others: `a` is read once."""
    worded, claimed = cache(lambda: wording(a.content)), cache(lambda: read(a.content, a.name))

    def verdict(b: Snapshot, cosine: float | None) -> Duplicate:
        reason = _apart(a, b)
        if reason is not None:
            return Duplicate("different", reason)
        if len(a.content) > MOST_CHARS or len(b.content) > MOST_CHARS:
            return Duplicate("different", "one of them is longer than a statement")
        mine, others = worded(), wording(b.content)
        reason = _disagreement(mine, others, cosine)
        if reason is not None:
            return Duplicate("different", reason)
        if _claim_the_same(claimed(), read(b.content, b.name)):
            return Duplicate("same", "they give the same attribute of the same subject the same value")
        return _by_words(mine, others, cosine)

    return verdict


def _apart(a: Snapshot, b: Snapshot) -> str | None:
    """Why two memories are two whatever they say; None if they may be one."""
    if (a.name or "").casefold() != (b.name or "").casefold():
        return "another one speaks"
    told = {a.kind, b.kind}
    if told <= SAME_TEXT_IS_SAME_MEMORY:
        return None
    if len(told) > 1:
        return "they are of kinds that stay apart"
    if (a.session, a.valid_from, a.role) != (b.session, b.valid_from, b.role):
        return "they were said at different times"
    return None


_TOLD_SHORT = frozenset({"use", "do", "diet"})
"""Attributes whose claims leave out with what, how often or when."""


def _claim_the_same(a: Reading, b: Reading) -> bool:
    """Whether two texts make the same claims and say nothing else."""
    mine, others = ({(c.subject, c.attribute, c.value, c.holds) for c in one.claims} for one in (a, b))
    whole = a.alone and b.alone and mine == others
    return whole and bool(mine) and not any(attribute in _TOLD_SHORT for _, attribute, _, _ in mine)


def _by_words(a: Wording, b: Wording, cosine: float | None) -> Duplicate:
    if a.content == b.content and a.times == b.times and a.numbers == b.numbers:
        return Duplicate("same", "the same words, but for small ones or their order")
    longer, shorter = (a, b) if (len(a.content), len(a.times)) >= (len(b.content), len(b.times)) else (b, a)
    if _adds(longer, shorter, cosine):
        return Duplicate("contains" if longer is a else "contained", "one says what the other says, and adds to it")
    return Duplicate("different", "their words differ")


def _disagreement(a: Wording, b: Wording, cosine: float | None) -> str | None:
    if not a.content or not b.content:
        return "there are no words to compare"
    if cosine is not None and cosine < FAR:
        return "they are far from each other in meaning"
    if a.asks != b.asks:
        return "one of them asks"
    if a.negations != b.negations:
        return "one of them denies"
    if (a.plan, a.past) != (b.plan, b.past):
        return "one tells of what is, the other of what was or may be"
    for name, mine, others in (("numbers", a.numbers, b.numbers), ("times", a.times, b.times)):
        if (Counter(mine) - Counter(others)) and (Counter(others) - Counter(mine)):
            return f"their {name} differ"
    if _others(a, b) and _others(b, a):
        return "they name others"
    return None


def _others(a: Wording, b: Wording) -> bool:
    """Whether `a` names somebody or something that `b` does not."""
    said = "".join(b.raw)
    return any(name not in said for name in a.names)


def _adds(longer: Wording, shorter: Wording, cosine: float | None) -> bool:
    """Whether the longer text is the shorter one with something put beside it that does not narrow what it says."""
    if longer.limited and not shorter.limited:
        return False
    if Counter(shorter.numbers) - Counter(longer.numbers) or set(shorter.times) - set(longer.times):
        return False
    if len(shorter.content) < 2:
        return False
    runs = _runs(longer.raw, shorter.content, longer)
    if runs is None:
        return False
    near = cosine is not None and cosine >= NEAR and not is_han("".join(longer.raw))
    return near or all(_joins(run, last) for run, last in runs)


def _runs(
    raw: tuple[str, ...], held: tuple[str, ...], longer: Wording
) -> list[tuple[list[str], bool]] | None:
    """The runs of words that `raw` has beyond `held`, in whose order it has them; None if it has them not.

    With each, whether it ends the text.
    """
    runs: list[tuple[list[str], bool]] = []
    telling, place, run = set(longer.content), 0, list[str]()
    for word in raw:
        if place < len(held) and word == held[place]:
            place += 1
            if telling.intersection(run):
                runs.append((run, False))
            run = []
        else:
            run.append(word)
    if place < len(held):
        return None
    if telling.intersection(run):
        runs.append((run, True))
    return runs


_BEGINS = wordset(
    "in on at with for since because named called and every who which from near by during about over after under "
    "between through as while"
)
_BEGINS_HAN = frozenset("在从和跟与每于对自因")


def _joins(run: list[str], last: bool) -> bool:
    """Whether a run of words is put beside a statement; one that is not may change what a word of it means."""
    while run and run[0] in ("the", "a", "an"):
        run = run[1:]
    if not run or run[0] in _BEGINS:
        return bool(run) and (last or len(run) > 1)
    if is_han("".join(run)):
        return run[0] in _BEGINS_HAN or (not last and run[-1] == "的")
    return all(word.endswith("ly") for word in run)
