"""Steering vectors: made of two sets of memories by what a model's layers put out for them, kept in files, and mounted.

Knows neither who asks nor who may: whoever names a vector has asked for every memory that it is made of. A vector is a
derivative of its cube's recipe: one that does not fit the model, the memories or its own digest is made anew.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from memos_mcp.activation import reading
from memos_mcp.activation.catalogue import Catalogue
from memos_mcp.activation.contrast import Contrast, contrast
from memos_mcp.activation.engine import ANYONE, NOTHING, Layers, ModelFacts, Steering, Turn
from memos_mcp.activation.entries import PLAIN, Mount, Step
from memos_mcp.activation.state_file import StateRefused
from memos_mcp.activation.steering_file import SUFFIX, SteeringHeader, read_steering, write_steering
from memos_mcp.cube import STEERING, Cube, instant
from memos_mcp.errors import Conflict, EngineLost, EngineUnavailable, InvalidInput
from memos_mcp.ledger import kept_states, steerings
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.steerings import SIDES, Side, Source, SteeringRow
from memos_mcp.states import LIVE
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

MOST_TOKENS = 512
"""Of one memory's text, which is read whole; of a longer one its beginning."""
MOST_WEIGHT = 8.0
"""Beyond it a model says nothing that makes sense; much less is enough."""
MOST_MOUNTED = 4
MOST_SENT = 64
"""Mounts of which the engine keeps a copy; of an older one it gets another when it is needed again."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What a cube says of how its vector is made. `layers` is None for every layer that the model lets be steered."""

    towards: tuple[str, ...]
    away: tuple[str, ...]
    layers: tuple[int, int] | None = None

    @staticmethod
    def of(cube: Cube) -> Recipe:
        """Raises `InvalidInput`: the cube is something else."""
        if cube.snapshot.kind != STEERING:
            raise InvalidInput(
                f"{cube.id} is a {cube.snapshot.kind} and no steering vector: memory_steer makes one.", field="adapters"
            )
        plain = cube.snapshot.recipe
        layers = plain.get("layers")
        return Recipe(tuple(plain["towards"]), tuple(plain["away"]), tuple(layers) if layers else None)

    def as_plain(self) -> dict[str, list[str] | list[int] | None]:
        """The recipe as a snapshot keeps it."""
        layers = list(self.layers) if self.layers is not None else None
        return {"towards": list(self.towards), "away": list(self.away), "layers": layers}

    @property
    def sources(self) -> tuple[str, ...]:
        """Every memory that it is made of, each once."""
        return self.towards + self.away


@dataclass(frozen=True)
class Mounted:
    """A vector as it was mounted; `why` it was made anew for this, if it was."""

    cube: Cube
    weight: float
    first: int
    last: int
    why: str | None = None


@dataclass
class _Known:
    """A vector that lies in a file; `rows` once it was read."""

    row: SteeringRow
    rows: Layers | None = None


class SteeringVectors:
    """The vectors of a store. Safe to share between threads; one is made once, whoever waits for it."""

    def __init__(
        self, ledger: Ledger, vault: Vault, catalogue: Catalogue, folder: Path, now: Callable[[], datetime]
    ) -> None:
        self._ledger, self._vault, self._catalogue, self._folder, self._now = ledger, vault, catalogue, folder, now
        self._known: dict[int, _Known] = {}
        self._sent: OrderedDict[str, tuple[frozenset[int], Layers]] = OrderedDict()
        self._lock = threading.RLock()
        self._making = threading.Lock()

    def open(self) -> int:
        """Know what is in files; returns how many rows and files a crash had left alone, which are removed."""
        with self._ledger.read() as connection:
            rows = steerings.listed(connection)
        there = {path.name for path in self._folder.glob(f"*{SUFFIX}")}
        lost = [row.cube for row in rows if row.file not in there]
        if lost:
            with self._ledger.write() as connection:
                steerings.drop(connection, lost)
        left = there - {row.file for row in rows}
        for name in left:
            (self._folder / name).unlink(missing_ok=True)
        self._known = {row.cube: _Known(row) for row in rows if row.cube not in lost}
        return len(lost) + len(left)

    def layers(self, recipe: Recipe, facts: ModelFacts) -> tuple[int, int]:
        """The first and the last layer that it steers in this model.

        Raises:
            InvalidInput: the model does not have them.
        """
        first, last = recipe.layers or (1, facts.layers - 1)
        if not 1 <= first <= last < facts.layers:
            most = facts.layers - 1
            raise InvalidInput(
                f"Layers {first} to {last} cannot be steered: this model has layer 0, which cannot, and 1 to {most}.",
                field="layers",
            )
        return first, last

    def row(self, seq: int) -> SteeringRow | None:
        """What is known of the vector of a cube, if it is made."""
        known = self._known.get(seq)
        return known.row if known is not None else None

    def require_usable(self, cubes: Sequence[Cube]) -> None:
        """Raise unless a vector may be made of these memories, or mounted, now.

        Raises:
            Conflict: one of them is over, replaced, secret, or no text; all sentences say which.
        """
        now = instant(self._now())
        for cube in cubes:
            said = cube.snapshot
            over = cube.state not in LIVE or (said.expires is not None and said.expires <= now)
            why = "is secret, and secrets go into no vector" if said.sensitivity == "secret" else None
            why = "is a steering vector itself" if said.kind == STEERING else why
            why = f"was replaced by {said.superseded_by}" if said.superseded_by is not None else why
            why = f"is over ({cube.state})" if over else why
            if why is not None:
                raise Conflict(f"Memory {cube.id} {why}: name others, or bring it back with memory_undo.")

    # Mounting.

    def mount(
        self, wanted: Sequence[tuple[Cube, float]], turn: Turn = ANYONE, beside: Mount = PLAIN
    ) -> tuple[Mount, list[Mounted]]:
        """What these vectors are on the model with these weights, each made first where it has to be, and what else is
        mounted `beside` them.

        Raises:
            Conflict: a memory that one of them is made of does not stand. InvalidInput: it does not fit this model.
            JobCancelled, EngineLost, EngineUnavailable: as the engine does.
        """
        facts = self._catalogue.ready()
        told, found, steps = list[Mounted](), list[tuple[SteeringRow, Layers, float]](), list[Step]()
        for cube, weight in wanted:
            known, why = self._ready(cube, facts, turn)
            assert known.rows is not None
            told.append(Mounted(cube, weight, known.row.first, known.row.last, why))
            if weight:
                found.append((known.row, known.rows, weight))
                steps += [(cube.seq, cube.version), *((source.cube, source.version) for source in known.row.sources)]
        mounts = replace(beside.mounts, steering=_together(found, facts) if found else None)
        if mounts == NOTHING:
            return PLAIN, told
        identity, steps = self._catalogue.engine.identity(mounts), [*beside.steps, *steps]
        if mounts.steering is None:
            return Mount(mounts, identity, tuple(sorted(set(steps)))), told
        with self._lock:
            self._sent[identity] = frozenset(row.cube for row, _, _ in found), mounts.steering.vectors
            self._sent.move_to_end(identity)
            while len(self._sent) > MOST_SENT:
                self._unmount(next(iter(self._sent)))
        return Mount(mounts, identity, tuple(sorted(set(steps)))), told

    def _ready(self, cube: Cube, facts: ModelFacts, turn: Turn) -> tuple[_Known, str | None]:
        """The vector with its rows, and why it was made anew, if it was."""
        recipe = Recipe.of(cube)
        known, why = self._fitting(cube, self.layers(recipe, facts), self._sources(recipe), facts)
        return known or self.make(cube, turn), why

    def _fitting(
        self, cube: Cube, layers: tuple[int, int], sources: Sequence[tuple[Cube, Side]], facts: ModelFacts
    ) -> tuple[_Known | None, str | None]:
        """The vector with its rows, if it is what would be made now; else why it is not."""
        known = self._known.get(cube.seq)
        if known is None:
            return None, "it was not made yet, or a memory that it is made of has changed"
        row = known.row
        if row.identity != facts.identity:
            return None, "it was made for another model, or under other settings"
        if (row.first, row.last) != layers or set(row.sources) != set(_as_sources(sources)):
            return None, "it was made of other memories"
        if known.rows is None:
            try:
                known.rows = read_steering(self._folder / row.file, self._header(row), row.sha256)
            except StateRefused as refused:
                return None, refused.detail
        return known, None

    def _header(self, row: SteeringRow) -> SteeringHeader:
        with self._ledger.read() as connection:
            ids = kept_states.ids_of(connection, [source.cube for source in row.sources])
        sources = tuple(sorted((ids[source.cube], source.version, source.side) for source in row.sources))
        return SteeringHeader(row.identity, row.first, row.last, row.width, sources)

    def _sources(self, recipe: Recipe) -> list[tuple[Cube, Side]]:
        """The memories of a recipe as they are, each with its side. Raises `Conflict`: as `require_usable`."""
        with self._ledger.read() as connection:
            found = self._vault.by_ids(connection, recipe.sources)
        gone = [name for name in recipe.sources if name not in found]
        if gone:
            raise Conflict(f"Memory {gone[0]}, of which this vector is made, is gone: make another vector.")
        self.require_usable(list(found.values()))
        sides = [(name, SIDES[0]) for name in recipe.towards] + [(name, SIDES[1]) for name in recipe.away]
        return [(found[name], side) for name, side in sides]

    # Making.

    def make(self, cube: Cube, turn: Turn = ANYONE, progress: Progress = lambda done, total: None) -> _Known:
        """Have the model read every memory of the recipe, and keep what distinguishes the sides; once, if it is there.

        Raises:
            Conflict: a memory does not stand, was changed meanwhile, or the sides are the same to the model.
            InvalidInput: the layers are not this model's. StorageFailed. Else as `mount` does.
        """
        with self._making:
            recipe, facts = Recipe.of(cube), self._catalogue.ready()
            first, last = self.layers(recipe, facts)
            sources = self._sources(recipe)
            known, _ = self._fitting(cube, (first, last), sources, facts)
            if known is not None:  # by somebody else, while this one waited
                return known
            sides: dict[Side, list[Layers]] = {side: [] for side in SIDES}
            for done, (source, side) in enumerate(sources, 1):
                sides[side].append(self._put_out(source, facts, turn)[first : last + 1])
                progress(done, len(sources))
            made = contrast(*(sides[side] for side in SIDES))
            if made.is_nothing:
                raise Conflict("The model does not tell the two sides apart: choose memories that differ more.")
            return self._keep(cube, facts, (first, last), sources, made)

    def _put_out(self, source: Cube, facts: ModelFacts, turn: Turn) -> Layers:
        tokens = self._catalogue.engine.tokenize(reading.text_of(source), bos=True)
        return self._catalogue.engine.hidden([tokens[:MOST_TOKENS]], turn)[0]

    def _keep(
        self, cube: Cube, facts: ModelFacts, layers: tuple[int, int], sources: Sequence[tuple[Cube, Side]],
        made: Contrast,
    ) -> _Known:  # fmt: skip
        path = self._folder / f"{cube.id}-{secrets.token_hex(4)}{SUFFIX}"
        named = tuple(sorted((source.id, source.version, str(side)) for source, side in sources))
        header = SteeringHeader(facts.identity, *layers, facts.embedding, named)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        size, digest = write_steering(path, header, made.rows)
        row = SteeringRow(
            cube.seq, facts.identity, facts.description, *layers, facts.embedding, made.shares, made.norms, digest,
            size, path.name, instant(self._now()), tuple(_as_sources(sources)),
        )  # fmt: skip
        kept = False
        try:
            with self._lock:
                with self._ledger.write() as connection:
                    standing = kept_states.standing(connection, [cube.seq, *(source.cube for source in row.sources)])
                    if cube.seq not in standing or any(standing.get(s.cube) != s.version for s in row.sources):
                        raise Conflict("A memory of the vector was changed in this moment: ask again.")
                    steerings.keep(connection, row)
                kept = True
                self._drop(cube.seq)
                self._known[cube.seq] = _Known(row, made.rows)
        finally:
            if not kept:
                path.unlink(missing_ok=True)
        self._catalogue.drop_under(cube.seq)
        return self._known[cube.seq]

    # Going.

    def changed(self, seqs: Sequence[int]) -> None:
        """These memories were changed, in a transaction that took the rows along: remove what else there is of the
        vectors made of them, before this returns. States read under them go by the catalogue."""
        gone = set(seqs)
        with self._lock:
            concerned = [
                seq for seq, known in self._known.items()
                if seq in gone or any(source.cube in gone for source in known.row.sources)
            ]  # fmt: skip
            if not concerned:
                return
            with self._ledger.read() as connection:
                standing = {row.cube: row.file for row in steerings.listed(connection, concerned)}
            for seq in concerned:
                if standing.get(seq) != self._known[seq].row.file:
                    self._drop(seq)
                    log.info("the steering vector %s was removed: a memory that it is made of has changed", seq)

    def _drop(self, seq: int) -> None:
        known = self._known.pop(seq, None)
        if known is None:
            return
        try:
            (self._folder / known.row.file).unlink(missing_ok=True)
        except OSError as error:
            log.error("%s is still on disk (%s): the next start removes it", known.row.file, error.strerror)

        for identity in [identity for identity, (cubes, _) in self._sent.items() if seq in cubes]:
            self._unmount(identity)

    def _unmount(self, identity: str) -> None:
        """Have the engine keep no copy of what was mounted."""
        _, vectors = self._sent.pop(identity)
        with contextlib.suppress(EngineLost, EngineUnavailable):
            self._catalogue.engine.forget_steering(vectors)

    # Looking.

    def damaged(self) -> tuple[int, list[str]]:
        """How many vectors there are, and sentences about those whose file is not what it should be."""
        said = list[str]()
        with self._lock:
            known = list(self._known.values())
        for one in known:
            with self._ledger.read() as connection:
                cube = self._vault.by_seqs(connection, [one.row.cube]).get(one.row.cube)
            if cube is None:
                continue
            try:
                read_steering(self._folder / one.row.file, self._header(one.row), one.row.sha256)
            except StateRefused as refused:
                said.append(f"{cube.id}: {refused.detail}")
        return len(known), said


def _as_sources(sources: Sequence[tuple[Cube, Side]]) -> list[Source]:
    return [Source(cube.seq, cube.version, side) for cube, side in sources]


def _together(found: Sequence[tuple[SteeringRow, Layers, float]], facts: ModelFacts) -> Steering:
    """One control vector that does what these do, each with its weight."""
    whole = np.zeros((facts.layers, facts.embedding), np.float32)
    weight = found[0][2] if len(found) == 1 else 1.0
    for row, rows, own in found:
        whole[row.first : row.last + 1] += rows * np.float32(own / weight)
    first, last = min(row.first for row, _, _ in found), max(row.last for row, _, _ in found)
    return Steering(whole, first, last, weight)
