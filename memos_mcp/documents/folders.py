"""Finds the files of a folder that can be read as documents, and counts what is passed over and why.

Knows nothing of what is in them, nor of storage. Links to folders are not followed, so that no loop is walked.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memos_mcp.documents.formats import SUFFIXES
from memos_mcp.errors import InvalidInput

MOST_BYTES = 20_000_000
"""Bytes of one file."""
MOST_FILES = 50_000
_MADE_BY_MACHINES = frozenset(("node_modules", "__pycache__", "site-packages", "venv"))
_Ignores = tuple[Callable[[str], bool], ...]


@dataclass
class Walk:
    """A walk through a folder: the files, in the order of their names, and what was passed over.

    `skipped` counts by reason: hidden, ignored, link, other (of a kind that is not read). `problems` are the paths
    that could not be read, with why.
    """

    files: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)


def walk(folder: Path) -> Walk:
    """The readable documents below a folder: hidden files, what .gitignore names and folders of tools left out.

    Raises:
        InvalidInput: it is no folder, or holds over `MOST_FILES` documents.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder: give a folder, or a file with --file.")
    found = Walk()
    for path in _below(folder, (), found):
        found.files.append(path)
        if len(found.files) > MOST_FILES:
            raise InvalidInput(f"{folder} holds over {MOST_FILES:,} documents: add its folders one by one.")
    return found


def content(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        InvalidInput: it is not there, no ordinary file, over `MOST_BYTES`, or may not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InvalidInput("It is a folder: give it with --folder.")
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("It is no ordinary file.")
        if status.st_size > MOST_BYTES:
            raise InvalidInput(f"It has {status.st_size:,} bytes, and at most {MOST_BYTES:,} are read: split it.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"It cannot be read: {(error.strerror or str(error)).lower()}.") from None
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"It grew over {MOST_BYTES:,} bytes while it was read: split it.")
    return data


def _below(folder: Path, ignores: _Ignores, found: Walk) -> Iterator[Path]:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        found.problems[str(folder)] = f"It cannot be read: {(error.strerror or str(error)).lower()}."
        return
    ignores = (*ignores, *_own_ignores(folder, found))
    for entry in entries:
        reason = _passed_over(entry, ignores)
        if reason == "folder":
            yield from _below(Path(entry.path), ignores, found)
        elif reason is not None:
            found.skipped[reason] += 1
        else:
            yield Path(entry.path)


def _passed_over(entry: os.DirEntry[str], ignores: _Ignores) -> str | None:
    """Why an entry is no document to read: a folder to go into, or to be counted; None for a document."""
    if entry.name.startswith("."):
        return "hidden"
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        leads_to_folder = entry.is_symlink() and entry.is_dir()
        is_file = entry.is_file()
    except OSError:  # a link that leads to itself
        return "link"
    if (is_folder and entry.name in _MADE_BY_MACHINES) or any(ignored(entry.path) for ignored in ignores):
        return "ignored"
    if leads_to_folder or (entry.is_symlink() and not is_file):
        return "link"
    if is_folder:
        return "folder"
    return None if is_file and Path(entry.name).suffix.lower() in SUFFIXES else "other"


def _own_ignores(folder: Path, found: Walk) -> _Ignores:
    from gitignore_parser import parse_gitignore_str

    path = folder / ".gitignore"
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        found.problems[str(path)] = f"It cannot be read: {(error.strerror or str(error)).lower()}."
        return ()
    usable = [line for line in text.splitlines() if _can_match(line, folder)]
    return (parse_gitignore_str("\n".join(usable), str(folder)),)


def _can_match(line: str, folder: Path) -> bool:
    """Whether a line is a pattern: one that is none is passed over, as git does."""
    from gitignore_parser import parse_gitignore_str

    try:
        parse_gitignore_str(line, str(folder))(str(folder / "name"))
    except (re.error, IndexError):
        return False
    return True
