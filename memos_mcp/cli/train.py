"""The commands train and externalise: memories become an adapter, and what an adapter knows becomes memories.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, identifier, session_of
from memos_mcp.errors import InvalidInput
from memos_mcp.results import memories

if TYPE_CHECKING:
    from memos_mcp.memory_api.externalise import ExternaliseResult
    from memos_mcp.memory_api.parametric import EstimateResult
    from memos_mcp.results import PromoteResult


def train(
    context: typer.Context,
    memories: Annotated[list[str], typer.Argument(metavar="ID...", help="The memories that it is to know.")],
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say how long it would take.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without measuring and without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Train an adapter of the local model on memories: say how long it takes, ask, and begin."""
    run = session_of(context)
    ids = [identifier(one) for one in memories]
    with run.kernel() as kernel:
        if estimate or not (yes or as_json):
            terminal.note("Some steps are tried to say how long it takes.")
            expected: EstimateResult = kernel.call("estimate", {"ids": ids})
            if as_json:
                terminal.write_json(expected)
            else:
                terminal.say(_said(expected))
            if estimate:
                return
            if not sys.stdin.isatty():
                terminal.note("Nothing was begun: say --yes to begin without being asked.")
                return
            if not typer.confirm("Begin?"):
                return
        result: PromoteResult = kernel.call("promote", {"ids": ids, "to": "parametric"})
    if as_json:
        terminal.write_json(result)
        return
    terminal.say(result.get("said", ""))
    if "job" in result:
        terminal.note(f"It is trained in the background: job {result['job']}; memos-mcp jobs shows how far it is.")


def externalise(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(metavar="ID", help="The adapter.")],
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Questions, a line each.")] = None,
    as_json: Json = False,
) -> None:
    """Ask an adapter what it knows, and keep its answers as memories with how sure they are."""
    run = session_of(context)
    try:
        asked = questions.read_text(encoding="utf-8").splitlines() if questions is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{questions} cannot be read as text: {error}.", field="questions") from None
    with run.kernel() as kernel:
        found: ExternaliseResult = kernel.call("externalise", {"id": identifier(adapter), "questions": asked})
    if as_json:
        terminal.write_json(found)
        return
    terminal.say(f"{found['asked']} questions were asked, and {len(found['kept'])} answers kept.")
    for name in found["kept"]:
        terminal.say(f"   {name}")


def _said(expected: EstimateResult) -> str:
    seconds = expected["seconds"]
    about = f"{seconds:,.0f} seconds" if seconds < 180 else f"{seconds / 60:,.0f} minutes"
    left = f"; {expected['left_out']} say too little to be asked for" if expected["left_out"] else ""
    return f"{memories(expected['memories'])} in {expected['steps']} steps: about {about}{left}."
