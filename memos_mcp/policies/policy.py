"""What its owner wants to become of a memory: policies read from words, written out, and resolved over each other.

Knows no memory and no ledger. A policy is a few terms, parted by commas; a memory's stands over its space's, and that
over the store's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from memos_mcp.errors import InvalidInput

Place = Literal["memory", "space", "store"]
NONE = "none"
"""The word that takes a policy away, so that the next one above holds."""
MOST_DAYS = 36_500
MOST_NUMBER = 1_000_000_000
_TERMS = "keep; decay; expire after N days; archive after N days; legal hold; may be trained; not trained"
_LIMITS = "at most N memories; at most N MB; archive below heat X"
GOOD: dict[Place, str] = {"memory": _TERMS, "space": f"{_TERMS}; {_LIMITS}", "store": _TERMS}
"""The terms that a policy may have, by what it belongs to."""


@dataclass(frozen=True)
class Policy:
    """None where it says nothing. `lifetime`: keep for ever, decay when unused, or expire `expire_days` after it was
    written; `archive_days` and `archive_heat`: when decaying begins to count; `most_memories` and `most_mb`: how many
    of a space stand, and megabytes of their texts."""

    lifetime: Literal["keep", "decay", "expire"] | None = None
    expire_days: int | None = None
    hold: bool = False
    trained: bool | None = None
    archive_days: int | None = None
    archive_heat: float | None = None
    most_memories: int | None = None
    most_mb: int | None = None

    def __str__(self) -> str:
        """The policy as it is written, in one order; empty when it says nothing."""
        said = {"expire": f"expire after {self.expire_days} days"}
        terms = [said.get(self.lifetime, str(self.lifetime))] if self.lifetime else []
        if self.archive_days is not None:
            terms.append(f"archive after {self.archive_days} days")
        if self.archive_heat is not None:
            terms.append(f"archive below heat {self.archive_heat:g}")
        if self.most_memories is not None:
            terms.append(f"at most {self.most_memories} memories")
        if self.most_mb is not None:
            terms.append(f"at most {self.most_mb} MB")
        if self.hold:
            terms.append("legal hold")
        if self.trained is not None:
            terms.append("may be trained" if self.trained else "not trained")
        return ", ".join(terms)


SILENT = Policy()


def parse(text: str, place: Place) -> Policy:
    """The policy that a person wrote; whatever its case and spaces.

    Raises:
        InvalidInput: a term that there is not, or not here, or two that speak against each other.
    """
    found = SILENT
    for term in text.split(","):
        words = " ".join(term.split()).casefold()
        given = _term(words, place)
        if given is None:
            raise InvalidInput(f"{words[:60]!r} is no policy of a {place}: {_advice(place)}", field="policy")
        if any(getattr(found, name) not in (None, False, value) for name, value in given.items()):
            raise InvalidInput(f"The policy says two things about one: {_advice(place)}", field="policy")
        found = replace(found, **given)
    if found.lifetime in ("keep", "expire") and found.archive_days is not None:
        raise InvalidInput(
            f"'archive after N days' goes with 'decay', not with {found.lifetime!r}: {_advice(place)}", field="policy"
        )
    return found


def of(text: str | None) -> Policy:
    """A policy as it is kept; nothing of what a later version wrote and this one does not know."""
    found = SILENT
    for term in (text or "").split(","):
        given = _term(" ".join(term.split()).casefold(), "space")
        found = replace(found, **(given or {}))
    return found


def resolve(memory: Policy, space: Policy, store: Policy) -> Policy:
    """What holds for a memory: of each matter what the nearest says; a hold, wherever it is said.

    Limits are the space's alone, for they are about all of its memories.
    """
    levels = (memory, space, store)
    chosen = next((one for one in levels if one.lifetime is not None), SILENT)
    return Policy(
        lifetime=chosen.lifetime,
        expire_days=chosen.expire_days,
        hold=any(one.hold for one in levels),
        trained=next((one.trained for one in levels if one.trained is not None), None),
        archive_days=next((one.archive_days for one in levels if one.archive_days is not None), None),
        archive_heat=next((one.archive_heat for one in levels if one.archive_heat is not None), None),
        most_memories=space.most_memories,
        most_mb=space.most_mb,
    )


def written(policy: Policy) -> str | None:
    """The policy as it is kept; None when it says nothing."""
    return str(policy) or None


_FIXED: dict[str, dict[str, Any]] = {
    "keep": {"lifetime": "keep"},
    "decay": {"lifetime": "decay"},
    "legal hold": {"hold": True},
    "may be trained": {"trained": True},
    "not trained": {"trained": False},
}
_COUNTED: tuple[tuple[re.Pattern[str], str, tuple[Place, ...]], ...] = (
    (re.compile(r"expire after (\d{1,10}) days?"), "expire_days", ("memory", "space", "store")),
    (re.compile(r"archive after (\d{1,10}) days?"), "archive_days", ("memory", "space", "store")),
    (re.compile(r"at most (\d{1,10}) memories"), "most_memories", ("space",)),
    (re.compile(r"at most (\d{1,10}) mb"), "most_mb", ("space",)),
)
_HEAT = re.compile(r"archive below heat (0?\.\d{1,4}|[01](?:\.0{1,4})?)")


def _term(words: str, place: Place) -> dict[str, Any] | None:
    if words in _FIXED:
        return _FIXED[words]
    if place == "space" and (found := _HEAT.fullmatch(words)):
        return {"archive_heat": float(found[1])}
    for pattern, name, places in _COUNTED:
        found = pattern.fullmatch(words)
        if found is None or place not in places or not found[1].isascii():
            continue
        number = int(found[1])
        most = MOST_DAYS if name.endswith("days") else MOST_NUMBER
        if not 1 <= number <= most:
            return None
        return {name: number, "lifetime": "expire"} if name == "expire_days" else {name: number}
    return None


def _advice(place: Place) -> str:
    return f"write one or several of: {GOOD[place]} (parted by commas, N from 1), or {NONE} to take it away."

