"""Lives a made-up year through on the real kernel and ledger, with a clock that jumps from day to day.

Knows neither how the year is made nor how it is drawn. What is measured of a question: whether what answers it, a
repetition of it, or what it was fused into is among the first hits.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memos_mcp.cube import instant
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.requests import AddRequest, SearchRequest
from memos_mcp.settings import Settings
from simulation.words import HashedWords
from simulation.world import Asked, Said

BEGIN = datetime(2026, 1, 1, 9, tzinfo=UTC)
ROOM = 1 << 30
"""Bytes that a year may take: many times what one of two users does."""
TOP = 10
"""Hits that are looked at."""


@dataclass(frozen=True)
class Miss:
    """A question whose answer was not among the hits: what was needed, its age in days, and the state it is in."""

    day: int
    user: int
    text: str
    age: int
    state: str


@dataclass
class Year:
    """What a year came to: `states` and `active` a day, `hits` and `asked` a day, and what was missed."""

    states: list[dict[str, int]] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)
    told: int = 0
    fetched: int = 0
    """Answers that came out of the archive."""

    @property
    def recall(self) -> float:
        """Share of the questions whose answer was among the hits, 0..1."""
        return sum(self.hits) / max(sum(self.asked), 1)

    @property
    def active(self) -> int:
        """Memories in default search at the end."""
        last = self.states[-1]
        return last.get("generated", 0) + last.get("activated", 0) + last.get("frozen", 0)


class Clock:
    """The simulation's own time."""

    def __init__(self) -> None:
        self.at = BEGIN

    def __call__(self) -> datetime:
        return self.at


class Store:
    """The kernel that the year is lived with, and what became of each thing said."""

    def __init__(self, kernel: Kernel, clock: Clock) -> None:
        self.kernel, self.clock = kernel, clock
        self._cubes: dict[int, set[str]] = {}
        self._first: dict[int, int] = {}
        self._said: dict[int, Said] = {}
        self._states: dict[int, str] = {}
        self._counted = 0
        self.fetched = 0

    def tell(self, said: Said) -> None:
        """Keep one thing as its user's agent would."""
        ends = None if said.days is None else instant(self.clock.at + timedelta(days=said.days))
        replaced = sorted(self._cubes[said.replaces]) if said.replaces is not None else []
        request = AddRequest.model_validate(
            {"content": said.text, "kind": said.kind, "session": said.session, "importance": said.importance,
             "expires": ends, "supersedes": replaced}
        )  # fmt: skip
        result = self.kernel.api.add(_caller(said.user), request)
        first = self._first[said.key] = said.same_as or said.key
        self._said.setdefault(first, said)
        self._cubes.setdefault(first, set()).update([*(cube["id"] for cube in result["cubes"]), *result["unchanged"]])

    def answers(self, asked: Asked) -> bool:
        """Whether the question's answer is among the hits."""
        request = SearchRequest(query=asked.query, top_k=TOP)
        found = self.kernel.api.search(_caller(asked.user), request)["hits"]
        hits = [hit["id"] for hit in found]
        wanted = self._cubes[self._first[asked.needs]]
        if wanted.intersection(hits):
            self.fetched += any(hit["id"] in wanted and "archive" in hit["why"] for hit in found)
            return True
        with self.kernel.ledger.read() as connection:
            cubes = self.kernel.api.parts.vault.by_ids(connection, hits).values()
        return any(wanted.intersection(cube.snapshot.parents) for cube in cubes)

    def missed(self, asked: Asked) -> Miss:
        """What was needed, as it stands now."""
        first = self._first[asked.needs]
        with self.kernel.ledger.read() as connection:
            cubes = self.kernel.api.parts.vault.by_ids(connection, sorted(self._cubes[first])).values()
        said = self._said[first]
        return Miss(asked.day, asked.user, said.text, asked.day - said.day, "/".join(sorted({c.state for c in cubes})))

    def states(self) -> dict[str, int]:
        """How many memories are in each state; what another superseded is counted as such."""
        with self.kernel.ledger.read() as connection:
            changed = connection.exec_driver_sql(
                "SELECT c.seq, CASE WHEN c.superseded_by IS NULL THEN c.state ELSE 'superseded' END "
                "FROM changes h JOIN cubes c ON c.id = h.cube WHERE h.op > ?",
                (self._counted,),
            )
            self._states.update((int(seq), str(state)) for seq, state in changed)
            self._counted = int(connection.exec_driver_sql("SELECT max(op) FROM changes").scalar_one())
        return Counter(self._states.values())


def live(
    days: Sequence[Sequence[Said | Asked]], settings: Callable[[Path], Settings], evening: Callable[[Kernel], None]
) -> Year:
    """Live the days through in a store of its own; `evening` is what the store does for itself at the end of each."""
    year, clock = Year(), Clock()
    with tempfile.TemporaryDirectory(prefix="memos-year-", dir=_in_memory()) as folder:
        home = Path(folder) / "home"
        kernel = Kernel.open(settings(home), embedder=lambda _: HashedWords(), now=clock, background=False)
        try:
            kernel.api.parts.embedder.get()
            store = Store(kernel, clock)
            for number, events in enumerate(days):
                clock.at = BEGIN + timedelta(days=number)
                _day(store, events, year)
                _rest(kernel)
                evening(kernel)
                year.states.append(store.states())
            year.fetched = store.fetched
        finally:
            kernel.close()
    return year


def _in_memory() -> str | None:
    """A folder in memory, where the system has one with room: nothing of a year that was made up need outlast it."""
    folder = Path("/dev/shm")
    return str(folder) if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= ROOM else None


def _rest(kernel: Kernel) -> None:
    """What works behind the calls catches up: uses, the graph, the tiers, and jobs; in the same order in every run.

    But for working memory, of which a set would be made for a moment of the real clock.
    """
    kernel.api.parts.usage.flush()
    kernel.api.parts.weaver.catch_up()
    kernel.segmenter.catch_up()
    kernel.runner.run_ready()


def _day(store: Store, events: Sequence[Said | Asked], year: Year) -> None:
    hits = asked = 0
    for event in events:
        store.clock.at += timedelta(seconds=30)
        if isinstance(event, Said):
            store.tell(event)
            year.told += 1
            continue
        asked += 1
        if store.answers(event):
            hits += 1
        else:
            year.misses.append(store.missed(event))
    year.hits.append(hits)
    year.asked.append(asked)


def _caller(user: int) -> Caller:
    return Caller(f"user-{user}", f"user-{user}", client="simulation")
