"""Reads names, and what is said of two of them, from text in scripts that have capital letters.

Knows English words; of other languages only the capitals. A word that begins a sentence is a name only when something
beside its capital says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from memos_mcp.entities.naming import Named, Span, Stated, clean_name, key_of, wordset

_WORD = re.compile(r"[^\W_](?:[\w'’&+-]*[\w+])?|\n+|[^\w\s]")
_QUOTED = re.compile(r"[\"“]([^\"“”\n]{2,80})[\"”]")
_LINKING = frozenset(("of", "de", "da", "van", "von", "del", "la", "bin", "al"))
_ABBREVIATED = frozenset(("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Jr", "Sr"))
_ENDS = frozenset(".!?…:;\n")
_OPENS = frozenset("\"“‘'(-*•[>#|")
_TITLES = wordset("mr mrs ms miss dr prof professor sir lady aunt uncle auntie grandma grandpa captain")
_KIN = wordset(
    "mother father mom mum dad sister brother son daughter wife husband partner girlfriend boyfriend fiance fiancee "
    "aunt uncle cousin niece nephew grandmother grandfather friend colleague boss manager neighbour neighbor teacher "
    "doctor roommate flatmate coach mentor assistant therapist dog cat"
)
_PLACES = wordset(
    "street avenue road park lake river city town village beach mountain mountains island islands square station "
    "airport county bridge valley bay hill hills falls forest desert ocean sea peninsula coast harbor harbour"
)
_ORGANISATIONS = wordset(
    "inc corp ltd llc gmbh plc co company corporation university college school academy hospital clinic bank church "
    "museum foundation institute institution agency club society association team studio studios lab labs press "
    "department ministry committee union"
)
_BEFORE_A_PLACE = re.compile(
    r"\b(?:liv(?:e|es|ed|ing) in|moved? (?:back )?to|born in|based in|fl[ey]w? to|trip to|travel\w* to"
    r"|visit(?:ed|ing|s)?|vacation in|holiday in|city of|went to|is from)$"
)
_BEFORE_AN_ORGANISATION = re.compile(r"\b(?:work(?:s|ed|ing)? (?:at|for)|join(?:ed|s|ing)|employed by|intern at)$")
_ACTS = wordset(
    "is was has had will would can could and or does did said says told asked likes loves lives works wants went owns "
    "prefers plays moved met knows thinks thought hates needs uses runs wrote reads got makes made took bought visited "
    "called came comes goes gave started joined studies studied teaches teaches leads manages became seems"
)
_DOES = re.compile(
    r" [a-z]{2,}(?:[^\Wsu]s|ed) (?:at|in|to|with|for|from|about|a|an|the|his|her|their|that|it|him|my|our|[A-Z])"
)
"""A verb by its ending and by what follows it."""
_PERSON_ACTS = wordset(
    "said says told asked likes loves lives works wants thinks thought hates prefers met knows moved studied studies "
    "teaches wrote"
)
_ROLES = wordset(
    "ceo cto cfo coo vp head director president founder cofounder mayor king queen owner author capital captain leader "
    "member chair editor singer drummer secretary minister"
)
_NEVER = wordset(
    "i i'm i'd i'll i've he she it we you they me him them us hey hi hello oh ok okay wow yeah yes thanks thank bye "
    "am pm monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri sat sun january "
    "february march april june july august september october november december jan feb mar apr jun jul aug sep sept "
    "oct nov dec"
)
"""Words that are no part of a name, wherever they stand."""
_NO_NAMES = _NEVER | _ROLES | wordset(
    "i a an the this that these those my your his her its our their he she it we you they me him them us what which "
    "who whom whose when where why how all any both each every few many more most much no none not nothing now of "
    "off oh ok okay on once one only or other out over so some such than thank thanks then there though to today "
    "tomorrow tonight too two under until up upon very was well were wow yeah yes yep yesterday yet and are as at "
    "am be because been before being below between but by can could did do does done don down for from get got good "
    "great had has have hello hey hi if im in into is just let lets like look make may maybe might must never next "
    "nice please really same see shall should since sorry still sure take tell that's there's what's it's i'm i'd "
    "i'll i've we're we've you're they're he's she's will with would congrats congratulations absolutely actually "
    "also always anyway awesome cool definitely especially everyone everything exactly finally first hopefully "
    "however indeed last lately later luckily meanwhile nobody plus recently someone something sometimes speaking "
    "totally usually while after again during even ever according another around away back user assistant system ai "
    "mr mrs ms dr prof user's step note image photo chapter section part page http https here bye goodbye woah whoa "
    "ooh aww haha lol btw omg fyi asap diy tbh imo life nature art family dance love books book music painting "
    "creativity food home work school time money health sleep coffee tea water lots yoga basketball kids people "
    "friends you've they've he'd she'd they'd you'd you'll we'll they'll don't doesn't didn't can't couldn't won't "
    "isn't aren't wasn't haven't hasn't sounds glad keep enjoy"
)
_ARTICLE = r"(?: (?:the|a|an|his|her|their|my|our))?"
_ADVERB = r"(?: (?:now|also|still|recently|just|currently|really|once))?"
_VERBS: tuple[tuple[str, str], ...] = (
    (r"(?:works|worked|is working|was working|has worked) (?:at|for|with)", "works at"),
    (r"(?:lives|lived|is living|was living|stays) in", "lives in"),
    (r"(?:moved|has moved|is moving|moves) (?:back )?to", "moved to"),
    (r"(?:is|was|comes|came) from", "is from"),
    (r"was born in", "was born in"),
    (r"(?:(?:is|was|got) married to|married)", "married to"),
    (r"(?:is|was|got) engaged to", "engaged to"),
    (r"(?:is|was|became) (?:best |good |close )?friends with", "friends with"),
    (r"(?:studies|studied|is studying) (?:at|in)", "studied at"),
    (r"(?:report|reports|reported) to", "reports to"),
)
_PLAIN_VERBS = (
    "likes loves owns knows met founded joined visited leads manages teaches bought adopted plays speaks uses prefers "
    "hates attended wrote read sold hired"
)
_BETWEEN = tuple((re.compile(f"{_ADVERB} {verb}{_ARTICLE} "), relation) for verb, relation in _VERBS)
_PLAIN = re.compile(f"{_ADVERB} ({_PLAIN_VERBS.replace(' ', '|')}){_ARTICLE} ")
_ROLE_OF = re.compile(r" (?:is|was|became) (?:the |a |an )?((?:[a-zA-Z]+ ){0,2}[a-zA-Z]+) (of|at)(?: the)? ")
_IS = re.compile(r",? (?:is|was) ")
_THEIR = re.compile(r"['’]s? ((?:[a-z]+ )?[a-z]+)")
_OWNED = re.compile(r"['’]s? ((?:[a-z]+ )?[a-z]+)(?:,| is| was)? ")
_MINE = re.compile(r"\b[Mm]y ((?:[a-z]+ )?[a-z]+),? $")
_SELF = tuple(
    (re.compile(rf"\bI(?:'m|’m| am|'ve|’ve| have)?{_ADVERB} {verb}{_ARTICLE} $"), relation)
    for verb, relation in (
        (r"(?:work|worked|working) (?:at|for)", "works at"), (r"(?:live|lived|living) in", "lives in"),
        (r"(?:move|moved|moving) (?:back )?to", "moved to"), (r"from", "is from"), (r"was born in", "was born in"),
        (r"(?:married|engaged) to", "married to"), (r"(?:study|studied|studying) at", "studied at"),
        (r"(?:like)", "likes"), (r"(?:love)", "loves"), (r"(?:own)", "owns"), (r"met", "met"),
        (r"(?:visit|visited)", "visited"), (r"joined", "joined"), (r"adopted", "adopted"), (r"bought", "bought"),
    )
)  # fmt: skip
_REACH = 60
"""Characters between two names beyond which nothing is read of them."""


def read(text: str, speaker: str | None) -> tuple[list[Named], list[Stated]]:
    """Names in the text in order, and what is said of two that stand next to each other."""
    spans = _spans(text)
    return [span.named for span in spans], _stated(text, spans, speaker)


def kind_of(name: str) -> str | None:
    """What the words of a name alone say of it; None when they say nothing."""
    words = name.casefold().split()
    if not words:
        return None
    if words[0].rstrip(".") in _TITLES and len(words) > 1:
        return "person"
    if words[-1].rstrip(".") in _ORGANISATIONS or (len(words) > 2 and words[0] in _ORGANISATIONS and words[1] == "of"):
        return "organisation"
    return "place" if words[-1] in _PLACES and len(words) > 1 else None


def _spans(text: str) -> list[Span]:
    found = [Span(m.start(1), m.end(1), Named(name, "work")) for m in _QUOTED.finditer(text)
             if (name := clean_name(m[1])) and name[0].isupper() and len(name.split()) <= 8
             and not _is_no_name(name)]  # fmt: skip
    quoted = [(span.start, span.end) for span in found]
    words = list(_WORD.finditer(text))
    if _shouted(text):
        return found
    for first, last, at_start in _runs(text, words):
        span = _named(text, words, first, last, at_start)
        if span is not None and not any(start <= span.start < end for start, end in quoted):
            found.append(span)
    return sorted(found, key=lambda span: span.start)


def _shouted(text: str) -> bool:
    """Whether capitals say nothing, because nearly all letters are capitals."""
    letters = [char for char in text[:2_000] if char.isalpha() and char.upper() != char.lower()]
    return len(letters) > 20 and sum(char.isupper() for char in letters) > 0.5 * len(letters)


def _runs(text: str, words: Sequence[re.Match[str]]) -> Iterator[tuple[int, int, bool]]:
    """Runs of capitalised words as (first, last, whether it begins a sentence), by place among the words."""
    place, begins = 0, True
    while place < len(words):
        word = words[place][0]
        if not word[0].isupper():
            begins = word[0] in _ENDS or (begins and word[0] in _OPENS) or (word in "\"“(" and begins)
            place += 1
            continue
        last = _run_end(text, words, place)
        yield place, last, begins
        begins, place = False, last + 1


def _run_end(text: str, words: Sequence[re.Match[str]], first: int) -> int:
    last = first
    while True:
        if words[last][0].endswith(("'s", "’s")):
            return last
        abbreviated = words[last][0] in _ABBREVIATED and _is(words, last + 1, ".")
        step = 2 if abbreviated or _links(words, last) else 1
        following = last + step
        if following >= len(words) or not words[following][0][0].isupper():
            return last
        gap = text[words[last].end() : words[following].start()]
        if len(gap) > 6 or "\n" in gap or (step == 1 and gap != " "):
            return last
        last = following


def _links(words: Sequence[re.Match[str]], last: int) -> bool:
    """Whether a small word joins what stands before and after it into one name; a role is no part of one."""
    capital = last + 2 < len(words) and words[last + 2][0][0].isupper()
    return capital and _is(words, last + 1, *_LINKING) and words[last][0].casefold() not in _ROLES


def _is(words: Sequence[re.Match[str]], place: int, *wanted: str) -> bool:
    return place < len(words) and words[place][0] in wanted


def _named(text: str, words: Sequence[re.Match[str]], first: int, last: int, at_start: bool) -> Span | None:
    """The name that a run of capitalised words holds, if it holds one."""
    begins, last = _trimmed(words, first, last, _NO_NAMES if at_start or first == last else _NEVER)
    if begins > last:
        return None
    following = words[last + 1][0] if last + 1 < len(words) else ""
    if at_start and begins == first == last and not _sure(text, words[first], following):
        return None
    first = begins
    start, end = words[first].start(), words[last].end()
    if words[last][0].endswith(("'s", "’s")):
        end -= 2
    name = clean_name(text[start:end])
    if len(name) < 2 or not key_of(name):
        return None
    return Span(start, end, Named(name, _kind_here(text, name, start, following)))


def _trimmed(
    words: Sequence[re.Match[str]], first: int, last: int, no_names: frozenset[str]
) -> tuple[int, int]:
    """The run without the words at its ends that are no part of a name."""
    while first <= last and (_is_one_of(no_names, words[first][0]) or not words[first][0][0].isupper()):
        if words[first][0] in _ABBREVIATED and first < last:
            break
        first += 1
    while last >= first and _is_one_of(no_names, words[last][0]):
        last -= 1
    return first, last


def _is_no_name(word: str) -> bool:
    return _is_one_of(_NO_NAMES, word)


def _is_one_of(known: frozenset[str], word: str) -> bool:
    plain = word.casefold().replace("’", "'")
    return plain in known or plain.removesuffix("'s") in known


def _sure(text: str, match: re.Match[str], following: str) -> bool:
    """Whether a word that begins a sentence is a name beyond its capital letter."""
    word = match[0]
    if word.endswith(("'s", "’s")) or any(char.isupper() for char in word[1:]):
        return not _is_no_name(word)
    if word.endswith("ing") or len(word) < 3:
        return False
    if following in _ACTS or _DOES.match(text, match.end()):
        return True
    return re.search(rf"[\w,;] {re.escape(word)}\b", text) is not None


def _kind_here(text: str, name: str, start: int, following: str) -> str:
    """What a name is, by its words and by those around it."""
    own = kind_of(name)
    if own is not None:
        return own
    before = text[max(0, start - 40) : start].removesuffix("the ").rstrip().casefold()
    if _BEFORE_A_PLACE.search(before):
        return "place"
    if _BEFORE_AN_ORGANISATION.search(before):
        return "organisation"
    word = before.rpartition(" ")[2].strip(",")
    return "person" if word in _KIN or word in _TITLES or following in _PERSON_ACTS else "thing"


def _stated(text: str, spans: Sequence[Span], speaker: str | None) -> list[Stated]:
    found = list[Stated]()
    for left, right in pairwise(spans):
        gap = text[left.end : right.start]
        if len(gap) <= _REACH and not any(end in gap for end in ".!?\n"):
            found += _between(text, left, right, gap)
    for span in spans if speaker is not None else ():
        found += _of_speaker(text[max(0, span.start - _REACH) : span.start], str(speaker), span.named.name)
    return [one for one in found if key_of(one.subject) != key_of(one.object)]


def _between(text: str, left: Span, right: Span, gap: str) -> Iterator[Stated]:
    a, b = left.named.name, right.named.name
    for pattern, relation in _BETWEEN:
        if pattern.fullmatch(gap):
            yield Stated(a, relation, b)
            return
    if plain := _PLAIN.fullmatch(gap):
        yield Stated(a, plain[1], b)
    elif (role := _ROLE_OF.fullmatch(gap)) and len(role[1]) > 2:
        yield Stated(a, f"{role[1]} {role[2]}", b)
    elif _IS.fullmatch(gap) and (their := _THEIR.match(text, right.end)) and _is_role(their[1]):
        yield Stated(a, f"{their[1]} of", b)
    elif (owned := _OWNED.fullmatch(gap)) and _is_role(owned[1]):
        yield Stated(b, f"{owned[1]} of", a)


def _is_role(words: str) -> bool:
    return words.rpartition(" ")[2] in _KIN | _ROLES


def _of_speaker(before: str, speaker: str, name: str) -> Iterator[Stated]:
    for pattern, relation in _SELF:
        if pattern.search(before):
            yield Stated(speaker, relation, name)
            return
    if (mine := _MINE.search(before)) and mine[1].rpartition(" ")[2] in _KIN:
        yield Stated(name, f"{mine[1].rpartition(' ')[2]} of", speaker)
