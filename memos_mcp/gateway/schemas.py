"""JSON schemas of tools, made small: a model pays for every byte of them in every session.

Knows nothing of any tool; it shortens what pydantic generates without changing what it accepts.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter


def input_schema(request: type[BaseModel]) -> dict[str, Any]:
    """The schema of a verb's arguments: references inlined, what says nothing left out, unknown ones refused."""
    schema = request.model_json_schema()
    shortened = _short(schema, schema.get("$defs", {}), nulls=False)
    shortened.pop("description", None)
    return {"type": "object", **shortened}


def output_schema(result: Any) -> dict[str, Any]:
    """The schema of a verb's result; null stands where a value may be missing.

    It names every field. Which of the inner ones are always there is not repeated: results are made from the types that
    say so.
    """
    schema = TypeAdapter(result).json_schema()
    shortened: dict[str, Any] = _short(schema, schema.get("$defs", {}), nulls=True)
    shortened.pop("description", None)
    shortened["properties"] = {name: _terse(part, nested=False) for name, part in shortened["properties"].items()}
    return shortened


def _terse(node: Any, *, nested: bool = True) -> Any:
    """A part of a result's schema in its shortest form: clients check results by it, and no model writes by it."""
    if not isinstance(node, dict):
        return node
    if nested and "anyOf" in node and all(set(option) == {"type"} for option in node["anyOf"]):
        return {"not": {"type": "object"}}  # a text, a number or null: some clients drop lists of types
    if "anyOf" in node:
        return {"anyOf": [_terse(option) for option in node["anyOf"]]}
    kept = {key: part for key, part in node.items() if key not in ("required", "properties")}
    if "properties" in node:
        del kept["type"]
    if kept.get("items") == {"type": "string"}:  # as nearly every list
        del kept["items"]
    elif "items" in kept:
        kept["items"] = _terse(kept["items"])
    if "properties" in node:
        kept["properties"] = {name: _terse(part) for name, part in node["properties"].items()}
    return kept


def _short(node: Any, definitions: dict[str, Any], *, nulls: bool) -> Any:
    if isinstance(node, list):
        return [_short(item, definitions, nulls=nulls) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(node, definitions, nulls=nulls)
    kept = {k: v for k, v in node.items() if k not in ("title", "$defs")}
    kept.pop("default", None)  # a model that leaves it out means that anyway
    if kept.get("minItems") == 1:
        del kept["minItems"]
    if "enum" in kept:  # its words say that they are text
        kept.pop("type", None)
    if "anyOf" in kept:
        return _union(kept, definitions, nulls=nulls)
    if "properties" in kept:
        properties = {k: _short(v, definitions, nulls=nulls) for k, v in kept.pop("properties").items()}
        return {**{k: _short(v, definitions, nulls=nulls) for k, v in kept.items()}, "properties": properties}
    if kept.get("additionalProperties") is True:
        del kept["additionalProperties"]
    return {k: _short(v, definitions, nulls=nulls) for k, v in kept.items()}


def _inlined(node: dict[str, Any], definitions: dict[str, Any], *, nulls: bool) -> dict[str, Any]:
    named = _short(definitions[node["$ref"].rpartition("/")[2]], definitions, nulls=nulls)
    for key in ("description", "additionalProperties"):  # pydantic refuses unknown keys; the model need not read it
        named.pop(key, None)
    return {**named, **_short({k: v for k, v in node.items() if k != "$ref"}, definitions, nulls=nulls)}


def _union(node: dict[str, Any], definitions: dict[str, Any], *, nulls: bool) -> dict[str, Any]:
    """A choice; of arguments without its null, for there it means leaving the argument out.

    No list of types in place of the choice: clients that know one type at a time drop it.
    """
    options = [_short(option, definitions, nulls=nulls) for option in node.pop("anyOf")]
    options = [option for option in options if nulls or option != {"type": "null"}]
    return {"anyOf": options, **node} if len(options) > 1 else {**options[0], **node}
