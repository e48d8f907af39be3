"""Where a memory stands in a document or another tree: what its metadata keeps of that, and how a path is written.

Knows nothing of how a document is split, nor of storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memos_mcp.cube import Snapshot, storable

KEY = "document"
"""The key of a memory's metadata under which its position stands; a caller's own metadata may not use it."""
FOLDER, DOCUMENT, SECTION, PART, ITEM = NODES = ("folder", "document", "section", "part", "item")
MOST_TITLE = 120
MOST_PATH = 180
"""Characters of a path; of a longer one the middle is left out."""
_WITHIN = " › "


@dataclass(frozen=True)
class Position:
    """A node of a tree. `start`, `end`: characters of the source that are this node's own; None for a folder.

    `of` identifies the document or folder; `node` is one of `NODES`; `order` its place among its siblings, None where
    these stand by their titles. The memory's text begins with `overlap` characters that belong to the node before.
    `pages` are the first and the last page. `moved`: a person gave it the place that it has. `vanished`: it was
    archived because the source no longer has it. `digest` tells whether a file has changed, `sum` whether the memory's
    text is still the source's: a person may have changed it.
    """

    of: str
    node: str
    title: str = ""
    order: int | None = None
    start: int | None = None
    end: int | None = None
    overlap: int = 0
    headings: tuple[str, ...] = ()
    pages: tuple[int, int] | None = None
    digest: str | None = None
    sum: str | None = None
    moved: bool = False
    vanished: bool = False

    def as_json(self) -> dict[str, Any]:
        """As metadata keeps it: only what is there to say."""
        found: dict[str, Any] = {"of": self.of, "node": self.node, "title": self.title, "order": self.order}
        found |= {"start": self.start, "end": self.end}
        if self.node in (SECTION, PART, ITEM):
            found["overlap"] = self.overlap
        found["headings"] = list(self.headings) or None
        if self.pages is not None:
            found |= {"page": self.pages[0], "to_page": self.pages[1] if self.pages[1] != self.pages[0] else None}
        found |= {"digest": self.digest, "sum": self.sum}
        found |= {"moved": self.moved or None, "vanished": self.vanished or None}
        return {key: value for key, value in found.items() if value is not None}


def position_of(snapshot: Snapshot) -> Position | None:
    """Where a memory stands; None for one that is no node of a tree, whatever its metadata hold."""
    found = snapshot.metadata.get(KEY)
    if not isinstance(found, dict) or found.get("node") not in NODES or not isinstance(found.get("of"), str):
        return None
    page = _number(found, "page")
    headings = found.get("headings")
    return Position(
        found["of"],
        found["node"],
        str(found.get("title", "")),
        _number(found, "order"),
        _number(found, "start"),
        _number(found, "end"),
        _number(found, "overlap") or 0,
        tuple(str(one) for one in headings) if isinstance(headings, list) else (),
        None if page is None else (page, _number(found, "to_page") or page),
        found["digest"] if isinstance(found.get("digest"), str) else None,
        found["sum"] if isinstance(found.get("sum"), str) else None,
        found.get("moved") is True,
        found.get("vanished") is True,
    )


def placed(snapshot: Snapshot, at: Position, parent: str | None) -> Snapshot:
    """The memory at another position, under another parent."""
    metadata = {**snapshot.metadata, KEY: at.as_json()}
    return replace(snapshot, metadata=metadata, parents=() if parent is None else (parent,))


def own_text(snapshot: Snapshot) -> str:
    """The memory's text without what it repeats of the node before: of all nodes in order, the source.

    A text that a person has changed is given whole.
    """
    at = position_of(snapshot)
    return snapshot.content if at is None or edited(snapshot) else snapshot.content[at.overlap :]


def edited(snapshot: Snapshot) -> bool:
    """Whether the text of a node is no longer the one that it got from its source."""
    at = position_of(snapshot)
    return at is not None and at.sum is not None and at.sum != sum_of(snapshot.content)


def sum_of(text: str) -> str:
    """A digest of exactly this text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def path(nodes: Sequence[Position]) -> str:
    """How the way from the top down to a node is written: docs/guide.md › Install › Linux (page 3)."""
    outer = [one.title for one in nodes if one.node in (FOLDER, DOCUMENT) and one.title]
    inner = [one.title for one in nodes if one.node not in (FOLDER, DOCUMENT) and one.title]
    steps = ["/".join(title.rstrip("/") or title for title in outer), *inner] if outer else inner
    shown = _WITHIN.join(steps)
    while len(shown) > MOST_PATH and len(steps) > 2:
        del steps[len(steps) // 2]
        shown = _WITHIN.join([*steps[: len(steps) // 2], "…", *steps[len(steps) // 2 :]])
    if len(shown) > MOST_PATH:
        half = MOST_PATH // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    pages = nodes[-1].pages if nodes else None
    if pages is None:
        return shown
    return f"{shown} (page {pages[0]})" if pages[0] == pages[1] else f"{shown} (pages {pages[0]}–{pages[1]})"


def spoken(titles: Sequence[str]) -> str | None:
    """The titles above a text, as a line of what it is about; None when there are none."""
    line = _WITHIN.join(one for one in titles if one and "://" not in one)
    return line if len(line) <= 2 * MOST_TITLE - 40 else "…" + line[-(2 * MOST_TITLE - 41) :] if line else None


def title_of(text: str) -> str:
    """The text as a title: one line without control characters, cut to `MOST_TITLE`."""
    line = " ".join(storable(text).split())
    line = "".join(char for char in line if char.isprintable() or char == "\u200d")
    return line if len(line) <= MOST_TITLE else line[: MOST_TITLE - 1] + "…"


def _number(found: dict[str, Any], key: str) -> int | None:
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
