"""Reads what a short text claims, in whichever of the languages it is.

Knows no rules: they are in `english` and `chinese`.
"""

from __future__ import annotations

from memos_mcp.claims import chinese, english
from memos_mcp.claims.claim import NOTHING, SELF, Reading
from memos_mcp.claims.words import MOST_CHARS, is_han


def read(text: str, speaker: str | None = None) -> Reading:
    """What a text of a statement or two claims; nothing of a longer one.

    `speaker`: whose words they are, by name; None for the person whose memory it is.
    """
    if len(text) > MOST_CHARS:
        return NOTHING
    who = speaker.casefold().strip() if speaker and speaker.strip() else SELF
    return chinese.read(text, who) if is_han(text) else english.read(text, who)
