"""Makes one text of several memories: sentences in the order of time, each said once, contradictions marked.

Knows no ledger; what contradicts what is asked of a function that it is given. Nothing is dropped but what another
memory says in the same words, up to articles, fillers, contractions and punctuation: two sentences that differ in a
number, a name or a negation are two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from memos_mcp.operators.sentences import sentences

Contradicts = Callable[[str, str], bool]
"""Whether of two sentences, the earlier first, both cannot be true at one time."""

MOST_COMPARED = 200
"""Sentences that are compared with each other for contradictions; those of longer texts are the latest ones."""
MOST_MARKED = 200
"""Characters of a sentence that a mark repeats."""
_CHINESE = re.compile("[\u3400-\u9fff]")
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)?(?:[.,:/-][^\W_]+)*")
_FILLERS = frozenset(
    ("a", "an", "the", "also", "too", "just", "really", "well", "so", "please", "oh", "actually", "indeed")
)
_CHINESE_FILLERS = re.compile("其实|真的|[的也就呢吧啊呀哦嗯]")
_CONTRACTED = (
    (re.compile(r"\bcan['’]?t\b|\bcannot\b"), "can not"),
    (re.compile(r"\bwon['’]t\b"), "will not"),
    (re.compile(r"n['’]t\b"), " not"),
    (re.compile(r"['’]m\b"), " am"),
    (re.compile(r"['’]re\b"), " are"),
    (re.compile(r"['’]ve\b"), " have"),
    (re.compile(r"['’]ll\b"), " will"),
)
_MARK = re.compile(r"^(?:\[Contradiction: |【矛盾：)")
_HEADING = re.compile(r"^#{1,6}\s")


@dataclass(frozen=True)
class Said:
    """A memory to be fused: its text, when it became true (ISO 8601), and its `origin`.

    Memories of one origin are parts of one text: between them nothing is a repetition.
    """

    text: str
    time: str
    origin: str


@dataclass
class _Sentence:
    """A sentence in its place: `memory` is the place of the memory that it is of, `key` what it says."""

    text: str
    memory: int
    key: tuple[str, ...]
    kept: bool = True
    against: list[_Sentence] = field(default_factory=list)


def fused(said: Sequence[Said], contradicts: Contradicts) -> str:
    """The memories as one text; the same for the same memories in whatever order of equal times they are given.

    Between memories of one time the given order holds. What is said again stands where it was said first, unless
    something in between contradicts it: then where it was said last, for it is true again.
    """
    ordered = [said[i] for i in sorted(range(len(said)), key=lambda i: (said[i].time, i))]
    parted = [
        [_Sentence(text, place, _key(text)) for text in sentences(one.text)] for place, one in enumerate(ordered)
    ]
    every = [sentence for memory in parted for sentence in memory]
    against = _contradictions(every, ordered, contradicts)
    _say_once(every, ordered, against)
    for earlier, later in against:
        if earlier.kept and later.kept:
            later.against.append(earlier)
    blocks = [_block(memory, ordered) for memory in parted]
    return _joined([block for block in blocks if block])


def words(text: str) -> tuple[str, ...]:
    """What a text says, as the words by which two sentences are compared; numbers and negations are among them."""
    return _key(text)


def _key(text: str) -> tuple[str, ...]:
    """Of a heading, a mark or an empty line nothing: they are no statements and are never a repetition."""
    plain = text.strip()
    if not plain or _HEADING.match(plain) or _MARK.match(plain):
        return ()
    folded = unicodedata.normalize("NFKC", plain).casefold()
    if "'" in folded or "’" in folded or "cannot" in folded or "cant" in folded:
        for pattern, full in _CONTRACTED:
            folded = pattern.sub(full, folded)
    folded = _CHINESE_FILLERS.sub("", folded) if _CHINESE.search(folded) else folded
    found = tuple(word for word in _WORD.findall(folded) if word not in _FILLERS)
    ends = ("?",) if re.search(r"[?？]\W*$", plain) else ()  # a question is no statement of the same words
    return (*found, *ends) if len(found) >= 2 else ()


def _contradictions(
    every: Sequence[_Sentence], said: Sequence[Said], contradicts: Contradicts
) -> list[tuple[_Sentence, _Sentence]]:
    """Pairs of sentences of different origins, the earlier first."""
    stated = [sentence for sentence in every if sentence.key][-MOST_COMPARED:]
    return [
        (earlier, later)
        for place, later in enumerate(stated)
        for earlier in stated[:place]
        if said[earlier.memory].origin != said[later.memory].origin
        and earlier.key != later.key
        and contradicts(earlier.text.strip(), later.text.strip())
    ]


def _say_once(
    every: Sequence[_Sentence], said: Sequence[Said], against: Sequence[tuple[_Sentence, _Sentence]]
) -> None:
    """Mark what another memory says as not kept."""
    places = {id(sentence): place for place, sentence in enumerate(every)}
    opposing: dict[tuple[str, ...], list[int]] = {}
    for earlier, later in against:
        opposing.setdefault(earlier.key, []).append(places[id(later)])
    standing: dict[tuple[str, ...], _Sentence] = {}
    for place, sentence in enumerate(every):
        first = standing.setdefault(sentence.key, sentence) if sentence.key else sentence
        if first is sentence or said[first.memory].origin == said[sentence.memory].origin:
            continue
        between = any(places[id(first)] < at < place for at in opposing.get(sentence.key, ()))
        (first if between else sentence).kept = False
        if between:
            standing[sentence.key] = sentence


def _block(memory: Sequence[_Sentence], said: Sequence[Said]) -> str:
    """What is left of one memory, with the marks behind its lines; nothing if only headings are left of it."""
    if not all(sentence.kept for sentence in memory) and not any(_says_more(sentence) for sentence in memory):
        return ""
    found, waiting = "", list[str]()
    for sentence in memory:
        if not sentence.kept:
            found = _ended_alike(found, sentence.text)
            continue
        found += sentence.text
        waiting += [_mark(one, sentence, said) for one in sentence.against]
        if waiting and "\n" in sentence.text:
            space = sentence.text[len(sentence.text.rstrip()) :]
            found, waiting = found.rstrip() + "\n" + "\n".join(waiting) + space, []
    found = found.strip("\n").rstrip()
    return "\n".join([found, *waiting]) if waiting else found


def _says_more(sentence: _Sentence) -> bool:
    """Whether a sentence is kept and is no mere heading."""
    plain = sentence.text.strip()
    return sentence.kept and bool(plain) and not _HEADING.match(plain)


def _ended_alike(before: str, left_out: str) -> str:
    """What stands before a sentence that is left out, with the line end that it had."""
    if "\n" not in left_out or not before or before.endswith("\n"):
        return before
    return before.rstrip() + left_out[len(left_out.rstrip()) :]


def _mark(earlier: _Sentence, later: _Sentence, said: Sequence[Said]) -> str:
    first, second = (_cited(one.text) for one in (earlier, later))
    days = said[earlier.memory].time[:10], said[later.memory].time[:10]
    if _CHINESE.search(later.text):
        return f"【矛盾：“{first}”（{days[0]}）与“{second}”（{days[1]}）】"
    return f'[Contradiction: "{first}" ({days[0]}) and "{second}" ({days[1]})]'


def _cited(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_MARKED else line[: MOST_MARKED - 1] + "…"


def _joined(blocks: Sequence[str]) -> str:
    """A line each; with an empty line between them where one has several."""
    parted = any("\n" in block and not _MARK.match(block.partition("\n")[2]) for block in blocks)
    return ("\n\n" if parted else "\n").join(blocks)
