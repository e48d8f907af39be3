"""What a statement claims: of whom, which attribute, which value, and whether it says so or denies it.

Knows no language and no other statement.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

RULES = 1
"""Raised with every change of the keys under which claims are kept, so that those of all memories are read anew."""
SELF = "self"
"""The subject of what a person says of themselves, or what is said of the user."""
Holds = Literal["one", "mostly", "many"]


@dataclass(frozen=True)
class Claim:
    """One attribute of a subject, all folded.

    `holds`: False when it is denied. `values`: how many an attribute has at a time: `one` (a home, a birthday);
    `mostly` one, so that two may be true at once; `many` (what is liked). `changes`: it says itself that this is new.
    """

    subject: str
    attribute: str
    value: str
    holds: bool = True
    values: Holds = "one"
    changes: bool = False

    @property
    def key(self) -> str:
        """What two claims have in common that can be in conflict."""
        said = f"{self.subject}\0{self.attribute}"
        return f"{said}\0{self.value}" if self.values == "many" else said

    def denied(self) -> Claim:
        """The claim that this one does not hold."""
        return replace(self, holds=not self.holds)


@dataclass(frozen=True)
class Reading:
    """What a text claims; `alone`: it says nothing else."""

    claims: tuple[Claim, ...] = ()
    alone: bool = False


NOTHING = Reading()


def digest(space: int, key: str) -> int:
    """A key as a number, another one in each space; nothing of its words can be read from it."""
    made = hashlib.blake2b(f"{space}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(made, "big", signed=True)
