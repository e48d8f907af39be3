"""Tests of the command line on a real store: what people and programs see, and the exit codes.

Knows nothing of the verbs' own rules, which are tested where they stand. Each command speaks to a kernel, which ends
with the test, or with the last of those that share one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from embeddings_server import EmbeddingsServer
from terminals import Terminal, end_kernel

from memos_mcp.cli.terminal import one_line, visible
from memos_mcp.kernel import opened
from memos_mcp.settings import load, read_config
from memos_mcp.version import VERSION

pytestmark = pytest.mark.slow

NUMBERS = count()
OF_A_KERNEL = {"connections", "jobs", "memory"}


@pytest.fixture
def owner(home: Path) -> Iterator[Terminal]:
    """Somebody whose data directory nobody else uses."""
    yield Terminal(home)
    end_kernel(home)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory, and so a kernel, that several tests share."""
    home = tmp_path_factory.mktemp("shared") / "home"
    yield home
    end_kernel(home)


@pytest.fixture
def terminal(shared: Path) -> Terminal:
    """Somebody new in the shared data directory, with a space of their own."""
    name = f"ada-{next(NUMBERS)}"
    return Terminal(shared, name, MEMOS_SPACE=f"space of {name}")


# --- memories


def test_a_memory_is_added_found_shown_forgotten_and_brought_back(terminal: Terminal) -> None:
    assert "Kept" in terminal.run("add", "The spare key hangs behind the door").stdout
    (hit,) = terminal.json("search", "where is the spare key?")["hits"]
    assert "behind the door" in terminal.run("show", hit["id"]).stdout
    forgotten = terminal.json("forget", hit["id"])
    assert forgotten["affected"] == [hit["id"]]
    assert terminal.json("search", "spare key")["hits"] == []
    assert terminal.json("undo", forgotten["op"])["undone"] == [hit["id"]]
    assert "behind the door" in terminal.run("search", "spare key").stdout


def test_every_option_of_add_reaches_the_memory(terminal: Terminal) -> None:
    old = terminal.keep("The meeting is on Monday")
    office = f"office of {terminal.principal}"
    options = ["--kind", "event", "--tag", "work", "--tag", "weekly", "--space", office, "--session", "s1"]
    options += ["--source", "mail", "--time", "2026-03-01", "--importance", "0.9", "--expires", "2036-01-01"]
    options += ["--metadata", '{"room": 7}', "--supersedes", f"memcube://{old}", "--ref", "mail-1"]
    cube = terminal.json("show", terminal.keep("The meeting is on Tuesday", *options))
    told = cube["descriptive"]
    assert (told["kind"], told["tags"], told["metadata"]) == ("event", ["work", "weekly"], {"room": 7})
    assert told["ref"] == "mail-1"
    assert (told["source"]["session"], told["source"]["uri"]) == ("s1", "mail")
    assert told["source"]["client"] == "memos-mcp cli"
    assert told["valid_from"] == "2026-03-01T00:00:00.000Z"
    assert (cube["governance"]["space"], cube["governance"]["owner"]) == (office, terminal.principal)
    assert cube["governance"]["expires"] == "2036-01-01T00:00:00.000Z"
    assert (cube["behavioural"]["importance"], cube["lineage"]["supersedes"]) == (0.9, [old])


@pytest.mark.parametrize("arguments", [["add"], ["add", "-"]])
def test_the_text_may_come_through_a_pipe(terminal: Terminal, arguments: list[str]) -> None:
    done = terminal.json(*arguments, typed="first line\nsecond line 绿茶\n".encode())
    assert terminal.json("show", done["cubes"][0]["id"])["payload"]["value"] == "first line\nsecond line 绿茶"


def test_bytes_that_are_no_text_are_marked_and_nothing_at_all_is_refused(terminal: Terminal) -> None:
    done = terminal.json("add", "-", typed=b"caf\xe9")
    assert terminal.json("show", done["cubes"][0]["id"])["payload"]["value"] == "caf\ufffd"
    assert "empty" in terminal.json("add", typed=b"", code=1)["error"]


def test_options_of_search_narrow_what_is_found(terminal: Terminal) -> None:
    red = terminal.keep("The boat is red", "--tag", "boat", "--time", "2026-01-01", "--metadata", '{"length": 7}')
    blue = terminal.keep("The boat is blue", "--kind", "event", "--time", "2026-02-01", "--session", "s")

    def found(*options: str) -> list[str]:
        return [hit["id"] for hit in terminal.json("search", "boat", *options)["hits"]]

    assert sorted(found()) == sorted([red, blue])
    assert found("--tag", "boat") == found("--before", "2026-01-15") == [red]
    assert found("--where", '{"length": {"gte": 7}}') == [red]
    assert found("--kind", "event") == found("--after", "2026-01-15") == found("--session", "s") == [blue]
    assert len(found("--top-k", "1")) == 1
    terminal.run("forget", red)
    assert sorted(found("--include", "archived")) == sorted([red, blue])
    assert terminal.json("search", "boat", "--space", "nowhere", code=1)["error"].startswith("No space 'nowhere'")


def test_a_former_version_and_the_history_are_shown(terminal: Terminal) -> None:
    cube = terminal.keep("Ada lives in Paris", "--ref", "home")
    assert terminal.keep("Ada lives in Rome", "--ref", "home") == cube
    assert terminal.json("show", cube, "--version", "1")["payload"]["value"] == "Ada lives in Paris"
    whole = terminal.json("show", cube, "--history")
    assert [version["text"] for version in whole["versions"]] == ["Ada lives in Paris", "Ada lives in Rome"]
    assert terminal.json("history", cube)["versions"] == whole["versions"]
    op = whole["operations"][0]["op"]
    assert terminal.json("history", op)["operations"][0]["changes"][0]["cube"] == cube
    assert [one["op"] for one in terminal.json("history")["operations"]][-1] == op
    shown = terminal.run("show", cube, "--history").stdout
    assert "Ada lives in Paris" in shown
    assert op in shown
    assert "No version" in terminal.json("show", cube, "--version", "9", code=1)["error"]


# --- the life of memories


def test_a_policy_is_given_shown_and_taken_back_and_the_plan_says_what_comes(terminal: Terminal) -> None:
    cube = terminal.json("add", "The fair is on Sunday", "--expires", "2099-01-01")["cubes"][0]["id"]
    space = terminal.json("show", cube)["governance"]["space"]
    planned = terminal.json("plan")
    assert [(step["id"], step["action"]) for step in planned["steps"]] == [(cube, "archive")]
    assert "not used for 180 days" in terminal.run("plan", "--space", space).stdout
    given = terminal.json("policy", cube, "Keep, may be trained")
    assert (given["policy"], terminal.json("show", cube)["governance"]["policy"]) == ("keep, may be trained",) * 2
    assert "2099-01-01" in terminal.run("plan").stdout
    terminal.run("undo", given["op"])
    assert "no policy of its own" in terminal.run("policy", cube).stdout
    assert terminal.json("policy", space, "legal hold")["holds"] == "decay, legal hold"
    assert "Under a legal hold" in terminal.json("forget", cube, code=1)["error"]
    assert "archive after N days" in terminal.json("policy", space, "for ever", code=1)["error"]
    assert "lists those that are open" in terminal.json("plan", "--approve", "nothing", code=1)["error"]
    assert "no policy of a store" in terminal.json("config", "policy", "at most 3 MB", code=1)["error"]


# --- the graph


def test_triples_of_a_file_become_memories_and_a_graph(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("subject,relation,object,since\nAda,works at,Acme,2020-01-01\nAcme,based in,Lisbon,\n", "utf-8")
    added = terminal.json("add", "--triples", str(file), "--tag", "people")
    assert (len(added["cubes"]), len(added["ops"])) == (2, 1)
    assert "Kept 0 triples, 2 were known already." in terminal.run("add", "--triples", str(file)).stdout
    found = terminal.json("graph", "Ada", "--depth", "2", "--direction", "out")
    assert [(edge["from"], edge["relation"], edge["to"]) for edge in found["edges"]] == [
        ("Ada", "works at", "Acme"), ("Acme", "based in", "Lisbon"),
    ]  # fmt: skip
    shown = terminal.run("graph", "Ada", "--relation", "works at").stdout
    assert "Acme" in shown
    assert "2020-01-01" in shown
    assert "2 memories" not in terminal.run("graph", added["cubes"][0]["id"]).stderr
    assert set(terminal.json("undo", added["ops"][0])["undone"]) == {cube["id"] for cube in added["cubes"]}
    assert "No memory or name" in terminal.json("graph", "Ada", code=1)["error"]


def test_a_file_of_triples_with_a_mistake_adds_nothing(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "broken.tsv"
    file.write_text("Ada\tknows\tBob\nAda\tknows\n", "utf-8")
    assert "Line 2 has no object" in terminal.json("add", "--triples", str(file), code=1)["error"]
    assert terminal.json("search", "Bob")["hits"] == []
    assert "cannot be read" in terminal.json("add", "--triples", str(tmp_path / "none"), code=1)["error"]
    file.write_text("", "utf-8")
    assert "holds no triple" in terminal.json("add", "--triples", str(file), code=1)["error"]
    assert "neither TEXT nor --ref" in terminal.json("add", "text", "--triples", str(file), code=1)["error"]


# --- forgetting by a filter


def test_forgetting_by_a_filter_shows_what_it_affects_and_asks(terminal: Terminal) -> None:
    boat = terminal.keep("The boat is red", "--tag", "boat")
    terminal.keep("The house is old")
    asked = terminal.run("forget", "--tag", "boat", typed="n\n", code=1)
    assert boat in asked.stdout
    assert "Archive 1 memory?" in asked.stderr
    assert len(terminal.json("search", "boat")["hits"]) == 2
    agreed = terminal.run("forget", "--tag", "boat", typed="y\n")
    assert "1 memory archived." in agreed.stdout
    assert boat not in [hit["id"] for hit in terminal.json("search", "boat")["hits"]]


def test_forgetting_by_a_filter_needs_yes_where_nobody_can_be_asked(terminal: Terminal) -> None:
    cube = terminal.keep("The boat is red", "--tag", "boat")
    assert "--yes" in terminal.json("forget", "--query", "boat red", code=1)["error"]
    done = terminal.json("forget", "--query", "boat red", "--yes")
    assert done["affected"] == [cube]


def test_a_dry_run_changes_nothing_and_a_purge_cannot_be_undone(terminal: Terminal) -> None:
    cube = terminal.keep("The secret is out")
    assert terminal.json("forget", cube, "--purge", "--dry-run")["would_affect"] == [cube]
    assert "1 memory would be purged" in terminal.run("forget", "--before", "2100-01-01", "--purge", "--dry-run").stdout
    done = terminal.json("forget", cube, "--purge")
    assert done["affected"] == [cube]
    assert "purged" in terminal.json("undo", done["op"], code=1)["error"]
    assert terminal.json("show", cube, code=1)["error"].startswith("No memory")


def test_a_filter_that_matches_nothing_asks_nothing(terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    assert "0 memories" in terminal.run("forget", "--tag", "none").stdout
    assert "Give either ids or a filter" in terminal.run("forget", code=1).stderr


# --- errors and exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nothing"],
        ["undo", "nothing"],
        ["history", "nothing"],
        ["forget", "nothing"],
        ["search", "x", "--top-k", "500"],
        ["search", "x", "--where", "[1]"],
        ["search", "x", "--where", "[" * 5000],
        ["search", "x", "--after", "yesterday"],
        ["search", " "],
        ["add", "x", "--metadata", "{"],
        ["add", "x", "--kind", "poem"],
        ["add", "x", "--importance", "7"],
        ["add", "x", "--tag", "a\nb"],
        ["add", "x", "--space", "a\tb"],
        ["space", "grant", "nowhere", "bob", "--can", "read"],
        ["space", "create", "a\tb"],
        ["embedder", "nonsense"],
        ["config", "nonsense"],
        ["config", "idle_exit", "soon"],
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_one(terminal: Terminal, arguments: list[str]) -> None:
    said = terminal.run(*arguments, code=1)
    assert said.stdout == ""
    assert said.stderr.startswith("memos-mcp: ")
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["search"], ["nonsense"], ["add", "x", "--nonsense"], ["space", "grant", "x"]])
def test_a_wrong_usage_is_exit_code_two(terminal: Terminal, arguments: list[str]) -> None:
    assert "Usage:" in terminal.run(*arguments, code=2).stderr


def test_a_store_in_use_is_named_with_its_process(owner: Terminal) -> None:
    with opened(load({"home": str(owner.home)}, env={})):
        done = owner.process("search", "x", "--json")
    assert done.returncode == 1
    assert f"process {os.getpid()}" in json.loads(done.stdout)["error"]
    assert done.stderr == b""


def test_a_damaged_ledger_or_config_file_is_a_line_and_not_a_traceback(owner: Terminal) -> None:
    owner.keep("The boat is red")
    (owner.home / "config.toml").write_text("= nonsense")
    assert "not valid TOML" in owner.run("search", "boat", code=1).stderr
    report = owner.json("doctor", code=1)
    assert [check["name"] for check in report["checks"] if check["status"] == "fail"] == ["settings"]
    assert "Ended the kernel" in owner.run("stop").stdout
    (owner.home / "config.toml").unlink()
    (owner.home / "ledger.db").write_bytes(b"garbage" * 1000)
    assert "damaged" in owner.run("search", "boat", code=1).stderr
    assert "Restore a backup" in owner.run("doctor", code=1).stdout


# --- the terminal itself


def test_nothing_in_a_memory_can_steer_the_terminal_or_becomes_markup(terminal: Terminal) -> None:
    cube = terminal.keep("plain [bold red]text[/] :smile: \x1b[2J\x07\u202e\x9b31m end")
    for shown in (terminal.run("search", "plain").stdout, terminal.run("show", cube, "--history").stdout):
        assert r"plain [bold red]text[/] :smile: \x1b[2J\x07\u202e\x9b31m end" in shown
    raw = terminal.run("show", cube, "--json").stdout
    assert not any(char in raw for char in "\x1b\x07\u202e\x9b")
    assert json.loads(raw)["payload"]["value"].endswith("\x1b[2J\x07\u202e\x9b31m end")


def test_text_is_made_visible_with_its_lines_kept_or_on_one_line() -> None:
    assert visible("a\tb\nc\r\x00\x7f") == "a\tb\nc\\x0d\\x00\\x7f"
    assert one_line("a\n\n  b\x1b", 50) == "a b\\x1b"
    assert one_line("绿茶" * 100, 10) == "绿茶绿茶绿茶绿茶绿…"


def test_columns_align_when_texts_are_chinese_or_emoji(terminal: Terminal) -> None:
    for name in ("工作空间", "🍵 tea", "plain"):
        terminal.run("space", "create", name)
    lines = terminal.run("space", "list").stdout.splitlines()
    widths = [sum(2 if ord(char) > 0x2E80 else 1 for char in line.partition("ada")[0]) for line in lines[1:]]
    assert len(set(widths)) == 1


def test_output_into_a_pipe_that_closes_ends_quietly(terminal: Terminal) -> None:
    terminal.keep("The boat is red")
    read_end, write_end = os.pipe()
    os.close(read_end)
    env = {name: value for name, value in {**os.environ, **terminal.env}.items() if value is not None}
    for arguments in (["search", "boat"], ["config", "--json"], ["config"]):
        command = [sys.executable, "-m", "memos_mcp", *arguments]
        done = subprocess.run(command, env=env, stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=60)
        assert done.stderr == b"", arguments
    os.close(write_end)


def test_help_names_every_command_and_is_quick_to_import(terminal: Terminal) -> None:
    shown = terminal.run("--help").stdout
    names = ["add", "search", "show", "forget", "undo", "doctor", "reindex", "embedder", "config", "space", "history"]
    names += ["status", "stop", "serve", "stdio"]
    assert all(f"\n  {name} " in shown for name in names)
    assert "--in-process" in shown
    assert terminal.run("--version").stdout == f"memos-mcp {VERSION}\n"
    heavy = {"sqlalchemy", "numpy", "pydantic", "mcp", "chromadb", "onnxruntime", "rich"}
    code = f"import sys, memos_mcp.cli.app; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.strip() == b"set()"


def test_the_options_before_the_command_choose_home_space_and_principal(owner: Terminal, shared: Path) -> None:
    before = ("--home", str(shared), "--space", "work", "--principal", "eve")
    cube = owner.json(*before, "add", "The boat is red")["cubes"][0]["id"]
    rules = owner.json(*before, "show", cube)["governance"]
    assert (rules["space"], rules["owner"]) == ("work", "eve")
    assert "No memory" in owner.run("--home", str(shared), "show", cube, code=1).stderr
    assert not owner.home.exists()


def test_stdio_serves_a_session_through_the_command_line(owner: Terminal) -> None:
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    done = owner.process("--space", "work", "stdio", "--in-process", input=ping)
    assert done.returncode == 0
    assert json.loads(done.stdout)["id"] == 1


# --- spaces


def test_a_space_is_made_listed_and_shared(terminal: Terminal) -> None:
    assert terminal.json("space", "create", "team") == {"name": "team", "owner": terminal.principal}
    cube = terminal.keep("The boat is red", "--space", "team")
    bob = ("--principal", "bob")
    assert "No memory" in terminal.json(*bob, "show", cube, code=1)["error"]
    terminal.run("space", "grant", "team", "bob", "--can", "read")
    assert terminal.json(*bob, "show", cube)["id"] == cube
    assert terminal.json(*bob, "space", "list") == {"spaces": [{"name": "team", "owner": terminal.principal}]}
    assert "may not forget" in terminal.json(*bob, "forget", cube, code=1)["error"]
    assert "use read, write, forget" in terminal.run("space", "grant", "team", "bob", "--can", "fly", code=1).stderr


def test_who_may_do_what_in_a_space_is_shown_and_taken_back(terminal: Terminal) -> None:
    terminal.keep("The boat is red", "--space", "boats")
    given = terminal.run("space", "grant", "boats", "bob", "--can", "read,write")
    assert "bob may read, write in boats" in given.stdout
    granted = {row["name"]: row.get("granted") for row in terminal.json("space", "list")["spaces"]}
    assert granted["boats"] == {"bob": ["read", "write"]}
    assert "bob: read, write" in terminal.run("space", "list").stdout
    assert "bob may read in boats" in terminal.run("space", "revoke", "boats", "bob", "--can", "write").stdout
    assert "bob may do nothing in boats" in terminal.run("space", "revoke", "boats", "bob").stdout
    latest = terminal.json("history")["operations"][0]
    assert latest["reason"] == "bob may no longer read in boats"
    assert terminal.run("undo", latest["op"]).stdout.startswith("Taken back; operation ")
    terminal.run("space", "revoke", "boats", "bob")
    assert "boats" not in [row["name"] for row in terminal.json("--principal", "bob", "space", "list")["spaces"]]
    refused = terminal.run("space", "revoke", "boats", terminal.principal, code=1)
    assert f"is {terminal.principal}'s own" in refused.stderr


# --- settings, embedder and health


def test_settings_are_listed_shown_changed_and_unset(owner: Terminal) -> None:
    rows = {row["name"]: row for row in owner.json("config")["settings"]}
    assert rows["home"] == {"name": "home", "value": str(owner.home), "source": "environment"}
    assert owner.json("config", "idle_exit", "60") == {"name": "idle_exit", "value": 60, "source": "config.toml"}
    assert owner.run("config", "idle_exit").stdout == "idle_exit = 60 (config.toml)\n"
    assert owner.json("config", "idle_exit", "--unset")["source"] == "default"
    assert "idle_exit" in owner.run("config").stdout
    assert "not both" in owner.run("config", "space", "x", "--unset", code=1).stderr


def test_a_key_is_stored_and_never_shown(owner: Terminal) -> None:
    owner.run("config", "openai_api_key", "sk-secret")
    shown = {"name": "openai_api_key", "value": "set", "source": "keys.toml"}
    assert owner.json("config", "openai_api_key") == shown
    assert "sk-secret" not in owner.run("config").output
    assert read_config(owner.home, "keys.toml") == {"openai_api_key": "sk-secret"}


@pytest.mark.parametrize("arguments", [["minilm"], ["openai:m@http://x"], ["--unset"]])
def test_the_embedder_is_not_changed_like_another_setting(owner: Terminal, arguments: list[str]) -> None:
    said = owner.run("config", "embedder", *arguments, code=1).stderr
    assert f"memos-mcp embedder {arguments[0] if arguments != ['--unset'] else 'minilm'}" in said
    assert not (owner.home / "config.toml").exists()


def test_a_reranker_is_chosen_by_folder_as_seen_from_here_and_let_go(
    owner: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "重排").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for given in ("./models/重排", "models/重排", str(tmp_path / "models" / "重排")):
        shown = owner.json("config", "reranker", f"cross-encoder:{given}")
        assert shown["value"] == f"cross-encoder:{tmp_path / 'models' / '重排'}"
    assert owner.json("config", "reranker", "cross-encoder:BAAI/bge-reranker-base")["source"] == "config.toml"
    for wrong, said in (("cross-encoder:./nowhere", "is not there"), ("bge", "none or cross-encoder:NAME-OR-PATH")):
        assert said in owner.run("config", "reranker", wrong, code=1).stderr
    assert owner.json("config", "reranker")["value"] == "cross-encoder:BAAI/bge-reranker-base", "as it was"
    assert owner.json("config", "reranker", "none")["value"] == "none"
    assert owner.json("config", "reranker", "--unset")["source"] == "default"


def test_a_folder_without_a_model_changes_no_embedder_and_is_named_whole(
    owner: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = owner.run("embedder", "sentence-transformers:./nowhere", code=1).stderr
    assert f"{tmp_path / 'nowhere'} is not there" in " ".join(said.split())
    assert owner.json("embedder")["embedder"] == "minilm"


def test_the_embedder_is_shown_and_changed_and_the_way_back_works(owner: Terminal) -> None:
    cube = owner.keep("The boat is red")
    assert owner.json("embedder")["vectors"].popitem()[1] == 1
    with EmbeddingsServer() as server:
        name = f"openai:local@{server.url}"
        changed = owner.json("embedder", name)
        assert (changed["embedded"], changed["dimensions"], changed["waiting"]) == (1, 48, 0)
        assert "The boat is red" in server.texts
        assert read_config(owner.home) == {"embedder": name}
        assert owner.json("search", "red boat")["hits"][0]["why"]["cosine"] is not None
        assert "openai:local" in owner.run("embedder").stdout
    added = owner.run("add", "The server is gone")
    assert "cannot be reached" in added.stderr
    assert "Kept" in added.stdout
    searched = owner.json("search", "server gone")
    assert "Searched by words alone" in searched["degraded"]
    assert "embedder" in [c["name"] for c in owner.json("doctor", code=1)["checks"] if c["status"] == "fail"]
    assert owner.run("reindex", code=1).stdout.startswith("Full text of 2 memories")
    assert "is minilm" in owner.run("embedder", "minilm").stdout
    found = {hit["id"]: hit["why"]["cosine"] for hit in owner.json("search", "boat, server")["hits"]}
    assert len(found) == 2
    assert found[cube] is not None
    assert owner.json("doctor")["ok"] is True


def test_reindex_counts_what_it_did(owner: Terminal) -> None:
    owner.keep("The boat is red")
    done = owner.json("reindex")
    assert done == {"memories": 1, "embedded": 0, "indexes": 0, "waiting": 0, "problem": None}


def test_the_doctor_exits_with_one_only_if_something_fails(owner: Terminal) -> None:
    assert "is not there" in owner.run("doctor").stdout
    owner.keep("The boat is red")
    report = owner.json("doctor")
    assert report["ok"] is True, report
    made = {check["name"] for check in report["checks"]}
    assert {"schema", "integrity", "full text", "embedder", "index", "waiting", "lock", "kernel", "socket"} <= made
    assert "None of" in owner.run("doctor").stdout
    owner.run("stop")
    assert made - {check["name"] for check in owner.json("doctor")["checks"]} == {"socket", *OF_A_KERNEL}
    (owner.home / "ledger.db").write_bytes(b"no ledger at all")
    assert owner.json("doctor", code=1)["ok"] is False


def test_a_wish_of_the_environment_is_told_and_not_applied(owner: Terminal) -> None:
    owner.keep("The boat is red")
    owner.env["MEMOS_EMBEDDER"] = "openai:m@http://127.0.0.1:1/v1"
    assert owner.json("config", "embedder")["value"] == "minilm"
    assert "not applied" in owner.run("config", "embedder").stderr
    report = owner.json("doctor")
    assert [check["name"] for check in report["checks"] if check["status"] == "warn"] == ["setting embedder"]
