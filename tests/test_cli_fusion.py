"""The commands fuse, split, compose and move --space, on a real store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from terminals import Terminal, end_kernel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    home = tmp_path_factory.mktemp("fusion") / "home"
    yield Terminal(home)
    end_kernel(home)


def test_memories_are_fused_with_their_sentences_or_a_given_text(terminal: Terminal) -> None:
    one, two = terminal.keep("Bruno lives in Lisbon.", "--time", "2026-01-02"), terminal.keep("Bruno has two cats.")
    told = terminal.run("fuse", one, f"memcube://{two}").stdout
    assert "Fused 2 memories into" in told
    assert "Bruno lives in Lisbon.\nBruno has two cats." in told
    terminal.run("undo", told.rsplit(None, 1)[-1])
    fused = terminal.json("fuse", one, two, "--text", "Bruno and his cats live in Lisbon. 🐈")
    assert fused["merged"] == [one, two]
    assert "🐈" in terminal.run("show", fused["id"]).stdout
    assert "merged already" in terminal.json("fuse", one, two, code=1)["error"]
    terminal.run("undo", fused["op"])
    piped = terminal.run("fuse", one, two, "--text", "-", typed="布鲁诺住在里斯本。\n")
    assert "布鲁诺住在里斯本。" in piped.stdout
    assert "one memory" in terminal.json("fuse", one, one, code=1)["error"]


def test_a_memory_is_split_by_its_paragraphs_or_into_given_parts(terminal: Terminal) -> None:
    whole = terminal.keep("The pump is red.\n\nThe door is green.")
    split = terminal.json("split", whole)
    assert len(split["parts"]) == 2
    terminal.run("undo", split["op"])
    told = terminal.run("split", whole, "--part", "Red pump", "--part", "Green door", "--part", "门").stdout
    assert "into 3 memories" in told
    assert "give the texts in parts" in terminal.json("split", terminal.keep("One."), code=1)["error"]


def test_memories_are_composed_once(terminal: Terminal) -> None:
    one, two = terminal.keep("Ann sings."), terminal.keep("Ann dances.")
    told = terminal.run("compose", two, one, "--title", "Ann 安").stdout
    assert "Composed" in told
    assert "Ann 安" in told
    assert "so already" in terminal.run("compose", two, one, "--title", "Ann 安").stdout
    assert terminal.json("compose", two, one)["parts"] == [two, one]


def test_memories_are_moved_and_copied_to_another_space(terminal: Terminal) -> None:
    one, two = terminal.keep("Otto repairs accordions."), terminal.keep("Otto sleeps late.")
    told = terminal.run("move", one, two, "--space", "workshop").stdout
    assert "Moved 2 memories to workshop" in told
    assert terminal.json("show", one)["governance"]["space"] == "workshop"
    assert "already" in terminal.run("move", one, "--space", "workshop").stdout
    copied = terminal.json("move", one, "--space", "attic", "--copy")
    assert terminal.json("show", copied["moved"][0])["governance"]["space"] == "attic"
    assert terminal.json("show", one)["governance"]["space"] == "workshop"
    for wrong in (["--copy"], ["--space", "x", "--under", two], ["--space", "x", "--place", "1"], ["--space", "\n"]):
        assert terminal.json("move", one, *wrong, code=1)["error"]
    assert "--space" in terminal.json("move", one, two, code=1)["error"]
