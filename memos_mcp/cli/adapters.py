"""The command adapters: lists the LoRA adapters of a store, takes in one that was made elsewhere, puts one away.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, identifier, session_of
from memos_mcp.results import memories

if TYPE_CHECKING:
    from memos_mcp.results import AdapterResult

app = typer.Typer(help="Adapters of the local model: those there are, made elsewhere, or put away.")


@app.callback(invoke_without_command=True)
def adapters(context: typer.Context, as_json: Json = False) -> None:
    """List the adapters, with their states and what they were found to do."""
    if context.invoked_subcommand is None:
        _list(session_of(context))


@app.command("import")
def take_in(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder as peft saves it, or a GGUF file.")],
    name: Annotated[str, typer.Option(help="What it is to be called.")],
    as_json: Json = False,
) -> None:
    """Copy and check an adapter that was made elsewhere; nothing in it is ever run."""
    run = session_of(context)
    given = {"do": "import", "path": os.path.abspath(os.path.expanduser(path)), "name": name}
    with run.kernel() as kernel:
        result: AdapterResult = kernel.call("adapters", given)
    if run.json:
        terminal.write_json(result)
        return
    did = f"operation {result['op']}" if result["op"] else "which was there already"
    terminal.say(f"Adapter {result['id']} of rank {result.get('rank')}, {did}.")
    terminal.note("It is mounted where it is named: what it does to this model was not measured.")


@app.command("retire")
def retire(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(metavar="ID", help="The adapter.")],
    as_json: Json = False,
) -> None:
    """Put an adapter away; undo brings it back."""
    run = session_of(context)
    with run.kernel() as kernel:
        result: AdapterResult = kernel.call("adapters", {"do": "retire", "id": identifier(adapter)})
    if run.json:
        terminal.write_json(result)
    else:
        terminal.say(f"Adapter {result['id']} is mounted no more, operation {result['op']}.")


def _list(run: Session) -> None:
    with run.kernel() as kernel:
        found: list[dict[str, Any]] = kernel.call("adapters", {"do": "list"})
    if run.json:
        terminal.write_json(found)
        return
    if not found:
        terminal.note("There are no adapters: memos-mcp adapters import PATH --name NAME takes one in.")
        return
    rows = [
        (one["id"], terminal.one_line(one["name"], 40), _state(one), str(one["rank"] or ""),
         memories(len(one['sources'])) if one["sources"] else "not known")
        for one in found
    ]  # fmt: skip
    terminal.table(("id", "name", "state", "rank", "trained on"), rows)


def _state(one: dict[str, Any]) -> str:
    return f"{one['state']}, tainted" if one["tainted"] and one["state"] != "retired" else str(one["state"])
