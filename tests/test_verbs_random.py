"""Whatever is done in whatever order: versions only grow, history is whole, and undoing twice restores."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, FakeIndex
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from person import Clock, Person, settings_for

from memos_mcp.cube import Snapshot, instant
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.kernel import Kernel
from memos_mcp.memory_api.past import as_they_were
from memos_mcp.results import RestoreResult
from memos_mcp.states import USED, State

Standing = dict[str, tuple[State, Snapshot]]
OUT_OF_THE_WAY = (State.ARCHIVED, State.EXPIRED)


def why(done: RestoreResult, cube: str) -> str:
    """Why a restoration left a memory as it is."""
    return next(one["why"] for one in done["left"] if one["id"] == cube)


WORDS = st.sampled_from(["tea", "coffee", "milk", "绿茶", "water"])


class Life(RuleBasedStateMachine):
    """A store under any sequence of calls."""

    cubes, ops, times = Bundle("cubes"), Bundle("ops"), Bundle("times")

    @initialize()
    def open_store(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.kernel = Kernel.open(
            settings_for(self.home, life="off"), embedder=lambda _: FakeEmbedder(), index=FakeIndex(), now=self.clock
        )
        self.kernel.api.parts.embedder.get(10.0)
        self.kernel.api.parts.usage.stop()  # what is looked at here is activated by nothing but the rules
        self.ada = Person(self.kernel.api, "ada")
        for space in ("personal", "work"):
            self.ada.api.read.create_space(self.ada.caller, space)
        self.versions: dict[str, int] = {}
        self.known_ops: dict[str, set[str]] = {}
        self.stood: dict[str, Standing] = {}
        self.was_in: dict[str, set[str]] = {}

    def teardown(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.close()
            shutil.rmtree(self.home)

    def see(self) -> dict[str, Any]:
        """What a caller can see of every memory, but for versions and operations."""
        seen = {}
        for cube in self.versions:
            kept = self.ada.api.read.cube(self.ada.caller, cube)
            del kept["version"], kept["descriptive"]["updated"], kept["lineage"]["op"]
            kept["found"] = cube in self.ada.ids("tea coffee milk water", top_k=50)
            seen[cube] = kept
        return seen

    def note(self, op: str | None, touched: list[str]) -> None:
        self.clock.advance(seconds=1)
        for cube in touched:
            self.versions.setdefault(cube, 0)
            if op is not None:
                self.known_ops.setdefault(cube, set()).add(op)

    def try_to(self, act: Callable[[], tuple[str | None, list[str]]]) -> str | None:
        """Do it, or leave everything as it was when it is refused."""
        before = self.see()
        try:
            op, touched = act()
        except (Conflict, InvalidInput):
            assert self.see() == before, "a refused call changed something"
            return None
        self.note(op, touched)
        return op

    @rule(target=cubes, word=WORDS, kind=st.sampled_from(["fact", "event"]))
    def add(self, word: str, kind: str) -> Any:
        added = self.ada.add(f"{word} is good", kind=kind)
        ids = [cube["id"] for cube in added["cubes"]]
        self.note(added["op"], ids)
        return multiple(*ids)

    @rule(target=ops, cube=cubes, word=WORDS)
    def rewrite(self, cube: str, word: str) -> Any:
        return self._op(lambda: (self.ada.update(cube, content=f"{word} is best")["op"], [cube]))

    @rule(target=ops, cube=cubes, tag=st.sampled_from(["a", "b"]), importance=st.sampled_from([0.1, 0.9]))
    def mark(self, cube: str, tag: str, importance: float) -> Any:
        return self._op(lambda: (self.ada.update(cube, tags=[tag], importance=importance)["op"], [cube]))

    @rule(target=ops, cube=cubes)
    def archive(self, cube: str) -> Any:
        return self._op(lambda: (self.ada.forget(cube)["op"], [cube]))

    @rule(target=ops, cube=cubes, frozen=st.booleans())
    def freeze(self, cube: str, frozen: bool) -> Any:
        return self._op(lambda: (self.ada.update(cube, freeze=frozen)["op"], [cube]))

    @rule(target=ops, cube=cubes)
    def confirm(self, cube: str) -> Any:
        return self._op(lambda: (self.ada.update(cube, feedback="useful")["op"], [cube]))

    @rule(target=ops, cube=cubes, word=WORDS)
    def supersede(self, cube: str, word: str) -> Any:
        def act() -> tuple[str | None, list[str]]:
            added = self.ada.add(f"{word} replaces it", kind="event", supersedes=[cube])
            return added["op"], [cube, added["cubes"][0]["id"]]

        return self._op(act)

    @rule(target=cubes, word=WORDS)
    def add_block(self, word: str) -> Any:
        added = self.ada.add(f"{word} comes first", kind="block", ref=f"block of {len(self.versions)}")
        ids = [cube["id"] for cube in added["cubes"]]
        self.note(added["op"], ids)
        return multiple(*ids)

    @rule(target=ops, cube=cubes, word=WORDS)
    def append(self, cube: str, word: str) -> Any:
        """To a block; anything else refuses it."""
        return self._op(lambda: (self.ada.update(cube, append=f"and {word}")["op"], [cube]))

    @rule(target=ops, one=cubes, other=cubes)
    def fuse(self, one: str, other: str) -> Any:
        def act() -> tuple[str | None, list[str]]:
            done = self.ada.fuse(one, other)
            return done["op"], [one, other, done["id"]]

        return multiple() if one == other else self._op(act)

    @rule(target=ops, cube=cubes)
    def split(self, cube: str) -> Any:
        def act() -> tuple[str | None, list[str]]:
            done = self.ada.split(cube, "tea is one", "milk is another")
            return done["op"], [cube, *(part["id"] for part in done["parts"])]

        return self._op(act)

    @rule(target=ops, cube=cubes, space=st.sampled_from(["personal", "work"]))
    def relocate(self, cube: str, space: str) -> Any:
        return self._op(lambda: (self.ada.relocate(space, cube)["op"], [cube]))

    @rule(target=ops, cube=cubes)
    def publish(self, cube: str) -> Any:
        return self._op(lambda: (self.ada.publish("work/news", cube)["op"], []))

    @rule(cube=cubes, said=st.sampled_from(["wrong", "stale"]))
    def complain(self, cube: str, said: str) -> None:
        self._op(lambda: (self.ada.update(cube, feedback=said)["op"], [cube]))

    @rule(days=st.sampled_from([1, 100, 400]))
    def live(self, days: int) -> None:
        """Time passes, and the life of memories goes on; what is frozen stays as it is."""
        self.clock.advance(days=days)
        frozen = {cube: stood for cube, stood in self.standing(None).items() if stood[0] is State.FROZEN}
        assert self.kernel.loop is not None
        self.kernel.loop.settle()
        now = self.standing(None)
        assert all(now[cube] == stood for cube, stood in frozen.items())
        self.clock.advance(seconds=1)

    @rule(cube=cubes)
    def what_is_frozen_refuses_all_but_thaw(self, cube: str) -> None:
        if self.standing(None)[cube][0] is not State.FROZEN:
            return
        before, other = self.see(), self.ada.keep("Another one", kind="event")
        self.note(None, [other])
        acts: list[Callable[[], object]] = [
            lambda: self.ada.update(cube, content="Something else"), lambda: self.ada.update(cube, tags=["c"]),
            lambda: self.ada.forget(cube), lambda: self.ada.split(cube, "one", "two"),
            lambda: self.ada.fuse(cube, other), lambda: self.ada.relocate("elsewhere", cube),
        ]  # fmt: skip
        for act in acts:
            with pytest.raises(Conflict):
                act()
        now = self.see()
        assert {one: now[one] for one in before} == before

    @rule(target=ops, op=ops)
    def undo(self, op: str) -> Any:
        before = self.see()
        undone = self.try_to(lambda: self._undo(op))
        if undone is None:
            return multiple()
        self.note(*self._undo(undone))
        assert self.see() == before, "undo of undo"
        return undone

    @rule(op=consumes(ops))
    def undo_once(self, op: str) -> None:
        self.try_to(lambda: self._undo(op))

    @rule(target=times)
    def look(self) -> str:
        """A time, and how everything stood then."""
        at = instant(self.clock())
        self.clock.advance(seconds=1)
        self.stood[at], self.was_in[at] = self.standing(None), self.here()
        return at

    def here(self) -> set[str]:
        """The memories of the space that is restored."""
        with self.kernel.ledger.read() as connection:
            return {cube.id for cube in self.kernel.api.parts.vault.page(connection, 1, 0, 1_000)}

    def standing(self, at: str | None) -> Standing:
        """Every memory as it stands, or as it is said to have stood at a time; that it was used makes no difference."""
        parts = self.kernel.api.parts
        with parts.ledger.read() as connection:
            found = list(parts.vault.by_ids(connection, list(self.versions)).values())
            there = found if at is None else list(as_they_were(parts, connection, found, at).values())
        return {c.id: (State.ACTIVATED if c.state in USED else c.state, c.snapshot) for c in there}

    @precondition(lambda self: self.versions)
    @rule(target=ops, at=times)
    def restore(self, at: str) -> Any:
        """What is restored is as it was, its undo takes all of it back, and to restore it again changes nothing."""
        before = self.see()
        done = self.ada.restore(at)
        left = {one["id"] for one in done["left"]}
        now, here = self.standing(None), self.here()
        for cube in self.was_in[at]:
            assert cube in left or now[cube] == self.stood[at][cube]
        assert all(now[cube][0] in OUT_OF_THE_WAY for cube in here - self.was_in[at] - left)
        for cube in left:
            said = why(done, cube)
            assert now[cube][0] is State.FROZEN or "undo what moved it" in said or "stays as it is" in said
        assert self.ada.restore(at)["op"] is None
        if done["op"] is None:
            assert self.see() == before
            return multiple()
        changed = [one["id"] for one in done["restored"]]
        self.note(done["op"], changed)
        op, undone = self._undo(done["op"])
        self.note(op, undone)
        assert self.see() == before, "undo of restore"
        assert op is not None
        again, undone = self._undo(op)
        self.note(again, undone)
        assert self.standing(None) == now, "undo of undo of restore"
        return done["op"]

    @invariant()
    def the_past_stands(self) -> None:
        for at, stood in getattr(self, "stood", {}).items():
            assert self.standing(at) == stood
            assert {one["id"] for one in self.ada.past(at)["memories"]} == self.was_in[at]

    def _undo(self, op: str) -> tuple[str | None, list[str]]:
        done = self.ada.undo(op)
        return done["op"], done["undone"]

    def _op(self, act: Callable[[], tuple[str | None, list[str]]]) -> Any:
        op = self.try_to(act)
        return multiple() if op is None else op

    @invariant()
    def versions_only_grow_and_history_is_whole(self) -> None:
        for cube, known in getattr(self, "versions", {}).items():
            told = self.ada.history(cube)
            numbers = [version["version"] for version in told["versions"]]
            assert numbers == list(range(1, len(numbers) + 1))
            assert numbers[-1] >= known
            self.versions[cube] = numbers[-1]
            assert self.known_ops.get(cube, set()) <= {op["op"] for op in told["operations"]}


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
