"""The MCP Inspector's command line as an outside judge: schemas without a complaint, every tool called, both eras.

Skipped, with the reason printed, where node or its packages cannot be had.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from stdio_client import COMMAND, LIMIT_S

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
OLDEST_NODE = 20
INSTALL_LIMIT_S = 300
TOOL_FAILED = 5
"""Exit status of the Inspector."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def launcher() -> list[str]:
    """The command that starts the Inspector, installed once into MEMOS_TEST_CACHE or the temporary folder."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("the Inspector needs node and npm, and they are not here")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(said.lstrip("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"the Inspector needs node {OLDEST_NODE}, and this is {said}")
    folder = Path(os.environ.get("MEMOS_TEST_CACHE") or tempfile.gettempdir()) / "memos-mcp-inspector-2.12.0"
    script = folder / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", INSPECTOR]
        try:
            subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm could not install the Inspector: {error.stderr or error}")
    return [node, str(script), "--cli"]


class Inspector:
    """Runs the Inspector against the console command on one data directory, in one era."""

    def __init__(self, launcher: list[str], home: Path, era: str) -> None:
        self._command = [
            *launcher, *COMMAND, "-e", f"MEMOS_HOME={home}", "-e", "MEMOS_PRINCIPAL=ada", "--protocol-era", era, "-q",
        ]  # fmt: skip

    def run(self, method: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, "--method", method, *options],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=LIMIT_S,
            check=False,
        )

    def asked(self, method: str, *options: str) -> dict[str, Any]:
        """The result of a method that must succeed."""
        done = self.run(method, *options, "--format", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        return dict(found.get("result", found))

    def called(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured result of a tool that must succeed."""
        given = json.dumps(arguments, ensure_ascii=False)
        result = self.asked("tools/call", "--tool-name", tool, "--tool-args-json", given)
        return dict(result["structuredContent"])


@pytest.fixture(params=["legacy", "modern"])
def inspector(request: pytest.FixtureRequest, launcher: list[str], tmp_path: Path) -> Inspector:
    return Inspector(launcher, tmp_path / "home", request.param)


def test_the_schemas_of_all_tools_are_portable_without_a_complaint(inspector: Inspector) -> None:
    done = inspector.run("tools/list", "--strict")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""


def test_every_tool_can_be_called(inspector: Inspector) -> None:
    listed = [tool["name"] for tool in inspector.asked("tools/list")["tools"]]
    added = inspector.called("memory_add", content="诺拉在柏林学习建筑。Nora studies architecture in Berlin.")
    cube = added["cubes"][0]["id"]
    assert inspector.called("memory_search", query="诺拉学习什么？")["hits"][0]["id"] == cube
    changed = inspector.called("memory_update", id=cube, tags=["建筑"])
    assert inspector.called("memory_history", id=cube)["versions"][-1]["version"] == 2
    assert inspector.called("memory_undo", op=changed["op"])["undone"] == [cube]
    assert [one["id"] for one in inspector.called("memory_context", task="诺拉学习什么？")["cubes"]] == [cube]
    other = inspector.called("memory_add", content="Nora rows on the lake on Sundays.")["cubes"][0]["id"]
    fused = inspector.called("memory_fuse", ids=[cube, other])
    assert sorted(fused["merged"]) == sorted([cube, other])
    assert inspector.called("memory_promote", ids=[fused["id"]], to="archive")["moved"] == [fused["id"]]
    assert set(inspector.called("memory_forget", ids=[cube], mode="purge")["affected"]) == {cube, fused["id"]}
    assert sorted(listed) == sorted(
        f"memory_{verb}"
        for verb in ("add", "search", "context", "update", "fuse", "promote", "forget", "history", "undo")
    )


def test_resources_and_prompts_are_listed_and_read(inspector: Inspector) -> None:
    cube = inspector.called("memory_add", content="Otto collects stamps.")["cubes"][0]
    resources = [row["uri"] for row in inspector.asked("resources/list")["resources"]]
    assert resources == ["memos://stats", "memos://working", "memos://proposals", "memcube://space/personal"]
    assert len(inspector.asked("resources/templates/list")["resourceTemplates"]) == 7
    read = inspector.asked("resources/read", "--uri", cube["uri"])["contents"][0]
    assert json.loads(read["text"])["payload"]["value"] == "Otto collects stamps."
    assert [row["name"] for row in inspector.asked("prompts/list")["prompts"]] == ["recall", "remember", "review"]
    (message,) = inspector.asked("prompts/get", "--prompt-name", "recall", "--prompt-args", "topic=stamps")["messages"]
    assert "Otto collects stamps." in message["content"]["text"]


def test_a_tool_that_fails_is_a_failed_tool_and_no_broken_server(inspector: Inspector) -> None:
    done = inspector.run("tools/call", "--tool-name", "memory_undo", "--tool-args-json", '{"op": "unknown"}')
    assert done.returncode == TOOL_FAILED
    assert "memory_history" in done.stdout + done.stderr
