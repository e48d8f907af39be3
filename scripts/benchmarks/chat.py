"""A simulated chat over memories that change: what is known at first, and what happens at each of its turns.

Knows no server. The same seed makes the same chat: subjects of which one stays for some turns, questions about what was
said of them, in English and Chinese, some asked again, while facts are added, changed and forgotten in between.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

SUBJECTS = (
    ("the Falcon project", "猎鹰项目"), ("the lake house", "湖边小屋"), ("Maya's wedding", "玛雅的婚礼"),
    ("the sourdough bakery", "酸面包店"), ("the Kyoto journey", "京都之行"), ("the school garden", "学校花园"),
    ("the chess club", "象棋俱乐部"), ("the old motorcycle", "旧摩托车"), ("the choir", "合唱团"),
    ("the tax return", "报税"), ("Uncle Bao", "宝叔"), ("the harbour office", "港口办公室"),
)  # fmt: skip
ASPECTS = (
    ("budget", "预算"), ("deadline", "截止日期"), ("contact person", "联系人"), ("meeting place", "见面地点"),
    ("colour", "颜色"), ("next step", "下一步"), ("biggest risk", "最大的风险"), ("password hint", "密码提示"),
    ("supplier", "供应商"), ("schedule", "日程"), ("favourite dish", "最喜欢的菜"), ("telephone number", "电话号码"),
    ("insurance", "保险"), ("guest list", "客人名单"), ("tool list", "工具清单"), ("music", "音乐"),
    ("open question", "未决问题"), ("storage room", "储藏室"), ("mascot", "吉祥物"), ("warranty", "保修"),
)  # fmt: skip
ENGLISH = (
    "copper", "violet", "granite", "saffron", "walnut", "cobalt", "marble", "juniper", "amber", "willow", "pepper",
    "indigo", "cedar", "ivory", "thistle", "maple", "coral", "basil", "flint", "orchid",
)  # fmt: skip
CHINESE = (
    "青铜", "紫罗兰", "花岗岩", "藏红花", "核桃", "钴蓝", "大理石", "杜松", "琥珀", "柳树", "胡椒", "靛蓝",
    "雪松", "象牙", "蓟花", "枫叶", "珊瑚", "罗勒", "燧石", "兰花",
)  # fmt: skip
PREFERENCES = (
    "Prefers short answers without preamble.", "喜欢用公制单位，不用英制。", "Wants dates written as 2026-11-20.",
    "Is vegetarian and allergic to peanuts.", "会说中文和英文，技术问题用英文回答。",
    "Works from Lisbon, mornings only.",
)  # fmt: skip
STAYS, AGAIN, ADDS, CHANGES, FORGETS = 0.8, 0.35, 0.3, 0.2, 0.06
"""How likely a turn stays with its subject, asks what was asked before, and follows an addition, change, forgetting."""


@dataclass
class Fact:
    """What is known of a subject's aspect: `value` is in no other fact."""

    subject: int
    aspect: int
    chinese: bool
    value: str
    former: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        if self.chinese:
            return f"{SUBJECTS[self.subject][1]}的{ASPECTS[self.aspect][1]}：{self.value}，上次谈话时定下来的，先记着。"
        told = f"About {SUBJECTS[self.subject][0]}: the {ASPECTS[self.aspect][0]} is {self.value}"
        return f"{told}, as we settled it when we last spoke."

    @property
    def question(self) -> str:
        if self.chinese:
            return f"{SUBJECTS[self.subject][1]}的{ASPECTS[self.aspect][1]}是什么？"
        return f"Remind me, for {SUBJECTS[self.subject][0]}, what is the {ASPECTS[self.aspect][0]}?"


@dataclass(frozen=True)
class Step:
    """One turn: what happens to the memories before it, by number of the fact, and the fact that is asked about."""

    added: tuple[int, ...]
    changed: tuple[tuple[int, str], ...]
    forgotten: tuple[int, ...]
    asked: int


@dataclass
class Chat:
    """What is known before the chat, every fact that ever was, and the turns; facts are as they were at first."""

    known: list[int]
    facts: list[Fact]
    steps: list[Step]


def make(seed: int, turns: int, known: int = 160, forgets: float = FORGETS) -> Chat:
    """A chat of so many turns over so many facts known before."""
    rng = random.Random(seed)
    places = [(subject, aspect) for subject in range(len(SUBJECTS)) for aspect in range(len(ASPECTS))]
    rng.shuffle(places)
    counter = iter(range(1, 1_000_000))

    def value(chinese: bool) -> str:
        return f"{rng.choice(CHINESE if chinese else ENGLISH)}{'' if chinese else ' '}{1_000 + 7 * next(counter)}"

    facts = [Fact(subject, aspect, chinese := rng.random() < 0.5, value(chinese)) for subject, aspect in places]
    alive, unknown = list(range(known)), list(range(known, len(facts)))
    subject = 0
    asked: list[int] = []
    steps: list[Step] = []
    for _ in range(turns):
        if rng.random() > STAYS:
            subject = rng.randrange(len(SUBJECTS))
        added: tuple[int, ...] = ()
        changed: tuple[tuple[int, str], ...] = ()
        forgotten: tuple[int, ...] = ()
        fresh = [number for number in unknown if facts[number].subject == subject]
        if fresh and rng.random() < ADDS:
            added = (rng.choice(fresh),)
            unknown.remove(added[0])
            alive.append(added[0])
        here = [number for number in alive if facts[number].subject == subject]
        lately = [number for number in asked[-10:] if number in alive]
        if lately and rng.random() < CHANGES:
            which = rng.choice(lately)
            changed = ((which, value(facts[which].chinese)),)
        if lately and rng.random() < forgets:
            which = rng.choice(lately)
            if not changed or changed[0][0] != which:
                forgotten = (which,)
                alive.remove(which)
        lately = [number for number in lately if number in alive]
        here = [number for number in here if number in alive] or alive
        if (added or changed) and rng.random() < 0.5:
            question = added[0] if added else changed[0][0]
        else:
            question = rng.choice(lately) if lately and rng.random() < AGAIN else rng.choice(here)
        asked.append(question)
        steps.append(Step(added, changed, forgotten, question))
    return Chat(list(range(known)), facts, steps)
