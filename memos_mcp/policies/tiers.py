"""In which tier a memory is, which topic a turn goes on with, and what is warm enough to be kept for long.

Pure: knows no ledger, no embedder and no tokens; it is given keywords and vectors. After MemoryOS (Kang et al., EMNLP
2025): a page joins the segment whose cosine and share of keywords are 0.6 or more together, and the warmest segments
go to the long term. Here the cosine is taken above what any two turns of the space have in common, which differs with
the embedder and the language, and both are taken to a topic's latest turns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memos_mcp.heat_constants import STANDARD, HeatConstants
from memos_mcp.policies.heat import heat, together
from memos_mcp.policies.use import Use

Tier = Literal["short-term", "mid-term", "long-term", "tool"]
MEANINGS: dict[Tier, str] = {
    "short-term": "among the last turns of a session that goes on",
    "mid-term": "a turn of a topic",
    "long-term": "a fact, a preference or another memory that stands by itself; or a topic whose statements do",
    "tool": "what a tool was called for and how it ended",
}
BUFFER_TURNS = 7
"""The last turns of a session that are in its buffer."""
BUFFER_DAYS = 1.0
"""Days without a turn after which a session is over and its buffer empty."""
JOIN = 0.6
"""Cosine and share of keywords, together, from which on a turn goes on with a topic."""
NEXT_TO = 0.2
"""What speaks besides for the topic of the turn just before in the same session."""
SAYS_LITTLE = 2
"""Keywords below which a turn says nothing by itself, and goes on with the turn before."""
LATEST = 8
"""Turns by whose words and meaning a topic is known."""
NEAREST = 2
"""Of these, how many a turn is compared with: the nearest."""
COMMON, COMMON_PAIRS = 0.3, 100
"""Cosine of any two turns as long as fewer pairs than these are known."""
MOST_TURNS = 64
"""Turns of one segment; a topic that goes on longer goes on in another."""
LONG_TERM = 0.6
"""Heat of a segment from which on its statements belong to the long term: talk alone, however long, gives less."""
GROWN = 8
"""Further turns after which a segment of the long term is looked at again."""

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Turn:
    """A turn to be placed: number, session, keywords, and its vector of length 1 if there is one."""

    cube: int
    session: str | None
    keywords: frozenset[str]
    vector: Vector | None = None


@dataclass
class Topic:
    """A segment as it is compared: its latest turns, all its turns by number and session in order, and the sum of so
    many vectors."""

    key: int
    latest: deque[Turn] = field(default_factory=lambda: deque(maxlen=LATEST))
    turns: list[tuple[int, str | None]] = field(default_factory=list)
    sum: Vector | None = None
    summed: int = 0

    def add(self, turn: Turn) -> None:
        """Take the turn up as the last one."""
        self.latest.append(turn)
        self.turns.append((turn.cube, turn.session))
        if turn.vector is not None:
            self.sum = turn.vector if self.sum is None else self.sum + turn.vector
            self.summed += 1

    def keywords(self) -> frozenset[str]:
        """The keywords by which the topic is known."""
        return frozenset[str]().union(*(turn.keywords for turn in self.latest))


@dataclass(frozen=True)
class Joins:
    """Where a turn goes: the topic's key, or None for a new one; which turn it goes on from; why."""

    topic: int | None
    continues: int | None
    score: float
    reason: str


def tier_of(kind: str, turns_after: int, idle_days: float, in_long_term: bool) -> Tier:
    """The tier of a memory: by its kind, and for a turn by how many came after it in its session, days since the
    session's last turn, and whether its segment has gone to the long term. A turn without a session is in no buffer."""
    if kind == "tool_trace":
        return "tool"
    if kind != "dialogue":
        return "long-term"
    if turns_after < BUFFER_TURNS and idle_days < BUFFER_DAYS:
        return "short-term"
    return "long-term" if in_long_term else "mid-term"


def common(topics: Iterable[Topic]) -> float:
    """The cosine that any two turns of these topics have, below 1."""
    held = [topic for topic in topics if topic.sum is not None]
    count = sum(topic.summed for topic in held)
    pairs = count * (count - 1)
    whole = sum((topic.sum for topic in held if topic.sum is not None), np.zeros(1, dtype=np.float32))
    cosines = max(float(whole @ whole) - count, 0.0) if count else 0.0
    return min((cosines + COMMON * COMMON_PAIRS) / (pairs + COMMON_PAIRS), 0.99)


def closeness(turn: Turn, topic: Topic, usual: float) -> float:
    """Cosine to the topic's nearest turns above the `usual` one, plus the share of the turn's keywords that are the
    topic's; 0..2, higher is closer."""
    nearest: list[float] = []
    if (vector := turn.vector) is not None:
        cosines = (float(vector @ one.vector) for one in topic.latest if one.vector is not None)
        nearest = sorted(cosines, reverse=True)[:NEAREST]
    meaning = (sum(nearest) / len(nearest) - usual) / (1.0 - usual) if nearest else 0.0
    words = len(turn.keywords & topic.keywords()) / len(turn.keywords) if turn.keywords else 0.0
    return max(meaning, 0.0) + words


def place(turn: Turn, topics: Sequence[Topic], before: int | None) -> Joins:
    """Which of the topics the turn goes on with; `before` is the turn just before in its session, if there is one.

    Of equally close ones the latest in the sequence. A full topic takes no more.
    """
    open_ = [topic for topic in topics if len(topic.turns) < MOST_TURNS]
    beside = next((t for t in open_ if before is not None and any(cube == before for cube, _ in t.turns)), None)
    if beside is not None and len(turn.keywords) < SAYS_LITTLE:
        return Joins(beside.key, before, JOIN, "it says little by itself and follows the turn before")
    best, score, usual = None, -math.inf, common(topics)
    for topic in open_:
        found = closeness(turn, topic, usual) + (NEXT_TO if topic is beside else 0.0)
        if found >= score:
            best, score = topic, found
    if best is None or score < JOIN:
        return Joins(None, None, max(score, 0.0), f"no topic is within {JOIN:.2f}")
    own = [cube for cube, session in best.turns if session is not None and session == turn.session]
    continues = own[-1] if own else best.turns[-1][0]
    return Joins(best.key, continues, score, f"cosine and keywords give {score:.2f} of the {JOIN:.2f} that are needed")


def segment_heat(uses: Iterable[Use], turn_ages: Iterable[float], constants: HeatConstants = STANDARD) -> float:
    """How warm a segment is, 0..1: the uses of its turns as one, where each turn itself, so many days ago, counts as
    dwelling on the topic."""
    use = together(uses)
    said = sum(math.exp2(-max(age, 0.0) / constants.use_half_life_days) for age in turn_ages)
    return heat(Use(use.visits, use.dwell + said, use.idle_days), constants=constants)


def may_go_long(turns: int, moved_at: int | None) -> bool:
    """Whether a segment's statements go to the long term if it is warm: they never did, or it has grown since."""
    return moved_at is None or turns >= moved_at + GROWN


def goes_long(warm: float, turns: int, moved_at: int | None) -> str | None:
    """Why a segment's statements go to the long term now; None if they do not. `moved_at`: how many turns it had when
    they went there last."""
    if warm < LONG_TERM or not may_go_long(turns, moved_at):
        return None
    again = "" if moved_at is None else f", and it has grown by {turns - moved_at} turns"
    return f"its topic is warm ({warm:.2f}, {LONG_TERM:.2f} is needed){again}"
