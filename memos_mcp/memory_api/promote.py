"""The verb promote: moves memories between the forms, as an operation that can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.activation.reading import Role
from memos_mcp.cube import ADAPTER, TEXTLESS, Cube
from memos_mcp.errors import Conflict, EngineUnavailable, NotFound
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations, transitions
from memos_mcp.ledger.kept_states import Owner
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.memory_api import add, compose, forget, parametric, working
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.memory_api.working import FROM_WORKING, TO_WORKING
from memos_mcp.requests import AddRequest, ForgetRequest, Message, PromoteRequest
from memos_mcp.results import PromoteResult, UndoResult

WAIT_S = 2.0
"""Seconds that a call waits for its job before it answers that the job is at work."""
TO_ACTIVATION, TO_PLAINTEXT = "to activation", "to plaintext"
"""Reasons of the operations that change a form and no version: by them an undo knows the way back."""
NO_MODEL = (
    "There is no local model: install memos-mcp[activation], and name a GGUF file with `memos-mcp config model PATH`; "
    "then restart with `memos-mcp stop`."
)
SERVERS_OWN = (
    "The model that answers is a server's ({name}), and what it has read is that server's own: its states cannot be "
    "kept here. memory_ask sends it the memories in a prompt whose beginning stays the same, which its cache keeps."
)
_BACK = {
    TO_ACTIVATION: TO_PLAINTEXT,
    TO_PLAINTEXT: TO_ACTIVATION,
    TO_WORKING: FROM_WORKING,
    FROM_WORKING: TO_WORKING,
}
"""The way back of each way."""


def promote(parts: Parts, caller: Caller, request: PromoteRequest) -> PromoteResult:
    """Give memories another form; one that has it stays as it is.

    Raises:
        NotFound, AccessDenied: not the caller's. Conflict: a memory that is over, or secret. EngineUnavailable: there
            is no local model. TrainerUnavailable: adapters cannot be trained here.
    """
    if request.to == "archive":
        gone = forget.forget(parts, caller, ForgetRequest(ids=request.ids))
        return {"moved": gone["affected"], "op": gone["op"]}
    if request.to == "activation":
        return _to_activation(parts, caller, request.ids)
    if request.to == "working":
        return working.put_in(parts, caller, request.ids)
    if request.to == "parametric":
        return parametric.to_parametric(parts, caller, request.ids)
    return _to_plaintext(parts, caller, request.ids)


def activation_of(parts: Parts) -> ActivationMemory:
    """The store's activation memory, its model loaded.

    Raises:
        EngineUnavailable: there is none, or its model cannot be loaded.
    """
    if parts.activation is None:
        raise _no_local_model(parts)
    parts.activation.catalogue.ready()
    return parts.activation


def _no_local_model(parts: Parts) -> EngineUnavailable:
    return EngineUnavailable(NO_MODEL if parts.server is None else SERVERS_OWN.format(name=parts.server.name))


def changes_form(made: Sequence[Change]) -> bool:
    """Whether an operation with these changes moved memories between forms, and did nothing else."""
    return bool(made) and all(change == Change(change.cube, None, None, None, None) for change in made)


def take_back(
    parts: Parts, connection: Connection, caller: Caller, target: Operation, made: Sequence[Change]
) -> tuple[UndoResult, Callable[[], None]]:
    """Take such an operation back; returns the result, and what is to follow the commit.

    Raises:
        EngineUnavailable: it would need the local model, and there is none.
    """
    cubes = cubes_for(parts, connection, caller, [change.cube for change in made], "read")
    way = _BACK[target.reason or TO_PLAINTEXT]
    op = begun(parts, caller, "undo", way, target.id)
    came, with_state = transitions.take_back(connection, target.id, op.id)
    moving = [] if way in (TO_WORKING, FROM_WORKING) else cubes
    if way == TO_ACTIVATION:
        moving = [cube for cube in cubes if cube.seq not in came or cube.seq in with_state]
    if moving and parts.activation is None:
        raise _no_local_model(parts)
    result: UndoResult = {"undone": [cube.id for cube in cubes], "op": op.id}
    follow: Callable[[], None] = _nothing
    if moving and parts.activation is not None:
        follow = _move(parts.activation, connection, caller, moving, way)[1]
    operations.record(connection, op, _unchanged(cubes), result)
    parts.working.refill(caller)
    return result, follow


def _nothing() -> None:
    """What follows where nothing moved."""


def _move(
    activation: ActivationMemory, connection: Connection, caller: Caller, cubes: Sequence[Cube], way: str
) -> tuple[str | None, Callable[[], None]]:
    """The job, if there is one, and what is to follow the commit."""
    seqs = [cube.seq for cube in cubes]
    if way == TO_PLAINTEXT:
        activation.demote(connection, seqs)
        return None, lambda: activation.drop_states(seqs)
    job = activation.promote(connection, cubes, caller.principal)
    return job, lambda: activation.build(job)


def _unchanged(cubes: Sequence[Cube]) -> list[Change]:
    return [Change(cube.id, None, None, None, None) for cube in cubes]


def _to_activation(parts: Parts, caller: Caller, ids: Sequence[str]) -> PromoteResult:
    with parts.ledger.read() as connection:
        cubes = _to_read(parts, connection, caller, ids)
    activation = activation_of(parts)
    if activation.holds([(cube.seq, cube.version) for cube in cubes]):
        return {"moved": [], "op": None}
    with parts.ledger.write() as connection:
        cubes = _to_read(parts, connection, caller, ids)
        _require_keepable(cubes, parts.stamp())
        op = begun(parts, caller, "promote", TO_ACTIVATION)
        job, follow = _move(activation, connection, caller, cubes, TO_ACTIVATION)
        assert job is not None
        operations.record(connection, op, _unchanged(cubes), {"moved": [], "op": op.id, "job": job})
    follow()
    parts.usage.served([cube.seq for cube in cubes], parts.stamp(), caller, "promoted")
    activation.wait(job, WAIT_S)
    found = parts.jobs.find(job)
    if found is not None and found.state == "failed":
        raise Conflict(found.error or "The memories could not be read by the model: see the log.")
    if found is not None and found.state == "queued" and found.error:
        raise Conflict(f"{found.error} It is tried again later (memos://jobs/{job}).")
    if found is not None and found.state == "done":
        return {"moved": [cube.id for cube in cubes], "op": op.id, "job": job}
    return {"moved": [], "op": op.id, "job": job}


def _to_read(parts: Parts, connection: Connection, caller: Caller, ids: Sequence[str]) -> list[Cube]:
    """The memories that the model is to read: of a composition its parts."""
    found = compose.in_parts(parts, connection, caller, cubes_for(parts, connection, caller, ids, "read"))
    if not found:
        raise Conflict("No part of it is there, or yours to read: name others.")
    return found


def _require_keepable(cubes: Sequence[Cube], now: str) -> None:
    for cube in cubes:
        said = cube.snapshot
        over = not cube.is_alive(now)
        if said.kind in TEXTLESS:
            what = "an adapter" if said.kind == ADAPTER else "a steering vector"
            raise Conflict(f"Memory {cube.id} is {what} and no text: name the memories that it is made of.")
        if over or said.sensitivity == "secret":
            why = "is over" if over else "is secret, and secrets are kept in no state"
            raise Conflict(f"Memory {cube.id} {why}: name others.")


def _to_plaintext(parts: Parts, caller: Caller, ids: Sequence[str]) -> PromoteResult:
    if len(ids) == 1 and (kept := _conversation(parts, caller, ids[0])) is not None:
        return kept
    with parts.ledger.read() as connection:
        trained = parametric.together(ids, cubes_for(parts, connection, caller, ids, "read"))
    if trained:
        return parametric.back(parts, caller, ids)
    activation = parts.activation
    with parts.ledger.write() as connection:
        named = cubes_for(parts, connection, caller, ids, "read")
        inside = compose.in_parts(parts, connection, caller, named)
        cubes = [*named, *(cube for cube in inside if cube.id not in ids)]
        seqs = [cube.seq for cube in cubes]
        held = activation.demote(connection, seqs) if activation is not None else set()
        ready = working.inside(connection, caller)
        moved = [cube for cube in cubes if cube.seq in held or cube.seq in ready]
        if not moved:
            return {"moved": [], "op": None}
        op = begun(parts, caller, "promote", TO_PLAINTEXT if held else FROM_WORKING)
        working.take_out(connection, caller, [seq for seq in seqs if seq in ready], op, held)
        result: PromoteResult = {"moved": [cube.id for cube in moved], "op": op.id}
        operations.record(connection, op, _unchanged(moved), result)
    if activation is not None:
        activation.drop_states(seqs)
    parts.working.refill(caller)
    return result


def _conversation(parts: Parts, caller: Caller, name: str) -> PromoteResult | None:
    """Keep the turns of the caller's conversation as memories of its session; None if there is none of this id.

    It can be gone on with as before; a turn that was kept before is not kept twice.
    """
    found = _turns(parts, caller, name)
    if found is None:
        return None
    owner, turns = found
    messages = [
        Message(role=role, content=text, ref=f"{name}:{place}") for place, (role, text) in enumerate(turns) if text
    ]
    with parts.ledger.read() as connection:
        space = governance.space_of(connection, owner.space).name
    kept = add.add(parts, caller, AddRequest(messages=messages, space=space, session=owner.session))
    return {"moved": [cube["id"] for cube in kept["cubes"]], "op": kept["op"]}


def _turns(parts: Parts, caller: Caller, name: str) -> tuple[Owner, list[tuple[Role, str]]] | None:
    """Whose conversation it is, and its questions and answers in order."""
    if parts.transcripts is not None:
        said = parts.transcripts.said(name, caller.principal)
        if said is None:
            return None
        turns: list[tuple[Role, str]] = []
        for turn in said.turns:
            turns += [("user", turn.question), ("assistant", turn.answer.strip())]
        return said.owner, turns
    if parts.activation is None or not parts.activation.is_conversation(name, caller.principal):
        return None
    activation_of(parts)
    found = parts.activation.conversations.said(name, caller.principal)
    if found is None:
        raise NotFound("conversation", [name], "memory_ask with a session begins one.")
    return found
