"""Steering vectors with a real small model: what they do to its answers, and the way to them for hosts and people."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from person import Person, states_of
from stdio_client import ERAS, serving
from terminals import Terminal, end_kernel

from memos_mcp.activation.engine import EngineSettings
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.kernel import Kernel

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from benchmarks.steering import PAIRS, Pair, contrast_of, margin

MODEL = Path(__file__).parent / "data" / "tiny_model" / "model.gguf"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"),
    pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is not there: scripts/make_model makes it"),
]
PAIR = Pair("colour", "red", "blue")
QUESTIONS = 8


@pytest.fixture
def local(open_kernel: Callable[..., Kernel], tmp_path: Path) -> Kernel:
    return open_kernel(engine=lambda _: LlamaEngine(EngineSettings(MODEL), tmp_path))


def keep(ada: Person, lines: Sequence[str]) -> list[str]:
    """Ids of these memories, some of which may be there already."""
    added = [ada.add(line) for line in lines]
    return [(one["unchanged"] or [cube["id"] for cube in one["cubes"]])[0] for one in added]


def test_mounted_vectors_move_the_logits_their_way_on_average_and_more_with_more_weight(local: Kernel) -> None:
    ada, states = Person(local.api, "ada"), states_of(local)
    moved: dict[float, list[float]] = {}
    for number, pair in enumerate(PAIRS[:4]):
        contrast = contrast_of(pair, random.Random(number), 10, QUESTIONS)
        made = ada.steer(pair.towards, keep(ada, contrast.towards), keep(ada, contrast.away))["id"]
        with local.ledger.read() as connection:
            cube = local.api.parts.vault.by_ids(connection, [made])[made]
        for weight in (-2.0, -1.0, 0.0, 1.0, 2.0):
            mount, _ = states.steering.mount([(cube, weight)])
            found = [margin(states.engine, asked, pair, mount.mounts) for asked in contrast.asked]
            moved.setdefault(weight, []).append(sum(found) / len(found))
    means = [sum(of_pairs) / len(of_pairs) for of_pairs in moved.values()]
    assert all(one + 1.0 < other for one, other in itertools.pairwise(means)), means


def test_weight_0_is_no_mount_and_an_answer_flips_where_both_are_in_the_memories(local: Kernel) -> None:
    ada = Person(local.api, "ada")
    contrast = contrast_of(PAIR, random.Random(3), 12, QUESTIONS)
    made = ada.steer("red, not blue", keep(ada, contrast.towards), keep(ada, contrast.away))["id"]
    said: dict[float | None, list[str]] = {}
    for weight in (None, 0.0, 2.0, -2.0):
        adapters = [] if weight is None else [{"id": made, "weight": weight}]
        for asked in contrast.asked[:6]:
            ids = keep(ada, asked.statements)
            answer = ada.ask(f"What is {asked.name}'s colour?", ids=ids, adapters=adapters, max_tokens=4)["answer"]
            said.setdefault(weight, []).append(answer)
    assert said[0.0] == said[None]
    assert said[2.0].count("red") >= said[None].count("red")
    assert said[-2.0].count("blue") > said[None].count("blue")


@pytest.mark.parametrize("era", ERAS)
def test_over_stdio_a_vector_is_made_mounted_read_undone_and_purged_with_its_sources(tmp_path: Path, era: str) -> None:
    contrast = contrast_of(PAIR, random.Random(3), 4, 1)
    home, settings = tmp_path / "home", {"MEMOS_MODEL": str(MODEL), "MEMOS_TOOLS": "all"}
    with serving(home, era, **settings) as server:
        towards, away = ([server.keep(line) for line in lines] for lines in (contrast.towards, contrast.away))
        made = server.call("memory_steer", name="red, not blue", towards=towards, away=away)
        cube = made.data["id"]
        assert "Share of the variance" in made.text
        fact = server.keep(contrast.asked[0].statements[0])
        adapters = [{"id": cube, "weight": -2}]
        question = {"question": contrast.asked[0].question, "ids": [fact], "adapters": adapters, "max_tokens": 4}
        told = server.call("memory_ask", **question)
        assert told.data["mounted"] == [{"id": cube, "version": 1, "weight": -2.0, "first": 1, "last": 2}]
        assert f"Steered by {cube}, weight -2" in told.text
        for uri in (f"memcube://{cube}", "memos://adapters"):
            found = json.loads(server.request("resources/read", {"uri": uri})["contents"][0]["text"])
            record = found["payload"]["made"] if "payload" in found else found["adapters"][0]["made"]
            assert (record["layers"], record["width"]) == ([1, 2], 128)
        for wrong, why in (([{"id": cube, "weight": 99}], "from -8 to 8"), ([{"id": cube}], "weight")):
            assert why in server.refused("memory_ask", question="What?", adapters=wrong)
        assert "both sides" in server.refused("memory_steer", name="x", towards=towards, away=towards)
    with serving(home, era, **settings) as server:
        again = server.done("memory_ask", **question)
        assert again["answer"] == told.data["answer"]
        assert "again" not in again["mounted"][0]
        gone = server.done("memory_forget", ids=towards[:1], mode="purge")
        assert gone["derived"]["cubes"] == [cube]
        assert "No memory" in server.refused("memory_ask", question="What?", adapters=adapters)
    assert not list((home / "states").glob("*.steering"))


def test_without_a_model_or_without_asking_for_all_tools_it_is_not_offered(tmp_path: Path) -> None:
    with serving(tmp_path / "home", MEMOS_MODEL=str(MODEL)) as server:
        assert "memory_steer" not in server.tools()
        assert "adapters" in server.tools()["memory_ask"]["inputSchema"]["properties"]
    with serving(tmp_path / "other", MEMOS_TOOLS="all") as server:
        assert "memory_steer" not in server.tools()


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    yield Terminal(home, MEMOS_MODEL=str(MODEL))
    end_kernel(home)


def test_at_a_terminal_a_vector_is_made_listed_shown_and_forgotten(terminal: Terminal) -> None:
    contrast = contrast_of(PAIR, random.Random(3), 3, 1)
    for line in contrast.towards:
        terminal.keep(line, "--tag", "red")
    away = [terminal.keep(line) for line in contrast.away]
    assert "no steering vectors" in terminal.run("steer").stderr
    sides = ["--towards", "tag:red", *(part for cube in away for part in ("--away", f"memcube://{cube}"))]
    made = terminal.json("steer", "red, not blue", *sides, "--layers", "2")
    assert (made["layers"], len(made["towards"]), made["away"]) == ([2, 2], 3, away)
    said = terminal.run("steer", "all layers", *sides).stdout
    assert "layers 1 to 2, operation" in said
    assert "variance between the sides" in said
    assert [one["name"] for one in terminal.json("steer")] == ["red, not blue", "all layers"]
    assert "red, not blue" in terminal.run("steer").stdout
    assert "red, not blue" in terminal.run("show", made["id"]).stdout
    for layers, why in (("two", "no range"), ("0-1", "layer 0"), ("1-9", "1 to 2")):
        assert why in terminal.run("steer", "x", *sides, "--layers", layers, code=1).stderr
    assert "name" in terminal.run("steer", *sides, code=1).stderr
    assert "towards" in terminal.run("steer", "x", "--away", away[0], code=1).stderr
    checks = {check["name"]: check for check in terminal.json("doctor")["checks"]}
    assert checks["steering vectors"]["said"].startswith("2 in files")
    terminal.run("forget", made["id"])
    assert [one["name"] for one in terminal.json("steer")] == ["all layers"]
