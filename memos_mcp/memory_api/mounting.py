"""What memory_ask mounts: the steering vectors and adapters that are named, or the adapter that fits the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.activation.engine import Turn
from memos_mcp.activation.entries import PLAIN, Mount
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.activation.steering import MOST_MOUNTED
from memos_mcp.cube import ADAPTER, Cube
from memos_mcp.errors import Conflict, InvalidInput, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger.adapters import AdapterRow
from memos_mcp.memory_api import steer
from memos_mcp.memory_api.parts import Parts, cubes_for
from memos_mcp.parametric.registry import Adapters
from memos_mcp.requests import AskRequest
from memos_mcp.results import MountedCube


@dataclass(frozen=True)
class Mounting:
    """What is to be mounted, each with its weight, and the numbers of all cubes concerned.

    `picked`: nothing was named, and the adapter was chosen by the question, because of the memories `about`.
    """

    steering: tuple[tuple[Cube, float], ...] = ()
    adapters: tuple[tuple[Cube, float], ...] = ()
    seqs: tuple[int, ...] = ()
    picked: bool = False
    about: tuple[str, ...] = ()


def to_mount(parts: Parts, caller: Caller, request: AskRequest) -> Mounting:
    """What a question is to be asked under: what it names, or else the adapter that fits it best.

    A conversation is asked under what is named alone, for it is read again when that changes.

    Raises:
        InvalidInput: too many, one twice, a weight out of bounds, or neither a steering vector nor an adapter.
        NotFound: not the caller's to read. Conflict: it may not be mounted; the sentence says why.
    """
    if request.adapters:
        return _named(parts, caller, request)
    return _picked(parts, caller, request) if request.session is None else Mounting()


def mount(
    parts: Parts, activation: ActivationMemory, mounting: Mounting, turn: Turn
) -> tuple[Mount, list[MountedCube]]:
    """What is mounted on the model, and how the result says it.

    Raises:
        Conflict, InvalidInput: it cannot be. JobCancelled, EngineLost, EngineUnavailable: as the engine does.
    """
    if not mounting.steering and not mounting.adapters:
        return PLAIN, []
    beside = PLAIN
    if mounting.adapters:
        beside = registry(parts).mount(mounting.adapters)
    found, steered = activation.steering.mount(mounting.steering, turn, beside)
    return found, [_as_told(one, mounting) for one in mounting.adapters] + [steer.as_told(one) for one in steered]


def registry(parts: Parts) -> Adapters:
    """The store's adapters. Raises `Conflict`: a store that can only be read has none."""
    if parts.adapters is None:
        raise Conflict("This store can only be read: nothing is mounted here.")
    return parts.adapters


def said_of(cubes: Sequence[tuple[Cube, float]]) -> list[Cube]:
    """The adapters that were really mounted: those of another weight than 0."""
    return [cube for cube, weight in cubes if weight]


def _as_told(one: tuple[Cube, float], mounting: Mounting) -> MountedCube:
    cube, weight = one
    told: MountedCube = {"id": cube.id, "version": cube.version, "weight": weight, "form": cube.snapshot.form}
    if mounting.picked:
        told["picked"], told["about"] = True, list(mounting.about)
    return told


def _named(parts: Parts, caller: Caller, request: AskRequest) -> Mounting:
    weights = {one.id.strip().removeprefix("memcube://"): one.weight for one in request.adapters}
    if len(weights) != len(request.adapters) or len(weights) > MOST_MOUNTED:
        raise InvalidInput(f"Up to {MOST_MOUNTED} adapters are mounted, each named once.", field="adapters")
    with parts.ledger.read() as connection:
        cubes = {cube.id: cube for cube in cubes_for(parts, connection, caller, list(weights), "read")}
    trained = [cube for cube in cubes.values() if cube.snapshot.kind == ADAPTER]
    mine = {cube.id for cube in trained}
    rest = [one for one in request.adapters if one.id.strip().removeprefix("memcube://") not in mine]
    steering = steer.to_mount(parts, caller, rest)
    adapters = tuple((cube, weights[cube.id]) for cube in trained)
    if not adapters:
        return Mounting(steering.wanted, (), steering.seqs)
    known = registry(parts)
    known.mount(adapters)  # what cannot be is refused before anything is searched for or read
    seqs = list(steering.seqs)
    with parts.ledger.read() as connection:
        for cube in trained:
            row = known.row(cube.seq)
            sources = _sources(parts, connection, row) if row is not None else []
            hidden = [one.id for one in sources if not _readable(connection, caller, one)]
            if hidden:
                raise NotFound("adapter", [cube.id], "it was trained on memories that are not yours to read.")
            seqs += [cube.seq, *(one.seq for one in sources)]
    return Mounting(steering.wanted, adapters, tuple(seqs))


def _picked(parts: Parts, caller: Caller, request: AskRequest) -> Mounting:
    """The adapter that fits the question best, of those that the caller may mount here; of equal ones, the latest."""
    if parts.adapters is None:
        return Mounting()
    fitting = parts.adapters.fitting(request.question)
    if not fitting:
        return Mounting()
    with parts.ledger.read() as connection:
        names = [request.space] if isinstance(request.space, str) else request.space
        spaces = {space.id for space in governance.readable_spaces(connection, caller, names)}
        cubes = parts.vault.by_seqs(connection, [row.cube for row, _ in fitting])
        for row, fit in fitting:
            cube = cubes.get(row.cube)
            if cube is None or cube.space not in spaces or not _mountable(parts.adapters, cube):
                continue
            sources = _sources(parts, connection, row)
            if all(_readable(connection, caller, one) for one in [cube, *sources]):
                seqs = (cube.seq, *(one.seq for one in sources))
                return replace(Mounting(), adapters=((cube, 1.0),), seqs=seqs, picked=True, about=fit.cubes)
    return Mounting()


def _mountable(adapters: Adapters, cube: Cube) -> bool:
    if cube.snapshot.sensitivity == "secret":
        return False
    try:
        adapters.mount([(cube, 1.0)])
    except (Conflict, InvalidInput):
        return False
    return True


def _sources(parts: Parts, connection: Connection, row: AdapterRow) -> list[Cube]:
    return list(parts.vault.by_seqs(connection, [seq for seq, _ in row.sources]).values())


def _readable(connection: Connection, caller: Caller, cube: Cube) -> bool:
    return governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space), cube.seq)
