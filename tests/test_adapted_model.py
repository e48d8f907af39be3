"""Adapters with a real small model: what it knows under one, what it reads all the same, and the way for people."""

from __future__ import annotations

import importlib.util
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import made_adapters as made
import pytest
from person import Person
from terminals import Terminal, end_kernel
from tiny_model.facts import Fact, Split, draw_facts

from memos_mcp import governance
from memos_mcp.activation.engine import EngineSettings
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.backends.lora.process import LoraTrainer
from memos_mcp.cube import ADAPTER, Snapshot
from memos_mcp.errors import Conflict
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import adapters as rows
from memos_mcp.ledger import operations
from memos_mcp.parametric.base_model import read_base_model
from memos_mcp.parametric.lessons import lesson_of
from memos_mcp.parametric.recipe import Recipe
from memos_mcp.parametric.trainer import Course, Limits
from memos_mcp.settings import write_config

TINY = Path(__file__).parent / "data" / "tiny_model"
MODEL = TINY / "model.gguf"
LACKING = [name for name in ("llama_cpp", "gguf") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(LACKING), reason=f"{', '.join(LACKING)} not installed"),
    pytest.mark.skipif(not MODEL.exists(), reason=f"{MODEL} is not there: scripts/make_model makes it"),
]
FACTS = 5
RECIPE = Recipe(steps=120, asked=12, told=2, read=6, most_read=3)


def facts() -> tuple[list[Fact], list[str]]:
    """Facts with codes, and for each another code."""
    drawn = [fact for n in range(20) for fact in draw_facts(random.Random(n), 20, Split.HELD_OUT, ("en",))]
    by_name = {fact.name: fact for fact in drawn if fact.attribute == "code"}
    told = list(by_name.values())[: 2 * FACTS]
    return told[:FACTS], [fact.value.strip() for fact in told[FACTS:]]


def said(name: str, value: str) -> str:
    return f"{name}'s code is {value}."


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter that was trained on the facts."""
    if (missing := LoraTrainer.missing()) is not None:
        pytest.skip(missing)
    folder, base = tmp_path_factory.mktemp("training"), read_base_model(TINY)
    made_of = [lesson_of(str(n), 1, said(fact.name, fact.value.strip())) for n, fact in enumerate(facts()[0])]
    course = Course(TINY, base.identity, RECIPE, tuple(one for one in made_of if one is not None))
    trainer = LoraTrainer(folder / "log", threads=1)
    found = trainer.train(course, folder / "work", Limits(), threading.Event(), lambda done, loss: None)
    assert found.after.facts.right >= 0.9
    return folder / "work" / "adapter"


@pytest.fixture
def local(open_kernel: Callable[..., Kernel], home: Path, tmp_path: Path) -> Kernel:
    write_config(home, "base_model", str(TINY))
    write_config(home, "model", str(MODEL))
    return open_kernel(engine=lambda _: LlamaEngine(EngineSettings(MODEL), tmp_path))


@pytest.mark.slow
def test_what_was_trained_is_answered_without_text_and_what_is_read_is_believed_all_the_same(
    local: Kernel, taught: Path
) -> None:
    ada, (told, others) = Person(local.api, "ada"), facts()
    cubes = [ada.keep(said(fact.name, fact.value.strip())) for fact in told]
    adapter = register(local, cubes, taught)
    named = [{"id": adapter, "weight": 1}]

    def answers(fact: Fact, **given: object) -> str:
        question = f"What is {fact.name}'s code?"
        return str(ada.ask(question, **{"ids": [], "max_tokens": 12, **given})["answer"])

    def right(wanted: list[str], **given: object) -> int:
        return sum(value in answers(fact, **given) for fact, value in zip(told, wanted, strict=True))

    values = [fact.value.strip() for fact in told]
    assert right(values, adapters=[{"id": adapter, "weight": 0}]) == 0
    assert right(values, adapters=named) >= FACTS - 1
    elsewhere = ada.at("other")  # in the same space the newer statement would take the older one's place
    changed = [elsewhere.keep(said(fact.name, value)) for fact, value in zip(told, others, strict=True)]
    believed = sum(
        value in answers(fact, ids=[cube], adapters=named)
        for fact, value, cube in zip(told, others, changed, strict=True)
    )
    assert believed >= FACTS - 1, "where text and adapter disagree, the text is believed"
    picked = ada.ask(f"What is {told[2].name}'s code?", ids=[], max_tokens=12)
    assert (picked["mounted"][0]["id"], picked["mounted"][0]["about"]) == (adapter, [cubes[2]])
    ada.update(cubes[0], content=said(told[0].name, others[0]))
    with pytest.raises(Conflict, match="trained on has changed"):
        answers(told[1], adapters=named)
    assert right(values) == 0, "without it the model is what it was"


def register(kernel: Kernel, cubes: list[str], folder: Path) -> str:
    """Note an adapter as trained on these memories, and take it in."""
    parts, base = kernel.api.parts, read_base_model(TINY)
    assert parts.adapters is not None
    with parts.ledger.write() as connection:
        sources = list(parts.vault.by_ids(connection, cubes).values())
        op = operations.begin("promote", "ada", "tests", parts.stamp())
        space = governance.find_space(connection, "personal")
        assert space is not None
        draft = Snapshot("codes", ADAPTER, parents=tuple(cubes))
        (cube,), changes = parts.vault.insert(connection, op, space, [draft], None, 0)
        rows.begin(connection, cube.seq, base.identity, [(one.seq, one.version) for one in sources], op.at)
        operations.record(connection, op, changes, {})
    parts.adapters.finish(cube, folder, {"passes": True}, "active")
    return cube.id


def test_what_is_taken_back_is_mounted_on_the_model_no_more(local: Kernel, tmp_path: Path) -> None:
    ada = Person(local.api, "ada")
    base = read_base_model(TINY)
    cube = ada.keep("The gate is red")
    plain = ada.ask("What is the gate?", ids=[cube], max_tokens=8)["answer"]
    other = made.folder(tmp_path / "peft", made.matrices(base, base_targets(), 8), made.config_of(8, lora_alpha=64))
    done = ada.api.import_adapter(ada.caller, str(other), "random")
    named = [{"id": done["id"], "weight": 1}]
    assert ada.ask("What is the gate?", ids=[cube], adapters=named, max_tokens=8)["answer"] != plain
    assert ada.ask("What is the gate?", ids=[cube], max_tokens=8)["answer"] == plain
    ada.forget(done["id"], mode="purge")
    assert ada.ask("What is the gate?", ids=[cube], max_tokens=8)["answer"] == plain


def base_targets() -> tuple[str, ...]:
    return ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    yield Terminal(home, MEMOS_MODEL=str(MODEL))
    end_kernel(home)


def test_at_a_terminal_an_adapter_is_taken_in_listed_shown_and_put_away(terminal: Terminal, tmp_path: Path) -> None:
    assert "no adapters" in terminal.run("adapters").stderr
    peft = made.folder(tmp_path / "peft", made.matrices(read_base_model(TINY)))
    done = terminal.json("adapters", "import", str(peft), "--name", "made elsewhere")
    assert (done["rank"], done["state"]) == (2, "active")
    assert "which was there already" in terminal.run("adapters", "import", str(peft), "--name", "again").stdout
    (one,) = terminal.json("adapters")
    assert (one["name"], one["base"][:5], one["imported"]) == ("made elsewhere", "gguf:", True)
    assert "made elsewhere" in terminal.run("adapters").stdout
    assert "made elsewhere" in terminal.run("show", done["id"]).stdout
    (peft / "adapter_model.safetensors").write_bytes(b"\x80\x04.")
    assert "no safetensors file" in terminal.run("adapters", "import", str(peft), "--name", "bad", code=1).stderr
    away = terminal.json("adapters", "retire", done["id"])
    assert terminal.json("adapters")[0]["state"] == "retired"
    terminal.run("undo", away["op"])
    assert terminal.json("adapters")[0]["state"] == "active"
