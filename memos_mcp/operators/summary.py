"""Shortens a conversation to sentences that were said in it: parts of one topic, and of each the sentences that tell
most of it.

Knows no store, no tokenizer and no model; the words of texts are given to it. Every sentence is one that stands in a
turn, with its day and speaker. Which sentences are central is found as in TextRank (Mihalcea and Tarau, 2004), and the
chosen ones repeat each other little (maximal marginal relevance, Carbonell and Goldstein, 1998).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_TURNS, MOST_TURNS = 6, 24
"""Turns of a part: fewer are read as quickly as their summary."""
WINDOW = 4
"""Turns before and behind a place that are compared to tell whether the topic changes there."""
SHARE, LEAST_CHARS, MOST_CHARS = 0.2, 240, 1_200
"""Of a part's characters, how many its summary has, and the least and the most."""
LEAST_WORDS = 4
"""Words that are not common which a sentence needs to tell anything."""
LONGEST = 400
"""Characters of a sentence beyond which it is taken for something pasted."""
DAMPING, ROUNDS = 0.85, 40
QUESTION = 0.5
"""What a question counts beside a statement."""
COVERAGE, REPETITION = 0.5, 0.7
"""What a sentence gains by words that no chosen one has, and loses by being like a chosen one."""

Words = Callable[[str], Sequence[str]]
_END = re.compile(r"\n+|(?<=[。！？!?…])[”’」』\"')）]*|(?<=[.!?])[\"')\]]*(?=\s)")
_NOT_AN_END = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r"|\b[A-Z]|(?:^|\s)\d+)\.$"
)
_WIDE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]$")


@dataclass(frozen=True)
class Said:
    """A turn: what was said, by whom, on which day (ISO 8601)."""

    text: str
    speaker: str | None
    day: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of the turn at place `turn`, word for word."""

    turn: int
    text: str


def parts(words: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Divides turns, given as their words, into parts of one topic each: (first, end) places, in order, end left out.

    A part ends where what follows has least in common with what went before. Further turns at the end change the
    division near the end alone. Turns too few for a part of their own belong to the one before; there is none at all
    for fewer than `LEAST_TURNS`.
    """
    count, start = len(words), 0
    if count < LEAST_TURNS:
        return []
    found: list[tuple[int, int]] = []
    sets = [set(one) for one in words]
    while count - start > MOST_TURNS:
        places = range(start + LEAST_TURNS, min(start + MOST_TURNS, count - LEAST_TURNS) + 1)
        end = min(places, key=lambda place: (_cohesion(sets, place), place))
        found.append((start, end))
        start = end
    return [*found, (start, count)]


def sentences(turns: Sequence[Said]) -> list[Sentence]:
    """Every sentence of the turns, in order, each once."""
    found: dict[str, Sentence] = {}
    for place, turn in enumerate(turns):
        for text in _split(turn.text):
            found.setdefault(text, Sentence(place, text))
    return list(found.values())


def summary(turns: Sequence[Said], words: Words) -> str | None:
    """The sentences that tell most of the turns, a line a turn with its day and speaker; None if none tells anything.

    The same turns give the same summary.
    """
    return written(turns, chosen(turns, words)) or None


def chosen(turns: Sequence[Said], words: Words) -> list[Sentence]:
    """The sentences that tell most of the turns, in order."""
    told = [sentence for sentence in sentences(turns) if len(sentence.text) <= LONGEST]
    counted = [Counter(words(sentence.text)) for sentence in told]
    telling = [place for place, count in enumerate(counted) if len(count) >= LEAST_WORDS]
    if not telling:
        return []
    told, counted = [told[place] for place in telling], [counted[place] for place in telling]
    most = min(MOST_CHARS, max(LEAST_CHARS, int(SHARE * sum(len(turn.text) for turn in turns))))
    return [told[place] for place in sorted(_best(told, counted, most))]


def written(turns: Sequence[Said], told: Sequence[Sentence]) -> str:
    """Sentences as lines: the day, who said it, and what of it was chosen."""
    lines: dict[int, str] = {}
    for sentence in told:
        before = lines.get(sentence.turn)
        if before is None:
            said = turns[sentence.turn]
            before = f"{said.day} {said.speaker}:" if said.speaker else f"{said.day}:"
        gap = "" if _WIDE.search(before) else " "
        lines[sentence.turn] = f"{before}{gap}{sentence.text}"
    return "\n".join(lines[turn] for turn in sorted(lines))


def _split(text: str) -> list[str]:
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.end()].strip()
        if piece and not _NOT_AN_END.search(piece):
            found.append(piece)
            start = match.end()
        elif not piece:
            start = match.end()
    return [*found, rest] if (rest := text[start:].strip()) else found


def _cohesion(sets: Sequence[set[str]], place: int) -> float:
    """How much the turns before and behind a place have in common, 0..1."""
    before = set[str]().union(*sets[max(place - WINDOW, 0) : place])
    behind = set[str]().union(*sets[place : place + WINDOW])
    return len(before & behind) / math.sqrt(len(before) * len(behind)) if before and behind else 0.0


def _best(told: Sequence[Sentence], counted: Sequence[Counter[str]], most: int) -> list[int]:
    """Places of the chosen sentences, best first, of at most `most` characters together; one at least."""
    matrix = _weighted(counted)
    alike = matrix @ matrix.T
    rank = _central(alike) * np.array([QUESTION if one.text.endswith(("?", "？")) else 1.0 for one in told])
    rank = np.round(rank / rank.max(), 9)
    rare = (matrix > 0).astype(float)
    covered = np.zeros(matrix.shape[1])
    nearest = np.zeros(len(told))
    left, room = set(range(len(told))), most
    chosen: list[int] = []
    while left:
        gain = (rare * (covered == 0)).sum(axis=1) / rare.sum(axis=1)
        worth = np.round(rank + COVERAGE * gain - REPETITION * nearest, 9)
        best = min(left, key=lambda place: (-worth[place], place))
        left.discard(best)
        if len(told[best].text) > room and chosen:
            continue
        chosen.append(best)
        room -= len(told[best].text)
        covered += rare[best]
        nearest = np.maximum(nearest, alike[best])
    return chosen


def _weighted(counted: Sequence[Counter[str]]) -> NDArray[np.float64]:
    """Sentences as rows of unit length; rare words weigh more."""
    in_sentences = Counter(word for count in counted for word in count)
    column = {word: place for place, word in enumerate(sorted(in_sentences))}
    matrix = np.zeros((len(counted), len(column)))
    for row, count in enumerate(counted):
        for word, times in count.items():
            matrix[row, column[word]] = (1 + math.log(times)) * math.log(1 + len(counted) / in_sentences[word])
    norms: NDArray[np.float64] = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / norms


def _central(alike: NDArray[np.float64]) -> NDArray[np.float64]:
    """How central each sentence is: where a walk from sentence to like sentence is found in the end."""
    count = len(alike)
    steps = alike - np.diag(np.diag(alike))
    sums = steps.sum(axis=1, keepdims=True)
    steps = np.where(sums > 0, steps / np.where(sums > 0, sums, 1), 1 / count)
    rank = np.full(count, 1 / count)
    for _ in range(ROUNDS):
        rank = (1 - DAMPING) / count + DAMPING * (rank @ steps)
    return rank
