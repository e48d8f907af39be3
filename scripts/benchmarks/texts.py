"""Makes short memories in English and Chinese, and a question for each, from a seed: the same seed, the same texts.

Knows nothing of stores. What it makes is fiction from templates: many names, places, things and numbers, so that no
two texts are alike, and questions in which, as in real ones, most words are common.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SEED = 20260301
CHINESE_SHARE = 0.25
MATCHING = 7
"""The place of the first memory that every filter of the benchmark matches."""

_EN = {
    "name": "Amara Bruno Clara Dmitri Elif Farid Greta Hiro Ingrid Jonas Keiko Lamar Marta Nadia Oskar Priya Quentin "
    "Rosa Stefan Tomoko Ulrich Valeria Wendell Ximena Yusuf Zofia Anselm Beatriz Cyrus Dalia Emre Fiona Gustav Hana "
    "Ivo Jasmin Kofi Leila Matteo Noor Olga Pavel Rahel Samir Tessa Umar Vera Wanda Yara Zeno",
    "city": "Lisbon Kyoto Nairobi Tallinn Porto Chengdu Valparaiso Leipzig Bologna Gdansk Oaxaca Tbilisi Marrakesh "
    "Utrecht Bergen Hanoi Cusco Ljubljana Galway Izmir Adelaide Kampala Quito Riga Sapporo Toledo Uppsala Varna "
    "Winnipeg Zagreb Bruges Cordoba Dresden Freiburg Granada Innsbruck Jaipur Kaunas Lucerne Malmo",
    "thing": "bicycle camera violin raincoat notebook telescope kettle backpack keyboard lamp carpet teapot drone "
    "typewriter bookshelf tent heater monitor blender compass microscope scarf wallet guitar printer sofa mirror "
    "clock helmet suitcase aquarium sewing-machine bread-maker headphones chessboard kayak greenhouse projector",
    "food": "lentil-soup risotto dumplings ramen falafel paella goulash ceviche laksa pierogi moussaka injera tagine "
    "gnocchi bibimbap pho shakshuka rhubarb-pie sourdough kimchi oysters couscous baklava mango-sticky-rice",
    "project": "Aurora Basalt Cinder Delta Ember Falcon Garnet Harbor Indigo Juniper Krypton Lantern Meridian Nimbus "
    "Orchid Pelican Quartz Raven Saffron Tundra Umbra Velvet Willow Xenon Yarrow Zephyr",
    "tool": "PostgreSQL Terraform Grafana Kafka pytest Redis Ansible Docker Figma Blender Svelte Rust Prometheus nginx "
    "Kubernetes Airflow LaTeX Bazel Elixir ClickHouse GraphQL Jenkins Vim Obsidian",
    "job": "nurse architect translator beekeeper geologist teacher carpenter pharmacist pilot librarian violinist "
    "plumber journalist botanist electrician surgeon editor gardener chemist referee",
    "subject": "statistics ceramics calligraphy Portuguese astronomy chess bookbinding cryptography pottery Arabic "
    "carpentry photography fencing genetics improvisation typography linguistics meteorology",
    "pet": "cat parrot greyhound tortoise hamster rabbit spaniel ferret canary gecko",
    "colour": "green crimson turquoise ochre violet silver navy coral ivory teal",
    "month": "January February March April May June July August September October November December",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
}
_ZH = {
    "name": "李娜 王强 张敏 刘洋 陈静 杨帆 赵磊 黄蓉 周杰 吴迪 徐婷 孙浩 马丽 朱军 "
    "胡雪 郭涛 何平 高远 林晓 罗丹 郑凯 梁欣 谢宇 宋佳 唐宁 许诺 韩冰 冯超",
    "city": "成都 杭州 西安 厦门 昆明 哈尔滨 苏州 青岛 长沙 桂林 大连 洛阳 拉萨 贵阳 南京 武汉 天津 珠海 银川 敦煌",
    "thing": "自行车 相机 小提琴 雨衣 笔记本 望远镜 水壶 背包 键盘 台灯 地毯 茶壶 无人机 书架 帐篷 "
    "显示器 耳机 象棋 投影仪 手表 行李箱 缝纫机",
    "food": "火锅 饺子 拉面 麻婆豆腐 小笼包 烤鸭 螺蛳粉 羊肉泡馍 热干面 粽子 臭豆腐 佛跳墙 东坡肉 担担面",
    "subject": "统计学 陶艺 书法 葡萄牙语 天文学 围棋 摄影 木工 密码学 古琴 素描 游泳 法语 太极拳",
    "job": "护士 建筑师 翻译 养蜂人 地质学家 老师 木匠 药剂师 飞行员 图书管理员 记者 厨师",
    "project": "北极星 玄武 青鸾 白鹭 朱雀 昆仑 银杏 海棠 琥珀 流萤",
}

_EN_MEMORIES = (
    (
        "preference",
        "{name} prefers {food} to {food2} and always orders it on {weekday} evenings",
        "What does {name} like to eat on {weekday} evenings?",
    ),
    (
        "event",
        "{name} bought a {colour} {thing} in {city} for {n} euros",
        "How much did {name} pay for the {thing} that they bought in {city}?",
    ),
    (
        "event",
        "On {day} {month} {name} moved from {city} to {city2} to work as a {job}",
        "When did {name} move to {city2} and what is their job there?",
    ),
    (
        "fact",
        "{name}'s {pet} is called {name2} and is {small} years old",
        "What is the name of the {pet} that {name} has?",
    ),
    (
        "fact",
        "The {project} project runs on {tool} since {month} and is led by {name}",
        "Who is in charge of the {project} project and which tool does it use?",
    ),
    (
        "event",
        "{name} and {name2} met at the {subject} course in {city} in {month}",
        "Where did {name} and {name2} get to know each other?",
    ),
    (
        "preference",
        "{name} does not want meetings before {hour} on {weekday}s because of the {subject} class",
        "Why should I not call {name} in the morning on {weekday}?",
    ),
    (
        "procedure",
        "To restart the {project} service, run the {tool} job {n} and tell {name} afterwards",
        "How do I restart the {project} service and whom do I have to tell?",
    ),
    (
        "fact",
        "{name} works as a {job} in {city} and studies {subject} at night",
        "What does {name} do for a living in {city}?",
    ),
    (
        "event",
        "{name} lost the {thing} on the train to {city} and found it again {small} days later",
        "What happened to the {thing} of {name} on the way to {city}?",
    ),
    (
        "event",
        "The dentist moved {name}'s appointment to {weekday}, {day} {month}, at {hour}",
        "When is the appointment that {name} has with the dentist?",
    ),
    (
        "fact",
        "The spare key for {name}'s flat in {city} is with {name2}, door code {n}",
        "Who has the spare key for the flat of {name}, and what is the code of the door?",
    ),
    (
        "preference",
        "{name} likes the {colour} {thing} better than the one that {name2} recommended",
        "Which {thing} does {name} like better?",
    ),
    (
        "event",
        "{name} finished reading a book about {subject} and will lend it to {name2} in {month}",
        "What was the book about that {name} wanted to lend to {name2}?",
    ),
    (
        "event",
        "{name} ran {small} kilometres in {city} on {day} {month} together with {name2}",
        "How far did {name} run with {name2} in {city}?",
    ),
    (
        "fact",
        "{name} is allergic to {food} and carries medicine in the {colour} {thing}",
        "What is it that {name} must not eat?",
    ),
    (
        "procedure",
        "For the release of {project}, {name} checks {tool} first and then signs ticket {n}",
        "What does {name} do before the release of {project}?",
    ),
    (
        "event",
        "We decided to replace {tool} with {tool2} in {project}; {name} objected because of the cost of {n} a month",
        "Why was {name} against the change from {tool} to {tool2}?",
    ),
)
_EN_TAILS = (
    "",
    "",
    "",
    ", which surprised everybody",
    ", as {name3} said last week",
    " and wants to talk about it in {month}",
    ", but it may change after the trip to {city3}",
    "; the receipt is in folder {n2}",
    " because the old {thing2} broke",
    ". We talked about it over {food3}",
    ", so remind me a week before",
    " and asked me to keep it to myself",
    ". It was the best decision of the year",
    ", although {name3} thought otherwise",
    "; see ticket {n2} for the details",
)
_ZH_MEMORIES = (
    ("preference", "{name}比起{food2}更喜欢吃{food}，周末经常去{city}的老店", "{name}平时最喜欢吃什么？"),
    ("event", "{name}在{city}花了{n}元买了一个{thing}", "{name}在{city}买的{thing}花了多少钱？"),
    ("event", "{mon}月{day}号{name}从{city}搬到{city2}去当{job}", "{name}是什么时候搬到{city2}的？"),
    ("fact", "{name}是一名{job}，住在{city}，晚上在学{subject}", "{name}在{city}做什么工作？"),
    ("event", "{name}和{name2}是{mon}月在{city}的{subject}班认识的", "{name}和{name2}是怎么认识的？"),
    ("fact", "{project}项目由{name}负责，预算是{n}万元", "谁在负责{project}项目，预算有多少？"),
    ("event", "{name}的牙医预约改到了{mon}月{day}号，费用{n}元", "{name}的牙医预约改到哪一天了？"),
    ("fact", "{name}对{food}过敏，出门总带着药和{thing}", "{name}不能吃什么东西？"),
    ("event", "{name}把{thing}忘在去{city}的火车上，{small}天后才找回来", "{name}在去{city}的路上丢了什么？"),
    ("procedure", "{project}系统重启之前要先通知{name}，再执行第{n}号任务", "重启{project}系统之前要通知谁？"),
)
_ZH_TAILS = (
    "",
    "",
    "，大家都很意外",
    "，{name3}上周也提到过",
    "，但是去{city3}之后可能会变",
    "，记得提前一周提醒我",
    "，因为旧的{thing2}坏了",
    "，单据在第{n2}号文件夹",
)


@dataclass(frozen=True)
class Memory:
    """A made-up memory: what a caller would add, and a question that it answers."""

    text: str
    question: str
    kind: str
    session: str
    time: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]


def memories(count: int, seed: int = SEED) -> Iterator[Memory]:
    """`count` different memories; a longer run begins with a shorter one's."""
    rng, seen = random.Random(seed), set[str]()
    while len(seen) < count:
        made = _memory(rng, len(seen))
        if made.text not in seen:
            seen.add(made.text)
            yield made


def questions(count: int, among: int, seed: int = SEED) -> list[str]:
    """Questions whose answers are spread evenly over the first `among` memories of the seed."""
    step = max(among // count, 1)
    found = [m.question for i, m in enumerate(memories(among, seed)) if i % step == step // 2]
    return (found * (count // max(len(found), 1) + 1))[:count]


def _memory(rng: random.Random, i: int) -> Memory:
    words, templates, tails = (
        (_ZH, _ZH_MEMORIES, _ZH_TAILS) if rng.random() < CHINESE_SHARE else (_EN, _EN_MEMORIES, _EN_TAILS)
    )
    kind, said, asked = rng.choice(templates)
    slots = _slots(rng, words)
    end = "。" if words is _ZH else "."
    text = (said + rng.choice(tails)).format_map(slots).rstrip(".") + end
    return Memory(
        text=text,
        question=asked.format_map(slots),
        kind=kind,
        session=f"session-{i // 12}",
        time=f"20{rng.randint(20, 25)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        tags=_tags(rng, i),
        metadata={"ticket": i % 10_000, "team": f"team-{i % 100}", "half": i % 2},
    )


def _slots(rng: random.Random, words: dict[str, str]) -> dict[str, object]:
    slots: dict[str, object] = {}
    for name, options in words.items():
        chosen = rng.sample(options.split(), 3)
        slots[name], slots[name + "2"], slots[name + "3"] = (word.replace("-", " ") for word in chosen)
    numbers = {"n": (11, 4999), "n2": (100, 9999), "small": (2, 40), "day": (1, 28), "mon": (1, 12)}
    for name, (low, high) in numbers.items():
        slots[name] = rng.randint(low, high)
    slots["hour"] = f"{rng.randint(7, 18)}:{rng.choice(('00', '15', '30', '45'))}"
    return slots


def _tags(rng: random.Random, i: int) -> tuple[str, ...]:
    """One of twenty topics, and the tags that one memory in 10,000, in 100 and in 2 carries."""
    shares = (("rare", 10_000), ("some", 100), ("half", 2))
    return (f"topic-{rng.randrange(20)}", *(name for name, one_in in shares if i % one_in == MATCHING % one_in))
