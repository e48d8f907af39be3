"""What an addition contradicts: which memories it takes the place of, which take its own, and which it only tells of.

Knows no rule: `policies.conflicts` says what is a conflict, and whether it is sure which of the two holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.claims.claim import NOTHING, Reading, digest
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import claims
from memos_mcp.memory_api.parts import Parts
from memos_mcp.policies import conflicts
from memos_mcp.states import State

MOST = 20
"""Memories with a claim about the same that an addition is compared with: the newest."""


@dataclass
class Contradicted:
    """What the drafts of one addition contradict; places are those of the drafts.

    `told`: the reason by a memory's id; `replaced`: memories by the place of the draft that takes theirs; `drafts`: as
    they are to be written, with what supersedes them.
    """

    drafts: list[Snapshot]
    readings: list[Reading]
    told: dict[str, str] = field(default_factory=dict)
    cubes: dict[str, Cube] = field(default_factory=dict)
    replaced: dict[int, list[Cube]] = field(default_factory=dict)


def readings_of(drafts: Sequence[Snapshot]) -> list[Reading]:
    """What each of a few drafts claims."""
    return [conflicts.claimed(draft) if draft.kind in conflicts.NEWS else NOTHING for draft in drafts]


def keys_of(space: int, reading: Reading) -> list[int]:
    """Under which keys a reading is kept."""
    return [digest(space, key) for key in dict.fromkeys(claim.key for claim in reading.claims)]


def look(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    space: Space,
    drafts: Sequence[Snapshot],
    readings: Sequence[Reading],
    fresh: Sequence[int],
    now: str,
) -> Contradicted:
    """Compare the drafts at the places `fresh` with what the space holds, in the transaction that writes them.

    The newer one by its own time takes the older one's place where the rule is sure, unless it is frozen, the caller
    named it already, or the store is set to leave that to the caller.
    """
    found = Contradicted(list(drafts), list(readings))
    for place in fresh:
        keys = keys_of(space.id, readings[place])
        if not keys:
            continue
        held = claims.holders(connection, keys, MOST)
        for cube in parts.vault.by_seqs(connection, held).values() if held else ():
            if cube.is_alive(now) and cube.id not in drafts[place].supersedes:
                may = parts.supersede and governance.may(connection, caller.principal, "write", space, cube.seq)
                _compare(found, place, cube, now, may)
    return found


def _compare(found: Contradicted, place: int, cube: Cube, now: str, may: bool) -> None:
    draft, reading = found.drafts[place], found.readings[place]
    newer = (draft.valid_from or now) >= cube.becomes_true
    known = conflicts.claimed(cube.snapshot)
    older, later = (cube.snapshot, draft) if newer else (draft, cube.snapshot)
    if older.kind not in conflicts.STATEMENTS or later.kind not in conflicts.NEWS:
        return
    conflict = conflicts.between(known, reading) if newer else conflicts.between(reading, known)
    if conflict is None:
        return
    found.cubes[cube.id] = cube
    found.told[cube.id] = f"{conflict.reason}; both are kept"
    if not (conflict.sure and may):
        return
    if not newer:
        found.drafts[place] = replace(draft, superseded_by=cube.id, valid_to=cube.becomes_true)
        found.told[cube.id] = f"{conflict.reason}; this one is newer by its time and supersedes the one added"
    elif cube.state is State.FROZEN:
        found.told[cube.id] = f"{conflict.reason}; this one is frozen, and both are kept"
    elif all(cube.id != other.id for replaced in found.replaced.values() for other in replaced):
        found.drafts[place] = replace(draft, supersedes=(*draft.supersedes, cube.id))
        found.replaced.setdefault(place, []).append(cube)
        found.told[cube.id] = f"{conflict.reason}; superseded by the one added, memory_undo takes that back"


def denied(near: Sequence[Cube], drafts: Sequence[Snapshot]) -> dict[str, str]:
    """Which of the memories that are like the drafts say the opposite of one in its own words; reasons by id."""
    found: dict[str, str] = {}
    for cube in near:
        for draft in drafts:
            if conflicts.denial(cube.snapshot, draft) is not None:
                found[cube.id] = "one says what the other denies; both are kept"
    return found
