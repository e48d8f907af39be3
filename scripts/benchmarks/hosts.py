"""Section hosts: many hosts that add to one store at once, and the same with the official memory server.

Both are driven by one loop over raw pipes. Knows both servers' tools, and where npm puts a package.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import texts
from benchmarks.client import CallFailed
from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from benchmarks.processes import end_kernel
from benchmarks.server import COMMAND, warm
from benchmarks.session import LIMIT_S, Session, Spawned, result_of
from benchmarks.stores import server_environment

PACKAGE = "@modelcontextprotocol/server-memory"
INSTALL_LIMIT_S = 300
IDS_AT_ONCE = 50
SEED = texts.SEED + 5
Call = tuple[str, dict[str, Any]]


class NotHere(Exception):
    """The other server cannot be had on this machine; says why."""


@dataclass
class Outcome:
    """What the hosts were told: seconds of all and of each call, results of those that succeeded, and what failed."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


Round = tuple[Outcome, int]
"""What the hosts were told, and how many of their additions are there afterwards."""


def hosts(plan: Plan) -> None:
    """Adds of 16 hosts at once: how many are there afterwards, and what they took."""
    count, each = (4, 10) if plan.quick else (16, 100)
    made = list(texts.memories(count * each, SEED))
    parts = [made[i * each : (i + 1) * each] for i in range(count)]
    ours, official = list[Round](), list[Round]()
    missing = ""
    for _ in range(1 if plan.quick else 3):
        ours.append(_ours(plan, parts))
        try:
            official.append(_official(plan, parts))
        except NotHere as reason:
            missing = str(reason)
    label = f"{count} hosts, {each} adds each"
    _report(plan, f"{label}: memos-mcp", ours, float(len(made)), "each on disk when it is acknowledged")
    if official:
        _report(plan, f"{label}: {PACKAGE}", official, None, "no flush to disk")
    else:
        plan.figure("hosts", f"{label}: {PACKAGE}", None, "", note=missing)


def _report(plan: Plan, name: str, rounds: Sequence[Round], target: float | None, note: str) -> None:
    """Medians of the rounds, but of what is there the least."""
    there = [count for _, count in rounds]
    told = f"{min(len(one.results) for one, _ in rounds):,} acknowledged; each round {_each(there, 0)}"
    if failed := [said for one, _ in rounds for said in one.failed]:
        told += f"; {len(failed)} failed, such as: {failed[0][:120]}"
    plan.figure("hosts", f"{name}, there afterwards", min(there), "", target, at_least=True, note=told)
    seconds = [one.seconds for one, _ in rounds]
    rate = f"{statistics.median(len(one.times) / one.seconds for one, _ in rounds):,.0f} calls a second; {note}"
    plan.figure(
        "hosts", f"{name}, all", statistics.median(seconds), "s", note=f"{rate}; each round {_each(seconds, 1)}"
    )
    for share in (0.5, 0.99):
        times = [milliseconds(one.times, share) for one, _ in rounds]
        said = f"each round {_each(times, 0)}"
        plan.figure("hosts", f"{name}, p{100 * share:.0f}", statistics.median(times), "ms", note=said)


def _each(values: Sequence[float], digits: int) -> str:
    return " ".join(f"{value:,.{digits}f}" for value in values)


def _ours(plan: Plan, parts: Sequence[Sequence[texts.Memory]]) -> Round:
    """What bridges on a new store were told, and how many memories it has then, of those that were acknowledged."""
    calls = [[("memory_add", {"content": one.text}) for one in part] for part in parts]
    with plan.work.no_store() as home:
        env = server_environment(home, {})
        try:
            with Spawned(COMMAND, env, home.parent) as first:
                first.greet()
                warm(first)
                outcome = at_once(COMMAND, env, home.parent, calls)
                ids = [cube["id"] for result in outcome.results for cube in result["structuredContent"]["cubes"]]
                return outcome, found(first, ids)
        finally:
            end_kernel(home)


def found(session: Session, ids: Sequence[str]) -> int:
    """How many of the memories with these ids are there."""
    there = set[str]()
    for i in range(0, len(ids), IDS_AT_ONCE):
        result, _ = session.call("memory_search", {"ids": list(ids[i : i + IDS_AT_ONCE]), "max_chars": 1_000_000})
        there |= {hit["id"] for hit in result["hits"]}
    return len(there & set(ids))


def _official(plan: Plan, parts: Sequence[Sequence[texts.Memory]]) -> Round:
    """The same with a process of the official server for each host, all on one file, read by one more in the end."""
    argv = _installed(plan.work.folder)
    calls = [[_entity(f"memory-{i}-{j}", one) for j, one in enumerate(part)] for i, part in enumerate(parts)]
    with plan.work.fresh() as folder:
        env = {**os.environ, "MEMORY_FILE_PATH": str(folder / "memory.jsonl")}
        outcome = at_once(argv, env, folder, calls)
        with Spawned(argv, env, folder) as last:
            last.greet()
            result, _ = last.request("tools/call", {"name": "read_graph", "arguments": {}})
        return outcome, len({one["name"] for one in json.loads(result["content"][0]["text"])["entities"]})


def _entity(name: str, memory: texts.Memory) -> Call:
    entity = {"name": name, "entityType": memory.kind, "observations": [memory.text]}
    return "create_entities", {"entities": [entity]}


def _installed(folder: Path) -> list[str]:
    """The command of the official server, installed once.

    Raises:
        NotHere: no node, or no package index.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotHere("node and npm are not here")
    place = folder / "npm"
    script = place / "node_modules" / PACKAGE / "dist" / "index.js"
    if not script.exists():
        command = [npm, "install", "--prefix", str(place), "--no-audit", "--no-fund", "--silent", PACKAGE]
        try:
            place.mkdir(exist_ok=True)
            subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=True)
        except subprocess.CalledProcessError as error:
            raise NotHere(f"npm could not install it: {(error.stderr or error.stdout).strip()[:200]}") from None
        except subprocess.TimeoutExpired:
            raise NotHere(f"npm did not install it in {INSTALL_LIMIT_S} s") from None
    return [node, str(script)]


def at_once(argv: Sequence[str], env: Mapping[str, str], folder: Path, calls: Sequence[Sequence[Call]]) -> Outcome:
    """Start a process for each host, and when all are greeted let each make its calls, one after the other."""
    with ExitStack() as stack:
        sessions = [Spawned(argv, env, folder) for _ in calls]
        for session in sessions:
            stack.enter_context(session)
        for session in sessions:
            session.greet()
        return _drive(sessions, calls)


def _drive(sessions: Sequence[Session], calls: Sequence[Sequence[Call]]) -> Outcome:
    outcome, began = Outcome(), time.perf_counter()
    running = {session: _Turn(session, iter(some)) for session, some in zip(sessions, calls, strict=True)}
    running = {session: turn for session, turn in running.items() if turn.go_on()}
    while running:
        ready = select.select(list(running), [], [], LIMIT_S)[0]
        if not ready:
            raise CallFailed(f"{len(running)} hosts got no answer in {LIMIT_S:.0f} s")
        for session in ready:
            if not running[session].hear(outcome):
                del running[session]
    outcome.seconds = time.perf_counter() - began
    return outcome


class _Turn:
    """Where one host is in its calls."""

    def __init__(self, session: Session, calls: Any) -> None:
        self._session, self._calls = session, calls
        self._number, self._sent = 0, 0.0

    def go_on(self) -> bool:
        """Make the next call; False when there is none."""
        for name, arguments in self._calls:
            self._sent = time.perf_counter()
            self._number = self._session.send("tools/call", {"name": name, "arguments": arguments})
            return True
        return False

    def hear(self, outcome: Outcome) -> bool:
        """Take what has come, and go on when it is the answer; False at the end."""
        for message in self._session.take():
            if message.get("id") == self._number and "method" not in message:
                outcome.times.append(time.perf_counter() - self._sent)
                try:
                    outcome.results.append(result_of(message))
                except CallFailed as error:
                    outcome.failed.append(str(error))
                return self.go_on()
        return True
