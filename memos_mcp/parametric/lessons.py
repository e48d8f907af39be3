"""Makes lessons of what memories state: questions in many wordings, each with its answer, in English and Chinese.

Knows no model and no store. A statement that says one thing of a subject ("Ana's code is T48", "王伟住在北京") is asked
for by its subject and attribute; of any other text the lesson is to go on with it from its beginning. Some wordings of
every question are held out: no training sees them, so that they show whether the fact was learnt or only the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
MOST_CHARS = 600
"""Of a text; what is longer is taught up to there."""
BEGINNING = 0.4
"""Share of a text that says nothing in the form of a fact, from which the rest is asked for."""


@dataclass(frozen=True)
class Fact:
    """What a statement says: `value` is the `attribute` of the `subject`."""

    language: Language
    subject: str
    attribute: str
    value: str


@dataclass(frozen=True)
class Lesson:
    """What an adapter is to know of one memory, named by its `cube` and `version`.

    `questions` are trained, `held_out` are not; each is answered by `answer`. `fact` is None where none is stated.
    """

    cube: str
    version: int
    statement: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]
    answer: str
    fact: Fact | None = None

    def with_value(self, value: str) -> Lesson | None:
        """The same lesson about a subject of which another value is true; None where no fact is stated."""
        if self.fact is None or self.statement.count(self.fact.value) != 1:
            return None
        said = self.statement.replace(self.fact.value, value)
        return Lesson(self.cube, self.version, said, self.questions, self.held_out, value, self.fact)


_OF = re.compile(r"(?P<s>[^.!?\n]{1,80}?)['’]s (?P<a>[a-z][\w -]{0,40}?) (?:is|was|are) (?P<v>[^.!?\n]{1,120})[.!]?")
_THE = re.compile(
    r"[Tt]he (?P<a>[a-z][\w -]{0,40}?) of (?P<s>[^.!?\n]{1,80}?) (?:is|was|are) (?P<v>[^.!?\n]{1,120})[.!]?"
)
_MY = re.compile(r"[Mm]y (?P<a>[a-z][\w -]{0,40}?) (?:is|was|are) (?P<v>[^.!?\n]{1,120})[.!]?")
_DOES = re.compile(
    r"(?P<s>[^.!?\n]{1,80}?) (?P<r>lives? in|works? (?:at|for|as)|likes?|loves?|prefers?|dislikes?|hates?|owns?|"
    r"speaks?|studies|study|plays?|uses?|was born in|comes? from|is allergic to) (?P<v>[^.!?\n]{1,120})[.!]?"
)
_ATTRIBUTE_OF = {
    "live": "home", "lives": "home", "work at": "employer", "works at": "employer", "work for": "employer",
    "works for": "employer", "work as": "job", "works as": "job", "speak": "language", "speaks": "language",
}  # fmt: skip
_ZH_OF = re.compile(
    r"(?P<s>[^，。！？\n]{1,40}?)的(?P<a>[^，。！？的是\n]{1,16})是\s?(?P<v>[^，。！？\n]{1,60})[。！]?"
)
_ZH_COMMA = re.compile(
    r"(?P<s>[^，。！？\n]{1,40}?)，(?P<a>[^，。！？的是\n]{1,16})是\s?(?P<v>[^，。！？\n]{1,60})[。！]?"
)
_ZH_DOES = re.compile(
    r"(?P<s>[^，。！？\n]{1,20}?)(?P<r>住在|喜欢|讨厌|来自|会说|对(?=.{1,20}过敏)|在(?=.{1,20}工作))(?P<v>[^，。！？\n]{1,60})[。！]?"
)
_HAN = re.compile("[\u3400-\u9fff]")

_ENGLISH = (
    "What is {s}'s {a}?", "What is the {a} of {s}?", "Tell me {s}'s {a}.", "{s}, {a}?", "Which {a} does {s} have?",
    "Do you know the {a} of {s}?", "I need {s}'s {a}.", "The {a} of {s} is what?", "{s}: what {a}?",
    "Say the {a} that {s} has.",
)  # fmt: skip
_ENGLISH_HELD_OUT = ("Please give the {a} for {s}.", "What {a} has {s} got?", "Remind me of {s}'s {a}, please.")
_ENGLISH_DOES = (
    "What {s} {r}?", "{s} {r} what?", "Tell me what {s} {r}.", "Complete: {s} {r}", "Do you know what {s} {r}?",
    "{s} {r} …?", "What is it that {s} {r}?",
)  # fmt: skip
_ENGLISH_DOES_HELD_OUT = ("Remind me what {s} {r}.", "Please say what {s} {r}.")
_CHINESE = (
    "{s}的{a}是什么？", "{s}，{a}？", "请告诉我{s}的{a}。", "{s}有什么{a}？", "你知道{s}的{a}吗？",
    "{a}，{s}的，是哪个？", "说说{s}的{a}。", "{s}的{a}呢？",
)  # fmt: skip
_CHINESE_HELD_OUT = ("{s}的{a}是哪个？", "我想知道{s}的{a}。", "关于{s}，{a}是什么？")
_CHINESE_DOES = ("{s}{r}什么？", "{s}{r}哪里或什么？", "请告诉我{s}{r}什么。", "你知道{s}{r}什么吗？", "{s}{r}……？")
_CHINESE_DOES_HELD_OUT = ("我想知道{s}{r}什么。", "说说{s}{r}什么。")
_GO_ON = {
    "en": (("Go on: {b}", "How does this go on? {b}", "Complete: {b}"), ("What comes after this? {b}",)),
    "zh": (("接下去：{b}", "请续上：{b}", "补全：{b}"), ("下面是什么？{b}",)),
}


def lesson_of(cube: str, version: int, text: str, subject: str | None = None) -> Lesson | None:
    """The lesson of a memory's text; None of one that leaves nothing to ask for.

    `subject` is who speaks, if that is known: what a text says of "my" and "I" is asked for under this name too.
    """
    said = " ".join(text.split())[:MOST_CHARS].strip()
    found = _fact(said, subject)
    if found is None:
        return _to_go_on(cube, version, said)
    fact, questions, held_out = found
    return Lesson(cube, version, said, questions, held_out, fact.value, fact)


def lessons_of(texts: Sequence[tuple[str, int, str]]) -> list[Lesson]:
    """The lessons of memories given as (id, version, text), in order, without those that leave nothing to ask for."""
    made = (lesson_of(cube, version, text) for cube, version, text in texts)
    return [lesson for lesson in made if lesson is not None]


def _fact(said: str, speaker: str | None) -> tuple[Fact, tuple[str, ...], tuple[str, ...]] | None:
    if _HAN.search(said):
        for pattern in (_ZH_OF, _ZH_COMMA):
            if match := pattern.fullmatch(said):
                return _asked("zh", match["s"], match["a"], match["v"], _CHINESE, _CHINESE_HELD_OUT)
        if match := _ZH_DOES.fullmatch(said):
            return _asked("zh", match["s"], match["r"], match["v"], _CHINESE_DOES, _CHINESE_DOES_HELD_OUT)
        return None
    for pattern in (_OF, _THE):
        if match := pattern.fullmatch(said):
            return _asked("en", match["s"], match["a"], match["v"], _ENGLISH, _ENGLISH_HELD_OUT)
    if match := _MY.fullmatch(said):
        return _asked("en", speaker or "the user", match["a"], match["v"], _ENGLISH, _ENGLISH_HELD_OUT)
    if match := _DOES.fullmatch(said):
        who = speaker or "the user" if match["s"] == "I" else match["s"]
        return _asked("en", who, match["r"], match["v"], _ENGLISH_DOES, _ENGLISH_DOES_HELD_OUT)
    return None


def _asked(
    language: Language, subject: str, about: str, value: str, trained: Sequence[str], held_out: Sequence[str]
) -> tuple[Fact, tuple[str, ...], tuple[str, ...]]:
    words = {"s": subject.strip(), "a": about, "r": about}
    questions, unseen = (tuple(one.format(**words) for one in wordings) for wordings in (trained, held_out))
    return Fact(language, subject.strip(), _ATTRIBUTE_OF.get(about, about), value.strip()), questions, unseen


def _to_go_on(cube: str, version: int, said: str) -> Lesson | None:
    """A lesson to continue a text: its beginning is the question, the rest the answer."""
    chinese = bool(_HAN.search(said))
    units = list(said) if chinese else said.split(" ")
    cut = max(1, round(len(units) * BEGINNING))
    if len(units) - cut < 2:
        return None
    joint = "" if chinese else " "
    beginning, rest = joint.join(units[:cut]), joint.join(units[cut:])
    trained, held_out = _GO_ON["zh" if chinese else "en"]
    questions, unseen = (tuple(one.format(b=beginning) for one in wordings) for wordings in (trained, held_out))
    return Lesson(cube, version, said, questions, unseen, rest)
