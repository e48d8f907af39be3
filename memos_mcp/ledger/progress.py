"""How far work behind the calls has read the ledger's changes, and which come next.

Knows nothing of what is made of them. What was read by other rules counts as not read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, or_, select

from memos_mcp.ledger import notes
from memos_mcp.ledger.schema import changes

# Made once: to build a statement costs more than to run it.
_CHANGED = (
    select(changes.c.op, changes.c.cube)
    .where(
        changes.c.op >= bindparam("op"),
        or_(changes.c.op > bindparam("op"), and_(changes.c.op == bindparam("op"), changes.c.cube > bindparam("of"))),
    )
    .order_by(changes.c.op, changes.c.cube)
    .limit(bindparam("most"))
)
_VERSIONED = _CHANGED.where(changes.c.to_version.is_not(None))


@dataclass(frozen=True)
class Upto:
    """A place in the order of changes: an operation's number and a memory's id; `rules` are those it was read by."""

    rules: int
    op: int = 0
    cube: str = ""


def upto(connection: Connection, key: str, rules: int) -> Upto:
    """The last change, by the note `key`, that was read by these rules; the beginning, when none was."""
    found = notes.get(connection, key)
    held = Upto(*json.loads(found)) if found is not None else None
    return held if held is not None and held.rules == rules else Upto(rules)


def note(connection: Connection, key: str, place: Upto) -> None:
    """Keep the place up to which changes have been read."""
    notes.put(connection, key, json.dumps([place.rules, place.op, place.cube]))


def changed_after(
    connection: Connection, place: Upto, limit: int, *, versions: bool = False
) -> list[tuple[int, str]]:
    """The next changes, of versions or states (`versions`: those alone that made one), as (operation's number, memory's
    id), in order."""
    query = _VERSIONED if versions else _CHANGED
    rows = connection.execute(query, {"op": place.op, "of": place.cube, "most": limit}).all()
    return [(int(row.op), str(row.cube)) for row in rows]
