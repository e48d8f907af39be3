"""A made-up year of several people's days: what they tell their agent, and what they need of it later.

Knows no store: it gives what is said and asked, in order, from a seed alone. The proportions are assumptions, written
down here; what people need follows the law that human memory was found to fit (Anderson and Schooler 1991): the odds
that something is needed fall as a power of the time since it was needed last, and rise with how often it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

PROFILE = 24
"""Lasting facts that a person begins with."""
PROJECT_DAYS = (15, 60)
"""How long a project lasts, and so how long most of what belongs to it is wanted."""
PROJECTS = 2
"""Projects of a person at a time."""
PER_PROJECT = 3
"""Things said of each project a day."""
CHATTER = 4
"""Passing remarks a day, of which nearly none is wanted again."""
AGAIN = 0.10
"""Share of what is said that was said before in the same words."""
CHANGED_A_DAY = 0.05
"""Chance that a lasting fact changes on a day."""
NEEDS = 6
"""Questions a day."""
OF_PROJECTS, OF_PROFILE, OF_FORMER = 0.68, 0.18, 0.11
"""Shares of the questions that are about present projects, lasting facts and former projects; the rest is chatter."""
DECAY = 0.8
"""The exponent by which the odds of being needed fall with the days since the last time."""

_SYLLABLES = [consonant + vowel for consonant in "bdfghklmnprstv" for vowel in "aeo"]
_ASPECTS = (
    "deadline", "budget", "venue", "supplier", "format", "colour", "owner", "version", "route", "layout", "price",
)  # fmt: skip
_LASTING = (
    "home", "employer", "doctor", "dentist", "bank", "sister", "landlord", "gym", "school", "allergy", "car", "router",
)  # fmt: skip
_VERBS = ("agreed on", "chose", "settled for", "moved to", "switched to", "asked for")
_REMARKS = (
    "The weather near {place} was {detail} today",
    "{person} told a joke about {thing}",
    "Lunch at {place} with {person}, {thing} and {detail}",
    "Saw {thing} in {place} on the way",
    "{person} will call back about {thing}",
)


@dataclass(frozen=True)
class Said:
    """Something told on a day. `key` names it; `same_as` is what it repeats, `replaces` what is no longer so.

    `days` is its own end, in days from now, None for none.
    """

    key: int
    user: int
    day: int
    session: str
    kind: str
    text: str
    importance: float = 0.5
    same_as: int | None = None
    replaces: int | None = None
    days: int | None = None


@dataclass(frozen=True)
class Asked:
    """A question of a day, and the thing that answers it."""

    user: int
    day: int
    session: str
    needs: int
    query: str


@dataclass
class _Known:
    """What a person was told, and when it was needed."""

    said: Said
    query: str
    needed: list[int] = field(default_factory=list)

    def odds(self, day: int) -> float:
        """How likely it is to be needed: a sum over the times that it came up."""
        return sum((day - once + 1) ** -DECAY for once in (self.said.day, *self.needed))


@dataclass
class _Project:
    name: str
    people: list[str]
    until: int
    said: list[_Known] = field(default_factory=list)


class _Person:
    """One user's year."""

    def __init__(self, number: int, seed: int) -> None:
        self._random = random.Random(f"{seed}/{number}")
        self.number = number
        self._keys = number * 10_000_000
        self._lasting: dict[str, _Known] = {}
        self._projects: list[_Project] = []
        self._former: list[_Project] = []
        self._chatter: list[_Known] = []

    def day(self, day: int) -> Iterator[Said | Asked]:
        """What is said, and what is asked after it."""
        session = f"u{self.number}-d{day}"
        if day == 0:
            for number in range(PROFILE):
                yield self._fact(f"{_LASTING[number % len(_LASTING)]} {number // len(_LASTING) + 1}", day, session)
        elif self._random.random() < CHANGED_A_DAY:
            yield self._fact(self._random.choice(list(self._lasting)), day, session)
        yield from self._work(day, session)
        for _ in range(CHATTER):
            yield self._remark(day, session)
        for _ in range(NEEDS):
            known = self._wanted(day)
            if known is not None:
                known.needed.append(day)
                yield Asked(self.number, day, session, known.said.key, known.query)

    def _key(self) -> int:
        self._keys += 1
        return self._keys

    def _word(self, syllables: int = 3) -> str:
        return "".join(self._random.choice(_SYLLABLES) for _ in range(syllables))

    def _name(self) -> str:
        return self._word(2).capitalize()

    def _fact(self, about: str, day: int, session: str) -> Said:
        former = self._lasting.get(about)
        said = Said(
            self._key(), self.number, day, session, "fact", f"My {about} is {self._name()} {self._name()}.", 0.7,
            replaces=former.said.key if former is not None else None,
        )  # fmt: skip
        self._lasting[about] = _Known(said, f"What is my {about}?", [] if former is None else former.needed[-3:])
        return said

    def _work(self, day: int, session: str) -> Iterator[Said]:
        for project in [one for one in self._projects if one.until < day]:
            self._projects.remove(project)
            self._former.append(project)
        while len(self._projects) < PROJECTS:
            people = [self._name() for _ in range(4)]
            self._projects.append(_Project(self._name(), people, day + self._random.randint(*PROJECT_DAYS)))
        for project in self._projects:
            for _ in range(PER_PROJECT):
                yield self._step(project, day, session)

    def _step(self, project: _Project, day: int, session: str) -> Said:
        if project.said and self._random.random() < AGAIN:
            old = self._random.choice(project.said).said
            first = old.same_as or old.key
            return Said(self._key(), self.number, day, session, old.kind, old.text, old.importance, same_as=first)
        person, aspect, thing = self._random.choice(project.people), self._random.choice(_ASPECTS), self._word()
        did, why = self._random.choice(_VERBS), self._word()
        text = f"{person} {did} {thing} as the {aspect} of {project.name}, because of {why}."
        ends = self._random.random() < 0.1
        said = Said(
            self._key(), self.number, day, session, self._random.choice(("event", "fact", "procedure")), text,
            days=self._random.randint(2, 20) if ends else None,
        )  # fmt: skip
        known = _Known(said, f"What was the {aspect} of {project.name} that {person} wanted, {thing} or what?")
        if not ends:
            project.said.append(known)
        return said

    def _remark(self, day: int, session: str) -> Said:
        words = {name: self._word() for name in ("place", "thing", "detail")} | {"person": self._name()}
        said = Said(
            self._key(), self.number, day, session, "dialogue", self._random.choice(_REMARKS).format(**words) + ".", 0.3
        )
        self._chatter.append(_Known(said, f"What was that about {words['thing']} and {words['person']}?"))
        return said

    def _wanted(self, day: int) -> _Known | None:
        drawn = self._random.random()
        if drawn < OF_PROJECTS:
            pool = [known for project in self._projects for known in project.said]
        elif drawn < OF_PROJECTS + OF_PROFILE:
            pool = list(self._lasting.values())
        elif drawn < OF_PROJECTS + OF_PROFILE + OF_FORMER:
            pool = [known for project in self._former for known in project.said]
        else:
            pool = self._chatter
        if not pool:
            return None
        return self._random.choices(pool, [known.odds(day) for known in pool])[0]


def year(users: int, days: int, seed: int) -> Iterator[list[Said | Asked]]:
    """What everybody says and asks, a list a day; the same for the same arguments."""
    people = [_Person(number, seed) for number in range(users)]
    for day in range(days):
        yield [one for person in people for one in person.day(day)]
