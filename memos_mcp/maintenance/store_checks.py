"""Checks of the store itself: what an open one says of its parts, and what its files say of one that is not open.

Knows no terminal, and nothing of who has the store open. It mends nothing itself: what a check opens repairs what every
start repairs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import Connection

from memos_mcp import settings as settings_of
from memos_mcp.activation.blocks import NOT_SHIFTED
from memos_mcp.errors import EmbedderMismatch, MemosError, StorageFailed, StoreTooNew
from memos_mcp.kernel import Kernel, make_reranker
from memos_mcp.layout import Layout
from memos_mcp.ledger import dialect, migrations, vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.memory_api.forget import REBUILD
from memos_mcp.model_names import NONE
from memos_mcp.plaintext.embedding import PIN
from memos_mcp.plaintext.indexed import indexed_text
from memos_mcp.ports import Embedder, IndexBroken, Reranker
from memos_mcp.results import memories
from memos_mcp.settings import CONFIG_FILE, DECLARED, Settings
from memos_mcp.vault import Vault
from memos_mcp.version import VERSION

Status = Literal["ok", "warn", "fail"]
Make = Callable[[str], Embedder]
OWNER = "doctor"
"""What others are told of this process while it has the store open: who wants to start a kernel waits for it."""


@dataclass(frozen=True)
class Check:
    """How one part is: `said` in a sentence, `next` what to do about it where there is something to do."""

    name: str
    status: Status
    said: str
    next: str | None = None


def of_running(kernel: Kernel) -> list[Check]:
    """The checks of a store that this process has open and serves."""
    found = list(_ledger(kernel.ledger))
    if any(check.status == "fail" for check in found):
        return [*found, NOT_LOOKED_AT]
    return [*found, *_changed_since(kernel), *_open_parts(kernel)]


def of_closed(settings: Settings, layout: Layout, make: Make, *, may_open: bool) -> Iterator[Check]:
    """The checks of a store that this process has not open: of its files, and of what a start brings up if it
    `may_open` the store, that is if nobody else has it open."""
    if not os.path.lexists(layout.ledger):
        if os.path.isdir(layout.index) or os.path.isdir(layout.backups):
            advice = f"Restore {layout.ledger.name} from a backup into {layout.home}."
            yield Check("ledger", "fail", "The ledger is gone, and what was derived from it is there.", advice)
        else:
            yield Check("ledger", "warn", "No memories yet.", "It is made by the first `memos-mcp add TEXT`.")
        return
    ledger = Ledger(dialect.open_engine(layout.ledger, read_only=True), layout.ledger, read_only=True)
    try:
        found = list(_ledger(ledger))
        yield from found
        if any(check.status == "fail" for check in found):
            yield NOT_LOOKED_AT
            return
        if found[-1].name == "schema":  # nothing more can be read before the schema is the newest
            return
        if may_open:
            ledger.close()
            yield from _started(settings, make)
        else:
            yield from _looked_at(settings, ledger, layout, make)
    except StorageFailed as error:
        yield Check("ledger", "fail", str(error), "Restore a backup; what was checked before this is as it says.")
    finally:
        ledger.close()


NOT_LOOKED_AT = Check("vectors", "warn", "Not looked at, for they rest on the ledger.", "Mend the ledger first.")


def _ledger(ledger: Ledger) -> Iterator[Check]:
    advice = f"Restore a backup; to begin anew, move {ledger.path} away."
    try:
        with ledger.read() as connection:
            yield (schema := _schema(connection))
            if schema.status == "fail" or schema.next is not None:
                return
            complaints = dialect.check(connection)
            if complaints:
                yield Check("integrity", "fail", f"SQLite finds the file damaged: {complaints[0]}", advice)
                return
            yield Check("integrity", "ok", "SQLite's own check finds the file sound.")
            yield _full_text(connection)
    except StorageFailed as error:
        yield Check("ledger", "fail", str(error), advice)


def _schema(connection: Connection) -> Check:
    done, writer = migrations.state(connection)
    known = len(migrations.MIGRATIONS)
    if done > known:
        error = StoreTooNew(done, known, writer, VERSION)
        return Check("schema", "fail", str(error), f"Install memos-mcp {writer} or newer.")
    if done < known:
        advice = "The next command that opens the store brings it up to date, after a backup."
        return Check("schema", "warn", f"The ledger has schema {done} of {known}.", advice)
    return Check("schema", "ok", f"The ledger has the newest schema ({done}), written by memos-mcp {writer}.")


def _full_text(connection: Connection) -> Check:
    held, covered = Vault(indexed_text).count(connection), dialect.full_text_size(connection)
    if held != covered:
        said = f"The ledger holds {held:,} memories and full text covers {covered:,}."
        return Check("full text", "fail", said, "Run `memos-mcp reindex`.")
    astray = dialect.full_text_astray(connection)
    if astray:
        said = f"{astray:,} memories have their words among those of live ones and are not, or the other way round."
        return Check("full text", "fail", said, "Run `memos-mcp reindex`.")
    return Check("full text", "ok", f"It covers all there is: {memories(held)}.")


def _started(settings: Settings, make: Make) -> Iterator[Check]:
    """The parts that a start brings up, looked at in a store opened for it."""
    try:
        kernel = Kernel.open(settings, embedder=make, lock_wait_s=0.0, owner=OWNER)
    except MemosError as error:
        yield Check("start", "fail", str(error), "Do what the sentence says, and run `memos-mcp doctor` again.")
        return
    try:
        yield from _open_parts(kernel)
    finally:
        kernel.close()


def _open_parts(kernel: Kernel) -> Iterator[Check]:
    """The parts beside the ledger of an open store."""
    yield _embedder(kernel.settings, kernel.api.parts.embedder.get)
    yield from _reranker(kernel.settings, lambda: kernel.api.parts.reranker.get(None))
    yield from _states(kernel)
    yield from _served(kernel)
    yield from _steering(kernel)
    yield from _adapters(kernel)
    yield from _compared(kernel)
    yield from _erasing(kernel)
    with kernel.ledger.read() as connection:
        yield from _vectors(kernel.ledger, connection)


def _changed_since(kernel: Kernel) -> Iterator[Check]:
    """Store settings that were changed after the start, and are taken at the next one."""
    try:
        now = settings_of.load({"home": str(kernel.settings.home)}, env={}, fresh=False)
    except MemosError:
        return  # the settings' own check says so
    for declared in DECLARED:
        was, is_now = kernel.settings.value(declared.name), now.value(declared.name)
        if declared.kind == "store" and was != is_now:
            said = f"The kernel runs with {declared.name} {was}, and {CONFIG_FILE} says {is_now}."
            advice = "It is taken at the next start: `memos-mcp stop` ends the kernel."
            yield Check(f"setting {declared.name}", "warn", said, advice)


def _looked_at(settings: Settings, ledger: Ledger, layout: Layout, make: Make) -> Iterator[Check]:
    """The same parts of a store that another process has open, or that can only be read."""
    with ledger.read() as connection:
        pinned = ledger.get(connection, PIN)

        def get() -> Embedder:
            embedder = make(settings.embedder)
            if pinned is not None and embedder.identity != pinned:
                raise EmbedderMismatch(pinned, settings.embedder)
            return embedder

        yield _embedder(settings, get)
        yield from _reranker(settings, lambda: make_reranker(settings.reranker))
        indexed = vectors.indexed_spaces(connection)
        names = os.listdir(layout.index) if os.path.isdir(layout.index) else []
        gone = set(map(str, indexed)) - {name.partition("-")[0] for name in names}
        said = f"{len(indexed)} noted in the ledger, {len(gone)} without a folder; compared when the store is opened."
        yield Check("index", "warn" if gone else "ok", said, "Start the owner again." if gone else None)
        yield from _vectors(ledger, connection)


def _embedder(settings: Settings, get: Callable[[], Embedder]) -> Check:
    try:
        embedder = get()
        vector = embedder.embed_query("doctor")
    except EmbedderMismatch as error:
        return Check("embedder", "fail", str(error), f"Run `memos-mcp embedder {settings.embedder}`.")
    except MemosError as error:
        way_out = "Mend it, or run `memos-mcp embedder minilm` to go on with the built-in one."
        advice = "Words are still searched meanwhile." if "`memos-mcp embedder minilm`" in str(error) else way_out
        return Check("embedder", "fail", str(error), advice)
    length = float(np.linalg.norm(vector))
    if vector.shape != (embedder.dimensions,) or not abs(length - 1.0) < 0.01:
        said = f"{settings.embedder} answers with a vector of shape {vector.shape} and length {length:.3f}."
        return Check("embedder", "fail", said, "Choose another with `memos-mcp embedder NAME`.")
    said = f"{settings.embedder} ({embedder.identity}) answers with vectors of {embedder.dimensions} numbers."
    return Check("embedder", "ok", said)


def _reranker(settings: Settings, get: Callable[[], Reranker]) -> Iterator[Check]:
    if settings.reranker == NONE:
        return
    try:
        reranker = get()
        (score,) = reranker.scores("who checks the store?", ["The doctor checks the store."])
    except MemosError as error:
        advice = "Searches go on without it. Mend it, or run `memos-mcp config reranker none`."
        yield Check("reranker", "warn", str(error), advice)
        return
    said = f"{settings.reranker} ({reranker.identity}) answers, and gave a pair the score {score:.2f}."
    yield Check("reranker", "ok", said)


def _states(kernel: Kernel) -> Iterator[Check]:
    """The local model, and what is kept of what it has read; nothing where the store has none."""
    activation = kernel.api.parts.activation
    if activation is None:
        return
    try:
        facts = activation.catalogue.ready()
    except MemosError as error:
        yield Check("local model", "fail", str(error), "Until then memory_ask and memory_promote say this too.")
    else:
        said = f"{facts.description} answers, with a context of {facts.cells:,} tokens on {facts.threads} threads."
        yield Check("local model", "ok", said)
        if not activation.composition.exact and not facts.can_shift:
            said = NOT_SHIFTED.format(name=activation.composition.name)
            yield Check("composition", "warn", said, "Answers are exact; the setting does nothing with this model.")
    figures, budgets = activation.catalogue.figures(), activation.catalogue.budgets
    said = (
        f"{figures['states']:,} known ({figures['conversations']:,} of conversations, {figures['resident']:,} in the "
        f"model's context): {figures['disk_bytes'] / 1e6:,.1f} of {budgets.disk / 1e6:,.0f} MB in files, "
        f"{figures['ram_bytes'] / 1e6:,.1f} of {budgets.ram / 1e6:,.0f} MB in memory."
    )
    if activation.catalogue.mended:
        said += f" {activation.catalogue.mended} that a crash had left were removed at this start."
    over = figures["disk_bytes"] > budgets.disk or figures["ram_bytes"] > budgets.ram
    advice = "The least warm go when the next one is kept; `memos-mcp config states_disk_mb N` gives more room."
    yield Check("states", "warn" if over else "ok", said, advice if over else None)


def _served(kernel: Kernel) -> Iterator[Check]:
    """The server that answers for the store; nothing where it has none."""
    server, transcripts = kernel.api.parts.server, kernel.api.parts.transcripts
    if server is None:
        return
    try:
        model = server.check()
    except MemosError as error:
        yield Check("model's server", "fail", str(error), "Until then memory_ask says this too.")
    else:
        window = server.window()
        room = f"reads {window:,} tokens" if window else "does not say how many tokens it reads"
        yield Check("model's server", "ok", f"{model} answers ({server.name}), and {room}.")
    if transcripts is not None and transcripts.count:
        yield Check("conversations", "ok", f"{transcripts.count:,} are kept as text, in files that only you may read.")


def _steering(kernel: Kernel) -> Iterator[Check]:
    """The steering vectors; nothing where there are none."""
    activation = kernel.api.parts.activation
    if activation is None:
        return
    count, damaged = activation.steering.damaged()
    if damaged:
        said = f"{len(damaged)} of {count} cannot be used: {damaged[0]}."
        yield Check("steering vectors", "warn", said, "Each is made anew from its memories when it is mounted next.")
    elif count:
        yield Check("steering vectors", "ok", f"{count} in files, each as it was written.")


def _adapters(kernel: Kernel) -> Iterator[Check]:
    """The adapters; nothing where there are none."""
    known = kernel.api.parts.adapters
    if known is None:
        return
    count, damaged = known.damaged()
    if damaged:
        said = f"{len(damaged)} of {count} cannot be mounted: {damaged[0]}."
        yield Check("adapters", "warn", said, "Train it anew, or import it again.")
    elif count:
        yield Check("adapters", "ok", f"{count} in files, each as it was written.")


def _compared(kernel: Kernel) -> Iterator[Check]:
    indexer = kernel.api.parts.indexer
    try:
        found = indexer.compare()
    except (MemosError, IndexBroken) as error:
        yield Check("index", "warn", f"Not compared with the ledger: {error}", "Mend the embedder first.")
        return
    if indexer.mended:
        said = f"{len(indexer.mended)} did not match the ledger at this start: built anew, and not used till then."
        yield Check("index", "warn", said, "Run `memos-mcp reindex` to build it at once.")
    for one in found:
        if not one.plausible:
            said = f"The index of space {one.space} holds {one.held} vectors and should hold {one.expected}."
            yield Check("index", "fail", said, "Run `memos-mcp reindex`.")
    if not indexer.mended and all(one.plausible for one in found):
        held = sum(one.expected for one in found)
        yield Check("index", "ok", f"Compared with the ledger: {len(found)} indexes with {held:,} vectors match it.")


def _erasing(kernel: Kernel) -> Iterator[Check]:
    left = kernel.api.parts.jobs.unfinished(REBUILD)
    if left:
        said = f"{len(left)} rebuild(s) that leave no purged vector in an index's files are not finished."
        yield Check("purge", "warn", said, "Run `memos-mcp reindex` to finish it at once.")


def _vectors(ledger: Ledger, connection: Connection) -> Iterator[Check]:
    inside, outside = vectors.astray(connection)
    if inside or outside:
        said = f"{len(inside):,} memories are in the main index and do not stand, {len(outside):,} stand and are not."
        yield Check("main index", "fail", said, "Run `memos-mcp reindex`.")
    else:
        yield Check("main index", "ok", "It holds vectors of what stands alone: not of what is archived or superseded.")
    waiting = vectors.queue_length(connection)
    if waiting:
        said = f"Without a vector as yet, and found by words alone: {memories(waiting)}."
        yield Check("waiting", "warn", said, "They get them while the store is open; `memos-mcp reindex` is at once.")
    else:
        yield Check("waiting", "ok", "Every memory has its vector.")
    pinned = ledger.get(connection, PIN)
    for identity, count in vectors.count_by_embedder(connection).items():
        if identity != pinned:
            said = f"A change to the embedder {identity!r} was begun and left after {count:,} memories."
            advice = "Run `memos-mcp embedder NAME` to finish it, or with the present embedder's name to drop it."
            yield Check("embedder", "warn", said, advice)
