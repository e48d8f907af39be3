"""A document before it is kept: its text, what it is called, and what is known of its headings and pages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memos_mcp.cube import MAX_DOCUMENT, Snapshot, storable
from memos_mcp.documents.markup import Heading
from memos_mcp.documents.position import DOCUMENT, KEY, Position, spoken, sum_of, title_of
from memos_mcp.documents.split import Format, split
from memos_mcp.errors import InvalidInput

SPLIT_FROM = 2_000
"""Characters from which on a document is kept in parts; a shorter one is one memory."""
MOST_PARTS = 10_000


@dataclass(frozen=True)
class Folder:
    """A folder above a file; `of` identifies it."""

    of: str
    title: str


@dataclass(frozen=True)
class Manuscript:
    """A document to be kept. `of` identifies it from one time to the next; `pages` are where its pages begin.

    `headings`: those that the text does not mark itself. `folders`: those above it, outermost first. `digest` is kept
    for whoever wants to know later whether it has changed.
    """

    of: str
    title: str
    text: str
    form: Format = "markdown"
    headings: tuple[Heading, ...] | None = None
    pages: tuple[int, ...] = ()
    folders: tuple[Folder, ...] = ()
    digest: str | None = None


@dataclass(frozen=True)
class Node:
    """A memory of a document: a draft, and the place of the node above it in the list; None for the document's own."""

    draft: Snapshot
    at: Position
    parent: int | None


def nodes(manuscript: Manuscript, shared: Snapshot) -> list[Node]:
    """The memories that a document becomes, its own first, then its parts in order.

    `shared` has what they have in common (kind, tags, source, times); the document's own keeps its ref and links too.

    Raises:
        InvalidInput: the text is blank or too long, or falls into too many parts.
    """
    text = storable(manuscript.text)
    if not text.strip():
        raise InvalidInput("content is empty: give the text to remember.", field="content")
    if len(text) > MAX_DOCUMENT:
        raise InvalidInput(
            f"The document has {len(text):,} characters and one holds {MAX_DOCUMENT:,}: split it into several.",
            field="content",
        )
    whole = manuscript.form != "outline" and len(text) < SPLIT_FROM
    root = Position(manuscript.of, DOCUMENT, manuscript.title, None, 0, len(text), digest=manuscript.digest)
    if whole:
        return [_node(shared, text, replace(root, pages=_pages(manuscript, 0, len(text))), None)]
    pieces = split(text, manuscript.form, manuscript.headings)
    if len(pieces) > MOST_PARTS:
        raise InvalidInput(
            f"The document falls into {len(pieces):,} parts and one holds {MOST_PARTS:,}: split it into several.",
            field="content",
        )
    found = [_node(shared, manuscript.title or title_of(text[:200]), root, None)]
    common = Snapshot(
        content="", kind=shared.kind, valid_from=shared.valid_from, session=shared.session, source=shared.source,
        tags=shared.tags, metadata=shared.metadata, importance=shared.importance, priority=shared.priority,
        expires=shared.expires, sensitivity=shared.sensitivity,
    )  # fmt: skip
    for piece in pieces:
        at = Position(
            manuscript.of, piece.node, piece.title, piece.order, piece.start, piece.end, piece.overlap, piece.headings,
            _pages(manuscript, piece.start, piece.end),
        )  # fmt: skip
        about = spoken((manuscript.title, *(piece.headings[:-1] if piece.title else piece.headings)))
        said = text[piece.start - piece.overlap : piece.end]
        found.append(_node(replace(common, name=about), said, at, 0 if piece.parent is None else piece.parent + 1))
    return found


def _node(shared: Snapshot, content: str, at: Position, parent: int | None) -> Node:
    at = replace(at, sum=sum_of(content))
    metadata = {**shared.metadata, KEY: at.as_json()}
    return Node(replace(shared, content=content, metadata=metadata), at, parent)


def _pages(manuscript: Manuscript, start: int, end: int) -> tuple[int, int] | None:
    """The first and the last page, counted from 1, that the characters `start` to `end` stand on."""
    pages: Sequence[int] = manuscript.pages
    if not pages:
        return None
    return max(bisect_right(pages, start), 1), max(bisect_right(pages, max(end - 1, start)), 1)
