"""The store of the local model's states: prefixes, tiers, budgets, and that no state outlives what it was made of."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from person import LONG, Clock, Person, eventually, states_of
from sqlalchemy import text

from memos_mcp.activation import reading, retention
from memos_mcp.activation.composer import Composed
from memos_mcp.activation.engine import Resident
from memos_mcp.activation.entries import Text
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.activation.prefixes import PrefixTree
from memos_mcp.activation.retention import Held
from memos_mcp.errors import Conflict, EngineLost
from memos_mcp.kernel import Kernel


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel], engine: FakeEngine) -> Kernel:
    return open_kernel(engine=lambda _: engine)


@pytest.fixture
def states(kernel: Kernel) -> ActivationMemory:
    return states_of(kernel)


def settled(kernel: Kernel) -> bool:
    return eventually(lambda: not states_of(kernel).busy)


def files(home: Path) -> list[Path]:
    return sorted((home / "states").glob("*.state"))


def hows(told: object) -> list[str]:
    return [cube["how"] for cube in told["used"]]  # type: ignore[index]


# --- prefixes


STEPS = st.lists(st.integers(0, 3), max_size=5)


@given(st.lists(STEPS, max_size=12), STEPS, st.sets(st.integers(0, 11)))
def test_the_longest_known_prefix_is_the_longest_there_is(
    known: list[list[int]], wanted: list[int], closed: set[int]
) -> None:
    tree: PrefixTree[int, int] = PrefixTree()
    for holder, steps in enumerate(known):
        tree.add(steps, holder)

    def shared(steps: Sequence[int]) -> int:
        return next((i for i, (a, b) in enumerate(zip(steps, wanted, strict=False)) if a != b),
                    min(len(steps), len(wanted)))  # fmt: skip

    holders, depth = tree.longest(wanted, lambda holder: holder not in closed)
    best = max((shared(steps) for holder, steps in enumerate(known) if holder not in closed), default=0)
    assert depth == best
    if depth:
        assert holders == [h for h, steps in enumerate(known) if h not in closed and shared(steps) == depth]
    for holder, steps in enumerate(known):
        tree.remove(steps, holder)
    assert tree.longest(wanted) == ([], 0)


def texts_of(words: Sequence[str]) -> dict[int, Text]:
    return {
        seq: Text(seq, f"cube{seq}", 1, tuple(3 + byte for byte in f"{word}\n".encode()), keepable=True)
        for seq, word in enumerate(words, 1)
    }


class Model:
    """A store with memories to compose, and what each set costs when nothing is known."""

    def __init__(self, kernel: Kernel, engine: FakeEngine, count: int) -> None:
        self.states, self.engine = states_of(kernel), engine
        ada = Person(kernel.api, "ada")
        ids = [ada.keep(f"Memory number {n} {LONG if n % 2 else ''}") for n in range(count)]
        with kernel.ledger.read() as connection:
            self.cubes = [kernel.api.parts.vault.by_ids(connection, [cube])[cube] for cube in ids]

    def compose(self, places: Sequence[int]) -> tuple[Composed, tuple[int, ...]]:
        texts = self.states.texts([self.cubes[place] for place in places])
        composed = self.states.composer.compose(texts, lambda _: True)
        held = self.engine.tokens(composed.sequence)
        self.states.composer.release(composed.sequence)
        return composed, held


@pytest.fixture
def model(kernel: Kernel, engine: FakeEngine) -> Model:
    return Model(kernel, engine, 6)


def test_for_any_sets_what_the_model_holds_is_a_full_reading_and_no_token_is_read_that_was_known(
    model: Model, states: ActivationMemory
) -> None:
    rng = random.Random(5)
    known: list[tuple[int, ...]] = []
    for _ in range(150):
        places = tuple(sorted(rng.sample(range(6), rng.randint(1, 5))))
        composed, held = model.compose(places)
        texts = states.texts([model.cubes[place] for place in places])
        head = states.catalogue.opening(states.catalogue.ready())
        assert held == head + tuple(token for one in texts for token in one.tokens)
        assert held == composed.tokens
        shared = max((_shared(places, other) for other in known), default=0)
        expected = sum(len(one.tokens) for one in texts[shared:]) + (0 if shared else len(head))
        assert composed.tokens_read == expected
        assert composed.hows == ("resident",) * shared + ("read",) * (len(places) - shared)
        known = [tuple(place_of[seq] for seq, _ in entry.steps)
                 for place_of in [{cube.seq: place for place, cube in enumerate(model.cubes)}]
                 for entry in states.catalogue.entries.values() if entry.resident]  # fmt: skip


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_the_order_in_which_memories_are_named_makes_no_difference(model: Model) -> None:
    _, first = model.compose([3, 0, 5])
    again, second = model.compose([5, 3, 0])
    assert first == second
    assert again.tokens_read == 0


def test_a_state_is_used_only_for_who_may_read_all_of_it_even_where_the_rest_is_cut_off(model: Model) -> None:
    model.compose([0, 1, 2])
    texts = model.states.texts(model.cubes[:2])
    closed = model.cubes[2].seq
    composed = model.states.composer.compose(texts, lambda seq: seq != closed)
    assert composed.hows == ("read", "read")
    composed = model.states.composer.compose(texts, lambda _: True)
    assert composed.hows == ("resident", "resident")


# --- decisions

HELD = st.builds(
    Held, st.text("abcdef", min_size=1, max_size=6), st.integers(0, 50), st.floats(0, 1), st.booleans(), st.booleans()
)


@given(st.lists(HELD, max_size=15, unique_by=lambda one: one.key), st.integers(0, 200))
def test_what_goes_is_the_least_warm_and_no_more_than_must(held: list[Held], budget: int) -> None:
    gone = {eviction.key for eviction in retention.evictions(held, budget, "the test")}
    kept = [one for one in held if one.key not in gone]
    out = [one for one in held if one.key in gone]
    assert not any(one.in_use for one in out)
    assert sum(one.size for one in kept) <= budget or all(one.in_use for one in kept)
    loose = [one for one in kept if not one.in_use]
    assert all((one.promoted, one.heat) <= (stays.promoted, stays.heat) for one in out for stays in loose)
    if out:
        last = max(out, key=lambda one: (one.promoted, one.heat, -one.size, one.key))
        assert sum(one.size for one in kept) + last.size > budget


def test_every_eviction_says_what_was_short_and_how_warm_it_was() -> None:
    (gone,) = retention.evictions([Held("a", 5, 0.25), Held("b", 5, 0.5)], 5, "the disk")
    assert gone.key == "a"
    assert gone.reason.startswith("the disk is over its budget of 5: of priority 0.5 the least worth (0.")
    assert gone.reason.endswith("heat 0.25, idle 0)")


@pytest.mark.parametrize(
    ("tokens", "heats", "pinned", "before", "why"),
    [
        (15, [1.0], True, True, None),
        (16, [0.0], True, False, "pinned"),
        (16, [0.0], False, True, "before"),
        (16, [0.9, 0.42], False, False, "warm"),
        (16, [0.9, 0.41], False, False, None),
        (16, [], False, False, None),
    ],
)
def test_what_is_worth_keeping_has_a_reason(
    tokens: int, heats: list[float], pinned: bool, before: bool, why: str | None
) -> None:
    said = retention.worth_keeping(tokens, heats, pinned, before)
    assert said is None if why is None else why in str(said)


# --- tiers and budgets


def test_what_is_asked_twice_is_kept_in_a_file_of_the_user_alone(kernel: Kernel, ada: Person, home: Path) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    assert hows(ada.ask("Which colour?", ids=[cube])) == ["read"]
    assert settled(kernel)
    assert files(home) == []
    assert hows(ada.ask("Which colour?", ids=[cube])) == ["resident"]
    assert settled(kernel)
    (path,) = files(home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_row_holds_a_word_of_a_memory(kernel: Kernel, ada: Person) -> None:
    cube = ada.keep(f"zumpluvar {LONG}")
    ada.activate(cube)
    with kernel.ledger.read() as connection:
        for table in ("kept_states", "state_parts", "promoted_cubes"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert rows
            assert "zumpluvar" not in repr(rows)


def test_a_restart_has_what_was_promoted_in_the_context_again(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person
) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.activate(cube)
    told = ada.ask("Which colour?", ids=[cube])
    kernel.close()
    engine = FakeEngine(cells=100_000)
    again = open_kernel(engine=lambda _: engine)
    assert settled(again)
    assert states_of(again).catalogue.figures()["resident"] == 1
    assert engine.reads == 0, "the state was restored, not read"
    after = Person(again.api, "ada").ask("Which colour?", ids=[cube])
    assert (after["answer"], hows(after)) == (told["answer"], ["resident"])


def test_a_restart_without_warmth_finds_the_state_in_its_file(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, clock: Clock
) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    for _ in range(2):
        ada.ask("Which colour?", ids=[cube])
    assert settled(kernel)
    kernel.close()
    clock.advance(days=300)
    again = open_kernel(engine=lambda _: FakeEngine())
    assert settled(again)
    assert hows(Person(again.api, "ada").ask("Which colour?", ids=[cube])) == ["disk"]


def test_states_that_leave_the_context_come_back_from_memory(
    open_kernel: Callable[..., Kernel], clock: Clock
) -> None:
    kernel = open_kernel(engine=lambda _: FakeEngine(cells=100_000, sequences=6))
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"Memory number {n} {LONG}") for n in range(12)]
    for cube in cubes:
        ada.activate(cube)
        clock.advance(minutes=1)
    figures = states_of(kernel).catalogue.figures()
    assert figures["states"] == 12
    assert figures["resident"] <= 6
    assert figures["ram_bytes"] > 0
    assert {how for cube in cubes for how in hows(ada.ask("What?", ids=[cube]))} <= {"ram", "resident"}


@pytest.mark.slow
def test_the_budgets_hold_over_a_thousand_promotions(open_kernel: Callable[..., Kernel], home: Path) -> None:
    kernel = open_kernel(engine=lambda _: FakeEngine(cells=4_000, sequences=16))
    states, ada = states_of(kernel), Person(kernel.api, "ada")
    ram, disk = 8_000, 60_000
    states.catalogue.budgets = type(states.catalogue.budgets)(ram, disk)
    said = [{"role": "user", "content": f"Memory number {n} {LONG}"} for n in range(1_000)]
    cubes = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    for place, cube in enumerate(cubes):
        ada.activate(cube)
        figures = states.catalogue.figures()
        assert figures["ram_bytes"] <= ram
        assert figures["disk_bytes"] <= disk
        assert figures["resident"] <= 16
        if place % 100 == 99:
            assert sum(path.stat().st_size for path in files(home)) == figures["disk_bytes"]
            assert len(files(home)) == figures["states"]
    assert figures["states"] > 10
    with kernel.ledger.read() as connection:
        wished = connection.execute(text("SELECT COUNT(*) FROM promoted_cubes")).scalar()
    assert wished == figures["states"], "what had to go is not made again by the next start"


def test_a_state_that_has_no_room_on_disk_is_refused_in_a_sentence(kernel: Kernel, ada: Person, home: Path) -> None:
    states = states_of(kernel)
    states.catalogue.budgets = type(states.catalogue.budgets)(1_000, 100)
    with pytest.raises(Conflict, match="set states_disk_mb higher"):
        ada.promote(ada.keep(f"Something {LONG}"))
    assert files(home) == []


# --- what a change does

Change = Callable[[Person, str], object]
CHANGES: dict[str, Change] = {
    "update": lambda ada, cube: ada.update(cube, content="The gate is red now"),
    "tags": lambda ada, cube: ada.update(cube, tags=["gate"]),
    "archive": lambda ada, cube: ada.forget(cube),
    "purge": lambda ada, cube: ada.forget(cube, mode="purge"),
    "supersede": lambda ada, cube: ada.keep("The gate is blue now", supersedes=[cube]),
    "undo of the addition": lambda ada, cube: ada.undo(ada.history(cube)["operations"][0]["op"]),
    "undo of an update": lambda ada, cube: ada.undo(
        next(made["op"] for made in ada.history(cube)["operations"] if made["verb"] == "update")
    ),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> tuple[str, Change]:
    return request.param, CHANGES[request.param]


def test_every_change_of_a_memory_takes_all_its_states_along_before_it_answers(
    kernel: Kernel, engine: FakeEngine, ada: Person, home: Path, change: tuple[str, Change]
) -> None:
    name, carry_out = change
    cube, other = ada.keep(f"The gate of the mill is green {LONG}"), ada.keep(f"The well of the mill is deep {LONG}")
    if name == "undo of an update":
        ada.update(cube, importance=0.9)
    states = states_of(kernel)
    ada.activate(other)
    for _ in range(2):
        ada.ask("Which colour?", ids=[cube, other])
        ada.ask("Which colour?", ids=[cube], session="talk")
    assert settled(kernel)
    assert len(files(home)) == 3
    planned = ada.forget(cube, dry_run=True)["derived"]["states"]
    assert len(planned) == 2
    before = engine.usage()
    carry_out(ada, cube)
    assert len(files(home)) == 1
    assert len(states.catalogue.entries) == 1
    after = engine.usage()
    assert after.sequences_used < before.sequences_used
    with kernel.ledger.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM kept_states")).scalar() == 1
        if name == "purge":
            assert connection.execute(text("SELECT COUNT(*) FROM state_parts")).scalar() == 1
    assert hows(ada.ask("Which?", ids=[other])) == ["resident"]


def test_being_used_changes_no_state(kernel: Kernel, ada: Person) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.activate(cube)
    kernel.api.parts.usage.flush()
    ada.search("gate of the mill")
    kernel.api.parts.usage.flush()
    assert ada.state(cube) == "activated"
    assert hows(ada.ask("Which colour?", ids=[cube])) == ["resident"]


def test_what_was_promoted_is_read_anew_after_a_change(kernel: Kernel, ada: Person, home: Path) -> None:
    one, other = ada.keep(f"The gate of the mill is green {LONG}"), ada.keep(f"The well of the mill is deep {LONG}")
    ada.activate(one, other)
    (former,) = files(home)
    ada.update(one, content=f"The gate of the mill is red {LONG}")
    assert settled(kernel)
    (fresh,) = files(home)
    assert fresh != former
    assert hows(ada.ask("Which?", ids=[one, other])) == ["resident", "resident"]
    ada.forget(one)
    assert settled(kernel)
    assert hows(ada.ask("Which?", ids=[other])) == ["resident"]


def test_a_state_made_while_its_memory_is_changed_is_not_kept(
    open_kernel: Callable[..., Kernel], home: Path
) -> None:
    engine = FakeEngine()
    kernel = open_kernel(engine=lambda _: engine)
    ada = Person(kernel.api, "ada")
    cube = ada.keep(f"The gate of the mill is green {LONG}")

    def meanwhile(verb: str) -> None:
        if verb == "write":
            engine.before = lambda _: None
            raise AssertionError("the fake writes through save")
        if verb == "save":
            engine.before = lambda _: None
            with kernel.ledger.write() as connection:
                connection.execute(text("UPDATE cubes SET version = 2"))

    engine.before = meanwhile
    with pytest.raises(Conflict, match="was changed in this moment"):
        ada.promote(cube)
    assert files(home) == []


def test_a_change_ends_an_answer_that_is_made_from_the_memory(
    open_kernel: Callable[..., Kernel],
) -> None:
    engine = FakeEngine()
    kernel = open_kernel(engine=lambda _: engine)
    ada = Person(kernel.api, "ada")
    cube = ada.keep(f"The gate of the mill is green {LONG}")

    def meanwhile(verb: str) -> None:
        if verb == "open":
            engine.before = lambda _: None
            ada.forget(cube, mode="purge")

    engine.before = meanwhile
    with pytest.raises(Conflict, match="changed while the answer was made"):
        ada.ask("Which colour?", ids=[cube])
    assert not states_of(kernel).catalogue.entries


# --- damage and crashes


def closed_with_a_state(kernel: Kernel, ada: Person) -> str:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    ada.activate(cube)
    kernel.close()
    return cube


@pytest.mark.parametrize("place", [0, 8, 12, 60, 200, -1])
def test_a_damaged_state_is_never_used_but_read_anew_and_reported(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, home: Path, clock: Clock, place: int
) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    told = [ada.ask("Which colour?", ids=[cube]) for _ in range(2)]
    assert settled(kernel)
    kernel.close()
    clock.advance(days=300)
    (path,) = files(home)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    again = open_kernel(engine=lambda _: FakeEngine(cells=100_000))
    after = Person(again.api, "ada").ask("Which colour?", ids=[cube])
    assert (after["answer"], hows(after)) == (told[0]["answer"], ["read"])
    assert "not used" in after["degraded"]
    assert files(home) == []


def test_a_state_of_another_model_is_dropped_and_what_was_promoted_made_for_the_new_one(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, home: Path
) -> None:
    cube = closed_with_a_state(kernel, ada)
    (former,) = files(home)
    again = open_kernel(engine=lambda _: FakeEngine("another"))
    assert settled(again)
    (fresh,) = files(home)
    assert fresh.name.split("-")[0] != former.name.split("-")[0]
    assert hows(Person(again.api, "ada").ask("Which colour?", ids=[cube])) == ["resident"]


def test_what_a_crash_left_between_the_row_and_the_file_is_gone_after_a_start(
    open_kernel: Callable[..., Kernel], kernel: Kernel, ada: Person, home: Path
) -> None:
    closed_with_a_state(kernel, ada)
    (path,) = files(home)
    stray, unfinished = path.with_name("stray-00.state"), path.with_name(".a.state.12.unfinished")
    stray.write_bytes(path.read_bytes())
    unfinished.write_bytes(b"half")
    again = open_kernel(engine=lambda _: FakeEngine())
    assert not stray.exists()
    assert not unfinished.exists()
    assert states_of(again).catalogue.mended == 2
    again.close()
    for one in files(home):
        one.unlink()
    third = open_kernel(engine=lambda _: FakeEngine())
    assert states_of(third).catalogue.mended == 1
    assert settled(third)
    assert len(files(home)) == 1, "what was promoted is made again"


def test_a_model_that_dies_costs_what_was_in_its_memory_alone(kernel: Kernel, engine: FakeEngine, ada: Person) -> None:
    kept, loose = ada.keep(f"The gate of the mill is green {LONG}"), ada.keep(f"The well is deep {LONG}")
    ada.activate(kept)
    first = ada.ask("Which?", ids=[kept]), ada.ask("Which?", ids=[loose])
    engine.lose()
    second = ada.ask("Which?", ids=[kept]), ada.ask("Which?", ids=[loose])
    assert [one["answer"] for one in second] == [one["answer"] for one in first]
    assert (hows(second[0]), hows(second[1])) == (["disk"], ["read"])


def test_a_model_that_dies_while_it_builds_is_started_anew_for_it(
    kernel: Kernel, engine: FakeEngine, ada: Person
) -> None:
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    died = []

    def meanwhile(verb: str) -> None:
        if verb == "read" and not died:
            died.append(verb)
            engine.lose()

    engine.before = meanwhile
    ada.activate(cube)
    assert died


def test_a_full_disk_keeps_nothing_and_the_answer_is_given(
    kernel: Kernel, ada: Person, home: Path
) -> None:
    if os.geteuid() == 0:
        (home / "states").rmdir()
        (home / "states").write_text("in the way")
    else:
        (home / "states").chmod(0o500)
    cube = ada.keep(f"The gate of the mill is green {LONG}")
    answers = {ada.ask("Which colour?", ids=[cube])["answer"] for _ in range(3)}
    assert len(answers) == 1
    assert settled(kernel)
    with pytest.raises(Conflict, match="cannot be written"):
        ada.promote(cube)


# --- how a memory reads


def test_a_memory_reads_the_same_for_one_version_and_on_one_line(kernel: Kernel, ada: Person) -> None:
    plain = ada.keep("Ana's code is T48.\n\nIt is new.")
    event = ada.keep("The gate was painted", kind="event", time="2026-02-03")
    steps = ada.keep("# Paint\n\n- open\n- paint", kind="procedure")
    turn = ada.add(messages=[{"role": "user", "name": "小李", "content": "我们去爬山吧"}])["cubes"][0]["id"]
    with kernel.ledger.read() as connection:
        cubes = kernel.api.parts.vault.by_ids(connection, [plain, event, steps, turn])
    said = [reading.text_of(cubes[cube]) for cube in (plain, event, steps, turn)]
    assert said == [
        "Ana's code is T48. It is new.\n", "[2026-02-03] The gate was painted\n", "# Paint\n- open\n- paint\n",
        "[2026-03-01] 小李: 我们去爬山吧\n",
    ]  # fmt: skip


@pytest.mark.parametrize(("template", "name"), [(None, "plain"), ("{% x %}<|im_start|>", "chatml"),
                                                ("<|start_header_id|>", "llama 3"), ("[INST]", "mistral"),
                                                ("<start_of_turn>", "gemma"), ("unknown", "plain")])  # fmt: skip
def test_a_chat_template_decides_the_words_around(template: str | None, name: str) -> None:
    assert reading.form_for(template).name == name


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_a_question_keeps_its_words_and_its_control_tokens_are_text(question: str) -> None:
    seen: list[tuple[str, bool]] = []

    def tokenize(said: str, special: bool) -> tuple[int, ...]:
        seen.append((said, special))
        return tuple(said.encode("utf-8", "surrogatepass"))

    for template in (None, "<|im_start|>"):
        seen.clear()
        reading.form_for(template).question(tokenize, question)
        assert all(not special for said, special in seen if question and question in said and len(question) > 2)


def test_a_resident_of_a_former_life_is_no_longer_known(engine: FakeEngine) -> None:
    sequence = engine.open()
    engine.read(sequence, [3])
    engine.lose()
    with pytest.raises(EngineLost, match="ended while it worked"):
        engine.tokens(sequence)
    assert isinstance(sequence, Resident)
