"""What is kept of memories as activations, in the words of resources: payloads, states, and what can be mounted.

Knows the ledger's rows alone: no model is loaded, and no file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.activation.entries import MOUNTED
from memos_mcp.activation.steering_file import FORMAT
from memos_mcp.cube import ADAPTER, STEERING, Cube, Snapshot
from memos_mcp.governance import Caller
from memos_mcp.ledger import adapters as adapter_rows
from memos_mcp.ledger import kept_states, steerings
from memos_mcp.ledger.kept_states import StateRow
from memos_mcp.ledger.steerings import SteeringRow
from memos_mcp.memory_api.adapters import described
from memos_mcp.states import LIVE
from memos_mcp.vault import Vault

ADAPTER_FORMAT = "application/x-lora+gguf"
MOST = 10_000
"""Steering vectors that are looked at."""


def payload(connection: Connection, cube: Cube, snapshot: Snapshot) -> dict[str, Any]:
    """The payload of a version. Of a steering vector `value` is its name, `blob` its file, None until it is made."""
    if snapshot.kind == ADAPTER:
        return _of_adapter(connection, cube, snapshot)
    if snapshot.kind != STEERING:
        return {"form": snapshot.form, "format": "text/plain", "value": snapshot.content}
    found: dict[str, Any] = {"form": snapshot.form, "format": FORMAT, "value": snapshot.content, "blob": None}
    for row in steerings.listed(connection, [cube.seq]):
        ids = kept_states.ids_of(connection, [source.cube for source in row.sources])
        found["blob"] = {"sha256": row.sha256, "size": row.bytes, "format": FORMAT}
        found["made"] = {
            **_figures(row),
            "sources": [{"id": ids[s.cube], "version": s.version, "side": s.side} for s in row.sources],
        }
    return found


def _of_adapter(connection: Connection, cube: Cube, snapshot: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = {"form": snapshot.form, "format": ADAPTER_FORMAT, "value": snapshot.content, "blob": None}
    for row in adapter_rows.listed(connection, [cube.seq]):
        if row.gguf_sha256 is not None:
            found["blob"] = {"sha256": row.gguf_sha256, "size": row.bytes, "format": ADAPTER_FORMAT}
        ids = kept_states.ids_of(connection, [seq for seq, _ in row.sources])
        sources = [{"id": ids[seq], "version": version} for seq, version in row.sources if seq in ids]
        found["made"] = {**described(cube, row), "sources": sources}
    return found


def _figures(row: SteeringRow) -> dict[str, Any]:
    return {
        "model": row.model,
        "identity": row.identity,
        "layers": [row.first, row.last],
        "width": row.width,
        "shares": list(row.shares),
        "norms": list(row.norms),
        "created": row.created,
    }


def states(connection: Connection, caller: Caller, cube: Cube) -> list[dict[str, Any]]:
    """The local model's states in files that hold a memory: in which format and layers, and at which positions.

    Conversations of others are left out. `positions` are the first token of the memory and the one behind its last;
    the first is None of a state that was kept before it was noted.
    """
    rows = kept_states.listed(connection, cube.seq)
    return [
        {
            "key": row.key,
            "format": row.format,
            "layers": row.layers,
            "version": version,
            "positions": positions,
            "tokens": row.tokens,
            "bytes": row.bytes,
            "identity": row.identity,
            "steered": row.mounted is not None,
            "promoted": row.promoted,
            "conversation": row.owner.conversation if row.owner is not None else None,
            "created": row.created,
            "last_used": row.last_used,
            "uses": row.uses,
        }
        for row in rows
        if row.owner is None or row.owner.principal == caller.principal
        for version, positions in _places(row, cube.seq)
    ]


def _places(row: StateRow, seq: int) -> list[tuple[int | None, list[int | None]]]:
    """Where a state holds a memory, and in which version; nothing where it was only read under it."""
    begin, found = row.head, list[tuple[int | None, list[int | None]]]()
    for part in row.parts:
        if part.role == MOUNTED:
            continue
        if part.cube == seq:
            found.append((part.version, [begin, part.end]))
        begin = part.end
    return found


def adapters(connection: Connection, vault: Vault, caller: Caller) -> list[dict[str, Any]]:
    """The steering vectors that the caller may mount: those that are live, and may be read with all their sources."""
    cubes = [cube for cube in vault.of_kind(connection, STEERING, 0, MOST) if cube.state in LIVE and cube.stands]
    rows = {row.cube: row for row in steerings.listed(connection)}
    found = []
    for cube in cubes:
        sources = list(vault.by_ids(connection, cube.snapshot.parents).values())
        if not _readable(connection, caller, [cube, *sources]):
            continue
        recipe, row = cube.snapshot.recipe, rows.get(cube.seq)
        found.append({
            "id": cube.id,
            "uri": cube.uri,
            "kind": STEERING,
            "name": cube.snapshot.content,
            "space": cube.space_name,
            "version": cube.version,
            "towards": list(recipe["towards"]),
            "away": list(recipe["away"]),
            "made": _figures(row) if row is not None else None,
        })  # fmt: skip
    return found


def _readable(connection: Connection, caller: Caller, cubes: Sequence[Cube]) -> bool:
    spaces = {number: governance.space_of(connection, number) for number in {cube.space for cube in cubes}}
    return all(governance.may(connection, caller.principal, "read", spaces[cube.space], cube.seq) for cube in cubes)
