"""The commands over channels, and over single memories that are shared: publish, withdraw, subscribe, channels, share.

Knows no ledger: it turns options into calls of the kernel, and results into lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, identifier, session_of
from memos_mcp.errors import InvalidInput
from memos_mcp.results import memories

if TYPE_CHECKING:
    from memos_mcp.results import PublishResult, ShareResult, SubscribeResult, WithdrawResult

ChannelName = Annotated[str, typer.Argument(metavar="CHANNEL", help="NAME of your space's, or SPACE/NAME.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Memories, by id or URI.")]


def publish(
    context: typer.Context,
    channel: ChannelName,
    ids: Ids = None,
    query: Annotated[str | None, typer.Option(help="Publish what holds all of these words, now and later.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only of this kind; may be repeated.")] = None,
    withdrawal: Annotated[str, typer.Option(help="What becomes of copies: archive or mark.")] = "archive",
    as_json: Json = False,
) -> None:
    """Let those who may read a channel's space read memories of yours, or all that match a query."""
    named = [identifier(one) for one in ids] if ids else None
    given = {"channel": channel, "ids": named, "query": query, "tags": tag or [], "kinds": kind or []}
    with session_of(context).kernel() as kernel:
        result: PublishResult = kernel.call("publish", {**given, "withdrawal": withdrawal})
    if as_json:
        terminal.write_json(result)
        return
    there = f", {len(result['unchanged'])} stood there already" if result["unchanged"] else ""
    terminal.say(f"Published {memories(result['count'])} to {result['channel']}{there}.")
    _say_undo(result["op"])


def withdraw(context: typer.Context, channel: ChannelName, ids: Ids = None, as_json: Json = False) -> None:
    """Take memories out of a channel; without ids everything that you published there, queries included."""
    given = {"channel": channel, "ids": [identifier(one) for one in ids] if ids else None}
    with session_of(context).kernel() as kernel:
        result: WithdrawResult = kernel.call("withdraw", given)
    if as_json:
        terminal.write_json(result)
        return
    queries = f" and {result['queries']} queries" if result["queries"] else ""
    terminal.say(f"Withdrew {memories(result['count'])}{queries} from {result['channel']}.")
    _say_undo(result["op"])


def subscribe(
    context: typer.Context,
    channel: ChannelName,
    copies: Annotated[bool, typer.Option("--copies", help="Keep copies, not references.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Copies take new versions by themselves.")] = False,
    end: Annotated[bool, typer.Option("--end", help="End the subscription.")] = False,
    as_json: Json = False,
) -> None:
    """Have your space show what a channel holds; again: copies take the new versions that are offered."""
    if end and (copies or follow):
        raise InvalidInput("--end ends a subscription whatever it is: leave out --copies and --follow.")
    with session_of(context).kernel() as kernel:
        if end:
            result: SubscribeResult = kernel.call("unsubscribe", {"channel": channel})
        else:
            result = kernel.call("subscribe", {"channel": channel, "copies": copies, "follow": follow})
    if as_json:
        terminal.write_json(result)
        return
    way = "is not subscribed any more to" if end else "is subscribed to"
    terminal.say(f"Space {result['space']} {way} {result['channel']} ({memories(result['memories'])}).")
    for name, words in (("taken", "took the newest version"), ("offered", "has a newer version")):
        for cube in result["taken"] if name == "taken" else result["offered"]:
            terminal.say(f"{cube} {words}.")
    _say_undo(result["op"])


def channels(
    context: typer.Context,
    channel: Annotated[str | None, typer.Argument(help="Without one, those there are.")] = None,
    after: Annotated[int, typer.Option(help="Where the page begins, as the former one says.")] = 0,
    as_json: Json = False,
) -> None:
    """List the channels that you may read, or what one holds."""
    with session_of(context).kernel() as kernel:
        found: Any = kernel.call("channels") if channel is None else kernel.call(
            "channel", {"channel": channel, "after": after}
        )
    if as_json:
        terminal.write_json({"channels": found} if channel is None else found)
    elif channel is None:
        rows = [(one["channel"], str(one["memories"]), one["subscribed"] or "") for one in found]
        if rows:
            terminal.table(("channel", "memories", "subscribed by"), rows)
        else:
            terminal.note("No channels yet: memos-mcp publish CHANNEL ID makes one.")
    else:
        for one in found["memories"]:
            terminal.say(f"{one['id']}  {one['space']}, {one['by']}: {terminal.one_line(one['text'], 100)}")
        if found["next"] is not None:
            terminal.note(f"More: memos-mcp channels {channel} --after {found['next']}")
        if not found["memories"]:
            terminal.note("Nothing is published there.")


def share(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Memories, by id or URI.")],
    principal: Annotated[str, typer.Option("--with", metavar="PRINCIPAL", help="With whom.")],
    can: Annotated[list[str] | None, typer.Option(help="read (if nothing is said), write, forget or share.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="End all that they may do with these.")] = False,
    as_json: Json = False,
) -> None:
    """Let another principal use single memories of yours."""
    if revoke and can:
        raise InvalidInput("--revoke ends everything: leave out --can.")
    given = {"ids": [identifier(one) for one in ids], "principal": principal, "can": [] if revoke else can or ["read"]}
    with session_of(context).kernel() as kernel:
        result: ShareResult = kernel.call("share", given)
    if as_json:
        terminal.write_json(result)
        return
    terminal.say(f"{principal} may {', '.join(result['can']) or 'do nothing'} with {memories(len(result['shared']))}.")
    _say_undo(result["op"])


def _say_undo(op: str | None) -> None:
    terminal.say(f"To take it back: memos-mcp undo {op}" if op else "It was so already.")
