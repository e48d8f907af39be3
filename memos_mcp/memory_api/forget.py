"""The verb forget: archives memories, or purges them with everything made from them."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection
from ulid import ULID

from memos_mcp import governance
from memos_mcp.cube import ADAPTER, Cube, clean_label, instant, parse_instant
from memos_mcp.errors import AccessDenied, ConfirmationNeeded, Conflict, InvalidInput, MemosError, StorageFailed
from memos_mcp.governance import Caller
from memos_mcp.jobs import Job, Steps
from memos_mcp.ledger import adapters, dialect, graph, kept_states, operations, steerings, vectors
from memos_mcp.ledger.operations import Change
from memos_mcp.memory_api import parametric, policy, retraining, summarise, trees
from memos_mcp.memory_api.parametric import Enrolled
from memos_mcp.memory_api.parts import Parts, begun, cubes_for
from memos_mcp.plaintext import lexical
from memos_mcp.plaintext.scope import Scope
from memos_mcp.requests import ForgetRequest
from memos_mcp.results import ForgetResult
from memos_mcp.states import State

MOST = 10_000
"""Memories that one call may forget."""
CONFIRM_MINUTES = 10
PROBE_BYTES = 16
"""Fewer are too few to tell a remnant from anything else."""
REBUILD = "rebuild-index"
"""Kind of the job that leaves no forgotten byte in any file: it cleans the ledger's, its step one, and builds the
indexes of these spaces anew; payload {"spaces": [number], "cleaned": whether the ledger's files are clean}."""
CLEANING_ATTEMPTS = 1_000_000
"""Nobody gives up to leave no forgotten byte."""
REBUILD_LOOK_S = 0.1
"""Seconds after which a rebuild that is waited for looks whether the program ends."""
_KEPT_FROM_IT = "a reader or the disk kept the ledger's files from being cleaned"
_SECRET = "confirm-secret"


@dataclass(frozen=True)
class _Plan:
    """What a call would forget: the memories asked for, those that hold their text, stand under them or steer by them,
    and what goes with either: keys of the local model's states, ids of others' cubes that lose their vector, and ids of
    the adapters that were trained on some of it."""

    targets: list[Cube]
    derived: list[Cube]
    states: list[str]
    adapters: list[str]

    @property
    def all(self) -> list[Cube]:
        return self.targets + self.derived


def forget(parts: Parts, caller: Caller, request: ForgetRequest) -> ForgetResult:
    """Plan what to forget, and carry it out unless `dry_run`.

    Raises:
        InvalidInput: neither ids nor a filter, or too many memories. NotFound, AccessDenied: not the caller's.
        ConfirmationNeeded: a filter without the token of its dry run, or the memories have changed since.
        Conflict: one of them is frozen, or under a legal hold.
    """
    by_filter = _is_filter(request)
    if (request.ids is not None) == by_filter:
        raise InvalidInput("Give either ids or a filter (query, tags, before).", field="ids")
    if by_filter and request.dry_run:
        return _dry_run(parts, caller, request)
    with parts.ledger.write() if not request.dry_run else parts.ledger.read() as connection:
        plan = _plan(parts, connection, caller, request)
        if request.dry_run:
            return _result(plan, [], None)
        if by_filter:
            _require_token(parts, connection, caller, request, plan)
        _require_thawed(plan)
        policy.require_free(parts, connection, plan.all)
        if not plan.targets:
            return _result(plan, [], None)
        if request.mode == "archive":
            op, moved = _archive(parts, connection, caller, plan)
        else:
            done = _erase(parts, connection, caller, plan)
    if request.mode == "archive":
        parts.changed(caller, moved, listing=True)
        return _result(plan, [cube.id for cube in moved], op)
    return _finish_purge(parts, caller, plan, done)


def _is_filter(request: ForgetRequest) -> bool:
    return request.query is not None or bool(request.tags) or request.before is not None or (
        request.ids is None and request.space is not None
    )


def _dry_run(parts: Parts, caller: Caller, request: ForgetRequest) -> ForgetResult:
    with parts.ledger.write() as connection:
        plan = _plan(parts, connection, caller, request)
        until = instant(parts.now() + timedelta(minutes=CONFIRM_MINUTES))
        result = _result(plan, [], None)
        result["confirm"] = _token(_secret(parts, connection), caller, request, plan, until)
    return result


def _plan(parts: Parts, connection: Connection, caller: Caller, request: ForgetRequest) -> _Plan:
    if request.ids is not None:
        if not request.ids:
            raise InvalidInput("ids is empty: name at least one memory.", field="ids")
        targets = cubes_for(parts, connection, caller, request.ids, "forget")
    else:
        targets = _matching(parts, connection, caller, request)
    if request.mode == "archive":
        targets = [cube for cube in targets if cube.state is not State.ARCHIVED or request.ids]
        named = {cube.id for cube in targets}
        over = (State.ARCHIVED, State.EXPIRED)
        under = [c for c in trees.below(parts, connection, targets) if c.id not in named and c.state not in over]
        gone = targets + _forgettable(connection, caller, under)
        steering = [c for c in parts.vault.of_steering(connection, [c.seq for c in gone]) if c.state not in over]
        steering = [c for c in steering if c.id not in named and _may_forget(connection, caller, c)]
        return _planned(parts, connection, targets, gone[len(targets) :] + steering)
    derived = _forgettable(connection, caller, parts.vault.derived_from(connection, [cube.id for cube in targets]))
    return _planned(parts, connection, targets, derived)


def _planned(parts: Parts, connection: Connection, targets: list[Cube], derived: list[Cube]) -> _Plan:
    seqs = [cube.seq for cube in targets + derived]
    named = {cube.id for cube in targets + derived}
    vectors_of_others = [name for name in steerings.made_from(connection, seqs) if name not in named]
    trained = parts.vault.by_seqs(connection, adapters.made_from(connection, seqs)).values()
    return _Plan(
        targets, derived, kept_states.containing(connection, seqs) + vectors_of_others, [cube.id for cube in trained]
    )


def _forgettable(connection: Connection, caller: Caller, derived: list[Cube]) -> list[Cube]:
    """The memories, if the caller may forget every one; a vector goes with what it is made of, whosever it is."""
    closed = [c for c in derived if c.snapshot.form == "plaintext" and not _may_forget(connection, caller, c)]
    if closed:
        raise AccessDenied(caller.principal, "forget", f"{len(closed)} memories made from these, in spaces of others")
    return derived


def _may_forget(connection: Connection, caller: Caller, cube: Cube) -> bool:
    space = governance.space_of(connection, cube.space)
    return governance.may(connection, caller.principal, "forget", space, cube.seq)


def _matching(parts: Parts, connection: Connection, caller: Caller, request: ForgetRequest) -> list[Cube]:
    names = [request.space or caller.space]
    spaces = governance.readable_spaces(connection, caller, names)
    for space in spaces:
        governance.require(connection, caller, "forget", space)
    ids = tuple(space.id for space in spaces)
    include = ("everything",) if request.mode == "purge" else ("superseded",)
    scope = Scope(
        ids,
        parts.stamp(),
        tags=tuple(clean_label(tag, "tag", 100) for tag in request.tags),
        before=parse_instant(request.before, "before") if request.before else None,
        include=include,
    )
    if request.query is not None:
        holding = lexical.holding_all(connection, request.query, ids, MOST + 1)
        seqs = sorted(scope.keep(connection, holding))
    else:
        seqs = sorted(scope.first(connection, MOST + 1))
    if len(seqs) > MOST:
        raise InvalidInput(f"Over {MOST:,} memories match: forget them in parts, with a narrower filter.")
    found = parts.vault.by_seqs(connection, seqs)
    return [found[seq] for seq in seqs]


def _require_thawed(plan: _Plan) -> None:
    frozen = [cube.id for cube in plan.all if cube.state is State.FROZEN]
    if frozen:
        named = ", ".join(frozen[:5])
        raise Conflict(f"Frozen memories are not forgotten: thaw {named} first (memory_update freeze=false).")


def _archive(parts: Parts, connection: Connection, caller: Caller, plan: _Plan) -> tuple[str | None, list[Cube]]:
    targets = [cube for cube in plan.all if cube.state not in (State.ARCHIVED, State.EXPIRED)]
    if not targets:
        return None, []
    op = begun(parts, caller, "forget", "archive")
    moved = parts.vault.move_all(connection, op, targets, State.ARCHIVED, "forget")
    answer = _result(plan, [cube.id for cube, _ in moved], op.id)
    operations.record(connection, op, [change for _, change in moved], answer)
    return op.id, [cube for cube, _ in moved]


@dataclass(frozen=True)
class _Purged:
    """What the purge's transaction leaves to do: a job, the spaces it rebuilds, bytes to look for, and adapters to be
    trained without what is gone."""

    op: str
    probes: list[bytes]
    job: str
    spaces: list[int]
    enrolled: list[Enrolled]


def _erase(parts: Parts, connection: Connection, caller: Caller, plan: _Plan) -> _Purged:
    cubes = plan.all
    probes = _probes(parts, connection, cubes)
    op = begun(parts, caller, "purge", "purge")
    spaces = _with_index(parts, connection, {cube.space for cube in cubes})
    made = [Change(cube.id, cube.version, None, cube.state, None) for cube in cubes]
    job = parts.jobs.create(
        connection, REBUILD, {"spaces": spaces}, 1 + len(spaces), priority=1.0, principal=caller.principal, holder=op.id
    )
    operations.record(connection, op, made, _purge_result(plan, op.id, job, spaces))
    named = {cube.seq for cube in plan.targets}
    losing = [one for one in retraining.trained_on(parts, connection, cubes) if one[0].seq not in named]
    enrolled = retraining.successors(parts, connection, losing, [cube.seq for cube in cubes])
    parts.vault.erase(connection, cubes)
    summarise.regroup(parts, connection, cubes)
    operations.mark_purged(connection, [cube.id for cube in cubes])
    return _Purged(op.id, probes, job, spaces, enrolled)


def _with_index(parts: Parts, connection: Connection, spaces: set[int]) -> list[int]:
    """Those of the spaces that have an index, or may have one in the making."""
    indexed = set(vectors.indexed_spaces(connection))
    if number := parts.embedder_number():
        counts = vectors.count_by_space(connection, number, sorted(spaces))
        indexed |= {space for space, count in counts.items() if count > parts.indexer.index_from}
    return sorted(spaces & indexed)


def _finish_purge(parts: Parts, caller: Caller, plan: _Plan, done: _Purged) -> ForgetResult:
    parts.cache.clear()
    parts.views.clear()
    for space in {cube.space for cube in plan.all}:
        parts.cache.touch(space, [cube.seq for cube in plan.all if cube.space == space])
    _clean(parts, done.job, done.op, done.spaces, done.probes)
    if parts.training is not None:
        parts.training.await_end([cube.seq for cube in plan.all])
    parts.changed(caller, plan.all, listing=True)
    parametric.announce(parts, caller, done.enrolled)
    return _purge_result(plan, done.op, done.job, done.spaces)


def _purge_result(plan: _Plan, op: str, job: str, spaces: list[int]) -> ForgetResult:
    result = _result(plan, [cube.id for cube in plan.all], op)
    if spaces:
        result["job"] = job
    return result


def _clean(parts: Parts, job: str, holder: str, spaces: Sequence[int], probes: Sequence[bytes] | None) -> None:
    """Clean the ledger's files as the holder of a purge's job, and give the rest of it back to be done behind.

    `probes` are bytes of what was purged; None when they are not known any more.
    """
    clean = parts.ledger.scrub(probes)
    payload = {"spaces": list(spaces), "cleaned": clean}
    with contextlib.suppress(MemosError):  # an unfinished job is taken up again
        if clean:
            state = "queued" if spaces else "done"
            parts.jobs.give_back(job, holder, state=state, done=1, payload=payload)
        else:
            parts.jobs.fail(job, holder, _KEPT_FROM_IT, CLEANING_ATTEMPTS)
    parts.jobs.notice()


def clean_left(parts: Parts) -> None:
    """Clean the ledger's files of what a crash or a reader kept from it; called once, before the runner starts."""
    parts.jobs.release([REBUILD])
    for left in parts.jobs.unfinished(REBUILD):
        holder = str(ULID())
        if not left.payload.get("cleaned") and parts.jobs.take(left.id, holder) is not None:
            _clean(parts, left.id, holder, left.payload["spaces"], None)


def rebuild(parts: Parts, job: Job, turn: Steps) -> None:
    """Do what is left of a purge's job. May be repeated after a crash.

    Raises:
        StorageFailed: something keeps a file as it is; to be tried again.
    """
    spaces = list(job.payload["spaces"])
    if not job.payload.get("cleaned"):
        if not parts.ledger.scrub(None):
            raise StorageFailed(_KEPT_FROM_IT)
        turn.step(1, {"spaces": spaces, "cleaned": True})
    while spaces:
        _rebuild(parts, spaces[0], turn)
        spaces = spaces[1:]
        turn.step(job.total - len(spaces), {"spaces": spaces, "cleaned": True})


def _rebuild(parts: Parts, space: int, turn: Steps) -> None:
    ended, said = threading.Event(), list[str]()

    def finished(error: str | None) -> None:
        said.extend([error] if error else [])
        ended.set()

    parts.indexer.rebuild(space, finished)
    while not ended.wait(REBUILD_LOOK_S):
        turn.step()
    if said:
        raise StorageFailed(f"The index of space {space} is not built anew yet: {said[0]}")


def _probes(parts: Parts, connection: Connection, cubes: Sequence[Cube]) -> list[bytes]:
    """Bytes by which a remnant of these memories would be recognised in a file."""
    seqs = [cube.seq for cube in cubes]
    kept = [version.snapshot.as_json() for cube in cubes for version in parts.vault.versions_of(connection, cube)]
    kept += dialect.full_text_tokens(connection, seqs).values()
    found = [text[:100].encode() for text in kept] + graph.only_here(connection, seqs)
    found += [data[len(data) // 3 :][:64] for data in vectors.raw_of(connection, seqs)]
    return [probe for probe in dict.fromkeys(found) if len(probe) >= PROBE_BYTES]


def _result(plan: _Plan, affected: list[str], op: str | None) -> ForgetResult:
    return {
        "would_affect": [cube.id for cube in plan.all],
        "affected": affected,
        "derived": {
            "cubes": [cube.id for cube in plan.derived if cube.snapshot.kind != ADAPTER],
            "states": plan.states,
            "adapters": plan.adapters,
        },
        "op": op,
    }


def _secret(parts: Parts, connection: Connection) -> bytes:
    found = parts.ledger.get(connection, _SECRET)
    if found is None:
        found = secrets.token_hex(32)
        parts.ledger.put(connection, _SECRET, found)
    return bytes.fromhex(found)


def _token(secret: bytes, caller: Caller, request: ForgetRequest, plan: _Plan, until: str) -> str:
    """A token that holds only for this caller, filter, mode and exact set of ids and versions, until `until`."""
    filter_part = request.model_dump_json(exclude={"dry_run", "confirm"})
    exact = ",".join(f"{cube.id}@{cube.version}" for cube in plan.all)
    signed = "\n".join([caller.principal, caller.space, until, filter_part, exact])
    return f"{until}.{hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest()[:32]}"


def _require_token(
    parts: Parts, connection: Connection, caller: Caller, request: ForgetRequest, plan: _Plan
) -> None:
    advice = "call memory_forget with dry_run=true and the same filter, look at what it lists, and pass its confirm."
    if not request.confirm:
        raise ConfirmationNeeded(f"Forgetting by a filter needs the token of its dry run: {advice}")
    until = request.confirm.rpartition(".")[0]
    expected = _token(_secret(parts, connection), caller, request, plan, until)
    if not hmac.compare_digest(expected.encode(), request.confirm.encode("utf-8", "replace")):
        raise ConfirmationNeeded(f"The token is not of this filter, or the memories it matches have changed: {advice}")
    if parts.stamp() > until:
        raise ConfirmationNeeded(f"The token is older than {CONFIRM_MINUTES} minutes: {advice}")
