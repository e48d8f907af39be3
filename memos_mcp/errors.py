"""The errors that users of memos-mcp meet, as a tree whose leaves carry the data and the next step.

Knows nothing of MCP, HTTP or exit codes: each surface translates this tree in one place of its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # a bridge loads this module, and nothing for its annotations
    from collections.abc import Sequence


class MemosError(Exception):
    """Anything memos-mcp refuses or fails to do; `str(error)` says what happened and what to do next."""


class InvalidInput(MemosError):
    """An argument that cannot be carried out as given; nothing was changed."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFound(MemosError):
    """A memory, operation, space or job that is not there, or that the caller may not know of."""

    def __init__(self, what: str, ids: Sequence[str], advice: str) -> None:
        super().__init__(f"No {what} {', '.join(repr(i) for i in ids)}: {advice}")
        self.what = what
        self.ids = tuple(ids)


class AccessDenied(MemosError):
    """The principal may see that the thing exists and may not do this to it."""

    def __init__(self, principal: str, action: str, target: str) -> None:
        super().__init__(
            f"Principal {principal!r} may not {action} {target}: name a space of your own, or ask its owner for access "
            f"(memos-mcp space grant SPACE {principal} --can {action})."
        )
        self.principal = principal
        self.action = action
        self.target = target


class Conflict(MemosError):
    """The request is well formed and the present state of the memory does not allow it."""


class ConfirmationNeeded(MemosError):
    """A destructive request by filter came without a valid token of its dry run."""


class StorageFailed(MemosError):
    """The data directory could not be written or read: disk full, no permission, damaged file."""


class StoreOwned(MemosError):
    """Another process holds the data directory."""

    def __init__(self, home: str, pid: int | None, kind: str | None = None) -> None:
        owner = f"process {pid}" if pid else "another process"
        owner += f" ({kind})" if kind else ""
        super().__init__(
            f"The data directory {home} is in use by {owner}: end that one first, "
            "or set MEMOS_HOME to another folder."
        )
        self.home = home
        self.pid = pid
        self.kind = kind


class KernelUnreachable(MemosError):
    """There is, or may be, a kernel, and this process cannot talk to it."""


class StoreTooNew(MemosError):
    """The data directory was written by a newer memos-mcp than this one."""

    def __init__(self, found: int, known: int, writer: str, running: str) -> None:
        super().__init__(
            f"The data directory has schema {found}, written by memos-mcp {writer}; this is memos-mcp {running}, "
            f"which knows schema {known}: upgrade memos-mcp, or set MEMOS_HOME to another folder."
        )
        self.found = found
        self.known = known


class EmbedderUnavailable(MemosError):
    """The embedder cannot be loaded or reached."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class RerankerUnavailable(MemosError):
    """The reranker cannot be loaded or asked; searches go on without it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ModelUnavailable(MemosError):
    """The language model cannot be reached, or did not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ContextTooLong(MemosError):
    """What a model would have to read is more than it can."""


class EmbedderMismatch(MemosError):
    """The store is pinned to another embedder than the one asked for."""

    def __init__(self, pinned: str, wanted: str) -> None:
        super().__init__(
            f"This store's vectors were made by the embedder {pinned!r}, and {wanted!r} was asked for: "
            f"run `memos-mcp embedder {wanted.split('#')[0]}` to re-embed, or set the embedder back."
        )
        self.pinned = pinned
        self.wanted = wanted


class NotReady(MemosError):
    """A part is still loading and the bounded wait for it ended."""


class EngineUnavailable(MemosError):
    """The local model cannot be loaded; everything that needs none works."""


class EngineLost(MemosError):
    """The process of the local model died under a call; the next call starts another."""

    def __init__(self, how: str) -> None:
        super().__init__(f"The local model's process ended while it worked ({how}): try again, it starts anew.")
        self.how = how


class TrainerUnavailable(MemosError):
    """Adapters cannot be trained here; everything else works."""


class TrainerLost(MemosError):
    """The process that trains died; what it had kept is gone on from."""

    def __init__(self, how: str) -> None:
        super().__init__(f"The training's process ended while it worked ({how}): it goes on from its checkpoint.")
        self.how = how


class TrainingStopped(MemosError):
    """The training was given up: it was cancelled, or went beyond a limit. Its checkpoint stays."""
