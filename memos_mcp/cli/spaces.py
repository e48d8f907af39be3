"""The commands over spaces: make one, list them, let somebody else in.

Knows nothing of memories.
"""

from __future__ import annotations

from typing import Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, session_of

app = typer.Typer(help="Make, list and share spaces.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="SPACE")]


@app.command("create")
def create(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Make a space of your own; one that you may write to already stays as it is."""
    session = session_of(context)
    with session.kernel() as kernel:
        made = kernel.call("create_space", {"name": name})
    if as_json:
        terminal.write_json(made)
    else:
        terminal.say(f"Space {made['name']}, owned by {made['owner']}.")


@app.command("list")
def list_all(context: typer.Context, as_json: Json = False) -> None:
    """List the spaces that you may read."""
    session = session_of(context)
    with session.kernel() as kernel:
        found = kernel.call("spaces")
    if as_json:
        terminal.write_json({"spaces": found})
    elif found:
        terminal.table(("space", "owner"), [(space["name"], space["owner"]) for space in found])
    else:
        terminal.note("No spaces yet: one is made by the first memory added to it.")


@app.command("grant")
def grant(
    context: typer.Context,
    name: Name,
    principal: Annotated[str, typer.Argument()],
    can: Annotated[list[str], typer.Option(help="read, write, forget or share; may be repeated.")],
    as_json: Json = False,
) -> None:
    """Let another principal do something to a space of yours."""
    session = session_of(context)
    with session.kernel() as kernel:
        kernel.call("grant", {"name": name, "principal": principal, "can": can})
    if as_json:
        terminal.write_json({"space": name, "principal": principal, "can": can})
    else:
        terminal.say(f"{principal} may {', '.join(can)} in {name}.")
