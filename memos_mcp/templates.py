"""Reads a template's variables, names it, and fills it.

Knows no store and no protocol. `{{name}}` is a variable that must be given, `{{name|default}}` one that may be;
a backslash before braces makes them plain (`\\{{`, `\\}}`), and two before `{{` are one before a variable. Whatever
else stands in braces is text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memos_mcp.cube import Cube, Snapshot
from memos_mcp.errors import InvalidInput

KIND = "template"
MOST_CHARS = 100_000
"""Characters that one variable may be given."""
MOST_VARIABLES = 100
NAME_CHARS = 64
_PART = re.compile(
    r"\\(?P<plain>\{\{|\}\}|\\(?=\{\{))|\{\{\s*(?P<name>[^\W\d][\w.-]{0,63})\s*(?:\|(?P<default>(?:(?!\{\{|\}\}).)*))?\}\}",
    re.DOTALL,
)


@dataclass(frozen=True)
class Variable:
    """A variable of a template; without a default it must be given."""

    name: str
    default: str | None


@dataclass(frozen=True)
class Template:
    """A memory of kind template as a prompt: `aliases` are names by which it is found and not listed."""

    name: str
    aliases: tuple[str, ...]
    cube: Cube
    variables: tuple[Variable, ...]

    @property
    def title(self) -> str:
        """What a person reads in a list of prompts."""
        given = self.cube.snapshot.metadata.get("title")
        return given.strip()[:200] if isinstance(given, str) and given.strip() else self.name

    @property
    def description(self) -> str:
        """What it is for: the caller's words, else its first line."""
        given = self.cube.snapshot.metadata.get("description")
        text = given if isinstance(given, str) and given.strip() else _first_line(self.cube.snapshot.content)
        return " ".join(text.split())[:300]

    def meaning(self, variable: Variable) -> str:
        """What a variable stands for, as far as the caller said it in metadata.variables."""
        said = self.cube.snapshot.metadata.get("variables")
        words = said.get(variable.name) if isinstance(said, dict) else None
        about = [words.strip()[:300]] if isinstance(words, str) and words.strip() else []
        about += [] if variable.default is None else [f"default: {variable.default[:100]}"]
        return "; ".join(about) or f"Fills {variable.name}"


def variables(text: str) -> tuple[Variable, ...]:
    """The variables of a template in the order in which they stand, each once, with the first default given for it."""
    found: dict[str, str | None] = {}
    for part in _PART.finditer(text):
        name = part["name"]
        if name is not None and found.get(name) is None and (name in found or len(found) < MOST_VARIABLES):
            found[name] = None if part["default"] is None else part["default"].strip()
    return tuple(Variable(name, default) for name, default in found.items())


def fill(template: Template, given: Mapping[str, str]) -> str:
    """The template's words with every variable replaced; what is filled in is not looked at for variables again.

    A value of nothing but white space counts as not given. A place with a default of its own takes that one.

    Raises:
        InvalidInput: a variable without a default is not given, one is given that there is not, or one is too long.
    """
    values = {name: value for name, value in given.items() if value.strip()}
    known = {variable.name: variable.default for variable in template.variables}
    _check(template, values, known)

    def replaced(part: re.Match[str]) -> str:
        if part["plain"] is not None:
            return part["plain"]
        name = part["name"]
        if name not in known:
            return part[0]
        own = None if part["default"] is None else part["default"].strip()
        return values.get(name, own if own is not None else known[name] or "")

    return _PART.sub(replaced, template.cube.snapshot.content)


def _check(template: Template, values: Mapping[str, str], known: Mapping[str, str | None]) -> None:
    missing = [name for name, default in known.items() if default is None and name not in values]
    if missing:
        needed = ", ".join(missing)
        raise InvalidInput(f"The prompt {template.name} needs {needed}: give each a value.", field=missing[0])
    strange = sorted(set(values) - set(known))
    if strange:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        named = ", ".join(name[:100] for name in strange[:5])
        raise InvalidInput(f"The prompt {template.name} has no variable {named!r}: {takes}.", field=strange[0])
    for name, value in values.items():
        if len(value) > MOST_CHARS:
            raise InvalidInput(
                f"{name} has {len(value):,} characters and may have {MOST_CHARS:,}: shorten it.", field=name
            )


def named(cubes: Sequence[Cube], taken: Iterable[str]) -> list[Template]:
    """The templates with a name each: the wanted one for the first who wants it, for others with a part of their id.

    Each is also found by that longer name, so that a template keeps a name that works when others come and go.
    """
    used, found = set(taken), []
    for cube in sorted(cubes, key=lambda cube: cube.seq):
        wanted = _wanted(cube.snapshot) or "template"
        longer = f"{wanted}-{cube.id[-6:].lower()}"
        name = longer if wanted in used else wanted
        used |= {name, longer}
        found.append(Template(name, (longer,), cube, variables(cube.snapshot.content)))
    return found


def _wanted(snapshot: Snapshot) -> str:
    """The name that the caller gave, else the ref, else the first words, as letters, digits, '_', '-' and '.'."""
    for given in (snapshot.metadata.get("name"), snapshot.ref, _first_line(snapshot.content)):
        name = _slug(given) if isinstance(given, str) else ""
        if name:
            return name
    return ""


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text)
    return re.sub(r"[^\w.]+", "-", plain).strip("-._")[:NAME_CHARS].strip("-._")


def _first_line(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip()), "")
    return line.strip().lstrip("#").strip()
