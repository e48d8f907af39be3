"""Whatever is done in whatever order: versions only grow, history is whole, and undoing twice restores."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import FakeEmbedder, FakeIndex
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from person import Clock, Person, settings_for

from memos_mcp.errors import Conflict
from memos_mcp.kernel import Kernel

WORDS = st.sampled_from(["tea", "coffee", "milk", "绿茶", "water"])


class Life(RuleBasedStateMachine):
    """A store under any sequence of calls."""

    cubes, ops = Bundle("cubes"), Bundle("ops")

    @initialize()
    def open_store(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.kernel = Kernel.open(
            settings_for(self.home), embedder=lambda _: FakeEmbedder(), index=FakeIndex(), now=self.clock
        )
        self.kernel.api.parts.embedder.get(10.0)
        self.kernel.api.parts.usage.stop()  # what is looked at here is activated by nothing but the rules
        self.ada = Person(self.kernel.api, "ada")
        self.versions: dict[str, int] = {}
        self.known_ops: dict[str, set[str]] = {}

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
        except Conflict:
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
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
