"""A caller with the verbs as short calls, and a clock that a test sets: what most tests of the core begin with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.memory_api.api import MemoryAPI
from memos_mcp.requests import (
    AddRequest,
    AskRequest,
    ComposeRequest,
    ContextRequest,
    ForgetRequest,
    FuseRequest,
    GraphRequest,
    HistoryRequest,
    PastRequest,
    PromoteRequest,
    PublishRequest,
    RelocateRequest,
    RestoreRequest,
    SearchRequest,
    ShareRequest,
    SplitRequest,
    SteerRequest,
    SubscribeRequest,
    UndoRequest,
    UnsubscribeRequest,
    UpdateRequest,
    WithdrawRequest,
)
from memos_mcp.results import (
    AddResult,
    AskResult,
    ComposeResult,
    ContextResult,
    ForgetResult,
    FuseResult,
    GraphResult,
    HistoryResult,
    PastResult,
    PromoteResult,
    PublishResult,
    RelocateResult,
    RestoreResult,
    SearchResult,
    ShareResult,
    SplitResult,
    SteerResult,
    SubscribeResult,
    UndoResult,
    UpdateResult,
    WithdrawResult,
)
from memos_mcp.settings import Settings, load


def as_id(value: object) -> str:
    """A parameter as the name of its test, the same in every process: the order of a set is not."""
    return " ".join(sorted(value)) if isinstance(value, set) else str(value)


class Clock:
    """A time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **units: float) -> str:
        """Move on (days=, minutes=, seconds= …) and return the new time as a caller writes it."""
        self.now += timedelta(**units)
        return self.now.isoformat()


class Person:
    """Somebody who uses the verbs."""

    def __init__(self, api: MemoryAPI, principal: str, space: str = "personal") -> None:
        self.api = api
        self.caller = Caller(principal, space, client="tests")

    def at(self, space: str) -> Person:
        """The same person on a connection with another default space."""
        other = Person(self.api, self.caller.principal)
        other.caller = replace(self.caller, space=space)
        return other

    def add(self, content: str | None = None, **given: Any) -> AddResult:
        return self.api.add(self.caller, AddRequest(content=content, **given))

    def keep(self, content: str, **given: Any) -> str:
        """Add one memory and return its id."""
        return self.add(content, **given)["cubes"][0]["id"]

    def search(self, query: str | None = None, **given: Any) -> SearchResult:
        return self.api.search(self.caller, SearchRequest(query=query, **given))

    def context(self, task: str, **given: Any) -> ContextResult:
        return self.api.context(self.caller, ContextRequest(task=task, **given))

    def ids(self, query: str, **given: Any) -> list[str]:
        """Ids of what a search finds, best first."""
        return [hit["id"] for hit in self.search(query, **given)["hits"]]

    def text(self, cube: str) -> str:
        return self.search(ids=[cube])["hits"][0]["text"]

    def state(self, cube: str) -> str:
        return self.search(ids=[cube])["hits"][0]["state"]

    def update(self, cube: str, **given: Any) -> UpdateResult:
        return self.api.update(self.caller, UpdateRequest(id=cube, **given))

    def forget(self, *ids: str, **given: Any) -> ForgetResult:
        return self.api.forget(self.caller, ForgetRequest(ids=list(ids) or None, **given))

    def fuse(self, *ids: str, content: str | None = None) -> FuseResult:
        return self.api.fuse(self.caller, FuseRequest(ids=list(ids), content=content))

    def split(self, cube: str, *texts: str) -> SplitResult:
        return self.api.split(self.caller, SplitRequest(id=cube, parts=list(texts) or None))

    def compose(self, *ids: str, title: str | None = None) -> ComposeResult:
        return self.api.compose(self.caller, ComposeRequest(ids=list(ids), title=title))

    def relocate(self, space: str, *ids: str, copy: bool = False) -> RelocateResult:
        return self.api.relocate(self.caller, RelocateRequest(ids=list(ids), space=space, copy=copy))

    def promote(self, *ids: str, to: Any = "activation") -> PromoteResult:
        return self.api.promote(self.caller, PromoteRequest(ids=list(ids), to=to))

    def activate(self, *ids: str) -> None:
        """Promote, and wait until that is done, however slow the machine is."""
        job = self.promote(*ids)["job"]
        assert eventually(lambda: self.api.read.job(job)["state"] not in ("queued", "running"))
        assert self.api.read.job(job)["state"] == "done"

    def steer(self, name: str, towards: list[str], away: list[str], **given: Any) -> SteerResult:
        """Make a steering vector, and wait until that is done, however slow the machine is."""
        made = self.api.steer(self.caller, SteerRequest(name=name, towards=towards, away=away, **given))
        job = made.get("job", "")
        assert not job or eventually(lambda: self.api.read.job(job)["state"] == "done")
        return made

    def ask(self, question: str, **given: Any) -> AskResult:
        return self.api.ask(self.caller, AskRequest(question=question, **given))

    def history(self, cube: str | None = None, op: str | None = None) -> HistoryResult:
        return self.api.history(self.caller, HistoryRequest(id=cube, op=op))

    def graph(self, start: str, **given: Any) -> GraphResult:
        return self.api.graph(self.caller, GraphRequest(**{"from": start}, **given))

    def past(self, at: str, **given: Any) -> PastResult:
        return self.api.past(self.caller, PastRequest(at=at, **given))

    def restore(self, at: str, **given: Any) -> RestoreResult:
        return self.api.restore(self.caller, RestoreRequest(at=at, **given))

    def publish(self, channel: str, *ids: str, **given: Any) -> PublishResult:
        return self.api.publish(self.caller, PublishRequest(channel=channel, ids=list(ids) or None, **given))

    def withdraw(self, channel: str, *ids: str) -> WithdrawResult:
        return self.api.withdraw(self.caller, WithdrawRequest(channel=channel, ids=list(ids) or None))

    def subscribe(self, channel: str, **given: Any) -> SubscribeResult:
        return self.api.subscribe(self.caller, SubscribeRequest(channel=channel, **given))

    def unsubscribe(self, channel: str) -> SubscribeResult:
        return self.api.unsubscribe(self.caller, UnsubscribeRequest(channel=channel))

    def share(self, principal: str, *ids: str, can: Any = ("read",)) -> ShareResult:
        return self.api.share(self.caller, ShareRequest(ids=list(ids), principal=principal, can=list(can)))

    def undo(self, op: str | None) -> UndoResult:
        assert op is not None, "there is nothing to undo"
        return self.api.undo(self.caller, UndoRequest(op=op))


INDEX_FROM = 400
"""Memories of a space above which a test's store has an index: few, for many are added slowly."""


def settings_for(home: Path, **arguments: str) -> Settings:
    """Settings of a data directory, with nothing taken from the environment."""
    return load({"home": str(home), "principal": "ada", "index_from": str(INDEX_FROM), **arguments}, env={})


LONG = "and this is said at some length, so that it is worth keeping"
"""Makes a memory long enough for its state to be kept."""


def states_of(one: Kernel | Person) -> ActivationMemory:
    """What the local model of a store remembers."""
    assert one.api.parts.activation is not None
    return one.api.parts.activation


def eventually(condition: Callable[[], bool], limit_s: float = 30.0, every_s: float = 0.005) -> bool:
    """Whether the condition comes true before the limit; asked again every few milliseconds, or less often."""
    pause, end = threading.Event(), time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(every_s)
    return True
