"""Summaries of conversations that rest: sentences that were said, beside their turns and never in their place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, FakeIndex, FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Clock, Person, settings_for

from memos_mcp.kernel import Kernel
from memos_mcp.ledger import operations
from memos_mcp.memory_api.summarise import CLIENT, KEY, words
from memos_mcp.operators import retelling, summary
from memos_mcp.operators.reading import BadAnswer
from memos_mcp.operators.summary import LEAST_TURNS, MOST_TURNS, Said
from memos_mcp.scheduler.runner import JobEnded, Runner
from memos_mcp.scheduler.summaries import SUMMARISE
from memos_mcp.settings import load, write_config
from memos_mcp.states import State

HARBOUR = [
    "The harbour master moved the ferry timetable to the winter schedule.",
    "Nora asked whether the ferry to Bilbao still leaves on Fridays?",
    "The winter ferry to Bilbao leaves on Saturdays at seven now.",
    "Nora booked two places on the Saturday ferry to Bilbao.",
    "Ok!",
    "The booking number of the ferry is BLQ-4417, under the name of Nora.",
    "She will bring the old bicycle on the ferry as well.",
]
KITCHEN = [
    "我们决定把厨房的墙刷成浅绿色。", "浅绿色的油漆在城东的商店买得到。", "好的。", "厨房的柜子要等到三月才能送来。",
    "妈妈说厨房的瓷砖应该先铺好。", "瓷砖师傅星期四上午来量厨房的尺寸。", "那天我会在家等瓷砖师傅。☕",
]  # fmt: skip


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def opened(home: Path, clock: Clock, embedder: FakeEmbedder, model: FakeModel) -> Iterator[Callable[..., Kernel]]:
    kernels: list[Kernel] = []

    def open_it(summaries: str = "rules", **given: Any) -> Kernel:
        for name, value in {"summaries": summaries, **given}.items():
            write_config(home, name, value)
        kernel = Kernel.open(
            settings_for(home), embedder=lambda _: embedder, index=FakeIndex(), now=clock, model=lambda _: model
        )
        kernels.append(kernel)
        kernel.api.parts.embedder.get(10.0)
        kernel.runner.stop()
        return kernel

    yield open_it
    for kernel in kernels:
        kernel.close()


@pytest.fixture
def kernel(opened: Callable[..., Kernel]) -> Kernel:
    return opened()


def worked(kernel: Kernel) -> None:
    """Do the jobs that are ready, without waiting for a quiet moment."""
    parts = kernel.api.parts
    Runner(parts.jobs, parts.now, kernel.summaries.works()).run_ready()


def rested(kernel: Kernel, clock: Clock, **units: float) -> None:
    clock.advance(**(units or {"hours": 2}))
    worked(kernel)


def say(person: Person, texts: list[str], session: str | None = "s", **given: Any) -> list[str]:
    said = [{"role": "user", "content": text, "name": "Ada"} for text in texts]
    return [cube["id"] for cube in person.add(messages=said, session=session, **given)["cubes"]]


def found(kernel: Kernel, person: Person, space: str = "personal") -> list[dict[str, Any]]:
    """The summaries of a space that stand, as resources show them."""
    cubes, after = kernel.api.read.page(person.caller, space)
    while after is not None:
        more, after = kernel.api.read.page(person.caller, space, after)
        cubes += more
    made = [kernel.api.read.cube(person.caller, cube.id) for cube in cubes if KEY in cube.snapshot.tags]
    return [one for one in made if one["governance"]["state"] in ("generated", "activated")]


# --- the pure part

TURNS = st.lists(
    st.builds(
        Said,
        st.lists(st.sampled_from([*HARBOUR, *KITCHEN, "Yes. No. e.g. this", "a\nb", "👩‍👩‍👧!", "x" * 500]), max_size=4)
        .map(" ".join).filter(str.strip),
        st.sampled_from(["Ada", "小明", None]),
        st.sampled_from(["2026-03-01", "2026-03-02"]),
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(TURNS)
def test_every_sentence_of_a_summary_was_said_by_that_speaker_on_that_day(turns: list[Said]) -> None:
    told = summary.chosen(turns, words)
    assert told == summary.chosen(list(turns), words)
    assert all(sentence.text in turns[sentence.turn].text for sentence in told)
    assert [one.turn for one in told] == sorted(one.turn for one in told)
    text = summary.summary(turns, words)
    lines = (text or "").splitlines()
    assert len(lines) == len({sentence.turn for sentence in told})
    for line, place in zip(lines, sorted({sentence.turn for sentence in told}), strict=True):
        said = turns[place]
        assert line.startswith(f"{said.day} {said.speaker}:" if said.speaker else f"{said.day}:")


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4), max_size=150))
def test_parts_follow_each_other_without_gap_and_further_turns_change_the_end_alone(turns: list[list[str]]) -> None:
    parts = summary.parts(turns)
    assert bool(parts) == (len(turns) >= LEAST_TURNS)
    if parts:
        assert [parts[0][0], parts[-1][1]] == [0, len(turns)]
        assert all(end == start for (_, end), (start, _) in pairwise(parts))
        assert all(LEAST_TURNS <= end - start <= MOST_TURNS for start, end in parts)
    shorter = summary.parts(turns[: len(turns) // 2])
    assert shorter[:-2] == parts[: max(len(shorter) - 2, 0)]


def test_a_part_ends_where_the_topic_changes() -> None:
    talk = [words(text) for text in [*HARBOUR * 2, *KITCHEN * 2]]
    assert summary.parts(talk) == [(0, 14), (14, 28)]


def test_what_tells_nothing_has_no_summary() -> None:
    assert summary.summary([Said("Ok.", "Ada", "2026-03-01"), Said("好的。", "Ada", "2026-03-01")], words) is None


@pytest.mark.parametrize("answer", ["", "no", "{}", '{"sentences": []}', '{"sentences": [1]}', '["' + "x" * 401 + '"]'])
def test_an_answer_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(BadAnswer):
        retelling.read(answer, "m")


# --- in the store


def test_a_conversation_that_rests_has_a_summary_with_lineage_and_its_turns_stay(
    kernel: Kernel, clock: Clock
) -> None:
    ada = Person(kernel.api, "ada")
    turns = say(ada, HARBOUR)
    worked(kernel)
    assert found(kernel, ada) == []
    rested(kernel, clock)
    (made,) = found(kernel, ada)
    assert made["lineage"]["parents"] == turns
    assert made["descriptive"]["source"]["session"] == "s"
    assert (made["descriptive"]["kind"], made["descriptive"]["tags"]) == ("document", ["summary"])
    how = made["descriptive"]["metadata"]["summary"]
    assert (how["by"], how["of"], how["from"], how["to"]) == ("rules", len(turns), "2026-03-01", "2026-03-01")
    lines = made["payload"]["value"].splitlines()
    assert 1 <= len(lines) < len(turns)
    assert all(line.removeprefix("2026-03-01 Ada: ") in HARBOUR for line in lines)
    assert [ada.text(turn) for turn in turns] == HARBOUR
    for turn, text in zip(turns, HARBOUR, strict=True):
        if len(text) > 10:
            assert ada.ids(text)[0] == turn
    (op,) = [one for one in ada.history(made["id"])["operations"] if one["verb"] == "summarise"]
    assert (op["client"], op["principal"], op["reason"]) == (CLIENT, "ada", "rules")
    ada.undo(op["op"])
    assert found(kernel, ada) == []


def test_chinese_without_sessions_is_summarised_by_the_day(kernel: Kernel, clock: Clock) -> None:
    ada = Person(kernel.api, "ada")
    first = say(ada, KITCHEN, session=None)
    clock.advance(days=1)
    second = say(ada, HARBOUR, session=None)
    rested(kernel, clock)
    kitchen, harbour = found(kernel, ada)
    assert [kitchen["lineage"]["parents"], harbour["lineage"]["parents"]] == [first, second]
    said = [line.removeprefix("2026-03-01 Ada: ") for line in kitchen["payload"]["value"].splitlines()]
    assert said
    assert all(line in "\n".join(KITCHEN) for line in said)
    assert ada.ids("厨房 瓷砖 师傅")[0] in first


def test_nothing_is_done_twice_and_what_changes_is_renewed(kernel: Kernel, clock: Clock) -> None:
    ada = Person(kernel.api, "ada")
    turns = say(ada, HARBOUR)
    rested(kernel, clock)
    (before,) = found(kernel, ada)
    ada.update(turns[0], importance=0.9)
    ada.keep("Another thing.", kind="dialogue", session="t")
    rested(kernel, clock)
    (same,) = found(kernel, ada)
    assert (same["id"], same["payload"]["value"]) == (before["id"], before["payload"]["value"])
    more = say(ada, ["The ferry was cancelled because of the storm in the harbour of Bilbao."])
    rested(kernel, clock)
    (longer,) = found(kernel, ada)
    assert longer["id"] == before["id"]
    assert longer["lineage"]["parents"] == turns + more
    version = longer["version"]
    ada.search("storm")
    kernel.api.parts.usage.flush()
    rested(kernel, clock, days=1)
    assert found(kernel, ada)[0]["version"] == version


@pytest.mark.parametrize("how", ["secret", "forget", "changed"])
def test_what_is_taken_back_is_soon_told_no_more(kernel: Kernel, clock: Clock, how: str) -> None:
    ada = Person(kernel.api, "ada")
    turns = say(ada, HARBOUR)
    rested(kernel, clock)
    told = found(kernel, ada)[0]["payload"]["value"]
    gone = next(turn for turn, text in zip(turns, HARBOUR, strict=True) if text in told)
    text = ada.text(gone)
    if how == "secret":
        ada.update(gone, sensitivity="secret")
    elif how == "forget":
        ada.forget(gone)
    else:
        ada.update(gone, content="Never mind what was said here before.")
    rested(kernel, clock, minutes=2)
    assert all(text not in one["payload"]["value"] for one in found(kernel, ada))
    assert found(kernel, ada)


def test_what_only_went_cold_stays_in_its_summary(kernel: Kernel, clock: Clock) -> None:
    ada = Person(kernel.api, "ada")
    turns = say(ada, HARBOUR)
    rested(kernel, clock)
    before = found(kernel, ada)
    parts = kernel.api.parts
    with kernel.ledger.write() as connection:
        op = operations.begin("tidy", "ada", None, parts.stamp())
        cubes = list(parts.vault.by_ids(connection, turns).values())
        moved = parts.vault.move_all(connection, op, cubes, State.ARCHIVED, "cool")
        operations.record(connection, op, [change for _, change in moved])
    parts.changed(ada.caller, [cube for cube, _ in moved], listing=True)
    rested(kernel, clock)
    assert [one["payload"]["value"] for one in found(kernel, ada)] == [one["payload"]["value"] for one in before]
    say(ada, ["The ferry was late."])
    rested(kernel, clock)
    assert found(kernel, ada)[0]["lineage"]["parents"][:-1] == turns
    assert [one["payload"]["value"] for one in found(kernel, ada)] == [one["payload"]["value"] for one in before]


def test_secret_turns_are_never_told_and_of_others_only_what_is_in_the_space(kernel: Kernel, clock: Clock) -> None:
    ada, bob = Person(kernel.api, "ada"), Person(kernel.api, "bob").at("bobs")
    hidden = say(ada, ["The password of the safe in the cellar is 'wolf moon river'."])
    ada.update(hidden[0], sensitivity="secret")
    mine = say(ada, HARBOUR)
    kernel.api.read.create_space(ada.caller, "shared")
    kernel.api.grant(ada.caller, "shared", "bob", ["read", "write"])
    theirs = say(bob, KITCHEN)
    ours = say(ada.at("shared"), HARBOUR[:4], session="x") + say(bob.at("shared"), KITCHEN[:4], session="x")
    rested(kernel, clock)
    (one,) = found(kernel, ada)
    assert one["lineage"]["parents"] == mine
    assert "wolf" not in one["payload"]["value"]
    assert [made["lineage"]["parents"] for made in found(kernel, bob, "bobs")] == [theirs]
    (shared,) = found(kernel, ada, "shared")
    assert set(shared["lineage"]["parents"]) == set(ours)
    assert shared["governance"]["owner"] == "ada"


def test_a_purge_takes_the_summary_and_what_is_left_gets_another(kernel: Kernel, clock: Clock, home: Path) -> None:
    ada = Person(kernel.api, "ada")
    turns = say(ada, HARBOUR)
    rested(kernel, clock)
    (before,) = found(kernel, ada)
    gone = turns[5]
    purged = ada.forget(gone, mode="purge")
    assert purged["derived"]["cubes"] == [before["id"]]
    assert found(kernel, ada) == []
    assert not any(b"BLQ-4417" in path.read_bytes() for path in home.rglob("*") if path.is_file())
    rested(kernel, clock)
    (after,) = found(kernel, ada)
    assert after["lineage"]["parents"] == [turn for turn in turns if turn != gone]
    ada.forget(*after["lineage"]["parents"], mode="purge")
    rested(kernel, clock)
    with kernel.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM unsummarised").scalar() == 0


@pytest.mark.parametrize("change", [{"freeze": True}, {"content": "My own summary of the ferry."}])
def test_a_frozen_or_edited_summary_is_left_as_it_is(kernel: Kernel, clock: Clock, change: dict[str, Any]) -> None:
    ada = Person(kernel.api, "ada")
    say(ada, HARBOUR)
    rested(kernel, clock)
    (made,) = found(kernel, ada)
    ada.update(made["id"], **change)
    text = ada.text(made["id"])
    say(ada, HARBOUR[::-1])
    rested(kernel, clock)
    assert ada.text(made["id"]) == text
    assert len(found(kernel, ada)) == (0 if "freeze" in change else 1)


def test_a_summary_that_the_caller_archived_does_not_come_back(kernel: Kernel, clock: Clock) -> None:
    ada = Person(kernel.api, "ada")
    say(ada, HARBOUR)
    rested(kernel, clock)
    ada.forget(found(kernel, ada)[0]["id"])
    say(ada, ["The ferry was late, as the harbour master had feared."])
    rested(kernel, clock)
    assert found(kernel, ada) == []


def test_what_a_store_held_before_is_summarised_once_it_is_set_so(opened: Callable[..., Kernel], clock: Clock) -> None:
    kernel = opened("off")
    turns = say(Person(kernel.api, "ada"), HARBOUR)
    assert kernel.api.parts.jobs.unfinished(SUMMARISE) == []
    kernel.close()
    kernel = opened("rules")
    ada = Person(kernel.api, "ada")
    clock.advance(days=3)
    ada.keep("Something else.", kind="event")
    rested(kernel, clock)
    assert [one["lineage"]["parents"] for one in found(kernel, ada)] == [turns]


def test_a_long_conversation_is_divided_and_a_kill_between_steps_loses_and_doubles_nothing(
    opened: Callable[..., Kernel], clock: Clock
) -> None:
    kernel = opened()
    ada = Person(kernel.api, "ada")
    turns = say(ada, [f"{text} ({n})" for n in range(12) for text in (HARBOUR if n % 2 else KITCHEN)])
    clock.advance(hours=2)
    parts = kernel.api.parts
    left, lived = 1, 1

    def ends() -> None:
        nonlocal left, lived
        left -= 1
        if left == 0:
            lived += 1
            left = lived
            raise JobEnded

    for _ in range(3):
        Runner(parts.jobs, parts.now, kernel.summaries.works(), step_aside=ends).run_ready()
        clock.advance(hours=2)
    assert lived > 5
    made = found(kernel, ada)
    covered = [parent for one in made for parent in one["lineage"]["parents"]]
    assert sorted(covered) == sorted(turns)
    assert len(made) > 3
    assert {one["version"] for one in made} == {1}
    assert kernel.api.parts.jobs.unfinished(SUMMARISE) == []


# --- with a model


def test_every_sentence_of_a_model_is_marked_as_the_models_and_only_new_turns_are_sent(
    opened: Callable[..., Kernel], clock: Clock, model: FakeModel
) -> None:
    kernel = opened("rules")
    say(Person(kernel.api, "ada"), KITCHEN, session="old")
    kernel.close()
    answer = json.dumps({"sentences": ["Nora takes the Saturday ferry.", "Ada's   ferry \n booking stands."]})
    model.reply = lambda _: answer
    kernel = opened("model", llm="fake@http://127.0.0.1:1/v1")
    ada = Person(kernel.api, "ada")
    say(ada, HARBOUR, session="new")
    rested(kernel, clock)
    old, new = sorted(found(kernel, ada), key=lambda one: one["descriptive"]["metadata"]["summary"]["by"], reverse=True)
    name = model.name
    assert new["payload"]["value"] == f"[{name}] Nora takes the Saturday ferry.\n[{name}] Ada's ferry booking stands."
    assert new["descriptive"]["metadata"]["summary"]["model"] == name
    assert old["descriptive"]["metadata"]["summary"]["by"] == "rules"
    assert not any("厨房" in json.dumps(one, ensure_ascii=False) for one in model.seen)


@pytest.mark.parametrize("trouble", ["down", "nonsense"])
def test_without_a_good_answer_the_summary_is_extractive(
    opened: Callable[..., Kernel], clock: Clock, model: FakeModel, trouble: str
) -> None:
    model.down = trouble == "down"
    model.reply = lambda _: "no json"
    kernel = opened("model", llm="fake@http://127.0.0.1:1/v1")
    ada = Person(kernel.api, "ada")
    say(ada, HARBOUR)
    rested(kernel, clock)
    (made,) = found(kernel, ada)
    assert made["descriptive"]["metadata"]["summary"]["by"] == "rules"
    assert made["payload"]["value"].startswith("2026-03-01 Ada: ")


def test_an_end_waits_for_no_model(opened: Callable[..., Kernel], clock: Clock, model: FakeModel) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold(_: str) -> str:
        asked.set()
        go_on.wait(30)
        return "too late"

    model.reply = hold
    kernel = opened("model", llm="fake@http://127.0.0.1:1/v1")
    ada = Person(kernel.api, "ada")
    say(ada, HARBOUR)
    clock.advance(hours=2)
    parts = kernel.api.parts
    runner = Runner(parts.jobs, parts.now, kernel.summaries.works())
    runner.start()
    assert asked.wait(30)
    runner.stop()
    go_on.set()
    assert [job.state for job in parts.jobs.unfinished(SUMMARISE)] == ["queued"]
    assert found(kernel, ada) == []


def test_an_endpoint_that_is_set_is_set_for_summaries_too(home: Path) -> None:
    assert load({"home": str(home)}, env={}).summarising == "off"
    assert load({"home": str(home)}, env={"MEMOS_LLM": "m@http://127.0.0.1:1/v1"}).summarising == "model"
    named = {"MEMOS_LLM": "m@http://127.0.0.1:1/v1", "MEMOS_SUMMARIES": "off"}
    assert load({"home": str(home)}, env=named).summarising == "off"
