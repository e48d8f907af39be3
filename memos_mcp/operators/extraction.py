"""Draws facts and preferences out of what a person says, by rules: what they state of themselves, plainly and now.

Knows no store and no model. Precision comes before recall: questions, conditions, negations that would turn the sense,
what is told of others, quoted, pasted or said by an assistant give nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from memos_mcp.operators import chinese, english
from memos_mcp.operators.statements import Extracted, Said

__all__ = ["Extracted", "extract", "speaks"]

MOST_CHARS = 4_000
"""Characters of a turn beyond which it is taken for something pasted."""
MOST_OF_A_TURN = 12
ALIKE = 0.7
"""Share of words (of characters, in Chinese) that two statements have in common, from which on they are one."""
NOT_A_PERSON = frozenset(
    {
        "assistant", "ai", "system", "tool", "function", "developer", "model", "bot", "chatbot", "agent", "gpt",
        "chatgpt", "claude", "gemini", "llm", "助手", "助理", "机器人", "系统",
        "智能助手", "ai助手", "ai伴侣", "小助手",
    }
)  # fmt: skip
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_CITED_LINE = re.compile(r"(?m)^\s*(?:>|\||#|[-*]\s).*$")
_LABEL = re.compile(
    r"(?:^|(?<=\s)|(?<=[。！？!?]))"
    r"([A-Za-z][\w'-]{0,30}(?: [A-Z][\w'-]{0,30}){0,2}|[\u3400-\u9fffA-Za-z]{1,12})\s?[:：](?!//)\s*"
)
_TASK = re.compile(
    r"^\W*(?:(?:please|can you|could you|would you|help me|now|ok|okay|hi|hello|hey)\W+)*"
    r"(?:translate|rewrite|rephrase|paraphrase|proofread|summari[sz]e|correct|edit|polish|act|pretend|role-?play|imagine|"
    r"write|draft|compose|generate|complete|continue|repeat|explain|analy[sz]e|classify|example)\b"
    r"|^\W*(?:请|请你|帮我|麻烦|麻烦你|你)*(?:把|将)?.{0,6}(?:翻译|改写|润色|造句|扮演|假装|续写|校对|总结|仿写|写一|分析一下|例如|比如)",
    re.IGNORECASE,
)


def speaks(role: str | None, speaker: str | None) -> bool:
    """Whether a turn of this role and speaker is a person's own."""
    return not any(_plain(label) in NOT_A_PERSON for label in (role, speaker) if label)


def extract(text: str, speaker: str | None, role: str | None, time: str | None) -> list[Extracted]:
    """What a turn says of the one who speaks, in the order of the text, each once.

    `speaker` is the person's name, or None; `time` when it was said, ISO 8601, or None. Statements are in the third
    person and name the speaker, so that they stand by themselves.
    """
    if not speaks(role, speaker) or len(text) > MOST_CHARS:
        return []
    own = _own_words(text, speaker)
    if _TASK.match(own):
        return []
    found: dict[str, Extracted] = {}
    said = Said(speaker.strip() if speaker and speaker.strip() else None, time[:10] if time else None)
    for statement in _statements(own, said):
        found.setdefault(statement.text, statement)
    return list(found.values())[:MOST_OF_A_TURN]


def alike(a: str, b: str) -> bool:
    """Whether two statements say the same in nearly the same words."""
    first, second = _features(a), _features(b)
    return bool(first and second) and len(first & second) / len(first | second) >= ALIKE


def _features(text: str) -> set[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    return {part for word in words for part in (word if re.search("[\u3400-\u9fff]", word) else [word.rstrip("s")])}


def _statements(text: str, said: Said) -> Iterator[Extracted]:
    yield from english.statements(text, said)
    yield from chinese.statements(text, said)


def _plain(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _own_words(text: str, speaker: str | None) -> str:
    """The text without code, cited lines, and what a written-out conversation gives to others."""
    text = _CITED_LINE.sub(" ", _CODE.sub(" ", text))
    labels = list(_LABEL.finditer(text))
    own = [label for label in labels if speaker and _plain(label[1]) == _plain(speaker)]
    others = [label for label in labels if _plain(label[1]) in NOT_A_PERSON]
    if not own and not others:
        return text
    marks = sorted({label.start(): label for label in own + others}.values(), key=re.Match.start)
    parts = [text[: marks[0].start()]]
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts += [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True) if mark in own]
    return "\n".join(parts)
