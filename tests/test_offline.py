"""The everyday path with every way to the network closed: nothing of it may need, or so much as try, a connection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from person import eventually
from stdio_client import BRIDGE, Server, environment
from terminals import Terminal, end_kernel

pytestmark = pytest.mark.slow

INDEXED_FROM = 700
"""Memories in a space with which its vectors have surely moved into the index, as these stores are set."""
GUARD = """
import os, sys

def guard(event, arguments):
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = address[0] if isinstance(address, tuple) else address
    if event == "socket.connect" and not isinstance(address, tuple) or host in ("127.0.0.1", "::1", "localhost"):
        return
    with open(os.environ["TRIED"], "a") as tried:
        tried.write(f"{event} {host!r}\\n")
    raise OSError(f"no network in this test: {event} {host!r}")

sys.addaudithook(guard)
"""
"""Runs in every process that is started, bridge, command and kernel, as its sitecustomize."""


def without_network() -> list[str]:
    """A prefix that runs a command in a network of its own with nothing in it; skips where that is not possible."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -n is not possible here")
    return [unshare, "-n"]


@pytest.fixture(params=["connections audited", "no network at all"])
def command(request: pytest.FixtureRequest) -> Sequence[str]:
    return [*(without_network() if request.param == "no network at all" else []), *BRIDGE]


@contextmanager
def guarded(folder: Path) -> Iterator[dict[str, str]]:
    """Variables for processes that may not reach any host; that one of them tried to is an error.

    The kernel of the folder's `home` ends with the block.
    """
    site, tried = folder / "site", folder / "tried"
    site.mkdir()
    (site / "sitecustomize.py").write_text(GUARD)
    try:
        yield {"PYTHONPATH": str(site), "TRIED": str(tried), "MEMOS_INDEX_FROM": str(INDEXED_FROM - 100)}
    finally:
        end_kernel(folder / "home")
    assert not tried.exists(), tried.read_text()


@contextmanager
def serving_offline(command: Sequence[str], folder: Path) -> Iterator[Server]:
    """A greeted server that may not reach any host, nor may its kernel."""
    with guarded(folder) as variables:
        server = Server(folder / "home", argv=command, **variables)
        try:
            server.greet()
            yield server
            assert server.end() == 0
        finally:
            server.release()


def test_a_connection_to_another_host_would_be_noticed(tmp_path: Path) -> None:
    def reach_out() -> None:
        code = "import socket; socket.create_connection(('192.0.2.1', 9), 0.1)"
        with guarded(tmp_path) as variables:
            env = environment(tmp_path / "home", **variables)
            done = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, check=False)
            assert b"no network in this test" in done.stderr

    with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        reach_out()


def test_memories_come_and_go_without_a_network(command: Sequence[str], tmp_path: Path) -> None:
    with serving_offline(command, tmp_path) as server:
        kept = server.keep("Lena's bicycle is in the cellar.")
        server.keep("莲娜的自行车在地下室。")
        found = server.done("memory_search", query="Where is the bike of Lena?")
        assert kept in [hit["id"] for hit in found["hits"]]
        assert found["hits"][0]["why"]["cosine"] is not None, "the meaning was not searched"
        assert "degraded" not in found
        changed = server.done("memory_update", id=kept, content="Lena's bicycle is in the garage.")
        assert server.done("memory_undo", op=changed["op"])["undone"] == [kept]
        assert server.done("memory_forget", ids=[kept])["affected"] == [kept]
        assert server.done("memory_forget", ids=[kept], mode="purge")["affected"] == [kept]
        assert "check the id" in server.refused("memory_search", ids=[kept])


def test_the_terminals_commands_and_doctor_need_no_network(tmp_path: Path) -> None:
    with guarded(tmp_path) as variables:
        terminal = Terminal(tmp_path / "home", **variables)

        def run(*arguments: str) -> bytes:
            done = terminal.process(*arguments)
            assert done.returncode == 0, done
            return done.stdout

        run("add", "The spare key hangs behind the clock.")
        assert b"behind the clock" in run("search", "Where is the spare key?")
        assert json.loads(run("doctor", "--json"))["ok"] is True
        run("stop")
        assert json.loads(run("doctor", "--json"))["ok"] is True


def test_a_space_large_enough_for_the_index_needs_no_network_either(command: Sequence[str], tmp_path: Path) -> None:
    with serving_offline(command, tmp_path) as server:
        for start in range(0, INDEXED_FROM, 350):
            turns = [{"role": "user", "content": f"Crate {n} holds part {n * 7}."} for n in range(start, start + 350)]
            server.done("memory_add", messages=turns)

        def is_indexed() -> bool:
            stats = server.resource("memos://stats")
            return stats["waiting_for_vectors"] == 0 and stats["indexed_spaces"] == 1

        assert eventually(is_indexed, limit_s=300)
        hits = server.done("memory_search", query="What is in crate 234?")["hits"]
        assert "Crate 234 holds part 1638." in [hit["text"] for hit in hits]
        assert server.done("memory_forget", ids=[hits[0]["id"]], mode="purge")["affected"]
