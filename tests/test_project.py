"""MEMOS_SPACE=auto: the space of the project that a host works on, found from its folder or from its roots."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stdio_client import CLIENT, COMMAND, LEGACY, MODERN, Server

from memos_mcp.gateway.project import repository_root, space_of

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "work" / "shop"
    (made / ".git").mkdir(parents=True)
    (made / "src" / "deep").mkdir(parents=True)
    return made


def started_in(folder: Path) -> tuple[str, ...]:
    """The command of a host that starts the server in this folder."""
    change = f"import os, sys; os.chdir({str(folder)!r})"
    return sys.executable, "-c", f"{change}; os.execv(sys.executable, [sys.executable, *{COMMAND[1:]!r}])"


@contextmanager
def served(home: Path, cwd: Path, capabilities: dict[str, Any] | None = None) -> Iterator[Server]:
    """A handshake-era host that was started in a folder."""
    server = Server(home, argv=started_in(cwd), MEMOS_SPACE="auto")
    try:
        hello = {"protocolVersion": LEGACY, "capabilities": capabilities or {}, "clientInfo": CLIENT}
        server.hello = server.request("initialize", hello)
        server.notify("notifications/initialized")
        yield server
    finally:
        server.release()


def test_a_folder_anywhere_in_a_repository_belongs_to_its_root(project: Path) -> None:
    assert repository_root(project) == project
    assert repository_root(project / "src" / "deep") == project
    assert repository_root(project.parent) is None


def test_a_home_under_version_control_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert repository_root(tmp_path / "notes") is None


def test_every_work_tree_of_a_repository_has_its_space(tmp_path: Path) -> None:
    def git(*arguments: str, cwd: Path) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(("git", *who, *arguments), cwd=cwd, check=True, capture_output=True)

    main = tmp_path / "main"
    main.mkdir()
    try:
        git("init", "-q", cwd=main)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=main)
    git("worktree", "add", "-q", str(tmp_path / "other"), cwd=main)
    found = repository_root(tmp_path / "other")
    assert found is not None
    assert space_of(found) == space_of(main)


def test_projects_of_one_name_have_different_spaces_and_a_link_to_one_has_its_space(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "app").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "app")
    one, other = (space_of(tmp_path / place / "app") for place in ("a", "b"))
    assert one != other
    assert one.startswith("app-")
    assert space_of(tmp_path / "link") == one


@pytest.mark.parametrize("name", ["项目 שלום", "tab\there" + "x" * 200])
def test_a_project_of_any_name_has_a_space(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / ".git").mkdir(parents=True)
    with served(tmp_path / "home", folder) as server:
        cube = server.keep("Here it is.")
        assert server.resource(f"memcube://{cube}")["governance"]["space"] == space_of(folder)


def test_memories_go_to_the_projects_space_and_personal_ones_are_read_too(tmp_path: Path, project: Path) -> None:
    home = tmp_path / "home"
    with served(home, project / "src") as server:
        assert repr(space_of(project)) in server.hello["instructions"]
        server.keep("The tests of the shop run with make check.")
        server.keep("Ada prefers short answers about tests.", space="personal")
        spaces = {hit["space"] for hit in server.done("memory_search", query="tests")["hits"]}
        assert spaces == {space_of(project), "personal"}
    other = tmp_path / "work" / "bank"
    (other / ".git").mkdir(parents=True)
    with served(home, other) as server:
        hits = server.done("memory_search", query="tests")["hits"]
        assert [hit["space"] for hit in hits] == ["personal"], "another project's memories are not read"


def test_outside_of_any_project_memories_are_personal(tmp_path: Path) -> None:
    with served(tmp_path / "home", tmp_path) as server:
        cube = server.keep("I live in Lyon.")
        assert server.resource(f"memcube://{cube}")["governance"]["space"] == "personal"


def answer_roots(server: Server, *folders: Path) -> None:
    """Answer the server's question for roots, which comes before the answer to a call; changes may be told before."""
    message = server.receive()
    while message is not None and "id" not in message:
        message = server.receive()
    assert message is not None
    assert message["method"] == "roots/list"
    roots = [{"uri": folder.as_uri(), "name": folder.name} for folder in folders]
    answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"roots": roots}}
    server.send_raw(json.dumps(answer).encode() + b"\n")


def space_of_last(server: Server, request_id: Any) -> str:
    added = server.answer(request_id)["result"]["structuredContent"]
    return str(server.resource(added["cubes"][0]["uri"])["governance"]["space"])


def add(server: Server, content: str) -> Any:
    return server.send("tools/call", {"name": "memory_add", "arguments": {"content": content}})


def test_a_host_that_was_started_elsewhere_is_asked_for_its_roots_once(tmp_path: Path, project: Path) -> None:
    with served(tmp_path / "home", tmp_path, {"roots": {"listChanged": True}}) as server:
        first = add(server, "Said in the shop.")
        answer_roots(server, project / "src")
        assert space_of_last(server, first) == space_of(project)
        assert space_of_last(server, add(server, "Said again in the shop.")) == space_of(project)


def test_a_host_that_opens_another_project_is_asked_again(tmp_path: Path, project: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    with served(tmp_path / "home", tmp_path, {"roots": {"listChanged": True}}) as server:
        first = add(server, "Said in the shop.")
        answer_roots(server, project)
        assert space_of_last(server, first) == space_of(project)
        server.notify("notifications/roots/list_changed")
        second = add(server, "Said in a folder without a repository.")
        answer_roots(server, plain, project)
        assert space_of_last(server, second) == space_of(plain)


def test_a_host_that_has_no_roots_open_writes_personal_memories(tmp_path: Path) -> None:
    with served(tmp_path / "home", tmp_path, {"roots": {}}) as server:
        first = add(server, "Said nowhere.")
        answer_roots(server)
        assert space_of_last(server, first) == "personal"


def test_a_host_of_the_newer_era_is_asked_through_the_result_of_its_call(tmp_path: Path, project: Path) -> None:
    server = Server(tmp_path / "home", MODERN, started_in(tmp_path), MEMOS_SPACE="auto")
    try:
        meta = {"io.modelcontextprotocol/clientCapabilities": {"roots": {}}}
        call = {"name": "memory_add", "arguments": {"content": "Said in the shop."}, "_meta": meta}
        asked = server.request("tools/call", call)
        assert asked["resultType"] == "input_required"
        assert asked["inputRequests"]["roots"]["method"] == "roots/list"
        answer = {"roots": {"roots": [{"uri": project.as_uri()}]}}
        added = server.request("tools/call", {**call, "inputResponses": answer})["structuredContent"]
        assert server.resource(added["cubes"][0]["uri"])["governance"]["space"] == space_of(project)
    finally:
        server.release()
