"""The verb ask: answers of the local model from memories, what it reports, conversations that outlive the kernel."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from person import LONG, Person, eventually, states_of
from sqlalchemy import text
from stdio_client import serving
from tiny_model.facts import Case, cases

from memos_mcp.activation.conversations import ConversationFull
from memos_mcp.activation.engine import EngineSettings
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.errors import Conflict, EngineUnavailable, InvalidInput, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.results import AskResult

MODEL = Path(__file__).parent / "data" / "tiny_model" / "model.gguf"


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


def hows(told: AskResult) -> dict[str, str]:
    return {cube["id"]: cube["how"] for cube in told["used"]}


# --- what is asked of which memories


def test_an_answer_names_what_it_rests_on_and_what_each_part_took(ada: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    told = ada.ask("What colour is the gate of the mill?")
    assert told["answer"]
    assert told["used"] == [{"id": cube, "version": 1, "how": "read"}]
    assert all(seconds >= 0 for seconds in told["timing"].values())
    assert told["timing"]["total_s"] >= told["timing"]["search_s"] > 0
    assert "conversation" not in told


def test_what_a_search_finds_and_what_is_named_give_the_same_answer(ada: Person) -> None:
    cubes = [ada.keep(f"The gate {n} of the mill is green {LONG}") for n in range(3)]
    found = ada.ask("What colour is the gate of the mill?")
    assert set(hows(found)) == set(cubes)
    named = ada.ask("What colour is the gate of the mill?", ids=cubes[::-1])
    assert named["answer"] == found["answer"]
    assert set(hows(named).values()) == {"resident"}


def test_a_question_without_any_memory_is_asked_all_the_same(ada: Person) -> None:
    told = ada.ask("Hello?")
    assert told["used"] == []
    assert told["answer"]


def test_only_memories_that_the_caller_may_read_are_asked(ada: Person, bob: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.activate(cube)
    with pytest.raises(NotFound):
        bob.ask("What colour?", ids=[cube])
    with pytest.raises(NotFound):
        bob.promote(cube)
    with pytest.raises(NotFound):
        bob.ask("What colour?", space="personal")
    assert bob.ask("What colour is the gate of the mill?")["used"] == []


def test_a_shared_memory_is_answered_from_the_state_that_its_owner_made(ada: Person, bob: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.activate(cube)
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    assert hows(bob.ask("What colour?", ids=[cube])) == {cube: "resident"}


def test_what_is_secret_is_read_and_kept_nowhere(kernel: Kernel, ada: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.update(cube, sensitivity="secret")
    for _ in range(2):
        assert hows(ada.ask("What colour?", ids=[cube])) == {cube: "read"}
    assert not states_of(kernel).catalogue.entries
    with pytest.raises(Conflict, match="secret"):
        ada.promote(cube)
    with pytest.raises(InvalidInput, match="secret"):
        ada.ask("What colour?", ids=[cube], session="talk")


def test_what_does_not_fit_is_left_out_if_found_and_refused_if_named(open_kernel: Callable[..., Kernel]) -> None:
    kernel = open_kernel(engine=lambda _: FakeEngine(cells=600))
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"The gate {n} of the mill is green. {LONG} {LONG}") for n in range(5)]
    told = ada.ask("What colour is the gate of the mill?", max_tokens=16)
    assert 0 < len(told["used"]) < 5
    with pytest.raises(InvalidInput, match="name fewer"):
        ada.ask("What colour?", ids=cubes, max_tokens=16)
    with pytest.raises(InvalidInput, match="make them shorter"):
        ada.ask("What colour?", max_tokens=4_000)
    with pytest.raises(Conflict, match="promote fewer"):
        ada.promote(*cubes)


def test_an_answer_that_was_cut_short_says_so(ada: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    told = ada.ask("What colour?", ids=[cube], max_tokens=2)
    assert len(told["answer"]) == 2
    assert "max_tokens" in told["degraded"]


def test_an_empty_question_is_refused(ada: Person) -> None:
    with pytest.raises(InvalidInput, match="ask something"):
        ada.ask("  ")


# --- without a model


def test_without_a_model_a_sentence_says_what_to_install_and_set(open_kernel: Callable[..., Kernel]) -> None:
    ada = Person(open_kernel().api, "ada")
    cube = ada.keep("The gate is green")
    for call in (lambda: ada.ask("What colour?"), lambda: ada.promote(cube)):
        with pytest.raises(EngineUnavailable, match=r"install memos-mcp\[activation\].*config model PATH"):
            call()
    assert ada.promote(cube, to="plaintext") == {"moved": [], "op": None}


def test_a_model_that_cannot_be_loaded_is_said_and_every_other_verb_works(
    open_kernel: Callable[..., Kernel], engine: FakeEngine
) -> None:
    engine.down = True
    ada = Person(open_kernel(engine=lambda _: engine).api, "ada")
    cube = ada.keep("The gate is green")
    with pytest.raises(EngineUnavailable, match="start it"):
        ada.ask("What colour?")
    assert ada.ids("gate") == [cube]
    ada.update(cube, content="The gate is red")
    ada.forget(cube, mode="purge")
    engine.down = False
    assert ada.ask("What colour?")["answer"]


# --- conversations


def test_a_conversation_goes_on_where_it_was_and_each_turn_rests_on_all_before(ada: Person) -> None:
    one, other = ada.keep(f"The gate is green {LONG}"), ada.keep(f"The well is deep {LONG}")
    first = ada.ask("What colour?", ids=[one], session="talk")
    second = ada.ask("How deep?", ids=[other], session="talk")
    assert second["conversation"] == first["conversation"]
    assert hows(second) == {one: "resident", other: "read"}
    alone = ada.ask("How deep?", ids=[one, other])
    assert alone["answer"] != second["answer"], "the conversation is part of what is answered from"
    third = ada.ask("And?", ids=[one, other], session="talk")
    assert set(hows(third).values()) == {"resident"}


def test_a_conversation_is_resumed_after_a_restart_as_if_there_had_been_none(
    open_kernel: Callable[..., Kernel], tmp_path: Path, kernel: Kernel, ada: Person
) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    first = ada.ask("What colour?", ids=[cube], session="talk")
    ada.ask("What colour?", ids=[cube], session="control")
    uninterrupted = ada.ask("Why?", ids=[cube], session="control")
    kernel.close()
    engine = FakeEngine(cells=100_000)
    ada = Person(open_kernel(engine=lambda _: engine).api, "ada")
    assert eventually(lambda: not states_of(ada).busy)
    assert engine.reads == 0
    resumed = ada.ask("Why?", ids=[cube], session="talk")
    assert resumed["conversation"] == first["conversation"]
    assert resumed["answer"] == uninterrupted["answer"]
    assert "degraded" not in resumed


def test_conversations_of_different_people_spaces_and_names_do_not_meet(ada: Person, bob: Person) -> None:
    work = ada.at("work")
    work.keep("The office is red")
    bob.at("bobs").keep("The house is blue")
    ada.keep("The gate is green")
    ids = {
        ada.ask("What colour?", session="talk")["conversation"],
        ada.ask("What colour?", session="other")["conversation"],
        work.ask("What colour?", session="talk")["conversation"],
        bob.at("bobs").ask("What colour?", session="talk")["conversation"],
    }
    assert len(ids) == 4


def test_a_conversation_begins_anew_when_a_memory_in_it_changes_and_says_so(ada: Person) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    first = ada.ask("What colour?", ids=[cube], session="talk")
    ada.update(cube, content=f"The gate is red {LONG}")
    second = ada.ask("What colour?", ids=[cube], session="talk")
    assert second["conversation"] != first["conversation"]
    assert "begins anew" in second["degraded"]
    assert "degraded" not in ada.ask("Why?", ids=[cube], session="talk")


def test_a_conversation_ends_with_the_right_to_read_a_memory_in_it(ada: Person, bob: Person, kernel: Kernel) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    bob.at("bobs").keep("Something else")
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    first = bob.at("bobs").ask("What colour?", ids=[cube], session="talk")
    with kernel.ledger.write() as connection:
        connection.execute(text("DELETE FROM grants"))
    second = bob.at("bobs").ask("And now?", session="talk")
    assert second["conversation"] != first["conversation"]
    assert cube not in hows(second)


def test_a_conversation_can_be_kept_as_memories_and_gone_on_with(ada: Person, bob: Person) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    first = ada.ask("What colour is it?", ids=[cube], session="talk")
    second = ada.ask("它是什么颜色？", ids=[cube], session="talk")
    conversation = first["conversation"]
    with pytest.raises(NotFound):
        bob.promote(conversation, to="plaintext")
    kept = ada.promote(conversation, to="plaintext")
    said = [ada.text(turn) for turn in kept["moved"]]
    assert said == ["What colour is it?", first["answer"], "它是什么颜色？", second["answer"]]
    assert ada.ids("What colour is it?", session="talk")
    third = ada.ask("Why?", ids=[cube], session="talk")
    assert third["conversation"] == conversation
    again = ada.promote(conversation, to="plaintext")
    assert [ada.text(turn) for turn in again["moved"]] == ["Why?", third["answer"]]


def test_a_conversation_that_fills_the_context_says_how_to_go_on(open_kernel: Callable[..., Kernel]) -> None:
    ada = Person(open_kernel(engine=lambda _: FakeEngine(cells=400)).api, "ada")
    ada.keep("The gate is green")
    first = ada.ask("What colour?", session="talk", max_tokens=60)
    with pytest.raises(ConversationFull, match="another session") as refused:
        talk_on(ada, 20)
    assert first["conversation"] in str(refused.value)


def talk_on(ada: Person, turns: int) -> None:
    for _ in range(turns):
        ada.ask("What colour?", session="talk", max_tokens=60)


def test_a_damaged_conversation_is_read_again_where_its_head_is_whole(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, home: Path
) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    first = ada.ask("What colour?", ids=[cube], session="talk")
    kernel.close()
    (path,) = (home / "states").glob("*.state")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    ada = Person(open_kernel(engine=lambda _: FakeEngine(cells=100_000)).api, "ada")
    second = ada.ask("Why?", ids=[cube], session="talk")
    assert second["conversation"] == first["conversation"]
    assert "not used" in second["degraded"]
    assert hows(second) == {cube: "read"}


def test_a_model_that_dies_during_a_turn_costs_nothing_of_the_conversation(ada: Person, engine: FakeEngine) -> None:
    cube = ada.keep(f"The gate is green {LONG}")
    first = ada.ask("What colour?", ids=[cube], session="talk")
    died: list[str] = []

    def meanwhile(verb: str) -> None:
        if verb == "read" and not died:
            died.append(verb)
            engine.lose()

    engine.before = meanwhile
    second = ada.ask("Why?", ids=[cube], session="talk")
    assert died
    assert second["conversation"] == first["conversation"]
    assert hows(second) == {cube: "disk"}


# --- with a real model


@pytest.fixture
def local(open_kernel: Callable[..., Kernel], tmp_path: Path) -> Callable[[], Kernel]:
    """Opens the store with the trained model, as often as a test wants."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: no model answers")
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: scripts/make_model makes it")
    settings = EngineSettings(MODEL, cells=2_048, sequences=8, threads=1)

    return lambda: open_kernel(engine=lambda _: LlamaEngine(settings, tmp_path))


def asked(case: Case) -> str:
    """The bare question: the words around it are the verb's."""
    return case.question.partition(" ")[2].partition("\n")[0] if "Q: " in case.question else (
        case.question.removeprefix("问：").partition("\n")[0]
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_trained_model_answers_from_a_memory_that_it_is_given(local: Callable[[], Kernel], language: str) -> None:
    ada = Person(local().api, "ada")
    right, same = 0, 0
    chosen = list(cases(7, 20, 1, languages=(language,)))
    for case in chosen:
        cube = ada.keep(case.statements[0])
        read = ada.ask(asked(case), ids=[cube], max_tokens=8)
        ada.activate(cube)
        kept = ada.ask(asked(case), ids=[cube], max_tokens=8)
        assert set(hows(kept).values()) <= {"resident", "ram"}
        right += read["answer"] == case.answer.strip()
        same += kept["answer"] == read["answer"]
    assert same == len(chosen)
    assert right >= 0.85 * len(chosen)


def test_with_a_real_model_a_restart_resumes_and_a_killed_worker_is_not_felt(local: Callable[[], Kernel]) -> None:
    kernel = local()
    ada = Person(kernel.api, "ada")
    (case,) = cases(11, 1, 4)
    ids = [ada.keep(line) for line in case.statements]
    ada.activate(*ids)
    first = ada.ask(asked(case), ids=ids, session="talk", max_tokens=8)
    control = ada.ask(asked(case), ids=ids, session="control", max_tokens=8)
    assert control["answer"] == first["answer"]
    uninterrupted = ada.ask(asked(case), ids=ids, session="control", max_tokens=8)
    kernel.close()
    kernel = local()
    ada = Person(kernel.api, "ada")
    resumed = ada.ask(asked(case), ids=ids, session="talk", max_tokens=8)
    assert (resumed["answer"], resumed["conversation"]) == (uninterrupted["answer"], first["conversation"])
    engine = states_of(kernel).engine
    assert isinstance(engine, LlamaEngine)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    after = ada.ask(asked(case), ids=ids, max_tokens=8)
    assert after["answer"] == first["answer"]
    assert set(hows(after).values()) == {"disk"}


def test_over_stdio_a_conversation_outlives_its_process(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: no model answers")
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: scripts/make_model makes it")
    (case,) = cases(11, 1, 2)
    with serving(tmp_path / "home", MEMOS_MODEL=str(MODEL)) as server:
        ids = [server.keep(line) for line in case.statements]
        assert server.done("memory_promote", ids=ids, to="activation")["op"]
        first = server.call("memory_ask", question=asked(case), session="talk", max_tokens=8)
        assert {cube["id"] for cube in first.data["used"]} == set(ids)
        assert all(cube in first.text for cube in ids)
        assert first.data["conversation"] in first.text
    with serving(tmp_path / "home", MEMOS_MODEL=str(MODEL)) as server:
        second = server.done("memory_ask", question=asked(case), session="talk", max_tokens=8)
        assert second["conversation"] == first.data["conversation"]
        assert "degraded" not in second or "begins anew" not in second["degraded"]
        assert {cube["how"] for cube in second["used"]} <= {"resident", "disk"}
        gone = server.done("memory_forget", ids=ids[:1], mode="purge")
        assert len(gone["derived"]["states"]) == 2
    assert not list((tmp_path / "home" / "states").glob(f"{gone['derived']['states'][0]}*"))


def test_with_a_real_model_every_way_to_a_set_gives_the_same_bits(local: Callable[[], Kernel]) -> None:
    kernel = local()
    states, ada = states_of(kernel), Person(kernel.api, "ada")
    (case,) = cases(3, 1, 8)
    ids = [ada.keep(line) for line in case.statements]
    with kernel.ledger.read() as connection:
        known = kernel.api.parts.vault.by_ids(connection, ids)
    cubes, rng = [known[cube] for cube in ids], random.Random(1)
    question = states.engine.tokenize(case.question)
    ways: set[str] = set()
    for _ in range(25):
        chosen = rng.sample(cubes, rng.randint(1, 6))
        composed = states.composer.compose(states.texts(chosen), lambda _: True)
        ways |= set(composed.hows)
        fresh = states.catalogue.with_room(states.engine.open)
        states.engine.read(fresh, composed.tokens)
        said = [states.engine.best(sequence, question, 4) for sequence in (composed.sequence, fresh)]
        for sequence in (composed.sequence, fresh):
            states.composer.release(sequence)
        assert said[0] == said[1]
        if composed.entry is not None and rng.random() < 0.5:
            states.composer.keep(composed.entry)
            for entry in states.catalogue.entries.values():
                if entry.number and rng.random() < 0.7:
                    states.catalogue.vacate(entry)
    assert ways >= {"resident", "disk", "read"}


def test_with_a_real_model_a_worker_killed_while_it_promotes_costs_nothing(local: Callable[[], Kernel]) -> None:
    kernel = local()
    states, ada = states_of(kernel), Person(kernel.api, "ada")
    engine = states.engine
    assert isinstance(engine, LlamaEngine)
    (case,) = cases(5, 1, 4)
    ids = [ada.keep(line) for line in case.statements]
    before = ada.ask(asked(case), ids=ids, max_tokens=8)
    long = [ada.keep(f"{line} {LONG * 5}") for line in case.statements]
    killing = threading.Thread(target=kill_when_busy, args=(engine, lambda: states.busy))
    killing.start()
    ada.activate(*long)
    killing.join()
    assert set(hows(ada.ask(asked(case), ids=long, max_tokens=8)).values()) <= {"resident", "disk"}
    after = ada.ask(asked(case), ids=ids, max_tokens=8)
    assert after["answer"] == before["answer"]
    assert engine.usage().life >= 2


def kill_when_busy(engine: LlamaEngine, busy: Callable[[], bool]) -> None:
    assert eventually(busy)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
