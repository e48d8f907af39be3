"""Everything that decides what an adapter becomes, beside the memories and the model.

Knows no framework: numbers alone. The defaults were found with the project's small model (LOG.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from memos_mcp.errors import InvalidInput

MOST_LESSONS = 2_000
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """How an adapter is trained. The same recipe, lessons and model give the same adapter on one machine.

    Each step reads some questions without any memory (`asked` of them), some statements (`told`), and some questions
    with memories before them (`read`): there the model is to answer as it does without the adapter, whatever it was
    taught, which keeps its reading whole (`faith` is the weight of that).
    """

    seed: int = 0
    rank: int = 8
    alpha: float = 16.0
    steps: int = 300
    learning_rate: float = 5e-3
    warm_up_steps: int = 20
    asked: int = 24
    told: int = 4
    read: int = 8
    most_read: int = 8
    """Memories that stand before such a question, at most."""
    telling: float = 0.3
    faith: float = 3.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1 or self.steps < 1 or self.asked < 1 or not 0 < self.learning_rate < 1:
            raise InvalidInput("A recipe has a rank, steps and questions of one at least, and a learning rate below 1.")
        if not self.targets or set(self.targets) - set(TARGETS):
            raise InvalidInput(f"An adapter changes some of {', '.join(TARGETS)}.")

    def rate(self, step: int) -> float:
        """The learning rate of a step: up to its height within `warm_up_steps`, then down to a twentieth."""
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up_steps) * (1 - 0.95 * step / self.steps)

    def as_plain(self) -> dict[str, Any]:
        """The recipe as JSON keeps it."""
        return {**asdict(self), "targets": list(self.targets)}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> Recipe:
        """The inverse of `as_plain`; fields that are not there take their defaults."""
        known = {field.name for field in fields(Recipe)}
        given: dict[str, Any] = {name: value for name, value in plain.items() if name in known}
        if "targets" in given:
            given["targets"] = tuple(given["targets"])
        return Recipe(**given)


def recipe_for(lessons: int, seed: int = 0) -> Recipe:
    """The recipe for so many lessons: more of them need more room and more steps.

    Raises:
        InvalidInput: none, or more than one adapter is made of.
    """
    if not 1 <= lessons <= MOST_LESSONS:
        raise InvalidInput(f"An adapter is trained on 1 to {MOST_LESSONS:,} memories, not {lessons:,}.", field="ids")
    if lessons <= 30:
        return Recipe(seed)
    if lessons <= 80:
        return Recipe(seed, rank=16, alpha=32.0, steps=500)
    return Recipe(seed, rank=32, alpha=64.0, steps=max(1_000, 6 * lessons))
