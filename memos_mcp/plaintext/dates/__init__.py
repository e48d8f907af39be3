"""Reads the days that a text speaks of, in English and Chinese: `mentions`, `time_phrase`, `is_temporal_question`.

Knows nothing of storage, of search or of the present day: what a phrase is seen from is an argument.
"""

from memos_mcp.plaintext.dates.questions import is_temporal_question
from memos_mcp.plaintext.dates.reading import MAX_CHARACTERS, MAX_MENTIONS, Span, mentions, time_phrase

__all__ = ["MAX_CHARACTERS", "MAX_MENTIONS", "Span", "is_temporal_question", "mentions", "time_phrase"]
