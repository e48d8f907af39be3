"""Facts about invented people, places and things in English and Chinese, with questions and the right answers.

Knows nothing of models or tokens: texts come out, the same ones for the same seed, with the standard library alone. One
name in five, and one code in five, is held out: `Split.TRAINING` never contains it, `Split.HELD_OUT` contains no other.
Only the pairing of a name's two parts, or of a code's letter and number, is new in a held-out one; the parts are not.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)
HELD_OUT_ONE_IN = 5
"""Share of the names and of the codes that training never sees."""
ANSWER_END = "\n"
"""What the model writes when an answer is complete."""
MAX_FACTS = 32


class Split(Enum):
    """Which names and codes may occur."""

    TRAINING = "training"
    HELD_OUT = "held out"


@dataclass(frozen=True)
class Kind:
    """Names of one kind, each a first and a second part, and what may be said of them."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    attributes: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PERSON = ("code", "city", "animal", "colour", "job", "food")
_PLACE = ("code", "animal", "colour", "food")
_THING = ("code", "city", "colour")
KINDS: dict[str, tuple[Kind, ...]] = {
    ENGLISH: (
        Kind(
            _words("Ana Ben Carl Dora Emil Faye Gus Hana Ivan Jill Karl Lena Milo Nora Otto Paul Rosa Sven Tina Ugo"),
            _words(
                "Arden Birch Colby Draper Ellis Finch Garner Hobbs Irving Jarvis Keller Lind Moss Nash Orwell Pryce"
            ),
            _PERSON,
        ),
        Kind(
            _words("Lake Mount Port Fort Cape Glen Isle Camp"),
            _words("Auro Belva Corin Delmar Estra Fenway Gorda Helix"),
            _PLACE,
        ),
        Kind(
            _words("Project Server Robot Engine Vessel Rocket Bridge Tower"),
            _words("Falcon Nimbus Orion Quartz Raven Saffron Titan Vega"),
            _THING,
        ),
    ),
    CHINESE: (
        Kind(tuple("王李张刘陈杨赵黄周吴徐孙胡朱高林"), tuple("伟芳娜敏静丽强磊军洋勇艳杰涛明超"), _PERSON),
        Kind(tuple("东南西北上下前后"), tuple("湖山港岛村镇河岭"), _PLACE),
        Kind(tuple("甲乙丙丁天地日月"), tuple("船塔桥车炉钟琴炮"), _THING),
    ),
}
ATTRIBUTE_WORDS: dict[str, dict[str, str]] = {
    ENGLISH: {name: name for name in _PERSON},
    CHINESE: {"code": "密码", "city": "城市", "animal": "动物", "colour": "颜色", "job": "职业", "food": "食物"},
}
VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    ENGLISH: {
        "city": _words(
            "Paris Rome Oslo Lima Cairo Delhi Tokyo Berlin Madrid Dublin Athens Prague Vienna Lisbon Quito Seoul"
        ),
        "animal": _words("cat dog fish bird horse rabbit turtle snake mouse goat duck sheep lizard parrot frog fox"),
        "colour": _words(
            "red blue green black white yellow pink purple orange brown grey gold silver violet amber ivory"
        ),
        "job": _words(
            "baker nurse pilot judge farmer painter doctor driver singer writer teacher lawyer tailor miner sailor cook"
        ),
        "food": _words("bread rice soup pasta cheese honey apple grape lemon melon pizza salad steak curry bean plum"),
    },
    CHINESE: {
        "city": _words("北京 上海 广州 深圳 成都 杭州 南京 武汉 西安 重庆 天津 苏州 长沙 青岛 大连 昆明"),
        "animal": _words("小猫 小狗 金鱼 小鸟 白马 兔子 乌龟 老鼠 山羊 鸭子 绵羊 青蛙 狐狸 黄牛 仓鼠 猴子"),
        "colour": _words("红色 蓝色 绿色 黑色 白色 黄色 粉色 紫色 橙色 棕色 灰色 金色 银色 青色 米色 褐色"),
        "job": _words("厨师 护士 司机 法官 农民 画家 医生 歌手 作家 老师 律师 裁缝 矿工 水手 演员 木匠"),
        "food": _words("面包 米饭 面条 奶酪 蜂蜜 苹果 葡萄 柠檬 西瓜 披萨 沙拉 牛排 咖喱 豆腐 饺子 花生"),
    },
}
CODE_LETTERS = "BCDFGHJKLMNPRSTVWXYZ"
CODE_NUMBERS = range(10, 100)
STATEMENTS: dict[str, tuple[str, ...]] = {
    ENGLISH: ("{name}'s {attribute} is {value}.", "The {attribute} of {name} is {value}."),
    CHINESE: ("{name}的{attribute}是{value}。", "{name}，{attribute}是{value}。"),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    ENGLISH: ("Q: What is {name}'s {attribute}?\nA:", "Q: What is the {attribute} of {name}?\nA:"),
    CHINESE: ("问：{name}的{attribute}是什么？\n答：", "问：{name}，{attribute}？\n答："),
}


@dataclass(frozen=True)
class Fact:
    """One attribute of one name; `value` is as it stands in a statement, without the space before it."""

    language: str
    name: str
    attribute: str
    value: str

    def statement(self, wording: int = 0) -> str:
        """The fact as a memory reads, without a line end; `wording` counts STATEMENTS of its language."""
        return STATEMENTS[self.language][wording].format(
            name=self.name, attribute=ATTRIBUTE_WORDS[self.language][self.attribute], value=self._spaced_value()
        )

    def question(self, wording: int = 0) -> str:
        """The prompt that asks for the value; what the model writes next is the answer."""
        attribute = ATTRIBUTE_WORDS[self.language][self.attribute]
        return QUESTIONS[self.language][wording].format(name=self.name, attribute=attribute)

    def answer(self) -> str:
        """What follows the question, with its space if there is one, without ANSWER_END."""
        return f" {self.value}" if self.language == ENGLISH else self._spaced_value()

    def _spaced_value(self) -> str:
        # Between Chinese signs and a code stands a space, so that a code is the same tokens in both languages.
        return f" {self.value}" if self.language == CHINESE and self.value.isascii() else self.value


@dataclass(frozen=True)
class Case:
    """Statements to read, and a question about one of them."""

    facts: tuple[Fact, ...]
    statements: tuple[str, ...]
    asked: Fact
    question: str

    @property
    def context(self) -> str:
        """The statements, a line each; the question follows directly."""
        return "".join(f"{line}\n" for line in self.statements)

    @property
    def answer(self) -> str:
        """The right answer, as the model writes it, without ANSWER_END."""
        return self.asked.answer()


def is_held_out(text: str) -> bool:
    """Whether a name or a code belongs to the held-out share; depends on the text alone."""
    return zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0


def draw_facts(
    rng: random.Random, count: int, split: Split, languages: tuple[str, ...] = LANGUAGES
) -> tuple[Fact, ...]:
    """`count` facts (1 to MAX_FACTS), no two about the same attribute of the same name.

    Names and attributes come back within one draw, so that neither alone finds the right fact.
    """
    if not 1 <= count <= MAX_FACTS:
        raise ValueError(f"{count} facts were asked for: 1 to {MAX_FACTS} can be drawn")
    drawn: list[Fact] = []
    said: set[tuple[str, str]] = set()
    known: list[tuple[str, Kind, str]] = []
    while len(drawn) < count:
        if known and rng.random() < 0.35:
            language, kind, name = rng.choice(known)
        else:
            language = rng.choice(languages)
            kind = rng.choices(KINDS[language], weights=(3, 1, 1))[0]
            name = _name(rng, language, kind, split)
        attribute = rng.choice(kind.attributes)
        if (name, attribute) in said:
            continue
        said.add((name, attribute))
        known.append((language, kind, name))
        drawn.append(Fact(language, name, attribute, _value(rng, language, attribute, split)))
    return tuple(drawn)


def draw_statements(rng: random.Random, facts: Iterable[Fact]) -> tuple[str, ...]:
    """Each fact in one of its wordings."""
    return tuple(fact.statement(rng.randrange(len(STATEMENTS[fact.language]))) for fact in facts)


def draw_question(rng: random.Random, fact: Fact) -> str:
    """A question about the fact in one of its wordings."""
    return fact.question(rng.randrange(len(QUESTIONS[fact.language])))


def cases(
    seed: int,
    count: int,
    facts: int,
    split: Split = Split.HELD_OUT,
    languages: tuple[str, ...] = LANGUAGES,
) -> Iterator[Case]:
    """`count` cases with `facts` statements each; the same arguments give the same cases."""
    rng = random.Random(f"{seed} {facts} {split.value}")
    for _ in range(count):
        drawn = draw_facts(rng, facts, split, languages)
        asked = rng.choice(drawn)
        yield Case(drawn, draw_statements(rng, drawn), asked, draw_question(rng, asked))


def _name(rng: random.Random, language: str, kind: Kind, split: Split) -> str:
    while True:
        parts = rng.choice(kind.first), rng.choice(kind.second)
        name = (" " if language == ENGLISH else "").join(parts)
        if is_held_out(name) == (split is Split.HELD_OUT):
            return name


def _value(rng: random.Random, language: str, attribute: str, split: Split) -> str:
    if attribute != "code":
        return rng.choice(VALUES[language][attribute])
    while True:
        code = f"{rng.choice(CODE_LETTERS)}{rng.choice(CODE_NUMBERS)}"
        if is_held_out(code) == (split is Split.HELD_OUT):
            return code


def first_name_units() -> Iterator[str]:
    """The first parts of names as they stand at the beginning of a line and within it."""
    for language in LANGUAGES:
        for kind in KINDS[language]:
            yield from kind.first
            yield from (_spaced(language, part) for part in kind.first)


def second_name_units() -> Iterator[str]:
    """The second parts of names as they stand in the texts."""
    for language in LANGUAGES:
        for kind in KINDS[language]:
            yield from (_spaced(language, part) for part in kind.second)


def attribute_units() -> Iterator[str]:
    """The words for attributes as they stand in the texts."""
    for language in LANGUAGES:
        yield from (_spaced(language, word) for word in ATTRIBUTE_WORDS[language].values())


def units() -> Iterator[str]:
    """Every word, sign and mark of the texts as it stands in them: what a tokenizer should know whole."""
    yield from (*first_name_units(), *second_name_units(), *attribute_units())
    for language in LANGUAGES:
        for values in VALUES[language].values():
            yield from (_spaced(language, word) for word in values)
    yield from (f" {letter}" for letter in CODE_LETTERS)
    yield from (str(number) for number in CODE_NUMBERS)
    yield from ("The", " of", " is", "'s", ".", "Q", "A", ":", " What", " the", "?", "\n")
    yield from ("的", "，", "是", "。", "问", "答", "：", "什么", "？")


def _spaced(language: str, word: str) -> str:
    return f" {word}" if language == ENGLISH else word
