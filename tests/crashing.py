"""A program that kills a store at every step of a background job, starts it again, and says what is not whole then.

    python crashing.py SCENARIO

A **point** is a moment just before a transaction is on disk, on a thread that asks for the work or does it; where the
work writes files too, also just after, and where there is a local model, before everything that it is asked. (Without
files, what a process leaves just after a transaction is what it leaves just before the next.) The program makes a store
once and then, for point after point until a run ends unharmed: copies it, begins the work in a process of its own,
which is killed at the point; starts the store in a second process, which is killed too, at an earlier or later point of
what is left; starts it a third time, waits until nothing is left to do, and looks. It prints a JSON line for each
point: `{"point", "killed", "again", "problems"}`, in which `killed` and `again` are the signals that ended the first
and the second process.

What is killed, and what is to be so then, says `crash_scenarios`. That the ledger is whole (every memory's changes are
a chain that ends where it is, SQLite and doctor find nothing, no job is left) is looked at for each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from crash_scenarios import SCENARIOS, Facts, Scenario
from fake_engine import FakeEngine
from fake_trainer import FakeTrainer
from fakes import FakeEmbedder, FakeIndex
from person import Person, eventually, settings_for
from sqlalchemy import event, select

from memos_mcp.cube import instant
from memos_mcp.jobs import Job
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import changes, cubes, versions
from memos_mcp.ledger.schema import operations as operations_table
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.scheduler import merging
from memos_mcp.scheduler.runner import Runner

LIMIT_S = 60
"""Seconds after which a process that neither ends nor is killed is taken to hang."""
SOON = timedelta(seconds=90)
"""Ahead of which no job is hastened."""
THREADS = ("MainThread", "jobs", "heavy jobs", "activation")
"""Threads on which points are counted, by the beginning of their names."""


# What is looked at for each.


def broken_parts(kernel: Kernel) -> list[str]:
    """What is not whole in the ledger, whatever was done."""
    with kernel.ledger.read() as connection:
        found = dialect.check(connection)
        now = {row.id: row for row in connection.execute(select(cubes))}
        query = select(changes, operations_table.c.undone_by).join(
            operations_table, operations_table.c.seq == changes.c.op
        )
        chains: dict[str, list[Any]] = {}
        for row in connection.execute(query.order_by(changes.c.op)):
            chains.setdefault(row.cube, []).append(row)
        former = connection.execute(select(versions.c.cube, versions.c.version)).all()
    for cube, row in now.items():
        chain = chains.get(cube, [])
        for side, last in (("version", row.version), ("state", row.state)):
            links = [(getattr(one, f"from_{side}"), getattr(one, f"to_{side}")) for one in chain]
            links = [link for link in links if link[1] is not None]
            starts = [start for start, _ in links]
            ends = [end for _, end in links]
            if starts[1:] != ends[:-1] or not ends or starts[0] is not None or ends[-1] != last:
                found.append(f"the {side}s of {cube} go {links} and it has {last}")
        if sorted(v for seq, v in former if seq == row.seq) != list(range(1, row.version)):
            found.append(f"{cube} does not have its former versions")
    found += [f"{check.name}: {check.said}" for check in of_running(kernel) if check.status == "fail"]
    return found + [f"job {job.kind} is {job.state}" for job in soon(kernel)]


def soon(kernel: Kernel) -> list[Job]:
    """The jobs that are to be done now, or are tried again soon; what waits for a day to come is none of them."""
    until = instant(datetime.now(UTC) + SOON)
    return [job for job in kernel.api.parts.jobs.unfinished() if (job.not_before or "") <= until]


# The processes.


class Killer:
    """Counts points on the threads that matter, and kills this process at the one that it was told."""

    def __init__(self, place: int | None, scenario: Scenario) -> None:
        self._left, self._files = place, scenario.files
        self._threads = (*THREADS, *scenario.threads)
        self._lock = threading.Lock()
        self._committed = threading.local()
        self.on = False

    def watch(self, kernel: Kernel) -> None:
        engine = kernel.ledger.engine
        event.listen(engine, "commit", self._before)
        event.listen(engine, "checkin", self._after)

    def point(self, _what: str) -> None:
        """A moment at which the process may be killed."""
        if not self.on or self._left is None or not threading.current_thread().name.startswith(self._threads):
            return
        with self._lock:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _before(self, _connection: object) -> None:
        self._committed.now = True
        self.point("before a commit")

    def _after(self, *_: object) -> None:
        if self._files and getattr(self._committed, "now", False):
            self._committed.now = False
            self.point("after a commit")


def opened(scenario: Scenario, home: Path, killer: Killer, ago: timedelta = timedelta(0)) -> tuple[Kernel, Runner]:
    """The store with its fakes, so long ago, and a runner for kinds that the product does not have."""
    fake = FakeEngine(cells=10_000, before=killer.point) if scenario.engine else None
    trained = {"trainer": lambda _: FakeTrainer(before_step=lambda n: killer.point(f"step {n}"))}
    kernel = Kernel.open(
        settings_for(home, **scenario.settings), embedder=lambda _: FakeEmbedder(), index=FakeIndex(),
        engine=lambda _: fake, now=lambda: datetime.now(UTC) - ago, **(trained if scenario.trainer else {}),
    )  # fmt: skip
    kernel.api.parts.embedder.get(10.0)
    killer.watch(kernel)
    parts = kernel.api.parts
    runner = Runner(parts.jobs, parts.now, scenario.works(parts))
    runner.start()
    return kernel, runner


def finish(kernel: Kernel, runner: Runner, scenario: Scenario) -> bool:
    """Whether nothing is left to do after a while; nothing waits for a quiet moment, or for its next attempt."""
    jobs, parts = kernel.api.parts.jobs, kernel.api.parts

    def none_left() -> bool:
        scenario.act(kernel)
        for job in soon(kernel):
            jobs.hasten(job.id, instant(parts.now()))
        kernel.runner.run_ready()
        runner.run_ready()
        extracting = kernel.extractor is not None and kernel.extractor.busy
        at_work = parts.indexer.busy or kernel.deliveries.busy or extracting
        return not at_work and not soon(kernel)

    return eventually(none_left, LIMIT_S / 2)


def one_run(scenario: Scenario, home: Path, facts: Facts, kill_at: int | None, *, begin: bool) -> list[str]:
    """Begin the work, or only start again, and see it to its end; killed at a point, this does not return."""
    killer = Killer(kill_at, scenario)
    killer.on = not begin
    kernel, runner = opened(scenario, home, killer)
    ada = Person(kernel.api, "ada")
    killer.on = True
    if begin:
        scenario.begin(ada, facts)
    problems = [] if finish(kernel, runner, scenario) else ["work does not come to an end"]
    killer.on = False
    if kill_at is None:
        problems += broken_parts(kernel) + scenario.check(kernel, ada, facts)
    runner.stop()
    kernel.close()
    return problems


def apart(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do it in a process of its own; the number of the signal that ended it (0 for none), and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            json.dump(work(), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(text) if text else None


def prepared(name: str, scenario: Scenario, home: Path) -> Facts:
    """Make the store, in the calling process."""
    kernel, runner = opened(scenario, home, Killer(None, scenario), scenario.ago)
    facts = scenario.prepare(Person(kernel.api, "ada"))
    assert eventually(lambda: not kernel.busy)
    while name != merging.KIND and merging.look(kernel.api.parts):
        pass
    runner.stop()
    kernel.close()
    return facts


def main(name: str) -> None:
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        facts = prepared(name, scenario, made)
        unharmed = Path(folder) / "unharmed"
        shutil.copytree(made, unharmed)
        one_run(scenario, unharmed, facts, None, begin=True)  # what a process loads once, no other has to
        assert threading.active_count() == 1, threading.enumerate()
        place, harmed = 0, True
        while harmed:
            home = Path(folder) / "home"
            shutil.copytree(made, home)
            first, _ = apart(partial(one_run, scenario, home, facts, place, begin=True))
            again, _ = apart(partial(one_run, scenario, home, facts, place * 5 % 7, begin=False))
            last, problems = apart(partial(one_run, scenario, home, facts, None, begin=False))
            harmed = first == signal.SIGKILL
            said = problems if last == 0 else [f"the third run ended by signal {last}"]
            print(json.dumps({"point": place, "killed": first, "again": again, "problems": said}), flush=True)
            shutil.rmtree(home)
            place += 1


if __name__ == "__main__":
    main(sys.argv[1])
