"""The command line: its options, its commands, and the one place where errors become a line and an exit code.

Knows no memories: each command stands in a module of its kind and calls the kernel.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memos_mcp.cli import (
    adapters,
    channels,
    documents,
    fusion,
    graph,
    jobs,
    kernels,
    life,
    memories,
    past,
    spaces,
    steer,
    store,
    terminal,
    train,
)
from memos_mcp.cli.session import Session
from memos_mcp.errors import MemosError
from memos_mcp.version import VERSION


class Commands(TyperGroup):
    """The commands, with the errors of all of them told in one way."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MemosError as error:
            if isinstance(ctx.obj, Session) and ctx.obj.json:
                terminal.write_json({"error": str(error)})
            else:
                terminal.note(f"memos-mcp: {terminal.one_line(str(error), 2000)}")
            raise typer.Exit(1) from error


app = typer.Typer(
    name="memos-mcp",
    cls=Commands,
    help="One memory for all of your agents. Without a command it serves MCP over stdio, for a host to launch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"memos-mcp {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[str | None, typer.Option(metavar="FOLDER", help="Data directory (MEMOS_HOME).")] = None,
    space: Annotated[str | None, typer.Option(help="Space written to and read (MEMOS_SPACE).")] = None,
    principal: Annotated[str | None, typer.Option(help="Who acts (MEMOS_PRINCIPAL).")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    given = {"home": home, "space": space, "principal": principal}
    context.obj = Session({name: value for name, value in given.items() if value is not None})
    terminal.prepare_streams()


app.command("add")(memories.add)
app.command("search")(memories.search)
app.command("show")(memories.show)
app.command("forget")(memories.forget)
app.command("undo")(memories.undo)
app.command("history")(memories.history)
app.command("past")(past.past)
app.command("graph")(graph.graph)
app.command("steer")(steer.steer)
app.add_typer(adapters.app, name="adapters")
app.command("train")(train.train)
app.command("externalise")(train.externalise)
app.command("plan")(life.plan)
app.command("policy")(life.policy)
app.command("move")(documents.move)
app.command("fuse")(fusion.fuse)
app.command("split")(fusion.split)
app.command("compose")(fusion.compose)
app.command("publish")(channels.publish)
app.command("withdraw")(channels.withdraw)
app.command("subscribe")(channels.subscribe)
app.command("channels")(channels.channels)
app.command("share")(channels.share)
app.add_typer(spaces.app, name="space")
app.add_typer(jobs.app, name="jobs")
app.command("status")(kernels.status)
app.command("stop")(kernels.stop)
app.command("config")(store.config)
app.command("embedder")(store.embedder)
app.command("reindex")(store.reindex)
app.command("doctor")(store.doctor)
app.command("stdio")(store.stdio)
app.command("serve")(store.serve)


def main() -> None:
    """Run the command that the process was started with."""
    app()
