"""The verb steer: makes a steering vector of two contrasting sets of memories, and names those to be mounted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.activation.steering import MOST_MOUNTED, MOST_WEIGHT, Mounted, Recipe
from memos_mcp.cube import STEERING, Cube, Link, Snapshot, clean_label
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import operations
from memos_mcp.ledger.steerings import SIDES, Side, SteeringRow
from memos_mcp.memory_api import undo
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.memory_api.promote import WAIT_S, activation_of
from memos_mcp.plaintext.scope import Scope
from memos_mcp.requests import MAX_IDS, SteerRequest, UndoRequest, Weighted
from memos_mcp.results import MountedCube, SteerResult
from memos_mcp.states import LIVE

TAG = "tag:"
"""What stands before the name of a tag in place of an id."""


def steer(parts: Parts, caller: Caller, request: SteerRequest) -> SteerResult:
    """Make a vector that leads the local model from what one set of memories has in common to what another has.

    The same vector again is left as it is (`op` None). It is made by a job, for which the call waits a moment.

    Raises:
        InvalidInput: an empty side, a memory on both sides, or layers that the model does not have. NotFound,
            AccessDenied: a memory that is not the caller's to read, or a space that is not the caller's to write.
        Conflict: a memory is over or secret, the sides are the same to the model, or the name is taken.
        EngineUnavailable: there is no local model.
    """
    name, where = clean_label(request.name, "name"), request.space or caller.space
    with parts.ledger.read() as connection:  # a call in vain loads no model
        _sides(parts, connection, caller, request, where)
    activation = activation_of(parts)
    facts = activation.engine.facts()
    layers = _range(request)
    with parts.ledger.write() as connection:
        sides = _sides(parts, connection, caller, request, where)
        towards, away = (tuple(cube.id for cube in sides[side]) for side in SIDES)
        recipe = Recipe(towards, away, layers)
        first, last = activation.steering.layers(recipe, facts)
        sources = [cube for side in SIDES for cube in sides[side]]
        activation.steering.require_usable(sources)
        space = governance.open_space(connection, caller, where, parts.stamp())
        known = _named(parts, connection, space, name)
        if known is not None:
            _require_the_same(known, recipe)
            return _result(known, recipe, (first, last), facts.embedding, activation.steering.row(known.seq), None)
        op = begun(parts, caller, "steer")
        (cube,), made = parts.vault.insert(connection, op, space, [_draft(name, recipe)], None, 0)
        job = activation.steer(connection, cube, len(sources), caller.principal)
        result = _result(cube, recipe, (first, last), facts.embedding, None, op.id, job)
        operations.record(connection, op, made, result)
    parts.changed(caller, [cube], listing=True, embedded=True)
    activation.build(job)
    activation.wait(job, WAIT_S)
    done = parts.jobs.find(job)
    if done is not None and done.state == "failed":
        undo.undo(parts, replace(caller, request=None), UndoRequest(op=op.id))  # an operation of its own
        raise Conflict(f"{done.error or 'The vector could not be made: see the log.'} Nothing was kept.")
    row = activation.steering.row(cube.seq)
    return _result(cube, recipe, (first, last), facts.embedding, row, op.id, job if row is None else None)


def _range(request: SteerRequest) -> tuple[int, int] | None:
    if request.layers is None:
        return None
    first, last = request.layers
    return first, last


def _sides(
    parts: Parts, connection: Connection, caller: Caller, request: SteerRequest, where: str
) -> dict[Side, list[Cube]]:
    """The memories of both sides, in the order of writing, all the caller's to read."""
    said: dict[Side, list[str]] = {"towards": request.towards, "away": request.away}
    found = {side: _side(parts, connection, caller, names, side, where) for side, names in said.items()}
    both = {cube.id for cube in found["towards"]} & {cube.id for cube in found["away"]}
    if both:
        raise InvalidInput(f"{', '.join(sorted(both)[:5])} stands on both sides: leave it out on one.", field="away")
    return found


def _side(
    parts: Parts, connection: Connection, caller: Caller, names: Sequence[str], side: Side, where: str
) -> list[Cube]:
    ids = [name.strip().removeprefix("memcube://") for name in names if not name.startswith(TAG)]
    cubes = {cube.id: cube for cube in cubes_for(parts, connection, caller, ids, "read")}
    for name in names:
        if name.startswith(TAG):
            cubes |= {cube.id: cube for cube in _tagged(parts, connection, caller, name.removeprefix(TAG), where)}
    if not 1 <= len(cubes) <= MAX_IDS:
        said = f"{side} names {len(cubes)} memories: a side has 1 to {MAX_IDS}, as ids or as {TAG}NAME."
        raise InvalidInput(said, field=side)
    return sorted(cubes.values(), key=lambda cube: cube.seq)


def _tagged(parts: Parts, connection: Connection, caller: Caller, tag: str, where: str) -> list[Cube]:
    space = governance.readable_spaces(connection, caller, [where])[0]
    scope = Scope((space.id,), parts.stamp(), tags=(clean_label(tag, "tag", 100),))
    cubes = parts.vault.by_seqs(connection, scope.first(connection, MAX_IDS + 1)).values()
    return [cube for cube in cubes if cube.snapshot.kind != STEERING and cube.snapshot.sensitivity != "secret"]


def _draft(name: str, recipe: Recipe) -> Snapshot:
    links = [Link(cube, side) for side, ids in zip(SIDES, (recipe.towards, recipe.away), strict=True) for cube in ids]
    return Snapshot(
        name, STEERING, links=tuple(links), parents=recipe.sources, recipe={**recipe.as_plain()}
    )


def _named(parts: Parts, connection: Connection, space: Space, name: str) -> Cube | None:
    """The live steering vector of this name in the space."""
    held = parts.vault.of_kind(connection, STEERING, 0, MAX_IDS * MAX_IDS)
    same = [c for c in held if c.space == space.id and c.state in LIVE and c.snapshot.content == name]
    return same[-1] if same else None


def _require_the_same(known: Cube, recipe: Recipe) -> None:
    if Recipe.of(known) != recipe:
        raise Conflict(
            f"There is a steering vector named {known.snapshot.content!r} already, made of others ({known.id}): choose "
            "another name, or forget it first."
        )


def _result(
    cube: Cube,
    recipe: Recipe,
    layers: tuple[int, int],
    width: int,
    row: SteeringRow | None,
    op: str | None,
    job: str | None = None,
) -> SteerResult:
    result: SteerResult = {
        "id": cube.id, "uri": cube.uri, "version": cube.version, "state": cube.state, "name": cube.snapshot.content,
        "towards": list(recipe.towards), "away": list(recipe.away), "layers": list(layers), "width": width, "op": op,
    }  # fmt: skip
    if row is not None:
        result["shares"], result["norms"] = list(row.shares), list(row.norms)
    if job is not None:
        result["job"] = job
    return result


# --- mounting


@dataclass(frozen=True)
class Mounting:
    """What a caller wants mounted and may have: each with its weight, and the numbers of all cubes concerned."""

    wanted: tuple[tuple[Cube, float], ...] = ()
    seqs: tuple[int, ...] = ()


def to_mount(parts: Parts, caller: Caller, adapters: Sequence[Weighted]) -> Mounting:
    """The steering vectors named, of which the caller may read every memory that they are made of.

    Raises:
        InvalidInput: too many, one twice, a weight out of bounds, or something else than a steering vector. NotFound:
            not the caller's to read. Conflict: it was archived.
    """
    if not adapters:
        return Mounting()
    weights = {one.id.strip().removeprefix("memcube://"): one.weight for one in adapters}
    if len(weights) != len(adapters) or len(adapters) > MOST_MOUNTED:
        raise InvalidInput(f"Up to {MOST_MOUNTED} adapters are mounted, each named once.", field="adapters")
    for weight in weights.values():
        if abs(weight) > MOST_WEIGHT:
            raise InvalidInput(
                f"The weight {weight:g} is too much: give one from -{MOST_WEIGHT:g} to {MOST_WEIGHT:g}; 1 adds the "
                "whole difference of the two sides, -1 takes it away.",
                field="adapters",
            )
    with parts.ledger.read() as connection:
        cubes = cubes_for(parts, connection, caller, list(weights), "read")
        names = list(dict.fromkeys(name for cube in cubes for name in Recipe.of(cube).sources))
        sources = cubes_for(parts, connection, caller, names, "read")
    _require_mountable(cubes, parts.stamp())
    wanted = tuple((cube, weights[cube.id]) for cube in cubes)
    return Mounting(wanted, tuple(cube.seq for cube in [*cubes, *sources]))


def _require_mountable(cubes: Sequence[Cube], now: str) -> None:
    for cube in cubes:
        said = cube.snapshot
        why = "is secret, and secrets are kept in no state" if said.sensitivity == "secret" else None
        why = "was replaced, or its life is over" if not cube.stands or (said.expires or "9999") <= now else why
        why = f"is {cube.state}" if cube.state not in LIVE else why
        if why is not None:
            raise Conflict(f"The steering vector {cube.id} {why}: bring it back with memory_undo, or make another.")


def as_told(one: Mounted) -> MountedCube:
    """What was mounted, as the result says it."""
    told: MountedCube = {
        "id": one.cube.id, "version": one.cube.version, "weight": one.weight, "first": one.first, "last": one.last,
    }  # fmt: skip
    if one.why is not None:
        told["again"] = one.why
    return told
