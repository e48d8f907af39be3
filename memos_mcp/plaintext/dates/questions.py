"""Tells a question for a time from others, and a text that names a time, in English and Chinese.

Knows nothing of days: which ones a text means is `reading`'s.
"""

from __future__ import annotations

import re

MAX_QUESTION = 10_000
"""Characters of a text in which a question is looked for."""

_S = r"\s{1,3}"
_TIME = re.compile(
    r"\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|mornings?|afternoons?|evenings?|nights?|noon|midnight|"
    r"\d{1,2}(?::\d\d)?\s?[ap]\.?m\b|o['’]clock|\d{1,2}:\d\d|(?:every|each|once a|twice a|all|per) (?:day|"
    r"week|month|year)|daily|weekly|monthly|yearly|annual(?:ly)?|soon|later|earlier|ago|since|years old|"
    r"(?:hours?|days?|weeks?|months?|years?|decades?)|when (?:i|we|he|she|they) (?:was|were)|childhood|"
    r"last time|next time|back then|these days|nowadays|weekends?|birthday|anniversary)\b",
    re.A | re.I,
)
_TIME_CHINESE = re.compile(
    r"[今昨前明后]天|[早晚]上|早晨|上午|中午|下午|傍晚|凌晨|小时|分钟|每[天周月年]|周末|星期|礼拜|刚才|刚刚|以前|以后|之前|之后|"
    r"\d{1,2}点|\d{1,2}:\d\d|的时候|小时候|那时|当时|多年|年前|年后|春节|中秋|除夕|生日"
)
_VERB = r"(?:is|are|was|were|did|do|does|have|has|had|will|would|should|can|could|might|am)"
_WHEN = (
    rf"\bwhen(?:{_S}exactly)?{_S}{_VERB}\b|\bwhen['’](?:s|d|ll|re)\b|\A\s{{0,9}}when\s[^,?]{{1,200}}\?|"
    rf"\bwhen(?:{_S}exactly)?\?|\A\W{{0,9}}when\W{{0,9}}\Z|\bsince{_S}when\b|"
    rf"\b(?:remember|recall|know|tell{_S}me|say|sure|ask|forgot|forget){_S}when\b(?!{_S}(?:it{_S}comes|to\b))"
)
_WHICH = (
    rf"\b(?:what|which){_S}(?:exact{_S}|specific{_S})?"
    rf"(?:date|day|time|year|month|week|weekday|weekend|season|decade|century)s?\b|\bthe{_S}date{_S}(?:of|when|on)\b"
)
_HOW_LONG = (
    rf"\bhow{_S}(?:recently\b|(?:long|many{_S}(?:hours|days|weeks|months|years)){_S}(?:ago\b|since\b|before\b|after\b|"
    rf"(?:has|had|have){_S}(?:it{_S}been|passed)|is{_S}it{_S}since))"
)
_ASKS = re.compile(f"{_WHEN}|{_WHICH}|{_HOW_LONG}", re.A | re.I)
_ASKS_CHINESE = re.compile(
    r"(?<![无不]论)(?<!不管)什么时候|啥时候?|何时|何日|(?<!无论)哪一?[天年日月]|哪一?个(?:月|星期|周|礼拜|年|季节|日子)|哪个?周末|几月|"
    r"几号(?![线楼])|几[时日](?!候)|多[久长](?:时间)?(?:以|之)?前|多久没|什么日[期子]|日期(?:是|$)|(?:星期|周|礼拜)几|几点|"
    r"什么时[间刻]|哪段时间|多少[天年](?:以|之)?前|具体的?(?:日期|时间)"
)


def is_temporal_question(text: str) -> bool:
    """Whether the text asks when something is or was: "when did", "what year", "how long ago", 什么时候, 哪天.

    Only the first `MAX_QUESTION` characters are looked at.
    """
    text = text[:MAX_QUESTION]
    return bool(_ASKS.search(text) or _ASKS_CHINESE.search(text))


def names_time(text: str) -> bool:
    """Whether the text holds a common word of time, or a time of the day; not every date does."""
    return bool(_TIME.search(text) or _TIME_CHINESE.search(text))
