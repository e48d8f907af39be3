"""One suite for the port Engine, run over llama.cpp with a small random model and over the fake."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from fake_engine import FakeEngine

from memos_mcp.activation.engine import (
    Adapter,
    Answer,
    ContextFull,
    Engine,
    EngineSettings,
    FileBlob,
    JobCancelled,
    Mounts,
    Resident,
    SequenceGone,
    StateRejected,
    Steering,
    Turn,
)
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.errors import EngineLost, EngineUnavailable, InvalidInput, MemosError

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from benchmarks import random_model

NEEDS_LLAMA = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the extra activation is not installed"
)
CELLS = 1_000
TEXTS = ["Green tea is drunk hot", "绿茶要趁热喝 🍵🙂", "", " a  b\t\n", "naïve café", "<s>not a token</s>"]
MEMORY = tuple(random.Random(1).randrange(3, 259) for _ in range(150))
QUESTION = (70, 71, 72, 73)


def model(folder: Path, kind: random_model.Kind = "q8_0", seed: int = 0) -> Path:
    return random_model.write(folder / f"{kind}{seed}.gguf", seed=seed, kind=kind, spread=0.2)


def llama(folder: Path, **settings: object) -> LlamaEngine:
    given = {"cells": CELLS, "threads": 1} | settings  # a second thread would wait for the first on a busy machine
    return LlamaEngine(EngineSettings(model(folder), **given), folder, folder)  # type: ignore[arg-type]


@pytest.fixture(
    scope="module", params=[pytest.param("fake"), pytest.param("llama", marks=NEEDS_LLAMA)]
)  # fmt: skip
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    made: Engine = FakeEngine(cells=CELLS) if request.param == "fake" else llama(folder)
    yield made
    made.close()


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:
    """The module's engine, whose sequences are dropped after each test, so that tests do not fill it."""
    dropped: list[Resident] = []
    yield _Noting(shared, dropped)  # type: ignore[misc]
    for sequence in dropped:
        shared.drop(sequence)


class _Noting:
    """An engine that notes the sequences it makes."""

    def __init__(self, engine: Engine, made: list[Resident]) -> None:
        self._engine, self._made = engine, made

    def __getattr__(self, name: str) -> object:
        found = getattr(self._engine, name)
        if name not in ("open", "attach", "restore", "join"):
            return found

        def noted(*given: object, **named: object) -> Resident:
            sequence: Resident = found(*given, **named)
            self._made.append(sequence)
            return sequence

        return noted


def opened(engine: Engine, tokens: tuple[int, ...] = MEMORY) -> Resident:
    sequence = engine.open()
    engine.read(sequence, tokens)
    return sequence


def answer(engine: Engine, sequence: Resident, **named: object) -> Answer:
    """What is answered behind a sequence, which stays as it is."""
    copy = engine.attach(sequence)
    try:
        return engine.generate(copy, QUESTION, 12, best=2, **named)  # type: ignore[arg-type]
    finally:
        engine.drop(copy)


def same(one: Answer, other: Answer) -> bool:
    """Equal in every token and in every bit of the logits."""
    return (one.tokens, one.best, one.text) == (other.tokens, other.best, other.text)


def test_text_comes_back_from_its_tokens(engine: Engine) -> None:
    for text in TEXTS:
        assert engine.detokenize(engine.tokenize(text)) == text
        assert engine.detokenize(engine.tokenize(text, bos=True)) == text


def test_the_first_token_of_a_sequence_is_put_before_only_when_asked_for(engine: Engine) -> None:
    assert engine.tokenize("tea", bos=True) == (engine.facts().bos, *engine.tokenize("tea"))


def test_names_of_control_tokens_in_a_text_are_text(engine: Engine) -> None:
    facts = engine.facts()
    assert facts.bos not in engine.tokenize("<s>")
    assert "<s>" in engine.detokenize(engine.tokenize("<s> and </s>"))


def test_what_is_read_is_what_the_sequence_holds(engine: Engine) -> None:
    sequence = opened(engine)
    assert engine.read(sequence, QUESTION) == len(MEMORY) + len(QUESTION)
    assert engine.tokens(sequence) == MEMORY + QUESTION
    assert engine.positions(sequence) == tuple(range(len(MEMORY) + len(QUESTION)))


def test_progress_ends_with_everything(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    engine.read(engine.open(), MEMORY, progress=lambda done, all_of_it: seen.append((done, all_of_it)))
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (len(MEMORY), len(MEMORY))


def test_an_answer_is_the_same_from_every_kind_of_state(engine: Engine, tmp_path: Path) -> None:
    sequence = opened(engine)
    expected = answer(engine, sequence)
    file = tmp_path / "state"
    file.write_bytes(bytes(100))
    size = engine.write(sequence, file, 100)
    kept, state = engine.keep(sequence), engine.save(sequence)
    assert len(state) == size == kept.size
    engine.drop(sequence)
    for blob in (kept, state, FileBlob(file, 100, size)):
        restored = engine.restore(blob, MEMORY)
        assert engine.tokens(restored) == MEMORY
        assert same(answer(engine, restored), expected)
    engine.release(kept)
    engine.release(kept)
    with pytest.raises(SequenceGone):
        engine.restore(kept, MEMORY)


def test_a_cut_sequence_goes_on_as_if_it_had_read_no_more(engine: Engine) -> None:
    sequence, short = opened(engine), opened(engine, MEMORY[:77])
    before = engine.save(short)
    engine.cut(sequence, 77)
    assert engine.tokens(sequence) == MEMORY[:77]
    assert engine.save(sequence) == before
    assert same(answer(engine, sequence), answer(engine, short))


def test_attaching_changes_neither_the_source_nor_what_others_attached(engine: Engine) -> None:
    source = opened(engine)
    before = engine.save(source)
    one, other = engine.attach(source), engine.attach(source, 100)
    engine.read(one, QUESTION)
    engine.read(other, QUESTION[::-1])
    assert engine.tokens(one) == MEMORY + QUESTION
    assert engine.tokens(other) == MEMORY[:100] + QUESTION[::-1]
    engine.drop(source)
    third = engine.attach(one, len(MEMORY))
    assert engine.save(third) == before


def test_shared_cells_are_counted_once(engine: Engine) -> None:
    used = engine.usage().cells_used
    source = opened(engine)
    copies = [engine.attach(source) for _ in range(3)]
    assert engine.usage().cells_used == used + len(MEMORY)
    for sequence in [source, *copies]:
        assert engine.usage().cells_used == used + len(MEMORY)
        engine.drop(sequence)
        engine.drop(sequence)
    assert engine.usage().cells_used == used


def test_a_dropped_sequence_is_gone(engine: Engine) -> None:
    sequence = opened(engine)
    engine.drop(sequence)
    with pytest.raises(SequenceGone):
        engine.read(sequence, QUESTION)
    with pytest.raises(SequenceGone):
        engine.attach(sequence)


def test_a_full_context_says_what_is_free_and_changes_nothing(engine: Engine) -> None:
    sequence = opened(engine)
    before, free = engine.save(sequence), engine.facts().cells - engine.usage().cells_used
    with pytest.raises(ContextFull) as full:
        engine.read(sequence, [5] * (free + 1))
    assert (full.value.needed, full.value.free) == (free + 1, free)
    assert engine.save(sequence) == before
    engine.read(sequence, [5] * free)
    engine.cut(sequence, len(MEMORY))
    assert engine.save(sequence) == before


def test_an_answer_ends_where_the_context_does(engine: Engine) -> None:
    sequence = engine.open()
    engine.read(sequence, [5] * (engine.facts().cells - engine.usage().cells_used - 6))
    found = engine.generate(sequence, QUESTION, 400)
    assert found.reason in ("full", "end")
    assert engine.usage().cells_used <= engine.facts().cells


def test_there_are_only_so_many_sequences(engine: Engine) -> None:
    facts, usage = engine.facts(), engine.usage()
    for _ in range(facts.sequences - usage.sequences_used):
        engine.open()
    with pytest.raises(ContextFull):
        engine.open()


def test_nonsense_is_refused_before_it_reaches_native_code(engine: Engine) -> None:
    sequence = opened(engine)
    state = engine.save(sequence)
    words = engine.facts().vocabulary
    for call in (
        lambda: engine.read(sequence, [words]),
        lambda: engine.read(sequence, [-1]),
        lambda: engine.detokenize([words]),
        lambda: engine.cut(sequence, len(MEMORY) + 1),
        lambda: engine.attach(sequence, -1),
        lambda: engine.generate(sequence, [], 5),
        lambda: engine.generate(sequence, QUESTION, 0),
        lambda: engine.best(sequence, []),
        lambda: engine.restore(state, []),
        lambda: engine.restore(state, [words] * 150),
        lambda: engine.thin(sequence, [(0, 1_000)]),
        lambda: engine.hidden([[]]),
        lambda: engine.hidden([[5] * 513]),
        lambda: engine.join([sequence, sequence]),
    ):
        with pytest.raises(InvalidInput):
            call()


@pytest.mark.parametrize("damage", ["short", "empty", "other length", "noise"])
def test_a_state_that_is_not_what_it_should_be_is_rejected(engine: Engine, damage: str) -> None:
    sequence = opened(engine)
    state, used = engine.save(sequence), engine.usage()
    tokens: tuple[int, ...] = MEMORY
    match damage:
        case "short":
            state = state[: len(state) // 2]
        case "empty":
            state = b""
        case "other length":
            tokens = MEMORY[:-1]
        case "noise":
            state = random.Random(3).randbytes(len(state))
    with pytest.raises(StateRejected):
        engine.restore(state, tokens)
    assert engine.usage().cells_used == used.cells_used
    assert engine.usage().sequences_used == used.sequences_used


def test_a_cancelled_read_leaves_the_sequence_as_it_was(engine: Engine) -> None:
    sequence = opened(engine, QUESTION)
    before, enough = engine.save(sequence), threading.Event()

    def stop(done: int, _: int) -> None:
        enough.set()

    with pytest.raises(JobCancelled):
        engine.read(sequence, MEMORY * 5, Turn(cancelled=enough), stop)
    assert engine.save(sequence) == before


def test_a_cancelled_answer_returns_what_there_is(engine: Engine) -> None:
    enough = threading.Event()
    enough.set()
    with pytest.raises(JobCancelled):
        engine.read(engine.open(), MEMORY, Turn(cancelled=enough))
    sequence, later = opened(engine), threading.Event()
    found = engine.generate(sequence, QUESTION, 900, Turn(cancelled=later), on_text=lambda _: later.set())
    assert found.reason in ("cancelled", "end")
    assert engine.tokens(sequence) == MEMORY + found.read


def test_an_answer_is_streamed_in_whole_characters(engine: Engine) -> None:
    pieces: list[str] = []
    found = engine.generate(opened(engine), QUESTION, 40, on_text=pieces.append)
    assert "".join(pieces) == found.text
    assert found.text.encode("utf-8").decode("utf-8") == found.text
    assert engine.generate(opened(engine), QUESTION, 40).tokens == found.tokens


def test_a_stop_text_ends_the_answer_and_is_not_given_out(engine: Engine) -> None:
    whole = engine.generate(opened(engine), QUESTION, 40)
    stop = next(part for at in range(1, len(whole.text)) if (part := whole.text[at : at + 2]).strip())
    pieces: list[str] = []
    found = engine.generate(opened(engine), QUESTION, 40, stop=[stop, "never said"], on_text=pieces.append)
    assert found.reason == "stop"
    assert found.text == "".join(pieces) == whole.text[: whole.text.index(stop)]


def test_what_an_answer_read_is_what_the_sequence_holds_more(engine: Engine) -> None:
    sequence = opened(engine)
    found = engine.generate(sequence, QUESTION, 7, best=3)
    assert engine.tokens(sequence) == MEMORY + found.read
    said = found.tokens if found.reason == "end" else found.tokens[:-1]
    assert found.read == QUESTION + said
    for place, token in zip(found.best, found.tokens, strict=False):
        assert len(place) == 3
        assert place[0].token == token
        assert [best.logit for best in place] == sorted((best.logit for best in place), reverse=True)


def test_the_likeliest_tokens_are_those_of_an_answer(engine: Engine) -> None:
    found = answer(engine, opened(engine))
    assert engine.best(opened(engine), QUESTION) == found.best[0]


def test_a_conversation_goes_on_from_its_saved_state(engine: Engine) -> None:
    sequence = opened(engine)
    engine.generate(sequence, QUESTION, 5)
    state, tokens = engine.save(sequence), engine.tokens(sequence)
    assert same(answer(engine, engine.restore(state, tokens)), answer(engine, sequence))
    assert same(answer(engine, opened(engine, tokens)), answer(engine, sequence))


def test_a_thinned_sequence_keeps_places_and_comes_back(engine: Engine) -> None:
    sequence, whole = opened(engine), opened(engine)
    before = engine.save(whole)
    engine.thin(sequence, [(10, 20), (15, 30), (100, 101)])
    left = [place for place in range(len(MEMORY)) if not (10 <= place < 30 or place == 100)]
    assert engine.positions(sequence) == tuple(left)
    assert engine.tokens(sequence) == tuple(MEMORY[place] for place in left)
    expected, state = answer(engine, sequence), engine.save(sequence)
    assert len(state) < len(before)
    restored = engine.restore(state, engine.tokens(sequence), positions=left)
    assert same(answer(engine, restored), expected)
    with pytest.raises(StateRejected):
        engine.restore(state, engine.tokens(sequence))
    assert engine.save(whole) == before


def test_joined_sequences_stand_one_behind_the_other(engine: Engine) -> None:
    witness = opened(engine, QUESTION)
    before = engine.save(witness)
    one, other = opened(engine, MEMORY[:40]), opened(engine, MEMORY[40:100])
    shared = engine.attach(other)
    untouched = engine.save(shared)
    joined = engine.join([one, other, engine.attach(shared, 10)])
    assert engine.tokens(joined) == MEMORY[:100] + MEMORY[40:50]
    assert engine.positions(joined) == tuple(range(110))
    state, expected = engine.save(joined), answer(engine, joined)
    assert same(answer(engine, engine.restore(state, engine.tokens(joined))), expected)
    assert engine.save(witness) == before
    assert engine.save(shared) == untouched
    with pytest.raises(SequenceGone):
        engine.tokens(other)


def test_mounts_belong_to_a_sequence_and_to_its_identity(engine: Engine) -> None:
    plus, minus = engine.hidden([engine.tokenize("hot tea"), engine.tokenize("冷水")])
    facts = engine.facts()
    assert plus.shape == (facts.layers, facts.embedding)
    assert not np.array_equal(plus, minus)
    steered = Mounts(steering=Steering(plus - minus, 1, facts.layers - 1, 4.0))
    stronger = Mounts(steering=Steering(plus - minus, 1, facts.layers - 1, 8.0))
    identities = {engine.identity(), engine.identity(steered), engine.identity(stronger)}
    assert len(identities) == 3
    plain = answer(engine, opened(engine))
    sequence = engine.open(steered)
    engine.read(sequence, MEMORY)
    mounted = answer(engine, sequence)
    assert not same(mounted, plain)
    assert same(answer(engine, opened(engine)), plain)
    assert same(answer(engine, engine.restore(engine.save(sequence), MEMORY, steered)), mounted)


def test_a_control_vector_that_was_forgotten_is_mounted_again_as_it_was(engine: Engine) -> None:
    plus, minus = engine.hidden([engine.tokenize("hot tea"), engine.tokenize("冷水")])
    steered = Mounts(steering=Steering(plus - minus, 1, engine.facts().layers - 1, 4.0))

    def mounted() -> Answer:
        sequence = engine.open(steered)
        engine.read(sequence, MEMORY)
        return answer(engine, sequence)

    first, plain = mounted(), answer(engine, opened(engine))
    assert not same(first, plain)
    mounted()
    for _ in range(2):
        engine.forget_steering(plus - minus)
    assert same(answer(engine, opened(engine)), plain)
    assert same(mounted(), first)


def test_an_adapter_is_mounted_with_its_weight(engine: Engine, tmp_path: Path) -> None:
    path = random_model.write_adapter(tmp_path / "adapter.gguf")
    source = opened(engine)
    plain = answer(engine, source)
    answers, identities = [plain], {engine.identity()}
    for weight in (0.5, 1.0):
        mounts = Mounts((Adapter(path, weight),))
        sequence = engine.open(mounts)
        engine.read(sequence, MEMORY)
        answers.append(answer(engine, sequence))
        identities.add(engine.identity(mounts))
        assert same(answer(engine, engine.restore(engine.save(sequence), MEMORY, mounts)), answers[-1])
    assert len(identities) == 3
    assert not any(same(one, other) for one, other in itertools.combinations(answers, 2))
    assert not same(answer(engine, engine.attach(source, mounts=mounts)), plain)
    assert same(answer(engine, source), plain)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for _ in range(2):
        engine.forget_adapter(digest)  # the one that was mounted last
    assert same(answer(engine, source), plain)
    again = engine.open(Mounts((Adapter(path, 1.0),)))
    engine.read(again, MEMORY)
    assert same(answer(engine, again), answers[-1])
    engine.forget_adapter(digest)
    assert same(answer(engine, source), plain)
    with pytest.raises(InvalidInput):
        engine.open(Mounts((Adapter(tmp_path / "none.gguf"),)))


def test_what_was_read_under_other_mounts_is_not_joined(engine: Engine) -> None:
    (vectors,) = engine.hidden([QUESTION])
    pair = []
    for weight in (1.0, 2.0):
        pair.append(engine.open(Mounts(steering=Steering(vectors, 1, 2, weight))))
        engine.read(pair[-1], QUESTION)
    with pytest.raises(InvalidInput):
        engine.join(pair)


def test_several_callers_at_once_get_what_each_would_get_alone(engine: Engine) -> None:
    source = opened(engine)
    expected = answer(engine, source)
    found: list[Answer] = []

    def ask(name: str) -> None:
        for _ in range(3):
            own = engine.attach(source)
            found.append(engine.generate(own, QUESTION, 12, Turn(name), best=2))
            engine.drop(own)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(same(one, expected) for one in found)


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    for made in (FakeEngine(), llama(tmp_path)):
        made.close()
        made.close()
        with pytest.raises(EngineUnavailable):
            made.open()


# What only the real one can show.


@pytest.mark.slow
@NEEDS_LLAMA
@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0"])
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_logits_depend_on_the_tokens_alone(tmp_path: Path, kv_type: str, kind: random_model.Kind) -> None:
    given = {"model": model(tmp_path, kind), "cells": 700, "kv_type": kv_type}
    crowded = LlamaEngine(EngineSettings(step=48, sequences=12, threads=2, **given), tmp_path)  # type: ignore[arg-type]
    alone = LlamaEngine(EngineSettings(step=63, threads=1, **given), tmp_path)  # type: ignore[arg-type]
    try:
        assert_equal_while_sequences_come_and_go(crowded, alone, random.Random(f"{kv_type}{kind}"), 140)
    finally:
        crowded.close()
        alone.close()


def assert_equal_while_sequences_come_and_go(crowded: Engine, alone: Engine, rnd: random.Random, rounds: int) -> None:
    """Read, attach, cut, restore and drop at random, so that cells are given up and moved; compare with a full read."""
    held: list[Resident] = []

    def some(most: int) -> list[int]:
        return [rnd.randrange(3, 350) for _ in range(rnd.randrange(1, most))]

    for number in range(rounds):
        while len(held) > 8 or (held and crowded.facts().cells - crowded.usage().cells_used < 330):
            crowded.drop(held.pop(rnd.randrange(len(held))))
        source = rnd.choice(held) if held else None
        match rnd.randrange(5) if source else 0:
            case 0:
                held.append(crowded.open())
                crowded.read(held[-1], some(150))
            case 1:
                held.append(crowded.attach(source, rnd.randrange(1, len(crowded.tokens(source)) + 1)))
                crowded.read(held[-1], some(30))
            case 2:
                crowded.cut(source, rnd.randrange(1, len(crowded.tokens(source)) + 1))
            case 3:
                held.append(crowded.restore(crowded.save(source), crowded.tokens(source)))
            case 4:
                crowded.read(source, some(70))
        if number % 4 == 0:
            source, question = rnd.choice(held), some(6)
            own, full = crowded.attach(source), alone.open()
            alone.read(full, crowded.tokens(source))
            expected = alone.generate(full, question, 6, best=2)
            found = crowded.generate(own, question, 6, best=2)
            assert same(found, expected), f"round {number}: {found.best} and {expected.best}"
            crowded.drop(own)
            alone.drop(full)


@NEEDS_LLAMA
@pytest.mark.parametrize("phase", ["reading", "saving", "generating", "idle"])
def test_the_death_of_the_worker_costs_the_call_and_no_more(tmp_path: Path, phase: str) -> None:
    engine = llama(tmp_path)
    try:
        sequence = opened(engine)
        kept = engine.keep(sequence)

        def kill(*_: object) -> None:
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)

        def until_it_is_lost() -> None:
            match phase:
                case "reading":
                    engine.read(sequence, MEMORY * 4, progress=kill)
                case "generating":
                    engine.generate(sequence, QUESTION, 400, on_text=kill)
                    engine.tokens(sequence)
                case "saving":
                    kill()
                    engine.save(sequence)
                case _:
                    kill()
                    engine.tokenize("tea")
                    engine.tokens(sequence)

        with pytest.raises((EngineLost, SequenceGone)):
            until_it_is_lost()
        again = opened(engine)
        assert engine.usage().life == 2
        for lost in (lambda: engine.tokens(sequence), lambda: engine.restore(kept, MEMORY)):
            with pytest.raises(SequenceGone):
                lost()
        engine.drop(sequence)
        engine.release(kept)
        assert len(answer(engine, again).tokens) > 0
    finally:
        engine.close()


@NEEDS_LLAMA
def test_the_death_of_a_worker_that_loads_costs_the_call_and_no_more(tmp_path: Path) -> None:
    engine = llama(tmp_path)
    raised: list[MemosError] = []

    def load() -> None:
        try:
            engine.facts()
        except MemosError as error:
            raised.append(error)

    others = set(psutil.Process().children())
    loading = threading.Thread(target=load)
    loading.start()
    while loading.is_alive():
        workers = set(psutil.Process().children()) - others
        if workers:
            workers.pop().kill()
            break
    loading.join()
    assert [type(error) for error in raised] == [EngineLost]
    assert engine.problem == str(raised[0])
    assert len(answer(engine, opened(engine)).tokens) > 0
    assert engine.problem is None
    engine.close()


@NEEDS_LLAMA
def test_the_worker_ends_with_whoever_started_it(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; from memos_mcp.activation.engine import EngineSettings\n"
        "from memos_mcp.backends.llama.engine import LlamaEngine\n"
        "engine = LlamaEngine(EngineSettings(Path(sys.argv[1]), cells=500), Path(sys.argv[2]))\n"
        "engine.open(); print(engine.pid, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(model(tmp_path)), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        watch = os.pidfd_open(worker) if hasattr(os, "pidfd_open") else None
        owner.kill()
        owner.wait()
    if watch is None:
        pytest.skip("this system cannot wait for a process of somebody else's")
    import select

    ended, _, _ = select.select([watch], [], [], 20.0)
    os.close(watch)
    assert ended


@NEEDS_LLAMA
def test_a_model_that_cannot_be_loaded_is_named_in_a_sentence(tmp_path: Path) -> None:
    whole = model(tmp_path).read_bytes()
    (tmp_path / "half.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "header.gguf").write_bytes(whole[:100])
    for name, says in (
        ("none.gguf", "no model file"),
        ("text.gguf", "not a GGUF file"),
        ("half.gguf", "cannot be loaded"),
        ("header.gguf", "cannot be loaded"),
    ):
        engine = LlamaEngine(EngineSettings(tmp_path / name), tmp_path)
        with pytest.raises(EngineUnavailable, match=says) as refused:
            engine.open()
        assert name in str(refused.value)
        assert engine.problem == str(refused.value)
        assert not engine.loaded
        engine.close()


@NEEDS_LLAMA
def test_an_engine_recovers_once_its_model_is_there(tmp_path: Path) -> None:
    path = tmp_path / "q8_00.gguf"
    engine = LlamaEngine(EngineSettings(path, cells=500), tmp_path)
    engine.load_in_background()
    with pytest.raises(EngineUnavailable):
        engine.facts()
    model(tmp_path)
    assert engine.facts().layers == random_model.TINY.layers
    assert engine.problem is None
    engine.close()


@NEEDS_LLAMA
def test_everything_that_changes_a_state_changes_the_identity(tmp_path: Path) -> None:
    base = EngineSettings(model(tmp_path), cells=500)
    seen = set()
    for settings in (
        base,
        EngineSettings(model(tmp_path, seed=1), cells=500),
        EngineSettings(base.model, cells=1_000),
        EngineSettings(base.model, cells=500, kv_type="q8_0"),
        EngineSettings(base.model, cells=500, rope_base=20_000.0),
        EngineSettings(base.model, cells=500, step=48),
        EngineSettings(base.model, cells=500, flash_attention=False),
    ):
        engine = LlamaEngine(settings, tmp_path)
        seen.add(engine.identity())
        engine.close()
    assert len(seen) == 7
    engine = LlamaEngine(EngineSettings(base.model, cells=500, threads=1), tmp_path)
    assert engine.identity() in seen
    engine.close()


@NEEDS_LLAMA
def test_states_with_a_quantised_context_are_not_joined(tmp_path: Path) -> None:
    engine = llama(tmp_path, kv_type="q8_0")
    try:
        assert not engine.facts().can_shift
        with pytest.raises(InvalidInput):
            engine.join([opened(engine, QUESTION), opened(engine, QUESTION)])
        assert len(answer(engine, opened(engine)).tokens) > 0
    finally:
        engine.close()


def test_settings_that_llama_would_not_survive_are_refused(tmp_path: Path) -> None:
    for wrong in ({"step": 64}, {"step": 1}, {"sequences": 60}, {"kv_type": "q8_0", "flash_attention": False}):
        with pytest.raises(InvalidInput):
            EngineSettings(tmp_path / "m.gguf", **wrong)  # type: ignore[arg-type]


@NEEDS_LLAMA
def test_a_short_question_does_not_wait_for_a_long_reading(tmp_path: Path) -> None:
    engine = llama(tmp_path)
    try:
        source, target = opened(engine, QUESTION), engine.open()
        order: list[str] = []
        begun = threading.Event()

        def note(done: int, whole: int) -> None:
            begun.set()
            if done == whole:
                order.append("read")

        long = [5] * 900
        build = threading.Thread(target=lambda: engine.read(target, long, Turn("builder", background=True), note))
        build.start()
        assert begun.wait(30.0)
        engine.generate(source, QUESTION, 1, Turn("asker"))
        order.append("answer")
        build.join()
        assert order == ["answer", "read"]
        assert engine.tokens(target) == tuple(long)
    finally:
        engine.close()
