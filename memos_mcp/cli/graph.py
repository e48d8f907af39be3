"""The command graph: what stands around a memory or a name, and triples from files for `add`.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, identifier, session_of
from memos_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from memos_mcp.results import AddResult, GraphResult

AT_ONCE = 500
"""Triples of one addition."""


def graph(
    context: typer.Context,
    start: Annotated[str, typer.Argument(metavar="FROM", help="A memory's id or URI, or a name that they mention.")],
    relation: Annotated[str | None, typer.Option(help="Follow only this: mentions, works at, supersedes …")] = None,
    direction: Annotated[str | None, typer.Option(help="out, in or both (both).")] = None,
    depth: Annotated[int | None, typer.Option(help="How far, 1 to 4 (1).")] = None,
    as_of: Annotated[str | None, typer.Option(help="What was true then, ISO 8601.")] = None,
    as_json: Json = False,
) -> None:
    """Show what stands around a memory, a person, a place or a thing."""
    given = {"from": identifier(start), "relation": relation, "direction": direction, "depth": depth, "as_of": as_of}
    with session_of(context).kernel() as kernel:
        result: GraphResult = kernel.call("graph", given)
    if as_json:
        terminal.write_json(result)
        return
    for node in result["nodes"]:
        said = terminal.one_line(node["text"], 100)
        terminal.say(f"{'  ' * node['depth']}{said if node['type'] == 'name' else node['id'] + '  ' + said}")
    rows = [
        (edge["from"], edge["relation"], edge["to"], edge["valid_from"][:10], (edge["valid_to"] or "")[:10])
        for edge in result["edges"]
    ]
    if rows:
        terminal.say()
        terminal.table(("from", "relation", "to", "since", "until"), rows)
    for key in ("degraded", "next"):
        if key in result:
            terminal.note(str(result.get(key)))


def add_triples(run: Session, file: Path, given: dict[str, Any]) -> None:
    """Keep the triples of a file, each a memory; all of it is read and checked before the first is kept.

    Raises:
        InvalidInput: the file cannot be read, or holds something that is no triple, with its line.
    """
    if given.get("content") is not None or given.get("ref") is not None:
        raise InvalidInput("With --triples give neither TEXT nor --ref: every triple is a memory of its own.")
    parts = list(_parts(file))
    metadata = {**(given.get("metadata") or {}), "format": "triples"}
    kept, known, ops = list[dict[str, Any]](), list[str](), list[str]()
    with run.kernel() as kernel:
        for content in parts:
            result: AddResult = kernel.call("add", {**given, "content": content, "metadata": metadata})
            kept += [{**cube} for cube in result["cubes"]]
            known += result["unchanged"]
            ops += [result["op"]] if result["op"] is not None else []
    if run.json:
        terminal.write_json({"cubes": kept, "unchanged": known, "ops": ops})
    else:
        terminal.say(f"Kept {len(kept)} triples, {len(known)} were known already.")
        for op in ops:
            terminal.say(f"To take it back: memos-mcp undo {op}")


def _parts(file: Path) -> Iterator[str]:
    import json

    from memos_mcp.entities import triples

    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}): give a file of triples.") from error
    rows = [triple.as_plain() for triple in dict.fromkeys(triples.read(text))]
    if not rows:
        raise InvalidInput(f"{file} holds no triple.")
    for start in range(0, len(rows), AT_ONCE):
        yield json.dumps(rows[start : start + AT_ONCE], ensure_ascii=False)
