"""Of fifty facts that the small model was really taught, one is purged: it knows that no more, and the others still.

It trains twice, in a process of its own, on a whole store.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeEmbedder, FakeIndex
from person import Clock, Person, settings_for
from tiny_model.facts import Split, draw_facts

from memos_mcp.backends.lora.process import LoraTrainer
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import adapters
from memos_mcp.scheduler.runner import Runner
from memos_mcp.scheduler.works import works

TINY = Path(__file__).parent / "data" / "tiny_model"
FACTS = 50


def statements(count: int) -> list[str]:
    """Facts about names that the model has never seen, no two of one name's attribute."""
    drawn, found = random.Random(4), dict[tuple[str, str], str]()
    while len(found) < count:
        for fact in draw_facts(drawn, 8, Split.HELD_OUT):
            found.setdefault((fact.name, fact.attribute), fact.statement(0))
    return list(found.values())[:count]


def examined(folder: Path, texts: list[str], adapter: Path) -> dict[str, float]:
    """How many of the questions about these statements the model answers, with the adapter and without."""
    said = json.dumps({"texts": texts, "adapter": str(adapter)}, ensure_ascii=False)
    (folder / "asked.json").write_text(said, encoding="utf-8")
    command = [sys.executable, str(Path(__file__).parent / "training_runs.py"), str(folder), "examined"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(LoraTrainer.missing() is not None, reason="torch and peft are not installed")
def test_a_purged_fact_is_known_no_more_and_the_others_still(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, base_model=str(TINY), tainted="retrain", life="off")
    kernel = Kernel.open(settings, embedder=lambda _: FakeEmbedder(), index=FakeIndex(), now=Clock())
    kernel.runner.stop()
    parts = kernel.api.parts
    kernel.runner = Runner(parts.jobs, parts.now, works(parts, kernel.upkeep, kernel.summaries))
    try:
        ada = Person(kernel.api, "ada")
        texts = statements(FACTS)
        facts = [ada.keep(text) for text in texts]
        ada.promote(*facts, to="parametric")
        while kernel.runner.run_ready():
            pass
        told = ada.forget(facts[7], mode="purge")
        assert len(told["derived"]["adapters"]) == 1
        while kernel.runner.run_ready():
            pass
        with kernel.ledger.read() as connection:
            (row,) = adapters.listed(connection)
        assert row.report is not None
        assert len(row.sources) == FACTS - 1
        assert row.report["after"]["facts"]["right"] >= 0.9
        assert row.usable, row.report["reasons"]
        with kernel.ledger.read() as connection:
            made = parts.vault.by_seqs(connection, [row.cube])[row.cube]
        assert parts.adapters is not None
        gone, kept = texts[7:8], texts[:7] + texts[8:]
        forgotten = examined(tmp_path, gone, parts.adapters.path(made.id))
        assert forgotten["with"] <= forgotten["without"] + 0.2
        assert examined(tmp_path, kept, parts.adapters.path(made.id))["with"] >= 0.9
    finally:
        kernel.close()
