"""A cube as the row of `cubes` that holds it, and back.

Knows nothing of which cubes are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from memos_mcp.cube import TEXTLESS, Cube, Snapshot, content_hash
from memos_mcp.ledger.schema import cubes, spaces
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


def cube_of(row: Sequence[Any], snapshot: str) -> Cube:
    """The cube of a row that `OF_CUBES` read; `snapshot` is its text, wherever that was kept."""
    (seq, cube, space, space_name, version, state, owner, created, updated, client, language, op, uses, last_used,
     frozen_from, _) = row  # fmt: skip
    return Cube(
        seq, cube, space, space_name, version, _STATES[state], owner, created, updated, client, language, op, uses,
        last_used, Snapshot.from_json(snapshot), _STATES[frozen_from] if frozen_from else None,
    )  # fmt: skip


OF_CUBES = select(
    cubes.c.seq, cubes.c.id, cubes.c.space, spaces.c.name, cubes.c.version, cubes.c.state, cubes.c.owner,
    cubes.c.created, cubes.c.updated, cubes.c.client, cubes.c.language, cubes.c.op, cubes.c.uses, cubes.c.last_used,
    cubes.c.frozen_from, cubes.c.snapshot,
).join(spaces, spaces.c.id == cubes.c.space)  # fmt: skip
"""Cubes as `cube_of` takes them, to be narrowed."""
_STATES = {str(state): state for state in State}
