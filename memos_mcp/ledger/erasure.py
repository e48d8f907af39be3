"""Deletes what is kept beside memories, wherever it is: the one list that a new table joins.

Knows neither memories nor their texts: only their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete

from memos_mcp.ledger import (
    adapters,
    channels,
    claims,
    contexts,
    feedback,
    figures,
    graph,
    kept_states,
    packed,
    proposals,
    reviews,
    steerings,
    tiers,
    transitions,
    unsummarised,
    vectors,
)
from memos_mcp.ledger.schema import grants, usage, versions

_BESIDE = (
    packed.erase, kept_states.erase, steerings.drop, vectors.erase, graph.erase, contexts.erase, figures.erase,
    tiers.erase, proposals.erase, reviews.erase, transitions.erase, unsummarised.erase, channels.erase, claims.erase,
    feedback.erase, adapters.erase,
)  # fmt: skip
"""In this order: packs are opened while the rest is there."""
_PART = 500


def erase_beside(connection: Connection, seqs: Sequence[int]) -> None:
    """Delete what is kept of these memories beside their rows, words, links and metadata: former versions, packs,
    vectors, states, names, use, grants, places in prompts and channels, proposals, and what followed them.
    """
    for erase in _BESIDE:
        erase(connection, seqs)
    for start in range(0, len(seqs), _PART):
        part = list(seqs[start : start + _PART])
        for table in (versions, usage, grants):
            connection.execute(delete(table).where(table.c.cube.in_(part)))
