"""How the process of `memos-mcp` begins and ends: at once, whatever ends it, with all that it acknowledged on disk."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from person import settings_for
from stdio_client import CLIENT, COMMAND, ERAS, LEGACY, LIMIT_S, MODERN, Server, environment, serving

from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.migrations import MIGRATIONS
from memos_mcp.ledger.schema import applied_migrations
from memos_mcp.version import VERSION

pytestmark = pytest.mark.slow

MIGRATIONS_KNOWN = len(MIGRATIONS)
SOON_S = 2.0
"""Seconds within which a process that is told to end has ended."""
HELLO = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}


def lines(*messages: tuple[str, dict[str, Any]]) -> bytes:
    """Requests with ids 1, 2 …, in the form in which a file holds them."""
    rows = [{"jsonrpc": "2.0", "id": i, "method": m, "params": params} for i, (m, params) in enumerate(messages, 1)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def made_store(home: Path) -> Path:
    """The data directory, with an empty store in it."""
    home.mkdir()
    Ledger.open(home / "ledger.db", home / "backups", datetime.now(UTC)).close()
    return home


def kept_in(home: Path) -> list[str]:
    """Ids of the memories in a data directory that nobody has open."""
    with closing(sqlite3.connect(home / "ledger.db")) as ledger:
        return [row[0] for row in ledger.execute("SELECT id FROM cubes ORDER BY seq")]


def call(tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": tool, "arguments": arguments}


def test_the_first_answer_comes_before_the_heavy_libraries_are_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:]],
        input=lines(("initialize", HELLO), call("memory_history")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # one pipe, so that imports and answers stand in their order
        env=environment(tmp_path / "home"),
        timeout=LIMIT_S,
        check=True,
    )
    before, _, after = done.stdout.partition(b'{"jsonrpc"')
    imported, behind = (set(re.findall(r"\| +(\S+)\n", part.decode())) for part in (before, after))
    assert "mcp.server" in imported
    assert not imported & {"sqlalchemy", "chromadb", "onnxruntime", "tokenizers", "numpy"}
    assert "sqlalchemy" in behind


def test_what_numpy_imports_late_is_there_before_the_first_thread() -> None:
    """Two threads in their first `np.unique` at once ended in a recursion, now and then after a start."""
    late = "import sys, memos_mcp.kernel; sys.exit('numpy.ma' not in sys.modules)"
    subprocess.run([sys.executable, "-c", late], timeout=LIMIT_S, check=True)


@pytest.mark.parametrize("era", ERAS)
def test_an_answer_that_is_owed_comes_after_the_host_has_closed_its_end(tmp_path: Path, era: str) -> None:
    server = Server(tmp_path / "home", era)
    try:
        server.greet()
        owed = server.send(*call("memory_add", content="Said in the last moment."))
        server.close_input()
        added = server.answer(owed)["result"]["structuredContent"]
        while server.receive() is not None:
            pass
        assert server.wait() == 0
    finally:
        server.release()
    assert kept_in(tmp_path / "home") == [added["cubes"][0]["id"]]


def test_a_host_that_leaves_without_a_word_ends_the_process(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        server.close_input()
        assert server.receive() is None
        assert server.wait() == 0
    finally:
        server.release()


def test_an_input_that_ends_within_a_line_is_answered_and_ends_the_process(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        server.greet()
        server.send_raw(b'{"jsonrpc":"2.0","id":"half","method":"tools/ca')
        server.close_input()
        error = server.answer("half")["error"]
        assert error["code"] == -32700
        assert server.wait() == 0
    finally:
        server.release()


@pytest.mark.parametrize("era", ERAS)
def test_nobody_waits_for_cancelled_or_standing_requests_when_the_host_leaves(tmp_path: Path, era: str) -> None:
    server = Server(tmp_path / "home", era)
    try:
        server.greet()
        if era == MODERN:
            server.send("subscriptions/listen", {"notifications": {"resourcesListChanged": True}})
            server.notification("notifications/subscriptions/acknowledged")
        cancelled = server.send(*call("memory_search", query="never mind"))
        server.notify("notifications/cancelled", {"requestId": cancelled})
        server.close_input()
        while server.receive(SOON_S) is not None:
            pass
        assert server.wait(SOON_S) == 0
    finally:
        server.release()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for a pipe's process")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_process_soon_and_keeps_what_was_acknowledged(tmp_path: Path, number: int) -> None:
    server = Server(tmp_path / "home")
    try:
        server.greet()
        kept = [server.keep(f"Acknowledged before the signal: {n}.") for n in range(5)]
        server.process.send_signal(number)
        assert server.wait(SOON_S) == 0
        assert server.errors() == ""
    finally:
        server.release()
    assert kept_in(tmp_path / "home") == kept


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for a pipe's process")
def test_a_signal_in_the_middle_of_work_ends_the_process_soon(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        server.greet()
        server.process.send_signal(signal.SIGTERM)  # the store is about to be opened
        assert server.wait(SOON_S) == 0
    finally:
        server.release()
    busy = Server(tmp_path / "home")
    try:
        busy.greet()
        for n in range(20):
            busy.send(*call("memory_add", messages=[{"role": "user", "content": f"turn {n}.{i}"} for i in range(50)]))
        busy.receive()
        busy.process.send_signal(signal.SIGTERM)
        assert busy.wait(SOON_S) == 0
    finally:
        busy.release()
    assert len(kept_in(tmp_path / "home")) % 50 == 0, "a call was kept in part"


def test_a_process_killed_without_warning_has_kept_what_it_acknowledged(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        server.greet()
        kept = server.keep("Acknowledged before the power went.")
        server.process.kill()
        server.wait()
    finally:
        server.release()
    with serving(tmp_path / "home") as again:
        assert again.done("memory_search", query="power")["hits"][0]["id"] == kept


def test_a_host_that_dies_while_it_is_answered_ends_the_process(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        server.greet()
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send("tools/list")
        assert server.wait() == 0
        assert server.errors() == ""
    finally:
        server.release()


def test_requests_from_a_file_are_answered_into_a_file(tmp_path: Path) -> None:
    asked, answered = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    asked.write_bytes(lines(("initialize", HELLO), ("tools/list", {}), call("memory_add", content="Said by a file.")))
    with asked.open("rb") as source, answered.open("wb") as target:
        done = subprocess.run(
            COMMAND, stdin=source, stdout=target, env=environment(tmp_path / "home"), timeout=LIMIT_S, check=False
        )
    messages = [json.loads(line) for line in answered.read_bytes().splitlines()]
    answers = {message["id"]: message for message in messages if "id" in message}
    assert done.returncode == 0
    assert sorted(answers) == [1, 2, 3]
    assert answers[3]["result"]["structuredContent"]["cubes"]


STRAY = """
import os, subprocess, sys
from memos_mcp.gateway.wire import take_stdio
read_end, write_end = take_stdio()
print("a stray print", flush=True)
os.write(1, b"a stray write\\n")
subprocess.run([sys.executable, "-c", "print('a child')"])
os.write(write_end, b"asked: " + os.read(read_end, 100) + b"; stdin: " + sys.stdin.read().encode())
"""


def test_no_stray_output_of_libraries_or_children_reaches_the_wire() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRAY], input=b"hello", capture_output=True, timeout=LIMIT_S, check=True
    )
    assert done.stdout == b"asked: hello; stdin: "
    assert done.stderr.split(b"\n") == [b"a stray print", b"a stray write", b"a child", b""]


@pytest.mark.parametrize("closed", [0, 1, 2], ids=["stdin", "stdout", "stderr"])
@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are closed by a shell")
def test_a_closed_standard_stream_is_no_reason_to_hang(tmp_path: Path, closed: int) -> None:
    command = " ".join(COMMAND) + f" {closed}>&-"
    done = subprocess.run(
        ["sh", "-c", command], input=lines(("initialize", HELLO)), capture_output=True,
        env=environment(tmp_path / "home"), timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == b""
    assert (b'"protocolVersion"' in done.stdout) == (closed == 2)


def test_a_second_process_names_the_first_and_takes_over_when_that_has_ended(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home) as first:
        kept = first.keep("Only one of us may write.")
        with serving(home, MODERN) as second:
            sentence = second.refused("memory_search", query="write")
            assert f"process {first.process.pid}" in sentence
            assert "MEMOS_HOME" in sentence
            assert second.is_alive()
            assert first.end() == 0
            outcome = second.call("memory_search", query="write")
            while outcome.failed:  # what the first attempt found is believed for a moment
                assert "is in use by" in outcome.text
                outcome = second.call("memory_search", query="write")
            assert outcome.data["hits"][0]["id"] == kept
            second.send("subscriptions/listen", {"notifications": {"resourcesListChanged": True}})
            second.notification("notifications/subscriptions/acknowledged")
            second.keep("Now it is me who writes.")
            assert second.notification("notifications/resources/list_changed") is not None


def test_a_call_that_is_cancelled_while_it_opens_the_store_does_not_lock_the_others_out(tmp_path: Path) -> None:
    store_lock = tmp_path / "home" / "owner.lock"

    async def open_twice() -> bool:
        store = StoreAccess(settings_for(tmp_path / "home"))
        async with anyio.create_task_group() as first_call:
            first_call.start_soon(store.kernel)
            with anyio.fail_after(LIMIT_S):
                while not store_lock.exists():
                    await anyio.lowlevel.checkpoint()
            first_call.cancel_scope.cancel()
        with anyio.fail_after(LIMIT_S):
            opened = await store.kernel()
            await store.close(LIMIT_S)
        return opened is not None

    assert anyio.run(open_twice)


def test_a_store_of_a_newer_version_names_both_versions(tmp_path: Path) -> None:
    made_store(tmp_path / "home")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as ledger, ledger:
        row = (MIGRATIONS_KNOWN + 1, "a later step", "2030-01-01T00:00:00.000Z", "9.9.9")
        columns = "number, name, applied, writer"
        ledger.execute(f"INSERT INTO {applied_migrations.name} ({columns}) VALUES (?, ?, ?, ?)", row)
    with serving(tmp_path / "home") as server:
        sentence = server.refused("memory_search", query="anything")
    assert "memos-mcp 9.9.9" in sentence
    assert f"memos-mcp {VERSION}" in sentence


def test_settings_that_cannot_be_used_end_the_process_with_a_sentence(tmp_path: Path) -> None:
    broken, file = tmp_path / "broken", tmp_path / "file"
    broken.mkdir()
    (broken / "config.toml").write_text("embedder = = 5", encoding="utf-8")
    file.write_text("not a folder", encoding="utf-8")
    for home, named, settings in (
        (broken, "config.toml", {}),
        (file, "MEMOS_HOME", {}),
        (tmp_path / "home", "MEMOS_TOOLS", {"MEMOS_TOOLS": "some"}),
    ):
        done = subprocess.run(
            COMMAND, input=b"", capture_output=True, env=environment(home, **settings), timeout=LIMIT_S, check=False
        )
        assert done.returncode == 1
        assert done.stdout == b""
        sentence = done.stderr.decode()
        assert re.fullmatch(r"memos-mcp: [^\n]+\n", sentence), sentence
        assert named.lower().removeprefix("memos_") in sentence.lower()


@pytest.mark.parametrize("era", ERAS)
def test_what_was_asked_for_and_is_not_in_force_stands_in_the_instructions(tmp_path: Path, era: str) -> None:
    home = made_store(tmp_path / "home")
    asked = Server(home, era, MEMOS_EMBEDDER="sentence-transformers:other", MEMOS_SPACE="work", MEMOS_TOOLS="all")
    try:
        said = asked.greet()["instructions"]
        assert "memos-mcp embedder sentence-transformers:other" in said
        assert "'minilm'" in said
        assert "'work'" in said
        assert "memory_add" in asked.tools()
    finally:
        asked.release()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no socket pairs for a process's streams")
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_a_host_may_give_sockets_in_place_of_pipes(tmp_path: Path, blocking: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(blocking)
        environ = environment(tmp_path / "home")
        with subprocess.Popen(COMMAND, stdin=theirs, stdout=theirs, env=environ, bufsize=0) as process:
            theirs.close()
            ours.settimeout(LIMIT_S)
            long = "A memory longer than any buffer. " * 20_000
            read_back = [call("memory_search", query="longer than any buffer", max_chars=1_000_000)] * 5
            ours.sendall(lines(("initialize", HELLO), call("memory_add", content=long), *read_back))
            ours.shutdown(socket.SHUT_WR)
            with ours.makefile("rb") as answers:
                messages = [json.loads(line) for line in answers]
            assert process.wait(LIMIT_S) == 0
    results = {message["id"]: message["result"] for message in messages if "id" in message}
    assert sorted(results) == list(range(1, 8))
    assert results[2]["structuredContent"]["cubes"]
