"""Checks every part of a store and says in a sentence how each is, and what to do where it is not well.

Knows no terminal. It mends nothing itself: what a check opens repairs what every start repairs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sqlalchemy import Connection

from memos_mcp.errors import EmbedderMismatch, MemosError, StorageFailed, StoreOwned, StoreTooNew
from memos_mcp.kernel import Kernel, make_embedder
from memos_mcp.layout import DirectoryLock, Layout
from memos_mcp.ledger import dialect, migrations, vectors
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.memory_api.forget import REBUILD
from memos_mcp.plaintext.analysis import indexed_text
from memos_mcp.plaintext.embedding import PIN
from memos_mcp.ports import Embedder, IndexBroken
from memos_mcp.settings import CONFIG_FILE, DECLARED, KEYS_FILE, SECRET_KEYS, Settings, read_config
from memos_mcp.vault import Vault
from memos_mcp.version import VERSION

Status = Literal["ok", "warn", "fail"]
Make = Callable[[str], Embedder]
SPACE_NEEDED, SPACE_WANTED = 50 << 20, 500 << 20
"""Bytes of free disk below which writing will soon fail, and below which rebuilding an index may."""
OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Check:
    """How one part is: `said` in a sentence, `next` what to do about it where there is something to do."""

    name: str
    status: Status
    said: str
    next: str | None = None


def doctor(settings: Settings, *, unread: MemosError | None = None, make: Make | None = None) -> list[Check]:
    """Check every part, in the order in which they rest on each other; a part that cannot be looked at says so.

    `unread`: why the settings could not be resolved, when `settings` are defaults in their place. `make` gives an
    embedder by its name. Takes as long as SQLite's integrity check of the ledger, and embeds one word.
    """
    layout = Layout(settings.home)
    make = make or (lambda name: make_embedder(name, settings.home))
    return [
        _program(),
        *_configuration(settings, unread),
        *_directory(layout),
        *(_store(settings, layout, make) if os.path.isdir(layout.home) else ()),
        _logs(layout),
    ]


def _program() -> Check:
    said = f"memos-mcp {VERSION} on Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}."
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("program", "fail", said, "Install Python 3.11 or newer, and memos-mcp into it.")
    return Check("program", "ok", said)


def _configuration(settings: Settings, unread: MemosError | None) -> Iterator[Check]:
    if unread is not None:
        advice = "Mend what it names; until then nothing starts, and the settings below are the defaults."
        yield Check("settings", "fail", str(unread), advice)
    for declared in DECLARED:
        name = f"setting {declared.name}"
        value, source = settings.value(declared.name), settings.sources.get(declared.name, "default")
        said = f"{'none' if value is None else value} ({source})."
        wish = settings.wishes.get(declared.name)
        if wish is not None:
            how = f"embedder {wish}" if declared.name == "embedder" else f"config {declared.name} {wish}"
            said += f" {declared.variable} asks for {wish!r}, which is not applied: the store keeps its own."
            yield Check(name, "warn", said, f"Run `memos-mcp {how}` to change it, or unset {declared.variable}.")
        elif declared.name in ("model", "base_model") and value is not None and not os.path.exists(str(value)):
            yield Check(name, "warn", f"{said} There is no such file.", f"Run `memos-mcp config {declared.name} PATH`.")
        else:
            yield Check(name, "ok", said)
    if unread is None and os.path.isdir(settings.home):
        yield from _config_files(settings.home)


def _config_files(home: Path) -> Iterator[Check]:
    known = {declared.name for declared in DECLARED} - {"home"}
    try:
        unknown = sorted(set(read_config(home)) - known)
        secrets = read_config(home, KEYS_FILE)
    except MemosError as error:
        yield Check(KEYS_FILE, "fail", str(error), f"Mend or remove {home / KEYS_FILE}.")
        return
    if unknown:
        said = f"It holds keys that are no settings: {', '.join(unknown)}."
        yield Check(CONFIG_FILE, "warn", said, f"Remove them from {home / CONFIG_FILE}; `memos-mcp config` lists all.")
    held = [name for name in SECRET_KEYS if name in secrets]
    if held and _open_to_others(home / KEYS_FILE):
        yield Check(KEYS_FILE, "warn", "Others can read the keys in it.", f"Run `chmod 600 {home / KEYS_FILE}`.")
    elif held:
        yield Check(KEYS_FILE, "ok", f"Holds {', '.join(held)}, readable by you alone.")


def _directory(layout: Layout) -> Iterator[Check]:
    home = layout.home
    status: Status
    if not os.path.lexists(home):
        above = next(folder for folder in home.parents if folder.exists())
        status = "warn" if os.access(above, os.W_OK | os.X_OK) else "fail"
        advice = "It is made by the first memory; if you have memories elsewhere, set MEMOS_HOME to their folder."
        refused = f"{above} cannot be written: set MEMOS_HOME to a folder that you may write to."
        yield Check("data directory", status, f"{home} is not there.", advice if status == "warn" else refused)
        return
    if not os.path.isdir(home):
        yield Check("data directory", "fail", f"{home} is not a folder.", "Set MEMOS_HOME to a folder.")
        return
    if not os.access(home, os.R_OK | os.X_OK):
        yield Check("data directory", "fail", f"{home} cannot be read.", "Give yourself read and write permission.")
        return
    if not os.access(home, os.W_OK):
        said = f"{home} is read-only: memories can be read, not added."
        yield Check("data directory", "fail", said, "Give yourself write permission to the folder and its files.")
    elif _open_to_others(home):
        yield Check("data directory", "warn", f"{home} can be entered by other users.", f"Run `chmod 700 {home}`.")
    else:
        yield Check("data directory", "ok", f"{home} is there, writable, and yours alone.")
    free = shutil.disk_usage(home).free
    said = f"{free / (1 << 30):,.1f} GB free."
    status = "fail" if free < SPACE_NEEDED else "warn" if free < SPACE_WANTED else "ok"
    yield Check("disk space", status, said, None if status == "ok" else "Free some space on that disk.")


def _open_to_others(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def _logs(layout: Layout) -> Check:
    folder = layout.logs
    if not os.path.lexists(folder):
        return Check("log folder", "ok", "None yet: it is made when a host is served.")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return Check("log folder", "warn", f"{folder} cannot be written.", "Make it a folder that you may write to.")
    return Check("log folder", "ok", f"{folder}: ids and errors, never a memory's text.")


def _store(settings: Settings, layout: Layout, make: Make) -> Iterator[Check]:
    if not os.path.lexists(layout.ledger):
        if os.path.isdir(layout.index) or os.path.isdir(layout.backups):
            advice = f"Restore {layout.ledger.name} from a backup into {layout.home}."
            yield Check("ledger", "fail", "The ledger is gone, and what was derived from it is there.", advice)
        else:
            yield Check("ledger", "warn", "No memories yet.", "It is made by the first `memos-mcp add TEXT`.")
        return
    owner = _owner(layout)
    yield owner
    ledger = Ledger(dialect.open_engine(layout.ledger, read_only=True), layout.ledger, read_only=True)
    try:
        found = list(_ledger(ledger))
        yield from found
        if any(check.status == "fail" for check in found):
            yield Check("vectors", "warn", "Not looked at, for they rest on the ledger.", "Mend the ledger first.")
            return
        if found[-1].name == "schema":  # nothing more can be read before the schema is the newest
            return
        if owner.said == NOBODY:
            ledger.close()
            yield from _started(settings, make)
        else:
            yield from _looked_at(settings, ledger, layout, make)
    except StorageFailed as error:
        yield Check("ledger", "fail", str(error), "Restore a backup; what was checked before this is as it says.")
    finally:
        ledger.close()


NOBODY = "No other process uses the store."


def _owner(layout: Layout) -> Check:
    if not os.access(layout.home, os.W_OK):
        return Check("owner", "ok", "Not looked at: the store can only be read.")
    lock = DirectoryLock(layout.lock)
    try:
        lock.acquire()
    except StoreOwned as error:
        who = f"process {error.pid}" if error.pid else "another process"
        return Check("owner", "ok", f"In use by {who}; what follows was looked at without disturbing it.")
    except StorageFailed as error:
        return Check("owner", "fail", str(error), f"Give yourself write permission to {layout.lock}.")
    lock.release()
    return Check("owner", "ok", NOBODY)


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
    return Check("full text", "ok", f"Covers all {held:,} memories.")


def _started(settings: Settings, make: Make) -> Iterator[Check]:
    """The parts that a start brings up, looked at in a store opened for it."""
    try:
        kernel = Kernel.open(settings, embedder=make, lock_wait_s=0.0)
    except MemosError as error:
        yield Check("start", "fail", str(error), "Do what the sentence says, and run `memos-mcp doctor` again.")
        return
    try:
        yield _embedder(kernel.settings, kernel.api.parts.embedder.get)
        yield from _compared(kernel)
        yield from _erasing(kernel)
        with kernel.ledger.read() as connection:
            yield from _vectors(kernel.ledger, connection)
    finally:
        kernel.close()


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
        advice = "Words are still searched. Mend it, or run `memos-mcp embedder minilm` to go on with the built-in one."
        return Check("embedder", "fail", str(error), advice)
    length = float(np.linalg.norm(vector))
    if vector.shape != (embedder.dimensions,) or not abs(length - 1.0) < 0.01:
        said = f"{settings.embedder} answers with a vector of shape {vector.shape} and length {length:.3f}."
        return Check("embedder", "fail", said, "Choose another with `memos-mcp embedder NAME`.")
    said = f"{settings.embedder} ({embedder.identity}) answers with vectors of {embedder.dimensions} numbers."
    return Check("embedder", "ok", said)


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
    waiting = vectors.queue_length(connection)
    if waiting:
        said = f"{waiting:,} memories wait for their vectors and are found by their words meanwhile."
        yield Check("waiting", "warn", said, "They get them while the store is open; `memos-mcp reindex` is at once.")
    else:
        yield Check("waiting", "ok", "Every memory has its vector.")
    pinned = ledger.get(connection, PIN)
    for identity, count in vectors.count_by_embedder(connection).items():
        if identity != pinned:
            said = f"A change to the embedder {identity!r} was begun and left after {count:,} memories."
            advice = "Run `memos-mcp embedder NAME` to finish it, or with the present embedder's name to drop it."
            yield Check("embedder", "warn", said, advice)
