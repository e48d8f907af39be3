"""What a rule finds: a statement of a person about themselves, and who said it when.

Knows no language.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExtractedKind = Literal["fact", "preference", "profile", "event"]


@dataclass(frozen=True)
class Extracted:
    """A statement that stands by itself; `rule` names what found it, `confidence` is 0..1."""

    kind: ExtractedKind
    text: str
    rule: str
    confidence: float


@dataclass(frozen=True)
class Said:
    """Who speaks, by name or None, and on which day, as 2026-11-21 or None."""

    speaker: str | None
    day: str | None
