"""The commands that change which memory stands for what is known: fuse, split, compose, and moving to another space.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, identifier, read_input, session_of
from memos_mcp.results import memories

if TYPE_CHECKING:
    from memos_mcp.results import ComposeResult, FuseResult, RelocateResult, SplitResult

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Memories, by id or URI.")]


def fuse(
    context: typer.Context,
    ids: Ids,
    text: Annotated[str | None, typer.Option(help="What the fused memory says; - reads standard input.")] = None,
    as_json: Json = False,
) -> None:
    """Make one memory of several: of your text, or of their sentences in the order of time, each said once."""
    content = read_input() if text == "-" else text
    with session_of(context).kernel() as kernel:
        result: FuseResult = kernel.call("fuse", {"ids": [identifier(one) for one in ids], "content": content})
        said = kernel.call("cube", {"id": result["id"]})["payload"]["value"] if not as_json else ""
    if as_json:
        terminal.write_json(result)
        return
    terminal.say(f"Fused {memories(len(result['merged']))} into {result['id']}:")
    terminal.say(said)
    _say_undo(result["op"])


def split(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="The memory's id or URI.")],
    part: Annotated[list[str] | None, typer.Option(help="A part's text, in order; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Make several memories of one: of the parts given, or by its headings, turns or empty lines."""
    with session_of(context).kernel() as kernel:
        result: SplitResult = kernel.call("split", {"id": identifier(id), "parts": part})
    if as_json:
        terminal.write_json(result)
        return
    terminal.say(f"Split {result['id']} into {memories(len(result['parts']))}:")
    for one in result["parts"]:
        terminal.say(f"  {one['id']}")
    _say_undo(result["op"])


def compose(
    context: typer.Context,
    ids: Ids,
    title: Annotated[str | None, typer.Option(help="By which it is found, beside what its parts say.")] = None,
    as_json: Json = False,
) -> None:
    """Put memories in an order, as one that reads as they do at the moment; they stay as they are."""
    with session_of(context).kernel() as kernel:
        result: ComposeResult = kernel.call("compose", {"ids": [identifier(one) for one in ids], "title": title})
    if as_json:
        terminal.write_json(result)
        return
    did = "Composed" if result["op"] else "It was composed so already:"
    terminal.say(f"{did} {result['id']}: {terminal.one_line(result['title'], 100)}")
    _say_undo(result["op"])


def relocate(run: Session, ids: list[str], space: str, *, copy: bool) -> None:
    """Move memories into another space, or copy them there."""
    given = {"ids": [identifier(one) for one in ids], "space": space, "copy": copy}
    with run.kernel() as kernel:
        result: RelocateResult = kernel.call("relocate", given)
    if run.json:
        terminal.write_json(result)
        return
    where = terminal.one_line(result["space"], 100)
    if result["moved"]:
        terminal.say(f"{'Copied' if copy else 'Moved'} {memories(len(result['moved']))} to {where}:")
        for one in result["moved"]:
            terminal.say(f"  {one}")
    if result["unchanged"]:
        terminal.say(f"In {where} already: {', '.join(result['unchanged'])}.")
    _say_undo(result["op"])


def _say_undo(op: str | None) -> None:
    if op:
        terminal.say(f"To take it back: memos-mcp undo {op}")
