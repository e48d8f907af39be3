"""What English statements claim: of the one who speaks, of somebody by name, or of a thing by its description.

Knows no other language. Questions, plans, conditions, what was once so and what somebody else says claim nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from memos_mcp.claims.claim import SELF, Claim, Reading
from memos_mcp.claims.words import stem

_NAME = r"(?-i:[A-Z][\w-]*(?: [A-Z][\w-]*){0,2})"
_KIN = (
    r"(?:sister|brother|mother|mom|mum|father|dad|wife|husband|son|daughter|partner|girlfriend|boyfriend|"
    r"grandma|grandpa|grandmother|grandfather|boss|manager|parents|family|team|company|department|fianc[eé]e?)"
)
_S = (
    rf"(?P<s>I|we|the user|user|(?:my|our|the user's|user's|{_NAME}'s) (?:(?:older|younger|little|big|best|former) )?{_KIN}|"
    rf"dad|mom|mum|grandma|grandpa|(?!(?:The|My|Our|This|That|It|He|She|They|You|There|On|In|At)\b){_NAME})"
)
_ADV = (
    r"(?:(?:now|currently|still|really|also|just|recently|have|has|finally|officially|always|mostly|usually|already|"
    r"absolutely|truly|totally|generally|sometimes|often|do|does|both|only) )*"
)
_NP = r"(?P<n>(?:(?:my|our|the|this|user's|the user's|[A-Z][\w-]*'s) )?[\w'-]+(?: [\w'&-]+){0,6}?)"
_IS = r"(?:is|are|am)"
_PROPER = r"(?-i:[A-Z0-9]).*?"
_CAPITAL = r"(?-i:[A-Z]).*?"
_ROLE = (
    r"(?:teacher|professor|lecturer|doctor|nurse|surgeon|dentist|vet|pharmacist|therapist|lawyer|judge|accountant|analyst|"
    r"consultant|engineer|developer|programmer|architect|designer|artist|photographer|musician|actor|director|writer|"
    r"journalist|editor|translator|librarian|scientist|researcher|chef|cook|baker|barista|waiter|farmer|gardener|"
    r"carpenter|electrician|plumber|mechanic|pilot|driver|firefighter|paramedic|officer|soldier|manager|founder|ceo|cto|"
    r"cfo|coo|recruiter|secretary|assistant|receptionist|technician|coach|trainer|instructor|intern|lead|president|"
    r"principal|partner|supervisor|coordinator|administrator|head of [\w ]+)"
)
_FUNCTIONAL = (
    r"(?:(?:last |first |full |middle |maiden )?name|surname|nickname|username|handle|birthday|email(?: address)?|"
    r"(?:tele)?phone(?: number)?|number|address|password|passcode|pin|code|boss|manager|supervisor|landlord|landlady|doctor|"
    r"dentist|therapist|lawyer|accountant|wife|husband|spouse|ceo|cto|president|captain|coach|lead|leader|owner|deadline|"
    r"budget|salary|rent|price|fee|car|laptop|website|url|size|height|weight|version|port|time ?zone|hometown|birthplace|"
    r"job|title|major|employer|school|university|bank|theme|due date|start date|capital|assistant|teacher|trainer|limit|"
    r"branch|blood type|native language|mother tongue|date of birth|place of birth)"
)
_CARS = re.compile(
    r"\b(?:toyota|honda|ford|bmw|audi|mercedes|volkswagen|vw|tesla|kia|hyundai|mazda|nissan|subaru|volvo|skoda|seat|fiat|"
    r"renault|peugeot|citroen|opel|chevrolet|chevy|jeep|lexus|porsche|mini|dacia|suzuki|byd|polestar|golf|corolla|civic|"
    r"prius|camry|car|suv|van|pickup|truck)\b"
)
_LASTING = (
    r"(?:grand)?(?:child(?:ren)?|kids?|sons?|daughters?)|(?:sister|brother|sibling|dog|cat|pet|car|bike|employee|bedroom|"
    r"nephew|niece|student|house|horse|chicken|rabbit|bird)s?"
)
_TYPED = re.compile(
    r"\d|@|://|\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|may|june|july|"
    r"august|september|october|november|december|noon|midnight)s?\b"
)
_DAY = re.compile(
    r"\d{1,2}(?::\d\d|(?:st|nd|rd|th)\b| ?[ap]m\b)|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:january|february|"
    r"march|april|may|june|july|august|september|october|november|december|jan|feb|apr|aug|sept?|oct|nov|dec)\b|\bnoon\b|"
    r"\bmidnight\b|\d{4}-\d\d"
)
_BARRED = re.compile(
    r"\?\s*$|\b(?:might|may (?!\d)|could|would|should|wants?|wish|hopes?|hoping|plan(?:s|ned|ning)?|thinking|consider(?:s|ing)?|"
    r"will|going to|if|unless|maybe|perhaps|probably|used to|formerly|previously|until|as a (?:child|kid|student|teenager)|"
    r"when i was|years ago|back then|said|says|told|thinks|thought|asked|claims|heard|pretend|imagine|dream(?:s|ed|t)?|"
    r"interview|applied|almost|nearly|some day|someday|yet|let us|let's|almost|supposed to|temporarily|visiting|"
    r"for (?:now|the (?:summer|winter|weekend|week|month|time being)))\b",
    re.IGNORECASE,
)
_CHANGES = re.compile(
    r"\b(?:now|any ?more|no longer|these days|nowadays|instead|as of (?:today|now))\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:well|so|and|but|also|actually|by the way|btw|oh|yes|hi|hey|hello|update|fyi|note|now|currently|recently|today|"
    r"as of (?:today|now)|from now on|last (?:week|month|year)|this (?:week|month|year)|good news|correction)\b[,:!]?\s+)+",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"(?:,?\s+(?:now|any ?more|currently|these days|nowadays|at the moment|right now|again|already|as well|too|recently|"
    r"lately|instead|though|at all|a lot|very much|so much|(?:earlier )?(?:this|last) (?:week|month|year|summer|winter|spring|"
    r"autumn|fall|morning|night|weekend)|yesterday|today|since (?:then|[\w ]{3,20})|for good|for (?:a|the (?:last|past)|\d+|two|"
    r"three|ten|many|some) (?:[\w]+ )?(?:days?|weeks?|months?|years?|while|time)|because [\w' ,]+|every (?:day|week|morning|evening|weekend)|for everything|"
    r"(?:a few|two|three|\d+) (?:days|weeks|months) ago))$",
    re.IGNORECASE,
)
_MONTH_TAIL = re.compile(
    r"\s+(?:in|on|since) (?:early |late |mid[- ])?(?:january|february|march|april|may|june|july|august|september|october|"
    r"november|december|spring|summer|autumn|fall|winter|monday|tuesday|wednesday|thursday|friday|saturday|sunday)$",
    re.IGNORECASE,
)
_EXPANDED = tuple(
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"\bcan't\b|\bcannot\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"\bI'm\b", "I am"),
        (r"\b(we|they|you)'re\b", r"\1 are"), (r"\b(I|we|they|you)'ve got\b", r"\1 have"), (r"\b(I|we)'ve\b", r"\1 have"),
        (r"\b(have|has) got\b", r"\1"), (r"\bfavourite\b", "favorite"), (r"\be-mail\b", "email"),
    )
)  # fmt: skip
_MORE = re.compile(r",(?!\d)| (?:and|but|because|so|where|which|who|with|while|though)\b|[:;–—(]", re.IGNORECASE)
"""Where a statement goes on to say something else."""
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_ARTICLE = re.compile(r"^(?:(?:a|an|the|my|our|his|her|their|new|brand[- ]new|in|at|on) )+")


class _Sentence:
    """A sentence without what only tells when, and what that told."""

    def __init__(self, text: str, speaker: str) -> None:
        self.changes = _CHANGES.search(text) is not None
        plain = _LEAD.sub("", text.strip().rstrip(".!; ").strip())
        while (shorter := _TAIL.sub("", plain)) != plain:
            plain = shorter.rstrip(" ,")
        self.text, self.denies = _undenied(plain)
        self.speaker = speaker

    def subject(self, said: str) -> str:
        """The key of whom a claim is about."""
        plain = re.sub(r"^(?:the )?user(?:'s)?\b|^(?:my|our|i|we)\b", self.speaker, said.casefold())
        return re.sub(r"'s\b", "", plain).removesuffix(" family").strip()

    def thing(self, said: str) -> tuple[str, str]:
        """Whose a thing is, and its key; whose is empty for one that is nobody's."""
        plain = said.casefold()
        owner = re.match(r"(?:(my|our|the user's|user's)|(\w[\w-]*)'s)\s+", plain)
        rest = plain[owner.end() :] if owner else plain
        whose = "" if owner is None else owner[2] or self.speaker
        words = [stem(word.removesuffix("'s")) for word in re.findall(r"[\w'-]+", rest)]
        dropped = ("the", "this", "a", "an", "new", "current", "of", "for", "my", "our", "team's", "favorite colour")
        return whose, " ".join(word for word in words if word not in dropped)


def read(text: str, speaker: str = SELF) -> Reading:
    """What a short English text claims; `speaker` is the subject of what is said in the first person."""
    for pattern, said in _EXPANDED:
        text = pattern.sub(said, text.replace("’", "'"))
    sentences = [part for part in _SENTENCE.split(text.strip()) if part.strip(" .!;")]
    claims: list[Claim] = []
    for part in sentences:
        if _BARRED.search(part) or '"' in part or "“" in part:
            continue
        claims += _of_sentence(_Sentence(part, speaker), bool(re.search(r"\b(?:19|20)\d\d\b", part)))
    return Reading(tuple(dict.fromkeys(claims)), len(sentences) == 1 and not _MORE.search(text))


def _undenied(text: str) -> tuple[str, bool]:
    """The sentence as if it did not deny, and whether it does."""
    for pattern, said in _DENIALS:
        plain, count = pattern.subn(said, text, count=1)
        if count:
            return plain, True
    return text, False


_DENIALS = tuple(
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"\b(is|am|are) no longer\b", r"\1"), (r"\bno longer ", ""), (r"\b(?:do|does) not ", ""),
        (r"\b(is|am|are) not\b", r"\1"), (r"\bnever (?=eat|drink|smok|us|lik|play)", ""),
    )
)  # fmt: skip


def _of_sentence(sentence: _Sentence, dated: bool) -> Iterator[Claim]:
    plain = sentence.text.casefold()
    for words, pattern, build in _PATTERNS:
        if not any(word in plain for word in words):
            continue
        found = pattern.fullmatch(sentence.text) or pattern.fullmatch(_MONTH_TAIL.sub("", sentence.text))
        made = [claim for claim in build(sentence, found) if claim.value] if found is not None else []
        if made:
            if not (dated and any(claim.changes for claim in made)):
                yield from (_as_said(claim, sentence) for claim in made)
            return


def _as_said(claim: Claim, sentence: _Sentence) -> Claim:
    known = replace(claim, changes=claim.changes or sentence.changes)
    return known.denied() if sentence.denies else known


def _value(said: str) -> str:
    plain = _ARTICLE.sub("", said.casefold().strip(" ,.!'\""))
    return re.sub(r"^(\d),(\d{3})\b", r"\1\2", re.sub(r"[,']", "", plain)).strip()


def _object(said: str) -> str:
    """What is liked or done, as a key: its words without endings."""
    words = re.findall(r"[\w'-]+", _ARTICLE.sub("", said.casefold()))
    kept = [stem(word).rstrip("e") for word in words if word not in ("to", "the", "a", "an", "of", "my", "any")]
    return " ".join(kept) if len(kept) <= 5 else ""


def _made(attribute: str, *, changes: bool = False) -> Callable[[_Sentence, re.Match[str]], Iterator[Claim]]:
    """Builds the claim that the subject's attribute is what `x` says, and that it is no more what `old` says."""

    def build(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
        groups = found.groupdict()
        who = sentence.subject(found["s"])
        yield Claim(who, attribute, _value(_MORE.split(found["x"])[0]), changes=changes)
        if groups.get("old"):
            yield Claim(who, attribute, _value(groups["old"] or ""), holds=False, changes=True)

    return build


def _left(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(sentence.subject(found["s"]), "employer", _value(found["x"]), holds=False, changes=True)


def _role(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    who = sentence.subject(found["s"])
    yield Claim(who, "role", _value(found["x"]), values="mostly", changes="promoted" in found[0])
    if found["at"]:
        yield Claim(who, "employer", _value(found["at"]))


def _status(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(sentence.subject(found["s"]), "marital status", found["x"].casefold())


def _diet(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    meat = "eat" in found["v"].casefold()
    yield Claim(sentence.subject(found["s"]), "diet", "meat" if meat else _value(found["x"]), values="mostly")


def _liked(holds: bool) -> Callable[[_Sentence, re.Match[str]], Iterator[Claim]]:
    def build(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
        what = _object(re.sub(r"^(?:to )?(?:drink|eat|play|watch)(?:ing)? ", "", found["x"], flags=re.IGNORECASE))
        if what:
            yield Claim(sentence.subject(found["s"]), "like", what, holds, "many")

    return build


def _quit(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    what = _object(re.sub(r"^(?:drink|eat|us|do|play)(?:ing) ", "", found["x"], flags=re.IGNORECASE))
    for attribute in ("do", "like", "use") if what else ():
        yield Claim(sentence.subject(found["s"]), attribute, what, False, "many", changes=True)


def _done(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    who, verb, said = sentence.subject(found["s"]), found["v"].casefold(), found["x"] or ""
    said = re.split(r" (?:for|in|on|at|with|every|since|before|after|because|twice|once) ", said)[0]
    if verb.startswith("drive") and said:
        yield Claim(who, "car", _value(said), values="mostly")
    elif verb.startswith("smok"):
        yield Claim(who, "do", "smok", values="many")
    elif what := _object(said):
        plain = {"use": "use", "uses": "use", "using": "use"}.get(verb.split()[-1], "do")
        yield Claim(who, plain, what, values="many")


def _switched(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    who, old, new = sentence.subject(found["s"]), found["old"], found.groupdict().get("x") or ""
    if _CARS.search(f"{old} {new}".casefold()):
        yield Claim(who, "car", _value(old), False, "mostly", changes=True)
        if new:
            yield Claim(who, "car", _value(new), values="mostly", changes=True)
        return
    for attribute in ("use", "do"):
        yield Claim(who, attribute, _object(old), False, "many", changes=True)
    yield Claim(who, "use", _object(new), values="many", changes=True)


def _favourite(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    whose, what = sentence.thing(f"{found['s']} {found['n']}")
    yield Claim(whose, f"favorite {re.sub('colour', 'color', what)}", _value(found["x"]))


def _is(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    """That a thing is so: of what is only one (a name, a deadline), or a figure, or where it says that it is new."""
    said, value = found["n"], _value(found["x"])
    whose, what = sentence.thing(said)
    if not what or what in _PRONOUNS or len(value.split()) > 8:
        return
    new = re.search(r"\bnew\b", said, re.IGNORECASE) is not None or found.groupdict().get("c") == "to"
    head = re.split(r"\b(?:of|for|in|at)\b", re.sub(r"\bnew ", "", said.casefold()))[0].strip()
    known = _of_person(head, whose, what, value, new)
    if known is None:
        known = _of_thing(head, Claim(whose, what, value, changes=new), found["x"], new or sentence.changes)
    if known is not None:
        yield known


def _of_thing(head: str, so: Claim, said: str, new: bool) -> Claim | None:
    """What is said of a thing, as it is `said`, if that is a name, a day, a figure or new; else None."""
    located, day = _LOCATED.match(said) is not None, _DAY.search(so.value)
    whole = not located and re.search(r"[A-Z0-9@]", said) is not None
    if whole and re.search(r"\bcar$", head):
        return replace(so, attribute="car", values="mostly")
    if day is not None and day.start() <= MOST_BEFORE_A_DAY:
        return replace(so, attribute=f"when {so.attribute}", values="mostly")
    if whole and re.search(rf"\b{_FUNCTIONAL}$", head):
        return replace(so, attribute=f"is {so.attribute}")
    loose = _TYPED.match(so.value) is not None or (new and not located)
    return replace(so, attribute=f"is {so.attribute}", values="mostly") if loose else None


def _of_person(head: str, whose: str, what: str, value: str, new: bool) -> Claim | None:
    """What is said of somebody under the name of a thing: their address is where they live."""
    if re.search(r"(?:^|home |postal |current |my |our )address$", head):
        return Claim(whose or what, "home", value, changes=new)
    if re.search(r"\bbirthday$|date of birth$", head):
        return Claim(whose or what.removesuffix(" birthday"), "birthday", _day(value))
    if re.search(r"birthplace$|place of birth$", head):
        return Claim(whose, "birthplace", value)
    named = re.fullmatch(r"(?:\w+'s|my|our) ([\w' -]+)'s name", head)
    return Claim(f"{whose} {stem(named[1])}".strip(), "name", value) if named else None


MOST_BEFORE_A_DAY = 8
"""Characters before a day in what is one: every, the 3rd of."""
_LOCATED = re.compile(r"(?:in|on|at|with|for|from|about|very|so|too|not) ", re.IGNORECASE)


_PRONOUNS = frozenset(("i", "we", "you", "he", "she", "it", "they", "that", "there", "what", "who", "one", "here", "this"))


def _is_turned(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    """That somebody is somebody's something: the same as that this something is somebody."""
    whose, what = sentence.thing(f"{found['s']} {found['n']}")
    yield Claim(whose, f"is {what}", _value(found["x"]))


def _when(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    value = _value(found["x"])
    if _DAY.search(value):
        whose, what = sentence.thing(found["n"])
        moved = "x" in found.re.groupindex and re.search(_MOVED, found[0], re.IGNORECASE) is not None
        yield Claim(whose, f"when {what}", value, values="mostly", changes=moved)


def _day(value: str) -> str:
    """A day of the year, however it is written."""
    number, month = re.search(r"\b(\d{1,2})(?:st|nd|rd|th)?\b", value), re.search(r"[a-z]{3}[a-z]*", value)
    return f"{number[1]} {month[0][:3]}" if number and month else value


def _born(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    who, said = sentence.subject(found["s"]), _value(found["x"])
    dated = _DAY.search(said) is not None
    yield Claim(who, "birthday" if dated else "birthplace", _day(said) if dated else said)


def _age(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(sentence.subject(found["s"]), "age", found["x"], values="mostly")


def _count(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    what = _object(found["x"])
    number = _NUMBERS.get(found["count"].casefold(), found["count"])
    yield Claim(sentence.subject(found["s"]), f"count {what}", number, values="mostly")


_NUMBERS = {word: str(n) for n, word in enumerate(
    ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
)}  # fmt: skip


def _pet(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(f"{sentence.subject(found['s'])} {stem(found['n'].casefold())}", "name", _value(found["x"]), values="mostly")


def _allergy(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    yield Claim(sentence.subject(found["s"]), "allergy", _object(found["x"]), values="many")


def _named(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    whose, what = sentence.thing(found["n"])
    who = f"{whose} {what}".strip() if whose else what or sentence.speaker
    yield Claim(who, "name", _value(found["x"]), changes="re" in (found.groupdict().get("c") or ""))


def _renamed(sentence: _Sentence, found: re.Match[str]) -> Iterator[Claim]:
    what = sentence.thing(found["n"])[1]
    yield Claim(sentence.subject(found["s"]), f"is {what}", _value(found["x"]), changes=True)


def _p(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_MOVED = r"(?:moved|postponed|rescheduled|pushed|brought|delayed|shifted|changed|put)"
_ROSE = (
    r"(?:went (?:up|down)|rose|risen|increased|dropped|fell|raised|cut|lowered|climbed|grew|shrank|changed|set|reduced|"
    r"extended|updated|switched)"
)
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], Callable[[_Sentence, re.Match[str]], Iterator[Claim]]], ...] = (
    (("move", "postpone", "reschedul", "push", "brought", "delay", "shift", "change", "put"), _p(rf"{_NP} (?P<c>{_IS}|was|has been|have been|got|were)?(?: been)? ?{_MOVED} (?:back |forward |up )?(?:from .+? )?(?:to|until) (?P<x>.+)"), _when),
    (("moved", "relocated"), _p(rf"{_S} {_ADV}(?:moved|relocated) (?:house )?from (?P<old>{_PROPER}) to (?P<x>{_PROPER})"), _made("home", changes=True)),
    (("moved", "relocated"), _p(rf"{_S} {_ADV}(?:moved|relocated) (?:house |back |over )*to (?P<x>{_PROPER})"), _made("home", changes=True)),
    (("live", "reside", "living", "based"), _p(rf"{_S} {_ADV}(?:lives?|resides?|{_IS} {_ADV}(?:living|based)) {_ADV}(?:in|at) (?P<x>{_PROPER})"), _made("home")),
    (("started", "began"), _p(rf"{_S} {_ADV}(?:started|began) (?:working|to work|work|(?:a|his|her|my) (?:new )?(?:job|position|role)) (?:at|for|with) (?P<x>{_CAPITAL})(?: as .+)?"), _made("employer", changes=True)),
    (("took", "got", "job"), _p(rf"{_S} {_ADV}(?:took a (?:new )?job (?:at|with)|got a (?:new )?job (?:at|with)|(?:switched|changed) jobs? to) (?P<x>{_CAPITAL})(?: as .+)?"), _made("employer", changes=True)),
    (("left", "quit", "resigned", "laid", "fired"), _p(rf"{_S} {_ADV}(?:left|quit|resigned from|was laid off (?:from|by)|was fired from) (?:(?:my|his|her|their|the) (?:old )?job (?:at|with) )?(?P<x>{_PROPER})(?: as .+)?"), _left),
    (("is", "are", "am", "became", "work", "promoted"), _p(rf"{_S} {_ADV}(?:{_IS}|became|works? as|{_IS} working as|was promoted to|got promoted to) {_ADV}(?:an? |the )?(?P<x>(?:[\w-]+ ){{0,4}}?{_ROLE}(?: of [\w ]+?)?)(?: (?:at|for|with) (?P<at>{_PROPER}))?"), _role),
    (("work", "employed"), _p(rf"{_S} {_ADV}(?:(?:works?|{_IS} {_ADV}working) (?:as (?:an? )?[\w -]+ )?(?:at|for)|{_IS} {_ADV}employed (?:at|by)) (?P<x>{_CAPITAL})(?: as .+)?"), _made("employer")),
    (("single", "married", "engaged", "divorced", "widowed", "separated"), _p(rf"{_S} {_ADV}(?:{_IS}|got|has been|have been|became) {_ADV}(?:happily |newly )?(?P<x>single|married|engaged|divorced|widowed|separated)(?: (?:to|from) .+)?"), _status),
    (("veg", "pesc"), _p(rf"{_S} {_ADV}(?P<v>{_IS}|became|been|turned|went) {_ADV}(?:been )?(?:an? )?(?:strict )?(?P<x>vegetarian|vegan|pescatarian)"), _diet),
    (("eat",), _p(rf"{_S} {_ADV}(?P<v>eats?) (?P<x>meat|chicken|beef|fish|steak)(?: .+)?"), _diet),
    (("like", "love", "enjoy", "adore"), _p(rf"{_S} {_ADV}(?:like|love|enjoy|adore)s? (?P<x>.+)"), _liked(True)),
    (("fan", "fond", "into", "crazy"), _p(rf"{_S} {_IS} {_ADV}(?:an? (?:\w+ )?fan of|fond of|into|crazy about) (?P<x>.+)"), _liked(True)),
    (("hate", "dislike", "detest", "despise", "loathe"), _p(rf"{_S} {_ADV}(?:hate|dislike|detest|despise|loathe)s? (?P<x>.+)"), _liked(False)),
    (("stand",), _p(rf"{_S} {_ADV}can not stand (?P<x>.+)"), _liked(False)),
    (("favorite",), _p(rf"(?P<s>my|our|the user's|user's|{_NAME}'s) (?:all-time )?favorite (?P<n>[\w ]+?) {_ADV}{_IS} {_ADV}(?P<x>.+)"), _favourite),
    (("favorite",), _p(rf"(?P<x>[\w' -]+?) {_IS} {_ADV}(?P<s>my|our|the user's|{_NAME}'s) (?:all-time )?favorite (?P<n>[\w ]+)"), _favourite),
    (("'s", "my", "our"), _p(rf"(?P<x>{_NAME}) is {_ADV}(?P<s>my|our|the user's|user's|{_NAME}'s) (?P<n>{_FUNCTIONAL})"), _is_turned),
    (("from",), _p(rf"{_S} {_ADV}(?:switched|migrated|moved|changed|converted|transitioned) (?:over )?from (?P<old>.+?) to (?P<x>.+?)(?: for .+)?"), _switched),
    (("replaced",), _p(rf"{_S} {_ADV}replaced (?:my |our |the )?(?P<old>.+?) (?:with|by) (?P<x>.+)"), _switched),
    (("traded",), _p(rf"{_S} {_ADV}traded in (?:my|our|the|his|her) (?P<old>.+?) for (?P<x>.+)"), _switched),
    (("sold",), _p(rf"{_S} {_ADV}sold (?:my|our|the|his|her) (?P<old>.+?)(?: and {_ADV}(?:bought|got) (?P<x>.+))?"), _switched),
    (("quit", "stopped", "gave", "given"), _p(rf"{_S} {_ADV}(?:quit|stopped|gave up|given up) (?P<x>[\w-]+(?: [\w-]+){{0,3}})"), _quit),
    (("allerg",), _p(rf"{_S} {_ADV}(?:{_IS}|has|have) {_ADV}(?:an? (?P<x>[\w -]+?) allergy)"), _allergy),
    (("allerg",), _p(rf"{_S} {_IS} {_ADV}allergic to (?P<x>.+)"), _allergy),
    (("born",), _p(rf"{_S} (?:was|were) born (?:on|in) (?P<x>.+)"), _born),
    (("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"), _p(rf"{_S} {_ADV}(?:{_IS}|turned) {_ADV}(?P<x>\d{{1,3}})(?: years old)?"), _age),
    (("named", "called"), _p(rf"{_S} {_ADV}(?:has|have|owns?) an? (?P<n>\w+) (?:named|called) (?P<x>{_NAME})"), _pet),
    (("has", "have"), _p(rf"{_S} {_ADV}(?:has|have) (?P<count>no|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d+) (?P<x>{_LASTING})"), _count),
    (("smoke", "drink", "eat", "play", "use", "using", "speak", "drive", "learn", "go"), _p(rf"{_S} {_ADV}(?P<v>smokes?|drinks?|eats?|plays?|uses?|speaks?|drives?|learns?|goes|go|{_IS} using)(?: {_ADV}(?P<x>.+))?"), _done),
    (("changed",), _p(rf"{_S} {_ADV}changed (?:my|our|his|her|their) (?P<n>[\w ]+?) (?:from .+? )?to (?P<x>.+)"), _renamed),
    (("named", "called"), _p(rf"{_NP} {_ADV}(?:{_IS}|was|has been|got) {_ADV}(?P<c>renamed|called|named)(?: to)? (?P<x>.+)"), _named),
    (("start", "begin", "take", "happen"), _p(rf"{_NP} {_ADV}(?:starts?|begins?|takes place|happens) {_ADV}(?:on |at )?(?P<x>.+)"), _when),
    (("to",), _p(rf"{_NP} {_ADV}(?:{_IS}|was|has|have|has been)? ?(?:been )?{_ROSE} (?:from .+? )?(?P<c>to) (?P<x>.+)"), _is),
    (("cost",), _p(rf"{_NP} {_ADV}costs? (?P<x>.+)"), _is),
    (("is", "are", "am"), _p(rf"{_NP} {_ADV}{_IS} {_ADV}(?P<x>.+)"), _is),
)  # fmt: skip
"""Words of which one must be there, what is said, and what that claims: most sentences hold few of the words."""
