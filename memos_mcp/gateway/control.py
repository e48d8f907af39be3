"""The kernel's side of the command line: one call a line, answered by progress, a result or an error.

Knows no terminal and no MCP. A call is `{"call": NAME, "arguments": {...}}`; the answers are `{"progress": [what, done,
total]}`, any number of times, and `{"result": ...}` or `{"error": {"kind", "message"}}`, once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio import from_thread
from anyio.to_thread import run_sync
from pydantic import ValidationError

from memos_mcp import settings as settings_of
from memos_mcp.asked import Asked
from memos_mcp.cube import ADAPTER, STEERING
from memos_mcp.errors import Conflict, InvalidInput, MemosError
from memos_mcp.framing import Lines, Overlong
from memos_mcp.gateway import tools
from memos_mcp.gateway.channel import Socket
from memos_mcp.gateway.process import LOG_FILE
from memos_mcp.gateway.project import PERSONAL, Project
from memos_mcp.gateway.tools import Tool
from memos_mcp.layout import Layout
from memos_mcp.requests import (
    DocumentRequest,
    DropRequest,
    MoveRequest,
    PastRequest,
    RelocateRequest,
    RestoreRequest,
    UnsubscribeRequest,
    WithdrawRequest,
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
STUCK_S = 60.0
"""Seconds without reading anything after which a caller is taken to have left."""
FINISH_S = 2.0
"""Seconds that a call in the making may still take when the kernel is told to end."""
OPENING_S = 2.0
"""Seconds for which `status` waits for a store that is being opened."""
UPKEEP_WAIT_S = 10.0
"""Seconds to wait for upkeep that was interrupted just now."""
Progress = Callable[[str, int, int], None]


class Interrupted(Exception):
    """Whoever made the call has gone, or the kernel ends."""


@dataclass(frozen=True)
class Call:
    """What a call works with."""

    kernel: Kernel
    caller: Caller
    arguments: dict[str, Any]
    progress: Progress


def _verb(tool: Tool) -> Callable[[Call], Any]:
    """What a tool does, for the command line."""
    return lambda call: tool.call(call.kernel.api, call.caller, tool.request.model_validate(call.arguments))


def _cube(call: Call) -> Any:
    return call.kernel.api.read.cube(call.caller, call.arguments["id"], call.arguments.get("version"))


def _keep_document(call: Call) -> Any:
    return call.kernel.api.keep_document(call.caller, DocumentRequest.model_validate(call.arguments))


def _drop_document(call: Call) -> Any:
    return call.kernel.api.drop_document(call.caller, DropRequest.model_validate(call.arguments))


def _documents(call: Call) -> Any:
    return call.kernel.api.documents(call.caller, call.arguments.get("space"))


def _tree(call: Call) -> Any:
    return call.kernel.api.tree(call.caller, call.arguments["id"])


def _move(call: Call) -> Any:
    return call.kernel.api.move(call.caller, MoveRequest.model_validate(call.arguments))


def _relocate(call: Call) -> Any:
    return call.kernel.api.relocate(call.caller, RelocateRequest.model_validate(call.arguments))


def _plan(call: Call) -> Any:
    if call.arguments.get("approve") or call.arguments.get("decline"):
        return call.kernel.api.settle_proposal(call.caller, call.arguments)
    return call.kernel.api.plan(call.caller, call.arguments.get("space"))


def _policy(call: Call) -> Any:
    return call.kernel.api.policy(call.caller, call.arguments["name"], call.arguments.get("value"))


def _withdraw(call: Call) -> Any:
    return call.kernel.api.withdraw(call.caller, WithdrawRequest.model_validate(call.arguments))


def _unsubscribe(call: Call) -> Any:
    return call.kernel.api.unsubscribe(call.caller, UnsubscribeRequest.model_validate(call.arguments))


def _channels(call: Call) -> Any:
    return call.kernel.api.channels(call.caller)


def _channel(call: Call) -> Any:
    return call.kernel.api.channel(call.caller, call.arguments["channel"], call.arguments.get("after") or 0)


def _adapters(call: Call) -> Any:
    given = call.arguments
    if given.get("do") == "import":
        return call.kernel.api.import_adapter(call.caller, given["path"], given["name"], given.get("space"))
    if given.get("do") == "retire":
        return call.kernel.api.retire_adapter(call.caller, given["id"])
    found = call.kernel.api.read.adapters(call.caller)
    return [one for one in found if one["kind"] == (ADAPTER if given.get("do") == "list" else STEERING)]


def _estimate(call: Call) -> Any:
    return call.kernel.api.estimate(call.caller, call.arguments["ids"])


def _externalise(call: Call) -> Any:
    return call.kernel.api.externalise(call.caller, call.arguments["id"], call.arguments.get("questions"))


def _spaces(call: Call) -> Any:
    return call.kernel.api.shared_spaces(call.caller)


def _create_space(call: Call) -> Any:
    made = call.kernel.api.read.create_space(call.caller, call.arguments["name"])
    return {"name": made.name, "owner": made.owner}


def _grant(call: Call) -> Any:
    given = call.arguments
    return call.kernel.api.grant(call.caller, given["name"], given["principal"], given["can"])


def _revoke(call: Call) -> Any:
    given = call.arguments
    return call.kernel.api.revoke(call.caller, given["name"], given["principal"], given.get("can"))


def _past(call: Call) -> Any:
    return call.kernel.api.past(call.caller, PastRequest.model_validate(call.arguments))


def _restore(call: Call) -> Any:
    return call.kernel.api.restore(call.caller, RestoreRequest.model_validate(call.arguments))


def _jobs(call: Call) -> Any:
    return call.kernel.api.jobs(call.caller)


def _cancel_job(call: Call) -> Any:
    return call.kernel.api.cancel_job(call.caller, call.arguments["id"])


def _embedder_problem(call: Call) -> Any:
    """Why the embedder is not there, once it has loaded or failed to; None when it is. `ask`: have it embed a word."""
    try:
        embedder = call.kernel.api.parts.embedder.get()
        if call.arguments.get("ask"):
            embedder.embed_query("memory")
    except MemosError as error:
        return str(error)
    return None


def _embedder(call: Call) -> Any:
    from memos_mcp.maintenance import derivatives

    name = call.arguments.get("name")
    if name is None:
        return asdict(derivatives.embedder_state(call.kernel))
    with _upkeep_alone():
        return asdict(derivatives.change_embedder(call.kernel, name, call.progress))


def _reindex(call: Call) -> Any:
    from memos_mcp.maintenance import derivatives

    with _upkeep_alone():
        return asdict(derivatives.reindex(call.kernel, call.progress))


_upkeep = threading.Lock()


@contextmanager
def _upkeep_alone() -> Iterator[None]:
    """Of the calls that go over the whole store, one at a time.

    Raises:
        Conflict: another is in the making.
    """
    if not _upkeep.acquire(timeout=UPKEEP_WAIT_S):
        raise Conflict("A reindex or a change of embedder is in progress: wait for it, or interrupt it with Ctrl-C.")
    try:
        yield
    finally:
        _upkeep.release()


CALLS: dict[str, Callable[[Call], Any]] = {
    **{tool.name.removeprefix("memory_"): _verb(tool) for tool in tools.CORE + tools.MORE + tools.STEERING},
    "cube": _cube,
    "keep_document": _keep_document,
    "drop_document": _drop_document,
    "documents": _documents,
    "tree": _tree,
    "move": _move,
    "relocate": _relocate,
    "plan": _plan,
    "policy": _policy,
    "withdraw": _withdraw,
    "unsubscribe": _unsubscribe,
    "channels": _channels,
    "channel": _channel,
    "adapters": _adapters,
    "estimate": _estimate,
    "externalise": _externalise,
    "spaces": _spaces,
    "create_space": _create_space,
    "grant": _grant,
    "revoke": _revoke,
    "past": _past,
    "restore": _restore,
    "jobs": _jobs,
    "cancel_job": _cancel_job,
    "embedder_problem": _embedder_problem,
    "embedder": _embedder,
    "reindex": _reindex,
}
"""What a caller may have done to the open store, by name. Beside them are `doctor`, and `status` and `stop`, which
need no open store: all three work while config.toml cannot be read."""


def pid() -> int:
    return os.getpid()


async def serve(channel: Socket, received: bytes, wishes: Asked, peers: Peers) -> None:
    """Answer calls, one after the other, until the caller leaves."""
    lines, ahead = Lines(MOST_LINE), bytearray(received)
    while True:
        chunk = bytes(ahead)
        ahead.clear()
        for line in lines.take(chunk):
            if not await _answer(line, channel, ahead, wishes, peers):
                return
        if ahead:
            continue
        try:
            ahead += await channel.receive()
        except OSError:
            return
        if not ahead:
            return


async def _answer(line: bytes | Overlong, channel: Socket, ahead: bytearray, wishes: Asked, peers: Peers) -> bool:
    """Carry one call out, and answer it also when the kernel is told to end; False when nobody is there any more.

    What the caller sends meanwhile is put into `ahead`.
    """
    gone, answered = threading.Event(), False
    finishing = anyio.CancelScope(shield=True)

    async def notice_leaving() -> None:
        try:
            while len(ahead) < MOST_LINE:
                chunk = await channel.receive()
                if not chunk:
                    gone.set()
                    return
                ahead.extend(chunk)
        except OSError:
            gone.set()
        except anyio.get_cancelled_exc_class():
            finishing.deadline = anyio.current_time() + FINISH_S
            gone.set()
            raise

    def progress(what: str, done: int, total: int) -> None:
        try:
            if not gone.is_set():
                from_thread.run(channel.send, _line({"progress": [what, done, total]}), STUCK_S)
        except OSError:
            gone.set()
        if gone.is_set():
            raise Interrupted

    async with anyio.create_task_group() as group:
        group.start_soon(notice_leaving)
        with finishing:
            answer = await _outcome(line, wishes, peers, progress)
            try:
                await channel.send(_line(answer), STUCK_S)
                answered = True
            except OSError:
                pass
        group.cancel_scope.cancel()
    return answered


async def _outcome(line: bytes | Overlong, wishes: Asked, peers: Peers, progress: Progress) -> dict[str, Any]:
    """The result of a call, or what is said of its failure."""
    try:
        name, arguments = _call(line)
        return {"result": await _carry_out(name, arguments, wishes, peers, progress)}
    except ValidationError as error:
        return _refusal("InvalidInput", _what_is_wrong(error))
    except MemosError as error:
        return _refusal(type(error).__name__, str(error))
    except Interrupted:
        return _refusal("Interrupted", "The kernel is ending: the same command goes on where it was interrupted.")


def _call(line: bytes | Overlong) -> tuple[str, dict[str, Any]]:
    if not isinstance(line, bytes):
        raise InvalidInput(f"This is longer than the {MOST_LINE:,} bytes that one call may have: do it in parts.")
    try:
        asked = json.loads(line)
        name, arguments = asked["call"], asked.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        name, arguments = None, None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InvalidInput('A call is a line {"call": NAME, "arguments": {...}}.')
    return name, arguments


def _what_is_wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(step) for step in first["loc"])
    return f"{name} {repr(first['input'])[:80]} cannot be taken: {first['msg']}."


def _refusal(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message}}


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


async def _carry_out(name: str, arguments: dict[str, Any], wishes: Asked, peers: Peers, progress: Progress) -> Any:
    if name == "status":
        return await status(peers)
    if name == "stop":
        return stop(peers)
    if name == "doctor":
        kernel = await peers.store.kernel()
        return await _in_thread(lambda: _doctor(kernel))
    work = CALLS.get(name)
    if work is None:
        raise InvalidInput(f"This kernel (memos-mcp {VERSION}) has no call {name!r}: run `memos-mcp stop`, and again.")
    settings = settings_of.of_connection(wishes, peers.ground.settings.home)
    kernel = await peers.store.kernel()
    call = Call(kernel, _caller(settings, wishes.cwd), arguments, progress)
    return await _in_thread(lambda: work(call))


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await run_sync(work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


def _caller(settings: Settings, cwd: str | None) -> Caller:
    from memos_mcp.cube import clean_label
    from memos_mcp.governance import Caller

    project = Project(settings, cwd)
    principal, space = settings.principal, project.space or PERSONAL
    return Caller(clean_label(principal, "principal"), clean_label(space, "space"), CLIENT, also=project.also_read)


def _doctor(kernel: Kernel) -> list[dict[str, Any]]:
    from memos_mcp.maintenance.store_checks import of_running

    return [asdict(check) for check in of_running(kernel)]


def stop(peers: Peers) -> dict[str, Any]:
    """Begin to end the kernel; says who was connected to it."""
    peers.end("stop")
    return {"pid": pid(), "kind": peers.ground.kind, "connections": _hosts(peers)}


async def status(peers: Peers) -> dict[str, Any]:
    """What runs, as `memos-mcp status --json` gives it; cubes and jobs are null while the store is not open."""
    from memos_mcp.gateway.kernel_process import memory_bytes

    ground = peers.ground
    layout = Layout(ground.settings.home)
    found: dict[str, Any] = {
        "pid": pid(),
        "version": VERSION,
        "kind": ground.kind,
        "started": peers.started,
        "home": str(ground.settings.home),
        "socket": ground.listener.address,
        "lock": str(layout.lock),
        "log": str(layout.logs / LOG_FILE),
        "memory": memory_bytes(),
        "connections": _hosts(peers),
        "embedder": ground.settings.embedder,
        "jobs": None,
        "cubes": None,
    }
    kernel: Kernel | None = None
    try:
        with anyio.move_on_after(OPENING_S):
            kernel = await peers.store.kernel()
    except MemosError as error:
        return {**found, "problem": str(error)}
    if kernel is None:
        return {**found, "problem": "The store is still being opened."}
    opened = kernel
    return {**found, **await _in_thread(lambda: kernel_figures(opened))}


def _hosts(peers: Peers) -> list[dict[str, Any]]:
    return sorted((one.as_json() for one in peers.connected if one.role == "host"), key=lambda row: str(row["since"]))


def kernel_figures(kernel: Kernel) -> dict[str, Any]:
    """Figures of the open store: cubes, jobs in progress, its embedder, memories that wait for a vector.

    A job whose day has not come yet is not in progress; one that failed and is tried again is.
    """
    parts, now = kernel.api.parts, kernel.api.parts.stamp()
    stats = kernel.api.read.figures()
    return {
        "embedder": kernel.settings.embedder,
        "cubes": stats["cubes"],
        "waiting_for_vectors": stats["waiting_for_vectors"],
        "working": stats["working"],
        "jobs": [
            {"id": job.id, "kind": job.kind, "state": job.state, "done": job.done, "total": job.total}
            for job in parts.jobs.unfinished()
            if job.attempts or (job.not_before or "") <= now
        ],
    }
