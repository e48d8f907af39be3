"""A statement as words that can be compared: folded, small words left out; its days, numbers, names and negations.

Knows no grammar beyond lists of small words, in English and Chinese; other languages are compared word by word.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MOST_CHARS = 400
"""Characters of a text beyond which it is more than a statement or two, and is not read as one."""

_HAN = "\u3400-\u9fff"


def wordset(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


_TOKEN = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:[.@:/'-][^\W_{_HAN}]+)*", re.UNICODE)
_SHORT = (
    (r"can't|cannot", "can not"), (r"won't", "will not"), (r"n't\b", " not"), (r"\b(i)'m\b", r"\1 am"),
    (r"\b(\w+)'re\b", r"\1 are"), (r"\b(\w+)'ve\b", r"\1 have"), (r"\b(\w+)'ll\b", r"\1 will"),
    (r"\b(he|she|it|that|there|what|who)'s\b", r"\1 is"),
    (r"\b(?:have|has) got\b", "have"), (r"\b(an)y ?more\b", ""), (r"\be-mail", "email"),
)  # fmt: skip
_EXPANDED = tuple((re.compile(pattern), said) for pattern, said in _SHORT)
_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_COUNTED)} | {"twice": "2", "once": "1"}
_HAN_DIGITS = {char: str(number) for number, char in enumerate("零一二三四五六七八九十")} | {"两": "2", "俩": "2"}
_HAN_NUMBER = re.compile(
    "[零一二两三四五六七八九十]+(?=[个只条位匹辆本张岁年月日号点天次杯包块元万千百%斤公米层楼室栋间套件台])"
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_DAY_NAMES = {name: name for name in (*_WEEKDAYS, *_MONTHS)}
_DAY_NAMES |= {f"{name}s": name for name in _WEEKDAYS}
_DAY_NAMES |= {name[:3]: name for name in (*_WEEKDAYS, *_MONTHS) if name not in ("may", "march", "sunday", "saturday")}
_TIMES = frozenset(
    {
        *_DAY_NAMES.values(), "today", "yesterday", "tomorrow", "tonight", "weekday", "weekend", "morning", "evening",
        "afternoon", "noon", "midnight", "night", "week", "month", "year", "day", "daily", "weekly", "monthly", "every",
        "each", "summer", "winter", "spring", "autumn", "am", "pm", "o'clock",
    }
)  # fmt: skip
_HAN_TIME = re.compile(
    r"(?:每个?|这个?|下个?|上个?|本)?(?:周|星期|礼拜)[一二三四五六日天末]|每天|天天|每周|每月|每年|每个月|工作日|周末|"
    r"今天|明天|昨天|后天|前天|今晚|早上|上午|中午|下午|晚上|凌晨|去年|今年|明年|上个?月|下个?月|这个?月|"
    r"\d+[年月日号点](?:\d+分|半)?|点半"
)
NOT = "not"
"""How every negation is written among a text's words; Chinese ones stay as they are."""
NEGATIONS = frozenset((NOT, "不", "没", "未", "无"))
_NEGATIONS = wordset("not no never nobody nothing none neither nor without hardly")
_HAN_NEGATION = re.compile(
    "不(?!过|错|管|同|仅|但|断|久|少)|没(?!错)|无法|从未|别(?!人|的|墅)|未(?!来)|勿|非(?!常|洲)"
)
_SMALL = wordset(
    "a an the is are was were be been being am do does did have has had of to in on at by for with from as and or that "
    "this these those it its there here so just also really very quite too still now currently already actually simply "
    "always usually please get gets got any some all everything s"
)
_SMALL_HAN = frozenset("的了是很都也就还在着过呢啊吧嘛呀哦地得把被给里上已经现目前正最近一个只条位家会")
_LIMITS = re.compile(
    r"\b(?:but|only|except|unless|if|when|although|though|until|nothing|however|instead|than|rather|almost|nearly)\b"
    r"|但|只有|只在|除了|除非|如果|要是|不过|可是|直到|而不|以外|几乎|差点"
)
_ASKS = re.compile(r"[?？]\s*$|(?:吗|呢)[?？。]?\s*$")
_PLANS = re.compile(
    r"\b(?:might|may(?! \d)|could|would|should|wants?|wish(?:es)?|hopes?|plan(?:s|ned|ning)? (?:to|on)|planning|"
    r"thinking (?:of|about)|consider(?:s|ing)?|will|going to|if|unless|maybe|perhaps|probably|intends?|dreams?|"
    r"interview|applied|applying|looking for|(?:would|'d) (?:like|love|prefer))\b"
    r"|可能|也许|或许|打算|想(?!念|法|象)|考虑|计划(?!是|在)|准备(?!好)|如果|要是|希望|面试|申请|将要|即将|假如|的话"
)
_PASTS = re.compile(
    r"\b(?:used to|formerly|previously|once lived|until (?:19|20)\d\d|as a (?:child|kid|student)|when i was|"
    r"back (?:then|in)|years ago|in my (?:childhood|youth|twenties)|before)\b"
    r"|以前|曾经|小时候|当年|那时|过去|从前|原来(?!的)|年轻时"
)
_SELF = {"i": "self", "me": "self", "my": "self", "mine": "self", "we": "self", "our": "self", "us": "self"}
_SELF_HAN = re.compile("我们家|我们|咱们|我家|用户家|用户|本人|我")
_USER = re.compile(r"\b(?:the )?user(?:'s)?\b(?! (?:interface|story|stories|guide|manual|name|id|account|base|test))")
_SAME = {
    "enjoy": "like", "love": "like", "adore": "like", "colour": "color", "favourite": "favorite", "stored": "kept",
    "saved": "kept", "stop": "quit", "stopped": "quit", "gave": "quit", "mum": "mother",
    "mom": "mother", "dad": "father", "wakes": "get", "begin": "start", "starts": "start", "begins": "start",
    "buy": "bought", "kid": "child", "kids": "child", "children": "child", "phone": "telephone", "reside": "live",
    "big": "large", "photo": "picture", "movie": "film", "flat": "apartment", "holiday": "vacation",
    "study": "learn", "studies": "learn", "repo": "repository", "db": "database", "doc": "document",
}  # fmt: skip
"""Words that say the same wherever they stand in a plain statement."""
_SAME_HAN = (
    ("上班", "工作"), ("任职", "工作"), ("喜爱", "喜欢"), ("热爱", "喜欢"), ("从来不", "不"), ("从不", "不"),
    ("手机号码", "电话"), ("手机号", "电话"), ("电话号码", "电话"), ("保存", "存"), ("存放", "存"), ("正在", "在"),
    ("名字是", "叫"), ("名字叫", "叫"), ("名叫", "叫"), ("超级", "很"), ("非常", "很"), ("特别", "很"), ("十分", "很"),
)  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """What a text is made of, for comparing it with another.

    `content`: its telling words in order, folded, without days and times; `times`: these, sorted; `numbers`: what
    holds digits or signs, sorted; `names`: what is written as a name; `plan`, `past`, `asks`: it tells of no present
    fact; `raw`: every word in order, small ones too; `limited`: it says but, only, if or the like.
    """

    content: tuple[str, ...]
    times: tuple[str, ...]
    numbers: tuple[str, ...]
    names: frozenset[str]
    negations: int
    plan: bool
    past: bool
    asks: bool
    raw: tuple[str, ...]
    limited: bool


def folded(text: str) -> str:
    """A text in one way of writing: compatible characters, small letters, contractions written out."""
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").casefold().strip()
    for pattern, said in _EXPANDED:
        plain = pattern.sub(said, plain)
    return " ".join(plain.split())


def is_han(text: str) -> bool:
    """Whether a text is Chinese, names, code and addresses in it aside."""
    return sum("\u3400" <= char <= "\u9fff" for char in text) * 6 > len(text)


def stem(word: str) -> str:
    """A word without the endings of English that a paraphrase changes."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith("ing") and re.search("[aeiouy]", word[:-3]):
        return word[:-3].rstrip("e") if word[-4] != word[-5] else word[:-4]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def wording(text: str) -> Wording:
    """Read a text for comparison."""
    plain = folded(text)
    asks, plan, past = bool(_ASKS.search(plain)), bool(_PLANS.search(plain)), bool(_PASTS.search(plain))
    limited, negations = bool(_LIMITS.search(plain)), len(_HAN_NEGATION.findall(plain))
    times = [re.sub("号", "日", found[0]) for found in _HAN_TIME.finditer(plain)]
    rest = _HAN_TIME.sub(" ", _HAN_NUMBER.sub(_digits, plain))
    rest = _USER.sub("self", _SELF_HAN.sub(" self ", rest))
    for said, same in _SAME_HAN:
        rest = rest.replace(said, same)
    content, numbers, raw = [], _numbers_of(times), []
    for token in _TOKEN.findall(rest):
        word = _word(token)
        raw.append(word)
        if word in _NEGATIONS:
            negations, word = negations + 1, NOT
        if not word.isalpha() and word not in _TIMES:
            numbers.append(word)
        if word in _TIMES:
            times.append(word)
        elif word not in _SMALL and word not in _SMALL_HAN:
            content.append(word)
    return Wording(
        tuple(content), tuple(sorted(set(times))), tuple(sorted(numbers)), _names(text), negations, plan, past, asks,
        tuple(raw), limited,
    )


def _word(token: str) -> str:
    if token in _SMALL:
        return token
    word = _NUMBER_WORDS.get(token) or _SELF.get(token) or _DAY_NAMES.get(token) or token
    word = word.removesuffix("'s").removesuffix("'")
    if re.fullmatch(r"\d+(?:st|nd|rd|th)", word):
        return re.sub(r"\D", "", word)
    known = _SAME.get(word)
    if known is not None:
        return known
    stemmed = stem(word)
    return _SAME.get(stemmed, _DAY_NAMES.get(stemmed, stemmed))


def _digits(found: re.Match[str]) -> str:
    """A small Chinese number in digits: 十二 is 12."""
    said = found[0]
    if "十" not in said:
        return "".join(_HAN_DIGITS[char] for char in said)
    tens, _, ones = said.partition("十")
    return str(int(_HAN_DIGITS.get(tens, "1")) * 10 + int(_HAN_DIGITS.get(ones, "0")))


def _numbers_of(times: list[str]) -> list[str]:
    return [number for time in times for number in re.findall(r"\d+", time)]


_NAME = re.compile(r"(?<![.!?。\n] )(?<!^)\b[A-Z][\w'’-]*")
_NAME_HAN = re.compile(r"(?<![大从])[小老阿][\u3400-\u9fff](?=[\u3400-\u9fff])")


def _names(text: str) -> frozenset[str]:
    """Words written as names, not counting one that only begins a sentence, and 小王."""
    found = {_word(name.casefold()) for name in _NAME.findall(text)} | set(_NAME_HAN.findall(text))
    return frozenset(found - {"self"} - _TIMES)
