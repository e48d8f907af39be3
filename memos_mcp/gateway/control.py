"""The kernel's side of the command line: one call a line, answered by progress, a result or an error.

Knows no terminal and no MCP. A call is `{"call": NAME, "arguments": {...}}`; the answers are `{"progress": [what, done,
total]}`, any number of times, and `{"result": ...}` or `{"error": {"kind", "message"}}`, once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio import from_thread
from anyio.to_thread import run_sync
from pydantic import ValidationError

from memos_mcp.errors import InvalidInput, MemosError, NotReady
from memos_mcp.framing import Lines
from memos_mcp.gateway.channel import Socket
from memos_mcp.gateway.project import Project
from memos_mcp.requests import (
    AddRequest,
    ForgetRequest,
    HistoryRequest,
    SearchRequest,
    UndoRequest,
    UpdateRequest,
)
from memos_mcp.settings import Settings
from memos_mcp.version import VERSION

if TYPE_CHECKING:
    from memos_mcp.gateway.connection import Peers
    from memos_mcp.governance import Caller
    from memos_mcp.kernel import Kernel

log = logging.getLogger(__name__)

MOST_LINE = 16 << 20
"""Bytes of a call."""
CLIENT = "memos-mcp cli"
Progress = Callable[[str, int, int], None]


class Interrupted(Exception):
    """Whoever made the call has gone."""


@dataclass(frozen=True)
class Call:
    """What a call works with."""

    kernel: Kernel
    caller: Caller
    arguments: dict[str, Any]
    progress: Progress


def _add(call: Call) -> Any:
    return call.kernel.api.add(call.caller, AddRequest.model_validate(call.arguments))


def _search(call: Call) -> Any:
    return call.kernel.api.search(call.caller, SearchRequest.model_validate(call.arguments))


def _update(call: Call) -> Any:
    return call.kernel.api.update(call.caller, UpdateRequest.model_validate(call.arguments))


def _forget(call: Call) -> Any:
    return call.kernel.api.forget(call.caller, ForgetRequest.model_validate(call.arguments))


def _history(call: Call) -> Any:
    return call.kernel.api.history(call.caller, HistoryRequest.model_validate(call.arguments))


def _undo(call: Call) -> Any:
    return call.kernel.api.undo(call.caller, UndoRequest.model_validate(call.arguments))


def _cube(call: Call) -> Any:
    return call.kernel.api.read.cube(call.caller, call.arguments["id"], call.arguments.get("version"))


def _spaces(call: Call) -> Any:
    return [{"name": space.name, "owner": space.owner} for space in call.kernel.api.read.spaces(call.caller)]


def _create_space(call: Call) -> Any:
    made = call.kernel.api.read.create_space(call.caller, call.arguments["name"])
    return {"name": made.name, "owner": made.owner}


def _grant(call: Call) -> Any:
    given = call.arguments
    call.kernel.api.read.grant(call.caller, given["name"], given["principal"], given["can"])
    return None


def _embedder_problem(call: Call) -> Any:
    """Why the embedder is not there, once it has loaded or failed to; None when it is."""
    try:
        call.kernel.api.parts.embedder.get()
    except MemosError as error:
        return str(error)
    return None


def _embedder(call: Call) -> Any:
    from memos_mcp.maintenance import derivatives

    name = call.arguments.get("name")
    if name is None:
        return asdict(derivatives.embedder_state(call.kernel))
    return asdict(derivatives.change_embedder(call.kernel, name, call.progress))


def _reindex(call: Call) -> Any:
    from memos_mcp.maintenance import derivatives

    return asdict(derivatives.reindex(call.kernel, call.progress))


CALLS: dict[str, Callable[[Call], Any]] = {
    "add": _add,
    "search": _search,
    "update": _update,
    "forget": _forget,
    "history": _history,
    "undo": _undo,
    "cube": _cube,
    "spaces": _spaces,
    "create_space": _create_space,
    "grant": _grant,
    "embedder_problem": _embedder_problem,
    "embedder": _embedder,
    "reindex": _reindex,
}
"""Calls that need the open store, by name. `status` and `stop` need none and are answered whatever state it is in."""


def pid() -> int:
    return os.getpid()


async def serve(channel: Socket, received: bytes, settings: Settings, cwd: str | None, peers: Peers) -> None:
    """Answer calls, one after the other, until the caller leaves."""
    lines, chunk = Lines(MOST_LINE), received
    while True:
        for line in lines.take(chunk):
            if not isinstance(line, bytes) or not await _answer(line, channel, settings, cwd, peers):
                return
        try:
            chunk = await channel.receive()
        except OSError:
            return
        if not chunk:
            return


async def _answer(line: bytes, channel: Socket, settings: Settings, cwd: str | None, peers: Peers) -> bool:
    """Carry one call out; False when nobody is left to answer."""
    try:
        asked = json.loads(line)
        name, arguments = asked["call"], asked.get("arguments", {})
    except (ValueError, KeyError, TypeError):
        return False
    try:
        result = await _carry_out(name, arguments, channel, settings, cwd, peers)
        answer: dict[str, Any] = {"result": result}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        answer = {"error": {"kind": "InvalidInput", "message": f"{where} cannot be taken: {first['msg']}."}}
    except MemosError as error:
        answer = {"error": {"kind": type(error).__name__, "message": str(error)}}
    except Interrupted:
        return False
    try:
        await channel.send(json.dumps(answer).encode() + b"\n", None)
    except OSError:
        return False
    if name == "stop":
        peers.end("stop")
    return True


async def _carry_out(
    name: str, arguments: dict[str, Any], channel: Socket, settings: Settings, cwd: str | None, peers: Peers
) -> Any:
    if name in ("status", "stop"):
        return await status(peers)
    work = CALLS.get(name)
    if work is None:
        raise InvalidInput(f"This kernel (memos-mcp {VERSION}) has no call {name!r}: run `memos-mcp stop`, and again.")
    from memos_mcp.governance import Caller

    kernel = await peers.store.kernel()
    project = Project(settings, cwd)
    caller = Caller(settings.principal, project.space or "personal", CLIENT, also=project.also_read)
    gone = threading.Event()

    def progress(what: str, done: int, total: int) -> None:
        if gone.is_set():
            raise Interrupted
        line = json.dumps({"progress": [what, done, total]}).encode() + b"\n"
        try:
            from_thread.run(channel.send, line, None)
        except OSError:
            raise Interrupted from None

    async def notice_leaving() -> None:
        try:
            while await channel.receive():
                pass
        except OSError:
            pass
        gone.set()

    async with anyio.create_task_group() as group:
        group.start_soon(notice_leaving)
        try:
            return await run_sync(work, Call(kernel, caller, arguments, progress), limiter=anyio.CapacityLimiter(1))
        finally:
            group.cancel_scope.cancel()


async def status(peers: Peers) -> dict[str, Any]:
    """What runs, as `memos-mcp status --json` gives it; cubes and jobs are null while the store is not open."""
    from memos_mcp.gateway.kernel_process import memory_bytes

    ground, kernel = peers.ground, peers.store.opened
    connected = sorted((one.as_json() for one in peers.connected if one.role == "host"), key=lambda row: row["since"])
    found: dict[str, Any] = {
        "pid": pid(),
        "version": VERSION,
        "started": peers.started,
        "kind": ground.kind,
        "home": str(ground.settings.home),
        "socket": ground.listener.address,
        "connections": connected,
        "memory": memory_bytes(),
        "embedder": ground.settings.embedder,
        "jobs": None,
        "cubes": None,
    }
    if kernel is None:
        try:
            kernel = await peers.store.kernel()
        except (MemosError, NotReady) as error:
            return {**found, "problem": str(error)}
    return {**found, **await run_sync(kernel_figures, kernel)}


def kernel_figures(kernel: Kernel) -> dict[str, Any]:
    """Figures of the open store: cubes, jobs in progress, its embedder, memories that wait for a vector."""
    parts = kernel.api.parts
    stats = kernel.api.read.figures()
    return {
        "embedder": kernel.settings.embedder,
        "cubes": stats["cubes"],
        "waiting_for_vectors": stats["waiting_for_vectors"],
        "jobs": [
            {"id": job.id, "kind": job.kind, "state": job.state, "done": job.done, "total": job.total}
            for job in parts.jobs.unfinished()
        ],
    }
