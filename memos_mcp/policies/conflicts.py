"""Decides whether a newer statement contradicts an older one, with the reason, and whether the newer one surely holds.

Knows no ledger and no model. A rule is sure where the attribute has one value at a time, or the newer statement says
itself that something changed, and the older one says nothing else; otherwise both are kept and the caller is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from memos_mcp.claims import places
from memos_mcp.claims.claim import Claim, Reading
from memos_mcp.claims.reading import read
from memos_mcp.claims.words import MOST_CHARS, NEGATIONS, Wording, wording
from memos_mcp.cube import Snapshot

STATEMENTS = frozenset({"fact", "preference", "profile"})
"""Kinds that state what is so until something else is; an event stays true whatever follows it."""
NEWS = STATEMENTS | {"event"}
"""Kinds that may say that something is so no more."""


_NEGATION = re.compile(r"\b(?:not|no|never|nothing|without|cannot)\b|n['’]t\b|[不没未无]", re.IGNORECASE)
_SEVERAL = re.compile(r"\b(?:sister|brother|son|daughter|dog|cat)\b|哥哥|弟弟|姐姐|妹妹|儿子|女儿|狗|猫")
"""Of whom a person may have several, so that two statements need not be of the same one."""


@dataclass(frozen=True)
class Conflict:
    """That two statements do not both hold now. `sure`: the newer one takes the older one's place."""

    reason: str
    sure: bool


def conflict(older: Snapshot, newer: Snapshot) -> Conflict | None:
    """How the newer statement contradicts the older one; None if it does not, as far as rules can tell."""
    if older.kind not in STATEMENTS or newer.kind not in NEWS:
        return None
    return between(claimed(older), claimed(newer)) or denial(older, newer)


def claimed(snapshot: Snapshot) -> Reading:
    """What a memory claims."""
    return read(snapshot.content, snapshot.name)


def between(older: Reading, newer: Reading) -> Conflict | None:
    """How what is claimed by two readings is in conflict; a sure conflict before any other."""
    found: Conflict | None = None
    for former in older.claims:
        if any(_agree(former, claim) for claim in newer.claims):
            continue
        for claim in newer.claims:
            if (claim.subject, claim.attribute) != (former.subject, former.attribute):
                continue
            one = _of_claims(former, claim, older.alone)
            if one is not None and (found is None or (one.sure and not found.sure)):
                found = one
    return found


def _agree(former: Claim, claim: Claim) -> bool:
    """Whether two claims are one."""
    about = (former.subject, former.attribute, former.holds) == (claim.subject, claim.attribute, claim.holds)
    return about and one_value(former.value, claim.value)


def _of_claims(former: Claim, claim: Claim, alone: bool) -> Conflict | None:
    what = claim.attribute.split()[0]
    many = "many" in (former.values, claim.values)
    same = former.value == claim.value if many else one_value(former.value, claim.value)
    alone = alone and not _SEVERAL.search(claim.subject)
    if former.holds != claim.holds:
        if not same:
            return None
        reason = "denies what the other says" if former.holds else "says what the other denies"
        return Conflict(f"{reason} ({what})", alone)
    return None if same or many or not claim.holds else _of_values(former, claim, what, alone)


def _of_values(former: Claim, claim: Claim, what: str, alone: bool) -> Conflict | None:
    """The conflict of two claims that give an attribute two values."""
    if claim.attribute == "home" and places.level(former.value) != places.level(claim.value):
        return Conflict("another home, told less or more closely", False) if claim.changes else None
    if claim.attribute == "age":
        return Conflict("another age", alone and older_by_now(former.value, claim.value))
    if former.values == claim.values == "one":
        return Conflict(f"another value of what has one at a time ({what})", alone)
    return Conflict(f"another value of what mostly has one ({what})", alone and claim.changes)


def older_by_now(before: str, now: str) -> bool:
    """Whether an age is one that the other may have become."""
    return before.isdecimal() and now.isdecimal() and int(now) > int(before)


def one_value(a: str, b: str) -> bool:
    """Whether two values are the same, or one is the other told more closely (Porto; Porto, Portugal)."""
    if not a or not b:
        return False
    figures = [set(re.findall(r"\d+", value)) for value in (a, b)]
    if not (figures[0] <= figures[1] or figures[1] <= figures[0]):
        return False
    if a.isascii() and b.isascii():
        mine, others = set(a.split()), set(b.split())
        return mine <= others or others <= mine
    return a in b or b in a


def denial(older: Snapshot, newer: Snapshot) -> Conflict | None:
    """That one statement is the other with a negation."""
    if older.kind not in STATEMENTS or newer.kind not in NEWS or _negated(older.content) is _negated(newer.content):
        return None
    denies = _denies(older.content, newer.content, wording)
    return Conflict("denies what the other says", False) if denies else None


def contradicting() -> Callable[[str, str], bool]:
    """Tells whether of two sentences of one text, the earlier first, both do not hold at one time.

    What it has read of a sentence it keeps for the next comparison, as long as it is kept itself.
    """
    reading, worded, negated = cache(read), cache(wording), cache(_negated)

    def contradicts(earlier: str, later: str) -> bool:
        if between(reading(earlier), reading(later)) is not None:
            return True
        return negated(earlier) is not negated(later) and _denies(earlier, later, worded)

    return contradicts


def _negated(text: str) -> bool:
    return _NEGATION.search(text) is not None


def _denies(a: str, b: str, worded: Callable[[str], Wording]) -> bool:
    if max(len(a), len(b)) > MOST_CHARS:
        return False
    mine, others = worded(a), worded(b)
    if {mine.negations, others.negations} != {0, 1} or len(mine.content) < 2 or _affirmed(mine) != _affirmed(others):
        return False
    if (mine.times, mine.numbers, mine.names) != (others.times, others.numbers, others.names):
        return False
    return not any((mine.plan, others.plan, mine.past, others.past, mine.asks, others.asks))


def _affirmed(said: Wording) -> list[str]:
    return [word for word in said.content if word not in NEGATIONS]
