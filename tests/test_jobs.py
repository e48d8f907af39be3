"""Background jobs: who does them, in which order, when they are tried again, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from kernels import Hosts
from person import LONG, Clock, Person, eventually, settings_for
from sqlalchemy import select, update
from terminals import Terminal

from memos_mcp.cube import instant
from memos_mcp.errors import Conflict, EngineLost, InvalidInput, NotFound
from memos_mcp.gateway import resources
from memos_mcp.gateway.control import kernel_figures
from memos_mcp.jobs import CRASHED, KEPT, KEPT_DAYS, LAST_RETRY_S, LEASE, Job, Jobs, retry_s
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import schema
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.memory_api import forget
from memos_mcp.scheduler.runner import MOST_REST_S, Runner, Turn, Work, rest_s


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger.db", tmp_path / "backups", datetime.now(UTC))
    yield opened
    opened.close()


@pytest.fixture
def jobs(ledger: Ledger, clock: Clock) -> Jobs:
    return Jobs(ledger, clock)


Queue = Callable[..., str]


@pytest.fixture
def queue(ledger: Ledger, jobs: Jobs) -> Queue:
    """Queues a job, and tells the listeners."""

    def queued(kind: str = "count", payload: dict[str, Any] | None = None, total: int = 3, **given: Any) -> str:
        with ledger.write() as connection:
            job = jobs.create(connection, kind, payload or {}, total, **given)
        jobs.notice()
        return job

    return queued


def found(jobs: Jobs, job: str) -> Job:
    row = jobs.find(job)
    assert row is not None
    return row


Do = Callable[[Job, Turn], None]


def runner_of(jobs: Jobs, clock: Clock, works: Mapping[str, Work | Do], **given: Any) -> Runner:
    made = {kind: work if isinstance(work, Work) else Work(work) for kind, work in works.items()}
    return Runner(jobs, clock, made, **given)


def nothing(_job: Job, _turn: Turn) -> None:
    """Work that is done at once."""


# Order and time.


def test_jobs_are_done_by_priority_and_then_in_the_order_of_queueing(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    seen: list[str] = []
    first, second, urgent = queue(), queue(), queue(priority=0.9)
    runner = runner_of(jobs, clock, {"count": lambda job, _: seen.append(job.id)})
    assert runner.run_ready() == 3
    assert seen == [urgent, first, second]
    assert {found(jobs, job).state for job in seen} == {"done"}
    assert found(jobs, first).done == 3


def test_a_job_is_not_begun_before_its_time(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    later = datetime.fromisoformat(clock.advance(hours=0)).replace(hour=13)
    job = queue(not_before=instant(later))
    runner = runner_of(jobs, clock, {"count": nothing})
    assert runner.run_ready() == 0
    assert jobs.next_ready(["count"]) == instant(later)
    clock.advance(hours=2)
    assert runner.run_ready() == 1
    assert found(jobs, job).state == "done"
    assert jobs.next_ready(["count"]) is None


def test_a_kind_that_nobody_knows_waits(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job = queue("of a newer version")
    assert runner_of(jobs, clock, {"count": nothing}).run_ready() == 0
    assert found(jobs, job).state == "queued"


# Leases.


def test_a_job_has_one_holder_until_its_lease_ends(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job = queue()
    taken = jobs.lease(["count"], "one")
    assert taken is not None
    assert taken.id == job
    assert jobs.lease(["count"], "another") is None
    clock.advance(seconds=LEASE.total_seconds() - 1)
    assert jobs.keep(job, "one", 1)
    clock.advance(seconds=LEASE.total_seconds() - 1)
    assert jobs.lease(["count"], "another") is None
    clock.advance(seconds=2)
    retaken = jobs.lease(["count"], "another")
    assert retaken is not None
    assert (retaken.id, retaken.done) == (job, 1)
    assert not jobs.keep(job, "one", 2)
    assert not jobs.give_back(job, "one", state="done")
    assert (found(jobs, job).state, found(jobs, job).holder, found(jobs, job).done) == ("running", "another", 1)


def test_who_lost_the_lease_ends_without_harm_and_what_it_was_writing_is_rolled_back(
    ledger: Ledger, jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    job = queue()
    written: list[str] = []

    def count(who: str, meanwhile: Callable[[], None], payload: dict[str, Any], turn: Turn) -> None:
        for at in range(payload.get("at", 0), 3):
            with ledger.write() as connection:
                ledger.put(connection, f"step {at}", who)
                turn.note(connection, at + 1, {"at": at + 1})
            written.append(f"{who} {at}")
            turn.step()
            if at == 0:
                meanwhile()

    second = runner_of(jobs, clock, {"count": lambda job, turn: count("second", lambda: None, job.payload, turn)})

    def lose_it() -> None:
        clock.advance(seconds=LEASE.total_seconds() + 1)
        assert second.run_ready() == 1

    first = runner_of(jobs, clock, {"count": lambda job, turn: count("first", lose_it, job.payload, turn)})
    assert first.run_ready() == 1
    assert written == ["first 0", "second 1", "second 2"]
    assert (found(jobs, job).state, found(jobs, job).done) == ("done", 3)
    with ledger.read() as connection:
        assert [ledger.get(connection, f"step {at}") for at in range(3)] == ["first", "second", "second"]


def test_a_start_goes_on_with_what_a_crash_left_from_the_last_payload(
    ledger: Ledger, jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    job = queue(payload={"at": 0})
    assert jobs.lease(["count"], "killed") is not None
    assert jobs.keep(job, "killed", 2, {"at": 2})
    seen: list[Any] = []
    runner = runner_of(jobs, clock, {"count": lambda job, _: seen.append((job.payload, job.done, job.attempts))})
    runner.start()
    assert eventually(lambda: found(jobs, job).state == "done")
    runner.stop()
    assert seen == [({"at": 2}, 2, 1)]


def test_a_job_during_which_the_process_ends_again_and_again_is_given_up(
    jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    job = queue()
    for _ in range(3):
        assert jobs.lease(["count"], "killed") is not None
        assert jobs.release(["count"]) == 1
    assert runner_of(jobs, clock, {"count": Work(nothing, attempts=3)}).run_ready() == 1
    assert found(jobs, job).state == "failed"
    assert found(jobs, job).error == f"given up after 3 attempts: {CRASHED}"


# Failure.


def test_a_failure_is_tried_again_later_each_time_and_given_up_in_the_end(
    jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    job = queue()

    def fail(_job: Job, _turn: Turn) -> None:
        raise EngineLost("signal 6")

    runner = runner_of(jobs, clock, {"count": Work(fail, attempts=3)})
    for attempt in (1, 2):
        assert runner.run_ready() == 1
        row = found(jobs, job)
        assert (row.state, row.attempts) == ("queued", attempt)
        assert "signal 6" in str(row.error)
        assert runner.run_ready() == 0
        clock.advance(seconds=retry_s(attempt))
    assert runner.run_ready() == 1
    assert (found(jobs, job).state, found(jobs, job).attempts) == ("failed", 3)


@given(st.integers(1, 200))
def test_the_wait_for_the_next_attempt_grows_to_a_bound(attempts: int) -> None:
    assert 0 < retry_s(attempts) <= retry_s(attempts + 1) <= LAST_RETRY_S


def test_a_fault_of_the_program_fails_the_job_at_once_and_the_next_one_is_done(
    jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    faulty, sound = queue("faulty", priority=0.9), queue()

    def divide(_job: Job, _turn: Turn) -> None:
        raise ZeroDivisionError

    assert runner_of(jobs, clock, {"faulty": divide, "count": nothing}).run_ready() == 2
    assert found(jobs, faulty).state == "failed"
    assert found(jobs, faulty).error == "a fault of the program: see the log"
    assert found(jobs, sound).state == "done"


def test_failures_count_anew_once_a_job_has_come_further(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job = queue(total=10)

    def a_step_then_a_fault(job: Job, turn: Turn) -> None:
        if job.done < 9:
            turn.step(job.done + 1, {"at": job.done + 1})
            raise EngineLost("signal 6")

    runner = runner_of(jobs, clock, {"count": Work(a_step_then_a_fault, attempts=2)})
    for _ in range(10):
        assert runner.run_ready() == 1
        clock.advance(hours=1)
    assert found(jobs, job).state == "done"


# Cancelling.


def test_a_job_that_waits_is_cancelled_at_once_and_never_begun(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job = queue()
    assert jobs.cancel(job)
    assert found(jobs, job).state == "cancelled"
    assert runner_of(jobs, clock, {"count": nothing}).run_ready() == 0
    assert not jobs.cancel(job)
    assert not jobs.cancel("none")


def test_a_job_that_runs_ends_after_its_step_when_it_is_cancelled(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job = queue()
    steps: list[int] = []

    def count(job: Job, turn: Turn) -> None:
        for at in range(3):
            steps.append(at)
            jobs.cancel(job.id)
            turn.step(at + 1, {"at": at + 1})

    assert runner_of(jobs, clock, {"count": count}).run_ready() == 1
    assert steps == [0]
    assert (found(jobs, job).state, found(jobs, job).done) == ("cancelled", 0)


@pytest.mark.parametrize("way", ["fails", "crashes", "loses its lease"])
def test_what_was_asked_to_end_is_not_begun_again(jobs: Jobs, clock: Clock, queue: Queue, way: str) -> None:
    job = queue()
    assert jobs.lease(["count"], "one") is not None
    assert jobs.cancel(job)
    if way == "fails":
        jobs.fail(job, "one", "no luck", 5)
    elif way == "crashes":
        jobs.release(["count"])
    else:
        clock.advance(seconds=LEASE.total_seconds() + 1)
    begun: list[str] = []
    runner_of(jobs, clock, {"count": lambda job, _: begun.append(job.id)}).run_ready()
    assert (found(jobs, job).state, begun) == ("cancelled", [])


# Behind the calls.


def test_light_work_is_not_stuck_behind_heavy_work(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    begun, released = threading.Event(), threading.Event()

    def wait(_job: Job, turn: Turn) -> None:
        begun.set()
        while not released.wait(0.01):
            turn.step()

    runner = runner_of(jobs, clock, {"heavy": Work(wait, heavy=True), "count": nothing}, quiet_s=lambda: 99.0)
    runner.start()
    heavy = queue("heavy")
    assert begun.wait(30.0)
    light = queue()
    assert eventually(lambda: found(jobs, light).state == "done")
    assert found(jobs, heavy).state == "running"
    released.set()
    assert eventually(lambda: found(jobs, heavy).state == "done")
    assert eventually(lambda: not runner.busy)
    runner.stop()


@pytest.mark.slow
def test_heavy_work_waits_for_a_quiet_moment_unless_it_is_urgent(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    quiet, asked = 0.0, threading.Event()

    def quiet_s() -> float:
        asked.set()
        return quiet

    runner = runner_of(jobs, clock, {"heavy": Work(nothing, heavy=True)}, quiet_s=quiet_s)
    patient = queue("heavy")
    runner.start()
    assert asked.wait(30.0)
    urgent = queue("heavy", priority=1.0)
    assert eventually(lambda: found(jobs, urgent).state == "done")
    assert found(jobs, patient).state == "queued"
    quiet = 99.0
    assert eventually(lambda: found(jobs, patient).state == "done")
    runner.stop()


def test_calls_in_progress_go_first_at_every_step(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    aside: list[None] = []

    def count(_job: Job, turn: Turn) -> None:
        for at in range(3):
            turn.step(at + 1)

    queue()
    runner_of(jobs, clock, {"count": count}, step_aside=lambda: aside.append(None)).run_ready()
    assert len(aside) == 3


def test_a_heavy_job_makes_room_for_a_better_one_and_goes_on_after_it(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    order: list[str] = []

    def count(job: Job, turn: Turn) -> None:
        for at in range(job.payload.get("at", 0), 3):
            order.append(f"{job.payload['name']} {at}")
            if job.payload["name"] == "long" and at == 0:
                queue("heavy", {"name": "short"}, priority=0.8)
            turn.step(at + 1, {**job.payload, "at": at + 1})

    queue("heavy", {"name": "long"})
    runner_of(jobs, clock, {"heavy": Work(count, heavy=True)}).run_ready()
    assert order == ["long 0", "short 0", "short 1", "short 2", "long 1", "long 2"]


@given(st.just(0.0) | st.floats(1e-9, 0.05), st.floats(0.01, 1.0))  # no clock tells less than a nanosecond
def test_heavy_work_takes_no_more_than_its_share(worked_s: float, share: float) -> None:
    rest = rest_s(worked_s, share)
    assert 0 <= rest <= MOST_REST_S
    if rest < MOST_REST_S:
        assert worked_s <= share * (worked_s + rest) * (1 + 1e-9)


def test_an_end_waits_for_the_step_and_the_next_start_goes_on(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    job, begun = queue(total=2), threading.Event()

    def first_step(_job: Job, turn: Turn) -> None:
        turn.step(1, {"at": 1})
        begun.set()
        while True:
            turn.step()

    runner = runner_of(jobs, clock, {"count": first_step})
    runner.start()
    assert begun.wait(30.0)
    runner.stop()
    runner.stop()
    row = found(jobs, job)
    assert (row.state, row.payload, row.attempts) == ("queued", {"at": 1}, 0)
    runner = runner_of(jobs, clock, {"count": nothing})
    runner.start()
    assert eventually(lambda: found(jobs, job).state == "done")
    runner.stop()


# What is told of them.


def test_every_change_of_a_job_is_told(jobs: Jobs, clock: Clock, queue: Queue) -> None:
    told: list[tuple[str, str]] = []
    jobs.watch(lambda job: told.append((job, found(jobs, job).state)))
    job = queue()
    runner_of(jobs, clock, {"count": lambda _, turn: turn.step(1, {})}).run_ready()
    assert told == [(job, "running"), (job, "running"), (job, "done")]


def test_finished_jobs_are_forgotten_after_a_while_and_over_a_number(
    ledger: Ledger, jobs: Jobs, clock: Clock, queue: Queue
) -> None:
    old, waiting = queue(), queue("other")
    runner = runner_of(jobs, clock, {"count": nothing})
    runner.run_ready()
    assert jobs.forget_finished() == 0
    clock.advance(days=KEPT_DAYS, seconds=1)
    young = queue()
    runner.run_ready()
    assert jobs.forget_finished() == 1
    assert jobs.find(old) is None
    with ledger.write() as connection:
        for _ in range(KEPT):
            jobs.create(connection, "count", {}, 1)
        connection.execute(update(schema.jobs).where(schema.jobs.c.kind == "count").values(state="done"))
    assert jobs.forget_finished() == 1
    assert jobs.find(young) is None
    assert found(jobs, waiting).state == "queued"


# In a store.


def queued_for(kernel: Kernel, principal: str | None, kind: str = "of another version") -> str:
    """A job that stays where it is, for nobody here knows its kind."""
    parts = kernel.api.parts
    with parts.ledger.write() as connection:
        return parts.jobs.create(connection, kind, {"cubes": [7]}, 4, principal=principal)


def test_a_job_is_told_to_whom_it_belongs_and_to_nobody_else(kernel: Kernel, ada: Person, bob: Person) -> None:
    hers, the_stores = queued_for(kernel, "ada"), queued_for(kernel, None)
    told = resources.read(kernel.api, ada.caller, f"memos://jobs/{hers}")
    assert '"state": "queued"' in told
    assert "cubes" not in told
    assert [job["id"] for job in kernel.api.jobs(ada.caller)] == [hers, the_stores]
    assert [job["id"] for job in kernel.api.jobs(bob.caller)] == [the_stores]
    with pytest.raises(NotFound):
        resources.read(kernel.api, bob.caller, f"memos://jobs/{hers}")
    with pytest.raises(NotFound):
        kernel.api.cancel_job(bob.caller, hers)
    assert {job["id"] for job in kernel_figures(kernel)["jobs"]} == {hers, the_stores}
    assert kernel.api.cancel_job(ada.caller, hers)["state"] == "cancelled"
    with pytest.raises(Conflict, match="it is cancelled"):
        kernel.api.cancel_job(ada.caller, hers)


@pytest.mark.parametrize("name", ["", "x" * 100_000, "任务 🎈", "\0", "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_a_job_that_there_is_not_is_said_so(kernel: Kernel, ada: Person, name: str) -> None:
    for verb in (kernel.api.job, kernel.api.cancel_job):
        with pytest.raises(NotFound, match="finished jobs are forgotten"):
            verb(ada.caller, name)


def test_what_cleans_the_files_after_a_purge_is_not_cancelled(kernel: Kernel, ada: Person) -> None:
    job = queued_for(kernel, "ada", forget.REBUILD)
    with pytest.raises(Conflict, match="not left half done"):
        kernel.api.cancel_job(ada.caller, job)


def test_listeners_hear_of_a_job_and_not_of_a_memory(kernel: Kernel, ada: Person) -> None:
    job, heard = queued_for(kernel, "ada"), list[tuple[tuple[str, ...], str | None]]()
    kernel.api.parts.events.listen(lambda changed: heard.append((changed.cubes, changed.job)), jobs=True)
    kernel.api.cancel_job(ada.caller, job)
    assert heard == [((), job)]


@pytest.mark.slow
def test_a_promotion_that_is_cancelled_ends_and_is_not_begun_again(
    open_kernel: Callable[..., Kernel], engine: FakeEngine
) -> None:
    kernel = open_kernel(engine=lambda _: engine)
    ada, reading, go_on = Person(kernel.api, "ada"), threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        if verb == "read":
            reading.set()
            assert go_on.wait(30.0)

    engine.before = hold
    promoting = threading.Thread(target=lambda: ada.promote(ada.keep(f"The gate is green {LONG}")))
    promoting.start()
    assert reading.wait(30.0)
    [running] = kernel.api.jobs(ada.caller)
    waiting = ada.promote(ada.keep(f"The door is red {LONG}"))["job"]
    assert kernel.api.cancel_job(ada.caller, waiting)["state"] == "cancelled"
    assert kernel.api.cancel_job(ada.caller, running["id"])["state"] == "running"
    go_on.set()
    promoting.join(30.0)
    assert eventually(lambda: kernel.api.job(ada.caller, running["id"])["state"] == "cancelled")
    kernel.close()
    engine.before = lambda _: None
    kernel = open_kernel(engine=lambda _: engine)
    assert eventually(lambda: not kernel.busy)
    assert kernel.api.parts.jobs.unfinished() == []
    with kernel.ledger.read() as connection:
        assert connection.execute(select(schema.promoted_cubes)).all() == []


@pytest.mark.parametrize("share", ["0", "101", "much", "-5"])
def test_a_share_that_cannot_be_is_refused(home: Path, share: str) -> None:
    with pytest.raises(InvalidInput, match="background_share"):
        settings_for(home, background_share=share)


@pytest.mark.slow
def test_jobs_are_shown_watched_and_ended_at_a_terminal(hosts: Hosts) -> None:
    terminal = Terminal(hosts.home)
    ada = hosts.bridge()
    ada.keep("There is a store")
    assert terminal.json("jobs") == {"jobs": []}
    hosts.kill_kernel()
    ledger = Ledger.open(hosts.home / "ledger.db", hosts.home / "backups", datetime.now(UTC))
    with ledger.write() as connection:
        job = Jobs(ledger, lambda: datetime.now(UTC)).create(connection, "of another version", {}, 4)
    ledger.close()
    ada.request("resources/subscribe", {"uri": f"memos://jobs/{job}"})
    assert f"{job}" in terminal.run("jobs").stdout
    shown = terminal.json("status")["jobs"]  # what was written is looked at for near-duplicates after a start
    assert [one["id"] for one in shown if one["kind"] == "of another version"] == [job]
    assert terminal.json("jobs", "cancel", job)["state"] == "cancelled"
    assert ada.notification("notifications/resources/updated") == {"uri": f"memos://jobs/{job}"}
    assert "has ended already" in terminal.run("jobs", "cancel", job, code=1).stderr
    assert "memos-mcp: " in terminal.run("jobs", "cancel", "任务", code=1).stderr
