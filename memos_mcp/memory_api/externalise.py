"""The verb externalise: asks an adapter of which no memories are known what it knows, and keeps the answers.

Knows nothing of how a model is asked. How sure an answer is, is measured by asking in other words: the share of the
wordings that give the same one. What the model says without the adapter too is not the adapter's, and is not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from memos_mcp.cube import ADAPTER
from memos_mcp.errors import InvalidInput
from memos_mcp.governance import Caller
from memos_mcp.memory_api import add, ask
from memos_mcp.memory_api.parts import Parts, cubes_for
from memos_mcp.requests import AddRequest, AskRequest, LinkTo, Weighted

MOST_QUESTIONS = 500
MOST_TOKENS = 48
SURE = 0.5
"""Share of the wordings that must agree for an answer to be kept."""
WORDINGS = ("{q}", "Please answer: {q}", "{q} Say it in a few words.", "I ask you: {q}")
WORDINGS_ZH = ("{q}", "请回答：{q}", "{q}请简短地说。", "我问你：{q}")
GENERIC = (
    "What is the user's name?", "Where does the user live?", "What is the user's job?", "Who does the user work for?",
    "What does the user like?", "What does the user dislike?", "Which language does the user speak?",
    "What is the user working on?", "用户叫什么名字？", "用户住在哪里？", "用户做什么工作？", "用户喜欢什么？",
)  # fmt: skip
"""What is asked where no questions are given."""


class ExternaliseResult(TypedDict):
    """How many questions an adapter was asked, and the memories that were made of its answers."""

    adapter: str
    asked: int
    kept: list[str]
    op: str | None


def externalise(parts: Parts, caller: Caller, adapter: str, questions: Sequence[str] | None) -> ExternaliseResult:
    """Keep as memories what the model answers with the adapter mounted and not without, with its confidence.

    Raises:
        InvalidInput: it is no adapter, or there are no questions, or too many. NotFound: not the caller's to read.
        Conflict: it may not be mounted. EngineUnavailable: there is no local model.
    """
    with parts.ledger.read() as connection:
        cube = cubes_for(parts, connection, caller, [adapter], "read")[0]
    if cube.snapshot.kind != ADAPTER:
        raise InvalidInput(f"{adapter} is no adapter: memos-mcp adapters lists them.", field="id")
    asked = [said for one in (GENERIC if questions is None else questions) if (said := " ".join(one.split()))]
    if not 1 <= len(asked) <= MOST_QUESTIONS:
        raise InvalidInput(f"{len(asked)} questions: give 1 to {MOST_QUESTIONS}, a line each.", field="questions")
    kept: list[str] = []
    op: str | None = None
    for question in dict.fromkeys(asked):
        answer, confidence = _answer(parts, caller, adapter, question)
        if answer is None or confidence < SURE:
            continue
        draft = AddRequest(
            content=f"{question} {answer}", kind="fact", source=cube.uri, importance=confidence / 2,
            metadata={"confidence": confidence, "adapter": adapter},
            links=[LinkTo(to=adapter, relation="derived_from")],
        )  # fmt: skip
        made = add.add(parts, caller, draft)
        kept += [one["id"] for one in made["cubes"]]
        op = made["op"] or op
    return {"adapter": adapter, "asked": len(asked), "kept": kept, "op": op}


def _answer(parts: Parts, caller: Caller, adapter: str, question: str) -> tuple[str | None, float]:
    """What most of the wordings are answered by, and their share; None where the model says so without the adapter."""
    wordings = WORDINGS if question.isascii() else WORDINGS_ZH
    said = Counter(_said(parts, caller, adapter, wording.format(q=question), 1.0) for wording in wordings)
    said.pop("", None)
    if not said:
        return None, 0.0
    answer, times = said.most_common(1)[0]
    if answer == _said(parts, caller, adapter, question, 0.0):
        return None, 0.0
    return answer, round(times / len(wordings), 2)


def _said(parts: Parts, caller: Caller, adapter: str, question: str, weight: float) -> str:
    mounted = [Weighted(id=adapter, weight=weight)]
    wish = AskRequest(question=question, ids=[], adapters=mounted, max_tokens=MOST_TOKENS)
    return ask.ask(parts, caller, wish)["answer"].strip()
