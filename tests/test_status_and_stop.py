"""Tests of commands beside hosts, of `status` and `stop`, and of what the doctor says of the process that is there.

Knows nothing of what a host says to its kernel.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embeddings_server import EmbeddingsServer
from kernels import Hosts, alive, ended, leads_to_a_kernel, unprivileged
from person import eventually
from stdio_client import CLIENT, LIMIT_S
from terminals import Terminal

from memos_mcp import rendezvous
from memos_mcp.asked import Asked
from memos_mcp.kernel import opened
from memos_mcp.layout import Layout
from memos_mcp.link import Link, Refused, to_kernel
from memos_mcp.lock import DirectoryLock
from memos_mcp.settings import load

pytestmark = pytest.mark.slow

HOST = "{name} {version}".format(**CLIENT)
CONTRACT = {"pid", "version", "started", "home", "connections", "jobs", "embedder", "cubes"}


@pytest.fixture
def hosts(home: Path) -> Iterator[Hosts]:
    """The hosts of a data directory, which end with the test, as does the kernel."""
    with Hosts(home) as made:
        yield made


@pytest.fixture
def terminal(hosts: Hosts) -> Terminal:
    return Terminal(hosts.home)


@pytest.fixture
def linked(terminal: Terminal) -> Iterator[Link]:
    """What a command holds while it runs."""
    with to_kernel(str(terminal.home), Asked({"principal": "ada"}, {}, "ada", None)) as link:
        yield link


def check_of(terminal: Terminal, name: str, code: int = 0) -> dict[str, Any]:
    """The worst of the doctor's checks with this name."""
    checks = [one for one in terminal.json("doctor", code=code)["checks"] if one["name"] == name]
    return max(checks, key=lambda one: ("ok", "warn", "fail").index(one["status"]))


# --- beside hosts


def test_a_command_beside_a_host_reads_and_writes_what_the_host_does(hosts: Hosts, terminal: Terminal) -> None:
    host = hosts.bridge()
    cube = host.keep("The spare key hangs behind the door")
    assert [hit["id"] for hit in terminal.json("search", "where is the spare key?")["hits"]] == [cube]
    other = terminal.keep("The boat is red")
    assert host.done("memory_search", query="boat")["hits"][0]["id"] == other
    assert len(hosts.kernels()) == 1


def test_status_names_the_kernel_its_store_and_every_host(hosts: Hosts, terminal: Terminal) -> None:
    hosts.bridge()
    hosts.bridge(MEMOS_SPACE="work").keep("The boat is red")
    found = terminal.json("status")
    assert found.keys() >= CONTRACT | {"kind", "socket", "lock", "log", "memory"}
    assert (found["running"], found["pid"], found["kind"]) == (True, hosts.kernel(), "kernel")
    assert (found["home"], found["embedder"], found["cubes"], found["jobs"]) == (str(hosts.home), "minilm", 1, [])
    assert [(one["host"], one["space"]) for one in found["connections"]] == [(HOST, "personal"), (HOST, "work")]
    assert Path(found["log"]).is_file()
    said = terminal.run("status").stdout
    assert all(part in said for part in (f"process {found['pid']}", found["socket"], HOST, "work"))


def test_status_says_that_no_kernel_runs_and_starts_none(terminal: Terminal) -> None:
    found = terminal.json("status")
    assert found.keys() >= CONTRACT
    assert (found["running"], found["pid"], found["connections"]) == (False, None, [])
    assert terminal.run("status").stdout == f"No kernel runs for {terminal.home}.\n"
    assert not terminal.home.exists()


def test_a_command_in_a_repository_uses_its_space_when_asked_to(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rigging" / ".git").mkdir(parents=True)
    personal = terminal.keep("Ada has a boat")
    monkeypatch.chdir(tmp_path / "rigging")
    terminal.env["MEMOS_SPACE"] = "auto"
    cube = terminal.keep("The boat is rigged with hemp")
    assert terminal.json("show", cube)["governance"]["space"].startswith("rigging-")
    assert {hit["id"] for hit in terminal.json("search", "boat")["hits"]} == {cube, personal}


def test_a_command_waits_for_a_doctor_who_has_the_store_open(terminal: Terminal) -> None:
    terminal.home.mkdir(mode=0o700)
    lock = DirectoryLock(Layout(terminal.home).lock)
    lock.acquire(kind="doctor")
    command = terminal.begun("add", "The boat is red")
    assert f"process {os.getpid()} (doctor)" in terminal.run("status").stdout
    assert "no kernel" in terminal.run("stop", code=1).stderr
    lock.release()
    assert b"Kept" in command.communicate(timeout=LIMIT_S)[0]


# --- stop


def test_stop_ends_the_kernel_and_the_next_request_of_a_host_starts_another(hosts: Hosts, terminal: Terminal) -> None:
    host = hosts.bridge()
    cube = host.keep("The boat is red")
    before = hosts.kernel()
    done = terminal.json("stop")
    assert (done["stopped"], done["forced"], done["pid"], done["kind"]) == (True, False, before, "kernel")
    assert ended(before)
    assert not leads_to_a_kernel(hosts.home)
    assert host.done("memory_search", query="boat")["hits"][0]["id"] == cube
    assert hosts.kernel() != before
    said = terminal.run("stop").stdout
    assert "Ended the kernel" in said
    assert "1 host stays" in said


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_stop_says_that_there_is_nothing_to_end(terminal: Terminal, options: list[str]) -> None:
    assert terminal.json("stop", *options)["stopped"] is False
    assert "No kernel runs" in terminal.run("stop", *options).stdout
    assert not terminal.home.exists()


def test_stop_ends_a_kernel_in_the_foreground(hosts: Hosts, terminal: Terminal) -> None:
    process = hosts.serve()
    assert terminal.json("status")["kind"] == "serve"
    assert terminal.json("stop")["pid"] == process.pid
    assert process.wait(LIMIT_S) == 0


def test_a_kernel_can_be_seen_and_ended_while_its_settings_cannot_be_read(hosts: Hosts, terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    (hosts.home / "config.toml").write_text("= nonsense")
    assert "not valid TOML" in terminal.run("search", "boat", code=1).stderr
    assert terminal.json("status")["pid"] == hosts.kernel()
    assert check_of(terminal, "integrity", code=1)["status"] == "ok"
    assert terminal.json("stop")["stopped"] is True


def test_a_process_that_is_no_kernel_is_named_and_never_ended(terminal: Terminal) -> None:
    with opened(load({"home": str(terminal.home)}, env={})):
        assert f"process {os.getpid()}" in terminal.run("status").stdout
        assert terminal.json("status")["running"] is False
        for options in ([], ["--force"]):
            said = terminal.run("stop", *options, code=1).stderr
            assert f"process {os.getpid()} (command), which is no kernel" in said


def test_force_kills_nobody_on_the_word_of_a_file_alone(hosts: Hosts, terminal: Terminal) -> None:
    stranger = hosts.started(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    hosts.home.mkdir()
    path = Layout(hosts.home).lock
    said = json.dumps({"pid": stranger.pid, "kind": "kernel", "since": 1.0})
    path.write_text(said)
    assert terminal.json("stop", "--force")["stopped"] is False
    lock = DirectoryLock(path)
    lock.acquire(kind="kernel")
    path.write_text(said)
    assert "another container" in terminal.run("stop", "--force", code=1).stderr
    path.write_text(json.dumps({"pid": -1, "kind": "kernel"}))
    assert "another container" in terminal.run("stop", "--force", code=1).stderr
    lock.release()
    assert alive(stranger.pid)


def test_a_kernel_that_does_not_answer_is_reported_and_killed_only_when_asked_to(
    hosts: Hosts, terminal: Terminal
) -> None:
    cube = terminal.keep("The boat is red")
    kernel = psutil.Process(hosts.kernel())
    kernel.suspend()
    begun = [terminal.begun(*command) for command in (["status", "--json"], ["stop"], ["doctor", "--json"])]
    status, stop, doctor = (process.communicate(timeout=LIMIT_S) for process in begun)
    assert [process.returncode for process in begun] == [1, 1, 1]
    found = json.loads(status[0])
    assert (found["running"], found["pid"]) == (True, kernel.pid)
    assert "does not answer" in found["problem"]
    assert b"memos-mcp stop --force" in stop[1]
    (failed,) = [check for check in json.loads(doctor[0])["checks"] if check["status"] == "fail"]
    assert failed["name"] == "kernel"
    assert "memos-mcp stop --force" in failed["next"]
    done = terminal.json("stop", "--force")
    assert (done["stopped"], done["forced"], done["pid"]) == (True, True, kernel.pid)
    assert ended(kernel.pid)
    assert terminal.json("show", cube)["id"] == cube


# --- calls that take long


class SlowServer(EmbeddingsServer):
    """Answers no question with many texts after the first, until it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._batches = 0

    def answer(self, texts: list[str]) -> list[dict[str, object]]:
        if len(texts) > 1:
            self._batches += 1
            if self._batches == 2:
                self.reached.set()
                assert self.go_on.wait(LIMIT_S)
        return super().answer(texts)


@pytest.fixture
def slow_server() -> Iterator[SlowServer]:
    with SlowServer() as server:
        yield server
        server.go_on.set()


def fill(hosts: Hosts, count: int) -> None:
    """Add so many memories, each with its vector."""
    host = hosts.bridge()
    host.done("memory_add", messages=[{"role": "user", "content": f"note {i} on subject{i}"} for i in range(count)])
    assert eventually(lambda: Terminal(hosts.home).json("status")["waiting_for_vectors"] == 0)


def test_an_interrupted_change_of_embedder_stops_in_the_kernel_and_goes_on_when_repeated(
    hosts: Hosts, terminal: Terminal, slow_server: SlowServer
) -> None:
    fill(hosts, 150)
    name = f"openai:local@{slow_server.url}"
    command = terminal.begun("embedder", name)
    assert slow_server.reached.wait(LIMIT_S)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=LIMIT_S)
    assert command.returncode != 0
    assert b"goes on where it stopped" in said
    slow_server.go_on.set()
    changed = terminal.json("embedder", name)
    assert 0 < changed["embedded"] < 150
    assert sum(text.startswith("note ") for text in slow_server.texts) == 150
    assert terminal.json("embedder")["vectors"] == {name: 150}


def test_a_change_of_embedder_ends_with_the_kernel_and_says_that_it_can_be_repeated(
    hosts: Hosts, terminal: Terminal, slow_server: SlowServer
) -> None:
    fill(hosts, 150)
    kernel = hosts.kernel()
    command = terminal.begun("embedder", f"openai:local@{slow_server.url}")
    assert slow_server.reached.wait(LIMIT_S)
    stop = terminal.begun("stop")
    assert eventually(lambda: not leads_to_a_kernel(hosts.home))
    slow_server.go_on.set()
    _, said = command.communicate(timeout=LIMIT_S)
    assert stop.communicate(timeout=LIMIT_S)[1] == b""
    assert b"the same command goes on where it was interrupted" in said
    assert (command.returncode, stop.returncode) == (1, 0)
    assert ended(kernel)
    assert terminal.json("embedder")["embedder"] == "minilm"


def test_two_changes_of_the_whole_store_are_not_made_at_once(
    hosts: Hosts, terminal: Terminal, slow_server: SlowServer
) -> None:
    fill(hosts, 70)
    command = terminal.begun("embedder", f"openai:local@{slow_server.url}", "--json")
    assert slow_server.reached.wait(LIMIT_S)
    other = terminal.begun("reindex", "--json")
    assert eventually(lambda: json.loads(terminal.run("search", "note", "--json").stdout)["hits"] != [])
    assert other.poll() is None
    slow_server.go_on.set()
    assert json.loads(command.communicate(timeout=LIMIT_S)[0])["waiting"] == 0
    assert json.loads(other.communicate(timeout=LIMIT_S)[0])["memories"] == 70


# --- what is said over a link


def test_a_call_that_cannot_be_carried_out_is_answered_and_the_next_one_is_heard(linked: Link, home: Path) -> None:
    for name, arguments, said in (
        ("nonsense", {}, "has no call 'nonsense'"),
        ("add", {"content": "x", "kind": "poem"}, "kind 'poem' cannot be taken"),
        ("add", {"content": "\x01" * 3_000_000}, "do it in parts"),
        ("search", {"query": "x", "space": "nowhere"}, "No space 'nowhere'"),
    ):
        with pytest.raises(Refused, match=said):
            linked.call(name, arguments)
    assert linked.call("spaces") == []
    connection = rendezvous.connect(str(home))
    rendezvous.greet(connection, str(home), {"role": "command"}, LIMIT_S)
    with connection.detached() as sock:
        sock.settimeout(LIMIT_S)
        for line in (b"nonsense", b"[]", b'{"call": 1}', b'{"call": "add", "arguments": 1}', b"[" * 5000):
            sock.sendall(line + b"\n")
            assert json.loads(sock.recv(1 << 16))["error"]["kind"] == "InvalidInput"


# --- the doctor on who is there


def test_the_doctor_asks_the_kernel_that_runs(hosts: Hosts, terminal: Terminal) -> None:
    hosts.bridge().keep("The boat is red")
    report = terminal.json("doctor")
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert checks["lock"]["said"] == f"Held by process {hosts.kernel()} (kernel)."
    assert f"{HOST} in personal" in checks["connections"]["said"]
    assert "1 memory" in checks["full text"]["said"]
    assert {"socket", "jobs", "memory", "program.json", "embedder", "index", "waiting"} <= checks.keys()


def test_the_doctor_says_which_settings_a_kernel_takes_at_its_next_start(hosts: Hosts, terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    assert "takes it at its next start" in terminal.run("config", "idle_exit", "60").stderr
    assert "when they connect again" in terminal.run("config", "space", "work").stderr
    assert "idle_exit 900, and config.toml says 60" in check_of(terminal, "setting idle_exit")["said"]
    terminal.run("stop")
    assert check_of(terminal, "setting idle_exit")["status"] == "ok"
    assert terminal.run("config", "idle_exit", "70").stderr == ""


@pytest.mark.skipif(not rendezvous.UNIX, reason="Unix sockets")
def test_the_doctor_looks_at_the_socket_of_a_kernel_that_runs(hosts: Hosts, terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    path = hosts.home / rendezvous.SOCKET
    path.chmod(0o666)
    assert f"chmod 600 {path}" in check_of(terminal, "socket")["next"]
    path.chmod(0o600)
    (hosts.home / rendezvous.ADDRESS).write_text("{}")
    assert "of a former kernel" in check_of(terminal, "socket")["said"]
    (hosts.home / rendezvous.ADDRESS).unlink()
    path.unlink()
    assert check_of(terminal, "kernel")["status"] == "ok"


@pytest.mark.skipif(not rendezvous.UNIX, reason="Unix sockets")
def test_the_doctor_names_what_keeps_a_process_from_the_kernel(hosts: Hosts, terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    path = hosts.home / rendezvous.SOCKET
    path.chmod(0)
    command = [*unprivileged(), "doctor", "--json"]
    done = subprocess.run(command, env=terminal.environment(), capture_output=True, check=False, timeout=LIMIT_S)
    (failed,) = [check for check in json.loads(done.stdout)["checks"] if check["status"] == "fail"]
    assert (failed["name"], done.returncode) == ("kernel", 1)
    assert f"may not use {path}" in failed["said"]


@pytest.mark.skipif(not rendezvous.UNIX, reason="Unix sockets")
def test_the_doctor_tells_what_killed_kernels_left_and_what_is_in_their_way(terminal: Terminal) -> None:
    terminal.home.mkdir(mode=0o700)
    place, address = terminal.home / rendezvous.SOCKET, terminal.home / rendezvous.ADDRESS
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place))
    found = check_of(terminal, "socket")
    assert (found["status"], "left by a kernel" in found["said"]) == ("warn", True)
    place.unlink()
    address.write_text('{"port": 1, "token": "x"}')
    assert "left by a kernel" in check_of(terminal, "socket")["said"]
    place.write_text("a file of somebody's")
    assert f"Move {place} away" in check_of(terminal, "socket", code=1)["next"]
    assert terminal.json("status")["running"] is False


def test_the_doctor_says_that_a_kernel_takes_no_connection(terminal: Terminal) -> None:
    terminal.home.mkdir(mode=0o700)
    lock = DirectoryLock(Layout(terminal.home).lock)
    lock.acquire(kind="kernel")
    found = check_of(terminal, "kernel", code=1)
    assert "takes no connection" in found["said"]
    assert "memos-mcp stop --force" in found["next"]
    lock.release()


def test_the_doctor_reads_which_program_was_there_last_and_whether_it_crashed(terminal: Terminal) -> None:
    terminal.home.mkdir(mode=0o700)
    program, logs = Layout(terminal.home).program, Layout(terminal.home).logs
    for written, said in (
        ("nonsense", "cannot be read"),
        ('{"python": "/nowhere/python", "version": "0.0.1"}', "is gone"),
        (json.dumps({"python": sys.executable, "version": "99.0"}), "kernels are started from there"),
    ):
        program.write_text(written)
        assert said in check_of(terminal, "program.json")["said"]
    logs.mkdir()
    (logs / "kernel-errors.log").write_text("Fatal Python error: Segmentation fault")
    assert "fault in native code" in check_of(terminal, "crash")["said"]
