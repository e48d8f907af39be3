"""What a name is, apart from any text: its kinds, and the key under which two ways of writing it are one.

Knows no language's grammar.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

KINDS = ("person", "place", "organisation", "work", "topic", "thing")
MAX_NAME = 200
"""Characters of a name."""
_POSSESSIVE = re.compile(r"['’]s?$")
_EDGES = " \t\n.,;:!?\"“”‘’'()[]{}<>《》「」『』。，；：！？…*_`#"


@dataclass(frozen=True)
class Named:
    """Somebody or something that a memory names; `kind` is one of KINDS."""

    name: str
    kind: str


@dataclass(frozen=True)
class Stated:
    """That one name stands in a relation to another, as a memory says; times as the ledger writes them."""

    subject: str
    relation: str
    object: str
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Span:
    """Where in a text a name stands."""

    start: int
    end: int
    named: Named


def wordset(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


def clean_name(text: str) -> str:
    """A name as it is shown: one line, without the punctuation around it."""
    return " ".join(text.split()).strip(_EDGES)[:MAX_NAME].strip()


def key_of(name: str) -> str:
    """The key of a name: two names with the same key are one. Empty for what is no name."""
    folded = unicodedata.normalize("NFKC", clean_name(name)).casefold()
    folded = _POSSESSIVE.sub("", folded).removeprefix("the ").strip(_EDGES)
    return "".join(char for char in folded if char.isprintable())[:MAX_NAME]


def relation_key(relation: str) -> str:
    """The key of a relation: works_at, worksAt and "Works at" are one."""
    return " ".join(words_of(relation).casefold().split())


def words_of(identifier: str) -> str:
    """An identifier as words: works_at and worksAt both give "works at"."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", identifier.replace("_", " "))
    parted = re.sub(r"(?<=\w)-(?=\w)", " ", parted)
    return " ".join(parted.split()) if parted == identifier else " ".join(parted.split()).lower()
