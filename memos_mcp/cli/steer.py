"""The command steer: makes a steering vector for the local model, and lists those that there are.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, identifier, session_of
from memos_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from memos_mcp.results import SteerResult

_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def steer(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="What it is called; without a name, those there are.")] = None,
    towards: Annotated[list[str] | None, typer.Option(metavar="ID", help="What is wanted: an id, or tag:NAME.")] = None,
    away: Annotated[list[str] | None, typer.Option(metavar="ID", help="What is not: an id, or tag:NAME.")] = None,
    layers: Annotated[str | None, typer.Option(metavar="FIRST-LAST", help="The layers to steer (all).")] = None,
    as_json: Json = False,
) -> None:
    """Make a direction for the local model of what two sets of memories differ in; memory_ask mounts it."""
    run = session_of(context)
    if name is None:
        if towards or away or layers:
            raise InvalidInput("Give the vector a name: memos-mcp steer NAME --towards ID --away ID.")
        _list(run)
        return
    given = {
        "name": name,
        "towards": [identifier(one) for one in towards or ()],
        "away": [identifier(one) for one in away or ()],
        "layers": _range(layers),
    }
    with run.kernel() as kernel:
        result: SteerResult = kernel.call("steer", given)
    if run.json:
        terminal.write_json(result)
    else:
        _say(result)


def _range(text: str | None) -> list[int] | None:
    """The first and the last layer of FIRST-LAST, or of one layer alone."""
    if text is None:
        return None
    found = _LAYERS.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"--layers {text!r} is no range of layers: write 8-16, or one layer.", field="layers")
    return [int(found[1]), int(found[2] or found[1])]


def _say(result: SteerResult) -> None:
    did = f"operation {result['op']}" if result["op"] else "which was there already"
    first, last = result["layers"]
    terminal.say(f"Steering vector {result['id']} for layers {first} to {last}, {did}.")
    if "job" in result:
        terminal.say(f"The model is still reading the memories: job {result['job']}.")
    if "shares" in result:
        rows = zip(range(first, last + 1), result["shares"], result.get("norms", ()), strict=True)
        terminal.table(
            ("layer", "variance between the sides", "length of the difference"),
            [(str(layer), f"{share:.1%}", f"{norm:.3f}") for layer, share, norm in rows],
        )


def _list(run: Session) -> None:
    with run.kernel() as kernel:
        found: list[dict[str, Any]] = kernel.call("adapters")
    if run.json:
        terminal.write_json(found)
        return
    if not found:
        terminal.note("There are no steering vectors: memos-mcp steer NAME --towards ID --away ID makes one.")
        return
    rows = [
        (one["id"], terminal.one_line(one["name"], 60), f"{len(one['towards'])} against {len(one['away'])}",
         "-".join(map(str, one["made"]["layers"])) if one["made"] else "made when it is mounted")
        for one in found
    ]  # fmt: skip
    terminal.table(("id", "name", "memories", "layers"), rows)
