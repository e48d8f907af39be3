"""Section start: what stands between a host and its memory until it is there, and on each call.

Every way of starting is measured in turn, round by round, so that a slow moment of the machine meets all of them. Knows
the launch lines that a host may have, and the marks of the wire between bridge and kernel.
"""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import texts
from benchmarks.client import CallFailed
from benchmarks.install import installed
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.processes import end_kernel, kernel_of, memory_of, wait_quiet
from benchmarks.server import as_arguments, warm
from benchmarks.session import HELLO, LIMIT_S, Direct, Spawned, bridge_greeting, line
from benchmarks.stores import server_environment
from memos_mcp import rendezvous

HERE = Path(__file__).resolve().parent
SHIM_RATIO = 1.5
COLD_TARGET_MS = 1_200.0
MEMORY_TARGET_MB = 13.0
CALL_TARGET_MS = 0.3
CALLS_BEFORE_MEMORY = 100
SEED = texts.SEED + 1
SCRIPT, SHIM = "console script", "smallest shim (python -I -S)"
ISOLATED = "import sys; sys.path.append({!r}); from memos_mcp.entry import main; main()"
BARE_SHIM = "import _socket, sys; sys.modules['socket'] = _socket; sys.argv = sys.argv[1:]; exec(open({!r}).read())"
WAITING = "import sys; print(1, flush=True); sys.stdin.read()"
KINDS = (("rss", "resident memory (VmRSS)"), ("pss", "proportional share (PSS)"), ("uss", "its own (USS)"))


@dataclass(frozen=True)
class Launch:
    """A way to start a server: the command, and what is written before the first request's own line."""

    argv: Sequence[str]
    first: bytes = b""


def start(plan: Plan) -> None:
    """Until initialize is answered with a kernel running, and from nothing; memory and calls of the bridge."""
    bin_folder = Path(sys.executable).parent if plan.quick else installed(plan.work.folder)
    with plan.work.copy_of(plan.sizes[0]) as home:
        env = server_environment(home, {})
        with Spawned([str(bin_folder / "memos-mcp")], env, home.parent) as host:
            host.greet()
            warm(host)
            try:
                _warm_starts(plan, home, env, bin_folder)
                _memory(plan, home, env, bin_folder)
                _calls(plan, home, env, bin_folder)
            finally:
                end_kernel(home)
    _cold_starts(plan, bin_folder)


def _warm_starts(plan: Plan, home: Path, env: Mapping[str, str], bin_folder: Path) -> None:
    pid = kernel_of(home)
    assert pid is not None
    wait_quiet(pid)
    ways = _ways(home, env, bin_folder)
    times: dict[str, list[float]] = {name: [] for name in ways}
    directly: list[float] = []
    names = list(ways)
    for i in range(8 if plan.quick else 60):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(_until_initialized(ways[name], env, home.parent))
        began = time.perf_counter()
        with Direct(home, env) as session:
            session.request("initialize", HELLO)
            directly.append(time.perf_counter() - began)
    least = statistics.median(times[SHIM])
    for name, some in times.items():
        note = f"p95 {milliseconds(some, 0.95):.1f} ms; {statistics.median(some) / least:.2f} times the shim"
        plan.figure("start", f"warm kernel, {name}: until initialize is answered", _ms(some), "ms", note=note)
    note = "connect, greeting and initialize by a process that runs already"
    plan.figure("start", "of this the kernel's part", _ms(directly), "ms", note=note)
    ratio = statistics.median(times[SCRIPT]) / least
    plan.figure("start", "console script against the smallest shim", ratio, "×", SHIM_RATIO)


def _ways(home: Path, env: Mapping[str, str], bin_folder: Path) -> dict[str, Launch]:
    python, shim = str(bin_folder / "python"), str(HERE / "shim.py")
    address = rendezvous.connect(str(home))
    address.sock.close()
    greeting = bridge_greeting(home, env) + b"1 "
    bare = BARE_SHIM.format(shim)
    code = ISOLATED.format(str(_site(python)))
    return {
        SCRIPT: Launch([str(bin_folder / "memos-mcp")]),
        "python -m memos_mcp": Launch([python, "-m", "memos_mcp"]),
        "python -I -S -c, path given": Launch([python, "-I", "-S", "-c", code]),
        SHIM: Launch([python, "-I", "-S", shim, address.address], greeting),
        "the same shim on _socket": Launch([python, "-I", "-S", "-c", bare, shim, address.address], greeting),
        "hello-world server of the SDK": Launch([sys.executable, str(HERE / "hello.py")]),
    }  # fmt: skip


def _site(python: str) -> Path:
    """The folder that holds the package for this interpreter."""
    where = "import memos_mcp, os; print(os.path.dirname(os.path.dirname(os.path.abspath(memos_mcp.__file__))))"
    return Path(subprocess.run([python, "-P", "-c", where], check=True, capture_output=True, text=True).stdout.strip())


def _until_initialized(way: Launch, env: Mapping[str, str], folder: Path) -> float:
    """Seconds from starting a process until it has answered initialize."""
    with Spawned(way.argv, env, folder) as session:
        session.write(way.first + line("initialize", HELLO, 1))
        said = b""
        while b'"serverInfo"' not in said or not said.endswith(b"\n"):
            if not select.select([session], [], [], LIMIT_S)[0]:
                raise CallFailed(f"{way.argv[0]} did not answer initialize in {LIMIT_S:.0f} s")
            said += session.read()
        return time.perf_counter() - session.begun


def _memory(plan: Plan, home: Path, env: Mapping[str, str], bin_folder: Path) -> None:
    """What a bridge holds after some calls, beside an interpreter that only waits."""
    python = str(bin_folder / "python")
    with Spawned([str(bin_folder / "memos-mcp")], env, home.parent) as host:
        host.greet()
        for question in texts.questions(CALLS_BEFORE_MEMORY, plan.sizes[0]):
            host.call("memory_search", {"query": question})
        bridge = memory_of(host.process.pid)
    with Spawned([python, "-I", "-S", "-c", WAITING], env, home.parent) as bare:
        bare.read()
        least = memory_of(bare.process.pid)
    for kind, name in KINDS:
        if kind in bridge:
            note = f"{bridge[kind] / 2**20:.2f} MiB; an interpreter that only waits: {least[kind] / 1e6:.1f} MB"
            target = MEMORY_TARGET_MB if kind == "rss" else None
            name = f"bridge after {CALLS_BEFORE_MEMORY} searches, {name}"
            plan.figure("start", name, bridge[kind] / 1e6, "MB", target, note=note)


def _calls(plan: Plan, home: Path, env: Mapping[str, str], bin_folder: Path) -> None:
    """The same calls through the bridge and over the kernel's own socket, in turn."""
    with Spawned([str(bin_folder / "memos-mcp")], env, home.parent) as host, Direct(home, env) as direct:
        host.greet()
        direct.greet()
        found, _ = host.call("memory_search", {"query": texts.questions(1, plan.sizes[0])[0], "top_k": 1})
        reading = {"name": "memory_search", "arguments": {"ids": [found["hits"][0]["id"]]}}
        for name, method, params in (("ping", "ping", {}), ("reading one by id", "tools/call", reading)):
            through, over = list[float](), list[float]()
            for i in range(50 if plan.quick else 1_000):
                for session, times in ((host, through), (direct, over))[:: 1 if i % 2 else -1]:
                    times.append(session.request(method, params)[1])
            cost = _ms(through) - _ms(over)
            note = f"{_ms(through):.2f} ms through the bridge, {_ms(over):.2f} ms over the kernel's socket"
            plan.figure("start", f"a bridge's part of a call, {name}, p50", cost, "ms", CALL_TARGET_MS, note=note)


def _cold_starts(plan: Plan, bin_folder: Path) -> None:
    """From no kernel at all, on an empty store and on one in use."""
    first = next(texts.memories(1, SEED))
    steps = ("initialize", "the first add", "the first search")
    for label, size in (("empty store", 0), (f"{plan.sizes[0]:,} memories", plan.sizes[0])):
        times: dict[str, list[float]] = {step: [] for step in steps}
        resident: list[float] = []
        for _ in range(2 if plan.quick else 7):
            with plan.work.copy_of(size) if size else plan.work.no_store() as home:
                env = server_environment(home, {})
                with Spawned([str(bin_folder / "memos-mcp")], env, home.parent) as host:
                    try:
                        _cold(host, first, times)
                        pid = kernel_of(home)
                        assert pid is not None
                        resident.append(memory_of(pid)["rss"] / 2**20)
                    finally:
                        end_kernel(home)
        for step, some in times.items():
            target = COLD_TARGET_MS if step == "initialize" else None
            note = f"slowest {1e3 * max(some):,.0f} ms of {len(some)}"
            plan.figure("start", f"no kernel, {label}: until {step} is answered", _ms(some), "ms", target, note=note)
        plan.figure("start", f"kernel's resident memory then, {label}", statistics.median(resident), "MiB")


def _cold(host: Spawned, first: texts.Memory, times: Mapping[str, list[float]]) -> None:
    def note(step: str) -> None:
        times[step].append(time.perf_counter() - host.begun)

    host.greet()
    note("initialize")
    host.call("memory_add", as_arguments(first))
    note("the first add")
    host.call("memory_search", {"query": first.question})
    note("the first search")


def _ms(times: Sequence[float]) -> float:
    return 1e3 * statistics.median(times)
