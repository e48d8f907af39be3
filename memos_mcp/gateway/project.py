"""Finds the space of the project that a host works on: of the repository it runs in, or of the roots it names.

Knows no store. The same project has the same space from every host and every work tree of this machine.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import anyio
import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError

from memos_mcp.settings import Settings

AUTO, PERSONAL = "auto", "personal"
REPOSITORIES = (".git", ".hg", ".jj", ".svn")
ROOTS_S = 3.0
"""Seconds in which a host has to name its roots."""
ROOTS_ASKED = "roots"
"""The name of that question, where it goes back as the result of a call."""
NAME_CHARS = 60


class Project:
    """The project of one connection. `space` is its space, None until the host was asked for its roots."""

    def __init__(self, settings: Settings, cwd: str | None) -> None:
        self._asking = anyio.Lock()
        self.automatic = settings.space == AUTO
        self.space: str | None = None if self.automatic else settings.space
        if self.automatic and cwd is not None and (root := repository_root(Path(cwd))):
            self.space = space_of(root)

    @property
    def also_read(self) -> tuple[str, ...]:
        """Spaces that are read beside it."""
        return (PERSONAL,) if self.automatic and self.space != PERSONAL else ()

    def forget_roots(self) -> None:
        """The host has other roots now."""
        if self.automatic:
            self.space = None

    def answered(self, responses: types.InputResponses | None) -> None:
        """Take the roots that came back with a repeated call, if they did."""
        if self.space is None and responses is not None:
            found = responses.get(ROOTS_ASKED)
            self.space = _space_of_roots(found if isinstance(found, types.ListRootsResult) else None)

    def question(self, context: ServerRequestContext[object]) -> types.InputRequiredResult | None:
        """What goes back as the result of a call, where the client can be asked for its roots in no other way."""
        if self.space is not None or not _has_roots(context):
            return None
        return types.InputRequiredResult(input_requests={ROOTS_ASKED: types.ListRootsRequest()})

    async def ask(self, context: ServerRequestContext[object]) -> str:
        """The space, after asking a handshake-era host for its roots; the personal one where there is no project."""
        async with self._asking:
            if self.space is None:
                self.space = _space_of_roots(await _roots(context) if _has_roots(context) else None)
            return self.space


def repository_root(folder: Path) -> Path | None:
    """The repository that the folder is in; the main one, from any work tree. The user's home is no project."""
    home = Path.home()
    for above in (folder, *folder.parents):
        if above == home:
            return None
        if any(os.path.lexists(above / name) for name in REPOSITORIES):
            return _main_work_tree(above)
    return None


def space_of(root: Path) -> str:
    """The name of a project's space: the folder's, and what tells it from others of that name."""
    path = os.path.realpath(root)
    mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    name = "".join(char if char.isprintable() else "-" for char in os.path.basename(path))[:NAME_CHARS]
    return f"{name or 'project'}-{mark}"


def _main_work_tree(root: Path) -> Path:
    """The folder that a linked work tree of git belongs to; the folder itself for anything else."""
    link = root / ".git"
    try:
        said = link.read_text(encoding="utf-8", errors="replace") if link.is_file() else ""
        if not said.startswith("gitdir:"):
            return root
        own = (root / said.removeprefix("gitdir:").strip()).resolve()
        shared = (own / (own / "commondir").read_text(encoding="utf-8").strip()).resolve()
    except OSError:  # a submodule has no commondir: it is a project of its own
        return root
    return shared.parent if shared.name == ".git" else root


async def _roots(context: ServerRequestContext[object]) -> types.ListRootsResult | None:
    with anyio.move_on_after(ROOTS_S), suppress(MCPError):  # it may say that it has roots, and not tell them
        return await context.session.send_request(types.ListRootsRequest(), types.ListRootsResult)
    return None


def _space_of_roots(roots: types.ListRootsResult | None) -> str:
    for root in roots.roots if roots is not None else ():
        at = urlsplit(str(root.uri))
        if at.scheme == "file":
            folder = Path(url2pathname(at.path) if os.name == "nt" else unquote(at.path))
            return space_of(repository_root(folder) or folder)
    return PERSONAL


def _has_roots(context: ServerRequestContext[object]) -> bool:
    capabilities = context.session.client_capabilities
    return capabilities is not None and capabilities.roots is not None
