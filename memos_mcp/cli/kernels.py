"""The commands over the process that owns a data directory: what runs, and how to end it.

Knows nothing of what is in the store. Neither command starts a kernel.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import terminal
from memos_mcp.cli.session import Json, session_of
from memos_mcp.errors import Conflict, KernelUnreachable, MemosError

if TYPE_CHECKING:
    from memos_mcp.lock import Owner
    from memos_mcp.presence import Presence

UNKNOWN = ("pid", "version", "kind", "started", "socket", "log", "memory", "embedder", "jobs", "cubes")
"""What only a kernel itself can tell."""
ENDS_S = 30.0
"""Seconds in which a kernel that was told to end has given its answers out and closed the store."""
DIES_S = 10.0
"""Seconds in which the system has taken a killed process away."""
AGAIN_S = 0.02
SETTLED_S = 0.1
"""Seconds within which whoever takes the lock has written down who it is."""


def status(context: typer.Context, as_json: Json = False) -> None:
    """Say what runs: the kernel of the data directory and who is connected to it.

    The exit code is 1 only if there is a kernel and it does not answer.
    """
    from memos_mcp.presence import look

    home = session_of(context).home
    present = look(home)
    found = _told(home, present)
    if as_json:
        terminal.write_json(found)
    elif found["version"] is not None:
        _say_kernel(found)
    else:
        terminal.say(str(found["problem"]) if "problem" in found else f"No kernel runs for {home}.")
        if present.state == "absent":
            terminal.note("The next host or command starts one.")
    if present.state in ("silent", "deaf", "barred") or (present.link is not None and found["version"] is None):
        raise typer.Exit(1)


def _told(home: Path, present: Presence) -> dict[str, Any]:
    """What is known of the kernel, from itself if it answers."""
    from memos_mcp.launch import SILENT_S
    from memos_mcp.layout import Layout

    running = present.state in ("answers", "silent", "deaf")
    found: dict[str, Any] = {"running": running, **dict.fromkeys(UNKNOWN), "connections": []}
    found |= {"home": str(home), "lock": str(Layout(home).lock)}
    if present.owner is not None:
        found["owner"] = {"pid": present.owner.pid, "kind": present.owner.kind, "since": present.owner.since}
    if present.said:
        found["problem"] = present.said
    if present.link is not None:
        with present.link as link:
            try:
                found |= link.call("status", within_s=SILENT_S)
            except MemosError as error:
                found["problem"] = str(error)
    found["pid"] = found["pid"] or present.pid
    return found


def _say_kernel(found: dict[str, Any]) -> None:
    kind = "Kernel" if found["kind"] == "kernel" else "Kernel in the foreground"
    terminal.say(f"{kind}: process {found['pid']}, memos-mcp {found['version']}, since {found['started']}", "bold")
    memory, cubes, jobs = found["memory"], found["cubes"], found["jobs"]
    waiting, working = found.get("waiting_for_vectors"), found.get("working")
    lines = {
        "home": found["home"],
        "socket": found["socket"],
        "lock": f"{found['lock']}, held",
        "log": found["log"],
        "memory": f"{memory / (1 << 20):,.0f} MB" if memory is not None else None,
        "embedder": found["embedder"],
        "memories": None if cubes is None else f"{cubes:,}" + (f", {waiting:,} wait for vectors" if waiting else ""),
        "working": f"{working['memories']} memories in {working['sessions']} sessions" if working else None,
        "jobs": None if jobs is None else "none" if not jobs else ", ".join(map(_job, jobs)),
        "problem": found.get("problem"),
    }
    for name, value in lines.items():
        if value is not None:
            terminal.say(f"{name + ':':<10}{value}")
    terminal.say()
    if not found["connections"]:
        terminal.say("No host is connected.")
        return
    rows = [(one["host"] or "?", one["space"], one["since"], str(one["pid"] or "")) for one in found["connections"]]
    terminal.table(("host", "space", "since", "process"), rows)


def _job(job: dict[str, Any]) -> str:
    return f"{job['kind']} {job['id']}, {job['done']:,} of {job['total']:,}"


def stop(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Kill a kernel that does not answer.")] = False,
    as_json: Json = False,
) -> None:
    """End the kernel: answers in the making go out, and the store is closed.

    Hosts stay: what they ask for next starts another. With --force it is killed; what was acknowledged is on disk.
    """
    home = session_of(context).home
    done = _kill(home) if force else _end(home)
    if as_json:
        terminal.write_json({"home": str(home), **done})
    elif not done["stopped"]:
        terminal.say(f"No kernel runs for {home}.")
    else:
        hosts = len(done.get("connections", ()))
        verb = "Killed" if force else "Ended"
        terminal.say(f"{verb} the kernel of {home} (process {done['pid']}).")
        if hosts:
            terminal.say(f"{hosts} {'host stays' if hosts == 1 else 'hosts stay'}: the next request starts another.")


NOTHING: dict[str, Any] = {"stopped": False, "forced": False, "pid": None, "kind": None}


def _end(home: Path) -> dict[str, Any]:
    """Ask the kernel to end, and wait until it has.

    Raises:
        KernelUnreachable: it does not answer or does not end. Conflict: the directory's owner is no kernel.
    """
    from memos_mcp.launch import SILENT_S
    from memos_mcp.presence import look

    present = look(home)
    if present.state == "absent":
        return NOTHING
    if present.state == "in use":
        raise Conflict(_no_kernel(home, present.pid, present.owner.kind if present.owner else None))
    if present.link is None:
        raise KernelUnreachable(present.said)
    with closing(present.link) as link:
        told = link.call("stop", within_s=SILENT_S)
    if not _gone(home, told["pid"], ENDS_S):
        raise KernelUnreachable(
            f"The kernel of {home} (process {told['pid']}) was told to end and has not ended after {ENDS_S:.0f} s: "
            "wait, or end it with `memos-mcp stop --force`."
        )
    return {"stopped": True, "forced": False, **told}


def _kill(home: Path) -> dict[str, Any]:
    """Kill the kernel that holds the lock now; nobody else, whatever the lock file of a former one says.

    Raises:
        Conflict: the owner is no kernel, or is not a process that can be seen from here.
    """
    from memos_mcp.presence import KERNELS, holder

    owner = holder(home)
    while owner is not None:
        time.sleep(SETTLED_S)
        before, owner = owner, holder(home)
        if owner == before:
            break
    if owner is None:
        return NOTHING
    if owner.kind not in KERNELS:
        raise Conflict(_no_kernel(home, owner.pid, owner.kind))
    pid = _seen_from_here(home, owner)
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except ProcessLookupError:
        pass  # it has just ended
    except OSError as error:
        raise Conflict(f"Process {pid} cannot be killed ({error.strerror}): end it as its user.") from None
    if not _gone(home, pid, DIES_S):
        raise KernelUnreachable(f"Process {pid} was killed and still holds {home}: it waits for its disk.")
    return {"stopped": True, "forced": True, "pid": pid, "kind": owner.kind}


def _seen_from_here(home: Path, owner: Owner) -> int:
    """The pid of the lock's holder, if that is what it is called here too: in a container it may be another's."""
    from memos_mcp.layout import Layout

    pid = owner.pid or 0
    if pid > 0 and pid != os.getpid() and _has_open(pid, Layout(home).lock) is not False:
        return pid
    raise Conflict(
        f"The kernel of {home} is not process {owner.pid} of this system: it runs in another container. End it there."
    )


def _has_open(pid: int, path: Path) -> bool | None:
    """Whether the process has the file open; None where that cannot be known."""
    folder = f"/proc/{pid}/fd"
    try:
        wanted = os.stat(path)
        names = os.listdir(folder)
    except FileNotFoundError:
        return False if os.path.isdir("/proc/self/fd") else None
    except OSError:
        return None
    for name in names:
        try:
            if os.path.samestat(wanted, os.stat(os.path.join(folder, name))):
                return True
        except OSError:
            continue  # closed in the meantime, or nothing with a file behind it
    return False


def _gone(home: Path, pid: int, within_s: float) -> bool:
    """Whether the process gives the lock up in time; another kernel may hold it by then."""
    from memos_mcp.presence import holder

    end = time.monotonic() + within_s
    while (owner := holder(home)) is not None and owner.pid == pid:
        if time.monotonic() > end:
            return False
        time.sleep(AGAIN_S)
    return True


def _no_kernel(home: Path, pid: int | None, kind: str | None) -> str:
    what = f"process {pid}" if pid else "a process"
    return (
        f"{home} is in use by {what} ({kind or 'of an unknown kind'}), which is no kernel and is not ended from here: "
        "end the program that started it."
    )
