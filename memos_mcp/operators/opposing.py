"""Tells whether two sentences give one subject's attribute two values, by a few sure patterns in English and Chinese.

Knows no more of language: what fits no pattern contradicts nothing. Attributes that may have many values (a language
spoken, a thing owned) are not among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class _Claim:
    """What a sentence says: `holds` is False where it denies it."""

    subject: str
    attribute: str
    value: str
    holds: bool = True


_WHO = r"(?P<who>i|we|he|she|they|(?:my|his|her|our|their|the) [\w' -]{2,40}?|[\w'-]+(?: [\w'-]+)?)"
_ENGLISH = (
    ("home", rf"{_WHO} (?:now |currently )?(?:lives?|resides?) in (?P<what>.+)"),
    ("home", rf"{_WHO} (?:has |have |'ve )?(?:just )?(?:moved|relocated) (?:from .+? )?to (?P<what>.+)"),
    ("work", rf"{_WHO} (?:now |currently )?works? (?:at|for) (?P<what>.+)"),
    ("birthday", rf"{_WHO}(?:'s)? birthday is (?:on )?(?P<what>.+)"),
    ("name", rf"{_WHO}(?:'s)? name is (?P<what>.+)"),
    ("age", rf"{_WHO} (?:is|am|are) (?P<what>\d+)(?: years old)?"),
    ("favourite", rf"{_WHO}(?:'s)? favou?rite (?P<of>[\w -]{{2,30}}?) is (?P<what>.+)"),
    ("place", r"(?P<who>the [\w' -]{2,40}?) (?:is|takes place|was moved) (?:on|at|to) (?P<what>.+)"),
)
_LIKES = (
    (rf"{_WHO} (?:likes?|loves?|enjoys?|drinks?|eats?|smokes?|uses?) (?P<what>.+)", True),
    (rf"{_WHO} (?:do(?:es)? not|no longer) (?:like|love|enjoy|drink|eat|smoke|use)s? (?P<what>.+?)(?: any ?more)?",
     False),
    (rf"{_WHO} (?:hates?|dislikes?|(?:has |have )?(?:quit|gave up|given up|stopped)(?: drinking| eating| smoking)?) "
     r"(?P<what>.+)", False),
)  # fmt: skip
_NAME = r"(?P<who>我|他|她|我们|[\u4e00-\u9fff]{2,4}?)"
_CHINESE = (
    ("home", rf"{_NAME}(?:现在|目前)?(?:住在|居住在|定居)(?P<what>.+?)"),
    ("home", rf"{_NAME}(?:已经|刚|刚刚)?搬(?:家)?(?:到|去)了?(?P<what>.+?)了?"),
    ("work", rf"{_NAME}(?:现在|目前)?在(?P<what>.+?)(?:工作|上班)了?"),
    ("birthday", rf"{_NAME}的生日是(?P<what>.+?)"),
    ("name", rf"{_NAME}(?:的名字)?叫(?:做)?(?P<what>.+?)"),
    ("age", rf"{_NAME}(?:今年)?(?P<what>\d+|[一二三四五六七八九十]+)岁了?"),
)
_CHINESE_LIKES = (
    (rf"{_NAME}(?:很|最|非常|特别)?(?:喜欢|爱)(?:喝|吃|抽)?(?P<what>.+?)", True),
    (rf"{_NAME}(?:不|不再)(?:喜欢|爱)(?:喝|吃|抽)?(?P<what>.+?)了?", False),
    (rf"{_NAME}(?:已经)?(?:讨厌|戒掉|戒)(?:了)?(?P<what>.+?)了?", False),
)


def _compiled(patterns: tuple[tuple[str, str], ...]) -> list[tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(pattern)) for name, pattern in patterns]


_ATTRIBUTES = _compiled(_ENGLISH) + _compiled(_CHINESE)
_STANCES = [(re.compile(pattern), holds) for pattern, holds in (*_LIKES, *_CHINESE_LIKES)]
_LONGEST = 200
"""Characters of a sentence that is looked at: what is longer tells more than one thing."""


def opposed(earlier: str, later: str) -> bool:
    """Whether the sentences give one subject's attribute different values, or one affirms what the other denies."""
    first = _claim(earlier)
    second = _claim(later) if first is not None else None
    if first is None or second is None or (first.subject, first.attribute) != (second.subject, second.attribute):
        return False
    if first.attribute == "likes":
        return first.value == second.value and first.holds is not second.holds
    return first.value != second.value


@lru_cache(maxsize=1_000)  # each sentence is held against many
def _claim(sentence: str) -> _Claim | None:
    if len(sentence) > _LONGEST:
        return None
    plain = " ".join(sentence.casefold().replace("’", "'").replace("n't ", " not ").split()).strip(".!。！ \"”")
    if plain.endswith(("?", "？")):
        return None
    for pattern, holds in _STANCES:
        if (found := pattern.fullmatch(plain)) is not None:
            return _Claim(_plain(found["who"]), "likes", _plain(found["what"]), holds)
    for attribute, pattern in _ATTRIBUTES:
        if (found := pattern.fullmatch(plain)) is not None:
            of = found.groupdict().get("of")
            return _Claim(_plain(found["who"]), f"{attribute} {of}" if of else attribute, _plain(found["what"]))
    return None


def _plain(words: str) -> str:
    return re.sub(r"^(?:a|an|the|in|on) |(?: now| since .*| in (?:19|20)\d\d)$", "", words.strip(" ,，"))
