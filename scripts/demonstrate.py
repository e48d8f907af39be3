"""Shows the main job over real MCP stdio: conversations kept and found, a fact changed and taken back, one forgotten.

Then two hosts share the memory, and go on when its kernel is killed. Knows only the protocol: it starts `memos-mcp` as
a host would, in a data directory of its own, and ends by printing the configuration to paste into a host.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from rich.console import Console
from rich.table import Table

ENGLISH = [
    ("user", "Maya", "2026-03-02T09:10:00", "I started the pottery class in Porto last week, every Tuesday evening."),
    ("assistant", None, "2026-03-02T09:10:20", "That sounds lovely. How is the first project going?"),
    ("user", "Maya", "2026-03-02T09:11:00", "A blue bowl for my sister Inês. She is allergic to peanuts, you know."),
    ("user", "Maya", "2026-03-09T18:30:00", "My flight to Osaka is on 14 April, I always want a window seat."),
]
CHINESE = [
    ("user", "李雷", "2026-04-01T20:00:00", "我下个月要搬到杭州，公司在西湖区。"),
    ("assistant", None, "2026-04-01T20:00:30", "好的，新家找好了吗？"),
    ("user", "李雷", "2026-04-01T20:01:00", "找好了。我对海鲜过敏，所以想住在有很多川菜馆的地方。"),
    ("user", "李雷", "2026-04-03T21:15:00", "周末想看科幻电影，最喜欢的还是《星际穿越》。"),
]


class Show:
    """A client session whose calls are timed and told."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client, self._console = client, console
        self.rows: list[tuple[str, float]] = []

    async def call(self, label: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool, note how long it took, and return its structured result."""
        began = time.perf_counter()
        result = await self._client.call_tool(tool, arguments)
        self.rows.append((label, (time.perf_counter() - began) * 1e3))
        if result.is_error:
            raise SystemExit(f"{tool} failed: {result.content[0].text}")  # type: ignore[union-attr]
        return dict(result.structured_content or {})

    async def ask(self, question: str, space: str) -> None:
        """Search and print the best memory found."""
        found = await self.call(f"search: {question}", "memory_search", query=question, space=space, top_k=1)
        best = found["hits"][0]
        self._console.print(f"  [bold]{question}[/]")
        self._console.print(f"    {best['text']}  [dim]({best['valid_from'][:10]}, score {best['score']})[/]")


def host(home: Path) -> StdioServerParameters:
    """How a host starts the server."""
    env = {"MEMOS_HOME": str(home), "MEMOS_SPACE": "demo"}
    return StdioServerParameters(command=sys.executable, args=["-m", "memos_mcp"], env=env)


async def demonstrate(console: Console, home: Path) -> list[tuple[str, float]]:
    """Run the whole story against a server of its own; returns (what, milliseconds) rows."""
    server = host(home)
    began = time.perf_counter()
    async with Client(server, mode="legacy") as client:
        show = Show(client, console)
        show.rows.append(("start until initialize is answered", (time.perf_counter() - began) * 1e3))
        await show.call("first call (loads ledger and embedder)", "memory_search", query="anything", space="demo")
        console.rule("Two conversations are kept")
        for session, turns, space in (("pottery", ENGLISH, "demo"), ("搬家", CHINESE, "生活")):
            messages = [
                {"role": role, "content": text, "time": moment, **({"name": name} if name else {})}
                for role, name, moment, text in turns
            ]
            kept = await show.call(
                f"add {len(messages)} turns ({session})", "memory_add", messages=messages, session=session, space=space
            )
            console.print(f"  {len(kept['cubes'])} memories in space {space!r}, operation {kept['op']}")
        console.rule("… and found")
        for question in ("What is Maya's sister allergic to?", "which seat should I book for the flight?"):
            await show.ask(question, "demo")
        for question in ("李雷要搬到哪里？", "他对什么过敏？", "电影"):
            await show.ask(question, "生活")
        await _change_and_undo(show, console)
        await _forget(show, console)
        await _share(show, console, home)
        return show.rows


async def _share(show: Show, console: Console, home: Path) -> None:
    console.rule("A second host joins, and the kernel is killed")
    began = time.perf_counter()
    async with Client(host(home), mode="legacy") as client:
        other = Show(client, console)
        show.rows.append(("start of a second host", (time.perf_counter() - began) * 1e3))
        await other.call("add", "memory_add", content="Maya's bowl won a prize in Porto.", space="demo")
        await show.ask("What did Maya's bowl win?", "demo")
        _kill_kernel(console, home)
        await show.call("add while a new kernel starts", "memory_add", content="Maya was born in Faro.", space="demo")
        await other.ask("Where was Maya born?", "demo")
        show.rows += other.rows


def _kill_kernel(console: Console, home: Path) -> None:
    status = _command(home, "status", "--json")
    kernel = json.loads(status)
    hosts = ", ".join(str(row["host"]) for row in kernel["connections"])
    console.print(f"  kernel {kernel['pid']} serves {len(kernel['connections'])} hosts ({hosts})")
    os.kill(kernel["pid"], getattr(signal, "SIGKILL", signal.SIGTERM))
    console.print("  killed without warning; both hosts just go on:")


def _command(home: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "memos_mcp", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def _change_and_undo(show: Show, console: Console) -> None:
    console.rule("A fact changes, and the change is taken back")
    fact = await show.call(
        "add a fact", "memory_add", content="Maya lives in Porto.", kind="fact", space="demo", tags=["home"]
    )
    home = fact["cubes"][0]["id"]
    update = await show.call("update", "memory_update", id=home, content="Maya lives in Lisbon.")
    console.print(f"  version {update['version']}: Maya lives in Lisbon.")
    await show.call("undo", "memory_undo", op=update["op"])
    now = await show.call("read by id", "memory_search", ids=[home])
    console.print(f"  undone: {now['hits'][0]['text']} (version {now['hits'][0]['version']})")
    past = await show.call("history", "memory_history", id=home)
    console.print(f"  history: {len(past['versions'])} versions, {len(past['operations'])} operations")


async def _forget(show: Show, console: Console) -> None:
    console.rule("Forgetting: a dry run first")
    filters = {"query": "peanuts", "space": "demo", "mode": "purge"}
    plan = await show.call("forget (dry run)", "memory_forget", **filters, dry_run=True)
    console.print(f"  would forget {len(plan['would_affect'])} memory; nothing is changed yet")
    done = await show.call("forget (purge)", "memory_forget", **filters, confirm=plan["confirm"])
    console.print(f"  purged {len(done['affected'])} memory for ever, operation {done['op']}")
    left = await show.call("search after the purge", "memory_search", query="peanuts", space="demo")
    console.print(f"  memories that still mention peanuts: {sum('peanut' in hit['text'] for hit in left['hits'])}")


def print_configuration(console: Console) -> None:
    """What to paste into a host, with the absolute path of this installation."""
    command = str(Path(sys.executable).with_name("memos-mcp"))
    entry = {"command": command, "args": []}
    files = (
        ("Claude Desktop: claude_desktop_config.json", {"mcpServers": {"memos": entry}}),
        ("Cursor: .cursor/mcp.json", {"mcpServers": {"memos": entry}}),
        ("VS Code: .vscode/mcp.json", {"servers": {"memos": {"type": "stdio", **entry}}}),
    )
    console.rule("Configuration to paste")
    for label, content in files:
        console.print(f"[bold]{label}[/]")
        console.print(json.dumps(content, indent=2), highlight=False, soft_wrap=True)
    console.print("[bold]Claude Code:[/] run")
    console.print(f"claude mcp add memos -- {command}", highlight=False, soft_wrap=True)


def main() -> None:
    """Run the demonstration in a temporary data directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brief", action="store_true", help="leave the configuration out")
    brief = parser.parse_args().brief
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="memos-demonstration-"))
    try:
        rows = anyio.run(demonstrate, console, home)
        _command(home, "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    table = Table("call", "ms", title="Timings, over MCP stdio")
    table.columns[1].justify = "right"
    for label, milliseconds in rows:
        table.add_row(label, f"{milliseconds:.1f}")
    console.print(table)
    if not brief:
        print_configuration(console)


if __name__ == "__main__":
    main()
