"""Memories, spaces, figures and jobs as MCP resources.

Knows no transport; it reads through the verbs' API only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import mcp_types as types

from memos_mcp.errors import InvalidInput, NotFound
from memos_mcp.requests import HistoryRequest, PastRequest

if TYPE_CHECKING:
    from memos_mcp.governance import Caller
    from memos_mcp.memory_api.api import MemoryAPI

STATS = "memos://stats"
ADAPTERS = "memos://adapters"
WORKING = "memos://working"
PROPOSALS = "memos://proposals"
_ALONE = {STATS: "stats", ADAPTERS: "adapters", WORKING: "working", PROPOSALS: "proposals"}
"""Resources of which there is one, and their kinds."""
BAD_CURSOR = "The cursor is not one of this list: begin without one."
LISTED = 100
"""Resources on a page of resources/list."""
LONGEST = 4_000
"""Characters of a URI: enough for any space's name, percent-encoded."""
MOST = 2**53
"""The highest number that a cursor or a URI may hold."""


@dataclass(frozen=True)
class Address:
    """A resource's parsed URI: `kind` is cube, version, history, tree, space, channel, stats, adapters, working,
    proposals or job.

    Of a channel the name is its own URI.
    """

    kind: str
    name: str = ""
    number: int = 0
    as_of: str | None = None


def templates() -> list[types.ResourceTemplate]:
    """The URI templates that resources/templates/list gives."""
    rows = (
        ("memcube://{id}", "memory", "A memory: payload and metadata"),
        ("memcube://{id}/v/{version}", "memory version", "A former version of a memory"),
        ("memcube://{id}/history", "memory history", "Versions and operations of a memory"),
        ("memcube://{id}/tree", "memory tree", "A document, folder or part with all that is under it"),
        ("memcube://space/{space}{?after,as_of}", "space", "The memories of a space, a page at a time, now or then"),
        ("memos://jobs/{id}", "job", "A background job and its progress"),
        ("memos://channels/{space}/{channel}{?after}", "channel", "What is published to a channel, a page at a time"),
    )
    return [
        types.ResourceTemplate(uri_template=uri, name=name, description=text, mime_type="application/json")
        for uri, name, text in rows
    ]


def parse(uri: str) -> Address:
    """Which resource a URI names.

    Raises:
        NotFound: none that this server has.
    """
    try:
        parts = urlsplit(uri if len(uri) <= LONGEST else "")
    except ValueError:
        raise _unknown(uri) from None
    host = unquote(uri.partition("://")[2].partition("/")[0].partition("?")[0])
    path = [unquote(step) for step in parts.path.split("/") if step]
    if parts.scheme == "memos":
        found = Address(_ALONE[uri]) if uri in _ALONE else _part_of_store(host, path, parts.query)
        if found is not None:
            return found
    elif parts.scheme == "memcube" and host:
        if host == "space" and len(path) == 1:
            asked, after = parse_qs(parts.query), _after(parts.query)
            if after is not None:
                return Address("space", path[0], after, asked.get("as_of", [None])[0])
        elif host != "space":
            found = _part_of_memory(host, path)
            if found is not None:
                return found
    raise _unknown(uri)


def _part_of_store(host: str, path: list[str], query: str) -> Address | None:
    if host == "jobs" and len(path) == 1:
        return Address("job", path[0])
    after = _after(query)
    if host == "channels" and len(path) == 2 and after is not None:
        return Address("channel", channel_uri(*path), after)
    return None


def _part_of_memory(cube: str, path: list[str]) -> Address | None:
    if not path:
        return Address("cube", cube)
    if path == ["history"]:
        return Address("history", cube)
    if path == ["tree"]:
        return Address("tree", cube)
    if len(path) == 2 and path[0] == "v":
        number = _number(path[1])
        return Address("version", cube, number) if number else None
    return None


def read(api: MemoryAPI, caller: Caller, uri: str) -> str:
    """The resource as JSON text.

    Raises:
        NotFound: it is not there, or not the caller's to see.
    """
    at = parse(uri)
    readers: dict[str, Any] = {
        "cube": lambda: api.read.cube(caller, at.name),
        "version": lambda: api.read.cube(caller, at.name, at.number),
        "history": lambda: api.history(caller, HistoryRequest(id=at.name)),
        "tree": lambda: api.tree(caller, at.name),
        "space": lambda: _page(api, caller, at.name, at.number) if at.as_of is None else _past(api, caller, at),
        "stats": lambda: api.read.stats(caller),
        "adapters": lambda: {"adapters": api.read.adapters(caller)},
        "working": lambda: api.working(caller),
        "job": lambda: api.job(caller, at.name),
        "channel": lambda: _channel_page(api, caller, at.name, at.number),
        "proposals": lambda: {"proposals": api.proposals(caller)},
    }
    return json.dumps(readers[at.kind](), ensure_ascii=False, indent=1)


def listed(api: MemoryAPI, caller: Caller, cursor: str | None) -> tuple[list[types.Resource], str | None]:
    """A page of resources: the figures first, then the spaces; memories are found through their space.

    Raises:
        InvalidInput: the cursor is not one that this server gave.
    """
    start = _number("0" if cursor is None else cursor)
    if start is None or start % LISTED:
        raise InvalidInput(BAD_CURSOR, field="cursor")
    alone = [
        (STATS, "stats", "Figures of the store"),
        (WORKING, "working", "What this session is likely to need"),
        (PROPOSALS, "proposals", "What the background would do with memories, if it is approved"),
    ]
    if api.parts.activation is not None:
        alone.append((ADAPTERS, "adapters", "What memory_ask can mount on the local model"))
    rows = [
        types.Resource(uri=uri, name=name, description=text, mime_type="application/json") for uri, name, text in alone
    ]
    rows += [
        types.Resource(
            uri=space_uri(space.name),
            name=space.name,
            description="Memories of this space",
            mime_type="application/json",
        )
        for space in api.read.spaces(caller)
    ]
    rows += [
        types.Resource(
            uri=channel["uri"],
            name=channel["channel"],
            description="What is published to this channel",
            mime_type="application/json",
        )
        for channel in api.channels(caller)
    ]
    if start >= len(rows):
        raise InvalidInput(BAD_CURSOR, field="cursor")
    more = len(rows) > start + LISTED
    return rows[start : start + LISTED], str(start + LISTED) if more else None


def space_uri(name: str) -> str:
    """The URI under which a space is read."""
    return f"memcube://space/{quote(name, safe='')}"


def job_uri(job: str) -> str:
    """The URI under which a job is read."""
    return f"memos://jobs/{job}"


def _page(api: MemoryAPI, caller: Caller, space: str, after: int) -> dict[str, Any]:
    cubes, following = api.read.page(caller, space, after)
    page: dict[str, Any] = {
        "space": space,
        "memories": [
            {
                "id": cube.id,
                "uri": cube.uri,
                "kind": cube.snapshot.kind,
                "state": cube.state,
                "version": cube.version,
                "valid_from": cube.becomes_true,
                "text": cube.snapshot.content[:200],
            }
            for cube in cubes
        ],
    }
    if following is not None:
        page["next"] = f"{space_uri(space)}?after={following}"
    return page


def _past(api: MemoryAPI, caller: Caller, at: Address) -> dict[str, Any]:
    """A page of the space as it stood at a time."""
    found = api.past(caller, PastRequest(at=(at.as_of or "")[:64], space=at.name, after=at.number))
    page: dict[str, Any] = {**found}
    if "next" in found:
        then = quote(found["as_of"], safe="")
        page["next"] = f"{space_uri(at.name)}?as_of={then}&after={found['next']}"
    return page


def channel_uri(space: str, name: str) -> str:
    """The URI under which a channel is read."""
    return f"memos://channels/{quote(space, safe='')}/{quote(name, safe='')}"


def _channel_page(api: MemoryAPI, caller: Caller, uri: str, after: int) -> dict[str, Any]:
    page = api.channel(caller, uri, after)
    following = page.pop("next")
    return page if following is None else {**page, "next": f"{uri}?after={following}"}


def _after(query: str) -> int | None:
    """Where a page begins, as a URI's query says it; None for anything else."""
    return _number(parse_qs(query).get("after", ["0"])[0])


def _number(text: str) -> int | None:
    """The whole number that the digits are; None for anything else."""
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        return None
    found = int(text)
    return found if found <= MOST else None


def _unknown(uri: str) -> NotFound:
    return NotFound("resource", [uri[:200]], "resources/templates/list shows the forms there are.")
