"""Decides whether a principal may do something to a space or a memory: the one function every verb asks.

Knows nothing of verbs or transports; it reads spaces and grants, and the caller says who acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, bindparam, select

from memos_mcp.cube import Cube, clean_label
from memos_mcp.errors import AccessDenied, NotFound
from memos_mcp.ledger import channels, dialect
from memos_mcp.ledger.schema import grants, spaces

Action = Literal["read", "write", "forget", "share"]
ACTIONS: tuple[Action, ...] = ("read", "write", "forget", "share")

_BY_NAME = select(spaces.c.id, spaces.c.name, spaces.c.owner).where(spaces.c.name == bindparam("name"))
_BY_ID = select(spaces.c.id, spaces.c.name, spaces.c.owner).where(spaces.c.id == bindparam("space"))
# Made once: to build a statement costs more than to run it.
_READABLE = (
    select(spaces.c.id, spaces.c.name, spaces.c.owner)
    .where(
        dialect.among(spaces.c.name, "names") & (spaces.c.owner == bindparam("whose"))
        | spaces.c.id.in_(
            select(grants.c.space).where(
                grants.c.principal == bindparam("whose"), grants.c.can == "read", grants.c.space.is_not(None)
            )
        )
    )
    .order_by(spaces.c.id)
)


@dataclass(frozen=True)
class Caller:
    """Who acts, through which client program, and in which space by default; `also` are spaces read beside it.

    `request` is a key that no other request has, or None; `again`: it may have been carried out before.
    """

    principal: str
    space: str = "personal"
    client: str | None = None
    also: tuple[str, ...] = ()
    request: str | None = None
    again: bool = False

    @property
    def writer(self) -> str | None:
        """What tells one host's writes from another's: its connection, or the name of its program."""
        return self.request.partition(":")[0] if self.request is not None else self.client


@dataclass(frozen=True)
class Space:
    """A space's row: the unit of ownership."""

    id: int
    name: str
    owner: str


def may(connection: Connection, principal: str, action: Action, space: Space, cube_seq: int | None = None) -> bool:
    """Whether `principal` may do `action` to the space, or to one memory in it as it is.

    The owner of a space may do everything to it; others what they were granted on the space or on the memory. Who may
    read a channel's space may read what is published to the channel, as long as it is.
    """
    if may_ever(connection, principal, action, space, cube_seq):
        return True
    return action == "read" and cube_seq is not None and channels.opens(connection, principal, cube_seq)


def may_ever(
    connection: Connection, principal: str, action: Action, space: Space, cube_seq: int | None = None
) -> bool:
    """The same for a memory as it is and was: who reads it through a channel alone reads nothing of its past."""
    if principal == space.owner:
        return True
    place = grants.c.space == space.id
    if cube_seq is not None:
        place |= grants.c.cube == cube_seq
    query = select(grants.c.id).where(place, grants.c.principal == principal, grants.c.can == action).limit(1)
    return connection.execute(query).first() is not None


def require(connection: Connection, caller: Caller, action: Action, target: Space | Cube) -> None:
    """Raise unless the caller may do `action` to the target.

    Raises:
        NotFound: the caller may not even read it, and so is not told that it exists.
        AccessDenied: the caller may read it and not do this.
    """
    space = target if isinstance(target, Space) else space_of(connection, target.space)
    seq = None if isinstance(target, Space) else target.seq
    if may(connection, caller.principal, action, space, seq):
        return
    if action == "read" or not may(connection, caller.principal, "read", space, seq):
        if isinstance(target, Space):
            raise _no_space(connection, caller, target.name)
        raise NotFound("memory", [target.id], "check the id, or find it with memory_search.")
    what = f"space {space.name!r}" if isinstance(target, Space) else f"memory {target.id}"
    raise AccessDenied(caller.principal, action, what)


def space_of(connection: Connection, space_id: int) -> Space:
    """The space with this number."""
    return Space(*connection.execute(_BY_ID, {"space": space_id}).one())


def find_space(connection: Connection, name: str) -> Space | None:
    """The space of this name, or None."""
    row = connection.execute(_BY_NAME, {"name": name}).first()
    return Space(*row) if row else None


def open_space(connection: Connection, caller: Caller, name: str, now: str) -> Space:
    """The space to write to, made with the caller as owner when there is none of that name. Raises as `writable`."""
    found = writable(connection, caller, name)
    if found is not None:
        return found
    name = clean_label(name, "space")
    row = {"name": name, "owner": caller.principal, "created": now}
    return Space(dialect.insert_row(connection, spaces, row), name, caller.principal)


def writable(connection: Connection, caller: Caller, name: str) -> Space | None:
    """The space of that name, for the caller to write to; None where the name is free.

    Raises:
        InvalidInput: the name cannot be one. AccessDenied: somebody else's; names are given once in a store, so that a
            space of this name exists is no secret.
    """
    name = clean_label(name, "space")
    found = find_space(connection, name)
    if found is not None and not may(connection, caller.principal, "write", found):
        raise AccessDenied(caller.principal, "write", f"space {name!r}")
    return found


def readable_spaces(connection: Connection, caller: Caller, names: list[str] | None) -> list[Space]:
    """The spaces to look in: those named, else the caller's own of this connection and every one granted.

    Raises:
        NotFound: a named space is not there, or may not be read.
    """
    if names:
        return [_readable(connection, caller, name) for name in dict.fromkeys(names)]
    own = dialect.listed((caller.space, *caller.also))
    return [Space(*row) for row in connection.execute(_READABLE, {"names": own, "whose": caller.principal})]


def reached_cubes(
    connection: Connection, caller: Caller, looked_in: Sequence[Space], *, granted: bool = True
) -> list[int]:
    """Numbers of memories of other spaces that the caller reads with these: references of channels that they have
    subscribed to, and with `granted` those shared with the caller one by one."""
    return channels.reached(connection, caller.principal, [space.id for space in looked_in], granted=granted)


def granted(connection: Connection, space: Space) -> dict[str, list[Action]]:
    """What others may do to the whole space beside its owner, by principal."""
    rows = connection.execute(select(grants.c.principal, grants.c.can).where(grants.c.space == space.id)).all()
    return {
        who: [action for action in ACTIONS if (who, action) in rows] for who in sorted({row.principal for row in rows})
    }


def list_spaces(connection: Connection, caller: Caller) -> list[Space]:
    """Every space that the caller may read, in the order in which they were made."""
    granted = select(grants.c.space).where(
        grants.c.principal == caller.principal, grants.c.can == "read", grants.c.space.is_not(None)
    )
    query = select(spaces).where((spaces.c.owner == caller.principal) | spaces.c.id.in_(granted)).order_by(spaces.c.id)
    return [Space(row.id, row.name, row.owner) for row in connection.execute(query)]


def _readable(connection: Connection, caller: Caller, name: str) -> Space:
    found = find_space(connection, clean_label(name, "space"))
    if found is None or not may(connection, caller.principal, "read", found):
        raise _no_space(connection, caller, name)
    return found


def _no_space(connection: Connection, caller: Caller, name: str) -> NotFound:
    known = [space.name for space in list_spaces(connection, caller)[:10]]
    advice = f"you can read {', '.join(map(repr, known))}." if known else "it is made by the first memory added to it."
    return NotFound("space", [name], advice)
