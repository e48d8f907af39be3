"""The parts of the local model's engine that need no model: turns, text as it comes, cells, hashes, the machine."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_mcp.backends.llama import frames, machine
from memos_mcp.backends.llama.cells import Cells, CellsFull, Placed
from memos_mcp.backends.llama.files import FileHashes
from memos_mcp.backends.llama.streaming import TextStream
from memos_mcp.backends.llama.turns import BACKGROUND_EVERY, Job, Steps, Turns


def nothing() -> Steps:
    yield
    return None


def job(number: int, caller: str = "", **more: object) -> Job:
    return Job(number, nothing(), caller, **more)  # type: ignore[arg-type]


def served(turns: Turns, count: int) -> list[int]:
    found = [turns.next() for _ in range(count)]
    return [each.number for each in found if each is not None]


def test_callers_take_turns_and_a_callers_jobs_follow_each_other() -> None:
    turns = Turns()
    for number, caller in enumerate("aaab"):
        turns.add(job(number, caller))
    assert served(turns, 6) == [0, 3, 0, 3, 0, 3]


def test_what_is_short_goes_first() -> None:
    turns = Turns()
    turns.add(job(1, "a"))
    turns.add(job(2, "b", short=True))
    assert served(turns, 2) == [2, 2]


def test_background_work_gets_its_share_and_no_more() -> None:
    turns = Turns()
    turns.add(job(1, "builder", background=True))
    assert served(turns, 2) == [1, 1]
    turns.add(job(2, "a"))
    turns.add(job(3, "b"))
    order = served(turns, 10 * BACKGROUND_EVERY)
    assert order.count(1) == 10
    assert order.count(2) - order.count(3) in (-1, 0, 1)


def test_a_sequence_is_used_by_one_job_at_a_time() -> None:
    turns = Turns()
    first, second = job(1, "a", uses=frozenset({7})), job(2, "b", uses=frozenset({7, 8}))
    third = job(3, "c", uses=frozenset({8}), short=True)
    for each in (first, second, third):
        turns.add(each)
    assert served(turns, 3) == [1, 1, 1]
    turns.remove(first)
    assert served(turns, 2) == [2, 2]
    turns.remove(second)
    assert served(turns, 1) == [3]
    turns.remove(third)
    assert turns.next() is None
    assert not turns


def pieces(text: str, rnd: random.Random) -> Iterator[bytes]:
    raw = text.encode()
    while raw:
        size = rnd.randrange(1, 4)
        yield raw[:size]
        raw = raw[size:]


@given(
    st.text(alphabet="ab 茶🍵é\n", max_size=30),
    st.lists(st.text(alphabet="ab茶🍵", max_size=3), max_size=3),
    st.randoms(),
)
def test_text_comes_whole_and_ends_before_the_first_stop(text: str, stop: list[str], rnd: random.Random) -> None:
    stream = TextStream(stop)
    out = [stream.feed(piece) for piece in pieces(text, rnd)]
    out.append(stream.finish())
    ends = [at for at in (text.find(word) for word in stop if word) if at >= 0]
    said = "".join(out)
    assert said == stream.text
    assert "\ufffd" not in said
    assert stream.stopped == bool(ends)
    if ends:
        assert text.startswith(said)
        assert not any(word in said for word in stop if word)
    else:
        assert said == text


def test_the_bytes_of_an_unfinished_character_are_left_out() -> None:
    stream = TextStream()
    assert stream.feed("茶🍵".encode()[:5]) == "茶"
    assert stream.finish() == ""


@given(st.dictionaries(st.text(max_size=5), st.integers()), st.binary(max_size=50))
def test_frames_come_back_and_a_torn_one_is_the_end(content: dict[str, int], blob: bytes) -> None:
    pipe = io.BytesIO()
    frames.send(pipe, content, blob)
    whole = pipe.getvalue()
    assert frames.receive(io.BytesIO(whole)) == (content, blob)
    assert frames.receive(io.BytesIO(whole[:-1])) is None
    assert frames.receive(io.BytesIO()) is None


class PaperContext:
    """A context that only notes which slots have which cells, taking the lowest empty ones as llama.cpp does."""

    dead_slot, spare_slot = 100, 101

    def __init__(self, cells: int) -> None:
        self.cells = cells
        self.slots: dict[int, dict[int, int]] = {}

    def put(self, slot: int, position: int) -> int:
        taken = {cell for held in self.slots.values() for cell in held.values()}
        cell = next(cell for cell in range(self.cells) if cell not in taken)
        self.slots.setdefault(slot, {})[position] = cell
        return cell

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        for position, cell in self.slots.get(source, {}).items():
            if begin < 0 or begin <= position < end:
                key = position if target != self.dead_slot else -1 - cell
                self.slots.setdefault(target, {})[key] = cell

    def remove(self, slot: int, begin: int = -1, end: int = -1) -> None:
        held = self.slots.get(slot, {})
        self.slots[slot] = {place: cell for place, cell in held.items() if begin >= 0 and not begin <= place < end}

    def clear(self) -> None:
        self.slots = {}

    def state(self, slot: int) -> bytearray:
        return bytearray(np.array(sorted(self.slots[slot]), np.int64).tobytes())

    def put_state(self, slot: int, state: np.ndarray) -> bool:  # type: ignore[type-arg]
        for position in np.frombuffer(state.tobytes(), np.int64).tolist():
            self.put(slot, position)
        return True


@given(st.randoms(use_true_random=False))
def test_every_sequence_stands_in_the_order_of_its_reading(rnd: random.Random) -> None:
    context, held, slots = PaperContext(60), list[Placed](), list(range(90))
    cells = Cells(context, lambda: held)

    def grow(placed: Placed, count: int) -> None:
        cells.make_room(count)
        begin = placed.end
        for position in range(begin, begin + count):
            context.put(placed.slot, position)
        cells.take(placed, np.arange(begin, begin + count))

    for _ in range(60):
        source = rnd.choice(held) if held else None
        with contextlib.suppress(CellsFull):
            match rnd.randrange(4) if source else 0:
                case 0:
                    held.append(Placed(slots.pop(0)))
                    grow(held[-1], rnd.randrange(1, 20))
                case 1:
                    held.append(Placed(slots.pop(0)))
                    cells.share(source, held[-1], rnd.randrange(0, len(source.cells) + 1))
                    grow(held[-1], rnd.randrange(1, 9))
                case 2:
                    cells.give_up(source, np.arange(len(source.cells)) >= rnd.randrange(0, len(source.cells) + 1))
                case 3:
                    cells.give_up(source, np.ones(len(source.cells), bool))
                    slots.append(source.slot)
                    held.remove(source)
        for placed in held:
            expected = dict(zip(placed.positions.tolist(), placed.cells.tolist(), strict=True))
            assert context.slots.get(placed.slot, {}) == expected
            assert placed.cells.tolist() == sorted(placed.cells.tolist())
        assert cells.used == len({cell for placed in held for cell in placed.cells.tolist()})


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path) -> None:
    file, kept = tmp_path / "model", tmp_path / "hashes.json"
    file.write_bytes(b"one")
    first = FileHashes(kept).of(file)
    known = kept.read_text()
    assert first in known
    kept.write_text(known.replace(first, "remembered"))
    assert FileHashes(kept).of(file) == "remembered"
    file.write_bytes(b"other")
    assert FileHashes(kept).of(file) not in ("remembered", first)
    kept.write_text("damaged")
    assert len(FileHashes(kept).of(file)) == 64


def test_the_machine_has_a_core_and_memory() -> None:
    assert machine.threads() >= 1
    assert machine.available_memory() is None or machine.available_memory() > 0
    assert machine.resident_memory(2**30) == 0


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 1.5), ("50000 100000", 1.0), ("400000 100000", 4.0)])
def test_a_containers_share_of_time_is_kept_to(tmp_path: Path, limit: str, cores: float) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert machine.quota(tmp_path) == cores
    (tmp_path / "cpu.max").write_text("max 100000")
    assert machine.quota(tmp_path) >= 1
