"""Checks every part of a store and says in a sentence how each is, and what to do where it is not well.

Knows no terminal. It mends nothing itself, and a kernel that runs checks the store that it has open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memos_mcp import rendezvous
from memos_mcp.errors import MemosError
from memos_mcp.kernel import make_embedder
from memos_mcp.launch import SILENT_S
from memos_mcp.layout import Layout
from memos_mcp.link import Refused
from memos_mcp.lock import Owner
from memos_mcp.maintenance.store_checks import Check, Make, Status, of_closed
from memos_mcp.model_names import model_problem
from memos_mcp.presence import Presence, look
from memos_mcp.settings import CONFIG_FILE, DECLARED, KEYS_FILE, SECRET_KEYS, Settings, read_config
from memos_mcp.version import VERSION, newer

SPACE_NEEDED, SPACE_WANTED = 50 << 20, 500 << 20
"""Bytes of free disk below which writing will soon fail, and below which rebuilding an index may."""
OLDEST_PYTHON = (3, 11)
NOBODY = "Nobody holds it."
FORCE = "Wait half a minute, or run `memos-mcp stop --force`; nothing that was acknowledged is lost."
CRASHED = b"Fatal Python error"


def doctor(settings: Settings, *, unread: MemosError | None = None, make: Make | None = None) -> list[Check]:
    """Check every part, in the order in which they rest on each other; a part that cannot be looked at says so.

    `unread`: why the settings could not be resolved, when `settings` are defaults in their place. `make` gives an
    embedder by its name. Takes as long as SQLite's integrity check of the ledger, and embeds one word; up to
    `SILENT_S` seconds more where a kernel does not answer.
    """
    layout = Layout(settings.home)
    make = make or (lambda name: make_embedder(name, settings.home))
    found = [_program(), *_configuration(settings, unread), *_directory(layout)]
    if os.path.isdir(layout.home):
        present = look(layout.home)
        try:
            found += [*_owner(present), *_kernel(present, layout), *_store(settings, layout, make, present)]
        finally:
            if present.link is not None:
                present.link.close()
        found += _recorded_program(layout)
    return [*found, *_logs(layout)]


def _program() -> Check:
    said = f"memos-mcp {VERSION} on Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}."
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("program", "fail", said, "Install Python 3.11 or newer, and memos-mcp into it.")
    return Check("program", "ok", said)


def _configuration(settings: Settings, unread: MemosError | None) -> Iterator[Check]:
    if unread is not None:
        advice = "Mend what it names; until then nothing starts, and the settings below are the defaults."
        yield Check("settings", "fail", str(unread), advice)
    for declared in DECLARED:
        name = f"setting {declared.name}"
        value, source = settings.value(declared.name), settings.sources.get(declared.name, "default")
        said = f"{'none' if value is None else value} ({source})."
        wish = settings.wishes.get(declared.name)
        if wish is not None:
            how = f"embedder {wish}" if declared.name == "embedder" else f"config {declared.name} {wish}"
            said += f" {declared.variable} asks for {wish!r}, which is not applied: the store keeps its own."
            yield Check(name, "warn", said, f"Run `memos-mcp {how}` to change it, or unset {declared.variable}.")
        elif declared.name == "model" and value is not None and (problem := model_problem(str(value))):
            yield Check(name, "warn", f"{said} {problem}", "Run `memos-mcp config model PATH-OR-SERVER`.")
        elif declared.name == "base_model" and value is not None and not os.path.exists(str(value)):
            yield Check(name, "warn", f"{said} There is no such file.", f"Run `memos-mcp config {declared.name} PATH`.")
        else:
            yield Check(name, "ok", said)
    if unread is None and os.path.isdir(settings.home):
        yield from _config_files(settings.home)


def _config_files(home: Path) -> Iterator[Check]:
    known = {declared.name for declared in DECLARED} - {"home"}
    try:
        unknown = sorted(set(read_config(home)) - known)
        secrets = read_config(home, KEYS_FILE)
    except MemosError as error:
        yield Check(KEYS_FILE, "fail", str(error), f"Mend or remove {home / KEYS_FILE}.")
        return
    if unknown:
        said = f"It holds keys that are no settings: {', '.join(unknown)}."
        yield Check(CONFIG_FILE, "warn", said, f"Remove them from {home / CONFIG_FILE}; `memos-mcp config` lists all.")
    held = [name for name in SECRET_KEYS if name in secrets]
    if held and _open_to_others(home / KEYS_FILE):
        yield Check(KEYS_FILE, "warn", "Others can read the keys in it.", f"Run `chmod 600 {home / KEYS_FILE}`.")
    elif held:
        yield Check(KEYS_FILE, "ok", f"Holds {', '.join(held)}, readable by you alone.")


def _directory(layout: Layout) -> Iterator[Check]:
    home = layout.home
    status: Status
    if not os.path.lexists(home):
        above = next(folder for folder in home.parents if folder.exists())
        status = "warn" if os.access(above, os.W_OK | os.X_OK) else "fail"
        advice = "It is made by the first memory; if you have memories elsewhere, set MEMOS_HOME to their folder."
        refused = f"{above} cannot be written: set MEMOS_HOME to a folder that you may write to."
        yield Check("data directory", status, f"{home} is not there.", advice if status == "warn" else refused)
        return
    if not os.path.isdir(home):
        yield Check("data directory", "fail", f"{home} is not a folder.", "Set MEMOS_HOME to a folder.")
        return
    if not os.access(home, os.R_OK | os.X_OK):
        yield Check("data directory", "fail", f"{home} cannot be read.", "Give yourself read and write permission.")
        return
    if not os.access(home, os.W_OK):
        said = f"{home} is read-only: memories can be read, not added."
        yield Check("data directory", "fail", said, "Give yourself write permission to the folder and its files.")
    elif _open_to_others(home):
        yield Check("data directory", "warn", f"{home} can be entered by other users.", f"Run `chmod 700 {home}`.")
    else:
        yield Check("data directory", "ok", f"{home} is there, writable, and yours alone.")
    free = shutil.disk_usage(home).free
    said = f"{free / (1 << 30):,.1f} GB free."
    status = "fail" if free < SPACE_NEEDED else "warn" if free < SPACE_WANTED else "ok"
    yield Check("disk space", status, said, None if status == "ok" else "Free some space on that disk.")


def _open_to_others(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def _logs(layout: Layout) -> Iterator[Check]:
    folder = layout.logs
    if not os.path.lexists(folder):
        yield Check("log folder", "ok", "None yet: it is made when a host is served.")
        return
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        yield Check("log folder", "warn", f"{folder} cannot be written.", "Make it a folder that you may write to.")
        return
    yield Check("log folder", "ok", f"{folder}: ids and errors, never a memory's text.")
    crash = folder / "kernel-errors.log"
    try:
        crashed = CRASHED in crash.read_bytes()
    except OSError:
        return
    if crashed:
        said = f"The last kernel was ended by a fault in native code, which {crash} shows."
        yield Check("crash", "warn", said, "Nothing that was acknowledged is lost; please report it with that file.")


# --- who is there


def _owner(present: Presence) -> Iterator[Check]:
    owner = present.owner
    if owner is not None:
        yield Check("lock", "ok", f"Held by {_process(owner)}.")
    elif present.state == "answers":
        said = f"A kernel (process {present.pid}) answers and does not hold the lock: its file was removed or replaced."
        yield Check("lock", "fail", said, "It ends by itself within seconds: run `memos-mcp doctor` again.")
    elif present.state == "barred":
        yield Check("lock", "warn", "Whether somebody holds it cannot be seen from here.", "See the kernel's check.")
    else:
        yield Check("lock", "ok", NOBODY)


def _process(owner: Owner) -> str:
    return f"process {owner.pid or 'unknown'} ({owner.kind or 'of an unknown kind'})"


def _kernel(present: Presence, layout: Layout) -> Iterator[Check]:
    if present.link is not None:
        yield from _running(present, layout)
        return
    if present.state == "in use":
        said = "None runs: the process that holds the lock has the store open itself, and takes no connections."
        yield Check("kernel", "ok", said)
    elif present.state == "absent":
        yield Check("kernel", "ok", "None runs: the next host or command starts one.")
    elif present.state == "barred":
        advice = "Allow this process the folder, or set MEMOS_HOME to a folder of its own."
        yield Check("kernel", "fail", present.said, advice)
    else:
        yield Check("kernel", "fail", present.said, FORCE)
    yield from _left_over(present, layout)


def _running(present: Presence, layout: Layout) -> Iterator[Check]:
    """What a kernel that answers says of itself."""
    assert present.link is not None
    try:
        told = present.link.call("status", within_s=SILENT_S)
    except MemosError as error:
        yield Check("kernel", "fail", str(error), FORCE)
        return
    said = f"Process {told['pid']} ({told['kind']}, memos-mcp {told['version']}) since {told['started']}."
    if "problem" in told:
        yield Check("kernel", "fail", f"{said} {told['problem']}", "Do what the sentence says, then run it again.")
    elif newer(VERSION, str(told["version"])):
        yield Check("kernel", "warn", f"{said} This is memos-mcp {VERSION}.", "`memos-mcp stop` ends the older one.")
    else:
        yield Check("kernel", "ok", said)
    yield _socket(present, layout)
    yield Check("connections", "ok", _hosts(told["connections"]))
    jobs = told["jobs"] or ()
    doing = ", ".join(f"{job['kind']} {job['id']} ({job['done']:,} of {job['total']:,})" for job in jobs)
    yield Check("jobs", "ok", f"In progress: {doing}." if doing else "None in progress.")
    if told["memory"] is not None:
        yield Check("memory", "ok", f"The kernel holds {told['memory'] / (1 << 20):,.0f} MB.")


def _hosts(connections: list[dict[str, Any]]) -> str:
    if not connections:
        return "No host is connected."
    return "; ".join(f"{one['host'] or 'a host'} in {one['space']} since {one['since']}" for one in connections) + "."


def _socket(present: Presence, layout: Layout) -> Check:
    """The place of a kernel that answers."""
    path = Path(present.address)
    if not path.is_absolute():
        return Check("socket", "ok", f"{present.address}, with a token in {layout.home / rendezvous.ADDRESS}.")
    try:
        shared = os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return Check("socket", "warn", f"{path} was removed.", "The kernel makes it anew within seconds.")
    if shared:
        return Check("socket", "warn", f"{path} can be used by other users.", f"Run `chmod 600 {path}`.")
    if path.parent == layout.home and os.path.lexists(layout.home / rendezvous.ADDRESS):
        said = f"{path} answers, and beside it lies {rendezvous.ADDRESS} of a former kernel."
        return Check("socket", "warn", said, f"Remove {layout.home / rendezvous.ADDRESS}.")
    return Check("socket", "ok", f"{path} answers, and only you may use it.")


def _left_over(present: Presence, layout: Layout) -> Iterator[Check]:
    """What lies where a kernel would listen, when none answers."""
    for name, own in ((rendezvous.SOCKET, stat.S_ISSOCK), (rendezvous.ADDRESS, stat.S_ISREG)):
        path = layout.home / name
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue
        if not own(mode):
            said = f"{path} was not made by a kernel, and stands where one has to make its own."
            yield Check("socket", "fail", said, f"Move {path} away.")
        elif present.state in ("absent", "in use"):
            said = f"{path} was left by a kernel that was killed, and nobody listens there."
            yield Check("socket", "warn", said, f"The next kernel replaces it; `rm {path}` is at once.")


def _recorded_program(layout: Layout) -> Iterator[Check]:
    """Which program last brought the ledger up to date: it is started in place of an older one."""
    path = layout.program
    if not os.path.lexists(path):
        return
    known = layout.recorded_program()
    python, version = known.get("python"), str(known.get("version"))
    if not isinstance(python, str):
        yield Check(path.name, "warn", f"{path} cannot be read.", "Remove it: the next start writes it anew.")
    elif not os.access(python, os.X_OK):
        said = f"memos-mcp {version} brought the ledger up to date, and its Python {python} is gone."
        advice = f"Install memos-mcp {version} again." if newer(version, VERSION) else "The next start notes this one."
        yield Check(path.name, "warn", said, advice)
    elif newer(version, VERSION):
        said = f"memos-mcp {version} ({python}) last brought the ledger up to date: kernels are started from there."
        yield Check(path.name, "ok", said)
    else:
        yield Check(path.name, "ok", f"memos-mcp {version} ({python}) last brought the ledger up to date.")


def _store(settings: Settings, layout: Layout, make: Make, present: Presence) -> Iterator[Check]:
    """The store: as the kernel that has it open finds it, and by its files where there is none to ask."""
    if present.link is not None:
        try:
            yield from (Check(**check) for check in present.link.call("doctor"))
            return
        except Refused as error:
            yield Check("store", "fail", str(error), "The kernel could not look; what follows was seen in the files.")
        except MemosError as error:
            yield Check("store", "fail", str(error), "Run it again; what follows was seen in the files.")
    yield from of_closed(settings, layout, make, may_open=present.state == "absent" and os.access(layout.home, os.W_OK))
