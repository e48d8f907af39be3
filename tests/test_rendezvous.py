"""What is found where a kernel listens: every wrong state is mended or said, and nothing of anybody's is destroyed.

Knows nothing of how a kernel begins and ends, which `test_starting` tests.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kernels import (
    DATA,
    NOBODY,
    Hosts,
    ended,
    fill,
    greeted_by_hand,
    leads_to_a_kernel,
    opened_by_hand,
    small_disk,
    unprivileged,
    with_folder_at,
)
from person import eventually
from stdio_client import LIMIT_S, RpcError, Server, serving

from memos_mcp.rendezvous import ADDRESS, LONGEST_GREETING, SOCKET, connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets and no signals"),
]

LONG = "a-folder-with-a-long-name-" * 7


def said_instead_of_a_session(server: Server) -> str:
    """The sentence with which a bridge refuses the handshake; its error output says the same."""
    with pytest.raises(RpcError) as refused:
        server.greet()
    return refused.value.message


def dead_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait(LIMIT_S)
    return process.pid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- what a former kernel left


def test_a_socket_file_without_a_kernel_is_replaced(hosts: Hosts) -> None:
    hosts.home.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(hosts.home / SOCKET))
    server = hosts.bridge()
    assert server.keep("The old socket led nowhere")
    assert mode(hosts.home / SOCKET) == 0o600
    assert hosts.owner() == hosts.owner() | {"pid": hosts.kernel(), "kind": "kernel"}


@pytest.mark.parametrize("left", ["a dead process", "a recycled process number", "no JSON", "nothing"])
def test_a_lock_file_that_nobody_holds_does_not_matter(hosts: Hosts, left: str) -> None:
    hosts.home.mkdir()
    said = {
        "a dead process": json.dumps({"pid": dead_process(), "kind": "kernel", "since": time.time()}),
        "a recycled process number": json.dumps({"pid": os.getpid(), "kind": "in-process", "since": time.time()}),
        "no JSON": "\x00\xff{",
        "nothing": "",
    }[left]
    (hosts.home / "owner.lock").write_text(said, encoding="latin-1")
    assert hosts.bridge().is_alive()
    assert hosts.owner()["pid"] == hosts.kernel() != os.getpid()


def test_what_a_killed_kernel_left_is_replaced_by_the_next_bridge(hosts: Hosts) -> None:
    kept = hosts.bridge().keep("The power failed in the night")
    hosts.kill_kernel()
    assert leads_to_a_kernel(hosts.home)
    later = hosts.bridge()
    assert [hit["id"] for hit in later.done("memory_search", query="power failed")["hits"]] == [kept]
    assert len(hosts.kernels()) == 1


# --- what is in the way


@pytest.mark.parametrize(("name", "kind"), [(SOCKET, "file"), (SOCKET, "folder"), (ADDRESS, "folder")])
def test_what_stands_where_the_socket_should_be_is_named_and_left_alone(hosts: Hosts, name: str, kind: str) -> None:
    hosts.home.mkdir()
    thing = hosts.home / name
    if kind == "folder":
        thing.mkdir()
        (thing / "letters").write_text("Keep me", encoding="utf-8")
    else:
        thing.write_text("Keep me", encoding="utf-8")
    server = hosts.bridge(greeted=False)
    sentence = said_instead_of_a_session(server)
    assert str(thing) in sentence
    assert "move it away" in sentence
    assert (thing / "letters" if kind == "folder" else thing).read_text(encoding="utf-8") == "Keep me"
    assert not hosts.owner()
    thing.rename(hosts.home.with_name("moved away"))
    server.greet()
    assert server.keep("The way is free")


def test_a_folder_in_place_of_the_lock_file_is_said(hosts: Hosts) -> None:
    (hosts.home / "owner.lock").mkdir(parents=True)
    sentence = said_instead_of_a_session(hosts.bridge(greeted=False))
    assert str(hosts.home) in sentence
    assert "directory" in sentence
    assert (hosts.home / "owner.lock").is_dir()


def test_a_file_in_place_of_the_data_directory_is_said(hosts: Hosts) -> None:
    hosts.home.write_text("Keep me", encoding="utf-8")
    sentence = said_instead_of_a_session(hosts.bridge(greeted=False))
    assert str(hosts.home) in sentence
    assert "MEMOS_HOME" in sentence
    assert hosts.home.read_text(encoding="utf-8") == "Keep me"


# --- who may not


@pytest.mark.parametrize("closed", ["the socket", "the folder"])
def test_a_kernel_out_of_reach_is_said_and_left_alone(hosts: Hosts, closed: str) -> None:
    stranger = unprivileged()
    ours = hosts.bridge()
    kept = ours.keep("This is not for everybody")
    shut = hosts.home / SOCKET if closed == "the socket" else hosts.home
    if os.geteuid() == 0:
        os.chown(shut, NOBODY, NOBODY)  # it belongs to somebody else
    elif closed == "the folder":
        pytest.skip("a kernel could not live in it either")
    else:
        shut.chmod(0)
    kernel, before, since = hosts.kernel(), hosts.files(), (hosts.home / SOCKET).lstat()
    sentence = said_instead_of_a_session(hosts.bridge(argv=stranger, greeted=False))
    assert f"may not use {hosts.home / SOCKET}" in sentence
    assert "another user" in sentence
    assert "MEMOS_HOME" in sentence
    assert (hosts.kernel(), hosts.files()) == (kernel, before)
    assert os.path.samestat((hosts.home / SOCKET).lstat(), since)
    assert ours.done("memory_search", query="everybody")["hits"][0]["id"] == kept


def test_a_folder_that_may_only_be_read_is_said_and_stays_as_it_is(hosts: Hosts) -> None:
    stranger = unprivileged()
    hosts.home.mkdir(mode=0o755)
    (hosts.home / "notes.txt").write_text("Keep me", encoding="utf-8")
    hosts.home.chmod(0o555)
    server = hosts.bridge(argv=stranger, greeted=False)
    sentence = said_instead_of_a_session(server)
    assert f"{hosts.home} cannot be written" in sentence
    assert "MEMOS_HOME" in sentence
    assert hosts.files() == {"notes.txt"}
    assert hosts.kernels() == []
    hosts.home.chmod(0o755)
    server.greet()
    assert server.keep("Now I may write")


def test_a_folder_that_cannot_be_made_is_said(folder: Path) -> None:
    stranger = unprivileged()
    above = folder / "closed"
    above.mkdir(mode=0o555)
    with Hosts(above / "home") as hosts:
        sentence = said_instead_of_a_session(hosts.bridge(argv=stranger, greeted=False))
        assert f"{hosts.home} cannot be made" in sentence
        assert "MEMOS_HOME" in sentence
        assert list(above.iterdir()) == []


def test_a_disk_that_may_only_be_read_is_said(hosts: Hosts) -> None:
    with small_disk(hosts.home), hosts:
        subprocess.run(["mount", "-o", "remount,ro", str(hosts.home)], check=True)
        sentence = said_instead_of_a_session(hosts.bridge(greeted=False))
        assert f"{hosts.home} cannot be written" in sentence
        assert hosts.files() == set()


def test_a_runtime_folder_of_somebody_else_is_said_and_not_used(folder: Path) -> None:
    users = folder / "run-user"
    runtime = users / str(os.getuid()) / "memos-mcp"
    runtime.mkdir(parents=True)
    runtime.parent.chmod(0o700)
    argv = with_folder_at(users, "/run/user")
    os.chown(runtime, NOBODY, NOBODY)
    with Hosts(folder / LONG) as hosts:
        server = hosts.bridge(argv=argv, greeted=False)
        sentence = said_instead_of_a_session(server)
        assert f"/run/user/{os.getuid()}/memos-mcp belongs to another user" in sentence
        assert list(runtime.iterdir()) == []
        assert hosts.kernels() == []
        os.chown(runtime, os.getuid(), os.getgid())
        server.greet()
        assert server.keep("The folder is mine now")
        assert [path.is_socket() for path in runtime.iterdir()] == [True]


# --- what is taken away from a running kernel


def test_a_kernel_whose_socket_is_removed_listens_anew_and_serves_whoever_came_meanwhile(hosts: Hosts) -> None:
    first = hosts.bridge()
    kept, kernel = first.keep("The door was gone for a moment"), hosts.kernel()
    (hosts.home / SOCKET).unlink()
    second = hosts.bridge()
    assert second.done("memory_search", query="door gone")["hits"][0]["id"] == kept
    assert first.is_alive()
    assert hosts.kernel() == kernel
    assert mode(hosts.home / SOCKET) == 0o600


def test_a_kernel_whose_lock_file_is_removed_makes_way_and_sessions_go_on(hosts: Hosts) -> None:
    first = hosts.bridge()
    kept, kernel = first.keep("Two must never own it"), hosts.kernel()
    (hosts.home / "owner.lock").unlink()
    assert ended(kernel)
    assert first.done("memory_search", query="never own")["hits"][0]["id"] == kept
    assert hosts.kernel() != kernel


def test_a_data_directory_that_is_removed_ends_its_kernel_and_stays_away(hosts: Hosts) -> None:
    server = hosts.bridge()
    server.keep("Gone with the folder")
    kernel = hosts.kernel()
    shutil.rmtree(hosts.home)
    assert ended(kernel)
    assert not hosts.home.exists()
    assert server.done("memory_search", query="gone with the folder")["hits"] == []
    assert hosts.kernel() != kernel


def test_a_data_directory_that_is_renamed_ends_its_kernel_and_keeps_all_at_its_new_place(hosts: Hosts) -> None:
    first = hosts.bridge()
    kept, kernel = first.keep("The folder has moved house"), hosts.kernel()
    moved = hosts.home.rename(hosts.home.with_name("moved"))
    assert ended(kernel)
    assert not hosts.home.exists()
    with Hosts(moved) as there:
        assert there.bridge().done("memory_search", query="moved house")["hits"][0]["id"] == kept


def test_a_full_disk_is_said_and_the_session_begins_when_there_is_space(hosts: Hosts) -> None:
    with small_disk(hosts.home), hosts:
        filler = fill(hosts.home)
        server = hosts.bridge(greeted=False)
        sentence = said_instead_of_a_session(server)
        assert f"{hosts.home} cannot be written" in sentence
        assert "space on its disk" in sentence
        assert hosts.kernels() == []
        assert hosts.files() <= {filler.name, "owner.lock"}
        filler.unlink()
        server.greet()
        assert server.keep("There is space again")


def test_a_disk_that_becomes_full_costs_the_calls_and_not_the_kernel(hosts: Hosts) -> None:
    with small_disk(hosts.home, "4m"), hosts:
        server = hosts.bridge()
        kept, kernel = server.keep("Before the disk was full"), hosts.kernel()
        filler = fill(hosts.home)
        sentence = server.refused("memory_add", content="There is no space for this. " * 10_000)
        assert "space" in sentence or "full" in sentence
        assert server.done("memory_search", query="before the disk was full")["hits"][0]["id"] == kept
        filler.unlink()
        assert server.keep("There is space again")
        assert hosts.kernel() == kernel


# --- where the folder is, and its copies


def test_a_path_too_long_for_a_socket_is_served_from_the_users_runtime_folder(folder: Path) -> None:
    with Hosts(folder / LONG, MEMOS_IDLE_EXIT="1") as hosts:
        assert len(str(hosts.home)) > 200
        first, second = hosts.bridge(), hosts.bridge()
        kept, kernel = first.keep("A long way home"), hosts.kernel()
        assert second.done("memory_search", query="long way")["hits"][0]["id"] == kept
        address = hosts.home / ADDRESS
        path = Path(json.loads(address.read_text(encoding="utf-8"))["unix"])
        assert (mode(address), mode(path), mode(path.parent)) == (0o600, 0o600, 0o700)
        assert not (hosts.home / SOCKET).exists()
        address.unlink()
        third = hosts.bridge()
        assert third.done("memory_search", query="long way")["hits"][0]["id"] == kept
        assert hosts.kernel() == kernel
        for server in (first, second, third):
            assert server.end() == 0
        assert ended(kernel)
        assert not path.exists()
        assert hosts.files() <= DATA


@pytest.mark.parametrize("name", ["Ada's 记忆 🧠 $HOME; #1", "100%25 what?"])
def test_a_path_with_spaces_signs_and_other_scripts_is_served(folder: Path, name: str) -> None:
    with Hosts(folder / name) as hosts:
        assert hosts.bridge().keep("Any name will do")
        assert hosts.bridge().is_alive()
        assert hosts.kernel()
        assert (hosts.home / SOCKET).is_socket()
        assert os.listdir(folder) == [name]


def test_the_same_folder_by_another_name_has_the_same_kernel(hosts: Hosts) -> None:
    kept = hosts.bridge().keep("One folder, two names")
    other = hosts.home.with_name("other name")
    other.symlink_to(hosts.home)
    with Hosts(other) as there:
        assert there.bridge().done("memory_search", query="two names")["hits"][0]["id"] == kept
        assert there.kernels() == []
    assert hosts.kernel()


@pytest.mark.parametrize("way", ["socket copied", "socket linked", "long path", "loopback"])
def test_a_copy_of_a_folder_in_use_has_a_kernel_of_its_own_and_the_original_is_untouched(
    folder: Path, way: str
) -> None:
    home = folder / (LONG if way == "long path" else "home")
    options = ("--loopback",) if way == "loopback" else ()
    with Hosts(home) as hosts, Hosts(home.with_name("c" + home.name[1:])) as copies:
        ours = hosts.bridge(*options)
        kept, kernel = ours.keep("Known to both"), hosts.kernel()
        subprocess.run(["cp", "-al" if way == "socket linked" else "-a", str(home), str(copies.home)], check=True)
        if way == "socket linked":  # only the socket is shared
            for path in [path for path in copies.home.rglob("*") if path.is_file()]:
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)
        assert leads_to_a_kernel(copies.home)
        theirs = copies.bridge(*options)
        assert theirs.done("memory_search", query="known to both")["hits"][0]["id"] == kept
        theirs.keep("Known to the copy alone")
        assert copies.kernel() != hosts.kernel() == kernel
        late = hosts.bridge(*options)
        for server in (ours, late):
            hits = server.done("memory_search", query="known to the copy alone")["hits"]
            assert [hit["text"] for hit in hits] == ["Known to both"]
        assert hosts.kernel() == kernel


# --- over loopback TCP, as where there are no Unix sockets


def test_a_whole_life_over_loopback(folder: Path) -> None:
    with Hosts(folder / "home", MEMOS_IDLE_EXIT="1") as hosts:
        first = hosts.bridge("--loopback")
        kept = first.keep("Over the loop and back")
        assert not (hosts.home / SOCKET).exists()
        assert mode(hosts.home / ADDRESS) == 0o600
        second = hosts.bridge()
        assert second.done("memory_search", query="loop")["hits"][0]["id"] == kept
        hosts.kill_kernel()
        assert first.done("memory_search", query="loop")["hits"][0]["id"] == kept
        (hosts.home / ADDRESS).unlink()
        kernel, third = hosts.kernel(), hosts.bridge("--loopback")
        assert third.is_alive()
        assert second.is_alive()
        assert hosts.kernel() == kernel
        for server in (first, second, third):
            assert server.end() == 0
        assert ended(kernel)
        assert hosts.files() <= DATA


def test_a_wrong_token_is_refused_and_learns_nothing(hosts: Hosts) -> None:
    server = hosts.bridge("--loopback")
    token = json.loads((hosts.home / ADDRESS).read_text(encoding="utf-8"))["token"]
    found = os.stat(hosts.home)
    for wrong in ("", "0" * 32, token[32:], token[:31], 7):
        with connect(str(hosts.home)).detached() as sock:
            sock.settimeout(LIMIT_S)
            hello = {"memos": 1, "token": wrong, "home": [found.st_dev, found.st_ino], "role": "command"}
            call = {"call": "status", "arguments": {}}
            sock.sendall(json.dumps(hello).encode() + b"\n" + json.dumps(call).encode() + b"\n")
            with sock.makefile("rb") as answers:
                (answer,) = [json.loads(line) for line in answers]
        assert answer["elsewhere"] is True
        assert "proof" not in answer
    assert server.is_alive()


@pytest.mark.parametrize("habit", ["talkative", pytest.param("silent")])
def test_a_stranger_at_the_port_of_a_dead_kernel_is_not_taken_for_it(hosts: Hosts, habit: str) -> None:
    hosts.home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = {"port": stranger.getsockname()[1], "token": "0" * 64}
        (hosts.home / ADDRESS).write_text(json.dumps(address), encoding="utf-8")

        def talk() -> None:
            while habit == "talkative":
                try:
                    peer, _ = stranger.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b'{"memos": 1, "version": "9.9.9", "pid": 1}\n')

        talker = threading.Thread(target=talk)
        talker.start()
        server = hosts.bridge("--loopback")
        assert server.keep("Nobody else has heard this")
        assert json.loads((hosts.home / ADDRESS).read_text(encoding="utf-8"))["port"] != address["port"]
        stranger.shutdown(socket.SHUT_RDWR)
    talker.join(LIMIT_S)


# --- who speaks nonsense


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n", b'{"memos": "1"}\n', b"\x00\xff\n", b"[" * 100_000 + b"\n", b"\n"],
    ids=["http", "empty", "list", "text", "bytes", "deep", "blank"],
)
def test_a_first_line_that_is_no_greeting_ends_that_connection_alone(shared: Hosts, line: bytes) -> None:
    kernel = shared.kernel()
    with opened_by_hand(shared.home) as sock:
        sock.sendall(line)
        assert sock.recv(100) == b""
    assert greeted_by_hand(shared.home)["pid"] == shared.kernel() == kernel


def test_a_first_line_without_an_end_ends_that_connection_alone(shared: Hosts) -> None:
    server = shared.bridge()
    with opened_by_hand(shared.home) as sock:
        sent = 0
        try:
            while sent <= 100 * LONGEST_GREETING:
                sent += sock.send(bytes(1 << 16))
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert LONGEST_GREETING < sent <= 10 * LONGEST_GREETING
    assert server.is_alive()


def test_whoever_connects_and_says_nothing_holds_nobody_up(shared: Hosts) -> None:
    silent = [opened_by_hand(shared.home) for _ in range(50)]
    server = shared.bridge()
    assert server.is_alive()
    for sock in silent:
        sock.close()
    assert server.is_alive()


def test_whoever_says_nothing_for_long_is_sent_away(shared: Hosts) -> None:
    with opened_by_hand(shared.home) as sock:
        sock.sendall(b'{"memos": 1')
        assert sock.recv(100) == b""
    assert shared.kernel()


# --- who owns it otherwise


def test_a_directory_held_in_process_is_said_with_its_holder_until_it_is_free(hosts: Hosts) -> None:
    with serving(hosts.home) as holder:
        kept = holder.keep("Held by one process")
        server = hosts.bridge(greeted=False)
        sentence = said_instead_of_a_session(server)
        assert f"process {holder.process.pid} (in-process)" in sentence
        assert "end that one first" in sentence
        assert hosts.kernels() == []
    server.greet()
    assert server.done("memory_search", query="held")["hits"][0]["id"] == kept
    assert eventually(lambda: hosts.owner().get("kind") == "kernel")
