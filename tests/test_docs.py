"""The documentation against the living program: what can be set, called or run is written down, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_docs
import pytest
import typer.main

from memos_mcp import settings
from memos_mcp.cli.app import app
from memos_mcp.gateway import prompts, resources, tools

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = README + "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the terminal by its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
    else:
        for name, command in inner.items():
            yield from commands(command, (*path, name))


COMMANDS = sorted(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("variable", [declared.variable for declared in settings.DECLARED])
def test_every_setting_is_documented(variable: str) -> None:
    assert f"`{variable}`" in README


@pytest.mark.parametrize("tool", list(tools.offered(asking=True)))
def test_every_tool_is_documented(tool: str) -> None:
    assert f"`{tool}`" in README


@pytest.mark.parametrize("tool", list(tools.offered("all", asking=True)))
def test_every_tool_that_must_be_asked_for_is_documented(tool: str) -> None:
    assert f"`{tool}`" in WRITTEN


@pytest.mark.parametrize("prompt", [prompt.name for prompt in prompts.listed()])
def test_every_prompt_is_documented(prompt: str) -> None:
    assert f"`{prompt}`" in WRITTEN


@pytest.mark.parametrize(
    "template",
    [*(row.uri_template for row in resources.templates()), resources.STATS, resources.ADAPTERS, resources.PROPOSALS],
)
def test_every_resource_is_documented(template: str) -> None:
    assert template.partition("{?")[0] in WRITTEN


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_documented(command: tuple[str, ...]) -> None:
    first, *rest = command
    lines = [line for line in WRITTEN.splitlines() if re.search(rf"memos-mcp {first}\b", line)]
    assert lines, f"memos-mcp {first} is nowhere"
    for word in rest:
        assert any(re.search(rf"\b{word}\b", line) for line in lines), f"memos-mcp {' '.join(command)} is nowhere"


def test_nothing_is_documented_that_is_not_there() -> None:
    named_tools = set(re.findall(r"\bmemory_[a-z]+\b", README)) - {"memory_api"}
    assert named_tools <= set(tools.offered("all", asking=True))
    variables = set(re.findall(r"\bMEMOS_[A-Z_]+\b", README))
    assert variables <= {declared.variable for declared in settings.DECLARED}
    known = {words[0] for words in COMMANDS} | {"stdio"}
    assert set(re.findall(r"^memos-mcp ([a-z]+)", README, re.MULTILINE)) <= known


@pytest.mark.parametrize("asking", [False, True])
def test_the_bytes_that_tools_cost_are_those_that_the_readme_gives(asking: bool) -> None:
    offered = tools.offered(asking=asking).values()
    listed = [tool.listed().model_dump(by_alias=True, exclude_none=True, mode="json") for tool in offered]
    seen = [{key: part for key, part in tool.items() if key != "outputSchema"} for tool in listed]
    for rows in (seen, listed):
        size = len(json.dumps({"tools": rows}, ensure_ascii=False, separators=(",", ":")).encode())
        assert f"{size:,} " in README, f"README gives another figure than {size:,} bytes"


@pytest.mark.parametrize("document", sorted(make_docs.MADE))
def test_what_is_made_from_the_program_is_as_it_would_be_made_now(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert make_docs.renewed(text, make_docs.MADE[document]) == text, "run scripts/make_docs"


def test_a_document_without_a_place_for_what_is_made_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for moves"):
        make_docs.renewed("# Nothing", {"moves": make_docs.table_of_moves})
