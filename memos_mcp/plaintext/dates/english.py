"""How English says days: every rule, and the words beside a date that narrow or blur it.

Knows nothing of what the rules mean; their two modules say it.
"""

from __future__ import annotations

import re

from memos_mcp.plaintext.dates import english_absolute, english_relative
from memos_mcp.plaintext.dates.english_words import is_amount
from memos_mcp.plaintext.dates.rules import table

__all__ = ["LEANING", "NARROWING", "QUALIFIER", "TABLE", "is_amount"]

QUALIFIER = re.compile(
    r"(?:\b(?P<way>around|about|approximately|circa|roughly|sometime(?:\s(?:in|around))?|early|mid|late|(?:the\s)?"
    r"(?:beginning|start|middle|end)(?=\sof\s))(?:\s(?:in|of|on))?[\s-]{1,2}(?:the\s)?)\Z", re.A | re.I)  # fmt: skip
"""Stands right before a phrase and blurs or narrows its days."""
NARROWING = {"early": "early", "beginning": "early", "start": "early", "mid": "mid", "middle": "mid", "late": "late",
             "end": "late"}  # fmt: skip
"""The part that a qualifier's last word leaves; the others blur."""
LEANING = re.compile(r",?\s{1,3}(before|prior to|on|as of|in)\s{1,3}(?:the\s)?", re.A | re.I)
"""Between a relative phrase and the date that it is seen from."""
TABLE = table(english_relative.RULES + english_absolute.RULES)
