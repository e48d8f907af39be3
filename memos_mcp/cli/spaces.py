"""The commands over spaces: make one, list them, let somebody else in or out.

Knows nothing of memories.
"""

from __future__ import annotations

from typing import Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, session_of

app = typer.Typer(help="Make, list and share spaces.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="SPACE")]
Principal = Annotated[str, typer.Argument()]


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
    """List the spaces that you may read, and whom yours are shared with."""
    session = session_of(context)
    with session.kernel() as kernel:
        found = kernel.call("spaces")
    if as_json:
        terminal.write_json({"spaces": found})
    elif found:
        rows = [(space["name"], space["owner"], _granted(space.get("granted", {}))) for space in found]
        terminal.table(("space", "owner", "shared with"), rows)
    else:
        terminal.note("No spaces yet: one is made by the first memory added to it.")


@app.command("grant")
def grant(
    context: typer.Context,
    name: Name,
    principal: Principal,
    can: Annotated[list[str], typer.Option(help="read, write, forget or share; may be repeated, or with commas.")],
    as_json: Json = False,
) -> None:
    """Let another principal do something to a space of yours."""
    _change(context, "grant", name, principal, can, as_json)


@app.command("revoke")
def revoke(
    context: typer.Context,
    name: Name,
    principal: Principal,
    can: Annotated[
        list[str] | None, typer.Option(help="read, write, forget or share; may be repeated. Default: all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """End what another principal may do to a space of yours; memories that you shared one by one stay shared."""
    _change(context, "revoke", name, principal, can, as_json)


def _change(
    context: typer.Context, verb: str, name: str, principal: str, can: list[str] | None, as_json: bool
) -> None:
    session = session_of(context)
    with session.kernel() as kernel:
        done = kernel.call(verb, {"name": name, "principal": principal, "can": can})
    if as_json:
        terminal.write_json(done)
    else:
        terminal.say(f"{done['principal']} may {', '.join(done['can']) or 'do nothing'} in {done['space']}.")


def _granted(granted: dict[str, list[str]]) -> str:
    return "; ".join(f"{principal}: {', '.join(can)}" for principal, can in granted.items())
