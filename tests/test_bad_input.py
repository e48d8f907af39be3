"""Input that nobody should send: it works or is refused with the next step, nothing is half stored, all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client
from person import settings_for
from stdio_client import ERAS, Server, serving

from memos_mcp.cube import KINDS
from memos_mcp.gateway.server import Gateway
from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.gateway.subscriptions import Subscriptions
from memos_mcp.governance import Caller, open_space
from memos_mcp.ledger.ledger import Ledger

TWO_MEGABYTES = "x" * 2_000_000
TOO_LONG = "y" * 1_000_001
UNKNOWN = "01JUNKNOWN0000000000000000"


@pytest.fixture(scope="module", params=ERAS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of ada's with one memory, on a store in which bob has a space that she may not read."""
    home = tmp_path_factory.mktemp("home")
    opened = closing(Ledger.open(home / "ledger.db", home / "backups", datetime.now(UTC)))
    with opened as ledger, ledger.write() as connection:
        open_space(connection, Caller("bob"), "bobs", "2026-01-01T00:00:00.000Z")
    with serving(home, request.param) as served:
        served.keep("Ida plays the cello.", kind="fact")
        yield served


def counts(server: Server) -> tuple[int, int]:
    """Memories, and operations but for those that note a first use, which come behind a search."""
    operations = server.done("memory_history")["operations"]
    return server.resource("memos://stats")["cubes"], sum(entry["verb"] != "use" for entry in operations)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("memory_add", {}, "content or messages"),
        ("memory_add", {"content": ""}, "give the text"),
        ("memory_add", {"content": " \n\t\u3000"}, "give the text"),
        ("memory_add", {"content": "x", "messages": []}, "content or messages"),
        ("memory_add", {"messages": []}, "at least one"),
        ("memory_add", {"messages": [{"role": "user"}]}, "messages.0.content"),
        ("memory_add", {"messages": [{"role": "user", "content": "good"}, {"role": "user", "content": ""}]}, "[1]"),
        ("memory_add", {"messages": [{"role": "user", "content": "x"}] * 1_001}, "several calls"),
        ("memory_add", {"content": TWO_MEGABYTES}, "split it into parts"),
        ("memory_add", {"content": TOO_LONG}, "split it into parts"),
        ("memory_add", {"content": 5}, "content: "),
        ("memory_add", {"content": ["x"]}, "content: "),
        ("memory_add", {"content": "x", "kind": "rumour"}, "preference"),
        ("memory_add", {"content": "x", "importance": 2}, "importance: "),
        ("memory_add", {"content": "x", "importance": float("nan")}, "importance: "),
        ("memory_add", {"content": "x", "priority": "high"}, "priority: "),
        ("memory_add", {"content": "x", "time": "yesterday"}, "2026-11-20"),
        ("memory_add", {"content": "x", "time": "2026-02-30"}, "2026-11-20"),
        ("memory_add", {"content": "x", "expires": "9999999-01-01"}, "2026-11-20"),
        ("memory_add", {"content": "x", "space": " "}, "1 to 200"),
        ("memory_add", {"content": "x", "space": "bobs"}, "a space of your own"),
        ("memory_add", {"content": "x", "space": "a\u0000b"}, "leave them out"),
        ("memory_add", {"content": "x", "tags": "one"}, "tags: "),
        ("memory_add", {"content": "x", "tags": ["a\nb"]}, "leave them out"),
        ("memory_add", {"content": "x", "metadata": {"n": float("inf")}}, "Infinity"),
        ("memory_add", {"content": "x", "metadata": {"k": "v" * 20_000}}, "put long text into content"),
        ("memory_add", {"content": "x", "metadata": [1]}, "metadata: "),
        ("memory_add", {"content": "x", "supersedes": [UNKNOWN]}, "check the id"),
        ("memory_add", {"content": "x", "links": [{"to": UNKNOWN, "relation": "about"}]}, "check the id"),
        ("memory_add", {"content": "x", "colour": "red"}, "colour: is not an argument"),
        ("memory_add", {"content": "x", "z" * 100_000: 1}, "is not an argument"),
        ("memory_search", {}, "query or ids"),
        ("memory_search", {"query": ""}, "query is empty"),
        ("memory_search", {"query": "x" * 20_001}, "split it into parts"),
        ("memory_search", {"query": "x", "top_k": 0}, "top_k: "),
        ("memory_search", {"query": "x", "top_k": 51}, "top_k: "),
        ("memory_search", {"query": "x", "top_k": 10**30}, "top_k: "),
        ("memory_search", {"query": "x", "top_k": 1.5}, "top_k: "),
        ("memory_search", {"query": "x", "top_k": "many"}, "top_k: "),
        ("memory_search", {"query": "x", "max_chars": -1}, "max_chars: "),
        ("memory_search", {"query": "x", "space": "bobs"}, "No space 'bobs'"),
        ("memory_search", {"query": "x", "space": "nowhere"}, "No space 'nowhere'"),
        ("memory_search", {"query": "x", "space": {"name": 1}}, "space: "),
        ("memory_search", {"query": "x", "after": "soon"}, "2026-11-20"),
        ("memory_search", {"query": "x", "where": {"importance": {"about": 1}}}, "gte"),
        ("memory_search", {"query": "x", "where": {"importance": {"gt": None}}}, "where"),
        ("memory_search", {"query": "x", "where": {"importance": {"gt": {"a": 1}}}}, "where"),
        ("memory_search", {"ids": [UNKNOWN]}, "check the id"),
        ("memory_search", {"ids": ["x" * 65]}, "ids.0: "),
        ("memory_update", {"id": UNKNOWN, "pin": True}, "check the id"),
        ("memory_update", {}, "id: "),
        ("memory_update", {"id": None}, "id: "),
        ("memory_forget", {}, "ids or a filter"),
        ("memory_forget", {"ids": []}, "at least one"),
        ("memory_forget", {"ids": [UNKNOWN], "mode": "purge"}, "check the id"),
        ("memory_forget", {"ids": [UNKNOWN], "mode": "shred"}, "purge"),
        ("memory_forget", {"tags": ["x"], "confirm": "made up"}, "dry_run=true"),
        ("memory_forget", {"space": "bobs", "dry_run": True}, "No space 'bobs'"),
        ("memory_history", {"id": UNKNOWN}, "check the id"),
        ("memory_history", {"op": UNKNOWN}, "memory_history"),
        ("memory_history", {"id": UNKNOWN, "op": UNKNOWN}, "not both"),
        ("memory_undo", {"op": UNKNOWN}, "memory_history"),
        ("memory_undo", {"op": ""}, "memory_history"),
    ],
    ids=lambda value: ascii(value)[:70],
)
def test_bad_arguments_are_refused_with_the_next_step_and_change_nothing(
    server: Server, tool: str, arguments: dict[str, Any], said: str
) -> None:
    before = counts(server)
    sentence = server.refused(tool, **arguments)
    assert said in sentence
    assert "unexpectedly" not in sentence
    assert len(sentence) < 1_000
    assert counts(server) == before
    assert server.done("memory_search", query="Who plays the cello?")["hits"]


@pytest.mark.parametrize(
    "content",
    [
        "🧑‍🚀🚀 emoji with joiners 👩‍👩‍👧‍👦",
        "مرحبا بالعالم، هذا نص من اليمين إلى اليسار",
        "שלום עולם \u202eright to left override\u202c",
        "control \x01\x02\x1b[31m red \x7f characters \x85\u2028\u2029",
        "tab\tand\r\nwindows line\rends",
        "".join(map(chr, range(1, 256))),
        "PNG\r\n\x1a\n" + "\u0001\u00ff" * 500,
        "Z̷̢̡̛̳͇͔̥͑͛̍a̸l̴g̶o̸ " * 20,
        "\U0010ffff \ufeff \ufffe \uffff",
        "'; DROP TABLE cubes; -- \" OR \"\"=\" * NEAR( AND",
        "{\"json\": [1, 2, {\"deep\": null}]} <script>alert(1)</script>",
        "汉" * 1_000,
        "x" * 1_000_000,
        "a",
    ],
    ids=lambda text: ascii(text)[:40],
)  # fmt: skip
def test_any_text_is_kept_as_it_is_and_found_again(server: Server, content: str) -> None:
    cube = server.keep(content, kind="event")
    found = server.done("memory_search", ids=[cube], max_chars=1_000_000)["hits"][0]
    assert found["text"] == content
    server.done("memory_search", query=content[:2_000])
    assert not server.call("memory_history", id=cube).failed


@pytest.mark.parametrize("name", ["工作", "🚀 projects", "مشروع", "Ärger & Öl", "a'b\"c;--", "x" * 200])
def test_any_written_language_may_name_a_space_a_tag_or_a_session(server: Server, name: str) -> None:
    cube = server.keep(f"Named by {name}.", space=name, tags=[name[:100]], session=name, metadata={name: name})
    found = server.done(
        "memory_search", query="Named by", space=name, tags=[name[:100]], session=name, where={name: name}
    )
    assert [hit["id"] for hit in found["hits"]] == [cube]
    plan = server.done("memory_forget", tags=[name[:100]], space=name, dry_run=True)
    assert plan["would_affect"] == [cube]


def test_numbers_and_truths_given_as_text_are_understood(server: Server) -> None:
    assert server.done("memory_search", query="cello", top_k="3")["hits"]
    assert server.done("memory_forget", ids=[server.keep("Never mind.")], dry_run="true")["affected"] == []


def test_values_left_out_and_values_of_null_mean_the_same(server: Server) -> None:
    nothing = dict.fromkeys(["kind", "space", "session", "source", "time", "importance", "expires", "ref"])
    assert server.done("memory_add", content="Most of this is null.", **nothing)["cubes"]


# What a model may make up for any argument: values of every type, and such as are nearly right.
NEARLY = st.sampled_from([
    "", " ", "personal", "nowhere", "2026-01-01", "2026-13-01", "never", "fact", UNKNOWN, "archive", "purge", "useful",
    "tests", "a\0b", "\u202e", "🚀", "汉字 cello", "*", '"', "NEAR(", -1, 0, 1, 5, 10**30, -(2**63) - 1, 0.5, 1e308,
    float("nan"), float("inf"), None, True, False, [], {}, [[]], {"": None},
])  # fmt: skip
LEAF = NEARLY | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers() | st.floats()
ANY = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
TEST = st.sampled_from(["gt", "gte", "lt", "lte", "ne", "in", "eq", "like"])
WHERE = st.dictionaries(
    st.sampled_from(["importance", "state", "form", "source", "kind", "session", "n", "", "汉"]),
    ANY | st.dictionaries(TEST, ANY, max_size=2),
    max_size=3,
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "content": st.sampled_from(["Jo sells maps.", "乔卖地图。"]),
    "query": st.sampled_from(["maps", "谁卖地图", "cello"]),
    "kind": st.sampled_from(KINDS),
    "kinds": st.lists(st.sampled_from(KINDS), max_size=2),
    "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    "messages": st.lists(st.fixed_dictionaries({"role": LEAF, "content": LEAF}, optional={"time": LEAF}), max_size=2),
    "links": st.lists(st.fixed_dictionaries({"to": LEAF, "relation": LEAF}), max_size=2),
    "metadata": st.dictionaries(st.text(max_size=5), ANY, max_size=3),
    "where": WHERE,
    "dry_run": st.booleans(),
}


class InProcess:
    """A gateway on a real store, called through the SDK's client without a process between."""

    def __init__(self, home: Path, portal: anyio.from_thread.BlockingPortal) -> None:
        self._portal = portal
        self.store = StoreAccess(settings_for(home))
        self._client = portal.wrap_async_context_manager(
            Client(Gateway(self.store, Subscriptions()).server, mode="legacy")
        )

    def __enter__(self) -> InProcess:
        self._opened = self._client.__enter__()
        self.tools = {tool.name: tool.input_schema for tool in self._portal.call(self._opened.list_tools).tools}
        return self

    def __exit__(self, *caught: Any) -> None:
        self._client.__exit__(*caught)
        self._portal.call(self.store.close, 10.0)

    def call(self, tool: str, arguments: dict[str, Any]) -> tuple[bool, str]:
        """Whether the call failed, and its text."""
        result = self._portal.call(self._opened.call_tool, tool, arguments)
        return bool(result.is_error), result.content[0].text  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("fuzz") / "home"
    with anyio.from_thread.start_blocking_portal() as portal, InProcess(home, portal) as opened:
        yield opened


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_arguments_whatever_are_unforeseen(gateway: InProcess, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(gateway.tools)), label="tool")
    known = sorted(gateway.tools[name]["properties"])
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True, max_size=5), label="arguments")
    arguments = {key: data.draw(LIKELY.get(key, NEARLY) | ANY, label=key) for key in chosen}
    failed, text = gateway.call(name, arguments)
    assert "unexpectedly" not in text
    assert text
    failed, text = gateway.call("memory_history", {})
    assert not failed, text
