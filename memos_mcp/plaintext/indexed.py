"""What the index holds of a memory beside its words: whose it is, who speaks, when, and whether it asks.

Knows nothing of how it is kept. Each mark is a token that no word of a text can be, so that full text can look it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from memos_mcp.cube import TEXTLESS, Snapshot
from memos_mcp.plaintext import dates
from memos_mcp.plaintext.analysis import day_tokens, tokens

FORM = "2"
"""Grows when the same memory is indexed otherwise; a store whose full text has another form is indexed anew."""
MOST_DAYS = 8
"""Dates kept of those that a memory mentions."""
MOST_SLACK = 3
"""Days that a kept date may be off: what happened recently happened on no day."""
_SPACE, _SPEAKER, _ASKS, _TIMED, _DAYS = _MARKS = "§", "@", "?", "~", "#"


@dataclass(frozen=True)
class Indexed:
    """An indexed memory as read back.

    `speaker` is the speaker's name as tokens joined by `_`, or empty; `asks`: it ends as a question; `timed`: it tells
    a time; `days` are the ranges of days (ordinals, both inclusive) that it mentions; `words` are its tokens, in order.
    """

    speaker: str
    asks: bool
    timed: bool
    days: tuple[tuple[int, int], ...]
    words: list[str]


def indexed_text(space: int, snapshot: Snapshot, created: str) -> str:
    """The marks and words of a memory, parted by spaces; none of what is not to be found by words."""
    if snapshot.kind in TEXTLESS:
        return ""
    moment = snapshot.valid_from or created
    name = tokens(snapshot.name or "")
    marks = [scope_token(space)]
    if name:
        marks.append(_SPEAKER + "_".join(name))
    if snapshot.content.rstrip().endswith(("?", "？")):
        marks.append(_ASKS)
    if dates.time_phrase(snapshot.content):
        marks.append(_TIMED)
    spans = dates.mentions(snapshot.content, date.fromisoformat(moment[:10]))
    sure = [span for span in spans if span.slack <= MOST_SLACK][:MOST_DAYS]
    marks += [f"{_DAYS}{span.first.toordinal()}-{span.last.toordinal()}" for span in sure]
    words = [*day_tokens(moment), *name, *tokens(snapshot.content)]
    return " ".join(marks + words + [token for tag in snapshot.tags for token in tokens(tag)])


def scope_token(space: int) -> str:
    """The token that stands for a space."""
    return f"{_SPACE}{space}"


def read_back(text: str) -> Indexed:
    """The inverse of `indexed_text`, but for the space; of a former form, without the marks that it did not have."""
    parts = text.split()
    speaker, asks, timed, days, first = "", False, False, list[tuple[int, int]](), 0
    for first, part in enumerate(parts):  # noqa: B007 - where the words begin
        mark = part[0]
        if mark not in _MARKS:
            break
        if mark == _SPEAKER:
            speaker = part[1:]
        elif mark == _ASKS:
            asks = True
        elif mark == _TIMED:
            timed = True
        elif mark == _DAYS:
            begin, _, end = part[1:].partition("-")
            days.append((int(begin), int(end)))
    return Indexed(speaker, asks, timed, tuple(days), parts[first:])
