"""A damaged or missing index is mended from the ledger: the same answers, and nothing embedded anew."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeEmbedder
from person import INDEX_FROM, Clock, Person, eventually, settings_for

from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.kernel import Kernel
from memos_mcp.plaintext.indexer import INDEX_TAIL

pytestmark = pytest.mark.slow

COUNT = INDEX_FROM + 150
QUESTIONS = [f"beacon {i} of the northern coast" for i in range(7, COUNT, 211)]


class Store:
    """A store with one large space, that can be opened again and asked."""

    def __init__(self, home: Path, embedder: FakeEmbedder) -> None:
        self.home, self.embedder = home, embedder
        self.open()

    def open(self) -> None:
        self.index = ChromaIndex(self.home / "index")
        self.kernel = Kernel.open(
            settings_for(self.home), embedder=lambda _: self.embedder, index=self.index, now=Clock(), lock_wait_s=0.0
        )
        self.ada = Person(self.kernel.api, "ada")

    def fill(self) -> None:
        for start in range(0, COUNT, 1_000):
            rows = range(start, min(start + 1_000, COUNT))
            self.ada.add(messages=[{"role": "user", "content": f"Beacon {i} of the northern coast"} for i in rows])
        assert self.kernel.api.parts.indexer.wait_embedded((1,), 120.0)

    def whole(self) -> bool:
        """Whether the index is complete again, in the background, before long."""
        return eventually(lambda: self.kernel.api.read.stats(self.ada.caller)["indexed_spaces"] == 1, 120.0)

    def holds(self, count: int) -> bool:
        """Whether the index comes to hold `count` vectors, less the tail that is searched without it."""
        return eventually(lambda: 0 <= count - (self.index.size(1) or 0) < INDEX_TAIL, 60.0)

    def answers(self) -> list[list[str]]:
        """The top hit of each question: an index built anew may differ in the order of those that are nearly alike."""
        return [self.ada.ids(question, top_k=1) for question in QUESTIONS]

    @property
    def folder(self) -> Path:
        [folder] = [path for path in (self.home / "index").iterdir() if path.is_dir()]
        return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """A closed store with an index, and its answers; tests work on copies of it."""
    home = tmp_path_factory.mktemp("original") / "home"
    store = Store(home, FakeEmbedder())
    store.fill()
    assert store.whole()
    answers = store.answers()
    assert all(answers)
    store.kernel.close()
    return home, answers


@pytest.fixture
def store(original: tuple[Path, list[list[str]]], home: Path) -> Callable[..., Store]:
    """Opens a copy of the original after `damage(home)` was done to it."""
    opened: list[Store] = []

    def open_it(damage: Callable[[Path], None] = lambda _: None) -> Store:
        shutil.copytree(original[0], home, copy_function=shutil.copy2)
        damage(home)
        opened.append(Store(home, FakeEmbedder()))
        return opened[0]

    yield open_it
    for one in opened:
        one.kernel.close()


def files_of(home: Path) -> list[Path]:
    return sorted(path for path in (home / "index").rglob("*") if path.is_file() and path.name != "stamps.json")


def noise(seed: int, *, crash: bool) -> Callable[[Path], None]:
    """Overwrites parts of one to three files of the index; after a crash there is no stamp of how it was left."""

    def damage(home: Path) -> None:
        chance = random.Random(seed)
        if crash:
            (home / "index" / "stamps.json").unlink()
        files = [path for path in files_of(home) if path.stat().st_size]
        for path in chance.sample(files, chance.randint(1, min(3, len(files)))):
            data = bytearray(path.read_bytes())
            for _ in range(chance.randint(1, 8)):
                start = chance.randrange(len(data))
                size = min(chance.choice([1, 64, 4_096, 100_000]), len(data) - start)
                data[start : start + size] = chance.randbytes(size)
            path.write_bytes(data)

    return damage


def assert_mended(store: Store, answers: list[list[str]], embedded: int = 0) -> None:
    assert store.answers() == answers, "at once, while it is mended"
    assert store.whole()
    assert store.holds(COUNT)
    assert store.answers() == answers, "after it was mended"
    assert store.embedder.calls == embedded


def test_an_index_left_in_order_serves_again_without_work(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]]
) -> None:
    opened = store()
    assert_mended(opened, original[1])
    assert opened.folder.name == next(p.name for p in (original[0] / "index").iterdir() if p.is_dir())
    assert opened.kernel.api.parts.indexer.mended == ()


def test_an_index_left_by_a_crash_is_tried_and_kept(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]]
) -> None:
    opened = store(lambda home: (home / "index" / "stamps.json").unlink())
    assert_mended(opened, original[1])
    assert opened.folder.name == next(p.name for p in (original[0] / "index").iterdir() if p.is_dir())


def test_a_deleted_index_is_built_anew(store: Callable[..., Store], original: tuple[Path, list[list[str]]]) -> None:
    assert_mended(store(lambda home: shutil.rmtree(home / "index")), original[1])


def test_an_index_deleted_while_it_is_open_is_built_anew(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]]
) -> None:
    opened = store()
    assert opened.whole()
    assert opened.answers() == original[1]
    shutil.rmtree(opened.home / "index")
    assert opened.answers() == original[1]
    added = [opened.ada.keep(f"Lantern {i} of the southern coast") for i in range(300)]
    assert opened.kernel.api.parts.indexer.wait_embedded((1,), 60.0)
    assert opened.ada.ids("lantern 299 of the southern coast", top_k=1) == [added[299]]
    opened.kernel.close()
    opened.open()
    assert opened.ada.ids("lantern 299 of the southern coast", top_k=1) == [added[299]]
    assert opened.answers() == original[1]
    assert opened.whole()
    assert opened.holds(COUNT + 300)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crash", [False, True], ids=["closed", "after a crash"])
def test_noise_in_the_files_is_found_out(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]], seed: int, crash: bool
) -> None:
    assert_mended(store(noise(seed, crash=crash)), original[1])


@pytest.mark.parametrize("which", range(5))
def test_a_file_of_nothing_but_noise_is_found_out(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]], which: int
) -> None:
    def damage(home: Path) -> None:
        (home / "index" / "stamps.json").unlink()
        files = files_of(home)
        path = files[which % len(files)]
        path.write_bytes(random.Random(which).randbytes(max(path.stat().st_size, 100)))

    assert_mended(store(damage), original[1])


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_files_cut_short_are_found_out(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]], keep: float
) -> None:
    def damage(home: Path) -> None:
        (home / "index" / "stamps.json").unlink()
        for path in files_of(home):
            with path.open("r+b") as file:
                file.truncate(int(path.stat().st_size * keep))

    assert_mended(store(damage), original[1])


def test_an_index_of_another_store_is_not_believed(
    store: Callable[..., Store], original: tuple[Path, list[list[str]]]
) -> None:
    def damage(home: Path) -> None:
        other = ChromaIndex(home / "index")
        other.verify()
        keys = list(range(1, 501))
        other.rebuild(1, iter([(keys, FakeEmbedder("other").embed([f"x {key}" for key in keys]))]))
        other.close()

    opened = store(damage)
    assert eventually(lambda: opened.kernel.api.parts.indexer.mended == (1,))
    assert_mended(opened, original[1])


def test_updates_and_purges_reach_the_index(store: Callable[..., Store], clock: Clock) -> None:
    opened = store()
    assert opened.whole()
    changed = opened.ada.ids("beacon 1000 of the northern coast", top_k=1)[0]
    opened.ada.update(changed, content="Whales migrate in spring")
    assert opened.ada.ids("whales migrate in spring", top_k=1) == [changed]
    gone = opened.ada.ids("beacon 1500 of the northern coast", top_k=1)[0]
    opened.ada.forget(gone, mode="purge")
    assert gone not in opened.ada.ids("beacon 1500 of the northern coast", top_k=50)
    assert opened.holds(COUNT - 1)
    assert changed in opened.ada.ids("whales migrate in spring", top_k=1)
