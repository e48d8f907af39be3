"""The ledger's own notes: a value by key, for what there is one of in a store.

Knows nothing of what they say.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select

from memos_mcp.ledger.schema import meta

# Made once: to build a statement costs more than to run it.
_GET = select(meta.c.value).where(meta.c.key == bindparam("of"))
_DROP = delete(meta).where(meta.c.key == bindparam("of"))
_PUT = insert(meta)


def get(connection: Connection, key: str) -> str | None:
    """What is noted under a key, or None."""
    value = connection.execute(_GET, {"of": key}).scalar()
    return None if value is None else str(value)


def put(connection: Connection, key: str, value: str | None) -> None:
    """Note a value in place of the former; None removes it."""
    connection.execute(_DROP, {"of": key})
    if value is not None:
        connection.execute(_PUT, {"key": key, "value": value})
