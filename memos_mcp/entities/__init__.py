"""People, places and things that memories name, and how they hang together, taken from the text by rules.

Knows no ledger: a memory's snapshot goes in, names and relations come out, the same ones every time. No model is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from memos_mcp.cube import TEXTLESS, Snapshot
from memos_mcp.entities import han, latin
from memos_mcp.entities.naming import Named, Stated, key_of
from memos_mcp.entities.triples import Triple

RULES = 2
"""Raised with every change of the rules, so that what older ones found is found anew."""
READ = 20_000
"""Characters of a memory that are read; a longer text names its people early."""
MOST_NAMES = 60
MOST_STATED = 60


@dataclass(frozen=True)
class Found:
    """What a memory names, each once, and what it states of these names."""

    names: tuple[Named, ...]
    stated: tuple[Stated, ...]


def found_in(snapshot: Snapshot) -> Found:
    """What the memory's text, speaker, tags and triple name and state."""
    if snapshot.kind in TEXTLESS:
        return Found((), ())
    speaker = _speaker(snapshot)
    text = snapshot.content[:READ]
    triple = Triple.of(snapshot.metadata)
    names, stated = list[Named](), list[Stated]()
    if speaker is not None:
        names.append(Named(speaker, "person"))
    if triple is not None:
        names += [Named(triple.subject, _kind(triple.subject)), Named(triple.object, _kind(triple.object))]
        stated.append(Stated(triple.subject, triple.relation, triple.object, triple.since, triple.until))
    else:
        for reader in (latin, han):
            more, said = reader.read(text, speaker)
            names += more
            stated += said
    names += [Named(tag, "topic") for tag in snapshot.tags]
    return Found(_each_once(names), tuple(dict.fromkeys(stated))[:MOST_STATED])


def _speaker(snapshot: Snapshot) -> str | None:
    name = snapshot.name
    return name if name is not None and key_of(name) not in ("user", "assistant", "system", "tool", "ai", "") else None


def _kind(name: str) -> str:
    """What a name is by its own words, as far as they tell."""
    return latin.kind_of(name) or han.kind_of(name) or "thing"


def _each_once(names: list[Named]) -> tuple[Named, ...]:
    """Each key once, under the name and with the kind that says most."""
    kept: dict[str, Named] = {}
    for named in names:
        key = key_of(named.name)
        if not key:
            continue
        held = kept.get(key)
        if held is None or (held.kind in ("thing", "topic") and named.kind not in ("thing", "topic")):
            kept[key] = named
    return tuple(kept.values())[:MOST_NAMES]
