"""Builds the parts of a store once, owns their lifetimes, and takes them down in order.

The only place that names backends. Knows no protocol.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy.ma  # noqa: F401  np.unique imports it when it is first called, and two threads that do end in a recursion

from memos_mcp import heat_constants, model_names
from memos_mcp.activation.catalogue import Budgets
from memos_mcp.activation.composition import COMPOSITIONS
from memos_mcp.activation.engine import Engine, EngineSettings
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.activation.transcripts import Transcripts
from memos_mcp.backends.chroma import ChromaIndex
from memos_mcp.background import Awake, Background, Worker
from memos_mcp.beside import AtOnce
from memos_mcp.cube import instant
from memos_mcp.errors import InvalidInput, MemosError, RerankerUnavailable
from memos_mcp.extractor import Extractor
from memos_mcp.foreground import BETWEEN_S, Foreground, let_go_first
from memos_mcp.heat_constants import HeatConstants
from memos_mcp.jobs import Jobs
from memos_mcp.layout import Layout
from memos_mcp.ledger import operations
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.lifecycle.life import Life
from memos_mcp.lock import DirectoryLock
from memos_mcp.memory_api import forget
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.memory_api.parts import Parts
from memos_mcp.parametric.registry import Adapters
from memos_mcp.parametric.trainer import Limits, Trainer
from memos_mcp.parametric.trainings import Trainings, Wishes
from memos_mcp.plaintext.dense import Searcher
from memos_mcp.plaintext.embedding import CHOSEN, EmbedderSlot
from memos_mcp.plaintext.indexed import indexed_text
from memos_mcp.plaintext.indexer import Indexer
from memos_mcp.plaintext.reranker import RerankerSlot
from memos_mcp.plaintext.rewriting import Rewriting
from memos_mcp.plaintext.search import Search
from memos_mcp.plaintext.signatures import Signatures
from memos_mcp.plaintext.space_cache import SpaceCache
from memos_mcp.plaintext.views import Views
from memos_mcp.policies import policy
from memos_mcp.policies.lifecycle import Context
from memos_mcp.ports import Embedder, LanguageModel, RemoteModel, Reranker, VectorIndex
from memos_mcp.scheduler import merging, schooling, tainting
from memos_mcp.scheduler.deliveries import Deliveries
from memos_mcp.scheduler.loop import Loop
from memos_mcp.scheduler.runner import Runner
from memos_mcp.scheduler.segmenter import Segmenter
from memos_mcp.scheduler.summaries import Summaries
from memos_mcp.scheduler.upkeep import Upkeep
from memos_mcp.scheduler.works import works
from memos_mcp.settings import CONFIG_FILE, PERCENT, Settings, pin_store_settings, secret, write_config
from memos_mcp.store import Events
from memos_mcp.usage import Usage
from memos_mcp.vault import Vault
from memos_mcp.weaver import Weaver
from memos_mcp.working.memory import WorkingMemory

log = logging.getLogger(__name__)

ANSWERS_DAYS = 1
"""Days for which the answer to a request is kept, should the request be sent again."""
BESIDE_THREADS = 8
"""Short additions at a time that write while they compare; a further one waits, with its vectors made."""
AHEAD_THREADS = 4
"""Questions at a time whose words are looked up while their vectors are made, or whose indexes are asked."""
LOCK_WAIT_S = 3.0
"""Seconds to wait for a former owner of the data directory that is about to end."""


def make_embedder(name: str, home: Path) -> Embedder:
    """The embedder of this name: minilm, sentence-transformers:NAME-OR-PATH or openai:MODEL@URL.

    Raises:
        InvalidInput: no such embedder. EmbedderUnavailable: it cannot be loaded or reached.
    """
    kind, rest = model_names.check_embedder(name)
    if kind == model_names.TRANSFORMERS:
        from memos_mcp.backends.sentence_transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder(rest)
    if kind == model_names.ENDPOINT:
        from memos_mcp.backends.openai import OpenAIEmbedder

        return OpenAIEmbedder(rest, secret(home, "openai_api_key"))
    from memos_mcp.backends.minilm import MiniLM

    return MiniLM()


def make_reranker(name: str) -> Reranker:
    """The reranker of this name: cross-encoder:NAME-OR-PATH.

    Raises:
        InvalidInput: no such reranker. RerankerUnavailable: it cannot be loaded.
    """
    model = model_names.check_reranker(name)
    if model is None:
        raise RerankerUnavailable("The store has no reranker: choose one with `memos-mcp config reranker NAME`.")
    from memos_mcp.backends.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(model)


def make_model(name: str, home: Path) -> LanguageModel:
    """The language model of this name: MODEL@URL, or the URL of an endpoint that has one.

    Raises:
        InvalidInput: it is not such a name.
    """
    from memos_mcp.backends.openai_chat import OpenAIChat

    return OpenAIChat(name, secret(home, "llm_api_key"))


def make_engine(settings: Settings) -> Engine | None:
    """The local model that the store is set to, not loaded yet; None if it is set to none."""
    if not settings.model or model_names.is_served(settings.model):
        return None
    from memos_mcp.backends.llama.engine import LlamaEngine

    layout = Layout(settings.home)
    return LlamaEngine(EngineSettings(Path(settings.model).expanduser()), layout.home, layout.logs)


def make_server(settings: Settings) -> RemoteModel | None:
    """The server whose model the store is set to ask, not reached yet; None if it is set to none."""
    if not settings.model or not model_names.is_served(settings.model):
        return None
    from memos_mcp.backends.openai_completions import Nowhere, OpenAICompletions

    try:
        return OpenAICompletions(settings.model, secret(settings.home, "model_api_key"))
    except InvalidInput as error:  # everything else works
        return Nowhere(settings.model, str(error))


def make_trainer(settings: Settings) -> Trainer:
    """What trains adapters, nothing of it loaded yet."""
    from memos_mcp.backends.lora.process import LoraTrainer

    return LoraTrainer(Layout(settings.home).logs / "training.log")


class Kernel:
    """One open store. Made by `Kernel.open`; `close` flushes and releases everything, and may be called twice."""

    def __init__(
        self,
        settings: Settings,
        lock: DirectoryLock | None,
        ledger: Ledger,
        api: MemoryAPI,
        index: VectorIndex,
        extractor: Extractor | None,
        engine: Engine | None = None,
        model: Callable[[str], LanguageModel] | None = None,
    ) -> None:
        self.settings, self.ledger, self.api, self.engine = settings, ledger, api, engine
        parts = api.parts
        self.extractor, self.segmenter = extractor, Segmenter(parts)
        self.loop = None if parts.life is None else Loop(parts, parts.life)
        self.upkeep = Upkeep(parts, settings.compress_after)
        self.summaries = _summaries(settings, parts, model)
        kinds = works(parts, self.upkeep, self.summaries)
        share = settings.background_share / 100
        self.runner = Runner(parts.jobs, parts.now, kinds, parts.quiet_s, parts.step_aside, share)
        self.deliveries = Deliveries(parts)
        self._background = Background(self._workers(), self._awake())
        self._held = _held(parts, lock, index, engine)

    def _workers(self) -> Sequence[Worker]:
        """Whatever works behind the calls of this store, in the order of beginning."""
        parts, lives = self.api.parts, self.loop is not None and self.settings.life == "on"
        # what models read; what writes uses down; what is derived of memories; what looks at changes and hands out jobs
        return (
            *([parts.activation] if parts.activation is not None else []),
            parts.usage, parts.indexer, parts.rewriting, parts.weaver, parts.working,
            self.upkeep, self.summaries, self.runner, self.segmenter,
            *([self.loop] if self.loop is not None and lives else []),
            self.deliveries,
            *([self.extractor] if self.extractor is not None else []),
        )  # fmt: skip

    def _awake(self) -> Sequence[Awake]:
        """Those of them that keep an idle kernel from ending; what the others leave is done after the next start."""
        parts = self.api.parts
        return (
            parts.indexer, parts.weaver, self.runner, self.segmenter, self.deliveries,
            *([self.extractor] if self.extractor is not None else []),
            *([parts.activation] if parts.activation is not None else []),
        )  # fmt: skip

    @staticmethod
    def open(
        settings: Settings,
        *,
        embedder: Callable[[str], Embedder] | None = None,
        reranker: Callable[[str], Reranker] = make_reranker,
        index: VectorIndex | None = None,
        model: Callable[[str], LanguageModel] | None = None,
        engine: Callable[[Settings], Engine | None] = make_engine,
        server: Callable[[Settings], RemoteModel | None] = make_server,
        trainer: Callable[[Settings], Trainer] = make_trainer,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        lock_wait_s: float = LOCK_WAIT_S,
        lock: DirectoryLock | None = None,
        owner: str = "command",
        background: bool = True,
    ) -> Kernel:
        """Own the data directory, open its ledger, and begin to load and mend the rest behind.

        `lock`: held already by this process, and released by it; without one, `owner` says what others are told of
        this process while it holds the directory. Without `background` a call does all of its work in its own thread
        and nothing follows it, but that what is to be held in memory of a large space is made behind it: whoever opens
        the store has each worker catch up when its own clock says so.

        Raises:
            InvalidInput: the store's policy is none. StoreOwned: another process owns it.
            StoreTooNew: a newer version wrote it.
            StorageFailed: it cannot be made, read or written. A directory that can only be read is opened for reading.
        """
        stated = policy.parse(settings.policy, "store")
        layout = Layout(settings.home)
        layout.create()
        read_only = layout.ledger.exists() and not os.access(settings.home, os.W_OK)
        own_lock = None if read_only or lock is not None else DirectoryLock(layout.lock)
        if own_lock is not None:
            own_lock.acquire(lock_wait_s, owner)
        ledger: Ledger | None = None
        try:
            if not layout.ledger.exists():
                pin_store_settings(settings)
            ledger = Ledger.open(layout.ledger, layout.backups, now(), read_only=read_only)
            settings = keep_chosen_embedder(ledger, settings)
            if not read_only:
                layout.record_program()
        except (MemosError, OSError):
            if ledger is not None:
                ledger.close()
            if own_lock is not None:
                own_lock.release()
            raise
        make = embedder or (lambda name: make_embedder(name, settings.home))
        index = index if index is not None else ChromaIndex(layout.index)
        slots = EmbedderSlot(ledger, settings.embedder, make), RerankerSlot(settings.reranker, reranker)
        local = engine(settings)
        constants = heat_constants.read(settings.heat)
        parts = _with_activation(
            _parts(ledger, *slots, index, settings.index_from, now, constants, background), settings, local,
            server(settings),
        )
        parts = replace(
            parts, extraction=settings.extraction, supersede=settings.supersede == "on",
            merge_from=settings.merge_from / PERCENT or None,
        )  # fmt: skip
        parts = replace(parts, adapters=_adapters(parts, settings))
        make_llm = model or (lambda name: make_model(name, settings.home))
        parts = replace(
            parts, life=_life(parts, settings, stated),
            training=_trainings(parts, settings, trainer(settings), make_llm),
        )  # fmt: skip
        extractor = _extractor(settings, parts, make_llm)
        kernel = Kernel(settings, own_lock, ledger, MemoryAPI(parts), index, extractor, local, make_llm)
        try:
            kernel._start(background)
        except (MemosError, OSError):
            kernel.close()
            raise
        return kernel

    def _start(self, background: bool) -> None:
        parts = self.api.parts
        parts.embedder.load_in_background()
        if self.ledger.read_only:
            return
        parts.jobs.watch(parts.events.publish_job)
        with self.ledger.write() as connection:
            operations.forget_answers(connection, instant(parts.now() - timedelta(days=ANSWERS_DAYS)))
        forget.clean_left(parts)
        merging.queue(parts)
        if parts.adapters is not None:
            parts.adapters.open()
        if parts.training is not None:
            parts.training.start()
        if background:
            self._background.start()
        if parts.training is not None:
            tainting.start(parts, parts.training)
            schooling.queue(parts)
        if parts.transcripts is not None:
            parts.transcripts.open()

    @property
    def busy(self) -> bool:
        """Whether background work is being done, or about to be; what only waits for a retry is not."""
        return not self.ledger.read_only and self._background.busy

    def close(self) -> None:
        """Write what is noted, end the background work after its batch, and give the data directory up.

        What fails to end keeps nothing else from it; its error is raised once the rest is done.
        """
        with self._held:
            if self.api.parts.training is not None:
                self.api.parts.training.stop()  # else the runner would wait for a long step's end
            self._background.stop()


@contextmanager
def opened(settings: Settings) -> Iterator[Kernel]:
    """A kernel for the length of a block."""
    kernel = Kernel.open(settings)
    try:
        yield kernel
    finally:
        kernel.close()


def keep_chosen_embedder(ledger: Ledger, settings: Settings) -> Settings:
    """Bring config.toml to the embedder that the ledger was changed to, if that is still to be done."""
    with ledger.read() as connection:
        name = ledger.get(connection, CHOSEN)
    if name is None:
        return settings
    if not ledger.read_only:
        try:
            write_config(settings.home, "embedder", name)
            with ledger.write() as connection:
                ledger.put(connection, CHOSEN, None)
        except MemosError as error:
            log.warning("config.toml does not name the embedder yet: %s", error)
    wishes = {key: wish for key, wish in settings.wishes.items() if (key, wish) != ("embedder", name)}
    return replace(settings, embedder=name, sources={**settings.sources, "embedder": CONFIG_FILE}, wishes=wishes)


def _held(parts: Parts, lock: DirectoryLock | None, index: VectorIndex, engine: Engine | None) -> ExitStack:
    """What a store holds beside its background, let go from the last to the first: the data directory at the end."""
    held = ExitStack()
    if lock is not None:
        held.callback(lock.release)
    held.callback(parts.ledger.close)
    if parts.adapters is not None:
        held.callback(parts.adapters.flush)
    held.callback(index.close)
    if parts.server is not None:
        held.callback(parts.server.close)
    if engine is not None:
        held.callback(engine.close)
    held.callback(parts.reranker.close)
    held.callback(parts.ahead.shutdown)
    held.callback(parts.beside.shutdown)
    held.callback(parts.maker.shutdown)
    held.callback(parts.views.close)
    held.callback(parts.cache.signatures.close)
    return held


def _extractor(settings: Settings, parts: Parts, model: Callable[[str], LanguageModel]) -> Extractor | None:
    """What draws statements out of dialogue in the way that the store is set to; None for not at all."""
    mode, name = settings.extraction, settings.llm
    if mode == "off":
        return None
    return Extractor(parts, (lambda: model(name)) if mode == "model" and name else None)


def _life(parts: Parts, settings: Settings, stated: policy.Policy) -> Life:
    """The thresholds by which memories live, with what judges and moves them."""
    context = Context(archive_days=settings.archive_days, constants=parts.usage.constants, sure=parts.merge_from)
    enabled = settings.life == "on"
    return Life(parts.ledger, parts.vault, parts.now, parts.activation, context, stated, enabled)


def _summaries(settings: Settings, parts: Parts, model: Callable[[str], LanguageModel] | None) -> Summaries:
    name = settings.llm
    return Summaries(parts, settings.summarising, (lambda: model(name)) if model is not None and name else None)


def _adapters(parts: Parts, settings: Settings) -> Adapters | None:
    """The adapters of the store; None where nothing can be written."""
    if parts.ledger.read_only:
        return None
    base = Path(settings.base_model).expanduser() if settings.base_model else None
    local = settings.model and not model_names.is_served(settings.model)
    model = Path(settings.model or "").expanduser() if local else None
    made = Adapters(parts.ledger, parts.vault, Layout(settings.home).adapters, parts.now, base, model)
    if parts.activation is not None:
        made.unmount = parts.activation.unmount
    return made


def _trainings(
    parts: Parts, settings: Settings, trainer: Trainer, model: Callable[[str], LanguageModel]
) -> Trainings | None:
    if parts.adapters is None:
        return None
    base = Path(settings.base_model).expanduser() if settings.base_model else None
    limits = Limits(settings.training_minutes * 60 or None, settings.training_ram_mb or None)
    wishes = Wishes(base, settings.consent, settings.retrains, limits)
    made, name = Trainings(parts.ledger, trainer, parts.adapters, wishes), settings.llm
    made.llm = (lambda: model(name)) if name else None
    return made


def _with_activation(parts: Parts, settings: Settings, engine: Engine | None, server: RemoteModel | None) -> Parts:
    """The parts with what a local model remembers, else with conversations as text; with neither where nothing can be
    written."""
    if parts.ledger.read_only:
        return parts
    folder = Layout(settings.home).states
    if engine is None:
        return replace(parts, server=server, transcripts=Transcripts(parts.ledger, folder, parts.now))
    budgets = Budgets(settings.states_ram_mb << 20, settings.states_disk_mb << 20)
    activation = ActivationMemory(
        parts.ledger, parts.vault, parts.jobs, engine, folder, budgets, parts.now, COMPOSITIONS[settings.composition],
        parts.usage.constants,
    )  # fmt: skip
    parts.working.bring = activation.bring_ahead
    return replace(parts, activation=activation)


def _parts(
    ledger: Ledger,
    slot: EmbedderSlot,
    reranker: RerankerSlot,
    index: VectorIndex,
    index_from: int,
    now: Callable[[], datetime],
    constants: HeatConstants,
    background: bool,
) -> Parts:
    vault = Vault(indexed_text)
    between_s = BETWEEN_S if background else 0.0
    asking, adding = Foreground(between_s), Foreground(between_s)
    step_aside = partial(let_go_first, (adding, asking))
    # one after the other: beside each other both would take longer than together
    maker = ThreadPoolExecutor(1, thread_name_prefix="maker")
    cache, views = SpaceCache(Signatures(ledger, maker, step_aside)), Views(ledger, maker, step_aside)
    indexer = Indexer(ledger, vault, index, slot.get, slot.number, cache, asking, index_from)
    ahead: Executor = ThreadPoolExecutor(AHEAD_THREADS, thread_name_prefix="ahead") if background else AtOnce()
    beside: Executor = ThreadPoolExecutor(BESIDE_THREADS, thread_name_prefix="beside") if background else AtOnce()
    search = Search(Searcher(index, slot.number, indexer.broken, cache), views, ahead)
    return Parts(
        ledger,
        vault,
        search,
        slot,
        reranker,
        indexer,
        Weaver(ledger, vault, step_aside),
        cache,
        views,
        Rewriting(ledger, vault, views, asking),
        foreground=Foreground(),
        adding=adding,
        asking=asking,
        beside=beside,
        ahead=ahead,
        maker=maker,
        events=Events(),
        usage=Usage(ledger, vault, constants, step_aside=step_aside),
        jobs=Jobs(ledger, now),
        working=WorkingMemory(ledger, vault, search, slot, (asking, adding), now),
        now=now,
    )
