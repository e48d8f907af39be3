"""A cube as the row of `cubes` that holds it, and back.

Knows no queries.
"""

from __future__ import annotations

from typing import Any

from memos_mcp.cube import TEXTLESS, Cube, Snapshot, content_hash
from memos_mcp.states import State


def row_of(cube: Cube) -> dict[str, Any]:
    """The row that holds a cube."""
    snapshot = cube.snapshot
    return {
        "id": cube.id,
        "space": cube.space,
        "version": cube.version,
        "state": cube.state,
        "frozen_from": cube.frozen_from,
        "owner": cube.owner,
        "created": cube.created,
        "updated": cube.updated,
        "client": cube.client,
        "language": cube.language,
        "op": cube.op,
        "uses": cube.uses,
        "last_used": cube.last_used,
        "content_hash": content_hash(cube.id if snapshot.kind in TEXTLESS else snapshot.content),
        "becomes_true": cube.becomes_true,
        "kind": snapshot.kind,
        "session": snapshot.session,
        "source": snapshot.source,
        "ref": snapshot.ref,
        "importance": snapshot.importance,
        "expires": snapshot.expires,
        "superseded_by": snapshot.superseded_by,
        "snapshot": snapshot.as_json(),
    }


def cube_of(row: Any, snapshot: str) -> Cube:
    """The cube of a row of `cubes` with its space's name; `snapshot` is its text, wherever that was kept."""
    return Cube(
        row.seq, row.id, row.space, row.space_name, row.version, State(row.state), row.owner, row.created, row.updated,
        row.client, row.language, row.op, row.uses, row.last_used, Snapshot.from_json(snapshot),
        State(row.frozen_from) if row.frozen_from else None,
    )  # fmt: skip
