"""Adding files and folders at the terminal: what is kept, what a second run takes over, and what is reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pdfs import pdf
from terminals import Terminal, end_kernel

pytestmark = pytest.mark.slow

NUMBERS = count()
LONG = "The copper harbour light is red when the ledger is closed for the night. " * 16


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


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with a document of every kind that is read."""
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "guide.md").write_text(f"# Guide\n\n## Boats\n\n{LONG}\n\n## Knots\n\n{LONG}\n")
    (docs / "page.html").write_text("<title>T</title><h1>Anchors</h1><p>An anchor holds in sand.</p>")
    (docs / "sub" / "paper.pdf").write_bytes(pdf([["Sails are white."], ["Masts are tall."]]))
    (docs / "sub" / "笔记.txt").write_bytes("船在港口等待。".encode("gb18030"))
    (docs / "plan.opml").write_text("<opml><body><outline text='House'><outline text='Tiles'/></outline></body></opml>")
    return docs


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {os.path.basename(row["path"]): row["status"] for row in report["files"]}


def test_a_folder_is_kept_and_a_second_run_takes_over_only_what_changed(terminal: Terminal, docs: Path) -> None:
    first = terminal.json("add", "--folder", str(docs))
    assert first["counts"] == {"added": 5}
    again = terminal.json("add", "--folder", str(docs))
    assert again["counts"] == {"unchanged": 5}
    assert all(row.get("op") is None for row in again["files"])
    (docs / "guide.md").write_text((docs / "guide.md").read_text().replace("## Knots", "## Knots and ropes"))
    (docs / "new.md").write_text("New words.")
    third = terminal.json("add", "--folder", str(docs))
    assert third["counts"] == {"unchanged": 4, "changed": 1, "added": 1}
    (changed,) = [row for row in third["files"] if row["status"] == "changed"]
    assert (changed["added"], changed["changed"], changed["archived"]) == (1, 0, 1)
    assert changed["unchanged"] == 3
    said = terminal.run("undo", changed["op"]).stdout
    assert "Taken back" in said


def test_hits_show_folder_file_page_and_heading(terminal: Terminal, docs: Path) -> None:
    terminal.run("add", "--folder", str(docs), "--tag", "sea")
    (hit,) = terminal.json("search", "masts tall", "--top-k", "1", "--tag", "sea")["hits"]
    assert hit["source"] == "docs/sub/paper.pdf (pages 1–2)"
    (hit,) = terminal.json("search", "tiles", "--top-k", "1")["hits"]
    assert hit["source"] == "docs/plan.opml › House › Tiles"
    assert "from docs/sub/笔记.txt" in terminal.run("search", "港口", "--top-k", "1").stdout
    (hit,) = terminal.json("search", "knots rope copper", "--top-k", "1")["hits"]
    assert hit["source"] == "docs/guide.md › Guide › Knots"
    shown = terminal.run("show", hit["id"])
    assert "docs › guide.md › Guide" in shown.stdout
    assert str(docs / "guide.md") in shown.stdout


def test_a_dry_run_shows_what_would_be_done_and_keeps_nothing(terminal: Terminal, docs: Path) -> None:
    said = terminal.run("add", "--folder", str(docs), "--dry-run").stdout
    assert f"would be added  {docs / 'guide.md'}: 4 added" in said
    assert "5 added" in said
    assert terminal.json("add", "--folder", str(docs))["counts"] == {"added": 5}


def test_files_that_are_gone_are_told_and_archived_only_on_demand(terminal: Terminal, docs: Path) -> None:
    terminal.run("add", "--folder", str(docs))
    (docs / "page.html").rename(docs.parent / "page.html")
    told = terminal.run("add", "--folder", str(docs)).stdout
    assert f"gone  {docs / 'page.html'}: kept; --prune archives it" in told
    assert terminal.json("search", "anchor sand", "--top-k", "1")["hits"][0]["source"] == "docs/page.html"
    dry = terminal.json("add", "--folder", str(docs), "--prune", "--dry-run")
    assert [(row["archived"], row["op"]) for row in dry["gone"]] == [(1, None)]
    pruned = terminal.json("add", "--folder", str(docs), "--prune")
    assert [row["archived"] for row in pruned["gone"]] == [1]
    assert all(hit["source"] != "docs/page.html" for hit in terminal.json("search", "anchor sand")["hits"])
    assert terminal.json("add", "--folder", str(docs), "--prune")["gone"] == []
    (docs.parent / "page.html").rename(docs / "page.html")
    assert statuses(terminal.json("add", "--folder", str(docs)))["page.html"] == "changed"
    assert terminal.json("search", "anchor sand", "--top-k", "1")["hits"][0]["source"] == "docs/page.html"


def test_what_a_person_forgot_stays_forgotten_while_its_file_is_the_same(terminal: Terminal, docs: Path) -> None:
    first = terminal.json("add", "--file", str(docs / "page.html"))
    terminal.run("forget", first["files"][0]["id"])
    assert statuses(terminal.json("add", "--file", str(docs / "page.html"))) == {"page.html": "archived"}
    assert terminal.json("search", "anchor sand")["hits"] == []


def test_what_cannot_be_read_is_reported_and_the_rest_goes_on(terminal: Terminal, docs: Path) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 no")
    (docs / "latin.txt").write_bytes("Le café est fermé".encode("latin-1"))
    (docs / "empty.md").write_text("")
    report = terminal.json("add", "--folder", str(docs), "--file", str(docs / "nothing.md"), code=1)
    assert report["counts"] == {"added": 5, "failed": 4}
    problems = {os.path.basename(row["path"]): row["problem"] for row in report["files"] if "problem" in row}
    assert "cannot be read" in problems["broken.pdf"]
    assert "save it as UTF-8" in problems["latin.txt"]
    assert "no text" in problems["empty.md"]
    assert "no such file" in problems["nothing.md"]
    said = terminal.run("add", "--folder", str(docs), code=1)
    assert f"not read  {docs / 'latin.txt'}" in said.stderr
    assert "5 unchanged, 3 failed" in said.stdout


def test_options_reach_every_memory_and_other_options_are_a_change(terminal: Terminal, docs: Path) -> None:
    terminal.run("add", "--folder", str(docs))
    report = terminal.json("add", "--folder", str(docs), "--tag", "sea", "--metadata", '{"year": 2026}')
    assert report["counts"] == {"changed": 5}
    hits = terminal.json("search", "copper harbour", "--tag", "sea", "--where", '{"year": 2026}')["hits"]
    assert {hit["source"] for hit in hits} >= {"docs/guide.md › Guide › Boats", "docs/guide.md › Guide › Knots"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["text", "--file", "x"], "leave out TEXT"),
        (["--file", "x", "--supersedes", "id"], "--supersedes"),
        (["--file", "x", "--ref", "r"], "--ref"),
        (["--folder", "x", "--source", "s"], "--source"),
        (["--folder", "/nowhere/at/all"], "not a folder"),
        (["text", "--dry-run"], "--file and --folder"),
        (["text", "--prune"], "--file and --folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(terminal: Terminal, arguments: list[str], said: str) -> None:
    assert said in terminal.run("add", *arguments, code=1).stderr


def test_a_tree_is_shown_and_a_part_is_moved(terminal: Terminal, docs: Path) -> None:
    terminal.run("add", "--folder", str(docs))
    top = terminal.json("search", "docs", "--where", '{"document.node": "folder"}')["hits"][0]["id"]
    tree = terminal.json("show", top, "--tree")
    assert [child["title"] for child in tree["tree"]["children"]] == ["guide.md", "page.html", "plan.opml", "sub"]
    guide = tree["tree"]["children"][0]["children"][0]
    boats, knots = guide["children"]
    said = terminal.run("show", top, "--tree").stdout
    assert f"    Boats  {boats['id']}" in said
    moved = terminal.run("move", knots["id"], "--under", boats["id"]).stdout
    assert "Moved to docs/guide.md › Guide › Boats › Knots" in moved
    assert "stands there already" in terminal.run("move", knots["id"], "--under", boats["id"]).stdout
    assert terminal.json("show", boats["id"], "--tree")["tree"]["children"][0]["id"] == knots["id"]
    assert "under itself" in terminal.json("move", boats["id"], "--under", knots["id"], code=1)["error"]
    assert "leave out --version" in terminal.run("show", top, "--tree", "--version", "1", code=1).stderr


def test_names_that_could_steer_the_terminal_and_odd_names_are_taken(terminal: Terminal, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    for name in ("a\x1b[2Jb.md", "n\nl.md", "\u202egnp.md", "🍵 tea.md"):
        (odd / name).write_text(f"Words of {name!r}")
    with (Path(os.fsdecode(os.fsencode(odd) + b"/bad\xff.md"))).open("w") as file:
        file.write("Words of a name that is no UTF-8")
    done = terminal.run("add", "--folder", str(odd))
    assert "5 added" in done.stdout
    assert not any(char in done.stdout for char in "\x1b\u202e")
    assert terminal.json("add", "--folder", str(odd))["counts"] == {"unchanged": 5}
