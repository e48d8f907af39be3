"""Blended and thinned composition: blocks read once and joined, marked as what they are, never taken for more."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from person import LONG, Clock, Person, eventually, states_of
from sqlalchemy import text
from tiny_model.facts import Case, cases

from memos_mcp import settings
from memos_mcp.activation.composition import BLENDED, COMPOSITIONS, EXACT, THINNED, Rarity
from memos_mcp.activation.engine import Best, EngineSettings
from memos_mcp.activation.entries import Entry
from memos_mcp.activation.state_file import read_header
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.errors import Conflict, InvalidInput, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.maintenance import store_checks
from memos_mcp.results import AskResult

MODEL = Path(__file__).parent / "data" / "tiny_model" / "model.gguf"
Open = Callable[..., Kernel]


@pytest.fixture
def set_to(open_kernel: Open, engine: FakeEngine, home: Path) -> Open:
    """Opens the store set to a composition, with a fake model unless another engine is given."""

    def open_it(composition: str, **given: object) -> Kernel:
        settings.write_config(home, "composition", composition)
        return open_kernel(**{"engine": lambda _: engine, **given})

    return open_it


@pytest.fixture
def kernel(set_to: Open) -> Kernel:
    return set_to("blended")


@pytest.fixture
def gates(ada: Person) -> list[str]:
    return [ada.keep(f"Gate {n} is green {LONG}") for n in range(4)]


def hows(told: AskResult) -> list[str]:
    return [cube["how"] for cube in told["used"]]


def blocks(kernel: Kernel) -> list[Entry]:
    """The blocks of memories that are known, without that of the opening."""
    entries = list(states_of(kernel).catalogue.entries.values())
    return [entry for entry in entries if len(entry.steps) == 1 and not entry.is_prefix and entry.owner is None]


def forget_sets(kernel: Kernel) -> None:
    """Let every sequence of several blocks leave the context."""
    catalogue = states_of(kernel).catalogue
    for entry in list(catalogue.entries.values()):
        if len(entry.steps) > 1:
            catalogue.drop(entry, None)


def settled(kernel: Kernel) -> bool:
    return eventually(lambda: not states_of(kernel).busy)


# --- what is asked


def test_any_set_of_known_memories_is_answered_from_without_reading_one(
    kernel: Kernel, ada: Person, engine: FakeEngine
) -> None:
    cubes = [ada.keep(f"Gate {n} is green {LONG}") for n in range(12)]
    for start in range(0, 12, 3):
        assert hows(ada.ask("What colour?", ids=cubes[start : start + 3])) == ["read"] * 3
    before = engine.reads
    told = ada.ask("What colour?", ids=[cubes[n] for n in (10, 0, 7, 4, 2, 11, 1, 5, 9, 3)], max_tokens=1)
    assert hows(told) == ["ram"] * 10
    assert engine.reads - before == len(engine.tokenize("Q: What colour?\nA:"))


def test_the_same_set_again_is_attached_in_the_context_until_its_room_is_needed(
    kernel: Kernel, ada: Person, gates: list[str]
) -> None:
    first = ada.ask("What colour?", ids=gates)
    again = ada.ask("What colour?", ids=gates[::-1])
    assert hows(again) == ["resident"] * 4
    assert (again["answer"], again["approximate"]) == (first["answer"], "blended")
    assert settled(kernel)
    rows = [entry for entry in states_of(kernel).catalogue.entries.values() if len(entry.steps) > 1]
    assert [entry.number for entry in rows] == [0], "a set is kept in no file"
    ada.update(gates[0], content=f"It is red {LONG}")
    assert sorted(hows(ada.ask("What colour?", ids=gates))) == ["ram", "ram", "ram", "read"]


def test_an_approximation_is_marked_and_one_memory_alone_is_none(ada: Person, gates: list[str]) -> None:
    two = ada.ask("What colour?", ids=gates[:2])
    assert two["approximate"] == "blended"
    assert "read apart and joined (blended)" in two["degraded"]
    for ids in (gates[:1], []):
        told = ada.ask("What colour?", ids=ids)
        assert "approximate" not in told
        assert "apart" not in told.get("degraded", "")


def test_the_order_in_which_blocks_are_read_and_named_makes_no_difference(
    kernel: Kernel, ada: Person, gates: list[str]
) -> None:
    first = ada.ask("What colour?", ids=gates)["answer"]
    for order in permutations(gates):
        assert ada.ask("What colour?", ids=list(order))["answer"] == first
    assert settled(kernel)
    ada.promote(*gates, to="plaintext")
    assert not blocks(kernel)
    for cube in reversed(gates):
        assert hows(ada.ask("What colour?", ids=[cube])) == ["read"]
    again = ada.ask("What colour?", ids=gates)
    assert hows(again) == ["ram"] * 4
    assert again["answer"] == first


def test_a_restart_finds_the_blocks_in_their_files(
    kernel: Kernel, ada: Person, gates: list[str], set_to: Open, clock: Clock
) -> None:
    first = ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    kernel.close()
    clock.advance(days=300)  # nothing is warm any more, and brought back by the start itself
    engine = FakeEngine(cells=100_000)
    ada = Person(set_to("blended", engine=lambda _: engine).api, "ada")
    again = ada.ask("What colour?", ids=gates[1:])
    assert hows(again) == ["disk"] * 3
    assert hows(ada.ask("What colour?", ids=gates)) == ["disk", "ram", "ram", "ram"]
    assert ada.ask("What colour?", ids=gates)["answer"] == first["answer"]


def test_a_conversation_is_composed_exactly_whatever_the_store_is_set_to(
    kernel: Kernel, ada: Person, gates: list[str], set_to: Open
) -> None:
    ada.ask("What colour?", ids=gates)
    told = ada.ask("What colour?", ids=gates, session="talk")
    assert hows(told) == ["read"] * 4
    assert "approximate" not in told
    kernel.close()
    kernel = set_to("exact", engine=lambda _: FakeEngine(cells=100_000))
    exact = Person(kernel.api, "ada").ask("What colour?", ids=gates)
    assert exact["answer"] == told["answer"]
    assert "approximate" not in exact


def test_thinned_memories_take_half_of_the_cells_so_that_more_of_them_fit(set_to: Open) -> None:
    kernel = set_to("blended", engine=lambda _: FakeEngine(cells=800))
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"Gate {n} is green {LONG}") for n in range(14)]
    with pytest.raises(InvalidInput, match="name fewer"):
        ada.ask("What colour?", ids=cubes, max_tokens=8)
    kernel.close()
    kernel = set_to("thinned", engine=lambda _: FakeEngine(cells=800))
    told = Person(kernel.api, "ada").ask("What colour?", ids=cubes, max_tokens=8)
    assert len(told["used"]) == 14
    assert told["approximate"] == "thinned to one cell in 2"
    sizes = {len(states_of(kernel).engine.tokenize(f"Gate {n} is green {LONG}\n")) for n in (1, 12)}
    assert {len(block.tokens or ()) for block in blocks(kernel)} == {size // 2 for size in sizes}


def test_under_a_steering_vector_memories_are_composed_exactly_and_take_the_room_that_this_needs(set_to: Open) -> None:
    kernel = set_to("thinned", engine=lambda _: FakeEngine(cells=800))
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"Gate {n} is green {LONG}") for n in range(14)]
    mounted = [{"id": ada.steer("one gate", cubes[:1], cubes[1:2])["id"], "weight": 1.0}]
    assert "approximate" not in ada.ask("What colour?", ids=cubes[:3], max_tokens=8, adapters=mounted)
    with pytest.raises(InvalidInput, match="name fewer"):
        ada.ask("What colour?", ids=cubes, max_tokens=8, adapters=mounted)
    assert len(ada.ask("What colour?", ids=cubes, max_tokens=8)["used"]) == 14


def test_a_memory_alone_is_marked_too_when_it_is_thinned(set_to: Open) -> None:
    ada = Person(set_to("thinned").api, "ada")
    assert "approximate" in ada.ask("What colour?", ids=[ada.keep(f"The gate is green {LONG}")])


def test_where_sequences_are_short_blocks_are_joined_as_they_come(set_to: Open) -> None:
    kernel = set_to("blended", engine=lambda _: FakeEngine(cells=20_000))
    ada = Person(kernel.api, "ada")
    cubes = [ada.keep(f"Gate {n} is green {LONG}") for n in range(20)]
    first = ada.ask("What colour?", ids=cubes)
    kernel.close()
    ada = Person(set_to("blended", engine=lambda _: FakeEngine(cells=20_000, sequences=3)).api, "ada")
    assert ada.ask("What colour?", ids=cubes)["answer"] == first["answer"]


# --- exact and approximate states never mix


def test_switching_back_gives_exact_answers_and_no_state_serves_the_other_way(
    kernel: Kernel, ada: Person, gates: list[str], set_to: Open
) -> None:
    told: dict[str, list[str]] = {}
    for composition in ("exact", "blended", "thinned", "exact", "blended", "thinned"):
        kernel.close()
        kernel = set_to(composition, engine=lambda _: FakeEngine(cells=100_000))
        ada = Person(kernel.api, "ada")
        for _ in range(2):
            answer = ada.ask("What colour?", ids=gates)
            assert ("approximate" in answer) == (composition != "exact")
            told.setdefault(composition, []).append(answer["answer"])
        assert settled(kernel)
    assert [len(set(answers)) for answers in told.values()] == [1, 1, 1]
    assert told["thinned"] != told["exact"]
    names = {entry.identity.partition(":")[0] for entry in states_of(kernel).catalogue.entries.values()}
    assert {"blended", "thinned"} < names


def test_the_record_of_a_block_says_that_it_is_an_approximation(
    kernel: Kernel, ada: Person, gates: list[str], home: Path
) -> None:
    ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    headers = [read_header(path) for path in (home / "states").glob("*.state")]
    assert len(headers) == 5  # four memories, and what stands before them
    exact = states_of(kernel).catalogue.ready().identity
    assert {header.approximate for header in headers} == {"blended"}
    assert all(header.identity != exact and header.identity.startswith("blended:") for header in headers)
    assert all(header.positions for header in headers if header.parts)
    with kernel.ledger.read() as connection:
        rows = connection.execute(text("SELECT identity FROM kept_states")).scalars().all()
    assert all(row.startswith("blended:") for row in rows)


def test_a_block_of_another_model_or_another_opening_is_dropped(kernel: Kernel, gates: list[str], set_to: Open) -> None:
    Person(kernel.api, "ada").ask("What colour?", ids=gates)
    assert settled(kernel)
    kernel.close()
    kernel = set_to("blended", engine=lambda _: FakeEngine("another", cells=100_000))
    assert hows(Person(kernel.api, "ada").ask("What colour?", ids=gates)) == ["read"] * 4
    assert len(blocks(kernel)) == 4
    assert BLENDED.identity("one", (1,)) != BLENDED.identity("one", (1, 2)) != BLENDED.identity("another", (1, 2))
    assert len({one.identity("one", (1,)) for one in COMPOSITIONS.values()}) == 3
    assert EXACT.identity("one", (1,)) == "one"


# --- what a block may be used for


def test_no_block_of_a_memory_that_is_not_the_askers_is_joined_or_told(
    kernel: Kernel, ada: Person, bob: Person, gates: list[str], engine: FakeEngine
) -> None:
    ada.ask("What colour?", ids=gates)
    own = [bob.at("bobs").keep(f"The well {n} is deep {LONG}") for n in range(2)]
    before = engine.reads
    told = bob.at("bobs").ask("What colour is gate 1?", max_tokens=1)
    assert {cube["id"] for cube in told["used"]} <= set(own)
    assert engine.reads > before
    with pytest.raises(NotFound):
        bob.at("bobs").ask("What colour?", ids=[gates[0], own[0]])


def test_a_secret_memory_is_joined_for_its_reader_and_kept_nowhere(
    kernel: Kernel, ada: Person, gates: list[str], home: Path
) -> None:
    secret = ada.keep(f"The key is under the stone {LONG}")
    ada.update(secret, sensitivity="secret")
    for _ in range(2):
        told = ada.ask("Where?", ids=[*gates, secret])
        assert {cube["id"]: cube["how"] for cube in told["used"]}[secret] == "read"
    assert settled(kernel)
    assert len(blocks(kernel)) == len(gates)
    held = {part.cube for path in (home / "states").glob("*.state") for part in read_header(path).parts}
    assert held == set(gates)


Change = Callable[[Person, str], object]
CHANGES: dict[str, Change] = {
    "update": lambda ada, cube: ada.update(cube, content=f"It is red {LONG}"),
    "archive": lambda ada, cube: ada.forget(cube),
    "purge": lambda ada, cube: ada.forget(cube, mode="purge"),
    "plaintext": lambda ada, cube: ada.promote(cube, to="plaintext"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_change_of_one_memory_takes_its_block_along_and_leaves_the_others(
    kernel: Kernel, ada: Person, gates: list[str], home: Path, change: Change
) -> None:
    ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    (gone,) = [block.path for block in blocks(kernel) if block.parts[0].cube == gates[1]]
    assert gone is not None
    assert gone.exists()
    before = states_of(kernel).engine.usage().kept_bytes
    change(ada, gates[1])
    assert not gone.exists()
    assert {block.parts[0].cube for block in blocks(kernel)} == set(gates) - {gates[1]}
    assert states_of(kernel).engine.usage().kept_bytes < before
    assert hows(ada.ask("What colour?", ids=[gates[0], *gates[2:]])) == ["ram"] * 3


def test_what_a_purge_would_take_names_the_block(kernel: Kernel, ada: Person, gates: list[str]) -> None:
    ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    (block,) = [block for block in blocks(kernel) if block.parts[0].cube == gates[2]]
    gone = ada.forget(gates[2], mode="purge")
    assert gone["derived"]["states"] == [block.key]


def test_a_change_ends_an_answer_that_is_made_from_the_memory(
    ada: Person, gates: list[str], engine: FakeEngine
) -> None:
    changed: list[str] = []

    def meanwhile(verb: str) -> None:
        if verb == "join" and not changed:
            changed.append(verb)
            ada.update(gates[0], content=f"It is red {LONG}")

    engine.before = meanwhile
    with pytest.raises(Conflict, match="was changed"):
        ada.ask("What colour?", ids=gates)
    assert changed


# --- damage, loss, and room


@pytest.mark.parametrize("damage", ["flipped", "cut", "swapped"])
def test_a_damaged_block_is_never_used_but_read_anew_and_reported(
    kernel: Kernel, ada: Person, gates: list[str], set_to: Open, clock: Clock, damage: str
) -> None:
    first = ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    paths = [block.path for block in blocks(kernel) if block.path is not None]
    kernel.close()
    data = bytearray(paths[0].read_bytes())
    data[-2] ^= 1
    clock.advance(days=300)
    paths[0].write_bytes({"flipped": bytes(data), "cut": data[:-5], "swapped": paths[1].read_bytes()}[damage])
    kernel = set_to("blended", engine=lambda _: FakeEngine(cells=100_000))
    again = Person(kernel.api, "ada").ask("What colour?", ids=gates)
    assert sorted(hows(again)) == ["disk", "disk", "disk", "read"]
    assert "not used" in again["degraded"]
    assert again["answer"] == first["answer"]


def test_a_model_that_dies_takes_the_blocks_that_only_its_memory_held(
    kernel: Kernel, ada: Person, gates: list[str], engine: FakeEngine
) -> None:
    first = ada.ask("What colour?", ids=gates)
    assert settled(kernel)
    engine.lose()
    again = ada.ask("What colour?", ids=gates)
    assert hows(again) == ["disk"] * 4
    assert again["answer"] == first["answer"]


@pytest.mark.parametrize(("ram", "disk"), [(0, 1), (1, 0), (0, 0)])
def test_the_budgets_hold_and_blocks_without_room_are_read_again(set_to: Open, home: Path, ram: int, disk: int) -> None:
    settings.write_config(home, "states_ram_mb", ram)
    settings.write_config(home, "states_disk_mb", disk)
    kernel = set_to("blended")
    ada = Person(kernel.api, "ada")
    gates = [ada.keep(f"Gate {n} is green {LONG}") for n in range(4)]
    told = [ada.ask("What colour?", ids=gates)]
    forget_sets(kernel)
    told.append(ada.ask("What colour?", ids=gates))
    assert settled(kernel)
    figures = states_of(kernel).catalogue.figures()
    assert figures["ram_bytes"] <= ram << 20
    assert figures["disk_bytes"] <= disk << 20
    assert hows(told[1]) == (["ram"] * 4 if ram else ["disk"] * 4 if disk else ["read"] * 4)
    assert told[0]["answer"] == told[1]["answer"]
    if not ram and not disk:
        with pytest.raises(Conflict, match="no room"):
            ada.promote(*gates)


def test_blocks_beyond_the_budget_go_least_warm_first(set_to: Open, home: Path) -> None:
    settings.write_config(home, "states_ram_mb", 1)
    kernel = set_to("blended")
    ada, states = Person(kernel.api, "ada"), states_of(kernel)
    states.catalogue.budgets = type(states.catalogue.budgets)(20_000, 40_000)
    rng = random.Random(3)
    cubes = [ada.keep(f"Gate {n} is green {LONG}") for n in range(40)]
    for _ in range(30):
        ada.ask("What colour?", ids=rng.sample(cubes, 5))
        figures = states.catalogue.figures()
        assert figures["ram_bytes"] <= 20_000
    assert settled(kernel)
    assert states.catalogue.figures()["disk_bytes"] <= 40_000
    forget_sets(kernel)
    assert states.engine.usage().sequences_used == 0


# --- promotion


def test_what_is_promoted_is_held_as_blocks_and_comes_back_warm(
    kernel: Kernel, ada: Person, gates: list[str], set_to: Open
) -> None:
    ada.activate(*gates)
    assert [block.promoted for block in blocks(kernel)] == [True] * 4
    assert ada.promote(*gates) == {"moved": [], "op": None}
    assert hows(ada.ask("What colour?", ids=gates[:3])) == ["ram"] * 3
    ada.update(gates[0], content=f"It is red {LONG}")
    assert settled(kernel)
    assert [block.promoted for block in blocks(kernel)] == [True] * 4
    kernel.close()
    kernel = set_to("blended", engine=lambda _: FakeEngine(cells=100_000))
    assert settled(kernel)
    assert hows(Person(kernel.api, "ada").ask("What colour?", ids=gates)) == ["ram"] * 4


# --- which cells are kept


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 8), st.lists(st.lists(st.integers(0, 20))))
def test_of_a_thinned_memory_the_rarest_tokens_stay_in_their_order(
    tokens: list[int], one_in: int, store: list[list[int]]
) -> None:
    count = max(len(tokens) // one_in, 1)
    kept = Rarity(lambda: store).rarest(tokens, count)
    assert kept == sorted(set(kept))
    assert len(kept) == count
    having = [sum(token in memory for memory in store) for token in tokens]
    assert max(having[place] for place in kept) <= min(
        (having[place] for place in range(len(tokens)) if place not in kept), default=len(store) + 1
    )


# --- the setting


def test_a_composition_that_there_is_not_is_refused_in_a_sentence(home: Path) -> None:
    with pytest.raises(InvalidInput, match="must be exact, blended or thinned, not 'mixed'"):
        settings.write_config(home, "composition", "mixed")
    assert set(settings.COMPOSITIONS) == set(COMPOSITIONS)


# --- with a real model


@pytest.fixture
def real(set_to: Open, tmp_path: Path) -> Callable[..., Kernel]:
    """Opens the store, set to a composition, with the trained model."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: no model answers")
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: scripts/make_model makes it")

    def open_it(composition: str, **given: object) -> Kernel:
        made = EngineSettings(MODEL, cells=2_048, sequences=12, threads=1, **given)  # type: ignore[arg-type]
        return set_to(composition, engine=lambda _: LlamaEngine(made, tmp_path))

    return open_it


def bare(case: Case) -> str:
    """The question without the words around it."""
    return case.question.removeprefix("Q: ").removeprefix("问：").partition("\n")[0]


def keep(ada: Person, case: Case, ids: dict[str, str]) -> list[str]:
    for line in case.statements:
        if line not in ids:
            ids[line] = ada.keep(line)
    return [ids[line] for line in case.statements]


@pytest.mark.parametrize(("composition", "least"), [("blended", 0.9), ("thinned", 0.8)])
def test_the_trained_model_answers_from_blocks_of_memories_that_it_read_apart(
    real: Callable[..., Kernel], composition: str, least: float
) -> None:
    kernel, ids = real(composition), dict[str, str]()
    ada = Person(kernel.api, "ada")
    chosen = list(cases(7, 20, 4))
    named = [keep(ada, case, ids) for case in chosen]
    right = 0
    for case, cubes in zip(chosen, named, strict=True):
        first = ada.ask(bare(case), ids=cubes, max_tokens=8)
        forget_sets(kernel)
        again = ada.ask(bare(case), ids=cubes, max_tokens=8)
        assert first["approximate"].startswith(composition)
        assert hows(again) == ["ram"] * 4
        assert again["answer"] == first["answer"]
        right += first["answer"] == case.answer.strip()
    assert right >= least * len(chosen)


def logits(kernel: Kernel, ids: Sequence[str], question: str) -> tuple[Best, ...]:
    """What a composition of these memories is about to say, to the last bit."""
    states = states_of(kernel)
    with kernel.ledger.read() as connection:
        cubes = list(kernel.api.parts.vault.by_ids(connection, ids).values())
    composed = states.compose(states.texts(cubes), lambda _: True)
    try:
        return states.engine.best(composed.sequence, states.engine.tokenize(question), 8)
    finally:
        states.composer.release(composed.sequence)


def test_with_a_real_model_blocks_are_the_same_bits_from_text_memory_and_file(real: Callable[..., Kernel]) -> None:
    (case,) = cases(3, 1, 10)
    kernel = real("blended")
    ids = keep(Person(kernel.api, "ada"), case, {})
    rng = random.Random(1)
    chosen = [rng.sample(ids, rng.randint(2, 10)) for _ in range(8)]
    read = [logits(kernel, one, case.question) for one in chosen]
    assert [logits(kernel, one[::-1], case.question) for one in chosen] == read
    forget_sets(kernel)
    assert [logits(kernel, one, case.question) for one in chosen] == read
    ada = Person(kernel.api, "ada")
    ada.activate(*ids)
    kernel.close()
    kernel = real("blended")
    assert [logits(kernel, one, case.question) for one in chosen] == read
    kernel.close()
    kernel = real("exact")
    exact = [logits(kernel, one, case.question) for one in chosen]
    assert exact != read
    alone = [logits(kernel, [cube], case.question) for cube in ids]
    kernel.close()
    kernel = real("blended")
    assert [logits(kernel, [cube], case.question) for cube in ids] == alone, "one memory alone is no approximation"


def test_a_model_whose_states_cannot_be_moved_answers_exactly_and_says_so(real: Callable[..., Kernel]) -> None:
    (case,) = cases(3, 1, 4)
    kernel = real("blended", kv_type="q8_0")
    ada = Person(kernel.api, "ada")
    ids = keep(ada, case, {})
    told = ada.ask(bare(case), ids=ids, max_tokens=8)
    assert "approximate" not in told
    assert "composed exactly" in told["degraded"]
    ada.activate(*ids)
    again = ada.ask(bare(case), ids=ids, max_tokens=8)
    assert hows(again) == ["resident"] * 4
    checks = {check.name: check for check in store_checks.of_running(kernel)}
    assert "composed exactly" in checks["composition"].said
    assert THINNED.one_in == 2
