"""Which adapter a question fits: by the words of the subjects that it was taught about.

Knows no model. The words are read from the memories that an adapter was trained on, and held here alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.parametric.lessons import Lesson, lesson_of
from memos_mcp.plaintext.analysis import is_common, tokens
from memos_mcp.vault import Vault

SELF = frozenset({"my", "i", "me", "mine", "我"})
"""Words by which a question asks about its speaker."""
MOST_NAMED = 5
"""Memories that are named as those that a question is about."""
ASKED = 3
"""What an attribute that is asked for counts, beside two for each word of its subject."""
LEAST_SHARED, LEAST_SHARE = 2, 0.6
"""Words, and share of a question's words, by which a text without a fact fits."""


@dataclass(frozen=True)
class Topic:
    """What a memory is about, in tokens: a subject with its attribute, or, of a text without a fact, all its words."""

    cube: str
    subject: frozenset[str]
    attribute: frozenset[str]
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fit:
    """How well an adapter fits a question, and which memories by: more points are better, none is no fit."""

    points: int
    cubes: tuple[str, ...] = ()


def topic_of(lesson: Lesson) -> Topic:
    """What a lesson is about."""
    fact = lesson.fact
    if fact is None:
        return Topic(lesson.cube, frozenset(), frozenset(), _telling(lesson.statement))
    subject = SELF if fact.subject == "the user" else frozenset(tokens(fact.subject))
    return Topic(lesson.cube, subject, frozenset(tokens(fact.attribute)))


def fit(question: str, topics: Sequence[Topic]) -> Fit:
    """How well what is taught about these topics fits a question."""
    words, telling = frozenset(tokens(question)), _telling(question)
    points = [_points(topic, words, telling) for topic in topics]
    best = max(points, default=0)
    if not best:
        return Fit(0)
    named = [topic.cube for topic, found in zip(topics, points, strict=True) if found == best]
    return Fit(best, tuple(named[:MOST_NAMED]))


def _points(topic: Topic, words: frozenset[str], telling: frozenset[str]) -> int:
    asked = bool(topic.attribute) and topic.attribute <= words
    if topic.words:
        shared = len(topic.words & telling)
        return shared if shared >= max(LEAST_SHARED, LEAST_SHARE * len(telling)) else 0
    if topic.subject is SELF:
        return ASKED + 2 if asked and words & SELF else 0
    if not topic.subject or not topic.subject <= words:
        return 0
    return 2 * len(topic.subject) + ASKED * asked


def _telling(text: str) -> frozenset[str]:
    return frozenset(token for token in tokens(text) if not is_common(token))


class Topics:
    """What the adapters of a store are about. Safe to share between threads."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger, self._vault = ledger, vault
        self._known: dict[int, tuple[tuple[tuple[int, int], ...], tuple[Topic, ...]]] = {}
        self._lock = threading.Lock()

    def of(self, row: AdapterRow) -> tuple[Topic, ...]:
        """The topics of an adapter; read from its memories once."""
        with self._lock:
            known = self._known.get(row.cube)
            if known is not None and known[0] == row.sources:
                return known[1]
        with self._ledger.read() as connection:
            cubes = self._vault.by_seqs(connection, [seq for seq, _ in row.sources]).values()
        made = (lesson_of(c.id, c.version, c.snapshot.content, c.snapshot.name) for c in cubes)
        topics = tuple(topic_of(lesson) for lesson in made if lesson is not None)
        with self._lock:
            self._known[row.cube] = row.sources, topics
        return topics

    def forget(self, seqs: Sequence[int]) -> None:
        """Hold no words of these adapters any more."""
        with self._lock:
            for seq in seqs:
                self._known.pop(seq, None)
