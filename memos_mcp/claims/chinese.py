"""What Chinese statements claim: of the one who speaks, of somebody by name, or of a thing by its description.

Knows no other language. Questions, plans, conditions, what was once so and what somebody else says claim nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from memos_mcp.claims.claim import SELF, Claim, Holds, Reading

_KIN = (
    "(?:哥哥|弟弟|姐姐|妹妹|爸爸|妈妈|父亲|母亲|爷爷|奶奶|外公|外婆|老公|老婆|丈夫|妻子|先生|太太|儿子|女儿|男朋友|女朋友|男友|女友|"
    "老板|经理|爸|妈)"
)
_NAMED = "(?:[小老阿][\u3400-\u9fff]|[A-Z][a-zA-Z]+|(?!这个|那个|我们|他们|她们|用户|今天|明天|现在)[\u3400-\u9fff]{2,3})"
_S = f"(?P<s>(?:我们家|我们|咱们|我家|用户|我)(?:的)?{_KIN}|我们组|我们团队|我们公司|我们家|我们|咱们|我家|用户|我|{_KIN}|{_NAMED}?)"
_ADV = "(?:现在|目前|如今|已经|刚刚|刚|最近|上个?月|上周|这周|今年|去年|昨天|前天|还是|还|仍然|一直|都|也|又|很|最终|终于|正式|真的|就|正)*"
_X = "(?P<x>.+?)"
_ROLE = (
    "(?:老师|教师|教授|讲师|医生|护士|药剂师|律师|法官|会计|工程师|程序员|开发者|设计师|建筑师|摄影师|演员|导演|作家|记者|编辑|翻译|"
    "科学家|研究员|厨师|农民|司机|飞行员|警察|军人|经理|总监|主管|主任|总裁|创业者|秘书|助理|客服|销售|教练|公务员|分析师|顾问|店长|"
    "保安|导游|学生|组长|负责人|首席\\w{0,4}官|CEO|CTO|CFO)"
)
_FUNCTIONAL = (
    "(?:名字|姓名|网名|昵称|小名|英文名|用户名|账号|邮箱|邮件地址|电子邮箱|电话|电话号码|手机号|手机号码|号码|微信号|地址|住址|密码|"
    "生日|老板|上司|经理|领导|房东|医生|牙医|律师|会计|妻子|丈夫|老公|老婆|男朋友|女朋友|负责人|组长|队长|校长|班主任|截止日期|截止时间|"
    "预算|工资|薪水|月薪|房租|租金|价格|费用|车|电脑|网址|尺码|身高|体重|版本|端口|时区|家乡|老家|出生地|职业|工作|专业|学校|大学|银行|"
    "主题|血型|母语|上限|车牌|车牌号|班级|座位)"
)
_CARS = re.compile(
    "丰田|本田|大众|宝马|奥迪|奔驰|特斯拉|比亚迪|吉利|福特|日产|马自达|现代|起亚|沃尔沃|蔚来|小鹏|理想汽车|理想L|别克|雪佛兰|"
    "五菱|长安|奇瑞|哈弗|保时捷|雷克萨斯|夏利|斯柯达|捷达|凯美瑞|卡罗拉|思域|雅阁|轿车|汽车|车$"
)
_LASTING = "(?:儿子|女儿|孩子|孙子|孙女|哥哥|弟弟|姐姐|妹妹|兄弟|姐妹|狗|猫|宠物|车|员工|房间|卧室|学生|房子|马|兔子|鸟)"
_PERSONS = "(?:老板|上司|经理|领导|房东|医生|牙医|律师|会计|妻子|丈夫|老公|老婆|男朋友|女朋友|负责人|组长|队长|校长|班主任)$"
_PERSON = re.compile(
    "[王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶余潘杜戴夏钟汪田任姜范方石"
    "姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文小老阿][㐀-鿿]{1,3}|[a-z][a-z ]+"
)
_FIGURES = "(?:预算|工资|薪水|月薪|房租|租金|价格|费用|尺码|身高|体重|版本|端口|上限)$"
_DAY = re.compile(r"\d+[月日号点:]|周[一二三四五六日天末]|星期|礼拜|[一二三四五六七八九十]点|上午|下午|早上|晚上|中午|月底|月初|年底|\d+年")
_TYPED = re.compile(r"\d|@|://")
_BARRED = re.compile(
    "[?？]|可能|也许|或许|打算|想(?!念)|考虑|计划(?!是|在)|准备|如果|要是|假如|的话|希望|面试|申请|将要|即将|以前|曾经|小时候|那时|过去|从前|"
    "当年|年轻时|之前|原本|差点|说(?!话)|听说|据说|觉得|以为|告诉|吗$|呢$|要不要|是不是|会不会|应该|暂时|出差|开会|旅游|旅行(?!预算|费)|"
    "每次|有时|偶尔|来过|去过|(?:这周|本周|今天|昨天|周[一二三四五六日])在"
)
_CHANGES = re.compile("现在|如今|改|换|不再")
_MORE = re.compile("[，,：:]|并且|而且|但|因为|所以")
"""Where a statement goes on to say something else."""
_SENTENCE = re.compile("[^。！!；;\n]+[。！!；;]?")
_END = re.compile("(?:了|啦|呢|啊|的|～|~|！|。|；|;|!|\\.|\\s)+$")
_YEAR = re.compile(r"(?:19|20)\d\d年")


class _Clause:
    """A clause with its subject, which may be that of the clause before."""

    def __init__(self, text: str, speaker: str, former: str) -> None:
        self.changes = _CHANGES.search(text) is not None
        self.speaker, self.former = speaker, former
        plain = _END.sub("", text.strip(" ，,。！!；;"))
        plain = re.sub("^(?:对了|其实|另外|还有|顺便说一下|更新一下|从现在起|现在|目前|最近|上个?月|今年|刚刚|昨天|今天)[，,：:]?", "", plain)
        self.denies = False
        for pattern, said in _DENIALS:
            shorter, count = pattern.subn(said, plain, count=1)
            if count:
                plain, self.denies = shorter, True
                break
        self.text = plain

    def subject(self, said: str) -> str:
        """The key of whom a claim is about; of nobody said, whom the clause before was about."""
        if not said:
            return self.former
        self.former = re.sub("^(?:我们家|我们|咱们|我家|用户|我)的?", self.speaker, said)
        return self.former

    def thing(self, said: str) -> str:
        """The key of a thing, with whose it is."""
        plain = re.sub("^(?:我们家|我们|咱们|我家|用户|我)的?", self.speaker, said)
        plain = re.sub("[的这个那新]|现在|目前|手机|号码$|号$", "", plain.replace("手机号码", "电话").replace("手机号", "电话"))
        return plain.replace("电话号", "电话") or self.speaker


_DENIALS = (
    (re.compile("不再是"), "是"), (re.compile("已经不再|不再|再也不"), ""), (re.compile("从来不|从不|并不|不太|不怎么"), ""),
    (re.compile("不(?=喜欢|爱|吃|喝|抽|住|用|是|对)"), ""), (re.compile("(?<=对)(.+)不(?=过敏)"), r"\1"),
)  # fmt: skip


def read(text: str, speaker: str = SELF) -> Reading:
    """What a short Chinese text claims; `speaker` is the subject of what is said in the first person."""
    claims: list[Claim] = []
    count, former = 0, speaker
    for sentence in _SENTENCE.findall(text.strip()):
        if not sentence.strip(" 。！!；;"):
            continue
        count += 1
        if _BARRED.search(sentence) or "“" in sentence or "「" in sentence:
            continue
        for said in re.split("[，,]", sentence):
            clause = _Clause(said, speaker, former)
            made = list(_of_clause(clause))
            former = clause.former
            if not (_YEAR.search(sentence) and any(claim.changes for claim in made)):
                claims += made
    return Reading(tuple(dict.fromkeys(claims)), count == 1 and not _MORE.search(text))


def _of_clause(clause: _Clause) -> Iterator[Claim]:
    for pattern, build in _PATTERNS:
        found = pattern.fullmatch(clause.text)
        made = [claim for claim in build(clause, found) if claim.value] if found else []
        for claim in made:
            known = replace(claim, changes=claim.changes or clause.changes)
            yield known.denied() if clause.denies else known
        if made:
            return


def _value(said: str) -> str:
    plain = re.sub("^(?:一[辆个家部台名位]|了|在|的)|[，。！；\\s]", "", said.casefold())
    return _END.sub("", re.sub("星期|礼拜", "周", re.sub(r"(?<=\d)号", "日", plain)))


def _object(said: str) -> str:
    return re.sub("^(?:吃|喝|抽|看|玩|打|写|了|一[包杯瓶根支个]|[两三]杯|\\d+[包杯瓶根支])+", "", _value(said))


def _made(
    attribute: str, *, changes: bool = False, holds: bool = True
) -> Callable[[_Clause, re.Match[str]], Iterator[Claim]]:
    """Builds the claim that the subject's attribute is what `x` says."""

    def build(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
        yield Claim(clause.subject(found["s"]), attribute, _value(found["x"]), holds, changes=changes)

    return build


def _role(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    who = clause.subject(found["s"])
    yield Claim(who, "role", _value(found["x"]), values="mostly", changes="升" in found[0])
    if found["at"]:
        yield Claim(who, "employer", _value(found["at"]))


def _status(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    known = {"结婚": "married", "已婚": "married", "再婚": "married", "离婚": "divorced", "离异": "divorced", "订婚": "engaged"}
    yield Claim(clause.subject(found["s"]), "marital status", known.get(found["x"], "single"))


def _diet(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    value = "meat" if "肉" in found["x"] else "vegetarian"
    yield Claim(clause.subject(found["s"]), "diet", value, values="mostly")


def _liked(holds: bool) -> Callable[[_Clause, re.Match[str]], Iterator[Claim]]:
    def build(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
        yield Claim(clause.subject(found["s"]), "like", _object(found["x"]), holds, "many")

    return build


def _quit(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    who, what = clause.subject(found["s"]), _object(found["x"])
    for attribute in ("do", "like"):
        yield Claim(who, attribute, what, False, "many", changes=True)


def _done(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.subject(found["s"]), "do", _object(found["x"]), values="many")


def _used(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    latin = re.match(r"[\w.+# -]+", _value(found["x"]), re.ASCII)
    if latin:
        yield Claim(clause.subject(found["s"]), "use", latin[0], values="many")


def _car(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    if _CARS.search(found["x"]):
        new = "换" in found[0]
        yield Claim(clause.subject(found["s"]), "car", _value(found["x"]), values="mostly", changes=new)


def _sold(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    attribute = "car" if _CARS.search(found["x"]) else "use"
    values: Holds = "mostly" if attribute == "car" else "many"
    yield Claim(clause.subject(found["s"]), attribute, _value(found["x"]), False, values, changes=True)


def _switched(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    who, old, new = clause.subject(found["s"]), _value(found["old"]), _value(found["x"])
    if _CARS.search(old + new):
        yield Claim(who, "car", old, False, "mostly", changes=True)
        yield Claim(who, "car", new, values="mostly", changes=True)
    elif re.search("搬", found[0]):
        yield Claim(who, "home", new, changes=True)
    else:
        yield Claim(who, "use", old, False, "many", changes=True)
        yield Claim(who, "use", new, values="many", changes=True)


def _favourite(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.subject(found["s"]), f"favorite {found['n']}", _value(found["x"]))


def _is(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    """That a thing is so: of what is only one (a name, a deadline), or a figure, or where it says that it is new."""
    said, value = found["n"], _value(found["x"])
    new = "新" in said or re.search("改|换|涨|降|提高|变|调", found.groupdict().get("c") or "") is not None
    what = clause.thing(said)
    known = _of_person(clause, said, what, value, new)
    if known is not None:
        yield known
    elif _DAY.match(re.sub("^每", "", value)):
        yield Claim(what, "when", value, values="mostly", changes=new)
    elif re.search(_PERSONS, said):
        if _PERSON.fullmatch(value):
            yield Claim(what, "is", value, changes=new)
    elif re.search(f"{_FUNCTIONAL}$", said):
        if _TYPED.search(value) or not re.search(_FIGURES, said):
            yield Claim(what, "is", value, values="mostly" if re.search(_LOOSE, said) else "one", changes=new)
    elif _TYPED.match(value) or new or clause.changes:
        yield Claim(what, "is", value, values="mostly", changes=new)


_LOOSE = "(?:职业|工作|专业|学校|大学|银行|电脑)$"
_OF_PERSON: tuple[tuple[str, str, Holds], ...] = (
    ("(?<!邮件)(?<!网络)(?:家庭)?(?:地址|住址)$", "home", "one"),
    ("生日$", "birthday", "one"),
    ("出生地$", "birthplace", "one"),
    ("(?:名字|姓名)$", "name", "one"),
    ("车$", "car", "mostly"),
)
"""Things whose value is somebody's: how they end, the attribute, and how many values it has."""


def _of_person(clause: _Clause, said: str, what: str, value: str, new: bool) -> Claim | None:
    """What is said of somebody under the name of a thing: their address is where they live."""
    for ending, attribute, values in _OF_PERSON:
        if re.search(ending, said):
            return Claim(re.sub(ending, "", what) or clause.speaker, attribute, value, values=values, changes=new)
    return None


def _is_turned(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.thing(f"{found['s']}{found['n']}"), "is", _value(found["x"]))


def _when(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    value = _value(found["x"])
    if _DAY.search(value):
        moved = found.groupdict().get("c") is not None
        yield Claim(clause.thing(found["n"]), "when", value, values="mostly", changes=moved)


def _age(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.subject(found["s"]), "age", _value(found["x"]), values="mostly")


def _count(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.subject(found["s"]), f"count {found['x']}", found["count"], values="mostly")


def _named(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    new = found.groupdict().get("c") is not None
    yield Claim(clause.thing(re.sub("(?:的)?(?:名字|名)$", "", found["n"])), "name", _value(found["x"]), changes=new)


def _pet(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(f"{clause.subject(found['s'])}{found['n']}", "name", _value(found["x"]), values="mostly")


def _renamed(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    what = clause.subject(found["s"]) + found["n"]
    attribute = "name" if found["n"] == "名字" else "is"
    yield Claim(clause.subject(found["s"]) if attribute == "name" else what, attribute, _value(found["x"]), changes=True)


def _allergy(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(clause.subject(found["s"]), "allergy", _value(found["x"]), values="many")


def _born(clause: _Clause, found: re.Match[str]) -> Iterator[Claim]:
    value = _value(found["x"])
    yield Claim(clause.subject(found["s"]), "birthday" if _DAY.search(value) else "birthplace", value)


def _p(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_N = "(?P<n>[^，,是]{1,20}?)"
_BE = "(?P<c>改成|改为|改到|换成|变成|涨到|降到|提高到|调到|调整为|现在是|现在为|是|为)"
_MOVED = "(?P<c>改到|改在|改成|改为|推迟到|提前到|延期到|延到|挪到|调到|移到)"
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[_Clause, re.Match[str]], Iterator[Claim]]], ...] = (
    (_p(f"{_S}{_ADV}(?:把家)?从(?P<old>.+?){_ADV}(?:换成|换到|改用|迁移到|切换到|搬到|换)了?{_X}"), _switched),
    (_p(f"{_S}{_ADV}把(?P<old>.+?)换成了?{_X}"), _switched),
    (_p(f"{_S}{_ADV}把(?P<n>.+?)(?:改成|改为|换成)了?{_X}"), _renamed),
    (_p(f"{_S}{_ADV}(?:把{_X}卖)"), _sold),
    (_p(f"{_S}{_ADV}搬(?:家)?(?:到|去|回|进)了?{_X}"), _made("home", changes=True)),
    (_p(f"{_S}{_ADV}(?:家)?(?:住在|定居在|住到|定居){_X}"), _made("home")),
    (_p(f"(?P<s>我|我们|用户)家{_ADV}(?:住)?在{_X}"), _made("home")),
    (_p(f"{_S}{_ADV}(?:跳槽|入职)(?:去|到)?了?{_X}(?:工作|上班)?"), _made("employer", changes=True)),
    (_p(f"{_S}{_ADV}(?:从{_X}(?:离职|辞职)|离开了?(?P<y>.+公司))"), _made("employer", changes=True, holds=False)),
    (_p(f"(?P<s>{_NAMED}|我|用户|我们)最(?:喜欢|爱)的(?P<n>[^是]{{1,8}})是{_X}"), _favourite),
    (_p(f"{_X}是(?P<s>{_NAMED}|我|用户|我们)最(?:喜欢|爱)的(?P<n>[^是]{{1,8}})"), _favourite),
    (_p(f"{_S}{_ADV}在(?P<at>(?!家|学|找|做|忙).+?)(?:当|做|担任)(?:一名)?(?P<x>.*{_ROLE})"), _role),
    (_p(f"{_S}{_ADV}在(?P<x>(?!家$|家办|这|那|找).+?)(?:工作|上班|任职|供职)"), _made("employer")),
    (_p(f"{_S}{_ADV}是(?:(?P<at>[^的]{{2,8}})的)?(?:一名|一个|一位)?(?P<x>[^的]{{0,6}}?{_ROLE})"), _role),
    (_p(f"{_S}{_ADV}(?:当上|升任|升为|升职为|成为|晋升为)了?(?:(?P<at>[^的]{{2,8}})的)?(?P<x>.*?{_ROLE})"), _role),
    (_p(f"{_S}{_ADV}(?:是|恢复)?(?P<x>单身|未婚|结婚|离婚|已婚|再婚|订婚|分手|离异)"), _status),
    (_p(f"{_S}{_ADV}(?:是)?(?P<x>吃素|素食者|素食主义者|吃纯素)(?:.{{1,2}}年)?"), _diet),
    (_p(f"{_S}(?:几乎)?{_ADV}(?:天天|每天|每顿)?(?:都)?(?P<x>吃肉)"), _diet),
    (_p(f"{_S}{_ADV}(?:特别|非常|十分|超级|超|挺|最)?(?:喜欢|喜爱|热爱|爱(?=吃|喝|看|听|玩|跑|打)){_X}"), _liked(True)),
    (_p(f"{_S}{_ADV}(?:讨厌|受不了|反感|厌恶|恨){_X}"), _liked(False)),
    (_p(f"{_S}{_ADV}(?:戒掉|戒|放弃)了?{_X}"), _quit),
    (_p(f"{_S}(?:每天|天天)?{_ADV}(?:每天|天天|常|经常)?{_ADV}(?:抽|喝|吃){_X}"), _done),
    (_p(f"{_S}{_ADV}开(?:的是|着|的|一辆){_X}|{_S.replace('?P<s>', '?P<t>')}开的车是(?P<y>.+)"), _car),
    (_p(f"{_S}{_ADV}(?:换了?|买了?|换成了?)(?:一)?(?:辆|台)新?{_X}"), _car),
    (_p(f"{_S}{_ADV}(?:在)?(?:使用|用)(?:的是)?(?P<x>[A-Za-z].+?)"), _used),
    (_p(f"{_S}{_ADV}对{_X}(?:严重|有点)?过敏"), _allergy),
    (_p(f"{_S}{_ADV}(?:是)?(?:出生(?:在|于)|生于){_X}"), _born),
    (_p(f"{_S}(?P<x>\\d+月\\d+[日号])过生日"), _born),
    (_p(f"{_S}{_ADV}{_X}岁"), _age),
    (_p(f"{_S}(?:养|有)了?一[只条](?P<n>.{{1,2}}?)(?:，)?(?:叫|名叫){_X}"), _pet),
    (_p(f"{_S}{_ADV}有(?P<count>[一二两三四五六七八九十\\d]+)[个只条位辆](?P<x>{_LASTING})"), _count),
    (_p(f"{_N}{_ADV}(?P<c>改名)(?:叫|为|成)了?{_X}"), _named),
    (_p(f"{_N}(?:的名字)?{_ADV}(?:叫做|名叫|叫){_X}"), _named),
    (_p(f"{_N}{_ADV}{_MOVED}了?{_X}"), _when),
    (_p(f"{_N}{_ADV}(?:定在|安排在|在){_X}"), _when),
    (_p(f"(?P<x>[\u3400-\u9fffA-Za-z· ]{{2,10}})是(?P<s>{_NAMED}|我|用户|我们)的(?P<n>{_FUNCTIONAL})"), _is_turned),
    (_p(f"{_N}{_ADV}{_BE}了?(?P<x>.+?)"), _is),
    (_p("(?P<n>[^，,是\\d]{2,12}?)(?:每个?月|每年|一个月)?(?P<x>\\d[\\d.,]*(?:元|块|万|美元|欧元|%|公斤|斤|厘米|米)?)(?:一个月|每个?月|一年)?"), _is),
)  # fmt: skip
