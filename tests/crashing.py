"""A program that kills a store at every step of a background job, starts it again, and says what is not whole then.

    python crashing.py SCENARIO

A **point** is a moment just before a transaction is on disk, or just after, on a thread that asks for a job or does
it, and where there is a local model, before everything that it is asked. The program makes a store once and then, for
point after point until a run ends unharmed: copies it, begins the job in a process of its own, which is killed at the
point; starts the store in a second process, which is killed too, at an earlier or later point of what is left; starts
it a third time, waits until no job is left, and looks. It prints a JSON line for each point: `{"point", "killed",
"again", "problems"}`, in which `killed` and `again` are the signals that ended the first and the second process.

To take a new kind of job in, add an entry to `SCENARIOS`: `prepare` fills a store and returns what `check` needs to
know of it; `begin` does what queues the job (for many kinds `queue("kind", payload, total)` says it all); `check` lists
what is not so, of a job that was done exactly once, or never begun: being killed, `begin` may not have come so far.
That the ledger is whole (every memory's changes are a chain that ends where it is, SQLite and doctor find nothing, no
job is left) is looked at for each. `works` adds kinds that the product does not have, `engine` a local model.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_engine import FakeEngine
from fakes import FakeEmbedder, FakeIndex
from person import LONG, Person, eventually, settings_for
from sqlalchemy import event, select

from memos_mcp.activation.memory import ACTIVATE, STEER
from memos_mcp.cube import Snapshot
from memos_mcp.governance import Caller, space_of
from memos_mcp.jobs import Job
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect, operations
from memos_mcp.ledger.schema import changes, cubes, versions
from memos_mcp.ledger.schema import operations as operations_table
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.memory_api.forget import REBUILD
from memos_mcp.memory_api.parts import Parts
from memos_mcp.requests import SteerRequest
from memos_mcp.scheduler.runner import Runner, Turn, Work
from memos_mcp.states import State

LIMIT_S = 60
"""Seconds after which a process that neither ends nor is killed is taken to hang."""
THREADS = ("MainThread", "jobs", "heavy jobs", "activation")
"""Threads on which points are counted, by the beginning of their names."""
Facts = dict[str, Any]
Point = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """A job that is killed: see the module."""

    prepare: Callable[[Person], Facts]
    begin: Callable[[Person, Facts], object]
    check: Callable[[Kernel, Person, Facts], list[str]]
    works: Callable[[Parts], Mapping[str, Work]] = lambda _: {}
    engine: bool = False
    index_from: int = 400


def queue(kind: str, payload: Facts, total: int) -> Callable[[Person, Facts], object]:
    """A `begin` that queues a job of this kind; payload values that name a fact are the fact."""

    def begin(ada: Person, facts: Facts) -> None:
        parts = ada.api.parts
        with parts.ledger.write() as connection:
            given = {key: facts.get(value, value) for key, value in payload.items()}
            parts.jobs.create(connection, kind, given, total, principal="ada")
        parts.jobs.notice()

    return begin


# The scenarios.


def _canary_among_many(ada: Person) -> Facts:
    canary = ada.keep("Canary vaxlorqump sings")
    drawn = ada.keep("The vaxlorqump bird sings", links=[{"to": canary, "relation": "derived_from"}])
    ada.add(messages=[{"role": "user", "content": f"Line {n} of the filler"} for n in range(40)])
    assert eventually(lambda: ada.api.read.stats(ada.caller)["indexed_spaces"] == 1)
    return {"canary": canary, "drawn": drawn}


def _purge(ada: Person, facts: Facts) -> None:
    ada.forget(facts["canary"], mode="purge")


def _purged_or_there(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    named = [facts["canary"], facts["drawn"]]
    with kernel.ledger.read() as connection:
        there = list(kernel.api.parts.vault.by_ids(connection, named))
    others = set(ada.ids("line of the filler", top_k=50)) - set(named)
    found = [] if len(others) == 40 else ["others are not found any more"]
    if there:
        return found if there == named else [*found, "half purged"]
    files = [path for path in kernel.settings.home.rglob("*") if path.is_file()]
    return found + [f"{path.name} remembers" for path in files if b"vaxlorqump" in path.read_bytes()]


def _gates(ada: Person) -> Facts:
    return {"gates": [ada.keep(f"The gate {n} is green {LONG}") for n in range(3)]}


def _held_or_plain(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    began = [op for op in ada.history()["operations"] if op["verb"] == "promote"]
    activation = kernel.api.parts.activation
    assert activation is not None
    with kernel.ledger.read() as connection:
        found = kernel.api.parts.vault.by_ids(connection, facts["gates"]).values()
    held = activation.holds([(cube.seq, cube.version) for cube in found])
    return [] if held == bool(began) else [f"asked for {len(began)} times, and held: {held}"]


def _colours(ada: Person) -> Facts:
    return {"towards": [ada.keep("The gate is red")], "away": [ada.keep("The gate is blue")]}


def _steer(ada: Person, facts: Facts) -> None:
    ada.api.steer(ada.caller, SteerRequest(name="red", towards=facts["towards"], away=facts["away"]))


def _vector_made_or_none(kernel: Kernel, ada: Person, _facts: Facts) -> list[str]:
    began = [op for op in ada.history()["operations"] if op["verb"] == "steer"]
    made = [one["made"] for one in ada.api.read.adapters(ada.caller)]
    files = list((kernel.settings.home / "states").glob("*.steering*"))
    return [] if len(made) == len(began) and all(made) else [f"{len(began)} asked for, made: {made}, files: {files}"]


PAIRS = 4


def _pairs(ada: Person) -> Facts:
    halves = [f"{half} half of pair {n}" for n in range(PAIRS) for half in ("One", "The other")]
    said = [{"role": "user", "content": half} for half in halves]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    return {"pairs": [ids[place : place + 2] for place in range(0, 2 * PAIRS, 2)]}


def _joining(parts: Parts) -> Mapping[str, Work]:
    """A kind with many steps: each makes one memory of two, as the background does, and is an operation."""

    def join(job: Job, turn: Turn) -> None:
        caller = Caller("ada", client="tests")
        pairs = job.payload["pairs"]
        for place in range(job.payload.get("at", 0), len(pairs)):
            with parts.ledger.write() as connection:
                sources = list(parts.vault.by_ids(connection, pairs[place]).values())
                op = operations.begin("join", "ada", "tests", parts.stamp())
                text = " and ".join(source.snapshot.content for source in sources)
                draft = Snapshot(text, parents=tuple(source.id for source in sources))
                space = space_of(connection, sources[0].space)
                joined, made = parts.vault.insert(connection, op, space, [draft], None, 0)
                moved = parts.vault.move_all(connection, op, sources, State.MERGED, "absorb")
                operations.record(connection, op, made + [change for _, change in moved])
                turn.note(connection, place + 1, {**job.payload, "at": place + 1})
            parts.changed(caller, joined + [cube for cube, _ in moved], listing=True)
            turn.step()

    return {"join": Work(join)}


def _each_joined_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    with kernel.ledger.read() as connection:
        began = [job for job in kernel.api.jobs(ada.caller) if job["kind"] == "join"]
        wanted = 1 if began else 0
        found = []
        for pair in facts["pairs"]:
            sources = kernel.api.parts.vault.by_ids(connection, pair).values()
            joined = kernel.api.parts.vault.made_from(connection, pair)
            states = [source.state for source in sources]
            whole = states == [State.MERGED if wanted else State.GENERATED] * 2
            if not whole or len(joined) != wanted:
                found.append(f"{pair} are {states}, joined {len(joined)} times")
    if wanted and (began[0]["state"], began[0]["done"]) != ("done", PAIRS):
        found.append(f"the job is {began[0]}")
    return found


SCENARIOS: dict[str, Scenario] = {
    REBUILD: Scenario(_canary_among_many, _purge, _purged_or_there, index_from=20),
    ACTIVATE: Scenario(_gates, lambda ada, facts: ada.promote(*facts["gates"]), _held_or_plain, engine=True),
    STEER: Scenario(_colours, _steer, _vector_made_or_none, engine=True),
    "join": Scenario(_pairs, queue("join", {"pairs": "pairs"}, PAIRS), _each_joined_once, works=_joining),
}
"""By kind of job."""


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
    return found + [f"job {job.kind} is {job.state}" for job in kernel.api.parts.jobs.unfinished()]


# The processes.


class Killer:
    """Counts points on the threads that matter, and kills this process at the one that it was told."""

    def __init__(self, place: int | None) -> None:
        self._left = place
        self._lock = threading.Lock()
        self._committed = threading.local()
        self.on = False

    def watch(self, kernel: Kernel) -> None:
        engine = kernel.ledger.engine
        event.listen(engine, "commit", self._before)
        event.listen(engine, "checkin", self._after)

    def point(self, _what: str) -> None:
        """A moment at which the process may be killed."""
        if not self.on or self._left is None or not threading.current_thread().name.startswith(THREADS):
            return
        with self._lock:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _before(self, _connection: object) -> None:
        self._committed.now = True
        self.point("before a commit")

    def _after(self, *_: object) -> None:
        if getattr(self._committed, "now", False):
            self._committed.now = False
            self.point("after a commit")


def opened(scenario: Scenario, home: Path, killer: Killer) -> tuple[Kernel, Runner]:
    """The store with its fakes, and a runner for kinds that the product does not have."""
    fake = FakeEngine(cells=10_000, before=killer.point) if scenario.engine else None
    kernel = Kernel.open(
        settings_for(home, index_from=str(scenario.index_from)),
        embedder=lambda _: FakeEmbedder(), index=FakeIndex(), engine=lambda _: fake,
    )  # fmt: skip
    kernel.api.parts.embedder.get(10.0)
    killer.watch(kernel)
    parts = kernel.api.parts
    runner = Runner(parts.jobs, parts.now, scenario.works(parts))
    runner.start()
    return kernel, runner


def finish(kernel: Kernel, runner: Runner) -> bool:
    """Whether no job is left after a while; heavy ones wait for no quiet moment."""

    def none_left() -> bool:
        kernel.runner.run_ready()
        runner.run_ready()
        return not kernel.api.parts.jobs.unfinished()

    return eventually(none_left, LIMIT_S / 2) and eventually(lambda: not kernel.busy, LIMIT_S / 2)


def one_run(scenario: Scenario, home: Path, facts: Facts, kill_at: int | None, *, begin: bool) -> list[str]:
    """Begin the job, or only start again, and see it to its end; killed at a point, this does not return."""
    killer = Killer(kill_at)
    killer.on = not begin
    kernel, runner = opened(scenario, home, killer)
    ada = Person(kernel.api, "ada")
    killer.on = True
    if begin:
        scenario.begin(ada, facts)
    problems = [] if finish(kernel, runner) else ["work does not come to an end"]
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


def prepared(scenario: Scenario, home: Path) -> Facts:
    """Make the store, in the calling process."""
    kernel, runner = opened(scenario, home, Killer(None))
    facts = scenario.prepare(Person(kernel.api, "ada"))
    assert eventually(lambda: not kernel.busy)
    runner.stop()
    kernel.close()
    return facts


def main(scenario: Scenario) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        ended, facts = apart(lambda: prepared(scenario, made))
        assert ended == 0
        place, harmed = 0, True
        while harmed:
            home = Path(folder) / "home"
            shutil.copytree(made, home)
            first, _ = apart(lambda home=home, place=place: one_run(scenario, home, facts, place, begin=True))
            again, _ = apart(lambda home=home, place=place: one_run(scenario, home, facts, place * 5 % 7, begin=False))
            last, problems = apart(lambda home=home: one_run(scenario, home, facts, None, begin=False))
            harmed = first == signal.SIGKILL
            said = problems if last == 0 else [f"the third run ended by signal {last}"]
            print(json.dumps({"point": place, "killed": first, "again": again, "problems": said}), flush=True)
            shutil.rmtree(home)
            place += 1


if __name__ == "__main__":
    main(SCENARIOS[sys.argv[1]])
