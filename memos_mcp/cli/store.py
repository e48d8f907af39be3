"""The commands over the whole store: settings, embedder, indexes, health, and serving it to a host.

Knows no single memory.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from memos_mcp import settings as settings_of
from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, Session, session_of
from memos_mcp.errors import InvalidInput, MemosError
from memos_mcp.model_names import absolute
from memos_mcp.results import memories
from memos_mcp.settings import DECLARED, KEYS_FILE, SECRET_KEYS, Settings

Loopback = Annotated[bool, typer.Option("--loopback", help="TCP on this machine in place of a Unix socket.")]


def config(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(help="A setting; none for the table of all.")] = None,
    value: Annotated[str | None, typer.Argument(help="What to set it to.")] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Remove it from config.toml.")] = False,
    as_json: Json = False,
) -> None:
    """Show or change settings, with value and source."""
    session = session_of(context)
    if key is None:
        if unset:
            raise InvalidInput("--unset needs the setting's name: memos-mcp config KEY --unset.", field="key")
        _show_all(session, as_json)
        return
    if key not in SECRET_KEYS and key not in {declared.name for declared in DECLARED}:
        known = ", ".join([declared.name for declared in DECLARED] + list(SECRET_KEYS))
        raise InvalidInput(f"There is no setting {key!r}: use one of {known}.", field="key")
    if unset or value is not None:
        _change(session, key, None if unset else value, value)
    row = _row(session.settings, key)
    if as_json:
        terminal.write_json(row)
    else:
        terminal.say(f"{row['name']} = {_shown(row['value'])} ({row['source']})")
        if "wish" in row:
            terminal.note(f"{row['wish']!r} is asked for and not applied: the store keeps its own.")


def _change(session: Session, key: str, wanted: str | None, given: str | None) -> None:
    if wanted is None and given is not None:
        raise InvalidInput("Give either a value or --unset, not both.", field="value")
    if key == "embedder":
        raise InvalidInput(
            "The embedder is changed together with the vectors that it made: "
            f"run `memos-mcp embedder {wanted or 'minilm'}`.",
            field="key",
        )
    if key == "policy" and wanted is not None:
        from memos_mcp.policies.policy import parse

        wanted = str(parse(wanted, "store"))
    if key == "home":
        raise InvalidInput("The data directory is chosen with --home or MEMOS_HOME, not kept in itself.", field="key")
    wanted = absolute(wanted, os.getcwd()) if key == "reranker" and wanted else wanted
    settings_of.write_config(session.settings.home, key, wanted)
    session.__dict__.pop("settings", None)
    _say_when(session.home, key)


def _say_when(home: Path, key: str) -> None:
    """Say when a process that serves the data directory now will take the new value."""
    from memos_mcp.presence import KERNELS, holder

    owner = holder(home)
    if owner is None:
        return
    kind = next((declared.kind for declared in DECLARED if declared.name == key), "store")
    if kind == "connection":
        terminal.note("Hosts that are connected now take it when they connect again.")
    elif owner.kind not in KERNELS:
        terminal.note(f"Process {owner.pid} ({owner.kind}) takes it at its next start.")
    else:
        terminal.note(f"The kernel (process {owner.pid}) takes it at its next start: `memos-mcp stop` ends it.")


def _row(settings: Settings, key: str) -> dict[str, Any]:
    if key in SECRET_KEYS:
        kept = key in settings_of.read_config(settings.home, KEYS_FILE)
        held = settings_of.secret(settings.home, key) is not None
        source = KEYS_FILE if kept else "environment" if held else "default"
        return {"name": key, "value": "set" if held else None, "source": source}
    row: dict[str, Any] = {"name": key, "value": settings.value(key), "source": settings.sources.get(key, "default")}
    return {**row, "wish": settings.wishes[key]} if key in settings.wishes else row


def _show_all(session: Session, as_json: bool) -> None:
    rows = [_row(session.settings, name) for name in [d.name for d in DECLARED] + list(SECRET_KEYS)]
    if as_json:
        terminal.write_json({"settings": rows})
        return
    meanings = {declared.name: declared.meaning for declared in DECLARED}
    meanings["openai_api_key"] = "key for embedders behind openai:MODEL@URL"
    meanings["llm_api_key"] = "key for the endpoint that llm names"
    meanings["model_api_key"] = "key for the server that model names"
    terminal.table(
        ("setting", "value", "source", "meaning"),
        [(row["name"], _shown(row["value"]), row["source"], meanings.get(row["name"], "")) for row in rows],
    )
    for row in rows:
        if "wish" in row:
            terminal.note(f"{row['name']}: {row['wish']!r} is asked for and not applied: the store keeps its own.")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def embedder(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="minilm, sentence-transformers:NAME-OR-PATH or openai:MODEL@URL")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the embedder, or change it and embed anew.

    The store stays as it was until every memory is embedded; an interrupted change goes on when it is repeated.
    """
    session = session_of(context)
    with session.kernel() as kernel:
        if name is None:
            found = kernel.call("embedder")
        else:
            try:
                with terminal.progress() as tell:
                    found = kernel.call("embedder", {"name": absolute(name, os.getcwd())}, tell)
            except KeyboardInterrupt:
                terminal.note("Interrupted: the same command goes on where it stopped; until then nothing has changed.")
                raise
    if as_json:
        terminal.write_json(found)
        return
    if name is None:
        terminal.say(f"{found['embedder']} ({found['source']}), identity {found['identity'] or 'not yet known'}")
        for identity, count in found["vectors"].items():
            terminal.say(f"{count:,} vectors of {identity}")
        terminal.say(f"without one as yet: {memories(found['waiting'])}")
    else:
        terminal.say(f"The embedder is {found['embedder']} ({found['dimensions']} numbers a vector).")
        terminal.say(f"Embedded: {memories(found['embedded'])}; waiting: {found['waiting']:,}.")
    if found["problem"]:
        terminal.note(found["problem"])


def reindex(context: typer.Context, as_json: Json = False) -> None:
    """Build full text and vector indexes anew.

    They are made from the ledger alone; memories without a vector are embedded.
    """
    session = session_of(context)
    with session.kernel() as kernel, terminal.progress() as tell:
        done = kernel.call("reindex", progress=tell)
    if as_json:
        terminal.write_json(done)
    else:
        terminal.say(
            f"Full text of {done['memories']:,} memories, {done['embedded']:,} embedded, {done['indexes']:,} indexes."
        )
        if done["problem"]:
            terminal.note(f"{done['waiting']:,} memories wait for their vectors: {done['problem']}")
    if done["problem"]:
        raise typer.Exit(1)


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check every part, and say how to mend it.

    The exit code is 1 if anything fails.
    """
    from memos_mcp.maintenance.doctor import doctor as examine

    settings, unread = _settings_for_doctor(session_of(context))
    checks = examine(settings, unread=unread)
    failed = sum(check.status == "fail" for check in checks)
    if as_json:
        terminal.write_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            terminal.say(f"{check.status:<4}  {check.name}: {check.said}", terminal.STYLES[check.status])
            if check.next:
                terminal.say(f"      → {check.next}")
        terminal.say(f"{failed or 'None'} of {len(checks)} checks {'fails' if failed < 2 else 'fail'}.")
    if failed:
        raise typer.Exit(1)


def _settings_for_doctor(session: Session) -> tuple[Settings, MemosError | None]:
    """The settings; where they cannot be resolved, the defaults for the same data directory, and why."""
    try:
        return session.settings, None
    except MemosError as error:
        home: Path = settings_of.place(session.arguments)
        return settings_of.load({**session.arguments, "home": str(home)}, env={}, config={}), error


def stdio(
    context: typer.Context,
    in_process: Annotated[bool, typer.Option("--in-process", help="Kernel and session in this one process.")] = False,
    loopback: Loopback = False,
    tools: Annotated[str | None, typer.Option(help="core or all (MEMOS_TOOLS).")] = None,
) -> None:
    """Serve MCP to a host, as without a command; --in-process: without a kernel of its own."""
    from memos_mcp.bridge.main import main as bridge
    from memos_mcp.gateway.in_process import main as serve_in_process

    given = {**session_of(context).arguments, "tools": tools}
    arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
    if in_process:
        raise typer.Exit(serve_in_process(arguments))
    bridge([*arguments, "--loopback"] if loopback else arguments)


def serve(
    context: typer.Context,
    loopback: Loopback = False,
) -> None:
    """Run the kernel in the foreground, in place of one that a host has started."""
    from memos_mcp.gateway.serve import main as serve_kernel

    raise typer.Exit(serve_kernel(session_of(context).arguments, loopback=loopback))
