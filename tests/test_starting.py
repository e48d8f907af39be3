"""How a kernel begins, goes on without the process that began it, makes way for another, and ends when it is idle.

Knows nothing of wrong states of the data directory, which `test_rendezvous` tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from kernels import (
    DATA,
    Hosts,
    alive,
    ended,
    greeted_by_hand,
    leads_to_a_kernel,
    opened_and_greeted_by_hand,
)
from person import eventually, settings_for
from stdio_client import BRIDGE, CLIENT, ERAS, LEGACY, LIMIT_S, MODERN, RpcError, Server, environment

from memos_mcp.gateway import serve
from memos_mcp.gateway.idle import Idleness
from memos_mcp.gateway.kernel_process import KernelProcess
from memos_mcp.rendezvous import KernelGone
from memos_mcp.version import VERSION

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets and no signals"),
]

HELLO = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
SLOW_IMPORTS = {"subprocess", "tomllib", "argparse", "typing", "dataclasses", "pathlib"}
"""What a bridge that finds a kernel has no time to import."""
DAY_S = 86_400.0


def handshake() -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}).encode() + b"\n"


def said_instead_of_a_session(server: Server) -> str:
    """The sentence with which a bridge refuses the handshake."""
    with pytest.raises(RpcError) as refused:
        server.greet()
    return refused.value.message


HOLDING = """
import os, sys, threading

class Holding:
    def find_spec(self, name, path=None, target=None):
        if name in ("sqlalchemy", "chromadb", "onnxruntime", "tokenizers", "numpy"):
            while not os.path.exists(os.environ["GO"]):
                threading.Event().wait(0.01)

sys.meta_path.insert(0, Holding())
"""
"""A sitecustomize that holds the heavy libraries back until a file is there."""

# --- one kernel for all


def test_twenty_bridges_at_once_have_one_kernel(hosts: Hosts) -> None:
    servers = [hosts.bridge(greeted=False, era=ERAS[i % 2]) for i in range(20)]
    for server in servers:
        server.greet()
    kept = {server.keep(f"Host number {i} was here") for i, server in enumerate(servers)}
    assert len(kept) == 20
    assert eventually(lambda: len(hosts.kernels()) == 1)
    kernel = hosts.kernel()
    for server in servers:
        assert {hit["id"] for hit in server.done("memory_search", ids=sorted(kept))["hits"]} == kept
    assert hosts.kernel() == kernel


def test_a_kernel_answers_the_handshake_before_it_has_the_heavy_libraries(hosts: Hosts, tmp_path: Path) -> None:
    site, go = tmp_path / "site", tmp_path / "go"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HOLDING)
    server = hosts.bridge(PYTHONPATH=str(site), GO=str(go))  # greeted: what is held back was not waited for
    kernel = hosts.kernel()
    go.touch()
    assert server.keep("The lamp is red")
    assert hosts.kernel() == kernel


def test_a_kernel_has_nothing_of_the_process_that_started_it(shared: Hosts) -> None:
    kernel = shared.kernel()
    assert os.getsid(kernel) == kernel
    assert psutil.Process(kernel).cwd() == str(shared.home)
    assert os.getpgid(kernel) == kernel


def test_a_hosts_pipes_end_with_its_bridge_though_the_kernel_lives_on(hosts: Hosts) -> None:
    our_end, their_end = os.pipe()
    bridge = hosts.started(
        *BRIDGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(their_end,)
    )
    os.close(their_end)
    said, complained = bridge.communicate(handshake(), LIMIT_S)  # both ends only when nobody has them open
    assert json.loads(said)["result"]["serverInfo"]
    assert complained == b""
    assert select.select([our_end], [], [], LIMIT_S)[0]
    assert os.read(our_end, 1) == b""
    os.close(our_end)
    kernel = hosts.kernel()
    assert alive(kernel)
    with contextlib.suppress(FileNotFoundError):  # without /proc
        held = {os.readlink(f"/proc/{kernel}/fd/{name}") for name in os.listdir(f"/proc/{kernel}/fd")}
        ours = {os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")} - {os.devnull}
        assert not [name for name in held & ours if not name.startswith("anon_inode")]


def test_a_bridge_to_a_warm_kernel_loads_little_and_only_the_standard_library(shared: Hosts) -> None:
    def imported(*arguments: str, **given: Any) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *arguments],
            env=environment(shared.home), capture_output=True, timeout=LIMIT_S, check=True, **given,
        )  # fmt: skip
        return {name.decode() for name in re.findall(rb"\| +(\S+)\n", done.stderr)}

    loaded = imported("-m", "memos_mcp", input=handshake()) - imported("-m", "__hello__")
    assert "memos_mcp.bridge.main" in loaded
    assert {name for name in loaded if name.partition(".")[0] not in {*sys.stdlib_module_names, "memos_mcp"}} == set()
    assert loaded & SLOW_IMPORTS == set()
    assert not {name for name in loaded if name.startswith(("memos_mcp.gateway", "memos_mcp.settings"))}


# --- a bridge ends with its host


def test_a_bridge_ends_with_its_hosts_input_and_the_kernel_stays(shared: Hosts) -> None:
    server = shared.bridge()
    assert server.end() == 0
    assert server.errors() == ""
    assert shared.bridge().is_alive()


def test_a_bridge_ends_on_a_signal_and_the_kernel_stays(shared: Hosts) -> None:
    kernel = shared.kernel()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        server = shared.bridge()
        server.process.send_signal(number)
        assert server.wait() != 0
        assert server.errors() == ""
    assert shared.kernel() == kernel


@pytest.mark.parametrize("closed", [0, 1, 2], ids=["stdin", "stdout", "stderr"])
def test_a_closed_standard_stream_is_no_reason_to_hang(shared: Hosts, closed: int) -> None:
    command = ("sh", "-c", f"{' '.join(BRIDGE)} {closed}>&-")
    bridge = shared.started(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complained = bridge.communicate(handshake(), LIMIT_S)
    assert bridge.returncode == 0
    assert complained == b""
    assert (b'"serverInfo"' in said) == (closed == 2)


A_HOST = """
import json, subprocess, sys
bridge = subprocess.Popen([sys.executable, "-m", "memos_mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
bridge.stdin.write(sys.argv[1].encode() + b"\\n")
bridge.stdin.flush()
bridge.stdout.readline()
print(bridge.pid, flush=True)
sys.stdin.read()
"""


def test_a_bridge_ends_when_its_host_is_killed(shared: Hosts) -> None:
    command = (sys.executable, "-c", A_HOST, handshake().decode().strip())
    host = shared.started(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert host.stdout is not None
    bridge = int(host.stdout.readline())
    assert alive(bridge)
    host.kill()
    assert ended(bridge)
    assert shared.kernel()


# --- a kernel makes way


def answer_to(hosts: Hosts, **hello: Any) -> str:
    """What a greeting with these fields leads to."""
    try:
        return str(greeted_by_hand(hosts.home, **hello)["version"])
    except KernelGone:
        return "draining"


@pytest.mark.parametrize("version", [VERSION, "0.0.1", "0.1.0rc1", "", "new", "-1", None])
def test_an_equal_older_or_nonsensical_version_changes_nothing(shared: Hosts, version: object) -> None:
    kernel = shared.kernel()
    assert answer_to(shared, version=version) == VERSION
    assert shared.bridge().is_alive()
    assert shared.kernel() == kernel


def test_a_newer_bridge_has_the_kernel_make_way_and_sessions_go_on(hosts: Hosts) -> None:
    first = hosts.bridge()
    kept, kernel = first.keep("Older, and still known"), hosts.kernel()
    assert answer_to(hosts, version="99.0.0", role="host", bridge="b", generation=0) == "draining"
    assert ended(kernel)
    assert not leads_to_a_kernel(hosts.home)
    assert first.done("memory_search", query="older")["hits"][0]["id"] == kept
    assert hosts.kernel() != kernel


def recording(folder: Path) -> Path:
    """An interpreter that notes what it was started with, and is this one otherwise."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/started\nexec {sys.executable} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(("version", "is_used"), [("99.0.0", True), (VERSION, False), ("0.0.9", False)])
def test_the_program_that_last_migrated_the_store_is_started_if_it_is_newer(
    hosts: Hosts, folder: Path, version: str, is_used: bool
) -> None:
    hosts.home.mkdir()
    named = {"python": str(recording(folder)), "version": version}
    program = hosts.home / "program.json"
    program.write_text(json.dumps(named), encoding="utf-8")
    assert hosts.bridge().keep("Whoever serves it")
    assert (folder / "started").exists() == is_used
    if is_used:
        assert f"serve --bridged --home {hosts.home}" in (folder / "started").read_text(encoding="utf-8")
    assert (json.loads(program.read_text(encoding="utf-8")) == named) == is_used


@pytest.mark.parametrize("left", ["gone", "broken", "no JSON"])
def test_a_newer_program_that_does_not_start_is_no_reason_to_fail(hosts: Hosts, folder: Path, left: str) -> None:
    hosts.home.mkdir()
    python = folder / "python"
    if left == "broken":
        python.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n", encoding="utf-8")
        python.chmod(0o755)
    said = "{" if left == "no JSON" else json.dumps({"python": str(python), "version": "99.0.0"})
    (hosts.home / "program.json").write_text(said, encoding="utf-8")
    assert hosts.bridge().keep("Then I serve it myself")
    assert hosts.kernel()


def test_serve_in_the_foreground_takes_over_and_hosts_keep_their_sessions(hosts: Hosts) -> None:
    first, second = hosts.bridge(), hosts.bridge(era=MODERN)
    kept, kernel = first.keep("Served by the one and by the other"), hosts.kernel()
    foreground = hosts.serve()
    assert ended(kernel)
    assert hosts.owner() == hosts.owner() | {"pid": foreground.pid, "kind": "serve"}
    for server in (first, second, hosts.bridge()):
        assert server.done("memory_search", query="served")["hits"][0]["id"] == kept
    assert answer_to(hosts, version="99.0.0") == VERSION
    refused = hosts.started(*BRIDGE, "serve", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = refused.communicate(timeout=LIMIT_S)[1].decode()
    assert refused.returncode != 0
    assert f"process {foreground.pid} (serve)" in said
    foreground.send_signal(signal.SIGINT)
    assert foreground.wait(LIMIT_S) == 0
    assert second.done("memory_search", query="served")["hits"][0]["id"] == kept
    assert hosts.owner()["kind"] == "kernel"


# --- a kernel ends when nobody needs it


def test_a_kernel_ends_after_its_last_bridge_and_leaves_nothing_but_data(folder: Path) -> None:
    with Hosts(folder / "home", MEMOS_IDLE_EXIT="1") as hosts:
        server = hosts.bridge()
        kept, kernel = server.keep("Nobody is left to ask"), hosts.kernel()
        assert server.end() == 0
        assert ended(kernel)
        assert hosts.files() <= DATA
        later = hosts.bridge()
        assert later.done("memory_search", query="nobody left")["hits"][0]["id"] == kept
        assert hosts.kernel() != kernel


def test_idleness_counts_from_the_last_connection_or_work() -> None:
    idle, never = Idleness(900.0, 0.0), Idleness(None, 0.0)
    assert not idle.is_over(899.0, connections=0, busy=False)
    assert idle.is_over(900.0, connections=0, busy=False)
    for minute in range(24 * 60):
        assert not idle.is_over(1_000.0 + 60 * minute, connections=minute % 2, busy=minute % 2 == 0)
    end = 1_000.0 + 60 * (24 * 60 - 1)
    assert not idle.is_over(end + 899.0, connections=0, busy=False)
    assert idle.is_over(end + 900.0, connections=0, busy=False)
    assert not never.is_over(DAY_S, connections=0, busy=False)


class Clock:
    """Hours that pass when they are told to, or with every look."""

    def __init__(self) -> None:
        self.now_s, self.hours_a_look = 0.0, 0

    def __call__(self) -> float:
        self.now_s += 3_600 * self.hours_a_look
        return self.now_s


@pytest.mark.parametrize("kind", ["kernel", "serve"])
def test_a_day_without_anybody_ends_a_bridged_kernel_and_none_in_the_foreground(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: serve.Kind
) -> None:
    monkeypatch.chdir(folder)  # a kernel goes to its data directory
    home, clock = folder / "home", Clock()
    process = KernelProcess(serve.take(settings_for(home), kind, loopback=False), clock)

    async def live() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(process.run)
            if kind == "kernel":
                held = await anyio.to_thread.run_sync(opened_and_greeted_by_hand, home)
                with held:
                    for _ in range(24):
                        clock.now_s += 3_600
                        process.look()
                assert await anyio.to_thread.run_sync(greeted_by_hand, home), "somebody was connected"
                clock.hours_a_look = 1
            else:
                for _ in range(24):
                    assert await anyio.to_thread.run_sync(greeted_by_hand, home)
                    clock.now_s += 3_600
                    process.look()
                assert await anyio.to_thread.run_sync(greeted_by_hand, home)
                process.end("the day is over")

    anyio.run(live)
    assert not leads_to_a_kernel(home)


# --- a kernel that does not answer


def test_a_stopped_kernel_is_reported_and_the_session_goes_on_when_it_does(hosts: Hosts) -> None:
    first, second = hosts.bridge(), hosts.bridge()
    kept, kernel = first.keep("Before the silence"), psutil.Process(hosts.kernel())
    kernel.suspend()
    try:
        add = {"name": "memory_add", "arguments": {"content": "Said into the silence"}}
        asked = [(server, server.send("tools/call", add)) for server in (first, second)]
        sentences = [server.answer(request)["error"]["message"] for server, request in asked]
        for sentence in [*sentences, said_instead_of_a_session(hosts.bridge(greeted=False))]:
            assert "memos-mcp stop --force" in sentence
            assert f"process {kernel.pid}" in sentence
    finally:
        kernel.resume()
    for server in (first, second):
        assert server.done("memory_search", query="before the silence")["hits"][0]["id"] == kept
    assert hosts.kernel() == kernel.pid
    said = [hit["text"] for hit in first.done("memory_search", query="said into the silence")["hits"]]
    assert said.count("Said into the silence") <= 1


def test_a_kernel_that_is_stopped_for_a_moment_is_waited_for(hosts: Hosts) -> None:
    server = hosts.bridge()
    server.keep("Before the pause")
    kernel = psutil.Process(hosts.kernel())
    kernel.suspend()
    asked = server.send("tools/call", {"name": "memory_search", "arguments": {"query": "pause"}})
    threading.Event().wait(3.0)
    kernel.resume()
    assert "error" not in server.answer(asked)
    assert hosts.kernel() == kernel.pid


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"MEMOS_EMBEDDER": "bge-m3"}, "There is no embedder 'bge-m3': use minilm"),
        ({"MEMOS_EMBEDDER": "sentence-transformers:/nowhere/at/all"}, "is not there: give the folder"),
        ({"MEMOS_RERANKER": "cross-encoder:./model"}, "give its whole path"),
    ],
    ids=["no embedder", "no folder", "relative folder"],
)
def test_a_host_that_asks_for_a_model_that_cannot_be_is_told_so_and_no_store_is_held_to_it(
    hosts: Hosts, setting: dict[str, str], said: str
) -> None:
    with pytest.raises(RpcError) as refused:
        hosts.bridge(**setting)
    assert said in refused.value.message
    assert not (hosts.home / "config.toml").exists()
    assert hosts.bridge().keep("Asked for with nothing, it is there")
