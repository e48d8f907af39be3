"""The commands over the life of memories: what will become of them and why, and what their owners want.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, session_of
from memos_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from memos_mcp.memory_api.approval import PlanResult, SettledResult
    from memos_mcp.memory_api.policy import PolicyResult


def plan(
    context: typer.Context,
    space: Annotated[str | None, typer.Option(help="Only this space.")] = None,
    approve: Annotated[str | None, typer.Option(metavar="ID", help="Carry a proposal out.")] = None,
    decline: Annotated[str | None, typer.Option(metavar="ID", help="Leave a proposal for good.")] = None,
    as_json: Json = False,
) -> None:
    """Show what the background would do next and why, and approve or decline what it proposes."""
    run = session_of(context)
    if approve is not None or decline is not None:
        if space is not None:
            raise InvalidInput("--space is for looking: a proposal is named by its id alone.", field="space")
        with run.kernel() as kernel:
            settled: SettledResult = kernel.call("plan", {"approve": approve, "decline": decline})
        if as_json:
            terminal.write_json(settled)
        else:
            how = f"carried out by operation {settled['op']}" if settled["op"] else settled["state"]
            terminal.say(f"Proposal {settled['proposal']} is {how}.")
        return
    with run.kernel() as kernel:
        found: PlanResult = kernel.call("plan", {"space": space})
    if as_json:
        terminal.write_json(found)
    else:
        _say(found)


def _say(found: PlanResult) -> None:
    for step in found["steps"]:
        terminal.say(f"{step['at'][:16].replace('T', ' ')}  {step['action']}  {step['id']}  in {step['space']}", "bold")
        terminal.say(f"   {terminal.one_line(step['text'], 100)}")
        terminal.say(f"   why: {step['reason']}", "dim")
    for one in found["proposals"]:
        terminal.say(f"proposed  {one['kind']}  {one['id']}  ({one['score']:.2f})  in {one['space']}", "bold")
        terminal.say(f"   {', '.join(one['ids'])}")
        terminal.say(f"   why: {one['reason']}", "dim")
    if not found["steps"] and not found["proposals"]:
        terminal.note("Nothing is planned, and nothing is proposed.")
    if found["proposals"]:
        terminal.note("To settle a proposal: memos-mcp plan --approve ID, or --decline ID.")
    if not found["complete"]:
        terminal.note("Changes are still being read: ask again in a moment.")
    if found["life"] == "off":
        terminal.note("Nothing of this is done by itself: `memos-mcp config life on`, and `memos-mcp stop`.")


def policy(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID|SPACE", help="A memory's id, or a space.")],
    value: Annotated[str | None, typer.Argument(help="Terms parted by commas; none takes it away.")] = None,
    as_json: Json = False,
) -> None:
    """Show or change what is to become of a memory, or of the memories of a space."""
    run = session_of(context)
    with run.kernel() as kernel:
        found: PolicyResult = kernel.call("policy", {"name": name, "value": value})
    if as_json:
        terminal.write_json(found)
        return
    terminal.say(f"{found['of']}: {found['policy'] or 'no policy of its own'}")
    terminal.say(f"What holds: {found['holds']}", "dim")
    if found["op"]:
        terminal.say(f"To take it back: memos-mcp undo {found['op']}")
    elif value is not None:
        terminal.note("It was so already.")
