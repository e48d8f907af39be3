"""Tests of where each setting comes from, and of writing config.toml.

Knows no store: a data directory counts as made when it holds a ledger file.
"""

from __future__ import annotations

import os
import stat
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.asked import default_home
from memos_mcp.errors import InvalidInput, MemosError, StorageFailed
from memos_mcp.settings import (
    DECLARED,
    load,
    pin_store_settings,
    place,
    read_config,
    secret,
    write_config,
)


def made(home: Path) -> Path:
    """The data directory with a ledger, as after first use."""
    home.mkdir(exist_ok=True)
    (home / "ledger.db").touch()
    return home


def test_every_setting_has_a_default_and_says_so(home: Path) -> None:
    settings = load({"home": str(home)}, env={})
    assert settings.home == home
    assert (settings.space, settings.tools) == ("personal", "core")
    assert (settings.embedder, settings.idle_exit) == ("minilm", 900)
    assert (settings.model, settings.base_model, settings.llm) == (None, None, None)
    assert settings.principal
    assert settings.sources["home"] == "command line"
    assert {settings.sources[d.name] for d in DECLARED if d.name != "home"} == {"default"}


def test_a_connection_setting_follows_command_line_then_environment_then_file_then_default(home: Path) -> None:
    found = [load({"home": str(home)}, env={})]
    write_config(home, "space", "from-file")
    found.append(load({"home": str(home)}, env={}))
    env = {"MEMOS_SPACE": "from-env"}
    found.append(load({"home": str(home)}, env=env))
    found.append(load({"home": str(home), "space": "from-line"}, env=env))
    assert [(s.space, s.sources["space"]) for s in found] == [
        ("personal", "default"),
        ("from-file", "config.toml"),
        ("from-env", "environment"),
        ("from-line", "command line"),
    ]


def test_the_environment_chooses_store_settings_only_while_there_is_no_ledger(home: Path) -> None:
    env = {"MEMOS_HOME": str(home), "MEMOS_EMBEDDER": "openai:m@http://localhost/v1"}
    fresh = load(env=env)
    assert (fresh.embedder, fresh.sources["embedder"], dict(fresh.wishes)) == (env["MEMOS_EMBEDDER"], "environment", {})
    made(home)
    later = load(env=env)
    assert (later.embedder, later.sources["embedder"]) == ("minilm", "default")
    assert later.wishes == {"embedder": env["MEMOS_EMBEDDER"]}


def test_what_the_environment_chose_for_a_fresh_store_is_kept_in_the_file(home: Path) -> None:
    env = {"MEMOS_HOME": str(home), "MEMOS_IDLE_EXIT": "5", "MEMOS_SPACE": "work"}
    pin_store_settings(load(env=env))
    assert read_config(home) == {"idle_exit": 5}
    made(home)
    later = load({"home": str(home)}, env={})
    assert (later.idle_exit, later.sources["idle_exit"], later.space) == (5, "config.toml", "personal")


def test_the_key_of_an_endpoint_that_the_environment_chose_is_kept_with_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-7")
    pin_store_settings(load({"home": str(home)}, env={"MEMOS_IDLE_EXIT": "5"}))
    assert read_config(home, "keys.toml") == {}, "nothing needs it"
    pin_store_settings(load({"home": str(home)}, env={"MEMOS_EMBEDDER": "openai:m@http://127.0.0.1:9/v1"}))
    monkeypatch.delenv("OPENAI_API_KEY")
    assert secret(home, "openai_api_key") == "sk-7"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MEMOS_EMBEDDER", "bge-m3", "There is no embedder 'bge-m3': use minilm"),
        ("MEMOS_EMBEDDER", "sentence-transformers:", "There is no embedder"),
        ("MEMOS_EMBEDDER", "sentence-transformers:a\0b", "There is no embedder"),
        ("MEMOS_EMBEDDER", "汉字 🍵", "There is no embedder"),
        ("MEMOS_EMBEDDER", "sentence-transformers:/nowhere/at/all", "is not there"),
        ("MEMOS_EMBEDDER", "sentence-transformers:./model", "give its whole path"),
        ("MEMOS_RERANKER", "bge-reranker-base", "There is no reranker 'bge-reranker-base': use none"),
        ("MEMOS_RERANKER", "cross-encoder:~/nowhere/at/all", "is not there"),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_a_fresh_store_is_held_to_it(
    home: Path, variable: str, value: str, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        load({"home": str(home)}, env={variable: value})
    assert not home.exists()
    made(home)
    assert load({"home": str(home)}, env={variable: value}).wishes == {variable[6:].lower(): value}, "a wish, no more"


def test_an_embedder_that_went_away_after_it_was_kept_does_not_stand_in_the_way(home: Path) -> None:
    made(home)
    (home / "config.toml").write_text('embedder = "bge-m3"\n', encoding="utf-8")
    assert load({"home": str(home)}, env={}).embedder == "bge-m3", "words are searched, and a command mends it"


def test_an_explicit_value_that_is_the_stores_own_is_no_wish(home: Path) -> None:
    made(home)
    assert load({"home": str(home)}, env={"MEMOS_EMBEDDER": "minilm", "MEMOS_IDLE_EXIT": "900"}).wishes == {}


def test_an_empty_variable_is_as_good_as_none(home: Path) -> None:
    settings = load(env={"MEMOS_HOME": str(home), "MEMOS_SPACE": "", "MEMOS_EMBEDDER": ""})
    assert (settings.space, settings.embedder) == ("personal", "minilm")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= nonsense", "is not valid TOML"),
        ('idle_exit = "soon"', "whole number"),
        ("space = 7", "must be text"),
        ('tools = "some"', "'core' or 'all'"),
    ],
)
def test_a_config_file_that_makes_no_sense_is_refused_with_the_reason(home: Path, text: str, said: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        load({"home": str(home)}, env={})


def test_a_config_file_that_is_not_text_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"config\.toml"):
        load({"home": str(home)}, env={})


def test_settings_can_be_resolved_without_a_config_file_that_cannot_be_read(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("= nonsense")
    assert load({"home": str(home)}, env={}, config={}).space == "personal"
    assert place({"home": str(home)}, env={}) == home


def test_a_home_that_is_a_file_is_an_error_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="is not a folder"):
        load({"home": str(tmp_path / "file")}, env={})


def test_a_written_setting_is_read_back_and_the_others_stay(home: Path) -> None:
    write_config(home, "space", "工作 🍵")
    write_config(home, "idle_exit", "60")
    write_config(home, "tools", "all")
    write_config(home, "tools", None)
    assert tomllib.loads((home / "config.toml").read_text(encoding="utf-8")) == {"space": "工作 🍵", "idle_exit": 60}


@pytest.mark.parametrize(("name", "value"), [("idle_exit", "soon"), ("tools", "some"), ("home", "/"), ("nothing", "x")])
def test_a_setting_that_cannot_be_is_not_written(home: Path, name: str, value: str) -> None:
    write_config(home, "space", "work")
    with pytest.raises(InvalidInput):
        write_config(home, name, value)
    assert read_config(home) == {"space": "work"}


def test_a_file_that_cannot_be_replaced_is_an_error_and_leaves_nothing_half_written(home: Path) -> None:
    (home / "config.toml").mkdir(parents=True)
    with pytest.raises(StorageFailed):
        write_config(home, "space", "work")
    assert (home / "config.toml").is_dir()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_files_and_a_folder_made_for_them_are_their_users_alone(home: Path) -> None:
    write_config(home, "openai_api_key", "sk-1")
    write_config(home, "space", "work")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, home / "keys.toml", home / "config.toml")}
    assert modes == {"home": 0o700, "keys.toml": 0o600, "config.toml": 0o600}


def test_a_key_is_kept_apart_from_the_settings(home: Path) -> None:
    write_config(home, "openai_api_key", "sk-1")
    assert secret(home, "openai_api_key") == "sk-1"
    assert not (home / "config.toml").exists()
    write_config(home, "openai_api_key", None)
    assert "openai_api_key" not in read_config(home, "keys.toml")


def test_the_default_data_directory_is_the_platforms_own() -> None:
    assert default_home("linux", {"XDG_DATA_HOME": "/x"}) == "/x/memos-mcp"
    assert default_home("linux", {}) == str(Path.home() / ".local" / "share" / "memos-mcp")
    assert default_home("darwin", {}) == str(Path.home() / "Library" / "Application Support" / "memos-mcp")
    assert default_home("win32", {"LOCALAPPDATA": "/local"}) == "/local/memos-mcp"


def test_a_home_may_begin_with_a_tilde_and_is_made_absolute() -> None:
    assert place({"home": "~/memories"}, env={}) == Path.home() / "memories"
    assert place({}, env={"MEMOS_HOME": "here"}) == Path.cwd() / "here"
    with pytest.raises(InvalidInput, match="NUL"):
        place({"home": "a\0b"}, env={})


@given(st.dictionaries(st.sampled_from([d.variable for d in DECLARED if d.name != "home"]), st.text(max_size=20)))
def test_whatever_the_environment_holds_settings_are_resolved_or_refused_with_a_sentence(env: dict[str, str]) -> None:
    with suppress(MemosError):
        settings = load({"home": "/nowhere/at/all"}, env=env)
        assert set(settings.sources) == {d.name for d in DECLARED}
