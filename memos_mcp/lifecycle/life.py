"""What the life of memories works with, and what is known of each memory when it is judged.

Knows no verb and no thread; the rules are in `policies`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection

from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.cube import TEXTLESS, Cube, Figures, instant
from memos_mcp.documents.position import position_of
from memos_mcp.ledger import figures, kept_states, reviews
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.reviews import Review
from memos_mcp.policies import forms, lifecycle, policy
from memos_mcp.policies.forms import Room, Standing
from memos_mcp.policies.lifecycle import Context, Facts, Likeness, Verdict
from memos_mcp.policies.policy import Policy
from memos_mcp.states import LIVE
from memos_mcp.vault import Vault

CLIENT = "memos-mcp life"
"""The client of every operation that the life of memories carries out by itself."""
TARGET = "activation"
BYTES_PER_TOKEN = 128 << 10
"""What a state's token is taken to need until one is kept, by which it is then measured: a large model's."""
SHARE = 0.5
"""Of the memory for states, how much may be filled by the scheduler; the rest is for what is asked."""
MOST_TOKENS = 2_048
"""Tokens of one memory that is promoted by the scheduler."""
MOST_PENDING = 100
_LASTING = {
    "template": "it is a template", "block": "it is a core block", **dict.fromkeys(TEXTLESS, "it holds no text"),
}  # fmt: skip


@dataclass(frozen=True)
class Life:
    """`context` and `policy` are the store's own thresholds and policy; `activation` is there with a local model."""

    ledger: Ledger
    vault: Vault
    now: Callable[[], datetime]
    activation: ActivationMemory | None = None
    context: Context = field(default_factory=Context)
    policy: Policy = policy.SILENT
    enabled: bool = True

    @property
    def rules(self) -> str:
        """What judgements depend on beside memories and spaces; where it changes, all are judged anew."""
        return f"{self.context.archive_days} {self.context.archive_heat} {self.context.constants} {self.policy}"


class Judge:
    """Judges memories in one view of the ledger: policies and room are read once, the rest for many together."""

    def __init__(self, life: Life, connection: Connection) -> None:
        self._life, self._connection = life, connection
        self._policies = {space: policy.of(text) for space, text in reviews.policies(connection).items()}
        room = _room(life, connection)
        self.context = replace(life.context, room=room)

    def facts(self, cubes: Sequence[Cube], rows: dict[int, Review]) -> dict[int, Facts]:
        """What is known of each memory, by number; `rows` are those that there are of them."""
        seqs = [cube.seq for cube in cubes]
        used = figures.standing(self._connection, seqs)
        promoted = reviews.promoted(self._connection, seqs) if self._life.activation is not None else set()
        likely: dict[int, Likeness] = {}
        for seq, *told in reviews.likely(self._connection, seqs):
            found = Likeness(*told)  # type: ignore[arg-type]
            if seq not in likely or found.score > likely[seq].score:
                likely[seq] = found
        return {
            cube.seq: facts_of(
                cube, used[cube.seq].figures, rows.get(cube.seq), self.policy(cube), likely.get(cube.seq),
                _standing(cube, rows.get(cube.seq), cube.seq in promoted) if self.context.room else None,
            )
            for cube in cubes
        }  # fmt: skip

    def policy(self, cube: Cube) -> Policy:
        """What holds for the memory."""
        own = policy.of(cube.snapshot.policy)
        return policy.resolve(own, self.of_space(cube.space), self._life.policy)

    def of_space(self, space: int) -> Policy:
        """The space's own policy."""
        return self._policies.get(space, policy.SILENT)

    def limited(self) -> list[int]:
        """The spaces that may hold so many memories or bytes only."""
        return sorted(s for s, one in self._policies.items() if one.most_memories or one.most_mb)

    def decide(self, facts: Facts, now: datetime) -> Verdict:
        """What is to become of the memory; what is promoted takes of the room for the next."""
        return self._counted(facts, lifecycle.decide(facts, self.context, now))

    def at_any_age(self, facts: Facts, now: datetime) -> Verdict | None:
        """The same where it does not matter when the memory cools, which takes most of the time; else None."""
        found = lifecycle.at_any_age(facts, self.context, now)
        return None if found is None else self._counted(facts, found)

    def _counted(self, facts: Facts, verdict: Verdict) -> Verdict:
        room, form = self.context.room, facts.form
        if room is not None and form is not None and verdict.action in ("promote", "demote"):
            taken = form.tokens if verdict.action == "promote" else -form.tokens
            self.context = replace(self.context, room=replace(room, free=room.free - taken))
        return verdict


def facts_of(
    cube: Cube,
    used: Figures,
    row: Review | None,
    resolved: Policy,
    likeness: Likeness | None = None,
    form: Standing | None = None,
) -> Facts:
    """What is known of a memory."""
    said = cube.snapshot
    lasting = _LASTING.get(said.kind)
    if lasting is None and position_of(said) is not None:
        lasting = "it is part of a document, which goes as a whole"
    return Facts(
        cube.state,
        cube.stands,
        _time(cube.created),
        _time(cube.updated),
        used,
        cube.uses,
        None if cube.last_used is None else _time(cube.last_used),
        said.feedback,
        said.pinned,
        said.importance,
        said.priority,
        None if said.expires is None else _time(said.expires),
        resolved,
        None if row is None or row.since is None else _time(row.since),
        lasting,
        likeness,
        form,
    )


def review_of(cube: Cube, before: Review | None, verdict: Verdict, now: datetime) -> Review | None:
    """The memory's row after it was judged: due at once if there is something to do; None if it needs none."""
    at = now if verdict.action != "keep" else verdict.again
    size = len(cube.snapshot.content.encode()) if cube.stands else None
    if at is None and size is None:
        return None
    since, held = (None, None) if before is None else (before.since, before.held)
    return Review(cube.seq, cube.space, None if at is None else not_before(at), size, since, held)


def not_before(at: datetime) -> str:
    """A time as the ledger writes it, in whole milliseconds, and never earlier than it is."""
    return instant(at + timedelta(microseconds=999))


def under_hold(life: Life, connection: Connection, cubes: Sequence[Cube]) -> list[Cube]:
    """Those of the memories that a legal hold protects, their own, their space's or the store's."""
    return [cube for cube, held in _resolved(life, connection, cubes) if held.hold]


def spared(life: Life, connection: Connection, cubes: Sequence[Cube]) -> list[Cube]:
    """Those of the memories of which nothing else may be made unasked: a legal hold protects them, or a policy says
    that they are kept."""
    return [cube for cube, held in _resolved(life, connection, cubes) if held.hold or held.lifetime == "keep"]


def _resolved(life: Life, connection: Connection, cubes: Sequence[Cube]) -> list[tuple[Cube, Policy]]:
    spaces = {space: policy.of(text) for space, text in reviews.policies(connection).items()}
    return [
        (cube, policy.resolve(policy.of(cube.snapshot.policy), spaces.get(cube.space, policy.SILENT), life.policy))
        for cube in cubes
    ]


def held_by(row: Review | None) -> tuple[str, datetime | None]:
    """The form that the scheduler gave the memory and has not taken, and when it last gave or took one."""
    if row is None or row.held is None:
        return "", None
    name, _, at = row.held.partition("@")
    return name, _time(at)


def _standing(cube: Cube, row: Review | None, promoted: bool) -> Standing | None:
    """A memory beside the local model; None where it can be no state."""
    said = cube.snapshot
    # a composition is read by its parts
    if said.recipe or said.kind in TEXTLESS or said.sensitivity == "secret" or cube.state not in LIVE:
        return None
    name, moved = held_by(row)
    held: Literal["no", "scheduler", "caller"] = "no"
    if promoted:
        held = "scheduler" if name == TARGET else "caller"
    return Standing(TARGET, forms.tokens_of(said.content), held, moved)


def _room(life: Life, connection: Connection) -> Room | None:
    """How much more the scheduler may have the local model hold."""
    if life.activation is None:
        return None
    catalogue = life.activation.catalogue
    entries = [entry for entry in list(catalogue.entries.values()) if entry.parts]
    tokens = sum(entry.parts[-1].end for entry in entries)
    each = sum(entry.size for entry in entries) / tokens if tokens else 0.0
    most = int(SHARE * catalogue.budgets.ram / (each or BYTES_PER_TOKEN))
    there = [entry for entry in entries if entry.promoted]
    waiting = kept_states.all_promoted(connection) - {seq for entry in there for seq in entry.cubes}
    coming = life.vault.by_seqs(connection, sorted(waiting)[:MOST_PENDING]).values()
    used = sum(entry.parts[-1].end for entry in there)
    used += sum(forms.tokens_of(cube.snapshot.content) for cube in coming)
    return Room(most - used, min(MOST_TOKENS, most // 4))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
