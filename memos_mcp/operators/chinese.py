"""The Chinese rules of extraction: 我 at the beginning of a clause, present and affirmative.

Knows no other language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memos_mcp.operators.statements import Extracted, ExtractedKind, Said

MOST_OF_A_CLAUSE = 80
"""Characters of a clause beyond which it is no plain statement, and could be made to cost much time."""
_SENTENCE = re.compile(r"[^。！？!?；;\n…]+[。！？!?；;…]*")
_CLAUSE = re.compile(r"[^，,]+")
_QUOTED = re.compile(r"[“\"「『][^”\"」』\n]{0,300}[”\"」』]")
_LEAD = (
    r"^\s*(?:(?:其实|对了|是的|是啊|嗯|恩|哈|嘿|哦|噢|啊|好的|你好|您好|大家好|嗨|不过|但是|但|而且|因为|所以|另外|还有|同时|"
    r"平时|一般|通常|说实话|老实说|个人|当然|没错|没有|不|那个|说起来|顺便说一下|确实|事实上|你知道|最近|现在|目前)[，,、~～！! ]*)*"
)
_VERY = r"(?:真的|一直|还是|也|都|就|特别|非常|十分|超级|超|很|最|比较|更|挺|蛮|尤其|还|从小就|从小|平时|现在|目前|其实|一般|个人|向来|只|太|可|相当|格外)*"
_WO = rf"{_LEAD}我{_VERY}"
_WODE = rf"{_LEAD}(?:我的|我)"
_BARRED = re.compile(
    r"如果|要是|假如|假设|倘若|的话|除非|万一|是不是|会不会|有没有|能不能|要不要|可能|也许|或许|大概|好像|似乎|应该|曾经|以前|过去|"
    r"小时候|当时|那时|希望|但愿|恨不得|幻想|梦见|假装|他说|她说|人说|说过|说我|觉得我|以为我|问我|告诉我|歌词|台词|翻译|意思是|例如|比如说"
)
_ASKS = re.compile(r"(?:吗|呢|么|嘛|吧|不|没有|对不对|好不好)[?？]*$|[?？]$")
_OTHER_ASKS = re.compile(r"^\s*(?:你|您|那你|请问|请|有什么|有没有|能不能|可以|能|可否|不知道你|怎么|什么|哪)")
_UNRESOLVED = re.compile(r"你|您|他|她|它|这|那|我|此|其(?!他)|某|什么|怎么|哪|谁|大家|别人|自己|以上|刚才|这样|如此|同样")
_EMPTY = re.compile(r"^(?:的|了|过|着|吃的|看的|做的|听|说|和|跟|与|在|把|被|让|是|上了?$|一个人$|东西|事情|人$|一些|很多|所有)")
_TAIL = re.compile(r"(?:之类的?|等等?|什么的|的了|了|啦|啊|呀|哦|哈|呢|的说|哟|～|~|！|。|\s)+$")

_WORK = (
    r"(?:小学|中学|高中|初中|大学|幼儿园|英语|语文|数学|音乐|美术|体育|家庭|全职|兼职|自由|软件|前端|后端|算法|硬件|机械|电气|土木|产品|项目|"
    r"销售|市场|人事|财务|平面|室内|服装|网络|职业|在校|研究|博士|硕士|本科|急诊|儿科|外科|内科|牙科|心理|退休|资深|高级|初级|实习)*"
    r"(?:老师|教师|教授|讲师|学生|大学生|研究生|博士生|高中生|初中生|医生|护士|药剂师|咨询师|律师|法官|会计|审计师|工程师|程序员|开发者|"
    r"设计师|建筑师|画家|摄影师|音乐家|歌手|演员|导演|作家|编剧|记者|编辑|翻译|科学家|研究员|厨师|面包师|咖啡师|服务员|农民|木匠|电工|司机|"
    r"飞行员|空姐|消防员|警察|军人|退伍军人|经理|总监|创业者|老板|秘书|助理|客服|销售|教练|运动员|公务员|会计师|分析师|顾问|自由职业者|主播|博主|"
    r"家庭主妇|全职妈妈|快递员|外卖员|店长|店员|保安|导游|插画师|策划|运营|产品经理)"
)
_PLACE = (
    r"(?:北京|上海|天津|重庆|广州|深圳|杭州|南京|苏州|成都|武汉|西安|长沙|郑州|青岛|济南|大连|沈阳|哈尔滨|长春|厦门|福州|宁波|合肥|昆明|贵阳|"
    r"南宁|南昌|太原|石家庄|兰州|海口|三亚|珠海|佛山|东莞|无锡|温州|香港|澳门|台湾|台北|四川|广东|广西|湖南|湖北|河南|河北|山东|山西|江苏|浙江|"
    r"安徽|福建|江西|云南|贵州|陕西|甘肃|青海|宁夏|新疆|西藏|内蒙古|辽宁|吉林|黑龙江|海南|东北|中国|日本|韩国|美国|英国|法国|德国|加拿大|澳大利亚|"
    r"新加坡|马来西亚|泰国|越南|俄罗斯)"
)
_COUNT = r"(?:一|两|二|三|四|五|六|七|八|\d{1,2})"
_KIN = (
    r"(?:儿子|女儿|孩子|小孩|宝宝|哥哥|弟弟|姐姐|妹妹|兄弟|姐妹|双胞胎|男朋友|女朋友|老公|老婆|猫咪?|狗狗?|小猫|小狗|兔子|仓鼠|鹦鹉|乌龟|金鱼|"
    r"橘猫|布偶猫|英短|金毛|柯基|柴犬|哈士奇|泰迪|拉布拉多)"
)
_TONGUE = r"(?:英语|英文|法语|德语|日语|韩语|西班牙语|俄语|意大利语|葡萄牙语|阿拉伯语|普通话|中文|粤语|广东话|闽南语|上海话)"
_SKILL = r"(?:弹钢琴|弹吉他|拉小提琴|拉二胡|打鼓|吹笛子|弹古筝|游泳|开车|下围棋|下象棋|打篮球|打网球|打羽毛球|打乒乓球|踢足球|滑雪|滑冰|做饭|编程|画画|书法)"
_DAY = r"(?:(?:农历|阳历|阴历)?(?:\d{4}年)?[\d一二三四五六七八九十]{1,3}月[\d一二三四五六七八九十廿初]{1,3}[日号]?)"
_WHEN = r"(?:明天|后天|大后天|今晚|(?:这|下|本)(?:个)?(?:周|星期|礼拜)[一二三四五六日天末]?|下个?月(?:\d{1,2}[日号])?|明年|\d{1,2}月(?:\d{1,2}[日号])?|\d{1,2}[日号])"


@dataclass(frozen=True)
class _Rule:
    name: str
    kind: ExtractedKind
    confidence: float
    pattern: re.Pattern[str]
    says: str
    checked: bool


def _rule(name: str, kind: ExtractedKind, confidence: float, pattern: str, says: str, *, checked: bool = True) -> _Rule:
    """A rule that writes `says`, in which {who} is the speaker, {on} the day, {x} the phrase, other names groups.

    `checked`: the phrase must stand by itself.
    """
    return _Rule(f"zh.{name}", kind, confidence, re.compile(pattern), says, checked)


_RULES: tuple[_Rule, ...] = (
    _rule("not-like", "preference", 0.9, rf"{_WO}(?:不|不太|不怎么|并不)(?:喜欢|爱)(?P<x>.+)", "{who}不喜欢{x}。"),
    _rule("like-most", "preference", 0.9, rf"{_LEAD}我最(?P<how>喜欢|爱)(?P<x>(?!的).+)", "{who}最{how}{x}。"),
    _rule("like", "preference", 0.85, rf"{_WO}(?:喜欢|喜爱|热爱|酷爱|钟爱|偏爱)(?:上了)?(?P<x>.+)", "{who}喜欢{x}。"),
    _rule("love", "preference", 0.85, rf"{_WO}爱(?P<x>(?:吃|喝|看|听|玩|唱|跑|打|踢|读|逛|做|喝).+)", "{who}爱{x}。"),
    _rule("hate", "preference", 0.9, rf"{_WO}(?P<how>讨厌|受不了|反感|厌恶)(?P<x>.+)", "{who}{how}{x}。"),
    _rule(
        "favourite", "preference", 0.9,
        rf"{_LEAD}我(?:个人)?最(?:喜欢|爱)(?P<what>(?:吃|喝|看|听|玩)?的[^，,是]{{0,8}})(?:就|还)?是(?P<x>.+)",
        "{who}最喜欢{what}是{x}。",
    ),
    _rule("hobby", "preference", 0.9, rf"{_WODE}(?:兴趣)?爱好(?:是|有|包括)(?P<x>.+)", "{who}的爱好是{x}。"),
    _rule("into", "preference", 0.85, rf"{_WO}对(?P<x>[^，,]{{1,20}}?)(?:很|非常|特别|比较)?感兴趣$", "{who}对{x}感兴趣。"),
    _rule(
        "name", "profile", 0.95,
        rf"{_LEAD}(?:我叫|我的名字是|我的名字叫|我名叫|叫我)(?P<x>(?![了过着他她你它上人车做作醒停去来外什])(?:[\u4e00-\u9fff·]{{2,5}}|[A-Z][A-Za-z]+(?: [A-Z][a-z]+)?))(?:就好|就行|吧)?$",
        "{who}的名字是{x}。", checked=False,
    ),
    _rule("job", "profile", 0.9, rf"{_WO}是(?:一名|一个|一位|个|名)?(?P<x>{_WORK})$", "{who}是{x}。", checked=False),
    _rule("from", "profile", 0.9, rf"{_WO}(?:是(?P<x>{_PLACE})(?:本地)?人|来自(?P<y>[\u4e00-\u9fff]{{2,8}}))$", "{who}来自{x}{y}。", checked=False),
    _rule("live", "profile", 0.9, rf"(?:{_WO}住在|{_WODE}家(?:住)?在|{_WO}定居在)(?P<x>(?!家|那|这|哪|一起|学校|宿舍$)[\u4e00-\u9fffA-Za-z ]{{2,12}})$", "{who}住在{x}。"),
    _rule("moved", "event", 0.85, rf"{_WO}(?:已经|刚|刚刚|最近)*搬(?:家)?(?:到|去)了?(?P<x>{_PLACE}[\u4e00-\u9fff]{{0,6}}?)了?$", "{who}搬到了{x}。"),
    _rule("work", "profile", 0.9, rf"{_WO}在(?P<x>(?!家|忙|找|努力|认真|加班|外面|外地|公司|考虑|想|准备|寻|换|做|为|一直)(?!.*(?:找|换|新))[\u4e00-\u9fffA-Za-z]{{2,14}}?)(?P<how>工作|上班|上学|读书|实习|任教)$", "{who}在{x}{how}。"),
    _rule("studied", "profile", 0.85, rf"{_WO}(?:毕业于(?P<x>[\u4e00-\u9fff]{{2,14}})|(?:是)?从(?P<y>[\u4e00-\u9fff]{{2,14}}(?:大学|学院))毕业的?)$", "{who}毕业于{x}{y}。"),
    _rule("birthday", "profile", 0.95, rf"{_WODE}(?:的)?生日(?:是|在)(?P<x>{_DAY})$", "{who}的生日是{x}。", checked=False),
    _rule("age", "profile", 0.9, rf"{_WO}(?:今年|已经|刚满)*(?P<x>\d{{1,3}}|[二三四五六七八九]?十[一二三四五六七八九]?)岁了?$", "{who}{x}岁。", checked=False),
    _rule("born", "profile", 0.9, rf"{_WO}(?:是)?(?P<x>\d{{4}}年)(?:{_DAY})?出生的?$|{_WO}出生于(?P<y>\d{{4}}年|{_PLACE})$", "{who}出生于{x}{y}。", checked=False),
    _rule("allergic", "fact", 0.95, rf"{_WO}对(?P<x>[^，,]{{1,20}}?)(?:严重|有点)?过敏$", "{who}对{x}过敏。"),
    _rule("not-eat", "fact", 0.85, rf"{_WO}(?:从来|从)?不(?P<how>吃|喝|抽)(?P<x>(?!了|到|下|饭|惯|起|得|完|东西|早|午|晚)[\u4e00-\u9fff]{{1,6}})$", "{who}不{how}{x}。"),
    _rule("diet", "fact", 0.9, rf"{_WO}(?P<x>吃素|是素食主义者|是素食者|乳糖不耐受|有糖尿病|有高血压|有哮喘|是左撇子|色盲)(?:的)?$", "{who}{x}。", checked=False),
    _rule("family", "fact", 0.9, rf"{_WO}(?P<how>有|养了|养着|养)(?P<x>{_COUNT}(?:个|只|条|位|匹|对)[\u4e00-\u9fff]{{0,4}}?{_KIN}(?:和{_COUNT}(?:个|只|条|位){_KIN})?)$", "{who}{how}{x}。", checked=False),
    _rule("called", "fact", 0.9, rf"{_WODE}(?:家)?(?:的)?(?P<what>{_KIN}|妈妈|爸爸|先生|太太|妻子|丈夫)(?:的名字)?(?:叫|名叫)(?:做|作)?(?P<x>(?!我|你|他|她|了)[\u4e00-\u9fffA-Za-z]{{1,6}})$", "{who}的{what}叫{x}。", checked=False),
    _rule("status", "profile", 0.9, rf"{_WO}(?:已经|刚|刚刚)*(?P<x>结婚|离婚|退休|怀孕|订婚)了$", "{who}已经{x}。", checked=False),
    _rule("single", "profile", 0.85, rf"{_WO}(?:是)?单身$", "{who}单身。", checked=False),
    _rule("speak", "fact", 0.9, rf"{_WO}会(?:说|讲)?(?P<x>{_TONGUE}(?:(?:、|和|跟){_TONGUE})*)$", "{who}会说{x}。", checked=False),
    _rule("can", "fact", 0.85, rf"{_WO}会(?P<x>{_SKILL}(?:(?:、|和|跟){_SKILL})*)$", "{who}会{x}。", checked=False),
    _rule("plan", "event", 0.75, rf"{_LEAD}(?P<x>(?:我{_WHEN}|{_WHEN}我)(?:打算|准备|计划|会|要|就要|得|有)(?:去|到|飞|参加|考|面试|手术|搬|出差|结婚|开会|旅行|旅游|一场|一个|个)[^，,]{{0,20}})$", "{who}{on}说：“{x}”", checked=False),
)  # fmt: skip


def statements(text: str, said: Said) -> Iterator[Extracted]:
    """What Chinese sentences of the text state of the speaker, in their order."""
    if "我" not in text:
        return
    day = said.day.split("-") if said.day else []
    about = {"who": said.speaker or "用户", "on": f"在{day[0]}年{int(day[1])}月{int(day[2])}日" if len(day) == 3 else ""}
    for clause in _clauses(re.sub(r"\.\s+", "。", _QUOTED.sub(_without_speech, text))):
        for rule in _RULES:
            found = rule.pattern.search(clause)
            phrase = _phrase(rule, found, said.speaker) if found is not None else None
            if found is not None and phrase is not None:
                groups = {name: value or "" for name, value in found.groupdict().items()}
                text_of = rule.says.format_map(groups | {"y": ""} | about | phrase)
                yield Extracted(rule.kind, text_of, rule.name, rule.confidence)
                break


def _without_speech(quoted: re.Match[str]) -> str:
    """What is quoted, if it is a title; what somebody says in it is nothing of the speaker's."""
    return "……" if re.search("我|你|您|咱", quoted[0]) else quoted[0]


def _clauses(text: str) -> Iterator[str]:
    """Clauses that state something; of a sentence that asks in the end, those before the question."""
    for found in _SENTENCE.finditer(text):
        sentence = found[0].strip()
        if _BARRED.search(sentence) and re.search("如果|要是|假如|的话|除非|假设|他说|她说|告诉我|问我", sentence):
            continue
        asks = sentence.rstrip("…。！!；; ").endswith(("?", "？"))
        clauses = [part[0].strip(" 。！!…；;\n~～") for part in _CLAUSE.finditer(sentence)]
        if asks:
            clauses = clauses[:-1] if len(clauses) > 1 and _OTHER_ASKS.match(clauses[-1]) else []
        for clause in clauses:
            if len(clause) <= MOST_OF_A_CLAUSE and "我" in clause and not _BARRED.search(clause) and not _ASKS.search(clause):
                yield clause


def _phrase(rule: _Rule, found: re.Match[str], speaker: str | None) -> dict[str, str] | None:
    """What the rule captured, trimmed and checked; None if it does not stand by itself."""
    name = "x" if found["x"] else "y"
    raw = _TAIL.sub("", found[name]).strip(" 、")
    if not rule.checked:
        return {name: raw} if raw and raw != speaker else None
    if not 1 <= len(raw) <= 40 or _UNRESOLVED.search(raw) or _EMPTY.match(raw) or "说" in raw:
        return None
    return {name: raw}
