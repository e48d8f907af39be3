"""Kernels are killed, stopped and short of disk space under eight hosts at work: what was acknowledged is there, once.

Knows nothing of how hosts and kernels find each other again, which `test_rendezvous` and `test_starting` test.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psutil
import pytest
import snowballstemmer
from kernels import Hosts, ended, fill, greeted_by_hand, small_disk
from person import eventually
from stdio_client import ERAS, LIMIT_S, Server

from memos_mcp.plaintext.analysis import tokens
from memos_mcp.rendezvous import KernelGone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets and no signals")

HOSTS, ROUNDS = 8, 100
PAUSE_S = 3.0
"""Seconds without a kernel's sign of life, or without disk space, that a session has to bear."""
DIED_TWICE = "died twice with this request"
Disturb = Callable[[int, random.Random], None]


def judged(answer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a tool's answer says went wrong, if anything did, and its structured result."""
    if "error" in answer:
        return answer["error"]["message"], {}
    result = answer["result"]
    return (result["content"][0]["text"], {}) if result.get("isError") else ("", result["structuredContent"])


class Worker:
    """One host: sends several requests at once, and keeps what it was told became of them.

    `acknowledged`: id by text of every addition that was; `open_texts`: additions that may or may not have been
    carried out. Its one notebook has had `pages` acknowledged updates, and up to `open_pages` others.
    """

    def __init__(self, number: int, server: Server) -> None:
        self.number, self._server = number, server
        self.acknowledged: dict[str, str] = {}
        self.open_texts: list[str] = []
        self.fresh: list[str] = []
        self.failures: list[str] = []
        self.notebook = server.keep(f"Notebook of worker {number}, empty")
        self.pages = self.open_pages = 0

    def word(self, *which: int) -> str:
        """A word that stands in one memory alone."""
        digest = hashlib.sha256(repr((self.number, *which)).encode()).hexdigest()[:12]
        return "word" + "".join(chr(ord("a") + int(digit, 16)) for digit in digest)

    def work(self, *when: int) -> None:
        """Two additions, an update and a search, all on their way before the first answer is read."""
        first, second = (f"{self.word(*when, n)} was seen by worker {self.number} in round {when}" for n in range(2))
        page = f"Notebook of worker {self.number}, page {when}"
        self._call(
            [
                ("memory_add", {"content": first}),
                ("memory_update", {"id": self.notebook, "content": page}),
                ("memory_search", {"query": f"notebook of worker {self.number}"}),
                ("memory_add", {"content": second}),
            ]
        )

    def add(self, count: int) -> None:
        """That many additions, all on their way before the first answer is read."""
        texts = [f"{self.word(n)} is number {n} of worker {self.number}" for n in range(count)]
        self._call([("memory_add", {"content": text}) for text in texts])

    def _call(self, calls: list[tuple[str, dict[str, Any]]]) -> None:
        sent = [self._server.send("tools/call", {"name": tool, "arguments": given}) for tool, given in calls]
        for (tool, given), request in zip(calls, sent, strict=True):
            self._note(tool, given, self._server.answer(request))

    def _note(self, tool: str, given: dict[str, Any], answer: dict[str, Any]) -> None:
        failed, data = judged(answer)
        if failed:
            self.failures.append(failed)
        if tool == "memory_add" and failed:
            self.open_texts.append(given["content"])
        elif tool == "memory_add":
            assert data["unchanged"] == [], "it was carried out before"
            self.acknowledged[given["content"]] = data["cubes"][0]["id"]
            self.fresh.append(given["content"])
        elif tool == "memory_update":
            self.pages += not failed
            self.open_pages += bool(failed)

    def look_after(self, other: Worker) -> None:
        """See, over another bridge than the one that it was told, that all is there that the other was told is."""
        for text in other.fresh:
            assert self._ids_of(text) == [other.acknowledged[text]], text
        other.fresh.clear()
        for text in list(other.open_texts):
            found = self._ids_of(text)
            assert len(found) <= 1, text
            other.open_texts.remove(text)
            if found:
                other.acknowledged[text] = found[0]
        version = self._found(ids=[other.notebook])[0]["version"]
        assert 1 + other.pages <= version <= 1 + other.pages + other.open_pages
        other.pages, other.open_pages = version - 1, 0

    def _ids_of(self, text: str) -> list[str]:
        return [hit["id"] for hit in self._found(query=text.split()[0], top_k=10) if hit["text"] == text]

    def _found(self, **arguments: Any) -> list[dict[str, Any]]:
        request = self._server.send("tools/call", {"name": "memory_search", "arguments": arguments})
        failed, data = judged(self._server.answer(request))
        assert not failed, failed
        return list(data["hits"])

    def see_all(self, other: Worker) -> None:
        """See that all is there that the other ever added, with its own text."""
        texts = {cube: text for text, cube in other.acknowledged.items()}
        ids = list(texts)
        for start in range(0, len(ids), 50):
            hits = self._found(ids=ids[start : start + 50], max_chars=100_000)
            assert {hit["id"]: hit["text"] for hit in hits} == {cube: texts[cube] for cube in ids[start : start + 50]}


class Crew:
    """Workers on one data directory, each on a thread of its own."""

    def __init__(self, hosts: Hosts, size: int = HOSTS, *options: str) -> None:
        self.hosts = hosts
        self.workers = [Worker(n, hosts.bridge(*options, era=ERAS[n % 2])) for n in range(size)]
        self._pool = ThreadPoolExecutor(size)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def all(self, act: Callable[[int], object], beside: Callable[[], object] = lambda: None) -> None:
        """Let every worker act (by number) while something else happens; what goes wrong in any is raised."""
        acting = [self._pool.submit(act, n) for n in range(len(self.workers))]
        beside()
        for one in acting:
            one.result()

    def round(self, number: int, disturb: Disturb) -> None:
        """Work under the disturbance, and see that nothing acknowledged was lost or done twice."""
        luck = random.Random(number)
        self.all(lambda n: self.workers[n].work(number), lambda: disturb(number, luck))
        self.all(lambda n: self.workers[n].look_after(self.workers[n - 1]))

    def reckon(self) -> None:
        """See that the store holds what was acknowledged in all rounds and nothing else."""
        self.all(lambda n: self.workers[n].see_all(self.workers[n - 1]))
        (server, *_) = self.hosts.servers
        known = sum(1 + len(worker.acknowledged) for worker in self.workers)
        assert server.resource("memos://stats")["cubes"] == known

    def failures(self) -> list[str]:
        return [said for worker in self.workers for said in worker.failures]


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def killer(hosts: Hosts) -> Disturb:
    """Kills the kernel at a random moment of the work, and in some rounds the next one at some moment of its life."""

    def disturb(_: int, luck: random.Random) -> None:
        pause(luck.uniform(0.0, 0.15))
        killed = hosts.kill_owner()
        another = luck.random() < 0.15  # which only begins if the first was killed before all was answered
        if another and eventually(lambda: hosts.owner_pid() not in (None, killed), 1.0):
            pause(luck.choice((luck.uniform(0.0, 0.2), luck.uniform(0.0, 1.5))))
            hosts.kill_owner()

    return disturb


@pytest.mark.parametrize("options", [(), ("--loopback",)], ids=" ".join)
@pytest.mark.slow
def test_what_is_acknowledged_survives_a_few_kills_and_is_done_once(hosts: Hosts, options: tuple[str, ...]) -> None:
    with Crew(hosts, HOSTS, *options) as crew:
        for number in range(2):
            crew.round(number, killer(hosts))
        crew.reckon()
    assert [said for said in crew.failures() if DIED_TWICE not in said] == []


@pytest.mark.slow
def test_what_is_acknowledged_survives_a_hundred_kills_and_is_done_once(hosts: Hosts) -> None:
    with Crew(hosts) as crew:
        for number in range(ROUNDS):
            crew.round(number, killer(hosts))
        crew.reckon()
    assert [said for said in crew.failures() if DIED_TWICE not in said] == []
    assert len(hosts.kernels()) == 1


def told_to_end(hosts: Hosts) -> None:
    os.kill(hosts.kernel(), signal.SIGTERM)


def drained(hosts: Hosts) -> None:
    with pytest.raises(KernelGone):
        greeted_by_hand(hosts.home, version="99.0.0")


def bereft_of_its_lock(hosts: Hosts) -> None:
    kernel = hosts.kernel()
    (hosts.home / "owner.lock").unlink()
    assert ended(kernel)


def taken_over(hosts: Hosts) -> None:
    foreground = hosts.serve()
    foreground.send_signal(signal.SIGINT)
    assert foreground.wait(LIMIT_S) in (0, 128 + signal.SIGINT)  # it may not have got to handling it


@pytest.mark.slow
@pytest.mark.parametrize("act", [told_to_end, drained, bereft_of_its_lock, taken_over], ids=lambda act: act.__name__)
def test_a_kernel_that_ends_in_order_costs_no_request(hosts: Hosts, act: Callable[[Hosts], None]) -> None:
    def disturb(_: int, luck: random.Random) -> None:
        pause(luck.uniform(0.0, 0.2))
        act(hosts)

    with Crew(hosts) as crew:
        for number in range(2):
            crew.round(number, disturb)
            assert eventually(lambda: len(hosts.kernels()) == 1)
        crew.reckon()
    assert crew.failures() == []


@pytest.mark.slow
def test_a_kernel_stopped_for_seconds_costs_no_request(hosts: Hosts) -> None:
    def disturb(_: int, luck: random.Random) -> None:
        pause(luck.uniform(0.0, 0.1))
        kernel = psutil.Process(hosts.kernel())
        kernel.suspend()
        pause(PAUSE_S)
        kernel.resume()

    with Crew(hosts) as crew:
        for number in range(2):
            crew.round(number, disturb)
        crew.reckon()
    assert crew.failures() == []


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["kernel lives", "kernel killed"])
def test_a_disk_full_for_seconds_costs_requests_and_nothing_that_was_acknowledged(hosts: Hosts, killed: bool) -> None:
    with small_disk(hosts.home, "64m"), hosts, Crew(hosts) as crew:
        space = threading.Event()

        def disturb(number: int, luck: random.Random) -> None:
            pause(luck.uniform(0.0, 0.1))
            filler = fill(hosts.home)
            if killed:
                pause(luck.uniform(0.0, 1.0))
                hosts.kill_owner()
            pause(PAUSE_S)
            filler.unlink()
            space.set()

        def work_until_there_is_space(number: int, n: int) -> None:
            for part in itertools.count():
                crew.workers[n].work(number, part)
                if space.is_set():
                    return

        for number in range(2):
            space.clear()
            luck = random.Random(number)
            crew.all(partial(work_until_there_is_space, number), partial(disturb, number, luck))
            crew.all(lambda n: crew.workers[n].look_after(crew.workers[n - 1]))
        crew.reckon()
        assert crew.failures()
        expected = ("space", "full", DIED_TWICE)
        assert [said for said in crew.failures() if not any(word in said for word in expected)] == []


def test_words_are_the_same_whichever_thread_looks_at_them() -> None:
    stems, ends = ("walk", "run", "happi", "nation", "generous", "relat"), ("ing", "ed", "ness", "ation", "ly", "ities")
    words = [f"{stem}{end}{letter}" for stem in stems for end in ends for letter in "abdefgiklnrsty"]
    alone = snowballstemmer.stemmer("english")
    expected = {word: alone.stemWord(word) for word in words}
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.000_01)
    try:
        with ThreadPoolExecutor(HOSTS) as pool:
            seen = list(pool.map(tokens, [" ".join(words[n:] + words[:n]) for n in range(HOSTS)]))
    finally:
        sys.setswitchinterval(usual)
    assert {token for found in seen for token in found} == set(expected.values())


@pytest.mark.slow
def test_sixteen_hosts_add_a_hundred_memories_each_at_once(hosts: Hosts) -> None:
    with Crew(hosts, 16) as crew:
        crew.all(lambda n: crew.workers[n].add(100))
        crew.all(lambda n: crew.workers[n].look_after(crew.workers[n - 1]))
        crew.reckon()
    assert crew.failures() == []
