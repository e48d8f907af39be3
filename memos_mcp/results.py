"""What each verb returns, as plain dictionaries with declared keys.

Knows no protocol, but every surface makes its output schema from these types.
"""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class CubeRef(TypedDict):
    id: str
    uri: str
    version: int
    state: str


class Similar(TypedDict):
    id: str
    text: str
    similarity: float


class AddResult(TypedDict):
    cubes: list[CubeRef]
    unchanged: list[str]
    similar: list[Similar] | None
    op: str | None


class Why(TypedDict):
    words: list[str]
    bm25: float
    cosine: float | None


class Hit(TypedDict):
    id: str
    uri: str
    text: str
    score: float
    why: Why
    refs: list[str]
    kind: str
    tags: list[str]
    source: str | None
    space: str
    created: str
    valid_from: str
    state: str
    form: str
    version: int


class SearchResult(TypedDict):
    hits: list[Hit]
    degraded: NotRequired[str]
    next: NotRequired[str]


class UpdateResult(TypedDict):
    id: str
    uri: str
    version: int
    state: str
    op: str | None


class Derived(TypedDict):
    cubes: list[str]
    states: list[str]
    adapters: list[str]


class ForgetResult(TypedDict):
    would_affect: list[str]
    affected: list[str]
    derived: Derived
    op: str | None
    confirm: NotRequired[str]
    job: NotRequired[str]


class VersionEntry(TypedDict):
    version: int
    op: str
    since: str
    until: str | None
    text: str


class ChangeEntry(TypedDict):
    cube: str
    from_version: int | None
    to_version: int | None
    from_state: str | None
    to_state: str | None


class OperationEntry(TypedDict):
    op: str
    verb: str
    principal: str
    client: str | None
    at: str
    reason: str | None
    undoes: str | None
    undone_by: str | None
    undoable: bool
    changes: list[ChangeEntry]


class HistoryResult(TypedDict):
    versions: list[VersionEntry]
    operations: list[OperationEntry]


class UndoResult(TypedDict):
    undone: list[str]
    op: str
