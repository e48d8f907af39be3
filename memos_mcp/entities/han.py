"""Reads names, and what is said of two of them, from Chinese text.

Knows the word list of the segmenter, which tells names of people, places and organisations from other words, and the
few turns of phrase in which a name is introduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import rjieba

from memos_mcp.entities.naming import Named, Span, Stated, clean_name, key_of, wordset

_IS_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_TITLE = re.compile(r"[《「『]([^《》「」『』\n]{1,60})[》」』]")
_CALLED = re.compile(r"(?:我叫|名叫|名字叫|名字是|叫做)([\u4e00-\u9fff·]{2,4}?)(?=[，。！？、,.!?；;\s的和]|$)")
_KINDS = {"nr": "person", "nrfg": "person", "nrt": "person", "ns": "place", "nt": "organisation"}
_ORGANISATIONS = ("公司", "大学", "医院", "银行", "学校", "中学", "小学", "集团", "研究所", "学院", "俱乐部", "协会")
_PLACES = ("公园", "机场", "车站", "市", "省", "县", "镇", "村", "路", "街", "山", "湖", "河", "江", "岛", "广场")
_SURNAMES = frozenset(
    "王李张刘陈杨黄赵周吴徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪"
    "范金石廖贾夏韦"
    "付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤宫欧小老阿"
)
"""First characters of people's names; of other words the segmenter guesses too often that they are one."""
_NO_NAMES = wordset(
    "你好 谢谢 哈哈 哈哈哈 加油 晚安 早安 阿姨 叔叔 奶奶 爷爷 老师 老板 老婆 老公 医生 同学 明白 高兴 高超 小心 "
    "小孩 小时 小吃 和你 和我 "
    "城市 美丽 东西 深度 海滨 登山 攀岩 长跑 内省 湖泊 山峰 山脉 金钱 石头 方法 方便 向往 任何 程度 "
    "夏天 白天 马上 万一 严重 "
    "于是 何时 钟头 江湖 武术 龙虾 毛衣 叶子 苏打"
)
_TRAILING = "住在说是去来和的叫有会要也都很"
"""Characters that the segmenter takes into a name it guesses, and that none of three characters ends in."""
_BETWEEN = re.compile(r"(?:现在|也|都|曾经|一直|最|很)?(住在|来自|喜欢|认识|去过|毕业于|就读于|任职于|搬到|嫁给|娶)了?")
_DOES_AT = re.compile(r"(工作|上班|读书|上学|实习|任教|学习)")
_OF = re.compile(r"的([\u4e00-\u9fff]{1,4}?)(?=[，。！？、,.!?；;\s]|$)")
_SELF = re.compile(r"我(?:现在|也|曾经|一直|最|很)?(住在|来自|喜欢|认识|去过|毕业于|就读于|任职于|搬到)了?$")
_SELF_AT = re.compile(r"我(?:现在|曾经|一直)?在$")


def read(text: str, speaker: str | None) -> tuple[list[Named], list[Stated]]:
    """Names in the text in order, and what is said of two that stand next to each other."""
    if not _IS_HAN.search(text):
        return [], []
    spans = sorted(_spans(text), key=lambda span: span.start)
    return [span.named for span in spans], _stated(text, spans, speaker)


def kind_of(name: str) -> str | None:
    """What the last characters of a name say of it; None when they say nothing."""
    if len(name) > 2 and name.endswith(_ORGANISATIONS):
        return "organisation"
    return "place" if len(name) > 1 and _IS_HAN.search(name) and name.endswith(_PLACES) else None


def _spans(text: str) -> Iterator[Span]:
    taken = list[tuple[int, int]]()
    for pattern, kind in ((_TITLE, "work"), (_CALLED, "person")):
        for match in pattern.finditer(text):
            if name := clean_name(match[1]):
                taken.append(match.span(1))
                yield Span(*match.span(1), Named(name, kind))
    at = 0
    for word, tag in rjieba.tag(text, True):
        start, at = at, at + len(word)
        named = _named(word, tag)
        if named is not None and not any(first <= start < last for first, last in taken):
            yield Span(start, start + len(named.name), named)


def _named(word: str, tag: str) -> Named | None:
    kind = _KINDS.get(tag)
    if kind is None or len(word) < 2 or not _IS_HAN.search(word) or word in _NO_NAMES:
        return None
    if kind == "person" and (word[0] not in _SURNAMES or len(word) > 3) and tag == "nr":
        return None
    if kind == "person" and len(word) == 3 and word[-1] in _TRAILING:
        word = word[:-1]
    return Named(word, kind_of(word) or kind)


def _stated(text: str, spans: Sequence[Span], speaker: str | None) -> list[Stated]:
    found = list[Stated]()
    for left, right in pairwise(spans):
        found += _between(text, left, right)
    for span in spans if speaker is not None else ():
        before = text[max(0, span.start - 12) : span.start].rstrip("《「『")
        if match := _SELF.search(before):
            found.append(Stated(str(speaker), match[1], span.named.name))
        elif _SELF_AT.search(before) and (does := _DOES_AT.match(text, span.end)):
            found.append(Stated(str(speaker), f"在…{does[1]}", span.named.name))
    return [one for one in found if key_of(one.subject) != key_of(one.object)]


def _between(text: str, left: Span, right: Span) -> Iterator[Stated]:
    gap = text[left.end : right.start].rstrip("《「『")
    a, b = left.named.name, right.named.name
    if match := _BETWEEN.fullmatch(gap):
        yield Stated(a, match[1], b)
    elif gap == "在" and (does := _DOES_AT.match(text, right.end)):
        yield Stated(a, f"在…{does[1]}", b)
    elif gap == "是" and (role := _OF.match(text, right.end)):
        yield Stated(a, f"是…的{role[1]}", b)
