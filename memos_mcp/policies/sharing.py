"""Divides what is short fairly.

Knows nothing of what is divided.
"""

from __future__ import annotations

from collections.abc import Sequence


def shares(lengths: Sequence[int], budget: int) -> list[int]:
    """Divide `budget` characters fairly: short texts whole, the rest an equal part each."""
    given = [0] * len(lengths)
    left = budget
    for place, i in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        given[i] = min(lengths[i], left // (len(lengths) - place))
        left -= given[i]
    return given
