"""Decides, turn by turn, what stands in the cached prefix of a prompt, what behind it, and when to write it anew.

Pure: knows neither ledger nor texts, only numbers of memories, versions and tokens. The prefix only grows at its end
while a task goes on. It is written anew, from the first line that has to go, in three cases: something in it was
forgotten; the budget is smaller than it; or what was paid for not rewriting has come to what rewriting costs.
That last rule never pays more than twice what the best choice in hindsight would have paid, whatever is asked next
(renting or buying skis: Karlin, Manasse, Rudolph and Sleator, Competitive Snoopy Caching, 1988).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from memos_mcp.context.block import FENCES, HEAD, Kind
from memos_mcp.context.prices import BATCH, Prices
from memos_mcp.context.tokens import estimate

HEAD_TOKENS = estimate(HEAD)
NOTE_TOKENS = 12
"""Tokens of a line that says that a memory holds no more."""
SUFFIX_SHARE = 5
"""The part of the budget that is kept for what stands behind the prefix: one fifth."""
BEGIN_SHARE = 0.6
"""How much of its room a new prefix takes: the rest is for what comes up."""
KEPT_SHARE = 0.75
"""How much of its room a prefix keeps that had to shrink, so that it need not shrink again at the next turn."""

OFTEN = 2
"""Turns in which a memory stood behind a full prefix, from which on it counts as a reason to make room: what came up
once is not likely to come up again."""

Reason = Literal["begun", "forgotten", "budget", "pays"]


@dataclass(frozen=True)
class Memory:
    """A memory as it may be given now: `tokens` of its line, `chars` of it shown (None: all).

    `alike`: versions that would be shown as the same line.
    """

    seq: int
    version: int
    tokens: int
    chars: int | None = None
    alike: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Line:
    """A line of a block; `part` of the prefix that it stands in, 0 while it waits to join one.

    `found`: the turn in which it was needed last; `given`: turns in which it stood behind the prefix.
    """

    number: int
    seq: int
    version: int
    kind: Kind
    tokens: int
    chars: int | None = None
    part: int = 0
    found: int = 0
    given: int = 0
    refers: int | None = None


@dataclass(frozen=True)
class Block:
    """What a task's prompt holds. `debt`: what was paid so far for not having written the prefix anew, in tokens."""

    turn: int = 0
    debt: float = 0.0
    next_number: int = 1
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What is so at this turn: `memories` that may be given, by number; those that always stand in a block, in order;
    those found for the task, best first; and those that hold no more, with what stands for them now."""

    memories: Mapping[int, Memory]
    standing: Sequence[int]
    found: Sequence[int]
    over: Mapping[int, int | None] = field(default_factory=dict)

    def says_now(self, line: Line) -> bool:
        """Whether the line is what would be written today."""
        if line.kind == "over":
            return line.seq in self.over
        memory = self.memories.get(line.seq)
        return memory is not None and (line.version == memory.version or line.version in memory.alike)

    def is_gone(self, line: Line) -> bool:
        """Whether the memory may not be shown any more."""
        return line.seq not in self.memories and line.seq not in self.over


@dataclass(frozen=True)
class Room:
    """Tokens for the prefix, and for what stands behind it."""

    prefix: int
    suffix: int

    @staticmethod
    def within(budget: int) -> Room:
        suffix = budget // SUFFIX_SHARE
        return Room(budget - suffix, suffix)

    @property
    def line(self) -> int:
        """The most tokens of one line: every line fits behind the prefix, and a few of them into it."""
        return self.suffix - FENCES


@dataclass(frozen=True)
class Turn:
    """The block after a turn, the lines behind the prefix, and why the prefix was written anew, if it was."""

    block: Block
    suffix: tuple[Line, ...]
    rewritten: Reason | None

    @property
    def parts(self) -> list[list[Line]]:
        """The lines of the prefix, part by part."""
        return parts(self.block.lines)


def parts(lines: Iterable[Line]) -> list[list[Line]]:
    """Lines of a prefix by the part in which they stand, in order; without those that wait."""
    found: dict[int, list[Line]] = {}
    for line in lines:
        if line.part:
            found.setdefault(line.part, []).append(line)
    return [found[number] for number in sorted(found)]


def size(lines: Sequence[Line]) -> int:
    """Tokens of a prefix of these lines."""
    if not lines:
        return 0
    return HEAD_TOKENS + FENCES * len({line.part for line in lines}) + sum(line.tokens for line in lines)


def next_turn(block: Block, seen: Seen, room: Room, prices: Prices) -> Turn:
    """The next turn of a task: see the module. Two calls with the same arguments decide the same."""
    turn = block.turn + 1
    lines, next_number = _with_news(block, seen, turn)
    prefix = [line for line in lines if line.part]
    waiting = [line for line in lines if not line.part]
    if not prefix:
        prefix, waiting = _begun(waiting, seen, room, turn)
        reason: Reason | None = "begun" if prefix else None
        debt = 0.0
    else:
        prefix, waiting, debt, reason = _gone_on(block.debt, prefix, waiting, seen, room, prices, turn)
    suffix = _behind(waiting, seen, room, turn)
    given = set(suffix)
    waiting = [
        replace(line, given=line.given + 1) if line in given else line
        for line in waiting
        if line.kind != "said" or line.found > turn - 2 * prices.idle_turns
    ]
    return Turn(Block(turn, debt, next_number, (*prefix, *waiting)), suffix, reason)


def _with_news(block: Block, seen: Seen, turn: int) -> tuple[list[Line], int]:
    """The block's lines, brought to what is so now: what waits is refreshed, corrections and new memories wait too."""
    needed = {*seen.standing, *seen.found}
    lines: list[Line] = []
    for line in block.lines:
        fresh = replace(line, found=turn) if line.seq in needed else line
        if line.part:
            lines.append(fresh)
        elif line.kind == "said" and (memory := seen.memories.get(line.seq)) is not None:
            lines.append(_said(memory, line.number, fresh.found, given=line.given))
        elif line.kind != "said" and seen.says_now(line):
            lines.append(fresh)
    numbers = {line.seq: line.number for line in lines}
    next_number = block.next_number
    for seq in [*seen.standing, *seen.found, *_stand_ins(lines, seen)]:
        if seq not in numbers and seq in seen.memories:
            numbers[seq] = next_number
            lines.append(_said(seen.memories[seq], next_number, turn))
            next_number += 1
    last = {line.seq: line for line in lines}  # corrections stand behind what they correct
    lines += [
        _correction(line, seen, numbers, turn)
        for line in last.values()
        if not seen.is_gone(line) and not seen.says_now(line)
    ]
    return lines, next_number


def _stand_ins(lines: Sequence[Line], seen: Seen) -> list[int]:
    """Memories that stand now for those in the prefix that hold no more."""
    found = [seen.over.get(line.seq) for line in lines if line.part]
    return [seq for seq in found if seq is not None]


def _said(memory: Memory, number: int, turn: int, *, given: int = 0, part: int = 0, found: int | None = None) -> Line:
    tokens = memory.tokens + (number > 999)
    return Line(
        number, memory.seq, memory.version, "said", tokens, memory.chars, part, turn if found is None else found, given
    )


def _correction(line: Line, seen: Seen, numbers: Mapping[int, int], turn: int) -> Line:
    if line.seq in seen.over:
        stand_in = seen.over[line.seq]
        refers = numbers.get(stand_in) if stand_in is not None else None
        return Line(line.number, line.seq, line.version, "over", NOTE_TOKENS, found=turn, refers=refers)
    memory = seen.memories[line.seq]
    tokens = memory.tokens + 1 + (line.number > 999)
    return Line(line.number, line.seq, memory.version, "now", tokens, memory.chars, found=turn)


def _begun(
    waiting: Sequence[Line], seen: Seen, room: Room, turn: int
) -> tuple[list[Line], list[Line]]:
    """The first prefix of a task: what always stands in it, up to half of the room, then what fits best."""
    by_seq = {line.seq: line for line in waiting if line.kind == "said"}
    taken: dict[int, Line] = {}
    for seqs, share in ((seen.standing, 0.5), (seen.found, BEGIN_SHARE)):
        for seq in seqs:
            line = by_seq.get(seq)
            if line is None or seq in taken:
                continue
            joined = replace(line, part=1, given=0, found=turn)
            if size([*taken.values(), joined]) <= share * room.prefix:
                taken[seq] = joined
    return list(taken.values()), [line for line in waiting if line.seq not in taken and line.kind == "said"]


def _gone_on(
    debt: float, prefix: list[Line], waiting: list[Line], seen: Seen, room: Room, prices: Prices, turn: int
) -> tuple[list[Line], list[Line], float, Reason | None]:
    """The prefix of a task that goes on, what waits, the debt, and why it was written anew, if it was."""
    gone = next((place for place, line in enumerate(prefix) if seen.is_gone(line)), None)
    if gone is not None or size(prefix) > room.prefix:
        anew, left = _rewritten(prefix, gone or 0, waiting, seen, room, prices, turn)
        return anew, left, 0.0, "forgotten" if gone is not None else "budget"
    joining = _ready(waiting, room, prices)
    joined = [replace(line, part=prefix[-1].part + 1, given=0) for line in joining]
    crowded = size([*prefix, *joined]) > room.prefix
    useless = _useless(prefix, seen, prices, turn)
    debt += _paid_for_nothing(prefix, useless, joining if crowded else (), prices, turn)
    cut = 0 if crowded else min(useless, default=len(prefix))
    if (useless or crowded) and debt >= prices.again * _tokens(_from(prefix, cut, useless)):
        anew, left = _rewritten(prefix, cut, waiting, seen, room, prices, turn)
        return anew, left, 0.0, "pays"
    if crowded:
        return prefix, waiting, debt, None
    return [*prefix, *joined], [line for line in waiting if line not in joining], debt, None


def _paid_for_nothing(
    prefix: Sequence[Line], useless: set[int], left_out: Sequence[Line], prices: Prices, turn: int
) -> float:
    """What this turn costs more, in tokens, than with a prefix without its useless lines and with room for the rest."""
    carried = _tokens(prefix[place] for place in useless)
    given_again = _tokens(line for line in left_out if line.given >= OFTEN and line.found == turn)
    return prices.read * carried + prices.rent * given_again


def _from(prefix: Sequence[Line], cut: int, useless: set[int]) -> list[Line]:
    return [line for place, line in enumerate(prefix) if place >= cut and place not in useless]


def _tokens(lines: Iterable[Line]) -> int:
    return sum(line.tokens for line in lines)


def _useless(prefix: Sequence[Line], seen: Seen, prices: Prices, turn: int) -> set[int]:
    """Places of lines that are carried for nothing: they say what is no more so, or were not needed for so long that
    giving them once behind the prefix would have been cheaper."""
    last = {line.seq: place for place, line in enumerate(prefix)}
    return {
        place
        for place, line in enumerate(prefix)
        if last[line.seq] != place or not seen.says_now(line) or _is_idle(line, seen, prices, turn)
    }


def _is_idle(line: Line, seen: Seen, prices: Prices, turn: int) -> bool:
    return line.seq not in seen.standing and turn - line.found > prices.idle_turns


def _ready(waiting: Sequence[Line], room: Room, prices: Prices) -> list[Line]:
    """What joins the prefix: lines that were given behind it so often that what this cost more has come to what
    joining costs more than once being given there, if they are a batch.

    Corrections that would fill the room behind the prefix join at once.
    """
    often = math.ceil(round((prices.write - 1.0) / prices.rent, 6))
    ready = [line for line in waiting if line.given >= often]
    corrections = [line for line in waiting if line.kind != "said"]
    if 2 * sum(line.tokens for line in corrections) > room.line:
        ready = [line for line in waiting if line.given >= often or line.kind != "said"]
    return ready if sum(line.tokens for line in ready) >= min(BATCH, room.line // 2) else []


def _rewritten(
    prefix: Sequence[Line], cut: int, waiting: Sequence[Line], seen: Seen, room: Room, prices: Prices, turn: int
) -> tuple[list[Line], list[Line]]:
    """The prefix as it was up to `cut`, and from there on only what is so and still needed, with what waits for it.

    All of it is written anew if the room is too small even so, or for the corrections to what stands before `cut`.
    """
    head = list(prefix[:cut])
    part = max(line.part for line in prefix) + 1
    anew = [replace(line, part=part) for line in _following(head, prefix[cut:], waiting, seen, prices, turn)]
    kept = anew if size([*head, *anew]) <= room.prefix else _lately_needed(head, anew, seen, room)
    uncorrected = {line.seq for line in anew if line.kind != "said"} - {line.seq for line in kept}
    if head and (uncorrected or size([*head, *kept]) > room.prefix):
        return _rewritten(prefix, 0, waiting, seen, room, prices, turn)
    seqs = {line.seq for line in kept}
    return [*head, *kept], [line for line in waiting if line.seq not in seqs and line.kind == "said"]


def _following(
    head: Sequence[Line], tail: Sequence[Line], waiting: Sequence[Line], seen: Seen, prices: Prices, turn: int
) -> list[Line]:
    """What stands behind `head` once it is written anew: corrections to it, and of the rest each memory as it is now,
    where it stood, unless it was not needed for long; of what waits only what is needed at this turn."""
    numbers = {line.seq: line.number for line in (*head, *tail, *waiting)}
    last = {line.seq: line for line in head}
    found: dict[int, Line] = {}
    for line in (*tail, *waiting):
        shown = last.get(line.seq)
        if seen.is_gone(line) or (shown is not None and seen.says_now(shown)):
            continue
        needed = not _is_idle(line, seen, prices, turn) if line.part else line.found == turn
        if shown is not None:
            found[line.seq] = _correction(shown, seen, numbers, turn)
        elif line.seq in seen.memories and needed:
            found[line.seq] = _said(seen.memories[line.seq], line.number, line.found)
    return list(found.values())


def _lately_needed(head: Sequence[Line], tail: Sequence[Line], seen: Seen, room: Room) -> list[Line]:
    """The tail without what was not needed for longest, so that there is some room again."""
    most = KEPT_SHARE * room.prefix
    used = (size(head) or HEAD_TOKENS) + FENCES
    kept: set[int] = set()
    for line in sorted(tail, key=lambda one: (one.kind == "said", one.seq not in seen.standing, -one.found)):
        if used + line.tokens <= most:
            kept.add(line.seq)
            used += line.tokens
    return [line for line in tail if line.seq in kept]


def _behind(waiting: Sequence[Line], seen: Seen, room: Room, turn: int) -> tuple[Line, ...]:
    """What stands behind the prefix at this turn: corrections, then what always stands in a block, then what was
    found and is in no part of it, best first, as far as there is room."""
    rank = {seq: place for place, seq in enumerate([*seen.standing, *seen.found])}
    needed = [line for line in waiting if line.kind != "said" or line.found == turn]
    chosen: list[Line] = []
    used = FENCES
    for line in sorted(needed, key=lambda line: (line.kind == "said", rank.get(line.seq, -1), line.number)):
        if used + line.tokens <= room.suffix:
            chosen.append(line)
            used += line.tokens
    return tuple(chosen)
