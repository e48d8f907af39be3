"""A state as this process knows it: what it holds, and in which of the tiers it can be had.

Knows no engine and no rows: who moves a state from tier to tier says so here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from memos_mcp.activation.composition import approximate
from memos_mcp.activation.engine import NOTHING, Kept, Mounts, Resident
from memos_mcp.activation.state_file import Part
from memos_mcp.ledger.kept_states import Owner, PartRow, StateRow

How = Literal["resident", "ram", "disk", "read"]
"""Where a memory was when it was needed; `read`: only its text was there."""
Step = tuple[int, int]
"""A memory's number and version."""


@dataclass(frozen=True)
class Text:
    """A memory as the model reads it; `keepable`: its state may be kept when the answer is given."""

    seq: int
    cube: str
    version: int
    tokens: tuple[int, ...]
    heat: float = 0.0
    pinned: bool = False
    keepable: bool = True

    @property
    def step(self) -> Step:
        return self.seq, self.version


@dataclass(frozen=True)
class Mount:
    """What a question is asked under: what is mounted on the model, by whose identity, and of which cubes it is.

    `identity` is the engine's with it, "" for nothing; `steps` are the cubes mounted and those that they were made of.
    """

    mounts: Mounts = NOTHING
    identity: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def way(self) -> tuple[Step, ...]:
        """What comes before the steps of a state read under it, so that states under other mounts share nothing."""
        return way_of(self.identity)


PLAIN = Mount()
MOUNTED = "mounted"
"""Role of a row of a state for a cube that it was read under."""


@dataclass(eq=False)
class Entry:
    """A state. Of one that lies in a file, `number` is that of its row, and `size` the file's."""

    key: str
    steps: tuple[Step, ...]
    parts: tuple[Part, ...]
    tokens: tuple[int, ...] | None
    """None until its file was read."""
    identity: str
    """What it depends on: the engine's identity, or that of an approximate composition under it."""
    positions: tuple[int, ...] | None = None
    """Where its tokens stand; None for 0, 1, 2 …, and for a file that was not read."""
    tokens_read: int = 0
    promoted: bool = False
    uses: int = 0
    last_used: str | None = None
    created: str = ""
    number: int = 0
    path: Path | None = None
    size: int = 0
    resident: Resident | None = None
    kept: Kept | None = None
    owner: Owner | None = None
    turns: tuple[PartRow, ...] = field(default=())
    """Of a conversation all that it holds, memories, questions and answers, in their order."""
    head: int | None = None
    """Tokens before the first memory."""
    mounted: str = ""
    """The identity of the mount that it was read under."""
    mounts: Mounts = NOTHING
    """That mount, once somebody has asked under it since the start."""
    under: tuple[Step, ...] = ()
    """The cubes of that mount."""
    busy: bool = False
    """Being moved between tiers in this moment: not to be evicted."""

    @property
    def how(self) -> How:
        """The fastest way to it."""
        if self.resident is not None:
            return "resident"
        return "ram" if self.kept is not None else "disk"

    @property
    def is_prefix(self) -> bool:
        """Whether other sets of memories may begin with it."""
        return self.owner is None and approximate(self.identity) is None

    @property
    def cubes(self) -> frozenset[int]:
        return frozenset(seq for seq, _ in self.steps)

    @property
    def needs(self) -> frozenset[int]:
        """The cubes with which it goes: those that it holds, and those that it was read under."""
        return self.cubes | {seq for seq, _ in self.under}

    @property
    def way(self) -> tuple[Step, ...]:
        """Its steps, behind what it was read under."""
        return way_of(self.mounted) + self.steps

    def rows(self) -> tuple[PartRow, ...]:
        """What it holds, as the ledger keeps it."""
        mounted = tuple(PartRow(0, seq, version, MOUNTED) for seq, version in self.under)
        if self.turns:
            return self.turns + mounted
        pairs = zip(self.steps, self.parts, strict=True)
        return tuple(PartRow(part.end, seq, version) for (seq, version), part in pairs) + mounted


def entry_of(row: StateRow, ids: Mapping[int, str], folder: Path) -> Entry:
    """The state of a row of the ledger, whose file is in `folder`; `ids` are those of its memories, by number."""
    rows = tuple(part for part in row.parts if part.role != MOUNTED)
    held = [(part.cube, part.version, part.end) for part in rows if part.cube and part.version]
    return Entry(
        key=row.key,
        steps=tuple((seq, version) for seq, version, _ in held),
        parts=tuple(Part(ids[seq], version, end) for seq, version, end in held),
        tokens=None,
        identity=row.identity,
        tokens_read=row.tokens_read,
        promoted=row.promoted,
        uses=row.uses,
        last_used=row.last_used,
        created=row.created,
        number=row.id,
        path=folder / row.file,
        size=row.bytes,
        owner=row.owner,
        turns=rows if row.owner is not None else (),
        head=row.head,
        mounted=row.mounted or "",
        under=tuple((p.cube, p.version) for p in row.parts if p.role == MOUNTED and p.cube and p.version),
    )


def key_of(identity: str, steps: Sequence[Step], mounted: str = "") -> str:
    """The name of the state that holds just these memories in these versions for this model, under this mount."""
    return hashlib.sha256(json.dumps([identity + mounted, list(steps)]).encode()).hexdigest()[:32]


def way_of(mounted: str) -> tuple[Step, ...]:
    """The step that stands for a mount; none for nothing mounted."""
    return ((-1, int(mounted[:15], 16)),) if mounted else ()


def conversation_key(principal: str, space: int, session: str) -> str:
    """The name of a conversation's state, whatever it holds."""
    return hashlib.sha256(json.dumps([principal, space, session]).encode()).hexdigest()[:32]


def parts_of(texts: Sequence[Text], start: int) -> tuple[Part, ...]:
    """The parts of a state in which these texts stand behind `start` tokens."""
    parts, end = [], start
    for text in texts:
        end += len(text.tokens)
        parts.append(Part(text.cube, text.version, end))
    return tuple(parts)
