"""The constants by which a memory's heat is reckoned, and the text in which a store names those it wants otherwise.

Standard library only, and it reckons nothing: command line, settings and policies share it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from memos_mcp.errors import InvalidInput

WEIGHTS = ("visits", "dwell", "recency", "importance")
"""Constants that share out heat among them: together at most 1."""
_SHARES = (*WEIGHTS, "pinned", "stale", "wrong")
EXAMPLE = "half_life_days=14 visits=0.4 dwell=0.2"


@dataclass(frozen=True)
class HeatConstants:
    """Half-lives are in days: `half_life_days` of recency, `use_half_life_days` of what was counted of uses.

    `visits`, `dwell`, `recency`, `importance`: the most that each can give. `half_at`: visits, and turns of dwell, that
    give half of that. `pinned`: the least heat of a pinned memory. `stale`, `wrong`: what a caller's word leaves of it.
    """

    half_life_days: float = 7.0
    use_half_life_days: float = 30.0
    visits: float = 0.35
    dwell: float = 0.25
    recency: float = 0.3
    importance: float = 0.1
    half_at: float = 2.0
    pinned: float = 0.8
    stale: float = 0.5
    wrong: float = 0.2


STANDARD = HeatConstants()
NAMES = tuple(field.name for field in fields(HeatConstants))


def read(text: str) -> HeatConstants:
    """The standard constants with those that the text names, as NAME=NUMBER with spaces between.

    Raises:
        InvalidInput: no such constant, or a value that it cannot have.
    """
    given: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        name, _, value = word.partition("=")
        if name not in NAMES:
            raise InvalidInput(f"heat has no {name[:60]!r}: name of {', '.join(NAMES)}, as {EXAMPLE!r}.", field="heat")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        given[name] = _checked(name, number, value)
    found = HeatConstants(**given)
    if (total := sum(getattr(found, name) for name in WEIGHTS)) > 1.0 + 1e-9:
        raise InvalidInput(f"{', '.join(WEIGHTS)} of heat may be 1 together and are {total:g}.", field="heat")
    return found


def _checked(name: str, number: float, said: str) -> float:
    low, high = (0.0, 1.0) if name in _SHARES else (0.01, 36_500.0)
    if not low <= number <= high:  # what is no number is not either
        raise InvalidInput(f"{name} of heat must be from {low:g} to {high:g}, not {said[:60]!r}.", field="heat")
    return number
