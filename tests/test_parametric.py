"""Memories that become an adapter, and an adapter that becomes memories again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import READS_NO_MORE, STEPS, TINY, FakeTrainer
from fakes import FakeEmbedder, FakeIndex
from person import Clock, Person, eventually, settings_for

from memos_mcp.errors import Conflict, InvalidInput, NotFound, TrainerUnavailable
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import adapters, operations
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.ports import LanguageModel
from memos_mcp.scheduler import schooling
from memos_mcp.scheduler.runner import Runner
from memos_mcp.scheduler.works import works
from memos_mcp.states import State

FACTS = ("Ana's code is T48.", "Ben's city is Rome.", "王伟的城市是北京。", "Carl's animal is a cat.")


@contextmanager
def store(
    home: Path, trainer: FakeTrainer, model: Callable[[str], LanguageModel] | None = None, **arguments: str
) -> Iterator[Kernel]:
    """A store that trains with this trainer on the small model; its background does only what a test has it do."""
    given = {"base_model": str(TINY), "life": "off", **arguments}
    kernel = Kernel.open(
        settings_for(home, **{name: value for name, value in given.items() if value}),
        embedder=lambda _: FakeEmbedder(), index=FakeIndex(), now=Clock(), trainer=lambda _: trainer, model=model,
    )  # fmt: skip
    kernel.runner.stop()
    parts = kernel.api.parts
    kernel.runner = Runner(parts.jobs, parts.now, works(parts, kernel.upkeep, kernel.summaries))
    try:
        yield kernel
    finally:
        kernel.close()


def rows(kernel: Kernel) -> list[AdapterRow]:
    """Every adapter, oldest first."""
    with kernel.ledger.read() as connection:
        return adapters.listed(connection)


def settled(kernel: Kernel) -> None:
    """Do every job, and what follows them."""
    while kernel.runner.run_ready():
        pass


def files(kernel: Kernel) -> list[str]:
    """Names of everything in the folder of adapters."""
    folder = kernel.settings.home / "adapters"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Trained:
    """A store with some facts and an adapter of them, and what a test wants of it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.ada = kernel, Person(kernel.api, "ada")
        self.facts = [self.ada.keep(text) for text in FACTS]
        self.made = self.ada.promote(*self.facts, to="parametric")
        settled(kernel)
        self.id = str(self.made["adapter"])


def test_memories_are_trained_into_an_adapter_that_counts_when_it_has_passed(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        ada = Person(kernel.api, "ada")
        facts = [ada.keep(text) for text in FACTS]
        made = ada.promote(*facts, to="parametric")
        assert made["moved"] == []
        assert "trained on 4 memories" in made["said"]
        job = kernel.api.read.job(made["job"])
        assert (job["kind"], job["state"]) == ("train", "queued")
        settled(kernel)
        job = kernel.api.read.job(made["job"])
        assert (job["state"], job["error"], job["done"]) == ("done", None, job["total"])
        (row,) = rows(kernel)
        assert row.usable
        assert [version for _, version in row.sources] == [1, 1, 1, 1]
        assert row.report is not None
        assert row.report["passes"] is True
        assert not any(word in str(row.report) for word in ("Ana", "Rome", "北京"))
        cube = kernel.api.read.cube(ada.caller, made["adapter"])
        assert cube["lineage"]["parents"] == facts
        assert not any(name.startswith("training") for name in files(kernel))
        again = ada.promote(*reversed(facts), to="parametric")
        assert (again["op"], again["adapter"]) == (None, made["adapter"])


def test_an_adapter_that_harms_reading_stays_a_candidate_and_says_why(tmp_path: Path) -> None:
    trainer = FakeTrainer(after=READS_NO_MORE)
    with store(tmp_path, trainer) as kernel:
        one = Trained(kernel)
        (row,) = rows(kernel)
        assert (row.state, row.usable) == ("candidate", False)
        assert row.report is not None
        assert any("answered from memories read: 100% before, 25% after" in said for said in row.report["reasons"])
        trainer.after = FakeTrainer().after
        again = one.ada.promote(*one.facts, to="parametric")
        assert again["adapter"] != one.id
        settled(kernel)
        assert [row.state for row in rows(kernel)] == ["retired", "active"]
        assert [course.recipe.seed for course in trainer.courses] == [0, 1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ada, cube: ada.update(cube, sensitivity="secret"), "secret"),
        (lambda ada, cube: ada.forget(cube), "over"),
        (lambda ada, cube: ada.api.policy(ada.caller, cube, "not trained"), "policy"),
    ],
    ids=["secret", "archived", "not to be trained"],
)
def test_what_may_not_be_trained_is_refused(tmp_path: Path, spoil: Callable[[Person, str], Any], said: str) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        ada = Person(kernel.api, "ada")
        facts = [ada.keep(text) for text in FACTS]
        spoil(ada, facts[1])
        with pytest.raises(Conflict, match=said):
            ada.promote(*facts, to="parametric")
        assert rows(kernel) == []


def test_memories_of_others_and_texts_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        ada, eve = Person(kernel.api, "ada"), Person(kernel.api, "eve").at("hers")
        fact, word = ada.keep(FACTS[0]), ada.keep("Hm.")
        with pytest.raises(NotFound):
            eve.promote(fact, to="parametric")
        with pytest.raises(Conflict, match="says enough"):
            ada.promote(word, to="parametric")
        made = ada.promote(fact, word, to="parametric")
        assert "1 say too little" in made["said"]
        with pytest.raises(Conflict, match="holds no text"):
            ada.promote(made["adapter"], to="parametric")
        with pytest.raises(InvalidInput, match="name adapters apart"):
            ada.promote(made["adapter"], fact, to="plaintext")


@pytest.mark.parametrize(
    ("trainer", "arguments", "said"),
    [
        (FakeTrainer(lacks="Adapters are trained with torch, not installed here: pip install it."), {}, "pip install"),
        (FakeTrainer(), {"base_model": ""}, "config base_model"),
        (FakeTrainer(), {"train": "off"}, "config train ask"),
    ],
    ids=["nothing installed", "no base model", "off"],
)
def test_where_nothing_can_be_trained_one_sentence_says_what_to_do(
    tmp_path: Path, trainer: FakeTrainer, arguments: dict[str, str], said: str
) -> None:
    with store(tmp_path, trainer, **arguments) as kernel:
        ada = Person(kernel.api, "ada")
        fact = ada.keep(FACTS[0])
        with pytest.raises(TrainerUnavailable, match=said):
            ada.promote(fact, to="parametric")
        assert rows(kernel) == []


def test_undoing_the_promotion_retires_the_adapter_and_undoing_that_brings_it_back(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        undone = one.ada.undo(one.made["op"])
        assert [row.state for row in rows(kernel)] == ["retired"]
        one.ada.undo(undone["op"])
        assert [row.usable for row in rows(kernel)] == [True]


def test_an_adapter_put_away_before_its_training_is_never_trained(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer) as kernel:
        ada = Person(kernel.api, "ada")
        made = ada.promote(ada.keep(FACTS[0]), to="parametric")
        ada.undo(made["op"])
        settled(kernel)
        assert trainer.courses == []
        assert files(kernel) == []


def test_back_to_plaintext_puts_the_adapter_away_and_restores_what_is_archived(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        one.ada.forget(one.facts[2])
        settled(kernel)
        back = one.ada.promote(one.id, to="plaintext")
        assert one.facts[2] in back["moved"]
        assert one.ada.state(one.facts[2]) == "activated"
        assert [row.state for row in rows(kernel)] == ["retired"]
        assert one.ada.promote(one.id, to="plaintext") == {"moved": [], "op": None}
        one.ada.undo(back["op"])
        assert one.ada.state(one.facts[2]) == "archived"


def test_a_training_is_gone_on_with_from_its_checkpoint_after_the_program_ended(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer) as kernel:
        ada = Person(kernel.api, "ada")
        made = ada.promote(*(ada.keep(text) for text in FACTS), to="parametric")
        training = kernel.api.parts.training
        assert training is not None

        def end_at_the_third_step(done: int) -> None:
            if done == 2:
                training.stop()
                kernel.runner.stop()

        trainer.before_step = end_at_the_third_step
        kernel.runner.run_ready()
        assert kernel.api.read.job(made["job"])["state"] == "queued"
    trainer.before_step = lambda _: None
    with store(tmp_path, trainer) as kernel:
        settled(kernel)
        assert trainer.begun_at == [0, 2]
        assert [row.usable for row in rows(kernel)] == [True]
        assert STEPS == 3


def test_a_training_whose_job_is_cancelled_ends_and_leaves_no_adapter(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer) as kernel:
        ada = Person(kernel.api, "ada")
        made = ada.promote(*(ada.keep(text) for text in FACTS), to="parametric")
        trainer.before_step = lambda done: kernel.api.cancel_job(ada.caller, made["job"]) if done == 1 else None
        settled(kernel)
        assert kernel.api.read.job(made["job"])["state"] == "cancelled"
        assert [(row.state, row.usable) for row in rows(kernel)] == [("candidate", False)]
        trainer.before_step = lambda _: None
        again = ada.promote(*ada.api.read.cube(ada.caller, made["adapter"])["lineage"]["parents"], to="parametric")
        assert again["job"] != made["job"]
        settled(kernel)
        assert [row.usable for row in rows(kernel)] == [True]
        assert trainer.begun_at == [0, 1]


# --- taint


def test_a_changed_source_taints_the_adapter_in_its_transaction_and_retires_it(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        one.ada.update(one.facts[0], tags=["codes"], importance=0.9)
        assert rows(kernel)[0].usable, "what it knows has not changed"
        one.ada.update(one.facts[0], content="Ana's code is K12.")
        (row,) = rows(kernel)
        assert (row.usable, row.state) == (False, "active")
        assert row.tainted is not None
        assert one.facts[0] in row.tainted
        settled(kernel)
        assert [row.state for row in rows(kernel)] == ["retired"]
        assert one.ada.api.read.cube(one.ada.caller, one.id)["governance"]["state"] == "archived"


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.ada.forget(one.facts[0]),
        lambda one: one.ada.update(one.facts[0], sensitivity="secret"),
        lambda one: one.ada.add("Ana's code is K12.", supersedes=[one.facts[0]]),
        lambda one: one.ada.api.policy(one.ada.caller, one.facts[0], "not trained"),
    ],
    ids=["archived", "made secret", "superseded", "not to be trained any more"],
)
def test_whatever_makes_an_adapter_untrue_taints_it(tmp_path: Path, change: Callable[[Trained], Any]) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        change(one)
        assert not rows(kernel)[0].usable
        settled(kernel)
        assert [row.state for row in rows(kernel)] == ["retired"]


def test_a_tainted_adapter_is_trained_anew_where_the_store_is_set_so_and_replaced_when_that_passes(
    tmp_path: Path,
) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer, tainted="retrain") as kernel:
        one = Trained(kernel)
        trainer.after = READS_NO_MORE
        one.ada.update(one.facts[0], content="Ana's code is K12.")
        settled(kernel)
        old, new = rows(kernel)
        assert (old.state, old.usable, new.state) == ("active", False, "candidate"), "it is not replaced by a worse one"
        trainer.after = FakeTrainer().after
        one.ada.update(one.facts[1], content="Ben's city is Oslo.")
        settled(kernel)
        assert [row.usable for row in rows(kernel)] == [False, False, True]
        assert [row.state for row in rows(kernel)] == ["retired", "retired", "active"]
        statements = [lesson.statement for lesson in trainer.courses[-1].lessons]
        assert sorted(statements) == sorted(["Ana's code is K12.", "Ben's city is Oslo.", *FACTS[2:]])


def test_a_source_that_only_cooled_stays_true_in_the_adapter(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        parts = kernel.api.parts
        with kernel.ledger.write() as connection:
            cube = parts.vault.by_ids(connection, [one.facts[0]])[one.facts[0]]
            op = operations.begin("life", "ada", "life", parts.stamp(), "cool")
            _, change = parts.vault.move(connection, op, cube, State.ARCHIVED, "cool")
            operations.record(connection, op, [change])
        assert rows(kernel)[0].usable
        back = one.ada.promote(one.id, to="plaintext")
        assert back["moved"] == [one.id, one.facts[0]]
        one.ada.undo(back["op"])
        assert (one.ada.state(one.facts[0]), rows(kernel)[0].usable) == ("archived", True)


@pytest.mark.parametrize("retrain", [False, True], ids=["retired", "trained anew"])
def test_a_purge_leaves_nothing_that_has_seen_the_memory(tmp_path: Path, retrain: bool) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer, tainted="retrain" if retrain else "retire") as kernel:
        one = Trained(kernel)
        before = files(kernel)
        assert before
        told = one.ada.forget(one.facts[0], mode="purge")
        assert told["derived"]["adapters"] == [one.id]
        assert one.id in told["affected"]
        assert files(kernel) == []
        settled(kernel)
        left = rows(kernel)
        with pytest.raises(NotFound):
            one.ada.api.read.cube(one.ada.caller, one.id)
        if not retrain:
            assert left == []
            return
        (row,) = left
        assert row.usable
        assert sorted(lesson.statement for lesson in trainer.courses[-1].lessons) == sorted(FACTS[1:])


def test_a_purge_ends_a_training_that_has_seen_the_memory_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer) as kernel:
        ada = Person(kernel.api, "ada")
        facts = [ada.keep(text) for text in FACTS]
        ada.promote(*facts, to="parametric")
        purging: list[threading.Thread] = []

        def purge_at_the_second_step(done: int) -> None:
            if done == 1:
                purging.append(threading.Thread(target=lambda: ada.forget(facts[0], mode="purge")))
                purging[0].start()
                training = kernel.api.parts.training
                assert training is not None
                assert eventually(lambda: training.is_ending)

        trainer.before_step = purge_at_the_second_step
        settled(kernel)
        purging[0].join()
        assert rows(kernel) == []
        assert files(kernel) == []


def test_an_archive_names_the_adapters_that_it_taints_in_its_dry_run_too(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        dry = one.ada.forget(one.facts[0], dry_run=True)
        assert dry["derived"]["adapters"] == [one.id]
        assert rows(kernel)[0].usable


def test_what_was_tainted_before_a_crash_is_followed_at_the_next_start(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer()) as kernel:
        one = Trained(kernel)
        training = kernel.api.parts.training
        assert training is not None
        training.follow = lambda: None
        one.ada.update(one.facts[0], content="Ana's code is K12.")
    with store(tmp_path, FakeTrainer()) as kernel:
        settled(kernel)
        assert [row.state for row in rows(kernel)] == ["retired"]


# --- what is worth training


def used_for_weeks(kernel: Kernel, ada: Person, count: int = 10) -> list[str]:
    """Facts that were used day by day, and are a month old."""
    clock = kernel.api.parts.now
    assert isinstance(clock, Clock)
    facts = [ada.keep(f"Ana{number} Lind's code is T{number}.") for number in range(count)]
    for _ in range(30):
        clock.advance(days=1)
        ada.search(ids=facts)
        kernel.api.parts.usage.flush()
    return facts


def test_what_is_hot_old_and_stable_is_proposed_and_trained_only_when_somebody_approves(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    with store(tmp_path, trainer, life="on") as kernel:
        ada = Person(kernel.api, "ada")
        facts = used_for_weeks(kernel, ada)
        fresh = ada.keep("Ben's code is K1.")
        (proposal,) = schooling.look(kernel.api.parts)
        settled(kernel)
        assert trainer.courses == [], "nothing is trained without consent"
        (shown,) = [one for one in kernel.api.plan(ada.caller)["proposals"] if one["kind"] == "train"]
        assert (shown["id"], sorted(shown["ids"])) == (proposal, sorted(facts))
        assert fresh not in shown["ids"]
        assert schooling.look(kernel.api.parts) == [], "it is proposed once"
        done = kernel.api.approve(ada.caller, proposal)
        assert done["op"] is not None
        settled(kernel)
        assert [row.usable for row in rows(kernel)] == [True]
        assert schooling.look(kernel.api.parts) == [], "what an adapter knows is not proposed again"


def test_a_store_that_is_set_to_train_by_itself_does_so_in_its_owners_name(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer(), life="on", train="auto") as kernel:
        ada = Person(kernel.api, "ada")
        used_for_weeks(kernel, ada)
        assert len(schooling.look(kernel.api.parts)) == 1
        settled(kernel)
        assert [row.usable for row in rows(kernel)] == [True]


def test_a_training_that_was_told_to_end_and_is_wanted_still_is_gone_on_with(tmp_path: Path) -> None:
    trainer, told = FakeTrainer(), list[int]()

    def once(step: int) -> None:
        if not told:
            told.append(step)
            assert kernel.api.parts.training is not None
            kernel.api.parts.training.changed([rows(kernel)[0].cube])

    with store(tmp_path, trainer) as kernel:
        trainer.before_step = once
        Trained(kernel)
        assert told == [0]
        assert [row.usable for row in rows(kernel)] == [True]
        assert len(trainer.courses) == 2


def test_an_adapter_that_nobody_needs_is_proposed_to_be_put_away_and_its_memories_stay(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer(), life="on") as kernel:
        one, clock = Trained(kernel), kernel.api.parts.now
        assert isinstance(clock, Clock)
        clock.advance(days=29)
        assert schooling.look_back(kernel.api.parts) == []
        clock.advance(days=2)
        (proposal,) = schooling.look_back(kernel.api.parts)
        (shown,) = [each for each in kernel.api.plan(one.ada.caller)["proposals"] if each["kind"] == "demote"]
        assert (shown["id"], shown["ids"]) == (proposal, [one.id])
        assert "31 days" in shown["reason"]
        assert schooling.look_back(kernel.api.parts) == [], "it is proposed once"
        done = kernel.api.approve(one.ada.caller, proposal)
        assert [row.state for row in rows(kernel)] == ["retired"]
        assert one.facts[0] in one.ada.ids("What is Ana's code?")
        assert schooling.look_back(kernel.api.parts) == [], "it is away"
        one.ada.undo(done["op"])
        assert [row.usable for row in rows(kernel)] == [True]


def test_an_adapter_that_is_needed_again_is_not_put_away(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer(), life="on") as kernel:
        one, clock = Trained(kernel), kernel.api.parts.now
        assert isinstance(clock, Clock)
        clock.advance(days=31)
        assert len(schooling.look_back(kernel.api.parts)) == 1
        with kernel.ledger.write() as connection:
            adapters.mounted(connection, [rows(kernel)[0].cube], clock().isoformat())
        assert schooling.look_back(kernel.api.parts) == []
        assert [each for each in kernel.api.plan(one.ada.caller)["proposals"] if each["kind"] == "demote"] == []


def test_what_is_doubted_changed_or_not_to_be_trained_is_not_proposed(tmp_path: Path) -> None:
    with store(tmp_path, FakeTrainer(), life="on") as kernel:
        ada = Person(kernel.api, "ada")
        facts = used_for_weeks(kernel, ada, 11)
        ada.update(facts[0], feedback="wrong")
        ada.update(facts[1], content="Ana1 Lind's code is K99.")
        ada.api.policy(ada.caller, facts[2], "not trained")
        assert schooling.look(kernel.api.parts) != []
        (shown,) = [one for one in kernel.api.plan(ada.caller)["proposals"] if one["kind"] == "train"]
        assert sorted(shown["ids"]) == sorted(facts[3:])
