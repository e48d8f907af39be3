"""Makes a readable, filterable memory of a tool trace: what was called, with which arguments, and how it ended.

Knows no store and no request: it turns one draft into another.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from memos_mcp.cube import MAX_CONTENT, Snapshot, clean_label, storable
from memos_mcp.errors import InvalidInput

KIND = "tool_trace"
HEAD, TAIL = 6_000, 2_000
"""Characters of a result, an error or arguments that the text shows: its beginning, and its end, where failures are."""
MORE_IN_METADATA = 4_000
"""Characters of arguments, or of all fields that are not a trace's own, up to which they are kept as metadata too."""
MOST_FIELDS = 50
"""Fields that are not a trace's own, up to which they are kept as metadata too."""
_SHAPE = 'write {"tool": "grep", "arguments": {...}, "result": ..., "outcome": "ok" or "error", "duration_ms": 12}'
_OWN = ("arguments", "result", "outcome", "duration_ms", "error")
_DEPTH, _DEEPEST = 10, 100
"""Nesting of what is kept as metadata too, and of a trace as a whole."""


@dataclass(frozen=True)
class _Trace:
    """A trace as it was given; `more` holds fields that are not a trace's own."""

    tool: str
    given: dict[str, Any]
    more: dict[str, Any]


def traced(draft: Snapshot, *, meant: bool) -> Snapshot:
    """The draft of a tool trace with readable text and what it can be filtered by; anything else as it is.

    A trace is one JSON object with `tool` in the content, or text with `tool` in the metadata. `meant`: the caller
    called it a trace; without that, only what is one without doubt becomes one, and nothing is refused. What the
    caller's metadata says stays; what the text shows shortened is whole in the metadata. Applying it twice changes
    nothing.

    Raises:
        InvalidInput: meant, and clearly a trace, and a field of it is not what it must be.
    """
    try:
        found = _parsed(draft.content, draft.metadata, strict=meant)
        if found is not None:
            return _from_object(draft, found)
    except InvalidInput:
        if meant:
            raise
        return draft
    return _from_metadata(draft) if meant else draft


def turn(draft: Snapshot, *, called: bool) -> Snapshot:
    """A turn of a conversation that may be a tool's: traced if it is a trace, or names its tool, else as it is.

    `called`: the caller called the turns traces; without that, a tool's turn becomes one where it is one.
    """
    found = traced(draft, meant=False)
    if found is draft and draft.role == "tool" and draft.name is not None:
        found = replace(draft, metadata={"tool": draft.name, **draft.metadata})
    return found if found is draft or called else replace(found, kind=KIND)


def _parsed(content: str, metadata: dict[str, Any], *, strict: bool) -> _Trace | None:
    """The trace that the content is; None for anything else."""
    found = _object(content.strip(), strict=strict)
    if found is None:
        return None
    own = [key for key in _OWN if key in found]
    key = _tool_key(found)
    if key is None and "tool" not in metadata:
        if strict and len(own) >= 2:
            raise InvalidInput(f"The tool trace does not name its tool: {_SHAPE}.", field="content")
        return None
    if not own and not strict:
        return None
    tool = metadata["tool"] if key is None else found[key]
    if not isinstance(tool, str):
        raise InvalidInput(f"The tool of a tool trace must be its name as text: {_SHAPE}.", field="content")
    more = {name: value for name, value in found.items() if name not in (key, *own)}
    return _Trace(clean_label(tool, "tool"), {name: found[name] for name in own}, more)


def _object(text: str, *, strict: bool) -> dict[str, Any] | None:
    """The JSON object that the text is, with half characters replaced."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        _require_shallow(found)
    except (ValueError, RecursionError) as error:
        if strict and '"tool"' in text[:2_000]:
            where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            raise InvalidInput(
                f"The tool trace is not JSON{where}: {_SHAPE}, or say it in a sentence.", field="content"
            ) from None
        return None
    return {storable(key): _kept(value) for key, value in found.items()}


def _tool_key(found: dict[str, Any]) -> str | None:
    """The field that names the tool."""
    for key in ("tool", "tool_name"):
        if key in found:
            return key
    return "name" if "name" in found and "arguments" in found else None


def _from_object(draft: Snapshot, trace: _Trace) -> Snapshot:
    derived: dict[str, Any] = {"tool": trace.tool}
    outcome = _outcome(trace.given, trace.more)
    if outcome is not None:
        derived["outcome"] = outcome
    took = _duration(trace.given.get("duration_ms"))
    if took is not None:
        derived["duration_ms"] = took
    said = [_headline(trace.tool, outcome, took)]
    for name in ("arguments", "error", "result"):
        if trace.given.get(name) is not None:
            line, whole = _shown(name, trace.given[name])
            said.append(line)
            derived |= whole
    said += [f"{key}: {_written(value)}" for key, value in trace.more.items()]
    if _small(trace.more) and len(trace.more) <= MOST_FIELDS:
        derived |= trace.more
    return replace(draft, content=_bounded("\n".join(said)), metadata=derived | draft.metadata)


def _from_metadata(draft: Snapshot) -> Snapshot:
    """A trace told in words: what the metadata holds of it is checked, and shown where the words do not show it."""
    if not isinstance(draft.metadata.get("tool"), str):
        return draft
    _outcome(draft.metadata, {})
    _duration(draft.metadata.get("duration_ms"))
    said = [draft.content]
    for name in ("arguments", "error", "result"):
        value = draft.metadata.get(name)
        if value is not None and _written(value) not in draft.content and _whole_is_in(name) not in draft.content:
            said.append(_shown(name, value)[0])
    return replace(draft, content=_bounded("\n".join(said)))


def _headline(tool: str, outcome: str | None, took: float | None) -> str:
    ended = f": {outcome}" if outcome else ""
    return f"{tool}{ended}" + (f" after {took:g} ms" if took is not None else "")


def _outcome(given: dict[str, Any], more: dict[str, Any]) -> str | None:
    """How the call ended, in the caller's word; where that is missing, told by an error, a flag or a result."""
    said = given.get("outcome")
    if said is None:
        flags = [more[key] for key in ("is_error", "isError") if isinstance(more.get(key), bool)]
        flags += [not more[key] for key in ("success", "ok") if isinstance(more.get(key), bool)]
        if given.get("error") or any(flags):
            return "error"
        return "ok" if flags or "result" in given else None
    if not isinstance(said, str):
        raise InvalidInput(f"The outcome of a tool trace must be a word, ok or error: {_SHAPE}.", field="outcome")
    return clean_label(said, "outcome", 60)


def _duration(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15 or math.isnan(value):
        raise InvalidInput("duration_ms of a tool trace must be milliseconds, a number from 0 on.", field="duration_ms")
    return value


def _shown(name: str, value: Any) -> tuple[str, dict[str, Any]]:
    """A field as the text shows it, and what metadata keeps of it: all of what the text had to shorten."""
    text = _written(value)
    filterable: dict[str, Any] = {name: value} if name == "arguments" and _small(value) else {}
    if len(text) <= HEAD + TAIL:
        return f"{name}: {text}", filterable
    cut = len(text) - HEAD - TAIL
    note = f"[… {cut:,} of {len(text):,} characters are left out here; {_whole_is_in(name)} …]"
    return f"{name}: {text[:HEAD]}\n{note}\n{text[-TAIL:]}", {name: text}


def _whole_is_in(name: str) -> str:
    return f"the whole is in metadata.{name}"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _small(value: Any) -> bool:
    """Whether a value may be metadata: short, flat enough, and without numbers that cannot be kept."""
    return len(json.dumps(value)) <= MORE_IN_METADATA and _plain(value)


def _plain(value: Any, depth: int = 0) -> bool:
    if depth > _DEPTH:
        return False
    if isinstance(value, dict | list):
        return all(_plain(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) < 1e308


def _require_shallow(value: Any, depth: int = 0) -> None:
    """Raise ValueError for what is nested so deep that it could not be written again."""
    if depth > _DEEPEST:
        raise ValueError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _require_shallow(item, depth + 1)


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_kept(item) for item in value]
    return {storable(key): _kept(item) for key, item in value.items()} if isinstance(value, dict) else value


def _bounded(text: str) -> str:
    if len(text) > MAX_CONTENT:
        raise InvalidInput(
            f"The tool trace has {len(text):,} characters as text and one memory holds {MAX_CONTENT:,}: "
            "shorten its fields.",
            field="content",
        )
    return text
