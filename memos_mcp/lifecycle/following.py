"""Keeps the table of reviews up with the ledger: what changed, what was used, and what new rules may concern.

Knows nothing of what is then done. Each step reads a bounded number of rows from where the last one ended, and writes
them with the note of that in one transaction: repeated after a crash it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from memos_mcp.cube import Cube
from memos_mcp.ledger import operations, reviews
from memos_mcp.ledger.reviews import Changed, Place, Review
from memos_mcp.lifecycle.life import CLIENT, Judge, Life, review_of
from memos_mcp.policies.lifecycle import Action
from memos_mcp.states import State

NOTE = "life"
BATCH = 64
"""Changes or memories that one step reads."""
USES = 128
"""Uses that one step reads: many are of the same memories."""


def follow(life: Life) -> int:
    """Take the next step: changes before uses, and both before judging anew; returns how many rows were read, 0 when
    the table is up with the ledger.

    Raises:
        StorageFailed: nothing was written.
    """
    with life.ledger.read() as connection:
        place = _place(life, connection)
        found = _changes(life, connection, place) or _uses(life, connection, place) or _sweep(life, connection, place)
        if found is None and place.as_json() == life.ledger.get(connection, NOTE):
            return 0
    read, rows, gone, place = found or (0, [], [], place)
    with life.ledger.write() as connection:
        fresh = reviews.standing(connection, [cube.seq for cube, _ in rows])
        # one that changed in between comes again with its later change
        reviews.put(connection, [row for cube, row in rows if fresh.get(cube.seq) == (cube.version, cube.state)])
        reviews.drop(connection, gone)
        life.ledger.put(connection, NOTE, place.as_json())
    return read


def judge_anew(life: Life, connection: Connection) -> None:
    """Have every memory judged anew, a step at a time: a policy has changed."""
    place = _place(life, connection)
    life.ledger.put(connection, NOTE, replace(place, sweep=0, upto=life.vault.last(connection)).as_json())


def up_with(life: Life, connection: Connection) -> bool:
    """Whether nothing is left to be read."""
    place = _place(life, connection)
    pending = reviews.changed_after(connection, place, 1) or reviews.used_after(connection, place.use, 1)
    return not pending and place.sweep >= place.upto


_Read = tuple[int, list[tuple[Cube, Review]], list[int], Place]
"""How many were read, memories with their rows, numbers of those that need none, and the place after them."""


def _place(life: Life, connection: Connection) -> Place:
    """Where to go on. At first all changes are read; uses only from then on, for the memories know those before."""
    found = Place.from_json(life.ledger.get(connection, NOTE))
    if found is None:
        return Place(use=reviews.last_use(connection), rules=life.rules)
    if found.rules != life.rules:
        return replace(found, rules=life.rules, sweep=0, upto=life.vault.last(connection))
    return found


def _changes(life: Life, connection: Connection, place: Place) -> _Read | None:
    met = reviews.changed_after(connection, place, BATCH)
    if not met:
        return None
    cubes = life.vault.by_ids(connection, list(dict.fromkeys(one.change.cube for one in met)))
    before = reviews.of(connection, [cube.seq for cube in cubes.values()])
    for one in met:
        cube = cubes.get(one.change.cube)
        if cube is not None and _is_wish(one):
            known = before.get(cube.seq, Review(cube.seq, cube.space, None, None))
            held = None if _is_of_form(one) else known.held
            before[cube.seq] = replace(known, since=max(known.since or "", one.at), held=held)
    last = met[-1]
    place = replace(place, op=last.op, cube=last.change.cube)
    return len(met), *_judged(life, connection, cubes.values(), before), place


def _uses(life: Life, connection: Connection, place: Place) -> _Read | None:
    """Uses put a review forward where they matter at once: a later review finds the others by itself."""
    met = reviews.used_after(connection, place.use, USES)
    if not met:
        return None
    seqs = list(dict.fromkeys(cube for _, cube in met))
    known = reviews.of(connection, seqs)
    judge, now, rows = Judge(life, connection), life.now(), list[tuple[Cube, Review]]()
    asked = sorted(known)
    if judge.context.room is None:  # no other form can be theirs: a use matters to what was never used alone
        asked = [seq for seq, (_, state) in reviews.standing(connection, asked).items() if state == State.GENERATED]
    cubes = life.vault.by_seqs(connection, asked)
    for seq, facts in judge.facts(list(cubes.values()), known).items():
        verdict = judge.at_any_age(facts, now)
        if verdict is not None and verdict.action in (Action.ACTIVATE, Action.PROMOTE):
            row = review_of(cubes[seq], known[seq], verdict, now)
            rows += [(cubes[seq], row)] if row is not None else []
    return len(met), rows, [], replace(place, use=met[-1][0])


def _sweep(life: Life, connection: Connection, place: Place) -> _Read | None:
    seqs = reviews.page(connection, place.sweep, BATCH) if place.sweep < place.upto else []
    if not seqs:
        return None
    cubes, before = life.vault.by_seqs(connection, seqs), reviews.of(connection, seqs)
    return len(seqs), *_judged(life, connection, cubes.values(), before), replace(place, sweep=seqs[-1])


def _judged(
    life: Life, connection: Connection, cubes: Iterable[Cube], before: dict[int, Review]
) -> tuple[list[tuple[Cube, Review]], list[int]]:
    judge, now, known = Judge(life, connection), life.now(), {cube.seq: cube for cube in cubes}
    rows, gone = [], []
    for seq, facts in judge.facts(list(known.values()), before).items():
        row = review_of(known[seq], before.get(seq), judge.decide(facts, now), now)
        if row is None:
            gone.append(seq)
        else:
            rows.append((known[seq], row))
    return rows, gone


def _is_wish(one: Changed) -> bool:
    """Whether somebody moved the memory to another state or form; neither the scheduler nor its being used."""
    moved = one.change.from_state is not None and one.change.to_state is not None
    return one.client != CLIENT and one.verb != "use" and (moved or _is_of_form(one))


def _is_of_form(one: Changed) -> bool:
    change = one.change
    return change == operations.Change(change.cube, None, None, None, None)
