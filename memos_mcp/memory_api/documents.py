"""Keeps whole documents: a tree of memories, of which a second time changes only what has changed.

Knows nothing of files or formats. First it is decided what becomes of each node (`_plan`), then it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection

from memos_mcp import governance, reader
from memos_mcp.cube import Cube, Snapshot, content_hash
from memos_mcp.documents.formats import form_of
from memos_mcp.documents.manuscript import SPLIT_FROM, Folder, Manuscript, Node, nodes
from memos_mcp.documents.markup import Heading
from memos_mcp.documents.matching import matched
from memos_mcp.documents.position import DOCUMENT, FOLDER, KEY, Position, edited, placed, position_of, sum_of, title_of
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.lifecycle.life import under_hold
from memos_mcp.memory_api.parts import Parts, begun, cubes_for, life_of
from memos_mcp.policies.admission import renewed
from memos_mcp.requests import AddRequest, DocumentRequest, DropRequest
from memos_mcp.results import AddResult, DocumentResult
from memos_mcp.states import State
from memos_mcp.vault import new_id

PAUSE_S = 0.025
"""Seconds that each memory of a document waits for questions in progress."""
OF, NODE = f"{KEY}.of", f"{KEY}.node"
Verdict = Literal["new", "changed", "placed", "unchanged"]


@dataclass(frozen=True)
class _Asked:
    """What a call keeps. `again`: what a person archived comes back too, for it was said again."""

    caller: Caller
    space: str
    of: str
    nodes: Sequence[Node]
    folders: Sequence[Folder] = ()
    again: bool = False


@dataclass(frozen=True)
class _Step:
    """What becomes of a node: it is new, or `held` gets `snapshot` as its next version, or stays as it is.

    Verdict placed: only where it stands in the source has changed.
    """

    verdict: Verdict
    id: str
    snapshot: Snapshot
    held: Cube | None


@dataclass(frozen=True)
class _Plan:
    """Steps for the folders above and for the document's nodes, in order, and the memories that are archived."""

    folders: list[_Step]
    steps: list[_Step]
    gone: list[Cube]

    @property
    def empty(self) -> bool:
        return not self.gone and all(step.verdict == "unchanged" for step in self.folders + self.steps)


@dataclass
class _Done:
    """What a call's transaction did, collected as it goes."""

    op: Operation | None = None
    written: dict[str, Cube] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


def concerns(parts: Parts, caller: Caller, request: AddRequest) -> bool:
    """Whether what is to be added is kept as a tree: a long document, or a new text of one that is kept so."""
    if request.kind != "document" or request.content is None or request.messages is not None:
        return False
    if len(request.content) >= SPLIT_FROM or request.ref is None:
        return len(request.content) >= SPLIT_FROM
    with parts.ledger.read() as connection:
        space = governance.find_space(connection, request.space or caller.space)
        held = parts.vault.by_ref(connection, space.id, request.ref.strip()) if space is not None else None
    at = position_of(held.snapshot) if held is not None else None
    return at is not None and at.node == DOCUMENT


def add(parts: Parts, caller: Caller, request: AddRequest) -> AddResult:
    """Keep a document given as a text; see `add.add`. It is known again by its ref, else by the address in source.

    Raises:
        InvalidInput: a value that cannot be kept. NotFound, AccessDenied: a space or id that is not the caller's.
        Conflict: a part that has changed is frozen. StorageFailed: nothing was written.
    """
    shared = _shared(request)
    text = request.content or ""
    of, title = _identity(shared, text)
    manuscript = Manuscript(of, title, text, form_of(text))
    asked = _Asked(caller, request.space or caller.space, of, nodes(manuscript, shared), again=True)
    plan, done = _kept(parts, asked, request)
    return _answer(plan, done)


def keep(parts: Parts, caller: Caller, request: DocumentRequest) -> DocumentResult:
    """Keep a document with the folders above it; what is returned is on disk, or with `dry_run` only planned.

    Raises:
        InvalidInput, NotFound, AccessDenied, Conflict, StorageFailed: as `add`.
    """
    about = request.about
    shared = _shared(about.model_copy(update={"content": request.title, "kind": about.kind or "document"}))
    headings = tuple(Heading(one.offset, one.level, one.title) for one in request.headings or ())
    manuscript = Manuscript(
        request.of, title_of(request.title), request.content, request.form, headings or None, tuple(request.pages),
        digest=request.digest,
    )  # fmt: skip
    folders = [Folder(one.of, title_of(one.title)) for one in request.folders]
    asked = _Asked(caller, about.space or caller.space, request.of, nodes(manuscript, shared), folders)
    if request.dry_run:
        return _told(_planned(parts, asked), None)
    plan, done = _kept(parts, asked, about)
    return _told(plan, done)


def drop(parts: Parts, caller: Caller, request: DropRequest) -> DocumentResult:
    """Archive what is kept of a document that is no longer where it came from; it comes back with the document.

    Raises:
        NotFound, AccessDenied: a space that is not the caller's. StorageFailed: nothing was written.
    """
    asked = _Asked(caller, request.space or caller.space, request.of, [])
    with parts.ledger.read() as connection:
        governance.readable_spaces(connection, caller, [asked.space])
    if request.dry_run:
        return _told(_planned(parts, asked), None)
    return _told(*_kept(parts, asked, AddRequest()))


def listed(parts: Parts, caller: Caller, space: str | None) -> list[dict[str, Any]]:
    """The documents of a space: what identifies each, its id, state and digest, and whether it had vanished."""
    with parts.ledger.read() as connection:
        found = governance.find_space(connection, space or caller.space)
        if found is None:
            return []
        governance.require(connection, caller, "read", found)
        cubes = parts.vault.holding(connection, found.id, NODE, DOCUMENT)
    rows = [(cube, position_of(cube.snapshot)) for cube in cubes]
    return [
        {"of": at.of, "id": cube.id, "state": str(cube.state), "digest": at.digest, "vanished": at.vanished}
        for cube, at in rows
        if at is not None and at.node == DOCUMENT
    ]


def _shared(request: AddRequest) -> Snapshot:
    if KEY in request.metadata:
        raise InvalidInput(
            f"metadata has the key {KEY!r}, under which a document's parts keep their place: use another.",
            field="metadata",
        )
    return reader.drafts(request.model_copy(update={"content": (request.content or "")[:1000].strip() or "-"}))[0]


def _identity(shared: Snapshot, text: str) -> tuple[str, str]:
    """What a document added as a text is known by, and what it is called."""
    first = next((line for line in text.splitlines() if line.strip()), "").strip("#=-* \t")
    source = shared.source
    if source is not None and "/" in source and len(source.split()) == 1:
        return shared.ref or source, title_of(source)
    return shared.ref or f"text:{content_hash(text)}", title_of(source or first or shared.ref or "document")


def _planned(parts: Parts, asked: _Asked) -> _Plan:
    with parts.ledger.read() as connection:
        space = governance.find_space(connection, asked.space)
        if space is not None:
            governance.require(connection, asked.caller, "write", space)
        return _plan(parts, connection, space, asked)


def _plan(parts: Parts, connection: Connection, space: Space | None, asked: _Asked) -> _Plan:
    held = _held(parts, connection, space, asked) if space is not None else []
    held.sort(key=lambda cube: (cube.state is State.ARCHIVED, _at(cube, asked.of).start or 0, cube.seq))
    sketches = [(_source(cube, asked.of), _at(cube, asked.of)) for cube in held]
    continued = matched(sketches, [(sum_of(node.draft.content), node.at) for node in asked.nodes])
    folders = _folders(parts, connection, space, asked)
    steps: list[_Step] = []
    for node, place in zip(asked.nodes, continued, strict=True):
        above = steps[node.parent].id if node.parent is not None else folders[-1].id if folders else None
        steps.append(_step(node, held[place] if place is not None else None, above, asked))
    kept = {step.id for step in steps}
    gone = [cube for cube in held if cube.id not in kept and cube.state in (State.GENERATED, State.ACTIVATED)]
    protected = {cube.id for cube in under_hold(life_of(parts), connection, gone)}
    gone = [cube for cube in gone if cube.id not in protected]
    return _Plan(folders, steps, gone)


def _held(parts: Parts, connection: Connection, space: Space, asked: _Asked) -> list[Cube]:
    """What is kept of the document, and a memory that was kept whole before and is to become the document's own."""
    found = [cube for cube in parts.vault.holding(connection, space.id, OF, asked.of) if _is_of(cube, asked.of)]
    if not asked.nodes or any(_at(cube, asked.of).node == DOCUMENT for cube in found):
        return found
    draft = asked.nodes[0].draft
    if draft.ref is not None:
        same = parts.vault.by_ref(connection, space.id, draft.ref)
        return found if same is None or position_of(same.snapshot) is not None else [same, *found]
    alike = parts.vault.by_content(connection, space.id, draft.content, parts.stamp())
    plain = (draft.kind, None, None)
    adopted = [c for c in alike if (c.snapshot.kind, c.snapshot.ref, position_of(c.snapshot)) == plain]
    return [*adopted[:1], *found] if len(asked.nodes) == 1 else found


def _is_of(cube: Cube, of: str) -> bool:
    at = position_of(cube.snapshot)
    return at is not None and at.of == of and at.node != FOLDER


def _at(cube: Cube, of: str) -> Position:
    return position_of(cube.snapshot) or Position(of, DOCUMENT)


def _source(cube: Cube, of: str) -> str:
    """What stands for the text that a memory got from its source."""
    return _at(cube, of).sum or sum_of(cube.snapshot.content)


def _folders(parts: Parts, connection: Connection, space: Space | None, asked: _Asked) -> list[_Step]:
    """The folders above, each under the one before; one that is known keeps the place that it has."""
    steps: list[_Step] = []
    for folder in asked.folders:
        above = steps[-1].id if steps else None
        at = Position(folder.of, FOLDER, folder.title)
        cubes = parts.vault.holding(connection, space.id, OF, folder.of) if space is not None else []
        held = next((c for c in cubes if (there := position_of(c.snapshot)) and there.of == folder.of), None)
        if held is None:
            draft = Snapshot(content=folder.title or folder.of, kind="document", source=folder.of)
            steps.append(_Step("new", new_id(), placed(draft, at, above), None))
        elif held.snapshot.parents or above is None or held.state is State.FROZEN:
            steps.append(_Step("unchanged", held.id, held.snapshot, held))
        else:
            steps.append(_Step("placed", held.id, placed(held.snapshot, _at(held, folder.of), above), held))
    return steps


def _step(node: Node, held: Cube | None, above: str | None, asked: _Asked) -> _Step:
    forgotten = held is not None and _forgotten(held, asked)
    if held is None or (forgotten and _source(held, asked.of) != node.at.sum):
        return _Step("new", new_id(), placed(node.draft, node.at, above), None)
    snapshot = _next(held, node, above)
    same_text = snapshot.content == held.snapshot.content
    if held.state is State.FROZEN and not same_text:
        raise Conflict(
            f"Memory {held.id} is a part of this document that has changed, and is frozen: thaw it first "
            "(memory_update freeze=false)."
        )
    if forgotten or (snapshot == held.snapshot and held.state is not State.ARCHIVED):
        return _Step("unchanged", held.id, held.snapshot, held)
    if same_text and held.state in (State.FROZEN, State.MERGED):
        return _Step("unchanged", held.id, held.snapshot, held)
    return _Step(_verdict(held, snapshot), held.id, snapshot, held)


def _forgotten(held: Cube, asked: _Asked) -> bool:
    """Whether a person archived it, and it is not said again now."""
    return held.state is State.ARCHIVED and not asked.again and not _at(held, asked.of).vanished


def _verdict(held: Cube, snapshot: Snapshot) -> Verdict:
    here = replace(snapshot, metadata=_own(snapshot), parents=())
    there = replace(held.snapshot, metadata=_own(held.snapshot), parents=())
    return "placed" if here == there and held.state is not State.ARCHIVED else "changed"


def _own(snapshot: Snapshot) -> dict[str, Any]:
    """The caller's own metadata."""
    return {key: value for key, value in snapshot.metadata.items() if key != KEY}


def _next(held: Cube, node: Node, above: str | None) -> Snapshot:
    """The next version of a node that is held: the new text and place, and of the rest what is not said anew.

    What a person has changed stays: the place, and the text while the source's is as it was.
    """
    was, at = position_of(held.snapshot), position_of(node.draft) or node.at
    snapshot = replace(
        renewed(held.snapshot, node.draft),
        metadata={**_own(held.snapshot), **_own(node.draft)},
        name=node.draft.name,
        feedback=held.snapshot.feedback,
    )
    parents = held.snapshot.parents
    if was is not None and was.sum == at.sum and edited(held.snapshot):
        snapshot = replace(snapshot, content=held.snapshot.content)
    if was is not None and was.moved:
        return placed(snapshot, replace(at, order=was.order, moved=True), parents[0] if parents else None)
    return placed(snapshot, at, parents[0] if parents and above is None else above)


def _kept(parts: Parts, asked: _Asked, request: AddRequest) -> tuple[_Plan, _Done]:
    """Plan and carry out in one transaction, and tell of it."""
    caller, done = asked.caller, _Done()
    with parts.ledger.write() as connection:
        space = governance.open_space(connection, caller, asked.space, parts.stamp())
        replaced = cubes_for(parts, connection, caller, request.supersedes, "write")
        cubes_for(parts, connection, caller, [link.to for link in request.links], "read")
        plan = _plan(parts, connection, space, asked)
        if not plan.empty:
            done.op = begun(parts, caller, "add")
            _carry_out(parts, connection, done.op, space, plan, done)
            if replaced:
                _supersede(parts, connection, done.op, replaced, plan, done)
            operations.record(connection, done.op, done.changes, _answer(plan, done))
    if done.op is not None:
        parts.changed(caller, list(done.written.values()), listing=True)
    return plan, done


def _carry_out(
    parts: Parts, connection: Connection, op: Operation, space: Space, plan: _Plan, done: _Done
) -> None:
    steps = plan.folders + plan.steps
    fresh = [step for step in steps if step.verdict == "new"]
    made, changes = parts.vault.insert(
        connection, op, space, [step.snapshot for step in fresh], None, 0,
        lambda: parts.asking.step_aside(PAUSE_S), [step.id for step in fresh],
    )  # fmt: skip
    done.changes += changes
    done.written |= {cube.id: cube for cube in made}
    for step in steps:
        if step.held is not None and step.verdict != "unchanged":
            parts.asking.step_aside(PAUSE_S)
            _rewrite(parts, connection, op, step.held, step.snapshot, State.ACTIVATED, done)
    for cube in plan.gone:
        at = replace(_at(cube, ""), vanished=True)
        snapshot = replace(cube.snapshot, metadata={**cube.snapshot.metadata, KEY: at.as_json()})
        _rewrite(parts, connection, op, cube, snapshot, State.ARCHIVED, done)


def _rewrite(
    parts: Parts, connection: Connection, op: Operation, held: Cube, snapshot: Snapshot, state: State, done: _Done
) -> None:
    """Give a memory its next version, and bring it from or into the archive."""
    cube = held
    if State.ARCHIVED in (held.state, state) and held.state is not state:
        event = "forget" if state is State.ARCHIVED else "confirm"
        cube, _ = parts.vault.move(connection, op, cube, state, event)
    if snapshot != cube.snapshot:
        cube, _ = parts.vault.rewrite(connection, op, cube, snapshot, None, 0)
    versions = (held.version, cube.version) if cube.version != held.version else (None, None)
    states = (held.state, cube.state) if cube.state is not held.state else (None, None)
    done.written[cube.id] = cube
    done.changes.append(Change(cube.id, *versions, *states))


def _supersede(
    parts: Parts, connection: Connection, op: Operation, replaced: Sequence[Cube], plan: _Plan, done: _Done
) -> None:
    own = plan.steps[0]
    by = done.written.get(own.id) or own.held
    for old in replaced:
        if by is None or any(old.id == step.id for step in plan.steps) or old in plan.gone:
            raise Conflict(f"Memory {old.id} is a part of this document: leave it out of supersedes.")
        if old.state is State.FROZEN:
            raise Conflict(f"Memory {old.id} is frozen and cannot be superseded: thaw it first.")
        snapshot = replace(old.snapshot, superseded_by=by.id, valid_to=by.becomes_true)
        _rewrite(parts, connection, op, old, snapshot, old.state, done)


def _answer(plan: _Plan, done: _Done) -> AddResult:
    """New and changed nodes in order, then those that were archived."""
    shown = [step.id for step in plan.steps if step.verdict in ("new", "changed")] + [cube.id for cube in plan.gone]
    cubes = [done.written[one] for one in shown if one in done.written]
    return {
        "cubes": [{"id": c.id, "uri": c.uri, "version": c.version, "state": c.state} for c in cubes],
        "unchanged": [step.id for step in plan.steps if step.verdict in ("placed", "unchanged")],
        "similar": None,
        "op": done.op.id if done.op else None,
    }


def _told(plan: _Plan, done: _Done | None) -> DocumentResult:
    verdicts = [step.verdict for step in plan.steps]
    own = plan.steps[0] if plan.steps else None
    kept = own is not None and (done is not None or own.held is not None)
    return {
        "id": own.id if own is not None and kept else None,
        "added": verdicts.count("new"),
        "changed": verdicts.count("changed"),
        "unchanged": verdicts.count("placed") + verdicts.count("unchanged"),
        "archived": len(plan.gone),
        "op": done.op.id if done is not None and done.op is not None else None,
    }
