"""Signatures find what brute force finds nearly the same, and follow what becomes of the memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from person import Person, eventually

from memos_mcp.kernel import Kernel
from memos_mcp.ledger import vectors
from memos_mcp.ledger.vectors import Stored
from memos_mcp.memory_api.parts import Parts
from memos_mcp.plaintext import signatures
from memos_mcp.plaintext.dense import Ground
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.signatures import Signatures, Signed
from memos_mcp.ports import Matrix, Vector

FLOOR = 0.8
SEEDS = st.integers(0, 2**32 - 1)


def like(seed: int, count: int, groups: int, dimensions: int = 384, common: float = 1.0) -> Matrix:
    """Unit vectors in groups around centres that have something in common; some of a group are nearly the same."""
    random = np.random.default_rng(seed)
    centres = common * random.standard_normal(dimensions) + random.standard_normal((groups, dimensions))
    spread = random.uniform(0.0, 1.2, (count, 1)) * random.standard_normal((count, dimensions))
    made = centres[random.integers(0, groups, count)] + spread
    found: Matrix = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return found


def stored(matrix: Matrix, first: int = 1) -> Stored:
    keys = np.arange(first, first + len(matrix), dtype=np.int64)
    return Stored(keys, keys + 1_000_000, matrix)


def signed_of(matrix: Matrix) -> Signed:
    signed = Signed(matrix[:1_000].mean(axis=0), len(matrix) + 10)
    signed.add(stored(matrix))
    return signed


def alike(matrix: Matrix, query: Vector, floor: float = FLOOR) -> set[int]:
    """Keys of what brute force finds."""
    return set((np.flatnonzero(matrix @ query >= floor) + 1).tolist())


@pytest.mark.parametrize("common", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("dimensions", [64, 384, 1536])
def test_what_is_nearly_the_same_is_found_and_little_else(dimensions: int, common: float) -> None:
    matrix = like(7, 3_000, 60, dimensions, common)
    signed = signed_of(matrix)
    wanted = found = looked_at = 0
    for query in matrix[:200]:
        near = set(signed.near(query, FLOOR, len(matrix)))
        wanted += len(alike(matrix, query))
        found += len(alike(matrix, query) & near)
        looked_at += len(near - alike(matrix, query, 0.5))
    assert wanted > 1_000
    assert found >= 0.999 * wanted
    assert looked_at <= 0.02 * 200 * len(matrix)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 300))
def test_the_same_vector_is_always_found_and_first_of_all(seed: int, count: int) -> None:
    matrix = like(seed, count, 3)
    signed, place = signed_of(matrix), seed % count
    halved = matrix[place].astype(np.float16).astype(np.float32)
    assert place + 1 in signed.near(halved, FLOOR, 5) or len(alike(matrix, matrix[place], 0.99)) > 5


def test_of_more_than_are_wanted_the_nearest_are_given() -> None:
    matrix = like(11, 4_000, 4)
    signed, short = signed_of(matrix), list[float]()
    for query in matrix[:100]:
        near = signed.near(query, FLOOR, 100)
        assert len(near) <= 100 < len(alike(matrix, query)) + 100
        cosines, given = matrix @ query, matrix[np.array(near) - 1] @ query
        short.append(float((np.sort(cosines)[::-1][:5] - np.sort(given)[::-1][:5]).max()))
    assert float(np.mean(short)) <= 0.01


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.lists(st.integers(1, 80), min_size=1, max_size=5))
def test_signatures_that_were_added_to_are_those_that_would_be_made_at_once(seed: int, sizes: list[int]) -> None:
    matrix = like(seed, sum(sizes), 5)
    whole, grown, first = signed_of(matrix), Signed(matrix[:1_000].mean(axis=0), len(matrix)), 1
    for size in sizes:
        grown.add(stored(matrix[: first - 1 + size]))  # what is there already is not added twice
        first += size
    assert grown.count == whole.count == len(matrix)
    assert not grown.fits(1)
    for query in matrix[:10]:
        assert sorted(grown.near(query, FLOOR, 10_000)) == sorted(whole.near(query, FLOOR, 10_000))


def test_what_is_struck_out_takes_no_place() -> None:
    matrix = np.repeat(like(3, 1, 1), 300, axis=0)
    signed = signed_of(matrix)
    cubes = list(range(1_000_001, 1_000_291))
    left = stored(matrix[:1])
    signed.strike_out(cubes, left)
    assert sorted(signed.near(matrix[0], FLOOR, 100)) == [1, *range(291, 301)]


@pytest.mark.parametrize("floor", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("at", ["the mean", "far from it"])
def test_a_question_at_the_mean_or_a_strange_floor_breaks_nothing(floor: float, at: str) -> None:
    matrix = np.repeat(like(5, 1, 1), 3, axis=0)
    query = matrix[0] if at == "the mean" else -matrix[0]
    near = signed_of(matrix).near(query, floor, 10)
    assert set(near) >= alike(matrix, query, floor + 1e-3)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "FEW", 20)
    monkeypatch.setattr(signatures, "PAGE", 16)
    monkeypatch.setattr(signatures, "LATE", 8)


@pytest.fixture(params=["exact", "through the index"])
def ada(
    request: pytest.FixtureRequest, few: None, open_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> Person:
    """Somebody with 60 memories, of which signatures are held."""
    kernel = open_kernel()
    if request.param == "through the index":
        monkeypatch.setattr(kernel.api.parts.indexer, "index_from", 30)
    person = Person(kernel.api, "ada")
    for start in range(0, 60, 20):
        person.add(messages=[{"role": "user", "content": text(i)} for i in range(start, start + 20)])
    caught_up(kernel.api.parts)
    assert signed(person) is not None
    return person


def caught_up(parts: Parts) -> None:
    """Wait until vectors and indexes are up with the ledger."""
    parts.indexer.notice(1)
    parts.indexer.catch_up()


def text(number: int) -> str:
    return f"The garden of house {number} has gate {number * 7919 % 1000} and a well {number * 31 % 97} deep"


def where(person: Person) -> Ground | Signed:
    parts = person.api.parts
    with parts.ledger.read() as connection:
        return parts.search.like(connection, Scope((1,), parts.stamp()))


def signed(person: Person) -> Signed | None:
    """What is held of the signatures, once it is made."""
    held = person.api.parts.cache.signatures

    def there() -> Signed | None:
        found = where(person)
        return found if isinstance(found, Signed) else None

    for _ in range(3):  # what is being made may have been begun before the last additions
        if found := there():
            return found
        assert eventually(lambda: not held.making)
    return there()


def similar(person: Person, content: str) -> list[str]:
    return [one["id"] for one in person.add(content)["similar"] or []]


def test_an_addition_is_told_what_is_like_it(ada: Person) -> None:
    twin = ada.ids(text(13))[0]
    assert similar(ada, f"{text(13)}!")[0] == twin


def test_what_was_added_a_moment_ago_is_found(ada: Person) -> None:
    written = ada.keep("Olga mends clocks in a shop by the harbour")
    assert similar(ada, "Olga mends clocks in a shop by the harbour!") == [written]


def test_many_that_were_added_behind_its_back_are_found(ada: Person) -> None:
    written = [ada.keep(f"Clock {i} of the tower strikes {i * 7 % 12}") for i in range(12)]
    ada.add(messages=[{"role": "user", "content": text(i)} for i in range(100, 130)])
    caught_up(ada.api.parts)
    assert signed(ada) is not None
    assert written[3] in similar(ada, "Clock 3 of the tower strikes 9.")
    assert ada.ids(text(117))[0] in similar(ada, f"{text(117)}!")


def test_a_changed_memory_is_found_by_what_it_says_now_alone(ada: Person) -> None:
    written = ada.keep("Olga mends clocks in a shop by the harbour")
    assert signed(ada) is not None
    ada.update(written, content="Viktor paints a red boat every summer")
    assert similar(ada, "Viktor paints a red boat every summer!") == [written]
    assert written not in similar(ada, "Olga mends clocks in a shop by the harbour!")


def test_memories_that_are_over_do_not_hide_one_that_stands(ada: Person) -> None:
    standing = ada.keep("Viktor paints the old red boat every summer, with Olga")
    twins = [ada.keep(f"Viktor paints the old red boat every summer {i}") for i in range(40)]
    assert signed(ada) is not None
    forgotten = ada.forget(*twins)["op"]
    assert similar(ada, "Viktor paints the old red boat every summer") == [standing]
    ada.undo(forgotten)
    assert twins[7] in similar(ada, "Viktor paints the old red boat every summer 7!")


def test_a_memory_moved_to_another_space_is_not_like_those_it_left(ada: Person) -> None:
    written = ada.keep("Olga mends clocks in a shop by the harbour")
    assert signed(ada) is not None
    ada.relocate("work", written)
    assert similar(ada, "Olga mends clocks in a shop by the harbour!") == []


def test_a_purge_leaves_no_signatures(ada: Person) -> None:
    written = ada.keep("Olga mends clocks in a shop by the harbour")
    assert signed(ada) is not None
    ada.forget(written, mode="purge")
    assert not ada.api.parts.cache.signatures._held
    assert similar(ada, "Olga mends clocks in a shop by the harbour!") == []
    assert signed(ada) is not None


def test_a_space_that_outgrows_its_signatures_gets_new_ones(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "SPARE", 10)
    ada.api.parts.cache.signatures.clear()
    assert signed(ada) is not None
    for i in range(200, 230):
        ada.keep(text(i))
        assert ada.ids(text(i))[0] in similar(ada, f"{text(i)}!")
    held = signed(ada)
    assert held is not None
    assert held.count >= 60 + 2 * 30


def test_a_space_with_too_many_memories_has_none(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    held = ada.api.parts.cache.signatures
    held.clear()
    monkeypatch.setattr(signatures, "MOST", 30)
    assert isinstance(where(ada), Ground)
    assert eventually(lambda: not held.making)
    assert isinstance(where(ada), Ground)
    assert not held.making, "it is not tried for every addition"
    assert ada.ids(text(13))[0] in similar(ada, f"{text(13)}!")


def test_after_many_changes_they_are_made_anew(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MANY", 5)
    ada.forget(*[ada.ids(text(i))[0] for i in range(10)])
    assert isinstance(where(ada), Ground)
    held = signed(ada)
    assert held is not None
    assert held.count == 50


def test_the_least_recently_used_go_when_there_are_too_many(
    few: None, open_kernel: Callable[..., Kernel], maker: ThreadPoolExecutor
) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    for name in ("one", "two", "three"):
        ada.at(name).add(messages=[{"role": "user", "content": text(i)} for i in range(30)])
    caught_up(kernel.api.parts)
    number, dimensions = kernel.api.parts.embedder.number()
    with kernel.ledger.read() as connection:
        spaces = sorted(vectors.count_by_space(connection, number))[-3:]
    held = Signatures(kernel.ledger, maker, limit_bytes=2 << 20)
    for space in spaces:
        held.make((space, number, dimensions))
    assert eventually(lambda: not held.making)
    assert [asked[0] for asked in held._held] == spaces[1:]


@pytest.fixture
def maker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def test_a_page_of_vectors_is_the_beginning_of_all(ada: Person) -> None:
    parts = ada.api.parts
    number, dimensions = parts.embedder.number()
    with parts.ledger.read() as connection:
        whole = vectors.of_spaces(connection, number, [1], dimensions)
        page = vectors.of_spaces(connection, number, [1], dimensions, after=int(whole.keys[2]), limit=9)
        nothing = vectors.of_spaces(connection, number, [1], dimensions, after=int(whole.keys[-1]), limit=9)
    assert page.keys.tolist() == whole.keys[3:12].tolist()
    assert page.cubes.tolist() == whole.cubes[3:12].tolist()
    assert np.array_equal(page.matrix, whole.matrix[3:12])
    assert nothing.matrix.shape == (0, dimensions)
