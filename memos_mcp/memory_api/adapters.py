"""The verbs for adapters that people use: take in one made elsewhere, put one away, list those there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import ADAPTER, Cube, Snapshot, clean_label
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import adapters as rows
from memos_mcp.ledger import operations
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.memory_api.mounting import registry
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.parametric.registry import Prepared
from memos_mcp.results import AdapterResult
from memos_mcp.states import LIVE, State
from memos_mcp.vault import new_id

MOST_PATH = 4_096


def take_in(parts: Parts, caller: Caller, path: str, name: str, space: str | None = None) -> AdapterResult:
    """Import an adapter: a folder as peft saves it, or a GGUF file, copied and checked. It is active, for it is mounted
    only where it is named: what it does was not measured here, and of what it was made is not known.

    The same file again is left as it is (`op` None).

    Raises:
        InvalidInput: it is damaged, foreign or for another base; nothing of it is kept. AccessDenied: the space is not
            the caller's to write. Conflict: the name is taken, or the store can only be read. StorageFailed.
    """
    label = clean_label(name, "name")
    with parts.ledger.read() as connection:
        governance.writable(connection, caller, space or caller.space)  # before work is done for nothing
    known = registry(parts)
    if not path.strip() or len(path) > MOST_PATH or "\0" in path:
        raise InvalidInput("Name the folder that peft saved, or the GGUF file.", field="path")
    given = Path(path).expanduser()
    if not given.exists():
        raise InvalidInput(f"There is no {given}: name the folder that peft saved, or the GGUF file.", field="path")
    with known.prepared(given) as made:
        with parts.ledger.write() as connection:
            where = governance.open_space(connection, caller, space or caller.space, parts.stamp())
            same, named = _there(parts, connection, where, made, label)
            if same is not None:
                return _result(same, made, None)
            if named is not None:
                raise Conflict(f"There is an adapter named {label!r} already ({named.id}): choose another name.")
            op = begun(parts, caller, "import", f"adapter from a {made.form['from']} file")
            draft = Snapshot(label, ADAPTER, recipe={"base": made.base, **made.form})
            (cube,), changes = parts.vault.insert(connection, op, where, [draft], None, 0, ids=[new_id()])
            rows.begin(connection, cube.seq, made.base, [], op.at)
            known.record(connection, cube.seq, made, {"imported": True}, "active")
            result = _result(cube, made, op.id)
            operations.record(connection, op, changes, result)
            known.place(made, cube.id)
        known.refresh([cube.seq])
    parts.changed(caller, [cube], listing=True, embedded=True)
    return result


def retire(parts: Parts, caller: Caller, cube_id: str) -> AdapterResult:
    """Put an adapter away: it is mounted no more, and memory_undo of the operation brings it back.

    Raises:
        NotFound, AccessDenied: not the caller's to forget. InvalidInput: it is no adapter. Conflict: it is away.
    """
    known = registry(parts)
    with parts.ledger.write() as connection:
        (cube,) = cubes_for(parts, connection, caller, [cube_id], "forget")
        if cube.snapshot.kind != ADAPTER:
            raise InvalidInput(f"{cube.id} is a {cube.snapshot.kind} and no adapter.", field="id")
        if cube.state not in LIVE:
            raise Conflict(f"The adapter {cube.id} is {cube.state} already.")
        op = begun(parts, caller, "forget", "adapter retired")
        moved, change = parts.vault.move(connection, op, cube, State.ARCHIVED, "forget")
        known.retire(connection, [cube.seq])
        result: AdapterResult = {
            "id": cube.id, "uri": cube.uri, "state": "retired", "name": cube.snapshot.content, "op": op.id,
        }  # fmt: skip
        operations.record(connection, op, [change], result)
    parts.changed(caller, [moved], listing=True)
    return result


def _there(
    parts: Parts, connection: Connection, space: Space, made: Prepared, name: str
) -> tuple[Cube | None, Cube | None]:
    """The adapter of the same file in the space, and the one of the same name, of those that are not away."""
    found = rows.listed(connection)
    cubes = parts.vault.by_seqs(connection, [row.cube for row in found])
    here = [(cubes[row.cube], row) for row in found if row.cube in cubes]
    live = [(cube, row) for cube, row in here if cube.space == space.id and cube.state in LIVE]
    same = [cube for cube, row in live if _is_same(row, made)]
    named = [cube for cube, _ in live if cube.snapshot.content == name]
    return same[-1] if same else None, named[-1] if named else None


def _is_same(row: AdapterRow, made: Prepared) -> bool:
    return row.usable and row.gguf_sha256 == made.gguf_sha256 and row.base == made.base


def _result(cube: Cube, made: Prepared, op: str | None) -> AdapterResult:
    return {
        "id": cube.id, "uri": cube.uri, "state": "active", "name": cube.snapshot.content, "op": op,
        "rank": made.form["rank"], "alpha": made.form["alpha"], "targets": list(made.form["targets"]),
        "bytes": made.bytes,
    }  # fmt: skip


# --- what there is, in the words of resources


def listed(parts: Parts, connection: Connection, caller: Caller) -> list[dict[str, Any]]:
    """Every adapter that the caller may read with all that it was trained on, whatever its state."""
    found = []
    for row in rows.listed(connection):
        sources = parts.vault.by_seqs(connection, [seq for seq, _ in row.sources])
        cube = parts.vault.by_seqs(connection, [row.cube]).get(row.cube)
        if cube is None or not all(_readable(connection, caller, one) for one in [cube, *sources.values()]):
            continue
        found.append({
            "id": cube.id, "uri": cube.uri, "kind": ADAPTER, "name": cube.snapshot.content, "space": cube.space_name,
            "version": cube.version, **described(cube, row), "sources": [
                {"id": sources[seq].id, "version": version} for seq, version in row.sources if seq in sources
            ],
        })  # fmt: skip
    return found


def described(cube: Cube, row: AdapterRow) -> dict[str, Any]:
    """What an adapter is and was found to do: `effect` has its exams, None where none were held."""
    report = row.report or {}
    form = report.get("form") or {name: cube.snapshot.recipe.get(name) for name in ("rank", "alpha", "targets")}
    effect = {name: value for name, value in report.items() if name not in ("form", "imported")}
    return {
        "state": row.state if cube.state in LIVE else "retired",
        "tainted": row.tainted,
        "base": row.base,
        "rank": form.get("rank"),
        "alpha": form.get("alpha"),
        "targets": form.get("targets"),
        "from": form.get("from"),
        "imported": bool(report.get("imported")),
        "sha256": row.sha256,
        "gguf_sha256": row.gguf_sha256,
        "bytes": row.bytes,
        "recipe": {**cube.snapshot.recipe},
        "effect": effect or None,
        "created": row.created,
        "mounts": row.mounts,
        "last_mounted": row.last_mounted,
    }


def _readable(connection: Connection, caller: Caller, cube: Cube) -> bool:
    return governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space), cube.seq)
