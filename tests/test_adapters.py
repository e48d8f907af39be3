"""Adapters in a store: taken in and put away, mounted by who may, and gone at once with what they were trained on."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_adapters as made
import pytest
from fake_engine import FakeEngine
from person import LONG, Person, eventually, states_of

from memos_mcp.cube import ADAPTER, Snapshot
from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, MemosError, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import adapters as rows
from memos_mcp.ledger import operations
from memos_mcp.maintenance.store_checks import of_running
from memos_mcp.parametric.base_model import read_base_model
from memos_mcp.parametric.fitting import fit, topic_of
from memos_mcp.parametric.lessons import lesson_of
from memos_mcp.parametric.registry import Adapters
from memos_mcp.settings import write_config

pytest.importorskip("gguf", reason="gguf is not installed: no adapter is converted")

TINY = Path(__file__).parent / "data" / "tiny_model"
BASE = read_base_model(TINY)
FACTS = ("Ana Lind's code is T48.", "Ben Roth's code is K12.", "王伟的密码是 B07。")


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine, home: Path) -> Kernel:
    write_config(home, "base_model", str(TINY))
    write_config(home, "model", str(TINY / "model.gguf"))
    return open_kernel(engine=lambda _: engine)


@pytest.fixture
def peft(tmp_path: Path) -> Path:
    return made.folder(tmp_path / "peft", made.matrices(BASE))


class Trained:
    """Facts, and an adapter that says it was trained on them: its weights are random, for the model here is a fake."""

    def __init__(self, kernel: Kernel, ada: Person, peft: Path, state: Any = "active") -> None:
        self.kernel, self.ada, self.peft = kernel, ada, peft
        self.facts = [ada.keep(fact) for fact in FACTS]
        self.asked = ada.keep(f"The well is deep {LONG}")
        parts = kernel.api.parts
        with parts.ledger.write() as connection:
            cubes = parts.vault.by_ids(connection, self.facts)
            sources = [cubes[fact] for fact in self.facts]
            op = operations.begin("promote", "ada", "tests", parts.stamp())
            space = _space(parts, connection)
            draft = Snapshot("three codes", ADAPTER, parents=tuple(self.facts))
            (self.cube,), changes = parts.vault.insert(connection, op, space, [draft], None, 0)
            rows.begin(connection, self.cube.seq, BASE.identity, [(one.seq, one.version) for one in sources], op.at)
            operations.record(connection, op, changes, {})
        self.id = self.cube.id
        report = {"passes": state == "active", "reasons": ["facts: 10% answered after (90% wanted)"]}
        self.row = registry(kernel).finish(self.cube, peft, report, state)

    @property
    def engine(self) -> FakeEngine:
        found = states_of(self.kernel).engine
        assert isinstance(found, FakeEngine)
        return found

    @property
    def files(self) -> Path:
        return registry(self.kernel).path(self.id)

    def ask(self, weight: float = 1.0, **given: Any) -> Any:
        wanted = {"ids": [self.asked], "adapters": [{"id": self.id, "weight": weight}]} | given
        return self.ada.ask("How deep?", **wanted)

    def refused(self, match: str, kind: type[MemosError] = Conflict) -> bool:
        with pytest.raises(kind, match=match):
            self.ask()
        return True

    def states(self) -> int:
        """States in files, or in memory, that were read under it."""
        with self.kernel.ledger.read() as connection:
            held = rows.listed(connection, [self.cube.seq])
        entries = [one for one in states_of(self.kernel).catalogue.entries.values() if one.mounted]
        return len(entries) if held or entries else 0


def _space(parts: Any, connection: Any) -> Any:
    from memos_mcp import governance

    return governance.find_space(connection, "personal")


def registry(kernel: Kernel) -> Adapters:
    found = kernel.api.parts.adapters
    assert found is not None
    return found


@pytest.fixture
def trained(kernel: Kernel, ada: Person, peft: Path) -> Trained:
    return Trained(kernel, ada, peft)


def listed(person: Person) -> list[dict[str, Any]]:
    return [one for one in person.api.read.adapters(person.caller) if one["kind"] == ADAPTER]


# --- what it is


def test_a_trained_adapter_is_a_cube_of_form_parametric_with_files_of_the_user_alone(
    ada: Person, trained: Trained, home: Path
) -> None:
    payload = ada.api.read.cube(ada.caller, trained.id)["payload"]
    assert (payload["form"], payload["blob"]["sha256"]) == ("parametric", trained.row.gguf_sha256)
    (one,) = listed(ada)
    assert one["state"] == "active"
    assert (one["rank"], one["alpha"], one["targets"]) == (2, 4.0, ["q_proj", "v_proj"])
    assert one["sources"] == [{"id": fact, "version": 1} for fact in trained.facts]
    assert one["effect"]["passes"] is True
    assert trained.files == home / "adapters" / trained.id
    assert {path.name for path in trained.files.iterdir()} == {
        "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "memos.json"
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in trained.files.iterdir()} == {0o600}
    assert sum(path.stat().st_size for path in trained.files.iterdir()) == payload["blob"]["size"]
    assert of(trained.kernel, "adapters") == ("ok", "1 in files, each as it was written.")


def of(kernel: Kernel, name: str) -> tuple[str, str]:
    return next((check.status, check.said) for check in of_running(kernel) if check.name == name)


def test_what_was_trained_on_a_memory_that_changed_meanwhile_is_not_taken_in(
    kernel: Kernel, ada: Person, peft: Path
) -> None:
    trained = Trained(kernel, ada, peft)
    ada.update(trained.facts[0], content="Ana Lind's code is Z99.")
    with pytest.raises(Conflict, match=r"not taken in: .* trained on"):
        registry(kernel).finish(trained.cube, peft, {}, "active")


# --- mounting


def test_an_adapter_answers_otherwise_and_its_states_belong_to_it(trained: Trained) -> None:
    plain = trained.ada.ask("How deep?", ids=[trained.asked])["answer"]
    under = trained.ask()
    assert under["answer"] != plain
    assert under["mounted"] == [{"id": trained.id, "version": 1, "weight": 1.0, "form": "parametric"}]
    assert trained.ask()["used"][0]["how"] == "resident"
    assert trained.ask(0.5)["used"][0]["how"] == "read"
    assert trained.ask(0.0)["answer"] == plain
    assert trained.states()


@pytest.mark.parametrize("weight", [-0.1, 2.1, 1e9])
def test_a_weight_out_of_bounds_is_refused(trained: Trained, weight: float) -> None:
    with pytest.raises(InvalidInput, match="from 0 to 2; 1 is as it was trained"):
        trained.ask(weight)


def test_two_adapters_are_refused_and_one_goes_beside_a_steering_vector(
    kernel: Kernel, ada: Person, trained: Trained, tmp_path: Path
) -> None:
    other = made.folder(tmp_path / "other", made.matrices(BASE, seed=7))
    second = ada.api.import_adapter(ada.caller, str(other), "another")["id"]
    both = [{"id": trained.id, "weight": 1}, {"id": second, "weight": 1}]
    with pytest.raises(InvalidInput, match="train one from the memories of both"):
        trained.ask(adapters=both)
    steering = ada.steer("codes", [ada.keep("red gate")], [ada.keep("blue gate")])["id"]
    alone = trained.ask()["answer"]
    mixed = trained.ask(adapters=[{"id": trained.id, "weight": 1}, {"id": steering, "weight": 1}])
    assert {one["id"] for one in mixed["mounted"]} == {trained.id, steering}
    assert mixed["answer"] != alone


def test_candidates_and_adapters_of_another_base_are_refused_with_the_reason(
    kernel: Kernel, ada: Person, peft: Path
) -> None:
    failed = Trained(kernel, ada, peft, "candidate")
    assert failed.refused("did not pass its exams .*10% answered")
    with kernel.ledger.write() as connection:
        rows.set_state(connection, [failed.cube.seq], "active")
        connection.exec_driver_sql("UPDATE adapters SET base = 'another'")
    registry(kernel).refresh([failed.cube.seq])
    assert failed.refused("trained for another base model")
    assert "mounted" not in ada.ask("What is Ana Lind's code?", ids=[])


def test_a_damaged_file_is_refused_reported_and_never_mounted(trained: Trained) -> None:
    path = trained.files / "adapter.gguf"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert trained.refused("files are gone or damaged")
    status, said = of(trained.kernel, "adapters")
    assert status == "warn"
    assert "not as it was written" in said
    assert "mounted" not in trained.ada.ask("What is Ana Lind's code?", ids=[])


# --- picked by the question


def test_without_a_list_the_adapter_that_knows_the_subject_is_mounted_and_said(trained: Trained) -> None:
    said = trained.ada.ask("What is the code of Ben Roth?", ids=[])
    assert said["mounted"] == [{
        "id": trained.id, "version": 1, "weight": 1.0, "form": "parametric", "picked": True, "about": [trained.facts[1]]
    }]  # fmt: skip
    assert trained.ada.ask("王伟的密码是什么？", ids=[])["mounted"][0]["about"] == [trained.facts[2]]
    assert "mounted" not in trained.ada.ask("What is the code of Carl Moss?", ids=[])
    assert "mounted" not in trained.ada.ask("What is Ana Lind's code?", ids=[], session="talk")
    assert "mounted" not in trained.ada.ask("🙂", ids=[])


def test_fitting_prefers_the_attribute_that_is_asked_for_and_needs_the_whole_subject() -> None:
    texts = ("Ana Lind's code is T48.", "Ana Lind's dog is Rex.", "My locker is 12.", "王伟住在北京。")
    topics = [topic_of(lesson) for n, text in enumerate(texts) if (lesson := lesson_of(str(n), 1, text))]
    assert fit("What is Ana Lind's dog?", topics).cubes == ("1",)
    assert fit("Tell me about Ana Lind", topics).cubes == ("0", "1")
    assert fit("What is my locker?", topics).cubes == ("2",)
    assert fit("王伟住在哪里？", topics).cubes == ("3",)
    assert not fit("Who is Ana?", topics).points
    assert not fit("What is the locker?", topics).points


# --- who may


def test_it_is_mounted_only_for_who_may_read_it_and_everything_that_it_was_trained_on(
    kernel: Kernel, ada: Person, trained: Trained
) -> None:
    bob = Person(kernel.api, "bob", "bobs")
    bob.keep("mine")
    wanted = [{"id": trained.id, "weight": 1}]
    with pytest.raises(NotFound):
        bob.ask("What is Ana Lind's code?", ids=[], adapters=wanted)
    ada.share("bob", trained.id, *trained.facts[:2])
    with pytest.raises(NotFound, match="not yours to read"):
        bob.ask("What is Ana Lind's code?", ids=[], adapters=wanted)
    assert listed(bob) == []
    ada.share("bob", trained.facts[2])
    assert bob.ask("What is Ana Lind's code?", ids=[], adapters=wanted)["mounted"]
    assert "mounted" not in bob.ask("What is Ana Lind's code?", ids=[])
    with pytest.raises(AccessDenied):
        bob.api.retire_adapter(bob.caller, trained.id)


# --- going


@pytest.mark.parametrize("how", ["update", "archive", "secret"])
def test_a_source_that_changes_taints_it_at_once_and_its_states_are_gone(trained: Trained, how: str) -> None:
    trained.ask()
    trained.ask(session="talk")
    assert trained.states()
    fact = trained.facts[0]
    if how == "update":
        trained.ada.update(fact, content="Ana Lind's code is Z99.")
    elif how == "archive":
        trained.ada.forget(fact)
    else:
        trained.ada.update(fact, sensitivity="secret")
    assert not trained.states()
    assert trained.engine.unmounted == [trained.row.gguf_sha256]
    assert trained.refused("a memory that it was trained on")
    assert "mounted" not in trained.ada.ask("What is Ben Roth's code?", ids=[])
    assert listed(trained.ada)[0]["tainted"]
    again = trained.ada.ask("How deep?", ids=[trained.asked], session="talk")
    assert "begins anew" in again["degraded"]


def test_what_changes_nothing_that_was_learnt_taints_nothing(trained: Trained) -> None:
    trained.ada.update(trained.facts[0], tags=["seen"], importance=0.9)
    assert trained.ask()["mounted"]
    assert listed(trained.ada)[0]["tainted"] is None


def test_a_purge_leaves_no_file_of_what_has_seen_the_memory(trained: Trained, home: Path) -> None:
    trained.ask()
    work = registry(trained.kernel).workplace(trained.id)
    work.mkdir(parents=True)
    (work / "checkpoint").write_text("T48")
    trained.ada.forget(trained.facts[0], mode="purge")
    assert not trained.files.exists()
    assert not work.exists()
    assert not trained.states()
    with pytest.raises((Conflict, NotFound)):
        trained.ask()


def test_retired_it_is_mounted_no_more_until_that_is_undone(trained: Trained) -> None:
    trained.ask()
    done = trained.ada.api.retire_adapter(trained.ada.caller, trained.id)
    assert done["state"] == "retired"
    assert not trained.states()
    assert trained.refused("archived|retired")
    assert listed(trained.ada)[0]["state"] == "retired"
    with pytest.raises(Conflict, match="already"):
        trained.ada.api.retire_adapter(trained.ada.caller, trained.id)
    trained.ada.undo(done["op"])
    assert trained.ask()["mounted"]


# --- after a crash


def test_a_start_removes_what_belongs_to_no_adapter_and_marks_what_lost_its_file(
    trained: Trained, open_kernel: Callable[..., Kernel], engine: FakeEngine, home: Path
) -> None:
    for _ in range(3):
        trained.ask()
    trained.kernel.close()
    for name in (".new-abc", "01ORPHAN", "training/01ORPHAN"):
        (home / "adapters" / name).mkdir(parents=True)
        (home / "adapters" / name / "adapter.gguf").write_bytes(b"left")
    kernel = open_kernel(engine=lambda _: FakeEngine(cells=100_000))
    assert sorted(path.name for path in (home / "adapters").iterdir()) == sorted([trained.id, "training"])
    assert not list((home / "adapters" / "training").iterdir())
    ada = Person(kernel.api, "ada")
    assert listed(ada)[0]["mounts"] == 3
    assert ada.ask("How deep?", ids=[trained.asked], adapters=[{"id": trained.id, "weight": 1}])["mounted"]
    kernel.close()
    shutil.rmtree(home / "adapters" / trained.id)
    again = Person(open_kernel(engine=lambda _: FakeEngine(cells=100_000)).api, "ada")
    with pytest.raises(Conflict, match=r"files are gone|it is archived"):  # it is retired behind
        again.ask("How deep?", ids=[trained.asked], adapters=[{"id": trained.id, "weight": 1}])


# --- made elsewhere


def test_a_folder_and_a_file_are_taken_in_once_and_undone(
    kernel: Kernel, ada: Person, peft: Path, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.gguf"
    path.write_bytes(made.gguf(made.gguf_values(BASE), made.gguf_matrices(BASE)))
    first = ada.api.import_adapter(ada.caller, str(peft), "from peft")
    second = ada.api.import_adapter(ada.caller, str(path), "来自 GGUF 🙂")
    assert (first["rank"], second["rank"]) == (2, 2)
    assert {one["from"] for one in listed(ada)} == {"peft", "gguf"}
    assert all(one["imported"] and one["effect"] is None and one["sources"] == [] for one in listed(ada))
    again = ada.api.import_adapter(ada.caller, str(peft), "another name")
    assert (again["id"], again["op"]) == (first["id"], None)
    other = made.folder(tmp_path / "other", made.matrices(BASE, seed=3))
    with pytest.raises(Conflict, match="choose another name"):
        ada.api.import_adapter(ada.caller, str(other), "from peft")
    assert ada.ask("How deep?", ids=[], adapters=[{"id": second["id"], "weight": 1}])["mounted"]
    ada.undo(second["op"])
    with pytest.raises(Conflict, match="not mounted"):
        ada.ask("How deep?", ids=[], adapters=[{"id": second["id"], "weight": 1}])


def test_what_was_made_here_for_another_base_is_not_taken_in(ada: Person, peft: Path) -> None:
    (peft / "memos.json").write_text(json.dumps({"base": "0" * 32}))
    with pytest.raises(InvalidInput, match="another base model of the same shape"):
        ada.api.import_adapter(ada.caller, str(peft), "foreign")


def test_what_cannot_be_taken_in_leaves_nothing(kernel: Kernel, ada: Person, tmp_path: Path, home: Path) -> None:
    whole = made.folder(tmp_path / "whole", made.matrices(BASE))
    damaged = made.folder(tmp_path / "damaged", made.matrices(BASE, rank=3))
    pickled = tmp_path / "adapter_model.bin"
    pickled.write_bytes(b"\x80\x04.")
    device = tmp_path / "device"
    device.mkdir()
    (device / "adapter_config.json").symlink_to("/dev/zero")
    (device / "adapter_model.safetensors").symlink_to("/dev/zero")
    for path, said in (
        (damaged, "does not fit the base"), (pickled, "is a pickle"), (device, "is no file"), (tmp_path, "is a pickle"),
        (TINY.parent, "cannot be read"), (tmp_path / "nowhere", "There is no"), (Path("/dev/zero"), "is no file"),
        (whole / "adapter_model.safetensors", "Name the folder"), (TINY / "model.gguf", "no LoRA adapter"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=said):
            ada.api.import_adapter(ada.caller, str(path), "x")
    for name in ("", " ", "x" * 300, "a\nb"):
        with pytest.raises(InvalidInput, match="name"):
            ada.api.import_adapter(ada.caller, str(whole), name)
    for path_said in ("", "\0", "x" * 10_000):
        with pytest.raises(InvalidInput, match="Name the folder"):
            ada.api.import_adapter(ada.caller, path_said, "x")
    assert listed(ada) == []
    assert not [path for path in (home / "adapters").glob("*") if path.name != "training"]


def test_a_store_without_a_model_says_what_to_set(open_kernel: Callable[..., Kernel], peft: Path) -> None:
    ada = Person(open_kernel().api, "ada")
    with pytest.raises(InvalidInput, match="config model"):
        ada.api.import_adapter(ada.caller, str(peft), "x")


def test_an_adapter_is_no_text_and_is_found_by_no_search(ada: Person, trained: Trained) -> None:
    with pytest.raises(InvalidInput, match="is an adapter and no text"):
        ada.ask("How deep?", ids=[trained.id])
    assert trained.id not in ada.ids("three codes", top_k=20)
    assert eventually(lambda: trained.id not in ada.ids("adapter of codes"))
