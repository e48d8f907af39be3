"""The MemCube: a memory's payload and metadata as the ledger keeps them, and the draft it begins as.

Knows nothing of tables, indexes or protocols.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from memos_mcp.errors import InvalidInput
from memos_mcp.states import LIVE, State

Kind = Literal[
    "fact", "preference", "event", "procedure", "document", "dialogue", "tool_trace", "profile", "template", "block"
]
KINDS: tuple[str, ...] = get_args(Kind)
SAME_TEXT_IS_SAME_MEMORY = frozenset({"fact", "preference", "profile", "procedure", "document"})
"""Kinds for which the same text in one space is one memory; of the others the same words may be said again."""

SAID = ("dialogue", "event")
"""Kinds of what was said or happened once."""

_SURROGATE = re.compile("[\ud800-\udfff]")

ADAPTER = "adapter"
"""Kind of a cube that holds no text to be found but a LoRA adapter; its content is its name."""
STEERING = "steering"
"""Kind of a cube that holds no text to be found but a direction for the local model; its content is its name."""

_FORMS = {STEERING: "activation", ADAPTER: "parametric"}
TEXTLESS = frozenset(_FORMS)
"""Kinds that hold no text: they are found by their id alone, and stand in no prompt."""
BLOCK = "block"
"""Kind of the small named texts that an agent writes for itself, and that stand in every context."""

MAX_CONTENT = 1_000_000
"""Characters of one memory's text."""
MAX_DOCUMENT = 2_000_000
"""Characters of a document that is kept in parts."""


@dataclass(frozen=True)
class Link:
    """A typed edge from the cube that holds it to another cube."""

    to: str
    relation: str


@dataclass(frozen=True)
class Snapshot:
    """What a version keeps: everything about a memory that a caller can change.

    Times are ISO 8601 in UTC with milliseconds (see `instant`), so that text order is time order.
    """

    content: str
    kind: str = "fact"
    valid_from: str | None = None
    valid_to: str | None = None
    role: str | None = None
    name: str | None = None
    session: str | None = None
    source: str | None = None
    ref: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    importance: float = 0.5
    priority: float = 0.5
    expires: str | None = None
    pinned: bool = False
    sensitivity: str = "normal"
    feedback: str | None = None
    links: tuple[Link, ...] = ()
    parents: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()
    superseded_by: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    """Of a cube that is made from its parents and is no text: how."""
    policy: str | None = None
    """What its owner wants to become of it, in the terms of `policies.policy`; None: what its space's says."""

    @property
    def form(self) -> str:
        """In which of the forms its payload is."""
        return _FORMS.get(self.kind, "plaintext")

    def as_json(self) -> str:
        """The snapshot as the text that the versions table keeps."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["links"] = [[link.to, link.relation] for link in self.links]
        if not self.recipe:  # as nearly every memory
            del plain["recipe"]
        if self.policy is None:
            del plain["policy"]
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Snapshot:
        """The inverse of `as_json`; fields that a former version did not know take their defaults."""
        plain = json.loads(text)
        if not plain.keys() <= _KNOWN:
            plain = {k: v for k, v in plain.items() if k in _KNOWN}
        values = _DEFAULTS | {"metadata": {}, "recipe": {}} | plain
        for name in _SEQUENCES:
            values[name] = tuple(values[name])
        if values["links"]:
            values["links"] = tuple(Link(to, relation) for to, relation in values["links"])
        snapshot = object.__new__(Snapshot)
        vars(snapshot).update(values)  # at once: field by field it takes as long as reading the text
        return snapshot

    def changed(self, other: Snapshot) -> set[str]:
        """Names of the fields in which the two differ."""
        return {f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)}

    def merged(self, names: set[str], source: Snapshot) -> Snapshot:
        """This snapshot with the named fields taken from `source`."""
        taken: dict[str, Any] = {name: getattr(source, name) for name in names}
        return replace(self, **taken)


_KNOWN = frozenset(f.name for f in fields(Snapshot))
_SEQUENCES = ("tags", "links", "parents", "supersedes")
_DEFAULTS = {f.name: f.default for f in fields(Snapshot) if f.default is not MISSING}


@dataclass(frozen=True)
class Cube:
    """One memory as it stands: identity, governance and behaviour around its current snapshot."""

    seq: int
    id: str
    space: int
    space_name: str
    version: int
    state: State
    owner: str
    created: str
    updated: str
    client: str | None
    language: str
    op: str
    uses: int
    last_used: str | None
    snapshot: Snapshot
    frozen_from: State | None = None

    @property
    def uri(self) -> str:
        return f"memcube://{self.id}"

    @property
    def becomes_true(self) -> str:
        """When it became true as far as is known: the caller's time, else when it was written."""
        return self.snapshot.valid_from or self.created

    @property
    def stands(self) -> bool:
        """Whether it belongs to the main index: it is live, and no other memory superseded it."""
        return self.state in LIVE and self.snapshot.superseded_by is None

    def is_alive(self, now: str) -> bool:
        """Whether it stands, and its life is not over by `now`."""
        return self.stands and (self.snapshot.expires is None or self.snapshot.expires > now)


@dataclass(frozen=True)
class Figures:
    """What its uses have left of a memory. `visits` and `dwell` are what is left of them as of `at`, and fade from
    there; `last` is the latest use, or the writing; `served` and `used` count how often it was given, and made use of.
    """

    at: str
    last: str
    visits: float = 0.0
    dwell: float = 0.0
    served: int = 0
    used: int = 0


def content_hash(text: str) -> str:
    """A digest by which the same text is recognised, whatever the spaces around it."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def clean_text(text: str, field_name: str = "content") -> str:
    """Text that every store can hold: lone surrogates and NULs are replaced by U+FFFD, never dropped silently.

    Raises:
        InvalidInput: nothing but white space, or over `MAX_CONTENT` characters.
    """
    if not text.strip():
        raise InvalidInput(f"{field_name} is empty: give the text to remember.", field=field_name)
    if len(text) > MAX_CONTENT:
        raise InvalidInput(
            f"{field_name} has {len(text):,} characters and one memory holds {MAX_CONTENT:,}: "
            "split it by headings or paragraphs and add the parts.",
            field=field_name,
        )
    return storable(text)


def storable(text: str) -> str:
    """The text with every lone surrogate and NUL replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text.replace("\0", "\ufffd"))


def clean_label(text: str, field_name: str, limit: int = 200) -> str:
    """A name of a space, tag, session or the like: one line, no control characters, at most `limit` characters.

    Raises:
        InvalidInput: it is empty, too long, or holds control characters or half a surrogate pair.
    """
    text = text.strip()
    if not text or len(text) > limit:
        raise InvalidInput(f"{field_name} must have 1 to {limit} characters, not {len(text)}.", field=field_name)
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise InvalidInput(f"{field_name} {text!r} holds control characters: leave them out.", field=field_name)
    return text


def instant(value: datetime) -> str:
    """A time as the ledger writes it: UTC, milliseconds, 'Z'."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_instant(text: str, field_name: str) -> str:
    """A caller's ISO 8601 date or time, without zone taken as UTC, as the ledger writes it.

    Raises:
        InvalidInput: it is not such a date; the sentence shows what is.
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        moment = parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{field_name} {text[:60]!r} is not a date: write 2026-11-20 or 2026-11-20T14:30:00+01:00.",
            field=field_name,
        ) from None
    if moment.year < 1000:
        raise InvalidInput(f"{field_name} {text[:60]!r}: years before 1000 are not kept.", field=field_name)
    return instant(moment)


def language_of(text: str) -> str:
    """A rough language tag from the script of the text: zh, ja, ko, ar, he, ru, en, or und."""
    if text.isascii():
        return "en" if _LATIN.search(text, 0, 2000) else "und"
    counts: dict[str, int] = {}
    for char in text[:2000]:
        tag = _script(ord(char))
        if tag:
            counts[tag] = counts.get(tag, 0) + 1
    if counts.get("ja"):
        return "ja"
    return max(counts, key=lambda tag: counts[tag]) if counts else "und"


_SCRIPTS = (
    (0x41, 0x24F, "en"), (0x400, 0x4FF, "ru"), (0x590, 0x5FF, "he"), (0x600, 0x6FF, "ar"),
    (0x3040, 0x30FF, "ja"), (0x3400, 0x9FFF, "zh"), (0xAC00, 0xD7AF, "ko"),
)  # fmt: skip
_LATIN = re.compile("[A-Za-z]")


def _script(point: int) -> str | None:
    for low, high, tag in _SCRIPTS:
        if low <= point <= high:
            return tag if tag != "en" or chr(point).isalpha() else None
    return None
