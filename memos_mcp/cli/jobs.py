"""The commands over background jobs: what is at work, what waits, what has ended, and ending one.

Knows no kind of work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, session_of

if TYPE_CHECKING:
    from memos_mcp.results import JobResult

app = typer.Typer(help="Show background jobs, and end them.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def jobs(context: typer.Context, as_json: Json = False) -> None:
    """Show background jobs with their progress: at work, waiting, and ended last."""
    if context.invoked_subcommand is not None:
        return
    with session_of(context).kernel() as kernel:
        found: list[JobResult] = kernel.call("jobs")
    if as_json:
        terminal.write_json({"jobs": found})
    elif found:
        rows = [
            (one["id"], one["kind"], _state(one), f"{one['done']:,} of {one['total']:,}", one["updated"][:19],
             terminal.one_line(one["error"] or "", 100))
            for one in found
        ]  # fmt: skip
        terminal.table(("job", "kind", "state", "done", "changed", "error"), rows)
    else:
        terminal.note("There are no background jobs.")


def _state(one: JobResult) -> str:
    if one["state"] == "queued" and one["not_before"] is not None:
        return f"waits until {one['not_before'][:19]}"
    return "is ending" if one["cancelled"] and one["state"] == "running" else one["state"]


@app.command("cancel")
def cancel(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its URI.")],
    as_json: Json = False,
) -> None:
    """End a job: one that waits at once, one that is at work after its step. What it has done stays done."""
    with session_of(context).kernel() as kernel:
        found: JobResult = kernel.call("cancel_job", {"id": job.strip().removeprefix("memos://jobs/")})
    if as_json:
        terminal.write_json(found)
    else:
        ended = found["state"] == "cancelled"
        terminal.say(f"Job {found['id']} {'is cancelled' if ended else 'ends after its step'}.")
