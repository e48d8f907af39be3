"""The command past: a space as it stood at a time, and bringing it back there.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, session_of
from memos_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from memos_mcp.results import PastResult, RestoredMemory, RestoreResult


def past(
    context: typer.Context,
    at: Annotated[str, typer.Option(metavar="TIME", help="2026-11-20, or with a time of day, ISO 8601.")],
    space: Annotated[str | None, typer.Option(help="Which space (the one that is written to).")] = None,
    after: Annotated[int | None, typer.Option(metavar="NUMBER", help="The page behind this number.")] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Bring the space back to that time.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what --restore would do, and do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Show a space as it stood at a time; --restore brings it back there, as one operation that can be undone."""
    run = session_of(context)
    if (dry_run and not restore) or (restore and after is not None):
        raise InvalidInput("--dry-run goes with --restore, and --after does not.", field="dry_run")
    given: dict[str, Any] = {"at": at, "space": space}
    with run.kernel() as kernel:
        if restore:
            restored: RestoreResult = kernel.call("restore", {**given, "dry_run": dry_run})
        else:
            page: PastResult = kernel.call("past", {**given, "after": after or 0})
    if as_json:
        terminal.write_json(restored if restore else page)
    elif restore:
        _say_restored(restored, dry_run)
    else:
        _say_page(run, page)


def _say_page(run: Session, page: PastResult) -> None:
    rows = [
        (one["id"], one["state"], str(one["version"]), "changed since" if one["changed"] else "",
         terminal.one_line(one["text"], 80))
        for one in page["memories"]
    ]  # fmt: skip
    if rows:
        terminal.table(("memory", "state", "version", "", "text"), rows)
    else:
        terminal.note(f"Nothing stood in {page['space']} at {page['as_of']}.")
    if "next" in page:
        terminal.note(f"There are more: add --after {page['next']}.")
    _say_purged(page["purged"])


def _say_restored(found: RestoreResult, dry_run: bool) -> None:
    if found["restored"]:
        rows = [(one["id"], _what(one), one["why"]) for one in found["restored"]]
        terminal.table(("memory", "would" if dry_run else "did", "why"), rows)
    else:
        terminal.say(f"{found['space']} is as it stood at {found['as_of']}, as far as it can be.")
    for one in found["left"]:
        terminal.note(f"{one['id']} is left as it is: {one['why']}.")
    _say_purged(found["purged"])
    if found["op"] is not None:
        terminal.say(f"To take it back: memos-mcp undo {found['op']}")


def _what(one: RestoredMemory) -> str:
    did = [f"says again what version {one['as_in_version']} said"] if "as_in_version" in one else []
    did += [f"becomes {one['to_state']}"] if "to_state" in one else []
    return ", ".join(did)


def _say_purged(count: int) -> None:
    if count:
        terminal.note(f"{count:,} memories of the store were purged since, of whatever space: they are nowhere.")
