#!/usr/bin/env python3
"""Writes the parts of the documents that are made from the program itself: the table of moves and its diagram.

Knows nothing of the text around them: a part stands between two marks of its name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from memos_mcp import states

ROOT = Path(__file__).parents[1]


def table_of_states() -> str:
    """What each state means."""
    return _table(("state", "is"), [(f"`{state}`", states.MEANINGS[state]) for state in states.State])


def table_of_moves() -> str:
    """Every move forward, with its event and its reason; moves that differ in nothing else share a row."""
    alike: dict[tuple[str, str], list[states.Move]] = {}
    for row in states.ROWS:
        alike.setdefault((row.event, row.reason), []).append(row)
    rows = []
    for (event, reason), found in alike.items():
        known = states.EVENTS[event]
        by = "the scheduler" if known.automatic else "a call"
        starts, targets = _named(row.start for row in found), _named(row.target for row in found)
        rows.append((f"`{event}`", by, starts, targets, known.meaning, reason))
    return _table(("event", "of", "from", "to", "happens when", "because"), rows)


def diagram_of_moves() -> str:
    """The moves forward as a state diagram."""
    events: dict[tuple[str, str], list[str]] = {}
    for row in states.ROWS:
        events.setdefault((str(row.start), str(row.target)), []).append(row.event)
    lines = [f"    {start} --> {target}: {', '.join(found)}" for (start, target), found in events.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(states.State))}", *lines, "```"])


MADE: dict[str, dict[str, Callable[[], str]]] = {
    "docs/life.md": {"states": table_of_states, "moves": table_of_moves, "diagram": diagram_of_moves},
}
"""By document, what makes each of its parts."""


def renewed(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """The document with each part made anew.

    Raises:
        ValueError: a part has no place in it.
    """
    for name, make in parts.items():
        begin, end = f"<!-- made: {name} -->\n", f"\n<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"The document has no place for {name}: write {begin.strip()} and {end.strip()}.")
        text = before + begin + make() + end + after
    return text


def _named(found: Iterable[states.State]) -> str:
    return ", ".join(f"`{state}`" for state in dict.fromkeys(found))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def main() -> int:
    """Write every document anew; with --check, say which ones are not as they would be made."""
    stale = []
    for name, parts in MADE.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        made = renewed(text, parts)
        if made != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(made, encoding="utf-8")
    print("\n".join(stale) or "Every document is as it is made.")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
