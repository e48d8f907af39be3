"""The verbs in one place: what every surface calls.

Knows no protocol: requests and results are plain typed values, errors are the tree of `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from memos_mcp.errors import Conflict
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.operations import RequestRepeated
from memos_mcp.memory_api import (
    access,
    adapters,
    add,
    approval,
    ask,
    ask_server,
    compose,
    context,
    documents,
    externalise,
    forget,
    fuse,
    graph,
    history,
    jobs,
    parametric,
    past,
    policy,
    promote,
    proposals,
    publish,
    read,
    relocate,
    search,
    share,
    split,
    steer,
    subscribe,
    trees,
    undo,
    update,
    working,
)
from memos_mcp.memory_api.parts import Parts
from memos_mcp.requests import (
    AddRequest,
    AskRequest,
    ComposeRequest,
    ContextRequest,
    DocumentRequest,
    DropRequest,
    ForgetRequest,
    FuseRequest,
    GraphRequest,
    HistoryRequest,
    MoveRequest,
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
    AdapterResult,
    AddResult,
    AskResult,
    ComposeResult,
    ContextResult,
    DocumentResult,
    ForgetResult,
    FuseResult,
    GraphResult,
    HistoryResult,
    JobResult,
    MoveResult,
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
    TreeResult,
    UndoResult,
    UpdateResult,
    WithdrawResult,
)

_R = TypeVar("_R")


class MemoryAPI:
    """Everything that can be done with memories. Synchronous; safe to share between threads."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.read = read.Read(parts)

    def add(self, caller: Caller, request: AddRequest) -> AddResult:
        """Keep memories: see `add.add`."""
        with self.parts.foreground, self.parts.adding:
            return self._once(caller, lambda: add.add(self.parts, caller, request))

    def keep_document(self, caller: Caller, request: DocumentRequest) -> DocumentResult:
        """Keep a whole document as a tree: see `documents.keep`."""
        with self.parts.foreground, self.parts.adding:
            return self._once(caller, lambda: documents.keep(self.parts, caller, request))

    def drop_document(self, caller: Caller, request: DropRequest) -> DocumentResult:
        """Archive a document that is no longer there: see `documents.drop`."""
        return self._once(caller, lambda: documents.drop(self.parts, caller, request))

    def documents(self, caller: Caller, space: str | None = None) -> list[dict[str, Any]]:
        """The documents of a space: see `documents.listed`."""
        return documents.listed(self.parts, caller, space)

    def tree(self, caller: Caller, cube_id: str) -> TreeResult:
        """Read a subtree: see `trees.read`."""
        return trees.read(self.parts, caller, cube_id)

    def move(self, caller: Caller, request: MoveRequest) -> MoveResult:
        """Give a node of a tree another place: see `trees.move`."""
        with self.parts.foreground:
            return self._once(caller, lambda: trees.move(self.parts, caller, request))

    def search(self, caller: Caller, request: SearchRequest) -> SearchResult:
        """Find or read memories: see `search.search`."""
        return search.search(self.parts, caller, request)

    def get_ready(self, caller: Caller) -> None:
        """Prepare for the caller's first question, and return at once: see `search.get_ready`."""
        with suppress(RuntimeError):  # the store is being closed
            self.parts.beside.submit(search.get_ready, self.parts, caller)

    def context(self, caller: Caller, request: ContextRequest) -> ContextResult:
        """Give the block of memories for the next turn of a task: see `context.context`."""
        return context.context(self.parts, caller, request)

    def update(self, caller: Caller, request: UpdateRequest) -> UpdateResult:
        """Change a memory: see `update.update`."""
        with self.parts.foreground:
            return self._once(caller, lambda: update.update(self.parts, caller, request))

    def fuse(self, caller: Caller, request: FuseRequest) -> FuseResult:
        """Make one memory of several: see `fuse.fuse`."""
        with self.parts.foreground:
            return self._once(caller, lambda: fuse.fuse(self.parts, caller, request))

    def split(self, caller: Caller, request: SplitRequest) -> SplitResult:
        """Make several memories of one: see `split.split`."""
        with self.parts.foreground:
            return self._once(caller, lambda: split.split(self.parts, caller, request))

    def compose(self, caller: Caller, request: ComposeRequest) -> ComposeResult:
        """Put memories in an order: see `compose.compose`."""
        with self.parts.foreground:
            return self._once(caller, lambda: compose.compose(self.parts, caller, request))

    def relocate(self, caller: Caller, request: RelocateRequest) -> RelocateResult:
        """Move or copy memories into another space: see `relocate.relocate`."""
        with self.parts.foreground:
            return self._once(caller, lambda: relocate.relocate(self.parts, caller, request))

    def forget(self, caller: Caller, request: ForgetRequest) -> ForgetResult:
        """Archive or purge memories: see `forget.forget`."""
        return self._once(caller, lambda: forget.forget(self.parts, caller, request))

    def promote(self, caller: Caller, request: PromoteRequest) -> PromoteResult:
        """Give memories another form: see `promote.promote`."""
        return self._once(caller, lambda: promote.promote(self.parts, caller, request))

    def estimate(self, caller: Caller, ids: list[str]) -> parametric.EstimateResult:
        """How long a training would take, measured: see `parametric.estimate`."""
        return parametric.estimate(self.parts, caller, ids)

    def externalise(self, caller: Caller, adapter: str, questions: list[str] | None) -> externalise.ExternaliseResult:
        """Keep what an adapter answers as memories: see `externalise.externalise`."""
        return externalise.externalise(self.parts, caller, adapter, questions)

    def proposals(self, caller: Caller) -> list[dict[str, Any]]:
        """What the background proposed and the caller may approve: see `proposals.waiting`."""
        return proposals.waiting(self.parts, caller)

    def approve(self, caller: Caller, proposal: str) -> dict[str, Any]:
        """Carry a proposal out: see `proposals.approve`."""
        with self.parts.foreground:
            return proposals.approve(self.parts, caller, proposal)

    def decline(self, caller: Caller, proposal: str) -> dict[str, Any]:
        """Settle a proposal without carrying it out: see `proposals.decline`."""
        return proposals.decline(self.parts, caller, proposal)

    def steer(self, caller: Caller, request: SteerRequest) -> SteerResult:
        """Make a steering vector: see `steer.steer`."""
        return self._once(caller, lambda: steer.steer(self.parts, caller, request))

    def import_adapter(self, caller: Caller, path: str, name: str, space: str | None = None) -> AdapterResult:
        """Take in an adapter that was made elsewhere: see `adapters.take_in`."""
        return self._once(caller, lambda: adapters.take_in(self.parts, caller, path, name, space))

    def retire_adapter(self, caller: Caller, adapter: str) -> AdapterResult:
        """Put an adapter away: see `adapters.retire`."""
        return self._once(caller, lambda: adapters.retire(self.parts, caller, adapter))

    def ask(self, caller: Caller, request: AskRequest) -> AskResult:
        """Have the store's model answer from memories: see `ask.ask`, and `ask_server.ask` for one on a server."""
        if self.parts.server is not None and request.question.strip():
            return ask_server.ask(self.parts, caller, request)
        return ask.ask(self.parts, caller, request)

    def working(self, caller: Caller) -> dict[str, Any]:
        """The working set of the caller's session: see `working.listed`."""
        return working.listed(self.parts, caller)

    def history(self, caller: Caller, request: HistoryRequest) -> HistoryResult:
        """Tell what happened: see `history.history`."""
        return history.history(self.parts, caller, request)

    def graph(self, caller: Caller, request: GraphRequest) -> GraphResult:
        """Walk from a memory or a name: see `graph.graph`."""
        return graph.graph(self.parts, caller, request)

    def plan(self, caller: Caller, space: str | None = None) -> approval.PlanResult:
        """What the background would do next, and why: see `approval.show`."""
        return approval.show(self.parts, caller, space)

    def settle_proposal(self, caller: Caller, arguments: dict[str, Any]) -> approval.SettledResult:
        """Approve or decline a proposal: see `approval.settle_proposal`."""
        with self.parts.foreground:
            return approval.settle_proposal(self.parts, caller, arguments)

    def policy(self, caller: Caller, name: str, value: str | None = None) -> policy.PolicyResult:
        """The policy of a memory or a space: see `policy.of`."""
        with self.parts.foreground:
            return self._once(caller, lambda: policy.of(self.parts, caller, name, value))

    def past(self, caller: Caller, request: PastRequest) -> PastResult:
        """Read a space as it stood at a time: see `past.past`."""
        return past.past(self.parts, caller, request)

    def restore(self, caller: Caller, request: RestoreRequest) -> RestoreResult:
        """Bring a space back to a time: see `past.restore`."""
        return self._once(caller, lambda: past.restore(self.parts, caller, request))

    def job(self, caller: Caller, job_id: str) -> JobResult:
        """Read a background job: see `jobs.job`."""
        return jobs.job(self.parts, caller, job_id)

    def jobs(self, caller: Caller) -> list[JobResult]:
        """List background jobs: see `jobs.jobs`."""
        return jobs.jobs(self.parts, caller)

    def cancel_job(self, caller: Caller, job_id: str) -> JobResult:
        """Ask a background job to end: see `jobs.cancel`."""
        return jobs.cancel(self.parts, caller, job_id)

    def shared_spaces(self, caller: Caller) -> list[dict[str, Any]]:
        """The spaces that the caller may read, and whom their own are shared with: see `access.listed`."""
        return access.listed(self.parts, caller)

    def grant(self, caller: Caller, name: str, principal: str, can: Sequence[str]) -> access.AccessResult:
        """Let another principal do something to a space: see `access.grant`."""
        with self.parts.foreground:
            return self._once(caller, lambda: access.grant(self.parts, caller, name, principal, can))

    def revoke(
        self, caller: Caller, name: str, principal: str, can: Sequence[str] | None = None
    ) -> access.AccessResult:
        """End that: see `access.revoke`."""
        with self.parts.foreground:
            return self._once(caller, lambda: access.revoke(self.parts, caller, name, principal, can))

    def publish(self, caller: Caller, request: PublishRequest) -> PublishResult:
        """Publish memories or a query to a channel: see `publish.publish`."""
        with self.parts.foreground:
            return self._once(caller, lambda: publish.publish(self.parts, caller, request))

    def withdraw(self, caller: Caller, request: WithdrawRequest) -> WithdrawResult:
        """Take memories out of a channel: see `publish.withdraw`."""
        return self._once(caller, lambda: publish.withdraw(self.parts, caller, request))

    def subscribe(self, caller: Caller, request: SubscribeRequest) -> SubscribeResult:
        """Have a space show what a channel holds: see `subscribe.subscribe`."""
        with self.parts.foreground:
            return self._once(caller, lambda: subscribe.subscribe(self.parts, caller, request))

    def unsubscribe(self, caller: Caller, request: UnsubscribeRequest) -> SubscribeResult:
        """End that: see `subscribe.unsubscribe`."""
        return self._once(caller, lambda: subscribe.unsubscribe(self.parts, caller, request))

    def channels(self, caller: Caller) -> list[dict[str, Any]]:
        """The channels that the caller may read: see `subscribe.listed`."""
        return subscribe.listed(self.parts, caller)

    def channel(self, caller: Caller, name: str, after: int = 0) -> dict[str, Any]:
        """A page of what a channel holds: see `subscribe.page`."""
        return subscribe.page(self.parts, caller, name, after)

    def share(self, caller: Caller, request: ShareRequest) -> ShareResult:
        """Let another principal use single memories: see `share.share`."""
        return self._once(caller, lambda: share.share(self.parts, caller, request))

    def undo(self, caller: Caller, request: UndoRequest) -> UndoResult:
        """Take an operation back: see `undo.undo`."""
        return self._once(caller, lambda: undo.undo(self.parts, caller, request))

    def _once(self, caller: Caller, carry_out: Callable[[], _R]) -> _R:
        """Carry a change out, unless the same request was carried out before: then the answer is what it got then."""
        if caller.again and (kept := self._kept_answer(caller)) is not None:
            return cast("_R", kept)
        try:
            return carry_out()
        except RequestRepeated:  # by what is left of a former connection, in this very moment
            if (kept := self._kept_answer(caller)) is None:
                raise Conflict(_DONE_ALREADY) from None
            return cast("_R", kept)

    def _kept_answer(self, caller: Caller) -> dict[str, Any] | None:
        """What the caller's request got when it was carried out; None if it was not.

        Raises:
            Conflict: it was, and the answer is not kept any more.
        """
        if caller.request is None:
            return None
        with self.parts.ledger.read() as connection:
            done, answer = operations.answer_to(connection, caller.principal, caller.request)
        if done and answer is None:
            raise Conflict(_DONE_ALREADY)
        return answer


_DONE_ALREADY = "This request was carried out already: memory_history without arguments shows what it did."
