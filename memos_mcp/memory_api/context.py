"""The verb context: a block of memories for a host's prompt whose prefix stays the same from turn to turn.

What is found for each task is the search's own answer; what becomes of it is decided by `context.turns`. A prompt
goes on for one principal, one choice of spaces and one host, whatever is asked; another host with the same task and
budget begins where that one stands, and goes its own way from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from memos_mcp.context import block, prices
from memos_mcp.context.block import FENCES
from memos_mcp.context.tokens import estimate, fitting
from memos_mcp.context.turns import HEAD_TOKENS, Block, Line, Memory, Room, Seen, Turn, next_turn
from memos_mcp.cube import BLOCK, TEXTLESS, Cube, Snapshot, instant
from memos_mcp.governance import Caller
from memos_mcp.ledger import contexts, relevance
from memos_mcp.ledger.contexts import Kept
from memos_mcp.memory_api import compose, search
from memos_mcp.memory_api.parts import Parts
from memos_mcp.policies.sharing import shares
from memos_mcp.requests import ContextRequest, SearchRequest
from memos_mcp.results import ContextCube, ContextResult
from memos_mcp.usage import DIGEST

FIRST_FOUND, FOUND = 50, 8
"""Memories that are looked for at the first turn of a task, and at each later one."""
STANDING = (BLOCK, "profile", "preference")
"""Kinds that stand in every block, in this order: the first before what is pinned, the others after it."""
MOST_STANDING = 200
COLD = timedelta(hours=1)
"""After so long no provider has the prefix any more unless it was asked to: it may as well begin anew."""
KEPT = timedelta(days=1)
"""How long a prompt that nobody goes on with is kept: no provider keeps a prefix longer."""


def context(parts: Parts, caller: Caller, request: ContextRequest) -> ContextResult:
    """The block for the next turn of a task; its prefix is the former one, or begins with it, unless it had to change.

    Raises:
        InvalidInput: the task is empty. NotFound: a space that is not the caller's.
    """
    return made(parts, caller, request, caller.writer or "")[0]


def made(parts: Parts, caller: Caller, request: ContextRequest, host: str) -> tuple[ContextResult, str | None]:
    """The block as `context` gives it, of the prompt that is `host`'s, and why its search was less than whole."""
    wanted = SearchRequest(query=request.task, space=request.space, top_k=FOUND, max_chars=1_000_000)
    place = _place(parts, caller, request, host)
    with parts.ledger.read() as connection:
        goes_on = _goes_on(parts, contexts.find(connection, place))
    if not goes_on:
        wanted = wanted.model_copy(update={"top_k": FIRST_FOUND})
    found = search.search(parts, caller, wanted, f"{DIGEST}{place.task}")
    ids = [hit["id"] for hit in found["hits"]]
    if parts.ledger.read_only:
        with parts.ledger.read() as connection:
            return _answered(_Table(parts, connection, caller, wanted), place, ids)[0], found.get("degraded")
    with parts.ledger.write() as connection:
        former = contexts.find(connection, place) if goes_on else None
        result, kept = _answered(_Table(parts, connection, caller, wanted), place, ids)
        contexts.forget_unused(connection, instant(parts.now() - KEPT))
        contexts.keep(connection, kept)
    stayed = _shown(former) & _shown(kept)
    parts.usage.served(sorted(stayed), parts.stamp(), caller, "stayed", task=f"{DIGEST}{place.task}")
    return result, found.get("degraded")


def _shown(kept: Kept | None) -> set[int]:
    """Numbers of the memories whose lines stand in the prefix."""
    return {line["seq"] for line in kept.lines if line["part"]} if kept is not None else set()


@dataclass(frozen=True)
class _Table:
    """What a turn works with: one transaction of one caller, and where it looks."""

    parts: Parts
    connection: Connection
    caller: Caller
    wanted: SearchRequest


def _answered(table: _Table, place: Kept, found: Sequence[str]) -> tuple[ContextResult, Kept]:
    parts, connection = table.parts, table.connection
    kept = contexts.find(connection, place) or place
    room = Room.within(place.budget)
    former = Block(kept.turn, kept.debt, kept.next_number, tuple(Line(**line) for line in kept.lines))
    if not _goes_on(parts, kept):
        former = replace(former, lines=tuple(replace(line, part=0, given=0) for line in former.lines))
    known = _Known(table, room, former)
    turn = next_turn(former, known.seen(found), room, prices.DEFAULT)
    prefix, suffix = known.written(turn)
    after = turn.block
    fresh = replace(
        place, id=kept.id, used=parts.stamp(), turn=after.turn, debt=after.debt, next_number=after.next_number,
        lines=[asdict(line) for line in after.lines],
    )  # fmt: skip
    result: ContextResult = {
        "prefix": prefix,
        "suffix": suffix,
        "prefix_hash": hashlib.sha256(prefix.encode()).hexdigest(),
        "prefix_tokens": estimate(prefix),
        "cubes": known.listed(turn),
    }
    return result, fresh


class _Known:
    """The memories that one turn is about, as they are and as they were shown."""

    def __init__(self, table: _Table, room: Room, former: Block) -> None:
        self._table, self._room = table, room
        self._vault, self._connection = table.parts.vault, table.connection
        self._lines = former.lines
        scope = search.scope_of(table.parts, table.connection, table.caller, table.wanted)
        self._alive = replace(scope, include=("superseded",))
        self._standing_from = scope
        self._cubes: dict[int, Cube] = {}
        self._shown: dict[tuple[int, int], Snapshot] = {}
        self._most: dict[int, int] = {}

    def seen(self, found: Sequence[str]) -> Seen:
        """What is so now of the block's lines, of what was found, and of what stands in every block."""
        hits = self._vault.by_ids(self._connection, found)
        by_id = self._in_parts([hits[cube_id] for cube_id in found if cube_id in hits])
        standing = self._standing()
        self._load([line.seq for line in self._lines] + by_id + standing)
        self._most = _block_room([self._cubes[seq] for seq in standing if seq in self._cubes], self._room)
        over = {
            seq: self._stand_in(self._cubes[seq])
            for seq in dict.fromkeys(line.seq for line in self._lines)
            if seq in self._cubes and self._cubes[seq].snapshot.superseded_by is not None
        }
        versions = self._versions()
        memories = {
            seq: self._memory(cube, versions.get(seq, frozenset()))
            for seq, cube in self._cubes.items()
            if cube.snapshot.superseded_by is None
        }
        return Seen(
            memories,
            _first([seq for seq in standing if seq in memories], memories, self._room.prefix // 2),
            [seq for seq in by_id if seq in memories],
            over,
        )

    def written(self, turn: Turn) -> tuple[str, str]:
        """The prefix and what stands behind it."""
        parts = [block.part([self._line(line) for line in lines]) for lines in turn.parts]
        prefix = block.HEAD + "".join(parts) if parts else ""
        suffix = block.part([self._line(line) for line in turn.suffix])
        return prefix, suffix if prefix or not suffix else block.HEAD + suffix

    def listed(self, turn: Turn) -> list[ContextCube]:
        """The memories of the block in the order of their lines; of several lines of one memory the last one counts."""
        lines = {line.seq: line for line in (*(line for part in turn.parts for line in part), *turn.suffix)}
        return [
            {
                "id": self._cubes[line.seq].id,
                "version": line.version,
                "number": line.number,
                "place": "prefix" if line.part else "suffix",
            }
            for line in lines.values()
        ]

    def _standing(self) -> list[int]:
        kinds = [
            seq
            for some in (STANDING[:1], STANDING[1:])  # no number of preferences leaves a core block without a place
            for seq in replace(self._standing_from, kinds=some).first(self._connection, MOST_STANDING)
        ]
        pinned = contexts.pinned(self._connection, self._standing_from.space_ids, MOST_STANDING)
        cubes = self._vault.by_seqs(self._connection, [*kinds, *pinned]).values()
        chosen = [cube for cube in cubes if cube.snapshot.pinned or cube.snapshot.kind in STANDING]
        return self._in_parts(sorted(chosen, key=_standing_order))

    def _in_parts(self, cubes: Sequence[Cube]) -> list[int]:
        """Numbers of the memories; of a composition, of the parts that it shows to the caller."""
        return [cube.seq for cube in compose.in_parts(self._table.parts, self._connection, self._table.caller, cubes)]

    def _composed(self, seqs: Sequence[int]) -> set[int]:
        """Those of these memories that a composition in scope shows to the caller, wherever they are themselves."""
        cubes = self._vault.by_seqs(self._connection, seqs).values()
        holding = self._vault.linked_by(self._connection, [cube.id for cube in cubes], compose.CONTAINS)
        kept = self._alive.keep(self._connection, [cube.seq for cube in holding]) if holding else set()
        named = {part for cube in holding if cube.seq in kept for part in compose.composed_of(cube.snapshot)}
        caller = self._table.caller
        return {cube.seq for cube in cubes if cube.id in named and compose.shows(self._connection, caller, cube)}

    def _load(self, seqs: Iterable[int]) -> None:
        wanted = list(dict.fromkeys(seqs))
        alive = self._alive.keep(self._connection, wanted)
        if outside := [seq for seq in wanted if seq not in alive]:
            alive = {*alive, *self._composed(outside)}
        cubes = self._vault.by_seqs(self._connection, sorted(alive))
        self._cubes |= {seq: cube for seq, cube in cubes.items() if _may_be_shown(cube)}

    def _stand_in(self, cube: Cube) -> int | None:
        """The memory that holds now in place of this one, as far as the caller may read it."""
        passed = {cube.id}
        while (following := cube.snapshot.superseded_by) is not None and following not in passed:
            passed.add(following)
            found = self._vault.by_ids(self._connection, [following]).get(following)
            if found is None:
                return None
            cube = found
        self._load([cube.seq])
        return cube.seq if cube.seq in self._cubes else None

    def _versions(self) -> dict[int, frozenset[int]]:
        """For each memory of the block, the versions shown in it that read as the present one."""
        alike: dict[int, frozenset[int]] = {}
        for line in self._lines:
            cube = self._cubes.get(line.seq)
            if cube is None:
                continue
            snapshot = self._vault.version(self._connection, cube, line.version)
            if snapshot is None:  # nobody knows what was shown
                del self._cubes[line.seq]
                continue
            self._shown[line.seq, line.version] = snapshot
            if _reads(snapshot) == _reads(cube.snapshot):
                alike[line.seq] = alike.get(line.seq, frozenset()) | {line.version}
        return alike

    def _memory(self, cube: Cube, alike: frozenset[int]) -> Memory:
        snapshot = cube.snapshot
        chars: int | None = None
        tokens, most = _cost(cube, chars), self._most.get(cube.seq, self._room.line)
        if tokens > most:
            chars = fitting(snapshot.content, most)
            while (tokens := _cost(cube, chars)) > most and chars:
                chars = min(chars - 1, chars * most // tokens)
        return Memory(cube.seq, cube.version, tokens, chars, alike)

    def _line(self, line: Line) -> str:
        cube = self._cubes[line.seq]
        snapshot = cube.snapshot if line.version == cube.version else self._shown[line.seq, line.version]
        since = snapshot.valid_from or cube.created
        return block.line(block.Text(line.number, line.kind, snapshot, since, line.chars, line.refers))


def _place(parts: Parts, caller: Caller, request: ContextRequest, host: str) -> Kept:
    """Whose prompt it is: found again by these."""
    spaces = json.dumps([request.space] if request.space else [caller.space, "+", *caller.also], ensure_ascii=False)
    task = relevance.digest(_key(parts), request.task)
    return Kept(caller.principal, spaces, host, task, request.budget_tokens)


def _key(parts: Parts) -> str:
    """The store's own key, without which nobody can try out which task it was."""
    with parts.ledger.read() as connection:
        found = relevance.key_of(connection)
    if found is None and parts.ledger.read_only:
        return relevance.new_key()
    if found is None:
        with parts.ledger.write() as connection:
            found = relevance.made_key(connection)
    return found


def _goes_on(parts: Parts, kept: Kept | None) -> bool:
    """Whether a provider may still hold the prefix."""
    return kept is not None and bool(kept.used) and kept.used >= instant(parts.now() - COLD)


def _may_be_shown(cube: Cube) -> bool:
    """Secrets are found by those who ask for them, and are put into no prompt unasked; templates are prompts, steering
    vectors and adapters no text, and compositions are shown by their parts."""
    said = cube.snapshot
    return said.sensitivity != "secret" and not said.recipe and said.kind not in ("template", *TEXTLESS)


def _reads(snapshot: Snapshot) -> tuple[str, str, str | None, str | None]:
    return snapshot.content, snapshot.kind, snapshot.name, snapshot.valid_from


def _cost(cube: Cube, chars: int | None) -> int:
    since = cube.becomes_true
    return estimate(block.line(block.Text(100, "said", cube.snapshot, since, chars)))


def _standing_order(cube: Cube) -> tuple[bool, bool, int, float, int]:
    kind = cube.snapshot.kind
    rank = STANDING.index(kind) if kind in STANDING else -1
    return kind != BLOCK, not cube.snapshot.pinned, rank, -cube.snapshot.importance, cube.seq


def _block_room(standing: Sequence[Cube], room: Room) -> dict[int, int]:
    """The most tokens of each core block's line: all of them stand in the prefix together, short ones whole."""
    there = [cube for cube in standing if cube.snapshot.kind == BLOCK]
    given = shares([_cost(cube, None) for cube in there], max(room.prefix // 2 - HEAD_TOKENS - FENCES, 0))
    return {cube.seq: min(most, room.line) for cube, most in zip(there, given, strict=True)}


def _first(seqs: Sequence[int], memories: Mapping[int, Memory], most: int) -> list[int]:
    """As many of the first as are at most so many tokens together."""
    kept, used = [], 0
    for seq in seqs:
        if used + memories[seq].tokens <= most:
            kept.append(seq)
            used += memories[seq].tokens
    return kept
