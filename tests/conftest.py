"""A store with fakes for model and index, a clock to set, and its owner: opened for a test and closed after it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from fakes import FakeEmbedder, FakeIndex
from kernels import Hosts, short_folder
from person import Clock, Person, settings_for
from sqlalchemy import Engine
from sqlalchemy.engine import Dialect

from memos_mcp import extractor, weaver
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import dialect
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.scheduler import segmenter


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector is not to look at it again, as in the kernel."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def hurried() -> Iterator[None]:
    """What lets a conversation settle before it is looked at begins at once: no test has to wait for that."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (segmenter, weaver):
            patch.setattr(module, "QUIET_S", 0.0)
        patch.setattr(extractor, "GATHER_S", 0.05)
        yield


@pytest.fixture(scope="session", autouse=True)
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New ledgers begin as a copy of one that had its migrations; those are looked at in test_ledger."""
    folder, opened = tmp_path_factory.mktemp("migrated"), Ledger.open
    opened(folder / "ledger.db", folder / "backups", datetime.now(UTC)).close()
    made = (folder / "ledger.db").read_bytes()

    def open_copy(path: Path, *given: Any, **named: Any) -> Ledger:
        if not path.exists():
            path.write_bytes(made)
        return opened(path, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "open", open_copy)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled() -> Iterator[None]:
    """Statements are compiled once for all the ledgers that are opened, which is a quarter of what most tests cost."""
    made, statements, create_engine = list[Dialect](), dict[Any, Any](), dialect.create_engine

    def create_sharing(*given: Any, **named: Any) -> Engine:
        engine = create_engine(*given, **named, execution_options={"compiled_cache": statements})
        made.append(engine.dialect)
        engine.dialect = made[0]  # what is compiled is kept by dialect
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "create_engine", create_sharing)
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def open_kernel(home: Path, clock: Clock, embedder: FakeEmbedder) -> Iterator[Callable[..., Kernel]]:
    """Opens the store of `home`, as often as a test wants; what is still open is closed at the end."""
    opened: list[Kernel] = []

    def open_it(**given: Any) -> Kernel:
        made = {"embedder": lambda _: embedder, "now": clock, "index": FakeIndex(), "lock_wait_s": 0.0} | given
        kernel = Kernel.open(settings_for(home), **made)
        opened.append(kernel)
        kernel.api.parts.embedder.get(10.0)
        return kernel

    yield open_it
    for kernel in opened:
        kernel.close()


@pytest.fixture
def engine() -> FakeEngine:
    """A local model, for tests whose kernel has one."""
    return FakeEngine(cells=100_000)


@pytest.fixture
def kernel(open_kernel: Callable[..., Kernel]) -> Kernel:
    return open_kernel()


@pytest.fixture
def api(kernel: Kernel) -> MemoryAPI:
    return kernel.api


@pytest.fixture
def caller(ada: Person) -> Caller:
    return ada.caller


@pytest.fixture
def ada(api: MemoryAPI) -> Person:
    """The store's first user, owner of the space personal."""
    return Person(api, "ada")


@pytest.fixture
def bob(api: MemoryAPI) -> Person:
    """Somebody else."""
    return Person(api, "bob")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket, that other users may enter."""
    with short_folder() as made:
        yield made


@pytest.fixture
def hosts(folder: Path) -> Iterator[Hosts]:
    """The hosts of a data directory that is not there yet."""
    with Hosts(folder / "home") as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Hosts]:
    """Hosts whose kernel runs, for tests that leave it as it is."""
    with short_folder() as made, Hosts(made / "home") as hosts:
        hosts.bridge().keep("The shared kernel has a memory")
        yield hosts
