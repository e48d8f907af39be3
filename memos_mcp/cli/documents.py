"""The commands over documents: adding files and folders, showing a tree, moving in it.

Knows no ledger: files are read here, and the kernel is told what is in them. What cannot be read is reported, and the
rest goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_mcp.cli import fusion, terminal
from memos_mcp.cli.session import Json, Session, identifier, session_of
from memos_mcp.errors import InvalidInput
from memos_mcp.link import Refused

if TYPE_CHECKING:
    from memos_mcp.documents.formats import Reading
    from memos_mcp.link import Link

OF_ONE_FILE = ("InvalidInput", "Conflict")
"""Kinds of the kernel's refusals that leave the other files as they are."""
READER = "1"
"""Changes when files are read or split in another way: then every file is looked at again."""
SHOWN_PROBLEMS = 20
_KEPT = ("generated", "activated", "frozen")
_SKIPPED = {
    "hidden": "hidden", "ignored": "ignored (.gitignore, folders of tools)", "link": "links", "other": "of other kinds",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file to read, and the folders above it that were asked for, outermost first."""

    path: Path
    folders: tuple[Path, ...] = ()


@dataclass
class Report:
    """What a run did, or would do. `files` has a row for each file that was read, or could not be."""

    dry_run: bool
    files: list[dict[str, Any]] = field(default_factory=list)
    gone: list[dict[str, Any]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> bool:
        return any("problem" in row for row in self.files)

    def as_json(self) -> dict[str, Any]:
        counts = Counter(row["status"] for row in self.files)
        return {
            "dry_run": self.dry_run, "counts": dict(counts), "files": self.files, "gone": self.gone,
            "skipped": dict(self.skipped),
        }  # fmt: skip


def require_alone(**given: Any) -> None:
    """Refuse options that files do not go with.

    Raises:
        InvalidInput: one of them was given.
    """
    for name, value in given.items():
        if value is not None:
            raise InvalidInput(f"With --file or --folder, leave out {name}: a file is known by its path.", field=name)


def add_files(
    run: Session, about: dict[str, Any], files: list[str], folders: list[str], *, dry_run: bool, prune: bool
) -> None:
    """Keep files and all documents of folders; of what is known, only what has changed.

    `about` are the arguments of `memory_add` that all of them get.
    """
    report = Report(dry_run)
    sources = [*(Source(Path(os.path.abspath(one))) for one in files), *_walked(folders, report)]
    sources = list({source.path: source for source in sources}.values())
    space = about.get("space")
    with run.kernel() as kernel, terminal.progress() as tell:
        known = {row["of"]: row for row in kernel.call("documents", {"space": space})}
        for number, source in enumerate(sources):
            tell("files", number, len(sources))
            report.files.append(_keep(kernel, source, about, known.get(_said(str(source.path))), dry_run))
        tell("files", len(sources), len(sources))
        for folder in folders:
            top = Path(os.path.abspath(folder))
            below = [known[of] for of in sorted(known) if _is_gone(of, top, known[of], sources)]
            report.gone += [_dropped(kernel, one, space, dry_run) if prune else _kept_row(one) for one in below]
    if run.json:
        terminal.write_json(report.as_json())
    else:
        _say(report)
    if report.failed:
        raise typer.Exit(1)


def _walked(folders: list[str], report: Report) -> list[Source]:
    from memos_mcp.documents.folders import walk

    found = []
    for given in folders:
        top = Path(os.path.abspath(given))
        walked = walk(top)
        report.skipped.update(walked.skipped)
        report.files += [{"path": path, "status": "failed", "problem": why} for path, why in walked.problems.items()]
        for path in walked.files:
            above = [folder for folder in path.parents if folder == top or top in folder.parents]
            found.append(Source(path, tuple(above[::-1])))
    return found


def _keep(
    kernel: Link, source: Source, about: dict[str, Any], known: dict[str, Any] | None, dry_run: bool
) -> dict[str, Any]:
    """Read one file and have it kept; a row of the report."""
    from memos_mcp.documents import folders, formats

    row: dict[str, Any] = {"path": str(source.path)}
    try:
        data = folders.content(source.path)
        digest = _digest(data, about)
        if known is not None and known["digest"] == digest and not known["vanished"]:
            left = "unchanged" if known["state"] in _KEPT else "archived"
            return row | {"status": left, "id": known["id"]}
        document = _document(source, formats.read(source.path.name, data), about)
        done = kernel.call("keep_document", document | {"digest": digest, "dry_run": dry_run})
    except InvalidInput as error:
        return row | {"status": "failed", "problem": str(error)}
    except Refused as error:
        if error.kind not in OF_ONE_FILE:
            raise
        return row | {"status": "failed", "problem": str(error)}
    changes = done["added"] or done["changed"] or done["archived"]
    return row | {"status": "unchanged" if not changes else "added" if known is None else "changed", **done}


def _digest(data: bytes, about: dict[str, Any]) -> str:
    """What tells whether a file, or what was said about it, has changed."""
    said = json.dumps([READER, about], sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16, key=hashlib.blake2b(said, digest_size=16).digest()).hexdigest()


def _document(source: Source, reading: Reading, about: dict[str, Any]) -> dict[str, Any]:
    path, headings = _said(str(source.path)), reading.headings
    return {
        "of": path,
        "title": _said(source.path.name)[:200],
        "content": reading.text,
        "form": reading.form,
        "headings": headings and [{"offset": h.offset, "level": h.level, "title": h.title} for h in headings],
        "pages": list(reading.pages),
        "folders": [{"of": _said(str(one)), "title": _said(one.name)[:200] or "/"} for one in source.folders],
        "about": {key: value for key, value in about.items() if value is not None} | {"source": path},
    }


def _said(path: str) -> str:
    """A path as text; bytes of a name that are no UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_gone(of: str, folder: Path, known: dict[str, Any], sources: list[Source]) -> bool:
    """Whether a document that is kept came from a file of the folder that is not there any more."""
    if known["state"] not in _KEPT or not Path(of).is_relative_to(folder) or os.path.lexists(of):
        return False
    return "\ufffd" not in of or of not in {_said(str(source.path)) for source in sources}


def _kept_row(one: dict[str, Any]) -> dict[str, Any]:
    return {"path": one["of"], "id": one["id"], "archived": 0, "op": None}


def _dropped(kernel: Link, one: dict[str, Any], space: str | None, dry_run: bool) -> dict[str, Any]:
    done = kernel.call("drop_document", {"of": one["of"], "space": space, "dry_run": dry_run})
    return _kept_row(one) | {"archived": done["archived"], "op": done["op"]}


def _say(report: Report) -> None:
    would = "would be " if report.dry_run else ""
    for row in report.files:
        if row["status"] in ("added", "changed"):
            counts = [f"{row[name]} {name}" for name in ("added", "changed", "unchanged", "archived") if row[name]]
            terminal.say(f"{would}{row['status']}  {row['path']}: {', '.join(counts)}{_operation(row)}")
    for row in report.gone:
        done = f"{row['archived']} memories {would}archived" if row["archived"] else "kept; --prune archives it"
        terminal.say(f"gone  {row['path']}: {done}{_operation(row)}")
    _say_problems([row for row in report.files if "problem" in row])
    tally = Counter(row["status"] for row in report.files)
    parts = [f"{tally[name]} {name}" for name in ("added", "changed", "unchanged", "archived", "failed") if tally[name]]
    skipped = [f"{number} {_SKIPPED[reason]}" for reason, number in sorted(report.skipped.items())]
    said = f"Files: {', '.join(parts) or 'none'}{' (nothing was written)' if report.dry_run else ''}."
    terminal.say(said + (f" Passed over: {', '.join(skipped)}." if skipped else ""))


def _operation(row: dict[str, Any]) -> str:
    return f", operation {row['op']}" if row["op"] else ""


def _say_problems(problems: list[dict[str, Any]]) -> None:
    for row in problems[:SHOWN_PROBLEMS]:
        terminal.note(f"not read  {row['path']}: {row['problem']}", "yellow")
    if len(problems) > SHOWN_PROBLEMS:
        terminal.note(f"… and {len(problems) - SHOWN_PROBLEMS} more; --json lists all.", "yellow")


def say_tree(tree: dict[str, Any]) -> None:
    """A subtree as an outline, a line a node."""
    terminal.say(tree["path"], "bold")
    open_nodes = [(0, node) for node in reversed(tree["tree"]["children"])]
    while open_nodes:
        depth, node = open_nodes.pop()
        title = node["title"] or terminal.one_line(node["text"], 60)
        page = f"  page {node['page']}" if node["page"] is not None else ""
        terminal.say(f"{'  ' * depth}{terminal.one_line(title, 100)}{page}  {node['id']}")
        open_nodes += [(depth + 1, child) for child in reversed(node["children"])]
    if tree["left_out"]:
        terminal.note(f"{tree['left_out']} more are not shown: show the tree of one of those above.")


def move(
    context: typer.Context,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="A folder, document or part; with --space any memories.")
    ],
    under: Annotated[str | None, typer.Option(metavar="ID", help="Its new parent; without, none.")] = None,
    place: Annotated[int | None, typer.Option(min=0, help="Its place among its siblings, from 0; else last.")] = None,
    space: Annotated[str | None, typer.Option(help="In place of that: the space to move to, made if need be.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="With --space: leave the originals where they are.")] = False,
    as_json: Json = False,
) -> None:
    """Move a part of a document, a document or a folder under another one, or memories into another space."""
    run = session_of(context)
    if space is not None:
        if under is not None or place is not None:
            raise InvalidInput("--under and --place move within a tree: leave them out with --space.", field="space")
        fusion.relocate(run, ids, space, copy=copy)
        return
    if copy or len(ids) > 1:
        raise InvalidInput("Name the space to copy to, or to move several memories to: --space SPACE.", field="space")
    given = {"id": identifier(ids[0]), "under": identifier(under) if under is not None else None, "place": place}
    with run.kernel() as kernel:
        result = kernel.call("move", given)
    if as_json:
        terminal.write_json(result)
    elif result["op"] is None:
        terminal.say(f"It stands there already: {result['path']}.")
    else:
        terminal.say(f"Moved to {result['path']}, operation {result['op']}.")
