"""The adapters of a store: their files, whether they may be mounted, and what is mounted of them.

Knows neither who asks nor who may, and trains nothing. The ledger's rows are the truth; a folder without a row, or a
row whose files are not as they were written, is mended or reported, never used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from memos_mcp.activation.engine import Adapter, Mounts
from memos_mcp.activation.entries import Mount
from memos_mcp.cube import ADAPTER, Cube, instant
from memos_mcp.errors import Conflict, InvalidInput, StorageFailed
from memos_mcp.ledger import adapters as rows
from memos_mcp.ledger.adapters import AdapterRow, AdapterState
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.parametric import safetensors_file
from memos_mcp.parametric.adapter_folder import CONFIG, PICKLES, WEIGHTS, read_adapter
from memos_mcp.parametric.base_model import BaseModel
from memos_mcp.parametric.bases import Bases
from memos_mcp.parametric.fitting import Fit, Topics, fit
from memos_mcp.parametric.gguf_adapter import read_gguf_adapter
from memos_mcp.states import LIVE
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

GGUF, SAID = "adapter.gguf", "memos.json"
WORK, FRESH = "training", ".new-"
"""The folder for adapters in the making, and what names of folders begin with that are not whole yet."""
MOST_WEIGHT = 2.0
"""Beyond it an adapter drowns what the model reads; 1 is what was trained."""
MOST_BYTES = 4 << 30
"""Of one file of an adapter."""
CHUNK = 1 << 20
LOST = "its files are gone or damaged"
ONE_ALONE = (
    "Adapters that were trained apart ruin each other when they are mounted together: name one, or train one from the "
    "memories of both."
)
NEEDS_GGUF = "Adapters are converted with gguf, not installed here: pip install 'memos-mcp[parametric]'."


@dataclass(frozen=True)
class Prepared:
    """An adapter that was checked and converted, in a folder that belongs to no row yet."""

    folder: Path
    base: str
    sha256: str | None
    gguf_sha256: str
    bytes: int
    form: dict[str, Any]
    """rank, alpha, targets, and whether it was a peft folder or a GGUF file."""


class Adapters:
    """The adapters of a store. Safe to share between threads.

    `base` is the Hugging Face folder that adapters are trained on, `model` the GGUF file that they are mounted on.
    """

    def __init__(
        self, ledger: Ledger, vault: Vault, folder: Path, now: Callable[[], datetime], base: Path | None = None,
        model: Path | None = None,
    ) -> None:  # fmt: skip
        self._ledger, self._vault, self.folder, self._now = ledger, vault, folder, now
        self.bases = Bases(base, model)
        self.unmount: Callable[[Sequence[str]], None] = lambda digests: None
        """Has the model's process keep no copy of adapters, named by the digests of their files."""
        self._known: dict[int, AdapterRow] = {}
        self._mounted: dict[int, int] = {}
        self._topics = Topics(ledger, vault)
        self._sound: dict[int, tuple[str, int, int]] = {}
        self._lock = threading.RLock()

    def open(self) -> int:
        """Know what is there; returns how many rows and folders a crash had left alone, which are mended or removed."""
        with self._ledger.read() as connection:
            found = {row.cube: row for row in rows.listed(connection)}
            cubes = self._vault.by_seqs(connection, list(found))
        kept = {cubes[seq].id for seq, row in found.items() if row.gguf_sha256 is not None and seq in cubes}
        waiting = {cubes[seq].id for seq, row in found.items() if row.state == "candidate" and row.report is None}
        left = self._left(kept, waiting)
        for path in left:
            _remove(path)
        lost = [
            seq for seq, row in found.items()
            if row.gguf_sha256 is not None and row.tainted is None and not (self.path(cubes[seq].id) / GGUF).is_file()
        ]  # fmt: skip
        if lost:
            with self._ledger.write() as connection:
                rows.taint(connection, lost, LOST)
        with self._lock, self._ledger.read() as connection:
            self._known = {row.cube: row for row in rows.listed(connection)}
        return len(left) + len(lost)

    def _left(self, kept: set[str], waiting: set[str]) -> list[Path]:
        """Folders that belong to no adapter any more."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.name not in kept and path.name != WORK]
        work = self.folder / WORK
        return found + [path for path in (work.iterdir() if work.is_dir() else ()) if path.name not in waiting]

    def path(self, cube: str) -> Path:
        """The folder of an adapter's files, by its cube's id."""
        return self.folder / cube

    def workplace(self, cube: str) -> Path:
        """The folder in which an adapter is trained; it goes when the adapter is finished, retired or purged."""
        return self.folder / WORK / cube

    def row(self, seq: int) -> AdapterRow | None:
        """What is known of the adapter of a cube."""
        with self._lock:
            return self._known.get(seq)

    def rows(self) -> list[AdapterRow]:
        """Every adapter, oldest first."""
        with self._lock:
            return sorted(self._known.values(), key=lambda row: row.cube)

    def refresh(self, seqs: Sequence[int]) -> None:
        """Know these adapters as their rows are now: for who has written rows of its own in a finished transaction."""
        with self._lock, self._ledger.read() as connection:
            fresh = {row.cube: row for row in rows.listed(connection, seqs)}
            for seq in seqs:
                self._known.pop(seq, None)
            self._known |= fresh

    # Coming.

    def finish(self, cube: Cube, peft_folder: Path, report: dict[str, Any], state: AdapterState) -> AdapterRow:
        """Take in what was trained for this cube, whose row is there already: checked, converted, moved into place.

        `peft_folder` stays as it is. `report` is kept, without a memory's text, with what the adapter is.

        Raises:
            InvalidInput: what was trained is damaged or does not fit the base. Conflict: a memory that it was trained
                on was changed meanwhile, it was taken away, or the base is another one; nothing is kept.
            StorageFailed: the disk is full or cannot be written; nothing is kept.
        """
        known = self._fresh_row(cube.seq)
        if known.tainted is not None:
            raise Conflict(f"The adapter {cube.id} is not taken in: {known.tainted}.")
        with self.prepared(peft_folder) as made:
            if made.base != known.base:
                raise Conflict(f"The adapter {cube.id} was trained on another base than the store is set to now.")
            self.place(made, cube.id)
        with self._lock:
            with self._ledger.write() as connection:
                kept = self.record(connection, cube.seq, made, report, state)
            if not kept:
                _remove(self.path(cube.id))
                why = "a memory that it was trained on was changed, or it was taken away meanwhile"
                raise Conflict(f"The adapter {cube.id} is not taken in: {why}.")
            self.refresh([cube.seq])
        _remove(self.workplace(cube.id))
        found = self.row(cube.seq)
        assert found is not None
        return found

    def record(
        self, connection: Connection, seq: int, made: Prepared, report: dict[str, Any], state: AdapterState
    ) -> bool:
        """Note in a transaction what a placed adapter is; False if it was tainted or taken away."""
        whole = {**report, "form": made.form}
        return rows.finish(connection, seq, state, made.sha256, made.gguf_sha256, made.bytes, whole)

    def _fresh_row(self, seq: int) -> AdapterRow:
        self.refresh([seq])
        found = self.row(seq)
        if found is None or found.state == "retired":
            raise Conflict("The adapter was taken away meanwhile: nothing is kept of it.")
        return found

    @contextmanager
    def prepared(self, given: Path) -> Iterator[Prepared]:
        """A copy of a peft folder or a GGUF file, checked and converted; gone at the end of the block unless placed.

        Nothing of the file is run, and nothing of it is looked at but as bytes of a copy.

        Raises:
            InvalidInput: it is damaged, foreign, or for another base; the sentence says what is wrong with it.
            StorageFailed: the copy could not be written.
        """
        base = self.bases.base()
        fresh = self.folder / f"{FRESH}{secrets.token_hex(6)}"
        try:
            fresh.mkdir(mode=0o700, parents=True)
            yield _from_folder(given, fresh, base) if given.is_dir() else _from_file(given, fresh, base)
        except OSError as error:
            raise StorageFailed(
                f"The adapter could not be kept ({error.strerror}): check the disk, and try again."
            ) from error
        finally:
            _remove(fresh)

    def place(self, made: Prepared, cube: str) -> None:
        """Move a prepared adapter to where its cube's files are, in place of what was there; rows are the caller's.

        Raises:
            StorageFailed: it could not be moved.
        """
        target, former = self.path(cube), self.folder / f"{FRESH}{secrets.token_hex(6)}"
        try:
            if target.exists():
                target.rename(former)
            made.folder.rename(target)
            _flush(self.folder)
        except OSError as error:
            raise StorageFailed(f"The adapter could not be moved into place ({error.strerror}).") from error
        finally:
            _remove(former)

    # Mounting.

    def mount(self, wanted: Sequence[tuple[Cube, float]]) -> Mount:
        """What these adapters are on the model with these weights; without an identity, which is the engine's to give.

        Raises:
            Conflict: it may not be mounted, with the reason: a candidate, retired, tainted, of another base, damaged.
            InvalidInput: more than one, or a weight out of bounds.
        """
        for cube, weight in wanted:
            self.require_usable(cube, weight)
        chosen = [(cube, weight) for cube, weight in wanted if weight]
        if len(chosen) > 1:
            raise InvalidInput(ONE_ALONE, field="adapters")
        found = list[Adapter]()
        for cube, weight in chosen:
            row = self._known[cube.seq]
            self.bases.require(row.base)
            found.append(Adapter(self._whole(cube, row), weight))
        return Mount(Mounts(tuple(found)), "", tuple((cube.seq, cube.version) for cube, _ in chosen))

    def answered(self, cubes: Sequence[Cube]) -> None:
        """Count that an answer was made under these."""
        with self._lock:
            for cube in cubes:
                self._mounted[cube.seq] = self._mounted.get(cube.seq, 0) + 1

    def fitting(self, question: str) -> list[tuple[AdapterRow, Fit]]:
        """The adapters that may be mounted and fit a question, best first; of equal ones, the latest."""
        usable = [row for row in self.rows() if row.usable]
        found = [(row, fit(question, self._topics.of(row))) for row in usable]
        found = [(row, points) for row, points in found if points.points]
        return sorted(found, key=lambda pair: (-pair[1].points, -pair[0].cube))

    def require_usable(self, cube: Cube, weight: float = 1.0) -> None:
        """Raise unless an adapter may be mounted: see `mount`."""
        if not 0 <= weight <= MOST_WEIGHT:
            raise InvalidInput(
                f"The weight {weight:g} of an adapter is out of bounds: give one from 0 to {MOST_WEIGHT:g}; 1 is as it "
                "was trained.",
                field="adapters",
            )
        row = self.row(cube.seq)
        why = _why_not(cube, row, instant(self._now()))
        if why is not None:
            raise Conflict(f"The adapter {cube.id} is not mounted: {why}.")

    def _whole(self, cube: Cube, row: AdapterRow) -> Path:
        """The file to be mounted, whose every byte is as it was written; looked at again when it was touched."""
        path = self.path(cube.id) / GGUF
        try:
            found = path.stat()
            stamp = (str(row.gguf_sha256), found.st_size, found.st_mtime_ns)
            if self._sound.get(cube.seq) != stamp:
                if safetensors_file.digest(path) != row.gguf_sha256:
                    raise _damaged(cube)
                self._sound[cube.seq] = stamp
        except OSError:
            raise _damaged(cube) from None
        return path

    # Going.

    def changed(self, seqs: Sequence[int]) -> list[int]:
        """These memories were changed, in a transaction that marked what was trained on them.

        Returns the adapters that are none any more, or may not be mounted any more, for who holds states made under
        them; the files of those that are to leave nothing are gone when this returns.
        """
        gone = set(seqs)
        with self._lock:
            concerned = [
                seq for seq, row in self._known.items()
                if seq in gone or any(source in gone for source, _ in row.sources)
            ]  # fmt: skip
            if not concerned:
                return []
            former = {seq: self._known[seq] for seq in concerned}
            self.refresh(concerned)
            over = [seq for seq in concerned if not self._stays(former[seq], self._known.get(seq))]
        self._topics.forget(concerned)
        if over:
            self._clear()
            self.unmount([str(former[seq].gguf_sha256) for seq in over])
            log.info("adapters %s are mounted no more: what they were trained on has changed", over)
        return over

    @staticmethod
    def _stays(former: AdapterRow, now: AdapterRow | None) -> bool:
        return now is not None and (now.usable, now.gguf_sha256) == (former.usable, former.gguf_sha256)

    def _clear(self) -> None:
        """Remove the files of adapters that have no row, or whose row says that they have none."""
        with self._lock, self._ledger.read() as connection:
            cubes = self._vault.by_seqs(connection, list(self._known))
            kept = {cubes[s].id for s, row in self._known.items() if row.gguf_sha256 is not None and s in cubes}
            waiting = {cubes[s].id for s, row in self._known.items() if row.state != "retired" and s in cubes}
        for path in self._left(kept, waiting):
            if not path.name.startswith(FRESH):
                _remove(path)

    def retire(self, connection: Connection, seqs: Sequence[int]) -> None:
        """Let these be mounted no more; `changed` follows the commit. Their files stay for who wants to look."""
        rows.set_state(connection, seqs, "retired")

    def flush(self) -> None:
        """Write down how often adapters were mounted."""
        with self._lock:
            counted, self._mounted = self._mounted, {}
        if counted and not self._ledger.read_only:
            with self._ledger.write() as connection:
                for seq, times in counted.items():
                    rows.mounted(connection, [seq], instant(self._now()), times)
            self.refresh(list(counted))

    # Looking.

    def damaged(self) -> tuple[int, list[str]]:
        """How many adapters there are, and sentences about those whose files are not what they should be."""
        said, found = list[str](), self.rows()
        with self._ledger.read() as connection:
            cubes = self._vault.by_seqs(connection, [row.cube for row in found])
        for row in found:
            cube = cubes.get(row.cube)
            if cube is None or row.gguf_sha256 is None or row.state == "retired":
                continue
            for name, digest in ((GGUF, row.gguf_sha256), (WEIGHTS, row.sha256)):
                path = self.path(cube.id) / name
                with contextlib.suppress(OSError):
                    if digest is None or safetensors_file.digest(path) == digest:
                        continue
                said.append(f"{cube.id}: {name} is gone, or not as it was written")
                break
        return len(found), said


def _why_not(cube: Cube, row: AdapterRow | None, now: str) -> str | None:
    """Why an adapter may not be mounted; None if it may."""
    if cube.snapshot.kind != ADAPTER:
        return f"it is a {cube.snapshot.kind} and no adapter"
    if cube.state not in LIVE or not cube.stands or (cube.snapshot.expires or "9999") <= now:
        return f"it is {cube.state}, or its life is over; memory_undo brings it back"
    if row is None:
        return "nothing is known of its files: train or import it again"
    if row.state == "retired":
        return "it was retired; train or import another"
    if row.tainted is not None:
        return f"{row.tainted}; train it anew from what stands"
    if row.gguf_sha256 is None:
        return "it is still being trained"
    if row.state == "candidate":
        failed = (row.report or {}).get("reasons") or ["its report says why"]
        return f"it is a candidate that did not pass its exams ({'; '.join(map(str, failed))})"
    return None


def _damaged(cube: Cube) -> Conflict:
    return Conflict(f"The adapter {cube.id} is not mounted: {LOST}; train or import it again.")


def _from_folder(given: Path, fresh: Path, base: BaseModel) -> Prepared:
    for name in PICKLES:
        if (given / name).exists() and not (given / WEIGHTS).exists():
            why = f"{name} is a pickle, which may run code when it is read: save it as safetensors"
            raise InvalidInput(f"The adapter in {given.name} is not used: {why}.", field="adapter")
    for name, most in ((CONFIG, CHUNK), (WEIGHTS, MOST_BYTES)):
        _copy(given / name, fresh / name, most)
    _require_ours(given / SAID, base)
    found = read_adapter(fresh, base)
    if importlib.util.find_spec("gguf") is None:
        raise InvalidInput(NEEDS_GGUF, field="adapter")
    from memos_mcp.parametric import conversion

    conversion.to_gguf(found, base, fresh / GGUF)
    made = read_gguf_adapter(fresh / GGUF, base)
    _say(fresh, base)
    form = {"from": "peft", "rank": found.rank, "alpha": found.alpha, "targets": list(found.targets)}
    return Prepared(fresh, base.identity, found.sha256, made.sha256, _size(fresh), form)


def _from_file(given: Path, fresh: Path, base: BaseModel) -> Prepared:
    if given.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"):
        why = "it is a pickle by its name, which may run code when it is read: save it as safetensors"
        raise InvalidInput(f"{given.name} is not used: {why}.", field="adapter")
    if given.suffix == ".safetensors":
        raise InvalidInput(f"Name the folder of {given.name}, in which {CONFIG} is too.", field="adapter")
    _copy(given, fresh / GGUF, MOST_BYTES)
    found = read_gguf_adapter(fresh / GGUF, base)
    _say(fresh, base)
    form = {"from": "gguf", "rank": found.rank, "alpha": found.alpha, "targets": list(found.targets)}
    return Prepared(fresh, base.identity, None, found.sha256, _size(fresh), form)


def _copy(given: Path, to: Path, most: int) -> None:
    """Copy a regular file of at most so many bytes, and flush it to disk."""
    name = given.name
    try:
        number = os.open(given, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InvalidInput(f"{name} of the adapter cannot be read ({error.strerror}).", field="adapter") from None
    with os.fdopen(number, "rb") as source:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise InvalidInput(f"{name} of the adapter is no file.", field="adapter")
        copied = 0
        with to.open("xb") as file:
            while piece := source.read(CHUNK):
                copied += len(piece)
                if copied > most:
                    raise InvalidInput(f"{name} of the adapter has over {most:,} bytes.", field="adapter")
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    to.chmod(0o600)


def _require_ours(said: Path, base: BaseModel) -> None:
    """Raise if a folder that was made here says that it is of another base."""
    if not said.is_file() or said.stat().st_size > CHUNK:
        return
    try:
        named = json.loads(said.read_bytes()).get("base")
    except (ValueError, RecursionError, AttributeError):
        return
    if isinstance(named, str) and named != base.identity:
        raise InvalidInput(
            f"The adapter in {said.parent.name} is not used: it was made for another base model of the same shape.",
            field="adapter",
        )


def _say(folder: Path, base: BaseModel) -> None:
    """Leave beside the files of which base they are."""
    (folder / SAID).write_text(json.dumps({"base": base.identity}), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o600)
    _flush(folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _flush(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system lets that be done."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _remove(path: Path) -> None:
    """Remove a folder or file, if it is there; what cannot be removed is left to the next start."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.error("%s is still on disk (%s): the next start removes it", path.name, error.strerror)

