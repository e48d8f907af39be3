"""Core blocks: small named texts that an agent appends to and replaces, and whose overflow becomes memories.

Knows neither which verb writes a block nor how it is shown. A block is called by its `ref`; of what grows beyond its
limit the oldest paragraphs are kept as memories of their own, with the block as their parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import BLOCK, Cube, Snapshot, clean_text
from memos_mcp.errors import InvalidInput
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api.parts import Parts
from memos_mcp.operators.paging import paged

LIMIT = 2_000
"""Characters of a block whose metadata name no limit."""
LEAST, MOST = 200, 20_000
LIMIT_KEY, PAGED = "limit", "paged"
"""Keys of metadata: a block's own limit; of a page, the block that it comes from. The second is its tag too."""


@dataclass(frozen=True)
class Fitted:
    """A memory as it is to be written, and the pages that go out of it, oldest first."""

    snapshot: Snapshot
    pages: Sequence[str] = ()


def fitted(snapshot: Snapshot) -> Fitted:
    """A block within its limit; anything else as it is."""
    if snapshot.kind != BLOCK:
        return Fitted(snapshot)
    pages, kept = paged(snapshot.content, _limit(snapshot))
    return Fitted(replace(snapshot, content=kept) if pages or kept != snapshot.content else snapshot, pages)


def check(draft: Snapshot) -> None:
    """Refuse a block whose limit cannot be one.

    Raises:
        InvalidInput: it is no whole number from `LEAST` to `MOST`.
    """
    limit = draft.metadata.get(LIMIT_KEY, LIMIT)
    if draft.kind == BLOCK and not _can_be(limit):
        raise InvalidInput(
            f"The limit of a block is a whole number of characters from {LEAST} to {MOST:,}, not {str(limit)[:60]!r}: "
            "give metadata limit so, or leave it out.",
            field="metadata",
        )


def appended(held: Snapshot, text: str) -> str:
    """The block's text with a further paragraph.

    Raises:
        InvalidInput: it is no block, or there is nothing to append.
    """
    if held.kind != BLOCK:
        raise InvalidInput(f"append is for kind block and this is a {held.kind}: give content.", field="append")
    return f"{held.content}\n{clean_text(text, 'append')}"


def as_held(draft: Snapshot, held: Cube | None, kind_given: bool) -> Snapshot:
    """A draft that carries the ref of a block is that block's, unless its caller says of what other kind it is."""
    if held is None or held.snapshot.kind != BLOCK or kind_given or draft.role is not None:
        return draft
    return replace(draft, kind=BLOCK, name=draft.ref)


def page_out(
    parts: Parts, connection: Connection, op: Operation, block: Cube, pages: Sequence[str]
) -> tuple[list[Cube], list[Change]]:
    """Write the pages of a block in the operation that made it overflow; one that stands already is not written again.

    Returns the new memories and the changes to record.
    """
    fresh = unknown(parts, connection, block, pages, op.at)
    if not fresh:
        return [], []
    space = governance.space_of(connection, block.space)
    return parts.vault.insert(connection, op, space, [_page(block, text) for text in fresh], None, 0)


def unknown(parts: Parts, connection: Connection, block: Cube, pages: Sequence[str], now: str) -> list[str]:
    """Those of the pages that do not stand as the block's memories, each once."""
    return [page for page in dict.fromkeys(pages) if not _stands(parts, connection, block, page, now)]


def is_page(snapshot: Snapshot) -> bool:
    """Whether the memory is what went out of a block."""
    return PAGED in snapshot.metadata


def _stands(parts: Parts, connection: Connection, block: Cube, page: str, now: str) -> bool:
    known = parts.vault.by_content(connection, block.space, page, now)
    return any(
        cube.stands and cube.snapshot.content == page and block.id in cube.snapshot.parents for cube in known
    )


def _page(block: Cube, text: str) -> Snapshot:
    said = block.snapshot
    return Snapshot(
        content=text,
        kind="document",
        name=said.name,
        session=said.session,
        source=said.source,
        tags=tuple(dict.fromkeys((*said.tags, PAGED))),
        metadata={PAGED: {"block": said.ref or block.id}},
        importance=said.importance,
        priority=said.priority,
        expires=said.expires,
        sensitivity=said.sensitivity,
        parents=(block.id,),
    )


def _limit(snapshot: Snapshot) -> int:
    limit = snapshot.metadata.get(LIMIT_KEY, LIMIT)
    return limit if _can_be(limit) else LIMIT


def _can_be(limit: object) -> bool:
    return isinstance(limit, int) and not isinstance(limit, bool) and LEAST <= limit <= MOST
