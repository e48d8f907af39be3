"""Decides what is worth being trained into an adapter, and which adapter is not worth being kept, with the reason.

Knows no ledger and no clock: what is known of the memories is given. What may not be trained is not weighed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OLD_DAYS = 7.0
"""Days since it was written after which a memory has proved itself."""
STABLE_DAYS = 3.0
"""Days since its last change."""
HOT = 0.5
"""Heat, 0..1, from which a memory is used all the time."""
FEWEST, MOST = 8, 200
"""Memories that one adapter is proposed for."""
RARE_DAYS = 30.0
"""Days without an answer under it after which an adapter is rarely used."""
KINDS = frozenset({"fact", "preference", "profile", "procedure"})
"""Kinds of what stays true."""


@dataclass(frozen=True)
class Known:
    """What is known of a memory: `doubted`: something speaks against it; `trained`: an adapter knows it."""

    id: str
    kind: str
    age_days: float
    stable_days: float
    heat: float
    doubted: bool = False
    trained: bool = False


@dataclass(frozen=True)
class Worth:
    """What is worth training, hottest first, how much (0..1), and why."""

    ids: tuple[str, ...]
    score: float
    reason: str


def rarely_used(idle_days: float) -> str | None:
    """Why an adapter that was made or mounted so long ago had better be plaintext again; None if it is in use."""
    if idle_days < RARE_DAYS:
        return None
    return f"nobody was answered by this adapter for {idle_days:.0f} days: its memories can be read instead"


def worth(known: Sequence[Known]) -> Worth | None:
    """What of these memories is worth an adapter of its own; None if there is too little."""
    good = sorted((one for one in known if _is_worth(one)), key=lambda one: (-one.heat, one.id))[:MOST]
    if len(good) < FEWEST:
        return None
    score = sum(one.heat for one in good) / len(good)
    reason = (
        f"{len(good)} memories are used all the time (heat {score:.2f}), older than {OLD_DAYS:g} days, unchanged for "
        f"{STABLE_DAYS:g} and doubted by nobody: an adapter would know them without reading"
    )
    return Worth(tuple(one.id for one in good), min(1.0, score), reason)


def _is_worth(one: Known) -> bool:
    lasting = one.kind in KINDS and one.age_days >= OLD_DAYS and one.stable_days >= STABLE_DAYS
    return lasting and one.heat >= HOT and not one.doubted and not one.trained
