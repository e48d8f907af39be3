"""Section soak: hosts that come and go for minutes, some of them badly, and what is left when all are gone.

Adds are few and paced, so that what the kernel's memory does is not the growth of the store. The kernel is killed in
the first quarter only, so that the second half shows one process over time, and not how it fills its caches. Knows the
tools and how bridges can die.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import texts
from benchmarks.client import CallFailed
from benchmarks.hosts import at_once, found
from benchmarks.plan import Plan
from benchmarks.processes import descriptors_of, end_kernel, kernel_of, left_of, memory_of
from benchmarks.server import COMMAND, eventually, warm
from benchmarks.session import Spawned, line
from benchmarks.stores import server_environment

HOSTS = 32
ADDS_PER_S = 1.0
KILLS = 4
PAUSE_S = 0.3
STALL_S = (1.0, 5.0)
LONG_STALL_S = 75.0
"""Longer than a kernel waits for somebody who reads nothing."""
UNREAD = 100
"""Requests sent by a host that does not read: their answers are more than pipes and sockets hold."""
SAMPLE_S = 5.0
IDLE_THREADS_S = 11.0
"""Seconds after which worker threads of the kernel end that had nothing to do."""
SEED = texts.SEED + 6
MEANWHILE = "was changed in this moment"
MANNERS = (("ends in order", 60), ("killed", 20), ("killed with a call in the making", 10), ("stops reading", 10))


@dataclass
class Tally:
    """What all hosts did; shared between threads."""

    acknowledged: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Sample:
    """The kernel at a moment, `at` seconds after the beginning."""

    at: float
    pid: int
    megabytes: float
    descriptors: int
    threads: int
    kinds: Counter[str] = field(default_factory=Counter, repr=False)


class Memories:
    """Texts to add, no more than `ADDS_PER_S`; shared between threads."""

    def __init__(self, most: int) -> None:
        self._texts = [memory.text for memory in texts.memories(most, SEED)]
        self._began, self._given, self._lock = time.monotonic(), 0, threading.Lock()

    def next(self) -> str | None:
        """A text that was not given yet, or None when it is too early for another."""
        with self._lock:
            if self._given >= min((time.monotonic() - self._began) * ADDS_PER_S, len(self._texts)):
                return None
            self._given += 1
            return self._texts[self._given - 1]


class Visitor(threading.Thread):
    """One place at the table: bridges that come one after the other, work for a while, and leave in some manner."""

    def __init__(self, number: int, home: Path, tally: Tally, memories: Memories, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._random = random.Random(SEED + number)
        self._home, self._tally, self._memories, self._stopping = home, tally, memories, stop
        self._questions = texts.questions(50, 1_000)
        self._env = server_environment(home, {})
        self._patient = number == 0  # this one stops reading for longer than a kernel puts up with

    def run(self) -> None:
        while not self._stopping.is_set():
            host = Spawned(COMMAND, self._env, self._home.parent)
            with self._tally.lock:
                self._tally.pids.add(host.process.pid)
            manner = self._random.choices([name for name, _ in MANNERS], [share for _, share in MANNERS])[0]
            try:
                host.greet()
                self._work(host, self._random.randint(3, 40))
                self._leave(host, manner)
            except (CallFailed, OSError, KeyError, IndexError) as error:
                with self._tally.lock:
                    self._tally.failed.append(f"{type(error).__name__}: {error}")
            finally:
                host.kill()
            with self._tally.lock:
                self._tally.left[manner] += 1

    def _work(self, host: Spawned, count: int) -> None:
        host.request("resources/subscribe", {"uri": "memcube://space/personal"})
        for _ in range(count):
            if self._stopping.wait(self._random.uniform(0, 2 * PAUSE_S)):
                return
            began = time.monotonic()
            what = self._once(host)
            with self._tally.lock:
                self._tally.done[what] += 1
                self._tally.slowest_s = max(self._tally.slowest_s, time.monotonic() - began)

    def _once(self, host: Spawned) -> str:
        text = self._memories.next()
        if text is not None:
            cubes = host.call("memory_add", {"content": text})[0]["cubes"]
            with self._tally.lock:
                self._tally.acknowledged += [cube["id"] for cube in cubes]
            return "add"
        what = self._random.choice(("search", "search", "update", "history", "subscribe"))
        if what == "search":
            host.call("memory_search", {"query": self._random.choice(self._questions)})
            return what
        with self._tally.lock:
            known = self._random.choice(self._tally.acknowledged)
        if what == "update":
            return _update(host, known, f"tag-{self._random.randint(0, 9)}")
        if what == "history":
            host.call("memory_history", {"id": known})
        else:
            host.request("resources/subscribe", {"uri": f"memcube://{known}"})
        return what

    def _leave(self, host: Spawned, manner: str) -> None:
        if manner == "ends in order":
            host.close()
        elif manner == "killed with a call in the making":
            host.send("tools/call", {"name": "memory_search", "arguments": {"query": self._questions[0]}})
        elif manner == "stops reading":
            self._stall(host)

    def _stall(self, host: Spawned) -> None:
        """Send more than there is room for the answers to, and read none; some hosts come back, others are killed."""
        os.set_blocking(host.process.stdin.fileno(), False)  # type: ignore[union-attr]
        asked = {"name": "memory_search", "arguments": {"query": self._questions[1], "top_k": 50}}
        sent = host.write_what_fits(b"".join(line("tools/call", asked, 10_000 + i) for i in range(UNREAD)))
        self._stopping.wait(LONG_STALL_S if self._patient else self._random.uniform(*STALL_S))
        if sent and not self._patient and self._random.random() < 0.5:
            answered = 0
            while answered < UNREAD:
                answered += sum(message.get("id", 0) >= 10_000 for message in host.take())
        self._patient = False


def _update(host: Spawned, known: str, tag: str) -> str:
    """Change a memory; another host may do so at this very moment, and then one of the two is told."""
    try:
        host.call("memory_update", {"id": known, "tags": [tag]})
    except CallFailed as error:
        if MEANWHILE not in str(error):
            raise
        return "update told of another"
    return "update"


def soak(plan: Plan) -> None:
    """Mixed load for `--minutes`, then the end: nothing left behind, nothing lost, memory steady."""
    seconds = 60 * plan.minutes
    with plan.work.no_store() as home:
        try:
            before = _opened(home)
            tally, samples = _under_load(plan, home, seconds)
            after = _at_rest(home, tally)
            _report_rest(plan, before, after, left_of(home, tally.pids))
            _report_load(plan, tally, samples, seconds)
            with Spawned(COMMAND, server_environment(home, {}), home.parent) as last:
                last.greet()
                there, wanted = found(last, tally.acknowledged), len(tally.acknowledged)
            plan.figure("soak", "acknowledged adds that are there", there, "", float(wanted), at_least=True)
        finally:
            end_kernel(home)
        plan.figure("soak", "processes left when the kernel was ended", len(left_of(home, tally.pids)), "", 0.0)


def _under_load(plan: Plan, home: Path, seconds: float) -> tuple[Tally, list[Sample]]:
    tally, memories, stop = Tally(), Memories(int(seconds * ADDS_PER_S) + 1), threading.Event()
    samples, began = list[Sample](), time.monotonic()
    kills = [seconds / 4 * (i + 1) / (KILLS + 1) for i in range(KILLS)]
    with Spawned(COMMAND, server_environment(home, {}), home.parent) as first:
        first.greet()
        added, _ = first.call("memory_add", {"content": memories.next()})
        tally.acknowledged += [cube["id"] for cube in added["cubes"]]
    visitors = [Visitor(i, home, tally, memories, stop) for i in range(8 if plan.quick else HOSTS)]
    for visitor in visitors:
        visitor.start()
    minute = 0
    while (now := time.monotonic() - began) < seconds:
        time.sleep(min(SAMPLE_S, seconds - now))
        samples += _sample(home, time.monotonic() - began)
        if kills and now >= kills[0]:
            kills.pop(0)
            _kill(home)
        if samples and now / 60 >= minute + 1:
            minute += 1
            last = samples[-1]
            plan.work.say(f"minute {minute}: {last} {len(tally.acknowledged)} adds, {sum(tally.done.values())} calls")
    stop.set()
    for visitor in visitors:
        visitor.join(180)
    if any(visitor.is_alive() for visitor in visitors):
        tally.failed.append("a host did not end")
    return tally, samples


def _sample(home: Path, at: float) -> list[Sample]:
    try:
        pid = kernel_of(home)
        process = psutil.Process(pid) if pid is not None else None
        if process is None:
            return []
        megabytes = memory_of(process.pid)["rss"] / 1e6
        return [Sample(round(at), process.pid, round(megabytes, 1), process.num_fds(), process.num_threads(),
                       descriptors_of(process.pid))]  # fmt: skip
    except psutil.NoSuchProcess:
        return []


def _kill(home: Path) -> None:
    pid = kernel_of(home)
    if pid is not None:
        psutil.Process(pid).kill()


def _opened(home: Path) -> Sample:
    """A kernel that has answered some hosts at once, after they have left."""
    env = server_environment(home, {})
    with Spawned(COMMAND, env, home.parent) as first:
        first.greet()
        warm(first)
    made = texts.memories(HOSTS, SEED + 1)
    calls = [[("memory_add", {"content": one.text}), ("memory_search", {"query": one.question})] for one in made]
    at_once(COMMAND, env, home.parent, calls)
    return _rested(home)


def _at_rest(home: Path, tally: Tally) -> Sample:
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in tally.pids), 30, "the end of all bridges")
    return _rested(home)


def _rested(home: Path) -> Sample:
    """The kernel when idle worker threads have ended, which takes a call."""
    time.sleep(IDLE_THREADS_S)
    with Spawned(COMMAND, server_environment(home, {}), home.parent) as host:
        host.greet()
        warm(host)
    time.sleep(2)
    return _sample(home, 0)[0]


def _report_rest(plan: Plan, before: Sample, after: Sample, left: Sequence[str]) -> None:
    note = f"{before.descriptors} before, {after.descriptors} after all have left, with those of the ledger's pool"
    pooled = {kind for kind in before.kinds + after.kinds if kind.startswith("ledger.db")}
    more = {kind: n for kind, n in (after.kinds - before.kinds).items() if kind not in pooled}
    note += "; more: " + ", ".join(f"{n} {kind}" for kind, n in more.items()) if more else ""
    plan.figure("soak", "descriptors of the kernel more than before, without the ledger's", sum(more.values()), "", 0.0,
                note=note)  # fmt: skip
    note = f"{before.threads} before, {after.threads} after all have left"
    plan.figure("soak", "threads of the kernel more than before", after.threads - before.threads, "", 0.0, note=note)
    note = f"{before.megabytes:.0f} MB before"
    plan.figure("soak", "kernel's resident memory after all have left", after.megabytes, "MB", note=note)
    others = [one for one in left if f"{after.pid} " not in one]
    plan.figure("soak", "processes left beside the kernel", len(others), "", 0.0, note="; ".join(others)[:300])


def _report_load(plan: Plan, tally: Tally, samples: Sequence[Sample], seconds: float) -> None:
    done = ", ".join(f"{count:,} {name}" for name, count in sorted(tally.done.items()))
    note = f"{done}; slowest {tally.slowest_s:.1f} s"
    plan.figure("soak", f"calls in {seconds / 60:.0f} minutes", sum(tally.done.values()), "", note=note)
    note = ", ".join(f"{count} {name}" for name, count in sorted(tally.left.items()))
    plan.figure("soak", "bridges that came and went", sum(tally.left.values()), "", note=note)
    kinds = ", ".join(f"{count} × {said[:160]}" for said, count in Counter(tally.failed).most_common(4))
    plan.figure("soak", "calls that failed", len(tally.failed), "", 0.0, note=kinds)
    note = f"of {KILLS} kills"
    plan.figure("soak", "kernels", len({sample.pid for sample in samples}), "", note=note)
    late = [sample for sample in samples if sample.at >= seconds / 2]
    path = " ".join(f"{one.megabytes:.0f}" for one in samples[:: max(len(samples) // 20, 1)])
    last = _slope([one for one in late if one.at >= seconds * 0.75])
    note = f"second half, {ADDS_PER_S:.0f} add a second; last quarter {last:.1f}; MB over time: {path}"
    plan.figure("soak", "kernel's resident memory, growth a minute", _slope(late), "MB", note=note)
    note = f"descriptors {_range(late, 'descriptors')}, threads {_range(late, 'threads')} in the second half"
    plan.figure("soak", "kernel's resident memory, most", max(one.megabytes for one in samples), "MB", note=note)


def _slope(samples: Sequence[Sample]) -> float:
    """Megabytes a minute."""
    return statistics.linear_regression([one.at / 60 for one in samples], [one.megabytes for one in samples])[0]


def _range(samples: Sequence[Sample], name: str) -> str:
    values = [getattr(one, name) for one in samples]
    return f"{min(values)} to {max(values)}"
