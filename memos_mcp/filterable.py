"""What of a memory's metadata it can be found by: rows of key, text and number.

Knows no tables.
"""

from __future__ import annotations

from typing import Any

MOST_VALUE = 500
"""Characters of a text in metadata by which it is found."""


def filterable(metadata: dict[str, Any]) -> list[tuple[str, str | None, float | None]]:
    """Metadata as (key, text, number) rows; lists give a row an item, nested objects dotted keys."""
    rows: list[tuple[str, str | None, float | None]] = []
    for key, value in metadata.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                rows += [(f"{key}.{inner}", t, n) for inner, t, n in filterable(item)]
            elif isinstance(item, bool):
                rows.append((key, "true" if item else "false", None))
            elif isinstance(item, int | float):
                rows.append((key, None, float(item)))
            elif isinstance(item, str):
                rows.append((key, item[:MOST_VALUE], None))
    return list(dict.fromkeys(rows))
