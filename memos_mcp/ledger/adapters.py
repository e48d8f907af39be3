"""Adapters as the ledger keeps them: of which base and memories, in which state, and what they were found to do.

Knows no files and no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from memos_mcp.cube import ADAPTER, TEXTLESS, Cube
from memos_mcp.ledger import dialect, kept_states
from memos_mcp.ledger.adapter_schema import adapter_sources, adapters
from memos_mcp.states import LIVE, State

AdapterState = Literal["candidate", "active", "retired"]
PURGED = "a memory that it was trained on was purged"
NOT_FORGOTTEN = ("cool", "undo")
"""Events by which a memory is archived though nobody forgot it: it was not used for long, or had been there before."""
_PART = 500
# Made once: to build a statement costs more than to run it.
_UNTAINTED_OF = select(adapters.c.cube).where(
    adapters.c.cube.in_(select(adapter_sources.c.adapter).where(dialect.among(adapter_sources.c.cube, "seqs"))),
    adapters.c.tainted.is_(None),
)


@dataclass(frozen=True)
class AdapterRow:
    """An adapter's row; `sources` are numbers and versions. `tainted`: why it is mounted no more."""

    cube: int
    state: AdapterState
    base: str
    sha256: str | None
    gguf_sha256: str | None
    bytes: int
    report: dict[str, Any] | None
    tainted: str | None
    created: str
    last_mounted: str | None
    mounts: int
    sources: tuple[tuple[int, int], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it may be mounted."""
        return self.state == "active" and self.tainted is None and self.gguf_sha256 is not None


def begin(connection: Connection, cube: int, base: str, sources: Sequence[tuple[int, int]], at: str) -> None:
    """Note that an adapter is to be made of these memories: a candidate without files."""
    connection.execute(insert(adapters), {"cube": cube, "state": "candidate", "base": base, "created": at})
    if sources:
        rows = [{"adapter": cube, "cube": seq, "version": version} for seq, version in sources]
        connection.execute(insert(adapter_sources), rows)


def finish(
    connection: Connection, cube: int, state: AdapterState, sha256: str | None, gguf_sha256: str, size: int,
    report: dict[str, Any],
) -> bool:  # fmt: skip
    """Note what became of it; False if it was tainted or taken away meanwhile."""
    here = (adapters.c.cube == cube) & adapters.c.tainted.is_(None) & (adapters.c.state != "retired")
    values = {"state": state, "sha256": sha256, "gguf_sha256": gguf_sha256, "bytes": size, "report": json.dumps(report)}
    return connection.execute(update(adapters).where(here).values(values)).rowcount == 1


def set_state(connection: Connection, cubes: Sequence[int], state: AdapterState) -> None:
    """Move adapters to another state."""
    connection.execute(update(adapters).where(adapters.c.cube.in_(cubes)).values(state=state))


def bring_back(connection: Connection, cubes: Sequence[int]) -> None:
    """Let retired adapters be what they were found to be: active where they passed their exams or were imported, else
    candidates."""
    for row in listed(connection, cubes):
        if row.state == "retired":
            report = row.report or {}
            good = report.get("passes") or report.get("imported")
            set_state(connection, [row.cube], "active" if good else "candidate")


def mounted(connection: Connection, cubes: Sequence[int], at: str, times: int = 1) -> None:
    """Count that these were mounted."""
    values = {"mounts": adapters.c.mounts + times, "last_mounted": at}
    connection.execute(update(adapters).where(adapters.c.cube.in_(cubes)).values(values))


def taint(connection: Connection, cubes: Sequence[int], why: str) -> None:
    """Mark these as not to be mounted any more."""
    connection.execute(update(adapters).where(adapters.c.cube.in_(cubes)).values(tainted=why))


def taint_made_from(connection: Connection, seqs: Sequence[int], why: str) -> list[int]:
    """Mark what was trained on one of these as not to be mounted any more, and drop the states that were read under it;
    returns which became so now."""
    found = list(connection.execute(_UNTAINTED_OF, {"seqs": dialect.listed(seqs)}).scalars()) if seqs else []
    if found:
        taint(connection, found, why)
        kept_states.drop_containing(connection, found)
    return found


def moved(connection: Connection, moving: Sequence[Cube], target: State, event: str) -> None:
    """An adapter that is put away is retired, and what was trained on something forgotten is mounted no more.

    What only cools by itself stays true: an adapter may keep it beyond the time of its text.
    """
    own = [cube.seq for cube in moving if cube.snapshot.kind == ADAPTER]
    if target in LIVE:
        bring_back(connection, own)
        return
    if own:
        set_state(connection, own, "retired")
    if target is not State.ARCHIVED or event not in NOT_FORGOTTEN:
        gone = [cube.seq for cube in moving if cube.snapshot.kind not in TEXTLESS]
        taint_made_from(connection, gone, f"a memory that it was trained on is {target}")


def rewritten(connection: Connection, before: Cube, after: Cube) -> None:
    """What was trained on a memory is mounted no more when the memory says something else, or may not be trained."""
    if _taught(after) != _taught(before):
        taint_made_from(connection, [after.seq], f"a memory that it was trained on has changed ({after.id})")


def _taught(cube: Cube) -> tuple[object, ...]:
    said = cube.snapshot
    return said.content, said.name, said.sensitivity, cube.stands, "not trained" in (said.policy or "")


def made_from(connection: Connection, seqs: Sequence[int]) -> list[int]:
    """The adapters that were trained on one of these, tainted ones too."""
    query = select(adapter_sources.c.adapter).where(dialect.among(adapter_sources.c.cube, "seqs")).distinct()
    return sorted(connection.execute(query, {"seqs": dialect.listed(seqs)}).scalars())


def left_tainted(connection: Connection) -> list[int]:
    """Adapters that are tainted and not retired."""
    waits = adapters.c.tainted.is_not(None) & (adapters.c.state != "retired")
    return list(connection.execute(select(adapters.c.cube).where(waits).order_by(adapters.c.cube)).scalars())


def concerned(connection: Connection) -> set[int]:
    """Every adapter that is not retired, and every memory that one of these was trained on."""
    present = select(adapters.c.cube).where(adapters.c.state != "retired")
    found = set(connection.execute(present).scalars())
    named = select(adapter_sources.c.cube).where(adapter_sources.c.adapter.in_(present))
    return found | set(connection.execute(named.distinct()).scalars())


def erase(connection: Connection, cubes: Sequence[int]) -> None:
    """Delete these adapters' rows, and retire what was trained on one of these: nothing says of it what it was, and its
    files belong to no row."""
    for start in range(0, len(cubes), _PART):
        trained = made_from(connection, cubes[start : start + _PART])
        values = {"state": "retired", "tainted": PURGED, "bytes": 0}
        values |= dict.fromkeys(("sha256", "gguf_sha256", "report"))
        connection.execute(update(adapters).where(adapters.c.cube.in_(trained)).values(values))
        kept_states.drop_containing(connection, trained)
    drop(connection, cubes)


def drop(connection: Connection, cubes: Sequence[int]) -> None:
    """Delete these adapters' rows, and what names one of these as a source."""
    for start in range(0, len(cubes), _PART):
        part = list(cubes[start : start + _PART])
        connection.execute(delete(adapter_sources).where(adapter_sources.c.adapter.in_(part)))
        connection.execute(delete(adapter_sources).where(adapter_sources.c.cube.in_(part)))
        connection.execute(delete(adapters).where(adapters.c.cube.in_(part)))


def listed(connection: Connection, cubes: Sequence[int] | None = None) -> list[AdapterRow]:
    """Adapters (of these cubes), oldest first, with their sources."""
    if cubes is not None and not cubes:
        return []
    query = select(adapters).order_by(adapters.c.cube)
    if cubes is not None:
        query = query.where(adapters.c.cube.in_(cubes))
    rows = connection.execute(query).all()
    sources: dict[int, list[tuple[int, int]]] = {}
    named = select(adapter_sources).where(adapter_sources.c.adapter.in_([row.cube for row in rows]))
    for row in connection.execute(named.order_by(adapter_sources.c.cube)):
        sources.setdefault(row.adapter, []).append((row.cube, row.version))
    return [
        AdapterRow(
            row.cube, row.state, row.base, row.sha256, row.gguf_sha256, row.bytes,
            json.loads(row.report) if row.report else None, row.tainted, row.created, row.last_mounted, row.mounts,
            tuple(sources.get(row.cube, ())),
        )
        for row in rows
    ]  # fmt: skip
