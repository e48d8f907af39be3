"""Measures how far a model can know the language of a text, from how its tokenizer cuts the text.

Knows no model. What was learnt cannot be seen from outside; but a script that a tokenizer knows only as unknown tokens,
single letters or bytes was not learnt to any use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

LEAST = 0.15
"""Weight of meaning for a text that the model does not know, as measured for the built-in embedder."""
MOST_CHARACTERS = 1_000
KNOWN_IDEOGRAPHS = 0.9
"""Share of PROBE that a model for Chinese knows. The English BERT vocabulary holds a third: enough to cut a question
into known tokens here and there, never enough to understand it."""
PROBE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面"
    "起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文"
    "体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别"
)
"""The commonest Chinese characters."""
_MARKS = "▁Ġ"
"""What tokenizers write for a space."""


Piece = tuple[str, int, int]
"""A token as it is written, and the part of the text that it stands for; an unknown one is written as ''."""


class Familiarity:
    """How far the texts that `cut` cuts are known: `cut(text)` gives all tokens that stand for a part of the text."""

    def __init__(self, cut: Callable[[str], Sequence[Piece]]) -> None:
        self._cut = cut
        known = sum(end - start for start, end in _whole(cut(PROBE)))
        self._ideographs = known >= KNOWN_IDEOGRAPHS * len(PROBE)

    def of(self, text: str) -> float:
        """The share of the letters of `text` that are known, LEAST to 1; 1 for a text without letters."""
        text = text[:MOST_CHARACTERS]
        letters = [place for place, char in enumerate(text) if char.isalpha()]
        if not letters:
            return 1.0
        telling = [span for span in _whole(self._cut(text)) if self._tells(text, *span)]
        known = {place for start, end in telling for place in range(start, end)}
        return max(LEAST, sum(place in known for place in letters) / len(letters))

    def _tells(self, text: str, start: int, end: int) -> bool:
        """Whether a token of this part of the text can carry meaning: more than a letter, or a word of one."""
        if end - start != 1:
            return True
        if is_ideograph(text[start]):
            return self._ideographs
        before = start > 0 and text[start - 1].isalpha()
        return not (before or text[end : end + 1].isalpha())


def _whole(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """The parts of the text that are one known token; where there are several, a letter is spelt in bytes."""
    written = [piece for piece in pieces if not piece[0] or piece[0].strip(_MARKS)]
    times = Counter(place for _, start, end in written for place in range(start, end))
    return [(start, end) for token, start, end in written if token and times[start] == 1]


def is_ideograph(char: str) -> bool:
    """Whether the character is a Chinese one, which is a word of its own."""
    return "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0003ffff"
