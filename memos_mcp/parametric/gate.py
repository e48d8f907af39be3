"""Decides whether an adapter may be mounted, by exams without it and with it, and says why.

Knows no model. An adapter is to know its facts, and to leave everything else as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from memos_mcp.parametric.trainer import Exam

FACTS = 0.90
"""Share of the questions in trained wordings that must be answered."""
READING = 0.95
"""Share of what was read rightly without the adapter that must be read rightly with it."""
GENERAL = 1.02
"""How many times the loss of general texts may be what it was."""


@dataclass(frozen=True)
class Judgement:
    """Whether the adapter passes, with a sentence for each thing that it was tried on."""

    passes: bool
    reasons: tuple[str, ...]


def judge(before: Exam, after: Exam) -> Judgement:
    """What becomes of an adapter by its exams."""
    tried = (_facts(before, after), _paraphrases(before, after), _reading(before, after), _general(before, after))
    return Judgement(all(good for good, _ in tried), tuple(said for _, said in tried))


def _facts(before: Exam, after: Exam) -> tuple[bool, str]:
    good = after.facts.right >= FACTS and after.facts.likelihood >= before.facts.likelihood
    return good, f"facts: {before.facts.right:.0%} answered before, {after.facts.right:.0%} after ({FACTS:.0%} wanted)"


def _paraphrases(before: Exam, after: Exam) -> tuple[bool, str]:
    good = after.paraphrases.right >= before.paraphrases.right
    said = f"{before.paraphrases.right:.0%} answered before, {after.paraphrases.right:.0%} after"
    return good, f"in wordings never trained on: {said} (no fewer wanted)"


def _reading(before: Exam, after: Exam) -> tuple[bool, str]:
    wanted = READING * before.reading.right
    said = f"{before.reading.right:.0%} before, {after.reading.right:.0%} after"
    return after.reading.right >= wanted, f"answered from memories read: {said} (at least {wanted:.0%} wanted)"


def _general(before: Exam, after: Exam) -> tuple[bool, str]:
    wanted = GENERAL * before.general
    said = f"loss {before.general:.3f} before, {after.general:.3f} after"
    return after.general <= wanted, f"general texts: {said} (at most {wanted:.3f} wanted)"
