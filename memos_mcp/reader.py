"""Turns what a caller says, a text or a conversation, into drafts of memories.

Knows nothing of what is stored already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from memos_mcp import traces
from memos_mcp.cube import BLOCK, Link, Snapshot, clean_label, clean_text, parse_instant, storable
from memos_mcp.entities import triples
from memos_mcp.entities.naming import relation_key
from memos_mcp.errors import InvalidInput
from memos_mcp.requests import AddRequest, LinkTo
from memos_mcp.vault import LINEAGE

REMOVES = "-"
"""What a relation begins with that is to be taken away."""
_WRITTEN_ALONE = {
    "parent": "what a memory is made of is noted by the operation that makes it; derived_from says it of your own.",
    "supersedes": "give the old memory's id in supersedes (memory_add).",
}
MAX_METADATA = 16_384
"""Characters of a memory's metadata as JSON."""
MAX_NUMBER = 1e308
MAX_NESTING = 20
"""Objects and lists within each other in a memory's metadata."""


def drafts(request: AddRequest) -> list[Snapshot]:
    """The memories that a request asks for, in order; those of tools' calls as `traces` writes them.

    Raises:
        InvalidInput: neither or both of content and messages, or a value that cannot be kept.
    """
    return [_of_its_kind(draft, request.kind) for draft in _said(request)]


def _of_its_kind(draft: Snapshot, asked: str | None) -> Snapshot:
    if draft.role is None:
        return traces.traced(draft, meant=True) if asked == traces.KIND else draft
    is_turn = asked == traces.KIND or (asked is None and draft.role == "tool")
    return traces.turn(draft, called=asked == traces.KIND) if is_turn else draft


def _said(request: AddRequest) -> list[Snapshot]:
    if (request.content is None) == (request.messages is None):
        raise InvalidInput("Give either content or messages.", field="content")
    shared = _shared(request)
    if request.content is not None and shared.metadata.get("format") == triples.FORMAT:
        if request.ref is not None:
            raise InvalidInput("With triples, leave ref out: adding the same triple again is safe.", field="ref")
        return triples.drafts(shared, clean_text(request.content))
    if request.content is not None:
        ref = _label(request.ref, "ref")
        name = ref if shared.kind == BLOCK else None  # a block is called by its ref
        return [replace(shared, content=clean_text(request.content), ref=ref, name=name)]
    if request.ref is not None:
        raise InvalidInput("With messages, give each message its own ref.", field="ref")
    if not request.messages:
        raise InvalidInput("messages is empty: give at least one.", field="messages")
    found = []
    for i, message in enumerate(request.messages):
        moment = parse_instant(message.time, f"messages[{i}].time") if message.time else shared.valid_from
        found.append(
            replace(
                shared,
                content=clean_text(message.content, f"messages[{i}].content"),
                kind=request.kind or "dialogue",
                role=_label(message.role, "role"),
                name=_label(message.name, "name"),
                ref=_label(message.ref, "ref"),
                valid_from=moment,
            )
        )
    refs = [draft.ref for draft in found if draft.ref is not None]
    if len(set(refs)) < len(refs):
        raise InvalidInput("Two messages carry the same ref: a ref names one message.", field="messages")
    return found


def links(given: list[LinkTo]) -> tuple[Link, ...]:
    """Links as a memory keeps them, each once.

    Raises:
        InvalidInput: a relation that is no label, or that only an operation writes.
    """
    return each_once([Link(link.to, _relation(link.relation)) for link in given])


def each_once(found: Iterable[Link]) -> tuple[Link, ...]:
    """The links in their order, each as it was written first: works_at, worksAt and "Works at" are one relation."""
    first: dict[tuple[str, str], Link] = {}
    for link in found:
        first.setdefault((link.to, relation_key(link.relation)), link)
    return tuple(first.values())


def _relation(said: str) -> str:
    label = clean_label(said, "relation", 60)
    key = relation_key(label)
    if label.startswith(REMOVES):
        raise InvalidInput(f"relation {said!r} removes a link: memory_update takes it.", field="links")
    if key in _WRITTEN_ALONE:
        raise InvalidInput(f"relation {said!r}: {_WRITTEN_ALONE[key]}", field="links")
    return key.replace(" ", "_") if key.replace(" ", "_") in LINEAGE else label


def removals(given: list[LinkTo]) -> tuple[list[LinkTo], Callable[[Link], bool]]:
    """The links to be added, and whether one that is there stays: "-about" takes that relation away, "-" every one."""
    gone = [link for link in given if link.relation.strip().startswith(REMOVES)]
    cut = {(link.to, relation_key(link.relation.strip().removeprefix(REMOVES))) for link in gone}
    return [link for link in given if link not in gone], lambda held: not (
        (held.to, relation_key(held.relation)) in cut or (held.to, "") in cut
    )


def tags(given: list[str]) -> tuple[str, ...]:
    """Tags as a memory keeps them: clean, each once, in order."""
    return tuple(dict.fromkeys(clean_label(tag, "tag", 100) for tag in given))


def metadata(given: dict[str, Any]) -> dict[str, Any]:
    """The caller's own metadata, if it can be kept.

    Raises:
        InvalidInput: over `MAX_METADATA` characters as JSON, nested over `MAX_NESTING` deep, or a number out of range.
    """
    _require_plain(given)
    size = len(json.dumps(given, ensure_ascii=False))
    if size > MAX_METADATA:
        raise InvalidInput(
            f"metadata has {size:,} characters of at most {MAX_METADATA:,}: put long text into content.",
            field="metadata",
        )
    return {storable(key): _storable(value) for key, value in given.items()}


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return {storable(key): _storable(item) for key, item in value.items()} if isinstance(value, dict) else value


def _require_plain(value: object, depth: int = 0) -> None:
    if depth > MAX_NESTING:
        raise InvalidInput(f"metadata is nested over {MAX_NESTING} deep: make it flatter.", field="metadata")
    if isinstance(value, int | float) and not abs(value) < MAX_NUMBER:
        raise InvalidInput("metadata holds a number that cannot be kept: leave out NaN and Infinity, "
                           "and write very large numbers as text.", field="metadata")  # fmt: skip
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _require_plain(item, depth + 1)


def _shared(request: AddRequest) -> Snapshot:
    default = Snapshot(content="")
    return replace(
        default,
        kind=request.kind or "fact",
        valid_from=parse_instant(request.time, "time") if request.time else None,
        session=_label(request.session, "session"),
        source=clean_text(request.source, "source") if request.source else None,
        tags=tags(request.tags),
        metadata=metadata(request.metadata),
        importance=default.importance if request.importance is None else request.importance,
        priority=default.priority if request.priority is None else request.priority,
        expires=parse_instant(request.expires, "expires") if request.expires else None,
        links=links(request.links),
        supersedes=tuple(dict.fromkeys(request.supersedes)),
    )


def _label(text: str | None, field: str) -> str | None:
    return None if text is None else clean_label(text, field)
