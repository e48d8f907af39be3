"""The English rules of extraction: first person, present, affirmative, at the beginning of a clause.

Knows no other language. What a rule captures is turned into the third person with singular they, whose verbs are those
of the first person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memos_mcp.operators.statements import Extracted, ExtractedKind, Said

MOST_OF_A_SENTENCE = 400
"""Characters of a sentence beyond which it is no plain statement, and could be made to cost much time."""
_SENTENCE = re.compile(r"(?:[^.!?…\n]|(?<=\d)\.(?=\d)|(?<=\b[A-Z])\.(?= [A-Z])|(?<=\b(?:Dr|Mr|Ms|St))\.|(?<=\bMrs)\.)+[.!?…]*")
_QUOTED = re.compile(r"[\"“«][^\"“”«»\n]{1,300}[\"”»]")
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|my|me|we|our|you|your)\b", re.IGNORECASE)
_SELF = re.compile(r"\b(?:I|my|me)\b", re.IGNORECASE)
_LEAD = (
    r"(?:^|[,;–—]\s*|\s-+\s+|\b(?:and|but|because|since|so|though|although|while|also|plus|well|yeah|yep|yes|sure|haha|"
    r"actually|honestly|personally|basically|oh|hi|hello|hey|hmm|thanks|btw|by the way|in fact|as you know|to be honest|"
    r"as for me|no|(?:that's|this is|it's|which is) why|reminds? me (?:of )?(?:why|how much)|you know(?: how much)?|"
    r"i (?:have to|gotta|must) (?:say|admit)(?: that)?|turns out|"
    r"i (?:just |recently )?(?:found out|learned|discovered)(?: recently)?(?: that)?),?\s+)"
)
_VERY = (
    r"(?:(?:really|also|absolutely|just|still|always|truly|totally|definitely|actually|especially|particularly|personally|"
    r"genuinely|do|simply|honestly|both|currently|now|already|recently|usually|mostly|mainly|severely|highly|very|so|too|"
    r"quite|pretty|super|extremely|originally)\s+)*"
)
_I = rf"{_LEAD}I {_VERY}"
_IM = rf"{_LEAD}(?:I'm|I am) {_VERY}"
_MY = rf"{_LEAD}my (?:own )?"
_BARRED_BEFORE = re.compile(
    r"\b(?:if|unless|whether|would|could|should|might|may|maybe|perhaps|wish|imagine|suppose|supposing|pretend|hope|"
    r"said|says|say|saying|told|tells|asked|asks|thinks|thought|claims|wrote|quote|goes|sings|lyrics?|"
    r"used to|as though|not that|don't think|doubt|dream(?:ed|t)?)\b",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(?:(?<!knows )(?<!see )(?<!sure )(?<!wonder )if|unless|as long as|only when|except when|until)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"^(?:do|does|did|are|is|was|were|have|has|had|what|what's|how|how's|why|where|who|which|when|would|can|could|will|"
    r"any|anything|you|so what|and you|and what|and how)\b",
    re.IGNORECASE,
)
_UNRESOLVED = re.compile(
    r"\b(?:I|I'm|I've|I'd|I'll|you|your|yours|it|it's|its|he|she|him|his|her|hers|they|them|their|theirs|this|that|"
    r"these|those|here|there|ya|u|one|ones|same|such|others?|who|whose)\b",
    re.IGNORECASE,
)
_EMPTY_START = re.compile(
    r"^(?:how|what|when|where|why|which|the way|about|all|any|both|more|most|everything|anything|something|someone|"
    r"nothing|everyone|people|things?|stuff|so|as|being|seeing|hearing|knowing|having|getting|making|doing|"
    r"to (?:be|see|hear|know|say|think|have|get|make|do|go|help|chat|talk|take|keep|let|call)\b(?! (?:a |the )?\w+ing)|"
    r"too|also|very|really|not|no|and|or|but|of|at|with|for|from|than|in|on|now)\b",
    re.IGNORECASE,
)
_WITH_THE = re.compile(
    r"the (?:(?-i:[A-Z])|(?:beach|ocean|sea|mountains?|outdoors?|forest|woods|piano|guitar|violin|theat(?:er|re)|gym|sun|rain|snow|summer|"
    r"winter|spring|autumn|fall|city|countryside|cold|heat|dark|dentist|color|colour|smell of .+|sound of .+|taste of .+)$)",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"\s*(?:[;:()\[\]…–—~*]|\s-+\s|\.{2,}|"
    r",?\s+(?:but|because|cause|since|so (?!much)|although|though|which|while|whenever|when|where|as (?:it|I|they|well|you|"
    r"the|he|she|much)|and (?:I|it|we|they|he|she|you|that|this|my|there|have|am|was|would|can|will|then|even|so|"
    r"always|never|also|really)\b|and it's|and that's|after|before|until|especially|even|except|lol|haha|than ever)\b)",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:,?\s+(?:too|as well|so much|a lot|very much|much|these days|lately|anymore|at all|the most|more than anything|"
    r"now|right now|currently|actually|though|honestly|either|you know|already|again|today|and all|in general|"
    r"and more|and everything|and stuff|etc))+$",
    re.IGNORECASE,
)
_THEIRS = {"my": "their", "our": "their", "me": "them", "us": "them", "mine": "theirs", "myself": "themself"}
_LIST_STOP = re.compile(
    r"^(?:and )?(?:I|I'm|it|it's|you|we|he|she|they|that|this|so|but|which|the|my|then|especially|like|because|"
    r"just|not|with|in|on|as|when|too|haha|you know)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Rule:
    """A pattern whose group `x` is a phrase to be cut at the end of its clause, and how the statement is written.

    `whole`: the pattern itself says where the phrase ends.
    """

    name: str
    kind: ExtractedKind
    confidence: float
    pattern: re.Pattern[str]
    says: str
    whole: bool = False


def _rule(
    name: str, kind: ExtractedKind, confidence: float, pattern: str, says: str, *, whole: bool = False
) -> _Rule:
    """A rule that writes `says`, in which {who} is the speaker, {on} the day, {x} the phrase, other names groups."""
    return _Rule(f"en.{name}", kind, confidence, re.compile(pattern, re.IGNORECASE), says, whole)


_CAPITAL = r"(?-i:[A-Z][\w'’&.-]*(?:,? (?:of |the |de |la |and (?=[A-Z]))*[A-Z][\w'’&.-]*){0,4})"
_NAME = r"(?-i:[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2})"
_MONTH = r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_DAY = rf"(?:(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}|{_MONTH}\.? (?:the )?\d{{1,2}}(?:st|nd|rd|th)?|{_MONTH}|\d{{1,2}}[/-]\d{{1,2}})(?:,? \d{{4}})?"
_WHEN = rf"(?:(?:on |this |next |coming )*(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|week|weekend|month|year|summer|winter|spring|fall|autumn)|tomorrow|tonight|(?:on |in )?{_DAY}|in (?:a|two|three|four|\d+) (?:days?|weeks?|months?))"
_END = r"(?=\s*(?:[.!?…,;–—()]|\s-+\s|$|\band\b|\bbut\b|\bso\b|\bwith\b|\bwho\b|\bnow\b|\bfor\b|\bin\b|\bat\b))"
_COUNT = r"(?:an?|one|two|three|four|five|six|seven|eight|\d{1,2})"
_KIN = (
    r"(?:sons?|daughters?|kids?|child(?:ren)?|boys?|girls?|twins|brothers?|sisters?|siblings?|nephews?|nieces?|"
    r"grand(?:son|daughter|child|children|kid)s?|husband|wife|girlfriend|boyfriend|fianc[eé]e?|partner|stepson|stepdaughter)"
)
_PET = (
    r"(?:dogs?|cats?|pupp(?:y|ies)|kittens?|rabbits?|parrots?|hamsters?|turtles?|horses?|fish|birds?|guinea pigs?|snakes?|"
    r"gecko|lizards?|ferrets?|chickens|labrador|poodle|beagle|corgi|bulldog|retriever|shepherd)"
)
_WORK = (
    r"(?:teacher|professor|lecturer|tutor|student|doctor|nurse|surgeon|dentist|vet|veterinarian|pharmacist|therapist|"
    r"psychologist|psychiatrist|counsell?or|lawyer|attorney|paralegal|judge|accountant|auditor|economist|banker|analyst|"
    r"consultant|engineer|developer|programmer|architect|designer|artist|painter|sculptor|photographer|musician|pianist|"
    r"guitarist|singer|drummer|composer|producer|actor|actress|dancer|director|writer|author|poet|journalist|editor|"
    r"translator|interpreter|librarian|scientist|researcher|biologist|chemist|physicist|mathematician|historian|"
    r"philosopher|chef|cook|baker|barista|bartender|waiter|waitress|farmer|gardener|florist|carpenter|electrician|"
    r"plumber|mechanic|welder|builder|contractor|pilot|driver|sailor|captain|firefighter|paramedic|police officer|"
    r"officer|soldier|veteran|manager|entrepreneur|founder|ceo|cto|cfo|recruiter|salesperson|realtor|secretary|"
    r"assistant|receptionist|administrator|technician|coach|trainer|athlete|instructor|social worker|freelancer|"
    r"hairdresser|barber|tailor|stylist|youtuber|streamer|blogger|intern|postdoc|phd student|stay-at-home (?:mom|dad))"
)
_TRAIT = (
    r"(?:(?:a |an )?(?:strict |lifelong |committed )?(?:vegetarian|vegan|pescatarian|lactose[- ]intolerant|"
    r"gluten[- ]intolerant|diabetic|c(?:o)?eliac|asthmatic|colou?r-?blind|left-handed|right-handed|only child|night owl|"
    r"morning person|early bird|introvert|extrovert|single (?:mom|mum|dad|parent|mother|father)))"
)
_TONGUE = (
    r"(?:english|spanish|french|german|italian|portuguese|dutch|russian|ukrainian|polish|czech|greek|turkish|arabic|hebrew|"
    r"persian|farsi|hindi|urdu|bengali|tamil|chinese|mandarin|cantonese|japanese|korean|vietnamese|thai|indonesian|malay|"
    r"swedish|norwegian|danish|finnish|hungarian|romanian|swahili|tagalog)"
)
_PLAYED = (
    r"(?:piano|guitar|bass|violin|viola|cello|flute|clarinet|saxophone|trumpet|drums|harp|ukulele|banjo|accordion|organ|"
    r"chess|tennis|football|soccer|basketball|baseball|volleyball|badminton|golf|hockey|rugby|cricket|table tennis|poker)"
)
_CHORE = r"(?:appointment|interview|exam|test|meeting|flight|surgery|operation|wedding|concert|recital|deadline|presentation|checkup|check-up|race|marathon|tournament)"

_RULES: tuple[_Rule, ...] = (
    _rule("love", "preference", 0.85, rf"{_I}love (?P<x>.+)", "{who} loves {x}."),
    _rule("like", "preference", 0.8, rf"{_I}like (?P<x>.+)", "{who} likes {x}."),
    _rule("enjoy", "preference", 0.8, rf"{_I}enjoy (?P<x>.+)", "{who} enjoys {x}."),
    _rule("adore", "preference", 0.85, rf"{_I}adore (?P<x>.+)", "{who} adores {x}."),
    _rule("prefer", "preference", 0.9, rf"{_I}prefer (?P<x>.+)", "{who} prefers {x}."),
    _rule("hate", "preference", 0.85, rf"{_I}(?:hate|detest|despise) (?P<x>.+)", "{who} hates {x}."),
    _rule("dislike", "preference", 0.85, rf"{_I}dislike (?P<x>.+)", "{who} dislikes {x}."),
    _rule("stand", "preference", 0.9, rf"{_I}(?:can't|cannot|can not) stand (?P<x>.+)", "{who} cannot stand {x}."),
    _rule(
        "not-like", "preference", 0.85,
        rf"{_I}(?:don't|do not) (?:really |particularly |actually |even )?(?:like|enjoy|love|care for) (?P<x>.+)",
        "{who} does not like {x}.",
    ),
    _rule("fan", "preference", 0.85, rf"{_IM}an? (?:\w+ )?fan of (?P<x>.+)", "{who} is a fan of {x}."),
    _rule("into", "preference", 0.8, rf"{_IM}into (?P<x>.+)", "{who} is into {x}."),
    _rule(
        "fond", "preference", 0.85, rf"{_IM}(?P<how>fond of|passionate about|obsessed with|crazy about) (?P<x>.+)",
        "{who} is {how} {x}.",
    ),
    _rule(
        "favourite", "preference", 0.9,
        rf"{_MY}(?:all[- ]time )?(?P<fav>favou?rite) (?P<what>(?!one\b|ones\b|part\b|thing\b|memory\b)[\w'-]+(?: [\w'-]+){{0,3}}?)"
        r" (?:is|are|has always been|would be|will always be) (?:definitely |probably |always |still |actually )?(?P<x>.+)",
        "{who}'s {fav} {what} is {x}.",
    ),
    _rule(
        "is-favourite", "preference", 0.85,
        r"^(?:(?:well|yeah|yes|oh|actually|and|but),? )*(?P<x>(?!(?:one|some|all|what|who|which)\b)[\w'’&-]+(?: [\w'’&-]+){0,4}?) (?:is|are) (?:definitely |probably |still )?"
        r"my (?:all[- ]time )?(?P<fav>favou?rite) (?P<what>(?!one\b|ones\b|part\b|thing\b)[\w'-]+)" + _END,
        "{who}'s {fav} {what} is {x}.", whole=True,
    ),
    _rule("afraid", "fact", 0.8, rf"{_IM}(?:afraid|scared|terrified) of (?P<x>.+)", "{who} is afraid of {x}."),
    _rule("allergic", "fact", 0.95, rf"{_IM}allergic to (?P<x>.+)", "{who} is allergic to {x}."),
    _rule(
        "allergy", "fact", 0.95, rf"{_I}have an? (?:severe |bad |serious |mild )?(?P<x>[\w-]+(?: [\w-]+)?) allergy" + _END,
        "{who} has a {x} allergy.", whole=True,
    ),
    _rule("name", "profile", 0.95, rf"{_MY}(?:full |first )?name(?: is|'s) (?P<x>{_NAME}){_END}", "{who}'s name is {x}.", whole=True),
    _rule(
        "call-me", "profile", 0.8,
        rf"{_LEAD}(?:please |just |you can |everyone |everybody |people |my friends )*calls? me (?P<x>{_NAME}){_END}",
        "{who} is called {x}.", whole=True,
    ),
    _rule("from", "profile", 0.85, rf"{_IM}from (?P<x>{_CAPITAL})", "{who} is from {x}.", whole=True),
    _rule(
        "live", "profile", 0.9, rf"(?:{_I}live|{_IM}(?:living|based)) in (?P<x>{_CAPITAL})", "{who} lives in {x}.", whole=True
    ),
    _rule(
        "live-near", "profile", 0.8,
        rf"{_I}live in (?P<x>(?:an? |the )(?:\w+ )?(?:apartment|house|flat|town|village|city|suburbs?|studio|farm|countryside|"
        r"dorm)(?: (?:near|in|outside|of) [A-Z]\w+)?)", "{who} lives in {x}.", whole=True,
    ),
    _rule("moved", "event", 0.8, rf"{_LEAD}I(?:'ve| have)? {_VERY}moved (?:back )?(?P<x>(?:here )?(?:from {_CAPITAL} )?to {_CAPITAL})", "{who} moved {x}.", whole=True),
    _rule("grew-up", "profile", 0.9, rf"{_I}grew up (?P<x>in {_CAPITAL}|on a farm)", "{who} grew up {x}.", whole=True),
    _rule("born", "profile", 0.9, rf"{_I}was born (?P<x>(?:in {_CAPITAL}|on {_DAY}|in \d{{4}})(?: in {_CAPITAL}| on {_DAY}| in \d{{4}})?)", "{who} was born {x}.", whole=True),
    _rule("work-at", "profile", 0.9, rf"(?:{_I}work|{_IM}working) (?P<how>at|for) (?P<x>{_CAPITAL}|an? (?:\w+ ){{1,3}}?(?:company|school|hospital|startup|bank|university|store|shop|restaurant|cafe|studio|firm|agency|clinic|library|museum|factory|lab|bakery))", "{who} works {how} {x}.", whole=True),
    _rule("work-as", "profile", 0.9, rf"(?:{_I}work|{_IM}working) as (?P<x>an? .+)", "{who} works as {x}."),
    _rule("work-in", "profile", 0.85, rf"(?:{_I}work|{_IM}working) in (?P<x>(?:marketing|finance|sales|tech|it|hr|education|healthcare|health care|construction|retail|insurance|advertising|fashion|media|publishing|law|real estate|hospitality|logistics|consulting|engineering|research|accounting|banking|design|film|television|customer service))\b(?! \w+ing)", "{who} works in {x}.", whole=True),
    _rule("job", "profile", 0.85, rf"{_IM}(?P<x>an? (?:[\w-]+ ){{0,3}}?{_WORK}(?: (?:at|for|in|from) {_CAPITAL})?){_END}", "{who} is {x}.", whole=True),
    _rule("age", "profile", 0.9, rf"{_IM}(?P<x>\d{{1,3}} years old)", "{who} is {x}.", whole=True),
    _rule("turned", "event", 0.85, rf"{_I}turned (?P<x>\d{{2}}){_END}", "{who} turned {x}.", whole=True),
    _rule("family", "fact", 0.9, rf"{_LEAD}(?:I {_VERY}have|I've got|I got) (?P<x>{_COUNT} (?:[\w-]+ ){{0,3}}?(?:{_KIN}|{_PET})(?:(?: and|,) {_COUNT} (?:[\w-]+ ){{0,2}}?(?:{_KIN}|{_PET}))*(?:,? (?:named|called) {_NAME}(?:(?:,| and|, and) {_NAME})*)?){_END}", "{who} has {x}.", whole=True),
    _rule("called", "fact", 0.9, rf"{_MY}(?P<what>(?:[\w-]+ )?(?:{_KIN}|{_PET}))(?:'s name is| is called| is named|'s called|s' names are|s are called|s are named) (?P<x>{_NAME}(?:(?:,| and|, and) {_NAME})*){_END}", "{who}'s {what} is called {x}.", whole=True),
    _rule("birthday", "profile", 0.95, rf"{_MY}birthday(?: is|'s) (?:on |in )?(?P<x>{_DAY}){_END}", "{who}'s birthday is {x}.", whole=True),
    _rule("trait", "fact", 0.9, rf"{_IM}(?P<x>{_TRAIT}){_END}", "{who} is {x}.", whole=True),
    _rule("not-eat", "fact", 0.8, rf"{_I}(?:don't|do not) (?P<how>eat|drink|smoke) (?P<x>(?!out|enough|much|well|a|any|anything|the|too|very|like|at)[\w-]+(?: or [\w-]+)?){_END}", "{who} does not {how} {x}.", whole=True),
    _rule("speak", "fact", 0.9, rf"{_I}speak (?P<x>(?:fluent |some |a little |a bit of |both )?{_TONGUE}(?:(?:,| and|, and) (?:some |a little |a bit of )?{_TONGUE})*)", "{who} speaks {x}.", whole=True),
    _rule("play", "fact", 0.85, rf"{_I}play (?P<x>(?:the )?{_PLAYED}(?:(?:,| and|, and) (?:the )?{_PLAYED})*)", "{who} plays {x}.", whole=True),
    _rule("study", "profile", 0.8, rf"(?:{_I}study|{_IM}studying|{_I}major in|{_IM}majoring in) (?P<x>(?!for|hard|abroad|at|with|the|it|this|a|how|to|and|in|on)[\w-]+(?: [\w-]+)??(?: at {_CAPITAL})?){_END}", "{who} studies {x}.", whole=True),
    _rule("graduated", "profile", 0.85, rf"{_LEAD}I(?:'ve| have)? {_VERY}graduated from (?P<x>{_CAPITAL})", "{who} graduated from {x}.", whole=True),
    _rule("status", "profile", 0.85, rf"{_IM}(?P<x>(?:happily )?(?:married|divorced|widowed|retired|pregnant|unemployed|self-employed|engaged(?= to| and| but|[.!?]|$)|single(?= and| but|[.!?]|$))(?: to {_NAME})?){_END}", "{who} is {x}.", whole=True),
    _rule("appointment", "event", 0.75, rf"{_LEAD}(?P<x>(?:I have|I've got|I got) (?:an? |my )(?:[\w'-]+ ){{0,3}}?{_CHORE}(?: (?:with|at|in|for) [\w' -]{{2,30}}?)? {_WHEN}(?: at \d[\d:]*\s?(?:am|pm)?)?)", "{who} said{on}: “{x}.”", whole=True),
    _rule("trip", "event", 0.75, rf"{_LEAD}(?P<x>(?:I'm|I am|We're|We are) (?:going|flying|travell?ing|moving|heading|driving) to {_CAPITAL}(?: with [\w ]{{2,30}}?)? {_WHEN})", "{who} said{on}: “{x}.”", whole=True),
)  # fmt: skip


def statements(text: str, said: Said) -> Iterator[Extracted]:
    """What English sentences of the text state of the speaker, in their order."""
    about = {"who": said.speaker or "The user", "on": f" on {said.day}" if said.day else ""}
    for sentence in _sentences(text.replace("’", "'")):
        cited = [(m.start(), m.end()) for m in _QUOTED.finditer(sentence) if _FIRST_PERSON.search(m[0])]
        for rule in _RULES:
            for found in _matches(rule.pattern, sentence):
                if any(start < found.end("x") and found.start("x") < end for start, end in cited):
                    continue
                phrase = _phrase(rule, sentence, found)
                if phrase is not None and phrase != said.speaker:
                    groups = {name: value or "" for name, value in found.groupdict().items()}
                    text_of = rule.says.format_map(groups | about | {"x": phrase})
                    yield Extracted(rule.kind, text_of, rule.name, rule.confidence)


def _matches(pattern: re.Pattern[str], sentence: str) -> Iterator[re.Match[str]]:
    """Every match, also one within the phrase of another: a sentence says more than one thing."""
    found = pattern.search(sentence)
    while found is not None:
        yield found
        found = pattern.search(sentence, max(found.start("x"), found.start() + 1))


def _sentences(text: str) -> Iterator[str]:
    """Sentences that state something; of one that ends in a question, the part before the question."""
    for found in _SENTENCE.finditer(text):
        sentence = found[0].strip()
        if len(sentence) > MOST_OF_A_SENTENCE:
            continue
        if sentence.endswith("?") or sentence.rstrip(".!…").endswith("?"):
            sentence = _before_question(sentence)
        if sentence and _SELF.search(sentence):
            yield sentence.rstrip(".!…")


def _before_question(sentence: str) -> str:
    for cut in reversed(list(re.finditer(r"[,;–—]\s*|\s-+\s+|\band (?=you|what|how)", sentence))):
        if _ASKS.match(sentence[cut.end() :]):
            before = sentence[: cut.start()].strip()
            return "" if _ASKS.match(before) else before
    return ""


def _phrase(rule: _Rule, sentence: str, found: re.Match[str]) -> str | None:
    """What the rule captured, cut, checked and in the third person; None if it does not hold by itself."""
    raw = found["x"]
    begin = found.start("x")
    if _BARRED_BEFORE.search(sentence[:begin]) or _CONDITION.search(sentence):
        return None
    if rule.whole:
        plain = rule.kind == "event" and raw[:1].upper() in ("I", "W") and raw[1:2] in (" ", "'", "e")
        return raw.strip(" ,") if plain or not _UNRESOLVED.search(raw) else None
    phrase = _cut(raw)
    if not _stands(phrase) or (rule.kind == "preference" and _EMPTY_START.match(phrase)):
        return None
    return re.sub(r"\b(?:my|our|me|us|mine|myself)\b", lambda m: _THEIRS[m[0].lower()], phrase, flags=re.IGNORECASE)


def _stands(phrase: str) -> bool:
    """Whether a phrase says by itself what is meant."""
    if len(phrase.split()) > 12 or not 3 <= len(phrase) <= 90:
        return False
    if _UNRESOLVED.search(phrase) or _BARRED_BEFORE.search(phrase):
        return False
    return not re.match("the ", phrase, re.IGNORECASE) or _WITH_THE.match(phrase) is not None


def _cut(rest: str) -> str:
    """The phrase at the beginning of `rest`: to the end of its clause, with a list kept whole."""
    end = _CLAUSE_END.search(rest)
    items = (rest[: end.start()] if end else rest).split(", ")
    kept = [items[0]]
    for place, item in enumerate(items[1:], 1):
        if _LIST_STOP.match(item) or len(item.split()) > 6:
            break
        if re.match(r"(?:and|or) ", item):
            kept = items[: place + 1]
            break
        if len(item.split()) > 3:
            break
    phrase = ", ".join(kept).strip(" ,'\"“”")
    while (shorter := _FILLER.sub("", phrase).strip(" ,")) != phrase:
        phrase = shorter
    return phrase
