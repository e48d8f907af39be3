"""Memories, spaces, figures and jobs as resources, read as a host reads them, in both eras of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from stdio_client import ERAS, LEGACY, RpcError, Server, serving

from memos_mcp.governance import Caller, open_space
from memos_mcp.ledger.ledger import Ledger

pytestmark = pytest.mark.slow

INVALID_PARAMS, NOT_FOUND_BEFORE_2026 = -32602, -32002
FORMS = (
    "memcube://{id}",
    "memcube://{id}/v/{version}",
    "memcube://{id}/history",
    "memcube://{id}/tree",
    "memcube://space/{space}{?after,as_of}",
    "memos://jobs/{id}",
    "memos://channels/{space}/{channel}{?after}",
)
THEIRS = "the space of bob"


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of ada's, on a store in which bob has a space that she may not read."""
    home = tmp_path_factory.mktemp("home")
    ledger = Ledger.open(home / "ledger.db", home / "backups", datetime.now(UTC))
    with ledger.write() as connection:
        open_space(connection, Caller("bob"), THEIRS, "2026-01-01T00:00:00.000Z")
    ledger.close()
    with serving(home, request.param) as opened:
        yield opened


def refused(server: Server, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        server.request(method, params)
    assert server.is_alive()
    return caught.value


def pages(server: Server) -> Iterator[list[str]]:
    """The URIs of resources/list, page by page."""
    page = server.request("resources/list")
    while True:
        yield [row["uri"] for row in page["resources"]]
        if page.get("nextCursor") is None:
            return
        page = server.request("resources/list", {"cursor": page["nextCursor"]})


def test_the_forms_of_resources_are_listed_as_templates(server: Server) -> None:
    templates = server.request("resources/templates/list")["resourceTemplates"]
    assert tuple(row["uriTemplate"] for row in templates) == FORMS
    assert all(row["description"] and row["name"] and row["mimeType"] == "application/json" for row in templates)


def test_a_memory_is_read_with_its_payload_and_metadata(server: Server) -> None:
    added = server.done("memory_add", content="Dora keeps bees.", tags=["bees"], metadata={"hives": 3}, session="s1")
    cube = server.resource(added["cubes"][0]["uri"])
    assert cube["payload"] == {"form": "plaintext", "format": "text/plain", "value": "Dora keeps bees."}
    assert cube["descriptive"]["tags"] == ["bees"]
    assert cube["descriptive"]["metadata"] == {"hives": 3}
    assert cube["descriptive"]["source"] == {"client": "tests 1", "session": "s1", "uri": None}
    assert cube["governance"]["owner"] == "ada"
    assert cube["lineage"]["op"] == added["op"]
    assert set(cube) == {
        "id", "version", "uri", "payload", "descriptive", "governance", "behavioural", "lineage",
    }  # fmt: skip


def test_former_versions_and_the_history_are_resources(server: Server) -> None:
    cube = server.keep("Emil is nine.")
    server.done("memory_update", id=cube, content="Emil is ten.")
    assert server.resource(f"memcube://{cube}/v/1")["payload"]["value"] == "Emil is nine."
    assert server.resource(f"memcube://{cube}/v/2")["payload"]["value"] == "Emil is ten."
    history = server.resource(f"memcube://{cube}/history")
    assert [version["text"] for version in history["versions"]] == ["Emil is nine.", "Emil is ten."]


@pytest.mark.parametrize("space", ["工作 笔记", "a/b?c#d%20", "مشروع", "🐝"])
def test_a_space_is_read_by_its_percent_encoded_name(server: Server, space: str) -> None:
    kept = server.keep("Kept in a space with a name of its own.", space=space)
    uri = f"memcube://space/{quote(space, safe='')}"
    page = server.resource(uri)
    assert page["space"] == space
    assert [memory["id"] for memory in page["memories"]] == [kept]
    assert uri in [row for page in pages(server) for row in page]


def test_a_large_space_is_read_page_by_page(server: Server) -> None:
    turns = [{"role": "user", "content": f"turn {n}"} for n in range(120)]
    added = server.done("memory_add", messages=turns, space="long talk")
    uri, read = "memcube://space/long%20talk", []
    while uri:
        page = server.resource(uri)
        read += [memory["id"] for memory in page["memories"]]
        uri = page.get("next")
    assert read == [cube["id"] for cube in added["cubes"]]


def test_what_a_session_is_likely_to_need_is_a_resource(server: Server) -> None:
    kept = server.done("memory_add", content="The lighthouse of Mole has 77 steps.")["cubes"][0]["id"]
    assert server.done("memory_promote", ids=[kept], to="working")["moved"] == [kept]
    found = server.resource("memos://working")
    assert found["size"] >= len(found["memories"]) > 0
    assert found["memories"][0]["id"] == kept
    assert found["memories"][0]["why"] == "promoted"
    server.done("memory_promote", ids=[kept], to="plaintext")
    assert "promoted" not in [row["why"] for row in server.resource("memos://working")["memories"]]


def test_figures_are_a_resource(server: Server) -> None:
    before = server.resource("memos://stats")["cubes"]
    server.keep(f"One more than {before}.")
    stats = server.resource("memos://stats")
    assert stats["cubes"] == before + 1
    assert THEIRS not in stats["spaces"]


@pytest.mark.parametrize(
    "uri",
    [
        "memcube://01JUNKNOWN",
        "memcube://01JUNKNOWN/history",
        "memcube://space/nowhere",
        "memcube://space/" + quote(THEIRS),
        "memcube://space/personal/more",
        "memcube://space/personal?after=²",
        "memcube://space/personal?after=" + "9" * 5000,
        "memcube://",
        "memcube://[",
        "memos://jobs/none",
        "memos://other",
        "file:///etc/passwd",
        "https://example.org/",
        "not a uri",
        "",
        "memcube://%00",
        "memcube://\u0000\u202e",
        "memcube://" + "x" * 100_000,
    ],
    ids=lambda uri: ascii(uri)[:50],
)
def test_a_resource_that_is_not_there_is_the_eras_error_with_the_next_step(server: Server, uri: str) -> None:
    error = refused(server, "resources/read", uri=uri)
    assert error.code == (NOT_FOUND_BEFORE_2026 if server.era == LEGACY else INVALID_PARAMS)
    assert ": " in error.message
    assert len(error.message) < 1_000


@pytest.mark.parametrize("version", ["0", "3", "-1", "²", "1.5", "99999999999999999999", "9" * 5000])
def test_a_version_that_is_not_there_is_not_found(server: Server, version: str) -> None:
    cube = server.keep("This has one version.")
    error = refused(server, "resources/read", uri=f"memcube://{cube}/v/{version}")
    assert error.code == (NOT_FOUND_BEFORE_2026 if server.era == LEGACY else INVALID_PARAMS)


@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "tools/list", "prompts/list"])
@pytest.mark.parametrize("cursor", ["", "x", "-100", "1", "²", "100000000", "9" * 5000], ids=lambda c: repr(c)[:12])
def test_a_cursor_that_no_list_gave_is_refused(server: Server, method: str, cursor: str) -> None:
    error = refused(server, method, cursor=cursor)
    assert error.code == INVALID_PARAMS
    assert "begin without one" in error.message


def test_more_than_a_page_of_spaces_is_listed_whole_and_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    names = [f"space {n}" for n in range(230)]
    ledger = Ledger.open(home / "ledger.db", home / "backups", datetime.now(UTC))
    with ledger.write() as connection:
        for name in names:
            open_space(connection, Caller("ada"), name, "2026-01-01T00:00:00.000Z")
        open_space(connection, Caller("bob"), THEIRS, "2026-01-01T00:00:00.000Z")
    ledger.close()
    with serving(home) as server:
        listed = list(pages(server))
    assert [len(page) for page in listed] == [100, 100, 33]
    assert [uri for page in listed for uri in page] == [
        "memos://stats", "memos://working", "memos://proposals",
        *(f"memcube://space/{quote(name)}" for name in names),
    ]  # fmt: skip
