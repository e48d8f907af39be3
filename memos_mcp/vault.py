"""Reads and writes cubes with everything kept beside them: versions, tags, attributes, links, full text, vectors.

Knows neither who may do so nor why; it works inside the transaction it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update
from ulid import ULID

from memos_mcp.cube import STEERING, TEXTLESS, Cube, Snapshot, content_hash, language_of
from memos_mcp.filterable import MOST_VALUE, filterable
from memos_mcp.governance import Space
from memos_mcp.ledger import adapters, channels, dialect, kept_states, packed, steerings, vectors
from memos_mcp.ledger.cube_rows import OF_CUBES, cube_of, row_of
from memos_mcp.ledger.erasure import erase_beside
from memos_mcp.ledger.operations import Change, Operation
from memos_mcp.ledger.schema import attributes, cubes, grants, links, tags, versions
from memos_mcp.ports import Vector
from memos_mcp.states import LIVE, State, move

LINEAGE = ("parent", "derived_from", "extracted_from", "fused_from", "copied_from", "summary_of")
"""Relations by which a memory holds another one's text; forgetting follows them."""
_T = TypeVar("_T")
_PART = 500
# Made once: to build a statement costs more than to run it.
_BY_IDS = OF_CUBES.where(dialect.among(cubes.c.id, "ids")).order_by(cubes.c.seq)
_BY_SEQS = OF_CUBES.where(dialect.among(cubes.c.seq, "seqs")).order_by(cubes.c.seq)
_NOT_OVER = OF_CUBES.where(cubes.c.space == bindparam("space"), cubes.c.state != State.EXPIRED).order_by(cubes.c.seq)
_BY_REF = _NOT_OVER.where(cubes.c.ref == bindparam("ref"))
_BY_CONTENT = _NOT_OVER.where(
    cubes.c.content_hash == bindparam("hash"), cubes.c.expires.is_(None) | (cubes.c.expires > bindparam("now"))
)
_MADE_FROM_OTHERS = (
    select(links.c.cube).where(links.c.cube == cubes.c.seq, links.c.relation == "parent").correlate(cubes).exists()
)
_LINKED_BY = (
    select(links.c.cube)
    .where(dialect.among(links.c.target, "ids"), links.c.relation == bindparam("relation"))
    .distinct()
)
_MOVED = (
    update(cubes).where(cubes.c.seq == bindparam("at")).values(state=bindparam("now"), frozen_from=bindparam("was"))
)
_ADDED_METADATA = {table: insert(table) for table in (tags, attributes, links)}


@dataclass(frozen=True)
class Version:
    """One version of a memory: its snapshot and the times between which it was the current one."""

    number: int
    op: str
    since: str
    until: str | None
    snapshot: Snapshot


class Vault:
    """Cubes with their derivatives.

    `tokens_of(space, snapshot, created)` gives the analysed text that full-text search holds of a memory.
    """

    def __init__(self, tokens_of: Callable[[int, Snapshot, str], str]) -> None:
        self._tokens_of = tokens_of

    def insert(
        self,
        connection: Connection,
        op: Operation,
        space: Space,
        drafts: Sequence[Snapshot],
        vectors_of: Sequence[Vector] | None,
        embedder: int,
        pause: Callable[[], None] = lambda: None,
        ids: Sequence[str] | None = None,
    ) -> tuple[list[Cube], list[Change]]:
        """Write new cubes in the state generated, in order: what `write` and then `embed` do."""
        made, changes = self.write(connection, op, space, drafts, pause, ids)
        self.embed(connection, made, vectors_of, embedder)
        return made, changes

    def write(
        self,
        connection: Connection,
        op: Operation,
        space: Space,
        drafts: Sequence[Snapshot],
        pause: Callable[[], None] = lambda: None,
        ids: Sequence[str] | None = None,
    ) -> tuple[list[Cube], list[Change]]:
        """Write new cubes in the state generated, in order; `embed` follows in the same transaction.

        `pause` is called before each, so that a long list can step aside. `ids` are given where the drafts name each
        other. Returns the cubes and the changes to record.
        """
        made: list[Cube] = []
        words: list[tuple[Cube, str]] = []
        for place, draft in enumerate(drafts):
            pause()
            cube = Cube(
                0, ids[place] if ids is not None else new_id(), space.id, space.name, 1, State.GENERATED, space.owner,
                op.at, op.at, op.client, language_of(draft.content), op.id, 0, None, draft,
            )  # fmt: skip
            made.append(replace(cube, seq=dialect.insert_row(connection, cubes, row_of(cube))))
            words.append((made[-1], self._tokens_of(space.id, draft, op.at)))
        self._index_metadata(connection, made)
        _put_words(connection, words)
        return made, [Change(c.id, None, 1, None, State.GENERATED) for c in made]

    def embed(
        self, connection: Connection, made: Sequence[Cube], vectors_of: Sequence[Vector] | None, embedder: int
    ) -> None:
        """Keep the vectors of cubes that were just written; without vectors, queue them for embedding."""
        if vectors_of is None:
            vectors.enqueue(connection, [(c.seq, c.space) for c in made if embeddable_text(c.snapshot)])
        else:
            vectors.put(connection, embedder, [(c.seq, 1, c.space, v) for c, v in zip(made, vectors_of, strict=True)])

    def rewrite(
        self,
        connection: Connection,
        op: Operation,
        cube: Cube,
        snapshot: Snapshot,
        vector: Vector | None,
        embedder: int,
    ) -> tuple[Cube, Change]:
        """Make `snapshot` the next version of the cube, keeping the former one.

        A changed text needs its `vector`; without one, a vector kept for the same text is used, else it is queued.
        """
        self._unpack(connection, [cube])
        former = {"cube": cube.seq, "version": cube.version, "op": cube.op, "since": cube.updated, "until": op.at}
        connection.execute(insert(versions), {**former, "snapshot": cube.snapshot.as_json()})
        fresh = replace(cube, version=cube.version + 1, snapshot=snapshot, updated=op.at, op=op.id)
        if snapshot.content != cube.snapshot.content:
            fresh = replace(fresh, language=language_of(snapshot.content))
        connection.execute(update(cubes).where(cubes.c.seq == cube.seq).values(row_of(fresh)))
        self._forget_metadata(connection, [cube.seq])
        self._index_metadata(connection, [fresh])
        _put_words(connection, [(fresh, self._tokens_of(fresh.space, snapshot, fresh.created))], replace=True)
        if embeddable_text(snapshot) != embeddable_text(cube.snapshot):
            self._replace_vector(connection, fresh, vector, embedder)
        elif fresh.stands != cube.stands:
            _move_vectors(connection, [cube.seq], fresh.stands)
        if snapshot.sensitivity != cube.snapshot.sensitivity:
            channels.hide(connection, [cube.seq], snapshot.sensitivity != "normal")
        kept_states.drop_containing(connection, [cube.seq])
        steerings.drop_made_from(connection, [cube.seq])
        adapters.rewritten(connection, cube, fresh)
        return fresh, Change(cube.id, cube.version, fresh.version, None, None)

    def move(self, connection: Connection, op: Operation, cube: Cube, target: State, event: str) -> tuple[Cube, Change]:
        """Move the cube to another state, and in or out of the main index with it.

        Raises:
            IllegalMove: the state table does not allow it.
        """
        return self.move_all(connection, op, [cube], target, event)[0]

    def move_all(
        self, connection: Connection, op: Operation, moving: Sequence[Cube], target: State, event: str
    ) -> list[tuple[Cube, Change]]:
        """The same for many cubes, in order.

        Raises:
            IllegalMove: the state table does not allow it for one of them; nothing was written.
        """
        moved: list[tuple[Cube, Change]] = []
        for cube in moving:
            move(cube.id, cube.state, target, event)
            fresh = replace(cube, state=target, frozen_from=cube.state if target is State.FROZEN else None)
            moved.append((fresh, Change(cube.id, None, None, cube.state, target)))
        if moved:
            rows = [{"at": c.seq, "now": c.state, "was": c.frozen_from} for c, _ in moved]
            connection.execute(_MOVED, rows)
        for stands in (False, True):
            pairs = zip(moving, moved, strict=True)
            over = [cube for cube, (fresh, _) in pairs if fresh.stands == stands != cube.stands]
            if crossing := [cube.seq for cube in over]:
                if stands:
                    self._unpack(connection, over)
                _move_vectors(connection, crossing, stands)
                dialect.move_full_text(connection, crossing, cold=not stands)
        if target not in LIVE:
            kept_states.drop_containing(connection, [cube.seq for cube in moving])
            steerings.drop_made_from(connection, [cube.seq for cube in moving])
            steerings.drop(connection, [cube.seq for cube in moving if cube.snapshot.kind == STEERING])
        adapters.moved(connection, moving, target, event)
        return moved

    def relocate(self, connection: Connection, moving: Sequence[Cube], space: Space) -> list[Cube]:
        """Give cubes another space, in order, with tags, metadata, words, vectors; id, versions, state, packing stay.

        What the local model has read of them is dropped, for it may have been read together with the former space's.
        """
        moved = [replace(cube, space=space.id, space_name=space.name, owner=space.owner) for cube in moving]
        seqs = [cube.seq for cube in moving]
        resting = packed.take_out(connection, seqs)  # a pack is of one space
        vectors.relocate(connection, [cube.seq for cube in moving if cube.stands], space.id, main=True)
        vectors.relocate(connection, [cube.seq for cube in moving if not cube.stands], space.id, main=False)
        for part in _parts(seqs):
            connection.execute(
                update(cubes).where(cubes.c.seq.in_(part)).values(space=space.id, owner=space.owner)
            )
            for table in (tags, attributes):
                connection.execute(update(table).where(table.c.cube.in_(part)).values(space=space.id))
        _put_words(
            connection, [(c, self._tokens_of(c.space, c.snapshot, c.created)) for c in moved], replace=True
        )
        packed.put(connection, space.id, resting)
        kept_states.drop_containing(connection, seqs)
        return moved

    def by_ids(self, connection: Connection, ids: Sequence[str]) -> dict[str, Cube]:
        """Cubes by id; unknown ids are left out."""
        return {cube.id: cube for cube in _all(connection, _BY_IDS, ids=dialect.listed(ids))} if ids else {}

    def by_seqs(self, connection: Connection, seqs: Sequence[int]) -> dict[int, Cube]:
        """Cubes by number; unknown ones are left out."""
        return {cube.seq: cube for cube in _all(connection, _BY_SEQS, seqs=dialect.listed(seqs))} if seqs else {}

    def by_ref(self, connection: Connection, space: int, ref: str) -> Cube | None:
        """The memory that carries the caller's own identifier and is not over."""
        found = _all(connection, _BY_REF, space=space, ref=ref)
        return found[-1] if found else None

    def by_content(self, connection: Connection, space: int, content: str, now: str) -> list[Cube]:
        """Memories of the space with this very text that are not over by `now`, oldest first."""
        return _all(connection, _BY_CONTENT, space=space, hash=content_hash(content), now=now)

    def holding(self, connection: Connection, space: int, key: str, value: str) -> list[Cube]:
        """Memories of the space that are not over and whose metadata hold this text under this key, oldest first."""
        rows = select(attributes.c.cube).where(
            attributes.c.space == space, attributes.c.key == key, attributes.c.text == value[:MOST_VALUE]
        )
        return _select(connection, cubes.c.seq.in_(rows) & (cubes.c.state != State.EXPIRED))

    def made_from(self, connection: Connection, ids: Sequence[str]) -> list[Cube]:
        """Memories that name one of these as a parent and are not over, in the order of writing."""
        found: list[Cube] = []
        for part in _parts(ids):
            rows = select(links.c.cube).where(links.c.relation == "parent", links.c.target.in_(part))
            found += _select(connection, cubes.c.seq.in_(rows) & (cubes.c.state != State.EXPIRED))
        return found

    def linked_by(self, connection: Connection, ids: Sequence[str], relation: str) -> list[Cube]:
        """Memories that are not over and have a link of this relation to one of these, in the order of writing."""
        seqs = list(connection.execute(_LINKED_BY, {"ids": dialect.listed(ids), "relation": relation}).scalars())
        found = self.by_seqs(connection, seqs).values() if seqs else ()
        return [cube for cube in found if cube.state is not State.EXPIRED]

    def neighbours(self, connection: Connection, cube: Cube, reach: int, now: str) -> tuple[list[Cube], list[Cube]]:
        """Up to `reach` memories of the same session, live at `now`, before and after the cube, in order.

        What was made from other memories stands beside the conversation, not in it.
        """
        if cube.snapshot.session is None or reach <= 0:
            return [], []
        same = (
            (cubes.c.space == cube.space)
            & (cubes.c.session == cube.snapshot.session)
            & cubes.c.state.in_(LIVE)
            & cubes.c.superseded_by.is_(None)
            & (cubes.c.expires.is_(None) | (cubes.c.expires > now))
            & ~_MADE_FROM_OTHERS
        )
        before = _select(connection, same & (cubes.c.seq < cube.seq), limit=reach, newest_first=True)
        after = _select(connection, same & (cubes.c.seq > cube.seq), limit=reach)
        return before[::-1], after

    def page(
        self, connection: Connection, space: int, after: int, limit: int, created_by: str | None = None
    ) -> list[Cube]:
        """Memories of a space (written by `created_by`) in the order of writing, those after number `after`."""
        where = (cubes.c.space == space) & (cubes.c.seq > after)
        where = where if created_by is None else where & (cubes.c.created <= created_by)
        return _select(connection, where, limit=limit)

    def versions_at(self, connection: Connection, seqs: Sequence[int], at: str) -> dict[int, Version]:
        """The former versions, by cube, that were the current ones at a time."""
        query = select(versions).where(
            dialect.among(versions.c.cube, "seqs"), versions.c.since <= at, versions.c.until > at
        )
        rows = connection.execute(query.order_by(versions.c.version), {"seqs": dialect.listed(seqs)}).all()
        texts = packed.filled(connection, [(row.cube, row.version, row.snapshot) for row in rows])
        return {
            row.cube: Version(row.version, row.op, row.since, row.until, Snapshot.from_json(text))
            for row, text in zip(rows, texts, strict=True)
        }

    def of_steering(self, connection: Connection, sources: Sequence[int]) -> list[Cube]:
        """The steering vectors that are made of one of these and are not over, in the order of writing."""
        ids = [cube.id for cube in self.by_seqs(connection, sources).values()]
        return [cube for cube in self.made_from(connection, ids) if cube.snapshot.kind == STEERING]

    def of_kind(self, connection: Connection, kind: str, after: int, limit: int) -> list[Cube]:
        """Memories of a kind in every space and state, in the order of writing, those after number `after`."""
        return _select(connection, (cubes.c.kind == kind) & (cubes.c.seq > after), limit=limit)

    def last(self, connection: Connection) -> int:
        """The number of the memory written last; 0 when there is none."""
        return int(connection.execute(select(func.max(cubes.c.seq))).scalar() or 0)

    def versions_of(self, connection: Connection, cube: Cube) -> list[Version]:
        """Every version, oldest first, the current one last."""
        query = select(versions).where(versions.c.cube == cube.seq).order_by(versions.c.version)
        rows = connection.execute(query).all()
        texts = packed.filled(connection, [(cube.seq, row.version, row.snapshot) for row in rows])
        former = [
            Version(row.version, row.op, row.since, row.until, Snapshot.from_json(text))
            for row, text in zip(rows, texts, strict=True)
        ]
        return [*former, Version(cube.version, cube.op, cube.updated, None, cube.snapshot)]

    def version(self, connection: Connection, cube: Cube, number: int) -> Snapshot | None:
        """The snapshot of one version."""
        if number == cube.version:
            return cube.snapshot
        query = select(versions.c.snapshot).where(versions.c.cube == cube.seq, versions.c.version == number)
        found = connection.execute(query).scalar()
        return None if found is None else Snapshot.from_json(packed.filled(connection, [(cube.seq, number, found)])[0])

    def derived_from(self, connection: Connection, ids: Sequence[str]) -> list[Cube]:
        """Every cube made from these, however far down: fused, split, extracted or copied."""
        found: dict[str, Cube] = {}
        frontier = list(ids)
        while frontier:
            query = select(links.c.cube).where(links.c.relation.in_(LINEAGE), links.c.target.in_(frontier[:_PART]))
            fresh = self.by_seqs(connection, list(connection.execute(query).scalars()))
            frontier = frontier[_PART:] + [c.id for c in fresh.values() if c.id not in found and c.id not in ids]
            found |= {c.id: c for c in fresh.values() if c.id not in ids}
        return list(found.values())

    def erase(self, connection: Connection, gone: Sequence[Cube]) -> None:
        """Delete cubes with all that is kept of them."""
        seqs = [cube.seq for cube in gone]
        erase_beside(connection, seqs)
        dialect.remove_full_text(connection, seqs)
        self._forget_metadata(connection, seqs)
        for part in _parts(seqs):
            connection.execute(delete(cubes).where(cubes.c.seq.in_(part)))
        self._unlink(connection, [cube.id for cube in gone])
        dialect.scrub_full_text(connection)

    def access_list(self, connection: Connection, cube: Cube) -> dict[str, list[str]]:
        """Who was granted what on the cube or on its space, by principal."""
        query = select(grants.c.principal, grants.c.can).where(
            (grants.c.cube == cube.seq) | (grants.c.space == cube.space)
        )
        found: dict[str, list[str]] = {}
        for principal, can in connection.execute(query.order_by(grants.c.id)):
            found.setdefault(principal, []).append(can)
        return found

    def count(self, connection: Connection) -> int:
        """How many cubes the ledger holds, in any state."""
        return int(connection.execute(select(func.count()).select_from(cubes)).scalar_one())

    def rebuild_full_text(self, connection: Connection) -> int:
        """Write the full text of every cube anew; returns how many."""
        dialect.clear_full_text(connection)
        last: int | None = 0
        while last is not None:
            last = self.rewrite_full_text(connection, last, _PART)
        return self.count(connection)

    def rewrite_full_text(self, connection: Connection, after: int, limit: int) -> int | None:
        """Write full text anew for the next `limit` cubes above number `after`; returns the last one's, or None."""
        batch = _select(connection, cubes.c.seq > after, limit=limit)
        _put_words(
            connection, [(c, self._tokens_of(c.space, c.snapshot, c.created)) for c in batch], replace=True
        )
        return batch[-1].seq if batch else None

    def settle_vectors(self, connection: Connection) -> None:
        """Bring vectors into the main index, or out of it, where it does not hold exactly what stands."""
        inside, outside = vectors.astray(connection)
        vectors.leave(connection, inside)
        vectors.enter(connection, outside)

    def _unpack(self, connection: Connection, changing: Sequence[Cube]) -> None:
        """Take the memories out of their packs, those that are in one, and have them embedded again."""
        if back := set(packed.take_out(connection, [cube.seq for cube in changing])):
            again = [cube for cube in changing if cube.seq in back and embeddable_text(cube.snapshot)]
            vectors.enqueue(connection, [(cube.seq, cube.space) for cube in again])

    def _replace_vector(self, connection: Connection, cube: Cube, vector: Vector | None, embedder: int) -> None:
        vectors.retire(connection, cube.seq)
        if vector is None:
            vectors.enqueue(connection, [(cube.seq, cube.space)])
        else:
            vectors.dequeue(connection, [cube.seq])
            vectors.put(connection, embedder, [(cube.seq, cube.version, cube.space, vector)])

    def _index_metadata(self, connection: Connection, made: Iterable[Cube]) -> None:
        tag_rows, value_rows, link_rows = [], [], []
        for cube in made:
            snapshot = cube.snapshot
            tag_rows += [{"space": cube.space, "tag": tag, "cube": cube.seq} for tag in snapshot.tags]
            value_rows += [
                {"space": cube.space, "key": key, "text": text, "number": number, "cube": cube.seq}
                for key, text, number in filterable(snapshot.metadata)
            ]
            edges = {(link.to, link.relation) for link in snapshot.links}
            edges |= {(parent, "parent") for parent in snapshot.parents}
            edges |= {(old, "supersedes") for old in snapshot.supersedes}
            link_rows += [{"cube": cube.seq, "target": to, "relation": relation} for to, relation in sorted(edges)]
        for table, rows in ((tags, tag_rows), (attributes, value_rows), (links, link_rows)):
            if rows:
                connection.execute(_ADDED_METADATA[table], rows)

    def _forget_metadata(self, connection: Connection, seqs: Sequence[int]) -> None:
        for part in _parts(seqs):
            for table in (tags, attributes, links):
                connection.execute(delete(table).where(table.c.cube.in_(part)))

    def _unlink(self, connection: Connection, ids: Sequence[str]) -> None:
        """Take erased ids out of what other memories say, without a new version: nothing is there to return to."""
        gone = set(ids)
        for part in _parts(ids):
            holders = select(links.c.cube).where(links.c.target.in_(part))
            pointing = _select(connection, cubes.c.seq.in_(holders) | cubes.c.superseded_by.in_(part))
            self._unpack(connection, pointing)
            for cube in pointing:
                old = cube.snapshot
                snapshot = replace(
                    old,
                    links=tuple(link for link in old.links if link.to not in gone),
                    parents=tuple(p for p in old.parents if p not in gone),
                    supersedes=tuple(s for s in old.supersedes if s not in gone),
                    superseded_by=None if old.superseded_by in gone else old.superseded_by,
                    valid_to=None if old.superseded_by in gone else old.valid_to,
                )
                fresh = replace(cube, snapshot=snapshot)
                connection.execute(update(cubes).where(cubes.c.seq == cube.seq).values(row_of(fresh)))
                if fresh.stands != cube.stands:
                    _move_vectors(connection, [cube.seq], fresh.stands)
                    dialect.move_full_text(connection, [cube.seq], cold=not fresh.stands)
            connection.execute(delete(links).where(links.c.target.in_(part)))


def _put_words(connection: Connection, written: Sequence[tuple[Cube, str]], *, replace: bool = False) -> None:
    for cold in (False, True):
        rows = [(cube.seq, tokens) for cube, tokens in written if cube.stands is not cold]
        dialect.put_full_text(connection, rows, cold=cold, replace=replace)


def _move_vectors(connection: Connection, seqs: Sequence[int], stands: bool) -> None:
    (vectors.enter if stands else vectors.leave)(connection, seqs)


def new_id() -> str:
    """An id that no memory has; later ones sort behind earlier ones."""
    return str(ULID())


def embeddable_text(snapshot: Snapshot) -> str:
    """The text whose meaning is embedded: who speaks, and what; nothing of what is not to be found by meaning."""
    if snapshot.kind in TEXTLESS:
        return ""
    return f"{snapshot.name}: {snapshot.content}" if snapshot.name else snapshot.content


def _select(
    connection: Connection, where: Any, *, limit: int | None = None, newest_first: bool = False
) -> list[Cube]:
    order = cubes.c.seq.desc() if newest_first else cubes.c.seq
    return _all(connection, OF_CUBES.where(where).order_by(order).limit(limit))


def _all(connection: Connection, query: Select[Any], **values: Any) -> list[Cube]:
    rows = connection.execute(query, values).all()
    texts = packed.filled(connection, [(row.seq, row.version, row.snapshot) for row in rows])
    return [cube_of(row, text) for row, text in zip(rows, texts, strict=True)]


def _parts(values: Sequence[_T]) -> list[Sequence[_T]]:
    return [values[start : start + _PART] for start in range(0, len(values), _PART)]
