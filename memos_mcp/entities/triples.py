"""Triples: the form in which knowledge graphs come in, read from JSON, CSV, TSV or N-Triples, and said as sentences.

Knows nothing of files or memories beyond a draft: each triple becomes one, with the triple in its metadata.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import unquote

from memos_mcp.cube import Snapshot, clean_label, parse_instant, storable
from memos_mcp.entities.naming import words_of
from memos_mcp.errors import InvalidInput

FORMAT = "triples"
"""What the metadata of an addition say under "format" when its content is triples."""
KEY = "triple"
"""Under which a memory's metadata hold the triple that it says."""
MOST = 1_000
"""Triples of one addition."""
_NAMES = {
    "subject": ("subject", "s", "from", "source", "head"),
    "relation": ("relation", "predicate", "p", "r", "type", "edge"),
    "object": ("object", "o", "to", "target", "tail"),
    "since": ("since", "time", "valid_from", "start"),
    "until": ("until", "valid_to", "end"),
}
_FIELDS = tuple(_NAMES)
_NT = re.compile(
    r'(<[^<>\s]+>|_:\S+)\s+(<[^<>\s]+>)\s+(<[^<>\s]+>|_:\S+|"(?:[^"\\]|\\.)*"(?:@[\w-]+|\^\^<[^<>\s]+>)?)\s*\.?\s*'
)
_ADVICE = (
    'write a triple as {"subject": "Ada", "relation": "works at", "object": "Acme", "since": "2020-01-01"}, as a list '
    'of these values, as a line of N-Triples, or as a line of CSV or TSV with these columns (since and until may lack).'
)


@dataclass(frozen=True)
class Triple:
    """Subject, relation and object as words, and the times between which it is true, as the ledger writes them."""

    subject: str
    relation: str
    object: str
    since: str | None = None
    until: str | None = None

    @staticmethod
    def of(metadata: Mapping[str, Any]) -> Triple | None:
        """The triple that a memory's metadata hold; None when they hold none that can be read."""
        held = metadata.get(KEY)
        try:
            return _triple(held, "") if isinstance(held, dict) else None
        except InvalidInput:
            return None

    def as_plain(self) -> dict[str, str]:
        """The triple as JSON knows it, without what it lacks; `read` reads it back."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def sentence(self) -> str:
        """The triple as a person would say it; another time makes another sentence."""
        said = f"{self.subject} {self.relation} {self.object}"
        if _is_han(self.subject[-1]) and _is_han(self.relation[0]) and _is_han(self.object[0]):
            said = f"{self.subject}{self.relation}{self.object}"
        times = [f"{word} {_day(at)}" for word, at in (("since", self.since), ("until", self.until)) if at is not None]
        return f"{said} ({', '.join(times)})" if times else said


def drafts(shared: Snapshot, content: str) -> list[Snapshot]:
    """A draft a triple of `content`, each with what they have in common.

    Raises:
        InvalidInput: something that is no triple, with its place; or none, or over `MOST`.
    """
    found = list(dict.fromkeys(read(content)))
    if not found:
        raise InvalidInput(f"content holds no triple: {_ADVICE}", field="content")
    if len(found) > MOST:
        raise InvalidInput(
            f"content holds {len(found):,} triples and one addition takes {MOST:,}: add them in parts.", field="content"
        )
    metadata = {key: value for key, value in shared.metadata.items() if key != "format"}
    return [
        replace(
            shared,
            content=triple.sentence(),
            valid_from=triple.since or shared.valid_from,
            metadata={**metadata, KEY: triple.as_plain()},
        )
        for triple in found
    ]


def read(text: str) -> Iterator[Triple]:
    """The triples of a text in order: one JSON value, or a triple a line (JSON, N-Triples, TSV or CSV).

    A first line that names the columns is left out, and so are empty lines and lines that begin with "#".

    Raises:
        InvalidInput: at the first one that cannot be read, with its place.
    """
    whole = _as_json(text.strip())
    if whole is not None:
        rows = whole if isinstance(whole, list) and (not whole or isinstance(whole[0], dict | list)) else [whole]
        for number, row in enumerate(rows, 1):
            yield _triple(row, f"Triple {number}")
        return
    columns: tuple[str, ...] = _FIELDS
    met = False
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        row = _line(line, columns, f"Line {number}")
        heading = None if met or not isinstance(row, dict) else _heading(list(row.values()))
        met = True
        if heading is not None:
            columns = heading
            continue
        yield _triple(row, f"Line {number}")


def _as_json(text: str) -> Any:
    """The JSON value that a text is; None when it is none."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line(line: str, columns: tuple[str, ...], place: str) -> Any:
    """What one line says: a JSON value, or values by the name of their column."""
    stripped = line.strip()
    found = _as_json(stripped)
    if found is not None:
        return found
    if terms := _NT.fullmatch(stripped):
        return dict(zip(_FIELDS, map(_term, terms.groups()), strict=False))
    values = line.split("\t") if "\t" in line else _commas(line, place)
    if len(values) > len(columns) and any(value.strip() for value in values[len(columns) :]):
        raise InvalidInput(f"{place} has {len(values)} values: {_ADVICE}", field="content")
    return dict(zip(columns, values, strict=False))


def _commas(line: str, place: str) -> list[str]:
    try:
        return next(csv.reader([line], skipinitialspace=True, strict=True))
    except (csv.Error, StopIteration):
        said = f"{place} is no CSV, for a quotation mark is not closed: {_ADVICE}"
        raise InvalidInput(said, field="content") from None


def _heading(values: list[Any]) -> tuple[str, ...] | None:
    """The fields that the first line names, in their order; None when it is a triple itself."""
    known = {alias: name for name, aliases in _NAMES.items() for alias in aliases}
    named = [known.get(str(value).strip().casefold(), "") for value in values]
    return tuple(named) if set(_FIELDS[:3]) <= set(named) and "" not in named else None


def _term(term: str) -> str:
    """A term of N-Triples as words: the last part of an IRI, or the text of a literal."""
    if term.startswith('"'):
        text = term[1 : term.rindex('"')]
        return re.sub(r'\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)', _escaped, text)
    if term.startswith("_:"):
        return term[2:]
    return unquote(re.split(r"[/#:]", term.strip("<>").rstrip("/#"))[-1]).replace("_", " ")


def _escaped(match: re.Match[str]) -> str:
    mark = match[1]
    if mark[0] in "uU" and len(mark) > 1:
        point = int(mark[1:], 16)
        return chr(point) if point < 0x110000 else "\ufffd"
    return {"t": "\t", "n": "\n", "r": "\r"}.get(mark, mark)


def _triple(row: Any, place: str) -> Triple:
    if isinstance(row, list):
        row = dict(zip(_FIELDS, row, strict=False)) if 3 <= len(row) <= len(_FIELDS) else None
    if not isinstance(row, dict):
        raise InvalidInput(f"{place} is no triple: {_ADVICE}", field="content")
    subject, relation, target = (_words(row, name, place) for name in _FIELDS[:3])
    since, until = (_moment(row, name, place) for name in _FIELDS[3:])
    if since is not None and until is not None and until <= since:
        raise InvalidInput(f"{place} ends before it begins: give an until after its since.", field="content")
    return Triple(subject, words_of(relation), target, since, until)


def _given(row: Mapping[str, Any], name: str) -> Any:
    return next((row[alias] for alias in _NAMES[name] if row.get(alias) not in (None, "")), None)


def _words(row: Mapping[str, Any], name: str, place: str) -> str:
    value = _given(row, name)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise InvalidInput(f"{place} has no {name}: {_ADVICE}", field="content")
    return clean_label(" ".join(storable(str(value)).split()), f"{place}: {name}")


def _moment(row: Mapping[str, Any], name: str, place: str) -> str | None:
    value = _given(row, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = str(value).strip()
    return parse_instant(f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text, f"{place}: {name}")


def _day(moment: str) -> str:
    return moment[:10] if moment.endswith("T00:00:00.000Z") else moment


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"
