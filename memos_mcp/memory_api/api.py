"""The verbs in one place: what every surface calls.

Knows no protocol: requests and results are plain typed values, errors are the tree of `errors`.
"""

from __future__ import annotations

from memos_mcp.governance import Caller
from memos_mcp.memory_api import add, forget, history, read, search, undo, update
from memos_mcp.memory_api.parts import Parts
from memos_mcp.requests import (
    AddRequest,
    ForgetRequest,
    HistoryRequest,
    SearchRequest,
    UndoRequest,
    UpdateRequest,
)
from memos_mcp.results import AddResult, ForgetResult, HistoryResult, SearchResult, UndoResult, UpdateResult


class MemoryAPI:
    """Everything that can be done with memories. Synchronous; safe to share between threads."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.read = read.Read(parts)

    def add(self, caller: Caller, request: AddRequest) -> AddResult:
        """Keep memories: see `add.add`."""
        with self.parts.foreground, self.parts.adding:
            return add.add(self.parts, caller, request)

    def search(self, caller: Caller, request: SearchRequest) -> SearchResult:
        """Find or read memories: see `search.search`."""
        return search.search(self.parts, caller, request)

    def update(self, caller: Caller, request: UpdateRequest) -> UpdateResult:
        """Change a memory: see `update.update`."""
        with self.parts.foreground:
            return update.update(self.parts, caller, request)

    def forget(self, caller: Caller, request: ForgetRequest) -> ForgetResult:
        """Archive or purge memories: see `forget.forget`."""
        return forget.forget(self.parts, caller, request)

    def history(self, caller: Caller, request: HistoryRequest) -> HistoryResult:
        """Tell what happened: see `history.history`."""
        return history.history(self.parts, caller, request)

    def undo(self, caller: Caller, request: UndoRequest) -> UndoResult:
        """Take an operation back: see `undo.undo`."""
        return undo.undo(self.parts, caller, request)
